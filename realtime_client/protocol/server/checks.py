"""Server side: checks of single values of the settings, each refused as the service refuses it.

Codes and wording are those of the service's errors: `invalid_type`, `invalid_value`, `unknown_parameter`,
`missing_required_parameter`, `integer_above_max_value`, `string_above_max_length` and their like.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Collection
from typing import Any

Json = dict[str, Any]
Check = Callable[[Any, str], None]

VOICES = ("alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar")
MOST_CHARS = 10 * 2**20
"""The longest text in one field: the limit of the service's HTTP API for a text."""
_DEEPEST = 100
_KINDS = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a decimal",
    dict: "an object",
    list: "an array",
}


class Refusal(Exception):  # noqa: N818 - a value on its way to an `error` message, not a fault
    """A request that the server does not carry out; becomes an `error` message.

    code, param: as the protocol states them.
    """

    def __init__(self, message: str, *, code: str | None = "invalid_value", param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


def missing(param: str) -> Refusal:
    """Return the refusal of a request that lacks a field."""
    return Refusal(f"Missing required parameter: '{param}'.", code="missing_required_parameter", param=param)


def unknown(param: str) -> Refusal:
    """Return the refusal of a field that does not exist."""
    return Refusal(f"Unknown parameter: '{param}'.", code="unknown_parameter", param=param)


def bad(value: Any, param: str, expected: str) -> Refusal:
    """Return the refusal of a value."""
    return Refusal(f"Invalid value: {_SHORT.repr(value)} for '{param}'. Expected {expected}.", param=param)


_SHORT = reprlib.Repr()
_SHORT.maxstring = 80


def wrong_type(value: Any, param: str, expected: str) -> Refusal:
    """Return the refusal of a value of another kind. expected: with its article."""
    got = _KINDS.get(type(value), "null")
    return Refusal(
        f"Invalid type for '{param}': expected {expected}, but got {got} instead.", code="invalid_type", param=param
    )


def number(low: float, high: float) -> Check:
    """A number between two limits."""

    def check(value: Any, param: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong_type(value, param, "a decimal")
        _within(value, low, high, "decimal", param)

    return check


def integer(low: int, high: int) -> Check:
    """A whole number between two limits."""

    def check(value: Any, param: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong_type(value, param, "an integer")
        _within(value, low, high, "integer", param)

    return check


def _within(value: float, low: float, high: float, kind: str, param: str) -> None:
    if low <= value <= high:
        return
    side, sign, limit = ("above maximum", "<=", high) if value > high else ("below minimum", ">=", low)
    code = f"{kind}_{'above_max' if value > high else 'below_min'}_value"
    got = _SHORT.repr(value) if isinstance(value, int) else f"{value:g}"  # JSON's integers may be beyond any float
    raise Refusal(
        f"Invalid '{param}': {kind} {side} value. Expected a value {sign} {limit:g}, but got {got} instead.",
        code=code,
        param=param,
    )


def one_of(*names: str) -> Check:
    """One of some words."""

    def check(value: Any, param: str) -> None:
        if not isinstance(value, str):
            raise wrong_type(value, param, f"one of {', '.join(names)}")
        if value not in names:
            supported = ", ".join(f"'{name}'" for name in names)
            message = f"Invalid value: {_SHORT.repr(value)} for '{param}'. Supported values are: {supported}."
            raise Refusal(message, param=param)

    return check


def kind_of(kind: type | tuple[type, ...], expected: str) -> Check:
    """A value of some kind. expected: with its article."""

    def check(value: Any, param: str) -> None:
        if not isinstance(value, kind):
            raise wrong_type(value, param, expected)

    return check


def text(value: Any, param: str) -> None:
    """A text that is not too long."""
    if not isinstance(value, str):
        raise wrong_type(value, param, "a string")
    if len(value) > MOST_CHARS:
        raise Refusal(
            f"Invalid '{param}': string too long. Expected a string with maximum length {MOST_CHARS}, but got a string "
            f"with length {len(value)} instead.",
            code="string_above_max_length",
            param=param,
        )


an_object = kind_of(dict, "an object")
an_array = kind_of(list, "an array")
a_boolean = kind_of(bool, "a boolean")


def texts(value: Any, param: str) -> None:
    """A list of texts."""
    an_array(value, param)
    for index, each in enumerate(value):
        text(each, f"{param}[{index}]")


def not_too_deep(value: Any, param: str, levels: int = _DEEPEST) -> None:
    """Settings are copied and compared, one call a level: what is nested deeper than the interpreter's stack fails."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for each in inner:
        if isinstance(each, dict | list):
            if not levels:
                raise Refusal(f"Invalid '{param}': it is nested more than {_DEEPEST} levels deep.", param=param)
            not_too_deep(each, param, levels - 1)


def fields(value: Any, param: str, checks: dict[str, Check], needed: Collection[str] = ()) -> None:
    """An object with known fields; null counts as absent."""
    an_object(value, param)
    for name in needed:
        if value.get(name) is None:
            raise missing(f"{param}.{name}")
    for name, each in value.items():
        if name not in checks:
            raise unknown(f"{param}.{name}")
        if each is not None:
            checks[name](each, f"{param}.{name}")


# --- what settings consist of -----------------------------------------------------------------------------------------


def sound_format(value: Any, param: str) -> None:
    """An audio format: {"type": "audio/pcm", "rate": 24000}, or G.711."""
    an_object(value, param)
    if value.get("type") is None:
        raise missing(f"{param}.type")
    one_of(*_FORMATS)(value["type"], f"{param}.type")
    fields(value, param, _FORMATS[value["type"]])


def _pcm_rate(value: Any, param: str) -> None:
    if value != 24_000:
        raise bad(value, param, "24000")


_FORMATS: dict[str, dict[str, Check]] = {
    "audio/pcm": {"type": text, "rate": _pcm_rate},
    "audio/pcmu": {"type": text},
    "audio/pcma": {"type": text},
}


def voice(value: Any, param: str) -> None:
    """A voice by name, or {"id": ...}."""
    if isinstance(value, dict):
        fields(value, param, {"id": text}, ("id",))
    else:
        one_of(*VOICES)(value, param)


def max_tokens(value: Any, param: str) -> None:
    """1 to 4096, or "inf"."""
    if isinstance(value, str) and value != "inf":
        raise bad(value, param, "an integer from 1 to 4096, or 'inf'")
    if value != "inf":
        integer(1, 4096)(value, param)


def modalities(value: Any, param: str) -> None:
    """["audio"] or ["text"], never both."""
    texts(value, param)
    if value not in (["audio"], ["text"]):
        message = f"Invalid modalities: {_SHORT.repr(value)}. Supported combinations are: ['text'] and ['audio']."
        raise Refusal(message, param=param)


def truncation(value: Any, param: str) -> None:
    """What happens when the context is full: auto, disabled, or how much of it is kept."""
    if isinstance(value, dict):
        known = {"type": one_of("retention_ratio"), "retention_ratio": number(0, 1), "token_limits": an_object}
        fields(value, param, known, ("type", "retention_ratio"))
    else:
        one_of("auto", "disabled")(value, param)


def tracing(value: Any, param: str) -> None:
    """auto, or what the trace is called."""
    if isinstance(value, dict):
        fields(value, param, {"workflow_name": text, "group_id": text, "metadata": an_object})
    else:
        one_of("auto")(value, param)


def prompt(value: Any, param: str) -> None:
    """A stored prompt."""
    fields(value, param, {"id": text, "version": text, "variables": an_object}, ("id",))


def reasoning(value: Any, param: str) -> None:
    """How much a model thinks."""
    fields(value, param, {"effort": one_of("minimal", "low", "medium", "high", "xhigh")})


_TRANSCRIPTION: dict[str, Check] = {
    "model": text,
    "language": text,
    "languages": texts,
    "keywords": texts,
    "prompt": text,
    "delay": one_of("minimal", "low", "medium", "high", "xhigh"),
}


def transcription(value: Any, param: str) -> None:
    """How the user's audio is transcribed."""
    fields(value, param, _TRANSCRIPTION)


def noise_reduction(value: Any, param: str) -> None:
    """How noise is reduced."""
    fields(value, param, {"type": one_of("near_field", "far_field"), "strength": number(0, 1)}, ("type",))


def metadata(value: Any, param: str) -> None:
    """Up to 16 pairs of short texts."""
    an_object(value, param)
    if len(value) > 16:
        raise bad(len(value), param, "at most 16 pairs")
    for key, each in value.items():
        if len(key) > 64:
            raise bad(key, param, "keys of at most 64 characters")
        if not isinstance(each, str) or len(each) > 512:
            raise bad(each, f"{param}.{key[:64]}", "a string of at most 512 characters")
