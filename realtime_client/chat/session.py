"""A session with a text model: the threads around the conversation.

calls, streams   decide under the hub's lock          -> inbound queue.Queue -> audio thread -> observers
coordinator      begins streams, watches their limits, does what is due
stream           one for each request: reads its answer; one at a time or several side by side
"""

from __future__ import annotations

import functools
import queue
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from realtime_client import updates as up
from realtime_client.changes import Changes
from realtime_client.deadline import SYSTEM_CLOCK, Clock, Deadline
from realtime_client.errors import UsageError
from realtime_client.history import Image
from realtime_client.session.arguments import check_call, check_fields, check_text
from realtime_client.session.limits import Limits
from realtime_client.session.observers import EventObserver, RecorderProtocol
from realtime_client.session.session import Sent, Session
from realtime_client.session.stats import RoundTrip, Stats, Traffic
from realtime_client.session.threads import Worker, join_all

from .accumulator import Accumulator
from .breaker import Breaker, BreakerStore, MemoryStore
from .chain import OnError
from .conversation import Abort, Begin, Conversation, Wishes
from .http import Exchange, Lanes
from .limits import ChatLimits
from .place import Place
from .wires.ask import HttpRequest
from .wires.faults import Fault, network
from .wires.pieces import ErrorPiece, FinishPiece, Piece

if TYPE_CHECKING:
    from typing_extensions import Buffer

T = TypeVar("T")
_LOOK_S = 0.25
_MOST_COMMANDS = 1024
_BREAKERS = MemoryStore()


