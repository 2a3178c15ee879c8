"""Finding the beginning of near speech quickly, for local barge-in. Pure.

The sound is cut into frames of 10 ms and each frame's level is compared with a threshold: the noise floor, or the echo
to be expected, plus a margin. Frames above it add evidence, the more the clearer they are; frames below it remove
evidence (a cumulative sum test: Page, "Continuous inspection schemes", Biometrika 1954). Clear speech is found after
three frames, a click, which fills at most two, never is. The noise floor follows the minima of the smoothed level
(after Martin, "Noise power spectral density estimation based on optimal smoothing and minimum statistics", IEEE
Transactions on Speech and Audio Processing, 2001), so it need not know when nobody speaks.

Levels do not tell speech from other sounds as loud: of 60 knocks of 30 ms all count as speech. A `SpeechModel` (Silero)
may be asked to confirm: then none does, but the median delay of 27 ms becomes 53 ms (scripts/bench/echo.py).
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from realtime_client.audio.speech_model import SpeechModel
from realtime_client.errors import UsageError

Samples = npt.NDArray[np.int16]
FRAME_MS = 10
SILENCE_DBFS = -96.0

_FULL_SCALE_SQUARED = 32_768.0**2
_LEARN_FRAMES = 20  # nothing is decided until the floor has been observed for so long
_FULL_EVIDENCE_DB = 6.0  # a frame so far above the threshold counts fully
_EVIDENCE_FLOOR, _EVIDENCE_TOP = 0.0, 2.9
_SMOOTHING = 0.2
_WINDOW_FRAMES, _WINDOWS = 25, 6  # the floor is the least of the last 1.5 s
_MODEL_RATE_HZ = 16_000


def frame_levels(samples: Samples, frame: int) -> list[float]:
    """Return the level of each whole frame of `frame` samples in dBFS, without its mean; -96 for silence."""
    count = samples.size // frame
    if not count:
        return []
    frames = samples[: count * frame].reshape(count, frame).astype(np.float64)
    powers = (float(one @ one) / frame - (float(one.sum()) / frame) ** 2 for one in frames)  # half the time of var()
    return [
        10 * math.log10(power / _FULL_SCALE_SQUARED) if power > 2.5e-10 * _FULL_SCALE_SQUARED else SILENCE_DBFS
        for power in powers
    ]


class OnsetEvent(enum.StrEnum):
    """What a block of sound showed."""

    STARTED = "started"
    STOPPED = "stopped"


class OnsetSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How sure the detector wants to be.

    margin_db: above the noise floor. echo_margin_db: above the expected echo. least_dbfs: anything quieter is not
    speech. evidence: frames of clear speech it takes to believe it. hangover_ms: silence that ends speech.
    """

    margin_db: float = 12.0
    echo_margin_db: float = 4.0
    least_dbfs: float = -50.0
    evidence: float = 2.5
    hangover_ms: int = 300


