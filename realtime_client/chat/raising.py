"""Which error of this package a fault is to whoever waits for the answer, and so which exit code it has. Pure."""

from __future__ import annotations

import re

from realtime_client.errors import RealtimeError
from realtime_client.session.answer import error_of
from realtime_client.updates import Failure

from .wires.faults import CUT, EMPTY, MOVED, SLOW, UNTRUSTED, Fault

_OF_NETWORK = {CUT: "ConnectionLostError", UNTRUSTED: "TLSError", MOVED: "NotRealtimeError", SLOW: "TimeLimitError"}
_KEY = re.compile(r"api_?key|authentication|unauthorized|permission", re.IGNORECASE)
_LIMIT = re.compile(r"quota|billing|rate_?limit|throttl|too_?many|resource_?exhausted", re.IGNORECASE)
_BUSY = re.compile(r"overload|unavailable|server_?error|internal|time_?out|timed_?out|try_again", re.IGNORECASE)
_MODEL = re.compile(r"model|deployment", re.IGNORECASE)


def raises(fault: Fault, *, shown: bool) -> str:
    """Name the class of `realtime_client.errors` that a fault is.

    shown: a part of the answer was shown. A realtime session that meets the same ends with the same class.
    """
    lost = "ConnectionLostError" if shown else "HostUnreachableError"
    if fault.category == "network":
        return _OF_NETWORK.get(fault.code) or (lost if fault.action == "retry" else "UsageError")
    if fault.category == "protocol":  # of a server that never made sense, it is not what it was taken for
        return "ResponseFailedError" if shown or fault.code == EMPTY else "NotRealtimeError"
    if fault.category == "screen":
        return "ResponseFailedError"
    return _of_refusal(fault, lost)


def error_of_fault(fault: Fault, who: str) -> RealtimeError:
    """Return the error that a fault is where there is no session. who: the server or the model, as people know it."""
    told = Failure(
        message=fault.line,
        code=fault.code or None,
        source=who,
        raises=raises(fault, shown=False),
        retry_after_s=fault.retry_after_s,
    )
    return error_of(told)


def _of_refusal(fault: Fault, lost: str) -> str:
    status, code = fault.status, fault.code
    if status in {401, 403} or (status != 404 and _KEY.search(code)):
        return "AuthenticationError"
    if status == 429 or _LIMIT.search(code):
        return "RateLimitedError"
    if status in {404, 405, 410}:
        return "SessionRefusedError" if _MODEL.search(f"{code} {fault.message}") else "NotRealtimeError"
    if (status or 0) >= 500 or (status is None and _BUSY.search(code)):
        return lost
    return "ResponseFailedError"
