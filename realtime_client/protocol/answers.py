"""What has arrived of each answer: its text by part, its audio by part, and whether it was cut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from realtime_client.updates import AudioFormat

from .events import ClientEvent, ConversationItemDelete, ConversationItemTruncate

Part = tuple[str, int]
"""(item_id, content_index): what audio positions and truncation are counted by."""
HeardMs = Callable[[str, int], int | None]
"""(item_id, content_index) -> ms of that part the user heard; None when nothing plays here."""


@dataclass(slots=True)
class Answer:
    """One response while it runs, and for a while after, because its tail may still be playing.

    audio_format: where it differs from the session's. calls: every function call of it, open_calls those without a
    result. wants_reply: a result calls for a new answer.
    """

    id: str
    out_of_band: bool = False
    metadata: dict[str, str] | None = None
    text: dict[tuple[int, int], list[str]] = field(default_factory=dict)
    audio_bytes: dict[Part, int] = field(default_factory=dict)
    item_ids: list[str] = field(default_factory=list)
    audio_format: AudioFormat | None = None
    calls: set[str] = field(default_factory=set)
    open_calls: set[str] = field(default_factory=set)
    open_mcp: set[str] = field(default_factory=set)
    wants_reply: bool = False
    cut: bool = False
    done: bool = False

    def add_text(self, output_index: int, content_index: int, delta: str) -> None:
        """Append to one part's text."""
        self.text.setdefault((output_index, content_index), []).append(delta)

    def whole_text(self) -> str:
        """All text in the order of items and parts; items are separated by a line break."""
        by_item: dict[int, list[str]] = {}
        for (output_index, _), pieces in sorted(self.text.items()):
            by_item.setdefault(output_index, []).append("".join(pieces))
        return "\n".join(text for pieces in by_item.values() if (text := "".join(pieces)))


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


def plan_cuts(answer: Answer, heard_ms: HeardMs, audio: AudioFormat) -> list[Cut]:
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
