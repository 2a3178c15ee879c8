"""Lines out of a stream of bytes, none longer than a limit. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_END = 512  # bytes of a line too long that are kept, of its beginning and of its end
_ID = re.compile(rb'"id"\s*:\s*(?:(\d{1,15})|"((?:[^"\\]){1,64})")')


@dataclass(frozen=True)
class Overlong:
    """A line that was longer than the limit: its beginning, its end, and how long it was."""

    head: bytes
    tail: bytes
    size: int

    @property
    def answers(self) -> int | str | None:
        """Id of the request that it answers, where it tells of one: first or last in a JSON-RPC message."""
        for found in (*_ID.findall(self.head)[:1], *_ID.findall(self.tail)[-1:]):
            return int(found[0]) if found[0] else found[1].decode("utf-8", "replace")
        return None


class Lines:
    """Takes bytes as they come, and gives the lines that are complete, without their ends."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes | Overlong]:
        """Take bytes; return what is complete."""
        *ends, rest = data.split(b"\n")
        done = []
        for end in ends:
            self._add(end)
            done.append(self._line())
        self._add(rest)
        return done

    def end(self) -> list[bytes | Overlong]:
        """Nothing more comes: return what is left, if anything."""
        return [self._line()] if self._size else []

    def _add(self, part: bytes) -> None:
        self._size += len(part)
        if self._size <= self._limit:
            self._parts.append(part)
        else:  # of what is too long, both ends
            whole = b"".join((*self._parts, part))
            self._parts = [whole[:_END], whole[_END:][-_END:]]

    def _line(self) -> bytes | Overlong:
        whole, size = b"".join(self._parts), self._size
        self._parts, self._size = [], 0
        if size <= self._limit:
            return whole.rstrip(b"\r")
        return Overlong(whole[:_END], whole[-_END:], size)
