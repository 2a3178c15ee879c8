"""Server side: what one conversation holds, and how items come into it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import msgspec

from realtime_client.protocol import events as ev
from realtime_client.protocol.items import ContentPart, HeardPart, Item
from realtime_client.protocol.session import audio_format
from realtime_client.updates import OWN_SESSION

from .checks import Refusal
from .input_buffer import InputBuffer, odd_bytes
from .item_list import Clip, Entry, ItemList, check_item, snapshot
from .remote_book import RemoteBook
from .response import ResponseRun
from .settings import default_session, merge_session
from .tokens import Counted, RateMeter
from .work import Relisten, Transcribe, Work

Json = dict[str, Any]
Output = list[ev.ServerEvent | Work]


class ServerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one conversation's memory.

    Beyond max_item_audio_bytes the oldest items lose their audio: they are retrieved without it. Beyond max_items or
    max_text_bytes the oldest items leave the conversation silently. max_input_bytes bounds what is appended and not
    committed. max_parallel bounds out-of-band responses at one time. What the running responses were given as
    `response.input` stays within max_items, max_text_bytes and max_item_audio_bytes, too, or the next is refused.
    """

    max_item_audio_bytes: int = 60 * 2**20
    max_items: int = 2_000
    max_text_bytes: int = 32 * 2**20
    max_input_bytes: int = 64 * 2**20
    max_parallel: int = 16


def random_id(prefix: str) -> str:
    """Return a new id such as `item_5f0c...`."""
    return f"{prefix}_{secrets.token_hex(10)}"


def _own(part: ContentPart) -> ContentPart:
    """A part of a client's item as the server keeps it."""
    if part.type == "input_audio":
        return HeardPart(type=part.type, audio=part.audio, transcript=part.transcript)
    return msgspec.structs.replace(part)


class ServerState:
    """The state, and what all requests share. `ServerConversation` is what others use."""

    def __init__(
        self,
        *,
        kind: str = "realtime",
        model: str = "",
        start: Json | None = None,
        expires_at: int = 0,
        new_id: Callable[[str], str] = random_id,
        limits: ServerLimits | None = None,
    ) -> None:
        limits = limits or ServerLimits()
        self._new_id = new_id
        self._limits = limits
        settings = default_session(kind, session_id=new_id(OWN_SESSION), model=model, expires_at=expires_at)
        self._settings = merge_session(settings, start or {})
        self._model = self._settings.get("model", model)
        self.conversation_id = new_id("conv")
        self.items = ItemList(
            max_audio_bytes=limits.max_item_audio_bytes,
            max_items=limits.max_items,
            max_text_bytes=limits.max_text_bytes,
        )
        self._input = InputBuffer(audio_format(self._settings, "input"), max_bytes=limits.max_input_bytes)
        self._speech_item: str | None = None
        self._runs: dict[str, ResponseRun] = {}
        self._active: ResponseRun | None = None
        self._remote = RemoteBook()
        self._rates = RateMeter()
        self._counted: list[Counted] = []
        self._spoke = False
        self._started = False
        self._idle_after_s: float | None = None
        self._idle_at_s: float | None = None
        self._out: Output = []

    @property
    def settings(self) -> Json:
        """The effective session settings, with what is not told again of MCP servers. Not to be changed."""
        return self._settings

    @property
    def turn_detection(self) -> Json | None:
        """The session's turn_detection object, None when the client commits by itself."""
        found: Json | None = self._settings["audio"]["input"]["turn_detection"]
        return found

    @property
    def active_response(self) -> str | None:
        """The id of the running answer of the default conversation, or None."""
        return self._active.id if self._active else None

    @property
    def input_ms(self) -> int:
        """How much audio was appended this session."""
        return self._input.end_ms

    def running(self, response_id: str) -> bool:
        """True while this answer is not over."""
        return response_id in self._runs

    def _emit(self, event: ev.ServerEvent) -> None:
        event.event_id = self._new_id("event")
        self._out.append(event)

    def _take(self) -> Output:
        out, self._out = self._out, []
        return out

    def _error(self, refusal: Refusal, event_id: str | None) -> None:
        detail = ev.ErrorDetail(
            type="invalid_request_error",
            code=refusal.code,
            message=str(refusal),
            param=refusal.param,
            event_id=event_id,
        )
        self._emit(ev.Error(error=detail))

    def _relisten(self) -> None:
        self._speech_item = None
        work = Relisten(turn_detection=self.turn_detection, format=self._input.format, at_ms=self._input.end_ms)
        self._out.append(work)

    def _find(self, item_id: str, verb: str, param: str = "item_id") -> Entry:
        entry = self.items.get(item_id)
        if entry is None:
            raise Refusal(
                f"Error: the item with id '{item_id}' does not exist; cannot {verb} it.",
                code=f"item_{verb}_invalid_item_id",
                param=param,
            )
        return entry

    def _new_entry(self, item: Item, at: str = "item") -> Entry:
        """Check a client's item, give it an id, and set its audio apart. at: where it stands in the message."""
        entry = Entry(check_item(msgspec.structs.replace(item), at))
        entry.item.id = entry.item.id or self._new_id("item")
        content = entry.item.content
        if content is not None:
            entry.item.content = [_own(part) for part in content]
            for index, part in enumerate(entry.item.content):
                if part.audio is not None:
                    if len(part.audio) % self._input.format.bytes_per_sample:
                        raise odd_bytes(f"{at}.content[{index}].audio")
                    entry.clips[index] = Clip(self._input.format, part.audio)
                    if part.transcript is None:
                        entry.heard[index] = None
                    part.audio = None
        return entry

    def _add(self, entry: Entry, previous_item_id: str | None = None) -> None:
        """Put an item into the conversation and announce it; its audio goes to the ear."""
        previous = self.items.insert(entry, previous_item_id)
        self._started = True
        self._emit(ev.ConversationItemAdded(item=snapshot(entry.item), previous_item_id=previous))
        self._emit(ev.ConversationItemDone(item=snapshot(entry.item), previous_item_id=previous))
        self._transcribe(entry)

    def _transcribe(self, entry: Entry) -> None:
        settings = self._settings["audio"]["input"]["transcription"]
        for index in entry.heard:
            clip = entry.clips[index]
            entry.announce = settings is not None or self._settings["type"] == "transcription"
            self._out.append(
                Transcribe(
                    item_id=entry.id,
                    content_index=index,
                    audio=bytes(clip.data or b""),
                    format=clip.format,
                    settings=settings,
                )
            )

    def _await_hearing(self, item_id: str, content_index: int, text: str) -> Entry | None:
        """Store a transcript where it is awaited; None when the item is gone or has been told already."""
        # Inputs may share an id, and an item may take it later: the ear answers in the order in which it was asked.
        found = [entry for run in self._runs.values() for entry in run.inputs or () if entry.id == item_id]
        known = self.items.get(item_id)
        for entry in found if known is None else (*found, known):
            if entry.heard.get(content_index, "") is None:
                entry.heard[content_index] = text
                return entry
        return None

    def _commit(self, audio: bytes) -> None:
        item_id, self._speech_item = self._speech_item or self._new_id("item"), None
        part = ContentPart(type="input_audio", audio=audio)
        entry = self._new_entry(Item(type="message", id=item_id, role="user", content=[part]))
        self._emit(ev.InputAudioBufferCommitted(item_id=item_id, previous_item_id=self.items.last_id))
        self._add(entry)
