"""Telling near speech from the assistant's echo in the same frame, band by band. Pure.

Two voices are rarely loud at the same time in the same band, so speech that is no louder than the echo still stands out
from it in some. For each frame of 10 ms the echo to be expected in a band is what was handed to the speaker in it, at
the delay of the path and with a room's decay, plus the band's coupling. What is heard above that, and above the band's
noise, averaged over all bands, is the excess; near speech is excess clearly greater than what the assistant alone
makes. Delay, coupling and the usual excess are followed while nobody near is found to speak.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

from realtime_client.audio.echo.onset import Samples

Levels = npt.NDArray[np.float64]
BANDS = 18
_LOW_HZ, _HIGH_HZ = 150.0, 7_000.0
_LEAST_DB = -100.0
_LONGEST_FRAMES = 50  # the longest delay to look for
_DECAY_DB = 1.5  # a frame: 60 dB in 0.4 s; what a room holds longer is learnt as more coupling
_LOUD_DB = -62.0  # a band: quieter sound says nothing sure about the coupling
_SHARE, _STEP_DB = 0.95, 0.4  # the coupling is exceeded in so few of the frames
_NOISE_MARGIN_DB, _NOISE_RISE_DB = 15.0, 0.01  # over the least level of a band, which is far below its mean
_MOST_DB = 15.0  # one band counts no more
_WINDOW_FRAMES, _PENDING = 50, 12
_LEARN_FRAMES = 150
_EARLY, _LATE = 3, 2  # frames around the delay that the echo may come in
_USUAL_STEP_DB, _USUAL_DB = 0.01, (0.3, 1.5)
_MORE, _MORE_DB = 2.0, 0.9  # than the excess that 95 % of the assistant's frames do not have
_UNSTEADY_DB, _UNSTEADY_FRAMES = 3.0, 12
_MEMORY_FRAMES = 300  # over which the delay is looked for
_SURE_CORRELATION = 0.5
_LOOKS_TO_CHANGE = 8  # someone near may speak for a long time, and then looking is misleading


class BandLevels:
    """Levels of a stream in bands, in dB, one row for each frame of 10 ms, over two frames."""

    def __init__(self, rate_hz: int) -> None:
        size = rate_hz // 50
        self._window = np.hanning(size) / 32_768
        self._before = np.zeros(rate_hz // 100)
        self._silent = True
        high_hz = min(_HIGH_HZ, 0.45 * rate_hz)
        edges = np.geomspace(_LOW_HZ + 250, high_hz + 250, BANDS + 1) - 250  # evenly spaced for the ear, nearly
        self._edges = np.unique(np.maximum(1, np.round(edges * size / rate_hz).astype(int)))
        self.bands = self._edges.size - 1

    def of(self, frame: Samples) -> Levels:
        """Take the next frame."""
        before_silent, self._silent = self._silent, not frame.any()
        if before_silent and self._silent:  # most frames of an assistant who listens
            return np.full(self.bands, _LEAST_DB)
        now = frame.astype(np.float64)
        spectrum = np.fft.rfft(np.concatenate((self._before, now)) * self._window)
        self._before = now
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        sums = np.add.reduceat(power, self._edges)[:-1] * (4 / self._window.size**2)
        levels: Levels = 10 * np.log10(np.maximum(sums, 1e-10))
        return levels


class DelayFinder:
    """Finds by how many frames one stream of levels follows another."""

    def __init__(self) -> None:
        self._far = np.full(_MEMORY_FRAMES + _LONGEST_FRAMES, _LEAST_DB)
        self._near = np.full(_MEMORY_FRAMES, _LEAST_DB)
        self._seen = 0
        self._guess, self._agreed = -1, 0
        self.frames: int | None = None

    def note(self, far_db: float, near_db: float) -> None:
        """Take the levels of one frame of each."""
        at = self._seen % _WINDOW_FRAMES
        if at == 0:
            self._far[:-_WINDOW_FRAMES] = self._far[_WINDOW_FRAMES:]
            self._near[:-_WINDOW_FRAMES] = self._near[_WINDOW_FRAMES:]
        self._far[at - _WINDOW_FRAMES], self._near[at - _WINDOW_FRAMES] = far_db, near_db
        self._seen += 1
        if at == _WINDOW_FRAMES - 1:
            self._look()

    def _look(self) -> None:
        """The delay with the greatest correlation, if two looks agree on it, or many that it has changed."""
        near = np.maximum(self._near, -70) - np.maximum(self._near, -70).mean()
        far = np.maximum(self._far, -70)
        if not near.any():
            return
        found = np.zeros(_LONGEST_FRAMES + 1)
        for delay in range(_LONGEST_FRAMES + 1):
            part = far[_LONGEST_FRAMES - delay : far.size - delay]
            part = part - part.mean()
            found[delay] = part @ near / (np.sqrt((part @ part) * (near @ near)) + 1e-9)
        best = int(np.argmax(found))
        if found[best] < _SURE_CORRELATION:
            return
        self._agreed = self._agreed + 1 if abs(best - self._guess) <= 1 else 0
        if self._agreed >= (1 if self.frames is None else _LOOKS_TO_CHANGE):
            self.frames = best
        self._guess = best


class EchoBands:
    """How much of each frame is not echo.

    delay_frames: the path's delay, None to find it. coupling_db: as measured, None to learn it.
    """

    def __init__(self, far_hz: int, near_hz: int, delay_frames: int | None, coupling_db: float | None) -> None:
        self._far_levels, self._near_levels = BandLevels(far_hz), BandLevels(near_hz)
        bands = min(self._far_levels.bands, self._near_levels.bands)
        self._bands = bands
        self._far = np.full((_LONGEST_FRAMES + 4, bands), _LEAST_DB)  # newest first
        self._expected = np.full(bands, _LEAST_DB)
        self._coupling = np.full(bands, 0.0 if coupling_db is None else coupling_db + 3.0)
        self._noise = np.full(bands, -40.0)
        self._finder = DelayFinder()
        self._delay = delay_frames
        self._measured = coupling_db is not None
        self._usual_db = 1.0
        self._steady = True
        self._pending: deque[tuple[Levels, float]] = deque(maxlen=_PENDING)
        self._learnt = 0
        self.excess_db = 0.0

    @property
    def known(self) -> bool:
        """True if the path was measured, or once the assistant was heard for long enough."""
        return self._measured or self._learnt >= _LEARN_FRAMES

    @property
    def loud(self) -> bool:
        """The assistant is loud enough for what is heard to reveal the path."""
        return bool(self._expected.max() >= _LOUD_DB + 10)

    @property
    def threshold_db(self) -> float:
        """The excess that near speech must have."""
        return _MORE * self._usual_db + _MORE_DB + (0.0 if self._steady else _UNSTEADY_DB)

    def step(self, far: Samples, near: Samples, *, steady: bool = True) -> None:
        """Take 10 ms of both sides; `excess_db` is then about them. steady: their alignment has not changed."""
        self._steady = steady
        far_db, near_db = self._far_levels.of(far)[: self._bands], self._near_levels.of(near)[: self._bands]
        self._far[1:] = self._far[:-1]
        self._far[0] = far_db
        self._finder.note(float(far_db.max()), float(near_db.max()))
        self._noise = np.minimum(near_db, self._noise + _NOISE_RISE_DB)
        delay = self._finder.frames if self._finder.frames is not None else self._delay
        first, last = (0, _LONGEST_FRAMES) if delay is None else (max(0, delay - _EARLY), delay + _LATE)
        if not steady or self._learnt < _LEARN_FRAMES:
            first, last = max(0, first - _UNSTEADY_FRAMES), min(_LONGEST_FRAMES, last + _UNSTEADY_FRAMES)
        self._expected = np.maximum(self._far[first:last].max(axis=0), self._expected - _DECAY_DB)
        self._over = near_db - self._expected
        bar = np.maximum(self._expected + self._coupling, self._noise + _NOISE_MARGIN_DB)
        self.excess_db = float(np.clip(near_db - bar, 0, _MOST_DB).mean())

    def learn(self) -> None:
        """The last frame held nobody's speech: follow what the echo does."""
        if not (self._steady and self.loud):
            return
        self._pending.append((np.where(self._expected > _LOUD_DB, self._over, np.nan), self.excess_db))
        if len(self._pending) < _PENDING:
            return
        over, excess_db = self._pending.popleft()
        self._learnt += 1
        fast = 5.0 if self._learnt < _LEARN_FRAMES else 1.0
        with np.errstate(invalid="ignore"):
            step = np.where(over > self._coupling, _SHARE, _SHARE - 1) * _STEP_DB * fast
        self._coupling += np.where(np.isnan(over), 0.0, step)
        if self._learnt > _LEARN_FRAMES // 2:
            step_db = (_SHARE if excess_db > self._usual_db else _SHARE - 1) * _USUAL_STEP_DB * fast
            self._usual_db = min(max(self._usual_db + step_db, _USUAL_DB[0]), _USUAL_DB[1])

    def forget_last(self) -> None:
        """Near speech began: the last frames were not echo alone."""
        self._pending.clear()
