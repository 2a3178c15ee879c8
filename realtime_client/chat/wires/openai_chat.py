"""Chat completions, the wire that nearly every server speaks: OpenAI, vLLM, llama.cpp, LM Studio, OpenRouter, and more.

`POST /chat/completions`, answered with server-sent events. Servers differ in what they leave out and where they put it;
each difference that is read here was seen on one of them and has a row in the tests.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from realtime_client.updates import Usage

from . import pieces as pc
from .ask import Ask, HttpRequest, ModelInfo, json_request
from .openai_messages import function, messages
from .reader import CallBuilder, Reader, converted, count, decode, decode_as, json_text, wanted_back
from .surrogates import mended
from .thinking import TaggedReader, without_thought


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
        body: dict[str, Any] = {"model": ask.model, "messages": messages(ask, self.name), "stream": ask.stream}
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
        if ask.think is False or isinstance(ask.think, str):
            body["reasoning_effort"] = ask.think or "none"
        body.update(ask.options)
        return {name: value for name, value in body.items() if name not in ask.without}

    def reader(self, stream: str) -> Reader:
        """Return what reads the answer."""
        return ChatReader(stream, self.name)

    def models_request(self) -> HttpRequest | None:
        """Ask for the list of models."""
        return HttpRequest(method="GET", path="/models", headers={"Accept": "application/json"})

    def models(self, body: bytes) -> list[ModelInfo]:
        """Read `{"data": [{"id": ...}]}`, or the list alone. Errors: ValueError."""
        found = msgspec.json.decode(body, type=_Models | list[_Model])
        return [each.info for each in (found.data if isinstance(found, _Models) else found)]


class _Model(msgspec.Struct):
    id: str
    owned_by: Any = None
    max_model_len: Any = None  # vLLM
    context_length: Any = None  # OpenRouter
    max_context_length: Any = None  # LM Studio
    meta: Any = None  # llama.cpp

    @property
    def info(self) -> ModelInfo:
        trained = self.meta.get("n_ctx_train") if isinstance(self.meta, dict) else None
        told = (self.max_model_len, self.context_length, self.max_context_length, trained)
        context = next((each for each in map(count, told) if each), None)
        return ModelInfo(name=self.id, about=self.owned_by if isinstance(self.owned_by, str) else "", context=context)


class _Models(msgspec.Struct):
    data: list[_Model]


# --- the answer -------------------------------------------------------------------------------------------------------


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: Any = None  # text; some servers send the object


class _ToolCall(msgspec.Struct, gc=False):
    index: Any = None
    id: Any = None
    function: _Function | None = None


class _Delta(msgspec.Struct, gc=False):
    content: Any = None  # text; some servers send a list of parts
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_details: Any = None
    refusal: Any = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None


class _Choice(msgspec.Struct, gc=False):
    index: Any = 0
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: Any = None
    error: Any = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: Any = None
    x_groq: Any = None
    timings: Any = None
    error: Any = None


class _PlainDelta(msgspec.Struct, gc=False):
    content: str
    reasoning_content: None = None
    reasoning: None = None
    reasoning_details: None = None
    refusal: None = None
    tool_calls: None = None
    function_call: None = None


class _PlainChoice(msgspec.Struct, gc=False):
    delta: _PlainDelta
    index: Literal[0] = 0
    finish_reason: None = None
    message: None = None
    error: None = None


class _PlainChunk(msgspec.Struct, gc=False):
    """What nearly all of an answer consists of: a piece of text. Whatever else a chunk may hold does not fit in here.

    So the decoder makes every check, and much faster than it can be made here.
    """

    choices: tuple[_PlainChoice]
    usage: None = None
    error: None = None


_CHUNK = msgspec.json.Decoder(_Chunk)
_decode, _decode_plain = _CHUNK.decode, msgspec.json.Decoder(_PlainChunk).decode
_FAILED = "the server says no more than that it failed"
_LONGEST_MS = 1e9  # what is longer, or no number, is no time that anything took
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


class ChatReader(TaggedReader):
    """Reads the answer to a chat completion."""

    def __init__(self, stream: str, provider: str) -> None:
        super().__init__(stream)
        self._provider = provider
        self._state: dict[str, Any] = {}  # what the provider wants back
        self._thoughts: list[str] = []
        self._at_index: dict[int, CallBuilder] = {}

    def _message(self, name: str, data: bytes) -> None:
        if name == "error":
            self._error_event(data)
            return
        if self._plain:
            try:
                text = _decode_plain(data).choices[0].delta.content
            except ValueError:
                self._plain = False
            else:
                if not text.isascii() or self._halves.half:
                    self._text(text)
                elif text:  # nearly always: what `_text` does, without the call, which would cost as much again
                    self._said.append(text)
                    self._out.append(pc.TextPiece(self.stream, self._n, self._at_s, text))
                    self._n += 1
                return
        self._any_message(data)

    def _any_message(self, data: bytes) -> None:
        try:
            chunk: _Chunk = _decode(data)
        except ValueError:
            if self._is_end(data):
                return
            chunk = decode_as(_CHUNK, data)
        choices = chunk.choices
        if not choices or chunk.error:
            if self._refuse(decode(data)):
                return
        else:
            self._choice(choices)
        if chunk.usage is not None or self.finished:
            self._plain = False
            self._figures(chunk)

    def _is_end(self, data: bytes) -> bool:
        """Take what is no chunk: the mark at the end, or errors that come as a list."""
        if data.strip() != b"[DONE]":
            return self._refuse(decode(data))
        if self.finished or self.began:
            self._finish()
        return True

    def _error_event(self, data: bytes) -> None:
        try:
            value = decode(data)
        except msgspec.DecodeError:
            value = data.decode("utf-8", "replace")
        if not self._refuse(value):
            self._refuse({"error": value or _FAILED})

    def _answer(self, body: bytes) -> None:
        value = decode(body)
        if self._refuse(value):
            return
        chunk: _Chunk = converted(value, _Chunk)
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
            content = delta.content
            if content:
                text = content if type(content) is str else _words(content)
                if reason or self._tags.looking:
                    self._content(text, last=bool(reason))
                else:
                    self._text(text)
                    self._plain = True
            if (
                delta.tool_calls is not None
                or delta.reasoning_content is not None
                or delta.reasoning is not None
                or delta.refusal is not None
                or delta.function_call is not None
                or delta.reasoning_details is not None
            ):
                self._more(delta)
        if choice.message is not None:
            self._all(choice.message)
        if reason or choice.error:
            self._reasoned(reason, choice.error)

    def _all(self, message: _Delta) -> None:
        """Take a whole message: all of an answer, or all of it once more after its pieces."""
        if not self.began:
            self._more(msgspec.structs.replace(message, tool_calls=None, function_call=None))
            self._content(_words(message.content))
        else:
            self._settle()
            so_far, text = self._so_far(), without_thought(_words(message.content))
            if text.startswith(so_far):
                self._text(text[len(so_far) :])
        if not self._calls:
            self._tools(message)

    def _reasoned(self, reason: Any, error: Any) -> None:
        if error or reason == "error":
            self._refuse({"error": error or _FAILED})
        else:
            self._over(_REASONS.get(str(reason), "other"), str(reason))

    def _more(self, delta: _Delta) -> None:
        """What is not text."""
        thought = delta.reasoning_content
        if isinstance(thought, str) and thought:
            self._thinking(thought)
            self._thoughts.append(thought)
        elif isinstance(delta.reasoning, str):
            self._thinking(delta.reasoning)
        if isinstance(delta.reasoning_details, list):
            self._state.setdefault("reasoning_details", []).extend(delta.reasoning_details)
        if isinstance(delta.refusal, str) and delta.refusal:
            self._text(delta.refusal)
            self._reason = "refusal", ""
        self._tools(delta)

    def _tools(self, delta: _Delta) -> None:
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
            arguments = json_text(arguments)
        call_id = "" if call.id is None else str(call.id)
        index = call.index if type(call.index) is int else None
        made = self._being_made(index, call_id, said.name)
        made = self._call(made.key if made else object(), call_id, said.name or "", arguments)
        if index is not None:
            self._at_index[index] = made

    def _being_made(self, index: int | None, call_id: str, name: str | None) -> CallBuilder | None:
        """Find the call of which this is more: by index, where there is one; else a new id begins a new call.

        Some servers give all calls index 0: there, a whole call is over when another id comes with a name.
        """
        if index is not None:
            made = self._at_index.get(index)
            over = made is not None and name and call_id not in ("", made.call_id) and made.pieces and made.whole
            return None if over else made
        made = self._calls[-1] if self._calls else None
        return made if made is not None and call_id in ("", made.call_id) else None

    def _figures(self, chunk: _Chunk) -> None:
        usage = chunk.usage
        if not usage and isinstance(chunk.x_groq, dict):
            usage = chunk.x_groq.get("usage")
        if isinstance(usage, dict) and usage:
            self._used(usage_of(usage))
        if timings := timings_of(chunk.timings):
            self._give(pc.TimingsPiece, timings)

    def _finish(self) -> None:
        if self._thoughts and self._calls:  # wanted back with calls only
            self._state["reasoning_content"] = mended("".join(self._thoughts))
        if self._state:
            self._opaque(wanted_back(self._provider, self._state))
        super()._finish()


def _words(content: Any) -> str:
    """Text, or the texts of a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return ""


def usage_of(usage: dict[str, Any]) -> Usage:
    """Read `{"prompt_tokens": ..., "completion_tokens": ..., "prompt_tokens_details": {"cached_tokens": ...}}`."""
    given = usage.get("prompt_tokens_details")
    details = given if isinstance(given, dict) else {}
    taken, made = count(usage.get("prompt_tokens")), count(usage.get("completion_tokens"))
    cached = count(details.get("cached_tokens")) or count(usage.get("prompt_cache_hit_tokens"))  # DeepSeek
    return Usage(
        input_tokens=taken,
        output_tokens=made,
        total_tokens=count(usage.get("total_tokens")) or taken + made,
        input_text=taken,
        cached=cached,
        cached_text=cached,
        output_text=made,
    )


def timings_of(timings: Any) -> pc.Timings | None:
    """Read llama.cpp's `{"prompt_ms": ..., "predicted_ms": ...}`; None for what is none."""
    if not isinstance(timings, dict):
        return None
    return pc.Timings(prompt_s=_seconds(timings, "prompt_ms"), generate_s=_seconds(timings, "predicted_ms"))


def _seconds(timings: dict[str, Any], name: str) -> float | None:
    value = timings.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _LONGEST_MS:
        return value / 1000
    return None
