"""Reading a session's updates by iteration."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from realtime_client.deadline import Deadline
from realtime_client.errors import QueueFullError
from realtime_client.updates import Update


class Subscription:
    """An iterator over updates, from the moment it was made to the end of the session.

    `SessionEnded` is the last one. A reader that lags behind by more than the queue's limit gets a QueueFullError: the
    session itself never waits for a reader. Use it as a context manager, or call `close()`, to end it early.
    """

    def __init__(
        self,
        limit: int,
        remove: Callable[[], None],
        failure: Callable[[], BaseException | None],
        timeout_s: float | None,
    ) -> None:
        self._queue: queue.Queue[Update | None] = queue.Queue(limit)
        self._remove = remove
        self._failure = failure
        self._timeout_s = timeout_s
        self._overflowed = False
        self._over = False

    def offer(self, update: Update, _at_s: float) -> None:
        """Take one update in, without waiting (called by the audio thread)."""
        if self._overflowed:
            return
        try:
            self._queue.put_nowait(update)
        except queue.Full:
            self._overflowed = True
            self._remove()

    def end(self) -> None:
        """Wake a waiting reader for the last time."""
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            self._overflowed = True

    def __iter__(self) -> Iterator[Update]:
        return self

    def __next__(self) -> Update:
        """Return the next update.

        Errors: TimeoutError after timeout_s; QueueFullError; ConnectionLostError when the connection was lost.
        """
        return self._next(self._timeout_s)

    def until(self, deadline: Deadline) -> Iterator[Update]:
        """Iterate up to a moment. Errors: TimeoutError at the deadline, and those of iteration."""
        while True:
            try:
                update = self._next(deadline.remaining_s())
            except StopIteration:
                return
            yield update

    def _next(self, timeout_s: float | None) -> Update:
        if self._over:
            raise StopIteration
        if self._overflowed and self._queue.empty():
            raise QueueFullError(f"this reader is more than {self._queue.maxsize} updates behind")
        try:
            update = self._queue.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError("no update in time") from None
        if update is None:
            self._over = True
            if (failure := self._failure()) is not None:
                raise failure
            raise StopIteration
        return update

    def close(self) -> None:
        """Stop taking updates. Idempotent."""
        self._remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
