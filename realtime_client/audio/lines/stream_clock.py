"""When the samples of a device sound, or were captured, judged by when its callbacks arrive. Pure.

With every callback a device states the time of its first sample, but not all of them tell the truth: ALSA's route to
PulseAudio extrapolates, and on a busy machine a fresh stream was seen to claim a delay of 0 ms and then 65 ms more each
second, up to 160, when the true delay was 42 ms. The callbacks themselves arrived on time. A device that is kept full
asks for a block as soon as one has been played, so (arrival less position) has a lower bound that moves only when the
device ran empty, or with its clock; how long after that line a sample sounds is a constant of the device, which is
learnt from what it tells: slowly, and anew only if it tells something else steadily for two seconds.

While a stream is being filled (the first blocks come at once), and until the constant is known, what is told counts.
"""

from __future__ import annotations

from collections import deque

_FILLING_S = 0.005  # a block that fills the device comes so much earlier than before
_RECENT = 5  # blocks that all come late: the device ran empty
_LATE_S = 0.008
_DRIFT = 2e-4  # of a device's clock against ours, at most
_FOLLOW = 0.02
_NEAR_S, _SAME_S = 0.008, 0.004
_FIRST, _ANEW = 25, 100  # blocks that must state the same constant before it is believed
_OUTLIER = 10  # one that states another constant undoes so many of them


class StreamClock:
    """The time line of one device at `rate_hz`, over all streams that are opened on it with the same buffer.

    `at_s` belongs to the callback; it takes no lock.
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._filling = False
        self._line_s = 0.0  # the earliest arrival, less position
        self._position = 0
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._delay_s: float | None = None  # from the line to the sound
        self._candidate_s = 0.0
        self._agreed = 0

    def at_s(self, position: int, told_s: float, now_s: float, *, anew: bool) -> float:
        """Return the time of the sample at a position, which the device states as `told_s` in a callback at `now_s`.

        anew: it is the first of a stream, or the device ran empty before it.
        """
        came_s = now_s - position / self._rate_hz
        if anew:
            self._line_s, self._filling = came_s, True
            self._recent.clear()
        else:
            self._filling = self._filling and came_s < self._line_s - _FILLING_S
            self._follow(came_s, (position - self._position) / self._rate_hz)
        self._position = position
        if self._filling:
            self._line_s = came_s
            return told_s
        self._learn(told_s - self._line_s - position / self._rate_hz)
        return told_s if self._delay_s is None else self._line_s + position / self._rate_hz + self._delay_s

    def _follow(self, came_s: float, passed_s: float) -> None:
        """Move the line to the earliest arrivals; up only with a clock that is slow, or if all come later."""
        self._recent.append(came_s)
        earliest_s = min(self._recent)
        if len(self._recent) == _RECENT and earliest_s > self._line_s + _LATE_S:
            self._line_s = earliest_s
        else:
            self._line_s = min(earliest_s, self._line_s + _DRIFT * passed_s)

    def _learn(self, delay_s: float) -> None:
        """Take what the device tells, as a delay from the line."""
        known_s = self._delay_s
        if known_s is not None and abs(delay_s - known_s) < _NEAR_S:
            self._delay_s = known_s + _FOLLOW * (delay_s - known_s)
            self._agreed = 0
            return
        if self._agreed and abs(delay_s - self._candidate_s) < _SAME_S:
            self._agreed += 1
            self._candidate_s += _FOLLOW * (delay_s - self._candidate_s)
        else:
            self._agreed = max(0, self._agreed - _OUTLIER)
            if not self._agreed:
                self._agreed, self._candidate_s = 1, delay_s
        if self._agreed >= (_FIRST if known_s is None else _ANEW):
            self._delay_s, self._agreed = self._candidate_s, 0
