"""MCP servers over stdio: the official ones for time and "everything", and one by hand that does what none should."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from mcp_helpers import WAIT_S, Box, Call, Journal, Running, by_hand, ends, real, servers

from realtime_client import logs
from realtime_client.errors import (
    ClosedError,
    ConnectError,
    HostUnreachableError,
    MissingExtraError,
    RealtimeError,
    ToolError,
    UsageError,
)
from realtime_client.tools.mcp import link as link_module
from realtime_client.tools.mcp.keeper import Restarts
from realtime_client.tools.mcp.link import MOST_LISTED, Link
from realtime_client.tools.mcp.spec import McpServerSpec
from realtime_client.tools.tool import BadArgumentsError, ToolCancelledError
from realtime_client.tools.toolbox import Toolbox

QUICK = Restarts(first_s=0.0)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path)
    yield made
    made.close()


# --- the official servers ---------------------------------------------------------------------------------------------


def test_the_official_servers_side_by_side():
    box = Box()
    specs = (
        McpServerSpec(name="time", command=real("time")),
        McpServerSpec(name="all", command=(*real("everything"), "stdio")),
    )
    with servers(box, *specs) as running:
        tools = box.tools["time"]
        assert sorted(tools) == ["convert_time", "get_current_time"]
        now = tools["get_current_time"]
        assert (now.origin, now.reads) == ("mcp time", True)
        assert now.spec.parameters is not None
        assert list(now.spec.parameters["properties"]) == ["timezone"]
        said = json.loads(box.run("get_current_time", '{"timezone": "Etc/UTC"}', source="time"))
        assert said["timezone"] == "Etc/UTC"
        with pytest.raises(BadArgumentsError, match="'timezone' is a required property"):
            now.check("{}")
        with pytest.raises(ToolError, match="Mars/Base"):
            box.run("get_current_time", '{"timezone": "Mars/Base"}', source="time")

        assert box.run("echo", '{"message": "\u2028 hi"}', source="all") == "Echo: \u2028 hi"
        image = box.run("get-tiny-image", source="all").splitlines()
        assert image[1] == "[image, image/png, 4,033 bytes]"
        structured = box.run("get-structured-content", '{"location": "Chicago"}', source="all")
        assert set(json.loads(structured)) == {"temperature", "conditions", "humidity"}
        links = box.run("get-resource-links", '{"count": 2}', source="all").splitlines()
        assert links[1].startswith("[resource, text/plain, demo://resource/dynamic/blob/1, Resource 1")
        names = {(each.server, each.name) for each in running.prompts()}
        assert ("all", "args-prompt") in names
        listed = {each.uri: each for each in running.resources()}
        assert listed["demo://resource/static/document/architecture.md"].mime_type == "text/markdown"
        assert any("{" in uri for uri in listed), "templates, too"


def test_progress_and_cancel_of_a_long_call():
    box, spec = Box(), McpServerSpec(name="all", command=(*real("everything"), "stdio"))
    with servers(box, spec):
        call = Call()
        said = box.run("trigger-long-running-operation", '{"duration": 0.4, "steps": 4}', call, source="all")
        assert said.startswith("Long running operation completed")
        told = [call.told.get_nowait() for _ in range(call.told.qsize())]
        assert told[-1] == ("", 4, 4)
        assert [done for _, done, _ in told] == [1, 2, 3, 4]

        long = Running(box, "trigger-long-running-operation", '{"duration": 60, "steps": 600}', source="all")
        long.context.told.get(timeout=WAIT_S)
        began = time.monotonic()
        long.context.cancel()
        assert isinstance(long.wait().error, ToolCancelledError)
        assert long.ended_s - began < 0.5  # under 1 ms on an idle machine
        assert box.run("echo", '{"message": "after"}', source="all") == "Echo: after"


# --- calls ------------------------------------------------------------------------------------------------------------


def test_a_cancel_reaches_the_server(journal: Journal):
    box = Box()
    with servers(box, by_hand("never", journal=journal)):
        call = Running(box, "never")
        journal.wait_for("call never")
        began = time.time()
        call.context.cancel()
        seen_s = float(journal.wait_for("cancelled").split()[2])
        assert seen_s - began < 0.5  # 50 ms are promised; a machine under load has its own time
        assert isinstance(call.wait().error, ToolCancelledError)
        cancelled = Call()
        cancelled.cancel()
        with pytest.raises(ToolCancelledError):
            box.run("never", context=cancelled)
        assert json.loads(box.run("echo", '{"a": [1, "\U0001f600"]}')) == {"a": [1, "\U0001f600"]}


@pytest.mark.parametrize(
    ("way", "says"),
    [
        ("huge", "the answer is too long: 50,000,0.. bytes, and at most 16,777,216 are read"),
        ("huge-last", "the answer is too long: 50,000,0.. bytes"),
        ("nonsense", "answered with what is no result of a tool"),
    ],
)
def test_a_bad_answer_is_an_error_that_can_be_read(way: str, says: str):
    box = Box()
    with servers(box, by_hand(way)):
        with pytest.raises(ToolError, match=says):
            box.run(way)
        assert box.run("echo") == "{}"


def test_progress_of_a_hasty_server_is_thinned_out():
    box, call = Box(), Call()
    with servers(box, by_hand("hasty")):
        box.run("hasty", context=call)
    assert 0 < call.told.qsize() < 500


def test_what_is_not_offered_is_refused_and_told_once(journal: Journal, capsys: pytest.CaptureFixture[str]):
    box = Box()
    with logs.configured("tools=info"), servers(box, by_hand("ask", journal=journal)):
        assert box.run("ask") == box.run("ask") == "went on without"
        assert journal.wait_for("refused q1").split()[2] == "-32600"
    told = [line for line in capsys.readouterr().err.splitlines() if "refused" in line]
    assert [("sampling/createMessage" in line, "roots/list" in line) for line in told] == [(True, False), (False, True)]


def test_calls_at_once_are_all_answered():
    box = Box()
    with servers(box, by_hand(name="a"), by_hand(name="b")):
        calls = [Running(box, "echo", json.dumps({"n": n}), source="ab"[n % 2]) for n in range(100)]
        assert [json.loads(call.wait().output) for call in calls] == [{"n": n} for n in range(100)]


# --- lists ------------------------------------------------------------------------------------------------------------


def test_tools_that_change_are_published():
    box = Box()
    with servers(box, by_hand("grow")):
        assert sorted(box.tools["hand"]) == ["echo", "grow"]
        box.run("grow")
        box.wait(2)
        assert sorted(box.tools["hand"]) == ["echo", "grow", "grown"]


@pytest.mark.parametrize(("way", "known"), [("many", MOST_LISTED), ("endless", 100)])
def test_a_list_has_a_limit(way: str, known: int, capsys: pytest.CaptureFixture[str]):
    box, toolbox = Box(), Toolbox()
    with logs.configured("warning"), servers(box, by_hand(way)):
        assert len(box.tools["hand"]) == known
        toolbox.set("hand", box.tools["hand"].values())
        assert len(toolbox) <= 128
    assert "list_cut" in capsys.readouterr().err


def test_what_a_server_says_of_itself_is_not_believed(capsys: pytest.CaptureFixture[str]):
    box = Box()
    with logs.configured("info"), servers(box, by_hand("hostile")) as running:
        tools = box.tools["hand"]
        assert {name: tools[name].reads for name in ("reads", "lies", "echo")} == {
            "reads": True,
            "lies": None,
            "echo": None,
        }
        rude = tools["rude[2J"]
        assert rude.spec.description.startswith("clears[2J your screen x")
        assert len(rude.spec.description) == 4_096
        assert box.run("rude[2J", '{"a": 1}') == '{"a": 1}', "the server gets its own name"
        for name in ("broken-schema", "far-schema"):
            assert box.run(name, '{"a": 1}') == '{"a": 1}', "the server judges itself"
            with pytest.raises(BadArgumentsError):
                tools[name].check("[]")
        assert not {"long-schema", "n" * 1_000} & set(tools)
        (prompt,) = running.prompts()
        assert (prompt.name, prompt.description, prompt.arguments) == ("p[2J", "d", ("a",))
        assert running.resources() == ()
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("tool_left_out") == 2
    assert "\x1b[2J" not in shown.err


# --- what is printed, what is given -----------------------------------------------------------------------------------


def test_noise_is_no_harm_and_no_output(capfd: pytest.CaptureFixture[str]):
    box = Box()
    with servers(box, by_hand("floods")):
        assert box.run("echo") == "{}"
    assert capfd.readouterr() == ("", "")


def test_what_is_printed_goes_to_the_log(capfd: pytest.CaptureFixture[str]):
    box = Box()
    with logs.configured("tools=info"), servers(box, by_hand("floods")):
        pass
    err = capfd.readouterr().err
    assert "server=hand" in err
    assert err.count("no_message") == 1
    assert "[31mnoise 0" in err
    assert "\x1b[31mnoise" not in err
    assert err.count("server_printed") < 1_000


def test_a_server_gets_nothing_of_the_environment_that_is_not_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-for-servers")
    monkeypatch.setenv("NOTES_TOKEN", "for the server of notes")
    box = Box()
    with servers(box, by_hand("env", env=("NOTES_TOKEN",))):
        given = json.loads(box.run("env"))
    harmless = {"HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER", "LC_CTYPE"}  # the last one is Python's own
    assert set(given) <= harmless | {"NOTES_TOKEN"}
    assert given["NOTES_TOKEN"] == "for the server of notes"


def test_signals_that_are_blocked_here_reach_a_server(journal: Journal):
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        box = Box()
        with servers(box, by_hand("pid", journal=journal)):
            status = Path(f"/proc/{box.run('pid')}/status").read_text()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    blocked = next(line for line in status.splitlines() if line.startswith("SigBlk"))
    assert int(blocked.split()[1], 16) == 0


# --- servers that cannot be used --------------------------------------------------------------------------------------

UNUSABLE = {
    "no such program": (
        (("no-such-mcp",), {}),
        UsageError,
        r"MCP server x: there is no program no-such-mcp that could",
    ),
    "no such folder": (
        ((sys.executable,), {"cwd": "/no/such"}),
        UsageError,
        "there is no folder /no/such to start it in",
    ),
    "no such variable": (
        ((sys.executable,), {"env": ("NO_SUCH",)}),
        UsageError,
        "the variable NO_SUCH, which it is to be",
    ),
    "not MCP": (
        (("echo", "hello"), {}),
        ConnectError,
        r"\(echo hello\) ended with exit code 0 before .* printed: hello",
    ),
    "silent": (
        (("sleep", "600"), {"start_timeout_s": 0.3}),
        HostUnreachableError,
        r"\(sleep 600\) did not answer within 0.3 s",
    ),
}


@pytest.mark.parametrize(("server", "kind", "says"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_server_that_cannot_be_used_is_one_line(server: tuple, kind: type[RealtimeError], says: str):
    command, more = server
    with pytest.raises(kind, match=says) as caught:
        with servers(Box(), McpServerSpec(name="x", command=command, **more)):
            pass
    assert "\n" not in str(caught.value)
    assert type(caught.value) is kind


def test_a_server_that_exits_at_once_says_why():
    with pytest.raises(
        ConnectError, match=r"exit code 3 before it could be used; it printed: first line / \[31mno database"
    ):
        with servers(Box(), by_hand("exits")):
            pass


def test_what_a_server_was_given_is_not_shown_when_it_prints_it():
    environ = {"PATH": os.environ["PATH"], "NOTES_TOKEN": "for-the-server-of-notes"}
    with pytest.raises(ConnectError, match=r"it printed: first line \*\*\* / "):
        with servers(Box(), by_hand("exits", env=("NOTES_TOKEN",)), environ=environ):
            pass


def test_of_several_bad_servers_one_is_told_and_nothing_is_printed(capfd: pytest.CaptureFixture[str]):
    with pytest.raises(ConnectError, match="MCP server bad"):
        with servers(Box(), *(by_hand("exits", name=f"bad-{n}") for n in range(4))):
            pass
    gc.collect()
    assert capfd.readouterr() == ("", "")


def test_one_bad_server_ends_the_others(journal: Journal):
    with pytest.raises(ConnectError, match="MCP server bad"):
        with servers(Box(), by_hand(journal=journal), by_hand("exits", name="bad")):
            pass
    assert ends(int(journal.wait_for("start").split()[1]))


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("realtime_client.tools.mcp.servers.find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match=r"realtime-client\[mcp\]"):
        with servers(Box(), by_hand()):
            pass


# --- servers that die -------------------------------------------------------------------------------------------------


def test_a_call_under_way_fails_and_is_not_repeated_and_the_next_one_waits(journal: Journal):
    box = Box()
    with servers(box, by_hand("die", journal=journal), restarts=QUICK):
        first = int(journal.wait_for("start").split()[1])
        with pytest.raises(
            ToolError, match="was lost while it worked on this call, and whether the call had an effect"
        ):
            box.run("die")
        assert box.run("echo", '{"a": 1}') == '{"a": 1}'
        assert box.times == 1, "its tools are the same"
        assert int(journal.wait_for("start").split()[1]) != first
        assert journal.wait_for("call") == "call echo"


def test_the_end_of_a_server_is_seen_while_a_child_holds_its_pipes_open(journal: Journal):
    box = Box()
    with servers(box, by_hand("orphan", journal=journal), restarts=QUICK):
        with pytest.raises(ToolError, match="was lost while it worked on this call"):
            box.run("orphan")
        assert box.run("echo") == "{}"
        assert ends(int(journal.wait_for("child").split()[1])), "what it started goes with it"


def test_a_call_that_waits_for_a_restart_can_be_cancelled():
    box = Box()
    with servers(box, by_hand("die"), restarts=Restarts(first_s=3_600, longest_s=3_600)):
        with pytest.raises(ToolError):
            box.run("die")
        waits = Running(box, "echo")
        waits.context.cancel()
        assert isinstance(waits.wait().error, ToolCancelledError)


def test_a_server_that_keeps_dying_is_given_up_and_taken_up_again(capsys: pytest.CaptureFixture[str]):
    box = Box()
    restarts = Restarts(most=2, within_s=1.0, first_s=0.0)
    with logs.configured("error"), servers(box, by_hand("die"), restarts=restarts):
        said, ends = [], time.monotonic() + WAIT_S
        while not said or "does not work" not in said[-1]:
            assert time.monotonic() < ends
            with pytest.raises(ToolError) as caught:
                box.run("die")
            said.append(str(caught.value))
        assert len(said) == 4, "it was there once, and twice again"
        assert "it was started again 2 times within 1 s: it ended with exit code 7" in said[-1]
        while "does not work" in said[-1]:
            assert time.monotonic() < ends
            with pytest.raises(ToolError) as caught:
                box.run("die")
            said.append(str(caught.value))
    assert "server_given_up" in capsys.readouterr().err


def test_success_is_an_answered_call_not_a_handshake():
    restarts = Restarts(most=99)
    assert [restarts.take(0) for _ in range(8)] == [0.25, 0.5, 1, 2, 4, 8, 15, 15]
    restarts.worked()
    assert restarts.take(0) == 0.25
    few = Restarts(most=2, within_s=10)
    few.take(0), few.take(5)
    assert [few.allowed(at) for at in (9, 10, 11)] == [False, True, True]


# --- the end ----------------------------------------------------------------------------------------------------------


def test_a_server_that_does_not_want_to_end_is_ended_with_all_it_started(journal: Journal):
    box = Box()
    running = servers(box, by_hand("deaf", journal=journal))
    running.start()
    pids = {int(journal.wait_for("child").split()[1]), int(journal.wait_for("start").split()[1])}
    call = Running(box, "deaf")
    journal.wait_for("call deaf")
    began = time.monotonic()
    running.close(1.0)
    running.close(1.0)
    assert time.monotonic() - began < 1.5
    assert all(map(ends, pids))
    assert isinstance(call.wait().error, ToolCancelledError)
    with pytest.raises(ClosedError):
        box.run("echo")
    with pytest.raises(ClosedError):
        running.resources()


def test_closing_while_servers_start(journal: Journal):
    running = servers(Box(), by_hand("silent", journal=journal, start_timeout_s=600))
    errors: list[Exception] = []

    def start() -> None:
        try:
            running.start()
        except Exception as error:
            errors.append(error)

    starting = threading.Thread(target=start)
    starting.start()
    pid = int(journal.wait_for("start").split()[1])
    running.close()
    starting.join(WAIT_S)
    assert [type(error) for error in errors] == [ClosedError]
    assert ends(pid)


def test_closing_what_never_started_and_starting_what_is_closed():
    running = servers(Box(), by_hand())
    running.close()
    with pytest.raises(ClosedError):
        running.start()


def test_no_servers_at_all():
    with servers(Box()) as running:
        assert (running.resources(), running.prompts()) == ((), ())


def test_a_publisher_that_fails_takes_no_server_down():
    def fail(_source: str, _tools: object) -> None:
        raise OSError("no room")

    from realtime_client.tools.mcp.servers import McpServers

    with McpServers([by_hand()], fail) as running:
        assert running.prompts()[0].server == "hand"
        os.sched_yield()


def test_a_server_whose_tools_never_stop_changing_is_asked_ever_more_rarely(monkeypatch: pytest.MonkeyPatch):
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 9:
            raise asyncio.CancelledError

    async def list_tools() -> None:
        link._changed.set()

    link = Link(by_hand(), {})
    link.list_tools = list_tools  # type: ignore[method-assign]
    link._changed.set()
    monkeypatch.setattr(link_module, "asyncio", SimpleNamespace(sleep=sleep))
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(link._follow(bool))
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
