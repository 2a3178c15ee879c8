"""One answer on its way: from the brain's words through the voice to pieces of text and audio."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

import msgspec

from realtime_client.audio.g711 import encode
from realtime_client.audio.resample import resample
from realtime_client.changes import ToolSpec
from realtime_client.protocol.items import Item
from realtime_client.protocol.server.work import ContextItem, ResponseBrief
from realtime_client.updates import AudioFormat

from .brain import BrainTurn, CallTool, CutShort, Said, Say, Spent, Utterance
from .parts import Parts
from .sentences import sentences, speakable
from .words import Nothing, Words

CHUNK_MS = 100
_CHARS_PER_S = 15.0  # how fast text counts as spoken when there is no audio


class AnswerPiece(msgspec.Struct, frozen=True):
    """A piece of a message. duration_s: how long it takes to say."""

    text: str
    audio: bytes
    duration_s: float


_Names = dict[tuple[str | None, str | None], str]
Piece = AnswerPiece | CallTool | Spent | CutShort | Nothing


def produce(
    brief: ResponseBrief, begin: Callable[[], Iterator[Said | Nothing]], parts: Parts
) -> Generator[Piece, None, None]:
    """Yield the answer in pieces of about 100 ms. Closing the iterator stops brain and voice. begin: asks the brain."""
    words = begin()
    try:
        for said in words:
            if isinstance(said, Say):
                yield from _speak(said.text, brief, parts) if brief.spoken else _write(said.text)
            else:
                yield said
    finally:
        if isinstance(words, Generator | Words):
            words.close()


def turn_of(brief: ResponseBrief, wall_s: float) -> BrainTurn:
    """Translate a conversation of the protocol into what a brain reads."""
    most = brief.settings["max_output_tokens"]
    tools = tuple(
        ToolSpec(
            name=tool["name"],
            description=str(tool.get("description") or ""),
            parameters=tool.get("parameters"),
        )
        for tool in brief.settings["tools"]
        if tool["type"] == "function"
    )
    tools += tuple(
        ToolSpec(name=offer.name, description=offer.tool.description, parameters=offer.tool.input_schema)
        for offer in brief.remote
    )
    tools, choice = _chosen(brief, tools)
    return BrainTurn(
        utterances=tuple(_utterances(brief)),
        instructions=brief.settings["instructions"],
        tools=tools,
        tool_choice=choice,
        wall_s=wall_s,
        spoken=brief.spoken,
        max_tokens=most if isinstance(most, int) else None,
    )


def _chosen(brief: ResponseBrief, tools: tuple[ToolSpec, ...]) -> tuple[tuple[ToolSpec, ...], str]:
    """Return the tools that may be called now, and a brain's tool_choice.

    A server's tools may be chosen all together; where it has none, no call can be demanded.
    """
    choice = brief.settings["tool_choice"]
    if isinstance(choice, dict) and choice["type"] == "mcp":
        label, name = choice["server_label"], choice.get("name")
        names = [each.name for each in brief.remote if each.label == label and name in (None, each.tool.name)]
        return (tuple(tool for tool in tools if tool.name in names), "required") if names else (tools, "auto")
    if isinstance(choice, dict):
        return tools, str(choice["name"])
    return tools, choice if tools or choice != "required" else "auto"


def _utterances(brief: ResponseBrief) -> Iterator[Utterance]:
    """Yield what was said and done, in order.

    A call of a remote tool that was not allowed is told as one that brought that. One that waits is not told.
    """
    names: _Names = {(offer.label, offer.tool.name): offer.name for offer in brief.remote}
    asked = {each.item.id: each.item for each in brief.context if each.item.type == "mcp_approval_request"}
    for context in brief.context:
        item = context.item
        if item.type == "mcp_call":
            output = (item.output or "") if item.error is None else f"The tool failed: {item.error['message']}"
            yield from _remote_call(item, item.approval_request_id or item.id or "", output, names)
        elif item.type == "mcp_approval_response":
            request = asked.get(item.approval_request_id)
            if request is not None and not item.approve:
                refused = f"The user did not allow this call: {item.reason or 'no reason was given'}."
                yield from _remote_call(request, request.id or "", refused, names)
        elif (said := _utterance(context)) is not None:
            yield said


def _remote_call(item: Item, call_id: str, output: str, names: _Names) -> Iterator[Utterance]:
    name = names.get((item.server_label, item.name), item.name or "")
    yield Utterance(role="call", text=item.arguments or "", name=name, call_id=call_id)
    yield Utterance(role="output", text=output, call_id=call_id)


def _utterance(context: ContextItem) -> Utterance | None:
    item = context.item
    if item.type == "message":
        images = tuple(part.image_url for part in item.content or () if part.image_url)
        return Utterance(role=item.role or "user", text=context.said, images=images)
    if item.type == "function_call":
        return Utterance(role="call", text=item.arguments or "", name=item.name or "", call_id=item.call_id or "")
    if item.type == "function_call_output":
        return Utterance(role="output", text=item.output or "", call_id=item.call_id or "")
    return None


def _write(text: str) -> Iterator[AnswerPiece]:
    """Yield a text word by word."""
    for word in _words(text):
        yield AnswerPiece(word, b"", len(word) / _CHARS_PER_S)


def _words(text: str) -> list[str]:
    """Cut after each space; joined, the pieces are the text."""
    return [word for word in text.replace(" ", " \0").split("\0") if word]


def _speak(text: str, brief: ResponseBrief, parts: Parts) -> Iterator[AnswerPiece]:
    """Yield audio in chunks, each with the words that begin in it."""
    output: dict[str, Any] = brief.settings["audio"]["output"]
    voice = output["voice"] if isinstance(output["voice"], str) else ""
    for phrase in sentences(text):
        pcm = b"".join(parts.voice.speak(speakable(phrase), voice=voice, speed=float(output["speed"])))
        audio = _wire_audio(pcm, parts.voice.rate_hz, brief.format)
        yield from _spread(phrase, audio, brief.format)


def _wire_audio(pcm: bytes, rate_hz: int, audio_format: AudioFormat) -> bytes:
    at_rate = resample(pcm, rate_hz, audio_format.rate_hz) if pcm else b""
    return at_rate if audio_format.encoding == "pcm16" else encode(at_rate, audio_format.encoding)


def _spread(phrase: str, audio: bytes, audio_format: AudioFormat) -> Iterator[AnswerPiece]:
    words = _words(phrase)
    size = CHUNK_MS * audio_format.bytes_per_ms
    count = max(1, -(-len(audio) // size))
    given = 0
    for index in range(count):
        until = -(-len(words) * (index + 1) // count)
        chunk = audio[index * size : (index + 1) * size]
        yield AnswerPiece("".join(words[given:until]), chunk, audio_format.ms(len(chunk)) / 1000)
        given = until
