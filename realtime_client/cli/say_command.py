"""`realtime say`: one turn, the answer on standard output."""

from __future__ import annotations

import contextlib
import functools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import click
import msgspec

from realtime_client import updates as up
from realtime_client.audio.files import read_audio, transcode, write_audio
from realtime_client.cli.figures import describe_stats
from realtime_client.cli.group import Invocation
from realtime_client.cli.hangup import tell
from realtime_client.cli.images import read_image
from realtime_client.cli.options import SectionedCommand, session_options
from realtime_client.cli.outage import NowAndThen, Outage
from realtime_client.cli.session import command_session, notice
from realtime_client.cli.tool_lines import ToolLines
from realtime_client.cli.tool_prints import tool_prints
from realtime_client.cli.turn import Feeder, TurnWaiter
from realtime_client.errors import ConnectionLostError, ResponseFailedError, UsageError
from realtime_client.escape import printable
from realtime_client.opening import Opened
from realtime_client.session.answer import Answer
from realtime_client.session.session import Session
from realtime_client.settings import Settings
from realtime_client.settings.providers import is_text
from realtime_client.settings.target import input_format
from realtime_client.updates import AudioFormat, Update


@click.command("say", cls=SectionedCommand)
@click.argument("text", required=False)
@click.option("--audio", type=click.Path(path_type=Path), help="speak this audio file (WAV, FLAC, OGG, MP3)")
@click.option(
    "--image", "images", type=click.Path(path_type=Path), multiple=True, help="show this image, too; may be repeated"
)
@click.option("--fast/--paced", default=None, help="send audio at once, or at the speed of speech [fast if local]")
@click.option("--out", type=click.Path(path_type=Path), help="write the answer's audio here (.wav or .flac)")
@click.option(
    "--continue",
    "continue_from",
    metavar="SESSION",
    help="go on with a recorded session (see realtime chat); or newest",
)
@click.option("--json", "as_json", is_flag=True, help="one JSON object instead of the streamed text")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0.1),
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    help="longest wait for the answer, once everything is sent",
)
@session_options
def command(
    *,
    settings: Settings,
    invocation: Invocation,
    text: str | None,
    audio: Path | None,
    images: tuple[Path, ...],
    fast: bool | None,
    out: Path | None,
    continue_from: str | None,
    as_json: bool,
    timeout_s: float,
) -> None:
    """Say one thing and print the answer.

    TEXT is what to say; - or nothing reads it from standard input.
    """
    if audio is not None and images:
        raise UsageError("--image goes with TEXT, not with --audio")
    if audio is not None and is_text(settings):
        raise UsageError(f"--audio needs a model that hears, and {settings.model} takes text")
    speech = None if audio is None else read_audio(audio, input_format(settings))
    if speech is not None and text is not None:
        raise UsageError("give either TEXT or --audio, not both")
    shown = [read_image(image) for image in images]
    question = "" if speech is not None else _question(text)
    say(
        settings,
        invocation,
        question,
        speech,
        images=shown,
        fast=fast,
        out=out,
        continue_from=continue_from,
        as_json=as_json,
        timeout_s=timeout_s,
    )


def say(
    settings: Settings,
    invocation: Invocation,
    question: str,
    speech: bytes | None = None,
    *,
    images: Sequence[str] = (),
    fast: bool | None = None,
    out: Path | None = None,
    continue_from: str | None = None,
    as_json: bool = False,
    timeout_s: float = 120.0,
) -> None:
    """Hold one turn and print the answer. images: data URIs that go with the question. continue_from: see `opened`.

    Errors: ResponseFailedError when the answer is not complete, besides those of connecting and of `TurnWaiter`.
    """
    if out is not None:
        _check_out(out, settings)
    prints = tool_prints(functools.partial(notice, invocation)) if settings.tool_files else contextlib.nullcontext()
    session = command_session(settings, invocation, continue_from=continue_from)
    with prints, _standard_output() as output, session as (held, _state):
        show = _show_nothing if as_json else _Printed(output)
        beside = _Beside(held.session, functools.partial(_tell_apart, show, invocation))
        waiter = TurnWaiter(held.session, timeout_s, show, functools.partial(notice, invocation), beside.take)
        try:
            if speech is None:
                turn = waiter.type(question, images)
            else:
                speech = transcode(speech, input_format(settings), held.session.input_format)
                fast = held.local if fast is None else fast
                turn = waiter.speak(Feeder(held.session, speech, fast=fast))
        except BaseException:
            if isinstance(show, _Printed) and show.something:
                click.echo(file=output)  # what went wrong gets a line of its own
            raise
        written = out if out is not None and _write_out(out, turn, held.session.output_format) else None
        if as_json:
            report = _report(held, turn, written, beside)
            click.echo(json.dumps(report, ensure_ascii=output.isatty()), file=output)
        elif waiter.error is None or (isinstance(show, _Printed) and show.something):
            click.echo(file=output)  # the end of the streamed text
        if invocation.verbose and is_text(settings):
            tell(describe_stats(held.session.stats()))
    if waiter.error is not None:
        raise waiter.error
    if turn.heard and not as_json:
        notice(invocation, f"heard: {turn.heard}")
    if turn.unreadable_audio:
        notice(invocation, f"{turn.unreadable_audio} pieces of the answer's sound could not be decoded and are missing")
    _check_whole(turn, tools_run=held.session.tooling is not None)
    if out is not None and written is None:
        raise ResponseFailedError(f"the answer has no sound: {out} is not written")


