"""However a chat, or any other command, is ended: it ends, with the right code, and what is on disk is finished."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import cli_helpers
import pytest
from cli_helpers import COMMAND, LIMIT_S, Terminal, realtime, started
from scripted_server import Peer, ScriptedServer
from talking_server import TalkingServer

CTRL_C = "\x03"
_STUCK = """
import sys, threading
from realtime_client.cli import main
from realtime_client.client.client import RealtimeClient
RealtimeClient.close = lambda self: threading.Event().wait()
sys.exit(main())
"""
_BROKEN = "from realtime_client.cli.line_screen import LineScreen; LineScreen._interrupted = lambda self: 1 / 0"
_GUARDED = """
import sys, threading
from realtime_client.cli import interruption
interruption.HURRY_S = {hurry_s}
from realtime_client.cli.interruption import SignalledError
came, take = [], interruption.Interruption.on_signal
interruption.Interruption.on_signal = lambda self, which, count: came.append(which) or take(self, which, count)
try:
    with interruption.interruption({grace_s}) as state:
        state.at_force = lambda: print("by signal", len(came), flush=True)
        if {count} > 0:
            seen = []
            state.handle(lambda which: seen.append(which) or len(seen) > {count})
        print("ready", flush=True)
        threading.Event().wait()
except SignalledError as error:
    sys.exit(128 + error.which)
"""


def guarded(*, grace_s: float = 60, hurry_s: float = 60, count: int = 0) -> list[str]:
    """A program that never ends by itself. count: so many signals are used for something else."""
    return [sys.executable, "-c", _GUARDED.format(grace_s=grace_s, hurry_s=hurry_s, count=count)]


@pytest.mark.parametrize(
    ("program", "sent", "code"),
    [
        (guarded(grace_s=0.1), [signal.SIGTERM], 143),
        (guarded(grace_s=0.1), [signal.SIGHUP], 129),
        (guarded(hurry_s=0.1), [signal.SIGINT, signal.SIGTERM], 130),
        (guarded(), [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], 143),
        (guarded(count=2), [signal.SIGINT] * 5, 130),
    ],
    ids=["the time is over", "the time after a hang-up", "hurried", "forced", "two were for something else"],
)
def test_what_hangs_is_ended(program, sent, code):
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            for which in sent[:-1]:
                process.send_signal(which)
                _wait_until_taken(process.pid, which)
            process.send_signal(sent[-1])
            told, errors = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()
    assert process.returncode == code
    assert told == f"by signal {len(sent)}\n", "one signal less ends nothing"
    assert errors == "realtime: ended by force: it did not end by itself in time\n"


def _wait_until_taken(pid: int, which: signal.Signals) -> None:
    """A signal that is still pending swallows the next one of its kind."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:  # it has ended
            return
        pending = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("ShdPnd", "SigPnd"))]
        if not any(mask >> (which - 1) & 1 for mask in pending):
            return
    raise AssertionError(f"{which.name} was never taken")


def test_a_chat_whose_closing_hangs_ends_by_signals_and_gives_the_terminal_back(monkeypatch):
    monkeypatch.setattr(cli_helpers, "COMMAND", [sys.executable, "-c", _STUCK])
    with TalkingServer() as server, Terminal("chat", "--text", "--no-record", "--url", server.url) as terminal:
        terminal.wait_for(".quit to end\n>")
        terminal.type(CTRL_C)
        terminal.wait_for("[Ctrl-C again to quit]")
        terminal.type(CTRL_C)
        ends = time.monotonic() + LIMIT_S
        while not termios.tcgetattr(terminal._master)[3] & termios.ECHO:  # until the editor has ended
            assert time.monotonic() < ends
        for which in (signal.SIGINT, signal.SIGTERM):  # the program is ending: one to hurry, one to force
            terminal.signal(which)
            _wait_until_taken(terminal.process.pid, which)
        assert terminal.wait_end() == 130
        assert "ended by force" in terminal.text


