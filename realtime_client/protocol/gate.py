"""One answer at a time: the rule that the default conversation has at most one active response.

Requests are queued behind `response.done`. Server-side voice detection can start an answer at any moment, so a request
may still be refused (`conversation_already_has_active_response`): then it waits for that answer's end and is sent once
more. Responses outside the conversation never come here.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from .events import ResponseCreate

ALREADY_ACTIVE = "conversation_already_has_active_response"


@dataclass(slots=True)
class _Request:
    """A response.create and how often it was refused."""

    event: ResponseCreate
    refused: int = 0
    abandoned: bool = False


class ResponseGate:
    """Decides which `response.create` may leave now. Holds no clock and sends nothing itself."""

    def __init__(self, limit: int = 64) -> None:
        self._waiting: deque[_Request] = deque()
        self._sent: _Request | None = None
        self._limit = limit
        self._ended: deque[str] = deque(maxlen=16)
        self.active_id: str | None = None

    @property
    def busy(self) -> bool:
        """True while an answer runs or was asked for."""
        return self.active_id is not None or self._sent is not None

    @property
    def asked(self) -> bool:
        """True while a request is on its way and no answer has started."""
        return self._sent is not None and self.active_id is None

    @property
    def on_its_way(self) -> str | None:
        """The event id of the request that left and is not over."""
        return self._sent.event.event_id if self._sent is not None else None

    @property
    def waiting(self) -> int:
        """Requests that have not left yet."""
        return len(self._waiting)

    def submit(self, event: ResponseCreate) -> bool:
        """Queue a request; event.event_id must be set. False when the queue is full and it was not taken."""
        if len(self._waiting) >= self._limit:
            return False
        self._waiting.append(_Request(event))
        return True

    def drop_waiting(self) -> int:
        """Forget the requests that have not left; returns how many."""
        dropped = len(self._waiting)
        self._waiting.clear()
        return dropped

    def waiting_plain(self) -> str | None:
        """The event id of a request that waits and has no wishes of its own."""
        return next((each.event.event_id for each in self._waiting if not each.event.response), None)

    def abandon(self) -> None:
        """Do not send the request on its way once more, should it be refused: nobody wants it any longer."""
        if self._sent is not None:
            self._sent.abandoned = True

    def next(self) -> ResponseCreate | None:
        """The request that may leave now, or None. Counts it as sent."""
        if self.busy or not self._waiting:
            return None
        self._sent = self._waiting.popleft()
        return self._sent.event

    def created(self, response_id: str) -> str | None:
        """Take note that an answer started; returns the event id of the request it seems to answer."""
        if response_id and response_id in self._ended and self._sent is None:
            return None  # told late or twice: it would be waited for without end
        self.active_id = response_id
        return self.on_its_way

    def done(self, response_id: str) -> None:
        """Take note that an answer ended. A request that was not refused by now was that answer's."""
        self._ended.append(response_id)
        if self.active_id == response_id or self.active_id is None:
            self.active_id = None
            self._sent = None

    def refused(self, event_id: str | None, code: str | None, message: str = "") -> bool:
        """Take note of an error; True if it was about our request and needs nobody's care.

        An error without event_id and with the code of a busy conversation is taken for the request on its way.
        """
        named = _named_response(message) if code == ALREADY_ACTIVE else None
        if named:
            self._hold(named)
        request = self._sent
        if request is None:
            return False
        ours = event_id == request.event.event_id if event_id else code == ALREADY_ACTIVE
        if not ours:
            return False
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

    def _hold(self, active_id: str) -> None:
        """Wait for an answer that the server named and whose start was not seen here."""
        if self.active_id is None and active_id not in self._ended:
            self.active_id = active_id


def _named_response(message: str) -> str | None:
    """Find the response id that a busy conversation's error names."""
    return next((word.strip(".,:;'\"()") for word in message.split() if word.strip("'\"(").startswith("resp_")), None)
