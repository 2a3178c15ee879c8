"""A session with text models over HTTP."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from realtime_client import updates as up
from realtime_client.deadline import SYSTEM_CLOCK, Clock, Deadline
from realtime_client.errors import TimeLimitError, UsageError
from realtime_client.history import Entry, History
from realtime_client.session.answer import Answer
from realtime_client.session.arguments import check_call, seconds
from realtime_client.session.limits import Limits
from realtime_client.session.observers import RecorderProtocol
from realtime_client.session.session import LOOK_S, Session
from realtime_client.session.stats import RoundTrip, Stats

from .accumulator import Accumulator
from .breaker import BreakerStore
from .chain import OnError
from .engine import TextEngine
from .limits import ChatLimits
from .orders import Wishes
from .place import Place
from .writing import Writing

if TYPE_CHECKING:
    from typing_extensions import Buffer


class ChatSession(Writing, Session):
    """A `Session` with a chain of text models over HTTP: the first one answers, the others stand in for it.

    What has no description here has that of `Session`, which `help()` shows. places: the chain. breakers: where the
    breakers keep their states; default those of this program. on_error: may decide otherwise about a fault. told: what
    was said in another session, with which this one begins.
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
        told: Sequence[Entry] = (),
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
        self._conversation.kept.take_over(told, History())

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
            text=self._engine.stats(),
        )

    # --- asking -------------------------------------------------------------------------------------------------------

    def ask(
        self,
        text: str | None = None,
        *,
        audio: Buffer | None = None,
        timeout_s: float = 60.0,
        images: Sequence[str] = (),
        answers: int = 1,
    ) -> Answer:
        """Say one thing and wait for the whole answer; see `Session.ask`, and `send_text` for images and answers.

        With several answers it waits for all of them: the others are its `alternatives`. One that fails, or is not
        there in time, is left out.
        """
        if text is None or audio is not None:
            return super().ask(text, audio=audio, timeout_s=timeout_s)
        deadline = Deadline(seconds(timeout_s, "timeout_s"), self._clock)
        self._check_may_wait("ask()")
        with self.updates() as updates:
            request = self.send_text(text, images=images, answers=answers).request_id
            answer = self._follow(updates.until(deadline), request, timeout_s)
            while self.makes_others(answer) and not (deadline.expired or self.stop.is_set()):
                with contextlib.suppress(TimeLimitError):
                    next(updates.until(Deadline(deadline.at_most_s(LOOK_S), self._clock)), None)
        return self.with_others(answer)

    def makes_others(self, answer: Answer) -> bool:
        """Whether answers that were asked for together with this one are still being made."""
        return self._conversation.makes(_item_id(answer))

    def with_others(self, answer: Answer) -> Answer:
        """Return the answer with those that stand beside it now, as its `alternatives`."""
        return msgspec.structs.replace(answer, alternatives=self._conversation.kept.others(_item_id(answer)))


def _item_id(answer: Answer) -> str:
    return answer.item_ids[0] if answer.item_ids else ""
