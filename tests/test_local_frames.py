"""What the server says is complete: every field that the protocol gives a value is there, null and zero included."""

from __future__ import annotations

import ast
import functools
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from local_frames import Json, server_frames

import realtime_client
from realtime_client.local.beta import to_frames
from realtime_client.protocol import events as ev

_PLACE = "response_id item_id output_index content_index"
_CALL = "response_id item_id output_index call_id"

# After the API reference of the GA protocol; every message also has `type` and `event_id`.
FIELDS: dict[str, str] = {
    "session.created": "session",
    "session.updated": "session",
    "error": "error",
    "conversation.item.added": "item previous_item_id",
    "conversation.item.done": "item previous_item_id",
    "conversation.item.retrieved": "item",
    "conversation.item.truncated": "item_id content_index audio_end_ms",
    "conversation.item.deleted": "item_id",
    "conversation.item.input_audio_transcription.delta": "item_id content_index delta logprobs",
    "conversation.item.input_audio_transcription.completed": "item_id content_index transcript logprobs usage",
    "conversation.item.input_audio_transcription.failed": "item_id content_index error",
    "input_audio_buffer.speech_started": "item_id audio_start_ms",
    "input_audio_buffer.speech_stopped": "item_id audio_end_ms",
    "input_audio_buffer.committed": "item_id previous_item_id",
    "input_audio_buffer.cleared": "",
    "input_audio_buffer.timeout_triggered": "item_id audio_start_ms audio_end_ms",
    "response.created": "response",
    "response.done": "response",
    "response.output_item.added": "response_id output_index item",
    "response.output_item.done": "response_id output_index item",
    "response.content_part.added": f"{_PLACE} part",
    "response.content_part.done": f"{_PLACE} part",
    "response.output_text.delta": f"{_PLACE} delta",
    "response.output_text.done": f"{_PLACE} text",
    "response.output_audio_transcript.delta": f"{_PLACE} delta",
    "response.output_audio_transcript.done": f"{_PLACE} transcript",
    "response.output_audio.delta": f"{_PLACE} delta",
    "response.output_audio.done": _PLACE,
    "response.function_call_arguments.delta": f"{_CALL} delta",
    "response.function_call_arguments.done": f"{_CALL} name arguments",
    "response.mcp_call_arguments.delta": "response_id item_id output_index delta obfuscation",
    "response.mcp_call_arguments.done": "response_id item_id output_index arguments",
    "response.mcp_call.in_progress": "item_id output_index",
    "response.mcp_call.completed": "item_id output_index",
    "response.mcp_call.failed": "item_id output_index",
    "mcp_list_tools.in_progress": "item_id",
    "mcp_list_tools.completed": "item_id",
    "mcp_list_tools.failed": "item_id",
    "rate_limits.updated": "rate_limits",
}
ITEMS: dict[str, str] = {
    "message": "id object type status role content",
    "function_call": "id object type status name arguments call_id",
    "function_call_output": "id object type status call_id output",
    "mcp_list_tools": "id type server_label tools",
    "mcp_call": "id type server_label name arguments output",
    "mcp_approval_request": "id type server_label name arguments",
    "mcp_approval_response": "id type approval_request_id approve",
}
PARTS: dict[str, str] = {
    "input_text": "text",
    "input_audio": "transcript",
    "input_image": "image_url detail",
    "output_text": "text",
    "output_audio": "transcript",
    "text": "text",
    "audio": "transcript",
}
RESPONSE = (
    "id object status status_details output conversation_id output_modalities max_output_tokens audio.output.format "
    "audio.output.voice usage metadata"
)
_DETAILS = "text_tokens audio_tokens image_tokens"
USAGE = " ".join(
    [
        "total_tokens input_tokens output_tokens input_token_details.cached_tokens",
        *(f"input_token_details.{name}" for name in _DETAILS.split()),
        *(f"input_token_details.cached_tokens_details.{name}" for name in _DETAILS.split()),
        "output_token_details.text_tokens output_token_details.audio_tokens",
    ]
)
_INPUT = "audio.input.format audio.input.transcription audio.input.noise_reduction audio.input.turn_detection"
SESSION: dict[str, str] = {
    "realtime": "id object type model expires_at output_modalities instructions tools tool_choice max_output_tokens "
    f"tracing truncation prompt include {_INPUT} audio.output.format audio.output.voice audio.output.speed",
    "transcription": f"id object type expires_at include {_INPUT}",
}
SERVER_VAD = "type threshold prefix_padding_ms silence_duration_ms idle_timeout_ms create_response interrupt_response"


@functools.cache
def frames() -> dict[str, list[Json]]:
    """All messages by type."""
    found: dict[str, list[Json]] = defaultdict(list)
    for frame in server_frames():
        found[frame["type"]].append(frame)
    return found


