"""A session over a connection: its life, its one order of decisions, and what its threads bring.

The conversation decides, under the hub's lock; what follows from a decision is queued to send and to tell in the same
critical section, so order is kept. The connection below may be replaced while all of that goes on.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from realtime_client import updates as up
from realtime_client.deadline import SYSTEM_CLOCK, Clock, Deadline
from realtime_client.errors import (
    ClosedError,
    ConnectionLostError,
    NotRealtimeError,
    RealtimeError,
    SessionRefusedError,
    TimeLimitError,
)
from realtime_client.protocol import codec
from realtime_client.protocol import events as ev
from realtime_client.protocol.conversation import Conversation, HeardMs
from realtime_client.protocol.session import SessionConfig, with_changes
from realtime_client.session.arguments import check_json, check_kind
from realtime_client.session.hub import as_ours
from realtime_client.session.limits import Limits
from realtime_client.session.observers import EventObserver, RecorderProtocol
from realtime_client.session.session import Session
from realtime_client.session.stats import RoundTrip, Stats, Traffic
from realtime_client.session.subscription import Subscription

from .connection import Connection
from .endings import Ending, LastWords, Moment, instead_of_session
from .endpoint import Endpoint
from .recorded import AnyEvent, received, sent

T = TypeVar("T")
_TROUBLE = {ev.MalformedEvent, ev.UnknownEvent, ev.Error}
_ASKING = {ev.ResponseCreate, ev.InputAudioBufferCommit}


class WiredSession(Session):
    """What a `RealtimeClient` is below the calls that it takes: it owns the conversation and the connection."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        session: SessionConfig | None = None,
        limits: Limits | None = None,
        recorder: RecorderProtocol | None = None,
        heard_ms: HeardMs | None = None,
        clock: Clock = SYSTEM_CLOCK,
        keep_audio_s: float = 0.0,
    ) -> None:
        super().__init__(limits or Limits(), clock, recorder)
        self.endpoint = endpoint
        self.ending: Ending | None = None  # how the server, or the network, ended it; None when it ended as asked
        self._asked_for = None if session is None else session.to_wire()  # all settings so far, in the wire's words
        waits: dict[str, Any] = {"answer_s": self.limits.answer_timeout_s, "now_s": clock.monotonic}
        waits["keep_audio_s"] = keep_audio_s
        self._conversation = Conversation(heard_ms=heard_ms, **waits) if heard_ms else Conversation(**waits)
        self.traffic, self.round_trip = Traffic(), RoundTrip()
        self._connection = self._connect_to(endpoint)
        self._other: Connection | None = None  # one that was left, and is not over yet
        self._event_observers: tuple[EventObserver, ...] = ()
        self._said = LastWords()

    def _connect_to(self, endpoint: Endpoint) -> Connection:
        return Connection(endpoint, self.limits, self, self._clock)

    # --- life ---------------------------------------------------------------------------------------------------------

    def _begin(self, deadline: Deadline) -> None:
        with self.updates() as updates:
            self._connection.open()
            self._connection.begin()
            self._greet(updates, deadline)

    def _greet(self, updates: Subscription, deadline: Deadline) -> None:
        """Wait for the greeting and, if settings were given, for their confirmation."""
        where = self._connection.endpoint.label
        greeted = False
        try:
            for update in updates.until(deadline):
                if isinstance(update, up.SessionStarted):
                    greeted = True
                    if self._asked_for is None:
                        return
                    self._ask_for(self._asked_for)
                elif isinstance(update, up.SessionChanged) and greeted:
                    return
                elif (error := instead_of_session(update, where, greeted=greeted)) is not None:
                    raise error
        except TimeLimitError as late:
            limit = f"{self.limits.open_timeout_s:g} s"
            if greeted:  # some servers never confirm settings: they may be in force all the same
                self.tell(up.Notice(message=f"the server did not confirm the settings within {limit}; going on"))
                return
            raise NotRealtimeError(
                f"{where} accepted the connection but sent no session.created within {limit}"
            ) from late
        if self._state == "opening" and self.error is None:
            raise SessionRefusedError(f"{where} ended the session before it began")
        raise self.error or ClosedError("closed while connecting")

    def _close_deadlines(self) -> tuple[Deadline, Deadline]:
        """By when a connection must have ended in order, and by when at all."""
        total_s = self.limits.close_timeout_s
        return Deadline(total_s * 0.7, self._clock), Deadline(total_s * 0.85, self._clock)

    def _end(self) -> None:
        polite, deadline = self._close_deadlines()
        with self._hub.lock:  # from here on it is not replaced any more
            current, other = self._connection, self._other
        if other is not None:
            other.abort()
        current.close()
        current.join(polite, deadline)
        if other is not None:
            other.join(polite, deadline)

    def _abort(self) -> None:
        self._connection.abort()

    def _threads(self) -> list[threading.Thread]:
        other = self._other
        return [*self._connection.threads(), *(() if other is None else other.threads())]

    def _failure(self) -> BaseException | None:
        return self._connection.failure

    def _how_it_ended(self) -> str:
        return "closed" if self.ending is None else self.ending.words

    # --- facts --------------------------------------------------------------------------------------------------------

    @property
    def facts(self) -> up.Facts:
        return self._conversation.facts

    @property
    def session_id(self) -> str:
        return self._conversation.session_id

    @property
    def where(self) -> str:
        return self.endpoint.label

    @property
    def in_step(self) -> bool:
        return self._connection.in_step

    @property
    def settled(self) -> bool:
        return self._conversation.settled

    @property
    def settings(self) -> dict[str, Any]:
        """The settings in force, as the server states them."""
        return self._conversation.settings

    @property
    def server_date(self) -> str:
        """The Date header that the server sent with the handshake, as it came; '' without one."""
        return self._connection.server_date

    @property
    def answering(self) -> bool:
        return self._conversation.gate.wanted

    def stats(self) -> Stats:
        hub, conversation = self._hub, self._conversation
        waiting = {"inbound": hub.inbound.high_water, "outbox": self._connection.outbox.high_water}
        return Stats(
            turn_count=hub.turns.turn_count,
            turns=list(hub.turns.turns),
            traffic=self.traffic,
            round_trip=self.round_trip,
            queue_high_water=waiting,
            usage=conversation.usage,
            transcription_usage=dict(conversation.transcription_usage),
            connect_ms=self._connect_ms,
            duration_s=round(self._clock.monotonic() - self._started_s, 3),
        )

    # --- deciding -----------------------------------------------------------------------------------------------------

    def _act(self, action: Callable[[], tuple[T, Sequence[up.Update]]], *, urgent: bool = False) -> T:
        """Let the conversation decide, and queue what follows, in one critical section.

        Waits for room first: a decision whose messages find no room would be only half of one.
        urgent: do not wait.
        """
        self._check_open()
        if not urgent:
            self._wait_for_room()
        with self._hub.lock:
            if not self._conversation.away:
                self._connection.outbox.check_room()
            result, happened = action()
            self._flush()
            now = self._clock.monotonic()
            self._hub.publish(happened, now)
        self._hub.tell_directly(happened, now)
        if not (urgent or self.owns(threading.current_thread())):
            self._hub.wait_for_room()
        return result

    def _wait_for_room(self) -> None:
        """Wait until a message can be sent; while there is no connection, what is decided waits for the next one."""
        connection = self._connection
        try:
            if not self._conversation.away:
                connection.wait_for_room()
        except ClosedError:
            if not (self._conversation.away or connection is not self._connection):
                raise

    def _do(self, action: Callable[[], object]) -> None:
        """Act on a decision that has nothing to report."""
        self._act(lambda: (action(), ()))

    def _flush(self) -> None:
        """Queue what the conversation wants sent; under the lock, so that order is kept."""
        if self._conversation.due_s is not None:
            self._connection.wake.set()  # it may be due sooner than before
        for command in self._conversation.take_commands():
            self._connection.outbox.put_now(command, urgent=type(command) is ev.ResponseCancel)

    def update_session(self, session: SessionConfig) -> None:
        """Change settings in the wire's words; what is unset stays as it is. `SessionChanged` confirms."""
        check_kind(session, SessionConfig, "the settings of a session (RealtimeConfig)")
        check_json(session, "the settings")
        self._ask_for(session.to_wire())

    def _ask_for(self, settings: dict[str, Any]) -> None:
        """Send settings, and remember them for a server that takes this one's place."""
        self._remember(settings)
        self._do(lambda: self._conversation.update_session(settings))

    def _remember(self, settings: dict[str, Any]) -> None:
        with self._life:
            self._asked_for = with_changes(self._asked_for or {}, settings)

    def over(self) -> RealtimeError:
        if self.error is None and self.ending is not None:
            return ConnectionLostError(f"{self.ending.words}, {Moment.ASKED.value}", close_code=self.ending.code)
        return super().over()

    # --- receive thread -----------------------------------------------------------------------------------------------

    def on_frames(self, connection: Connection, frames: list[bytes], at_s: float) -> None:
        """Decode what arrived, let the conversation decide, hand both on in one piece."""
        hub, conversation, traffic = self._hub, self._conversation, self.traffic
        decoded = [*map(codec.decode_server, frames)]
        size = sum(map(len, frames))
        with hub.lock:
            if connection is not self._connection:
                return  # another one has taken its place
            meant = [*map(conversation.receive, decoded)]
            happened = meant[0] if len(meant) == 1 else [*itertools.chain.from_iterable(meant)]
            self._note_activity(happened)
            traffic.frames_in += len(frames)
            traffic.bytes_in += size
            if self._said.something or not _TROUBLE.isdisjoint(map(type, decoded)):
                self._note_trouble(decoded, meant)
            if conversation.commands:
                self._flush()
            record = functools.partial(received, decoded, frames, meant) if hub.records else None
            crowded = hub.publish(happened, at_s, record, size)
        self._tell_events(decoded, at_s)
        hub.tell_directly(happened, at_s)
        if crowded:
            hub.wait_for_room()

    def _tell_events(self, events: Sequence[Any], at_s: float) -> None:
        for tell in self._event_observers:
            for event in events:
                tell(codec.wire_type(event), at_s)

    def _note_activity(self, happened: Sequence[up.Update]) -> None:
        """Take note of what a server's messages mean; under the lock."""

    def _note_trouble(self, events: Sequence[AnyEvent], meant: Sequence[Sequence[up.Update]]) -> None:
        """Count what was no good, and keep the words that may tell why the server ends the session."""
        for event, updates in zip(events, meant, strict=True):
            if type(event) not in _TROUBLE:
                continue
            if type(event) is ev.MalformedEvent:
                self.traffic.malformed += 1
            elif type(event) is ev.UnknownEvent:
                self.traffic.unknown += 1
            else:
                self.traffic.failures += 1
                self._connection.wake.set()  # a request may be over soon
            self._said.trouble(updates)
        self._said.newest(meant[-1])

    def on_end(self, connection: Connection, code: int, reason: str, *, by_us: bool) -> None:
        """Decide what the end of a connection means for the session, and tell it."""
        hub, now = self._hub, self._clock.monotonic()
        with hub.lock:
            if connection is not self._connection:
                return
            if connection.error is not None:
                hub.error = hub.error or as_ours(connection.error)
            happened = self._over_by(code, reason, by_us=by_us) if hub.error or not self.stop.is_set() else []
            hub.publish(happened, now)
        try:
            hub.tell_directly(happened, now)
        finally:
            self.stop.set()
            hub.finish(self._how_it_ended())

    def _over_by(self, code: int, reason: str, *, by_us: bool) -> list[up.Update]:
        """Decide what an end means that was not asked for; returns what to tell."""
        moment = self._moment()
        happened = self._conversation.end()
        self.ending = Ending(code=code, reason=reason, says=self._said.before(happened), by_us=by_us)
        error = self._hub.error = self._hub.error or self.ending.error(moment, self._connection.endpoint.label)
        return happened if error is None else [*happened, up.ConnectionLost(code=code, reason=str(error))]

    def _moment(self) -> Moment:
        """What the session is doing."""
        gate = self._conversation.gate
        opened = self._conversation.is_open(settings_follow=self._asked_for is not None)
        if self._state in {"new", "opening"} and not opened:
            return Moment.OPENING
        if gate.active_id is not None:
            return Moment.ANSWERING
        return Moment.ASKED if gate.wanted else Moment.IDLE

    # --- send and keep-alive threads ----------------------------------------------------------------------------------

    def on_leaving(self, events: Sequence[ev.ClientEvent]) -> None:
        """Time requests from before they leave: an answer can be quicker than the send thread."""
        if any(type(event) in _ASKING for event in events):
            with self._hub.lock:
                self._hub.turns.asked(self._clock.monotonic())

    def on_left(self, connection: Connection, events: Sequence[ev.ClientEvent], frames: Sequence[bytes]) -> None:
        """Time requests from here, and give the recorder what was sent."""
        hub = self._hub
        asks = any(type(event) in _ASKING for event in events)
        now = self._clock.monotonic()
        quietly = all(type(event) is ev.InputAudioBufferAppend for event in events)
        with hub.lock:
            if connection.taken_back:
                return  # they count as not sent
            connection.outbox.left()
            if asks:
                for event in events:
                    self._conversation.left(event)
            if hub.records:
                record = functools.partial(sent, events, frames)
                hub.publish((), now, record, sum(map(len, frames)), quietly=quietly)
        if asks:
            self._connection.wake.set()
        hub.wait_for_room()

    def on_due(self) -> float | None:
        """Give up a request that has no answer."""
        hub, conversation = self._hub, self._conversation
        now = self._clock.monotonic()
        due_s = conversation.due_s
        if due_s is None or due_s > now:
            return due_s
        with hub.lock:
            happened = conversation.tick()
            self._flush()
            hub.publish(happened, now)
        hub.tell_directly(happened, now)
        return conversation.due_s
