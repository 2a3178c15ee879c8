"""Tools that the model's server runs (MCP in realtime sessions): who allows them, and the answer after them."""

from __future__ import annotations

import contextlib
import queue
from typing import Any

import pytest
from scripted_server import Peer, ScriptedServer
from tool_helpers import WAIT_S, until

from realtime_client import updates as up
from realtime_client.client.client import RealtimeClient
from realtime_client.client.endpoint import Endpoint
from realtime_client.errors import UsageError
from realtime_client.tools.approval import InMemory, Policy, rule
from realtime_client.tools.runner import ToolRunner
from realtime_client.tools.toolbox import Toolbox

PLACE = {"response_id": "resp_1", "output_index": 0}


def asks(peer: Peer) -> dict[str, Any]:
    """One answer in which a call waits to be allowed; returns what the client says to that."""
    peer.greet()
    peer.receive("response.create")
    item = {
        "id": "ask_1",
        "type": "mcp_approval_request",
        "server_label": "bank",
        "name": "pay",
        "arguments": '{"eur": 5}',
    }
    peer.send(type="response.created", event_id="e", response={"id": "resp_1", "status": "in_progress"})
    peer.send(type="conversation.item.added", event_id="e", item=item)
    peer.send(type="conversation.item.done", event_id="e", item=item)
    peer.send(type="response.done", event_id="e", response={"id": "resp_1", "status": "completed", "output": [item]})
    return peer.receive("conversation.item.create")["item"]


def runs(peer: Peer, *, after_the_end: bool) -> None:
    """An answer with a call that the server runs, then the answer about it."""
    peer.greet()
    peer.receive("response.create")
    call = {"id": "call_1", "type": "mcp_call", "server_label": "bank", "name": "pay", "arguments": "{}"}
    peer.send(type="response.created", event_id="e", response={"id": "resp_1", "status": "in_progress"})
    peer.send(type="response.output_item.added", event_id="e", item=call, **PLACE)
    peer.send(type="conversation.item.added", event_id="e", item=call)
    ended = [
        {"type": "response.mcp_call.completed", "item_id": "call_1", "output_index": 0},
        {"type": "response.output_item.done", "item": call | {"output": "paid"}, **PLACE},
    ]
    done = {"type": "response.done", "response": {"id": "resp_1", "status": "completed", "output": [call]}}
    for event in [done, *ended] if after_the_end else [*ended, done]:
        peer.send(event_id="e", **event)
    peer.receive("response.create")
    peer.answer("It is paid.", "resp_2")
    peer.read_all()


@contextlib.contextmanager
def talking(server: ScriptedServer, policy: Policy, *, asks: bool):
    client = RealtimeClient(Endpoint(url=server.url, proxy=None))
    runner = ToolRunner(client, Toolbox(), policy, asks=asks)
    with contextlib.closing(client.updates(timeout_s=WAIT_S)) as updates:
        runner.start()
        with client:
            try:
                yield client, updates
            finally:
                runner.close()


@pytest.mark.parametrize(
    ("rules", "approved", "reason"),
    [
        (["bank/*=always"], True, ""),
        (["pay=never"], False, "not allowed"),
        ([], False, "nobody is here"),
    ],
)
def test_rules_decide_about_the_servers_own_tools(rules: list[str], approved: bool, reason: str):
    answers: queue.Queue[dict[str, Any]] = queue.Queue()

    def script(peer: Peer) -> None:
        answers.put(asks(peer))
        peer.read_all()

    with ScriptedServer(script) as server, talking(server, Policy(map(rule, rules)), asks=False) as (client, updates):
        client.send_text("Pay")
        asked = until(updates, up.ApprovalRequested)
        assert (asked.name, asked.arguments, asked.origin, asked.remote) == ("pay", '{"eur": 5}', "mcp bank", True)
        decided = until(updates, up.ApprovalDecided)
        assert (decided.approved, reason in decided.reason) == (approved, True)
        with pytest.raises(UsageError, match="waits to be allowed"):
            client.approve("ask_1", approve=True)
        answer = answers.get(timeout=WAIT_S)
    assert (answer["type"], answer["approval_request_id"], answer["approve"]) == (
        "mcp_approval_response",
        "ask_1",
        approved,
    )


def test_a_person_decides_and_is_remembered():
    memory = InMemory()
    answers: queue.Queue[dict[str, Any]] = queue.Queue()

    def script(peer: Peer) -> None:
        answers.put(asks(peer))
        peer.read_all()

    for asked in (True, False):
        with ScriptedServer(script) as server, talking(server, Policy(memory=memory), asks=True) as (client, updates):
            client.send_text("Pay")
            request = until(updates, up.ApprovalRequested)
            if asked:
                client.approve(request.request_id, approve=False, reason="too much", remember=True)
            assert until(updates, up.ApprovalDecided).approved is False
    told = [answers.get(timeout=WAIT_S) for _ in range(2)]
    assert [(answer["approve"], answer["reason"]) for answer in told] == [
        (False, "too much"),
        (False, "this tool is not allowed"),
    ]


@pytest.mark.parametrize("after_the_end", [False, True])
def test_the_answer_after_the_servers_own_tools_is_the_one_that_counts(after_the_end: bool):
    with ScriptedServer(lambda peer: runs(peer, after_the_end=after_the_end)) as server:
        with RealtimeClient(Endpoint(url=server.url, proxy=None)) as client:
            assert client.ask("Pay", timeout_s=WAIT_S).text == "It is paid."


@pytest.mark.parametrize("approve", [True, False])
@pytest.mark.parametrize("inside", [True, False])
def test_the_answer_after_a_decision_is_the_one_that_counts(approve: bool, inside: bool):
    """inside: the call that was allowed is part of an answer that the server begins by itself."""
    call = {"id": "call_1", "type": "mcp_call", "server_label": "bank", "name": "pay", "arguments": "{}"}
    call |= {"approval_request_id": "ask_1"}
    requests: list[str] = []

    def script(peer: Peer) -> None:
        assert asks(peer)["approve"] is approve
        if approve and inside:
            peer.send(type="response.created", event_id="e", response={"id": "resp_2", "status": "in_progress"})
            peer.send(type="response.output_item.added", event_id="e", item=call, **PLACE | {"response_id": "resp_2"})
        if approve:
            peer.send(type="conversation.item.added", event_id="e", item=call)
            peer.send(type="response.mcp_call.completed", event_id="e", item_id="call_1", output_index=0)
        if approve and inside:
            done = {"id": "resp_2", "status": "completed", "output": [call]}
            peer.send(type="response.done", event_id="e", response=done)
        requests.append(peer.receive("response.create")["event_id"])
        peer.answer("As you wish.", "resp_3")
        peer.read_all()

    rules = [rule("pay=always" if approve else "pay=never")]
    with ScriptedServer(script) as server, talking(server, Policy(rules), asks=False) as (client, _):
        assert client.ask("Pay", timeout_s=WAIT_S).text == "As you wish."
    assert len(requests) == 1
