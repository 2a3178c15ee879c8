"""What was sent before it was known to be a turn: a ring on disk."""

from __future__ import annotations

import tempfile
from pathlib import Path

_HELD_BYTES = 1 << 14


class LookBack:
    """The last minutes of sound, in a nameless file. Positions count bytes since the start. Errors: OSError."""

    def __init__(self, folder: Path, size_bytes: int) -> None:
        self.end = 0
        self._size = size_bytes
        self._pending: list[bytes] = []
        self._flushed = 0
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - lives as long as this

    @property
    def begin(self) -> int:
        """Position of the oldest byte that is still there."""
        return max(0, self.end - self._size)

    def write(self, data: bytes) -> None:
        """Append; the oldest is overwritten."""
        self._pending.append(data)
        self.end += len(data)
        if self.end - self._flushed >= _HELD_BYTES:
            self._flush()

    def _flush(self) -> None:
        data = memoryview(b"".join(self._pending))
        self._pending = []
        while data:
            at = self._flushed % self._size
            self._file.seek(at)
            written = self._file.write(data[: self._size - at]) or 0
            self._flushed += written
            data = data[written:]

    def read(self, begin: int, end: int) -> bytes:
        """Return what is there between two positions."""
        self._flush()
        begin, end = max(begin, self.begin), min(end, self.end)
        out = bytearray()
        while begin < end:
            at = begin % self._size
            self._file.seek(at)
            piece = self._file.read(min(end - begin, self._size - at)) or b""
            if not piece:
                break
            out += piece
            begin += len(piece)
        return bytes(out)

    def close(self) -> None:
        """Let it go."""
        self._file.close()
