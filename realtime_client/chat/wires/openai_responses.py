"""OpenAI's Responses: `POST /responses`, answered with typed server-sent events.

Nothing is kept at the server (`store: false`): what its models want back of their reasoning comes encrypted and is sent
again with each question. Messages and calls go back without their ids, so that a conversation may be cut or come from
elsewhere: an id that does not have its reasoning in front of it is refused. `sequence_number` is not relied on: servers
that only speak alike leave it 0, and what an event may have lost, the `.done` that follows brings.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from realtime_client.changes import ToolSpec
from realtime_client.history import Call, Entry, Image, Opaque, ProviderState, Result, Text
from realtime_client.updates import Usage

from . import pieces as pc
from .ask import GONE, Ask, HttpRequest, Media, json_request
from .openai_chat import OpenAIChat, timings_of
from .reader import Reader, count, decode, decode_as, wanted_back

_NAME = "openai-responses"
_ENCRYPTED = "reasoning.encrypted_content"

# --- the request ------------------------------------------------------------------------------------------------------


class OpenAIResponses(OpenAIChat):
    """Responses below any base URL. The list of models is that of chat completions."""

    name = _NAME

    def path(self, ask: Ask) -> str:
        """Where below the base URL answers are made."""
        del ask
        return "/responses"

    def request(self, ask: Ask) -> HttpRequest:
        """Return the request. `ask.without` leaves out what this server refused: `include`, `temperature`, ..."""
        body: dict[str, Any] = {"model": ask.model, "input": _items(ask), "stream": ask.stream, "store": False}
        body["include"] = [_ENCRYPTED]
        if ask.instructions:
            body["instructions"] = ask.instructions
        if ask.tools:
            body["tools"] = [_function(tool) for tool in ask.tools]
            named = ask.tool_choice not in ("auto", "none", "required")
            body["tool_choice"] = {"type": "function", "name": ask.tool_choice} if named else ask.tool_choice
        if ask.max_tokens is not None:
            body["max_output_tokens"] = ask.max_tokens
        if ask.temperature is not None:
            body["temperature"] = ask.temperature
        if ask.think is False:
            body["reasoning"] = {"effort": "none"}
        elif ask.think is not None:
            effort = {"effort": ask.think} if isinstance(ask.think, str) else {}
            body["reasoning"] = effort | {"summary": "auto"}
        body.update(ask.options)
        body = {name: value for name, value in body.items() if name not in ask.without}
        return json_request(self.path(ask), body, stream=ask.stream)

    def reader(self, stream: str) -> Reader:
        """Return what reads the answer."""
        return ResponsesReader(stream)


def _function(tool: ToolSpec) -> dict[str, Any]:
    parameters = tool.parameters or {"type": "object", "properties": {}}
    told = {"type": "function", "name": tool.name, "description": tool.description}
    return told | {"parameters": parameters, "strict": False}


def _items(ask: Ask) -> list[dict[str, Any]]:
    items = [item for entry in ask.entries for item in _items_of(entry, ask.media)]
    if ask.prefill:
        items.append(_message("assistant", [_text("assistant", ask.prefill)], None))
    return items


def _items_of(entry: Entry, media: Media) -> Iterable[dict[str, Any]]:
    """An entry's items in their order; texts and images in a row are one message."""
    role = "user" if entry.role == "tool" else entry.role
    content: list[dict[str, Any]] = []
    state: ProviderState | None = None
    for part in entry.parts:
        if isinstance(part, Image | Text) and (role != "assistant" or not content):
            content += [_image(part, media)] if isinstance(part, Image) else [_text(role, part.text)]
            state = part.provider_state
            continue
        if content:
            yield _message(role, content, state)
            content = []
        if isinstance(part, Text):
            content, state = [_text(role, part.text)], part.provider_state
        elif isinstance(part, Call):
            yield {"type": "function_call", "call_id": part.call_id, "name": part.name, "arguments": part.arguments}
        elif isinstance(part, Result):
            yield {"type": "function_call_output", "call_id": part.call_id, "output": part.output}
        elif isinstance(part, Opaque) and part.provider_state is not None and part.provider_state.provider == _NAME:
            yield part.provider_state.data
    if content:
        yield _message(role, content, state)


def _message(role: str, content: list[dict[str, Any]], state: ProviderState | None) -> dict[str, Any]:
    more = state.data if state is not None and state.provider == _NAME else {}
    return {"type": "message", "role": role, "content": content} | more


def _text(role: str, text: str) -> dict[str, Any]:
    return {"type": "output_text" if role == "assistant" else "input_text", "text": text}


def _image(part: Image, media: Media) -> dict[str, Any]:
    image = media(part.media)
    if not isinstance(image, str):
        return {"type": "input_text", "text": GONE}
    return {"type": "input_image", "image_url": image, "detail": part.detail or "auto"}


# --- the answer -------------------------------------------------------------------------------------------------------


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    delta: Any = None
    text: Any = None
    refusal: Any = None
    arguments: Any = None
    output_index: Any = None
    item_id: Any = None
    summary_index: Any = None
    item: Any = None
    response: Any = None
    error: Any = None
    timings: Any = None  # llama.cpp's, beside the response


_EVENT = msgspec.json.Decoder(_Event)
_INCOMPLETE: dict[str, pc.Reason] = {
    "max_output_tokens": "length",
    "max_tokens": "length",
    "content_filter": "content_filter",
}


