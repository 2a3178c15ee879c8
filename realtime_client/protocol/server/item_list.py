"""Server side: the items of one conversation, in order, and the audio that belongs to them."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from realtime_client.history import heard_text
from realtime_client.protocol.items import ContentPart, Item, modernise
from realtime_client.updates import AudioFormat

from .checks import Check, Refusal, missing, one_of, text, unknown
from .images import check_image

_PARTS = {
    "user": {"input_text": "text", "input_audio": "audio", "input_image": "image_url"},
    "system": {"input_text": "text"},
    "assistant": {"output_text": "text"},
}
_REQUIRED = {
    "message": ("role", "content"),
    "function_call": ("name", "arguments", "call_id"),
    "function_call_output": ("call_id", "output"),
    "mcp_approval_response": ("approval_request_id", "approve"),
}
_OPTIONAL = {"type", "id", "object", "status"}
_CHECKED: dict[str, Check] = {
    "text": text,
    "transcript": text,
    "image_url": check_image,
    "detail": one_of("auto", "low", "high"),
}
_MAX_ID_CHARS = 256
_ITEM_BYTES = 256


class Clip:
    """The audio of one content part. data is None once it was dropped to bound memory; its length stays known."""

    __slots__ = ("data", "format", "size")

    def __init__(self, audio_format: AudioFormat, data: bytes = b"") -> None:
        self.format = audio_format
        self.data: bytearray | None = bytearray(data)
        self.size = len(data)

    @property
    def duration_ms(self) -> int:
        """Whole milliseconds, rounded down."""
        return self.format.ms(self.size)

    @property
    def ceiling_ms(self) -> int:
        """Whole milliseconds, rounded up: as some clients count, openai-agents among them, when they truncate."""
        return -(-self.size // self.format.bytes_per_ms)


class Entry:
    """An item in its place.

    item: as it goes over the wire, without audio bytes. clips: content index -> its audio. heard: content index ->
    what the ear made of user audio, None while it still listens; of the model's own audio that was truncated, what was
    heard of it. frozen: truncated, takes no more output.
    """

    __slots__ = ("announce", "clips", "frozen", "heard", "item", "size")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.clips: dict[int, Clip] = {}
        self.heard: dict[int, str | None] = {}
        self.announce = False
        self.frozen = False
        self.size = 0

    @property
    def id(self) -> str:
        """The item's id; every entry has one."""
        return self.item.id or ""

    @property
    def listening(self) -> bool:
        """True while a part of its audio is not transcribed yet."""
        return None in self.heard.values()

    def said(self) -> str:
        """All its text: typed, generated or heard."""
        if self.item.content is None:
            return self.item.said
        return " ".join(
            filter(None, (part.said or self.heard.get(i) or "" for i, part in enumerate(self.item.content)))
        )


def check_item(item: Item, at: str) -> Item:
    """Check an item that a client created, and give it its server-side fields. at: its param. Errors: Refusal."""
    modernise(item)
    if item.id is not None and not 0 < len(item.id) <= _MAX_ID_CHARS:
        raise Refusal(f"Invalid '{at}.id': 1 to {_MAX_ID_CHARS} characters.", param=f"{at}.id")
    required = _REQUIRED.get(item.type)
    if required is None:
        raise Refusal(f"Invalid value: '{item.type}'. A client cannot create such an item.", param=f"{at}.type")
    _check_fields(item, at, required, "reason" if item.type == "mcp_approval_response" else "")
    if item.type == "message":
        _check_message(item, at)
    item.object = "realtime.item"
    item.status = None if item.type.startswith("mcp_") else "completed"
    return item


def _check_fields(item: Item, at: str, required: tuple[str, ...], optional: str) -> None:
    """All that an item of its kind needs is there, and nothing else."""
    for name in required:
        if getattr(item, name) is None:
            raise missing(f"{at}.{name}")
    for name in item.__struct_fields__:
        value = getattr(item, name)
        if value is not None and name not in _OPTIONAL and name not in required and name != optional:
            raise unknown(f"{at}.{name}")
        if isinstance(value, str):
            text(value, f"{at}.{name}")


