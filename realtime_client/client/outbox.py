"""Messages on their way to the send thread, in order, with a lane that overtakes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from realtime_client.deadline import SYSTEM_CLOCK, Clock, Deadline
from realtime_client.errors import ClosedError, QueueFullError
from realtime_client.protocol.events import ClientEvent, ConversationItemCreate, InputAudioBufferAppend


class Ping(NamedTuple):
    """Ask the send thread for a WebSocket ping."""

    payload: bytes


class WriteOut:
    """Ask the send thread to write what the receive thread could not."""


WRITE_OUT = WriteOut()
Outgoing = ClientEvent | Ping | WriteOut

_BATCH = 64
_SLACK = 1024  # room beyond twice the limit for the messages of one decision, and for what the server's messages cause


def weight(item: Outgoing) -> int:
    """Roughly how many bytes a message carries: its audio, or its text."""
    if type(item) is InputAudioBufferAppend:
        return len(item.audio)
    if type(item) is ConversationItemCreate:
        parts = item.item.content or ()
        said = sum(len(part.audio or part.text or part.image_url or "") for part in parts)
        return said + len(item.item.output or "")
    return 0


class Outbox:
    """A bounded, closable queue with two lanes.

    The normal lane keeps order. The urgent lane (pings, cancels) overtakes it: a cancel must not wait behind seconds
    of queued microphone audio. When the normal lane is full, in messages or in bytes, `put` and `wait_for_room` wait,
    then fail loudly. Control messages that the protocol's rules produce (`put_now`) never wait: whoever decides asks
    for room first. on_room: tells those who wait for it in another way; see `Session.on_room`.
    """

    def __init__(
        self,
        limit: int,
        limit_bytes: int = 8 * 2**20,
        clock: Clock = SYSTEM_CLOCK,
        on_room: Callable[[], object] = bool,
    ) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._clock = clock
        self._on_room = on_room
        self._normal: deque[Outgoing] = deque()
        self._urgent: deque[Outgoing] = deque()
        self._under_way: Sequence[Outgoing] = ()  # taken, and not known to have left
        self._bytes = 0
        lock = threading.RLock()
        self._ready = threading.Condition(lock)
        self._room = threading.Condition(lock)
        self._closed = False
        self.high_water = 0

    def put(self, item: Outgoing, *, wait_s: float) -> None:
        """Queue behind everything else, waiting for room.

        Errors: ClosedError after close; QueueFullError when there was no room within wait_s.
        """
        size = weight(item)
        with self._room:
            self.wait_for_room(wait_s, size)
            self._add(self._normal, item, size)

    def wait_for_room(self, wait_s: float, size: int = 0) -> None:
        """Wait until a message of this size would fit. Errors: ClosedError after close; QueueFullError after wait_s."""
        deadline = Deadline(wait_s, self._clock)
        with self._room:
            while self._full(size) and not self._closed:
                left = deadline.remaining_s()
                if not left or not self._room.wait(left):
                    raise QueueFullError(
                        f"{len(self._normal)} messages wait to be sent ({self._bytes} bytes) and the server does not"
                        f" take them: waited {wait_s:g} s"
                    )
            if self._closed:
                raise ClosedError("the session is closed")

    def _full(self, size: int) -> bool:
        """Whether one more must wait; one that is larger than the limit is let in when nothing waits."""
        return len(self._normal) >= self._limit or (self._bytes > 0 and self._bytes + size > self._limit_bytes)

    def check_room(self) -> None:
        """Refuse a decision whose messages could not be queued. Errors: QueueFullError at twice the limit."""
        with self._room:
            if len(self._normal) + len(self._urgent) >= 2 * self._limit:
                raise QueueFullError(f"{len(self._normal)} messages wait to be sent and the server does not take them")

    def put_now(self, item: Outgoing, *, urgent: bool = False) -> None:
        """Queue without waiting. After close it is dropped: nobody wants it any more.

        Errors: QueueFullError far beyond the limit.
        """
        with self._room:
            if self._closed:
                return
            lane = self._urgent if urgent else self._normal
            if len(lane) >= 2 * self._limit + _SLACK:
                raise QueueFullError(f"{len(lane)} messages wait to be sent and the server does not take them")
            self._add(lane, item, weight(item))

    def _add(self, lane: deque[Outgoing], item: Outgoing, size: int) -> None:
        lane.append(item)
        self._bytes += size
        self.high_water = max(self.high_water, len(self._normal))
        self._ready.notify()

    def get(self) -> list[Outgoing]:
        """Take what waits, at most 64 messages, waiting for one; empty once the outbox is closed and empty."""
        with self._ready:
            while not (self._urgent or self._normal or self._closed):
                self._ready.wait()  # ends by close at the latest, and close has a deadline
            taken = list(self._urgent)
            self._urgent.clear()
            for _ in range(min(len(self._normal), _BATCH - len(taken))):
                item = self._normal.popleft()
                self._bytes -= weight(item)
                taken.append(item)
            self._under_way = taken
            self._let_go()
            return taken

    def left(self) -> None:
        """What was taken last has left."""
        with self._ready:
            self._under_way = ()

    @property
    def under_way(self) -> Sequence[Outgoing]:
        """What was taken last and is not known to have left."""
        return self._under_way

    def take_back(self) -> list[Outgoing]:
        """Take what has not left for certain, and close: for a connection that is lost, or left."""
        with self._ready:
            left = [*self._under_way, *self._urgent, *self._normal]
            self._under_way = ()
            self.close(drop=True)
            return left

    def close(self, *, drop: bool = False) -> None:
        """Take no more messages; with `drop`, forget those that wait. Idempotent."""
        with self._ready:
            self._closed = True
            if drop:
                self._normal.clear()
                self._urgent.clear()
                self._bytes = 0
            self._ready.notify_all()
            self._let_go()

    def _let_go(self) -> None:
        self._room.notify_all()
        self._on_room()
