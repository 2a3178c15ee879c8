"""`realtime recover`: finish a recording that was cut off."""

from __future__ import annotations

from pathlib import Path

import click

from realtime_client.cli.group import Invocation
from realtime_client.cli.options import SectionedCommand, log_options
from realtime_client.cli.session import logging_as_set
from realtime_client.escape import one_line
from realtime_client.settings import Settings


@click.command("recover", cls=SectionedCommand)
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@log_options
def command(*, settings: Settings, invocation: Invocation, folder: Path) -> None:  # noqa: ARG001  # one shape for all
    """Finish the recording in DIR: repair audio files, and write what the journal shows to be missing."""
    from realtime_client.recording.recover import recover

    with logging_as_set(settings):
        result = recover(folder)
    click.echo(one_line(str(result)))
