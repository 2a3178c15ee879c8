"""Time: the one place that reads a clock.

Everything that measures or waits takes a `Clock`, so that a test can hand in one that it moves itself.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where time comes from."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never jumps."""
        ...

    def wall(self) -> float:
        """Seconds since the epoch, UTC; may jump."""
        ...


class SystemClock:
    """The machine's own clocks."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)


SYSTEM_CLOCK: Clock = SystemClock()


class Deadline:
    """A moment by which something must be over.

    seconds: from now; None for no limit.
    """

    __slots__ = ("_at", "_clock")

    def __init__(self, seconds: float | None, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._at = None if seconds is None else clock.monotonic() + seconds

    def remaining_s(self) -> float | None:
        """Seconds left, never below 0; None for no limit. Fits every `timeout` argument."""
        if self._at is None:
            return None
        return max(0.0, self._at - self._clock.monotonic())

    def at_most_s(self, seconds: float) -> float:
        """Seconds left, but no more than `seconds`: one step of a wait that has a limit of its own."""
        remaining = self.remaining_s()
        return seconds if remaining is None else min(seconds, remaining)

    @property
    def expired(self) -> bool:
        """True once the moment has passed."""
        return self._at is not None and self._clock.monotonic() >= self._at


NO_DEADLINE = Deadline(None)
