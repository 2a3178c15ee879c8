"""Amazon Bedrock's Converse: `POST /model/MODEL/converse-stream`, and `/converse` for an answer in one piece.

The base URL is the host (`https://bedrock-runtime.REGION.amazonaws.com`); requests are signed, see `chat.aws`. The
stream comes in Amazon's binary framing. Needs the extra `bedrock`. Thinking is asked for by `Ask.options`
(`additionalModelRequestFields`), which each family of models spells differently.
"""

from __future__ import annotations

import struct
import urllib.parse
from collections.abc import Mapping
from typing import Any

import msgspec

from realtime_client.changes import ToolSpec
from realtime_client.errors import MissingExtraError
from realtime_client.history import Call, Image, Part, Result, Text
from realtime_client.updates import Usage

from . import pieces as pc
from .ask import GONE, Ask, HttpRequest, Media, ModelInfo, json_request
from .blocks import BlockReader, Thought, refuses_prefill
from .faults import Fault, classify, malformed, retry_after_s
from .framing import Framing
from .reader import CallBuilder, Reader, count, decode, decode_as, json_text
from .turns import Turn, arguments_of, completed, image_of, plain_id, schema_of, state_of, tools_of, turns

EVENT_STREAM = "application/vnd.amazon.eventstream"

# --- the request ------------------------------------------------------------------------------------------------------


class Bedrock:
    """Converse, for all models on Bedrock. A `prefill` is the last message, which not all of them take."""

    name = "bedrock"
    prefills = True
    images = True

    def request(self, ask: Ask) -> HttpRequest:
        """Return the request. The model is its id, an inference profile's, or an ARN."""
        how = "converse-stream" if ask.stream else "converse"
        path = f"/model/{urllib.parse.quote(ask.model, safe='')}/{how}"
        return json_request(path, self._body(ask), stream=ask.stream, accept=EVENT_STREAM)

    def _body(self, ask: Ask) -> dict[str, Any]:
        system, told = turns(ask, self.name)
        body: dict[str, Any] = {"messages": [_message(turn, ask.media) for turn in told]}
        if system:
            body["system"] = [{"text": system}]
        if ask.prefill.strip():  # it must not end in white space
            last = body["messages"][-1]["content"][-1]
            last["text"] = last["text"].rstrip()
        config: dict[str, Any] = {}
        if ask.max_tokens is not None:
            config["maxTokens"] = ask.max_tokens
        if ask.temperature is not None:
            config["temperature"] = ask.temperature
        body["inferenceConfig"] = config
        body["toolConfig"] = _tools(ask, told)
        return completed(body, ask)

    def reader(self, stream: str) -> Reader:
        """Return what reads the answer. Errors: MissingExtraError."""
        return BedrockReader(stream)

    def models_request(self) -> HttpRequest | None:
        """None: another host, with rights of its own, has the list."""
        return None

    def models(self, body: bytes) -> list[ModelInfo]:
        """There is none. Errors: ValueError, always."""
        raise ValueError(f"Bedrock's runtime lists no models, but here are {len(body)} bytes")


def _tools(ask: Ask, told: list[Turn]) -> dict[str, Any]:
    """The tools: also where none may be called, as long as the history has calls. Not all models take a choice."""
    used = any(turn.calls for turn in told)
    if ask.tool_choice == "none" and not used:
        return {}
    specs = [{"toolSpec": _tool(tool)} for tool in tools_of(ask, told)]
    config: dict[str, Any] = {"tools": specs} if specs else {}
    if ask.tools and ask.tool_choice not in ("auto", "none"):
        required = ask.tool_choice == "required"
        config["toolChoice"] = {"any": {}} if required else {"tool": {"name": ask.tool_choice}}
    return config


def _tool(tool: ToolSpec) -> dict[str, Any]:
    described = {"description": tool.description} if tool.description else {}
    return {"name": tool.name, **described, "inputSchema": {"json": schema_of(tool)}}


def _message(turn: Turn, media: Media) -> dict[str, Any]:
    content = [_result(call, result) for call, result in turn.results]
    content += [state_of(part, Bedrock.name) or _block(part, media) for part in turn.parts]
    return {"role": "assistant" if turn.assistant else "user", "content": content}


def _result(call: Call, result: Result) -> dict[str, Any]:
    said = {"text": result.output} if result.output.strip() else {"json": {"result": result.output}}
    return {"toolResult": {"toolUseId": plain_id(call.call_id), "content": [said]}}


