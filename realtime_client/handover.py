"""A realtime session that goes on in writing when its server is lost: the same session, another who answers.

What was said so far is the beginning of what the text models are told. Observers, readers and the recording stay. When
it is wanted, a realtime model goes on again, and is told what was said in writing.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from realtime_client import updates as up
from realtime_client.changes import Changes
from realtime_client.chat.engine import TextEngine
from realtime_client.chat.hooks import MakeFilter, OnResult, Watcher
from realtime_client.chat.limits import ChatLimits
from realtime_client.chat.orders import Wishes
from realtime_client.chat.place import Place
from realtime_client.chat.wires.faults import CUT, network
from realtime_client.chat.writing import Writing
from realtime_client.client.candidate import Candidate
from realtime_client.client.client import RealtimeClient
from realtime_client.client.connection import Connection
from realtime_client.client.endpoint import Endpoint
from realtime_client.deadline import Deadline
from realtime_client.errors import ConnectError, RealtimeError, UsageError
from realtime_client.history import Text
from realtime_client.protocol.answers import AnswerState
from realtime_client.protocol.conversation import random_id
from realtime_client.session.arguments import check_call
from realtime_client.session.observers import EventObserver
from realtime_client.session.session import Sent
from realtime_client.session.stats import Stats

if TYPE_CHECKING:
    from typing_extensions import Buffer


_MOST_WAITING = 64
_IN_WRITING = "the session goes on in writing: reconnect() goes back to a realtime model"


class _InWriting(Writing):
    """The calls that text models take, within the session of a client."""

    def __init__(self, client: StandbyClient, engine: TextEngine) -> None:
        self._engine = engine
        self._hub = client._hub  # noqa: SLF001 - it is a part of the client
        self._check_open = client._check_open  # noqa: SLF001
        self.owns = client.owns


class StandbyClient(RealtimeClient):
    """A `RealtimeClient` for which text models stand by.

    places: the chain of them. When the server cannot be reached, or is lost and cannot be had again within after_s (and
    `Recovery.reconnect_s`), they answer from then on; a `Notice` says so, and `SessionChanged` what the session can do
    now. From then on it takes what a `ChatSession` takes; sound that a microphone still sends is dropped. `reconnect`
    goes back to a realtime model. What has no description here has that of `Session`.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        places: Sequence[Place],
        wishes: Wishes,
        chat_limits: ChatLimits,
        after_s: float = 0.0,
        **more: Any,
    ) -> None:
        super().__init__(endpoint, **more)
        self._after_s = after_s
        self._engine = TextEngine(places, hub=self._hub, clock=self._clock, wishes=wishes, limits=chat_limits)
        self._writing: _InWriting | None = None

    # --- the handover -------------------------------------------------------------------------------------------------

    def _begin(self, deadline: Deadline) -> None:
        try:
            super()._begin(deadline)
        except ConnectError as error:
            with self._hub.lock:
                lost = self._writing is None and not self.stop.is_set()
                if lost:
                    self._hub.error = None
                    happened = [*self._conversation.moved(), *self._hand_over(str(error))]
            if not lost and self._writing is None:
                raise
            if lost:
                self._engine.begin(lambda: happened)

    @property
    def _most_s(self) -> float:
        return min(super()._most_s, self._after_s)

    def _give_up(self, error: RealtimeError) -> None:
        """The server cannot be had again in time: the text models go on."""
        with self._hub.lock:
            if self.stop.is_set():
                return
            waiting = self._conversation.gate.waiting_names
            asked = waiting[0] if waiting else None
            moved = [u for u in self._conversation.moved() if asked is None or not _cancels(u, asked)]
            happened = [*moved, *self._hand_over(str(error), asked)]
            self.ending = None
        self._present.set()
        self._engine.begin(lambda: happened)

    def _ends(self, connection: Connection, code: int, reason: str, *, by_us: bool) -> None:
        hub = self._hub
        with hub.lock:
            if self._writing is not None or self.stop.is_set() or connection is not self._connection:
                over = True
            else:
                asked = self._asked()
                happened = self._over_by(code, reason, by_us=by_us)
                error, hub.error = hub.error, None
                over = error is None  # the server ended it in order: there is nothing to go on with
                if not over:
                    self.ending = None
                    running = self._conversation.running_answer
                    moved = [u for u in self._conversation.moved() if asked is None or not _cancels(u, asked)]
                    happened = [*happened[:-1], *self._go_on(str(error), asked, running, moved)]
        if over:
            super()._ends(connection, code, reason, by_us=by_us)
        else:
            self._engine.begin(lambda: happened)

    def _ask_for(self, settings: dict[str, Any]) -> None:
        if self._writing is None:
            super()._ask_for(settings)
        else:
            self._remember(settings)  # for a realtime model that may go on

    def _asked(self) -> str | None:
        """The request that the server has not begun to answer; None when there is none."""
        gate = self._conversation.gate
        return self._conversation.last_request_id if gate.wanted and gate.active_id is None else None

    def _go_on(
        self, why: str, asked: str | None, running: AnswerState | None, moved: list[up.Update]
    ) -> list[up.Update]:
        """Decide who goes on; under the lock. running: the answer that broke off. moved: what its end means by itself.

        Of an answer in words alone, the text models make the rest: it stays one answer.
        """
        conversation = self._engine.conversation
        happened = self._hand_over(why, asked)
        partial = None if running is None else conversation.history.get(running.last_item or "")
        if running is None or partial is None or not all(isinstance(part, Text) for part in partial.parts):
            return [*moved, *happened]
        moved = [u for u in moved if not (isinstance(u, up.ResponseDone) and u.response_id == running.id)]
        spoken = [
            up.AudioDone(response_id=running.id, item_id=item_id, content_index=index)
            for item_id, index in running.audio_bytes
        ]
        fault = network(why, code=CUT)
        return [*moved, *spoken, *happened, *conversation.resume(running.id, partial.id, running.request_id, fault)]

    def _hand_over(self, why: str, asked: str | None = None) -> list[up.Update]:
        """Hand the conversation over; under the lock. Its end has been taken in by the realtime conversation.

        asked: the request that is still to be answered.
        """
        told, conversation = self._conversation, self._engine.conversation
        entries = told.entries()
        conversation.kept.take_over(entries, told.history)
        self._writing = _InWriting(self, self._engine)
        self._leaving.from_s = None
        if self._candidate is not None and self._candidate.reason != "asked":
            self._candidate.refuse(UsageError(_IN_WRITING))
        names = ", ".join(place.name for place in conversation.answers.places)
        happened: list[up.Update] = [up.Notice(message=f"{why}; going on in writing with {names}")]
        if not told.session_id:
            happened += conversation.start()
        happened.append(up.SessionChanged(facts=conversation.facts, settings=conversation.settings))
        last = entries[-1] if entries else None
        if last is not None and last.role in ("user", "tool"):
            conversation.kept.open_turn(entries)
            happened += conversation.respond(request_id=asked)[1]
        return happened

    # --- and back -----------------------------------------------------------------------------------------------------

    def reconnect(self, endpoint: Endpoint | None = None) -> None:
        """Leave the server for a new connection, or the text models for a realtime one; see `RealtimeClient.reconnect`.

        From writing: the new session is told the whole conversation. An answer that the text models are making is over
        (`ResponseDone`, `incomplete`) and asked for again, and so is what they could not answer.
        """
        super().reconnect(endpoint)
        self._engine.let_go()

    def _prepare(self, endpoint: Endpoint, reason: str) -> Candidate:
        with self._hub.lock:
            if self._writing is not None:
                self._catch_up()
        return super()._prepare(endpoint, reason)

    def _catch_up(self) -> None:
        """Let the realtime conversation know what was said in writing; under the lock."""
        kept = self._engine.conversation.kept
        entries = kept.history.in_order()
        there = {entry.id for entry in entries}
        self._conversation.follow((each for each in kept.gone if each not in there), entries, kept.history)
        self._conversation.follow_calls(kept.open_calls, kept.wants_reply)

    def _change_over(self, candidate: Candidate, now: float, *, away: bool) -> list[up.Update]:
        if self._writing is None:
            return super()._change_over(candidate, now, away=away)
        conversation = self._conversation
        requests, happened = self._engine.rest(lambda: random_id("event"))
        self._catch_up()
        for request_id in requests[:_MOST_WAITING]:
            conversation.ask(event_id=request_id)
        self._writing = self._backoff = None
        restored = super()._change_over(candidate, now, away=away)
        if not any(isinstance(update, up.SessionChanged) for update in restored):
            restored.insert(-1, up.SessionChanged(facts=conversation.facts, settings=conversation.settings))
        return [*happened, *restored]

    @property
    def away(self) -> bool:
        """Whether the connection is lost, and another one is tried."""
        return self._writing is None and super().away

    # --- life ---------------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        if self._engine.begun:
            self._engine.end(Deadline(self.limits.close_timeout_s * 0.6, self._clock))
        super()._end()

    def _abort(self) -> None:
        super()._abort()
        self._engine.abort()

    def _threads(self) -> list[threading.Thread]:
        return [*super()._threads(), *self._engine.threads()]

    def _failure(self) -> BaseException | None:
        return super()._failure() or self._engine.failure

    # --- facts --------------------------------------------------------------------------------------------------------

    @property
    def facts(self) -> up.Facts:
        return super().facts if self._writing is None else self._engine.conversation.facts

    @property
    def where(self) -> str:
        if self._writing is None:
            return super().where
        return ", then ".join(dict.fromkeys(place.host for place in self._engine.conversation.answers.places))

    @property
    def settled(self) -> bool:
        return self._writing is not None or super().settled

    @property
    def answering(self) -> bool:
        return super().answering if self._writing is None else self._engine.conversation.answering

    def stats(self) -> Stats:
        stats = super().stats()
        stats.usage += self._engine.conversation.answers.usage
        if self._engine.begun:
            stats.text = self._engine.stats()
        return stats

    # --- speaking -----------------------------------------------------------------------------------------------------

    def send_text(self, text: str, *, respond: bool = True, images: Sequence[str] = (), answers: int = 1) -> Sent:
        """Say something; several answers only from text models, see `ChatSession.send_text`."""
        if answers != 1:
            return self._text().send_text(text, respond=respond, images=images, answers=answers)
        if self._writing is None:
            return super().send_text(text, respond=respond, images=images)
        return self._writing.send_text(text, respond=respond, images=images)

    def send_audio(self, audio: Buffer, *, in_step: bool = False) -> None:
        if self._writing is None:
            super().send_audio(audio, in_step=in_step)
        else:
            self._check_open()

    def commit(self) -> None:
        return super().commit() if self._writing is None else self._writing.commit()

    def clear_input(self) -> None:
        return super().clear_input() if self._writing is None else self._writing.clear_input()

    def respond(self, **response: Any) -> str:
        return super().respond(**response) if self._writing is None else self._writing.respond(**response)

    def cancel(self) -> bool:
        return super().cancel() if self._writing is None else self._writing.cancel()

    def withdraw(self, answer_id: str) -> bool:
        return super().withdraw(answer_id) if self._writing is None else self._writing.withdraw(answer_id)

    def interrupt(self, cause: str = "speech") -> bool:
        return super().interrupt(cause) if self._writing is None else self._writing.interrupt(cause)

    def send_tool_result(self, call_id: str, output: str, *, respond: bool = True) -> str:
        return (
            super().send_tool_result(call_id, output, respond=respond)
            if self._writing is None
            else self._writing.send_tool_result(call_id, output, respond=respond)
        )

    def change(self, changes: Changes) -> None:
        if self._writing is None:
            super().change(changes)
        else:
            self._writing.change(changes)
            self._remember(self._wire_of(changes))

    def retry(self, answers: int = 1) -> str:
        """Ask again; see `ChatSession.retry`. Errors: UsageError as long as the realtime model answers."""
        return self._text().retry(answers)

    def edit(self, text: str) -> Sent:
        """Say the last message in other words; see `ChatSession.edit`. Errors: as those of `retry`."""
        return self._text().edit(text)

    def choose(self, index: int, item_id: str | None = None) -> None:
        """Choose another answer; see `ChatSession.choose`. Errors: as those of `retry`."""
        self._text().choose(index, item_id)

    def add_filter(self, make: MakeFilter) -> None:
        """Filter the answers of the text models; see `ChatSession.add_filter`."""
        check_call(make, "a filter's maker")
        self._engine.add_filter(make)

    def watch(self, watcher: Watcher, on_result: OnResult = bool) -> None:
        """Watch the answers of the text models; see `ChatSession.watch`."""
        check_call(watcher, "a watcher")
        check_call(on_result, "on_result")
        self._engine.watch(watcher, on_result)

    def _text(self) -> _InWriting:
        if self._writing is None:
            raise UsageError("a realtime model answers each question once")
        return self._writing

    def observe_events(self, observer: EventObserver) -> None:
        super().observe_events(observer)
        self._engine.observe_events(observer)


def _cancels(update: up.Update, request_id: str) -> bool:
    """Whether an update tells that a request is not answered any more."""
    return isinstance(update, up.Failure) and (update.code, update.event_id) == (up.REQUEST_CANCELLED, request_id)
