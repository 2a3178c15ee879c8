"""What went wrong with an answer, whatever the wire: of which kind it is, and what is to be done about it. Pure."""

from __future__ import annotations

import datetime as dt
import email.utils
import math
import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from realtime_client.escape import one_line

Category = Literal["network", "protocol", "application", "screen"]
Action = Literal["retry", "restart", "fallback", "fatal"]

CUT = "cut"
"""Code of the fault of an answer that broke off."""
UNTRUSTED = "untrusted"
"""Code of the fault of a certificate that is not trusted, or of TLS that fails otherwise."""
MOVED = "moved"
"""Code of the fault of a server that sends us elsewhere."""
SLOW = "slow"
"""Code of the fault of an answer that takes longer than it may."""
EMPTY = "empty"
"""Code of the fault of an answer with nothing in it."""
LONGEST_WAIT_S = 120.0
"""A server that wants a longer wait is not asked again; the `openai` SDK draws the line there, too."""


class Fault(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why an answer failed.

    category: `network` (the way there), `protocol` (what came makes no sense), `application` (the server refuses), or
    `screen` (a hook of this program failed). action: `retry` the same request, after retry_after_s if that is known;
    `restart` it once, at once, as long as nothing was shown; `fallback` to the next provider; `fatal`: nothing helps
    but a change of the question or the settings. message: the server's own words, or ours, in one line. hint: what
    people can do. status: of HTTP; code: the server's. field: an optional field of the request that the server does not
    take: whoever asks again without it (`Ask.without`; for `stream`, in one piece) may do so before the action counts.
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

    @property
    def too_long(self) -> bool:
        """Whether the conversation is longer than the model can read: a shorter one may be answered."""
        return self.status in (None, 400, 413, 422) and bool(_TOO_LONG.search(f"{self.code} {self.message}"))


# --- the rules --------------------------------------------------------------------------------------------------------

_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 529} | {*range(520, 525)}  # 52x: Cloudflare's, of the server behind
_ASKED_WRONGLY = {400, 405, 411, 413, 415, 422, 501}
_NOT_LET_IN = {401, 402, 403}

# What servers call it: their codes and types, in any spelling.
_QUESTION_REFUSED = re.compile(r"content_?filter|content_?policy|responsible_?ai|prompt_?blocked", re.IGNORECASE)
_TOO_LONG = re.compile(
    r"context_length_exceeded|exceed_context_size|model_context_window_exceeded|maximum context length"
    r"|prompt is too long|context (window|length|size).{0,40}exceed|exceeds?.{0,40}context (window|length|size)"
    r"|input token count.{0,40}exceeds",
    re.IGNORECASE,
)
_NOT_TODAY = re.compile(
    r"insufficient_(quota|credit|balance|funds)|exceeded_current_quota|billing|PerDay", re.IGNORECASE
)
_NOT_HERE = re.compile(r"invalid_api_key|model_not_found|authentication|permission", re.IGNORECASE)
_BUSY = re.compile(
    r"rate_?limit|overload|throttl|too_?many_?requests|unavailable|resource_?exhausted|server_?error|internal"
    r"|timeout|timed_?out|deadline_?exceeded|try_again|not_?ready|queue_?full",
    re.IGNORECASE,
)
# An error without any code, in the stream; the last two are Ollama's, whose runner is started anew.
_BUSY_WORDS = re.compile(
    r"overloaded|rate limit|too many requests|try again|timed? ?out|unavailable|unexpected EOF|runner.*terminated",
    re.IGNORECASE,
)
_NO_EYES = "missing data required for image input"  # Ollama, as HTTP 500
_STATUS_IN_CODE = re.compile(r"(?<!\S)[45]\d\d(?!\S)")


