"""What all commands that hold a session share: logs, signals, the notices before and after."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from realtime_client import logs
from realtime_client.cli.group import Invocation
from realtime_client.cli.interruption import Interruption, interruption
from realtime_client.cli.screen import dim
from realtime_client.errors import RealtimeError
from realtime_client.escape import one_line
from realtime_client.opening import Opened, opened
from realtime_client.settings import Settings

if TYPE_CHECKING:
    from realtime_client.talk.assembly import LiveSound


def notice(invocation: Invocation, text: str) -> None:
    """Write a line about the run to stderr, unless it is to be quiet."""
    if not invocation.quiet:
        print(dim(one_line(text)), file=sys.stderr, flush=True)  # noqa: T201


@contextmanager
def logging_as_set(settings: Settings, write: Callable[[str], None] | None = None) -> Iterator[None]:
    """Log as the settings say; every secret among them is blanked out. write: takes lines in place of stderr."""
    with logs.configured(
        settings.log_level, file=settings.log_file, as_json=settings.log_json, secrets=settings.secrets(), write=write
    ):
        yield


@contextmanager
def command_session(
    settings: Settings,
    invocation: Invocation,
    log_to: Callable[[str], None] | None = None,
    *,
    sound: Callable[[], LiveSound | None] = lambda: None,
) -> Iterator[tuple[Opened, Interruption]]:
    """Hold a session open while the block runs.

    A signal closes the session, which wakes whoever waits for it, until the block puts another action in charge.
    log_to: takes log lines in place of stderr. sound: chooses microphone and speaker.
    It is called here because signals must be taken before any thread starts.
    """
    with logging_as_set(settings, log_to), interruption() as state:
        folder = None
        try:
            prepared = lambda client: state.handle(lambda _which: _close(client))  # noqa: E731
            with opened(settings, prepared=prepared, sound=sound()) as session:
                folder = session.recording
                notice(invocation, session.greeting)
                yield session, state
        finally:
            if folder is not None:
                notice(invocation, f"recording: {folder}")


def _close(client: object) -> bool:
    try:
        client.close()  # type: ignore[attr-defined]
    except RealtimeError:
        return True  # the thread that holds the session gets the same error and tells it
    return True
