"""What all commands that hold a session share: logs, signals, the notices before and after."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from realtime_client import logs
from realtime_client.cli.group import Invocation
from realtime_client.cli.hangup import tell
from realtime_client.cli.interruption import Interruption, interruption
from realtime_client.cli.screen import dim
from realtime_client.escape import one_line
from realtime_client.opening import Opened, opened
from realtime_client.settings import Settings

if TYPE_CHECKING:
    from realtime_client.session.session import Session
    from realtime_client.talk.assembly import LiveSound

ChooseSound = Callable[[Settings], "tuple[Settings, LiveSound | None]"]
_GRACE_S = 5.0  # what an orderly end may take besides closing the session
_TOLD = (
    "failure",
    "notice",
    "connection_lost",
    "reconnecting",
    "restored",
)  # the screen, or the last line, reports these


def notice(invocation: Invocation, text: str) -> None:
    """Write a line about the run to stderr, unless -q was given."""
    if not invocation.quiet:
        tell(dim(one_line(text)))


@contextmanager
def logging_as_set(
    settings: Settings, write: Callable[[str], None] | None = None, *, told: Collection[str] = ()
) -> Iterator[None]:
    """Log as the settings say; every secret among them is blanked out. write, told: see `logs.configured`."""
    with logs.configured(
        settings.log_level,
        file=settings.log_file,
        as_json=settings.log_json,
        secrets=settings.secrets(),
        write=write,
        told=told,
    ):
        yield


@contextmanager
def command_session(
    settings: Settings,
    invocation: Invocation,
    log_to: Callable[[str], None] | None = None,
    *,
    sound: ChooseSound = lambda settings: (settings, None),
    asks: bool = False,
    continue_from: str | None = None,
) -> Iterator[tuple[Opened, Interruption]]:
    """Hold a session open while the block runs.

    A signal closes the session, which wakes whoever waits for it, until the block puts another action in charge.
    log_to: takes log lines in place of stderr. sound: chooses microphone and speaker, and returns with them the
    settings that fit. It is called here because signals must be taken before any thread starts. asks: whoever holds the
    session asks people whether tools may run. continue_from: the recorded session to go on with.
    """
    grace_s = settings.limits.close_timeout_s + _GRACE_S
    with logging_as_set(settings, log_to, told=_TOLD), interruption(grace_s) as state:
        folder = None
        try:
            settings, chosen = sound(settings)
            with opened(
                settings,
                prepared=lambda session: state.handle(lambda _which: close_soon(session)),
                sound=chosen,
                asks=asks,
                continue_from=continue_from,
                tell=lambda text: notice(invocation, text),
                starting=lambda close: state.handle(lambda _which: _soon(close)),
            ) as held:
                folder = held.recording
                notice(invocation, held.greeting)
                yield held, state
        finally:
            if folder is not None:
                notice(invocation, f"recording: {folder}")


def close_soon(session: Session, after_s: float = 0.0) -> bool:
    """Close a session from where nobody may wait; returns True: the signal behind it ends the command."""
    return _soon(session.close, after_s)


def _soon(close: Callable[[], object], after_s: float = 0.0) -> bool:
    def do() -> None:
        with contextlib.suppress(Exception):  # the thread that holds it gets the same error and reports it
            close()

    closing = threading.Timer(after_s, do)
    closing.name, closing.daemon = "realtime-close", True
    closing.start()
    return True