def test_a_chat_whose_editor_hangs_ends_by_sigterm_with_its_files(tmp_path, monkeypatch):
    send = "RealtimeClient.send_text = lambda self, text: print(text, 'is stuck', flush=True) or "
    stuck = _STUCK.replace("RealtimeClient.close = lambda self: ", send)
    monkeypatch.setattr(cli_helpers, "COMMAND", [sys.executable, "-c", stuck])
    folder = tmp_path / "rec"
    options = ("--text", "--record-dir", str(folder), "--close-timeout", "0.5")
    with TalkingServer() as server, Terminal("chat", *options, "--url", server.url, columns=200) as terminal:
        terminal.wait_for(".quit to end\n>")
        before = termios.tcgetattr(terminal._master)
        assert not before[3] & termios.ECHO
        terminal.type("hello\r")
        terminal.wait_for("hello is stuck")
        terminal.signal(signal.SIGTERM)
        wait_for_end(folder)  # before the process ends: the session is closed without the editor
        for _ in range(2):
            terminal.signal(signal.SIGTERM)
            _wait_until_taken(terminal.process.pid, signal.SIGTERM)
        assert terminal.wait_end() == 143
        assert termios.tcgetattr(terminal._master)[3] & termios.ECHO, "the terminal is as it was"


def test_a_fault_of_the_screen_ends_the_chat_with_one_line(monkeypatch):
    broken = _STUCK.replace("RealtimeClient.close = lambda self: threading.Event().wait()", _BROKEN)
    monkeypatch.setattr(cli_helpers, "COMMAND", [sys.executable, "-c", broken])
    with TalkingServer() as server, Terminal("chat", "--text", "--no-record", "--url", server.url) as terminal:
        terminal.wait_for(".quit to end\n>")
        terminal.type(CTRL_C)
        assert terminal.wait_end() == 70
        assert "realtime: unexpected ZeroDivisionError" in terminal.text


def session_of(folder: Path) -> dict:
    (session,) = folder.iterdir()
    return json.loads((session / "session.json").read_text())


def wait_for_end(folder: Path) -> None:
    ends = time.monotonic() + LIMIT_S
    while session_of(folder).get("ended") is None:
        assert time.monotonic() < ends, session_of(folder)


# A terminal that is closed.


@pytest.mark.parametrize("term", ["xterm", "dumb"])
@pytest.mark.parametrize("owned", [True, False], ids=["with SIGHUP", "without"])
def test_a_closed_terminal_ends_a_chat_with_129_and_its_files(tmp_path, monkeypatch, term, owned):
    if not owned:  # not the terminal's own session: no signal comes, there is only an end of file
        monkeypatch.setattr(cli_helpers, "_TAKE_TERMINAL", "import os, sys; os.execv(sys.argv[1], sys.argv[1:])")
    folder = tmp_path / "rec"
    with TalkingServer() as server:
        options = ("--text", "--record-dir", str(folder), "--url", server.url)
        with Terminal("chat", *options, TERM=term, columns=200) as terminal:
            terminal.wait_for(".quit to end")
            server.words.put("Begun")
            terminal.type("hello\r" if term == "xterm" else "hello\n")
            terminal.wait_for("Begun")
            terminal.hang_up()
            for _ in range(20):
                server.words.put(" and on")
            assert terminal.process.wait(LIMIT_S) == 129
    assert session_of(folder)["how_it_ended"] == "closed"


def test_a_closed_terminal_ends_say_with_129():
    with TalkingServer() as server, Terminal("say", "hello", "--no-record", "--url", server.url) as terminal:
        server.words.put("Begun")
        terminal.wait_for("Begun")
        terminal.hang_up()
        for _ in range(20):
            server.words.put(" and on")
        assert terminal.process.wait(LIMIT_S) == 129


