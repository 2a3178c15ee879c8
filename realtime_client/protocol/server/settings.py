"""Server side: the effective session settings, and what an update or a response may change about them.

Rules of the protocol: an absent field leaves the value; null clears turn_detection, noise_reduction,
transcription, prompt and tracing, and leaves every other field as it is; "" clears instructions; [] clears tools. An
update is taken as a whole or refused as a whole.
"""

from __future__ import annotations

import copy
from typing import Any

from . import checks as its
from .checks import Check, Json, an_object, missing, one_of, unknown
from .tool_checks import check_choice, tool_choice, tools

EAGERNESS = ("auto", "low", "medium", "high")
_CLEARABLE = frozenset({"turn_detection", "noise_reduction", "transcription", "prompt", "tracing", "include"})
_READ_ONLY = frozenset({"id", "object", "expires_at", "client_secret"})


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


def session_kind(update: Json) -> str:
    """Return the kind of session that an update is for. Errors: Refusal."""
    if update.get("type") is None:
        raise missing("session.type")
    one_of("realtime", "transcription")(update["type"], "session.type")
    return str(update["type"])


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


# --- what may change ------------------------------------------------------------------------------------------------

_SHARED: dict[str, Check] = {
    "instructions": its.text,
    "output_modalities": its.modalities,
    "tools": tools,
    "tool_choice": tool_choice,
    "max_output_tokens": its.max_tokens,
    "prompt": its.prompt,
    "parallel_tool_calls": its.a_boolean,
    "reasoning": its.reasoning,
}
_REALTIME: dict[str, Check] = _SHARED | {
    "model": its.text,
    "truncation": its.truncation,
    "tracing": its.tracing,
    "include": its.texts,
}
_TRANSCRIPTION: dict[str, Check] = {"include": its.texts}
_OUTPUT: dict[str, Check] = {"format": its.sound_format, "voice": its.voice, "speed": its.number(0.25, 1.5)}
_VAD: dict[str, dict[str, Check]] = {
    "server_vad": {
        "threshold": its.number(0.0, 1.0),
        "prefix_padding_ms": its.integer(0, 10_000),
        "silence_duration_ms": its.integer(0, 60_000),
        "create_response": its.a_boolean,
        "interrupt_response": its.a_boolean,
        "idle_timeout_ms": its.integer(5_000, 30_000),
    },
    "semantic_vad": {
        "eagerness": one_of(*EAGERNESS),
        "create_response": its.a_boolean,
        "interrupt_response": its.a_boolean,
    },
}
_RESPONSE: dict[str, Check] = _SHARED | {
    "input": its.an_array,
    "conversation": one_of("auto", "none"),
    "metadata": its.metadata,
}
_CHOOSING = {"tools", "tool_choice"}


# --- merging ----------------------------------------------------------------------------------------------------------


def merge_session(current: Json, update: Json) -> Json:
    """Return the settings after an update; `current` is left as it is.

    Errors: Refusal names the first field that does not fit.
    """
    its.not_too_deep(update, "session")
    merged = copy.deepcopy(current)
    checks = _REALTIME if current["type"] == "realtime" else _TRANSCRIPTION
    for name, value in update.items():
        param = f"session.{name}"
        if name == "type" or name in _READ_ONLY:
            continue
        if name == "audio":
            _merge_audio(merged, value)
        elif name not in checks:
            raise unknown(param)
        elif value is not None:
            checks[name](value, param)
            merged[name] = copy.deepcopy(value)
        elif name in _CLEARABLE:
            merged[name] = None
    if _CHOOSING & update.keys() and current["type"] == "realtime":
        check_choice(merged, "session.tool_choice")
    return merged


def _merge_audio(merged: Json, audio: Any) -> None:
    if audio is None:
        return
    an_object(audio, "session.audio")
    for side, value in audio.items():
        if side not in {"input", "output"}:
            raise unknown(f"session.audio.{side}")
        if value is None:
            continue
        an_object(value, f"session.audio.{side}")
        if side == "input":
            _merge_input(merged["audio"]["input"], value)
        elif "output" in merged["audio"]:
            _merge_leaves(merged["audio"]["output"], value, _OUTPUT, "session.audio.output")
        else:
            raise unknown("session.audio.output")


def _merge_leaves(node: Json, update: Json, checks: dict[str, Check], at: str) -> None:
    for name, value in update.items():
        if name not in checks:
            raise unknown(f"{at}.{name}")
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
            raise unknown(param)
        if value is None:
            if name in _CLEARABLE:
                node[name] = None
            continue
        an_object(value, param)
        if name == "format":
            its.sound_format(value, param)
            node[name] = _full_format(value)
        elif name == "turn_detection":
            node[name] = _merge_vad(node[name], value, param)
        elif name == "noise_reduction":
            its.noise_reduction(value, param)
            node[name] = copy.deepcopy(value)
        else:
            its.transcription(value, param)
            node[name] = (node[name] or {}) | copy.deepcopy(value)


def _merge_vad(current: Json | None, update: Json, param: str) -> Json:
    kind = update.get("type")
    if kind is None:
        kind = (current or {}).get("type") or "server_vad"
    one_of(*_VAD)(kind, f"{param}.type")
    same = current is not None and current["type"] == kind
    merged: Json = dict(current) if same and current is not None else _vad_defaults(kind)
    for name, value in update.items():
        if name == "type":
            continue
        check = _VAD[kind].get(name)
        if check is None:
            raise unknown(f"{param}.{name}")
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
    its.not_too_deep(overrides, "response")
    merged: Json = {name: session[name] for name in _SHARED if name in session}
    merged["audio"] = {"output": dict(session["audio"]["output"])}
    merged |= {"input": None, "conversation": "auto", "metadata": None}
    for name, value in overrides.items():
        param = f"response.{name}"
        if value is None:
            continue
        if name == "audio":
            _merge_response_audio(merged, value)
        elif name not in _RESPONSE:
            raise unknown(param)
        else:
            _RESPONSE[name](value, param)
            merged[name] = copy.deepcopy(value)
    if _CHOOSING & overrides.keys():
        check_choice(merged, "response.tool_choice")
    return merged


def _merge_response_audio(merged: Json, value: Any) -> None:
    an_object(value, "response.audio")
    for side, node in value.items():
        if side != "output":
            raise unknown(f"response.audio.{side}")
        if node is not None:
            an_object(node, "response.audio.output")
            _merge_leaves(merged["audio"]["output"], node, _OUTPUT, "response.audio.output")
