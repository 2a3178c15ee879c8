"""`realtime recover`: finish a recording that was cut off."""

from __future__ import annotations

import json
from pathlib import Path

import click
import msgspec

from realtime_client.cli.group import Invocation
from realtime_client.cli.options import SectionedCommand, log_options
from realtime_client.cli.session import logging_as_set
from realtime_client.escape import one_line
from realtime_client.settings import Settings


@click.command("recover", cls=SectionedCommand)
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--force", is_flag=True, help="even if the recording program still seems to run")
@click.option("--json", "as_json", is_flag=True, help="one JSON object")
@log_options
def command(*, settings: Settings, invocation: Invocation, folder: Path, force: bool, as_json: bool) -> None:  # noqa: ARG001
    """Finish the recording in DIR: repair audio files, and write what the journal shows to be missing.

    Doing it twice changes nothing.
    """
    from realtime_client.recording.recover import recover

    with logging_as_set(settings):
        report = recover(folder, force=force)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(report, enc_hook=str)))
    elif report.complete:
        click.echo(one_line(f"{folder} is complete: nothing to do"))
    else:
        click.echo(
            one_line(
                f"{folder} is finished: {report.turns} turns, {len(report.repaired)} sound files repaired, "
                f"{report.added_s:.1f} s added to conversation.wav{_lost(report.lost_s)}, "
                f"{report.dropped_bytes} bytes of a torn journal line dropped"
            )
        )


def _lost(seconds: float) -> str:
    return f" ({seconds:.1f} s of them silent: no file has that sound)" if seconds >= 0.05 else ""
