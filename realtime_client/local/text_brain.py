"""A brain that is a text model over HTTP, or a chain of them: `realtime serve --brain ollama/llama3.2`.

    session         Words            an answer's thread        a request's thread
    takes pieces <- (channel) <- decides, cuts sentences <- (channel) <- reads the stream

What is asked, again or elsewhere, and when it is given up, is decided as in a session with text models
(`chat.answers`).
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import secrets
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from types import TracebackType
from typing import Self, Unpack

from realtime_client import updates as up
from realtime_client.chat.answering import Answering
from realtime_client.chat.answers import Answers, Learnt
from realtime_client.chat.breaker import Breaker, MemoryStore
from realtime_client.chat.http import Exchange, Lanes
from realtime_client.chat.limits import ChatLimits
from realtime_client.chat.orders import Begin, Wishes
from realtime_client.chat.place import Place
from realtime_client.chat.request_log import fault_fields, request_fields
from realtime_client.chat.wires.faults import Fault
from realtime_client.chat.wires.pieces import ErrorPiece, Piece
from realtime_client.deadline import SYSTEM_CLOCK, Clock
from realtime_client.errors import UsageError
from realtime_client.escape import one_line
from realtime_client.history import History, Part
from realtime_client.logs import Log
from realtime_client.settings import Settings, load_settings
from realtime_client.settings.keywords import Keywords
from realtime_client.settings.providers import brains

from .brain import BrainError, BrainTurn, CallTool, CutShort, Said, Say, Spent
from .channel import Channel
from .sentences import SentenceCutter, plain
from .told import Calls, entries_of

_log = Log("chat")
_server_log = logging.getLogger(__name__)
_LOOK_S = 0.25
_END_S = 0.05  # an answer that is over waits so long for its HTTP body to end, which leaves the connection usable
_MOST_AHEAD = 1_024
_RATE = "RateLimitedError"


def _log_it(line: str) -> None:
    _server_log.warning("%s", line)


class TextBrain:
    """Answers with a chain of text models: the first one, and the others where it cannot.

    places: the chain. wishes: what stands in no turn: temperature, think, streaming. tell: takes a line for people on
    what the protocol has no message for: that a model is asked again; by default it goes to the log. A context
    manager, for whoever gives it to no server: a server closes its brain.
    """

    blocks = True

    def __init__(
        self,
        places: Sequence[Place],
        *,
        wishes: Wishes | None = None,
        limits: ChatLimits | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if not places:
            raise UsageError("a brain needs at least one text model, such as ollama/llama3.2")
        store = MemoryStore()
        self.places = tuple(places)
        self.wishes = wishes or Wishes()
        self.limits = limits or ChatLimits()
        self.clock = clock
        self.breakers = [Breaker(f"{place.base_url} {place.name}", store) for place in places]
        self.learnt = Learnt()
        self.lanes = Lanes()
        self.calls = Calls()
        self.tell: Callable[[str], object] = _log_it

    @classmethod
    def of(cls, settings: Settings | None = None, **values: Unpack[Keywords]) -> TextBrain:
        """Make one of settings, or of values as `connect` takes them: `TextBrain.of(brain="ollama/llama3.2")`.

        Keys and addresses come from the settings and variables of the model's provider. Errors: UsageError.
        """
        if settings is None:
            settings = load_settings(values, arguments=True)
        wishes = Wishes(
            temperature=settings.temperature,
            think={"true": True, "false": False}.get(settings.think or "", settings.think),
            streaming=settings.streaming,
        )
        return cls(brains(settings), wishes=wishes, limits=settings.chat)

    def reply(self, turn: BrainTurn) -> TextReply:
        """Return an answer that is asked for when it is first read."""
        return TextReply(self, turn)

    def close(self) -> None:
        """Let go of the connections that are kept for the next answers."""
        self.lanes.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()


class TextReply:
    """An answer on its way, read by one thread. `close` ends it at once, from any thread: the server sees it."""

    def __init__(self, brain: TextBrain, turn: BrainTurn) -> None:
        numbers, mark = itertools.count(1), secrets.token_hex(4)
        media = History()
        most = turn.max_tokens
        self._brain = brain
        self._entries = entries_of(turn, media, brain.calls)
        self._answers = Answers(
            brain.places,
            brain.breakers,
            book=self,
            wishes=Wishes(
                instructions=turn.instructions,
                tools=turn.tools,
                tool_choice=turn.tool_choice,
                max_tokens=most,
                temperature=brain.wishes.temperature,
                think=brain.wishes.think,
                streaming=brain.wishes.streaming,
            ),
            limits=brain.limits,
            names=lambda kind: f"{kind}_{mark}_{next(numbers)}",
            media=media,
            now_s=brain.clock.monotonic,
            on_error=None,
            learnt=brain.learnt,
        )
        self._cutter = SentenceCutter() if turn.spoken else None
        self._parts: tuple[Part, ...] = ()
        self._notice = ""
        self._failure: up.Failure | None = None
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._exchange: Exchange | None = None
        self._channel: Channel[list[Piece]] | None = None
        self._talk = self._talking()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Said:
        return next(self._talk)

    def close(self) -> None:
        """Nothing more of it is wanted."""
        with self._lock:
            self._closed.set()
            exchange, channel = self._exchange, self._channel
        if exchange is not None and channel is not None:
            exchange.abort()
            channel.close(drop=True)
        with contextlib.suppress(ValueError):  # a thread is in it, and leaves it now
            self._talk.close()

    # --- as the book of its answer ------------------------------------------------------------------------------------

    def keep(self, answer: Answering, parts: tuple[Part, ...], status: str) -> list[up.Update]:
        """Remember what the provider wants back with the calls of the answer."""
        del answer, status
        self._parts = parts
        return []

    def unanswered(self, answer: Answering, fault: Fault) -> list[up.Update]:
        """Nobody can answer; the client is told by other means."""
        del answer, fault
        return []

    def begin_next(self) -> list[up.Update]:
        """There is no next one."""
        return []

    # --- the answer's thread ------------------------------------------------------------------------------------------

    def _talking(self) -> Generator[Said, None, None]:
        """Ask, and again where that is worth it; yields what comes."""
        answers = self._answers
        yield from self._told(answers.begin("request", "item", self._entries, quiet=False))
        while answers.running and not self._closed.is_set():
            if answers.due_s is not None:
                self._closed.wait(max(0.0, answers.due_s - self._brain.clock.monotonic()))
                yield from self._told(answers.tick())
                continue
            commands, answers.commands = answers.commands, []
            for begin in commands:
                if isinstance(begin, Begin) and answers.wants(begin.stream):
                    yield from self._stream(begin)

    def _stream(self, begin: Begin) -> Iterator[Said]:
        """Send one request, and yield what is said in its answer."""
        answers, brain, place = self._answers, self._brain, self._answers.places[begin.place]
        try:
            request = place.wire.request(begin.ask)
        except Exception as error:  # noqa: BLE001 - whatever stands in the conversation, the session goes on
            last = ErrorPiece(begin.stream, 0, brain.clock.monotonic(), _unspeakable(error))
            yield from self._told(answers.take(begin.stream, [last], tuple))
            return
        reader = place.wire.reader(begin.stream)
        channel: Channel[list[Piece]] = Channel(_MOST_AHEAD)
        exchange = Exchange(place, request, reader, channel.put, lanes=brain.lanes, clock=brain.clock)
        thread = threading.Thread(
            target=functools.partial(_read, exchange, channel), name=f"realtime-{begin.stream}", daemon=True
        )
        with self._lock:
            if self._closed.is_set():
                return
            self._exchange, self._channel = exchange, channel
            thread.start()
        _log.info("request", **request_fields(begin, place, request))
        try:
            while answers.wants(begin.stream) and not channel.over:
                pieces = channel.get(_LOOK_S)
                if pieces is None:
                    exchange.end_if_overdue(brain.limits, brain.clock.monotonic())
                    continue
                if isinstance(pieces[-1], ErrorPiece):
                    _log.info("fault", stream=begin.stream, **fault_fields(pieces[-1].fault))
                yield from self._told(answers.take(begin.stream, pieces, reader.parts))
            thread.join(_END_S)
        finally:
            if thread.is_alive():
                exchange.abort()
                channel.close(drop=True)
                thread.join()

    # --- what it means to the session ---------------------------------------------------------------------------------

    def _told(self, happened: Sequence[up.Update]) -> Iterator[Said]:
        for update in happened:
            if isinstance(update, up.TextDelta):
                yield from self._said(update.text)
            elif isinstance(update, up.ToolCall):
                yield from self._rest()
                call_id = self._brain.calls.remember(update.call_id, self._parts)
                yield CallTool(update.name, update.arguments, call_id)
            elif isinstance(update, up.Notice):
                self._notice = update.message
                self._brain.tell(update.message)
            elif isinstance(update, up.Failure) and not update.benign:
                self._failure = update
            elif isinstance(update, up.ResponseDone):
                yield from self._done(update)

    def _said(self, text: str) -> Iterator[Say]:
        if self._cutter is None:
            yield Say(text)
        else:
            yield from _spoken(self._cutter.feed(text))

    def _rest(self) -> Iterator[Say]:
        yield from _spoken(self._cutter.end()) if self._cutter is not None else ()

    def _done(self, done: up.ResponseDone) -> Iterator[Said]:
        yield from self._rest()
        if done.usage is not None:
            yield Spent(done.usage)
        if done.status == "failed":
            failure = self._failure
            limited = failure is not None and failure.raises == _RATE
            source = f"{failure.source}: " if failure is not None and failure.source else ""
            message = one_line(f"{source}{done.error}", 500)
            raise BrainError(message, "rate_limit_exceeded" if limited else done.reason or "server_error")
        if done.reason in ("max_output_tokens", "content_filter"):
            yield CutShort(done.reason)
        elif done.status == "incomplete":
            raise BrainError(one_line(self._notice or f"the answer is not complete: {done.reason}", 500))


def _read(exchange: Exchange, channel: Channel[list[Piece]]) -> None:
    """Read the answer to a request: a thread's whole life."""
    try:
        exchange.run()
    finally:
        channel.close()


def _spoken(pieces: Sequence[str]) -> Iterator[Say]:
    for piece in pieces:
        if (words := plain(piece)).strip():
            yield Say(words)


def _unspeakable(error: Exception) -> Fault:
    message = f"the question cannot be put into words of this wire: {type(error).__name__}: {error}"
    return Fault(category="protocol", action="fatal", message=one_line(message, 300), trips=False)


__all__ = ["TextBrain", "TextReply"]
