"""What every session has, whatever its wire: one order of events, and everybody who is told of them.

    receive, calls   decide under `lock`, then `publish`    -> inbound queue.Queue
    audio            takes the queue in order: recorder, observers, readers

The lock is held for decisions only. An entry is queued where it was decided, so the queue's order is the order of
events; direct observers are told by the thread that decided, after the lock is released.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from realtime_client import updates as up
from realtime_client.deadline import Clock, Deadline
from realtime_client.errors import RealtimeError

from .inbound import Entry, Inbound
from .limits import Limits
from .observers import Observer, RecorderProtocol
from .stats import TurnClock
from .subscription import Subscription
from .threads import StopEvent, Worker

Record = Callable[[RecorderProtocol, float], None]


class Hub:
    """The queue, the audio thread, and who listens. `start`, then `finish`; each once.

    stop: the end is wanted. error: why the session ended against our will, the first reason of all. recorder: gets
    every message and update, and `final_stats` when it is closed. on_failure: called when the audio thread fails.
    on_room: called when somebody who waits for room in the queue may find some. farewell: called in the audio thread
    when nothing more happens, for what is to be told before the end.
    """

    def __init__(
        self,
        limits: Limits,
        clock: Clock,
        recorder: RecorderProtocol | None,
        final_stats: Callable[[], dict[str, Any]],
        on_failure: Callable[[], None],
        *,
        on_room: Callable[[], None],
        farewell: Callable[[], Sequence[up.Update]] = tuple,
    ) -> None:
        self.lock = threading.Lock()
        self.stop = StopEvent()
        self.error: RealtimeError | None = None
        self.turns = TurnClock()
        self.records = recorder is not None
        self.inbound = Inbound(limits.inbound_queue, limits.inbound_bytes, on_room)
        self.audio = Worker("realtime-audio", self._run, self._listener_failed)
        self._now = clock.monotonic
        self._recorder = recorder
        self._final_stats = final_stats
        self._on_failure = on_failure
        self._farewell = farewell
        self._reader_limit = limits.updates_queue
        self._lists = threading.Lock()
        self._observers: tuple[Observer, ...] = ()
        self._direct: tuple[Observer, ...] = ()
        self._readers: tuple[Subscription, ...] = ()
        self._read_out = False
        self._words = "closed"

    def start(self) -> None:
        """Start the audio thread."""
        self.audio.start()

    # --- telling ------------------------------------------------------------------------------------------------------

    def publish(
        self,
        updates: Sequence[up.Update],
        at_s: float,
        record: Record | None = None,
        size: int = 0,
        *,
        quietly: bool = False,
    ) -> bool:
        """Put what was decided into the order of events; call it under the lock. Never waits.

        record, size, quietly: see `Entry` and `Inbound.put_now`. Returns whether the queue is crowded now; direct
        observers alone need no queue. Errors: QueueFullError far beyond the limit.
        """
        if updates:
            self.turns.take_all(updates, at_s)
        if record is not None or (updates and (self.records or self._observers)):
            return self.inbound.put_now(Entry(record, updates, at_s, size), quietly=quietly)
        return False

    def tell_directly(self, updates: Sequence[up.Update], at_s: float) -> None:
        """Tell the direct observers, in the thread that decided; call it after the lock is released."""
        for observer in self._direct:
            for update in updates:
                observer(update, at_s)

    def wait_for_room(self) -> None:
        """Wait while the audio thread is behind; it never waits for itself."""
        if self.inbound.crowded and threading.current_thread() is not self.audio.thread:
            self.inbound.wait_for_room()

    # --- listening ----------------------------------------------------------------------------------------------------

    def observe(self, observer: Observer, *, direct: bool) -> Callable[[], None]:
        """Tell an observer from now on; returns what ends it."""
        with self._lists:
            if direct:
                self._direct = (*self._direct, observer)
            else:
                self._observers = (*self._observers, observer)

        def remove() -> None:
            with self._lists:
                self._direct = tuple(each for each in self._direct if each is not observer)
                self._observers = tuple(each for each in self._observers if each is not observer)

        return remove

    def read(self, timeout_s: float | None) -> Subscription:
        """Return a reader of all updates from now on. It ends when the session does, or at once when that is over."""

        def leave() -> None:
            remove()
            with self._lists:
                self._readers = tuple(each for each in self._readers if each is not reader)

        reader = Subscription(self._reader_limit, leave, lambda: self.error, timeout_s)
        remove = self.observe(reader.offer, direct=False)
        with self._lists:
            self._readers = (*self._readers, reader)
            over = self._read_out
        if over:
            reader.end()
        return reader

    def end_readers(self) -> None:
        """No more updates will come."""
        with self._lists:
            self._read_out = True
            readers, self._readers = self._readers, ()
        for reader in readers:
            reader.end()

    # --- the audio thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            take = self.inbound.get
            while (entry := take()) is not None:
                self._handle(entry)
            ended = up.SessionEnded(reason=self._words if self.error is None else str(self.error))
            last = (*self._farewell(), ended)
            self._handle(Entry(None, last, self._now()))
            self.tell_directly(last, self._now())
        finally:
            self.inbound.leave()
            try:
                self._finish_recording()
            finally:
                self.end_readers()

    def _handle(self, entry: Entry) -> None:
        record, updates, at_s = entry.record, entry.updates, entry.at_s
        recorder = self._recorder
        if recorder is not None:
            if record is not None:
                record(recorder, at_s)
            else:
                for update in updates:
                    recorder.noticed(update, at_s)
        observers = self._observers
        for update in updates:
            for observer in observers:
                observer(update, at_s)

    def _finish_recording(self) -> None:
        if self._recorder is not None:
            ended = self._words if self.error is None else f"lost: {self.error}"
            if self.audio.error is not None:
                ended = "failed"
            self._recorder.close(ended=ended, stats=self._final_stats())

    # --- the end ------------------------------------------------------------------------------------------------------

    def _listener_failed(self, error: BaseException) -> None:
        self.fail(as_ours(error, "an observer failed"))  # a recorder raises errors of ours

    def fail(self, error: BaseException) -> None:
        """A thread failed: the session ends."""
        self.error = self.error or as_ours(error)
        self.stop.set()
        self._on_failure()

    def finish(self, words: str) -> None:
        """Nothing more happens; what is queued is still told. words: how it ended, unless by an error."""
        self._words = words
        self.inbound.put_now(None)

    def join(self, deadline: Deadline) -> None:
        """Wait for the audio thread; what it does not take by the deadline is dropped."""
        if self.audio.thread.ident and self.audio.thread is not threading.current_thread():
            self.audio.thread.join(deadline.remaining_s())
        self.inbound.leave()


def as_ours(error: BaseException, what: str = "internal error") -> RealtimeError:
    """The same error as one of this package's, with its cause."""
    if isinstance(error, RealtimeError):
        return error
    ours = RealtimeError(f"{what}: {error!r}")
    ours.__cause__ = error
    return ours
