"""Requests for an answer: which may leave, what became of those that left, and which are no longer wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from realtime_client import updates as up
from realtime_client.errors import UsageError

from . import events as ev
from . import translate
from .answers import forget_oldest
from .gate import GivenUp, Lost, ResponseGate

OWN_TAG = "realtime_client_request"
"""In a response's metadata: which request outside the conversation it answers."""
CANCEL_NOT_ACTIVE = "response_cancel_not_active"
BENIGN_CODES = {CANCEL_NOT_ACTIVE}
FATAL_CODES = {"session_expired", "invalid_api_key", "beta_api_shape_disabled", "invalid_model"}
REFUSED_KEY = {"invalid_api_key", "authentication_error", "unauthorized"}
REFUSED_RATE = {"rate_limit_exceeded", "insufficient_quota", "quota_exceeded", "billing_hard_limit_reached"}
_TOO_MANY = "64 requests for an answer wait already: let the running answer end first"
_MOST_APART = 256


class Requests:
    """The requests for an answer of one conversation. What is to be sent is appended to `commands`.

    answer_s, refusal_s: how long one may stay unanswered; see `ResponseGate`. now_s: the clock of these, in seconds.
    last_id: the event id of the newest request. voice_ended: the server may answer by itself.
    """

    def __init__(
        self,
        commands: list[ev.ClientEvent],
        new_id: Callable[[str], str],
        now_s: Callable[[], float],
        *,
        answer_s: float,
        refusal_s: float,
    ) -> None:
        self.gate = ResponseGate(answer_s=answer_s, refusal_s=refusal_s)
        self.last_id: str | None = None
        self.voice_ended = False
        self._by_voice = False  # the running answer may be the server's own
        self._commands = commands
        self._new_id = new_id
        self._now_s = now_s
        self._answer_s = answer_s
        self._apart: dict[str, ev.ResponseCreate | None] = {}  # those outside the conversation; None for one that left
        self._cancel_next = False
        self._cancelled_late = False  # a cancelled request was given up, but its answer may still begin

    # asking

    def require_room(self) -> None:
        """Errors: UsageError when 64 requests wait already."""
        if not self.gate.has_room():
            raise UsageError(_TOO_MANY)

    def ask(self, response: dict[str, Any] | None = None, *, event_id: str | None = None) -> str:
        """Ask for an answer, behind a running one; returns the request's event id.

        A response outside the conversation (`conversation: "none"`) is sent at once and may run beside others.
        Errors: UsageError when 64 requests wait already.
        """
        event_id = event_id or self._new_id("event")
        if response and response.get("conversation") == "none":
            metadata = {**(response.get("metadata") or {}), OWN_TAG: event_id}
            event = self._apart[event_id] = ev.ResponseCreate(
                event_id=event_id, response={**response, "metadata": metadata}
            )
            forget_oldest(self._apart, _MOST_APART)  # requests that a server never answered
            self._commands.append(event)
        else:
            self.require_room()
            self.gate.submit(ev.ResponseCreate(event_id=event_id, response=response or None))
            self.let_go()
        self.last_id = event_id
        return event_id

    def ask_for_new_items(self) -> None:
        """Ask for an answer to items just sent; a request that has not left, and has no wishes, will see them, too."""
        self.last_id = self.gate.join(plain=True) or self.ask()

    def ask_once(self) -> str:
        """Ask for an answer unless a request waits that will see the same items; returns the request."""
        return self.gate.join(plain=False) or self.ask()

    def let_go(self) -> None:
        """Send the next request if it may leave."""
        event = self.gate.next()
        if event is not None:
            self._cancel_next = False  # that was about an earlier one
            self._commands.append(event)

    # outside the conversation

    @property
    def any_apart(self) -> bool:
        """Whether an answer outside the conversation was asked for and has not begun."""
        return bool(self._apart)

    def is_apart(self, tag: str | None) -> bool:
        """Whether an answer with this tag is one of those."""
        return tag is not None and tag in self._apart

    def begun_apart(self, tag: str | None) -> None:
        """Note that it has begun."""
        self._apart.pop(str(tag), None)

    # answers

    def begun(self, response_id: str, *, unseen: bool) -> tuple[list[up.Update], str | None, bool]:
        """An answer of the conversation begins; unseen: nobody said so.

        Returns errors that turn out to be about something else, the request that it answers, and whether it is one
        that was cancelled before it began.
        """
        happened: list[up.Update] = [translate.failure(error, None) for error in self.gate.acquitted()]
        request_id = self.gate.created(response_id, unseen_s=self._now_s() if unseen else None)
        self._by_voice, self.voice_ended = self.voice_ended, False
        if not self._cancel_next:
            return happened, request_id, False
        self._cancel_next = self._cancelled_late = False
        return happened, request_id, not self._by_voice  # that one is the server's own, to something spoken since

    def ended(self, response_id: str, *, out_of_band: bool) -> None:
        """An answer is over."""
        if not out_of_band or self.gate.active_id == response_id:
            self.gate.done(response_id)
        if not self.gate.on_its_way:
            self._cancel_next = False

    def cancel(self, *, unknown: bool) -> list[up.Update]:
        """The request on its way is no longer wanted. unknown: nor is an answer that was only named."""
        unanswered = self.gate.abandon(self._now_s())
        if unknown:
            self.gate.cancelled(self._now_s())
        self._cancel_next = self._cancel_next or self.gate.asked
        return [translate.cancelled(unanswered)] if unanswered is not None and self.gate.asked else []

    def cancelled(self) -> None:
        """The running answer was told to stop."""
        self.gate.cancelled(self._now_s())

    def refused(self, error: ev.ErrorDetail, *, cut: bool) -> list[up.Update]:
        """Note an error; returns what to report of it. cut: the running answer was told to stop, or not seen."""
        gate, fatal = self.gate, error.code in FATAL_CODES
        request, sent_as = gate.on_its_way, gate.sent_as
        if error.code == CANCEL_NOT_ACTIVE and cut:
            gate.not_running()
        expected = gate.refused(error.event_id, error.code, error.message, by_voice=self._by_voice, now_s=self._now_s())
        freed = request is not None and request != gate.on_its_way
        if freed:
            self._cancel_next = expected and self._cancelled_late
        benign = expected or error.code in BENIGN_CODES
        nameless = not (error.event_id or freed or benign or fatal)
        if nameless and gate.suspect(error, self._now_s()):
            return []  # reported when it is clear what it was about
        if error.event_id:
            self._apart.pop(error.event_id, None)
        self.let_go()
        event_id = (request if freed and error.event_id == sent_as else error.event_id) or (request if freed else None)
        return [translate.failure(error, event_id, benign=benign, fatal=fatal)]

    # what never comes

    def left(self, event: ev.ClientEvent) -> None:
        """Note that a message was sent. The time of a request for an answer counts from here."""
        if type(event) is ev.ResponseCreate:
            self.gate.left(event.event_id, self._now_s())
            if event.event_id in self._apart:
                self._apart[event.event_id] = None

    def tick(self) -> list[up.Update]:
        """Give up what has waited too long; returns what to tell."""
        given_up = self.gate.overdue(self._now_s())
        happened = [] if given_up is None else self._tell_of(given_up)
        self.let_go()
        return happened

    def end(self) -> list[up.Update]:
        """The connection is over: report what was held back. It is why the whole session ended, not a request."""
        given_up = self.gate.give_up()
        return [] if given_up is None else [translate.failure(each, None) for each in given_up.suspects]

    @property
    def held(self) -> list[up.Failure]:
        """What the server said that may be its refusal of the request on its way."""
        return [translate.failure(error, None) for error in self.gate.suspects]

    def lost(self, *, again: bool) -> tuple[Lost, list[str], list[up.Update]]:
        """The connection is gone, and another one will come; see `ResponseGate.lost`.

        Returns also all requests of which nobody knows whether they are billed, and what to tell.
        """
        happened: list[up.Update] = [translate.failure(error, None) for error in self.gate.acquitted()]
        lost = self.gate.lost(lambda: self._new_id("event"), again=again)
        sent = [name for name, event in self._apart.items() if event is None]
        over = [*sent, *(() if lost.given_up is None else (lost.given_up,))]
        for name in sent:
            del self._apart[name]
        self._cancel_next = self._cancelled_late = self.voice_ended = False
        unknown = [*(() if lost.unknown is None else (lost.unknown,)), *sent]
        return lost, unknown, [*happened, *map(translate.lost_request, over)]

    def restored(self) -> None:
        """There is a connection again: what waits may leave."""
        self._commands += [event for event in self._apart.values() if event is not None]
        self.gate.restored()
        self.let_go()

    def moved(self) -> list[up.Update]:
        """The session goes on with another server: no request is answered any more. Returns what to tell of them."""
        given_up, over = self.gate.give_up(), self.gate.drop_waiting()
        suspects = () if given_up is None else given_up.suspects
        if given_up is not None and not given_up.abandoned:
            over.insert(0, given_up.event_id)
        self.gate.leave()
        self.gate.held = True  # what is asked from here on waits for a server
        self._apart.clear()
        self._cancel_next = self._cancelled_late = self.voice_ended = False
        return [*(translate.failure(each, None) for each in suspects), *map(translate.cancelled, over)]

    def _tell_of(self, given_up: GivenUp) -> list[up.Update]:
        """Report a request that got no answer, with the server's likely words about it, if any."""
        self._cancel_next = self._cancelled_late = given_up.abandoned and not given_up.suspects
        if given_up.suspects:
            first, *others = given_up.suspects
            request_id = given_up.event_id
            return [translate.failure(first, request_id), *(translate.failure(each, None) for each in others)]
        if given_up.abandoned:
            return []
        return [translate.no_answer(given_up.event_id, self._answer_s)]
