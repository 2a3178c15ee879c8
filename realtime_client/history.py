"""What a conversation consists of, in the words of no wire: kept within bounds, and cut down to what is replayed.

Every kind of session keeps its entries in a `History`. When a conversation has to go on elsewhere, on a new connection
or with another provider, `replay` chooses what to tell again within a budget; the wire in question turns that into its
own messages. Pure.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Sequence
from functools import cached_property
from typing import Any

import msgspec

MOST_ENTRIES = 1024
MOST_BYTES = 4 * 1024 * 1024
MOST_MEDIA_BYTES = 8 * 1024 * 1024
_LARGEST_SHARE = 4  # an entry larger than a quarter of the room would push out what is worth more
_OVERHEAD_BYTES = 100


class ProviderState(msgspec.Struct, frozen=True):
    """What a provider wants back unchanged with a part, as JSON data; of no use to any other.

    For example a thought's signature, encrypted reasoning, or an item for which there are no neutral words.
    """

    provider: str
    data: Any


class Heard(msgspec.Struct, frozen=True):
    """Where a part was cut. text: what of it was heard, an estimate; ms: how much of its sound, of of_ms received."""

    text: str
    ms: int = 0
    of_ms: int = 0


class _Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    """Base of what an entry consists of."""

    provider_state: ProviderState | None = None


class Text(_Part, frozen=True, tag="text"):
    """Written text, or with `spoken` the transcript of sound, '' while there is none.

    heard: where it was cut, None where it was not. media: a reference to its sound, '' when that is not kept.
    """

    text: str = ""
    spoken: bool = False
    heard: Heard | None = None
    media: str = ""


class Image(_Part, frozen=True, tag="image"):
    """An image. media: its address, or a reference to what is kept of it. detail: how closely to look at it."""

    media: str
    detail: str | None = None


class Call(_Part, frozen=True, tag="call"):
    """A complete call of a tool. arguments: the model's JSON text."""

    call_id: str
    name: str
    arguments: str


class Result(_Part, frozen=True, tag="result"):
    """What a tool returned. name: the tool's, '' when unknown."""

    call_id: str
    output: str
    name: str = ""


class Opaque(_Part, frozen=True, tag="opaque"):
    """Something that only its provider understands, in `provider_state`. text: the part that people may read."""

    text: str = ""


