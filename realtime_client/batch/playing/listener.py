"""A listener instead of a speaker: it hears what arrives in real time, and knows how much it has heard.

Pure but for the clock. An answer is heard from the moment its first audio arrives, piece after piece without a break as
long as there is something to hear, delayed by every gap in the delivery; a device would add a delay of its own.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import NamedTuple

from realtime_client.deadline import SYSTEM_CLOCK, Clock

_KEPT_PARTS = 64
Part = tuple[str, int]


@dataclass(slots=True)
class _Stretch:
    """What has arrived of one part: before_s of it heard for sure, then length_s that began at start_s.

    told_s: so much of it was reported as heard.
    """

    start_s: float
    before_s: float = 0.0
    length_s: float = 0.0
    frozen_s: float | None = None
    told_s: float = 0.0

    def heard_s(self, now_s: float) -> float:
        if self.frozen_s is not None:
            return self.frozen_s
        return self.before_s + min(self.length_s, max(0.0, now_s - self.start_s))

    @property
    def arrived_s(self) -> float:
        return self.before_s + self.length_s


class Listened(NamedTuple):
    """A stretch that was heard without a break: of which part, from where to where in it, and since when."""

    part: Part
    from_s: float
    to_s: float
    at_s: float


class ScriptedListener:
    """Hears one session. From any thread.

    underruns: how often an answer had a gap, because the next piece came after the last was heard.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self.underruns = 0
        self._clock = clock
        self._lock = threading.Lock()
        self._parts: dict[Part, _Stretch] = {}
        self._ends_s = clock.monotonic()
        self._played: list[Listened] = []

    def arrived(self, part: Part, length_s: float, at_s: float) -> None:
        """More of a part arrived; what comes of a part after its cut is not heard."""
        with self._lock:
            stretch = self._parts.get(part)
            if stretch is None:
                stretch = self._keep(part, _Stretch(max(at_s, self._ends_s)))
            elif stretch.frozen_s is not None:
                return
            elif at_s > self._ends_s:
                self.underruns += 1
                self._report(part, stretch, at_s)
                stretch.before_s, stretch.length_s, stretch.start_s = stretch.arrived_s, 0.0, at_s
            stretch.length_s += length_s
            self._ends_s = max(at_s, self._ends_s) + length_s

    def _report(self, part: Part, stretch: _Stretch, now_s: float) -> None:
        """Note what was heard of a part since the last time."""
        heard_s = stretch.heard_s(now_s)
        if heard_s > stretch.told_s and len(self._played) < _KEPT_PARTS:
            at_s = stretch.start_s + stretch.told_s - stretch.before_s
            self._played.append(Listened(part, stretch.told_s, heard_s, at_s))
            stretch.told_s = heard_s

    def played(self) -> list[Listened]:
        """Return what was heard since the last time, in order."""
        now_s = self._clock.monotonic()
        with self._lock:
            for part, stretch in self._parts.items():
                self._report(part, stretch, now_s)
            played, self._played = self._played, []
            return played

    def _keep(self, part: Part, stretch: _Stretch) -> _Stretch:
        self._parts[part] = stretch
        if len(self._parts) > _KEPT_PARTS:
            del self._parts[next(iter(self._parts))]
        return stretch

    def heard_ms(self, item_id: str, content_index: int) -> int:
        """How much of a part was heard, now that it is cut; the session asks.

        From here on, nothing of what has arrived so far is heard.
        """
        now_s = self._clock.monotonic()
        with self._lock:
            if now_s < self._ends_s:
                self._ends_s = now_s
                for stretch in self._parts.values():
                    stretch.frozen_s = stretch.heard_s(now_s)
            part = (item_id, content_index)
            for each, known in self._parts.items():
                self._report(each, known, now_s)
            stretch = self._parts.get(part) or self._keep(part, _Stretch(now_s, frozen_s=0.0))
            heard_s = stretch.heard_s(now_s)
            # All of it means all of it, not less by rounding, or the server would be told to cut the last millisecond.
            return math.ceil(heard_s * 1000) if heard_s >= stretch.arrived_s else int(heard_s * 1000)

    def so_far_ms(self, parts: list[Part]) -> float:
        """How much of these parts has been heard until now, without cutting them."""
        now_s = self._clock.monotonic()
        with self._lock:
            return 1000 * sum(self._parts[part].heard_s(now_s) for part in parts if part in self._parts)

    def remaining_s(self) -> float:
        """How long it takes to hear what has arrived; 0 when there is silence."""
        with self._lock:
            return max(0.0, self._ends_s - self._clock.monotonic())


class PatientListener:
    """Hears everything, except what a scenario says: for runs in which nobody listens in real time.

    All that arrived counts as heard, until `stop_at` names a moment: an interruption after it cuts there.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._limits: dict[Part, int] = {}

    def stop_at(self, parts: dict[Part, float], heard_ms: float) -> None:
        """Of these parts (their lengths in ms, in order) so much in all is heard, and no more."""
        with self._lock:
            self._limits.clear()
            for part, length_ms in parts.items():
                self._limits[part] = int(min(length_ms, heard_ms))
                heard_ms -= self._limits[part]

    def heard_ms(self, item_id: str, content_index: int) -> int | None:
        """How much of a part was heard; None for all that arrived; the session asks."""
        with self._lock:
            return self._limits.get((item_id, content_index))
