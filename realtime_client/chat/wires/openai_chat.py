"""Chat completions, the wire that nearly every server speaks: OpenAI, vLLM, llama.cpp, LM Studio, OpenRouter, and more.

`POST /chat/completions`, answered with server-sent events. Servers differ in what they leave out and where they put it;
each difference that is read here was seen on one of them and has a row in the tests.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from realtime_client.changes import ToolSpec
from realtime_client.history import Call, Entry, Image, Opaque, ProviderState, Result, Text
from realtime_client.updates import Usage

from . import pieces as pc
from .ask import Ask, HttpRequest, Media, ModelInfo, json_request
from .faults import classify
from .reader import CallBuilder, Reader, decode, decode_as
from .thinking import ThinkTags

GONE = "[an image that is no longer kept]"

# --- the request ------------------------------------------------------------------------------------------------------


class OpenAIChat:
    """Chat completions below any base URL."""

    name = "openai"
    prefills = False
    images = True

    def request(self, ask: Ask) -> HttpRequest:
        """Return the request. `ask.without` leaves out what this server refused: `stream_options`, `max_tokens`, ..."""
        return json_request(self.path(ask), self._body(ask), stream=ask.stream)

    def path(self, ask: Ask) -> str:
        """Where below the base URL answers are made."""
        del ask
        return "/chat/completions"

    def _body(self, ask: Ask) -> dict[str, Any]:
        body: dict[str, Any] = {"model": ask.model, "messages": messages(ask), "stream": ask.stream}
        if ask.stream:
            body["stream_options"] = {"include_usage": True}
        if ask.tools:
            body["tools"] = [function(tool) for tool in ask.tools]
            named = ask.tool_choice not in ("auto", "none", "required")
            choice = {"type": "function", "function": {"name": ask.tool_choice}} if named else ask.tool_choice
            body["tool_choice"] = choice
        if ask.max_tokens is not None:
            swapped = "max_completion_tokens" in ask.without
            body["max_tokens" if swapped else "max_completion_tokens"] = ask.max_tokens
        if ask.temperature is not None:
            body["temperature"] = ask.temperature
        body.update(ask.options)
        return {name: value for name, value in body.items() if name not in ask.without}

    def reader(self, stream: str) -> Reader:
        """Return what reads the answer."""
        return ChatReader(stream, self.name)

    def models_request(self) -> HttpRequest | None:
        """Ask for the list of models."""
        return HttpRequest(method="GET", path="/models", headers={"Accept": "application/json"})

    def models(self, body: bytes) -> list[ModelInfo]:
        """Read `{"data": [{"id": ...}]}`. Errors: ValueError."""
        found = msgspec.json.decode(body, type=_Models)
        return [ModelInfo(name=each.id, about=each.owned_by or "") for each in found.data]


class _Model(msgspec.Struct):
    id: str
    owned_by: str | None = None


class _Models(msgspec.Struct):
    data: list[_Model]


def function(tool: ToolSpec) -> dict[str, Any]:
    """Return a tool as the wire has it."""
    parameters = tool.parameters or {"type": "object", "properties": {}}
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": parameters},
    }


def messages(ask: Ask) -> list[dict[str, Any]]:
    """Return a conversation as messages."""
    told: list[dict[str, Any]] = []
    if ask.instructions:
        told.append({"role": "system", "content": ask.instructions})
    for entry in ask.entries:
        told += _messages_of(entry, ask.media)
    if ask.prefill:
        told.append({"role": "assistant", "content": ask.prefill})
    return told


def _messages_of(entry: Entry, media: Media) -> Iterable[dict[str, Any]]:
    results = [part for part in entry.parts if isinstance(part, Result)]
    for result in results:
        yield {"role": "tool", "tool_call_id": result.call_id, "content": result.output}
    content = _content(entry, media)
    calls = [part for part in entry.parts if isinstance(part, Call)]
    if not (content or calls):
        return
    message: dict[str, Any] = {"role": "user" if entry.role == "tool" else entry.role, "content": content or None}
    if calls:
        message["tool_calls"] = [
            {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in calls
        ]
    for part in entry.parts:
        state = part.provider_state
        if isinstance(part, Opaque) and state is not None and state.provider == "openai" and entry.role == "assistant":
            message.update(state.data)
    yield message


def _content(entry: Entry, media: Media) -> str | list[dict[str, Any]]:
    """Text alone goes as text, which every server takes; with images it is a list of parts."""
    texts = [part.text for part in entry.parts if isinstance(part, Text) and part.text]
    if not any(isinstance(part, Image) for part in entry.parts):
        return "".join(texts)
    content: list[dict[str, Any]] = []
    for part in entry.parts:
        if isinstance(part, Text) and part.text:
            content.append({"type": "text", "text": part.text})
        elif isinstance(part, Image):
            image = media(part.media)
            if isinstance(image, str):
                url = {"url": image} | ({"detail": part.detail} if part.detail else {})
                content.append({"type": "image_url", "image_url": url})
            else:
                content.append({"type": "text", "text": GONE})
    return content


# --- the answer -------------------------------------------------------------------------------------------------------


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: Any = None  # text; some servers send the object


class _ToolCall(msgspec.Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct, gc=False):
    content: Any = None  # text; some servers send a list of parts
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_details: Any = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None


class _Choice(msgspec.Struct, gc=False):
    index: int | None = 0
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: dict[str, Any] | None = None
    x_groq: dict[str, Any] | None = None
    timings: dict[str, Any] | None = None
    error: Any = None
    # What an error may look like instead of `error`:
    object: str | None = None
    detail: Any = None
    message: Any = None
    statusCode: Any = None  # noqa: N815 - API Management spells it so
    type: Any = None


_CHUNK = msgspec.json.Decoder(_Chunk)
_REASONS: dict[str, pc.Reason] = {
    "stop": "stop",
    "eos": "stop",
    "end_turn": "stop",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "length": "length",
    "max_tokens": "length",
    "content_filter": "content_filter",
}


class ChatReader(Reader):
    """Reads the answer to a chat completion."""

    def __init__(self, stream: str, provider: str) -> None:
        super().__init__(stream)
        self._provider = provider
        self._tags = ThinkTags()
        self._details: list[Any] = []

    def _message(self, name: str, data: bytes) -> None:
        if data == b"[DONE]":
            if self.finished or self.began:
                self._finish()
            return
        chunk: _Chunk = decode_as(_CHUNK, data)
        choices = chunk.choices
        if not choices or name == "error" or chunk.error:
            if self._refused(chunk, data, name):
                return
        else:
            self._choice(choices)
        if chunk.usage is not None or chunk.timings is not None or chunk.x_groq is not None:
            self._figures(chunk)

    def _refused(self, chunk: _Chunk, data: bytes, name: str) -> bool:
        if chunk.error or chunk.object == "error" or chunk.detail or chunk.statusCode or chunk.type == "error":
            return self._refuse(decode(data))
        if name == "error":
            self._fail(classify(None, "", str(chunk.message or data.decode("utf-8", "replace"))))
            return True
        return False

    def _answer(self, body: bytes) -> None:
        value = decode(body)
        if self._refuse(value):
            return
        chunk: _Chunk = msgspec.convert(value, _Chunk)
        if not chunk.choices:
            raise msgspec.ValidationError("there is no answer in it")
        self._choice(chunk.choices)
        self._figures(chunk)
        self._over("stop")

    def _choice(self, choices: list[_Choice]) -> None:
        choice = choices[0]
        if choice.index and len(choices) == 1:
            return  # one of several answers at once, which nobody asked for
        delta, reason = choice.delta, choice.finish_reason
        if delta is not None:
            if delta.content is not None:
                self._content(delta.content, last=bool(reason))
            if (
                delta.tool_calls is not None
                or delta.reasoning_content is not None
                or delta.reasoning is not None
                or delta.refusal is not None
                or delta.function_call is not None
                or delta.reasoning_details is not None
            ):
                self._more(delta)
        message = choice.message
        if message is not None:
            self._more(message)
            self._rest_of(self._tags.without(_words(message.content)))
        if reason:
            self._reasoned(reason)

    def _reasoned(self, reason: str) -> None:
        if reason == "error":
            self._fail(classify(None, "error", "the provider says no more than that it failed"))
            return
        self._over(_REASONS.get(reason, "other"), reason)

    def _content(self, content: Any, *, last: bool) -> None:
        text = content if type(content) is str else _words(content)
        if not text:
            return
        if self._tags.looking:
            for thinking, words in self._tags.feed(text):
                (self._thinking if thinking else self._text)(words)
        elif last:
            self._last_text(text)
        else:
            self._text(text)

    def _more(self, delta: _Delta) -> None:
        """What is not text."""
        for thought in (delta.reasoning_content, delta.reasoning):
            if isinstance(thought, str) and thought:
                self._thinking(thought)
                break
        if isinstance(delta.reasoning_details, list):
            self._details += delta.reasoning_details
        if delta.refusal:
            self._text(delta.refusal)
            self._reason = "refusal", ""
        for call in delta.tool_calls or ():
            self._tool(call)
        if delta.function_call is not None:
            self._tool(_ToolCall(index=0, function=delta.function_call))

    def _tool(self, call: _ToolCall) -> None:
        said = call.function or _Function()
        arguments = said.arguments
        if arguments is None:
            arguments = ""
        elif not isinstance(arguments, str):
            arguments = msgspec.json.encode(arguments).decode()
        self._call(self._key_of(call), call.id or "", said.name or "", arguments)

    def _key_of(self, call: _ToolCall) -> object:
        """Tell calls apart by index; without one, a new id is a new call, and anything else the call being made."""
        if call.index is not None:
            return call.index
        last: CallBuilder | None = self._calls[-1] if self._calls else None
        if last is None or (call.id and call.id != last.call_id):
            return call.id or object()
        return last.key

    def _figures(self, chunk: _Chunk) -> None:
        usage = chunk.usage or (chunk.x_groq or {}).get("usage")
        if isinstance(usage, dict):
            self._used(usage_of(usage))
        timings = chunk.timings
        if timings is not None:
            self._give(
                pc.TimingsPiece,
                pc.Timings(prompt_s=_seconds(timings, "prompt_ms"), generate_s=_seconds(timings, "predicted_ms")),
            )

    def _finish(self) -> None:
        for thinking, words in self._tags.end():
            (self._thinking if thinking else self._text)(words)
        if self._details:
            state = ProviderState(provider=self._provider, data={"reasoning_details": self._details})
            self._opaque(state)
        super()._finish()

    def _end(self) -> None:
        if self._whole is None and not self.over:
            self._take(self._frames.end())
        super()._end()


def _words(content: Any) -> str:
    """Text, or the texts of a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return ""


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else 0


def usage_of(usage: dict[str, Any]) -> Usage:
    """Read `{"prompt_tokens": ..., "completion_tokens": ..., "prompt_tokens_details": {"cached_tokens": ...}}`."""
    given = usage.get("prompt_tokens_details")
    details = given if isinstance(given, dict) else {}
    taken, made = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    cached = _count(details.get("cached_tokens"))
    return Usage(
        input_tokens=taken,
        output_tokens=made,
        total_tokens=_count(usage.get("total_tokens")) or taken + made,
        input_text=taken,
        cached=cached,
        cached_text=cached,
        output_text=made,
    )


def _seconds(timings: dict[str, Any], name: str) -> float | None:
    value = timings.get(name)
    return value / 1000 if isinstance(value, int | float) and not isinstance(value, bool) else None
