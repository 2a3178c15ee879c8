"""A bounded queue between two threads, which either of them may close."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Channel(Generic[T]):
    """One writer, one reader. `most`: how many wait in it; the writer waits while so many do.

    over: the writer has closed it and all was read, or the reader has closed it.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._changed = threading.Condition()
        self._items: deque[T] = deque()
        self._closed = False

    @property
    def over(self) -> bool:
        """Whether nothing more comes."""
        with self._changed:
            return self._closed and not self._items

    def put(self, item: T) -> bool:
        """Add an item; waits while it is full; False when it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._most)
            if self._closed:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def get(self, timeout_s: float | None) -> T | None:
        """Return the next item; None when none came in time, or none comes any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._items, timeout_s)
            if not self._items:
                return None
            self._changed.notify_all()
            return self._items.popleft()

    def close(self, *, drop: bool = False) -> None:
        """Nothing more comes. drop: what waits in it is not wanted, either."""
        with self._changed:
            self._closed = True
            if drop:
                self._items.clear()
            self._changed.notify_all()
