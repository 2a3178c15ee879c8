"""Gain that never clicks. Pure."""

from __future__ import annotations

from typing import Any

FADE_MS = 5
SCRATCH = 4096


class Ramp:
    """Gain, moved along a raised cosine of `FADE_MS`, so that no change clicks. Belongs to the reader."""

    def __init__(self, rate_hz: int) -> None:
        import numpy as np

        self._length = max(1, rate_hz * FADE_MS // 1000)
        self._rise = ((1 - np.cos(np.pi * (np.arange(self._length) + 0.5) / self._length)) / 2).astype(np.float32)
        self._fall = self._rise[::-1].copy()
        self._gains = np.ones(SCRATCH, np.float32)
        self._from = self._to = 1.0
        self._at = self._length
        self._tail = self._length
        self._last = 0.0
        self._numpy: Any = np

    def silence(self) -> None:
        """Begin at no gain: the next samples rise from silence."""
        self._from, self._to, self._at = 0.0, 0.0, self._length

    def apply(self, samples: Any, gain: float) -> None:
        """Bring samples (int16, at most `SCRATCH`) to a gain, in place."""
        count = len(samples)
        if gain != self._to:
            self._from, self._to, self._at = self._now(), gain, 0
        if self._at < self._length:
            ramp = min(count, self._length - self._at)
            gains = self._gains[:count]
            gains[ramp:] = gain
            self._numpy.multiply(self._rise[self._at : self._at + ramp], gain - self._from, out=gains[:ramp])
            gains[:ramp] += self._from
            self._numpy.multiply(samples, gains, out=samples, casting="unsafe")
            self._at += ramp
        elif gain != 1.0:
            self._numpy.multiply(samples, self._numpy.float32(gain), out=samples, casting="unsafe")
        self._last, self._tail = float(samples[-1]), 0

    def _now(self) -> float:
        if self._at >= self._length:
            return self._to
        return self._from + (self._to - self._from) * float(self._rise[self._at])

    def tail(self, out: Any) -> None:
        """Fill with the last sample dying away, then zeros: sound that stops anywhere does not click."""
        count = min(len(out), self._length - self._tail)
        if count > 0 and self._last:
            fall = self._fall[self._tail : self._tail + count]
            self._numpy.multiply(fall, self._numpy.float32(self._last), out=out[:count], casting="unsafe")
        else:
            count = 0
        out[count:] = 0
        self._tail += count
        if self._tail >= self._length:
            self._last = 0.0

    def stop(self) -> None:
        """Forget the last sample: nothing dies away."""
        self._last = 0.0
