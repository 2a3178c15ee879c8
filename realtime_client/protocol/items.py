"""Conversation items: what a conversation consists of.

One flat, lenient struct stands for every kind of item, because a kind or field that this version does not know must
not lose the item. Kinds: message (system, user, assistant), function_call, function_call_output, mcp_list_tools,
mcp_call, mcp_approval_request, mcp_approval_response.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

_BETA_PARTS = {"text": "output_text", "audio": "output_audio"}


class ContentPart(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One part of a message.

    type: input_text, input_audio, input_image, output_text, output_audio (items), or text, audio (the `part` of
    response.content_part.*); '' when the server does not say. audio: decoded bytes in the session's format.
    """

    type: str = ""
    text: str | None = None
    audio: bytes | None = None
    transcript: str | None = None
    image_url: str | None = None
    detail: str | None = None

    @property
    def spoken(self) -> bool:
        """True for a part that carries audio."""
        return self.type in {"input_audio", "output_audio", "audio"}

    @property
    def said(self) -> str:
        """Its text, or the transcript of its audio; '' when neither is known."""
        return self.text or self.transcript or ""


class HeardPart(ContentPart, kw_only=True):
    """Audio of a user as a server tells of it: its transcript, required here, is said even while it is null."""

    transcript: str | None


if TYPE_CHECKING:
    Content = list[ContentPart] | None
else:  # what servers send; `Item` makes a list of it
    Content = list[ContentPart | str] | ContentPart | str | None


class Item(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One item. Which fields are set depends on `type`; the rest stay None and are not sent.

    content: a list of parts; a sentence, or a part by itself, becomes one.
    """

    type: str
    id: str | None = None
    object: str | None = None
    status: str | None = None
    role: str | None = None
    content: Content = None
    name: str | None = None
    arguments: str | None = None
    call_id: str | None = None
    output: str | None = None
    server_label: str | None = None
    tools: list[dict[str, Any]] | None = None
    error: dict[str, Any] | None = None
    approval_request_id: str | None = None
    approve: bool | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        """Turn whatever was given for parts into a list."""
        content: Any = self.content
        if content is None or (type(content) is list and not any(type(part) is str for part in content)):
            return
        kind = "output_text" if self.role == "assistant" else "input_text"
        parts = content if type(content) is list else [content]
        self.content = [ContentPart(type=kind, text=part) if isinstance(part, str) else part for part in parts]

    @property
    def is_whole_call(self) -> bool:
        """Whether it is a call that may be run: all of it has come."""
        return self.type == "function_call" and bool(self.call_id) and self.status in {None, "completed"}

    @property
    def speaker(self) -> str:
        """`user`, `assistant` or `system` for messages, `tool` for everything else."""
        return self.role or "assistant" if self.type == "message" else "tool"

    @property
    def said(self) -> str:
        """All its text and transcripts, joined; of a call what came of it, or its arguments."""
        if self.content is not None:
            return "".join(part.said for part in self.content)
        why = self.error.get("message") if self.error and self.type == "mcp_call" else None
        return self.output or (why if isinstance(why, str) else "") or self.arguments or ""

    @property
    def has_audio(self) -> bool:
        """True when any part is spoken."""
        return any(part.spoken for part in self.content or ())


class GivenPart(ContentPart, kw_only=True, forbid_unknown_fields=True):
    """A part that a client sends: a server refuses fields that it does not know."""


class GivenItem(Item, kw_only=True, forbid_unknown_fields=True):
    """An item that a client sends: as `GivenPart`."""

    content: list[GivenPart] | None = None  # type: ignore[assignment]


def user_text(text: str, *, item_id: str | None = None, images: Sequence[str] = ()) -> Item:
    """Return a user message with this text, and images (data URIs) before it; then the text may be empty."""
    content = [ContentPart(type="input_image", image_url=image) for image in images]
    if text or not images:
        content.append(ContentPart(type="input_text", text=text))
    return Item(type="message", id=item_id, role="user", content=content)


def user_audio(audio: bytes, *, item_id: str | None = None) -> Item:
    """Return a user message with this audio (the session's input format)."""
    return Item(type="message", id=item_id, role="user", content=[ContentPart(type="input_audio", audio=audio)])


def user_image(image_url: str, *, detail: str | None = None, item_id: str | None = None) -> Item:
    """Return a user message with an image (a data URI, PNG or JPEG)."""
    part = ContentPart(type="input_image", image_url=image_url, detail=detail)
    return Item(type="message", id=item_id, role="user", content=[part])


def system_text(text: str, *, item_id: str | None = None) -> Item:
    """Return a system message."""
    return Item(type="message", id=item_id, role="system", content=[ContentPart(type="input_text", text=text)])


def assistant_text(text: str, *, item_id: str | None = None) -> Item:
    """Return an assistant message as text: the only assistant message a client may create."""
    part = ContentPart(type="output_text", text=text)
    return Item(type="message", id=item_id, role="assistant", content=[part])


def function_call(name: str, arguments: str, call_id: str, *, item_id: str | None = None) -> Item:
    """Return a function call; arguments is JSON text."""
    return Item(type="function_call", id=item_id, name=name, arguments=arguments, call_id=call_id)


def function_output(call_id: str, output: str, *, item_id: str | None = None) -> Item:
    """Return the result of a function call; output is free text."""
    return Item(type="function_call_output", id=item_id, call_id=call_id, output=output)


def mcp_approval(request_id: str, *, approve: bool, item_id: str, reason: str | None = None) -> Item:
    """Return the answer to an mcp_approval_request."""
    return Item(
        type="mcp_approval_response", id=item_id, approval_request_id=request_id, approve=approve, reason=reason
    )


def modernise(item: Item) -> Item:
    """Rename the beta content types of an assistant message (`text`, `audio`) in place, and return it."""
    if item.role == "assistant":
        for part in item.content or ():
            part.type = _BETA_PARTS.get(part.type, part.type)
    return item
