"""What is asked of a provider beside the conversation: what it offers, what a model can do, whether it is in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable

from realtime_client.deadline import SYSTEM_CLOCK, Clock, Deadline
from realtime_client.errors import UsageError
from realtime_client.session.threads import Worker, join_all

from .hints import hint
from .http import Exchange, Lanes
from .place import Place
from .wires import ollama
from .wires.ask import HttpRequest, ModelInfo
from .wires.faults import Fault, malformed, network
from .wires.pieces import ErrorPiece, Piece
from .wires.reader import Reader

FACTS_WITHIN_S = 5.0
_FACTS_AWAITED_S = 1.0
_LOADED_WITHIN_S = 2.0


class RefusedError(Exception):
    """A request failed. fault: why."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.line)
        self.fault = fault


class _Whole(Reader):
    """Reads an answer that is one piece of JSON."""

    body = b""

    def _streams(self, begin: bytes) -> bool:
        del begin
        return False

    def _message(self, name: str, data: bytes) -> None:
        raise NotImplementedError

    def _answer(self, body: bytes) -> None:
        self.body = body
        self._over("stop")


class Question:
    """One request beside the conversation. `ask` blocks, at most for limit_s; `abort` ends it from any thread."""

    def __init__(self, place: Place, request: HttpRequest, limit_s: float, clock: Clock = SYSTEM_CLOCK) -> None:
        self._reader = _Whole("beside")
        self._lanes = Lanes()
        self._limit_s = limit_s
        self._fault: Fault | None = None
        self._exchange = Exchange(place, request, self._reader, self._take, lanes=self._lanes, clock=clock)

    def _take(self, pieces: list[Piece]) -> None:
        last = pieces[-1]
        if isinstance(last, ErrorPiece):
            self._fault = last.fault

    def ask(self) -> bytes:
        """Return the answer's body. Errors: RefusedError."""
        late = network(f"{self._exchange.place.host} does not answer within {self._limit_s:g} s")
        timer = threading.Timer(self._limit_s, self._exchange.abort, (late,))
        timer.daemon = True
        timer.start()
        try:
            self._exchange.run()
        finally:
            timer.cancel()
            self._lanes.close()
        if self._fault is not None:
            raise RefusedError(self._fault)
        return self._reader.body

    def abort(self) -> None:
        """End it now."""
        self._exchange.abort()


def offered(place: Place, limit_s: float = 30.0) -> list[ModelInfo]:
    """Return the models that a provider offers. Errors: RefusedError; UsageError where there is no such list."""
    request = place.wire.models_request()
    if request is None:
        raise UsageError(f"{place.provider} has no list of its models")
    body = Question(place, request, limit_s).ask()
    try:
        return place.wire.models(body)  # type: ignore[no-any-return]
    except ValueError as error:
        raise RefusedError(malformed(f"{place.host} answers with no list of models: {error}")) from None


def explained(error: RefusedError, place: Place) -> Fault:
    """Return why a request failed, with what people can do."""
    import msgspec

    return msgspec.structs.replace(error.fault, hint=hint(error.fault, place.provider, place.model))


class Backstage:
    """Asks a local server what it has not said, each question in a thread of its own; what fails is not told.

    At most two run at a time: one about the model, one about what it is doing.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._running: dict[str, tuple[Question, Worker]] = {}
        self._over = False

    def facts(self, place: Place, tell: Callable[[int | None, tuple[str, ...]], object]) -> None:
        """Find out how much a model of Ollama can read (in tokens) and what it can do."""
        question = Question(place, ollama.show_request(place.model), FACTS_WITHIN_S, self._clock)
        self._ask("facts", question, ollama.context_and_abilities, tell)

    def loaded(self, place: Place, tell: Callable[[bool], object]) -> None:
        """Find out whether a model is in memory."""

        def read(body: bytes) -> tuple[bool]:
            return (ollama.loaded(body, place.model),)

        self._ask("loaded", Question(place, ollama.ps_request(), _LOADED_WITHIN_S, self._clock), read, tell)

    def _ask(
        self,
        name: str,
        question: Question,
        read: Callable[[bytes], tuple[object, ...]],
        tell: Callable[..., object],
    ) -> None:
        def run() -> None:
            try:
                answer = read(question.ask())
            except (RefusedError, ValueError):
                answer = None
            with self._lock:
                over = self._over
            if answer is not None and not over:
                tell(*answer)
            with self._lock:
                self._running.pop(name, None)

        worker = Worker(f"realtime-{name}", run, lambda _error: None)
        with self._lock:
            if self._over or name in self._running:
                return
            self._running[name] = (question, worker)
        worker.start()

    def wait_for_facts(self) -> None:
        """Wait a moment for what is being found out about a model, if it is."""
        with self._lock:
            running = self._running.get("facts")
        if running is not None and running[1].thread.ident:
            running[1].thread.join(_FACTS_AWAITED_S)

    def threads(self) -> list[threading.Thread]:
        """Return the threads that run."""
        with self._lock:
            return [worker.thread for _, worker in self._running.values() if worker.thread.ident]

    def close(self, deadline: Deadline) -> None:
        """End what runs, and wait for it."""
        threads = self.threads()
        with self._lock:
            self._over = True
            questions = [question for question, _ in self._running.values()]
        for question in questions:
            question.abort()
        join_all(threads, deadline)
