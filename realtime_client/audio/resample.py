"""Sample rate conversion of 16-bit mono PCM, in one piece or as a stream (libsoxr, quality HQ)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from realtime_client.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

MIN_RATE_HZ = 1_000
MAX_RATE_HZ = 768_000
_BLOCK_BYTES = 1 << 18


def check_rate(rate_hz: int) -> int:
    """Return the rate. Errors: UsageError for one that no audio has."""
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise UsageError(f"a sample rate of {rate_hz} Hz is outside of {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz")
    return rate_hz


class Resampler:
    """A stream: feed it pieces of any size, then flush.

    It holds some 30 to 100 ms back until more arrives or `flush()`. All output together has
    round(input samples * to_hz / from_hz) samples. Errors: UsageError for impossible rates.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self.from_hz = check_rate(from_hz)
        self.to_hz = check_rate(to_hz)
        self._stream: Any = None
        self._odd = b""
        self._taken = 0
        self._given = 0

    def process(self, pcm: bytes) -> bytes:
        """Return what is ready after this piece; may be empty. Half a sample waits for its other half."""
        if self._odd:
            pcm, self._odd = self._odd + pcm, b""
        if len(pcm) & 1:
            pcm, self._odd = pcm[:-1], pcm[-1:]
        if self.from_hz == self.to_hz or not pcm:
            return pcm
        self._taken += len(pcm) // 2
        return self._run(pcm, last=False)

    def flush(self) -> bytes:
        """Return the rest and start over: the next piece begins a new stream."""
        if not self._taken:
            return b""
        rest = self._run(b"", last=True)
        due = (2 * self._taken * self.to_hz + self.from_hz) // (2 * self.from_hz)  # round half up
        missing = (due - self._given) * 2
        rest = rest + bytes(missing) if missing >= 0 else rest[:missing]
        self._stream, self._odd, self._taken, self._given = None, b"", 0, 0
        return rest

    def _run(self, pcm: bytes, *, last: bool) -> bytes:
        import numpy as np
        import soxr

        if self._stream is None:
            self._stream = soxr.ResampleStream(self.from_hz, self.to_hz, 1, dtype="float32", quality="HQ")
        # Floats, because libsoxr dithers 16-bit output: silence would come out as noise.
        out = self._stream.resample_chunk(np.frombuffer(pcm, "<i2").astype(np.float32), last=last)
        self._given += len(out)
        return bytes(np.clip(np.rint(out), -32_768, 32_767).astype("<i2").tobytes())


def resample(pcm: bytes, from_hz: int, to_hz: int) -> bytes:
    """Return mono PCM16 at another rate: round(samples * to_hz / from_hz) samples. Errors: UsageError."""
    stream = Resampler(from_hz, to_hz)
    return b"".join((*(stream.process(block) for block in _blocks(pcm)), stream.flush()))


def _blocks(pcm: bytes) -> Iterator[bytes]:
    """In pieces, because libsoxr's time for one call grows faster than its input."""
    return (pcm[at : at + _BLOCK_BYTES] for at in range(0, len(pcm), _BLOCK_BYTES))