@pytest.mark.parametrize(("which", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_while_a_file_is_spoken_ends_in_order(tmp_path, which, code):
    """numpy, which reads the file before there is a session, starts no threads that would take the signal."""
    speech = Path(__file__).parent.parent / "scripts/scenarios/audio/weather_in_paris.ogg"
    folder = tmp_path / "rec"
    with started("say", "--local", "--paced", "--audio", str(speech), "--record-dir", str(folder)) as process:
        assert "recording into" in process.stderr.readline()
        process.send_signal(which)
        assert process.wait(LIMIT_S) == code
    assert session_of(folder)["how_it_ended"] == "closed"


def test_nohup_is_respected():
    program = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *COMMAND, "serve"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("ws://")
            process.send_signal(signal.SIGHUP)
            process.send_signal(signal.SIGTERM)
            assert process.wait(LIMIT_S) == 0
        finally:
            process.kill()


# A fault is told once.


@pytest.mark.parametrize("command", [["say", "hello"], ["chat"]])
def test_a_refused_session_is_told_once(tmp_path, command):
    def refuse(peer: Peer) -> None:
        error = {"type": "invalid_request_error", "code": "invalid_api_key", "message": "No such key."}
        peer.send(type="error", event_id="e", error=error)
        peer.websocket.close(3000, "invalid_request_error.invalid_api_key")

    log = tmp_path / "log"
    with ScriptedServer(refuse) as server:
        options = ("--no-record", "--url", server.url)
        once = realtime(*command, *options, stdin="hello")
        more = realtime(*command, *options, "-v", stdin="hello")
        filed = realtime(*command, *options, "--log-file", str(log), stdin="hello")
    assert once.stderr.count("No such key.") == 1
    assert len(once.stderr.splitlines()) == 1
    assert more.stderr.count("No such key.") > 1
    assert filed.stderr == once.stderr
    assert "No such key." in log.read_text()


def test_a_lost_connection_is_told_once():
    def lose(peer: Peer) -> None:
        peer.greet()
        event = peer.receive("session.update")
        peer.send(type="session.updated", event_id="e", session=event["session"])
        peer.receive("response.create")
        peer.drop()

    with ScriptedServer(lose) as server:
        done = realtime("say", "hello", "--no-record", "--url", server.url, "--reconnect", "0")
        again = realtime("say", "hello", "--no-record", "--url", server.url)
    assert done.returncode == again.returncode == 4
    assert len(done.stderr.splitlines()) == 2, "the greeting, and what ended it"
    assert again.stderr.splitlines()[-1].endswith("the connection was lost before the answer came; ask again")


# Only text.


@pytest.mark.parametrize(
    ("args", "modality"),
    [
        (["say", "hello", "--text"], "text"),
        (["say", "hello", "--text-only"], "text"),
        (["say", "hello"], "audio"),
        (["chat", "--text"], "text"),
        (["chat"], "audio"),
    ],
)
def test_only_text_is_asked_for_where_that_is_wanted(args, modality):
    with TalkingServer("Hello.") as server:
        done = realtime(*args, "--no-record", "--url", server.url, stdin="hello")
        update = server.seen.get(timeout=5)
    assert (done.returncode, done.stdout) == (0, "Hello.\n")
    assert update["session"]["output_modalities"] == [modality]


@pytest.mark.parametrize(
    ("args", "portaudio", "modality"),
    [
        (["--text"], True, "text"),
        ([], True, "text"),  # a speaker that is plugged in asks for audio
        ([], False, "text"),
        (["--modality", "audio"], False, "audio"),
    ],
)
def test_a_chat_that_nobody_can_hear_asks_for_text(tmp_path, args, portaudio, modality):
    (tmp_path / "asound.conf").write_text("pcm.none { type hw card 77 }\n")
    sound = {"ALSA_CONFIG_PATH": str(tmp_path / "asound.conf"), "PULSE_SERVER": f"unix:{tmp_path}/none"}
    if not portaudio:
        (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')\n")
        sound["PYTHONPATH"] = str(tmp_path)
    with TalkingServer() as server:
        with Terminal("chat", *args, "--no-record", "--url", server.url, **sound) as terminal:
            terminal.wait_for(".quit to end\n>")
            update = server.seen.get(timeout=5)
            terminal.type(".quit\r")
            assert terminal.wait_end() == 0
    assert update["session"]["output_modalities"] == [modality]


def test_text_has_one_flag():
    shown = realtime("say", "--help").stdout
    assert "--text " in shown
    assert "--text-only" not in shown
    done = realtime("say", "hello", "--text", "--modality", "audio")
    assert (done.returncode, done.stderr) == (2, "realtime: --text and --modality audio exclude each other\n")
    assert os.environ.get("REALTIME_MODALITY") is None
    assert realtime("settings", "--text", "--json").returncode == 0


def test_ctrl_c_while_piped_input_is_read_ends_it():
    with started("chat", "--no-record") as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=LIMIT_S) in (-signal.SIGTERM, 143)
