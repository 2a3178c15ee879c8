"""Reading a session's updates by iteration."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from realtime_client.deadline import Deadline
from realtime_client.errors import QueueFullError, TimeLimitError
from realtime_client.updates import Update


class Subscription:
    """An iterator over updates, from the moment it was made to the end of the session.

    `SessionEnded` is the last one. A reader that lags behind by more than the queue's limit gets a QueueFullError: the
    session itself never waits for a reader. Use it as a context manager, or call `close()`, to end it early: whoever
    waits for an update then gets the end.
    """

    def __init__(
        self,
        limit: int,
        remove: Callable[[], None],
        failure: Callable[[], BaseException | None],
        timeout_s: float | None,
    ) -> None:
        self._limit = limit
        self._updates: deque[Update] = deque()
        self._changed = threading.Condition()  # whose lock may be taken again by the same thread
        self._remove = remove
        self._failure = failure
        self._timeout_s = timeout_s
        self._overflowed = False
        self._ended = False  # nothing more comes
        self._closed = False  # nobody wants more, or the end has been raised
        self._wake: Callable[[], object] = bool

    def wakes(self, wake: Callable[[], object]) -> None:
        """Call this when there may be something to `take`, in the thread that brings it."""
        self._wake = wake

    def offer(self, update: Update, _at_s: float) -> None:
        """Take one update in, without waiting (called by the audio thread)."""
        with self._changed:
            if self._overflowed or self._closed:
                return
            full = self._overflowed = len(self._updates) >= self._limit
            if not full:
                self._updates.append(update)
            self._changed.notify()
        self._wake()
        if full:
            self._remove()

    def end(self) -> None:
        """The session is over: whoever waits wakes, once everything here has been read."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._wake()

    def __iter__(self) -> Iterator[Update]:
        return self

    def __next__(self) -> Update:
        """Return the next update.

        Errors: TimeLimitError after timeout_s; QueueFullError; ConnectionLostError when the connection was lost.
        """
        return self._next(Deadline(self._timeout_s))

    def until(self, deadline: Deadline) -> Iterator[Update]:
        """Iterate up to a moment. Errors: TimeLimitError at the deadline, and those of iteration."""
        with contextlib.suppress(StopIteration):
            while True:
                yield self._next(deadline)

    def _next(self, deadline: Deadline) -> Update:
        with self._changed:
            while (update := self.take()) is None:
                if not self._changed.wait(deadline.remaining_s()) and deadline.expired:
                    raise TimeLimitError("no update in time")
            return update

    def take(self) -> Update | None:
        """Return the next update without waiting; None if there is none yet. Errors: those of iteration, at its end."""
        with self._changed:
            if self._closed:
                raise StopIteration
            if self._updates:
                return self._updates.popleft()
            if self._overflowed:
                raise QueueFullError(f"this reader is more than {self._limit} updates behind")
            if not self._ended:
                return None
            self._closed = True
            raise self._failure() or StopIteration

    def close(self) -> None:
        """Stop taking updates, and end whoever reads. Idempotent; from any thread."""
        self._remove()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._wake()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
