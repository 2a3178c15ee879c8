"""The beta shape of the protocol: other names for some messages, and a flat session.

Translates between it and the GA shape, which everything else speaks.
"""

from __future__ import annotations

from typing import Any

import msgspec

from realtime_client.protocol import events as ev
from realtime_client.protocol.codec import encode

Json = dict[str, Any]

_NAMES = {modern: beta for beta, modern in ev.BETA_ALIASES.items() if not beta.startswith("transcription_session")}
_FORMATS: dict[str, Json] = {
    "pcm16": {"type": "audio/pcm", "rate": 24_000},
    "g711_ulaw": {"type": "audio/pcmu"},
    "g711_alaw": {"type": "audio/pcma"},
}
_FORMAT_NAMES = {node["type"]: name for name, node in _FORMATS.items()}
_INPUT = {
    "input_audio_transcription": "transcription",
    "input_audio_noise_reduction": "noise_reduction",
    "turn_detection": "turn_detection",
    "input_audio_format": "format",
}
_OUTPUT = {"output_audio_format": "format", "voice": "voice", "speed": "speed"}
_GONE = frozenset({"temperature", "client_secret"})  # accepted, but without effect


def to_frames(event: ev.ServerEvent) -> list[bytes]:
    """Encode a server message in the beta shape: one frame, none, or, for the greeting, two."""
    if isinstance(event, ev.ConversationItemDone):
        return []
    data: Json = msgspec.to_builtins(event)
    data["type"] = _NAMES.get(data["type"], data["type"])
    if isinstance(event, ev.SessionCreated | ev.SessionUpdated):
        if event.session["type"] == "transcription" and isinstance(event, ev.SessionUpdated):
            data["type"] = "transcription_session.updated"
        data["session"] = _flat_session(event.session)
    if "item" in data:
        _rename_parts(data["item"])
    if "response" in data:
        data["response"] = _flat_response(data["response"])
    frames = [msgspec.json.encode(data)]
    if isinstance(event, ev.SessionCreated):
        greeting = {"id": "conv_local", "object": "realtime.conversation"}
        frames.append(encode(ev.ConversationCreated(event_id=event.event_id, conversation=greeting)))
    return frames


def _rename_parts(item: Json) -> None:
    for part in item.get("content") or ():
        part["type"] = {"output_text": "text", "output_audio": "audio"}.get(part["type"], part["type"])


def _flat_session(session: Json) -> Json:
    flat = {k: v for k, v in session.items() if k not in {"audio", "type", "output_modalities", "max_output_tokens"}}
    audio = session["audio"]
    for beta, name in _INPUT.items():
        flat[beta] = audio["input"][name]
    flat["input_audio_format"] = _FORMAT_NAMES[audio["input"]["format"]["type"]]
    if "output" in audio:
        flat |= {"voice": audio["output"]["voice"], "speed": audio["output"]["speed"], "temperature": 0.8}
        flat["output_audio_format"] = _FORMAT_NAMES[audio["output"]["format"]["type"]]
        flat["modalities"] = _modalities(session["output_modalities"])
        flat["max_response_output_tokens"] = session["max_output_tokens"]
    return flat


def _flat_response(response: Json) -> Json:
    flat = {k: v for k, v in response.items() if k not in {"audio", "output_modalities"}}
    output = (response.get("audio") or {}).get("output")
    if output:
        flat["voice"] = output["voice"]
        flat["output_audio_format"] = _FORMAT_NAMES[output["format"]["type"]]
    flat["modalities"] = _modalities(response.get("output_modalities") or ["audio"])
    for item in flat.get("output") or ():
        _rename_parts(item)
    return flat


def _modalities(modern: list[str]) -> list[str]:
    return ["audio", "text"] if modern == ["audio"] else modern


def from_client(event: Any, kind: str) -> Any:
    """Translate a client's message from the beta shape; what has no beta shape comes back as it is.

    kind: the session's; here it is the request's `intent` that chooses it, and an update does not name it.
    """
    if isinstance(event, ev.SessionUpdate):
        return ev.SessionUpdate(event_id=event.event_id, session=_nested(event.session, kind))
    if isinstance(event, ev.ResponseCreate) and event.response is not None:
        return ev.ResponseCreate(event_id=event.event_id, response=_nested(event.response))
    return event


def _nested(flat: Json, session: str = "") -> Json:
    """Turn the flat settings of a session of this kind, or of a response, into the GA tree."""
    listening: Json = {}
    speaking: Json = {}
    nested: Json = {"type": session} if session else {}
    for name, value in flat.items():
        if name in _INPUT and session:
            listening[_INPUT[name]] = _format_node(value) if name == "input_audio_format" else value
        elif name in _OUTPUT:
            speaking[_OUTPUT[name]] = _format_node(value) if name == "output_audio_format" else value
        elif name == "modalities":
            nested["output_modalities"] = ["audio"] if isinstance(value, list) and "audio" in value else value
        elif name in {"max_response_output_tokens", "max_output_tokens"}:
            nested["max_output_tokens"] = value
        elif name not in _GONE:
            nested[name] = value
    if listening or speaking:
        sides = {"input": listening, "output": speaking}
        nested["audio"] = {side: node for side, node in sides.items() if node}
    return nested


def _format_node(name: Any) -> Any:
    return _FORMATS.get(name, name) if isinstance(name, str) else name
