"""What the end of a connection means: the one place that decides.

Close codes are those of RFC 6455, section 7.4, the IANA registry (1012 to 1014), and the services' own (3000, 4000).
A session that was open and is lost ends in ConnectionLostError or one of its kinds; one that never opened, in
ConnectError or one of its kinds. Only a normal close (1000) of an open session in which no answer is awaited is not an
error. The command line turns kinds into exit codes: a lost session is 4, a refused one 3 (5 for the key, 7 for quota
and rate).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import msgspec

from realtime_client import errors
from realtime_client import updates as up
from realtime_client.escape import one_line


class Moment(Enum):
    """What the session was doing when its connection ended."""

    OPENING = "before the session was open"
    IDLE = ""
    ASKED = "before the answer began"
    ANSWERING = "in the middle of an answer"


class Kind(Enum):
    """What kind of end it was.

    NORMAL: the server has finished. LOST: a new session may work at once. FINAL: a new one would meet the same end.
    EXPIRED: the session's own time was over.
    """

    NORMAL = "normal"
    LOST = "lost"
    FINAL = "final"
    EXPIRED = "expired"


class _Row(msgspec.Struct, frozen=True):
    words: str
    kind: Kind


_ROWS = {
    1000: _Row("the server ended the session", Kind.NORMAL),
    1001: _Row("the server is going away", Kind.LOST),
    1002: _Row("the server says that a message broke the WebSocket protocol", Kind.FINAL),
    1003: _Row("the server does not take this kind of message", Kind.FINAL),
    1005: _Row("the server closed the connection without a reason", Kind.LOST),
    1006: _Row("the connection dropped", Kind.LOST),
    1007: _Row("the server could not read a message", Kind.FINAL),
    1008: _Row("the server refused a message", Kind.FINAL),
    1009: _Row("a message was too long for the server", Kind.FINAL),
    1011: _Row("the server failed", Kind.LOST),
    1012: _Row("the server is restarting", Kind.LOST),
    1013: _Row("the server is overloaded", Kind.LOST),
    1014: _Row("a server behind the server failed", Kind.LOST),
    3000: _Row("the server refused the key", Kind.FINAL),
    4000: _Row("the server refused the session", Kind.FINAL),
}
_BY_US = {
    1002: _Row("the server broke the WebSocket protocol", Kind.FINAL),
    1007: _Row("the server sent invalid text", Kind.FINAL),
    1009: _Row("the server's message was too long", Kind.FINAL),
}
_OTHER = _Row("the server closed the connection", Kind.LOST)
_REFUSED_KEY = {"invalid_api_key", "authentication_error", "unauthorized"}
_REFUSED_RATE = {"rate_limit_exceeded", "insufficient_quota", "quota_exceeded", "billing_hard_limit_reached"}
_FINAL_ERRORS = _REFUSED_KEY | _REFUSED_RATE | {"beta_api_shape_disabled", "invalid_model", "model_not_found"}


class LastWords:
    """What the server said that may be why it ends the session. Called under the session's lock.

    something: there is such a thing; while there is none, `newest` need not be called.
    """

    def __init__(self) -> None:
        self.something = False
        self._fatal: up.Failure | None = None
        self._last: up.Failure | None = None

    def trouble(self, updates: Sequence[up.Update]) -> None:
        """Take in what an error message meant."""
        self.something = True
        self._fatal = next((each for each in updates if isinstance(each, up.Failure) and each.fatal), self._fatal)

    def newest(self, updates: Sequence[up.Update]) -> None:
        """Take in what the newest message meant."""
        newest = updates[-1] if updates else None
        self._last = newest if type(newest) is up.Failure and not newest.benign else None
        if self._fatal is not None and type(newest) is up.ResponseDone:
            self._fatal = None  # it was not fatal: the session goes on
        self.something = bool(self._fatal or self._last)

    def before(self, held: Sequence[up.Update]) -> up.Failure | None:
        """What was said before the end. held: what only came out at the end."""
        return self._fatal or next((each for each in held if isinstance(each, up.Failure)), None) or self._last


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How a connection ended.

    code, reason: the WebSocket close frame; 1006 when there was none. says: the error message that the server sent as
    its last word or that was fatal. by_us: the code names what we found wrong with the server.
    """

    code: int
    reason: str = ""
    says: up.Failure | None = None
    by_us: bool = False

    @property
    def kind(self) -> Kind:
        """What kind of end it was."""
        said = self.says.code if self.says is not None else None
        if said == "session_expired" or (self.code == 1001 and "maximum duration" in self.reason):
            return Kind.EXPIRED
        if said in _FINAL_ERRORS or (self.says is not None and self.says.fatal):
            return Kind.FINAL
        if self.says is not None and self._row.kind is Kind.NORMAL:
            return Kind.LOST  # a session that an error ends has not ended normally, however politely it closes
        return self._row.kind

    @property
    def _row(self) -> _Row:
        return (_BY_US if self.by_us else _ROWS).get(self.code, _OTHER)

    @property
    def words(self) -> str:
        """One line for people: the server's own words first, if it had any."""
        close = describe_close(self.code, self.reason, by_us=self.by_us)
        if self.says is None:
            return close
        return f"{one_line(self.says.message or self.says.code or '', 300)} ({close})"

    def error(self, moment: Moment, where: str = "the server") -> errors.RealtimeError | None:
        """The error for whoever was in the session; None for a normal end that cost nobody anything.

        where: the endpoint's label, for a session that never opened.
        """
        if moment is Moment.OPENING:
            return self._refused(where)
        words = f"{self.words}, {moment.value}" if moment.value else self.words
        code = self.says.code if self.says is not None else None
        match self.kind:
            case Kind.EXPIRED:
                return errors.SessionExpiredError(words, close_code=self.code)
            case Kind.FINAL:
                return errors.SessionEndedError(words, close_code=self.code, code=code)
            case Kind.NORMAL if moment is Moment.IDLE:
                return None
            case _:
                return errors.ConnectionLostError(words, close_code=self.code)

    def _refused(self, where: str) -> errors.ConnectError:
        words = f"{where} refused the session: {self.words}"
        if self.says is not None:
            return refusal(self.says, words)
        if self.code == 3000:
            return errors.AuthenticationError(words)
        return errors.SessionRefusedError(f"{where} ended the session before it began: {self.words}")


def describe_close(code: int, reason: str, *, by_us: bool = False) -> str:
    """One line for people about a close frame."""
    row = (_BY_US if by_us else _ROWS).get(code, _OTHER)
    return f"{row.words} (close code {code}{': ' + one_line(reason, 200) if reason else ''})"


def refusal(failure: up.Failure, words: str) -> errors.ConnectError:
    """The error for what a server sends instead of a session."""
    if failure.code in _REFUSED_KEY:
        return errors.AuthenticationError(words)
    if failure.code in _REFUSED_RATE:
        return errors.RateLimitedError(words)
    return errors.SessionRefusedError(words, code=failure.code)
