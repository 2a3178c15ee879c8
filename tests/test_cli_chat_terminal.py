"""`realtime chat` in a real terminal: typing while the answer streams in, dot-commands, the ways to end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from cli_helpers import LIMIT_S, Terminal, started
from scripted_server import Peer, ScriptedServer
from talking_server import END, TalkingServer

CTRL_C, CTRL_D = "\x03", "\x04"


def text_of(event: dict) -> str:
    """What a message for the server says in writing; '' for another one."""
    return event["item"]["content"][0]["text"] if event["type"] == "conversation.item.create" else ""


def no_sound(tmp_path) -> dict[str, str]:
    (tmp_path / "asound.conf").write_text("pcm.none { type hw card 77 }\n")  # PortAudio dies of an empty one
    return {"ALSA_CONFIG_PATH": str(tmp_path / "asound.conf"), "PULSE_SERVER": f"unix:{tmp_path}/none"}


@contextmanager
def chat(server: ScriptedServer, *args: str, **options) -> Iterator[Terminal]:
    with Terminal("chat", "--no-record", "--url", server.url, *args, **options) as terminal:
        terminal.wait_for(".quit to end" if options.get("TERM") == "dumb" else ".quit to end\n>")
        yield terminal


def read_until(terminal: Terminal, true: Callable[[], object], what: str) -> None:
    """Read what the program shows until something is true."""
    ends = time.monotonic() + LIMIT_S
    while not true():
        assert terminal._read(ends), f"{what} never came; the screen is\n{terminal.text}"


def test_the_answer_streams_in_while_one_types():
    with TalkingServer() as server, chat(server) as terminal:
        terminal.wait_for("talking to test-model at 127.0.0.1; nothing is recorded")
        terminal.type("hello\r")
        terminal.wait_for("> hello")
        server.words.put("One two")
        terminal.wait_for("> hello\nOne two\n>")
        terminal.type("unsent")
        terminal.wait_for("\n> unsent")
        server.words.put(" three.\nNext line")
        terminal.wait_for("> hello\nOne two three.\nNext line\n> unsent", at_end=True)
        server.words.put(END)
        terminal.type("\x15.quit\r")  # Ctrl-U clears the line
        assert terminal.wait_end() == 0
        assert "One two three.\nNext line" in terminal.text


def test_typed_text_interrupts():
    with TalkingServer() as server, chat(server) as terminal:
        server.words.put("A long story")
        terminal.type("tell me\r")
        terminal.wait_for("A long story")
        terminal.type("stop that\r")
        terminal.wait_for("A long story\n[interrupted]\n> stop that")
        server.say("Very well.")
        terminal.wait_for("> stop that\nVery well.")
        kinds = [server.seen.get(timeout=5)["type"] for _ in range(5)]
        terminal.type(CTRL_D)
        assert terminal.wait_end() == 0
    assert kinds == [
        "session.update", "conversation.item.create", "response.create", "conversation.item.create", "response.create",
    ]  # fmt: skip  # the cancel between them is read by the answer itself


@pytest.mark.parametrize("by", ["key", "signal"])
def test_ctrl_c_clears_the_line_then_stops_the_answer_then_asks_then_ends(by):
    with TalkingServer() as server, chat(server) as terminal:

        def ctrl_c() -> None:
            terminal.type(CTRL_C) if by == "key" else terminal.signal(signal.SIGINT)

        server.words.put("On and on")
        terminal.type("talk\r")
        terminal.wait_for("On and on")
        terminal.type("half a line")
        terminal.wait_for("\n> half a line", at_end=True)
        ctrl_c()
        terminal.wait_for("\n>", at_end=True)
        assert "[interrupted]" not in terminal.wait_for("On and on\n>")
        ctrl_c()
        terminal.wait_for("On and on\n[interrupted]\n>")
        ctrl_c()
        terminal.wait_for("[interrupted]\n[Ctrl-C again to quit]\n>")
        terminal.type("x")  # a letter, and its end: it is not the next key
        terminal.wait_for("\n> x", at_end=True)
        terminal.type("\x7f")
        terminal.wait_for("[Ctrl-C again to quit]\n>", at_end=True)
        ctrl_c()
        terminal.wait_for("[Ctrl-C again to quit]\n[Ctrl-C again to quit]\n>")
        ctrl_c()
        assert terminal.wait_end() == 130


def test_ctrl_c_ends_it_though_the_server_is_deaf():
    def deaf(peer: Peer) -> None:
        peer.greet()
        event = peer.receive("session.update")
        peer.send(type="session.updated", event_id="e", session=event["session"])
        peer.receive("response.create")
        peer.send(type="response.created", event_id="e", response={"id": "resp_1", "status": "in_progress"})
        peer.read_all()

    with ScriptedServer(deaf) as server, chat(server) as terminal:
        terminal.type("talk\r")
        terminal.wait_for("> talk")
        terminal.type(CTRL_C)
        terminal.type(CTRL_C)
        terminal.wait_for("[Ctrl-C again to quit]")
        terminal.type(CTRL_C)
        assert terminal.wait_end() == 130


def test_ctrl_c_twice_in_a_terminal_that_cannot_move_the_cursor():
    with TalkingServer() as server, chat(server, TERM="dumb") as terminal:
        terminal.type("half a line")
        terminal.wait_for("half a line")
        terminal.type(CTRL_C)
        terminal.wait_for("[Ctrl-C again to quit]")
        terminal.type(CTRL_C)
        assert terminal.wait_end() == 130


def test_without_a_terminal_nobody_is_asked(tmp_path):
    with TalkingServer() as server:
        with started(
            "chat", "--voice", "--no-record", "--url", server.url, env=os.environ | no_sound(tmp_path)
        ) as process:
            assert process.stderr is not None
            while ".quit to end" not in process.stderr.readline():
                pass
            process.send_signal(signal.SIGINT)
            process.wait(LIMIT_S)  # the end of its input would end it, too
            _, errors = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, errors) == (130, "")


@pytest.mark.parametrize("last", [".quit\r", ".exit\r", CTRL_D])
def test_ways_to_end_well(last):
    with TalkingServer() as server, chat(server) as terminal:
        terminal.type(last)
        assert terminal.wait_end() == 0


@pytest.mark.parametrize(("which", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_from_outside(which, code):
    with TalkingServer() as server, chat(server) as terminal:
        terminal.signal(which)
        assert terminal.wait_end() == code


def test_dot_commands():
    with TalkingServer() as server, chat(server, "--voice-name", "alloy") as terminal:
        terminal.type(".help\r")
        assert all(word in terminal.wait_for(".quit .exit") for word in (".save", ".voice", ".cancel", ".stats"))
        terminal.type(".nonsense\r")
        terminal.wait_for("[there is no command .nonsense; .help lists them]")
        terminal.type(".hepl\r")
        terminal.wait_for("[there is no command .hepl; did you mean .help?]")
        terminal.type(".save\r")
        terminal.wait_for("[nothing is recorded in this session (--no-record)]")
        terminal.type(".cancel\r")
        terminal.wait_for("[no answer is running]")
        terminal.type(".voice\r")
        terminal.wait_for("[the voice is alloy; .voice NAME changes it]")
        terminal.type(".voice marin\r")
        terminal.wait_for("[asked for the voice marin]")
        terminal.type(".stats\r")
        terminal.wait_for("traffic:")
        update = [server.seen.get(timeout=5) for _ in range(2)][1]
        assert update["session"]["audio"]["output"]["voice"] == "marin"
        terminal.type("...and so on\r")  # no command: a sentence
        server.say("Yes.")
        terminal.wait_for("> ...and so on\nYes.")
        terminal.type(CTRL_D)
        assert terminal.wait_end() == 0


def test_nothing_the_model_says_commands_the_terminal():
    with TalkingServer() as server, chat(server) as terminal:
        server.say("\x1b]0;owned\x07", "\x1b[2J\x9b2Jred\x1b[31m", "\u202eback", "\rover")
        terminal.type("go\r")
        terminal.wait_for("]0;owned[2J2Jred[31mbackover")
        terminal.type(CTRL_D)
        assert terminal.wait_end() == 0
        assert b"\x1b]0;" not in terminal.raw
        assert b"\x1b[31m" not in terminal.raw
        assert "\u202e".encode() not in terminal.raw


def test_a_lost_connection_ends_the_chat_with_its_code():
    def lose(peer: Peer) -> None:
        peer.greet()
        event = peer.receive("session.update")
        peer.send(type="session.updated", event_id="e", session=event["session"])
        peer.receive("response.create")
        peer.drop()

    with ScriptedServer(lose) as server, chat(server, "--reconnect", "0") as terminal:
        terminal.type("hello\r")
        assert terminal.wait_end() == 4
        assert terminal.text.splitlines()[-1].startswith("realtime: ")
        assert terminal.text.count("1006") == 1, "it is told once"


def test_a_session_that_the_server_ends_well_is_told():
    def end(peer: Peer) -> None:
        peer.greet()
        event = peer.receive("session.update")
        peer.send(type="session.updated", event_id="e", session=event["session"])
        peer.receive("session.update")
        peer.websocket.close(1000, "bye")

    with ScriptedServer(end) as server, chat(server) as terminal:
        terminal.type(".voice marin\r")
        assert terminal.wait_end() == 0
        assert "[the server ended the session (close code 1000: bye)]" in terminal.text


def test_long_answers_wrap_at_words_also_wide_ones():
    with TalkingServer() as server, chat(server, columns=30) as terminal:
        server.say(*[f"{word} " for word in ("\u4f60\u597d world " * 8).split()], "done.")
        terminal.type("go\r")
        shown = terminal.wait_for("done.")
        rows = [line for line in shown.splitlines() if line.startswith(("\u4f60", "world"))]
        assert sum(row.count("world") for row in rows) == 8
        terminal.type(CTRL_D)
        assert terminal.wait_end() == 0


def test_a_terminal_that_cannot_move_the_cursor_still_serves():
    with TalkingServer() as server, chat(server, TERM="dumb") as terminal:
        server.say("Plain", " answer.")
        terminal.type("hello\n")
        terminal.wait_for("Plain answer.")
        assert b"\x1b[" not in terminal.raw
        terminal.type(CTRL_D)
        assert terminal.wait_end() == 0


def test_log_lines_do_not_break_the_screen():
    with TalkingServer() as server, chat(server, "-v", columns=250) as terminal:
        server.words.put("Half a")
        terminal.type("go\r")
        terminal.wait_for("Half a")
        terminal.type("typed")
        terminal.wait_for("> typed")
        server.say(" sentence.")
        terminal.wait_for("response_done")
        terminal.wait_for("Half a sentence.")
        terminal.wait_for("\n> typed", at_end=True)
        terminal.type("\x15" + CTRL_D)
        assert terminal.wait_end() == 0


def test_keys_typed_before_the_session_is_open_are_not_lost():
    with TalkingServer("Early.") as server:
        with Terminal("chat", "--no-record", "--url", server.url) as terminal:
            terminal.type("hello\r")
            terminal.wait_for("> hello\nEarly.")
            terminal.type(CTRL_D)
            assert terminal.wait_end() == 0


def test_pasted_lines_are_one_message():
    with TalkingServer("Two lines.") as server, chat(server) as terminal:
        terminal.type("\x1b[200~first\nsecond\x1b[201~")
        terminal.wait_for("second")
        terminal.type("\r")
        terminal.wait_for("> first\n> second\nTwo lines.")
        terminal.type("\x1b[200~a \x1b[31mred\x1b[0m\x07 word\x1b]0;title\x07\x1b[201~\r")
        terminal.wait_for("\n> a red word\n")
        said: list[str] = []
        while len(said) < 2:  # the second may cut the answer to the first: there are other messages between
            said += [text] if (text := text_of(server.seen.get(timeout=5))) else []
        assert said == ["first\nsecond", "a red word"]
        terminal.type(CTRL_C + CTRL_D)
        assert terminal.wait_end() == 0


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_what_is_typed_and_is_no_text_is_told_and_not_sent(term):
    with TalkingServer("Good.") as server, chat(server, TERM=term) as terminal:
        os.write(terminal._master, b"caf\xe9 bad\n" if term == "dumb" else b"caf\xe9 bad\r")
        terminal.wait_for("[what was typed is not text in UTF-8; nothing was sent]")
        terminal.type("hello\n" if term == "dumb" else "hello\r")
        terminal.wait_for("Good.")
        terminal.type(CTRL_D)
        assert terminal.wait_end() == 0
