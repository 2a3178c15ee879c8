"""Ollama's own chat: `POST /api/chat`, answered with JSON by lines.

Not its OpenAI-compatible one, which does not take the context length (`num_ctx`): Ollama's default is small, and what
does not fit is cut silently, the instructions and tools first.
"""

from __future__ import annotations

import base64
import urllib.parse
from collections.abc import Iterable
from typing import Any

import msgspec

from realtime_client.history import Call, Entry, Image, ProviderState, Result, Text
from realtime_client.updates import Usage

from . import pieces as pc
from .ask import GONE, Ask, HttpRequest, Media, ModelInfo, json_request
from .framing import JsonLines
from .openai_messages import function, last_question
from .reader import Reader, count, decode, decode_as, json_text
from .surrogates import mended
from .thinking import TaggedReader

_NDJSON = "application/x-ndjson"

# --- the request ------------------------------------------------------------------------------------------------------


class Ollama:
    """A server of Ollama."""

    name = "ollama"
    prefills = False
    images = True

    def request(self, ask: Ask) -> HttpRequest:
        """Return the request. `ask.without` leaves out what this model refused: `think`."""
        body: dict[str, Any] = {"model": ask.model, "messages": _messages(ask), "stream": ask.stream}
        if tools := _tools(ask):
            body["tools"] = tools
        if ask.think is not None:
            body["think"] = ask.think
        named = {"num_ctx": ask.context, "num_predict": ask.max_tokens, "temperature": ask.temperature}
        options = {name: value for name, value in named.items() if value is not None}
        more = dict(ask.options)
        options |= more.pop("options", {})
        body |= {"options": options} | more if options else more
        body = {name: value for name, value in body.items() if name not in ask.without}
        return json_request("/api/chat", body, stream=ask.stream, accept=_NDJSON)

    def reader(self, stream: str) -> Reader:
        """Return what reads the answer."""
        return OllamaReader(stream)

    def models_request(self) -> HttpRequest | None:
        """Ask which models are on the machine."""
        return _get("/api/tags")

    def models(self, body: bytes) -> list[ModelInfo]:
        """Read `{"models": [{"name": ..., "details": {...}}]}`. Errors: ValueError."""
        found = msgspec.json.decode(body, type=_Models)
        return [
            ModelInfo(name=each.name, about=" ".join(filter(None, (each.details.size, each.details.quantization))))
            for each in found.models
        ]


class _Details(msgspec.Struct, frozen=True):
    size: str | None = msgspec.field(default=None, name="parameter_size")
    quantization: str | None = msgspec.field(default=None, name="quantization_level")


class _Model(msgspec.Struct):
    name: str
    details: _Details = _Details()


class _Models(msgspec.Struct):
    models: list[_Model]


def _get(path: str) -> HttpRequest:
    return HttpRequest(method="GET", path=path, headers={"Accept": "application/json"})


def show_request(model: str) -> HttpRequest:
    """Ask what a model is and can do."""
    return json_request("/api/show", {"model": model}, stream=False)


def context_and_abilities(body: bytes) -> tuple[int | None, tuple[str, ...]]:
    """Read the answer: how many tokens the model can read, None if it is not told; what it can do, in Ollama's words.

    `{"model_info": {"llama.context_length": 131072}, "capabilities": ["completion", "tools"]}`. Errors: ValueError.
    """
    shown = msgspec.json.decode(body, type=_Shown)
    lengths = [count(value) for name, value in (shown.model_info or {}).items() if name.endswith(".context_length")]
    return max(lengths, default=0) or None, tuple(shown.capabilities or ())


class _Shown(msgspec.Struct):
    model_info: dict[str, Any] | None = None
    capabilities: list[str] | None = None


def ps_request() -> HttpRequest:
    """Ask which models are in memory."""
    return _get("/api/ps")


def loaded(body: bytes, model: str) -> bool:
    """Whether a model is in memory, by the answer. A name without a tag is that of its `latest`. Errors: ValueError."""
    names = {each.name for each in msgspec.json.decode(body, type=_Models).models}
    return bool(names & {model, f"{model}:latest"})


def _tools(ask: Ask) -> list[dict[str, Any]]:
    """The tools to choose from. The wire has no choice: who may call none is shown none."""
    if ask.tool_choice == "none":
        return []
    named = [tool for tool in ask.tools if tool.name == ask.tool_choice]
    return [function(tool) for tool in named or ask.tools]


def _messages(ask: Ask) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    if ask.instructions:
        told.append({"role": "system", "content": ask.instructions})
    names: dict[str, str] = {}
    asked_at = last_question(ask.entries)
    for n, entry in enumerate(ask.entries):
        names |= {part.call_id: part.name for part in entry.parts if isinstance(part, Call)}
        told += _messages_of(entry, ask.media, names, answered=n < asked_at)
    if ask.prefill:
        told.append({"role": "assistant", "content": ask.prefill})
    return told


