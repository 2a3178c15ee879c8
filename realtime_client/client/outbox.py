"""Messages on their way to the send thread, in order, with a lane that overtakes."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from realtime_client.deadline import SYSTEM_CLOCK, Clock, Deadline
from realtime_client.errors import ClosedError, QueueFullError
from realtime_client.protocol.events import ClientEvent


@dataclass(frozen=True, slots=True)
class Ping:
    """Ask the send thread for a WebSocket ping."""

    payload: bytes


Outgoing = ClientEvent | Ping


_BATCH = 64


class Outbox:
    """A bounded, closable queue with two lanes.

    The normal lane keeps order. The urgent lane (pings, cancels) overtakes it: a cancel must not wait behind seconds
    of queued microphone audio. When the normal lane is full, `put` waits, then fails loudly. Control messages that the
    protocol's rules produce (`put_now`) may exceed the limit by as much again, then fail loudly.
    """

    def __init__(self, limit: int, clock: Clock = SYSTEM_CLOCK) -> None:
        self._limit = limit
        self._clock = clock
        self._normal: deque[Outgoing] = deque()
        self._urgent: deque[Outgoing] = deque()
        lock = threading.Lock()
        self._ready = threading.Condition(lock)
        self._room = threading.Condition(lock)
        self._closed = False
        self.high_water = 0

    def put(self, item: Outgoing, *, wait_s: float) -> None:
        """Queue behind everything else, waiting for room.

        Errors: ClosedError after close; QueueFullError when there was no room within wait_s.
        """
        deadline = Deadline(wait_s, self._clock)
        with self._room:
            while len(self._normal) >= self._limit and not self._closed:
                left = deadline.remaining_s()
                if not left or not self._room.wait(left):
                    raise QueueFullError(
                        f"{self._limit} messages wait to be sent and the server does not take them: waited {wait_s:g} s"
                    )
            self._add(self._normal, item)

    def put_now(self, item: Outgoing, *, urgent: bool = False) -> None:
        """Queue without waiting. Errors: ClosedError after close; QueueFullError at twice the limit."""
        with self._room:
            lane = self._urgent if urgent else self._normal
            if len(lane) >= 2 * self._limit:
                raise QueueFullError(f"{len(lane)} messages wait to be sent and the server does not take them")
            self._add(lane, item)

    def _add(self, lane: deque[Outgoing], item: Outgoing) -> None:
        if self._closed:
            raise ClosedError("the session is closed")
        lane.append(item)
        self.high_water = max(self.high_water, len(self._normal))
        self._ready.notify()

    def get(self) -> list[Outgoing]:
        """Take what waits, at most 64 messages, waiting for one; empty once the outbox is closed and empty."""
        with self._ready:
            while not (self._urgent or self._normal or self._closed):
                self._ready.wait()  # ends by close at the latest, and close has a deadline
            taken = list(self._urgent)
            self._urgent.clear()
            room = min(len(self._normal), _BATCH - len(taken))
            taken += [self._normal.popleft() for _ in range(room)]
            if room > 0:
                self._room.notify_all()
            return taken

    def close(self, *, drop: bool = False) -> None:
        """Take no more messages; with `drop`, forget those that wait. Idempotent."""
        with self._ready:
            self._closed = True
            if drop:
                self._normal.clear()
                self._urgent.clear()
            self._ready.notify_all()
            self._room.notify_all()
