"""A session that outlives its connections: one that is lost is replaced, one that is about to expire is left in time.

    receive          notices the loss, decides under the lock what it means, and starts
    realtime-restore tries again, tells a new session what was said, and lets it take the old one's place
    keep-alive       starts the same thread when the server's time limit comes near

The new connection is made ready beside the conversation, which goes on meanwhile, with the old server or with none.
Then, in one critical section, it takes the place: what was said since is sent to it, and the sound that is in no item.
"""

from __future__ import annotations

import functools
import random
import secrets
import threading
from collections.abc import Callable, Sequence
from typing import Any

from realtime_client import updates as up
from realtime_client.deadline import Deadline
from realtime_client.errors import ConnectionLostError, RealtimeError, UsageError
from realtime_client.history import Entry
from realtime_client.protocol import codec
from realtime_client.protocol import events as ev
from realtime_client.session.arguments import check_fields, check_kind
from realtime_client.session.limits import NO_RECOVERY, Recovery
from realtime_client.session.threads import Worker

from .backoff import Backoff, is_fatal
from .candidate import Candidate
from .connection import Connection
from .endings import Ending, LastWords, Moment
from .endpoint import Endpoint
from .keeping import KeepingSession
from .recorded import received
from .rollover import Leaving, leaving

_LIVED_S = 10.0  # a session that has lasted so long was no mere handshake
_QUIET_S = 0.05  # between two looks whether it is quiet
_ACTIVITY = (up.SpeechStarted, up.InputCommitted, up.ResponseStarted, up.UserTranscript)


class _UnderWayError(UsageError):
    """Somebody else is about to replace the connection."""


