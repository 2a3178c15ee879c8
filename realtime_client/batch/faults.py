"""Why a case has no verdict: what went wrong, and whether it is worth another try. Pure."""

from __future__ import annotations

import re

from realtime_client import errors
from realtime_client import updates as up
from realtime_client.escape import shortened

from .result import Fault

_PASSING_CODES = frozenset(
    {"server_error", "rate_limit_exceeded", "internal_error", "overloaded", "service_unavailable"}
)
_BROKE_OFF = "cut"
_BUSY = re.compile(r"\b429\b|rate_?limit|too_?many|throttl|resource_?exhausted", re.IGNORECASE)
_NO_ENTRY = re.compile(r"\b40[13]\b|api_?key|unauthor|authentication|permission", re.IGNORECASE)
_ALWAYS_SAID = "or the quota is used up"  # of every HTTP 429; the server's own words follow


class NoSpeechError(errors.RealtimeError):
    """The server heard no speech in what was spoken."""


class NotReachedError(errors.RealtimeError):
    """The moment for which a step waits can no longer come."""


class JudgeError(errors.RealtimeError):
    """A judge gave no verdict."""


class CheckError(errors.RealtimeError):
    """A check could not be completed."""


class FloodError(errors.RealtimeError):
    """The server sends more than any conversation needs."""


class StoppedError(errors.RealtimeError):
    """The case was stopped from outside."""


def answer_error(message: str, code: str | None, failure: up.Failure | None) -> errors.RealtimeError:
    """Return what a failed answer means. failure: what was told of it.

    The server of a text model is only met with a question: what would be known of another one when the session opens
    is known here, by the same names.
    """
    if failure is None or failure.action is None:
        return errors.ResponseFailedError(message, code=code)
    code = failure.code or code or ""
    if code == _BROKE_OFF:
        return errors.ConnectionLostError(message)
    if _BUSY.search(code):
        return errors.RateLimitedError(message)
    if _NO_ENTRY.search(code):
        return errors.AuthenticationError(message)
    if failure.action == "retry":
        return errors.HostUnreachableError(message)
    return errors.ResponseFailedError(message, code=code)


def fault_of(error: BaseException, *, connected: bool) -> Fault:
    """Describe an error. connected: there was a session."""
    known = isinstance(error, errors.RealtimeError)
    message = str(error) or type(error).__name__
    return Fault(
        kind=type(error).__name__,
        message=shortened(message if known else f"a fault of this program: {message}", 500),
        infrastructure=may_pass(error),
        connected=connected,
        retry_after_s=getattr(error, "retry_after_s", None),
    )


def may_pass(error: BaseException) -> bool:
    """Whether the same thing may work in a while: the endpoint was away, busy, or had a fault of its own.

    Never for a refused key, a wrong address or setting, a used-up quota or a time limit, nor for a session that the
    server ended for a reason that a new one would meet again.
    """
    if isinstance(error, errors.RateLimitedError):
        return "quota" not in str(error).lower().replace(_ALWAYS_SAID, "")
    if isinstance(error, errors.HostUnreachableError):
        return True
    if isinstance(error, errors.SessionRefusedError):
        return error.code in _PASSING_CODES or error.code is None
    if isinstance(error, errors.ResponseFailedError):
        return error.code in _PASSING_CODES
    final = errors.SessionExpiredError | errors.SessionEndedError
    return isinstance(error, errors.ConnectionLostError) and not isinstance(error, final)
