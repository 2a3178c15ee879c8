"""What a chat shows and does, without a terminal: a session and a screen that note what is asked of them."""

from __future__ import annotations

from typing import Any

import pytest

from realtime_client import updates as up
from realtime_client.changes import Changes
from realtime_client.cli import screen
from realtime_client.cli.chat import QUIT_WITHIN_S, Chat
from realtime_client.cli.heard import HeardText
from realtime_client.errors import ClosedError, ConnectionLostError, UsageError
from realtime_client.history import heard_text

STORY = "Once there was a fox who lived on a hill and ate grapes all day long"


class FakeSession:
    """answering: an answer runs. error: what ended the session."""

    def __init__(self) -> None:
        self.answering = False
        self.error: Exception | None = None
        self.fails: Exception | None = None
        self.sent: list[str] = []
        self.facts = up.Facts()
        self.tooling: Any = None
        self.changes: list[Changes] = []

    def send_text(self, text: str, *, respond: bool = True) -> str:
        if self.fails is not None:
            raise self.fails
        self.sent.append(text)
        return "item"

    def change(self, changes: Changes) -> None:
        self.changes.append(changes)

    def cancel(self) -> bool:
        if self.fails is not None:
            raise self.fails
        return self.answering


class Screen:
    """lines: all that was shown, the lines that were typed with `> ` before them."""

    hung_up = False

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.stopped = False

    def write(self, text: str) -> None:
        self.lines.append(text)

    def end_line(self) -> None:
        pass

    def notice(self, text: str) -> None:
        self.lines.append(text)

    def echo(self, line: str) -> None:
        self.lines.append(f"> {line}")

    def unpin(self, key: str) -> None:
        pass

    def stop(self) -> None:
        self.stopped = True


class Hand:
    """A clock that is moved by hand."""

    now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return self.now_s


class Stage:
    """A chat with all that is around it. `see` shows it updates."""

    def __init__(self, **options: Any) -> None:
        self.session, self.screen, self.clock = FakeSession(), Screen(), Hand()
        self.chat = Chat(self.session, self.screen, clock=self.clock, **options)  # type: ignore[arg-type]

    def see(self, *updates: up.Update) -> None:
        for update in updates:
            self.chat.observe(update, 0.0)


def delta(text: str, item: str = "i", response: str = "r") -> up.TextDelta:
    return up.TextDelta(response_id=response, item_id=item, content_index=0, text=text, spoken=True)


def cut(heard_ms: int, received_ms: int, item: str = "i", cause: str = "typed", **more: bool) -> up.Interrupted:
    return up.Interrupted(
        response_id="r", item_id=item, content_index=0, heard_ms=heard_ms, received_ms=received_ms, cause=cause, **more
    )


def done(status: str) -> up.ResponseDone:
    return up.ResponseDone(response_id="r", status=status)


def typed(text: str) -> up.ItemAdded:
    return up.ItemAdded(item_id="u", role="user", item_type="message", text=text, local=True)


# Ctrl-C.


def test_an_answer_that_ended_just_before_ctrl_c_does_not_make_it_quit():
    stage = Stage()
    stage.session.answering = True
    stage.see(up.ResponseStarted(response_id="r"), delta("Hello."))
    stage.session.answering = False
    stage.see(done("completed"))
    stage.chat.interrupt()
    assert (stage.screen.lines[-1], stage.screen.stopped) == ("[Ctrl-C again to quit]", False)


@pytest.mark.parametrize(
    "between",
    [
        lambda stage: setattr(stage.clock, "now_s", stage.clock.now_s + QUIT_WITHIN_S + 0.1),
        lambda stage: stage.chat.typed(),
        lambda stage: stage.chat.line("hello"),
        lambda stage: (setattr(stage.session, "answering", True), stage.chat.interrupt()),
    ],
    ids=["later", "typing", "a line", "an answer that was stopped"],
)
def test_ctrl_c_asks_again_after_anything_else(between):
    stage = Stage()
    stage.chat.interrupt()
    between(stage)
    stage.session.answering = False
    stage.chat.interrupt()
    assert not stage.screen.stopped
    assert stage.screen.lines.count("[Ctrl-C again to quit]") == 2
    stage.clock.now_s += QUIT_WITHIN_S
    stage.chat.interrupt()
    assert stage.screen.stopped
    assert stage.chat.interrupted


def test_ctrl_c_while_an_answer_is_being_stopped_asks():
    stage = Stage()
    stage.session.answering = True
    stage.chat.interrupt()
    assert stage.screen.lines == []
    stage.chat.interrupt()
    assert stage.screen.lines == ["[Ctrl-C again to quit]"]
    stage.chat.interrupt()
    assert stage.screen.stopped


def test_where_nobody_can_be_asked_ctrl_c_ends_when_there_is_nothing_to_stop():
    stage = Stage(asks=False)
    stage.session.answering = True
    stage.chat.interrupt()
    assert not stage.screen.stopped
    stage.session.answering = False
    stage.chat.interrupt()
    assert stage.screen.stopped
    assert stage.screen.lines == []


