"""16-bit little-endian PCM as bytes: lengths, levels, silence, stereo.

A sample is 2 bytes; a level is in dBFS (0 is full scale, silence is -inf).
"""

from __future__ import annotations

import math
import sys
from array import array
from typing import Any

from realtime_client.errors import UsageError
from realtime_client.updates import AudioFormat

BYTES_PER_SAMPLE = 2
_FULL_SCALE = 32_768.0
_LOUDEST = 1.01  # a resampler may overshoot full scale by a little; that is cut off


def as_bytes(audio: Any, audio_format: AudioFormat) -> bytes:
    """Return audio as bytes in this format, from anything that has one clear meaning.

    audio: bytes or any C-contiguous buffer of them; for PCM also of 16-bit integers, such as a NumPy int16 array.
    Errors: UsageError for anything else: text, lists, floats (see `pcm16`), a layout with gaps, half a sample.
    """
    data = audio if type(audio) is bytes else _buffer(audio, audio_format)
    if len(data) % audio_format.bytes_per_sample:
        raise UsageError(f"{len(data)} bytes of audio end in half a sample: 16-bit PCM has 2 bytes a sample")
    return data


def _buffer(audio: Any, audio_format: AudioFormat) -> bytes:
    try:
        view = memoryview(audio)
    except TypeError as error:
        raise UsageError(f"audio must be bytes or a buffer of 16-bit integers, not {type(audio).__name__}") from error
    kind = view.format.lstrip("@=")
    if not view.c_contiguous:
        raise UsageError("audio must lie in one piece in memory (C-contiguous): make a copy of it first")
    if view.ndim > 1 and max((view.shape or ())[1:]) > 1:
        raise UsageError(f"audio must be mono: this has the shape {view.shape}")
    if kind in {"B", "b", "c"}:
        return view.tobytes()
    if audio_format.encoding != "pcm16":
        raise UsageError(f"this session takes {audio_format.encoding}, one byte a sample: give it bytes")
    if kind in {"h", "<h", ">h"}:
        big = kind == ">h" or (kind == "h" and sys.byteorder == "big")
        if not big:
            return view.tobytes()
        samples = array("h", view.tobytes())
        samples.byteswap()
        return samples.tobytes()
    if kind.lstrip("<>") in {"e", "f", "d"}:
        raise UsageError("these are floats: realtime_client.pcm16(samples) turns those from -1 to 1 into 16-bit PCM")
    raise UsageError(f"audio must be bytes or 16-bit integers, not numbers of the kind {view.format!r}")


def pcm16(samples: Any) -> bytes:
    """Turn mono samples from -1 to 1 (a NumPy array or a sequence of floats) into 16-bit little-endian PCM.

    Full scale is 32,767; the nearest value is taken. Errors: UsageError for other shapes, for samples beyond -1 to 1
    (those of integers in floats, say), and for NaN.
    """
    import numpy as np

    try:
        array_ = np.asarray(samples)
        floats = array_.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(f"samples must be numbers from -1 to 1, not {type(samples).__name__}") from error
    if array_.dtype.kind not in "fiu":
        raise UsageError(f"samples must be numbers from -1 to 1, not {type(samples).__name__}")
    if array_.dtype.kind != "f":
        raise UsageError(
            f"samples must be floats from -1 to 1, not {array_.dtype}: send_audio takes 16-bit integers as they are"
        )
    if floats.ndim == 2 and floats.shape[1] == 1:
        floats = floats[:, 0]
    if floats.ndim != 1:
        raise UsageError(f"samples must be mono, one value each: this has the shape {floats.shape}")
    if not np.isfinite(floats).all():
        raise UsageError("samples must be numbers from -1 to 1: some are infinite or no numbers")
    if floats.size and float(np.abs(floats).max()) > _LOUDEST:
        raise UsageError(f"samples must be from -1 to 1: the loudest is {float(np.abs(floats).max()):g}")
    return np.round(np.clip(floats, -1.0, 1.0) * 32_767).astype("<i2").tobytes()


def duration_s(pcm: bytes, rate_hz: int, channels: int = 1) -> float:
    """Return the seconds of sound in so many bytes."""
    return len(pcm) / (rate_hz * BYTES_PER_SAMPLE * channels)


_SILENT = {"pcm16": b"\0\0", "ulaw": b"\xff", "alaw": b"\xd5"}  # G.711: the code of the smallest level (ITU-T G.711)


def silence(duration_ms: float, audio_format: AudioFormat) -> bytes:
    """Return silence of this length, rounded to whole samples."""
    return _SILENT[audio_format.encoding] * round(duration_ms * audio_format.rate_hz / 1000)


def peak_dbfs(pcm: bytes) -> float:
    """Return the level of the loudest sample in dBFS; -inf for silence or nothing."""
    import numpy as np

    samples = np.frombuffer(pcm, "<i2", len(pcm) // BYTES_PER_SAMPLE)
    if not samples.size:
        return -math.inf
    return _dbfs(float(max(int(samples.max()), -int(samples.min()))))


def interleave(left: bytes, right: bytes) -> bytes:
    """Return stereo PCM from two mono channels; the shorter one is filled up with silence."""
    import numpy as np

    stereo = np.zeros((max(len(left), len(right)) // BYTES_PER_SAMPLE, 2), "<i2")
    for side, mono in ((0, left), (1, right)):
        samples = np.frombuffer(mono, "<i2", len(mono) // BYTES_PER_SAMPLE)
        stereo[: len(samples), side] = samples
    return stereo.tobytes()


def _dbfs(amplitude: float) -> float:
    return 20 * math.log10(amplitude / _FULL_SCALE) if amplitude > 0 else -math.inf


assert array("h").itemsize == BYTES_PER_SAMPLE, sys.platform
