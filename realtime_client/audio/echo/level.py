"""How loud the echo may be, and whether a canceller has found it: judged by levels. Pure."""

from __future__ import annotations

from collections import deque

import msgspec
import numpy as np

from realtime_client.audio.echo.onset import FRAME_MS, SILENCE_DBFS, Samples

HOLD_MS = 750
_AUDIBLE_DBFS = -60.0
_PENDING_FRAMES = 10


class EchoPath(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the way from the speaker to the microphone.

    delay_ms: from handing over a sample to its echo, None if unknown. return_loss_db: how much quieter the echo is than
    what was handed over, None if unknown. hold_ms: how long after the last audible sample echo may still be heard.
    """

    delay_ms: float | None = None
    return_loss_db: float | None = None
    hold_ms: float = HOLD_MS


class EchoLevel:
    """How loud the echo may be now, from what was handed to the speaker.

    path: what is known. residual_db: how much of the echo a canceller is trusted to take away from the start.
    """

    _SPREAD_FRAMES = 5
    _UNKNOWN_FRAMES = 50  # without a measured delay, the echo may arrive within so many frames
    _DECAY_DB = 0.6  # a frame; 60 dB in a second, a reverberant room
    _LOUD_DBFS = -45.0  # quieter sound says nothing certain about the coupling
    _WINDOW_FRAMES, _WINDOWS = 50, 20  # the greatest coupling of the last 10 s of loud assistant
    _LEARN_FRAMES = 200
    _UNSURE_DB = 3.0  # more margin without a measurement
    _COUPLING_DB = (-60.0, 20.0)
    _RISE_DB = 4.0  # unrecognised speech may not raise a measured coupling by more than this
    _NOISE_DB = 10.0

    def __init__(self, path: EchoPath, residual_db: float = 0.0) -> None:
        delay = None if path.delay_ms is None else round(path.delay_ms / FRAME_MS)
        self._from = 0 if delay is None else max(0, delay - self._SPREAD_FRAMES)
        self._to = self._UNKNOWN_FRAMES if delay is None else delay + self._SPREAD_FRAMES
        self._hold = max(self._to, round(path.hold_ms / FRAME_MS))
        self._levels = deque([SILENCE_DBFS] * (self._to + 1), self._to + 1)  # newest first
        self._since_audible = self._hold + 1
        self._far_dbfs = SILENCE_DBFS
        self._measured = None if path.return_loss_db is None else residual_db - path.return_loss_db
        self._maxima: deque[float] = deque(maxlen=self._WINDOWS)
        self._pending: deque[float] = deque(maxlen=_PENDING_FRAMES)
        self._window = SILENCE_DBFS
        self._learnt = 0

    @property
    def audible(self) -> bool:
        """True while the assistant, or what the room keeps of it, may be heard."""
        return self._since_audible <= self._hold

    @property
    def known(self) -> bool:
        """True once there is a coupling to go by."""
        return self._measured is not None or self._learnt >= self._LEARN_FRAMES

    @property
    def coupling_db(self) -> float:
        """The echo's level minus the level handed to the speaker: as measured, and followed within bounds.

        Without a measurement, the median of the latest maxima: some of them contain unrecognised near speech.
        """
        least, most = self._COUPLING_DB
        if self._measured is None:
            maxima = sorted(self._maxima)
            return max(least, min(most, maxima[len(maxima) // 2])) if maxima else most
        least = self._measured if self._learnt < self._LEARN_FRAMES else least
        most = self._measured + self._RISE_DB
        heard = max((*self._maxima, self._window))
        return max(least, min(most, heard))

    @property
    def dbfs(self) -> float:
        """The echo's level to be expected now; -96 for none, 0 (nothing is louder) while the coupling is not known."""
        if not self.audible:
            return SILENCE_DBFS
        if not self.known:
            return 0.0
        unsure_db = self._UNSURE_DB if self._measured is None else 0.0
        return max(SILENCE_DBFS, self._far_dbfs + self.coupling_db + unsure_db)

    def restart(self) -> None:
        """Neither what was learnt of the coupling nor what was measured holds any longer."""
        self._measured = None
        self._maxima.clear()
        self._pending.clear()
        self._window, self._learnt = SILENCE_DBFS, 0

    def handed(self, level_dbfs: float) -> None:
        """Take the level of the next frame that goes to the speaker."""
        self._levels.appendleft(level_dbfs)
        self._since_audible = 0 if level_dbfs > _AUDIBLE_DBFS else self._since_audible + 1

    def advance(self, frames: int) -> None:
        """Let time pass by so many frames of the microphone."""
        loudest = max(list(self._levels)[self._from :])
        self._far_dbfs = max(loudest, self._far_dbfs - self._DECAY_DB * frames, SILENCE_DBFS)

    def heard(self, level_dbfs: float, noise_dbfs: float) -> None:
        """Take the level of a frame in which nobody near was found to speak."""
        if self._far_dbfs < self._LOUD_DBFS:
            return
        is_noise = level_dbfs < noise_dbfs + self._NOISE_DB
        self._pending.append(self._COUPLING_DB[0] if is_noise else level_dbfs - self._far_dbfs)
        if len(self._pending) < _PENDING_FRAMES:
            return
        self._window = max(self._window, self._pending.popleft())
        self._learnt += 1
        if self._learnt % self._WINDOW_FRAMES == 0:
            self._maxima.append(self._window)
            self._window = SILENCE_DBFS

    def forget_last(self) -> None:
        """Near speech began: the last frames were not echo alone."""
        self._pending.clear()


class CancellerTrust:
    """Whether a canceller has found the echo: it took 10 dB away over 0.3 s of the assistant alone.

    When the path jumps it has to find it anew.
    """

    _FRAMES, _LEAST_ERLE = 30, 10.0
    _LOST_DB, _LOST_FRAMES = 6.0, 5

    def __init__(self) -> None:
        self.given = False
        self._lost = 0
        self._frames, self._before, self._after = 0, 0.0, 0.0

    def note(self, near: Samples, clean: Samples, *, steady: bool, alone: bool) -> None:
        """Take a frame as it was and as the canceller left it. alone: the assistant is loud, and nobody near speaks."""
        if not steady:
            self.given, self._frames = False, 0
        elif alone and not self.given:
            keep = 0.0 if self._frames == 0 else 1 - 1 / self._FRAMES
            self._before = keep * self._before + float(near.astype(np.float32).var())
            self._after = keep * self._after + float(clean.astype(np.float32).var())
            self._frames += 1
            self.given = self._frames >= self._FRAMES and self._before > self._LEAST_ERLE * self._after

    def doubt(self, over_db: float, *, hint: bool) -> bool:
        """Take by how much the residue exceeds the usual one; True if the canceller has lost the echo.

        hint: the microphone heard more than echo. Without one, frames far above are echo all the same.
        """
        if over_db > self._LOST_DB:
            self._lost = max(0, self._lost - 2) if hint else self._lost + 1
        else:
            self._lost = max(0, self._lost - 1)
        if self.given and self._lost >= self._LOST_FRAMES:
            self.given, self._frames, self._lost = False, 0, 0
            return True
        return False
