"""A conversation between the person at a screen and a model: what is shown, and what the lines typed mean."""

from __future__ import annotations

import difflib
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realtime_client import updates as up
from realtime_client.changes import Changes
from realtime_client.cli.chat_connection import ChatConnection
from realtime_client.cli.chat_text import ChatText
from realtime_client.cli.chat_tools import ChatTools
from realtime_client.cli.figures import describe_stats
from realtime_client.cli.heard import INTERRUPTED, HeardText
from realtime_client.cli.screen import Screen
from realtime_client.deadline import SYSTEM_CLOCK, Clock
from realtime_client.errors import RealtimeError, UsageError
from realtime_client.escape import one_line
from realtime_client.session.session import Session

if TYPE_CHECKING:
    from realtime_client.cli.chat_voice import ChatVoice

_HELP_TALK = """\
Type a line to talk; it interrupts an answer that is running.
  .help          show this list
  .save [PATH]   copy the transcript to PATH (.md, .jsonl, .srt or .vtt); or, with
                 no PATH, tell where the recording is
"""
_HELP_VOICE = """\
  .voice [NAME]  change the voice, as long as it has not spoken yet; or tell it
"""
_HELP_END = """\
  .cancel        stop the running answer (so does Ctrl-C)
  .stats         show figures of the last turn and of the connection
  .quit .exit    end (so does Ctrl-D)
Ctrl-C clears the line being typed; with none, it stops the answer; with none
running, it cancels what tools do; with nothing to stop, pressing it twice ends."""
_TRANSCRIPTS = (".md", ".jsonl", ".srt", ".vtt")
_REMOTE = ("mcp_call", "mcp_approval_request")

QUIT_WITHIN_S = 5.0
# Control sequences (ECMA-48: CSI, OSC, two-character ones), then control characters without tab and line feed.
_CONTROLS = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -~]?|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


