"""Tools in chat and say: what is shown of calls, questions whether one is allowed, what is remembered, what is printed."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import stat
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import LIMIT_S, Terminal, realtime, started
from scripted_server import SESSION, Peer, ScriptedServer
from text_server import TextServer, answers, delta, ends, in_turn, stream
from tool_helpers import Scripted

from realtime_client import updates as up
from realtime_client.cli import main
from realtime_client.cli.chat import Chat
from realtime_client.cli.pins import Pins
from realtime_client.cli.plain_screen import PlainScreen
from realtime_client.cli.tool_lines import RARELY_S, ToolLines, call_text, finished_text, progress_text, question
from realtime_client.cli.tool_prints import tool_prints
from realtime_client.errors import UsageError
from realtime_client.local import LocalServer
from realtime_client.local.brain import CallTool
from realtime_client.local.parts import Parts
from realtime_client.lock import hold
from realtime_client.session.tooling import NOBODY, ToolView
from realtime_client.tools import memory as memory_module
from realtime_client.tools.memory import FileMemory, UnreadableError

EVIL = "\x1b]0;owned\x07\x1b[31m\u202ered\r\n"
SEEN = "]0;owned[31mred"  # what is left of it


def call(call_id: str = "c1", name: str = "look", arguments: str = "{}") -> up.ToolCall:
    return up.ToolCall(response_id="r", item_id="i", call_id=call_id, name=name, arguments=arguments)


def asked(request_id: str = "c1", name: str = "look", **more: Any) -> up.ApprovalRequested:
    return up.ApprovalRequested(request_id=request_id, name=name, **{"arguments": "{}", "origin": "a.py", **more})


def finished(status: str = "completed", call_id: str = "c1", name: str = "look", **more: Any) -> up.ToolFinished:
    return up.ToolFinished(call_id=call_id, name=name, status=status, **more)


def progress(text: str = "", done: float | None = None, total: float | None = None) -> up.ToolProgress:
    return up.ToolProgress(call_id="c1", name="look", text=text, done=done, total=total)


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "shown"),
    [
        ("get_weather", '{"city": "Paris"}', 'get_weather({"city": "Paris"})'),
        ("look", "a" * 200, f"look({'a' * 200})"),
        ("look", "a" * 54_321, f"look({'a' * 200}... (54,321 characters))"),
        (EVIL, EVIL, f"{SEEN}({SEEN})"),
        ("n" * 99, "", f"{'n' * 61}...()"),
    ],
)
def test_a_call_is_shown_in_full_if_it_is_short_and_never_raw(name, arguments, shown):
    assert call_text(name, arguments) == shown


@pytest.mark.parametrize(
    ("update", "line"),
    [
        (finished(duration_ms=1234.0), "[look done in 1.2 s]"),
        (finished(duration_ms=12.0), "[look done in 12 ms]"),
        (finished("failed", error="disk full"), "[look failed: disk full]"),
        (finished("timed_out", error="it took longer than 3 s"), "[look timed out: it took longer than 3 s]"),
        (finished("cancelled", error=""), "[look cancelled]"),
        (finished("invalid", error="there is no tool look"), "[look not run: there is no tool look]"),
        (finished("refused", error=NOBODY), f"[look refused: {NOBODY}; --approve look=always allows it]"),
        (finished("refused", name="a b", error=NOBODY), f"[a b refused: {NOBODY}; --approve 'a b=always' allows it]"),
        (finished("failed", name=EVIL, error=EVIL), f"[{SEEN} failed: {SEEN}]"),
    ],
)
def test_how_a_call_ended(update, line):
    assert finished_text(update) == line


@pytest.mark.parametrize(
    ("update", "line"),
    [
        (progress(), "[look ...]"),
        (progress("page 3"), "[look: page 3]"),
        (progress("page 3", 3, 12), "[look: page 3, 25%]"),
        (progress("", 3), "[look: 3]"),
        (progress("", 3, 0), "[look: 3]"),
        (progress("", 30, 12), "[look: 100%]"),
        (progress("", math.nan, 1), "[look ...]"),
        (progress("", 1, math.inf), "[look: 1]"),
        (progress(EVIL), f"[look: {SEEN}]"),
    ],
)
def test_how_far_a_call_is(update, line):
    assert progress_text(update) == line


def test_a_question_names_call_origin_and_place():
    assert question(asked(arguments='{"a": 1}')) == '[allow look({"a": 1}) from a.py? y, n, always, never]'
    remote = asked(origin="mcp shop", remote=True)
    shown = "[1 of 2: allow look({}) from mcp shop, run by the model's server? y, n, always, never]"
    assert question(remote, of=2) == shown
    assert "\x1b" not in question(asked(name=EVIL, arguments=EVIL, origin=EVIL))


# --- a chat, with a session and a screen that note what is asked of them ----------------------------------------------


class Tooling:
    """busy: how many calls are open."""

    def __init__(self) -> None:
        self.busy = 0
        self.cancelled: list[str | None] = []

    def cancel(self, call_id: str | None = None) -> int:
        self.cancelled.append(call_id)
        return self.busy

    def tools(self) -> list[ToolView]:
        return [ToolView("look", "a.py", "always"), ToolView("pay", "mcp shop", "ask")]


class Session:
    def __init__(self) -> None:
        self.answering = False
        self.error = None
        self.facts = up.Facts()
        self.tooling: Any = Tooling()
        self.sent: list[str] = []
        self.decided: list[tuple[str, bool, bool]] = []

    def send_text(self, text: str) -> None:
        self.sent.append(text)

    def cancel(self) -> bool:
        return self.answering

    def approve(self, request_id: str, *, approve: bool, reason: str | None = None, remember: bool = False) -> None:
        if request_id == "gone":
            raise UsageError("no call 'gone' waits to be allowed")
        self.decided.append((request_id, approve, remember))


class Screen:
    hung_up = False

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.pins: dict[str, str] = {}
        self.stopped = False

    def notice(self, text: str) -> None:
        self.lines.append(text)

    def echo(self, line: str) -> None:
        self.lines.append(f"> {line}")

    def pin(self, key: str, text: str, *, passing: bool = False) -> None:
        self.pins[key] = text

    def unpin(self, key: str) -> None:
        self.pins.pop(key, None)

    def stop(self) -> None:
        self.stopped = True


class Hand:
    """A clock that is moved by hand."""

    now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s

    wall = monotonic


class Stage:
    def __init__(self) -> None:
        self.session, self.screen, self.clock = Session(), Screen(), Hand()
        self.chat = Chat(self.session, self.screen, clock=self.clock)  # type: ignore[arg-type]

    def see(self, *updates: up.Update) -> None:
        for update in updates:
            self.chat.observe(update, 0.0)


def test_a_call_from_its_beginning_to_its_end():
    stage = Stage()
    stage.see(call(arguments='{"city": "Paris"}'))
    assert stage.screen.lines == ['[calls look({"city": "Paris"})]']
    stage.see(up.ToolStarted(call_id="c1", name="look"))
    assert stage.screen.pins == {"c1": "[look ...]"}
    stage.see(progress("page 3"))
    assert stage.screen.pins == {"c1": "[look: page 3]"}
    stage.see(finished(duration_ms=1200.0))
    assert (stage.screen.pins, stage.screen.lines[1:]) == ({}, ["[look done in 1.2 s]"])


@pytest.mark.parametrize(
    ("typed", "decision"),
    [
        ("y", (True, False)),
        ("YES", (True, False)),
        ("n", (False, False)),
        ("no", (False, False)),
        ("always", (True, True)),
        ("Never", (False, True)),
        ("yes please", None),
        ("nope", None),
        (".stats", None),
    ],
)
def test_what_answers_a_question_and_what_is_said_to_the_model(typed, decision):
    stage = Stage()
    stage.session.stats = lambda: (_ for _ in ()).throw(UsageError("no figures"))
    stage.see(call(), asked())
    stage.chat.line(typed)
    assert stage.session.decided == ([("c1", *decision)] if decision else [])
    assert stage.session.sent == ([] if decision or typed.startswith(".") else [typed])
    assert stage.screen.pins == ({} if decision else {"question": question(asked())})


def test_without_a_question_yes_is_said_to_the_model():
    stage = Stage()
    stage.chat.line("yes")
    assert (stage.session.sent, stage.session.decided) == (["yes"], [])


def test_a_line_that_was_being_typed_when_the_question_came_is_meant_for_the_model():
    stage = Stage()
    stage.chat.typed()
    stage.see(call(), asked())
    stage.chat.line("yes")
    assert (stage.session.sent, stage.session.decided) == (["yes"], [])
    stage.chat.typed()
    stage.chat.line("y")
    assert stage.session.decided == [("c1", True, False)]


def test_a_line_that_was_meant_for_a_question_before_answers_no_other_one_with_its_id():
    stage = Stage()
    stage.see(call(), asked(arguments='{"harmless": 1}'))
    stage.chat.typed()
    stage.see(finished("refused", error="nobody answered"), call(), asked(arguments='{"wipe": 1}'))
    stage.chat.line("y")
    assert (stage.session.sent, stage.session.decided) == (["y"], [])


def test_questions_are_asked_one_after_the_other_the_oldest_first():
    stage = Stage()
    stage.see(call("c1", "a"), call("c2", "b"), call("c3", "c"), asked("c1", "a"), asked("c2", "b"), asked("c3", "c"))
    assert stage.screen.pins == {"question": question(asked("c1", "a"), of=3)}
    stage.chat.line("y")
    assert stage.screen.pins == {"question": question(asked("c2", "b"), of=2)}
    stage.see(up.ApprovalDecided(request_id="c2", name="b", approved=True))  # somewhere else
    assert stage.screen.pins == {"question": question(asked("c3", "c"))}
    stage.chat.line("n")
    stage.see(finished("refused", "c3", "c", error="the user did not allow it"))
    assert (stage.screen.pins, stage.session.decided) == ({}, [("c1", True, False), ("c3", False, False)])
    assert stage.screen.lines[-4:] == ["> y", "[b allowed]", "> n", "[c refused: the user did not allow it]"]


def test_a_question_that_times_out_or_whose_call_ends_is_taken_off_the_screen():
    stage = Stage()
    stage.see(
        call(), asked(), up.ApprovalDecided(request_id="c1", name="look", approved=False, reason="nobody answered")
    )
    assert stage.screen.pins == {}
    stage.see(finished("refused", error="nobody answered"), call("c2"), asked("c2"), finished("cancelled", "c2"))
    assert (stage.screen.pins, stage.screen.lines[-1]) == ({}, "[look cancelled]")
    assert stage.screen.lines.count("[look refused: nobody answered]") == 1


def test_a_question_of_the_models_server_is_asked_alike():
    stage = Stage()
    stage.see(asked("m1", remote=True))
    stage.chat.line("always")
    stage.see(up.ApprovalDecided(request_id="m1", name="look", approved=True))
    assert stage.session.decided == [("m1", True, True)]
    stage.see(asked("m2", remote=True), up.ApprovalDecided(request_id="m2", name="look", approved=False, reason="why"))
    assert (stage.screen.pins, stage.screen.lines[-1]) == ({}, "[look refused: why]")


def test_an_answer_that_comes_too_late_is_told():
    stage = Stage()
    stage.see(asked("gone"))
    stage.chat.line("y")
    assert stage.screen.lines[-1] == "[no call 'gone' waits to be allowed]"


def test_ctrl_c_stops_the_answer_then_cancels_what_tools_do_then_asks():
    stage = Stage()
    stage.session.answering, stage.session.tooling.busy = True, 1
    stage.chat.interrupt()
    assert stage.session.tooling.cancelled == []
    stage.session.answering = False
    stage.chat.interrupt()
    assert stage.session.tooling.cancelled == [None]
    assert "[Ctrl-C again to quit]" not in stage.screen.lines
    stage.session.tooling.busy = 0
    stage.chat.interrupt()
    assert stage.screen.lines[-1] == "[Ctrl-C again to quit]"


def test_a_chat_waits_for_tools_when_its_input_is_at_its_end():
    stage = Stage()
    assert not stage.chat.goes_on()
    stage.session.tooling.busy = 1
    assert stage.chat.goes_on()


def test_tools_lists_tools_with_their_verdicts_and_open_calls_and_cancels_by_number():
    stage = Stage()
    stage.see(call("c1"), call("c2", "pay"), call("c3"), up.ToolStarted(call_id="c1", name="look"), asked("c2", "pay"))
    stage.see(progress("page 3"))
    stage.clock.now_s += 2.5
    stage.chat.line(".tools")
    assert stage.screen.lines[-1].splitlines() == [
        "  always  look  a.py",
        "  ask     pay   mcp shop",
        "[call 1: look({}): 2.5 s, page 3]",
        "[call 2: pay({}): is asked about]",
        "[call 3: look({}): waits]",
    ]
    stage.session.tooling.busy = 1
    stage.chat.line(".tools cancel 3")
    stage.chat.line(".tools cancel")
    assert stage.session.tooling.cancelled == ["c3", None]
    stage.see(finished("cancelled", "c3"))
    assert stage.screen.lines[-1] == "[look cancelled; call 3]", "another call of that name is open"


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (".tools cancel 7", "[no call 7 is open; .tools lists them]"),
        (".tools cancel", "[no tool is at work]"),
        (".tools stop", "[.tools lists the tools; .tools cancel [N] cancels all calls, or number N]"),
    ],
)
def test_what_tools_cannot_do_is_told(typed, line):
    stage = Stage()
    stage.chat.line(typed)
    assert stage.screen.lines[-1] == line


# --- screens ----------------------------------------------------------------------------------------------------------


def test_a_screen_that_cannot_redraw_shows_progress_rarely_and_questions_at_once(capsys):
    clock = Hand()
    screen = PlainScreen(clock)  # type: ignore[arg-type]
    for text in ("[a ...]", "[a: 1]"):
        screen.pin("c1", text, passing=True)
    clock.now_s += RARELY_S
    for text in ("[a: 2]", "[a: 3]"):
        screen.pin("c1", text, passing=True)
    screen.pin("question", "[allow?\x1b[31m]")
    screen.unpin("question")
    screen.unpin("c1")
    assert capsys.readouterr().err.splitlines() == ["[a: 2]", "[allow?[31m]"]


def test_pinned_lines_get_few_rows():
    pins = Pins()
    assert not pins
    pins.put("question", "[allow this?]", passing=False)
    for number in range(7):
        pins.put(f"c{number}", f"[call {number} " + "x" * 30, passing=True)
    rows = pins.shown(12).splitlines()
    assert rows == [*(f"[call {n} x..." for n in range(4)), "[... and 3 more]", "[allow", "this?]"]
    pins.drop("question")
    assert len(pins.shown(12).splitlines()) == 5


# --- say --------------------------------------------------------------------------------------------------------------


TOOLS = '''
import os, sys, threading
from realtime_client.tools import Progress, ToolContext, tool

@tool(reads=True)
def get_weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"It is sunny in {city}."

@tool
def send_mail(to: str) -> str:
    """Send a mail to somebody."""
    print("to out")
    sys.stdout.write("to stdout\\n")
    print("to err \\x1b[31m", file=sys.stderr)
    os.system("echo from a program")
    return f"sent to {to}"

@tool(reads=True)
def long_report(topic: str, context: ToolContext) -> str:
    """Write a long report about a topic."""
    context.progress("page \\x1b]0;owned\\x07 1", 1, 4)
    context.wait(60)
    return "never"

@tool(reads=True)
def deaf_search(word: str) -> str:
    """Search for a word."""
    threading.Event().wait(60)
    return "never"
'''


@pytest.fixture
def tools(tmp_path: Path) -> str:
    (tmp_path / "tools.py").write_text(TOOLS)
    return str(tmp_path / "tools.py")


def say(tools: str, text: str, *args: str):
    return realtime("say", text, "--local", "--text", "--no-record", "--tools", tools, *args)


def test_say_shows_the_calls_on_stderr_and_the_answer_after_the_results_on_stdout(tools):
    done = say(tools, "tell the weather in Paris")
    assert (done.returncode, done.stdout) == (0, "The tool says: It is sunny in Paris.\n")
    assert '[calls get_weather({"city": "Paris"})]\n[get_weather done in ' in done.stderr


def test_say_refuses_what_would_be_asked_about_and_says_how_to_allow_it(tools):
    done = say(tools, "send a mail to Bob")
    assert f"[send_mail refused: {NOBODY}; --approve send_mail=always allows it]" in done.stderr
    allowed = say(tools, "send a mail to Bob", "--approve", "send_mial=never", "--approve", "tools.py/*=always")
    assert [line for line in allowed.stderr.splitlines() if "no tool fits" in line] == [
        "no tool fits --approve send_mial=never"
    ]
    assert allowed.stdout == "The tool says: sent to Bob.\n"


def test_what_a_tool_prints_goes_to_stderr_line_by_line(tools):
    done = say(tools, "send a mail to Bob", "--approve", "always")
    assert done.stdout == "The tool says: sent to Bob.\n"
    lines = done.stderr.splitlines()
    assert {"| to out", "| to stdout", "| to err [31m", "from a program"} <= set(lines)
    assert "\x1b" not in done.stderr


def test_json_has_the_calls_with_their_status(tools):
    told = json.loads(say(tools, "tell the weather in Paris", "--json").stdout)
    (call,) = told["calls"]
    assert (call["name"], json.loads(call["arguments"]), call["status"], call["error"]) == (
        "get_weather", {"city": "Paris"}, "completed", None,
    )  # fmt: skip
    assert call["duration_ms"] >= 0
    assert told["text"] == "The tool says: It is sunny in Paris."


@pytest.mark.parametrize("word", ["long report about cats", "search for deaf word"])
def test_ctrl_c_ends_say_at_once_though_a_tool_works(tools, word):
    args = ("say", word, "--local", "--text", "--no-record", "--tools", tools)
    with started(*args) as process:
        while "[calls" not in (line := process.stderr.readline()):
            assert line, "no call"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=LIMIT_S / 3) == 130
        assert "Traceback" not in process.stderr.read()


def tool_call(name: str, arguments: str = "{}") -> bytes:
    function = {"name": name, "arguments": arguments}
    return delta(tool_calls=[{"index": 0, "id": "call_1", "type": "function", "function": function}])


def test_an_answer_of_calls_alone_is_none(tools, capsys):
    brain = Scripted([CallTool("get_weather", '{"city": "Rome"}')], [])
    with LocalServer(parts=Parts(brain=brain)) as server:
        code = main(["say", "Hi?", "--text", "--url", server.url, "--no-record", "--tools", tools])
    assert code == 1
    assert "there is no answer: the model called tools, and said nothing to their results" in capsys.readouterr().err


def test_a_hostile_call_of_a_text_model_reaches_no_terminal(tools, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789abcdefghij")
    calls = stream(tool_call("x" + EVIL, json.dumps({"a": EVIL}, ensure_ascii=False)), ends("tool_calls"))
    with TextServer(in_turn(calls, answers("Fine."))) as server:
        code = main(["say", "Hi?", "--model", "openai/test", "--url", server.url, "--no-record", "--tools", tools])
    out, err = capsys.readouterr()
    assert (code, out) == (0, "Fine.\n")
    assert "\x1b" not in err
    assert "\x07" not in err
    assert "not run: there is no tool" in err


def test_a_session_that_only_writes_down_refuses_tools(tools):
    def writes_down(peer: Peer) -> None:
        peer.greet()
        peer.receive("session.update")
        peer.send(type="session.updated", event_id="e", session=SESSION | {"type": "transcription"})
        peer.read_all()

    with ScriptedServer(writes_down) as server:
        done = realtime("say", "Hi?", "--url", server.url, "--no-record", "--tools", tools)
    assert done.returncode == 2
    assert "calls no tools in this session: leave out --tools and --mcp" in done.stderr


class Refusing:
    """A session without tools of its own, whose server asks."""

    tooling = None

    def __init__(self) -> None:
        self.decided: list[tuple[str, bool, str | None]] = []

    def approve(self, request_id: str, *, approve: bool, reason: str | None = None) -> None:
        self.decided.append((request_id, approve, reason))


def test_where_nobody_can_be_asked_a_call_of_the_models_server_is_refused():
    session, told = Refusing(), []
    lines = ToolLines(session, told.append)  # type: ignore[arg-type]
    lines.take(asked("m1", "pay", remote=True))
    assert session.decided == [("m1", False, NOBODY)]
    assert told == [f"[pay refused: {NOBODY}; --approve pay=always allows it]"]


def test_lines_about_progress_are_rare():
    clock, told = Hand(), []
    lines = ToolLines(Refusing(), told.append, clock=clock)  # type: ignore[arg-type]
    lines.take(call())
    lines.take(up.ToolStarted(call_id="c1", name="look"))
    for text in "ab":
        lines.take(progress(text))
    clock.now_s += RARELY_S
    for text in "cd":
        lines.take(progress(text))
    assert told == ["[calls look({})]", "[look: c]"]


def test_lines_of_several_threads_stay_whole_and_ours_go_through(capsys):
    shown: list[str] = []
    with tool_prints(shown.append):
        parts = threading.Barrier(2)

        def prints(word: str) -> None:
            for part in (word, word + "\n", word):
                parts.wait(LIMIT_S)
                sys.stdout.write(part)

        threads = [threading.Thread(target=prints, args=(w,), name=f"realtime-tool-{w}") for w in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT_S)
        sys.stdout.write("ours\n")
        assert sorted(shown) == ["| aa", "| bb"]
    assert sorted(shown) == ["| a", "| aa", "| b", "| bb"]
    assert capsys.readouterr().out == "ours\n"


# --- what is remembered -----------------------------------------------------------------------------------------------

KEYS = [f"a.py tool{n} 0123456789abcdef" for n in range(5)]


def test_decisions_are_kept_in_a_private_file_that_all_share(tmp_path):
    path = tmp_path / "new" / "approvals.json"
    FileMemory(path).put(KEYS[0], approve=True)
    FileMemory(path).put(KEYS[1], approve=False)
    other = FileMemory(path)
    assert (other.get(KEYS[0]), other.get(KEYS[1]), other.get(KEYS[2])) == (True, False, None)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert sorted(each.name for each in path.parent.iterdir()) == [".approvals.json.lock", "approvals.json"]


def test_the_oldest_decisions_go_first(tmp_path, monkeypatch):
    monkeypatch.setattr(memory_module, "_MOST", 3)
    memory = FileMemory(tmp_path / "a.json")
    for key in (*KEYS[:3], KEYS[0], KEYS[3]):
        memory.put(key, approve=True)
    assert [each.key for each in memory.all()] == [KEYS[2], KEYS[0], KEYS[3]]


def test_decisions_of_several_programs_at_once_are_all_kept(tmp_path):
    memories = [FileMemory(tmp_path / "a.json") for _ in range(4)]

    def put(number: int) -> None:
        for n in range(10):
            memories[number].put(f"a.py tool{number}-{n} 0", approve=True)

    threads = [threading.Thread(target=put, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert len(memories[0].all()) == 40


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "{}", '{"version": 2, "approvals": {}}', '{"version": 1, "approvals": {"a b c": 1}}', "[" * 9_999,
     '{"version": 1, "approvals": {"a": true}}', "\xff", " " * 3_000_000],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_left_as_it_is_and_told_once(tmp_path, caplog, content):
    path = tmp_path / "a.json"
    path.write_text(content, encoding="latin-1")
    memory = FileMemory(path)
    assert memory.get(KEYS[0]) is None
    memory.put(KEYS[0], approve=True)
    assert memory.get(KEYS[0]) is None
    assert path.read_text(encoding="latin-1") == content
    (told,) = [record.message for record in caplog.records if "nothing is remembered" in record.message]
    assert told.startswith(f"{path} is not what this program writes there: ")
    with pytest.raises(UnreadableError):
        memory.forget(lambda _each: True)


def test_what_cannot_be_written_is_told_and_nothing_fails(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(memory_module, "_WAIT_S", 0.0)
    memory = FileMemory(tmp_path / "a.json")
    lock = hold(tmp_path / ".a.json.lock")
    assert lock is not None
    memory.put(KEYS[0], approve=True)
    os.close(lock)
    FileMemory(Path("/dev/null/a.json")).put(KEYS[0], approve=True)
    memory.put("a.py " + "x" * 600 + " 0", approve=True)
    assert len([record for record in caplog.records if "a decision is not remembered" in record.message]) == 3
    assert memory.all() == []


def test_approvals_lists_and_forgets():
    memory = FileMemory()
    memory.put("weather.py get_weather 0", approve=True)
    memory.put(f"mcp time {EVIL.replace(' ', '')} 0", approve=False)
    listed = realtime("approvals")
    assert listed.stdout == f"always  get_weather from weather.py\nnever   {SEEN} from mcp time\n"
    rows = json.loads(realtime("approvals", "list", "--json").stdout)
    assert (rows["file"], rows["approvals"][0]["verdict"]) == (str(memory.path), "always")
    assert realtime("approvals", "forget", "nothing").returncode == 2
    assert realtime("approvals", "forget", "time/*").stdout.startswith("never ")
    assert [each.name for each in memory.all()] == ["get_weather"]
    memory.path.write_text("{")
    for words in ([], ["forget", "*"]):
        told = realtime("approvals", *words)
        assert (told.returncode, told.stderr) == (
            2, f"realtime: {memory.path} is not what this program writes there; correct or remove it\n",
        )  # fmt: skip


# --- in a terminal ----------------------------------------------------------------------------------------------------


def chat(tools: str, *args: str, **environ: str) -> Terminal:
    return Terminal("chat", "--local", "--text", "--no-record", "--tools", tools, *args, **environ)


@pytest.mark.parametrize("kind", ["xterm-256color", "dumb"])
def test_a_question_in_a_terminal_while_one_talks_on(tools, kind):
    with chat(tools, TERM=kind) as terminal:
        terminal.wait_for(".quit to end")
        terminal.type("send a mail to Bob\r")
        asked = '[allow send_mail({"to": "Bob"}) from tools.py? y, n, always, never]'
        terminal.wait_for(asked)
        terminal.type("hello there\r")
        terminal.wait_for("Hello!")
        terminal.type("always\r")
        terminal.wait_for("[send_mail allowed]")
        terminal.wait_for("The tool says: sent to Bob.")
        assert "| to out" in terminal.text
        if kind != "dumb":
            assert asked not in terminal.text
            assert "from a program" not in terminal.text
        terminal.type("send a mail to Al\r")
        terminal.wait_for("The tool says: sent to Al.")
        terminal.type(".tools\r")
        terminal.wait_for("always  send_mail    tools.py")
        terminal.type(".quit\r")
        assert terminal.wait_end() == 0


def test_a_slow_tool_in_a_terminal_is_cancelled_by_ctrl_c_before_it_asks_to_quit(tools):
    with chat(tools) as terminal:
        terminal.wait_for(".quit to end\n>")
        terminal.type("write a long report about cats\r")
        terminal.wait_for("[long_report: page ]0;owned 1, 25%]\n>")
        terminal.type("hello there\r")
        terminal.wait_for("Hello!")
        terminal.wait_for("[long_report: page ]0;owned 1, 25%]\n>", at_end=True)
        terminal.type("\x03")
        terminal.wait_for("[long_report cancelled: the user cancelled it]\n>")
        assert "25%" not in terminal.text
        assert "again to quit" not in terminal.text
        assert b"\x1b]0;" not in terminal.raw
        terminal.type("\x03")
        terminal.wait_for("[Ctrl-C again to quit]")
        terminal.type("\x03")
        assert terminal.wait_end() == 130


def test_a_piped_chat_refuses_and_says_how_to_allow(tools):
    done = realtime("chat", "--local", "--text", "--no-record", "--tools", tools, stdin="send a mail to Bob")
    assert done.returncode == 0
    assert "--approve send_mail=always allows it" in done.stderr


# --- MCP servers ------------------------------------------------------------------------------------------------------


def test_ctrl_c_ends_the_wait_for_a_server_that_does_not_answer(tmp_path):
    os.mkfifo(tmp_path / "up")
    server = f"sh -c 'echo up > {tmp_path}/up; exec sleep 60'"
    with started("say", "Hi?", "--local", "--text", "--no-record", "--mcp", server) as process:
        assert (tmp_path / "up").read_text() == "up\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=LIMIT_S) == 130
        told = process.stderr.read()
    assert re.fullmatch("(waiting for the MCP server .*\n)?", told)
