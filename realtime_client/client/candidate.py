"""A connection that is to take the place of another: it is opened, and its session is told what was said."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from realtime_client import updates as up
from realtime_client.deadline import Clock, Deadline
from realtime_client.errors import ClosedError, NotRealtimeError, RealtimeError, SessionRefusedError
from realtime_client.protocol.restoration import Restoration
from realtime_client.session.limits import Limits
from realtime_client.session.threads import StopEvent

from .connection import Connection
from .endings import Ending, Moment, instead_of_session
from .recorded import AnyEvent


class Candidate:
    """A connection, and how far its session is told. Its methods are called under the session's lock, but for `wait`.

    reason: what it is for, as `Restored` tells it. made_s: when it was begun, by the session's clock. error: why it
    cannot take the place.
    """

    def __init__(self, connection: Connection, restoration: Restoration, *, reason: str, made_s: float) -> None:
        self.connection = connection
        self.restoration = restoration
        self.reason = reason
        self.made_s = made_s
        self.error: RealtimeError | None = None
        self._changed = threading.Event()
        self._said: up.Failure | None = None

    @property
    def ready(self) -> bool:
        """Whether it can take the place now."""
        return self.restoration.ready and self.error is None

    def take(self, events: Sequence[AnyEvent]) -> None:
        """Take in what its server says, and send what follows."""
        restoration = self.restoration
        for event in events:
            restoration.receive(event)  # type: ignore[arg-type]  # what a server sends
        self._go_on()

    def _go_on(self) -> None:
        restoration = self.restoration
        for command in restoration.commands:
            self.connection.outbox.put_now(command)
        restoration.commands.clear()
        if restoration.refusal is not None and self.error is None:
            self._said = restoration.refusal if isinstance(restoration.refusal, up.Failure) else None
            where, greeted = self.connection.endpoint.label, bool(restoration.session_id)
            self.error = instead_of_session(restoration.refusal, where, greeted=greeted)
        if restoration.ready or self.error is not None:
            self._changed.set()

    def refuse(self, error: RealtimeError) -> None:
        """It must not take the place any more."""
        self.error = self.error or error
        self._changed.set()

    def over(self, code: int, reason: str, *, by_us: bool) -> None:
        """Its connection has ended."""
        found = self.connection.error
        if self.error is None and isinstance(found, RealtimeError):
            self.error = found
        if self.error is None:
            ending = Ending(code=code, reason=reason, says=self._said, by_us=by_us)
            where = self.connection.endpoint.label
            self.error = ending.error(Moment.OPENING, where) or SessionRefusedError(f"{where} ended the session")
            if ending.passes:
                self.error = ending.error(Moment.ASKED, where)
        self._changed.set()

    def wait(self, deadline: Deadline, clock: Clock, stop: StopEvent, lock: threading.Lock, limits: Limits) -> None:
        """Wait until it is ready. Errors: those of opening a session; ClosedError when the session is closed."""
        forget = stop.wakes(self._changed)
        try:
            while not self._changed.wait(self._patience_s(deadline, clock)):
                with lock:
                    self.restoration.tick()
                    self._go_on()
                if deadline.expired and not self._changed.is_set():
                    where = self.connection.endpoint.label
                    limit = f"{limits.open_timeout_s:g} s"
                    raise NotRealtimeError(f"{where} let the session in and was not ready within {limit}")
        finally:
            forget()
        if stop.is_set():
            raise ClosedError("closed while connecting")
        if self.error is not None:
            raise self.error

    def _patience_s(self, deadline: Deadline, clock: Clock) -> float | None:
        left, due_s = deadline.remaining_s(), self.restoration.due_s
        if due_s is None:
            return left
        due = max(0.0, due_s - clock.monotonic())
        return due if left is None else min(due, left)
