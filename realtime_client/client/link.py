"""The threads of one session and how they end.

    receive     decodes frames, asks the conversation what they mean   -> inbound queue.Queue
    audio       takes the inbound queue in order: recorder, observers
    send        takes the outbox; the only one that writes to the connection; sends the close frame last
    keep-alive  pings on schedule, notices a missing pong and a request without an answer; sees to it that an end ends

The conversation is shared under one lock, held for the decision only; what follows from it is queued in the same
critical section, so order is kept. A message that ends an answer's audio travels through the same queue as the audio.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from realtime_client import errors
from realtime_client import updates as up
from realtime_client.deadline import NO_DEADLINE, Clock, Deadline
from realtime_client.protocol import codec
from realtime_client.protocol import events as ev
from realtime_client.protocol.conversation import BENIGN_CODES, Conversation
from realtime_client.protocol.translate import failure
from realtime_client.session.inbound import Inbound
from realtime_client.session.limits import Limits
from realtime_client.session.observers import AnyEvent, EventObserver, Observer, RecorderProtocol
from realtime_client.session.stats import Traffic, TurnClock
from realtime_client.session.stop import StopEvent
from realtime_client.session.worker import Worker, stacks

from .ahead import Ahead
from .connection import Connection, Opening
from .endings import Ending, Moment
from .endpoint import Endpoint
from .keepalive import KeepAlive
from .outbox import WRITE_OUT, Outbox, Outgoing, Ping

_RECEIVED, _SENT, _NOTICED = range(3)
_TROUBLE = {ev.MalformedEvent, ev.UnknownEvent, ev.Error}
_ASKING = {ev.ResponseCreate, ev.InputAudioBufferCommit}
_Kept = tuple[AnyEvent, bytes, Sequence[up.Update]]
_Entry = tuple[int, Any, Any, Sequence[up.Update], float]
"""(kind, list of _Kept or the sent event, sent frame, updates, at_s): what the inbound queue carries."""


class Link:
    """One connection and its threads. `start`, then `shut_down`; each once."""

    def __init__(
        self,
        *,
        endpoint: Endpoint,
        limits: Limits,
        conversation: Conversation,
        recorder: RecorderProtocol | None,
        clock: Clock,
        final_stats: Callable[[], dict[str, Any]],
        settings_follow: bool = False,
    ) -> None:
        self.stop = StopEvent()
        self.error: errors.RealtimeError | None = None
        self.ending: Ending | None = None
        self.opened = False
        self.conversation = conversation
        self.lock = threading.Lock()
        self.outbox = Outbox(limits.outbox_queue, limits.outbox_bytes, clock)
        self.ahead = Ahead(clock)
        self.traffic = Traffic()
        self.turns = TurnClock()
        self.inbound_high_water = 0
        self.observers: tuple[Observer, ...] = ()
        self.direct_observers: tuple[Observer, ...] = ()
        self.event_observers: tuple[EventObserver, ...] = ()
        self.at_end: Callable[[], None] = lambda: None
        self._limits = limits
        self._clock = clock
        self._now = clock.monotonic
        self._recorder = recorder
        self._final_stats = final_stats
        self._settings_follow = settings_follow
        self._inbound: Inbound[_Entry | None] = Inbound(limits.inbound_queue)
        self._late: deque[up.Update] = deque()
        self._audio_gone = False
        self._starting = threading.Lock()
        self._ending = False
        self._stalled = False
        self._fatal: up.Failure | None = None
        self._last_word: up.Failure | None = None
        self._where = endpoint.label
        self._opening = Opening(endpoint, limits, self)
        self._connection: Connection | None = None
        self._outcome: queue.Queue[Connection | BaseException] = queue.Queue(4)
        self.keep_alive = KeepAlive(
            interval_s=limits.ping_interval_s,
            pong_timeout_s=limits.pong_timeout_s,
            read_timeout_s=limits.read_timeout_s,
            now_s=self._now(),
        )
        self._connect = Worker("realtime-connect", self._run_connect, self._outcome.put_nowait)
        self._audio = Worker("realtime-audio", self._run_audio, self._failed)
        self._send = Worker("realtime-send", self._run_send, self._failed)
        self._pings = Worker("realtime-keep-alive", self._run_keep_alive, self._failed)

    # --- beginning ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Connect and start the threads. Errors: ConnectError and its kinds; ClosedError when closed meanwhile."""
        self._start(self._audio, self._connect)
        outcome = self._outcome.get()  # the attempt has its own deadline, and `shut_down` answers, too
        if isinstance(outcome, BaseException):
            raise outcome
        self._start(self._send, self._pings)

    def _start(self, *workers: Worker) -> None:
        """Start threads unless the end has begun: `shut_down` joins what it finds running."""
        with self._starting:
            if self._ending:
                raise errors.ClosedError("closed while connecting")
            for worker in workers:
                worker.start()

    def _run_connect(self) -> None:
        connection = self._opening.run()
        self._connection = connection
        if self.stop.is_set():
            connection.abort()
        self._outcome.put_nowait(connection)

    @property
    def server_date(self) -> str:
        """The Date header of the handshake; '' without one."""
        return "" if self._connection is None else self._connection.server_date

    # --- receive thread -----------------------------------------------------------------------------------------------

    def on_frames(self, frames: list[bytes]) -> None:
        """Decode what arrived, let the conversation decide, hand both to the audio thread in one piece."""
        now = self._now()
        traffic, conversation, records = self.traffic, self.conversation, self._recorder is not None
        traffic.frames_in += len(frames)
        self.keep_alive.last_heard_s = now
        decoded = [codec.decode_server(frame) for frame in frames]
        happened: list[up.Update] = []
        kept: list[_Kept] = []
        with self.lock:
            for event, frame in zip(decoded, frames, strict=True):
                updates = conversation.receive(event)
                traffic.bytes_in += len(frame)
                happened += updates
                if records:
                    kept.append((event, frame, updates))
                if type(event) in _TROUBLE:
                    self._count(event, updates)
            self._last_word = _error_of(decoded[-1])
            if self._fatal is not None and type(decoded[-1]) is ev.ResponseDone:
                self._fatal = None  # it was not: the session goes on
            for update in happened:
                self.turns.take(update, now)
            if conversation.commands:
                with contextlib.suppress(errors.ClosedError):  # what would follow from it is of no use any more
                    self.flush()
            entry: _Entry = (_RECEIVED, kept, None, happened, now)
            waits = (records or (self.observers and happened)) and not self._offer(entry)
        for tell in self.event_observers:
            for event in decoded:
                tell(codec.wire_type(event), now)
        self._tell_directly(happened, now)
        if waits:
            self._wait_to_put(entry)

    def _tell_directly(self, updates: Sequence[up.Update], at_s: float) -> None:
        for observer in self.direct_observers:
            for update in updates:
                observer(update, at_s)

    def _count(self, event: AnyEvent, updates: Sequence[up.Update]) -> None:
        """Count what is wrong, and remember why the server is about to end the session."""
        if type(event) is ev.MalformedEvent:
            self.traffic.malformed += 1
        elif type(event) is ev.UnknownEvent:
            self.traffic.unknown += 1
        else:
            self.traffic.failures += 1
            self.stop.wake.set()  # a request may be over soon
        for update in updates:
            if isinstance(update, up.Failure) and update.fatal:
                self._fatal = update

    def on_pong(self, payload: bytes) -> None:
        """Measure the round trip, or how far the server has read."""
        if self.ahead.read(payload):
            self.keep_alive.heard(self._now())
        else:
            self.keep_alive.pong(payload, self._now())

    def on_unwritten(self) -> None:
        """Let the send thread write what the receive thread cannot without waiting."""
        with contextlib.suppress(errors.ClosedError):
            self.outbox.put_now(WRITE_OUT, urgent=True)

    def on_end(self, code: int, reason: str, *, by_us: bool = False) -> None:
        """Tell everybody that the connection is over."""
        try:
            self._tell_the_end(code, reason, by_us=by_us)
        finally:
            self.stop.set()
            self.ahead.end()
            self.outbox.close(drop=True)
            self._wait_to_put(None)

    def _tell_the_end(self, code: int, reason: str, *, by_us: bool) -> None:
        """Decide what the end means, and tell it."""
        broken = self._connection.receive_error if self._connection is not None else None
        if broken is not None:
            self.error = self.error or _as_ours(broken)  # it was no server that ended this
        asked = self.stop.is_set() and self.error is None
        now = self._now()
        with self.lock:
            moment = self._moment()
            held = self.conversation.end()
        if not asked:
            said = next((each for each in held if isinstance(each, up.Failure)), None)
            ending = Ending(code=code, reason=reason, says=self._fatal or said or self._last_word, by_us=by_us)
            self.ending = ending
            self.error = self.error or ending.error(moment, self._where)
            words = str(self.error or ending.words)
            if self.error is not None:
                held = [*held, up.ConnectionLost(code=code, reason=words)]
        if held:
            self._wait_to_put((_NOTICED, None, None, held, now))
            self._tell_directly(held, now)

    def _moment(self) -> Moment:
        """What the session is doing."""
        gate = self.conversation.gate
        if not (self.opened or self.conversation.is_open(settings_follow=self._settings_follow)):
            return Moment.OPENING
        if gate.active_id is not None:
            return Moment.ANSWERING
        return Moment.ASKED if gate.wanted else Moment.IDLE

    def _offer(self, entry: _Entry) -> bool:
        """Queue for the audio thread if there is room (called under the lock, so in order)."""
        inbound = self._inbound
        waiting = len(inbound.queue)
        self.inbound_high_water = max(self.inbound_high_water, waiting)
        if waiting >= inbound.maxsize:
            return False
        try:
            inbound.put_nowait(entry)
        except queue.Full:
            return False
        return True

    def _wait_to_put(self, entry: _Entry | None, deadline: Deadline = NO_DEADLINE) -> None:
        """Queue for the audio thread, waiting for room: this stops reading, and TCP tells the server to wait."""
        self._stalled = self._inbound.full()
        while not (self._audio_gone or deadline.expired):
            try:
                self._inbound.put(entry, timeout=0.25)
                break
            except queue.Full:
                self._stalled = True
        self._stalled = False

    # --- any thread ---------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Queue what the conversation wants sent; call it under the lock, so that order is kept."""
        if self.conversation.due_s is not None:
            self.stop.wake.set()  # it may be due sooner than it was
        for command in self.conversation.take_commands():
            self.outbox.put_now(command, urgent=type(command) is ev.ResponseCancel)

    def notice(self, updates: Sequence[up.Update], *, waiting: bool = True) -> Callable[[], None]:
        """Tell the observers of updates that no frame told; call it under the lock.

        Returns what remains to be done after the lock is released: direct observers, waiting for room. waiting: False
        for a thread that must not wait; the audio thread never does.
        """
        if not updates:
            return lambda: None
        now = self._now()
        for update in updates:
            self.turns.take(update, now)
        entry: _Entry = (_NOTICED, None, None, updates, now)
        waits = not self._offer(entry)
        if waits and (not waiting or threading.current_thread() is self._audio.thread):
            self._late.extend(updates)  # told after what is being handled now
            waits = False

        def finish() -> None:
            self._tell_directly(updates, now)
            if waits:
                self._wait_to_put(entry)

        return finish

    def put(self, event: Outgoing) -> None:
        """Queue a message behind everything else, waiting for room."""
        self.outbox.put(event, wait_s=self._patience_s())

    def wait_for_room(self) -> None:
        """Wait until the outbox takes a message. Errors: QueueFullError; ClosedError."""
        self.outbox.wait_for_room(self._patience_s())

    def _patience_s(self) -> float:
        """How long the calling thread may wait for the network: not at all if it is one of ours."""
        return 0.0 if self.owns(threading.current_thread()) else self._limits.write_timeout_s

    def keep_step(self, ms: float) -> None:
        """After audio was queued: wait until the server has read all but the last seconds of it.

        Needs pings. Errors: QueueFullError when the server reads nothing; ClosedError.
        """
        if not self._limits.ping_interval_s:
            return
        mark = self.ahead.sent(ms)
        if mark is not None:
            self.put(Ping(mark))
            if not self.owns(threading.current_thread()):
                self.ahead.wait(self._limits.write_timeout_s + self._limits.pong_timeout_s)

    def owns(self, thread: threading.Thread) -> bool:
        """Whether this thread is one of ours."""
        return thread in self._threads()

    # --- audio thread -------------------------------------------------------------------------------------------------

    def _run_audio(self) -> None:
        try:
            take = self._inbound.get
            while (entry := take()) is not None:
                self._handle(entry)
            ended = up.SessionEnded(reason=self._how_it_ended())
            self._tell(ended, self._now())
            self._tell_directly((ended,), self._now())
        finally:
            self._audio_gone = True
            try:
                self._finish_recording()
            finally:
                self.at_end()

    def _handle(self, entry: _Entry) -> None:
        kind, what, frame, updates, at_s = entry
        recorder = self._recorder
        if kind == _RECEIVED:
            if recorder is not None:
                for event, received, meant in what:
                    recorder.received(event, received, meant, at_s)
            self._observe(updates, at_s)
        elif kind == _SENT:
            if recorder is not None:
                recorder.sent(what, frame, at_s)
        else:
            for update in updates:
                self._tell(update, at_s)
        while self._late:
            self._tell(self._late.popleft(), at_s)

    def _observe(self, updates: Sequence[up.Update], at_s: float) -> None:
        for update in updates:
            for observer in self.observers:
                observer(update, at_s)

    def _tell(self, update: up.Update, at_s: float) -> None:
        """Pass on an update that no frame told."""
        if self._recorder is not None:
            self._recorder.noticed(update, at_s)
        self._observe((update,), at_s)

    def _how_it_ended(self) -> str:
        """`closed` when this program ended the session; else what the server's end means, or what failed."""
        if self.error is not None:
            return str(self.error)
        return "closed" if self.ending is None else self.ending.words

    def _finish_recording(self) -> None:
        if self._recorder is not None:
            ended = self._how_it_ended() if self.error is None else f"lost: {self.error}"
            if self._audio.error is not None:
                ended = "failed"
            self._recorder.close(ended=ended, stats=self._final_stats())

    # --- send thread --------------------------------------------------------------------------------------------------

    def _run_send(self) -> None:
        connection = self._connection
        assert connection is not None
        try:
            while items := self.outbox.get():
                self._send_all(connection, items)
            connection.close()
        except errors.ConnectionLostError:
            connection.abort()  # the receive thread tells why

    def _send_all(self, connection: Connection, items: Sequence[Outgoing]) -> None:
        """Send what waited, in one write."""
        events = [item for item in items if isinstance(item, ev.ClientEvent)]
        asks = any(type(event) in _ASKING for event in events)
        if asks:
            with self.lock:  # before it leaves: an answer can be quicker than this thread
                self.turns.asked(self._now())
        frames = {id(event): codec.encode(event) for event in events}
        connection.send([item if type(item) is Ping else frames[id(item)] for item in items if item is not WRITE_OUT])
        self.traffic.frames_out += len(events)
        self.traffic.bytes_out += sum(map(len, frames.values()))
        now = self._now()
        if asks:
            with self.lock:
                for event in events:
                    self.conversation.left(event)
            self.stop.wake.set()
        if self._recorder is not None:
            for event in events:
                entry: _Entry = (_SENT, event, frames[id(event)], (), now)
                if type(event) is not ev.InputAudioBufferAppend or not self._inbound.put_quietly(entry):
                    self._wait_to_put_sent(entry)

    def _wait_to_put_sent(self, entry: _Entry) -> None:
        while not self._audio_gone:
            try:
                self._inbound.put(entry, timeout=0.25)
                return
            except queue.Full:
                continue

    # --- keep-alive thread --------------------------------------------------------------------------------------------

    def _run_keep_alive(self) -> None:
        connection, stop = self._connection, self.stop
        assert connection is not None
        while not stop.is_set():
            stop.wake.wait(self._next_step_s())
            stop.wake.clear()
            if stop.is_set():
                break
            try:
                error = self.keep_alive.step(self._now(), self._ping, stalled_here=self._stalled)
                self._tick()
            except errors.ClosedError:
                break
            if error is not None:
                self.error = error
                connection.abort()
                return
        self._see_the_end(connection)

    def _next_step_s(self) -> float | None:
        """Seconds until there is something to do; None for never."""
        now = self._now()
        step_s = self.keep_alive.next_step_s(now)
        due_s = self.conversation.due_s
        if due_s is None:
            return step_s
        return max(0.0, due_s - now) if step_s is None else max(0.0, min(step_s, due_s - now))

    def _tick(self) -> None:
        """Give up a request that has no answer."""
        with self.lock:
            happened = self.conversation.tick()
            if not happened and not self.conversation.commands:
                return
            self.flush()
            finish = self.notice(happened, waiting=False)
        finish()

    def _see_the_end(self, connection: Connection) -> None:
        """The end was asked for, perhaps from within: say goodbye, and do not wait for the server's for ever."""
        self.outbox.close()
        connection.receive_thread.join(self._limits.close_timeout_s * 0.7)
        if connection.receive_thread.is_alive():
            connection.abort()

    def _ping(self, payload: bytes) -> None:
        self.outbox.put_now(Ping(payload), urgent=True)

    # --- end ----------------------------------------------------------------------------------------------------------

    def _failed(self, error: BaseException) -> None:
        """A thread failed: end the session; `shut_down` raises the error."""
        if self.error is None:
            self.error = _as_ours(error)
        self.stop.set()
        self.ahead.end()
        self.outbox.close(drop=True)
        if self._connection is not None:
            self._connection.abort()

    def _threads(self) -> list[threading.Thread]:
        threads = [w.thread for w in (self._connect, self._send, self._pings, self._audio) if w.thread.ident]
        if self._connection is not None:
            threads.insert(1, self._connection.receive_thread)
        return threads

    def shut_down(self) -> BaseException | None:
        """End everything within the close deadline; returns the first failure of a thread, or None.

        Errors: ShutdownError names the threads that are still alive at the deadline.
        """
        total_s = self._limits.close_timeout_s
        deadline, polite = Deadline(total_s, self._clock), Deadline(total_s * 0.7, self._clock)
        with self._starting:
            self._ending = True
        self.stop.set()
        self.ahead.end()
        self.outbox.close()
        if not self._send.thread.ident:  # nobody will say goodbye to the server
            self._opening.abort()
            self._outcome.put_nowait(errors.ClosedError("closed while connecting"))
        self._join([t for t in self._threads() if t is not self._audio.thread], polite)
        connection = self._connection
        if connection is not None:
            if connection.receive_thread.is_alive():
                connection.abort()
                self.outbox.close(drop=True)
                self._join([connection.receive_thread, self._send.thread], Deadline(total_s * 0.15, self._clock))
            if connection.receive_thread.is_alive():
                self._wait_to_put(None, deadline)  # it is held up by an observer: the files are finished without it
        elif self._audio.thread.ident:
            self._wait_to_put(None, deadline)
        self._join([self._audio.thread, *self._threads()], deadline)
        stuck = [thread for thread in self._threads() if thread.is_alive()]
        self._audio_gone = True  # lets a thread go that waits for room in a queue nobody empties
        if connection is not None:
            connection.release()
        if stuck:
            names = tuple(thread.name for thread in stuck)
            raise errors.ShutdownError(f"still running {total_s:g} s after close: {stacks(stuck)}", threads=names)
        return self._first_failure()

    @staticmethod
    def _join(threads: Sequence[threading.Thread], deadline: Deadline) -> None:
        for thread in threads:
            if thread.ident and thread is not threading.current_thread():
                thread.join(deadline.remaining_s())

    def _first_failure(self) -> BaseException | None:
        received = self._connection.receive_error if self._connection is not None else None
        failures = (received, self._audio.error, self._send.error, self._pings.error)
        return next((error for error in failures if error is not None), None)


def _as_ours(error: BaseException) -> errors.RealtimeError:
    """The same error as one of this package's, with its cause."""
    if isinstance(error, errors.RealtimeError):
        return error
    ours = errors.RealtimeError(f"internal error: {error!r}")
    ours.__cause__ = error
    return ours


def _error_of(event: AnyEvent) -> up.Failure | None:
    """An error message in the words of updates; None for any other message, and for a known race."""
    if type(event) is not ev.Error or event.error.code in BENIGN_CODES:
        return None
    return failure(event.error, event.error.event_id)
