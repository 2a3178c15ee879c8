"""The queue to the audio thread: in order, bounded in entries and bytes, and quiet about what can wait."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from realtime_client.errors import QueueFullError
from realtime_client.updates import Update

_TOGETHER = 5  # blocks of a microphone: 100 ms
_SLACK = 1024  # what calls that must not wait may add beyond twice the limit in all


class Entry(NamedTuple):
    """What the audio thread takes: one decision and what it means.

    record: given the recorder, writes down the messages with their updates; None for updates that no message brought.
    size: bytes of the messages.
    """

    record: Callable[[Any, float], None] | None
    updates: Sequence[Update]
    at_s: float
    size: int = 0


class Inbound(queue.Queue[Entry | None]):
    """A `queue.Queue` whose writers wait after writing, not before.

    An entry is put where it was decided, under the lock of decisions, so that the order of the queue is the order of
    what happened, however full it is. Whoever can wait then waits until there is room for the next one, so the queue
    exceeds its limit by at most one entry for each thread. None is the last entry; what is put after it is dropped.
    on_room: tells those who wait in another way; see `Session.on_room`.
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

    @property
    def crowded(self) -> bool:
        """Whether writers should wait."""
        return not self._gone and (self._qsize() >= self._limit or self._bytes >= self._limit_bytes)

    def put_now(self, entry: Entry | None, *, quietly: bool = False) -> None:
        """Queue behind everything else, without waiting.

        quietly: the reader wakes for the fifth such entry, or for any other. A microphone sends 50 blocks a second, and
        all that is left to do is write them down; waking a thread for each costs more than the writing.
        Errors: QueueFullError far beyond the limit: the reader stands still, and nobody waits.
        """
        with self.mutex:
            if self._ended or self._gone:
                return
            waiting = self._qsize()
            if entry is None:
                self._ended = True
            elif waiting >= 2 * self._limit + _SLACK:
                raise QueueFullError(f"{waiting} updates wait and no observer takes them")
            else:
                self._bytes += entry.size
            self._put(entry)
            self.high_water = max(self.high_water, waiting + 1)
            self._quiet = self._quiet + 1 if quietly else _TOGETHER
            if self._quiet >= _TOGETHER:
                self._quiet = 0
                self.not_empty.notify()

    def wait_for_room(self) -> None:
        """Wait while the queue is crowded; when the reader ends, nobody waits any longer."""
        if self.crowded:
            with self.not_full:
                while self.crowded:
                    self.not_full.wait()

    def _get(self) -> Entry | None:
        entry = super()._get()
        if entry is not None:
            self._bytes -= entry.size
        self._let_go()
        return entry

    def leave(self) -> None:
        """The reader takes nothing more: nobody waits for it."""
        with self.mutex:
            self._gone = True
            self._let_go()

    def _let_go(self) -> None:
        self.not_full.notify_all()
        self._on_room()
