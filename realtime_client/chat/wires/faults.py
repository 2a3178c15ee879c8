"""What went wrong with an answer, whatever the wire: of which kind it is, and what is to be done about it. Pure."""

from __future__ import annotations

import datetime as dt
import email.utils
import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from realtime_client.escape import one_line

Category = Literal["network", "protocol", "application", "screen"]
Action = Literal["retry", "restart", "fallback", "fatal"]

CUT = "cut"
"""Code of the fault of an answer that broke off."""
LONGEST_WAIT_S = 120.0
"""A server that wants a longer wait is not asked again; the `openai` SDK draws the line there, too."""


class Fault(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why an answer failed.

    category: `network` (the way there), `protocol` (what came makes no sense), `application` (the server refuses), or
    `screen` (a hook of this program failed). action: `retry` the same request, after retry_after_s if that is known;
    `restart` it once, at once, as long as nothing was shown; `fallback` to the next provider; `fatal`: nothing helps
    but a change of the question or the settings. message: the server's own words, or ours, in one line. hint: what
    people can do. status: of HTTP; code: the server's. field: the field of the request that the server does not take.
    trips: it counts against the provider (a circuit breaker wants to know).
    """

    category: Category
    action: Action
    message: str
    hint: str = ""
    status: int | None = None
    code: str = ""
    field: str = ""
    retry_after_s: float | None = None
    trips: bool = True

    @property
    def line(self) -> str:
        """All of it for people, in one line."""
        return f"{self.message}; {self.hint}" if self.hint else self.message


_RETRYABLE = {408, 409, 425, 429, 500, 502, 503, 504, 529}
_FATAL_CODES = re.compile(
    r"insufficient_quota|billing|content_filter|content_policy|responsibleai|context_length_exceeded"
    r"|exceed_context_size|invalid_api_key|model_not_found",
    re.IGNORECASE,
)
_BUSY_CODES = re.compile(
    r"rate_?limit|overloaded|throttl|too_?many|unavailable|resource_?exhausted|server_?error|internal|timeout|try_again",
    re.IGNORECASE,
)


def classify(
    status: int | None,
    code: str = "",
    message: str = "",
    *,
    retry_after_s: float | None = None,
    should_retry: bool | None = None,
) -> Fault:
    """Judge what a server refused. status: None for an error inside a stream. code: its type, code and status words.

    should_retry: what a server says itself (`x-should-retry`).
    """
    said = one_line(message, 300) or one_line(code, 100) or (f"HTTP {status}" if status else "no reason given")
    final = bool(_FATAL_CODES.search(code))
    busy = bool(_BUSY_CODES.search(code))
    again = status in _RETRYABLE or (status is None and busy) or (status is not None and busy and status >= 500)
    if should_retry is not None and not final:
        again = should_retry
    action: Action = "fallback"
    if again and not final and (retry_after_s is None or retry_after_s <= LONGEST_WAIT_S):
        action = "retry"
    elif status in {400, 404, 405, 411, 413, 415, 422} or (final and "quota" not in code and "billing" not in code):
        action = "fatal" if status != 404 else "fallback"
    return Fault(
        category="application",
        action=action,
        message=said,
        status=status,
        code=one_line(code, 100),
        retry_after_s=retry_after_s,
        trips=again or status in {401, 403},
    )


def network(message: str, *, code: str = "") -> Fault:
    """Return a fault of the way to the server."""
    return Fault(category="network", action="retry", message=one_line(message, 300), code=code)


def malformed(message: str) -> Fault:
    """Return a fault of a server that sends what makes no sense."""
    return Fault(category="protocol", action="restart", message=one_line(message, 300))


def cut() -> Fault:
    """Return the fault of a stream that ended without saying that the answer is over."""
    return network("the answer was cut: the stream ended before the server said that it was over", code=CUT)


# --- errors as servers write them -------------------------------------------------------------------------------------


def error_in(value: Any) -> tuple[str, str] | None:
    """Find an error in an answer's JSON: (code words, message); None where there is none.

    Seen: `{"error": {...}}`, `{"error": "..."}`, a list of these, `{"detail": ...}` (FastAPI), `{"object": "error",
    "message": ...}` (old vLLM), `{"statusCode": 401, "message": ...}` (API Management), `{"type": "error", ...}`.
    """
    if isinstance(value, list):
        return error_in(value[0]) if value else None
    if not isinstance(value, dict):
        return None
    error = value.get("error")
    if error:
        return _words(error)
    if value.get("object") == "error" or "statusCode" in value or value.get("type") == "error":
        return _words(value)
    if "detail" in value and "choices" not in value:
        return "", value["detail"] if isinstance(value["detail"], str) else msgspec.json.encode(
            value["detail"]
        ).decode()
    return None


def _words(error: Any) -> tuple[str, str]:
    if not isinstance(error, dict):
        return "", str(error)
    codes = [error.get(name) for name in ("code", "type", "status")]
    inner = error.get("innererror")
    codes.append(inner.get("code") if isinstance(inner, dict) else None)
    words = " ".join(str(code) for code in codes if code not in (None, ""))
    return words, str(error.get("message") or error.get("error") or "")


def refused(status: int, headers: Mapping[str, str], body: bytes, *, now: dt.datetime | None = None) -> Fault:
    """Judge a whole answer with an HTTP error. headers: names in lower case. now: for a Retry-After that is a date."""
    try:
        value: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        value = None
    found = error_in(value)
    if found is None:
        plain = body[:2_000].decode("utf-8", "replace")
        says = plain if plain.strip() and not plain.lstrip().startswith("<") else ""
        if isinstance(value, dict):
            says = str(value.get("message") or says)
        found = "", says
    wait_s = retry_after_s(headers, now=now)
    if wait_s is None:
        wait_s = _retry_delay_s(value)
    should = {"true": True, "false": False}.get(headers.get("x-should-retry", "").lower())
    return classify(status, *found, retry_after_s=wait_s, should_retry=should)


def retry_after_s(headers: Mapping[str, str], *, now: dt.datetime | None = None) -> float | None:
    """Read how long a server wants to be left alone: `retry-after-ms`, or `retry-after` as RFC 9110 has it."""
    try:
        return max(0.0, float(headers["retry-after-ms"]) / 1000)
    except (KeyError, ValueError):
        pass
    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = email.utils.parsedate_to_datetime(value)
        except ValueError:
            return None
        date = date if date.tzinfo else date.replace(tzinfo=dt.UTC)
        seconds = (date - (now or dt.datetime.now(dt.UTC))).total_seconds()
    return max(0.0, seconds) if seconds == seconds else None  # noqa: PLR0124 - not a number


def _retry_delay_s(value: Any) -> float | None:
    """Google's RetryInfo: `{"error": {"details": [{"retryDelay": "17s"}]}}`."""
    if isinstance(value, list):
        return _retry_delay_s(value[0]) if value else None
    error = value.get("error") if isinstance(value, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    for detail in details if isinstance(details, list) else ():
        delay = detail.get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(delay, str) and re.fullmatch(r"\d+(\.\d+)?s", delay):
            return float(delay[:-1])
    return None
