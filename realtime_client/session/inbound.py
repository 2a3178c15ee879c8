"""The queue to the audio thread: in order, bounded, and quiet about what can wait."""

from __future__ import annotations

import queue
from typing import TypeVar

_TOGETHER = 5  # blocks of a microphone: 100 ms
T = TypeVar("T")


class Inbound(queue.Queue[T]):
    """A `queue.Queue` whose reader need not wake for each item.

    A microphone sends 50 blocks a second, and all that is left to do with them is to write them down; to wake a thread
    for each costs more than the writing.
    """

    def __init__(self, maxsize: int) -> None:
        super().__init__(maxsize)
        self._quiet = 0

    def put_quietly(self, item: T) -> bool:
        """Queue behind everything else; the reader wakes for the fifth such item, or for any other. False if full."""
        with self.mutex:
            if self._qsize() >= self.maxsize:
                return False
            self._put(item)
            self.unfinished_tasks += 1
            self._quiet += 1
            if self._quiet == _TOGETHER:
                self._quiet = 0
                self.not_empty.notify()
            return True