def _block(part: Part, media: Media) -> dict[str, Any]:
    if isinstance(part, Call):
        return {"toolUse": {"toolUseId": plain_id(part.call_id), "name": part.name, "input": arguments_of(part)}}
    if isinstance(part, Image):
        return _image(part, media)
    assert isinstance(part, Text)
    return {"text": part.text}


def _image(part: Image, media: Media) -> dict[str, Any]:
    """An image goes as its bytes, or as an object in S3: Bedrock fetches nothing from the web."""
    kind, data = image_of(part, media) or ("", "")
    if kind:
        form = kind.removeprefix("image/").replace("jpg", "jpeg")
        return {"image": {"format": form, "source": {"bytes": data}}}
    if data.startswith("s3://"):
        form = data.rpartition(".")[2].lower().replace("jpg", "jpeg")
        return {"image": {"format": form, "source": {"s3Location": {"uri": data}}}}
    return {"text": f"[an image at {data}]" if data else GONE}


# --- the answer -------------------------------------------------------------------------------------------------------


class AmazonEvents:
    """Cuts `application/vnd.amazon.eventstream`: (type of event, JSON). `botocore` does it, and keeps the bounds.

    What ends a stream with an error is named `!` and the exception's type; what cannot be cut, `?`, and is the last.
    """

    def __init__(self) -> None:
        try:
            from botocore.eventstream import EventStreamBuffer, ParserError
        except ImportError:
            raise MissingExtraError("botocore, which reads Bedrock's streams,", "bedrock") from None
        self._buffer = EventStreamBuffer()
        # What its parser raises besides, for lengths and types that are none.
        self._errors = (ParserError, struct.error, ValueError, KeyError, IndexError)
        self._broken = False

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """Take bytes; return the messages that are complete."""
        messages: list[tuple[str, bytes]] = []
        if self._broken:
            return messages
        self._buffer.add_data(data)
        try:
            messages.extend(_event(message.headers, message.payload) for message in self._buffer)
        except self._errors as error:
            self._broken = True
            messages.append(("?", str(error).encode()))
        return messages

    def end(self) -> list[tuple[str, bytes]]:
        """Return nothing: what is left is no message."""
        return []


def _event(headers: Mapping[str, Any], payload: bytes) -> tuple[str, bytes]:
    kind = headers.get(":message-type")
    if kind == "error":  # one that the service's model does not know
        said = {"message": str(headers.get(":error-message") or "")}
        return f"!{headers.get(':error-code')}", msgspec.json.encode(said)
    if kind == "exception":
        return f"!{headers.get(':exception-type')}", payload or b"{}"
    return str(headers.get(":event-type") or ""), payload or b"{}"


class _Block(msgspec.Struct, gc=False, rename="camel"):
    content_block_index: int = 0
    start: dict[str, Any] | None = None
    delta: dict[str, Any] | None = None


class _Message(msgspec.Struct, gc=False):
    content: list[dict[str, Any]]


class _Output(msgspec.Struct, gc=False):
    message: _Message


class _Stop(msgspec.Struct, gc=False, rename="camel"):
    stop_reason: str = "end_turn"
    usage: dict[str, Any] | None = None
    output: _Output | None = None