def _messages_of(entry: Entry, media: Media, names: dict[str, str], *, answered: bool) -> Iterable[dict[str, Any]]:
    message: dict[str, Any] = {"role": "user" if entry.role == "tool" else entry.role, "content": ""}
    calls: list[dict[str, Any]] = []
    images: list[str] = []
    for part in entry.parts:
        if isinstance(part, Result):
            name = part.name or names.get(part.call_id, "")
            yield {"role": "tool", "tool_name": name, "tool_call_id": part.call_id, "content": part.output}
        elif isinstance(part, Text):
            message["content"] += part.text
        elif isinstance(part, Call):
            calls.append({"id": part.call_id, "function": {"name": part.name, "arguments": _object(part.arguments)}})
        elif isinstance(part, Image):
            image = _base64(media(part.media))
            images += [image] if image else []
            message["content"] += "" if image else GONE
        elif not answered and part.provider_state is not None and part.provider_state.provider == Ollama.name:
            message |= part.provider_state.data
    message |= ({"images": images} if images else {}) | ({"tool_calls": calls} if calls else {})
    if message["content"] or len(message) > 2:
        yield message


def _object(arguments: str) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(arguments)
    except msgspec.DecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _base64(image: str | bytes | None) -> str:
    """An image as the wire takes it: bare base64. It fetches no addresses."""
    if isinstance(image, bytes):
        return base64.b64encode(image).decode()
    if image is None or not image.startswith("data:"):
        return ""
    kind, _, data = image.partition(",")
    return data if kind.endswith(";base64") else base64.b64encode(urllib.parse.unquote_to_bytes(data)).decode()


# --- the answer -------------------------------------------------------------------------------------------------------


class _Function(msgspec.Struct, gc=False):
    name: str = ""
    arguments: Any = None


class _ToolCall(msgspec.Struct, gc=False):
    function: _Function
    id: Any = None


class _Message(msgspec.Struct, gc=False):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Line(msgspec.Struct, gc=False):
    message: _Message | None = None
    done: bool = False
    done_reason: str | None = None
    load_duration: Any = None  # all durations in nanoseconds; what is 0 is left out
    prompt_eval_count: Any = None
    prompt_eval_duration: Any = None
    eval_count: Any = None
    eval_duration: Any = None
    error: Any = None


class _PlainMessage(msgspec.Struct, gc=False):
    content: str
    thinking: None = None
    tool_calls: None = None


class _PlainLine(msgspec.Struct, gc=False):
    """What nearly all of an answer consists of: a piece of text. Whatever else a line may hold does not fit in here."""

    message: _PlainMessage
    done: bool = False
    error: None = None


_LINE = msgspec.json.Decoder(_Line)
_decode_plain = msgspec.json.Decoder(_PlainLine).decode
_REASONS: dict[str, pc.Reason] = {"stop": "stop", "": "stop", "length": "length"}


class OllamaReader(TaggedReader):
    """Reads an answer of Ollama."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._thoughts: list[str] = []

    def _framing(self) -> JsonLines:
        return JsonLines()

    def _message(self, name: str, data: bytes) -> None:
        del name
        if self._plain:
            try:
                plain = _decode_plain(data)
            except ValueError:
                self._plain = False
            else:
                if not plain.done:
                    self._text(plain.message.content)
                    return
        self._any_line(data)

    def _any_line(self, data: bytes) -> None:
        line: _Line = decode_as(_LINE, data)
        if line.error or (line.message is None and not line.done):
            if self._refuse(decode(data)):
                return
            raise msgspec.ValidationError("it is no part of an answer")
        if line.message is not None:
            self._said_in(line.message, last=line.done)
        if line.done:
            self._done(line)

    def _answer(self, body: bytes) -> None:
        self._message("", body)

    def _said_in(self, message: _Message, *, last: bool) -> None:
        if message.thinking:
            self._thinking(message.thinking)
            self._thoughts.append(message.thinking)
        if message.content:
            self._content(message.content, last=last)
            self._plain = not (last or self._tags.looking)
        for call in message.tool_calls or ():
            self._tool(call, again=last)

    def _tool(self, call: _ToolCall, *, again: bool) -> None:
        """Take a call, which comes whole. again: it may be one that has come before."""
        name, arguments = call.function.name, call.function.arguments
        text = arguments if isinstance(arguments, str) else json_text({} if arguments is None else arguments)
        if again and any(made.name == name and made.arguments == text for made in self._calls):
            return
        self._call(object(), str(call.id or ""), name, text)

    def _done(self, line: _Line) -> None:
        taken, made = count(line.prompt_eval_count), count(line.eval_count)
        if taken or made:
            total = taken + made
            figures = Usage(
                input_tokens=taken, output_tokens=made, total_tokens=total, input_text=taken, output_text=made
            )
            self._used(figures)
        times = map(_seconds, (line.load_duration, line.prompt_eval_duration, line.eval_duration))
        timings = pc.Timings(*times)
        if timings != pc.Timings():
            self._give(pc.TimingsPiece, timings)
        reason = line.done_reason or ""
        self._over(_REASONS.get(reason, "other"), reason)
        self._finish()

    def _finish(self) -> None:
        if self._thoughts and self._calls:  # it goes on thinking where the tools' results find it
            state = ProviderState(provider=Ollama.name, data={"thinking": mended("".join(self._thoughts))})
            self._opaque(state)
        super()._finish()


def _seconds(duration_ns: Any) -> float | None:
    return count(duration_ns) / 1e9 or None
