"""Anthropic's messages: `POST /v1/messages`, which llama.cpp, Ollama and several gateways speak, too.

The base URL ends before `/v1` (`https://api.anthropic.com`); the key goes into the header `x-api-key`.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from realtime_client.changes import ToolSpec
from realtime_client.escape import one_line
from realtime_client.history import Call, Image, Part, Result, Text
from realtime_client.updates import Usage

from . import pieces as pc
from .ask import GONE, Ask, HttpRequest, Media, ModelInfo, json_request
from .blocks import BlockReader, Thought, refuses_prefill
from .faults import Fault, classify, error_in
from .reader import Reader, converted, count, decode, decode_as, json_text, wanted_back
from .turns import Turn, arguments_of, completed, image_of, plain_id, schema_of, state_of, tools_of, turns

VERSION = "2023-06-01"
"""Of the API. 2026-10-21 takes no temperature, and servers of others do not know it; answers are the same in both."""

MOST_TOKENS = 8192
"""The wire demands a limit; this one suits every model that is still served."""

# --- the request ------------------------------------------------------------------------------------------------------


class Anthropic:
    """Messages. A `prefill` is the last message; newer models refuse that, which is a fault of the field `prefill`."""

    name = "anthropic"
    prefills = True
    images = True

    def request(self, ask: Ask) -> HttpRequest:
        """Return the request. `ask.without` may name `adaptive`: thinking as models up to 4.5 have it."""
        request = json_request("/v1/messages", self._body(ask), stream=ask.stream)
        return msgspec.structs.replace(request, headers={**request.headers, "anthropic-version": VERSION})

    def _body(self, ask: Ask) -> dict[str, Any]:
        system, told = turns(ask, self.name)
        most_tokens = ask.max_tokens or MOST_TOKENS
        messages = [_message(turn, ask.media) for turn in told]
        body: dict[str, Any] = {"model": ask.model, "max_tokens": most_tokens, "system": system, "messages": messages}
        if ask.prefill.strip():  # it must not end in white space
            messages[-1]["content"][-1]["text"] = messages[-1]["content"][-1]["text"].rstrip()
        if tools := tools_of(ask, told):
            body["tools"] = [_tool(tool) for tool in tools]
            body["tool_choice"] = _choice(ask.tool_choice if ask.tools else "none")
        if ask.temperature is not None:
            body["temperature"] = ask.temperature
        if ask.think is not None and "think" not in ask.without:
            body |= _thinking(ask, most_tokens)
        if ask.stream:
            body["stream"] = True
        return completed(body, ask)

    def reader(self, stream: str) -> Reader:
        """Return what reads the answer."""
        return AnthropicReader(stream)

    def models_request(self) -> HttpRequest | None:
        """Ask for the list of models."""
        headers = {"Accept": "application/json", "anthropic-version": VERSION}
        return HttpRequest(method="GET", path="/v1/models?limit=1000", headers=headers)

    def models(self, body: bytes) -> list[ModelInfo]:
        """Read `{"data": [{"id": ...}]}`. Errors: ValueError."""
        found = msgspec.json.decode(body, type=_Models)
        return [
            ModelInfo(name=each.id, about=each.display_name or "", context=each.max_input_tokens) for each in found.data
        ]


class _Model(msgspec.Struct):
    id: str
    display_name: str | None = None
    max_input_tokens: int | None = None


class _Models(msgspec.Struct):
    data: list[_Model]


def _tool(tool: ToolSpec) -> dict[str, Any]:
    described = {"description": tool.description} if tool.description else {}
    return {"name": tool.name, **described, "input_schema": schema_of(tool)}


def _choice(choice: str) -> dict[str, Any]:
    kinds = {"auto": "auto", "none": "none", "required": "any"}
    return {"type": kinds[choice]} if choice in kinds else {"type": "tool", "name": choice}


def _thinking(ask: Ask, most_tokens: int) -> dict[str, Any]:
    if not ask.think:
        return {"thinking": {"type": "disabled"}}
    if "adaptive" in ask.without:
        return {"thinking": {"type": "enabled", "budget_tokens": max(1024, most_tokens // 2)}}
    effort = {"output_config": {"effort": ask.think}} if isinstance(ask.think, str) else {}
    return {"thinking": {"type": "adaptive", "display": "summarized"}, **effort}


def _message(turn: Turn, media: Media) -> dict[str, Any]:
    content = [_result(call, result) for call, result in turn.results]  # these must come first
    content += [state_of(part, Anthropic.name) or _block(part, media) for part in turn.parts]
    return {"role": "assistant" if turn.assistant else "user", "content": content}


def _result(call: Call, result: Result) -> dict[str, Any]:
    said = {"content": result.output} if result.output.strip() else {}
    return {"type": "tool_result", "tool_use_id": plain_id(call.call_id), **said}


def _block(part: Part, media: Media) -> dict[str, Any]:
    if isinstance(part, Call):
        return {"type": "tool_use", "id": plain_id(part.call_id), "name": part.name, "input": arguments_of(part)}
    if isinstance(part, Image):
        image = image_of(part, media)
        if image is None:
            return {"type": "text", "text": GONE}
        kind, data = image
        if not kind:
            return {"type": "image", "source": {"type": "url", "url": data}}
        return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}
    assert isinstance(part, Text)
    return {"type": "text", "text": part.text}


# --- the answer -------------------------------------------------------------------------------------------------------


class _Delta(msgspec.Struct, gc=False):
    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None
    stop_details: dict[str, Any] | None = None


class _Answer(msgspec.Struct, gc=False):
    content: list[dict[str, Any]] | None = None
    stop_reason: str | None = None
    stop_details: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None


class _Event(msgspec.Struct, gc=False):
    type: str | None = None
    index: int | None = None
    delta: _Delta | None = None
    content_block: dict[str, Any] | None = None
    message: _Answer | str | None = None
    usage: dict[str, Any] | None = None


_EVENT = msgspec.json.Decoder(_Event)
_REASONS: dict[str, pc.Reason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
}
_STATUS = {  # of errors inside of a stream, which come on HTTP 200
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


class AnthropicReader(BlockReader):
    """Reads a message."""

    provider = Anthropic.name

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._figures: dict[str, Any] = {}
        self._block: dict[str, Any] = {}  # the one that is being made, as it began
        self._input = ""  # of a block that only the provider understands

    def _message(self, name: str, data: bytes) -> None:
        event: _Event = decode_as(_EVENT, data)
        kind = event.type or name
        if kind == "content_block_delta":
            if event.delta is not None:
                self._more(event.index, event.delta)
        elif kind == "content_block_start":
            self._open(event.index, event.content_block or {})
        elif kind == "content_block_stop":
            self._close(event.index)
        elif kind == "message_start":
            if isinstance(event.message, _Answer):
                self._spent(event.message.usage)
        elif kind == "message_delta":
            self._spent(event.usage)
            if event.delta is not None and event.delta.stop_reason:
                self._stopped(event.delta.stop_reason, event.delta.stop_details)
        elif kind == "message_stop":
            self._finish()
        elif kind != "ping":
            self._refuse(decode(data))

    def _answer(self, body: bytes) -> None:
        value = decode(body)
        if self._refuse(value):
            return
        answer: _Answer = converted(value, _Answer)
        if answer.content is None:
            raise msgspec.ValidationError("there is no answer in it")
        for index, block in enumerate(answer.content):
            self._open(index, block)
            self._close(index)
        self._spent(answer.usage)
        self._stopped(answer.stop_reason or "end_turn", answer.stop_details)

    # --- blocks -------------------------------------------------------------------------------------------------------

    def _open(self, index: int | None, block: dict[str, Any]) -> None:
        """A block begins; it may be whole already."""
        self._close_block()
        self._block, self._input = block, ""
        kind = block.get("type")
        if kind == "text":
            self._say(str(block.get("text") or ""))
        elif kind == "thinking":
            self._think(str(block.get("thinking") or ""), signature=str(block.get("signature") or ""))
        elif kind == "redacted_thinking":
            self._think(secret=str(block.get("data") or ""))
        elif kind == "tool_use":
            self._call(index, str(block.get("id") or ""), str(block.get("name") or ""), "")

    def _more(self, index: int | None, delta: _Delta) -> None:
        if delta.text:
            self._say(delta.text)
        elif delta.thinking or delta.signature:
            self._think(delta.thinking or "", signature=delta.signature or "")
        elif delta.partial_json:
            if self._block.get("type") == "tool_use":
                self._call(index, "", "", delta.partial_json)
            else:
                self._input += delta.partial_json

    def _close(self, index: int | None) -> None:
        """A block is complete."""
        block, self._block = self._block, {}
        kind = block.get("type")
        if kind == "tool_use":
            builder = next((call for call in self._calls if call.key == index), None)
            if builder is not None and not builder.pieces and block.get("input"):  # it came with its beginning
                self._call(index, "", "", json_text(block["input"]))
        elif kind is not None and kind not in ("text", "thinking", "redacted_thinking"):
            if self._input:
                block = {**block, "input": decode(self._input.encode("utf-8", "replace"))}
            self._opaque(wanted_back(self.provider, block))
        self._close_block()

    def _kept(self, thought: Thought) -> dict[str, Any]:
        if thought.secret:
            return {"type": "redacted_thinking", "data": thought.secret}
        return {"type": "thinking", "thinking": "".join(thought.text), "signature": thought.signature}

    # --- its end ------------------------------------------------------------------------------------------------------

    def _stopped(self, reason: str, details: dict[str, Any] | None) -> None:
        why = one_line(str((details or {}).get("explanation") or ""), 200)
        self._over(_REASONS.get(reason, "other"), f"{reason}: {why}" if why else reason)

    def _spent(self, usage: dict[str, Any] | None) -> None:
        if usage:
            self._figures |= {name: value for name, value in usage.items() if value is not None}
            self._used(usage_of(self._figures))

    def _refuse(self, value: Any) -> bool:
        found = error_in(value)
        if found is None:
            return False
        self._fail(_with_field(classify(_STATUS.get(found[0]), *found)))
        return True

    def _judged(self, body: bytes) -> Fault:
        return _with_field(super()._judged(body))


def _with_field(fault: Fault) -> Fault:
    """Find the field that a model does not take; the words are the server's."""
    if fault.status != 400:
        return fault
    field = ""
    if refuses_prefill(fault.message):
        field = "prefill"
    elif re.search(r"adaptive thinking|thinking\.type: .*adaptive", fault.message, re.IGNORECASE):
        field = "adaptive"
    elif found := re.match(r"[`']?(temperature|thinking|output_config|tool_choice)\b", fault.message):
        field = found[1]
    return msgspec.structs.replace(fault, field=field) if field else fault


def usage_of(figures: dict[str, Any]) -> Usage:
    """Read `usage`, which counts up; its `input_tokens` are without those of the cache, read or written."""
    cached = count(figures.get("cache_read_input_tokens"))
    taken = count(figures.get("input_tokens")) + cached + count(figures.get("cache_creation_input_tokens"))
    made = count(figures.get("output_tokens"))
    return Usage(
        input_tokens=taken,
        output_tokens=made,
        total_tokens=taken + made,
        input_text=taken,
        cached=cached,
        cached_text=cached,
        output_text=made,
    )