def _check_message(item: Item, at: str) -> None:
    allowed = _PARTS.get(item.role or "")
    if allowed is None:
        raise Refusal(f"Invalid value for '{at}.role': user, assistant or system.", param=f"{at}.role")
    for index, part in enumerate(item.content or ()):
        where = f"{at}.content[{index}]"
        needed = allowed.get(part.type)
        if not part.type:
            raise missing(f"{where}.type")
        if needed is None:
            message = f"Invalid value: '{part.type}'. A {item.role} message takes {', '.join(allowed)}."
            raise Refusal(message, param=f"{where}.type")
        if getattr(part, needed) is None:
            raise missing(f"{where}.{needed}")
        for name, check in _CHECKED.items():
            if (value := getattr(part, name)) is not None:
                check(value, f"{where}.{name}")


def taken(item_id: str, param: str) -> Refusal:
    """Return the refusal of an id that another item has."""
    return Refusal(f"Item with id '{item_id}' already exists.", code="item_create_duplicate_id", param=param)


class ItemList:
    """The items in order. Bounded: beyond the limits the oldest audio, then the oldest items, are dropped.

    max_audio_bytes: of all items together; an item whose audio was dropped keeps its text and its length, and is
    retrieved without audio. max_items, max_text_bytes: beyond them the oldest items leave the context silently, as
    truncation `auto` does.
    """

    def __init__(self, *, max_audio_bytes: int, max_items: int, max_text_bytes: int) -> None:
        self._entries: list[Entry] = []
        self._by_id: dict[str, Entry] = {}
        self._audio_bytes = 0
        self._text_bytes = 0
        self._max_audio_bytes = max_audio_bytes
        self._max_items = max_items
        self._max_text_bytes = max_text_bytes

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._by_id

    @property
    def audio_bytes(self) -> int:
        """Bytes of audio held now."""
        return self._audio_bytes

    @property
    def last_id(self) -> str | None:
        """The id of the last item, None when there is none."""
        return self._entries[-1].id if self._entries else None

    def get(self, item_id: str) -> Entry | None:
        """Return an item's entry, or None."""
        return self._by_id.get(item_id)

    def find_call(self, call_id: str | None) -> bool:
        """True when a function call with this call_id is in the conversation."""
        return any(e.item.type == "function_call" and e.item.call_id == call_id for e in self._entries)

    def insert(self, entry: Entry, previous_item_id: str | None = None) -> str | None:
        """Put an item after another (`root`: at the front; None: at the end); return the id it now follows.

        Errors: Refusal for an unknown previous item or an id that is taken.
        """
        if entry.id in self._by_id:
            raise taken(entry.id, "item.id")
        index = self._index_after(previous_item_id)
        self._entries.insert(index, entry)
        self._by_id[entry.id] = entry
        entry.size = text_size(entry.item)
        self._text_bytes += entry.size
        self._audio_bytes += sum(clip.size for clip in entry.clips.values())
        self._shrink(entry)
        index = self._entries.index(entry)
        return self._entries[index - 1].id if index else None

    def _index_after(self, previous_item_id: str | None) -> int:
        if previous_item_id is None:
            return len(self._entries)
        if previous_item_id == "root":
            return 0
        previous = self._by_id.get(previous_item_id)
        if previous is None:
            raise Refusal(
                f"Previous item with id '{previous_item_id}' not found.",
                code="item_create_invalid_previous_item_id",
                param="previous_item_id",
            )
        return self._entries.index(previous) + 1

    def previous_id(self, item_id: str) -> str | None:
        """Return the id of the item before this one, None at the front."""
        index = self._entries.index(self._by_id[item_id])
        return self._entries[index - 1].id if index else None

    def delete(self, item_id: str) -> bool:
        """Remove an item; False when there is none."""
        entry = self._by_id.pop(item_id, None)
        if entry is None:
            return False
        self._entries.remove(entry)
        self._text_bytes -= entry.size
        self._audio_bytes -= sum(len(c.data) for c in entry.clips.values() if c.data is not None)
        return True

    def add_audio(self, entry: Entry, content_index: int, audio: bytes, audio_format: AudioFormat) -> None:
        """Append generated audio to an item; ignored once the item was truncated."""
        if entry.frozen:
            return
        clip = entry.clips.get(content_index)
        if clip is None:
            clip = entry.clips[content_index] = Clip(audio_format)
        clip.size += len(audio)
        if clip.data is not None:
            clip.data += audio
            if entry.id in self._by_id:
                self._audio_bytes += len(audio)
                self._shrink_audio()

    def resize(self, entry: Entry) -> None:
        """Recount an item's text after it changed."""
        if entry.id in self._by_id:
            self._text_bytes -= entry.size
            entry.size = text_size(entry.item)
            self._text_bytes += entry.size
            self._shrink(entry)

    def truncate(self, entry: Entry, content_index: int, audio_end_ms: int) -> None:
        """Cut an item's audio; its transcript is deleted with it, because none is aligned.

        The model is still told an estimate of what was heard.
        """
        clip = entry.clips[content_index]
        before_ms = clip.duration_ms
        keep = audio_end_ms * clip.format.bytes_per_ms
        if clip.data is not None:
            self._audio_bytes -= max(0, len(clip.data) - keep)
            del clip.data[keep:]
        clip.size = min(clip.size, keep)
        entry.frozen = True
        content = entry.item.content or []
        if content_index < len(content):
            said = content[content_index].transcript or entry.heard.get(content_index) or ""
            entry.heard[content_index] = heard_text(said, audio_end_ms, before_ms)
            content[content_index].transcript = ""
        self.resize(entry)

    def _shrink(self, keep: Entry) -> None:
        self._shrink_audio()
        while len(self._entries) > self._max_items or self._text_bytes > self._max_text_bytes:
            oldest = next((e for e in self._entries if e is not keep and e.item.status != "in_progress"), None)
            if oldest is None:
                return
            self.delete(oldest.id)

    def _shrink_audio(self) -> None:
        if self._audio_bytes <= self._max_audio_bytes:
            return
        for entry in self._entries:
            for clip in entry.clips.values():
                if clip.data is not None:
                    self._audio_bytes -= len(clip.data)
                    clip.data = None
                if self._audio_bytes <= self._max_audio_bytes:
                    return


