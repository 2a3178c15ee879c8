"""Bytes under way in one direction: when they arrive. Pure."""

from __future__ import annotations

import math
import random
from collections import deque

_STEP_S = 0.02  # a limited line moves at this pace


class Line:
    """A line that may be late and narrow. Times are monotonic seconds; order is kept.

    chance: what jitter is made from.
    """

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._under_way: deque[tuple[float, memoryview]] = deque()
        self._delays: list[tuple[float, float, float]] = []  # delay, jitter, until
        self._rates: list[tuple[float, int, float]] = []  # bytes a second, bytes in one piece, until
        self._not_before_s = 0.0
        self._free_s = 0.0
        self.size = 0

    def delay(self, delay_s: float, jitter_s: float, until_s: float = math.inf) -> None:
        """Let all that comes from now on take so long, and up to `jitter_s` more."""
        self._delays.append((delay_s, jitter_s, until_s))

    def hold(self, until_s: float) -> None:
        """Let nothing that comes from now on arrive before."""
        self._not_before_s = max(self._not_before_s, until_s)

    def limit(self, bytes_per_s: float, piece: int | None = None, until_s: float = math.inf) -> None:
        """Let no more through; piece: bytes that come at once."""
        rate = (bytes_per_s, piece or max(1, int(bytes_per_s * _STEP_S)))
        self._rates = [each for each in self._rates if each[:2] != rate] + [(*rate, until_s)]

    def is_plain(self, now_s: float) -> bool:
        """Whether what comes now arrives at once."""
        if not (self._under_way or self._delays or self._rates) and now_s >= self._not_before_s:
            return True
        self._delays = [each for each in self._delays if each[2] > now_s]
        self._rates = [each for each in self._rates if each[2] > now_s]
        return not (self._under_way or self._delays or self._rates) and now_s >= self._not_before_s

    @property
    def limited(self) -> bool:
        """Whether it is narrow."""
        return bool(self._rates)

    def push(self, data: bytes | memoryview, now_s: float) -> None:
        """Send bytes on their way."""
        delay_s = sum(delay + jitter * self._chance.random() for delay, jitter, until in self._delays if until > now_s)
        self._not_before_s = max(self._not_before_s, now_s + delay_s)
        if data:
            self._under_way.append((self._not_before_s, memoryview(bytes(data))))
            self.size += len(data)

    def pop(self, now_s: float, most: int) -> bytes:
        """Return what has arrived next, at most so many bytes; b'' if nothing has."""
        if most <= 0 or self.next_s > now_s:
            return b""
        due_s, data = self._under_way.popleft()
        rate = min((each for each in self._rates if each[2] > now_s), default=None)
        taken = data[: most if rate is None else min(most, rate[1])]
        if rate is not None:
            self._free_s = max(self._free_s, due_s) + len(taken) / rate[0]
        if len(taken) < len(data):
            self._under_way.appendleft((due_s, data[len(taken) :]))
        self.size -= len(taken)
        return bytes(taken)

    @property
    def next_s(self) -> float:
        """When the next bytes arrive; infinite if none are under way."""
        return max(self._under_way[0][0], self._free_s) if self._under_way else math.inf
