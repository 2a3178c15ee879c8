"""`realtime doctor`: checks whether everything is there that a session needs."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import click
import msgspec

from realtime_client.cli.group import Invocation
from realtime_client.cli.options import SectionedCommand, session_options
from realtime_client.cli.session import logging_as_set, notice
from realtime_client.doctor.checks import Check, examine, verdict
from realtime_client.errors import RealtimeError
from realtime_client.escape import one_line
from realtime_client.recording.masking import Masker
from realtime_client.settings import Settings
from realtime_client.settings.providers import is_text

_NAME_WIDTH = 14
_COLOURS = {"ok": "32", "warn": "33", "fail": "31;1"}


@click.command("doctor", cls=SectionedCommand)
@click.option(
    "--echo", "measure", is_flag=True, help="play a sweep, measure the echo, and remember what to do about it"
)
@click.option("--mic", default=None, metavar="DEVICE", help="microphone to check: its number or a part of its name")
@click.option("--speaker", default=None, metavar="DEVICE", help="speaker to check: its number or a part of its name")
@click.option("--json", "as_json", is_flag=True, help="one JSON object")
@session_options
@click.pass_context
def command(
    context: click.Context,
    *,
    settings: Settings,
    invocation: Invocation,
    measure: bool,
    mic: str | None,
    speaker: str | None,
    as_json: bool,
) -> None:
    """Check key, server, clock, sound, extras and the recordings' folder; the last line is the verdict.

    The exit code is 0 if a session can be held, that of the failed connection if there is none, else 1. No key is
    ever shown.
    """
    report = _Report(Masker(settings.secrets()), as_json=as_json)
    with logging_as_set(settings):
        for check, error in examine(settings):
            report.add(check, error)
        if not is_text(settings) or measure or mic or speaker:
            _sound(report, invocation, speaker or settings.speaker, mic or settings.mic, echo=measure)
    context.exit(report.finish())


def _sound(report: _Report, invocation: Invocation, output: str | None, input_: str | None, *, echo: bool) -> None:
    from realtime_client.doctor import sound as doctor_sound

    pair = None
    for check, found in doctor_sound.examine(output, input_, echo=echo):
        report.add(check)
        pair = pair or found
    if echo and pair is not None:
        notice(invocation, "a sweep of 2 s is played now: keep quiet")
        outcome = doctor_sound.measure_echo(pair)
        report.echo = outcome.figures
        report.add(outcome.check)


class _Report:
    """Collects checks, and shows each as it comes, or all as one object at the end."""

    def __init__(self, masker: Masker, *, as_json: bool) -> None:
        self.echo: dict[str, Any] | None = None
        self._masker = masker
        self._as_json = as_json
        self._checks: list[Check] = []
        self._error: RealtimeError | None = None

    def add(self, check: Check, error: RealtimeError | None = None) -> None:
        """Take a check in. error: of a connection that failed."""
        check = msgspec.structs.replace(check, text=self._clean(check.text), hint=self._clean(check.hint))
        self._checks.append(check)
        self._error = self._error or error
        if not self._as_json:
            click.echo(line_of(check, colour=_wants_colour()))

    def finish(self) -> int:
        """Show the verdict; returns the exit code."""
        from realtime_client.cli import exit_code

        end = verdict(self._checks)
        code = 0 if end.status != "fail" else exit_code(self._error) if self._error else 1
        if not self._as_json:
            click.echo(line_of(end, colour=_wants_colour()))
            return code
        whole = {
            "verdict": end.status,
            "text": end.text,
            "exit_code": code,
            "checks": msgspec.to_builtins(self._checks),
            "echo": self.echo,
        }
        click.echo(json.dumps(whole, ensure_ascii=sys.stdout.isatty()))
        return code

    def _clean(self, text: str) -> str:
        """Without secrets (a server may repeat the key that it refuses), and harmless to a terminal."""
        return one_line(self._masker.text(text), 1000)


def line_of(check: Check, *, colour: bool) -> str:
    """Return a check as people see it: status, name, what was found; a hint has a line of its own."""
    word = f"{check.status:4}"
    word = f"\x1b[{_COLOURS[check.status]}m{word}\x1b[0m" if colour else word
    line = f"{word}  {check.name:{_NAME_WIDTH}}  {check.text}"
    return line if not check.hint else f"{line}\n{'':{4 + 2 + _NAME_WIDTH}}  -> {check.hint}"


def _wants_colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
