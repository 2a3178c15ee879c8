"""A conversation between the person at a screen and a client: what is shown, and what the lines typed mean."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from realtime_client import updates as up
from realtime_client.cli.screen import Screen
from realtime_client.errors import RealtimeError, UsageError
from realtime_client.escape import one_line
from realtime_client.protocol.session import Audio, AudioOutput, RealtimeSession

if TYPE_CHECKING:
    from realtime_client.cli.chat_voice import ChatVoice

HELP = """\
type a line to talk; it interrupts an answer that is running
  .help          this list
  .save [PATH]   copy the transcript (.md .jsonl .srt .vtt); or where it is
  .voice NAME    another voice, as long as none has spoken yet
  .cancel        stop the running answer (so does Ctrl-C)
  .stats         figures of the last turn and of the connection
  .quit .exit    end (so do Ctrl-D, and Ctrl-C when nothing runs)"""


class ChatClient(Protocol):
    """What a chat asks of a client."""

    def send_text(self, text: str, *, respond: bool = True) -> str:
        """Send a message of the user; a running answer is interrupted first."""
        ...

    def cancel(self) -> bool:
        """Stop the running answer; False if there was none."""
        ...

    def update_session(self, session: RealtimeSession) -> None:
        """Change the session."""
        ...

    def stats(self) -> Any:
        """Return the figures so far."""
        ...

    @property
    def settings(self) -> dict[str, Any]:
        """The settings in force."""
        ...

    @property
    def answering(self) -> bool:
        """Whether an answer runs or is asked for."""
        ...


class Chat:
    """Joins a client with a screen.

    `observe` runs in the client's audio thread, everything else in the screen's. error: what ended the chat if that
    was no wish of the user. interrupted: it was ended by Ctrl-C.
    """

    def __init__(
        self, client: ChatClient, screen: Screen, recording: Path | None = None, voice: ChatVoice | None = None
    ) -> None:
        self.error: BaseException | None = None
        self.interrupted = False
        self._client = client
        self._screen = screen
        self._recording = recording
        self._voice = voice
        self._running = False
        self._cut: str | None = None  # the answer whose unheard end was cut last
        self._stopping = False  # an answer has been told to stop and has not ended yet
        self._told = False  # the screen says already that it was interrupted
        self._part: tuple[str, int] | None = None
        self._shows: dict[type[up.Update], Callable[[Any], None]] = {
            up.ResponseStarted: self._response_started,
            up.TextDelta: self._delta,
            up.ResponseDone: self._response_done,
            up.Failure: self._failure,
            up.ToolCall: self._tool_call,
            up.SessionEnded: self._ended,
            up.Interrupted: self._interrupted,
        }
        if voice is not None:
            self._shows |= {up.UserTranscript: voice.transcript, up.DeviceChanged: voice.device_changed}

    # What the client says

    def observe(self, update: up.Update, _at_s: float) -> None:
        """Show an update."""
        show = self._shows.get(type(update))
        if show is not None:
            show(update)

    def _response_started(self, _update: up.ResponseStarted) -> None:
        self._stopping = False
        self._running = True
        self._part = None

    def _delta(self, update: up.TextDelta) -> None:
        part = (update.item_id, update.content_index)
        if part != self._part:
            self._screen.end_line()
            self._part = part
        self._screen.write(update.text)

    def _response_done(self, update: up.ResponseDone) -> None:
        self._stopping = self._running = False
        self._screen.end_line()
        if update.status in ("failed", "incomplete"):
            why = update.error or update.reason or "no reason given"
            self._screen.notice(f"[the answer is {update.status}: {one_line(why)}]")
        elif update.status == "cancelled" and not self._told:
            self._screen.notice("[interrupted]")
        self._told = False

    def _interrupted(self, update: up.Interrupted) -> None:
        """Tell of an answer that was complete and not yet heard to its end; a running one ends as cancelled."""
        if update.cause == "speech" and not self._running and update.response_id != self._cut:
            self._cut = update.response_id
            self._screen.notice("[interrupted]")

    def _failure(self, update: up.Failure) -> None:
        if not update.benign:
            code = f" ({one_line(update.code)})" if update.code else ""
            self._screen.notice(f"[the server reports: {one_line(update.message)}{code}]")

    def _tool_call(self, update: up.ToolCall) -> None:
        self._screen.notice(f"[calls {one_line(update.name)}({one_line(update.arguments, 200)})]")

    def _ended(self, _update: up.SessionEnded) -> None:
        self._screen.stop()

    # What the person says

    def line(self, text: str) -> None:
        """Take a line that was typed. An error of the line is shown; any other error ends the chat."""
        try:
            self._take(text)
        except UsageError as error:
            self._screen.notice(f"[{one_line(str(error))}]")
        except BaseException as error:  # noqa: BLE001  # the editor's loop would print it over the screen
            self.error = error
            self._screen.stop()

    def interrupt(self) -> None:
        """Take a Ctrl-C: the first stops a running answer, one with nothing to stop ends the chat."""
        try:
            if not self._stopping and self._stop_answer():
                return
        except RealtimeError as error:
            self.error = error
        self.interrupted = True
        self._screen.stop()

    def _stop_answer(self) -> bool:
        """Stop the running answer, or the sound of one that is complete; False if there was none."""
        playing = self._playing
        self._stopping = self._client.cancel()
        if playing and not self._stopping:
            self._screen.notice("[interrupted]")
        return playing or self._stopping

    @property
    def _playing(self) -> bool:
        return self._voice is not None and self._voice.playing

    def _take(self, text: str) -> None:
        word, _, rest = text.partition(" ")
        if not (word.startswith(".") and word[1:2].isalpha()):
            self._talk(text)
            return
        self._screen.echo(text)
        command = _COMMANDS.get(word.lower())
        if command is not None:
            command(self, rest.strip())
        elif self._voice is None or not self._voice.take(word.lower(), rest.strip()):
            raise UsageError(f"there is no command {word}; .help lists them")

    def _talk(self, text: str) -> None:
        running = self._client.answering and not self._stopping
        if running or self._playing:
            self._told = running
            self._screen.notice("[interrupted]")
        self._screen.echo(text)
        self._client.send_text(text)
        self._stopping = False

    def _help(self, _rest: str) -> None:
        self._screen.notice(HELP if self._voice is None else f"{HELP}\n{self._voice.help}")

    def _quit(self, _rest: str) -> None:
        self._screen.stop()

    def _cancel(self, _rest: str) -> None:
        if not self._stop_answer():
            self._screen.notice("[no answer is running]")

    def _change_voice(self, name: str) -> None:
        if not name:
            voice = functools.reduce(_member, ("audio", "output", "voice"), self._client.settings)
            self._screen.notice(f"[the voice is {one_line(str(voice or 'not known'))}; .voice NAME changes it]")
            return
        self._client.update_session(RealtimeSession(audio=Audio(output=AudioOutput(voice=name))))
        self._screen.notice(f"[asked for the voice {one_line(name)}]")

    def _save(self, rest: str) -> None:
        if self._recording is None:
            raise UsageError("nothing is recorded in this session (--no-record)")
        if not rest:
            self._screen.notice(f"[recording: {self._recording}]")
            return
        self._screen.notice(f"[saved {copy_transcript(self._recording, Path(rest).expanduser())}]")

    def _stats(self, _rest: str) -> None:
        self._screen.notice(describe_stats(self._client.stats().to_dict()))


_COMMANDS: dict[str, Callable[[Chat, str], None]] = {
    ".help": Chat._help,  # noqa: SLF001
    ".quit": Chat._quit,  # noqa: SLF001
    ".exit": Chat._quit,  # noqa: SLF001
    ".cancel": Chat._cancel,  # noqa: SLF001
    ".voice": Chat._change_voice,  # noqa: SLF001
    ".save": Chat._save,  # noqa: SLF001
    ".stats": Chat._stats,  # noqa: SLF001
}


def _member(node: Any, key: str) -> Any:
    return node.get(key) if isinstance(node, dict) else None


def copy_transcript(recording: Path, destination: Path) -> Path:
    """Copy the transcript as the suffix of `destination` says, and return where it went.

    Into a folder it goes under its own name. Errors: UsageError when it exists already or cannot be written.
    """
    suffix = destination.suffix if destination.suffix in (".md", ".jsonl", ".srt", ".vtt") else ".md"
    source = recording / f"transcript{suffix}"
    if destination.is_dir():
        destination /= source.name
    try:
        with source.open("rb") as old, open(destination, "xb", opener=_private) as new:
            shutil.copyfileobj(old, new)
    except FileExistsError:
        raise UsageError(f"{destination} exists already; name another file") from None
    except FileNotFoundError as error:
        raise UsageError(f"there is no {error.filename}") from None
    except OSError as error:
        raise UsageError(f"cannot write {destination}: {error.strerror}") from None
    return destination


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def describe_stats(stats: dict[str, Any]) -> str:
    """Put the figures into lines: those of the last turn, then the others, then the session's."""
    turns = stats.get("turns") or []
    groups = {"last turn": turns[-1] if turns else {}}
    groups |= {name.replace("_", " "): value for name, value in stats.items() if isinstance(value, dict)}
    groups["session"] = {name: value for name, value in stats.items() if not isinstance(value, dict | list)}
    lines = [f"{name + ':':19}{shown}" for name, value in groups.items() if (shown := _figures(value))]
    return "\n".join(lines)


def _figures(values: dict[str, Any]) -> str:
    shown = ((key, value) for key, value in values.items() if value not in (None, "", 0, [], {}))
    return ", ".join(f"{key} {value:.1f}" if isinstance(value, float) else f"{key} {value}" for key, value in shown)
