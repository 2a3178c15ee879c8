"""`realtime report`: one HTML file that shows a session or a run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
import msgspec

from realtime_client.cli.group import Invocation
from realtime_client.cli.options import SectionedCommand, log_options
from realtime_client.cli.session import logging_as_set, notice
from realtime_client.deadline import SYSTEM_CLOCK
from realtime_client.settings import Settings


@click.command("report", cls=SectionedCommand)
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="where to write it; default DIR/report.html"
)
@click.option("--no-sessions", is_flag=True, help="for a run: without the reports of its sessions")
@click.option("--json", "as_json", is_flag=True, help="one JSON object")
@log_options
def command(
    *, settings: Settings, invocation: Invocation, folder: Path, out: Path | None, no_sessions: bool, as_json: bool
) -> None:
    """Make one HTML file of the recording or the run in DIR, and print its path.

    It opens in any browser, offline: waveform and sound, transcript with what was heard, tool calls, latencies, events,
    usage; of a run the table of its cases, leading to the sessions. It holds what was said: keep it as you keep the
    recording.
    """
    from realtime_client.report import write_report

    live = sys.stderr.isatty() and not invocation.quiet

    def progress(done: int, count: int) -> None:
        if live:
            print(f"\rsession {done + 1} of {count}", end="", file=sys.stderr, flush=True)  # noqa: T201

    with logging_as_set(settings):
        begun_s = SYSTEM_CLOCK.monotonic()
        written = write_report(folder, out, sessions=not no_sessions, progress=progress)
        took_s = SYSTEM_CLOCK.monotonic() - begun_s
    if live and written.sessions:
        print("\r\033[K", end="", file=sys.stderr)  # noqa: T201
    for problem in written.problems:
        notice(invocation, problem)
    besides = f" and of {written.sessions} sessions" if written.sessions else ""
    notice(invocation, f"report of the {written.kind}{besides}: {written.size_bytes / 1e6:.1f} MB in {took_s:.1f} s")
    click.echo(json.dumps(msgspec.to_builtins(written, enc_hook=str)) if as_json else str(written.path))
