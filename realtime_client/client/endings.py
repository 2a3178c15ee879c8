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
from realtime_client.protocol.requests import REFUSED_KEY, REFUSED_RATE


class Moment(Enum):
    """What the session was doing when its connection ended."""

    OPENING = "before the session was open"
    IDLE = ""
    ASKED = "before the answer began"
    ANSWERING = "in the middle of an answer"


Kind = type[errors.ConnectionLostError] | None
"""The error of a session that was open, which says whether a new one may work at once; None for a normal end."""
_LOST, _FINAL, _EXPIRED = errors.ConnectionLostError, errors.SessionEndedError, errors.SessionExpiredError
_ROWS: dict[int, tuple[str, Kind]] = {
    1000: ("the server ended the session", None),
    1001: ("the server is going away", _LOST),
    1002: ("the server says that a message broke the WebSocket protocol", _FINAL),
    1003: ("the server does not take this kind of message", _FINAL),
    1005: ("the server closed the connection without a reason", _LOST),
    1006: ("the connection dropped", _LOST),
    1007: ("the server could not read a message", _FINAL),
    1008: ("the server refused a message", _FINAL),
    1009: ("a message was too long for the server", _FINAL),
    1011: ("the server failed", _LOST),
    1012: ("the server is restarting", _LOST),
    1013: ("the server is overloaded", _LOST),
    1014: ("a server behind the server failed", _LOST),
    3000: ("the server refused the key", _FINAL),
    4000: ("the server refused the session", _FINAL),
}
_BY_US: dict[int, tuple[str, Kind]] = {
    1002: ("the server broke the WebSocket protocol", _FINAL),
    1007: ("the server sent invalid text", _FINAL),
    1009: ("the server's message was too long", _FINAL),
}
_OTHER: tuple[str, Kind] = ("the server closed the connection", _LOST)
_FINAL_ERRORS = REFUSED_KEY | REFUSED_RATE | {"beta_api_shape_disabled", "invalid_model", "model_not_found"}


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
        _, kind = self._row
        said = None if self.says is None else self.says.code
        if said == "session_expired" or (self.code == 1001 and "maximum duration" in self.reason):
            return _EXPIRED
        if said in _FINAL_ERRORS or (self.says is not None and self.says.fatal):
            return _FINAL
        if kind is None and self.says is not None:
            return _LOST  # a session that an error ends has not ended normally, however politely it closes
        return kind

    @property
    def passes(self) -> bool:
        """Whether a new connection may do better: it was the network, a restart, an overload, or the time limit."""
        return self.kind in {_LOST, _EXPIRED}

    @property
    def _row(self) -> tuple[str, Kind]:
        return (_BY_US if self.by_us else _ROWS).get(self.code, _OTHER)

    @property
    def words(self) -> str:
        """One line for people: the server's own words first, if it had any."""
        words, _ = self._row
        close = f"{words} (close code {self.code}{': ' + one_line(self.reason, 200) if self.reason else ''})"
        if self.says is None:
            return close
        return f"{one_line(self.says.message or self.says.code or '', 300)} ({close})"

    def error(self, moment: Moment, where: str = "the server") -> errors.RealtimeError | None:
        """The error for whoever was in the session; None for a normal end that cost nobody anything.

        where: the endpoint's label, for a session that never opened.
        """
        if moment is Moment.OPENING:
            return self._refused(where)
        kind = self.kind
        if kind is None and moment is Moment.IDLE:
            return None
        words = f"{self.words}, {moment.value}" if moment.value else self.words
        if kind is _FINAL:
            return _FINAL(words, close_code=self.code, code=None if self.says is None else self.says.code)
        return (kind or _LOST)(words, close_code=self.code)

    def _refused(self, where: str) -> errors.ConnectError:
        words = f"{where} refused the session: {self.words}"
        if self.says is not None:
            return refusal(self.says, words)
        if self.code == 3000:
            return errors.AuthenticationError(words)
        return errors.SessionRefusedError(f"{where} ended the session before it began: {self.words}")


def instead_of_session(update: up.Update, where: str, *, greeted: bool) -> errors.ConnectError | None:
    """The error when an update means that no session begins; None for any other, and for failures of this side."""
    if isinstance(update, up.Failure) and not update.of_this_side:
        says = one_line(update.message or update.code or "the session was refused", 300)
        return refusal(update, f"{where}: {says}")
    if isinstance(update, up.Malformed) and not greeted:
        return errors.NotRealtimeError(f"{where} does not speak the Realtime protocol: {update.error}")
    return None


def refusal(failure: up.Failure, words: str) -> errors.ConnectError:
    """The error for what a server sends instead of a session."""
    if failure.code in REFUSED_KEY:
        return errors.AuthenticationError(words)
    if failure.code in REFUSED_RATE:
        return errors.RateLimitedError(words, code=failure.code)
    return errors.SessionRefusedError(words, code=failure.code)
