"""Aligns what was handed to the speaker with what the microphone hears at the same time. Pure.

The speaker's device takes samples ahead of time, the microphone's delivers them late, and whenever one of them stumbles
(it ran empty, was cut, stood still) the distance between the two counts jumps, for good, by what was lost. A canceller
would have to find the echo anew each time. So both sides say when each block sounds or was captured, and the far sample
that belongs to a near one is looked up by these times. Only the difference of the two counts, so a constant error, or
one that both clocks share, does no harm.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from realtime_client.audio.echo.onset import Samples

_RING_S = 2.0
_SAME_S = 0.008  # times are no more exact than this; a smaller difference is no jump
_FOLLOW, _DRIFTED_S = 0.05, 0.02  # a slow change may be a mere estimate: it counts only once it adds up to so much
_AGREE = 2  # blocks that must agree on a jump before it is believed
RESERVE_MS = 40  # how late the speaker may be before silence stands in for what it has not yet handed over
_LONGEST_LEAD_S = 0.2
_STEADY_FRAMES = 60
_MARKS, _SEGMENTS = 50, 8


class SampleHistory:
    """The last samples of a stream, by number. One thread writes, another reads; neither waits."""

    def __init__(self, capacity: int) -> None:
        self._samples = np.zeros(capacity, np.int16)
        self.written = 0

    def write(self, samples: Samples) -> None:
        """Add samples; of more than fit, the last ones."""
        capacity = self._samples.size
        kept = samples[-capacity:]
        at = (self.written + samples.size - kept.size) % capacity
        first = min(kept.size, capacity - at)
        self._samples[at : at + first] = kept[:first]
        self._samples[: kept.size - first] = kept[first:]
        self.written += samples.size

    def read(self, first: int, count: int) -> Samples:
        """Copy the samples from number `first` on; zeros for those that are gone or have not come."""
        found = np.zeros(count, np.int16)
        written, capacity = self.written, self._samples.size
        begin, end = max(first, 0, written - capacity), min(first + count, written)
        if begin < end:
            found[begin - first : end - first] = self._samples[np.arange(begin, end) % capacity]
        return found


class FarLine:
    """The far side's frames of 10 ms that belong to frames of the near side.

    far_hz, near_hz: rates, multiples of 100. `write` is for the speaker's thread, `frames` for the microphone's.
    slips: how often the distance between the two jumped.
    """

    def __init__(self, far_hz: int, near_hz: int) -> None:
        self._far_hz, self._near_hz = far_hz, near_hz
        self._history = SampleHistory(int(far_hz * _RING_S))
        self._marks: deque[tuple[int, float]] = deque(maxlen=_MARKS)  # (number of a sample, when it sounds)
        self._near = 0
        self._segments: deque[tuple[int, float]] = deque(maxlen=_SEGMENTS)  # (first far number, far less near time)
        self._doubted: list[tuple[int, float]] = []
        self._lead_s = 0.0
        self._usual_s = 0.0  # the distance reported lately
        self._steady_frames = 0
        self.slips = 0

    @property
    def steady(self) -> bool:
        """False when the distance between the two has just jumped, or the far side was late."""
        return self._steady_frames > _STEADY_FRAMES

    def write(self, samples: Samples, at_s: float) -> None:
        """Take a block that is handed over, and when its first sample will sound (s). Does not wait."""
        self._marks.append((self._history.written, at_s))
        self._history.write(samples)

    def frames(self, count: int, at_s: float) -> list[Samples]:
        """Return what belongs to the next `count` frames of the near side, the first captured at `at_s` (s)."""
        near_s = self._near / self._near_hz
        while self._marks:
            first, sounds_s = self._marks.popleft()
            self._heed(first, first / self._far_hz - (sounds_s - at_s + near_s))
        size = self._far_hz // 100
        self._steady_frames += count
        found = [self._frame(near_s + index / 100, size) for index in range(count)]
        self._near += count * (self._near_hz // 100)
        return found

    def _heed(self, first: int, apart_s: float) -> None:
        """Compare the distance with what it was; believe a jump on which two blocks agree."""
        if not self._segments:
            self._begin(first, apart_s)
        elif abs(apart_s - self._usual_s) < _SAME_S:
            self._doubted.clear()
            self._usual_s += _FOLLOW * (apart_s - self._usual_s)
            drift_s = self._usual_s - self._segments[-1][1]
            if abs(drift_s) > _DRIFTED_S:  # two clocks that differ a little, after minutes
                self._move(first, self._usual_s, drift_s)
        else:
            if self._doubted and abs(apart_s - self._doubted[-1][1]) >= _SAME_S:
                self._doubted.clear()
            self._steady_frames = 0
            self._doubted.append((first, apart_s))
            if len(self._doubted) >= _AGREE:
                first, apart_s = self._doubted[0]
                self._move(first, apart_s, apart_s - self._usual_s)
                self.slips += 1

    def _begin(self, first: int, apart_s: float) -> None:
        ahead_s = (self._history.written / self._far_hz) - self._near / self._near_hz - apart_s
        self._lead_s = min(_LONGEST_LEAD_S, max(0.0, ahead_s - RESERVE_MS / 1000))
        self._usual_s = apart_s
        self._segments.append((first, apart_s))

    def _move(self, first: int, usual_s: float, by_s: float) -> None:
        """From the far sample `first` on, another distance holds."""
        self._segments.append((first, self._segments[-1][1] + by_s))
        self._usual_s = usual_s
        self._doubted.clear()

    def _frame(self, near_s: float, size: int) -> Samples:
        """Look a frame up by the newest distance that holds for it; silence where the speaker had none to play."""
        following = self._history.written + self._far_hz
        for begins, apart_s in reversed(self._segments):
            first = round((near_s + apart_s + self._lead_s) * self._far_hz)
            if first >= begins:
                frame = self._history.read(first, size)
                frame[max(0, following - first) :] = 0
                if first + size > self._history.written > 0:
                    self._steady_frames = 0
                return frame
            following = begins
        return np.zeros(size, np.int16)