Part = Text | Image | Call | Result | Opaque


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, dict=True):
    """One entry of a conversation.

    role: `system`, `user`, `assistant` or `tool`. parts: in order, as the provider gave them. status: completed or
    incomplete. response_id: the answer that it belongs to, '' for none. alternatives: other answers in its place.

    What telling it again needs to know is worked out once for each: a long conversation is told with every turn.
    """

    id: str
    role: str
    parts: tuple[Part, ...] = ()
    status: str = "completed"
    response_id: str = ""
    alternatives: tuple[tuple[Part, ...], ...] = ()

    @property
    def said(self) -> str:
        """All its words."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))

    @cached_property
    def tokens(self) -> int:
        """What it takes of a model's context, estimated: its text, 8 for the entry, 1,000 for an image."""
        images = sum(isinstance(part, Image) for part in self.parts)
        size = sum(_part_bytes(part) for part in self.parts if not isinstance(part, Image))
        return -(-size // _BYTES_A_TOKEN) + _TOKENS_AN_ENTRY + images * _TOKENS_AN_IMAGE

    @cached_property
    def tools(self) -> tuple[tuple[int, Call | Result], ...]:
        """The calls of tools in it and their results, each with its place among the parts."""
        return tuple((at, part) for at, part in enumerate(self.parts) if isinstance(part, Call | Result))

    @property
    def as_heard(self) -> Entry:
        """The entry as the listener knows it, without alternatives and without empty parts; it may have none left."""
        return self._otherwise_heard or self

    @cached_property
    def _otherwise_heard(self) -> Entry | None:
        """What was heard, None where that is all: an entry that refers to itself would stay in memory for long."""
        parts = _with_substance(_heard_parts(self.parts))
        same = parts == self.parts and not self.alternatives
        return None if same else msgspec.structs.replace(self, parts=parts, alternatives=())

    def answered_by(self, parts: tuple[Part, ...]) -> Entry:
        """The same entry with another answer in its place, a new one or an alternative; the old one becomes one."""
        others = tuple(each for each in (self.parts, *self.alternatives) if each != parts)
        return msgspec.structs.replace(self, parts=parts, alternatives=others)


def _utf8(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def _part_bytes(part: Part) -> int:
    if type(part) is Text and part.heard is None and part.provider_state is None:
        return _utf8(part.text) + len(part.media)
    size = sum(_utf8(value) for name in part.__struct_fields__ if isinstance(value := getattr(part, name), str))
    if isinstance(part, Text) and part.heard is not None:
        size += _utf8(part.heard.text)
    return size + (len(msgspec.json.encode(part.provider_state.data)) if part.provider_state is not None else 0)


def _entry_bytes(entry: Entry) -> int:
    parts = [part for parts in (entry.parts, *entry.alternatives) for part in parts]
    return sum(map(_part_bytes, parts)) + _OVERHEAD_BYTES * (1 + len(parts))


class History:
    """The entries of one conversation, within bounds: what came first is forgotten first, and counted.

    An entry larger than a quarter of most_bytes is not kept at all. Images and sound are kept apart, by reference, the
    newest most_media_bytes of them. instructions: what the model was told to be, '' when unknown. size_bytes,
    media_bytes: how much is kept. dropped: how many entries were dropped; dropped_bytes: their size.
    """

    __slots__ = (
        "_entries",
        "_media",
        "_most_bytes",
        "_most_entries",
        "_most_media_bytes",
        "_sizes",
        "dropped",
        "dropped_bytes",
        "instructions",
        "media_bytes",
        "size_bytes",
    )

    def __init__(
        self,
        *,
        most_entries: int = MOST_ENTRIES,
        most_bytes: int = MOST_BYTES,
        most_media_bytes: int = MOST_MEDIA_BYTES,
    ) -> None:
        self.instructions = ""
        self.size_bytes = self.media_bytes = 0
        self.dropped = self.dropped_bytes = 0
        self._entries: dict[str, Entry] = {}
        self._sizes: dict[str, int] = {}
        self._media: dict[str, str | bytes] = {}
        self._most_entries = most_entries
        self._most_bytes = most_bytes
        self._most_media_bytes = most_media_bytes

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, entry_id: object) -> bool:
        return entry_id in self._entries

    def get(self, entry_id: str) -> Entry | None:
        """Return an entry; None when there is none."""
        return self._entries.get(entry_id)

    def put(self, entry: Entry) -> None:
        """Add an entry at the end, or put it in the place of the one with its id."""
        size = _entry_bytes(entry)
        self.size_bytes += size - self._sizes.get(entry.id, 0)
        self._entries[entry.id], self._sizes[entry.id] = entry, size
        if size > self._most_bytes // _LARGEST_SHARE:
            self._drop(entry.id)
        while len(self._entries) > self._most_entries or self.size_bytes > self._most_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, entry_id: str) -> None:
        self.dropped += 1
        self.dropped_bytes += self.remove(entry_id)

    def remove(self, entry_id: str) -> int:
        """Forget an entry, which need not be there; returns how large it was."""
        self._entries.pop(entry_id, None)
        size = self._sizes.pop(entry_id, 0)
        self.size_bytes -= size
        return size

    def keep(self, media: str | bytes) -> str:
        """Keep an image (a data URI) or sound; returns its reference. An address that is not a data URI is its own."""
        if isinstance(media, str) and not media.startswith("data:"):
            return media
        data = media.encode("utf-8", "replace") if isinstance(media, str) else media
        reference = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if reference not in self._media and len(media) <= self._most_media_bytes:
            self._media[reference] = media
            self.media_bytes += len(media)
            while self.media_bytes > self._most_media_bytes:
                self.media_bytes -= len(self._media.pop(next(iter(self._media))))
        return reference

    def media(self, reference: str) -> str | bytes | None:
        """Return what `keep` was given, or an address as it is; None for what is no longer kept."""
        return self._media.get(reference, None if reference.startswith("sha256:") else reference)

    def in_order(self, ids: Iterable[str] = ()) -> list[Entry]:
        """Return the entries in the order of `ids`; one that is not among them follows the one that came before it."""
        place = {entry_id: n for n, entry_id in enumerate(ids)}
        if not place:
            return list(self._entries.values())
        last = -1
        ranked: list[tuple[int, int, Entry]] = []
        for n, entry in enumerate(self._entries.values()):
            last = place.get(entry.id, last)
            ranked.append((last, n, entry))
        return [entry for _, _, entry in sorted(ranked, key=lambda each: each[:2])]


# --- what was heard ---------------------------------------------------------------------------------------------------

# Thai, Lao, Myanmar, Khmer, kana, ideographs (Unicode, blocks).
_SPACELESS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uff9f\U00020000-\U0003ffff]"
)


