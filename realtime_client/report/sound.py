"""The sound of a session, made small and quick: peaks for drawing, ADPCM for listening.

The report is one file, and an hour of stereo PCM is 345 MB. Measured here on speech at 24 kHz (one thread of a shared
2-core machine; times real time; MB for an hour of one voice):

    Opus in Ogg          85x     3 to 60 MB    small, but an hour takes 42 s
    MP3, Vorbis     136 to 400x  11 to 36 MB   9 s and more
    FLAC               5100x     99 MB         no loss, twice the size
    mu-law            19000x     86 MB
    MS ADPCM           4200x     44 MB         23.5 dB segmental signal to noise
    IMA ADPCM          2200x     43 MB         29.0 dB, 12 kHz of bandwidth, twice as quick on two threads

So IMA ADPCM: four bits a sample (IMA Digital Audio Focus 1992, as WAVE tag 0x11 lays it out in blocks), decoded by
thirty lines of JavaScript when somebody listens. Silence is left out, which makes most conversations half of that.
"""

from __future__ import annotations

import io
import math
import os
import struct
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from realtime_client.recording.wav import HEADER_BYTES

CHANNELS = 2
MOST_PEAKS = 400_000
"""At most so many pairs of peaks: an hour in steps of 10 ms."""
_SEGMENT_S = 20
_PEAK_S = 0.01
_QUIET = 33  # of 32768: below -60 dBFS for a while, there is nothing to hear
_SPAN_S = 0.1
_KEPT_SPANS = 3  # spans of 0.1 s kept on each side of a sound
_THREADS = 2
_IN_FLIGHT = 8

Samples = npt.NDArray[np.int16]
Peaks = npt.NDArray[np.uint8]
Loudness = npt.NDArray[np.int32]


@dataclass(slots=True)
class AudibleClip:
    """A stretch of one channel. channel: 0 left, 1 right. start, frames: in samples. adpcm: whole IMA blocks."""

    channel: int
    start: int
    frames: int
    adpcm: bytes


@dataclass(slots=True)
class PageSound:
    """What a page needs. peaks: (2, n), square root of the largest absolute sample, 255 for full scale.

    peak_frames: samples a peak stands for. block_bytes: size of an ADPCM block.
    """

    rate_hz: int
    frames: int
    peak_frames: int
    peaks: Peaks
    clips: list[AudibleClip] = field(default_factory=list)
    block_bytes: int = 0

    @property
    def seconds(self) -> float:
        """Length."""
        return self.frames / self.rate_hz


def read_sound(path: Path) -> PageSound | None:
    """Read a stereo PCM16 WAV of the recorder; None when it is missing, empty or something else.

    The size of the file counts, not the header's: it may still be growing. Errors: OSError.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEADER_BYTES)
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return None
    rate_hz = _rate_hz(head)
    frames = (size - HEADER_BYTES) // (2 * CHANNELS)
    if rate_hz == 0 or frames <= 0:
        return None
    samples = np.memmap(path, "<i2", "r", HEADER_BYTES, (frames, CHANNELS))
    return make_sound(samples, rate_hz)


def _rate_hz(head: bytes) -> int:
    """Rate that the recorder's header states, 0 for any other file."""
    if len(head) < HEADER_BYTES or head[:4] != b"RIFF" or head[8:16] != b"WAVEfmt " or head[36:40] != b"data":
        return 0
    kind, channels, rate_hz = struct.unpack_from("<HHI", head, 20)
    bits = struct.unpack_from("<H", head, 34)[0]
    return rate_hz if (kind, channels, bits) == (1, CHANNELS, 16) and 8_000 <= rate_hz <= 96_000 else 0


