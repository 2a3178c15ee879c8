"""16-bit little-endian PCM as bytes: lengths, levels, silence, stereo.

A sample is 2 bytes; a level is in dBFS (0 is full scale, silence is -inf).
"""

from __future__ import annotations

import math
import sys
from array import array

BYTES_PER_SAMPLE = 2
_FULL_SCALE = 32_768.0


def duration_s(pcm: bytes, rate_hz: int, channels: int = 1) -> float:
    """Return the seconds of sound in so many bytes."""
    return len(pcm) / (rate_hz * BYTES_PER_SAMPLE * channels)


def silence(duration_ms: float, rate_hz: int) -> bytes:
    """Return mono silence of this length, rounded to whole samples."""
    return bytes(round(duration_ms * rate_hz / 1000) * BYTES_PER_SAMPLE)


def peak_dbfs(pcm: bytes) -> float:
    """Return the level of the loudest sample in dBFS; -inf for silence or nothing."""
    import numpy as np

    samples = np.frombuffer(pcm, "<i2", len(pcm) // BYTES_PER_SAMPLE)
    if not samples.size:
        return -math.inf
    return _dbfs(float(max(int(samples.max()), -int(samples.min()))))


def interleave(left: bytes, right: bytes) -> bytes:
    """Return stereo PCM from two mono channels; the shorter one is filled up with silence."""
    frames = max(len(left), len(right)) // BYTES_PER_SAMPLE
    stereo = array("h", bytes(frames * 4))
    # array copies machine words, so the bytes keep their order on every machine.
    for side, mono in ((0, left), (1, right)):
        samples = array("h", mono[: len(mono) & ~1])
        stereo[side : side + 2 * len(samples) : 2] = samples
    return stereo.tobytes()


def _dbfs(amplitude: float) -> float:
    return 20 * math.log10(amplitude / _FULL_SCALE) if amplitude > 0 else -math.inf


assert array("h").itemsize == BYTES_PER_SAMPLE, sys.platform