_BLOCK, _STOP = msgspec.json.Decoder(_Block), msgspec.json.Decoder(_Stop)
_REASONS: dict[str, pc.Reason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
_MALFORMED = {"malformed_model_output", "malformed_tool_use"}
_STATUS = {  # of exceptions inside of a stream, which comes on HTTP 200
    "validationexception": 400,
    "accessdeniedexception": 403,
    "resourcenotfoundexception": 404,
    "modeltimeoutexception": 408,
    "modelstreamerrorexception": 424,
    "modelerrorexception": 424,
    "throttlingexception": 429,
    "modelnotreadyexception": 429,
    "internalserverexception": 500,
    "serviceunavailableexception": 503,
}


class BedrockReader(BlockReader):
    """Reads the answer of Converse."""

    provider = Bedrock.name

    def _framing(self) -> Framing:
        return AmazonEvents()

    def _streams(self, begin: bytes) -> bool:
        return begin[:1] in (b"\0", b"\1")  # of the length of a message, of which 24 MiB is the most

    def _message(self, name: str, data: bytes) -> None:
        if name == "contentBlockDelta":
            block: _Block = decode_as(_BLOCK, data)
            self._more(block.content_block_index, block.delta or {})
        elif name == "contentBlockStart":
            block = decode_as(_BLOCK, data)
            self._close_block()
            self._more(block.content_block_index, block.start or {})
        elif name == "contentBlockStop":
            self._close_block()
        elif name == "messageStop":
            self._stopped(decode_as(_STOP, data).stop_reason)
        elif name == "metadata":
            self._spent(decode_as(_STOP, data).usage)
            if self.finished:  # nothing comes after it
                self._finish()
        elif name.startswith("!"):
            self._broken(name[1:], decode(data))
        elif name == "?":
            raise msgspec.ValidationError(f"not Amazon's framing, or damaged: {data.decode()}")

    def _answer(self, body: bytes) -> None:
        answer: _Stop = decode_as(_STOP, body)
        if answer.output is None:
            raise msgspec.ValidationError("there is no answer in it")
        for index, block in enumerate(answer.output.message.content):
            self._more(index, block)
            self._close_block()
        self._spent(answer.usage)
        self._stopped(answer.stop_reason)

    def _more(self, index: int, block: dict[str, Any]) -> None:
        """Take a block, its beginning or more of it: in a whole one the input of a call is an object."""
        if isinstance(text := block.get("text"), str):
            self._say(text)
        elif isinstance(use := block.get("toolUse"), dict):
            given = use.get("input", "")
            text = given if isinstance(given, str) else json_text(given)
            self._call(index, str(use.get("toolUseId") or ""), str(use.get("name") or ""), text)
        elif isinstance(reasoning := block.get("reasoningContent"), dict):
            said = reasoning.get("reasoningText")
            said = said if isinstance(said, dict) else reasoning
            secret = str(reasoning.get("redactedContent") or "")
            self._think(str(said.get("text") or ""), signature=str(said.get("signature") or ""), secret=secret)

    def _kept(self, thought: Thought) -> dict[str, Any]:
        if thought.secret:
            return {"reasoningContent": {"redactedContent": thought.secret}}
        said = {"text": "".join(thought.text), "signature": thought.signature}
        return {"reasoningContent": {"reasoningText": said}}

    def _stopped(self, reason: str) -> None:
        self._close_block()
        said = any(isinstance(part, Text | CallBuilder) for part in self._parts)
        if reason in _MALFORMED and not said:
            self._fail(malformed(f"the model made an answer that its provider cannot read ({reason})"))
        else:
            self._over(_REASONS.get(reason, "other"), reason)

    def _spent(self, usage: dict[str, Any] | None) -> None:
        if usage:
            self._used(usage_of(usage))

    # --- its errors ---------------------------------------------------------------------------------------------------

    def _broken(self, name: str, value: Any) -> None:
        """An exception in the stream. Its name begins with a small letter, that of an HTTP error with a capital."""
        told = value if isinstance(value, dict) else {}
        status = told.get("originalStatusCode") or _STATUS.get(name.lower())
        message = told.get("originalMessage") or told.get("message") or ""
        self._fail(_with_hint(classify(status if isinstance(status, int) else None, name, str(message))))

    def _judged(self, body: bytes) -> Fault:
        """Judge an HTTP error; which one it is stands in a header: `ThrottlingException:http://...`."""
        try:
            value = decode(body)
        except msgspec.DecodeError:
            return super()._judged(body)
        told = value if isinstance(value, dict) else {}
        name = str(self._headers.get("x-amzn-errortype") or told.get("__type") or "")
        name = name.partition(":")[0].rpartition("#")[2]
        message = str(told.get("message") or told.get("Message") or "")
        if not (name or message):  # it is not Amazon that speaks, but a gateway on the way
            return super()._judged(body)
        return _with_hint(classify(self._status, name, message, retry_after_s=retry_after_s(self._headers)))


_HINTS = {
    "accessdeniedexception": "the account needs access to this model, in this region",
    "expiredtokenexception": "the credentials are too old: sign in again (`aws sso login`)",
    "unrecognizedclientexception": "the credentials are not valid for this region",
}


def _with_hint(fault: Fault) -> Fault:
    hint = _HINTS.get(fault.code.lower(), "")
    refused = fault.status == 400 and refuses_prefill(fault.message)
    return msgspec.structs.replace(fault, hint=hint or fault.hint, field="prefill" if refused else fault.field)


def usage_of(figures: dict[str, Any]) -> Usage:
    """Read `usage`; its `inputTokens` are without those of the cache, read or written."""
    cached = count(figures.get("cacheReadInputTokens"))
    taken = count(figures.get("inputTokens")) + cached + count(figures.get("cacheWriteInputTokens"))
    made = count(figures.get("outputTokens"))
    return Usage(
        input_tokens=taken,
        output_tokens=made,
        total_tokens=taken + made,
        input_text=taken,
        cached=cached,
        cached_text=cached,
        output_text=made,
    )
