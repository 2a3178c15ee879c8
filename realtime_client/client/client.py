"""A realtime conversation: open it, speak, listen, close it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import msgspec

from realtime_client import updates as up
from realtime_client.audio.pcm import as_bytes
from realtime_client.deadline import SYSTEM_CLOCK, Clock, Deadline
from realtime_client.errors import (
    ClosedError,
    ConnectionLostError,
    NotRealtimeError,
    QueueFullError,
    RealtimeError,
    SessionRefusedError,
    TimeLimitError,
    UsageError,
)
from realtime_client.escape import one_line
from realtime_client.protocol.conversation import Conversation, HeardMs
from realtime_client.protocol.events import ClientEvent, ConversationItemCreate, InputAudioBufferAppend
from realtime_client.protocol.items import Item
from realtime_client.protocol.session import SessionConfig, trailing_silence_ms
from realtime_client.session.answer import Answer, AnswerCollector
from realtime_client.session.arguments import check_call, check_event, check_json, check_kind, check_text, seconds
from realtime_client.session.limits import Limits
from realtime_client.session.observers import EventObserver, Observer, RecorderProtocol
from realtime_client.session.stats import Stats
from realtime_client.session.subscription import Subscription

from .endings import Ending, Moment, refusal
from .endpoint import Endpoint
from .link import Link

if TYPE_CHECKING:
    from typing_extensions import Buffer

T = TypeVar("T")
CHUNK_MS = 100


class RealtimeClient:
    """One session with a Realtime server.

    Use it as a context manager: entering connects and waits for the server's greeting, leaving closes. Methods may be
    called from any thread. `stop` is set when the session has to end: the connection was lost, a thread failed, or
    `close` was called; whoever waits for something else can wait for it, too.

    session: settings to send first. recorder: what keeps the session. heard_ms: where playback stands, when there is
    playback.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        session: SessionConfig | None = None,
        limits: Limits | None = None,
        recorder: RecorderProtocol | None = None,
        heard_ms: HeardMs | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.endpoint = endpoint
        self._session = session
        self._limits = limits or Limits()
        self._clock = clock
        waits: dict[str, Any] = {"answer_s": self._limits.answer_timeout_s, "now_s": clock.monotonic}
        self._conversation = Conversation(heard_ms=heard_ms, **waits) if heard_ms else Conversation(**waits)
        self._link = Link(
            endpoint=endpoint,
            limits=self._limits,
            conversation=self._conversation,
            recorder=recorder,
            clock=clock,
            settings_follow=session is not None,
            final_stats=lambda: self.stats().to_dict(),
        )
        self._link.at_end = self._end_readers
        self.stop: threading.Event = self._link.stop
        self.model = ""
        self.expires_at: int | None = None
        self._readers: list[Subscription] = []
        self._read_out = False  # readers get nothing any more
        self._lists = threading.Lock()
        self._life = threading.Lock()
        self._state = "new"
        self._closed = threading.Event()
        self._started_s = clock.monotonic()
        self._connect_ms: float | None = None

    # --- life ---------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Exception as failure:
            if error is None:
                raise
            error.add_note(f"while closing: {failure}")

    def open(self) -> None:
        """Connect, wait for the greeting, send the settings and wait until they are in force.

        Errors: ConnectError and its kinds; SessionRefusedError when the settings are refused; ClosedError when
        `close` came first. After an error nothing is left open.
        """
        with self._life:
            if self._state != "new":
                raise ClosedError("a client opens once: make a new one")
            self._state = "opening"
        deadline = Deadline(self._limits.open_timeout_s or None, self._clock)
        self._started_s = self._clock.monotonic()
        try:
            with self.updates() as updates:
                self._link.start()
                self._greet(updates, deadline)
        except BaseException as error:
            self._close_after(error)
            raise
        self._connect_ms = round((self._clock.monotonic() - self._started_s) * 1000, 3)
        self._link.opened = True
        with self._life:
            if self._state == "opening":
                self._state = "open"

    @property
    def server_date(self) -> str:
        """The Date header that the server sent with the handshake, as it came; '' without one."""
        return self._link.server_date

    def _close_after(self, error: BaseException) -> None:
        """Close after a failed opening, without hiding its reason."""
        try:
            self.close()
        except Exception as failure:  # noqa: BLE001 - the first reason is the one to tell
            error.add_note(f"while closing: {failure}")

    def _greet(self, updates: Subscription, deadline: Deadline) -> None:
        """Wait for session.created and, if settings were given, for session.updated."""
        where = self.endpoint.label
        started: up.SessionStarted | None = None
        try:
            for update in updates.until(deadline):
                if isinstance(update, up.SessionStarted):
                    started = update
                    self.model, self.expires_at = update.facts.model, update.facts.expires_at
                    if self._session is None:
                        return
                    self.update_session(self._session)
                elif isinstance(update, up.SessionChanged) and started is not None:
                    return
                elif isinstance(update, up.Failure):
                    says = one_line(update.message or update.code or "the session was refused", 300)
                    raise refusal(update, f"{where}: {says}")
                elif isinstance(update, up.Malformed) and started is None:
                    raise NotRealtimeError(f"{where} does not speak the Realtime protocol: {update.error}")
        except TimeLimitError as error:
            limit = f"{self._limits.open_timeout_s:g} s"
            if started is not None:  # some servers never confirm settings: they may be in force all the same
                self.tell(up.Notice(message=f"the server did not confirm the settings within {limit}; going on"))
                return
            raise NotRealtimeError(
                f"{where} accepted the connection but sent no session.created within {limit}"
            ) from error
        if self._state == "opening" and self._link.error is None:
            raise SessionRefusedError(f"{where} ended the session before it began")
        raise self._link.error or ClosedError("closed while connecting")

    def close(self) -> None:
        """End the session: send what is queued, close the connection, finish the files, join the threads.

        One deadline for everything (`Limits.close_timeout_s`); idempotent; from any thread. From an observer it only
        begins the end, because the audio thread cannot wait for itself: readers end, and whoever holds the session
        closes it.
        Errors: the first exception of a thread; ShutdownError for threads that do not end.
        """
        if self._link.owns(threading.current_thread()):
            self.stop.set()
            return
        with self._life:
            first = self._state not in {"closing", "closed"}
            self._state = "closing" if first else self._state
        if not first:
            self._closed.wait(self._limits.close_timeout_s + 1)
            return
        try:
            failure = self._link.shut_down()
        finally:
            self._state = "closed"
            self._end_readers()
            self._closed.set()
        if failure is not None:
            raise failure

    @property
    def error(self) -> RealtimeError | None:
        """Why the session ended against our will; None while it runs or when it ended as asked."""
        return self._link.error

    @property
    def ending(self) -> Ending | None:
        """How the server ended the session, or the connection broke; None while it runs or when it ended as asked."""
        return self._link.ending

    # --- facts --------------------------------------------------------------------------------------------------------

    @property
    def session_id(self) -> str:
        """The server's name of the session."""
        return self._conversation.session_id

    @property
    def settings(self) -> dict[str, Any]:
        """The settings in force, as the server states them."""
        return self._conversation.settings

    @property
    def input_format(self) -> up.AudioFormat:
        """What `send_audio` takes."""
        return self._conversation.facts.input_format

    @property
    def output_format(self) -> up.AudioFormat:
        """What `AudioDelta` carries."""
        return self._conversation.facts.output_format

    @property
    def last_request(self) -> str | None:
        """The id of the newest request for an answer: `ResponseStarted.request_id` of the answer to it."""
        return self._conversation.last_request_id

    @property
    def answering(self) -> bool:
        """Whether an answer runs or is asked for, and nobody has cancelled it."""
        return self._conversation.gate.wanted

    def stats(self) -> Stats:
        """Return the session's figures so far."""
        link, conversation = self._link, self._conversation
        return Stats(
            turn_count=link.turns.turn_count,
            turns=list(link.turns.turns),
            traffic=link.traffic,
            round_trip=link.keep_alive.round_trip,
            queue_high_water={"inbound": link.inbound_high_water, "outbox": link.outbox.high_water},
            usage=conversation.usage,
            transcription_usage=dict(conversation.transcription_usage),
            connect_ms=self._connect_ms,
            duration_s=round(self._clock.monotonic() - self._started_s, 3),
        )

    # --- speaking -----------------------------------------------------------------------------------------------------

    def _act(self, action: Callable[[], tuple[T, Sequence[up.Update]]], *, urgent: bool = False) -> T:
        """Let the conversation decide and queue what follows, in one critical section.

        Room for what follows is waited for before: a decision whose messages find no room would be half of one.
        urgent: do not wait.
        """
        self._check_open()
        if not urgent:
            self._link.wait_for_room()
        with self._link.lock:
            self._link.outbox.check_room()
            result, happened = action()
            self._link.flush()
            finish = self._link.notice(happened)
        finish()
        return result

    def _do(self, action: Callable[[], None]) -> None:
        """The same for a decision that tells nothing."""

        def decide() -> tuple[None, Sequence[up.Update]]:
            action()
            return None, ()

        self._act(decide)

    def _check_open(self) -> None:
        if self.error is not None:
            raise self.error
        if self._state == "new":
            raise ClosedError("the session is not open yet: use `with`, or call open()")
        if self.ending is not None:
            raise ClosedError(f"the session is over: {self.ending.words}")
        if self._state not in {"open", "opening"} or self.stop.is_set():
            raise ClosedError("the session is closed")

    def send_text(self, text: str, *, respond: bool = True) -> str:
        """Say something in writing; returns the item's id.

        With `respond`, a running answer is interrupted and a new one asked for.
        Waits for room when the network is slow. Errors: UsageError for text that is empty or cannot be sent;
        QueueFullError after `Limits.write_timeout_s`; ClosedError; ConnectionLostError.
        """
        return self._say(text, respond=respond)[0]

    def _say(self, text: str, *, respond: bool) -> tuple[str, str | None]:
        """(the item's id, the id of the request for an answer)."""
        check_text(text, "the text")
        if not text.strip():
            raise UsageError("there is nothing to send: the text is empty")

        def decide() -> tuple[tuple[str, str | None], Sequence[up.Update]]:
            item_id, happened = self._conversation.say(text, respond=respond)
            return (item_id, self._conversation.last_request_id), happened

        return self._act(decide)

    def send_audio(self, audio: Buffer, *, in_step: bool = False) -> None:
        """Send audio of the user in `input_format`; any length, best 20 to 100 ms.

        audio: bytes; for PCM also any C-contiguous buffer of 16-bit integers; for floats see `realtime_client.pcm16`.
        in_step: for audio that comes faster than it was spoken: stay within five seconds of what the server has read.
        Waits for room when the network is slow. Errors: UsageError for what is no such audio; QueueFullError after
        `Limits.write_timeout_s`; ClosedError.
        """
        self._check_open()
        data = as_bytes(audio, self.input_format)
        if not data:
            return
        with self._link.lock:
            self._conversation.appended(len(data))
        try:
            self._link.put(InputAudioBufferAppend(audio=data))  # last, so that the send thread finds this one done
        except (QueueFullError, ClosedError):
            with self._link.lock:
                self._conversation.appended(-len(data))
            raise
        if in_step:
            self._link.keep_step(len(data) / self.input_format.bytes_per_ms)

    def commit(self) -> None:
        """End the user's turn by hand (turn detection off). Errors: UsageError below 100 ms of audio."""
        self._do(self._conversation.commit)

    def clear_input(self) -> None:
        """Throw away audio that is not committed."""
        self._do(self._conversation.clear_input)

    def respond(self, **response: Any) -> str:
        """Ask for an answer, queued behind a running one; returns the request's id.

        response: fields of the wire's response.create, for example `conversation="none"`, `metadata={...}`.
        """
        check_json(response, "the response")
        if not isinstance(response.get("metadata") or {}, dict):
            raise UsageError("the metadata of a response must be an object: names and values, all text")
        return self._act(lambda: (self._conversation.ask(response or None), ()))

    def cancel(self) -> bool:
        """Stop the running answer; True if there was one."""
        return self._act(self._conversation.cancel, urgent=True)

    def interrupt(self, cause: str = "speech") -> bool:
        """Cut the running answer, and the unheard tail of one that has just ended, at what was heard.

        cause: `speech` or `typed`. Unlike `cancel`, answers that are asked for and have not begun stay asked for.
        True if something was cut.
        """
        return self._act(lambda: self._conversation.interrupt(cause), urgent=True)

    def tell(self, update: up.Update) -> None:
        """Pass an update of this program's own (a device that changed) to observers and the recording."""
        check_kind(update, up.Update, "an update")
        self._act(lambda: (None, (update,)), urgent=True)

    def add_item(self, item: Item) -> str:
        """Add an item (history, an image, a system message); returns its id."""
        check_kind(item, Item, "an item")
        check_event(ConversationItemCreate(item=item), "the item")
        return self._act(lambda: (self._conversation.add_item(item), ()))

    def send_tool_result(self, call_id: str, output: str, *, respond: bool = True) -> str:
        """Send what a tool returned; after the last open call of an answer, a new answer is asked for.

        Errors: UsageError for a call that was not made or has its result, and for output that is no text.
        """
        check_text(call_id, "call_id")
        check_text(output, "the output of a tool")
        return self._act(lambda: self._conversation.tool_result(call_id, output, respond=respond))

    def approve(self, request_id: str, *, approve: bool, reason: str | None = None) -> None:
        """Allow or refuse a remote tool's call."""
        check_text(request_id, "request_id")
        check_text(reason or "", "the reason")
        check_kind(approve, bool, "True or False")
        self._do(lambda: self._conversation.approve(request_id, approve=approve, reason=reason))

    def update_session(self, session: SessionConfig) -> None:
        """Change settings; what is unset stays as it is. `SessionChanged` confirms."""
        check_kind(session, SessionConfig, "the settings of a session (RealtimeConfig)")
        check_json(session, "the settings")
        wire = session.to_wire()
        self._do(lambda: self._conversation.update_session(wire))

    def send_event(self, event: ClientEvent) -> None:
        """Send any message of the protocol."""
        check_kind(event, ClientEvent, "a message of a client")
        if isinstance(event, InputAudioBufferAppend):
            check_text(event.event_id or "", "event_id")
            event = InputAudioBufferAppend(audio=as_bytes(event.audio, self.input_format), event_id=event.event_id)
        else:
            check_event(event, "the message")
        self._do(lambda: self._conversation.send(event))

    # --- listening ----------------------------------------------------------------------------------------------------

    def observe(self, observer: Observer, *, direct: bool = False) -> Callable[[], None]:
        """Call `observer(update, at_s)` for every update, in order, in the audio thread; returns what ends it.

        It must be quick and not wait: while it runs, nothing else of this session is processed. Its exception ends the
        session and is raised by `close`.
        direct: call it where the update arises, without the hand-off to the audio thread: in the receive thread, and
        for what a call of this program causes, in the thread of that call. For programs with hundreds of sessions.
        """
        check_call(observer, "an observer")
        name = "direct_observers" if direct else "observers"
        with self._lists:
            setattr(self._link, name, (*getattr(self._link, name), observer))

        def remove() -> None:
            with self._lists:
                setattr(self._link, name, tuple(o for o in getattr(self._link, name) if o is not observer))

        return remove

    def observe_events(self, observer: EventObserver) -> None:
        """Call `observer(type, at_s)` for each message of the server, by its type on the wire, in the receive thread.

        The updates that a message means are told after it. Meant for those who test servers.
        """
        check_call(observer, "an observer")
        with self._lists:
            self._link.event_observers = (*self._link.event_observers, observer)

    def updates(self, timeout_s: float | None = None) -> Subscription:
        """Iterate over updates from now on; see `Subscription`. timeout_s: longest wait for one update."""
        limit_s = seconds(timeout_s, "timeout_s")
        removers: list[Callable[[], None]] = []
        reader = Subscription(
            self._limits.updates_queue, lambda: self._drop_reader(reader, removers), lambda: self.error, limit_s
        )
        removers.append(self.observe(reader.offer))
        with self._lists:
            self._readers.append(reader)
            over = self._read_out
        if over:
            reader.end()
        return reader

    def _drop_reader(self, reader: Subscription, removers: list[Callable[[], None]]) -> None:
        for remove in removers:
            remove()
        with self._lists:
            if reader in self._readers:
                self._readers.remove(reader)

    def _end_readers(self) -> None:
        with self._lists:
            self._read_out = True
            readers, self._readers = self._readers, []
        for reader in readers:
            reader.end()

    def ask(self, text: str | None = None, *, audio: Buffer | None = None, timeout_s: float = 60.0) -> Answer:
        """Say one thing, in writing or as audio, and wait for the whole answer.

        audio: in `input_format`; silence that ends the turn is added, or it is committed when turn detection is off.
        Errors: UsageError; TimeLimitError; ResponseFailedError when the request is refused; ConnectionLostError.
        """
        if (text is None) == (audio is None):
            raise UsageError("ask needs text or audio, one of them")
        data = None if audio is None else as_bytes(audio, self.input_format)
        if data is not None and not data:
            raise UsageError("there is nothing to send: the audio is empty")
        deadline = Deadline(seconds(timeout_s, "timeout_s"), self._clock)
        with self.updates() as updates:
            request = self._say(text, respond=True)[1] if text is not None else self._speak(data or b"")
            return self._collect(updates.until(deadline), request, timeout_s)

    def _speak(self, audio: bytes) -> str | None:
        """Send a whole utterance and end the turn; returns the request for an answer, None if the server makes it."""
        size = self.input_format.bytes_per_ms * CHUNK_MS
        silence_ms = trailing_silence_ms(self.settings)
        quiet = {"ulaw": b"\xff", "alaw": b"\xd5"}.get(self.input_format.encoding, b"\0")
        whole = audio + quiet * (self.input_format.bytes_per_ms * silence_ms)
        for start in range(0, len(whole), size):
            self.send_audio(whole[start : start + size], in_step=True)
        if silence_ms:
            return None
        self.commit()
        return self.respond()

    def _collect(self, updates: Iterator[up.Update], request: str | None, timeout_s: float) -> Answer:
        """Follow one answer to its end."""
        collector = AnswerCollector(request, self.output_format)
        try:
            for update in updates:
                answer = collector.take(update)
                if answer is not None:
                    with self._link.lock:
                        turns = list(self._link.turns.turns)
                    timings = next((t for t in reversed(turns) if t.response_id == collector.response_id), None)
                    return msgspec.structs.replace(answer, timings=timings)
        except TimeLimitError as error:
            raise TimeLimitError(f"no complete answer within {timeout_s:g} s") from error
        raise self.over()

    def over(self) -> RealtimeError:
        """What it means for whoever waited for an answer that the session is over."""
        if self.error is not None:
            return self.error
        if self.ending is not None:
            return ConnectionLostError(f"{self.ending.words}, {Moment.ASKED.value}", close_code=self.ending.code)
        return ClosedError("the session was closed before the answer")

    def next_answer(self, *, after: Callable[[], object] | None = None, timeout_s: float = 60.0) -> Answer:
        """Wait for the next answer that begins from now on, without asking for one.

        after: what causes it, called once nothing of the answer can be missed, for example
        `client.next_answer(after=lambda: client.send_tool_result(call_id, "5"))`. Errors: as those of `ask`.
        """
        deadline = Deadline(seconds(timeout_s, "timeout_s"), self._clock)
        check_call(after or bool, "after")
        with self.updates() as updates:
            if after is not None:
                after()
            return self._collect(updates.until(deadline), None, timeout_s)
