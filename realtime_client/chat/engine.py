"""What makes the answers of text models: the conversation, its coordinator, and a thread for each stream.

    calls, streams   decide under the hub's lock          -> inbound queue.Queue -> audio thread -> observers
    coordinator      begins streams, watches their limits, does what is due
    stream           one for each request: reads its answer; one at a time or several side by side

It lives in a session's hub: a `ChatSession` has nothing else, a realtime session may go on with it.
"""

from __future__ import annotations

import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from realtime_client import updates as up
from realtime_client.deadline import Clock, Deadline
from realtime_client.errors import QueueFullError
from realtime_client.escape import one_line
from realtime_client.history import Image
from realtime_client.logs import Log
from realtime_client.session.hub import Hub
from realtime_client.session.observers import EventObserver
from realtime_client.session.session import Sent
from realtime_client.session.stats import BreakerStats, TextStats, Traffic
from realtime_client.session.threads import Worker, join_all

from .accumulator import Accumulator
from .backstage import Backstage
from .breaker import Breaker, BreakerStore, MemoryStore
from .chain import OnError
from .chunk_buffer import ChunkBuffer
from .conversation import Conversation
from .hooks import Filters, MakeFilter, OnResult, Watcher, Watching, filter_failed, filtered, screen_fault
from .http import Exchange, Lanes
from .limits import ChatLimits
from .orders import Abort, Begin, Consult, Wishes
from .place import Place
from .request_log import fault_fields, record_sent, request_fields, summary
from .wires.faults import Fault
from .wires.pieces import ErrorPiece, FinishPiece, Piece
from .wires.reader import Reader

T = TypeVar("T")
Happened = Sequence[up.Update]
_log = Log("chat")
_LOOK_S = 0.25
_LOCAL = "ollama"  # the provider that tells what it is doing
_SILENT_S = 1.0
# A thread hands the interpreter over when it blocks, else after 5 ms: what comes in one burst would be read to its end
# before anybody sees its first piece.
_YIELD_S = 1e-5
_BREAKERS = MemoryStore()


