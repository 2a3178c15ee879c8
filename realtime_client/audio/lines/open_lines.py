"""The open lines of this process, and reading the list of devices again in spite of them."""

from __future__ import annotations

import contextlib
import threading
import weakref
from typing import TYPE_CHECKING

from realtime_client.audio import devices
from realtime_client.audio.devices import Direction

if TYPE_CHECKING:
    from realtime_client.audio.lines.line import Line

REFRESH_LIMIT_S = 3.0
_open: weakref.WeakSet[Line] = weakref.WeakSet()
_lock = threading.Lock()
_rescan_lock = threading.Lock()  # one at a time: it holds the locks of all lines


def add(line: Line) -> None:
    """Take note of a line that was opened."""
    with _lock:
        _open.add(line)


def discard(line: Line) -> None:
    """Forget a line that is closed."""
    with _lock:
        _open.discard(line)


def open_lines(direction: Direction | None = None) -> list[Line]:
    """Return the lines of this process that are open."""
    with _lock:
        return [line for line in _open if direction in (None, line.direction)]


def rescan() -> bool:
    """Read the list of devices again although lines are open: all lines of this process pause for that moment.

    They go on where they were, or on the chosen device if it is back in the list. False if it could not be done: a call
    hangs, or a stream is open that belongs to no line. Errors: DeviceError; the lines go on all the same.
    """
    if not devices.can_refresh():
        return False
    with _rescan_lock, contextlib.ExitStack() as paused:
        for line in open_lines():
            paused.enter_context(line.paused())
        return devices.limited(devices.refresh, REFRESH_LIMIT_S)