def test_ctrl_c_in_a_session_that_is_over_ends_with_its_error():
    stage = Stage()
    stage.session.fails = ConnectionLostError("gone")
    stage.chat.interrupt()
    assert stage.screen.stopped
    assert stage.chat.error is stage.session.fails
    assert not stage.chat.interrupted


def test_a_screen_that_does_not_take_ctrl_c_up_is_stuck(monkeypatch):
    interrupts = screen.Interrupts()
    assert interrupts.come()
    assert interrupts.come(), "two at once are no sign"
    monkeypatch.setattr(screen, "_STUCK_S", 0.0)
    assert not interrupts.come()
    monkeypatch.undo()
    interrupts.taken()
    assert interrupts.come()


# What was heard.


@pytest.mark.parametrize(
    ("updates", "shown"),
    [
        ([delta(STORY), cut(1_000, 4_000)], '[interrupted: heard "Once there was a", 4 of 16 words]'),
        ([delta(STORY), cut(3_000, 4_000)], '[interrupted: heard "... lived on a hill and ate", 12 of 16 words]'),
        ([delta(STORY), cut(0, 4_000)], "[interrupted: nothing of it was heard]"),
        ([delta(STORY), cut(4_000, 4_000)], "[interrupted]"),
        ([delta(STORY), cut(0, 0)], "[interrupted: nothing of it was heard]"),
        ([delta(STORY), cut(0, 0, spoken=False)], "[interrupted]"),
        ([cut(500, 4_000)], "[interrupted: heard 0.5 of 4.0 s]"),
        ([delta(STORY), cut(100, 4_000)], "[interrupted: heard 0.1 of 4.0 s]"),
        (
            [delta("\u4f60\u597d" * 30), cut(500, 4_000)],
            '[interrupted: heard "\u4f60\u597d\u4f60\u597d\u4f60\u597d\u4f60", 7 of 60 characters]',
        ),
        (
            [delta("One two.", "i"), delta("Three four.", "j"), cut(900, 900, "i"), cut(300, 600, "j")],
            '[interrupted: heard "One two. Three", 3 of 4 words]',
        ),
        (
            [delta("One two.", "i"), delta("Three four.", "j"), cut(600, 900, "i"), cut(0, 600, "j")],
            '[interrupted: heard "One", 1 of 4 words]',
        ),
        ([delta(f"{STORY[:-9]}\x1b[2J {STORY[-8:]}"), cut(3_900, 4_000)], None),
    ],
)
def test_what_was_heard_of_a_cut_answer(updates, shown):
    stage = Stage()
    stage.see(*updates, done("cancelled"))
    notices = [line for line in stage.screen.lines if line.startswith("[")]
    assert len(notices) == 1, notices
    assert shown is None or notices == [shown]
    assert "\x1b" not in notices[0]


def test_the_estimate_is_the_one_of_the_recording():
    heard = HeardText()
    heard.add(delta(STORY))
    line = heard.cut(cut(1_700, 4_000))
    assert line is not None
    assert line.split(", ")[1] == f"{len(heard_text(STORY, 1_700, 4_000).split())} of 16 words]"


def test_what_was_typed_stands_behind_the_mark_of_what_it_cut():
    stage = Stage()
    stage.see(up.ResponseStarted(response_id="r"), delta(STORY))
    stage.chat.line("stop")
    assert stage.session.sent == ["stop"]
    stage.see(delta(" more"), cut(1_000, 4_000), typed("stop"), done("cancelled"))
    assert stage.screen.lines == [STORY, " more", '[interrupted: heard "Once there was a", 4 of 17 words]', "> stop"]


def test_an_answer_that_the_server_cancels_by_itself_is_marked():
    stage = Stage()
    stage.see(up.ResponseStarted(response_id="r"), delta("On"), done("cancelled"))
    assert stage.screen.lines == ["On", "[interrupted]"]


def test_what_is_kept_of_answers_is_bounded():
    heard = HeardText()
    for number in range(100):
        for _ in range(30):
            heard.add(delta("x" * 20_000, response=str(number)))
        heard.told(str(number))
    kept = sum(len(text) for parts in heard._answers.values() for text in parts.values())
    assert kept < 2_000_000
    assert len(heard._told) <= 8


# Faults.


def test_a_server_error_that_ends_the_session_is_left_to_the_last_line():
    failure = up.Failure(message="Your session is over.", code="session_expired", fatal=True)
    stage = Stage()
    stage.see(failure)
    stage.session.error = ConnectionLostError("over")
    stage.see(up.ConnectionLost(code=1001, reason="over"), up.SessionEnded(reason="over"))
    assert (stage.screen.lines, stage.screen.stopped) == ([], True)
    stage = Stage()
    stage.see(failure, up.ResponseStarted(response_id="r"))  # it goes on all the same
    assert stage.screen.lines == ["[the server reports: Your session is over. (session_expired)]"]


@pytest.mark.parametrize(
    ("reason", "shown"),
    [("closed", "[the session has ended]"), ("the server ended it: bye\x1b[2J", "[the server ended it: bye[2J]")],
)
def test_a_session_that_the_server_ends_without_a_fault_is_told(reason, shown):
    stage = Stage()
    stage.see(up.SessionEnded(reason=reason))
    assert (stage.screen.lines, stage.screen.stopped) == ([shown], True)


