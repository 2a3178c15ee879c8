"""Why a case has no verdict: what went wrong, and whether it is worth another try. Pure."""

from __future__ import annotations

import msgspec

from realtime_client import errors
from realtime_client import updates as up
from realtime_client.escape import shortened
from realtime_client.session.answer import error_of

from .result import Fault

_PASSING_CODES = frozenset(
    {"server_error", "rate_limit_exceeded", "internal_error", "overloaded", "service_unavailable"}
)
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
    """Return what a failed answer is to a run. failure: what was told of it.

    The server of a text model is only met with a question: what would be known of another one when the session opens
    is known here, by the same names.
    """
    if failure is None or failure.raises is None:
        return errors.ResponseFailedError(message, code=code)
    if failure.code and failure.code not in message:
        message = f"{message} ({failure.code})"  # which says whether the quota is used up
    return error_of(msgspec.structs.replace(failure, message=message))


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