class ResponsesReader(Reader):
    """Reads an answer of Responses."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._done_items: set[object] = set()  # their places and ids: some servers leave out one, some change the other

    def _message(self, name: str, data: bytes) -> None:
        if data == b"[DONE]":
            return
        event: _Event = decode_as(_EVENT, data)
        kind = event.type or name
        if kind == "response.output_text.delta":
            self._text(_string(event.delta))
        elif kind == "error" or event.error:
            value = decode(data)
            if not self._refuse(value):
                self._refuse({"error": value})
        else:
            self._other(kind, event)

    def _other(self, kind: str, event: _Event) -> None:
        match kind:
            case "response.output_text.done":
                self._rest_of(_string(event.text))
            case "response.refusal.delta":
                self._refusal(_string(event.delta))
            case "response.refusal.done":
                self._rest_of(_string(event.refusal))
                self._refusal("")
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                self._thinking(_string(event.delta))
            case "response.reasoning_summary_part.added" if event.summary_index:
                self._thinking("\n\n")
            case "response.function_call_arguments.delta":
                self._call(_key(event.output_index, event.item_id), "", "", _string(event.delta))
            case "response.output_item.added":
                self._added(event.output_index, _dict(event.item))
            case "response.output_item.done":
                self._item(event.output_index, _dict(event.item))
            case "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled":
                if timings := timings_of(event.timings):
                    self._give(pc.TimingsPiece, timings)
                self._response(_dict(event.response), kind.removeprefix("response."))

    def _answer(self, body: bytes) -> None:
        value = decode(body)
        if self._refuse(value):
            return
        if not (isinstance(value, dict) and isinstance(value.get("output"), list)):
            raise msgspec.ValidationError("there is no answer in it")
        self._response(value, str(value.get("status") or "completed"))

    def _refusal(self, text: str) -> None:
        self._text(text)
        self._reason = "refusal", ""

    # --- its items ----------------------------------------------------------------------------------------------------

    def _added(self, index: object, item: dict[str, Any]) -> None:
        self._close_text()
        if item.get("type") == "function_call":
            key, call_id = _key(index, item.get("id")), _string(item.get("call_id"))
            self._call(key, call_id, _string(item.get("name")), _string(item.get("arguments")))

    def _item(self, index: object, item: dict[str, Any]) -> None:
        """Take a whole item: what of it has not come yet."""
        places = {place for place in (index, item.get("id")) if isinstance(place, int | str)}
        if places & self._done_items:
            return
        self._done_items |= places
        match item.get("type"):
            case "message":
                self._whole_message(item)
            case "function_call":
                self._whole_call(index, item)
            case "reasoning":
                if item.get("encrypted_content"):
                    self._opaque(wanted_back(_NAME, item))
            case str():  # of a tool of the server's own
                self._opaque(wanted_back(_NAME, item))

    def _whole_message(self, item: dict[str, Any]) -> None:
        content = list(map(_dict, _list(item.get("content"))))
        self._rest_of("".join(_string(part.get("text")) or _string(part.get("refusal")) for part in content))
        if any(part.get("type") == "refusal" for part in content):
            self._refusal("")
        phase = item.get("phase")
        self._close_text(wanted_back(_NAME, {"phase": phase}) if phase else None)

    def _whole_call(self, index: object, item: dict[str, Any]) -> None:
        arguments, call_id = _string(item.get("arguments")), _string(item.get("call_id"))
        key = _key(index, item.get("id"))
        made = next((call for call in self._calls if key == call.key or call_id == call.call_id), None)
        said = "".join(made.pieces) if made else ""
        rest = arguments.removeprefix(said)
        if made is None or not made.name or (rest and rest != arguments) or not said:
            self._call(made.key if made else key, call_id, _string(item.get("name")), rest)

    # --- its end ------------------------------------------------------------------------------------------------------

    def _response(self, response: dict[str, Any], status: str) -> None:
        if isinstance(usage := response.get("usage"), dict):
            self._used(usage_of(usage))
        if status == "failed" or response.get("error"):
            self._refuse({"error": response.get("error") or "the server says no more than that it failed"})
            return
        so_far = self._so_far()
        for index, item in enumerate(map(_dict, _list(response.get("output")))):
            if not (so_far and item.get("type") == "message"):
                self._item(index, item)
        if status == "completed":
            self._over("stop", status)
        else:
            words = _string(_dict(response.get("incomplete_details")).get("reason")) or status
            self._over(_INCOMPLETE.get(words, "other"), words)
        self._finish()


def _key(index: Any, item_id: Any) -> object:
    return item_id if index is None else index


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def usage_of(usage: dict[str, Any]) -> Usage:
    """Read `{"input_tokens": ..., "input_tokens_details": {"cached_tokens": ...}, "output_tokens": ...}`."""
    taken, made = count(usage.get("input_tokens")), count(usage.get("output_tokens"))
    cached = count(_dict(usage.get("input_tokens_details")).get("cached_tokens"))
    return Usage(
        input_tokens=taken,
        output_tokens=made,
        total_tokens=count(usage.get("total_tokens")) or taken + made,
        input_text=taken,
        cached=cached,
        cached_text=cached,
        output_text=made,
    )
