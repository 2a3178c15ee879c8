"""The server's side of remote tools, message by message: lists, calls, and what has to be allowed."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from local_helpers import Drive, types

from realtime_client.local.answer import turn_of
from realtime_client.protocol.server.remote import CANCELLED
from realtime_client.protocol.server.remote_book import CALL_S, LIST_S, MOST_CALLS
from realtime_client.protocol.server.remote_tools import MOST_BYTES, MOST_TOOLS, RemoteTool
from realtime_client.protocol.server.work import CallRemote, LeaveRemote, ListRemote, RemoteWork, StopRemote

Json = dict[str, Any]
URL = "https://example.org/mcp"
TOOLS = [RemoteTool(name="look", reads=True), RemoteTool(name="buy", description="Buys."), RemoteTool(name="sell")]


def shop(**more: Any) -> Json:
    return {"type": "mcp", "server_label": "shop", "server_url": URL, **more}


class Shop(Drive):
    """A session with servers. tools: what the first one tells, None if it has not yet."""

    def __init__(self, *servers: Json, tools: list[RemoteTool] | None = TOOLS, **session: Any) -> None:
        super().__init__()
        self.update(tools=list(servers or [shop(require_approval="never")]), **session)
        if tools is not None:
            self.take(self.conversation.listed(self.asked[0].item_id, tools))

    def update(self, **session: Any) -> list[Json]:
        return self.send("session.update", session={"type": "realtime", **session})

    @property
    def remote(self) -> list[RemoteWork]:
        return [work for work in self.work if isinstance(work, RemoteWork)]

    @property
    def asked(self) -> list[ListRemote]:
        return [work for work in self.work if isinstance(work, ListRemote)]

    def call(self, name: str, arguments: str = "{}", **fields: Any) -> tuple[str, list[Json]]:
        """Begin an answer that calls a tool; its id, and what came of the call."""
        response_id = self.respond(**fields)
        assert self.conversation.brief(response_id) is not None
        return response_id, self.take(self.conversation.call(response_id, name, arguments))

    def decide(self, request_id: str, approve: bool, **more: Any) -> list[Json]:
        item = {"type": "mcp_approval_response", "approval_request_id": request_id, "approve": approve, **more}
        return self.send("conversation.item.create", item=item)

    def offered(self, **fields: Any) -> dict[str, bool]:
        """What an answer may call, by name, and whether that has to be allowed."""
        response_id = self.respond(**fields)
        brief = self.conversation.brief(response_id)
        assert brief is not None
        self.take(self.conversation.finish(response_id))
        return {offer.name: offer.asks for offer in brief.remote}

    def told(self) -> list[tuple[str, str]]:
        """What a brain reads of the conversation."""
        response_id = self.respond()
        brief = self.conversation.brief(response_id)
        assert brief is not None
        self.take(self.conversation.finish(response_id))
        return [(said.role, said.text) for said in turn_of(brief, 0.0).utterances]


# --- lists ---


def test_a_server_is_asked_for_its_tools():
    drive = Shop(tools=None)
    assert types(drive.all[1:]) == ["session.updated", "conversation.item.added", "mcp_list_tools.in_progress"]
    (work,) = drive.remote
    assert (work.server.label, work.server.url, work.server.headers) == ("shop", URL, {})
    events = drive.take(drive.conversation.listed(work.item_id, TOOLS))
    assert types(events) == ["mcp_list_tools.completed", "conversation.item.done"]
    assert events[1]["item"]["tools"] == [
        {"name": "look", "description": "", "input_schema": {}, "annotations": {"readOnlyHint": True}},
        {"name": "buy", "description": "Buys.", "input_schema": {}, "annotations": None},
        {"name": "sell", "description": "", "input_schema": {}, "annotations": None},
    ]
    assert drive.take(drive.conversation.listed(work.item_id, TOOLS)) == []


def test_a_server_that_cannot_be_used_is_told_with_the_reason():
    drive = Shop(tools=None)
    events = drive.take(drive.conversation.not_listed(drive.asked[0].item_id, "it is closed"))
    assert types(events) == ["mcp_list_tools.failed", "conversation.item.done"]
    assert events[1]["item"]["tools"] == []
    assert events[1]["item"]["error"] == {"type": "server_error", "message": "it is closed"}
    assert drive.offered() == {}


def test_an_answer_waits_for_the_list_and_no_longer_than_its_time():
    drive = Shop(tools=None)
    drive.take(drive.conversation.tick(100.0))
    response_id = drive.respond()
    assert drive.conversation.brief(response_id) is None
    assert drive.conversation.next_tick_s() == 100.0 + LIST_S
    events = drive.take(drive.conversation.tick(100.0 + LIST_S))
    assert types(events) == ["mcp_list_tools.failed", "conversation.item.done"]
    assert isinstance(drive.remote[-1], LeaveRemote)
    assert drive.conversation.brief(response_id) is not None
    assert drive.conversation.next_tick_s() is None


def test_a_time_limit_begins_with_the_next_tick():
    drive = Shop(tools=None)
    assert drive.conversation.next_tick_s() == 0.0


@pytest.mark.parametrize("fields", [{"tool_choice": "none"}, {"tools": []}])
def test_an_answer_without_remote_tools_does_not_wait(fields: Json):
    drive = Shop(tools=None)
    assert drive.conversation.brief(drive.respond(response=fields)) is not None


def test_what_is_for_the_server_alone_is_not_told_again():
    headers = {"X-Shop": "blue-secret", "authorization": "no"}
    drive = Shop(shop(authorization="green-secret", headers=headers))
    (work,) = drive.asked
    sent = {name: value.reveal() for name, value in work.server.headers.items()}
    assert sent == {"X-Shop": "blue-secret", "Authorization": "Bearer green-secret"}
    assert "secret" not in json.dumps(drive.all)
    assert "secret" not in repr(drive.work)
    assert drive.all[1]["session"]["tools"] == [shop()]


@pytest.mark.parametrize(
    ("after", "works"),
    [
        ([shop(require_approval="never")], []),
        ([shop(allowed_tools=["look"])], []),
        ([], [LeaveRemote]),
        ([shop(server_url="https://example.com/mcp")], [LeaveRemote, ListRemote]),
        ([shop(authorization="another")], [LeaveRemote, ListRemote]),
        ([shop(), shop(server_label="other")], [ListRemote]),
    ],
)
def test_an_update_asks_servers_that_are_new_and_leaves_those_that_are_gone(after: list[Json], works: list[type]):
    drive = Shop()
    before = len(drive.remote)
    drive.update(tools=after)
    assert [type(work) for work in drive.remote[before:]] == works


def test_a_server_that_is_left_ends_its_list_and_its_calls():
    drive = Shop(shop(require_approval="never"), shop(server_label="slow"))
    drive.call("look", response={"tools": [shop(require_approval="never")]})
    events = drive.update(tools=[])
    ends = ["response.mcp_call.failed", "response.output_item.done", "conversation.item.done"]
    assert types(events) == ["session.updated", *ends, "mcp_list_tools.failed", "conversation.item.done"]
    assert drive.take(drive.conversation.returned(events[1]["item_id"], "late")) == []


def test_a_list_is_bounded():
    drive = Shop(tools=[RemoteTool(name=f"t{n}") for n in range(MOST_TOOLS + 1)])
    assert len(drive.all[-1]["item"]["tools"]) == MOST_TOOLS
    long = {"description": "x" * (MOST_BYTES // 3)}
    drive = Shop(tools=[RemoteTool(name=f"t{n}", input_schema=long) for n in range(4)])
    assert len(drive.all[-1]["item"]["tools"]) == 2


# --- what is offered ---


@pytest.mark.parametrize(
    ("chosen", "offered"),
    [
        ({}, {"look": True, "buy": True, "sell": True}),
        ({"require_approval": "always"}, {"look": True, "buy": True, "sell": True}),
        ({"require_approval": "never"}, {"look": False, "buy": False, "sell": False}),
        ({"require_approval": {"always": {"tool_names": ["buy"]}}}, {"look": True, "buy": True, "sell": True}),
        ({"require_approval": {"never": {"tool_names": ["buy"]}}}, {"look": True, "buy": False, "sell": True}),
        ({"require_approval": {"never": {"read_only": True}}}, {"look": False, "buy": True, "sell": True}),
        (
            {"require_approval": {"never": {}, "always": {"tool_names": ["sell"]}}},
            {"look": False, "buy": False, "sell": True},
        ),
        ({"allowed_tools": ["buy", "nothing"]}, {"buy": True}),
        ({"allowed_tools": []}, {}),
        ({"allowed_tools": {"read_only": True}}, {"look": True}),
        ({"allowed_tools": {"read_only": False, "tool_names": ["look", "sell"]}}, {"sell": True}),
    ],
)
def test_the_client_says_what_may_be_called_and_what_it_has_to_be_asked_about(chosen: Json, offered: Json):
    assert Shop(shop(**chosen)).offered() == offered


def test_tools_have_names_that_a_model_takes_and_that_are_unlike_each_other():
    function = {"type": "function", "name": "look", "parameters": {}}
    drive = Shop(
        function, shop(), shop(server_label="other"), tools=[RemoteTool(name="look"), RemoteTool(name="a b.c")]
    )
    drive.take(drive.conversation.listed(drive.asked[1].item_id, [RemoteTool(name="a b.c"), RemoteTool(name="a_b_c")]))
    assert list(drive.offered()) == ["shop_look", "a_b_c", "other_a_b_c", "a_b_c_2"]


def test_a_response_may_choose_among_the_servers_of_the_session():
    drive = Shop()
    assert drive.offered(response={"tools": [shop(allowed_tools=["buy"])]}) == {"buy": True}
    for other in (shop(server_label="new"), shop(server_url="https://example.com/mcp")):
        error = drive.error("response.create", response={"tools": [other]})
        assert error["param"] == "response.tools[0].server_label"


@pytest.mark.parametrize(
    ("choice", "tools", "told"),
    [
        ({"type": "mcp", "server_label": "shop"}, ["look", "buy", "sell"], "required"),
        ({"type": "mcp", "server_label": "shop", "name": "buy"}, ["buy"], "required"),
        ({"type": "mcp", "server_label": "shop", "name": "no"}, ["f", "look", "buy", "sell"], "auto"),
        ({"type": "function", "name": "f"}, ["f", "look", "buy", "sell"], "f"),
        ("required", ["f", "look", "buy", "sell"], "required"),
    ],
)
def test_a_brain_is_told_which_tools_to_choose_from(choice: Any, tools: list[str], told: str):
    drive = Shop({"type": "function", "name": "f", "parameters": {}}, shop(), tool_choice=choice)
    brief = drive.conversation.brief(drive.respond())
    assert brief is not None
    turn = turn_of(brief, 0.0)
    assert ([tool.name for tool in turn.tools], turn.tool_choice) == (tools, told)


def test_nothing_is_demanded_of_a_server_that_cannot_be_used():
    drive = Shop(tools=[], tool_choice="required")
    brief = drive.conversation.brief(drive.respond())
    assert brief is not None
    assert turn_of(brief, 0.0).tool_choice == "auto"


# --- calls ---


def test_a_call_that_ends_before_the_answer():
    drive = Shop()
    arguments = '{"at": "the newest things of all"}'
    response_id, events = drive.call("look", arguments)
    assert types(events) == [
        "response.output_item.added",
        "conversation.item.added",
        "response.mcp_call_arguments.delta",
        "response.mcp_call_arguments.delta",
        "response.mcp_call_arguments.done",
        "response.mcp_call.in_progress",
    ]
    assert events[0]["item"].items() >= {"type": "mcp_call", "server_label": "shop", "name": "look"}.items()
    assert "".join(event["delta"] for event in events[2:4]) == events[4]["arguments"] == arguments
    (work,) = (each for each in drive.remote if isinstance(each, CallRemote))
    assert (work.label, work.name, work.arguments) == ("shop", "look", arguments)
    ended = drive.take(drive.conversation.returned(work.item_id, "tea"))
    assert types(ended) == ["response.mcp_call.completed", "response.output_item.done", "conversation.item.done"]
    assert ended[1]["item"] == ended[2]["item"]
    assert ended[1]["item"]["output"] == "tea"
    (done, _) = drive.take(drive.conversation.finish(response_id))
    assert done["response"]["output"] == [ended[1]["item"]]
    assert drive.told() == [("call", arguments), ("output", "tea")]


def test_a_call_that_ends_after_the_answer():
    drive = Shop()
    response_id, events = drive.call("look")
    item_id = events[0]["item"]["id"]
    (done, _) = drive.take(drive.conversation.finish(response_id))
    assert done["response"]["output"][0]["output"] == ""
    assert drive.told() == [], "there is nothing to say of it yet"
    ended = drive.take(drive.conversation.broke(item_id, "it is closed"))
    assert types(ended) == ["response.mcp_call.failed", "response.output_item.done", "conversation.item.done"]
    assert ended[1]["item"]["error"] == {"type": "tool_execution_error", "message": "it is closed"}
    assert drive.told() == [("call", "{}"), ("output", "The tool failed: it is closed")]


def test_a_name_that_nobody_offers_is_a_function_of_the_client():
    drive = Shop()
    _, events = drive.call("nothing")
    assert events[0]["item"]["type"] == "function_call"


@pytest.mark.parametrize("required", ["never", "always"])
def test_a_brain_reads_its_calls_under_its_own_ids(required: str):
    """It keeps what its provider wants back with them."""
    drive = Shop(shop(require_approval=required))
    response_id = drive.respond()
    assert drive.conversation.brief(response_id) is not None
    drive.take(drive.conversation.call(response_id, "look", "{}", call_id="call_1"))
    drive.take(drive.conversation.call(response_id, "look", "{}", call_id="call_1"))  # a brain may err
    drive.take(drive.conversation.finish(response_id))
    if required == "always":
        drive.decide("call_1", True)
    works = [work for work in drive.work if isinstance(work, CallRemote)]
    drive.take(drive.conversation.returned(works[0].item_id, "tea"))
    brief = drive.conversation.brief(drive.respond())
    assert brief is not None
    assert [said.call_id for said in turn_of(brief, 0.0).utterances] == ["call_1", "call_1"]


def test_a_call_has_a_time_limit():
    drive = Shop()
    drive.call("look")
    drive.take(drive.conversation.tick(10.0))
    assert drive.conversation.next_tick_s() == 10.0 + CALL_S
    events = drive.take(drive.conversation.tick(10.0 + CALL_S))
    assert types(events)[0] == "response.mcp_call.failed"
    assert "longer than 60 s" in events[1]["item"]["error"]["message"]
    assert isinstance(drive.remote[-1], StopRemote)
    assert drive.conversation.next_tick_s() is None


@pytest.mark.parametrize("spoken", [True, False])
def test_an_answer_that_is_cancelled_takes_its_calls_with_it(spoken: bool):
    drive = Shop()
    drive.call("look")
    if spoken:
        drive.append(1_000)
        events = drive.take(drive.conversation.speech_started(500))[1:]
    else:
        events = drive.send("response.cancel")
    assert types(events)[:4] == [
        "response.mcp_call.failed",
        "response.output_item.done",
        "conversation.item.done",
        "response.done",
    ]
    assert events[1]["item"]["error"]["message"] == CANCELLED
    assert events[3]["response"]["output"] == [events[1]["item"]]
    assert [type(work) for work in drive.remote[1:]] == [CallRemote, StopRemote]


def test_too_many_calls_at_one_time_fail():
    drive = Shop()
    response_id, _ = drive.call("look")
    for _ in range(MOST_CALLS - 1):
        drive.take(drive.conversation.call(response_id, "look", "{}"))
    events = drive.take(drive.conversation.call(response_id, "look", "{}"))
    assert "response.mcp_call.failed" in types(events)
    assert sum(isinstance(work, CallRemote) for work in drive.remote) == MOST_CALLS


def test_a_call_whose_item_is_deleted_still_ends():
    drive = Shop()
    _, events = drive.call("look")
    item_id = events[0]["item"]["id"]
    drive.send("conversation.item.delete", item_id=item_id)
    ended = drive.take(drive.conversation.returned(item_id, "tea"))
    assert types(ended) == ["response.mcp_call.completed", "response.output_item.done"]


def test_a_call_out_of_band_stays_outside_of_the_conversation():
    drive = Shop()
    response_id, events = drive.call("look", response={"conversation": "none"})
    events += drive.take(drive.conversation.returned(events[0]["item"]["id"], "tea"))
    drive.take(drive.conversation.finish(response_id))
    assert [kind for kind in types(events) if kind.startswith("conversation.")] == []


# --- what has to be allowed ---


def test_a_call_that_is_allowed():
    drive = Shop(shop())
    response_id, events = drive.call("buy", '{"what": "tea"}')
    assert types(events) == [
        "response.output_item.added",
        "conversation.item.added",
        "response.output_item.done",
        "conversation.item.done",
    ]
    request = events[3]["item"]
    assert request.items() >= {"type": "mcp_approval_request", "name": "buy", "arguments": '{"what": "tea"}'}.items()
    drive.take(drive.conversation.finish(response_id))
    assert drive.told() == []
    allowed = drive.decide(request["id"], True)
    assert types(allowed)[2:] == ["conversation.item.added", "response.mcp_call.in_progress"]
    call = allowed[2]["item"]
    assert call.items() >= {"type": "mcp_call", "approval_request_id": request["id"], "name": "buy"}.items()
    assert drive.remote[-1] == CallRemote(item_id=call["id"], label="shop", name="buy", arguments='{"what": "tea"}')
    ended = drive.take(drive.conversation.returned(call["id"], "bought"))
    assert types(ended) == ["response.mcp_call.completed", "conversation.item.done"]
    assert drive.told() == [("call", '{"what": "tea"}'), ("output", "bought")]


@pytest.mark.parametrize(("more", "said"), [({}, "no reason was given"), ({"reason": "too dear"}, "too dear")])
def test_a_call_that_is_refused(more: Json, said: str):
    drive = Shop(shop())
    response_id, events = drive.call("buy")
    drive.take(drive.conversation.finish(response_id))
    answered = drive.decide(events[0]["item"]["id"], False, **more)
    assert types(answered) == ["conversation.item.added", "conversation.item.done"]
    assert not any(isinstance(work, CallRemote) for work in drive.remote)
    assert drive.told() == [("call", "{}"), ("output", f"The user did not allow this call: {said}.")]


def test_a_question_is_answered_once():
    drive = Shop(shop())
    _, events = drive.call("buy")
    request_id = events[0]["item"]["id"]
    drive.decide(request_id, True)
    for unknown in (request_id, "nothing"):
        (error,) = drive.decide(unknown, True)
        assert error["error"]["param"] == "item.approval_request_id"


def test_a_call_that_is_allowed_after_its_server_is_gone_fails():
    drive = Shop(shop())
    _, events = drive.call("buy")
    drive.update(tools=[])
    allowed = drive.decide(events[0]["item"]["id"], True)
    assert types(allowed)[-3:] == [
        "response.mcp_call.in_progress",
        "response.mcp_call.failed",
        "conversation.item.done",
    ]


# --- what is refused ---


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        (shop(server_url="http://example.org/mcp"), "server_url"),
        (shop(server_url="http://127.example.org/mcp"), "server_url"),
        (shop(server_url="http://10.0.0.1/mcp"), "server_url"),
        (shop(server_url="http://localhost@example.org/mcp"), "server_url"),
        (shop(server_url="ftp://localhost/mcp"), "server_url"),
        (shop(server_url="https://"), "server_url"),
        (shop(server_url="http://[::1/mcp"), "server_url"),
        (shop(server_url="https://example.org:0/mcp"), "server_url"),
        (shop(server_url="https://example.org/a b"), "server_url"),
        ({"type": "mcp", "server_label": "s", "connector_id": "connector_gmail"}, "connector_id"),
        (shop(tunnel_id="t"), "tunnel_id"),
        (shop(allowed_tools={"names": []}), "allowed_tools.names"),
        (shop(allowed_tools=[5]), "allowed_tools[0]"),
        (shop(require_approval="sometimes"), "require_approval"),
        (shop(require_approval={"never": {"tool_names": "buy"}}), "require_approval.never.tool_names"),
        (shop(authorization="two\nlines"), "authorization"),
        (shop(headers={"a b": "c"}), "headers"),
        (shop(headers={"a": "ü"}), "headers.a"),
        (shop(headers={"a": 5}), "headers.a"),
    ],
)
def test_servers_that_are_refused(tool: Json, param: str):
    error = Drive().error("session.update", session={"type": "realtime", "tools": [tool]})
    assert error["param"] == f"session.tools[0].{param}"
    assert "two" not in error["message"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9000", "127.1.2.3", "[::1]:80"])
def test_servers_of_this_machine_need_no_encryption(host: str):
    assert len(Shop(shop(server_url=f"http://{host}/mcp"), tools=None).asked) == 1


def test_a_session_has_a_bounded_number_of_servers():
    tools = [shop(server_label=f"s{n}") for n in range(9)]
    error = Drive().error("session.update", session={"type": "realtime", "tools": tools})
    assert (error["code"], error["param"]) == ("array_above_max_length", "session.tools")


# --- any order ---

STEPS = [
    "respond",
    "call",
    "call",
    "finish",
    "cancel",
    "returned",
    "broke",
    "listed",
    "not_listed",
    "yes",
    "no",
    "late",
]
OFFERS = [[shop()], [shop(require_approval="never")], [shop(), shop(server_label="other")], []]


class Stepped(Shop):
    """Carries out steps in any order."""

    now_s = 0.0

    def step(self, kind: str, number: int) -> None:
        c = self.conversation
        response_id = c.active_response or "nothing"
        lists = [work.item_id for work in self.asked]
        calls = [work.item_id for work in self.work if isinstance(work, CallRemote)]
        requests = [e["item"]["id"] for e in self.all if e.get("item", {}).get("type") == "mcp_approval_request"]
        if kind == "respond":
            self.send("response.create")
        elif kind == "call":
            c.brief(response_id)
            self.take(c.call(response_id, ["look", "buy", "f"][number % 3], "{}"))
        elif kind == "finish":
            self.take(c.finish(response_id))
        elif kind == "cancel":
            self.send("response.cancel")
        elif kind == "offer":
            self.update(tools=OFFERS[number % len(OFFERS)])
        elif kind == "late":
            self.now_s += number * 10
            self.take(c.tick(self.now_s))
        elif kind in {"yes", "no"} and requests:
            self.decide(requests[number % len(requests)], kind == "yes")
        elif kind in {"returned", "broke"} and calls:
            self.take(getattr(c, kind)(calls[number % len(calls)], "words"))
        elif kind in {"listed", "not_listed"} and lists:
            self.take(getattr(c, kind)(lists[number % len(lists)], TOOLS if kind == "listed" else "words"))

    def ends_of(self, begin: str, *ends: str) -> tuple[list[str], list[str]]:
        return (
            [e["item_id"] for e in self.all if e["type"] == begin],
            [e["item_id"] for e in self.all if e["type"] in ends],
        )


@settings(max_examples=int(os.environ.get("REALTIME_TEST_EXAMPLES", "100")), deadline=None)
@given(st.lists(st.tuples(st.sampled_from([*STEPS, "offer"]), st.integers(0, 9)), max_size=40))
def test_whatever_comes_each_list_and_each_call_ends_once(script: list[tuple[str, int]]):
    drive = Stepped()
    for step in script:
        drive.step(*step)
    drive.update(tools=[])
    begun, ended = drive.ends_of("mcp_list_tools.in_progress", "mcp_list_tools.completed", "mcp_list_tools.failed")
    assert sorted(begun) == sorted(ended)
    begun, ended = drive.ends_of(
        "response.mcp_call.in_progress", "response.mcp_call.completed", "response.mcp_call.failed"
    )
    assert sorted(begun) == sorted(ended)
    assert drive.conversation.next_tick_s() is None
