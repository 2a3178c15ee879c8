"""Entries of a conversation as items to create in a new session. Pure.

This wire takes from a client: text of everybody, images and sound of the user, calls and their results, those of remote
tools as if they were this client's. It never takes the model's own sound: what it said goes as text. What only another
provider understands is left out.
"""

from __future__ import annotations

from collections.abc import Callable

from realtime_client.history import Call, Entry, Image, Part, Result, Text

from .items import ContentPart, Item, function_call, function_output

_GONE = "[an image that is no longer kept]"
Kept = Callable[[str], str | bytes | None]
"""What a reference stands for: an image, the user's sound, or None for what is no longer kept."""


def items_of(entry: Entry, kept: Kept) -> list[Item]:
    """Return the items that say what an entry says; best one that `history.replay` chose.

    They have no ids: in a new session they are others. An entry of several kinds of parts is several items. The user's
    speech goes as text, or as sound where nobody wrote it down.
    """
    items: list[Item] = []
    for part in entry.parts:
        if isinstance(part, Call):
            items.append(function_call(part.name, part.arguments, part.call_id))
        elif isinstance(part, Result):
            items.append(function_output(part.call_id, part.output))
        elif (content := _content(part, entry.role, kept)) is not None:
            _add_content(items, entry.role, content)
    return items


def _add_content(items: list[Item], role: str, content: ContentPart) -> None:
    """Put a part into the message before it, or begin one."""
    last = items[-1] if items else None
    if last is not None and last.type == "message" and last.content is not None:
        last.content.append(content)
    else:
        role = role if role in {"system", "assistant"} else "user"
        items.append(Item(type="message", role=role, content=[content]))


def _content(part: Part, role: str, kept: Kept) -> ContentPart | None:
    """One part of a message; None for what this wire does not take."""
    kind = "output_text" if role == "assistant" else "input_text"
    if isinstance(part, Text):
        text = part.text if part.heard is None else part.heard.text
        if text.strip():
            return ContentPart(type=kind, text=text)
        sound = kept(part.media) if part.media and role == "user" else None
        return ContentPart(type="input_audio", audio=sound) if isinstance(sound, bytes) else None
    if isinstance(part, Image):
        image = kept(part.media)
        if role == "user" and isinstance(image, str):
            return ContentPart(type="input_image", image_url=image, detail=part.detail)
        return ContentPart(type=kind, text=_GONE)
    return None
