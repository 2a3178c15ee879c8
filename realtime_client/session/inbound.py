"""The queue to the audio thread: in order, bounded in entries and bytes, and quiet about what can wait."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from realtime_client.errors import QueueFullError
from realtime_client.updates import Update

_TOGETHER = 5  # blocks of a microphone: 100 ms
_SLACK = 1024  # what calls that must not wait may add beyond twice the limit in all


class Entry(msgspec.Struct, frozen=True, gc=False):
    """What the audio thread takes: one decision and what it means.

    record: given the recorder, writes down the messages with their updates; None for updates that no message brought.
    size: bytes of the messages.
    """

    record: Callable[[Any, float], None] | None
    updates: Sequence[Update]
    at_s: float
    size: int = 0


class Inbound(queue.Queue[Entry | None]):
    """A `queue.Queue` with one reader, whose writers wait after writing, not before.

    An entry is put where it was decided, under the lock of decisions, so that the order of the queue is the order of
    what happened, however full it is. Whoever can wait then waits until there is room for the next one, so the queue
    exceeds its limit by at most one entry for each thread. None is the last entry; what is put after it is dropped.
    on_room: tells those who wait in another way; see `Session.on_room`. The reader waits for a lock, not for the
    `Condition` of `queue.Queue`: at the pace of speech it wakes for each message, and that takes half the time.
    """

    def __init__(self, limit: int, limit_bytes: int, on_room: Callable[[], object] = bool) -> None:
        super().__init__()
        self._on_room = on_room
        self.high_water = 0
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._quiet = 0
        self._ended = self._gone = False
        self._asleep = False
        self._bell = threading.Lock()
        self._bell.acquire()

    @property
    def crowded(self) -> bool:
        """Whether writers should wait."""
        return not self._gone and (len(self.queue) >= self._limit or self._bytes >= self._limit_bytes)

    def put_now(self, entry: Entry | None, *, quietly: bool = False) -> bool:
        """Queue behind everything else, without waiting; returns whether the queue is crowded now.

        quietly: the reader wakes for the fifth such entry, for any other, or when the queue is crowded. A microphone
        sends 50 blocks a second, and all that is left to do is write them down; waking a thread for each costs more.
        Errors: QueueFullError far beyond the limit: the reader stands still, and nobody waits.
        """
        with self.mutex:
            if self._ended or self._gone:
                return False
            waiting = len(self.queue) + 1
            if entry is None:
                self._ended = True
            elif waiting > 2 * self._limit + _SLACK:
                raise QueueFullError(f"{waiting - 1} updates wait and no observer takes them")
            else:
                self._bytes += entry.size
            self.high_water = max(self.high_water, waiting)
            crowded = waiting >= self._limit or self._bytes >= self._limit_bytes
            if quietly and self._quiet < _TOGETHER - 1 and not crowded:  # else who waits for room would wait for ever
                self._quiet += 1
                self.queue.append(entry)
            else:
                self._quiet = 0
                self._put(entry)
            return crowded

    def _put(self, entry: Entry | None) -> None:
        self.queue.append(entry)
        if self._asleep:
            self._asleep = False
            self._bell.release()

    def get(self, block: bool = True, timeout: float | None = None) -> Entry | None:  # noqa: FBT001, FBT002 - Queue's
        """Take the oldest entry, waiting for one; for one thread only. Errors: queue.Empty."""
        with self.mutex:
            if self.queue:
                return self._get()
            self._asleep = True
        rung = self._bell.acquire(block, timeout if block and timeout is not None else -1)
        with self.mutex:
            if not rung and not self._asleep:
                self._bell.acquire()  # it was, just now
            self._asleep = False
            if not self.queue:
                raise queue.Empty
            return self._get()

    def _get(self) -> Entry | None:
        crowded = len(self.queue) >= self._limit or self._bytes >= self._limit_bytes
        entry: Entry | None = self.queue.popleft()
        if entry is not None:
            self._bytes -= entry.size
        if crowded:  # otherwise nobody waits
            self._let_go()
        return entry

    def wait_for_room(self) -> None:
        """Wait while the queue is crowded; when the reader ends, nobody waits any longer."""
        if self.crowded:
            with self.not_full:
                while self.crowded:
                    self.not_full.wait()

    def leave(self) -> None:
        """The reader takes nothing more: nobody waits for it."""
        with self.mutex:
            self._gone = True
            self._let_go()

    def _let_go(self) -> None:
        self.not_full.notify_all()
        self._on_room()
