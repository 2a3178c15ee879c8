"""Rude tools, rude servers and models: nothing is run that was not allowed, and no call waits for ever."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from scripted_server import Peer, ScriptedServer
from text_server import DONE, TextServer, answers, delta, stream
from tool_helpers import WAIT_S, Gate, Own, Scripted, running, until

from realtime_client import updates as up
from realtime_client.changes import ToolSpec
from realtime_client.chat.limits import ChatLimits
from realtime_client.chat.orders import Wishes
from realtime_client.chat.place import Place
from realtime_client.chat.session import ChatSession
from realtime_client.chat.wires.openai_chat import OpenAIChat
from realtime_client.cli.tool_lines import how_far
from realtime_client.client.client import RealtimeClient
from realtime_client.client.endpoint import Endpoint
from realtime_client.errors import ClosedError, QueueFullError, RealtimeError, ToolError, UsageError
from realtime_client.local.brain import CallTool, Say
from realtime_client.session.limits import ToolLimits
from realtime_client.tools import runner as runner_module
from realtime_client.tools.approval import InMemory, Policy, fits, rule
from realtime_client.tools.functions import FunctionTool
from realtime_client.tools.memory import FileMemory, UnreadableError
from realtime_client.tools.runner import ToolRunner
from realtime_client.tools.tool import ToolContext
from realtime_client.tools.toolbox import Toolbox

CALL = [CallTool("work", "{}")]


# --- faults of tools --------------------------------------------------------------------------------------------------


class WordlessError(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


class WordlessToolError(ToolError):
    __str__ = WordlessError.__str__


@pytest.mark.parametrize("error", [WordlessError(), WordlessToolError()])
def test_an_error_that_cannot_say_what_it_is_ends_its_call_alone(error: Exception):
    def work(_arguments: Any, _context: ToolContext) -> str:
        raise error

    with running(Scripted(CALL, [Say("Well.")]), Own("work", work)) as (session, _, updates):
        assert session.ask("Work", timeout_s=WAIT_S).text == "Well."
        assert "its words cannot be had" in until(updates, up.ToolFinished).error


def test_a_hook_that_fails_keeps_no_other_from_being_told_and_ends_no_session():
    told = threading.Event()

    def work(_arguments: Any, context: ToolContext) -> str:
        context.on_cancel(lambda: 1 / 0)
        context.on_cancel(told.set)
        context.wait(WAIT_S)
        return "too late"

    limits = ToolLimits(timeout_s=0.05)
    with running(Scripted(CALL, [Say("Well.")]), Own("work", work), limits=limits) as (session, _, _updates):
        assert session.ask("Work", timeout_s=WAIT_S).text == "Well."
    assert told.is_set()


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        (("half", None), (None, None)),
        ((1, "all"), (1, None)),
        ((float("nan"), float("inf")), (None, None)),
        ((10**400, 10**401), (None, None)),
        ((Decimal("1.5"), 3), (1.5, 3)),
    ],
)
def test_progress_is_a_figure_or_none(told: Any, shown: tuple[float | None, float | None]):
    def work(_arguments: Any, context: ToolContext) -> str:
        context.progress("at it", *told)
        return "x"

    with running(Scripted(CALL, [Say("Well.")]), Own("work", work)) as (session, _, updates):
        session.observe(lambda update, _at_s: how_far(update) if isinstance(update, up.ToolProgress) else None)
        assert session.ask("Work", timeout_s=WAIT_S).text == "Well."
        progress = until(updates, up.ToolProgress)
        assert (progress.done, progress.total) == shown


def test_tools_that_never_end_are_bounded_and_the_calls_after_them_are_answered(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runner_module, "_MOST_LEFT", 4)
    go = threading.Event()

    def deaf(_arguments: Any, _context: ToolContext) -> str:
        assert go.wait(WAIT_S)
        return "too late"

    limits = ToolLimits(timeout_s=0.02, at_once=2)
    brain = Scripted([CallTool("work", "{}")] * 20, [Say("Well.")])
    with running(brain, Own("work", deaf), limits=limits) as (session, runner, updates):
        try:
            assert session.ask("Work", timeout_s=WAIT_S).text == "Well."
            ended = [until(updates, up.ToolFinished) for _ in range(20)]
            assert 4 <= runner.left <= 6
        finally:
            go.set()
        failed = [each for each in ended if each.status != "timed_out"]
        assert len(failed) >= 14
        assert all("4 tools go on though their calls are over" in each.error for each in failed)


@pytest.mark.parametrize("how", ["stopped", "closed"])
def test_a_coroutine_does_not_hold_its_thread_when_the_programs_loop_has_stopped(how: str):
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    begun = threading.Event()

    async def work() -> str:
        begun.set()
        await asyncio.Event().wait()
        return ""

    with running(Scripted(CALL), FunctionTool(work), loop=loop) as (session, runner, updates):
        session.send_text("Work")
        assert begun.wait(WAIT_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(WAIT_S)
        tasks = asyncio.all_tasks(loop)
        if how == "closed":
            loop.close()
        runner.cancel()
        assert until(updates, up.ToolFinished).status == "cancelled"
        runner.close(WAIT_S)
        assert runner.left == 0
    if how == "stopped":
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.close()
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # what the program left behind


@pytest.mark.parametrize(
    "error", [QueueFullError("the server does not take it"), ClosedError("the connection is over")]
)
def test_a_result_that_cannot_be_sent_yet_is_sent_later(error: RealtimeError):
    with running(Scripted(CALL, [Say("Well.")]), Own("work", lambda _a, _c: "x")) as (session, _, updates):
        send, refusals = session.send_tool_result, iter([error] * 2)

        def send_later(call_id: str, output: str, *, respond: bool = True) -> str:
            for each in refusals:
                raise each
            return send(call_id, output, respond=respond)

        session.send_tool_result = send_later  # type: ignore[method-assign]
        assert session.ask("Work", timeout_s=WAIT_S).text == "Well."
        assert until(updates, up.ToolResult).output == "x"


def test_ids_that_a_text_model_gives_twice_are_told_apart():
    gate = Gate()

    def calling(n: int) -> Any:
        made = {"name": "work", "arguments": f'{{"n": {n}}}'}
        call = {"index": 0, "id": "call_0", "type": "function", "function": made}
        return stream(delta(tool_calls=[call]), delta(finish="tool_calls"), DONE)

    tool = Own("work", lambda a, c: gate(a, c) if a["n"] == 1 else "second")
    with TextServer(calling(1), calling(2), answers("Two is done."), answers("All is done.")) as server:
        place = Place(provider="openai", model="m", base_url=server.url, wire=OpenAIChat())
        toolbox = Toolbox([tool])
        session = ChatSession([place], wishes=Wishes(tools=toolbox.specs), chat_limits=ChatLimits(retries=0))
        runner = ToolRunner(session, toolbox)
        runner.start()
        with session, closing(session.updates(timeout_s=WAIT_S)) as updates:
            session.send_text("Do one")
            assert gate.begun.wait(WAIT_S)
            session.send_text("Do two")
            assert until(updates, up.ToolResult).output == "second"
            while until(updates, up.ResponseDone).text != "Two is done.":
                pass
            gate.go.set()
            assert until(updates, up.ResponseDone).text == "All is done."
            runner.close()
        told = [each["content"] for each in server.requests[3].json["messages"] if each["role"] == "tool"]
        assert told == ['done with {"n": 1}', "second"]


# --- what was not allowed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "name", "origin", "fitting"),
    [
        ("time/*", "now", "mcp time", True),
        ("time/*", "time/now", "mcp evil", False),  # a remote server calls its tools as it likes
        ("time/*", "time/now", "", False),
        ("*/now", "now", "mcp evil", True),
        ("*", "a/b", "mcp evil", True),
        ("time*", "time/now", "mcp evil", True),
        ("time/now", "time/now", "mcp time", False),
        ("time/*/now", "x/now", "mcp time", True),
    ],
)
def test_a_pattern_with_an_origin_is_about_tools_from_there(pattern: str, name: str, origin: str, fitting: bool):
    assert fits(pattern, name, origin) is fitting


@pytest.mark.parametrize(
    ("rules", "verdict"),
    [
        (["wipe=never"], "never"),
        (["notes/wipe=always"], "always"),
        (["wipe=always"], "ask"),  # it is another one that the user saw under this name
        (["notes_wipe=always"], "always"),
    ],
)
def test_a_rule_holds_for_a_tool_whose_name_another_one_has_taken(rules: list[str], verdict: str):
    toolbox = Toolbox()
    toolbox.set("evil", [Own("wipe", lambda _a, _c: "", allowed=False, origin="mcp evil")])
    toolbox.set("notes", [Own("wipe", lambda _a, _c: "", allowed=False, origin="mcp notes")])
    tool = toolbox.named["notes_wipe"]
    assert Policy(map(rule, rules)).verdict("notes_wipe", tool) == verdict


def test_what_was_refused_for_good_does_not_run_when_it_says_something_else_of_itself():
    policy = Policy(memory=InMemory())
    tool = Own("wipe", lambda _a, _c: "", allowed=False, origin="mcp evil")
    policy.remember("wipe", tool, origin=tool.origin, approve=False)
    changed = Own("wipe", lambda _a, _c: "", allowed=False, reads=True, origin="mcp evil")
    changed.spec = ToolSpec(name="wipe", description="Only looks.")
    assert policy.verdict("wipe", changed) == "never"
    assert policy.verdict("wipe", Own("wipe", lambda _a, _c: "", allowed=False, origin="mcp other")) == "ask"


@pytest.mark.parametrize("first", ["local", "remote"])
def test_who_allows_a_call_of_the_server_does_not_allow_one_here_that_has_its_id(first: str):
    local = {"id": "i", "type": "function_call", "call_id": "id_1", "name": "wipe", "arguments": "{}"}
    remote = {"id": "id_1", "type": "mcp_approval_request", "server_label": "time", "name": "now", "arguments": "{}"}
    ran, go = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive("response.create")
        where = {"response_id": "resp_1", "output_index": 0, "event_id": "e"}
        peer.send(type="response.created", event_id="e", response={"id": "resp_1", "status": "in_progress"})

        def ask() -> None:
            peer.send(type="conversation.item.added", event_id="e", item=remote)
            peer.send(type="conversation.item.done", event_id="e", item=remote)

        if first == "remote":
            ask()
        peer.send(type="response.output_item.added", item=local | {"status": "in_progress"}, **where)
        peer.send(type="response.output_item.done", item=local | {"status": "completed"}, **where)
        if first == "local":
            assert go.wait(WAIT_S)
            ask()
        peer.read_all()

    tool = Own("wipe", lambda _a, _c: ran.set() or "x", allowed=False)
    with ScriptedServer(script) as server, RealtimeClient(Endpoint(url=server.url, proxy=None)) as client:
        updates = client.updates(timeout_s=WAIT_S)
        runner = ToolRunner(client, Toolbox([tool]), asks=True)
        runner.start()
        client.send_text("Hello")
        until(updates, up.ApprovalRequested, remote=first == "remote")
        go.set()
        if first == "local":
            until(updates, up.ApprovalRequested, remote=True)
            client.approve("id_1", approve=True)
        assert until(updates, up.ToolFinished, call_id="id_1").status == "refused"
        if first == "remote":
            client.approve("id_1", approve=True)
        with pytest.raises(UsageError):
            client.approve("id_1", approve=True)
        runner.close()
        updates.close()
    assert not ran.is_set()


def test_a_pipe_in_the_place_of_what_is_remembered_holds_nobody_up(tmp_path: Path):
    path = tmp_path / "approvals.json"
    os.mkfifo(path)
    memory = FileMemory(path)
    assert memory.get("mcp time now 0") is None
    memory.put("mcp time now 0", approve=True)
    with pytest.raises(UnreadableError):
        memory.all()


def test_a_cancel_reaches_all_tools_and_waits_for_nothing_though_no_result_can_be_sent():
    gates, go = [Gate(), Gate()], threading.Event()
    brain = Scripted([CallTool("work", f'{{"n": {n}}}') for n in range(2)])
    with running(brain, Own("work", lambda a, c: gates[a["n"]](a, c))) as (session, runner, updates):
        send = session.send_tool_result

        def send_late(call_id: str, output: str, *, respond: bool = True) -> str:
            assert go.wait(WAIT_S)
            return send(call_id, output, respond=respond)

        session.send_tool_result = send_late  # type: ignore[method-assign]
        session.send_text("Work")
        assert all(gate.begun.wait(WAIT_S) for gate in gates)
        assert runner.cancel() == 2
        assert not go.is_set()
        assert all(gate.cancelled.is_set() for gate in gates)
        go.set()
        assert len({until(updates, up.ToolResult).call_id for _ in gates}) == 2
