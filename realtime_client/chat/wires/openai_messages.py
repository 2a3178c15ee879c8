"""A conversation as the messages of a chat completion."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from realtime_client.changes import ToolSpec
from realtime_client.history import Call, Entry, Image, Opaque, Result, Text

from .ask import GONE, Ask, Media


def function(tool: ToolSpec) -> dict[str, Any]:
    """Return a tool as the wire has it."""
    parameters = tool.parameters or {"type": "object", "properties": {}}
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": parameters},
    }


def messages(ask: Ask, provider: str) -> list[dict[str, Any]]:
    """Return a conversation as messages. provider: whose `ProviderState` goes back."""
    told: list[dict[str, Any]] = []
    if ask.instructions:
        told.append({"role": "system", "content": ask.instructions})
    asked_at = last_question(ask.entries)
    for n, entry in enumerate(ask.entries):
        for message in _messages_of(entry, ask.media):
            if message["role"] == "assistant":
                message.update(_state_of(entry, provider, answered=n < asked_at))
            told.append(message)
    if ask.prefill:
        told.append({"role": "assistant", "content": ask.prefill})
    return told


def last_question(entries: tuple[Entry, ...]) -> int:
    """Return where the user spoke last, -1 for nowhere; what follows belongs to the answer that is being made."""
    return max((n for n, entry in enumerate(entries) if entry.role == "user"), default=-1)


def _state_of(entry: Entry, provider: str, *, answered: bool) -> dict[str, Any]:
    """What the provider wants back with its message.

    DeepSeek wants its `reasoning_content` while the tools of one answer are at work, and refuses it afterwards.
    """
    state: dict[str, Any] = {}
    for part in entry.parts:
        kept = part.provider_state
        if isinstance(part, Opaque) and kept is not None and kept.provider == provider and isinstance(kept.data, dict):
            state |= kept.data
    if answered:
        state.pop("reasoning_content", None)
    return state


def _messages_of(entry: Entry, media: Media) -> Iterable[dict[str, Any]]:
    for part in entry.parts:
        if isinstance(part, Result):
            yield {"role": "tool", "tool_call_id": part.call_id, "content": part.output}
    content = _content(entry, media)
    calls = [
        {"id": part.call_id, "type": "function", "function": {"name": part.name, "arguments": part.arguments}}
        for part in entry.parts
        if isinstance(part, Call)
    ]
    if content or calls:
        role = "user" if entry.role == "tool" else entry.role
        yield {"role": role, "content": content or None} | ({"tool_calls": calls} if calls else {})


def _content(entry: Entry, media: Media) -> str | list[dict[str, Any]]:
    """Text alone goes as text, which every server takes; with images it is a list of parts."""
    if not any(isinstance(part, Image) for part in entry.parts):
        return entry.said
    content: list[dict[str, Any]] = []
    for part in entry.parts:
        if isinstance(part, Text) and part.text:
            content.append({"type": "text", "text": part.text})
        elif isinstance(part, Image):
            content.append(_image(part, media))
    return content


def _image(part: Image, media: Media) -> dict[str, Any]:
    image = media(part.media)
    if not isinstance(image, str):
        return {"type": "text", "text": GONE}
    return {"type": "image_url", "image_url": {"url": image} | ({"detail": part.detail} if part.detail else {})}
