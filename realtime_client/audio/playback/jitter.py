"""How late sound arrives, and how much of it to hold back so that it plays without gaps. Pure.

The transit of a piece is when it came, less how much of its part came before it; the least transit of the
part (at most 500 ms below that of its first piece: a server that sends faster than sound plays goes far below) is what
on time means. The lateness of a piece is what its transit is above that (RFC 3550 compares transit times in the same
way). The prebuffer is the greatest of the last 200 latenesses plus one device block, never below the given prebuffer
(at least 40 ms) nor above 520 ms. A piece more than 500 ms late is a stall, not jitter: it counts as 500 ms, and what
on time means is found anew. Playing starts when the first piece that waits is the prebuffer behind what is on time; or
when all of the part is there; or, as long as nothing came late, when as much as the prebuffer is there.

Before the first 5 s of sound have come nothing is known of how late it may come. Until then a start prebuffer holds
(300 ms of lateness and one block). A server that sends faster than sound plays, as most do, is not held up by it: as
soon as that much is there, and one piece more, playing starts.
"""

from __future__ import annotations

from collections import deque

Part = tuple[str, int]
"""One spoken part of an answer: (item id, content index)."""

MIN_PREBUFFER_MS = 40
MAX_LATENESS_MS = 500
BLOCK_MS = 20
START_MS = 300 + BLOCK_MS
_HISTORY = 200
_KNOWN_AFTER_S = 5.0


class Jitter:
    """How late pieces of sound come, and the prebuffer that this calls for.

    least_ms: the prebuffer when nothing comes late. start_ms: the least while nothing is known.
    """

    def __init__(self, least_ms: int, start_ms: int = 0) -> None:
        self._least_ms = max(MIN_PREBUFFER_MS, least_ms)
        self._start_ms = max(self._least_ms, start_ms)
        self._came_s = 0.0
        self._late_ms: deque[float] = deque(maxlen=_HISTORY)
        self._part: Part | None = None
        self._duration_s = 0.0  # of the part so far
        self._on_time_s = 0.0  # the transit that counts as on time ...
        self._least_s = 0.0  # ... and how low it may go
        self._first_s = 0.0  # the transit of the first piece that waits to be played
        self.late_ms = 0.0  # how late the last piece came
        self.late = False  # something came late recently: a backlog says nothing about what is still on its way
        self.prebuffer_ms = self.wait_ms = self.enough_ms = self._start_ms

    def arrived(self, part: Part, duration_s: float, at_s: float, *, first: bool = False) -> None:
        """Take note that this much sound of a part came at `at_s`; `first`: nothing else waited to be played.

        Sets `prebuffer_ms`; `wait_ms`: how long after it came the first piece is to be played; and `enough_ms`: how
        much must be there for not waiting so long, as long as nothing came late.
        """
        first = first or part != self._part
        if part != self._part:
            self._part, self._duration_s = part, 0.0
            self._expect(at_s)
        transit_s = at_s - self._duration_s
        self._duration_s += duration_s
        self._on_time_s = max(self._least_s, min(self._on_time_s, transit_s))
        late_ms = (transit_s - self._on_time_s) * 1000
        if late_ms > MAX_LATENESS_MS:
            self._expect(transit_s)
            late_ms, first = MAX_LATENESS_MS, True
        if first:
            self._first_s = transit_s
        self.late_ms = max(0.0, late_ms)
        self._late_ms.append(self.late_ms)
        high = max(self._late_ms)
        wanted = high + BLOCK_MS if high > BLOCK_MS / 2 else 0
        self._came_s += duration_s
        unknown = self._came_s < _KNOWN_AFTER_S and self._start_ms > self._least_ms
        self.late = wanted > self._least_ms
        self.prebuffer_ms = round(max(self._start_ms if unknown else self._least_ms, wanted))
        self.enough_ms = self.prebuffer_ms + (round(duration_s * 1000) if unknown else 0)
        self.wait_ms = round(self.prebuffer_ms - (self._first_s - self._on_time_s) * 1000)

    def _expect(self, transit_s: float) -> None:
        self._on_time_s, self._least_s = transit_s, transit_s - MAX_LATENESS_MS / 1000