def classify(
    status: int | None,
    code: str = "",
    message: str = "",
    *,
    retry_after_s: float | None = None,
    should_retry: bool | None = None,
    field: str = "",
) -> Fault:
    """Judge what a server refused. status: None for an error inside a stream. code: its type, code and status words.

    should_retry: what a server says itself (`x-should-retry`). field: the optional field that it does not take.
    """
    said = one_line(message, 300) or one_line(code, 100) or (f"HTTP {status}" if status else "no reason given")
    number = status
    if number is None and (found := _STATUS_IN_CODE.search(code)):
        number = int(found[0])  # what it would have been, had it come before the stream
    action, again = _action(number, code, message)
    if should_retry and not _final(code):
        action, again = "retry", True
    elif should_retry is False and action == "retry":
        action = "fallback"
    if action == "retry" and retry_after_s is not None and retry_after_s > LONGEST_WAIT_S:
        action = "fallback"
    return Fault(
        category="application",
        action=action,
        message=said,
        status=status,
        code=one_line(code, 100),
        field=field,
        retry_after_s=retry_after_s,
        trips=again or number in _NOT_LET_IN or bool(_NOT_TODAY.search(code)),
    )


def _final(code: str) -> bool:
    return any(rule.search(code) for rule in (_QUESTION_REFUSED, _TOO_LONG, _NOT_TODAY, _NOT_HERE))


def _action(status: int | None, code: str, message: str) -> tuple[Action, bool]:
    """What to do, and whether the same request may be answered later."""
    if _QUESTION_REFUSED.search(code) or _TOO_LONG.search(code):
        return "fatal", False
    if _NOT_TODAY.search(code) or (_NOT_HERE.search(code) and status not in _ASKED_WRONGLY):
        return "fallback", False
    if _NO_EYES in message:
        return "fallback", False
    if status is None:
        again = bool(_BUSY.search(code) or (not code and _BUSY_WORDS.search(message)))
        return ("retry" if again else "fallback"), again
    if status in _AGAIN:
        return "retry", True
    return ("fatal" if status in _ASKED_WRONGLY else "fallback"), False


# Fields that an answer can do without, and servers that do not know them. `unsupported` is what refusing one sounds
# like; `too large` and the like are no refusals of a field but of its value, which people chose.
_FIELDS = (
    *("stream_options", "max_completion_tokens", "max_tokens", "max_output_tokens", "parallel_tool_calls"),
    *("reasoning_effort", "reasoning", "include", "store", "temperature", "tool_choice", "think", "stream"),
)
_UNSUPPORTED = re.compile(
    r"unsupported|not supported|unknown|unrecogni[sz]ed|not permitted|not allowed|unexpected|(does|do) not support"
    r"|extra_?forbidden|extra (inputs|fields)|deprecated|additional propert|no such field|cannot unmarshal",
    re.IGNORECASE,
)
_IN_OTHER_WORDS = (  # field, how its refusal reads where its name is not in it
    ("think", re.compile(r"does not support thinking|think value .* not supported", re.IGNORECASE)),
    ("include", re.compile(r"encrypted content is not supported", re.IGNORECASE)),
    ("stream", re.compile(r"streaming (is |mode )?(not|un)|(not|n't) support streaming|to stream this", re.IGNORECASE)),
)
_CANNOT_STREAM = {405, 501}


