"""A session with text models over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from realtime_client import updates as up
from realtime_client.changes import Changes
from realtime_client.deadline import SYSTEM_CLOCK, Clock, Deadline
from realtime_client.errors import UsageError
from realtime_client.session.arguments import check_call, check_fields, check_kind, check_text
from realtime_client.session.limits import Limits
from realtime_client.session.observers import EventObserver, RecorderProtocol
from realtime_client.session.session import Sent, Session
from realtime_client.session.stats import RoundTrip, Stats

from .accumulator import Accumulator
from .answers import Wishes
from .breaker import BreakerStore
from .chain import OnError
from .engine import TextEngine
from .limits import ChatLimits
from .place import Place

if TYPE_CHECKING:
    from typing_extensions import Buffer

T = TypeVar("T")


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
        check_call(on_error or bool, "on_error")
        self._engine = TextEngine(
            places,
            hub=self._hub,
            clock=clock,
            wishes=wishes or Wishes(),
            limits=chat_limits or ChatLimits(),
            breakers=breakers,
            on_error=on_error,
        )
        self._conversation = self._engine.conversation

    # --- life ---------------------------------------------------------------------------------------------------------

    def _begin(self, deadline: Deadline) -> None:
        del deadline  # nothing is asked of a server before there is a question
        self._engine.begin(self._conversation.start)

    def _end(self) -> None:
        self._engine.end(Deadline(self.limits.close_timeout_s * 0.8, self._clock))

    def _abort(self) -> None:
        self._engine.abort()

    def _threads(self) -> list[threading.Thread]:
        return self._engine.threads()

    def _failure(self) -> BaseException | None:
        return self._engine.failure

    # --- facts --------------------------------------------------------------------------------------------------------

    @property
    def facts(self) -> up.Facts:
        return self._conversation.facts

    @property
    def session_id(self) -> str:
        return self._conversation.session_id

    @property
    def where(self) -> str:
        return ", then ".join(dict.fromkeys(place.host for place in self._conversation.answers.places))

    @property
    def answering(self) -> bool:
        return self._conversation.answering

    @property
    def streams(self) -> Accumulator:
        """What has come of each stream, and its figures."""
        return self._engine.streams

    def stats(self) -> Stats:
        hub = self._hub
        return Stats(
            turn_count=hub.turns.turn_count,
            turns=list(hub.turns.turns),
            traffic=self._engine.traffic,
            round_trip=RoundTrip(),
            queue_high_water={"inbound": hub.inbound.high_water},
            usage=self._conversation.answers.usage,
            transcription_usage={},
            connect_ms=self._connect_ms,
            duration_s=round(self._clock.monotonic() - self._started_s, 3),
        )

    # --- speaking -----------------------------------------------------------------------------------------------------

    def _act(self, call: Callable[[], T]) -> T:
        """Do something that the conversation decides about, and wait while the observers are behind."""
        self._check_open()
        result = call()
        if not self.owns(threading.current_thread()):
            self._hub.wait_for_room()
        return result

    def send_text(self, text: str, *, respond: bool = True, images: Sequence[str] = (), answers: int = 1) -> Sent:
        """Say something in writing, with images if the model takes them.

        images: data URIs or addresses. answers: so many are asked for at once; the first one is the answer, the others
        stand beside it (`Alternatives`). Otherwise as `Session.send_text`.
        """
        check_text(text, "the text")
        for image in images:
            check_text(image, "an image (a data URI or an address)")
        check_kind(answers, int, "the number of answers")
        if not text.strip() and not images:
            raise UsageError("there is nothing to send: the text is empty")
        if images and not self.facts.abilities.images_in:
            raise UsageError(f"{self.model} takes no images")
        return self._act(lambda: self._engine.say(text, images, respond=respond, answers=answers))

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
        check_kind(answers, int, "the number of answers")
        return self._act(lambda: self._engine.act(lambda: self._conversation.respond(answers)))

    def cancel(self) -> bool:
        return self._act(lambda: self._engine.act(self._conversation.cancel))

    def withdraw(self, answer_id: str) -> bool:
        return self._act(lambda: self._engine.act(lambda: self._conversation.withdraw(answer_id)))

    def interrupt(self, cause: str = "speech") -> bool:
        check_text(cause, "the cause")
        return self._act(lambda: self._engine.interrupt(cause))

    def send_tool_result(self, call_id: str, output: str, *, respond: bool = True) -> str:
        check_text(call_id, "call_id")
        check_text(output, "the output of a tool")
        return self._act(
            lambda: self._engine.act(lambda: self._conversation.tool_result(call_id, output, respond=respond))
        )

    def change(self, changes: Changes) -> None:
        check_fields(changes, Changes, "changes of settings (realtime_client.Changes)")
        self._act(lambda: self._engine.act(lambda: (None, self._conversation.change(changes))))

    def retry(self, answers: int = 1) -> str:
        """Ask again for the last answer, or for one that failed; returns the request's id.

        answers: so many at once. What the answer was before stands beside the new one. Errors: UsageError.
        """
        check_kind(answers, int, "the number of answers")
        return self._act(lambda: self._engine.act(lambda: self._conversation.retry(answers)))

    def edit(self, text: str) -> Sent:
        """Say the last message in other words, and ask again. Errors: UsageError."""
        check_text(text, "the text")
        if not text.strip():
            raise UsageError("there is nothing to send: the text is empty")

        def decide() -> tuple[Sent, Sequence[up.Update]]:
            item_id, request_id, happened = self._conversation.edit(text)
            return Sent(item_id, request_id), happened

        return self._act(lambda: self._engine.act(decide))

    def choose(self, index: int, item_id: str | None = None) -> None:
        """Let another answer stand in the conversation.

        index: from 0, in `Alternatives.texts`; item_id: default the newest. Errors: UsageError.
        """
        check_kind(index, int, "the number of an answer")
        self._act(lambda: self._engine.act(lambda: (None, self._conversation.choose(index, item_id))))

    def observe_events(self, observer: EventObserver) -> None:
        check_call(observer, "an observer")
        with self._life:
            self._engine.event_observers = (*self._engine.event_observers, observer)
