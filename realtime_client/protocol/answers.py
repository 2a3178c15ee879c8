"""What has arrived of each answer: its text by part, its audio by part, and whether it was cut.

Servers give an answer's text up to five times: in deltas, in the part's `done`, in the content part, in the item and
in the whole response. `PartText` takes them all and keeps one; what comes late is reported as one more delta, so that
there is one way to an answer's text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from realtime_client.updates import AudioFormat

from .events import ClientEvent, ConversationItemDelete, ConversationItemTruncate
from .lenient import whole_text

Part = tuple[str, int]
"""(item_id, content_index): what audio positions and truncation are counted by."""
HeardMs = Callable[[str, int], int | None]
"""(item_id, content_index) -> ms of that part the user heard; None when nothing plays here."""


_MOST_PARTS = 256  # of one answer: a server that numbers on and on must not fill the memory


def forget_oldest(kept: dict[Any, Any], limit: int) -> None:
    """Keep a dictionary that a server can make grow within its limit."""
    if len(kept) > limit:
        del kept[next(iter(kept))]


class PartText:
    """The text of one content part.

    item_id: whose; spoken: it is the transcript of audio; at_cut: what of it was known when its answer was cut.
    """

    __slots__ = ("_half", "_pieces", "_settled", "at_cut", "item_id", "spoken")

    def __init__(self, item_id: str, *, spoken: bool) -> None:
        self.at_cut = ""
        self.item_id = item_id
        self.spoken = spoken
        self._pieces: list[str] = []
        self._half = ""
        self._settled = 0  # how much of it a `done` has confirmed

    @property
    def whole(self) -> str:
        """All of it so far."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    def add(self, delta: str) -> str:
        """Append a delta; returns what to show of it: half a character is kept for the next one."""
        if self._half or not delta.isascii():
            self._half, delta = split_half(self._half + delta)
        if delta:
            self._pieces.append(delta)
        return delta

    def finish(self) -> str:
        """Nothing more comes: half a character that is left becomes U+FFFD, which is returned."""
        if not self._half:
            return ""
        self._half = ""
        self._pieces.append("\N{REPLACEMENT CHARACTER}")
        return "\N{REPLACEMENT CHARACTER}"

    def settle(self, text: str, *, final: bool) -> str:
        """Take the whole text from the server's last word on it; returns what the deltas had not brought.

        final: from the part's own `done`, whose text counts where it differs; the others only add what is missing. A
        part that has several of them brings a piece of the text with each.
        """
        self._half = ""
        known = self.whole
        tail = known[self._settled :]
        missing = ""
        if text.startswith(known):
            missing = text[len(known) :]
        elif not final:
            return ""
        elif self._settled and text.startswith(tail):
            missing = text[len(tail) :]
        elif not known.endswith(text):
            self._pieces = [text]
        if missing:
            self._pieces.append(missing)
        if final:
            self._settled = len(self.whole)
        return missing


def split_half(text: str) -> tuple[str, str]:
    """(half a character at the end, the rest in whole characters). text: not empty."""
    if "\ud800" <= text[-1] <= "\udbff":
        return text[-1], whole_text(text[:-1])
    return "", whole_text(text)


