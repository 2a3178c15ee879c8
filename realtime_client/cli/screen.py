"""Where a chat is shown: a line to type on, with the answer growing above it.

Two screens with one interface: `LineScreen` for terminals that can move the cursor, `PlainScreen` for everything else.
Everything but `run` may be called from any thread and does not wait for the terminal. Text is made printable here, so
nothing a model says can control the terminal.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Protocol

from realtime_client.cli.status import Status
from realtime_client.deadline import SYSTEM_CLOCK

DIM, PLAIN = "\x1b[2m", "\x1b[22m"
_STUCK_S = 1.0

OnLine = Callable[[str], None]
OnInterrupt = Callable[[], None]
OnTyping = Callable[[], None]
GoesOn = Callable[[], bool]


class Controls(Protocol):
    """What a screen shows of live sound, and the talk key that it takes; all called in the screen's thread."""

    def status(self) -> Status | None:
        """Return what the row at the bottom shows now; None for no row."""
        ...

    def press(self) -> None:
        """The talk key was pressed."""
        ...

    def release(self) -> None:
        """The talk key was let go."""
        ...


class Screen(Protocol):
    """What a chat needs of its screen. hung_up: the terminal is gone, which ended `run`."""

    hung_up: bool

    def write(self, text: str) -> None:
        """Show more of the running answer."""
        ...

    def end_line(self) -> None:
        """Start a new line unless one has just begun."""
        ...

    def notice(self, text: str) -> None:
        """Show a line of the program's own, apart from the answer."""
        ...

    def aside(self, text: str) -> None:
        """Show a notice that may be overlooked: dim, where the terminal can do that."""
        ...

    def echo(self, line: str) -> None:
        """Show a line that was typed, unless the terminal did so itself."""
        ...

    def pin(self, key: str, text: str, *, passing: bool = False, every_s: float = 0.0) -> None:
        """Keep a line in sight until `unpin`; another one under the same key takes its place.

        passing: it may be cut, or make room for others. Where no line can be redrawn, each is shown; those that are
        passing, or have an `every_s` (seconds), only so often, and the first one not at all.
        """
        ...

    def unpin(self, key: str) -> None:
        """Take a line that was pinned off the screen, where that can be done."""
        ...

    def stop(self) -> None:
        """Make `run` return soon."""
        ...

    def add_controls(self, controls: Controls) -> None:
        """Show live sound and take the talk key, where the terminal can; before `run`."""
        ...

    def interrupt(self) -> bool:
        """Take a Ctrl-C that came as a signal, like the key; False if `run` does not run, or is stuck."""
        ...

    def abandon(self) -> None:
        """Give the terminal back as it was although `run` is still running: the process ends by force."""
        ...

    def run(
        self, on_line: OnLine, on_interrupt: OnInterrupt, on_typing: OnTyping = lambda: None, goes_on: GoesOn = bool
    ) -> None:
        """Read lines until the end of input, `stop`, or until the terminal is gone. The callbacks run in one thread.

        on_interrupt: Ctrl-C, with nothing typed: half a line is cleared by it. on_typing: the line being typed changed.
        goes_on: whether there is something to wait for when piped input is at its end.
        """
        ...


class Interrupts:
    """Whether a Ctrl-C that came as a signal is handled: a screen that is stuck does not handle it."""

    def __init__(self) -> None:
        self._since_s: float | None = None

    def come(self) -> bool:
        """One has come; False if the one before has waited too long."""
        now_s = SYSTEM_CLOCK.monotonic()
        if self._since_s is None:
            self._since_s = now_s
        return now_s - self._since_s < _STUCK_S

    def taken(self) -> None:
        """It is handled."""
        self._since_s = None


def dim(text: str) -> str:
    """Return `text` dimmed if stderr is a terminal that shows colours (see no-color.org)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stderr.isatty():
        return text
    return f"{DIM}{text}{PLAIN}"
