"""One answer at a time: the rule that the default conversation has at most one active response.

Requests are queued behind `response.done`. Server-side voice detection can start an answer at any moment, so a request
may still be refused (`conversation_already_has_active_response`): then it waits for that answer's end and is sent once
more. Responses outside the conversation never come here.

A request never closes the gate for good. An error that names no request, while one is on its way and no answer has
begun, is held as its likely refusal: if an answer begins all the same it was about something else, and if none begins
within a short time the request is over. So is one to which nothing at all comes for long, and, after the short time,
one that was cancelled. Times are seconds of a clock that the caller has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from .events import ErrorDetail, ResponseCreate

ALREADY_ACTIVE = "conversation_already_has_active_response"


_MOST_SUSPECTS = 8
_UNNAMED = "?"  # an answer that the server says is running, and does not name


@dataclass(slots=True)
class _Request:
    """A response.create on its way.

    event: what is sent. name: what the request is called here: its event id, also when it is asked again with another.
    wanted: by how many, since one answer may serve several. refused: how often. abandoned: nobody wants its answer any
    longer. left: it was sent. again: it was asked before, on a connection that was lost. until_s: when it is given up.
    suspects: errors that may be about it.
    """

    event: ResponseCreate
    name: str = ""
    wanted: int = 1
    left: bool = False
    again: bool = False
    refused: int = 0
    abandoned: bool = False
    until_s: float | None = None
    suspects: list[ErrorDetail] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name = self.name or self.event.event_id or ""


@dataclass(slots=True, frozen=True)
class GivenUp:
    """A request that got no answer. suspects: the errors that came meanwhile, the first one its likely refusal."""

    event_id: str
    abandoned: bool
    suspects: tuple[ErrorDetail, ...]


@dataclass(slots=True, frozen=True)
class Lost:
    """What became of the request that was under way when the connection was lost; None for what does not apply.

    again: the request that asks again. unknown: one that was sent and not answered: nobody knows whether it is billed.
    given_up: one that is not asked again.
    """

    again: str | None = None
    unknown: str | None = None
    given_up: str | None = None


class ResponseGate:
    """Decides which `response.create` may leave now. Holds no clock and sends nothing itself.

    answer_s: how long a request may stay without any answer, 0 for no limit. refusal_s: the short time in which an
    answer begins if it begins at all, once something speaks against it.
    """

    def __init__(self, limit: int = 64, *, answer_s: float = 30.0, refusal_s: float = 2.0) -> None:
        self._answer_s = answer_s
        self._refusal_s = refusal_s
        self._waiting: deque[_Request] = deque()
        self._sent: _Request | None = None
        self._limit = limit
        self._ended: deque[str] = deque(maxlen=16)
        self.assumed: str | None = None  # the request that an end without a beginning is taken to have answered
        self.active_id: str | None = None
        self.held = False  # no connection: nothing may leave
        self._active_until_s: float | None = None

    @property
    def busy(self) -> bool:
        """True while an answer runs or was asked for."""
        return self.active_id is not None or self._sent is not None

    @property
    def wanted(self) -> bool:
        """True while an answer runs, is asked for or waits to be, and nobody has cancelled it."""
        sent = self._sent
        return self.active_id is not None or bool(self._waiting) or (sent is not None and not sent.abandoned)

    @property
    def asked(self) -> bool:
        """True while a request is on its way and no answer has started."""
        return self._sent is not None and self.active_id is None

    @property
    def on_its_way(self) -> str | None:
        """The request that left and is not over."""
        return self._sent.name if self._sent is not None else None

    @property
    def sent_as(self) -> str | None:
        """Its event id: another one when it was asked again."""
        return self._sent.event.event_id if self._sent is not None else None

    @property
    def waiting(self) -> int:
        """Requests that have not left yet."""
        return len(self._waiting)

    @property
    def waiting_names(self) -> list[str]:
        """What they are called, the next one first."""
        return [each.name for each in self._waiting]

    def submit(self, event: ResponseCreate) -> bool:
        """Queue a request; event.event_id must be set. False when the queue is full and it was not taken."""
        if len(self._waiting) >= self._limit:
            return False
        self._waiting.append(_Request(event))
        return True

    def drop_waiting(self) -> list[str]:
        """Forget the requests that have not left; returns their event ids."""
        dropped = [each.name for each in self._waiting]
        self._waiting.clear()
        return dropped

    def join(self, *, plain: bool) -> str | None:
        """Share the answer of a waiting request instead of making one more; returns its event id, None without one.

        plain: only one that has no wishes of its own.
        """
        for each in self._waiting:
            if not (plain and each.event.response):
                each.wanted += 1
                return each.name
        return None

    def withdraw(self, event_id: str) -> bool:
        """No longer want a request's answer; True if nobody does any more. A waiting one is then forgotten."""
        for each in self._waiting if self._sent is None else (self._sent, *self._waiting):
            if each.name == event_id:
                each.wanted -= 1
                if each.wanted <= 0 and each is not self._sent:
                    self._waiting.remove(each)
                return each.wanted <= 0
        return False

    def has_room(self) -> bool:
        """Whether `submit` would take a request."""
        return len(self._waiting) < self._limit

    def abandon(self, now_s: float) -> str | None:
        """Do not send the request on its way once more, should it be refused: nobody wants it any longer.

        Returns its event id; None when there is none, or it was abandoned before.
        """
        if self._sent is None or self._sent.abandoned:
            return None
        self._sent.abandoned = True
        self._hurry(now_s)
        return self._sent.name

    # what never comes

    def left(self, event_id: str | None, now_s: float) -> None:
        """Take note that a request was sent: its time to be answered begins."""
        request = self._sent
        if request is not None and request.event.event_id == event_id:
            request.left = True
            if request.until_s is None and self._answer_s:
                request.until_s = now_s + self._answer_s

    def suspect(self, error: ErrorDetail, now_s: float) -> bool:
        """Hold an error that names no request; False when it cannot be about one."""
        request = self._sent
        if request is None or self.active_id is not None or len(request.suspects) >= _MOST_SUSPECTS:
            return False
        request.suspects.append(error)
        self._hurry(now_s)
        return True

    def cancelled(self, now_s: float) -> None:
        """The running answer was told to stop: its end is waited for a short time only."""
        if self.active_id is not None:
            self._active_until_s = now_s + self._refusal_s

    def not_running(self) -> None:
        """The server says that nothing is running: whatever was waited for is over."""
        self.active_id = self._active_until_s = self._sent = None

    def leave(self) -> None:
        """The server was left: whatever was waited for is over, and its names mean nothing any more."""
        self.not_running()
        self._ended.clear()
        self.assumed = None
        self.held = False

    def lost(self, new_id: Callable[[], str], *, again: bool) -> Lost:
        """The connection is gone, and another one will come: what is wanted waits for it, what was under way is over.

        again: the running answer is wanted, and is asked for again. No request is asked again twice.
        """
        request, running = self._sent, self.active_id is not None
        self.leave()
        self.held = True
        if request is None:
            if not again:
                return Lost()
            request = _Request(ResponseCreate(event_id=new_id()))  # of an answer that the server began by itself
        elif running:
            request = _Request(ResponseCreate(event_id=new_id(), response=request.event.response), again=request.again)
        elif request.abandoned:
            return Lost(unknown=request.name if request.left else None)
        elif not request.left:
            request.until_s = None
            self._waiting.appendleft(request)
            return Lost()
        else:
            again = True
        unknown = None if running else request.name
        if request.again or not again:
            return Lost(unknown=unknown, given_up=None if running else request.name)
        request.again, request.left, request.until_s, request.refused = True, False, None, 0
        request.suspects.clear()
        if not running:
            request.event = ResponseCreate(event_id=new_id(), response=request.event.response)
        self._waiting.appendleft(request)
        return Lost(again=request.name, unknown=unknown)

    def restored(self) -> None:
        """There is a connection again."""
        self.held = False

    def _hurry(self, now_s: float) -> None:
        request = self._sent
        assert request is not None
        soon_s = now_s + self._refusal_s
        request.until_s = soon_s if request.until_s is None else min(request.until_s, soon_s)

    @property
    def due_s(self) -> float | None:
        """When `overdue` will have something to report; None for never."""
        request = self._sent  # read once: whoever only asks when to come back holds no lock
        if self.active_id is not None:
            return self._active_until_s
        return request.until_s if request is not None else None

    def overdue(self, now_s: float) -> GivenUp | None:
        """Give up the request on its way if its time is over; an answer whose end never came ends silently."""
        due_s = self.due_s
        if due_s is None or now_s < due_s:
            return None
        if self.active_id is not None:
            self.not_running()
            return None
        return self.give_up()

    def give_up(self) -> GivenUp | None:
        """Wait no longer for an answer to the request on its way."""
        request = self._sent
        if request is None or self.active_id is not None:
            return None
        self._sent = None
        return GivenUp(request.name, request.abandoned, tuple(request.suspects))

    @property
    def suspects(self) -> tuple[ErrorDetail, ...]:
        """The errors that may be about the request on its way."""
        return () if self._sent is None else tuple(self._sent.suspects)

    def acquitted(self) -> list[ErrorDetail]:
        """The errors that were held and turn out to be about something else."""
        if self._sent is None or not self._sent.suspects:
            return []
        suspects, self._sent.suspects = self._sent.suspects, []
        return suspects

    def next(self) -> ResponseCreate | None:
        """The request that may leave now, or None. Counts it as sent."""
        if self.held or self.busy or not self._waiting:
            return None
        self._sent, self.assumed = self._waiting.popleft(), None
        return self._sent.event

    def created(self, response_id: str, *, unseen_s: float | None = None) -> str | None:
        """Take note that an answer started; returns the event id of the request it seems to answer.

        unseen_s: now, if its start was not announced: then its end may not be either, and the wait for it is limited.
        """
        assumed, self.assumed = self.assumed, None
        if response_id and response_id in self._ended and self._sent is None and assumed is None:
            return None  # announced late or twice: the wait for it would never end
        self.active_id, self._active_until_s = response_id, None
        if unseen_s is not None and self._answer_s:
            self._active_until_s = unseen_s + self._answer_s
        return self.on_its_way or assumed

    def done(self, response_id: str) -> None:
        """Note that an answer ended. A request that has not been refused by now was that answer's."""
        self._ended.append(response_id)
        if self.active_id in {response_id, None, "", _UNNAMED}:
            if self.active_id is None:
                self.assumed = self.on_its_way or self.assumed
            self.active_id = self._active_until_s = None
            self._sent = None

    def refused(
        self, event_id: str | None, code: str | None, message: str = "", *, by_voice: bool = True, now_s: float = 0.0
    ) -> bool:
        """Note an error; True if it was about our request and needs no attention.

        An error without event_id and with the code of a busy conversation is taken for the request on its way, unless
        an answer to it has begun. by_voice: that answer may be the server's own, to something spoken.
        """
        begun = self.active_id is not None
        request = self._sent
        if request is None:
            return False
        ours = event_id == request.event.event_id if event_id else code == ALREADY_ACTIVE and (by_voice or not begun)
        if not ours:
            return False
        if code == ALREADY_ACTIVE:
            self._hold(_named_response(message), now_s)
        self._sent = None
        if code != ALREADY_ACTIVE:
            return False
        if request.abandoned:
            return True
        if request.refused:
            return False
        request.refused += 1
        self._waiting.appendleft(request)
        return True

    def _hold(self, named: str | None, now_s: float) -> None:
        """Wait, for a limited time, for an answer that the server says is running and whose start was not seen here."""
        if self.active_id is not None or (named and named in self._ended):
            return
        self.active_id = named or _UNNAMED
        wait_s = self._answer_s if named else self._refusal_s
        self._active_until_s = now_s + wait_s if wait_s else None


def _named_response(message: str) -> str | None:
    """Find the response id that a busy conversation's error names."""
    return next((word.strip(".,:;'\"()") for word in message.split() if word.strip("'\"(").startswith("resp_")), None)
