"""A conversation as providers with two roles want it: turns that alternate, results of tools right behind the calls."""

from __future__ import annotations

import base64
import hashlib
import re
import urllib.parse
from collections.abc import Iterable
from typing import Any

import msgspec

from realtime_client.changes import ToolSpec
from realtime_client.history import Call, Entry, Image, Opaque, Part, Result, Text

from .ask import Ask, Media
from .reader import decode

BEGINNING = "[what came before is not told again]"
"""Stands in for the first words of the user where the history that is kept begins with an answer."""


class Turn(msgspec.Struct):
    """What one side said in a row. results: of the calls of the turn before, in the order of the calls."""

    assistant: bool
    parts: list[Part]
    results: list[tuple[Call, Result]]

    @property
    def calls(self) -> list[Call]:
        """The calls of tools in it."""
        return [part for part in self.parts if isinstance(part, Call)]


def turns(ask: Ask, provider: str) -> tuple[str, list[Turn]]:
    """Return what the model was told to be, and the turns, of which the first is the user's.

    Left out is what cannot be sent: blank text, images of the assistant, and what only another provider understands. A
    result stands behind its call even if something was said in between.
    """
    systems = [ask.instructions, *(entry.said for entry in ask.entries if entry.role == "system")]
    told = [_turn_of(entry, provider) for entry in ask.entries if entry.role != "system"]
    if ask.prefill:
        told.append(Turn(assistant=True, parts=[Text(text=ask.prefill)], results=[]))
    told = _answered(_merged(told), ask.entries)
    told = _merged([turn for turn in told if turn.parts or turn.results])
    if told and told[0].assistant:
        told.insert(0, Turn(assistant=False, parts=[Text(text=BEGINNING)], results=[]))
    return "\n\n".join(filter(str.strip, systems)), told


def _turn_of(entry: Entry, provider: str) -> Turn:
    assistant = entry.role == "assistant"
    parts = [part for part in entry.parts if _sendable(part, provider, assistant=assistant)]
    if all(isinstance(part, Opaque) for part in parts):
        parts = []
    return Turn(assistant=assistant, parts=parts, results=[])


def _sendable(part: Part, provider: str, *, assistant: bool) -> bool:
    if isinstance(part, Text):
        return bool(part.text.strip()) or state_of(part, provider) is not None
    if isinstance(part, Image):
        return not assistant
    return assistant and (isinstance(part, Call) or state_of(part, provider) is not None)


def _merged(told: Iterable[Turn]) -> list[Turn]:
    merged: list[Turn] = []
    for turn in told:
        if merged and merged[-1].assistant == turn.assistant:
            merged[-1].parts += turn.parts
            merged[-1].results += turn.results
        else:
            merged.append(turn)
    return merged


def _answered(told: list[Turn], entries: Iterable[Entry]) -> list[Turn]:
    """Give each turn with calls a turn behind it with their results."""
    results: dict[str, list[Result]] = {}
    for entry in entries:
        for part in entry.parts:
            if isinstance(part, Result):
                results.setdefault(part.call_id, []).append(part)
    out: list[Turn] = []
    answers: list[tuple[Call, Result]] = []
    for turn in told:
        if not turn.assistant:
            turn.results, answers = answers, []
        out.append(turn)
        answers += [(call, results[call.call_id].pop(0)) for call in turn.calls if results.get(call.call_id)]
    if answers:
        out.append(Turn(assistant=False, parts=[], results=answers))
    return out


def state_of(part: Part, provider: str) -> Any:
    """Return what this provider wants back with a part; None for nothing."""
    state = part.provider_state
    return state.data if state is not None and state.provider == provider else None


def tools_of(ask: Ask, told: Iterable[Turn]) -> list[ToolSpec]:
    """Return the tools, and a bare one for each that only the history has: calls of tools unknown are refused."""
    known = {tool.name: tool for tool in ask.tools}
    for turn in told:
        for call in turn.calls:
            known.setdefault(call.name, ToolSpec(name=call.name))
    return list(known.values())


def schema_of(tool: ToolSpec) -> dict[str, Any]:
    """Return the JSON schema of a tool's arguments."""
    return tool.parameters or {"type": "object", "properties": {}}


def arguments_of(call: Call) -> dict[str, Any]:
    """Return a call's arguments as the object that they are; what is none, which no wire here keeps, as text in one."""
    try:
        value = decode(call.arguments.encode("utf-8", "replace"))
    except msgspec.DecodeError:
        value = call.arguments
    return value if isinstance(value, dict) else {"arguments": value}


def plain_id(call_id: str) -> str:
    """Return a call's id in the letters that Anthropic and Bedrock take; servers of other wires use more."""
    if re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", call_id):
        return call_id
    return "call_" + hashlib.sha256(call_id.encode("utf-8", "replace")).hexdigest()[:32]


def image_of(image: Image, media: Media) -> tuple[str, str] | None:
    """Return (media type, base64) of an image, or ('', address); None for one that is no longer kept."""
    found = media(image.media)
    if not isinstance(found, str):
        return None
    if not found.startswith("data:"):
        return "", found
    head, _, data = found.removeprefix("data:").partition(",")
    kind, *extras = head.split(";")
    if "base64" not in extras:
        data = base64.b64encode(urllib.parse.unquote_to_bytes(data)).decode()
    return kind.lower() or "image/png", data


def completed(body: dict[str, Any], ask: Ask) -> dict[str, Any]:
    """Add `ask.options` to a body, also inside of its objects, and leave out what the server refused and is empty."""
    for name, value in ask.options.items():
        given = body.get(name)
        body[name] = given | value if isinstance(given, dict) and isinstance(value, dict) else value
    for name, value in body.items():
        if isinstance(value, dict) and name in ("generationConfig", "inferenceConfig"):
            body[name] = {key: each for key, each in value.items() if key not in ask.without}
    return {name: value for name, value in body.items() if name not in ask.without and value not in ({}, [], "")}
