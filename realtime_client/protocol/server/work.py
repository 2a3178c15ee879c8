"""Server side: what a conversation asks its engine to do, beside the messages it wants sent."""

from __future__ import annotations

from typing import Any

import msgspec

from realtime_client.protocol.items import Item
from realtime_client.updates import AudioFormat

from .remote_tools import Offer, RemoteServer


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """Something for the engine to do. Subclasses are the complete list."""


class Listen(Work, frozen=True):
    """Look for speech in this audio, which continues the audio before it."""

    audio: bytes


class Relisten(Work, frozen=True):
    """Look for speech afresh from a position on.

    turn_detection: the session's object, or None when the client commits by itself. at_ms: position of the next
    audio. format: how it is to be read.
    """

    turn_detection: dict[str, Any] | None
    format: AudioFormat
    at_ms: int


class Transcribe(Work, frozen=True):
    """Find out what was said; answer with `ServerConversation.heard` or `not_heard`.

    settings: the session's transcription object, or None when only the model needs it.
    """

    item_id: str
    content_index: int
    audio: bytes
    format: AudioFormat
    settings: dict[str, Any] | None


class StartResponse(Work, frozen=True):
    """Produce this answer: `brief` when it is ready, then `say` and `call`, then `finish`."""

    response_id: str


class StopResponse(Work, frozen=True):
    """This answer is over; produce no more of it."""

    response_id: str


class RemoteWork(Work, frozen=True):
    """Something to do about the MCP servers of the session: never in the session's own thread, for they may wait."""


class ListRemote(RemoteWork, frozen=True):
    """Ask a server for its tools; answer with `ServerConversation.listed` or `not_listed`, once."""

    item_id: str
    server: RemoteServer


class LeaveRemote(RemoteWork, frozen=True):
    """End the connection to a server; what is under way there is not wanted any longer."""

    label: str


class CallRemote(RemoteWork, frozen=True):
    """Call a tool of a server that was listed; answer with `ServerConversation.returned` or `broke`, once.

    arguments: JSON text, as the model wrote it.
    """

    item_id: str
    label: str
    name: str
    arguments: str


class StopRemote(RemoteWork, frozen=True):
    """This call is not wanted any longer."""

    item_id: str


class ContextItem(msgspec.Struct, frozen=True, kw_only=True):
    """One item as the model reads it. said: its text, or what was heard in its audio."""

    item: Item
    said: str


class ResponseBrief(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer is to be made from.

    settings: the effective response settings (instructions, tools, tool_choice, audio.output, ...). context: the items
    it answers to, in order. spoken: audio with transcript, or text alone. remote: the tools of MCP
    servers that it may call.
    """

    response_id: str
    settings: dict[str, Any]
    context: tuple[ContextItem, ...]
    format: AudioFormat
    spoken: bool
    remote: tuple[Offer, ...] = ()