def missing(node: Any, names: str, where: str = "") -> list[str]:
    """The dotted names that are not keys of an object."""
    gone = []
    for name in names.split():
        inner = node
        for key in name.split("."):
            if not isinstance(inner, dict) or key not in inner:
                gone.append(f"{where}{name}")
                break
            inner = inner[key]
    return gone


def missing_in_item(item: Json) -> list[str]:
    gone = missing(item, ITEMS[item["type"]], f"{item['type']}.")
    for part in item.get("content") or ():
        gone += missing(part, PARTS[part["type"]], f"{part['type']}.")
    return gone


def missing_in_response(response: Json) -> list[str]:
    gone = missing(response, RESPONSE, "response.")
    if response["status"] != "in_progress":
        gone += missing(response["usage"], USAGE, "usage.")
    if response["status"] in {"cancelled", "incomplete"}:
        gone += missing(response["status_details"], "type reason", "status_details.")
    if response["status"] == "failed":
        gone += missing(response["status_details"], "type error.type error.code error.message", "status_details.")
    return gone + [name for item in response["output"] for name in missing_in_item(item)]


def missing_in_session(session: Json) -> list[str]:
    gone = missing(session, SESSION[session["type"]], "session.")
    detection = session["audio"]["input"]["turn_detection"]
    return gone + (missing(detection, SERVER_VAD, "turn_detection.") if detection else [])


def missing_in(frame: Json) -> list[str]:
    """What a message lacks."""
    gone = missing(frame, f"type event_id {FIELDS[frame['type']]}")
    if "item" in frame:
        gone += missing_in_item(frame["item"])
    if "part" in frame:
        gone += missing(frame["part"], f"type {PARTS[frame['part']['type']]}", "part.")
    if "response" in frame:
        gone += missing_in_response(frame["response"])
    if "session" in frame:
        gone += missing_in_session(frame["session"])
    if frame["type"] == "error":
        gone += missing(frame["error"], "type code message param event_id", "error.")
    elif "error" in frame:
        gone += missing(frame["error"], "type code message", "error.")
    for limit in frame.get("rate_limits") or ():
        gone += missing(limit, "name limit remaining reset_seconds", "rate_limits.")
    return gone


@pytest.mark.parametrize("kind", FIELDS)
def test_every_field_is_said(kind: str) -> None:
    assert frames()[kind], "the server did not say it"
    assert [(gone, frame) for frame in frames()[kind] if (gone := missing_in(frame))] == []


def test_the_list_is_complete() -> None:
    """What the server's source makes is what is looked at here."""
    kinds = {kind.__name__: str(kind.__struct_config__.tag) for kind in ev.SERVER_EVENTS}
    package = Path(realtime_client.__file__).parent
    made = {
        kinds[node.func.attr]
        for folder in ("local", "protocol/server")
        for path in (package / folder).glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in kinds
    }
    assert made - {"conversation.created"} == set(FIELDS), "conversation.created is of the beta shape"


def test_null_and_zero_are_among_what_is_said() -> None:
    """Otherwise the table above would prove little."""
    added = frames()["conversation.item.added"]
    audio = [part for frame in added for part in frame["item"].get("content") or () if part["type"] == "input_audio"]
    assert None in [part["transcript"] for part in audio]
    assert None in [frame["previous_item_id"] for frame in added]
    assert None in [frame["previous_item_id"] for frame in frames()["input_audio_buffer.committed"]]
    assert {0} == {f["content_index"] for f in frames()["conversation.item.input_audio_transcription.delta"]}
    assert 0 in [limit["remaining"] for frame in frames()["rate_limits.updated"] for limit in frame["rate_limits"]]
    done = [frame["response"] for frame in frames()["response.done"]]
    assert {response["status"] for response in done} == {"completed", "cancelled", "failed", "incomplete"}
    assert None in [response["conversation_id"] for response in done]
    assert None in [response["status_details"] for response in done]


def test_what_is_no_field_of_the_protocol_is_not_said() -> None:
    """Some fields are only there to read what other servers say."""
    for frame in (*frames()["response.done"], *frames()["response.created"]):
        assert "error" not in frame
        assert "error" not in frame["response"]
    for frame in frames()["conversation.item.input_audio_transcription.failed"]:
        assert None not in frame["error"].values(), "the strictest schema takes no null here"


def test_the_beta_shape_says_as_much() -> None:
    event = ev.ConversationItemAdded(event_id="e", item=ev.Item(type="message", role="user", content=[]))
    (frame,) = to_frames(event)
    assert b'"previous_item_id":null' in frame