class ChatSession(Session):
    """A `Session` with a chain of text models over HTTP: the first one answers, the others stand in for it.

    What has no description here has that of `Session`, which `help()` shows. It has no sound: what concerns that is a
    UsageError. places: the chain. breakers: where the breakers keep their states; default those of this program.
    on_error: may decide otherwise about a fault.
    """

    def __init__(
        self,
        places: Sequence[Place],
        *,
        wishes: Wishes | None = None,
        limits: Limits | None = None,
        chat_limits: ChatLimits | None = None,
        recorder: RecorderProtocol | None = None,
        breakers: BreakerStore | None = None,
        on_error: OnError | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        super().__init__(limits or Limits(), clock, recorder)
        if not places:
            raise UsageError("a chat session needs at least one model")
        self._limits = chat_limits or ChatLimits()
        store = breakers if breakers is not None else _BREAKERS
        self._conversation = Conversation(
            places,
            [Breaker(f"{place.base_url} {place.name}", store) for place in places],
            wishes=wishes or Wishes(),
            limits=self._limits,
            now_s=clock.monotonic,
            on_error=on_error,
        )
        self.traffic = Traffic()
        self.streams = Accumulator()
        self._lanes = Lanes()
        self._inbox: queue.Queue[Begin | None] = queue.Queue(_MOST_COMMANDS)
        self._coordinator = Worker("realtime-coordinator", self._coordinate, self._hub.fail)
        self._running: dict[str, tuple[Exchange, Worker]] = {}
        self._event_observers: tuple[EventObserver, ...] = ()

    # --- life ---------------------------------------------------------------------------------------------------------

    def _begin(self, deadline: Deadline) -> None:
        del deadline  # nothing is asked of a server before there is a question
        self._coordinator.start()
        self._tell(self._conversation.start)

    def _end(self) -> None:
        with self._hub.lock:
            happened = self._conversation.end()
            aborts = self._take_commands(ended=True)
            self._hub.publish(happened, self._clock.monotonic())
        self._hub.tell_directly(happened, self._clock.monotonic())
        self._abort_all(aborts)
        self._inbox.put(None)  # it is never full: see _take_commands
        deadline = Deadline(self.limits.close_timeout_s * 0.8, self._clock)
        if self._coordinator.thread.ident:
            join_all([self._coordinator.thread], deadline)
        with self._hub.lock:
            running = list(self._running.values())
        for exchange, _ in running:
            exchange.abort()
        join_all([worker.thread for _, worker in running], deadline)
        self._lanes.close()

    def _abort(self) -> None:
        for exchange, _ in list(self._running.values()):
            exchange.abort()

    def _threads(self) -> list[threading.Thread]:
        workers = [self._coordinator, *(worker for _, worker in list(self._running.values()))]
        return [worker.thread for worker in workers if worker.thread.ident]

    def _failure(self) -> BaseException | None:
        return self._coordinator.error

    # --- facts --------------------------------------------------------------------------------------------------------

    @property
    def facts(self) -> up.Facts:
        return self._conversation.facts

    @property
    def session_id(self) -> str:
        return self._conversation.session_id

    @property
    def where(self) -> str:
        return ", then ".join(dict.fromkeys(place.host for place in self._conversation.places))

    @property
    def answering(self) -> bool:
        return self._conversation.answering

    def stats(self) -> Stats:
        hub = self._hub
        return Stats(
            turn_count=hub.turns.turn_count,
            turns=list(hub.turns.turns),
            traffic=self.traffic,
            round_trip=RoundTrip(),
            queue_high_water={"inbound": hub.inbound.high_water},
            usage=self._conversation.usage,
            transcription_usage={},
            connect_ms=self._connect_ms,
            duration_s=round(self._clock.monotonic() - self._started_s, 3),
        )

    # --- deciding -----------------------------------------------------------------------------------------------------

    def _act(self, action: Callable[[], tuple[T, Sequence[up.Update]]]) -> T:
        """Let the conversation decide; what follows is told and done, in order."""
        self._check_open()
        results: list[T] = []

        def decide() -> Sequence[up.Update]:
            result, happened = action()
            results.append(result)
            return happened

        self._tell(decide)
        if not self.owns(threading.current_thread()):
            self._hub.wait_for_room()
        return results[0]

    def _tell(self, decide: Callable[[], Sequence[up.Update]], at_s: float | None = None) -> bool:
        """Decide under the lock, queue what happened in the same critical section; the rest follows after it."""
        hub = self._hub
        with hub.lock:
            happened = decide()
            commands = self._conversation.commands
            aborts = self._take_commands() if commands else []
            now = self._clock.monotonic() if at_s is None else at_s
            if any(isinstance(each, Begin) for each in commands):
                hub.turns.asked(now)
            crowded = hub.publish(happened, now)
        if aborts:
            self._abort_all(aborts)
        hub.tell_directly(happened, now)
        return crowded

    def _take_commands(self, *, ended: bool = False) -> list[Exchange]:
        """Give the coordinator what is to begin; returns what is to be aborted, which is done without the lock."""
        commands, self._conversation.commands = self._conversation.commands, []
        aborts: list[Exchange] = []
        for command in commands:
            if isinstance(command, Abort):
                found = self._running.get(command.stream)
                if found is not None:
                    aborts.append(found[0])
            elif not ended:
                self._inbox.put_nowait(command)
        return aborts

    @staticmethod
    def _abort_all(exchanges: Sequence[Exchange]) -> None:
        for exchange in exchanges:
            exchange.abort()

    # --- the coordinator ----------------------------------------------------------------------------------------------

    def _coordinate(self) -> None:
        """Begin what is to begin, end what takes too long, do what is due."""
        while True:
            try:
                command = self._inbox.get(timeout=self._wait_s())
            except queue.Empty:
                command = None
                if self.stop.is_set():
                    return
            else:
                if command is None:
                    return
                self._begin_stream(command)
            self._look_after_streams()
            due_s = self._conversation.due_s
            if due_s is not None and due_s <= self._clock.monotonic():
                self._tell(self._conversation.tick)

    def _wait_s(self) -> float:
        due_s = self._conversation.due_s
        if due_s is None:
            return _LOOK_S
        return min(_LOOK_S, max(0.0, due_s - self._clock.monotonic()))

    def _begin_stream(self, command: Begin) -> None:
        place = self._conversation.places[command.place]
        request = place.wire.request(command.ask)
        reader = place.wire.reader(command.stream)
        take = functools.partial(self._on_pieces, command.stream, reader)
        exchange = Exchange(place, request, reader, take, lanes=self._lanes, clock=self._clock)
        task = functools.partial(self._stream, command.stream, exchange)
        worker = Worker(f"realtime-{command.stream}", task, self._hub.fail)
        now = self._clock.monotonic()
        with self._hub.lock:
            if not self._conversation.wants(command.stream):
                return  # it was cancelled meanwhile
            self._running[command.stream] = (exchange, worker)
            self.traffic.frames_out += 1
            self.traffic.bytes_out += len(request.body)
            if self._hub.records:
                self._hub.publish((), now, functools.partial(_sent, request), len(request.body))
        self.streams.begin(command.stream, place.name, now)
        worker.start()

    def _look_after_streams(self) -> None:
        """End streams that take too long. What a stream has is ended by itself when nothing follows it."""
        now, limits = self._clock.monotonic(), self._limits
        for exchange, _ in list(self._running.values()):
            reader, heard_s = exchange.reader, exchange.heard_s
            if reader.finished:
                if now - (heard_s or now) > limits.grace_s:
                    exchange.abort()
            elif now - exchange.started_s > limits.stream_timeout_s and heard_s is not None:
                exchange.abort(_too_long(f"the answer took longer than {limits.stream_timeout_s:g} s"))
            elif heard_s is None and now - exchange.started_s > limits.first_byte_s:
                exchange.abort(network(f"{exchange.place.host} said nothing within {limits.first_byte_s:g} s"))
            elif heard_s is not None and now - heard_s > limits.silence_s:
                exchange.abort(network(f"{exchange.place.host} was silent for {limits.silence_s:g} s"))

    # --- a stream -----------------------------------------------------------------------------------------------------

    def _stream(self, stream: str, exchange: Exchange) -> None:
        try:
            exchange.run()
        finally:
            self.streams.end(stream, self._clock.monotonic())
            with self._hub.lock:
                self._running.pop(stream, None)

    def _on_pieces(self, stream: str, reader: Any, pieces: list[Piece]) -> None:
        """Pieces came; called by the thread of their stream."""
        self.streams.take(pieces)
        conversation = self._conversation
        self.traffic.frames_in += len(pieces)
        for tell in self._event_observers:
            for piece in pieces:
                tell(_NAMES[type(piece)], piece.at_s)
        last = pieces[-1]
        if type(last) is ErrorPiece:
            self.traffic.failures += 1
        elif type(last) is FinishPiece:
            self.streams.end(stream, last.at_s)
        if self._tell(lambda: conversation.take(stream, pieces, reader.parts), pieces[0].at_s):
            self._hub.wait_for_room()

    # --- speaking -----------------------------------------------------------------------------------------------------

    def send_text(self, text: str, *, respond: bool = True, images: Sequence[str] = (), answers: int = 1) -> Sent:
        """Say something in writing, with images if the model takes them.

        images: data URIs or addresses. answers: so many are asked for at once; the first one is the answer, the others
        stand beside it (`Alternatives`). Otherwise as `Session.send_text`.
        """
        check_text(text, "the text")
        if not text.strip() and not images:
            raise UsageError("there is nothing to send: the text is empty")
        if images and not self.facts.abilities.images_in:
            raise UsageError(f"{self.model} takes no images")
        conversation = self._conversation

        def decide() -> tuple[Sent, Sequence[up.Update]]:
            kept = [Image(media=conversation.history.keep(image)) for image in images]
            item_id, request_id, happened = conversation.say(text, kept, respond=respond, answers=answers)
            return Sent(item_id, request_id), happened

        return self._act(decide)

    def send_audio(self, audio: Buffer, *, in_step: bool = False) -> None:
        del audio, in_step
        raise self._deaf()

    def commit(self) -> None:
        raise self._deaf()

    def clear_input(self) -> None:
        raise self._deaf()

    def _deaf(self) -> UsageError:
        return UsageError(f"{self.model} takes text, not sound; for sound, choose a realtime model")

    def respond(self, *, answers: int = 1) -> str:
        return self._act(lambda: self._conversation.respond(answers))

    def cancel(self) -> bool:
        return self._act(self._conversation.cancel)

    def withdraw(self, answer_id: str) -> bool:
        return self._act(lambda: self._conversation.withdraw(answer_id))

    def interrupt(self, cause: str = "speech") -> bool:
        check_text(cause, "the cause")

        def decide() -> tuple[bool, Sequence[up.Update]]:
            cut, happened = self._conversation.interrupt(cause)
            return cut, [*happened, *self._conversation.begin_next()]

        return self._act(decide)

    def send_tool_result(self, call_id: str, output: str, *, respond: bool = True) -> str:
        check_text(call_id, "call_id")
        check_text(output, "the output of a tool")
        return self._act(lambda: self._conversation.tool_result(call_id, output, respond=respond))

    def change(self, changes: Changes) -> None:
        check_fields(changes, Changes, "changes of settings (realtime_client.Changes)")
        self._act(lambda: (None, self._conversation.change(changes)))

    def retry(self, answers: int = 1) -> str:
        """Ask again for the last answer, or for one that failed; returns the request's id.

        answers: so many at once. What the answer was before stands beside the new one. Errors: UsageError.
        """
        return self._act(lambda: self._conversation.retry(answers))

    def edit(self, text: str) -> Sent:
        """Say the last message in other words, and ask again. Errors: UsageError."""
        check_text(text, "the text")

        def decide() -> tuple[Sent, Sequence[up.Update]]:
            item_id, request_id, happened = self._conversation.edit(text)
            return Sent(item_id, request_id), happened

        return self._act(decide)

    def choose(self, index: int, item_id: str | None = None) -> None:
        """Let another answer stand in the conversation.

        index: from 0, in `Alternatives.texts`; item_id: default the newest. Errors: UsageError.
        """
        self._act(lambda: (None, self._conversation.choose(index, item_id)))

    def observe_events(self, observer: EventObserver) -> None:
        check_call(observer, "an observer")
        with self._life:
            self._event_observers = (*self._event_observers, observer)


def _sent(request: HttpRequest, recorder: RecorderProtocol, at_s: float) -> None:
    recorder.sent(request.body, (), (up.RequestSent(),), at_s)


def _too_long(message: str) -> Fault:
    return Fault(category="network", action="fallback", message=message)


_NAMES = {
    kind: up._kind(kind.__name__.removesuffix("Piece"))  # noqa: SLF001 - one spelling of kinds
    for kind in Piece.__subclasses__()
}