def _check_whole(turn: Answer, *, tools_run: bool) -> None:
    """Refuse an answer that is not complete, or holds nothing. Errors: ResponseFailedError, ConnectionLostError."""
    if turn.reason == up.CONNECTION_LOST:
        raise ConnectionLostError("the answer is incomplete: the connection was lost in the middle of it")
    if turn.status != "completed":
        how = "failed" if turn.status == "failed" else f"is {turn.status}"
        raise ResponseFailedError(f"the answer {how}: {turn.error or turn.reason or 'no reason given'}")
    if turn.empty:
        unread = f"; {turn.unreadable} messages could not be read" if turn.unreadable else ""
        raise ResponseFailedError(f"the answer is empty: it holds no text, no sound and no call{unread}")
    if tools_run and not (turn.text.strip() or turn.audio):
        raise ResponseFailedError("there is no answer: the model called tools, and said nothing to their results")


def _question(text: str | None) -> str:
    """Return what to say: the argument, or all of standard input."""
    if text is not None and text != "-":
        question = text
    elif text is None and sys.stdin.isatty():
        raise UsageError("say what? Give TEXT, --audio FILE, or - to type it (see `realtime say --help`)")
    else:
        question = read_stdin()
    if not question.strip():
        raise UsageError("there is nothing to say: the text is empty")
    return question.strip()


def read_stdin() -> str:
    """Return all of standard input. Errors: UsageError when it is not text in UTF-8."""
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError("standard input is not text in UTF-8 (for an audio file: --audio FILE)") from None


@contextlib.contextmanager
def _standard_output() -> Iterator[TextIO]:
    """Standard output for the answer alone: whatever else is printed meanwhile, by a filter say, goes to stderr."""
    output = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        yield output


class _Printed:
    """Prints an answer as it comes. something: of which there is some."""

    def __init__(self, output: TextIO) -> None:
        self.something = False
        self._output = output
        self._ended = True  # nothing stands on the row of the terminal

    def end_line(self) -> None:
        """Begin a new row on a terminal, for a line that is no part of the answer."""
        if not self._ended and self._output.isatty():
            self._write("\n")
            self._ended = True

    def __call__(self, text: str) -> None:
        if self.something and self._ended:
            text = text.removeprefix("\n")  # between two parts; it is there
        self._write(text)
        self.something, self._ended = True, False

    def _write(self, text: str) -> None:
        self._output.write(printable(text) if self._output.isatty() else text)
        self._output.flush()


def _show_nothing(_text: str) -> None:
    return


def _tell_apart(show: object, invocation: Invocation, text: str) -> None:
    """Write a line to stderr, on a row of its own."""
    if isinstance(show, _Printed):
        show.end_line()
    notice(invocation, text)


class _Beside:
    """What happens beside the answer, in lines and for a report: calls of tools, lost connections."""

    def __init__(self, session: Session, tell: Callable[[str], object]) -> None:
        self.tools = ToolLines(session, tell)
        self.outage = Outage(tell, NowAndThen(tell))

    def take(self, update: Update) -> None:
        """Take an update of the session."""
        self.tools.take(update)
        self.outage.take(update)


def _report(held: Opened, turn: Answer, out: Path | None, beside: _Beside) -> dict[str, Any]:
    recording = None if held.recording is None else str(held.recording)
    report: dict[str, Any] = {
        "text": turn.text,
        "transcript_in": turn.heard or None,
        "status": turn.status,
        "reason": turn.reason,
        "error": turn.error,
        "files": {"recording": recording, "audio": None if out is None else str(out)},
        "timings": None if turn.timings is None else msgspec.to_builtins(turn.timings),
        "usage": None if turn.usage is None else msgspec.to_builtins(turn.usage),
        "tool_calls": len(turn.tool_calls),
        "calls": list(beside.tools.calls.values()),
        "unreadable": turn.unreadable,
        "reconnects": beside.outage.restored,
        "session_id": held.session.session_id,
        "model": held.session.model,
    }
    if beside.outage.unknown:
        report["unknown"] = beside.outage.unknown
    if turn.sources:
        report["sources"] = [{"offset": s.offset, "source": s.source, "reason": s.reason} for s in turn.sources]
    return report


def _check_out(out: Path, settings: Settings) -> None:
    """Refuse an impossible output file before anything is sent."""
    if out.suffix.lower() not in (".wav", ".flac"):
        raise UsageError(f"--out {out}: the name must end in .wav or .flac")
    if is_text(settings):
        raise UsageError(f"--out needs an answer with audio, and {settings.model} answers in writing")
    if settings.modality == "text":
        raise UsageError("--out needs an answer with audio: leave out --text")
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise UsageError(f"--out {out}: there is no folder for it, or it is a folder")


def _write_out(out: Path, turn: Answer, audio_format: AudioFormat) -> bool:
    """Write the answer's audio; False if there is none."""
    if turn.audio:
        write_audio(out, turn.audio, audio_format)
    return bool(turn.audio)