class TextEngine:
    """Makes answers. hub: of the session that it lives in. breakers: where they are kept, default in this program.

    conversation: what was said. streams: the figures of its streams. traffic: what was sent and came. failure: the
    first exception of one of its threads.
    """

    def __init__(
        self,
        places: Sequence[Place],
        *,
        hub: Hub,
        clock: Clock,
        wishes: Wishes,
        limits: ChatLimits,
        breakers: BreakerStore | None = None,
        on_error: OnError | None = None,
    ) -> None:
        store = breakers if breakers is not None else _BREAKERS
        self.conversation = Conversation(
            places,
            [Breaker(f"{place.base_url} {place.name}", store) for place in places],
            wishes=wishes,
            limits=limits,
            now_s=clock.monotonic,
            on_error=on_error,
        )
        self.streams = Accumulator()
        self.traffic = Traffic()
        self.failure: BaseException | None = None
        self._event_observers: tuple[EventObserver, ...] = ()
        self._filters: tuple[MakeFilter, ...] = ()
        self._watchers: tuple[Watching, ...] = ()
        self._backstage = Backstage(clock)
        self._held = ChunkBuffer(limits.chunk_buffer, limits.when_full)
        self._hub = hub
        self._clock = clock
        self._limits = limits
        self._lanes = Lanes()
        self._waiting: deque[Begin] = deque()  # at most one for each answer that runs
        self._wake = threading.Event()
        hub.stop.wakes(self._wake)
        self._over = self._resting = False
        self._due_s: float | None = None  # what the coordinator waits for
        self._coordinator = Worker("realtime-coordinator", self._coordinate, self._failed)
        self._running: dict[str, tuple[Exchange, Worker]] = {}

    # --- life ---------------------------------------------------------------------------------------------------------

    def begin(self, started: Callable[[], Happened]) -> None:
        """Start the coordinator, or go on after a `rest`. started: decides what to tell of it.

        Nothing is asked of a server yet.
        """
        self._resting = False
        if not self.begun:
            self._coordinator.start()
        self._tell(started)
        for at, place in enumerate(self.conversation.answers.places):
            if place.provider == _LOCAL:
                self._backstage.facts(place, functools.partial(self._learnt, at))
                break

    @property
    def begun(self) -> bool:
        """Whether it was ever wanted."""
        return self._coordinator.thread.ident is not None

    def rest(self, new_id: Callable[[], str]) -> tuple[list[str], Happened]:
        """Make no answers until it is to `begin` again; under the lock, and `let_go` has to follow without it.

        Returns the requests that are still to be answered, and what to tell; see `Conversation.hand_back`.
        """
        self._resting = True
        self._hub.publish(self._held.pass_on((), crowded=False), self._clock.monotonic())
        return self.conversation.hand_back(new_id)

    def let_go(self) -> None:
        """Cut the connections of what was cut."""
        self._tell(tuple)

    def end(self, deadline: Deadline) -> None:
        """Cut what runs, and wait for the threads."""
        self._tell(self.conversation.end, ended=True)
        self._over = True
        self._wake.set()
        for watching in self._watchers:
            watching.let_go()
        if self._coordinator.thread.ident:
            join_all([self._coordinator.thread], deadline)
        self.abort()
        with self._hub.lock:
            workers = [worker for _, worker in self._running.values()]
        join_all([worker.thread for worker in workers if worker.thread.ident], deadline)
        self._backstage.close(deadline)
        for watching in self._watchers:
            watching.close(deadline)
        self._lanes.close()

    def abort(self) -> None:
        """Cut all connections."""
        with self._hub.lock:
            exchanges = [exchange for exchange, _ in self._running.values()]
        _abort_all(exchanges)

    def threads(self) -> list[threading.Thread]:
        """Return its threads that were started."""
        with self._hub.lock:
            workers = [self._coordinator, *(worker for _, worker in self._running.values())]
            workers += [watching.worker for watching in self._watchers]
        return [*self._backstage.threads(), *(worker.thread for worker in workers if worker.thread.ident)]

    def _failed(self, error: BaseException) -> None:
        """A thread failed: the session ends, and whoever waits for an answer is told."""
        self.failure = self.failure or error
        self._hub.fail(error)
        self._hub.finish("failed")

    def stats(self) -> TextStats:
        """Return the figures of its models."""
        answers = self.conversation.answers
        breakers = {
            place.name: BreakerStats(state=breaker.state.state, reason=breaker.state.reason)
            for place, breaker in zip(answers.places, answers.breakers, strict=True)
        }
        return TextStats(
            requests=self.streams.begun,
            retries=answers.retries,
            fallbacks=answers.fallbacks,
            streams=self.streams.stats(),
            breakers=breakers,
        )

    # --- deciding -----------------------------------------------------------------------------------------------------

    def act(self, action: Callable[[], tuple[T, Happened]]) -> T:
        """Let the conversation decide; what follows is told and done, in order."""
        results: list[T] = []

        def decide() -> Happened:
            result, happened = action()
            results.append(result)
            return happened

        self._tell(decide)
        return results[0]

    def wait_for_facts(self) -> None:
        """Wait a moment for what a local server tells of its model, if it was asked."""
        self._backstage.wait_for_facts()

    def say(self, text: str, images: Sequence[str], *, respond: bool, answers: int) -> Sent:
        """Say something; see `Conversation.say`. images: data URIs or addresses."""
        conversation = self.conversation

        def decide() -> tuple[Sent, Happened]:
            kept = [Image(media=conversation.history.keep(image)) for image in images]
            item_id, request_id, happened = conversation.say(text, kept, respond=respond, answers=answers)
            return Sent(item_id, request_id), happened

        return self.act(decide)

    def interrupt(self, cause: str) -> bool:
        """Cut the running answer; the next one that is asked for begins."""

        def decide() -> tuple[bool, Happened]:
            cut, happened = self.conversation.interrupt(cause)
            return cut, [*happened, *self.conversation.begin_next()]

        return self.act(decide)

    def observe_events(self, observer: EventObserver) -> None:
        """Call an observer for each piece, by its kind; in the thread of its stream."""
        with self._hub.lock:
            self._event_observers = (*self._event_observers, observer)

    def decide_faults(self, decide: OnError | None) -> None:
        """Let a function decide otherwise about faults."""
        with self._hub.lock:
            self.conversation.answers.on_error = decide

    def add_filter(self, make: MakeFilter) -> None:
        """Let a filter change the text of the answers from the next stream on. make: makes one for each stream."""
        with self._hub.lock:
            self._filters = (*self._filters, make)

    def watch(self, watcher: Watcher, on_result: OnResult) -> None:
        """Tell a watcher of each piece, in a thread of its own. on_result: gets what it returns but None, in order."""
        name = getattr(watcher, "__name__", "a hook")
        limits = self._limits

        def failed(why: str) -> None:
            notice = up.Notice(message=f"{name} failed and is told no more: {why}")
            self._tell(lambda: [notice])

        watching = Watching(watcher, on_result, failed, size=limits.chunk_buffer, when_full=limits.when_full)
        with self._hub.lock:
            self._watchers = (*self._watchers, watching)

    def _tell(self, decide: Callable[[], Happened], at_s: float | None = None, *, ended: bool = False) -> bool:
        """Decide under the lock, queue what happened in the same critical section; the rest follows after it.

        ended: nothing is begun any more. Returns whether the observers are behind.
        """
        hub = self._hub
        aborts: list[Exchange] = []
        consults: list[Consult] = []
        with hub.lock:
            happened = decide()
            now = self._clock.monotonic() if at_s is None else at_s
            commands, answers = self.conversation.answers.commands, self.conversation.answers
            if commands:
                answers.commands = []
                for command in commands:
                    if isinstance(command, Abort):
                        found = self._running.get(command.stream)
                        aborts += [] if found is None else [found[0]]
                        self._waiting = deque(each for each in self._waiting if each.stream != command.stream)
                    elif isinstance(command, Consult):
                        consults.append(command)
                    elif not ended:
                        hub.turns.asked(now)
                        self._waiting.append(command)
                        self._wake.set()
            if self.conversation.due_s != self._due_s:
                self._wake.set()
            told = self._held.pass_on(happened, crowded=hub.inbound.crowded)
            crowded = hub.publish(told, now) and self._limits.when_full == "block"
        _abort_all(aborts)
        hub.tell_directly(happened, now)
        for consult in consults:
            self._consult(consult)
        return crowded

    def _consult(self, consult: Consult) -> None:
        """Ask the program what to do about a fault: not under the lock, since it may call the session."""
        answers = self.conversation.answers
        action, fault = answers.judged(consult)
        self._tell(lambda: answers.decided(consult, action, fault))

    # --- the coordinator ----------------------------------------------------------------------------------------------

    def _coordinate(self) -> None:
        """Begin what is to begin, end what takes too long, do what is due."""
        self._lanes.warm(self.conversation.answers.places[0])
        while not (self._over or self._hub.stop.is_set()):
            self._wake.wait(self._wait_s())
            self._wake.clear()
            while (command := self._next()) is not None:
                self._begin_stream(command)
            self._look_after_streams()
            due_s = self.conversation.due_s
            if due_s is not None and due_s <= self._clock.monotonic():
                self._tell(self.conversation.tick)
        if not (self._over or self._resting):  # the end was asked for by one who cannot wait, such as an observer
            self._tell(self.conversation.end, ended=True)
            self._hub.finish("closed")

    def _next(self) -> Begin | None:
        with self._hub.lock:
            return self._waiting.popleft() if self._waiting and not self._over else None

    def _wait_s(self) -> float | None:
        """How long there is nothing to do but to wait for a command; None for as long as it takes."""
        due_s = self._due_s = self.conversation.due_s
        look_s = _LOOK_S if self._running else None
        if due_s is None:
            return look_s
        return min(_LOOK_S, max(0.0, due_s - self._clock.monotonic()))

    def _begin_stream(self, command: Begin) -> None:
        stream, place = command.stream, self.conversation.answers.places[command.place]
        try:
            request = place.wire.request(command.ask)
        except Exception as error:  # noqa: BLE001 - whatever stands in the conversation, the session goes on
            self._cannot_be_asked(stream, _unspeakable(error))
            return
        reader = place.wire.reader(stream)
        reader.taken = {part.call_id for entry in command.ask.entries for _, part in entry.tools}
        try:
            filters = Filters(self._filters)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a filter is the user's
            self._cannot_be_asked(stream, filter_failed(error))
            return
        take = functools.partial(self._on_pieces, stream, reader, filters)
        exchange = Exchange(place, request, reader, take, lanes=self._lanes, clock=self._clock)
        worker = Worker(f"realtime-{stream}", functools.partial(self._stream, stream, exchange), self._failed)
        now = self._clock.monotonic()
        with self._hub.lock:
            if not self.conversation.answers.wants(stream):
                return  # it was cancelled meanwhile
            self._running[stream] = (exchange, worker)
            self.traffic.frames_out += 1
            self.traffic.bytes_out += len(request.body)
            if self._hub.records:
                self._hub.publish((), now, functools.partial(record_sent, summary(command, place, request)))
        self.streams.begin(stream, place.name, now)
        _log.info("request", **request_fields(command, place, request))
        worker.start()

    def _cannot_be_asked(self, stream: str, fault: Fault) -> None:
        last: list[Piece] = [ErrorPiece(stream, 0, self._clock.monotonic(), fault)]
        self._tell(lambda: self.conversation.answers.take(stream, last, tuple))

    def _look_after_streams(self) -> None:
        """End streams that take too long. One that is over but for its figures is ended when they do not come."""
        now = self._clock.monotonic()
        with self._hub.lock:
            exchanges = [exchange for exchange, _ in self._running.values()]
        for exchange in exchanges:
            if exchange.begun_s is None and now - exchange.started_s > _SILENT_S and not exchange.asked_about:
                exchange.asked_about = True
                self._still_nothing(exchange)
            exchange.end_if_overdue(self._limits, now)

    def _learnt(self, at: int, context: int | None, abilities: tuple[str, ...]) -> None:
        """A local server has told how much its model can read, and what it can do."""

        def learn() -> Happened:
            happened = self.conversation.learnt(at, context, abilities)
            return () if self._resting else happened

        self._tell(learn)

    def _still_nothing(self, exchange: Exchange) -> None:
        """A local server says nothing yet: ask what it is doing."""
        place, told = exchange.place, self.conversation.answers.progress
        stream = exchange.reader.stream
        if place.provider == _LOCAL:
            self._backstage.loaded(
                place, lambda here: self._tell(lambda: told(stream, "prompt" if here else "loading"))
            )

    # --- a stream -----------------------------------------------------------------------------------------------------

    def _stream(self, stream: str, exchange: Exchange) -> None:
        try:
            exchange.run()
        finally:
            self._stream_over(stream, self._clock.monotonic())
            with self._hub.lock:
                self._running.pop(stream, None)
                self.traffic.bytes_in += exchange.bytes_in

    def _on_pieces(self, stream: str, reader: Reader, filters: Filters, pieces: list[Piece]) -> None:
        """Pieces came; called by the thread of their stream."""
        self.streams.take(pieces)
        self.traffic.frames_in += len(pieces)
        for tell in self._event_observers:
            for piece in pieces:
                tell(_NAMES[type(piece)], piece.at_s)
        for watching in self._watchers:
            watching.take(pieces)
        last = pieces[-1]
        if isinstance(last, ErrorPiece):
            self.traffic.failures += 1
            _log.info("fault", stream=stream, **fault_fields(last.fault))
            _log.debug("fault_words", stream=stream, message=last.fault.message)
        elif isinstance(last, FinishPiece):
            self._stream_over(stream, last.at_s)
        answers, at_s = self.conversation.answers, pieces[0].at_s
        shown = filtered(filters, pieces) if filters else pieces
        try:
            crowded = self._tell(lambda: answers.take(stream, shown, reader.parts, altered=bool(filters)), at_s)
        except QueueFullError as error:
            fault = ErrorPiece(stream, last.n, last.at_s, screen_fault(str(error)))
            crowded = self._tell(lambda: answers.take(stream, [fault], reader.parts), at_s)
        if pieces[0].n == 0:
            time.sleep(_YIELD_S)
        if crowded:
            self._hub.wait_for_room()

    def _stream_over(self, stream: str, at_s: float) -> None:
        stats = self.streams.end(stream, at_s)
        if stats is not None:
            _log.info("stream", **msgspec.to_builtins(stats))


def _abort_all(exchanges: Sequence[Exchange]) -> None:
    """Never under the lock: a socket is shut."""
    for exchange in exchanges:
        exchange.abort()


def _unspeakable(error: Exception) -> Fault:
    message = f"the question cannot be put into words of this wire: {type(error).__name__}: {error}"
    return Fault(category="protocol", action="fatal", message=one_line(message, 300), trips=False)


_NAMES = {
    kind: up._kind(kind.__name__.removesuffix("Piece"))  # noqa: SLF001 - one spelling of kinds
    for kind in Piece.__subclasses__()
}