def text_size(item: Item) -> int:
    """About how many bytes an item's text takes. Not by encoding it, which holds up other sessions when it is long."""
    texts = [item.arguments, item.output, item.reason]
    for part in item.content or ():
        texts += (part.text, part.transcript, part.image_url)
    size = _ITEM_BYTES + sum(len(text) for text in texts if text)
    return size + (len(msgspec.json.encode(item.tools)) if item.tools else 0)  # which are bounded


def with_audio(entry: Entry) -> Item:
    """Return a copy of an item for conversation.item.retrieved: with its audio bytes, as far as they are kept."""
    parts: list[ContentPart] | None = None
    if entry.item.content is not None:
        parts = []
        for index, part in enumerate(entry.item.content):
            clip = entry.clips.get(index)
            data = clip.data if clip is not None else None
            parts.append(msgspec.structs.replace(part, audio=None if data is None else bytes(data)))
    return msgspec.structs.replace(entry.item, content=parts)


def snapshot(item: Item) -> Item:
    """Return a copy that later changes do not reach; messages carry snapshots.

    Of a remote call the strictest of clients wants an output in any case.
    """
    parts = None if item.content is None else [msgspec.structs.replace(part) for part in item.content]
    output = "" if item.type == "mcp_call" and item.output is None else item.output
    return msgspec.structs.replace(item, content=parts, output=output)