class LastingSession(KeepingSession):
    """What a `RealtimeClient` does about its connections.

    recovery: for how long a lost one is tried again, and what the next session is told; None: one connection, and no
    other. told: a conversation that was held before, and goes on here.
    """

    def __init__(
        self, endpoint: Endpoint, *, recovery: Recovery | None = None, told: Sequence[Entry] = (), **more: Any
    ) -> None:
        check_fields(recovery or NO_RECOVERY, Recovery, "what happens after a loss (realtime_client.Recovery)")
        self._recovery = recovery or NO_RECOVERY
        keeps = self._recovery.reconnect_s > 0 or self._recovery.rollover_s > 0
        super().__init__(endpoint, keep_audio_s=self._recovery.keep_audio_s if keeps else 0.0, **more)
        self._told = tuple(told)
        self._candidate: Candidate | None = None
        self._restorers: tuple[Worker, ...] = ()
        self._moves = False  # a thread is at it, and looks before it ends whether there is a connection
        self._backoff: Backoff | None = None
        self._left_s = 0.0  # when there was a connection last
        self._since_s = self._clock.monotonic()  # when this one took its place
        self._active = False  # somebody has said something over it
        self._leaving = Leaving()
        self._lost_by: Ending | None = None  # how the last one was lost
        self._lost_error: RealtimeError | None = None
        self._why = ""
        self._nudge = threading.Event()  # do not wait for the next try
        self.stop.wakes(self._nudge)

    # --- life ---------------------------------------------------------------------------------------------------------

    def _begin(self, deadline: Deadline) -> None:
        super()._begin(deadline)
        if self._told:
            most = self._recovery.restore_tokens
            self._do(lambda: self._conversation.begin_with(self._told, most_tokens=most))
        self._settle_in(self._started_s)

    def _settle_in(self, made_s: float) -> None:
        """A session begins: note when, and when it has to be left. made_s: when its connection was begun."""
        now = self._since_s = self._clock.monotonic()
        self._active = False
        expires_at = self._conversation.facts.expires_at
        self._leaving = leaving(
            made_s=made_s,
            now_s=now,
            expires_in_s=None if expires_at is None else expires_at - self._clock.wall(),
            lasts_s=self._recovery.rollover_s,
        )
        self._connection.wake.set()

    def _end(self) -> None:
        self._nudge.set()
        with self._hub.lock:
            candidate = self._candidate
        if candidate is not None:
            candidate.connection.abort()
        super()._end()
        deadline = self._close_deadlines()[1]
        for worker in self._restorers:
            if worker.thread is not threading.current_thread():
                worker.thread.join(deadline.remaining_s())

    def _threads(self) -> list[threading.Thread]:
        candidate = self._candidate
        more = [] if candidate is None else candidate.connection.threads()
        return [*super()._threads(), *more, *(worker.thread for worker in self._restorers if worker.thread.ident)]

    def _failure(self) -> BaseException | None:
        return super()._failure() or next((each.error for each in self._restorers if each.error is not None), None)

    # --- another connection takes the place ---------------------------------------------------------------------------

    def reconnect(self, endpoint: Endpoint | None = None) -> None:
        """Leave the server for a new connection, to another endpoint or to the same one; the session goes on.

        Observers, readers and the recording stay. The new session gets the settings and is told what was said; an
        answer that runs is over (`ResponseDone`, `incomplete`) and asked for again. `Restored` says what became of it.
        While the connection is lost, the next attempt is made at once, and this does not wait for it. A session that is
        about to be left in time is left now.
        Errors: as those of `open`. When no new connection can be opened, all stays as it is.
        """
        check_kind(endpoint, Endpoint | None, "where to connect to (realtime_client.Endpoint)")
        if self.owns(threading.current_thread()):
            raise UsageError("reconnect() waits for threads of the session: call it from another one")
        with self._hub.lock:
            self._check_open()
            if self.away:
                self.endpoint = endpoint or self.endpoint
                self._nudge.set()
                return
            if self._candidate is not None and self._candidate.reason == "rollover":
                self._candidate.refuse(_UnderWayError("another connection is wanted"))
                self._candidate = None
        self._switch(self._prepare(endpoint or self.endpoint, "asked"))

    def _prepare(self, endpoint: Endpoint, reason: str) -> Candidate:
        """Return a new connection whose session knows what was said until now. Errors: as those of `open`.

        reason: as `Restored` will tell it.
        """
        deadline = Deadline(self.limits.open_timeout_s or None, self._clock)
        with self._hub.lock:
            self._check_open()
            if self._candidate is not None:
                raise _UnderWayError("a reconnect() is under way already")
            restoration = self._conversation.restoration(self._asked_for, most_tokens=self._recovery.restore_tokens)
            connection, now = self._connect_to(endpoint), self._clock.monotonic()
            candidate = self._candidate = Candidate(connection, restoration, reason=reason, made_s=now)
        try:
            candidate.connection.open()
            candidate.connection.begin()
            candidate.wait(deadline, self._clock, self.stop, self._hub.lock, self.limits)
        except BaseException:
            self._drop(candidate)
            raise
        return candidate

    def _drop(self, candidate: Candidate) -> None:
        """It is no good, or not wanted."""
        candidate.connection.abort()
        candidate.connection.join(*self._close_deadlines())
        with self._hub.lock:
            if self._candidate is candidate:
                self._candidate = None

    def _switch(self, candidate: Candidate) -> bool:
        """Let a connection take the place of the present one; False when it is not the time for it yet.

        Errors: RealtimeError when it is no good any more.
        """
        try:
            return self._take_over(candidate)
        except BaseException:
            self._drop(candidate)
            raise

    def _take_over(self, candidate: Candidate) -> bool:
        hub, now = self._hub, self._clock.monotonic()
        with hub.lock:
            self._check_open()
            if candidate.error is not None:
                raise candidate.error
            waits = candidate.reason == "rollover" and not (self.away or now >= self._leaving.by_s)
            if waits and not self._conversation.quiet:
                return False
            old, happened = self._connection, self._change_over(candidate, now, away=self.away)
            self._flush()
            hub.publish(happened, now)
            self._settle_in(candidate.made_s)
        self._present.set()
        self.on_room()
        old.close()
        hub.tell_directly(happened, now)
        old.join(*self._close_deadlines())
        with hub.lock:
            if self._other is old:
                self._other = None
        return True

    def _change_over(self, candidate: Candidate, now: float, *, away: bool) -> list[up.Update]:
        """The conversation goes on over another connection; under the lock. Returns what to tell.

        away: there was none before.
        """
        conversation, old = self._conversation, self._connection
        happened = [] if conversation.away else conversation.lost()
        self._keep_record(old.take_back(), now)
        self._connection, self._candidate, self.endpoint = candidate.connection, None, candidate.connection.endpoint
        self._other, self._said = old, LastWords()
        away_ms = round((now - self._left_s) * 1000) if away else 0
        reason = "lost" if away else candidate.reason
        return happened + conversation.restored(candidate.restoration, reason=reason, away_ms=away_ms, where=self.where)

    # --- losing it ----------------------------------------------------------------------------------------------------

    def on_end(self, connection: Connection, code: int, reason: str, *, by_us: bool) -> None:
        hub, now = self._hub, self._clock.monotonic()
        with hub.lock:
            candidate = self._candidate
            if candidate is not None and connection is candidate.connection:
                candidate.over(code, reason, by_us=by_us)
                return
            goes_on = connection is self._connection and self._heals(connection, code, reason, by_us=by_us)
            if goes_on:
                happened = self._lose(connection, now)
                alone, self._moves = not self._moves, True
        if not goes_on:
            self._ends(connection, code, reason, by_us=by_us)
            return
        hub.tell_directly(happened, now)
        if alone:
            self._start_moving(self._restore)

    def _ends(self, connection: Connection, code: int, reason: str, *, by_us: bool) -> None:
        """No other connection follows."""
        super().on_end(connection, code, reason, by_us=by_us)

    def _heals(self, connection: Connection, code: int, reason: str, *, by_us: bool) -> bool:
        """Whether another connection may do better than the one that has ended; then `_lost_by` says how it did."""
        if self._most_s <= 0 or self.stop.is_set() or self._moment() is Moment.OPENING:
            return False
        found = connection.error
        if found is not None and not isinstance(found, ConnectionLostError):
            return False  # a fault of ours
        says = self._said.before(self._conversation.requests.held)
        ending = Ending(code=code, reason=reason, says=says, by_us=by_us)
        if found is None and not ending.passes:
            return False
        error = found or ending.error(self._moment(), connection.endpoint.label)
        self._lost_by, self._lost_error, self._why = ending, error, str(error)
        return True

    def _lose(self, connection: Connection, now: float) -> list[up.Update]:
        """The connection is lost; under the lock. Returns what to tell."""
        silent_s = connection.silent_s
        for item in connection.outbox.under_way:
            if isinstance(item, ev.ClientEvent):
                self._conversation.left(item)  # it may have: nobody knows
        happened = self._conversation.lost(silent_s=silent_s)
        self._present.clear()
        self._nudge.clear()
        self._leaving.from_s = None
        self._left_s = now
        if self._backoff is None or self._active or now - self._since_s >= _LIVED_S:
            self._backoff = Backoff(now, self._most_s, random.Random(secrets.randbits(64)))  # noqa: S311 - no secret
        self._keep_record(connection.take_back(), now)
        happened.append(up.ConnectionLost(code=self._lost_code, reason=self._why, goes_on=True))
        self._hub.publish(happened, now)
        return happened

    @property
    def _lost_code(self) -> int:
        return 1006 if self._lost_by is None else self._lost_by.code

    @property
    def _most_s(self) -> float:
        """For how long a lost connection is tried again."""
        return self._recovery.reconnect_s

    def _start_moving(self, task: Callable[[], None]) -> None:
        """Start the thread that finds another connection; whoever does has set `_moves`, under the lock."""
        worker = Worker("realtime-restore", functools.partial(self._move, task), self._hub.fail)
        with self._hub.lock:
            self._restorers = (*(each for each in self._restorers if each.thread.is_alive()), worker)
            worker.start()

    def _move(self, task: Callable[[], None]) -> None:
        """Find another connection, and one more when that was lost meanwhile: the thread's whole life."""
        while True:
            task()
            with self._hub.lock:
                if not self.away or self.stop.is_set():
                    self._moves = False
                    self._connection.wake.set()  # it may be time to move again
                    return
            task = self._restore

    def _restore(self) -> None:
        """Try again until it works, or is given up."""
        backoff, retry_after_s = self._backoff, None
        assert backoff is not None
        why = self._why
        while self.away and not self.stop.is_set():
            now = self._clock.monotonic()
            wait_s = backoff.next(now, retry_after_s=retry_after_s)
            if wait_s is None:
                self._give_up(self._in_vain(why))
                return
            self._announce(up.Reconnecting(backoff.attempt, round(wait_s, 3), why, round(backoff.left_s(now), 3)))
            if wait_s > 0:
                self._nudge.wait(wait_s)
            self._nudge.clear()
            if self.stop.is_set():
                return
            try:
                self._switch(self._prepare(self.endpoint, "lost"))
                return
            except _UnderWayError:
                continue
            except RealtimeError as error:
                if is_fatal(error):
                    self._give_up(error)
                    return
                why, retry_after_s = str(error), getattr(error, "retry_after_s", None)

    def _announce(self, update: up.Update) -> None:
        now = self._clock.monotonic()
        with self._hub.lock:
            self._hub.publish((update,), now)
        self._hub.tell_directly((update,), now)

    def _in_vain(self, why: str) -> RealtimeError:
        """The error when all tries have failed."""
        first = self._lost_error
        tried = f"{first}; tried again for {self._most_s:g} s"
        return ConnectionLostError(tried if why == str(first) else f"{tried}: {why}", close_code=self._lost_code)

    def _give_up(self, error: RealtimeError) -> None:
        """It cannot be had again: the session ends."""
        if self.stop.is_set():
            return
        hub, now = self._hub, self._clock.monotonic()
        with hub.lock:
            hub.error, self.ending = hub.error or error, self._lost_by
            happened = (up.ConnectionLost(code=self._lost_code, reason=str(error)),)
            hub.publish(happened, now)
        try:
            hub.tell_directly(happened, now)
        finally:
            self.stop.set()
            hub.finish(self._how_it_ended())

    # --- leaving it in time -------------------------------------------------------------------------------------------

    def on_due(self) -> float | None:
        due_s, now = super().on_due(), self._clock.monotonic()
        with self._hub.lock:
            leave_s = self._leaving.from_s
            if leave_s is None or self.stop.is_set():
                return due_s
            if now < leave_s:
                return leave_s if due_s is None else min(due_s, leave_s)
            if self._moves:
                return due_s  # whoever moves wakes this thread
            self._moves, self._leaving.from_s = True, None
        self._start_moving(self._roll_over)
        return due_s

    def _roll_over(self) -> None:
        """Move to a new session before the old one expires, when it is quiet."""
        connection = self._connection
        try:
            candidate = self._prepare(self.endpoint, "rollover")
            while not self._switch(candidate):
                self.stop.wait(_QUIET_S)
        except RealtimeError as error:
            if is_fatal(error) and not isinstance(error, _UnderWayError):
                return  # the server will end the session when it is time
            with self._hub.lock:
                if self._connection is connection and not self.away:
                    self._leaving.failed(self._clock.monotonic(), getattr(error, "retry_after_s", None))

    # --- what the new one says ----------------------------------------------------------------------------------------

    def on_frames(self, connection: Connection, frames: list[bytes], at_s: float) -> None:
        candidate = self._candidate
        if candidate is None or connection is not candidate.connection:
            super().on_frames(connection, frames, at_s)
            return
        decoded = [*map(codec.decode_server, frames)]
        with self._hub.lock:
            current = connection is candidate.connection and candidate is self._candidate
            if current:
                candidate.take(decoded)
                self.traffic.frames_in += len(frames)
                self.traffic.bytes_in += sum(map(len, frames))
                record = functools.partial(received, decoded, frames, [()] * len(frames)) if self._hub.records else None
                self._hub.publish((), at_s, record, sum(map(len, frames)))
        if not current:  # it has just taken the place
            super().on_frames(connection, frames, at_s)
            return
        self._tell_events(decoded, at_s)

    def _note_activity(self, happened: Sequence[up.Update]) -> None:
        if not self._active:
            self._active = any(isinstance(update, _ACTIVITY) for update in happened)