def refused_field(status: int, message: str, param: str = "", code: str = "") -> str:
    """Return which optional field of the request a server does not take, '' if it is about something else.

    param: the field that the server names itself, if it does, as `body.max_tokens` or `max_tokens`.
    """
    if status not in _ASKED_WRONGLY:
        return ""
    for field, words in _IN_OTHER_WORDS:
        if words.search(message):
            return field
    if not _UNSUPPORTED.search(f"{code} {message}"):
        return "stream" if status in _CANNOT_STREAM else ""
    for name in param.split("."):
        if name in _FIELDS:
            return name
    named = [(found.start(), each) for each in _FIELDS if (found := re.search(rf"\b{each}\b", message))]
    if named and not param:
        return min(named)[1]
    return "stream" if status in _CANNOT_STREAM else ""


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
    "message": ...}` (old vLLM), `{"statusCode": 401, "message": ...}` (API Management), `{"type": "error", ...}`,
    `{"errors": [...]}` (Cloudflare).
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
    errors = value.get("errors")
    if isinstance(errors, list) and errors:
        return _words(errors[0])
    if value.get("detail") and "choices" not in value:
        return "", _detail(value["detail"])
    return None


def _words(error: Any) -> tuple[str, str]:
    if not isinstance(error, dict):
        return "", str(error)
    codes = [error.get(name) for name in ("code", "type", "status", "statusCode")]
    inner = error.get("innererror")
    codes.append(inner.get("code") if isinstance(inner, dict) else None)
    codes += _quotas(error)
    words = " ".join(str(code) for code in codes if code not in (None, "", "error"))
    message = str(error.get("message") or error.get("error") or "")
    behind = error.get("metadata")  # OpenRouter: what the provider behind it said
    if isinstance(behind, dict) and behind.get("raw"):
        message = f"{message}: {behind['raw']}"
    return words, message


def _quotas(error: dict[str, Any]) -> list[str]:
    """Google's QuotaFailure: which quotas are used up, the one for the day among them, or not."""
    return [
        str(each.get("quotaId") or "")
        for detail in _list(error.get("details"))
        if isinstance(detail, dict)
        for each in _list(detail.get("violations"))
        if isinstance(each, dict)
    ]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _detail(detail: Any) -> str:
    """FastAPI: words, or `[{"loc": ["body", "max_tokens"], "msg": "Extra inputs are not permitted"}]`."""
    if isinstance(detail, str):
        return detail
    faults = [each for each in _list(detail) if isinstance(each, dict) and "msg" in each]
    if faults:
        return "; ".join(f"{'.'.join(map(str, _list(each.get('loc'))))}: {each['msg']}" for each in faults)
    return msgspec.json.encode(detail).decode()


def _param(value: Any) -> str:
    error = value.get("error") if isinstance(value, dict) else None
    param = error.get("param") if isinstance(error, dict) else None
    return param if isinstance(param, str) else ""


def refused(status: int, headers: Mapping[str, str], body: bytes, *, now: dt.datetime | None = None) -> Fault:
    """Judge a whole answer with an HTTP error. headers: names in lower case. now: for a Retry-After that is a date."""
    try:
        value: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = None
    code, message = error_in(value) or ("", _plain(value, body))
    wait_s = retry_after_s(headers, now=now)
    if wait_s is None:
        wait_s = _retry_delay_s(value)
    should = {"true": True, "false": False}.get(headers.get("x-should-retry", "").lower())
    field = refused_field(status, message, _param(value), code)
    return classify(status, code, message, retry_after_s=wait_s, should_retry=should, field=field)


def _plain(value: Any, body: bytes) -> str:
    """What an error says that has no known form: its message, or its text, but for pages of HTML."""
    if isinstance(value, dict) and (said := value.get("message") or value.get("Message")):
        return str(said)
    plain = body[:2_000].decode("utf-8", "replace").strip()
    return "" if plain.startswith("<") else plain


def retry_after_s(headers: Mapping[str, str], *, now: dt.datetime | None = None) -> float | None:
    """Read how long a server wants to be left alone.

    `retry-after-ms`; `retry-after` in seconds or as a date (RFC 9110).
    """
    try:
        seconds = float(headers["retry-after-ms"]) / 1000
        if math.isfinite(seconds):
            return max(0.0, seconds)
    except (KeyError, ValueError):
        pass
    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = email.utils.parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        date = date if date.tzinfo else date.replace(tzinfo=dt.UTC)
        seconds = (date - (now or dt.datetime.now(dt.UTC))).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _retry_delay_s(value: Any) -> float | None:
    """Google's RetryInfo: `{"error": {"details": [{"retryDelay": "17s"}]}}`."""
    if isinstance(value, list):
        return _retry_delay_s(value[0]) if value else None
    error = value.get("error") if isinstance(value, dict) else None
    for detail in _list(error.get("details")) if isinstance(error, dict) else ():
        delay = detail.get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(delay, str) and re.fullmatch(r"\d{1,9}(\.\d{1,9})?s", delay):
            return float(delay[:-1])
    return None
