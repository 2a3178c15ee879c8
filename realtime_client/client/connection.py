"""One connection of a session and its threads. It can be lost, or replaced, while the session goes on.

connect      opens it, so that whoever waits for it can be told to stop waiting
receive      reads, and hands over what arrived together
send         takes the outbox; the only one that writes; sends the close frame last
keep-alive   pings on schedule, notices that nobody is there any more, asks the session what is due; makes sure that the
end comes about
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from realtime_client import errors
from realtime_client.deadline import Clock, Deadline
from realtime_client.protocol import codec
from realtime_client.protocol.events import ClientEvent
from realtime_client.session.limits import Limits
from realtime_client.session.stats import RoundTrip, Traffic
from realtime_client.session.threads import StopEvent, Worker, join_all

from .ahead import Ahead
from .connecting import Attempt
from .endpoint import Endpoint
from .keepalive import KeepAlive
from .outbox import WRITE_OUT, Outbox, Outgoing, Ping
from .wire import Wire


class Owner(Protocol):
    """Whose connection it is, with the figures that outlive it. Each method says which thread of it calls."""

    stop: StopEvent
    traffic: Traffic
    round_trip: RoundTrip

    def on_frames(self, connection: Connection, frames: list[bytes], at_s: float) -> None:
        """Messages that arrived together (receive). It may wait, which stops reading."""

    def on_leaving(self, events: Sequence[ClientEvent]) -> None:
        """Messages are about to be written (send)."""

    def on_left(self, connection: Connection, events: Sequence[ClientEvent], frames: Sequence[bytes]) -> None:
        """They were written (send)."""

    def on_due(self) -> float | None:
        """Do what is due; returns when there is more to do, in seconds of the clock, None for never (keep-alive)."""

    def on_end(self, connection: Connection, code: int, reason: str, *, by_us: bool) -> None:
        """It is over (receive); once, last. code, reason, by_us: see `FrameHandler`."""

    def is_behind(self) -> bool:
        """Whether this program itself keeps the receive thread from reading, so that silence proves nothing."""

    def on_room(self) -> None:
        """Somebody who waits for room may find some (any thread, under a lock)."""

    def owns(self, thread: threading.Thread) -> bool:
        """Whether a thread must not wait for the network: the session's own, an event loop's."""


class Connection:
    """A connection to one endpoint: `open`, `begin`, then `close` or `abort`, then `join`; each once.

    error: what ended it, where that was found here (a missed pong, a thread that failed).
    """

    def __init__(self, endpoint: Endpoint, limits: Limits, owner: Owner, clock: Clock) -> None:
        self.endpoint = endpoint
        self.outbox = Outbox(limits.outbox_queue, limits.outbox_bytes, clock, owner.on_room)
        self.error: BaseException | None = None
        self.wake = threading.Event()
        self._ahead = Ahead(clock, owner.on_room)
        self._limits = limits
        self._owner = owner
        self._now = clock.monotonic
        self._traffic = owner.traffic
        self._keep_alive = KeepAlive(
            interval_s=limits.ping_interval_s,
            pong_timeout_s=limits.pong_timeout_s,
            read_timeout_s=limits.read_timeout_s,
            now_s=clock.monotonic(),
            ack_timeout_s=limits.ack_timeout_s,
            busy_timeout_s=limits.busy_timeout_s,
            round_trip=owner.round_trip,
        )
        self._attempt = Attempt(endpoint, limits, self)
        self._outcome: queue.SimpleQueue[Wire | BaseException] = queue.SimpleQueue()
        self._wire: Wire | None = None
        self._starting = threading.Lock()
        self._held_back: threading.Event | None = threading.Event()  # until `begin`
        self._closing = self._over = False
        self.taken_back = False
        self._forget_wake: Callable[[], None] | None = None
        self._connect = Worker("realtime-connect", self._run_connect, self._outcome.put)
        self._send = Worker("realtime-send", self._run_send, self._failed)
        self._pings = Worker("realtime-keep-alive", self._run_keep_alive, self._failed)

    # --- beginning ----------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Connect and start the threads; what arrives waits for `begin`.

        Errors: ConnectError and its kinds; ClosedError when closed meanwhile.
        """
        self._start(self._connect)
        outcome = self._outcome.get()  # the attempt has its own deadline, and `close` puts an outcome, too
        if isinstance(outcome, BaseException):
            raise outcome
        self._forget_wake = self._owner.stop.wakes(self.wake)
        self._start(self._send, self._pings)

    def begin(self) -> None:
        """From now on the owner takes what arrives."""
        held_back = self._held_back
        if held_back is not None:
            held_back.set()

    def _start(self, *workers: Worker) -> None:
        """Start threads unless the end has begun: `join` joins what it finds running."""
        with self._starting:
            if self._closing:
                raise errors.ClosedError("closed while connecting")
            for worker in workers:
                worker.start()

    def _run_connect(self) -> None:
        wire = self._wire = self._attempt.run()
        wire.start()  # not before `threads` names its thread: an observer in it may close the session
        if self._over:
            wire.abort()
        self._outcome.put(wire)

    @property
    def server_date(self) -> str:
        """The Date header of the handshake; '' without one."""
        return "" if self._wire is None else self._wire.server_date

    # --- receive thread -----------------------------------------------------------------------------------------------

    def on_frames(self, frames: list[bytes]) -> None:
        """Pass on what arrived."""
        now = self._keep_alive.last_heard_s = self._now()
        if self._held_back is not None:
            self._held_back.wait()  # ends by `close` at the latest
            self._held_back = None
        self._owner.on_frames(self, frames, now)

    def on_pong(self, payload: bytes) -> None:
        """Measure the round trip, or how far the server has read."""
        if self._ahead.read(payload):
            self._keep_alive.heard(self._now())
        else:
            self._keep_alive.pong(payload, self._now())

    def on_unwritten(self) -> None:
        """Have the send thread write what the receive thread cannot write without waiting."""
        self.outbox.put_now(WRITE_OUT, urgent=True)

    def on_end(self, code: int, reason: str, *, by_us: bool) -> None:
        """Tell the owner that it is over."""
        if self._wire is not None:
            self.error = self.error or self._wire.receive_error  # then it was not the server that ended this
        if self._held_back is not None:
            self._held_back.wait()
        try:
            self._owner.on_end(self, code, reason, by_us=by_us)
        finally:
            self._stop(drop=True)
            if self._forget_wake is not None:
                self._forget_wake()

    # --- any thread ---------------------------------------------------------------------------------------------------

    def put(self, event: Outgoing) -> None:
        """Queue a message behind everything else, waiting for room. Errors: QueueFullError; ClosedError."""
        self.outbox.put(event, wait_s=self._patience_s())

    def take_back(self) -> list[ClientEvent]:
        """Take no more messages, and return those that were not sent for certain; under the owner's lock.

        What was being written then is among them: it counts as not sent (`taken_back`).
        """
        self.taken_back = True
        return [item for item in self.outbox.take_back() if isinstance(item, ClientEvent)]

    @property
    def silent_s(self) -> float:
        """For how long nothing has been heard of the server."""
        return max(0.0, self._now() - self._keep_alive.last_heard_s)

    def wait_for_room(self) -> None:
        """Wait until the outbox takes a message. Errors: QueueFullError; ClosedError."""
        self.outbox.wait_for_room(self._patience_s())

    def _patience_s(self) -> float:
        """How long the calling thread may wait for the network."""
        return 0.0 if self._owner.owns(threading.current_thread()) else self._limits.write_timeout_s

    def keep_step(self, ms: float) -> None:
        """After audio was queued: wait until the server has read all but the last seconds of it.

        Needs pings. Errors: QueueFullError when the server reads nothing; ClosedError.
        """
        mark = self._ahead.sent(ms) if self._limits.ping_interval_s else None
        if mark is not None:
            self.outbox.put_now(Ping(mark))  # its audio is queued: it must not fail any more
            if self._patience_s():
                self._ahead.wait(self._limits.write_timeout_s + self._limits.pong_timeout_s)

    @property
    def in_step(self) -> bool:
        """Whether `keep_step` would not wait."""
        return self._ahead.in_step

    # --- send thread --------------------------------------------------------------------------------------------------

    def _run_send(self) -> None:
        wire = self._wire
        assert wire is not None
        try:
            while items := self.outbox.get():
                self._send_all(wire, items)
            wire.close()
        except errors.ConnectionLostError:
            wire.abort()  # the receive thread tells why

    def _send_all(self, wire: Wire, items: Sequence[Outgoing]) -> None:
        """Send what waited, in one write."""
        events = [item for item in items if isinstance(item, ClientEvent)]
        if not events:
            wire.send([item for item in items if type(item) is Ping])
            return
        self._owner.on_leaving(events)
        encoded = {id(event): codec.encode(event) for event in events}
        wire.send([item if type(item) is Ping else encoded[id(item)] for item in items if item is not WRITE_OUT])
        if self._keep_alive.acknowledgements.wrote():
            self.wake.set()
        frames = list(encoded.values())
        self._traffic.frames_out += len(events)
        self._traffic.bytes_out += sum(map(len, frames))
        self._owner.on_left(self, events, frames)

    # --- keep-alive thread --------------------------------------------------------------------------------------------

    def _run_keep_alive(self) -> None:
        owner, wire = self._owner, self._wire
        assert wire is not None
        due_s = None
        while not self._must_end():
            self.wake.wait(self._wait_s(due_s))
            self.wake.clear()
            if self._must_end():
                break
            gone = self._keep_alive.step(self._now(), self._ping, wire.tcp_info, stalled_here=owner.is_behind())
            if gone is not None:
                self.error = gone
                wire.abort()
                return
            due_s = owner.on_due()
        self._see_the_end(wire)

    def _must_end(self) -> bool:
        return self._over or self._owner.stop.is_set()

    def _wait_s(self, due_s: float | None) -> float | None:
        """Seconds until there is something to do; None for never."""
        now = self._now()
        step_s = self._keep_alive.next_step_s(now)
        if due_s is None:
            return step_s
        return max(0.0, due_s - now) if step_s is None else max(0.0, min(step_s, due_s - now))

    def _ping(self, payload: bytes) -> None:
        self.outbox.put_now(Ping(payload), urgent=True)

    def _see_the_end(self, wire: Wire) -> None:
        """The end is wanted, perhaps from within: say goodbye, and do not wait for ever for the server's."""
        self.close()
        wire.receive_thread.join(self._limits.close_timeout_s * 0.7)
        if wire.receive_thread.is_alive():
            wire.abort()

    # --- end ----------------------------------------------------------------------------------------------------------

    def _failed(self, error: BaseException) -> None:
        """A thread failed: the connection ends, and the owner learns why."""
        self.error = self.error or error
        self.abort()

    def close(self, *, drop: bool = False) -> None:
        """Begin the end, without waiting: what is queued is sent (drop: forgotten), then the close frame."""
        with self._starting:
            self._closing = True
        self._stop(drop=drop)
        if not self._send.thread.ident:  # nobody will say goodbye to the server
            self._outcome.put(errors.ClosedError("closed while connecting"))  # before the attempt fails of it
            self._attempt.abort()

    def _stop(self, *, drop: bool) -> None:
        self._over = True
        self._ahead.end()
        self.outbox.close(drop=drop)
        self.wake.set()
        self.begin()

    def abort(self) -> None:
        """End at once."""
        self.close(drop=True)
        if self._wire is not None:
            self._wire.abort()

    def threads(self) -> list[threading.Thread]:
        """Those that were started, in the order of joining."""
        started = [each.thread for each in (self._connect, self._send, self._pings) if each.thread.ident]
        if self._wire is not None and self._wire.receive_thread.ident:
            started.insert(1, self._wire.receive_thread)
        return started

    def join(self, polite: Deadline, deadline: Deadline) -> bool:
        """Wait for the threads: by `polite` for an end in order, then `abort`; returns whether all of them ended."""
        join_all(self.threads(), polite)
        if any(thread.is_alive() for thread in self.threads()):
            self.abort()
            join_all(self.threads(), deadline)
        if self._wire is not None:
            self._wire.release()
        return not any(thread.is_alive() for thread in self.threads())

    @property
    def failure(self) -> BaseException | None:
        """The exception of a thread, the first one in the order of receive, send, keep-alive."""
        received = self._wire.receive_error if self._wire is not None else None
        return next((each for each in (received, self._send.error, self._pings.error) if each is not None), None)
