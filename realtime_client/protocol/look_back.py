"""The newest of the user's sound, by its place in all that was sent: what a new session may have to be told again."""

from __future__ import annotations

from collections import deque


class LookBack:
    """Sound from `begin` to `end`, in bytes of all the user's sound of a session; beyond most_bytes the oldest goes.

    A block of a microphone is kept as it is, without being copied.
    """

    def __init__(self, most_bytes: int) -> None:
        self.begin = self.end = 0
        self._most = most_bytes
        self._blocks: deque[bytes] = deque()
        self._first = 0  # where the first block begins: at or before `begin`

    def append(self, audio: bytes) -> None:
        """Add what was sent, or is to be sent."""
        self._blocks.append(audio)
        self.end += len(audio)
        if self.end - self._first > self._most:
            self.forget_before(self.end - self._most)

    def take_back(self, size: int) -> None:
        """Forget the newest so many bytes again: they were not sent after all."""
        self.end -= size
        while size > 0 and self._blocks:
            last = self._blocks.pop()
            if len(last) > size:
                self._blocks.append(last[: len(last) - size])
            size -= len(last)
        self.begin = min(self.begin, self.end)
        self._first = min(self._first, self.end)

    def forget_before(self, position: int) -> None:
        """Keep nothing before this place."""
        self.begin = max(self.begin, min(position, self.end))
        while self._blocks and self._first + len(self._blocks[0]) <= self.begin:
            self._first += len(self._blocks.popleft())
        if not self._blocks:
            self._first = self.begin

    def cut(self, first: int, last: int) -> bytes:
        """What is kept of a stretch."""
        first, last = max(first, self.begin), min(last, self.end)
        pieces: list[bytes] = []
        at = self._first
        for block in self._blocks:
            if at >= last:
                break
            if at + len(block) > first:
                pieces.append(block[max(0, first - at) : last - at])
            at += len(block)
        return b"".join(pieces)
