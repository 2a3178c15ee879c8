"""Server side: the effective session settings, and what an update or a response may change about them.

Rules of the protocol: an absent field leaves the value; null clears turn_detection, noise_reduction,
transcription, prompt and tracing, and leaves every other field as it is; "" clears instructions; [] clears tools. An
update is taken as a whole or refused as a whole.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

Json = dict[str, Any]

VOICES = ("alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar")
EAGERNESS = ("auto", "low", "medium", "high")
_CLEARABLE = frozenset({"turn_detection", "noise_reduction", "transcription", "prompt", "tracing", "include"})
_READ_ONLY = frozenset({"id", "object", "expires_at", "client_secret"})
_FORMATS = ("audio/pcm", "audio/pcmu", "audio/pcma")


class Refusal(Exception):  # noqa: N818 - a value on its way to an `error` message, not a fault
    """A request that the server does not carry out; becomes an `error` message.

    code, param: as the protocol states them.
    """

    def __init__(self, message: str, *, code: str | None = "invalid_value", param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


def default_session(kind: str, *, session_id: str, model: str, expires_at: int) -> Json:
    """Return the settings of a new session. kind: realtime or transcription."""
    listening: Json = {
        "format": {"type": "audio/pcm", "rate": 24_000},
        "transcription": None,
        "noise_reduction": None,
        "turn_detection": _vad_defaults("server_vad"),
    }
    session: Json = {"type": kind, "id": session_id, "expires_at": expires_at, "include": None}
    if kind == "transcription":
        return session | {"object": "realtime.transcription_session", "audio": {"input": listening}}
    return session | {
        "object": "realtime.session",
        "model": model,
        "output_modalities": ["audio"],
        "instructions": "",
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "tracing": None,
        "truncation": "auto",
        "prompt": None,
        "audio": {
            "input": listening,
            "output": {"format": {"type": "audio/pcm", "rate": 24_000}, "voice": "marin", "speed": 1.0},
        },
    }


def _vad_defaults(kind: str) -> Json:
    """Return a turn_detection object with the documented defaults."""
    shared: Json = {"type": kind, "create_response": True, "interrupt_response": True}
    if kind == "semantic_vad":
        return shared | {"eagerness": "auto"}
    return shared | {
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 500,
        "idle_timeout_ms": None,
    }


# --- checks of single values ------------------------------------------------------------------------------------------

Check = Callable[[Any, str], None]


def _bad(value: Any, param: str, expected: str) -> Refusal:
    shown = repr(value)
    return Refusal(f"Invalid value: {shown[:80]} for '{param}'. Expected {expected}.", param=param)


def _number(low: float, high: float) -> Check:
    def check(value: Any, param: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise _bad(value, param, f"a number from {low:g} to {high:g}")

    return check


def _integer(low: int, high: int) -> Check:
    def check(value: Any, param: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise _bad(value, param, f"an integer from {low} to {high}")

    return check


def _one_of(*names: str) -> Check:
    def check(value: Any, param: str) -> None:
        if not isinstance(value, str) or value not in names:
            raise _bad(value, param, "one of " + ", ".join(names))

    return check


def _is(kind: type | tuple[type, ...], expected: str) -> Check:
    def check(value: Any, param: str) -> None:
        if not isinstance(value, kind):
            raise _bad(value, param, expected)

    return check


def _format(value: Any, param: str) -> None:
    _is(dict, "an object")(value, param)
    _one_of(*_FORMATS)(value.get("type"), f"{param}.type")
    if value["type"] == "audio/pcm" and value.get("rate") not in (None, 24_000):
        raise _bad(value.get("rate"), f"{param}.rate", "24000")


def _voice(value: Any, param: str) -> None:
    if isinstance(value, dict) and isinstance(value.get("id"), str):
        return
    _one_of(*VOICES)(value, param)


def _max_tokens(value: Any, param: str) -> None:
    if value != "inf":
        try:
            _integer(1, 4096)(value, param)
        except Refusal:
            raise _bad(value, param, "an integer from 1 to 4096, or 'inf'") from None


def _modalities(value: Any, param: str) -> None:
    if value not in (["audio"], ["text"]):
        raise _bad(value, param, '["audio"] or ["text"]')


def _tools(value: Any, param: str) -> None:
    _is(list, "an array")(value, param)
    for index, tool in enumerate(value):
        at = f"{param}[{index}]"
        _is(dict, "an object")(tool, at)
        _one_of("function", "mcp")(tool.get("type"), f"{at}.type")
        name = "name" if tool["type"] == "function" else "server_label"
        if not isinstance(tool.get(name), str) or not tool[name]:
            raise Refusal(
                f"Missing required parameter: '{at}.{name}'.", code="missing_required_parameter", param=f"{at}.{name}"
            )
        if tool.get("parameters") is not None:
            _is(dict, "an object (JSON schema)")(tool["parameters"], f"{at}.parameters")


def _tool_choice(value: Any, param: str) -> None:
    if isinstance(value, dict):
        _one_of("function", "mcp")(value.get("type"), f"{param}.type")
        return
    _one_of("auto", "none", "required")(value, param)


_FREE = _is((dict, str), "an object or a string")
_OBJECT = _is(dict, "an object")
_TEXT = _is(str, "a string")
_BOOL = _is(bool, "a boolean")

_SHARED: dict[str, Check] = {
    "instructions": _TEXT,
    "output_modalities": _modalities,
    "tools": _tools,
    "tool_choice": _tool_choice,
    "max_output_tokens": _max_tokens,
    "prompt": _OBJECT,
    "parallel_tool_calls": _BOOL,
    "reasoning": _OBJECT,
}
_REALTIME: dict[str, Check] = _SHARED | {
    "model": _TEXT,
    "truncation": _FREE,
    "tracing": _FREE,
    "include": _is(list, "an array"),
}
_TRANSCRIPTION: dict[str, Check] = {"include": _is(list, "an array")}
_OUTPUT: dict[str, Check] = {"format": _format, "voice": _voice, "speed": _number(0.25, 1.5)}
_VAD: dict[str, dict[str, Check]] = {
    "server_vad": {
        "threshold": _number(0.0, 1.0),
        "prefix_padding_ms": _integer(0, 10_000),
        "silence_duration_ms": _integer(0, 60_000),
        "create_response": _BOOL,
        "interrupt_response": _BOOL,
        "idle_timeout_ms": _integer(5_000, 30_000),
    },
    "semantic_vad": {"eagerness": _one_of(*EAGERNESS), "create_response": _BOOL, "interrupt_response": _BOOL},
}
_RESPONSE: dict[str, Check] = _SHARED | {"input": _is(list, "an array"), "conversation": _one_of("auto", "none")}


def _unknown(param: str) -> Refusal:
    return Refusal(f"Unknown parameter: '{param}'.", code="unknown_parameter", param=param)


# --- merging ----------------------------------------------------------------------------------------------------------


def merge_session(current: Json, update: Json) -> Json:
    """Return the settings after an update; `current` is left as it is.

    Errors: Refusal names the first field that does not fit.
    """
    merged = copy.deepcopy(current)
    checks = _REALTIME if current["type"] == "realtime" else _TRANSCRIPTION
    for name, value in update.items():
        param = f"session.{name}"
        if name == "type" or name in _READ_ONLY:
            continue
        if name == "audio":
            _merge_audio(merged, value)
        elif name not in checks:
            raise _unknown(param)
        elif value is not None:
            checks[name](value, param)
            merged[name] = copy.deepcopy(value)
        elif name in _CLEARABLE:
            merged[name] = None
    return merged


def _merge_audio(merged: Json, audio: Any) -> None:
    if audio is None:
        return
    _OBJECT(audio, "session.audio")
    for side, value in audio.items():
        if side not in {"input", "output"}:
            raise _unknown(f"session.audio.{side}")
        if value is None:
            continue
        _OBJECT(value, f"session.audio.{side}")
        if side == "input":
            _merge_input(merged["audio"]["input"], value)
        elif "output" in merged["audio"]:
            _merge_leaves(merged["audio"]["output"], value, _OUTPUT, "session.audio.output")
        else:
            raise _unknown("session.audio.output")


def _merge_leaves(node: Json, update: Json, checks: dict[str, Check], at: str) -> None:
    for name, value in update.items():
        if name not in checks:
            raise _unknown(f"{at}.{name}")
        if value is not None:
            checks[name](value, f"{at}.{name}")
            node[name] = _full_format(value) if name == "format" else copy.deepcopy(value)


def _full_format(value: Json) -> Json:
    return {"type": "audio/pcm", "rate": 24_000} if value["type"] == "audio/pcm" else {"type": value["type"]}


def _merge_input(node: Json, update: Json) -> None:
    at = "session.audio.input"
    for name, value in update.items():
        param = f"{at}.{name}"
        if name not in {"format", "transcription", "noise_reduction", "turn_detection"}:
            raise _unknown(param)
        if value is None:
            if name in _CLEARABLE:
                node[name] = None
            continue
        _OBJECT(value, param)
        if name == "format":
            _format(value, param)
            node[name] = _full_format(value)
        elif name == "turn_detection":
            node[name] = _merge_vad(node[name], value, param)
        elif name == "noise_reduction":
            _one_of("near_field", "far_field")(value.get("type"), f"{param}.type")
            node[name] = copy.deepcopy(value)
        else:
            node[name] = (node[name] or {}) | copy.deepcopy(value)


def _merge_vad(current: Json | None, update: Json, param: str) -> Json:
    kind = update.get("type") or (current or {}).get("type") or "server_vad"
    _one_of(*_VAD)(kind, f"{param}.type")
    same = current is not None and current["type"] == kind
    merged: Json = dict(current) if same and current is not None else _vad_defaults(kind)
    for name, value in update.items():
        if name == "type":
            continue
        check = _VAD[kind].get(name)
        if check is None:
            raise _unknown(f"{param}.{name}")
        if value is not None:
            check(value, f"{param}.{name}")
            merged[name] = value
        elif name == "idle_timeout_ms":
            merged[name] = None
    return merged


def merge_response(session: Json, overrides: Json) -> Json:
    """Return the settings of one response: the session's, with what response.create overrides.

    Keys: those of a realtime session plus input (None: the conversation), conversation, metadata.
    Errors: Refusal.
    """
    merged: Json = {name: session[name] for name in _SHARED if name in session}
    merged["audio"] = {"output": dict(session["audio"]["output"])}
    merged |= {"input": None, "conversation": "auto", "metadata": None}
    for name, value in overrides.items():
        param = f"response.{name}"
        if value is None:
            continue
        if name == "metadata":
            _check_metadata(value)
            merged[name] = dict(value)
        elif name == "audio":
            _merge_response_audio(merged, value)
        elif name not in _RESPONSE:
            raise _unknown(param)
        else:
            _RESPONSE[name](value, param)
            merged[name] = copy.deepcopy(value)
    return merged


def _merge_response_audio(merged: Json, value: Any) -> None:
    _OBJECT(value, "response.audio")
    for side, node in value.items():
        if side != "output":
            raise _unknown(f"response.audio.{side}")
        if node is not None:
            _OBJECT(node, "response.audio.output")
            _merge_leaves(merged["audio"]["output"], node, _OUTPUT, "response.audio.output")


def _check_metadata(value: Any) -> None:
    param = "response.metadata"
    _OBJECT(value, param)
    if len(value) > 16:
        raise _bad(len(value), param, "at most 16 pairs")
    for key, text in value.items():
        if len(key) > 64:
            raise _bad(key, param, "keys of at most 64 characters")
        if not isinstance(text, str) or len(text) > 512:
            raise _bad(text, f"{param}.{key[:64]}", "a string of at most 512 characters")
