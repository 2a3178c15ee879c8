"""What is shown and told of a connection that is lost and had again, without a network: the updates are made here."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest
import soundfile
from cli_helpers import Terminal
from scripted_server import Peer
from test_cli_say import CREATED, SOUND, delta, run, says

from realtime_client import updates as up
from realtime_client.cli import say_command, turn
from realtime_client.cli.chat import Chat
from realtime_client.cli.outage import EVERY_S, NowAndThen, Outage, restored_text, trying_text
from realtime_client.cli.pins import Pins
from realtime_client.cli.plain_screen import PlainScreen
from realtime_client.cli.turn import TurnWaiter
from realtime_client.errors import ConnectionLostError, HostUnreachableError, RealtimeError
from realtime_client.local import LocalServer

WHY = "the connection dropped (close code 1006), in the middle of an answer"
LOST = up.ConnectionLost(code=1006, reason=WHY, goes_on=True)
CLOCK = r"\d\d:\d\d:\d\d"
LIMIT_S = 5.0


def trying(attempt: int = 1, in_s: float = 0.0, reason: str = WHY, left_s: float = 300.0) -> up.Reconnecting:
    return up.Reconnecting(attempt=attempt, in_s=in_s, reason=reason, left_s=left_s)


def back(reason: str = "lost", away_ms: int = 2_340, **more: Any) -> up.Restored:
    return up.Restored(reason=reason, away_ms=away_ms, **more)


class Hand:
    """A clock that is moved by hand."""

    now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s

    wall = monotonic


class Session:
    """calls: how often another connection was asked for. fails: what that raises."""

    def __init__(self) -> None:
        self.answering = False
        self.error: Exception | None = None
        self.fails: Exception | None = None
        self.facts = up.Facts()
        self.tooling = None
        self.model = "m"
        self.called = threading.Semaphore(0)
        self.may_return = threading.Event()

    def send_text(self, text: str) -> None: ...

    def reconnect(self) -> None:
        self.called.release()
        assert self.may_return.wait(LIMIT_S)
        if self.fails is not None:
            raise self.fails


class Screen:
    hung_up = False

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.pins: dict[str, str] = {}
        self.shown = threading.Semaphore(0)

    def write(self, text: str) -> None:
        self.lines.append(text)

    def end_line(self) -> None: ...

    def stop(self) -> None: ...

    def notice(self, text: str) -> None:
        self.lines.append(text)
        self.shown.release()

    aside = notice

    def echo(self, line: str) -> None:
        self.lines.append(f"> {line}")

    def pin(self, key: str, text: str, *, passing: bool = False, every_s: float = 0.0) -> None:
        assert every_s == EVERY_S
        assert not passing
        self.pins[key] = text

    def unpin(self, key: str) -> None:
        self.pins.pop(key, None)


class Voice:
    away = listens = playing = False
    commands = ()
    help = ""

    def transcript(self, update: up.UserTranscript) -> None: ...

    def device_changed(self, update: up.DeviceChanged) -> None: ...


class Stage:
    def __init__(self, **options: Any) -> None:
        self.session, self.screen = Session(), Screen()
        self.chat = Chat(self.session, self.screen, clock=Hand(), **options)  # type: ignore[arg-type]

    def see(self, *updates: up.Update) -> None:
        for update in updates:
            self.chat.observe(update, 0.0)


def typed(text: str) -> up.ItemAdded:
    return up.ItemAdded(item_id="u", role="user", item_type="message", text=text, local=True)


def ended(response: str = "resp_1", **more: Any) -> up.ResponseDone:
    return up.ResponseDone(response_id=response, **({"status": "incomplete", "reason": up.CONNECTION_LOST} | more))


# --- the lines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("update", "line"),
    [
        (back(), "connected again after 2.3 s"),
        (back(away_ms=0), "connected again after 0.0 s"),
        (back(away_ms=72_000), "connected again after 1 min 12 s"),
        (back(told=9, sent_late=("a", "b"), audio_ms=900, where="x", session_id="y"), "connected again after 2.3 s"),
        (back(asked_again="r"), "connected again after 2.3 s; the answer is asked for again"),
        (
            back(unknown=("a",)),
            "connected again after 2.3 s; whether 1 request was carried out is not known",
        ),
        (
            back(left_out=12, refused=1),
            (
                "connected again after 2.3 s; the model no longer knows the 12 oldest entries of the conversation; "
                "the server did not take 1 entry of the conversation"
            ),
        ),
        (
            back(left_out=1),
            "connected again after 2.3 s; the model no longer knows the oldest entry of the conversation",
        ),
        (
            back(lost_audio=(up.LostAudio(start_ms=0, end_ms=1_000), up.LostAudio(start_ms=1_500, end_ms=1_740))),
            "connected again after 2.3 s; 1,240 ms of what you said are lost",
        ),
        (back("asked", 0), "the session goes on over a new connection"),
        (back("asked", 0, asked_again="r"), "the session goes on over a new connection; the answer is asked for again"),
        (back("asked"), "connected again after 2.3 s"),
        (back("rollover", 0), ""),
        (back("rollover", 0, left_out=3, told=9), ""),
        (
            back("rollover", 0, asked_again="r"),
            "the session goes on over a new connection; the answer is asked for again",
        ),
        (
            back("rollover", 0, unknown=("a", "b")),
            "the session goes on over a new connection; whether 2 requests were carried out is not known",
        ),
    ],
)
def test_the_return_says_only_what_matters(update: up.Restored, line: str) -> None:
    assert restored_text(update) == (f"[{line}]" if line else "")


@pytest.mark.parametrize(
    ("update", "line"),
    [
        (trying(), rf"\[no connection: trying again; given up at {CLOCK}\]"),
        (trying(3, 0.4, "no such host"), rf"\[no connection: try 3 now, given up at {CLOCK}; no such host\]"),
        (trying(9, 12.0, "no\x1b[2J\nhost"), rf"\[no connection: try 9 at {CLOCK}, given up at {CLOCK}; no\[2J host\]"),
    ],
)
def test_a_try_says_when(update: up.Reconnecting, line: str) -> None:
    assert re.fullmatch(line, trying_text(update, 1_000.0))


def test_when_a_try_is_due_is_a_time_of_day() -> None:
    times = re.findall(CLOCK, trying_text(trying(2, 10.0, left_s=70.0), 1_000.0))
    seconds = [int(t[:2]) * 3600 + int(t[3:5]) * 60 + int(t[6:]) for t in times]
    assert (seconds[1] - seconds[0]) % 86_400 == 60


# --- a chat -----------------------------------------------------------------------------------------------------------


def test_a_loss_is_one_line_and_one_that_is_kept_up_to_date() -> None:
    stage = Stage()
    stage.see(up.ResponseStarted(response_id="resp_1"), ended(), LOST, trying())
    assert stage.screen.lines == [f"[{WHY}; trying again]"]
    pins = []
    for attempt in range(2, 40):
        stage.see(trying(attempt, 2.0, "connection refused"))
        pins += stage.screen.pins.values()
    assert len(pins) == 38
    assert len(set(pins)) == 38
    assert len(stage.screen.lines) == 1
    stage.see(back(asked_again="r"))
    assert stage.screen.lines[1:] == ["[connected again after 2.3 s; the answer is asked for again]"]
    assert not stage.screen.pins


def test_what_the_network_says_cannot_control_the_terminal() -> None:
    stage = Stage()
    stage.see(up.ConnectionLost(code=1006, reason="gone\x1b[2J\nnow", goes_on=True), trying(2, 1, "no\x9b\x07"))
    shown = "".join([*stage.screen.lines, *stage.screen.pins.values()])
    assert shown.isprintable()


def test_what_is_typed_while_there_is_no_connection_will_be_sent() -> None:
    stage = Stage()
    stage.see(typed("one"), LOST, trying(), typed("two"), back(), typed("three"))
    assert stage.screen.lines[2:4] == ["> two", "[will be sent once there is a connection]"]
    assert [line for line in stage.screen.lines if "will be sent" in line] == [stage.screen.lines[3]]


def test_a_move_before_the_server_ends_the_session_is_not_shown() -> None:
    stage = Stage()
    stage.see(back("rollover", 0, told=3))
    assert (stage.screen.lines, stage.screen.pins) == ([], {})


def test_a_connection_that_is_given_up_is_left_to_the_last_line() -> None:
    stage = Stage()
    stage.see(LOST, trying())
    stage.session.error = ConnectionLostError("gone")
    stage.see(up.ConnectionLost(code=1006, reason="gone"), up.SessionEnded(reason="gone"))
    assert (len(stage.screen.lines), stage.screen.pins) == (1, {})


def test_an_error_that_ended_the_connection_is_told_once() -> None:
    stage = Stage()
    over = up.Failure(message="Your session is over.", code="session_expired", fatal=True)
    follows = up.AnswerFollows(response_id="resp_1", request_id="q")
    stage.see(over, follows, ended(), up.ConnectionLost(code=1001, reason="Your session is over.", goes_on=True))
    stage.see(trying(), back())
    assert stage.screen.lines == ["[Your session is over.; trying again]", "[connected again after 2.3 s]"]


def test_nobody_waits_for_an_answer_that_is_not_asked_for_again() -> None:
    stage = Stage()
    stage.chat.line("hello")
    stage.see(LOST, trying())
    assert stage.chat.goes_on()
    stage.see(back())
    assert stage.chat.goes_on(), "it was sent after all"
    words = "the connection was lost before the answer came; ask again"
    stage.see(up.Failure(message=words, code=up.REQUEST_LOST, event_id="q"), LOST, trying(), back(unknown=("q",)))
    assert not stage.chat.goes_on()
    assert f"[{words}]" in stage.screen.lines, "no server said so"


def test_the_voice_knows_that_there_is_no_connection() -> None:
    voice = Voice()
    stage = Stage(voice=voice)
    stage.see(LOST)
    assert voice.away
    stage.see(trying(), back())
    assert not voice.away


def test_what_a_realtime_session_forgets_is_not_said_to_be_taken_back() -> None:
    stage = Stage()
    stage.see(ended(status="failed", reason="x"), LOST, up.ItemDeleted(item_id="spoken"), back())
    assert not any("taken back" in line for line in stage.screen.lines)


@pytest.mark.parametrize(("updates", "says"), [((), "a new connection is being made"), ((LOST,), "trying at once")])
def test_another_connection_can_be_asked_for(updates: tuple[up.Update, ...], says: str) -> None:
    stage = Stage()
    stage.see(*updates)
    stage.chat.line(".reconnect")
    assert stage.session.called.acquire(timeout=LIMIT_S)
    assert stage.screen.lines[-1] == f"[{says}]"
    stage.chat.line(".reconnect")
    assert stage.screen.lines[-1] == "[a new connection is being tried already]"
    stage.session.fails = HostUnreachableError("nothing\x1b[2J listens there")
    stage.session.may_return.set()
    for _line in range(2 + len(updates) + 1):
        assert stage.screen.shown.acquire(timeout=LIMIT_S)
    assert stage.screen.lines[-1] == "[no new connection: nothing[2J listens there]"


def test_a_session_without_a_connection_of_its_own_has_none_to_renew(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage()
    stage.chat.line(".help")
    assert ".reconnect" in stage.screen.lines[-1]
    monkeypatch.delattr(Session, "reconnect")
    stage.chat.line(".reconnect")
    assert stage.screen.lines[-1] == "[m is asked over a new connection each time]"
    stage.chat.line(".help")
    assert ".reconnect" not in stage.screen.lines[-1]


# --- screens ----------------------------------------------------------------------------------------------------------


def test_where_no_line_can_be_redrawn_there_is_one_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Hand()
    screen = PlainScreen(clock)  # type: ignore[arg-type]
    told: list[str] = []
    rarely = NowAndThen(told.append, clock)  # type: ignore[arg-type]
    for loss in range(2):
        for second in range(150):
            screen.pin("connection", f"{loss} {second}", every_s=EVERY_S)
            rarely(f"{loss} {second}")
            clock.now_s += 1
        screen.unpin("connection")
        rarely(None)
    assert capsys.readouterr().err.splitlines() == told == ["0 60", "0 120", "1 60", "1 120"]


def test_the_line_is_in_sight_beside_any_number_of_tools() -> None:
    pins = Pins()
    for number in range(9):
        pins.put(f"c{number}", f"[call {number}]", passing=True)
    pins.put("connection", trying_text(trying(), 0.0), passing=False)
    assert pins.shown(80).splitlines()[-1].startswith("[no connection")


# --- one turn ---------------------------------------------------------------------------------------------------------

REST: tuple[up.Update, ...] = (
    up.AnswerFollows(response_id="resp_1", request_id="again"),
    ended(text="Once upon"),
    LOST,
    trying(),
    back(asked_again="again", unknown=("approval",)),
    up.ResponseStarted(response_id="resp_2", request_id="again"),
    up.AudioDelta(response_id="resp_2", item_id="b", content_index=0, audio=b"\1\0" * 1200),
    up.TextDelta(response_id="resp_2", item_id="b", content_index=0, text="Once upon a time.", spoken=True),
    ended("resp_2", status="completed", reason=None, text="Once upon a time."),
)


@pytest.fixture
def breaks_off(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Callable[[Peer], None]]:
    """Let an answer break off after its first piece, whatever the server says then; returns what serves it."""

    def script(*rest: up.Update) -> Callable[[Peer], None]:
        class Waiter(TurnWaiter):
            def __init__(self, session: Any, *more: Any) -> None:
                super().__init__(session, *more)

                def tell(update: up.Update, _at_s: float) -> None:
                    if isinstance(update, up.TextDelta) and update.response_id == "resp_1":
                        for each in rest:
                            session.tell(each)

                session.observe(tell)

        monkeypatch.setattr(say_command, "TurnWaiter", Waiter)
        return says(CREATED, SOUND, delta("Once upon"))

    return script


def test_an_answer_that_broke_off_is_followed_to_the_one_asked_for_again(
    breaks_off: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "answer.wav"
    assert run(breaks_off(*REST), "--json", "--out", str(out)) == 0
    said, told = capsys.readouterr()
    report = json.loads(said)
    assert (report["text"], report["status"], report["reconnects"]) == ("Once upon a time.", "completed", 1)
    assert report["unknown"] == ["approval"]
    assert soundfile.info(out).frames == 1200, "nothing of the half answer"
    lines = [line for line in told.splitlines() if line.startswith("[")]
    assert lines[0] == f"[{WHY}; trying again]"
    assert lines[1].startswith("[connected again after 2.3 s;")
    assert len(lines) == 2


def test_what_was_printed_of_an_answer_that_broke_off_stands_before_the_whole_one(
    breaks_off: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(breaks_off(*REST)) == 0
    assert capsys.readouterr().out == "Once upon\nOnce upon a time.\n"


def test_an_answer_that_broke_off_and_is_not_asked_for_again_is_incomplete(
    breaks_off: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(breaks_off(ended(text="Once upon"), LOST, trying(), back())) == 4
    assert (
        "the answer is incomplete: the connection was lost in the middle of it"
        in capsys.readouterr().err.splitlines()[-1]
    )


class Script:
    """A session that tells one update after the other; None is a wait that brings none."""

    tooling = None
    output_format = up.Facts().output_format
    facts = up.Facts()

    def __init__(self, *updates: up.Update | None) -> None:
        self._updates = iter(updates)

    def updates(self, timeout_s: float) -> Script:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def __next__(self) -> up.Update:
        update = next(self._updates)
        if update is None:
            raise TimeoutError
        return update

    def timings(self, _response_id: str) -> None: ...


class Fed:
    """A feeder whose utterance is sent, or kept until there is a connection."""

    error = request = None
    done = threading.Event()
    done.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


def test_while_there_is_no_connection_speech_cannot_be_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn, "SPEECH_WAIT_S", 0.0)
    heard = (up.SpeechStarted(item_id="s", at_ms=0), up.SpeechStopped(item_id="s", at_ms=500))
    answer = (up.ResponseStarted(response_id="r"), ended("r", status="completed", reason=None, text="Yes."))
    waiter = TurnWaiter(Script(LOST, trying(), None, None, *heard, back(), *answer), 60, bool, bool)  # type: ignore[arg-type]
    assert waiter.speak(Fed()).text == "Yes."  # type: ignore[arg-type]
    waiter = TurnWaiter(Script(LOST, None, back()), 60, bool, bool)  # type: ignore[arg-type]
    with pytest.raises(RealtimeError, match="heard no speech"):
        waiter.speak(Fed())  # type: ignore[arg-type]


def test_a_turn_without_a_loss_reports_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(says(CREATED, delta("Hi."), {"type": "response.done", "response": {"id": "resp_1"}}), "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["reconnects"] == 0
    assert "unknown" not in report


def test_what_is_kept_for_a_report_is_bounded() -> None:
    outage = Outage(bool, bool)
    for number in range(1_000):
        outage.take(back(unknown=(f"a{number}",)))
    assert (outage.restored, len(outage.unknown), outage.unknown[-1]) == (1_000, 100, "a999")


# --- in a terminal ----------------------------------------------------------------------------------------------------


def talks(server: LocalServer, *more: str) -> Terminal:
    terminal = Terminal("chat", "--text", "--no-record", "--url", server.url, *more, columns=200)
    terminal.wait_for("type a line to talk")
    return terminal


def test_a_chat_outlives_its_server() -> None:
    with LocalServer() as first, talks(first) as terminal:
        first.close()
        terminal.wait_for("; trying again]")
        terminal.wait_for("[no connection: try ")
        terminal.type("Count to three.\r")
        terminal.wait_for("[will be sent once there is a connection]")
        with LocalServer(port=first.port):
            terminal.type(".reconnect\r")
            terminal.wait_for("[connected again after")
            terminal.wait_for("One, two, three.")
            assert "[no connection" not in terminal.text
            assert terminal.text.count("; trying again]") == 1
            terminal.type(".quit\r")
            assert terminal.wait_end() == 0


def test_a_chat_whose_server_is_gone_for_good_ends_with_its_exit_code() -> None:
    with LocalServer() as server, talks(server, "--reconnect", "0.3") as terminal:
        server.close()
        assert terminal.wait_end() == 4
        assert "tried again for 0.3 s" in terminal.text
        assert "[no connection" not in terminal.text
