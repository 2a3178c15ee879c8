"""A session with text models over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from realtime_client import updates as up
from realtime_client.deadline import SYSTEM_CLOCK, Clock, Deadline
from realtime_client.errors import UsageError
from realtime_client.session.arguments import check_call
from realtime_client.session.limits import Limits
from realtime_client.session.observers import RecorderProtocol
from realtime_client.session.session import Session
from realtime_client.session.stats import RoundTrip, Stats

from .accumulator import Accumulator
from .answers import Wishes
from .breaker import BreakerStore
from .chain import OnError
from .engine import TextEngine
from .limits import ChatLimits
from .place import Place
from .writing import Writing


class ChatSession(Writing, Session):
    """A `Session` with a chain of text models over HTTP: the first one answers, the others stand in for it.

    What has no description here has that of `Session`, which `help()` shows. places: the chain. breakers: where the
    breakers keep their states; default those of this program. on_error: may decide otherwise about a fault.
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
            text=self._engine.stats(),
        )