def make_sound(samples: Samples, rate_hz: int) -> PageSound:
    """Take samples (frames, 2); two threads (libsndfile and numpy let go of the interpreter)."""
    frames = len(samples)
    peak_frames = max(round(_PEAK_S * rate_hz), math.ceil(frames / MOST_PEAKS))
    step = max(1, _SEGMENT_S * rate_hz // peak_frames) * peak_frames
    sound = PageSound(rate_hz, frames, peak_frames, np.zeros((CHANNELS, math.ceil(frames / peak_frames)), np.uint8))
    for start, peaks, clips in _in_threads(samples, rate_hz, peak_frames, step):
        at = start // peak_frames
        sound.peaks[:, at : at + peaks.shape[1]] = peaks
        sound.clips += clips
    sound.block_bytes = _block_bytes(rate_hz)
    return sound


def _in_threads(
    samples: Samples, rate_hz: int, peak_frames: int, step: int
) -> Iterator[tuple[int, Peaks, list[AudibleClip]]]:
    """Do segment after segment, a few at a time, and return them in order."""
    waiting: deque[Future[tuple[int, Peaks, list[AudibleClip]]]] = deque()
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="realtime-report") as pool:
        for start in range(0, len(samples), step):
            waiting.append(pool.submit(_segment, samples[start : start + step], start, rate_hz, peak_frames))
            if len(waiting) >= _IN_FLIGHT:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _segment(samples: Samples, start: int, rate_hz: int, peak_frames: int) -> tuple[int, Peaks, list[AudibleClip]]:
    peaks, clips = [], []
    for channel in range(CHANNELS):
        mono = np.ascontiguousarray(samples[:, channel])
        loudest = _largest(mono, peak_frames)
        peaks.append(np.rint(np.sqrt(loudest / 32_768) * 255).astype(np.uint8))
        for first, last in _audible(loudest, peak_frames, rate_hz, len(mono)):
            adpcm = _encode(mono[first:last], rate_hz)
            clips.append(AudibleClip(channel, start + first, last - first, adpcm))
    return start, np.stack(peaks), clips


def _largest(mono: Samples, step: int) -> Loudness:
    """Return the largest absolute sample of each `step` samples; the last step may be shorter."""
    whole = len(mono) // step * step
    rows = mono[:whole].reshape(-1, step)
    found: Loudness = np.maximum(rows.max(axis=1).astype(np.int32), -rows.min(axis=1).astype(np.int32))
    if whole == len(mono):
        return found
    last = np.abs(mono[whole:].astype(np.int32)).max()
    return np.concatenate((found, np.array([last], np.int32)))


def _audible(loudest: Loudness, peak_frames: int, rate_hz: int, frames: int) -> list[tuple[int, int]]:
    """Return the stretches (first, last) in which there is something to hear, with a margin on both sides."""
    loud = np.flatnonzero(loudest > _QUIET)
    if not len(loud):
        return []
    margin = max(1, round(_KEPT_SPANS * _SPAN_S * rate_hz / peak_frames))
    breaks = np.flatnonzero(np.diff(loud) > 2 * margin)
    firsts = [int(loud[0]), *(int(at) for at in loud[breaks + 1])]
    lasts = [*(int(at) for at in loud[breaks]), int(loud[-1])]
    return [
        (max(0, first - margin) * peak_frames, min(frames, (last + 1 + margin) * peak_frames))
        for first, last in zip(firsts, lasts, strict=True)
    ]


def _encode(mono: Samples, rate_hz: int) -> bytes:
    """Return IMA ADPCM blocks; the last is filled up with silence."""
    import soundfile

    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", rate_hz, 1, "IMA_ADPCM", format="WAV") as sink:
        sink.write(mono)
    return _data_chunk(file.getbuffer())


def _data_chunk(wav: Any) -> bytes:
    at = 12
    while at + 8 <= len(wav):
        size = struct.unpack_from("<I", wav, at + 4)[0]
        if bytes(wav[at : at + 4]) == b"data":
            return bytes(wav[at + 8 : at + 8 + size])
        at += 8 + size + (size & 1)
    return b""


def _block_bytes(rate_hz: int) -> int:
    """Return the block size that libsndfile writes at a rate, from the header of an empty file."""
    import soundfile

    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", rate_hz, 1, "IMA_ADPCM", format="WAV"):
        pass
    return int(struct.unpack_from("<H", file.getbuffer(), 32)[0])
