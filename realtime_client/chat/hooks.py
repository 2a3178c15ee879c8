"""Hooks on the pieces of answers: filters, which change the text, and watchers, which are told of each piece.

Filters run one after the other in the thread of the stream, since what they return is what everybody sees. Watchers
(renderers, counters) run side by side, each in a thread of its own behind a bounded queue, and their results come in
the order of the pieces.
"""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from realtime_client.deadline import Deadline
from realtime_client.errors import UsageError
from realtime_client.escape import one_line
from realtime_client.session.threads import Worker, join_all
from realtime_client.user_file import run_file

from .limits import WhenFull
from .wires.faults import Fault
from .wires.pieces import ErrorPiece, FinishPiece, Piece, TextPiece

Filter = Callable[[str], str]
"""Takes a piece of text, and returns what is to be shown instead; '' to hold it back. If it has a method `end`, that is
called when the answer is over, and returns the rest."""
_TO_FINISH = 0.8  # of the time for closing
MakeFilter = Callable[[], Filter]
Watcher = Callable[[Piece], Any]
OnResult = Callable[[Any], object]


class Filters:
    """The filters of one stream."""

    def __init__(self, makers: Sequence[MakeFilter]) -> None:
        self._filters = [make() for make in makers]

    def __bool__(self) -> bool:
        return bool(self._filters)

    def feed(self, text: str) -> str:
        """Return what is to be shown of a piece of text. Errors: those of the filters; TypeError."""
        for each in self._filters:
            text = _text(each(text)) if text else text
        return text

    def end(self) -> str:
        """Return what was held back; each filter's rest goes through those after it."""
        rest = ""
        for each in self._filters:
            rest = _text(each(rest)) if rest else ""
            end = getattr(each, "end", None)
            rest += _text(end()) if end is not None else ""
        return rest


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"it returned {type(value).__name__}, not text")
    value.encode()  # half a surrogate pair could be neither sent nor recorded
    return value


class Watching:
    """One watcher and its thread. missed: how many pieces it did not get because it was behind.

    on_failure: told once when it fails; it gets nothing more then.
    """

    def __init__(
        self,
        watcher: Watcher,
        on_result: OnResult,
        on_failure: Callable[[str], None],
        *,
        size: int,
        when_full: WhenFull,
    ) -> None:
        self.missed = 0
        self._watcher = watcher
        self._on_result = on_result
        self._on_failure = on_failure
        self._when_full = when_full
        self._queue: queue.Queue[Piece | None] = queue.Queue(size)
        self._over = False
        self._ending = False
        self.worker = Worker(f"realtime-hook-{getattr(watcher, '__name__', 'watcher')}", self._run, lambda _error: None)
        self.worker.start()

    def take(self, pieces: Sequence[Piece]) -> None:
        """Hand pieces over; full: wait, forget the oldest, or be told no more."""
        for piece in pieces:
            if self._over:
                return
            try:
                self._queue.put_nowait(piece)
            except queue.Full:
                self._full(piece)

    def _full(self, piece: Piece) -> None:
        if self._when_full == "fail":
            self._fail("it is too slow: its queue is full")
            return
        while not (self._over or self._ending):
            if self._when_full == "drop":
                self._drop_one()
            try:
                self._queue.put(piece, timeout=0.1)
            except queue.Full:
                continue
            return

    def _drop_one(self) -> None:
        with contextlib.suppress(queue.Empty):
            self._queue.get_nowait()
            self.missed += 1

    def _run(self) -> None:
        while (piece := self._queue.get()) is not None and not self._over:
            try:
                result = self._watcher(piece)
                if result is not None:
                    self._on_result(result)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a hook is the user's
                self._fail(f"{type(error).__name__}: {error}")

    def _fail(self, why: str) -> None:
        self._over = True
        self._on_failure(one_line(why, 200))

    def let_go(self) -> None:
        """The session ends: no stream waits for it any longer."""
        self._ending = True

    def close(self, deadline: Deadline) -> None:
        """Let it finish what it has, for most of the time that there is; then it ends after the piece it is at."""
        self.let_go()
        most = Deadline((deadline.remaining_s() or 0.0) * _TO_FINISH)
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=most.remaining_s())
        join_all([self.worker.thread], most)
        self._over = True
        with contextlib.suppress(queue.Full):  # then there is something to wake it
            self._queue.put_nowait(None)
        join_all([self.worker.thread], deadline)


def filtered(filters: Filters, pieces: list[Piece]) -> list[Piece]:
    """The pieces as the filters let them through. One that fails ends the answer: it may be there to hide something."""
    shown: list[Piece] = []
    try:
        for piece in pieces:
            if isinstance(piece, TextPiece):
                text = filters.feed(piece.text)
                shown += [TextPiece(piece.stream, piece.n, piece.at_s, text)] if text else []
                continue
            if isinstance(piece, FinishPiece) and (rest := filters.end()):
                shown.append(TextPiece(piece.stream, piece.n, piece.at_s, rest))
            shown.append(piece)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a filter is the user's
        last = pieces[-1]
        shown.append(ErrorPiece(last.stream, last.n, last.at_s, filter_failed(error)))
    return shown


def filter_failed(error: BaseException) -> Fault:
    """A filter, or what makes it, failed."""
    return screen_fault(f"a filter failed: {type(error).__name__}: {error}")


def screen_fault(message: str) -> Fault:
    """Something on this program's side of the pieces failed."""
    return Fault(category="screen", action="fatal", message=one_line(message, 300), trips=False)


def filter_file(path: Path) -> MakeFilter:
    """Load a filter from a Python file: its function `filter(text) -> str`, or its `make_filter() -> filter`.

    The file is run (`run_file`). Errors: UsageError when it cannot be, or has neither.
    """
    module = run_file(path)
    make = getattr(module, "make_filter", None)
    if callable(make):
        return make  # type: ignore[no-any-return]
    plain = getattr(module, "filter", None)
    if not callable(plain):
        raise UsageError(f"{path}: has no function `filter(text)` and no `make_filter()`")
    return lambda: plain
