"""When each sample that was handed to a device sounds. Pure.

With every callback the device says when the next sample will sound. Between consecutive samples that difference (time
minus position) stays the same, but for the drift of two clocks, which is followed slowly, and the jitter of callbacks,
which is not. Where it jumps by more than 8 ms and stays there, the sound was held up, or the device was emptied: a new
stretch begins.

Only what is known to have sounded is reported: up to the position that was audible at the last callback. What a device
holds when its callbacks stop may never be heard.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

JUMP_S = 0.008
_MARKS = 1024  # 20 s of callbacks that nobody collected
_STRETCHES = 64
_FOLLOW = 0.02
_SURE = 3  # callbacks that agree on a jump


class Span(NamedTuple):
    """Positions from `begin` to before `end`; the first sounded at `at_s` (monotonic clock), the others followed on."""

    begin: int
    end: int
    at_s: float


class Sounding:
    """The time line of one stream at `rate_hz`. `mark` belongs to the callback, all else to one thread."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._marks: deque[tuple[int, float, float]] = deque(maxlen=_MARKS)
        self._stretches: deque[tuple[int, float]] = deque(maxlen=_STRETCHES)  # (first position, when position 0 was)
        self._jump: list[tuple[int, float]] = []
        self._sounded = 0

    def mark(self, position: int, at_s: float, now_s: float) -> None:
        """Note, at `now_s`, that the sample at a position will sound at `at_s`. Takes no lock."""
        self._marks.append((position, at_s, now_s))

    @property
    def sounded(self) -> int:
        """The position up to which everything is known to have sounded."""
        while self._marks:
            self._take(*self._marks.popleft())
        return min(self._sounded, self._jump[0][0]) if self._jump else self._sounded

    def spans(self, begin: int, end: int) -> list[Span]:
        """Return when the positions from `begin` to before `end` sounded, cut where the sound was held up."""
        found: list[Span] = []
        stretches = list(self._stretches)
        for index, (first, zero_s) in enumerate(stretches):
            low = begin if index == 0 else max(begin, first)
            high = end if index + 1 == len(stretches) else min(end, stretches[index + 1][0])
            if low < high:
                found.append(Span(low, high, zero_s + low / self._rate_hz))
        return found

    def _take(self, position: int, at_s: float, now_s: float) -> None:
        zero_s = at_s - position / self._rate_hz
        self._sounded = max(self._sounded, position - max(0, round((at_s - now_s) * self._rate_hz)))
        if not self._stretches:
            self._stretches.append((position, zero_s))
            return
        first, before_s = self._stretches[-1]
        if abs(zero_s - before_s) <= JUMP_S:
            self._jump.clear()
            self._stretches[-1] = (first, before_s + (zero_s - before_s) * _FOLLOW)
            return
        self._jump.append((position, zero_s))
        if len(self._jump) == _SURE:
            self._stretches.append((self._jump[0][0], min(zero for _, zero in self._jump)))
            self._jump.clear()
