"""Mistakes that the service refuses are refused here, with the same kind of error; `docs/local-server.md` lists them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from local_helpers import Drive

Json = dict[str, Any]

PAGE = Path(__file__).resolve().parent.parent / "docs" / "local-server.md"
PNG = "data:image/png;base64,"
PIXEL = PNG + base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(16)).decode()
ADD: Json = {"type": "function", "name": "add"}
SHOP: Json = {"type": "mcp", "server_label": "shop", "server_url": "https://example.org/mcp"}


class Mistake(NamedTuple):
    """A message that is refused, how the page names it, and what the error says."""

    name: str
    message: Json
    code: str
    param: str | None


def session(**settings: Any) -> Json:
    return {"type": "session.update", "session": {"type": "realtime", **settings}}


def sound(side: str, **settings: Any) -> Json:
    return session(audio={side: settings})


def vad(**settings: Any) -> Json:
    return sound("input", turn_detection=settings)


def response(**settings: Any) -> Json:
    return {"type": "response.create", "response": settings}


def item(**fields: Any) -> Json:
    return {"type": "conversation.item.create", "item": fields}


def part(role: str = "user", **fields: Any) -> Json:
    return item(type="message", role=role, content=[fields])


def image(url: str, **fields: Any) -> Json:
    return part(type="input_image", image_url=url, **fields)


def message(**fields: Any) -> Json:
    return {"type": "message", "role": "user", **fields}


TOOLS = "session.tools[0]"
PART = "item.content[0]"
NO_TYPE: Json = {"type": "session.update", "session": {"instructions": "x"}}
MISTAKES = [
    Mistake("an unknown type of message", {"type": "make.coffee"}, "invalid_value", "type"),
    Mistake("a message without its type", {"kind": "x"}, "missing_required_parameter", "type"),
    Mistake("a field of the wrong kind", {"type": "response.create", "response": []}, "invalid_type", "response"),
    Mistake("an unknown field", {"type": "input_audio_buffer.commit", "nonsense": 1}, "unknown_parameter", "nonsense"),
    Mistake("a session without its type", NO_TYPE, "missing_required_parameter", "session.type"),
    Mistake("an unknown setting", session(nonsense=1), "unknown_parameter", "session.nonsense"),
    Mistake("a setting of the beta shape", session(temperature=0.8), "unknown_parameter", "session.temperature"),
    Mistake("instructions that are no text", session(instructions=5), "invalid_type", "session.instructions"),
    Mistake(
        "both modalities", session(output_modalities=["text", "audio"]), "invalid_value", "session.output_modalities"
    ),
    Mistake(
        "a limit of no tokens", session(max_output_tokens=0), "integer_below_min_value", "session.max_output_tokens"
    ),
    Mistake(
        "a limit above 4096 tokens",
        session(max_output_tokens=4097),
        "integer_above_max_value",
        "session.max_output_tokens",
    ),
    Mistake("a limit in words", session(max_output_tokens="many"), "invalid_value", "session.max_output_tokens"),
    Mistake("an unknown voice", sound("output", voice="nobody"), "invalid_value", "session.audio.output.voice"),
    Mistake("a speed below 0.25", sound("output", speed=0.1), "decimal_below_min_value", "session.audio.output.speed"),
    Mistake("a speed above 1.5", sound("output", speed=2), "decimal_above_max_value", "session.audio.output.speed"),
    Mistake(
        "an unknown audio format",
        sound("input", format={"type": "mp3"}),
        "invalid_value",
        "session.audio.input.format.type",
    ),
    Mistake(
        "PCM at another rate",
        sound("input", format={"type": "audio/pcm", "rate": 16_000}),
        "invalid_value",
        "session.audio.input.format.rate",
    ),
    Mistake(
        "an unknown field of an audio format",
        sound("output", format={"type": "audio/pcm", "nonsense": 1}),
        "unknown_parameter",
        "session.audio.output.format.nonsense",
    ),
    Mistake(
        "a rate of G.711",
        sound("input", format={"type": "audio/pcmu", "rate": 8_000}),
        "unknown_parameter",
        "session.audio.input.format.rate",
    ),
    Mistake(
        "an unknown field of a voice",
        sound("output", voice={"id": "voice_1", "nonsense": 1}),
        "unknown_parameter",
        "session.audio.output.voice.nonsense",
    ),
    Mistake("an unknown turn detection", vad(type="guess"), "invalid_value", "session.audio.input.turn_detection.type"),
    Mistake(
        "a threshold above 1",
        vad(type="server_vad", threshold=1.5),
        "decimal_above_max_value",
        "session.audio.input.turn_detection.threshold",
    ),
    Mistake(
        "an idle timeout below 5 s",
        vad(type="server_vad", idle_timeout_ms=10),
        "integer_below_min_value",
        "session.audio.input.turn_detection.idle_timeout_ms",
    ),
    Mistake(
        "a threshold for semantic_vad",
        vad(type="semantic_vad", threshold=0.5),
        "unknown_parameter",
        "session.audio.input.turn_detection.threshold",
    ),
    Mistake(
        "an unknown eagerness",
        vad(type="semantic_vad", eagerness="very"),
        "invalid_value",
        "session.audio.input.turn_detection.eagerness",
    ),
    Mistake(
        "unknown noise reduction",
        sound("input", noise_reduction={"type": "mid"}),
        "invalid_value",
        "session.audio.input.noise_reduction.type",
    ),
    Mistake(
        "an unknown field of transcription",
        sound("input", transcription={"speaker": 1}),
        "unknown_parameter",
        "session.audio.input.transcription.speaker",
    ),
    Mistake("an unknown truncation", session(truncation="some"), "invalid_value", "session.truncation"),
    Mistake("a prompt without an id", session(prompt={}), "missing_required_parameter", "session.prompt.id"),
    Mistake(
        "an unknown effort of reasoning",
        session(reasoning={"effort": "all"}),
        "invalid_value",
        "session.reasoning.effort",
    ),
    Mistake("another model", session(model="another"), "cannot_update_model", "session.model"),
    Mistake("tools that are no list", session(tools={}), "invalid_type", "session.tools"),
    Mistake(
        "a tool without a name", session(tools=[{"type": "function"}]), "missing_required_parameter", f"{TOOLS}.name"
    ),
    Mistake(
        "a tool in the shape of Chat Completions",
        session(tools=[{"type": "function", "function": ADD}]),
        "missing_required_parameter",
        f"{TOOLS}.name",
    ),
    Mistake("a tool's name with a space", session(tools=[ADD | {"name": "add up"}]), "invalid_value", f"{TOOLS}.name"),
    Mistake(
        "a tool's name of 65 characters",
        session(tools=[ADD | {"name": "a" * 65}]),
        "string_above_max_length",
        f"{TOOLS}.name",
    ),
    Mistake("two tools of one name", session(tools=[ADD, ADD]), "invalid_value", "session.tools[1].name"),
    Mistake("an unknown field of a tool", session(tools=[ADD | {"meta": {}}]), "unknown_parameter", f"{TOOLS}.meta"),
    Mistake(
        "parameters that are no schema",
        session(tools=[ADD | {"parameters": "x"}]),
        "invalid_type",
        f"{TOOLS}.parameters",
    ),
    Mistake("an unknown type of tool", session(tools=[{"type": "browser"}]), "invalid_value", f"{TOOLS}.type"),
    Mistake(
        "an MCP server without an address",
        session(tools=[{"type": "mcp", "server_label": "s"}]),
        "missing_required_parameter",
        f"{TOOLS}.server_url",
    ),
    Mistake(
        "an MCP server at no URL",
        session(tools=[SHOP | {"server_url": "shop"}]),
        "invalid_value",
        f"{TOOLS}.server_url",
    ),
    Mistake(
        "two MCP servers of one label", session(tools=[SHOP, SHOP]), "invalid_value", "session.tools[1].server_label"
    ),
    Mistake(
        "an unknown tool choice", session(tools=[ADD], tool_choice="always"), "invalid_value", "session.tool_choice"
    ),
    Mistake(
        "a tool choice that names no tool",
        session(tools=[ADD], tool_choice={"type": "function"}),
        "missing_required_parameter",
        "session.tool_choice.name",
    ),
    Mistake(
        "the choice of a tool that is not offered",
        session(tools=[ADD], tool_choice={"type": "function", "name": "sub"}),
        "invalid_value",
        "session.tool_choice",
    ),
    Mistake(
        "the choice of an MCP server that is not offered",
        session(tools=[ADD], tool_choice={"type": "mcp", "server_label": "s"}),
        "invalid_value",
        "session.tool_choice",
    ),
    Mistake("`required` without tools", session(tool_choice="required"), "invalid_value", "session.tool_choice"),
    Mistake(
        "`required` without tools, for one response",
        response(tool_choice="required"),
        "invalid_value",
        "response.tool_choice",
    ),
    Mistake("an unknown conversation", response(conversation="other"), "invalid_value", "response.conversation"),
    Mistake(
        "17 pairs of metadata", response(metadata={str(n): "" for n in range(17)}), "invalid_value", "response.metadata"
    ),
    Mistake(
        "a reference to no item",
        response(input=[{"type": "item_reference", "id": "x"}]),
        "item_retrieve_invalid_item_id",
        "response.input[0].id",
    ),
    Mistake(
        "an unknown field of an item of one response",
        response(input=[message(content=[], nonsense=1)]),
        "unknown_parameter",
        "response.input[0].nonsense",
    ),
    Mistake(
        "an item of one response without content",
        response(input=[message(content=[]), message()]),
        "missing_required_parameter",
        "response.input[1].content",
    ),
    Mistake("an unknown kind of item", item(type="picture"), "invalid_value", "item.type"),
    Mistake(
        "a message without content", item(type="message", role="user"), "missing_required_parameter", "item.content"
    ),
    Mistake("an unknown role", item(type="message", role="boss", content=[]), "invalid_value", "item.role"),
    Mistake("a part of another role", part("user", type="output_text", text="x"), "invalid_value", f"{PART}.type"),
    Mistake(
        "audio of the assistant", part("assistant", type="output_audio", audio=""), "invalid_value", f"{PART}.type"
    ),
    Mistake("a part without its text", part(type="input_text"), "missing_required_parameter", f"{PART}.text"),
    Mistake(
        "a field of another kind of item",
        item(type="message", role="user", content=[], output="x"),
        "unknown_parameter",
        "item.output",
    ),
    Mistake(
        "an unknown field of an item", item(**message(content=[], nonsense=1)), "unknown_parameter", "item.nonsense"
    ),
    Mistake(
        "an unknown field of a part",
        part(type="input_text", text="x", nonsense=1),
        "unknown_parameter",
        f"{PART}.nonsense",
    ),
    Mistake("a text for a list of parts", item(**message(content="x")), "invalid_type", "item.content"),
    Mistake("an unknown detail of an image", image(PIXEL, detail="nonsense"), "invalid_value", f"{PART}.detail"),
    Mistake("audio that is not base64", part(type="input_audio", audio="%"), "invalid_value", f"{PART}.audio"),
    Mistake("an image by a plain http URL", image("http://example.org/a.png"), "invalid_value", f"{PART}.image_url"),
    Mistake("an image of another kind", image("data:image/svg+xml;base64,AAAA"), "invalid_value", f"{PART}.image_url"),
    Mistake("an image that is not base64", image(PNG + "%%%"), "invalid_value", f"{PART}.image_url"),
    Mistake(
        "an image that is none", image(PNG + base64.b64encode(b"GIF89a").decode()), "invalid_value", f"{PART}.image_url"
    ),
    Mistake(
        "a result of no call",
        item(type="function_call_output", call_id="x", output=""),
        "invalid_tool_call_id",
        "item.call_id",
    ),
    Mistake(
        "an id that is taken",
        item(type="message", role="user", id="one", content=[]),
        "item_create_duplicate_id",
        "item.id",
    ),
    Mistake(
        "an unknown previous item",
        {"previous_item_id": "x"} | part(type="input_text", text=""),
        "item_create_invalid_previous_item_id",
        "previous_item_id",
    ),
    Mistake(
        "deleting an unknown item",
        {"type": "conversation.item.delete", "item_id": "x"},
        "item_delete_invalid_item_id",
        "item_id",
    ),
    Mistake(
        "retrieving an unknown item",
        {"type": "conversation.item.retrieve", "item_id": "x"},
        "item_retrieve_invalid_item_id",
        "item_id",
    ),
    Mistake(
        "truncating an unknown item",
        {"type": "conversation.item.truncate", "item_id": "x", "content_index": 0, "audio_end_ms": 1},
        "item_truncate_invalid_item_id",
        "item_id",
    ),
    Mistake(
        "truncating a text",
        {"type": "conversation.item.truncate", "item_id": "one", "content_index": 0, "audio_end_ms": 1},
        "unsupported_content_type",
        "item_id",
    ),
    Mistake(
        "truncating beyond the audio",
        {"type": "conversation.item.truncate", "item_id": "said", "content_index": 0, "audio_end_ms": 1_001},
        "invalid_value",
        "audio_end_ms",
    ),
    Mistake(
        "an odd number of bytes of PCM",
        {"type": "input_audio_buffer.append", "audio": "AAAA"},
        "invalid_value",
        "audio",
    ),
    Mistake(
        "a commit of less than 100 ms", {"type": "input_audio_buffer.commit"}, "input_audio_buffer_commit_empty", None
    ),
    Mistake("a cancel with nothing to cancel", {"type": "response.cancel"}, "response_cancel_not_active", None),
    Mistake("clearing output audio over a WebSocket", {"type": "output_audio_buffer.clear"}, "invalid_value", "type"),
]


def refused(mistake: Mistake) -> Json | None:
    """The error that a mistake causes in a session with a text and a spoken answer; None when it passes."""
    drive = Drive()
    drive.frame(json.dumps(item(type="message", role="user", id="one", content=[])))
    _, said = drive.answer()
    message = json.dumps({"event_id": "mine", **mistake.message}).replace('"said"', json.dumps(said))
    error = next((event["error"] for event in drive.frame(message) if event["type"] == "error"), None)
    assert drive.text("still here"), "the session goes on"
    return error


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_is_refused(mistake: Mistake) -> None:
    error = refused(mistake)
    assert error is not None, "it passes"
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", mistake.code, mistake.param)
    assert error["event_id"] == "mine"
    assert error["message"]


def test_the_page_lists_every_mistake_as_it_is_answered() -> None:
    table = PAGE.read_text(encoding="utf-8").partition("\n## Mistakes\n")[2]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")][1:]
    listed = {name: now for name, _service, now, _before in rows}
    assert len(listed) == len(rows)
    assert listed == {m.name: f"`{m.code}`" + (f", `{m.param}`" if m.param else "") for m in MISTAKES}