@dataclass(slots=True)
class AnswerState:
    """One response while it runs, and for a while after, because its tail may still be playing.

    audio_format, modalities: where it differs from the session's. calls: every function call of it, open_calls those
    without a result. wants_reply: a result calls for a new answer. goes_on: those that asked whether its calls are
    allowed. begun: observers know of it; request_id: the request
    that it answers; after: the item that
    was the conversation's last one then. cut_running: it was cut before its end; cuts: where. left: its items are with
    a server that was left.
    """

    id: str
    out_of_band: bool = False
    metadata: dict[str, str] | None = None
    texts: dict[tuple[int, int], PartText] = field(default_factory=dict)
    audio_bytes: dict[Part, int] = field(default_factory=dict)
    item_ids: list[str] = field(default_factory=list)
    audio_format: AudioFormat | None = None
    modalities: tuple[str, ...] = ()
    calls: set[str] = field(default_factory=set)
    open_calls: set[str] = field(default_factory=set)
    open_mcp: set[str] = field(default_factory=set)
    wants_reply: bool = False
    goes_on: tuple[str, ...] = ()
    cut: bool = False
    cut_running: bool = False
    cuts: tuple[Cut, ...] = ()
    done: bool = False
    begun: bool = False
    request_id: str | None = None
    left: bool = False
    after: str | None = None

    def text(self, output_index: int, content_index: int, item_id: str, *, spoken: bool) -> PartText:
        """One part's text; beyond 256 parts, the rest counts as one.

        Where a server gives several items the same place, or none, the item's name tells them apart.
        """
        key = (output_index, content_index)
        part = self.texts.get(key)
        if part is not None and item_id and part.item_id not in {item_id, ""}:
            mine = (at for at, each in self.texts.items() if each.item_id == item_id and at[1] == content_index)
            key = next(mine, (max(self.texts)[0] + 1, content_index))
            part = self.texts.get(key)
        if part is None:
            if len(self.texts) >= _MOST_PARTS:
                return self.texts[next(reversed(self.texts))]
            part = self.texts[key] = PartText(item_id, spoken=spoken)
        return part

    def received(self, part: Part, size_bytes: int) -> None:
        """Count audio of one part; parts beyond 256 are played and not counted."""
        if part in self.audio_bytes or len(self.audio_bytes) < _MOST_PARTS:
            self.audio_bytes[part] = self.audio_bytes.get(part, 0) + size_bytes

    def add_item(self, item_id: str) -> bool:
        """Take note of an output item; False when it was known, or is one too many."""
        if not item_id or item_id in self.item_ids or len(self.item_ids) >= _MOST_PARTS:
            return False
        self.item_ids.append(item_id)
        return True

    @property
    def last_item(self) -> str:
        """Its newest item, '' when there was none: what a server means that names none."""
        return self.item_ids[-1] if self.item_ids else ""

    @property
    def untouched(self) -> bool:
        """Whether nothing of it has arrived."""
        return not (self.texts or self.audio_bytes or self.item_ids)

    def to_be_spoken(self, *, by_default: bool) -> bool:
        """Whether its beginning promised speech, or else by_default."""
        return "audio" in self.modalities if self.modalities else by_default

    def silent_parts(self) -> list[Cut]:
        """Spoken texts of items of which no sound has come, while it runs: cut before their first sound."""
        sounding = {item_id for item_id, _ in self.audio_bytes}
        texts = [] if self.done else self.texts_in_order()
        silent = [(text.item_id, at[1]) for at, text in texts if text.spoken and text.item_id not in sounding]
        return [Cut(*part, heard_ms=0, received_ms=0, action="none") for part in silent]

    def texts_in_order(self) -> list[tuple[tuple[int, int], PartText]]:
        """Its texts in the order of items and parts, with their places."""
        return sorted(self.texts.items(), key=lambda each: each[0])

    def said_by(self, item_id: str) -> str:
        """What is known of one item's text."""
        return "".join(part.whole for _, part in self.texts_in_order() if part.item_id == item_id)

    def whole_text(self) -> str:
        """All text in the order of items and parts; items are separated by a line break."""
        by_item: dict[int, list[str]] = {}
        for (output_index, _), part in self.texts_in_order():
            by_item.setdefault(output_index, []).append(part.whole)
        return "\n".join(text for pieces in by_item.values() if (text := "".join(pieces)))

    def note_cuts(self, cuts: list[Cut]) -> None:
        """Remember where it was cut, and how much of its text was known then."""
        self.cut, self.cut_running, self.cuts = True, not self.done, tuple(cuts)
        for text in self.texts.values():
            text.at_cut = text.whole

    def cut_of(self, item_id: str, content_index: int) -> Cut | None:
        """Where one part's sound was cut, or another one's of the same item; None when it was not."""
        of_item = [cut for cut in self.cuts if cut.item_id == item_id]
        return next((cut for cut in of_item if cut.content_index == content_index), of_item[0] if of_item else None)


@dataclass(frozen=True, slots=True)
class Cut:
    """What to do about one part of an interrupted answer.

    action: `none` (all of it was heard), `truncate` (at heard_ms) or `delete` (nothing of it was heard).
    """

    item_id: str
    content_index: int
    heard_ms: int
    received_ms: int
    action: str


def plan_cut(part: Part, size_bytes: int, heard_ms: int | None, audio: AudioFormat, *, done: bool) -> Cut:
    """Decide the correction of one part from what was received and what was heard.

    heard_ms None: nothing plays, so what was received counts as heard and the server's item stays as it is.
    The position never exceeds what was received: servers refuse offsets beyond their own audio, and refuse 0 ms.
    """
    received_ms = audio.ms(size_bytes)
    if heard_ms is None:
        return Cut(*part, received_ms, received_ms, "none")
    heard_ms = max(0, min(heard_ms, received_ms))
    if heard_ms == 0:
        return Cut(*part, 0, received_ms, "delete")
    if heard_ms >= received_ms and done:
        return Cut(*part, received_ms, received_ms, "none")
    return Cut(*part, heard_ms, received_ms, "truncate")


def plan_cuts(answer: AnswerState, heard_ms: HeardMs, audio: AudioFormat) -> list[Cut]:
    """Decide the correction of every audio part. An item is deleted once, and only if no part of it was heard."""
    audio = answer.audio_format or audio
    cuts = [plan_cut(part, size, heard_ms(*part), audio, done=answer.done) for part, size in answer.audio_bytes.items()]
    keep = {cut.item_id for cut in cuts if cut.heard_ms > 0}
    for n, cut in enumerate(cuts):
        if cut.action == "delete":
            if cut.item_id in keep:
                cuts[n] = replace(cut, action="none")
            keep.add(cut.item_id)
    return cuts


def correction(cut: Cut, event_id: str) -> ClientEvent | None:
    """The message that carries out a cut, or None."""
    if cut.action == "delete":
        return ConversationItemDelete(item_id=cut.item_id, event_id=event_id)
    if cut.action == "none":
        return None
    return ConversationItemTruncate(
        item_id=cut.item_id, content_index=cut.content_index, audio_end_ms=cut.heard_ms, event_id=event_id
    )
