"""The sound of a step: a local voice, a file, the tones of a telephone, silence. Ready to be sent."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import NamedTuple

from realtime_client.audio.files import decode_sound, read_sound, transcode
from realtime_client.audio.pcm import silence
from realtime_client.batch.scenario import Case, Step, seconds
from realtime_client.errors import MissingExtraError, UsageError
from realtime_client.updates import AudioFormat

TONE_MS, GAP_MS = 70, 70
AUDIBLE = ("speak", "audio", "dtmf", "silence")
_LOW_HZ = (697, 770, 852, 941)
_HIGH_HZ = (1209, 1336, 1477, 1633)
_KEYS = ("123A", "456B", "789C", "*0#D")
_TONE_LEVEL = 0.25  # of full scale, each of the two: -12 dBFS
_FRAME_MS = 10
_BELOW_PEAK_DB = 35.0
_FLOOR_DBFS = -55.0


class StepSound(NamedTuple):
    """Sound to send, in the session's input format.

    voice_start_ms, voice_end_ms: where its first sound begins and its last one ends; both 0 for none.
    """

    audio: bytes
    voice_start_ms: int = 0
    voice_end_ms: int = 0


def make_clip(step: Step, case: Case, fmt: AudioFormat) -> StepSound:
    """Return the sound of a step that has one.

    Errors: UsageError for a file or a voice that cannot be used; MissingExtraError without the local voice.
    """
    if step.silence is not None:
        return StepSound(silence(seconds(step.silence) * 1000, fmt))
    if step.dtmf is not None:
        return StepSound(_encoded(dtmf(step.dtmf, fmt.rate_hz), fmt), 0, len(step.dtmf) * (TONE_MS + GAP_MS) - GAP_MS)
    if step.speak is not None:
        return _spoken(step.speak, step.voice or "", fmt)
    assert step.audio is not None
    content = case.files.get(step.audio)
    if content is not None:
        return _with_bounds(decode_sound(content, step.audio, fmt).audio, fmt)
    path = Path(case.folder) / step.audio
    try:
        stamp = path.stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot read the audio file {path}: {reason}") from None
    return _from_file(path, (stamp.st_mtime_ns, stamp.st_size), fmt)


def dtmf(keys: str, rate_hz: int) -> bytes:
    """Return the tones of telephone keys as PCM16: 70 ms each, and 70 ms of silence after it.

    Frequencies: ITU-T Q.23. Errors: UsageError for a key that no telephone has.
    """
    import numpy as np

    time_s = np.arange(round(TONE_MS * rate_hz / 1000)) / rate_hz
    gap = silence(GAP_MS, AudioFormat("pcm16", rate_hz))
    pieces = []
    for key in keys.upper():
        row = next((n for n, line in enumerate(_KEYS) if key in line), None)
        if row is None:
            raise UsageError(f"no telephone has the key {key!r}: 0 to 9, A to D, * and #")
        low_hz, high_hz = _LOW_HZ[row], _HIGH_HZ[_KEYS[row].index(key)]
        wave = np.sin(2 * np.pi * low_hz * time_s) + np.sin(2 * np.pi * high_hz * time_s)
        pieces += [np.rint(wave * _TONE_LEVEL * 32_767).astype("<i2").tobytes(), gap]
    return b"".join(pieces)


@functools.lru_cache(maxsize=64)
def _spoken(text: str, voice: str, fmt: AudioFormat) -> StepSound:
    """Speak with espeak-ng; the last 64 texts are kept, a few megabytes."""
    if importlib.util.find_spec("espeakng_loader") is None:
        raise MissingExtraError("the local voice (espeak-ng)", "local")
    from realtime_client.local.voice import EspeakVoice

    espeak = EspeakVoice()
    pcm = espeak.speak_as(text, voice) if voice else b"".join(espeak.speak(text))
    return _with_bounds(transcode(pcm, AudioFormat("pcm16", espeak.rate_hz), fmt), fmt)


@functools.lru_cache(maxsize=16)
def _from_file(path: Path, _stamp: tuple[int, int], fmt: AudioFormat) -> StepSound:
    """Read a file; the last 16 are kept. What is odd about it was reported when the scenario was read."""
    return _with_bounds(read_sound(path, fmt).audio, fmt)


def _encoded(pcm: bytes, fmt: AudioFormat) -> bytes:
    return transcode(pcm, AudioFormat("pcm16", fmt.rate_hz), fmt)


def _with_bounds(audio: bytes, fmt: AudioFormat) -> StepSound:
    start_ms, end_ms = voice_bounds(transcode(audio, fmt, AudioFormat("pcm16", fmt.rate_hz)), fmt.rate_hz)
    return StepSound(audio, start_ms, end_ms)


def voice_bounds(pcm: bytes, rate_hz: int) -> tuple[int, int]:
    """Return where the sound begins and ends, in ms: 10 ms frames within 35 dB of the loudest and above -55 dBFS.

    (0, 0) for silence.
    """
    import numpy as np

    size = rate_hz * _FRAME_MS // 1000
    samples = np.frombuffer(pcm, "<i2")
    count = len(samples) // size
    if not count:
        return (0, 0)
    frames = samples[: count * size].reshape(count, size).astype(np.float32) / 32_768
    levels = 10 * np.log10(np.maximum(np.mean(frames * frames, axis=1), 1e-12))
    loud = np.flatnonzero(levels > max(float(levels.max()) - _BELOW_PEAK_DB, _FLOOR_DBFS))
    if not loud.size:
        return (0, 0)
    return int(loud[0]) * _FRAME_MS, (int(loud[-1]) + 1) * _FRAME_MS
