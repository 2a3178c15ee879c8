"""Tools at work beside a real session with the local server."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_server import Peer, ScriptedServer
from text_server import DONE, TextServer, answers, delta, silent, stream
from tool_helpers import WAIT_S, Gate, Own, Scripted, running, until

from realtime_client import updates as up
from realtime_client.changes import ToolSpec
from realtime_client.chat.limits import ChatLimits
from realtime_client.chat.orders import Wishes
from realtime_client.chat.pending_calls import HAS_COME, STILL_AT_WORK
from realtime_client.chat.place import Place
from realtime_client.chat.session import ChatSession
from realtime_client.chat.wires.openai_chat import OpenAIChat
from realtime_client.client.client import RealtimeClient
from realtime_client.client.endpoint import Endpoint
from realtime_client.errors import ConnectionLostError, ToolError, UsageError
from realtime_client.handover import StandbyClient
from realtime_client.local.brain import CallTool, Say
from realtime_client.recording import Recorder
from realtime_client.session.limits import ToolLimits
from realtime_client.tools.approval import InMemory, Policy, rule
from realtime_client.tools.book import CallBook
from realtime_client.tools.runner import ToolRunner
from realtime_client.tools.telling import Reporter, shortened
from realtime_client.tools.tool import ToolContext
from realtime_client.tools.toolbox import MOST_TOOLS, Toolbox


def say(arguments: Any, context: ToolContext) -> str:
    return f"{context.name} {json.dumps(arguments)}"


class Hands:
    """A clock that stands still."""

    now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s

    wall = monotonic


CALL = [CallTool("clock", '{"zone": "UTC"}')]


def test_a_call_is_answered_and_the_answer_after_it_counts():
    brain = Scripted(CALL, [Say("It is noon.")])
    with running(brain, Own("clock", say)) as (session, _, updates):
        answer = session.ask("What time is it?", timeout_s=WAIT_S)
        assert answer.text == "It is noon."
        assert [call.name for call in answer.tool_calls] == ["clock"]
        call_id = answer.tool_calls[0].call_id
        assert until(updates, up.ToolStarted).call_id == call_id
        finished = until(updates, up.ToolFinished)
        assert (finished.call_id, finished.name, finished.status, finished.error) == (
            call_id,
            "clock",
            "completed",
            None,
        )
        assert finished.duration_ms >= 0
        assert until(updates, up.ToolResult).output == 'clock {"zone": "UTC"}'


def test_the_talk_goes_on_while_a_tool_works():
    gate = Gate()
    brain = Scripted(CALL, [Say("I am still looking.")], [Say("It is noon.")])
    with running(brain, Own("clock", gate)) as (session, runner, updates):
        session.send_text("What time is it?")
        assert gate.begun.wait(WAIT_S)
        until(updates, up.ResponseDone)
        assert runner.busy == 1
        session.send_text("And what else?")
        assert until(updates, up.ResponseDone).text == "I am still looking."
        gate.go.set()
        assert until(updates, up.ResponseDone).text == "It is noon."
        assert runner.busy == 0


@pytest.mark.parametrize("count", [2, 100])
def test_parallel_calls_are_answered_together_in_any_order(count: int):
    gates = [Gate() for _ in range(count)]
    brain = Scripted([CallTool("work", f'{{"n": {n}}}') for n in range(count)], [Say("All done.")])
    limits = ToolLimits(at_once=count)
    with running(brain, Own("work", lambda a, c: gates[a["n"]](a, c)), limits=limits) as (session, _, updates):
        session.send_text("Do it all")
        for gate in reversed(gates):
            assert gate.begun.wait(WAIT_S)
            gate.go.set()
        results = [until(updates, up.ToolResult) for _ in range(count)]
        assert len({result.call_id for result in results}) == count
        assert {result.output for result in results} == {f'done with {{"n": {n}}}' for n in range(count)}
        assert until(updates, up.ResponseDone).text == "All done."
        assert brain.turns.qsize() == 2


def test_no_more_work_at_once_than_allowed_and_all_get_their_turn():
    lock, most = threading.Lock(), [0, 0]

    def work(arguments: Any, _context: ToolContext) -> str:
        with lock:
            most[0] += 1
            most[1] = max(most)
        assert most[0] <= 3
        with lock:
            most[0] -= 1
        return str(arguments["n"])

    brain = Scripted([CallTool("work", f'{{"n": {n}}}') for n in range(50)], [Say("All done.")])
    with running(brain, Own("work", work), limits=ToolLimits(at_once=3)) as (session, _, _updates):
        assert session.ask("Do it all", timeout_s=WAIT_S).text == "All done."
    assert most[1] <= 3


def test_instant_tools_all_get_their_turn_without_threads_of_their_own():
    names: set[str] = set()

    def work(arguments: Any, _context: ToolContext) -> str:
        names.add(threading.current_thread().name)
        return str(arguments["n"])

    brain = Scripted([CallTool("work", f'{{"n": {n}}}') for n in range(50)], [Say("All done.")])
    with running(brain, Own("work", work, instant=True), limits=ToolLimits(at_once=3)) as (session, _, _updates):
        assert session.ask("Do it all", timeout_s=WAIT_S).text == "All done."
    assert names == {"realtime-tools"}


def fail(error: BaseException) -> Any:
    def work(_arguments: Any, _context: ToolContext) -> Any:
        raise error

    return work


@pytest.mark.parametrize(
    ("tool", "call", "status", "said"),
    [
        (Own("clock", say), CallTool("clock", '{"zone": '), "invalid", "no JSON"),
        (Own("clock", say), CallTool("cuckoo", "{}"), "invalid", "there is no tool cuckoo; there are: clock"),
        (Own("clock", fail(ToolError("no such zone"))), CALL[0], "failed", "no such zone"),
        (Own("clock", fail(ValueError("bad"))), CALL[0], "failed", "ValueError: bad"),
        (Own("clock", fail(SystemExit(3))), CALL[0], "failed", "SystemExit: 3"),
        (Own("clock", lambda _a, _c: 5), CALL[0], "failed", "it returned int, not text"),
        (Own("clock", lambda _a, _c: "\ud800"), CALL[0], "failed", "UnicodeEncodeError"),
        (Own("clock", fail(ToolError("\x1b[2J\ud800"))), CALL[0], "failed", ""),
    ],
)
def test_what_goes_wrong_is_a_result_that_the_model_can_read(tool: Own, call: CallTool, status: str, said: str):
    brain = Scripted([call], [Say("Sorry.")])
    with running(brain, tool) as (session, _, updates):
        assert session.ask("What time is it?", timeout_s=WAIT_S).text == "Sorry."
        finished = until(updates, up.ToolFinished)
        assert finished.status == status
        assert said in finished.error
        assert "\x1b" not in finished.error
        assert said in json.loads(until(updates, up.ToolResult).output)["error"]


def test_arguments_that_are_too_long_are_not_read():
    checked: list[str] = []

    class Careful(Own):
        def check(self, arguments: str) -> Any:
            checked.append(arguments)
            return arguments

    brain = Scripted([CallTool("clock", '"' + "x" * 2_000 + '"')], [Say("Sorry.")])
    with running(brain, Careful("clock", say), limits=ToolLimits(argument_bytes=1_000)) as (session, _, updates):
        session.ask("What time is it?", timeout_s=WAIT_S)
        assert until(updates, up.ToolFinished).status == "invalid"
    assert not checked


def test_a_time_limit_gives_the_model_what_came_by_then():
    def work(_arguments: Any, context: ToolContext) -> str:
        context.partial("half of ")
        context.partial("it")
        context.wait(WAIT_S)
        return "too late"

    brain = Scripted(CALL, [Say("It took too long.")])
    with running(brain, Own("clock", work, timeout_s=0.1)) as (session, _, updates):
        assert session.ask("What time is it?", timeout_s=WAIT_S).text == "It took too long."
        assert until(updates, up.ToolProgress).text == "half of"
        assert until(updates, up.ToolFinished).status == "timed_out"
        result = json.loads(until(updates, up.ToolResult).output)
        assert result == {"error": "it took longer than 0.1 s", "status": "timed_out", "partial_output": "half of it"}


def test_a_cancel_reaches_the_tool_and_the_model_is_told_with_the_next_turn():
    gate = Gate()
    brain = Scripted(CALL, [Say("You stopped it.")])
    with running(brain, Own("clock", gate)) as (session, runner, updates):
        session.send_text("What time is it?")
        assert gate.begun.wait(WAIT_S)
        assert session.tooling is runner
        assert runner.cancel("no such call") == 0
        assert runner.cancel() == 1
        assert gate.cancelled.wait(WAIT_S)
        assert until(updates, up.ToolFinished).status == "cancelled"
        until(updates, up.ToolResult)
        assert session.ask("Why?", timeout_s=WAIT_S).text == "You stopped it."
        brain.turns.get(timeout=WAIT_S)
        told = brain.turns.get(timeout=WAIT_S).utterances
    assert [each.role for each in told] == ["user", "call", "output", "user"]
    assert "the user cancelled it" in told[2].text


def test_what_an_interrupted_answer_called_for_is_kept_for_the_next_turn():
    gate = Gate()
    story = [CallTool("clock", "{}"), *(Say(f"word {n} ") for n in range(2_000))]
    brain = Scripted(story, [Say("Fine.")], [Say("It is noon.")])
    with running(brain, Own("clock", gate), pace=1.0) as (session, _, updates):
        session.send_text("Tell me a long story, and the time")
        assert gate.begun.wait(WAIT_S)
        until(updates, up.TextDelta)
        session.send_text("Stop that")
        until(updates, up.Interrupted)
        assert until(updates, up.ResponseDone).status == "cancelled"
        assert until(updates, up.ResponseDone).text == "Fine."
        gate.go.set()
        until(updates, up.ToolResult)
        assert brain.turns.qsize() == 2, "nobody asked the model to speak about it"
        assert session.ask("And the time?", timeout_s=WAIT_S).text == "It is noon."
        for _ in range(2):
            brain.turns.get(timeout=WAIT_S)
        assert "done with {}" in [each.text for each in brain.turns.get(timeout=WAIT_S).utterances]


# --- text models ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def writing(server: TextServer, *tools: Own, **options: Any):
    place = Place(provider="openai", model="m", base_url=server.url, wire=OpenAIChat())
    toolbox = Toolbox(tools)
    session = ChatSession([place], wishes=Wishes(tools=toolbox.specs), chat_limits=ChatLimits(retries=0))
    runner = ToolRunner(session, toolbox, **options)
    runner.start()
    with session, contextlib.closing(session.updates(timeout_s=WAIT_S)) as updates:
        try:
            yield session, runner, updates
        finally:
            runner.close()


def calling(*names: str):
    """An answer that calls these tools."""
    calls = [
        {"index": n, "id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": f'{{"n": {n}}}'}}
        for n, name in enumerate(names)
    ]
    return stream(delta(tool_calls=calls), delta(finish="tool_calls"), DONE)


def told(server: TextServer, n: int) -> list[tuple[str, str]]:
    return [(each["role"], each.get("content") or "") for each in server.requests[n].json["messages"]]


def test_a_text_model_calls_a_hundred_tools_and_is_asked_once_more():
    with TextServer(calling(*["work"] * 100), answers("All done.")) as server:
        with writing(server, Own("work", say)) as (session, _, _updates):
            answer = session.ask("Do it all", timeout_s=WAIT_S)
        assert (answer.text, len(answer.tool_calls)) == ("All done.", 100)
        assert len(server.requests) == 2
        results = [text for role, text in told(server, 1) if role == "tool"]
        assert results == [f'work {{"n": {n}}}' for n in range(100)]


def test_a_text_model_is_talked_to_while_a_tool_works():
    gate = Gate()
    with TextServer(calling("clock"), answers("Still looking."), answers("It is noon.")) as server:
        with writing(server, Own("clock", gate)) as (session, _, updates):
            session.send_text("What time is it?")
            assert gate.begun.wait(WAIT_S)
            session.send_text("And?")
            while until(updates, up.ResponseDone).text != "Still looking.":
                pass
            gate.go.set()
            assert until(updates, up.ResponseDone).text == "It is noon."
        assert told(server, 1)[1:] == [("assistant", ""), ("tool", STILL_AT_WORK), ("user", "And?")]
        assert told(server, 2)[2:] == [
            ("tool", 'done with {"n": 0}'),
            ("user", "And?"),
            ("assistant", "Still looking."),
            ("user", HAS_COME),
        ]


def test_a_result_is_kept_when_no_more_answers_can_be_asked_for():
    gate = Gate()
    with TextServer(calling("clock"), silent) as server:
        with writing(server, Own("clock", gate)) as (session, runner, updates):
            session.send_text("What time is it?")
            assert gate.begun.wait(WAIT_S)
            session.send_text("And?")
            with pytest.raises(UsageError, match="asked for already"):
                for _ in range(1_000):
                    session.respond()
            gate.go.set()
            assert until(updates, up.ToolResult).output == 'done with {"n": 0}'
            assert runner.busy == 0


def test_arguments_that_were_cut_are_never_run():
    call = {"index": 0, "id": "call_0", "type": "function", "function": {"name": "clock", "arguments": '{"zone": "U'}}
    ran = threading.Event()
    with TextServer(stream(delta(tool_calls=[call]), delta(finish="length"), DONE)) as server:
        with writing(server, Own("clock", lambda _a, _c: ran.set() or "x")) as (session, runner, updates):
            session.send_text("What time is it?")
            until(updates, up.ResponseDone)
            assert runner.busy == 0
    assert not ran.is_set()


def calls(peer: Peer) -> None:
    """A realtime server that calls a tool."""
    peer.greet()
    peer.receive("response.create")
    item = {"id": "item_c", "type": "function_call", "call_id": "call_1", "name": "clock", "arguments": "{}"}
    where = {"response_id": "resp_1", "output_index": 0}
    peer.send(type="response.created", event_id="e", response={"id": "resp_1", "status": "in_progress"})
    peer.send(type="response.output_item.added", event_id="e", item=item | {"status": "in_progress"}, **where)
    peer.send(type="conversation.item.added", event_id="e", item=item | {"status": "in_progress"})
    peer.send(type="response.output_item.done", event_id="e", item=item | {"status": "completed"}, **where)
    done = {"id": "resp_1", "status": "completed", "output": [item | {"status": "completed"}]}
    peer.send(type="response.done", event_id="e", response=done)


def calls_and_goes(gate: Gate, peer: Peer) -> None:
    """It is lost while the tool works."""
    calls(peer)
    assert gate.begun.wait(WAIT_S)
    peer.drop()


def calls_and_waits(gate: Gate, peer: Peer) -> None:
    """It waits for what comes of it."""
    calls(peer)
    assert gate.begun.wait(WAIT_S)
    peer.read_all()


def test_a_text_model_goes_on_with_the_tool_of_a_realtime_one():
    gate = Gate()

    with (
        ScriptedServer(functools.partial(calls_and_goes, gate)) as realtime,
        TextServer(answers("It is noon.")) as text,
    ):
        place = Place(provider="openai", model="m", base_url=text.url, wire=OpenAIChat())
        client = StandbyClient(
            Endpoint(url=realtime.url, proxy=None), places=[place], wishes=Wishes(), chat_limits=ChatLimits()
        )
        runner = ToolRunner(client, Toolbox([Own("clock", gate)]))
        client.observe(lambda update, _at_s: gate.go.set() if isinstance(update, up.SessionChanged) else None)
        runner.start()
        with client:
            answer = client.ask("What time is it?", timeout_s=WAIT_S)
            runner.close()
        assert answer.text == "It is noon."
        assert told(text, 0)[-1] == ("tool", "done with {}")


# --- approval ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("approve", "status", "output"),
    [(True, "completed", 'clock {"zone": "UTC"}'), (False, "refused", '{"error":"not now","status":"refused"}')],
)
def test_a_call_waits_to_be_allowed(approve: bool, status: str, output: str):
    brain = Scripted(CALL, [Say("Well.")])
    tool = Own("clock", say, allowed=False, origin="clock.py")
    with running(brain, tool, asks=True) as (session, _, updates):
        session.send_text("What time is it?")
        asked = until(updates, up.ApprovalRequested)
        assert (asked.name, asked.arguments, asked.origin, asked.remote) == (
            "clock",
            '{"zone": "UTC"}',
            "clock.py",
            False,
        )
        session.approve(asked.request_id, approve=approve, reason=None if approve else "not now")
        decided = until(updates, up.ApprovalDecided)
        assert (decided.request_id, decided.approved) == (asked.request_id, approve)
        assert until(updates, up.ToolFinished).status == status
        assert until(updates, up.ToolResult).output == output
        with pytest.raises(UsageError, match="waits to be allowed"):
            session.approve(asked.request_id, approve=True)


@pytest.mark.parametrize(
    ("rules", "options", "status"),
    [
        ((), {}, "refused"),  # nobody can be asked
        ((), {"reads": True}, "completed"),
        (("never",), {"allowed": True}, "refused"),
        (("clock=always",), {}, "completed"),
        (("time/*=always",), {"origin": "mcp time"}, "completed"),
        (("cl*=ask", "clock=always"), {}, "refused"),
    ],
)
def test_rules_decide_where_nobody_can_be_asked(rules: tuple[str, ...], options: dict[str, Any], status: str):
    brain = Scripted(CALL, [Say("Well.")])
    policy = Policy(map(rule, rules))
    with running(brain, Own("clock", say, **{"allowed": False, **options}), policy=policy) as (session, _, updates):
        session.ask("What time is it?", timeout_s=WAIT_S)
        assert until(updates, up.ToolFinished).status == status


def test_a_decision_is_remembered_until_the_tool_says_something_else_of_itself():
    memory = InMemory()
    for description, asked in (("Tells the time.", True), ("Tells the time.", False), ("Pays bills.", True)):
        tool = Own("clock", say, allowed=False)
        tool.spec = ToolSpec(name="clock", description=description)
        with running(Scripted(CALL), tool, policy=Policy(memory=memory), asks=True) as (session, _, updates):
            session.send_text("What time is it?")
            first = next(each for each in updates if isinstance(each, up.ApprovalRequested | up.ToolStarted))
            assert isinstance(first, up.ApprovalRequested) is asked
            if asked:
                session.approve(first.request_id, approve=True, remember=True)
            until(updates, up.ToolResult)


def test_a_question_that_nobody_answers_is_a_refusal():
    limits = ToolLimits(approval_s=0.05)
    with running(Scripted(CALL), Own("clock", say, allowed=False), asks=True, limits=limits) as (session, _, updates):
        session.send_text("What time is it?")
        assert "nobody has answered" in until(updates, up.ApprovalDecided).reason
        assert until(updates, up.ToolFinished).status == "refused"


@pytest.mark.parametrize("text", ["", "clock", "clock=maybe", "=always", "clock=", "always="])
def test_what_is_no_rule(text: str):
    with pytest.raises(UsageError, match="is no rule"):
        rule(text)


# --- the end ----------------------------------------------------------------------------------------------------------


def test_the_end_of_the_session_cancels_what_works():
    gate = Gate()
    with running(Scripted(CALL), Own("clock", gate)) as (session, _, _updates):
        session.send_text("What time is it?")
        assert gate.begun.wait(WAIT_S)
        session.close()
        assert gate.cancelled.wait(WAIT_S)


def test_a_tool_that_does_not_end_is_left_behind_and_named(caplog: pytest.LogCaptureFixture):
    begun, go = threading.Event(), threading.Event()

    def deaf(_arguments: Any, _context: ToolContext) -> str:
        begun.set()
        assert go.wait(WAIT_S)
        return "too late"

    with caplog.at_level(logging.WARNING), running(Scripted(CALL), Own("clock", deaf)) as (session, runner, _):
        session.send_text("What time is it?")
        assert begun.wait(WAIT_S)
        runner.close(timeout_s=0.05)
        assert runner.left == 1
        assert "left behind" in caplog.text
        go.set()
        runner.close()
        assert runner.left == 0


@pytest.mark.parametrize("lost", [True, False])
def test_a_session_that_is_over_cancels_its_tools_and_says_so(tmp_path: Path, *, lost: bool):
    gate = Gate()
    script = functools.partial(calls_and_goes if lost else calls_and_waits, gate)
    with ScriptedServer(script) as server:
        recorder = Recorder.create(tmp_path, settings={})
        client = RealtimeClient(Endpoint(url=server.url, proxy=None), recorder=recorder)
        runner = ToolRunner(client, Toolbox([Own("clock", gate)]))
        runner.start()
        told: list[up.Update] = []
        client.observe(lambda update, _at_s: told.append(update))
        with client:
            client.send_text("What time is it?")
            assert gate.begun.wait(WAIT_S)
            if not lost:
                client.close()
            assert gate.cancelled.wait(WAIT_S)
            runner.close()
        assert isinstance(client.error, ConnectionLostError) == lost
    *_, finished, ended = told
    assert isinstance(ended, up.SessionEnded)
    assert isinstance(finished, up.ToolFinished)
    assert (finished.call_id, finished.status) == ("call_1", "cancelled")
    assert json.loads((recorder.folder / "session.json").read_text())["tools"] == {"cancelled": 1}


# --- parts ------------------------------------------------------------------------------------------------------------


def test_tools_that_change_are_offered_anew():
    with running(Scripted(), Own("clock", say)) as (session, runner, updates):
        before = until(updates, up.SessionStarted)
        assert before.facts.tools == ()
        runner._toolbox.set("time", [Own("clock", say), Own("now in", say)])
        while until(updates, up.SessionChanged).facts.tools != ("clock", "time_clock", "now_in"):
            pass
        assert session.facts.tools == ("clock", "time_clock", "now_in")


@pytest.mark.parametrize(
    ("names", "error"),
    [
        (["a", "a"], "two tools a: of the program$"),
        (["a b"], "cannot be called"),
        ([""], "cannot be called"),
        (["x" * 65], "at most 64"),
    ],
)
def test_tools_that_cannot_be_offered(names: list[str], error: str):
    with pytest.raises(UsageError, match=error):
        Toolbox([Own(name, say) for name in names])


def test_a_source_with_too_many_tools_gets_as_many_as_models_take():
    toolbox = Toolbox([Own("clock", say)])
    toolbox.set("many", [Own(f"tool {n}", say) for n in range(1_000)])
    assert len(toolbox) == MOST_TOOLS
    toolbox.set("many", [])
    assert list(toolbox.named) == ["clock"]


def test_a_tool_that_tells_its_progress_all_the_time_is_heard_ten_times_a_second():
    told: list[up.Update] = []
    clock = Hands()
    call = up.ToolCall(response_id="r", item_id="i", call_id="c", name="w", arguments="{}")
    report = Reporter(call, told.append, clock)
    for n in range(1_001):
        clock.now_s = n / 1_000
        report(f"step {n}\x1b[2J", n, 1_000)
    report("again", 1_000, 1_000)
    assert len(told) in (10, 11, 12)
    assert (told[-1].text, told[-1].done) == ("step 1000[2J", 1_000)


def test_a_long_output_is_cut_and_says_so():
    assert shortened("x" * 10, 10) == "x" * 10
    assert shortened("x" * 1_234, 10) == "x" * 10 + "\n[cut: 10 of 1,234 characters]"


@given(st.lists(st.tuples(st.sampled_from(["call", "ask", "allow", "begin", "end", "cut"]), st.integers(0, 9))))
def test_every_call_ends_once_and_no_more_run_than_may(steps: list[tuple[str, int]]):
    book = CallBook(ToolLimits(at_once=2, open_calls=6))
    ended: list[str] = []
    known = []
    for what, n in steps:
        work = known[n % len(known)] if known else None
        if what == "call":
            made = book.called(
                up.ToolCall(response_id=f"r{n % 3}", item_id="i", call_id=f"c{n}", name="w", arguments="")
            )
            known += [made] if made is not None else []
        elif work is None:
            continue
        elif what == "ask" and work.stage == "called":
            book.asked(work, 1.0)
        elif what == "allow" and work.stage in ("called", "asked"):
            book.allowed(work)
        elif what == "begin":
            assert all(each.stage == "running" for each in book.begin(2.0))
        elif what == "end":
            was_over = work.stage == "over"
            assert book.end(work) is not was_over
            ended += [] if was_over else [work.call.call_id]
        else:
            book.interrupted(work.call.response_id)
            assert work.silent or work.stage == "over"
        assert sum(each.stage == "running" for each in book.all()) <= 2
        assert len(book) <= 6
        assert len(book) + len(ended) == len(known)