@pytest.mark.parametrize(
    ("updates", "says_so"),
    [
        ([], True),
        ([up.AudioDelta(response_id="r", item_id="i", content_index=0, audio=b"12")], False),
        ([up.ToolCall(response_id="r", item_id="i", call_id="c", name="n", arguments="{}")], False),
        ([delta("Hello.")], False),
    ],
)
def test_an_answer_with_nothing_in_it_is_told(updates, says_so):
    stage = Stage()
    stage.see(up.ResponseStarted(response_id="r"), *updates, done("completed"))
    assert ("the answer is empty" in stage.screen.lines[-1] if stage.screen.lines else False) is says_so


def test_what_people_should_know_is_shown():
    stage = Stage()
    stage.see(up.Notice(message="the server has not confirmed the settings"))
    assert stage.screen.lines == ["[the server has not confirmed the settings]"]


@pytest.mark.parametrize("error", [UsageError("this text\nis none"), ClosedError("closed")])
def test_a_line_that_cannot_be_sent_is_shown_and_an_error_of_the_line_does_not_end(error):
    stage = Stage()
    stage.session.fails = error
    stage.chat.line("hello")
    if isinstance(error, UsageError):
        assert stage.screen.lines == ["> hello", "[this text is none]"]
        assert not stage.screen.stopped
    else:
        assert (stage.screen.lines, stage.chat.error) == (["> hello"], error)


# What is typed.


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("a\x1b]0;title\x07b\x1b]8;;x\x1b\\c", "abc"),
        ("a\x00b\x07c\x9bd\x7f", "abcd"),
        ("one\n\ttwo", "one\n\ttwo"),
        ("\u05d0\u200f\u05d1 \U0001f468\u200d\U0001f469", "\u05d0\u200f\u05d1 \U0001f468\u200d\U0001f469"),
        ("\x1b\x07", None),
        ("half \ud800", None),
    ],
)
def test_control_characters_are_not_sent(typed, sent):
    stage = Stage()
    stage.chat.line(typed)
    assert stage.session.sent == ([] if sent is None else [sent])
    assert not stage.screen.stopped


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (".hepl", "there is no command .hepl; did you mean .help?"),
        (".Stast", "there is no command .Stast; did you mean .stats?"),
        (".mut", "there is no command .mut; did you mean .mute?"),
        (".xyzzy", "there is no command .xyzzy; .help lists them"),
    ],
)
def test_a_command_that_is_none_gets_a_suggestion(command, says):
    class Voice:
        playing = False
        commands = (".mute", ".volume")

        def transcript(self, update: up.UserTranscript) -> None: ...

        def device_changed(self, update: up.DeviceChanged) -> None: ...

        def take(self, word: str, rest: str) -> bool:
            return False

    stage = Stage(voice=Voice())
    stage.chat.line(command)
    assert stage.screen.lines == [f"> {command}", f"[{says}]"]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("~no-such-user/x.md", "there is no such home"),
        ("/nowhere/x.md", "there is no folder /nowhere; make it first"),
        ("x" * 300 + ".md", "File name too long"),
        ("x.docx", "its name must end in .md, .jsonl, .srt or .vtt"),
        ("x", "its name must end in .md, .jsonl, .srt or .vtt"),
    ],
)
def test_a_place_that_cannot_be_written_is_told(tmp_path, path, says):
    (tmp_path / "transcript.md").write_text("# Conversation\n")
    stage = Stage(recording=tmp_path)
    stage.chat.line(f".save {path}")
    assert len(stage.screen.lines) == 2
    assert says in stage.screen.lines[1]
    assert not stage.screen.stopped


def test_a_chat_whose_input_is_at_its_end_goes_on_while_there_is_something_to_wait_for():
    stage = Stage()
    assert not stage.chat.goes_on()
    stage.chat.line("hello")
    assert stage.chat.goes_on()
    stage.session.answering = True
    stage.see(up.ResponseStarted(response_id="r"), delta("Hi."))
    stage.session.answering = False
    assert stage.chat.goes_on(), "the end of the answer has not been shown"
    stage.see(done("completed"))
    assert not stage.chat.goes_on()
    stage.chat.line("hello")
    stage.see(up.Failure(message="no"))
    assert not stage.chat.goes_on(), "an answer that was refused does not come"


# Commands.


def test_the_voice_is_told_as_the_session_states_it_and_changed_in_neutral_words():
    stage = Stage()
    stage.chat.line(".voice")
    stage.session.facts = up.Facts(voice="marin")
    stage.chat.line(".voice")
    stage.chat.line(".voice cedar")
    assert stage.session.changes == [Changes(voice="cedar")]
    assert [line for line in stage.screen.lines if not line.startswith("> ")] == [
        "[the voice is not known; .voice NAME changes it]",
        "[the voice is marin; .voice NAME changes it]",
        "[asked for the voice cedar]",
    ]