class NoiseFloor:
    """The least smoothed level of the last 1.5 s, in dBFS. Bounded: one number for each quarter of a second."""

    def __init__(self) -> None:
        self._smoothed: float | None = None
        self._minima = [0.0] * _WINDOWS
        self._seen = 0
        self.dbfs = 0.0

    @property
    def known(self) -> bool:
        """False in the first 0.2 s."""
        return self._seen >= _LEARN_FRAMES

    def follow(self, level_dbfs: float) -> None:
        """Take the level of the next frame."""
        smoothed = level_dbfs if self._smoothed is None else self._smoothed
        self._smoothed = smoothed + _SMOOTHING * (level_dbfs - smoothed)
        slot = self._seen // _WINDOW_FRAMES % _WINDOWS
        if self._seen % _WINDOW_FRAMES == 0:
            self._minima[slot] = self._smoothed
        self._minima[slot] = min(self._minima[slot], self._smoothed)
        self._seen += 1
        filled = min(_WINDOWS, 1 + (self._seen - 1) // _WINDOW_FRAMES)
        self.dbfs = max(SILENCE_DBFS, min(self._minima[:filled]))


class OnsetDetector:
    """Tells where near speech starts and stops.

    rate_hz: of the sound; a multiple of 100. model: asked to confirm what the levels show, None for levels alone.
    Errors: UsageError for a rate with no whole number of samples in 10 ms.
    """

    def __init__(
        self, rate_hz: int, *, settings: OnsetSettings | None = None, model: SpeechModel | None = None
    ) -> None:
        if rate_hz <= 0 or rate_hz % 100:
            raise UsageError(f"a rate of {rate_hz} Hz has no whole number of samples in 10 ms")
        self.frame_samples = rate_hz // 100
        self.settings = settings or OnsetSettings()
        self.speaking = False
        self.level_dbfs = SILENCE_DBFS
        self._floor = NoiseFloor()
        self._evidence = 0.0
        self._quiet_frames = 0
        self._rest = np.zeros(0, np.int16)
        self._confirmation = None if model is None else _Confirmation(model, rate_hz)

    @property
    def noise_dbfs(self) -> float:
        """The noise floor."""
        return self._floor.dbfs

    def feed(
        self,
        samples: Samples,
        echo_dbfs: float | Sequence[float] = SILENCE_DBFS,
        levels_dbfs: Sequence[float] | None = None,
    ) -> OnsetEvent | None:
        """Take the next samples (mono int16, any number); return what they showed.

        echo_dbfs: level of echo to expect in them, one for all or, for whole frames, one for each. levels_dbfs: their
        own levels, for whole frames, if they are known. A block in which speech started and stopped counts as started.
        """
        if self._confirmation is not None:
            self._confirmation.feed(samples)
        if self._rest.size:
            samples = np.concatenate((self._rest, samples))
        found: OnsetEvent | None = None
        levels = frame_levels(samples, self.frame_samples) if levels_dbfs is None else levels_dbfs
        echoes = [echo_dbfs] * len(levels) if isinstance(echo_dbfs, float | int) else echo_dbfs
        for level, echo in zip(levels, echoes, strict=True):
            found = self.step(level, echo) or found
        self._rest = samples[samples.size - samples.size % self.frame_samples :].copy()
        return found

    def step(self, level_dbfs: float, echo_dbfs: float = SILENCE_DBFS) -> OnsetEvent | None:
        """Take the level of the next frame of 10 ms. `feed` calls it; without a model, it alone is enough."""
        self.level_dbfs = level_dbfs
        over_db = level_dbfs - self.threshold_dbfs(echo_dbfs)
        self._floor.follow(level_dbfs)
        if not self._floor.known:
            return None
        gained = max(-1.0, min(1.0, over_db / _FULL_EVIDENCE_DB + 0.5))
        self._evidence = max(_EVIDENCE_FLOOR, min(_EVIDENCE_TOP, self._evidence + gained))
        return self._in_speech(over_db) if self.speaking else self._in_silence()

    def threshold_dbfs(self, echo_dbfs: float = SILENCE_DBFS) -> float:
        """Return the level that a frame must have to count for speech."""
        wanted = self.settings
        return max(self._floor.dbfs + wanted.margin_db, echo_dbfs + wanted.echo_margin_db, wanted.least_dbfs)

    def _in_silence(self) -> OnsetEvent | None:
        if self._evidence < self.settings.evidence:
            return None
        if self._confirmation is not None and not self._confirmation.speech:
            return None
        self.speaking, self._quiet_frames = True, 0
        return OnsetEvent.STARTED

    def _in_speech(self, over_db: float) -> OnsetEvent | None:
        self._quiet_frames = 0 if over_db >= -_FULL_EVIDENCE_DB else self._quiet_frames + 1
        if self._quiet_frames * FRAME_MS < self.settings.hangover_ms:
            return None
        self.speaking, self._evidence = False, 0.0
        return OnsetEvent.STOPPED


class _Confirmation:
    """Runs the model beside the levels, over its own frames."""

    _LEAST = 0.5

    def __init__(self, model: SpeechModel, rate_hz: int) -> None:
        self._model = model
        self._resampler: Any = None
        if rate_hz != _MODEL_RATE_HZ:
            import soxr

            self._resampler = soxr.ResampleStream(rate_hz, _MODEL_RATE_HZ, 1, dtype="int16", quality="QQ")
        self._rest = bytearray()
        self.speech = False

    def feed(self, samples: Samples) -> None:
        at_model_rate = samples if self._resampler is None else self._resampler.resample_chunk(samples)
        self._rest += at_model_rate.astype("<i2").tobytes()
        size = self._model.frame_samples * 2
        while len(self._rest) >= size:
            self.speech = self._model.rate(bytes(self._rest[:size])) >= self._LEAST
            del self._rest[:size]