def heard_text(text: str, heard_ms: int, received_ms: int) -> str:
    """Estimate which part of a spoken text was heard, from how much of its sound was.

    It assumes an even speed of speech, cuts the text in the proportion heard_ms / received_ms and goes back to the last
    whole word, except in scripts without spaces. Nobody states where each word is in the sound.
    """
    if heard_ms <= 0:
        return ""
    if heard_ms >= received_ms:
        return text
    limit = len(text) * heard_ms // received_ms
    if limit >= len(text) or text[limit].isspace() or _SPACELESS.match(text, limit):
        return text[:limit].rstrip()
    words = text[:limit].rsplit(maxsplit=1)
    if not text[:limit] or text[limit - 1].isspace():
        return text[:limit].rstrip()
    return words[0].rstrip() if len(words) > 1 else ""


# --- telling it again -------------------------------------------------------------------------------------------------

_BYTES_A_TOKEN = 4
_TOKENS_AN_ENTRY = 8
_TOKENS_AN_IMAGE = 1000


def text_tokens(text: str) -> int:
    """Estimate a text's tokens: four bytes of UTF-8 each, which holds for English and roughly elsewhere."""
    return -(-_utf8(text) // _BYTES_A_TOKEN)


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """What to tell again. tokens: what it takes, estimated, with the instructions; left_out: entries not sent."""

    instructions: str
    entries: tuple[Entry, ...]
    tokens: int
    left_out: int


def replay(
    entries: Sequence[Entry],
    *,
    instructions: str = "",
    most_tokens: int,
    most_entries: int = MOST_ENTRIES,
    open_calls: Collection[str] = (),
) -> Replay:
    """Choose what to tell again of a conversation, so that it fits a budget.

    What was cut is replayed as it was heard; empty parts are left out. A call is sent with its result or not at all,
    except for open_calls, whose results are on their way.
    System entries come first, the newest that fit into half of what the instructions leave; then the newest of all
    others. The instructions themselves are always sent.
    """
    told = whole_pairs([each for entry in entries if (each := entry.as_heard).parts], open_calls)
    room = most_tokens - text_tokens(instructions)
    systems = [entry for entry in told if entry.role == "system"]
    first = _newest(systems, room // 2, most_entries // 2)
    room -= sum(entry.tokens for entry in first)
    others = [entry for entry in told if entry.role != "system"]
    kept = [*first, *_newest(others, room, most_entries - len(first))]
    if systems or len(kept) < len(told):
        kept = whole_pairs(kept, open_calls)
    return Replay(
        instructions=instructions,
        entries=tuple(kept),
        tokens=text_tokens(instructions) + sum(entry.tokens for entry in kept),
        left_out=len(entries) - len(kept),
    )


def _heard_parts(parts: Sequence[Part]) -> list[Part]:
    """Return the parts as the listener knows them, without those that are empty."""
    heard: list[Part] = []
    for part in parts:
        if isinstance(part, Text):
            if part.heard is not None:  # it is no longer what its provider made, so what that wanted back does not fit
                part = Text(text=part.heard.text, spoken=part.spoken)  # noqa: PLW2901
            if not (part.text.strip() or part.media or part.provider_state):
                continue
        heard.append(part)
    return heard


def _with_substance(parts: Sequence[Part]) -> tuple[Part, ...]:
    """The parts, or none when nothing among them can be sent by itself."""
    return () if all(isinstance(part, Opaque) for part in parts) else tuple(parts)


def whole_pairs(entries: Sequence[Entry], still_open: Collection[str] = ()) -> list[Entry]:
    """The entries without calls that no result follows, and without results that follow no call."""
    open_calls: dict[str, tuple[int, int]] = {}
    lone: set[tuple[int, int]] = set()
    for n, entry in enumerate(entries):
        for at, part in entry.tools:
            call = open_calls.pop(part.call_id, None) if isinstance(part, Result) else None
            if call is not None:
                lone.discard(call)
                continue
            if not (isinstance(part, Call) and part.call_id in still_open):
                lone.add((n, at))
            if isinstance(part, Call):
                open_calls[part.call_id] = n, at
    whole = list(entries)
    for n in {n for n, _ in lone}:
        parts = _with_substance([part for at, part in enumerate(entries[n].parts) if (n, at) not in lone])
        whole[n] = msgspec.structs.replace(entries[n], parts=parts)
    return [entry for entry in whole if entry.parts] if lone else whole


def _newest(entries: Sequence[Entry], most_tokens: int, most_entries: int) -> list[Entry]:
    """The last entries that fit, without a gap, in their order."""
    kept: list[Entry] = []
    for entry in reversed(entries):
        most_tokens -= entry.tokens
        if most_tokens < 0 or len(kept) >= most_entries:
            break
        kept.append(entry)
    return kept[::-1]