class Chat:
    """Joins a session with a screen.

    `observe` runs in the session's audio thread, everything else in the screen's. asks: Ctrl-C with nothing to stop
    asks for a second one; False where nobody can read that. error: what ended the chat, if the user did not.
    interrupted: Ctrl-C ended it.
    """

    def __init__(
        self,
        session: Session,
        screen: Screen,
        recording: Path | None = None,
        voice: ChatVoice | None = None,
        *,
        asks: bool = True,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.error: BaseException | None = None
        self.interrupted = False
        self._session = session
        self._screen = screen
        self._recording = recording
        self._voice = voice
        self._asks = asks
        self._clock = clock
        self._quits_until_s: float | None = None  # the screen says that another Ctrl-C ends the chat
        self._stopping = False  # an answer was told to stop and has not ended yet
        self._brought = False  # the answer brought something
        self._awaits = False  # what was typed has no answer yet, as far as is shown
        self._heard = HeardText()
        self._fatal: up.Failure | None = None
        self._part: tuple[str, int] | None = None
        self._shows: dict[type[up.Update], Callable[[Any], None]] = {
            up.ResponseStarted: self._response_started,
            up.TextDelta: self._delta,
            up.ResponseDone: self._response_done,
            up.ItemAdded: self._item_added,
            up.AudioDelta: self._audio,
            up.Failure: self._failure,
            up.ToolCall: self._tool_call,
            up.SessionEnded: self._ended,
            up.Interrupted: self._interrupted,
        }
        self._text = ChatText(session, screen, self._ask)
        self._tools = ChatTools(session, screen, clock)
        self._connection = ChatConnection(session, screen, clock)
        self._shows |= self._text.shows | self._tools.shows
        self._shows |= dict.fromkeys((up.ConnectionLost, up.Reconnecting, up.Restored), self._connection_changed)
        if voice is not None:
            self._shows |= {up.UserTranscript: voice.transcript, up.DeviceChanged: voice.device_changed}

    # What happens in the session

    def observe(self, update: up.Update, _at_s: float) -> None:
        """Show an update."""
        if self._fatal is not None and not _is_end(update):
            self._show_failure(self._fatal)  # the session goes on all the same
            self._fatal = None
        show = self._shows.get(type(update))
        if show is not None:
            show(update)

    def _response_started(self, _update: up.ResponseStarted) -> None:
        self._stopping = self._brought = False
        self._part = None
        self._text.started()

    def _item_added(self, update: up.ItemAdded) -> None:
        """Show what was typed, after what came before it; a call of the server's own is something that came."""
        if update.local and update.role == "user":
            self._screen.echo(update.text)
            self._connection.typed()
        self._brought |= update.item_type in _REMOTE

    def _delta(self, update: up.TextDelta) -> None:
        self._heard.add(update)
        self._brought = True
        part = (update.item_id, update.content_index)
        if part != self._part:
            self._screen.end_line()
            self._part = part
        self._screen.write(update.text)

    def _response_done(self, update: up.ResponseDone) -> None:
        self._stopping = self._awaits = False
        self._screen.end_line()
        self._text.done(update)
        if update.reason == up.CONNECTION_LOST:
            pass  # what is told of the connection follows
        elif update.status in ("failed", "incomplete"):
            why = update.error or update.reason or "no reason given"
            how = "failed" if update.status == "failed" else "is incomplete"
            self._screen.notice(f"[the answer {how}: {one_line(why)}]")
        elif update.status == "cancelled" and self._heard.told(update.response_id):
            self._screen.notice(INTERRUPTED)
        elif update.status == "completed" and not (self._brought or update.text.strip()):
            self._screen.notice("[the answer is empty: no text, no sound and no call could be read in it]")

    def _audio(self, _update: up.AudioDelta) -> None:
        self._brought = True

    def _interrupted(self, update: up.Interrupted) -> None:
        """Say where an answer was cut, even if it was complete and only not yet heard to its end."""
        line = self._heard.cut(update)
        if line is not None:
            self._screen.notice(line)

    def _failure(self, update: up.Failure) -> None:
        self._awaits = False
        if update.fatal:
            self._fatal = update  # the end of the session follows and says so
        elif not (update.benign or update.raises):  # of an answer, whose end follows and says so
            self._show_failure(update)

    def _show_failure(self, update: up.Failure) -> None:
        if update.of_this_side:
            self._screen.notice(f"[{one_line(update.message)}]")
            return
        code = f" ({one_line(update.code)})" if update.code else ""
        self._screen.notice(f"[the server reports: {one_line(update.message)}{code}]")

    def _tool_call(self, update: up.ToolCall) -> None:
        self._brought = True
        self._tools.called(update)

    def _connection_changed(self, update: up.ConnectionLost | up.Reconnecting | up.Restored) -> None:
        if isinstance(update, up.ConnectionLost) and update.goes_on:
            self._fatal = None  # it was, for the connection; the line says why
        self._connection.take(update)
        if self._voice is not None:
            self._voice.away = self._connection.away

    def _ended(self, update: up.SessionEnded) -> None:
        """The session has ended, and we did not end it. What went wrong is the program's last line."""
        self._connection.take(update)
        if self._session.error is None:
            how = "the session has ended" if update.reason in ("", "closed") else one_line(update.reason)
            self._screen.notice(f"[{how}]")
        self._screen.stop()

    # What the person says

    def line(self, text: str) -> None:
        """Take a line that was typed. An error of the line is shown; any other error ends the chat.

        Control characters, which a paste may hold, are left out: what is sent is what is shown.
        """
        self.typed()
        try:
            if text := _CONTROLS.sub("", text).strip():
                self._take(text)
        except UsageError as error:
            self._screen.notice(f"[{one_line(str(error))}]")
        except BaseException as error:  # noqa: BLE001  # the editor's loop would print it over the screen
            self.error = error
            self._screen.stop()

    def typed(self) -> None:
        """Something was typed: Ctrl-C has to ask again before it ends the chat."""
        self._quits_until_s = None
        self._tools.typed()

    def interrupt(self) -> None:
        """Take a Ctrl-C with nothing typed: it stops an answer that runs or sounds; else it cancels what tools do.

        With nothing to stop it asks for another one, which ends the chat if it follows within `QUIT_WITHIN_S`: that an
        answer ended just before must not end the chat.
        """
        try:
            stopped = (not self._is_stopping and self._stop_answer()) or self._tools.cancel()
        except RealtimeError as error:
            self.error = error
            self._screen.stop()
            return
        now_s, quits_until_s = self._clock.monotonic(), self._quits_until_s
        self._quits_until_s = None
        if stopped:
            return
        if self._asks and (quits_until_s is None or now_s > quits_until_s):
            self._quits_until_s = now_s + QUIT_WITHIN_S
            self._screen.notice("[Ctrl-C again to quit]")
            return
        self.interrupted = True
        self._screen.stop()

    def goes_on(self) -> bool:
        """Whether there is something to wait for when nothing more is typed: speech, an answer, its sound, a tool."""
        listens = self._voice is not None and self._voice.listens
        return listens or self._awaits or self._session.answering or self._playing or self._tools.busy

    @property
    def _is_stopping(self) -> bool:
        return self._stopping and self._session.answering

    def _stop_answer(self) -> bool:
        """Stop the running answer, or the sound of one that is complete; False if there was none."""
        playing = self._playing
        self._stopping = self._session.cancel()
        return playing or self._stopping

    @property
    def _playing(self) -> bool:
        return self._voice is not None and self._voice.playing

    def _take(self, text: str) -> None:
        if not _is_encodable(text):
            self._screen.echo(text)
            raise UsageError("what was typed is not text in UTF-8; nothing was sent")
        if self._tools.answer(text):
            return
        word, _, rest = text.partition(" ")
        if not (word.startswith(".") and word[1:2].isalpha()):
            self._talk(text)
            return
        self._screen.echo(text)
        command = _COMMANDS.get(word.lower())
        if command is not None:
            command(self, rest.strip())
        elif self._text.take(word.lower(), rest.strip()):
            pass
        elif self._voice is None or not self._voice.take(word.lower(), rest.strip()):
            raise UsageError(f"there is no command {word}; {self._advice(word.lower())}")

    def _advice(self, word: str) -> str:
        others = () if self._voice is None else self._voice.commands
        near = difflib.get_close_matches(word, [*_COMMANDS, *self._text.commands, *others], 1, 0.7)
        return f"did you mean {near[0]}?" if near else ".help lists them"

    def _talk(self, text: str) -> None:
        try:
            self._ask(lambda: self._text.send(text))
        except BaseException:
            self._screen.echo(text)
            raise

    def _ask(self, how: Callable[[], object]) -> None:
        """Do what asks for an answer, for which the chat then waits."""
        self._awaits = True
        try:
            how()
        except BaseException:
            self._awaits = False
            raise
        self._stopping = False

    def _help(self, _rest: str) -> None:
        speaks = _HELP_VOICE if self._text.again is None else ""
        shown = _HELP_TALK + self._text.help + speaks + self._tools.help + self._connection.help + _HELP_END
        self._screen.notice(shown if self._voice is None else f"{shown}\n{self._voice.help}")

    def _quit(self, _rest: str) -> None:
        self._screen.stop()

    def _cancel(self, _rest: str) -> None:
        if not self._stop_answer():
            self._screen.notice("[no answer is running]")

    def _change_voice(self, name: str) -> None:
        if self._text.again is not None:
            raise UsageError(f"{self._session.model} answers in writing: it has no voice")
        if not name:
            voice = self._session.facts.voice or "not known"
            self._screen.notice(f"[the voice is {one_line(voice)}; .voice NAME changes it]")
            return
        self._session.change(Changes(voice=name))
        self._screen.notice(f"[asked for the voice {one_line(name)}]")

    def _save(self, rest: str) -> None:
        if self._recording is None:
            raise UsageError("nothing is recorded in this session (--no-record)")
        if not rest:
            self._screen.notice(f"[recording: {self._recording}]")
            return
        try:
            destination = Path(rest).expanduser()
        except RuntimeError:
            raise UsageError(f"cannot write {rest}: there is no such home") from None
        self._screen.notice(f"[saved {copy_transcript(self._recording, destination)}]")

    def _stats(self, _rest: str) -> None:
        self._screen.notice(describe_stats(self._session.stats()))


_COMMANDS: dict[str, Callable[[Chat, str], None]] = {
    ".tools": lambda chat, rest: chat._tools.command(rest),  # noqa: SLF001
    ".reconnect": lambda chat, rest: chat._connection.command(rest),  # noqa: SLF001
    ".help": Chat._help,  # noqa: SLF001
    ".quit": Chat._quit,  # noqa: SLF001
    ".exit": Chat._quit,  # noqa: SLF001
    ".cancel": Chat._cancel,  # noqa: SLF001
    ".voice": Chat._change_voice,  # noqa: SLF001
    ".save": Chat._save,  # noqa: SLF001
    ".stats": Chat._stats,  # noqa: SLF001
}


def _is_end(update: up.Update) -> bool:
    """Whether this belongs to the end of a connection, which an error that the server sent before it explains."""
    if isinstance(update, up.ResponseDone):
        return update.reason == up.CONNECTION_LOST
    if isinstance(update, up.Failure):
        return update.code == up.REQUEST_LOST
    return isinstance(update, up.AnswerFollows | up.ConnectionLost | up.SessionEnded)


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def copy_transcript(recording: Path, destination: Path) -> Path:
    """Copy the transcript in the form that the suffix of `destination` names, and return where it went.

    Into a folder it goes under its own name, as Markdown. Errors: UsageError for another suffix, and when it exists
    already or cannot be written.
    """
    shown = one_line(str(destination), 200)
    try:
        folder = destination if destination.is_dir() else destination.parent
        if not folder.is_dir():
            raise UsageError(f"cannot write {shown}: there is no folder {one_line(str(folder), 200)}; make it first")
        suffix = ".md" if folder is destination else destination.suffix.lower()
        if suffix not in _TRANSCRIPTS:
            raise UsageError(f"cannot write {shown}: its name must end in .md, .jsonl, .srt or .vtt")
        source = recording / f"transcript{suffix}"
        if folder is destination:
            destination /= source.name
        with source.open("rb") as old, open(destination, "xb", opener=_private) as new:
            shutil.copyfileobj(old, new)
    except FileExistsError:
        raise UsageError(f"{shown} exists already; name another file") from None
    except FileNotFoundError as error:
        raise UsageError(f"there is no {error.filename}") from None
    except OSError as error:
        raise UsageError(f"cannot write {shown}: {error.strerror}") from None
    return destination


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
