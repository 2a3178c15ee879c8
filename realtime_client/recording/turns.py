"""The turns of a conversation: what a turn is, what was said in it, and how much of it was heard. Pure."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from typing import Any

from realtime_client.history import heard_text

from .marks import Marks
from .timeline import RATE_HZ

SPEAKERS = {"user", "assistant", "system", "tool", "note"}


MOST_PARTS = 256
LONGEST_TEXT = 200_000
_JOIN_AFTER = 512


class Said:
    """The text of a turn, as it arrives: by content part, in pieces, with or without a final version of each.

    Servers differ: some send the pieces and then the whole, some only the whole, some a whole for each sentence. Of a
    text of more than 200,000 characters only the beginning is kept, and `clipped` is True; the journal has all of it.
    """

    __slots__ = ("_done", "_open", "_size", "clipped")

    def __init__(self) -> None:
        self.clipped = False
        self._done: dict[int, str] = {}  # what was declared whole
        self._open: dict[int, list[str]] = {}  # what came since then
        self._size = 0

    def __bool__(self) -> bool:
        return any(self._done.values()) or any(map(any, self._open.values()))

    @property
    def text(self) -> str:
        """All of it."""
        parts = sorted(self._done.keys() | self._open.keys())
        return "".join(self._done.get(part, "") + "".join(self._open.get(part, ())) for part in parts)

    def add(self, text: str, part: int = 0) -> None:
        """More of a part."""
        pieces = self._open.setdefault(self._part(part), [])
        pieces.append(self._fitting(text))
        if len(pieces) > _JOIN_AFTER:
            pieces[:] = ["".join(pieces)]

    def whole(self, text: str, part: int = 0) -> None:
        """What came of a part since the last such call is, as a whole, this.

        It replaces the pieces. When it begins with everything that the part had said before, it is the whole part; else
        the part goes on with it. An empty text changes nothing.
        """
        if not text:
            return
        part = self._part(part)
        before = self._done.get(part, "")
        pieces = self._open.pop(part, [])
        if not pieces and before.endswith(text):
            return  # said twice
        if before and not text.startswith(before):
            text = joined(before, text)
        self._done[part] = ""
        self._size = len(self.text)
        self._done[part] = self._fitting(text)

    def final(self, text: str) -> None:
        """This is all of it, unless more is known already."""
        if text and "".join(text.split()) not in "".join(self.text.split()):
            self.replace(text)

    def replace(self, text: str) -> None:
        """This is all of it."""
        self._done, self._open, self._size = {}, {}, 0
        self._done[0] = self._fitting(text)

    def _part(self, part: int) -> int:
        """Beyond 256 parts, the last one goes on."""
        known = self._done.keys() | self._open.keys()
        return part if part in known or len(known) < MOST_PARTS else max(known)

    def _fitting(self, text: str) -> str:
        room = LONGEST_TEXT - self._size
        if len(text) > room:
            self.clipped, text = True, text[: max(0, room)]
        self._size += len(text)
        return text


def joined(before: str, text: str) -> str:
    """Put two pieces of speech together, with a space between them where their script has spaces."""
    if not before or not text or before[-1].isspace() or text[0].isspace():
        return before + text
    wide = unicodedata.east_asian_width(before[-1]) in "WF" or unicodedata.east_asian_width(text[0]) in "WF"
    return f"{before}{'' if wide else ' '}{text}"


@dataclass(slots=True, eq=False)
class Turn:
    """One turn. start, end: frames at 24 kHz in conversation.wav.

    cut_ms: how much of its audio was heard, None for all. received_ms: how much of it arrived. files: its audio,
    relative to the folder. reason: why it is not complete. done: it is over; sounding: the user's sound is still
    coming; written: it is in the transcript; kept: in the part of it that no longer changes before the end. drawn: how
    it looks there. noted: what the journal knows of it. name: of a call; it precedes the call's text. tool, call_id: of
    a call and of its result. outcome: how the tool's work on it ended, and how long it took in ms, where that was told.
    marks: who made it, and what stands beside it. gone: it left the conversation.
    """

    n: int
    who: str
    item_id: str = ""
    kind: str = "message"
    name: str = ""
    tool: str = ""
    call_id: str = ""
    outcome: tuple[str, float | None] | None = None
    after: str | None = None
    response_id: str = ""
    start: int = 0
    end: int = 0
    said: Said = field(default_factory=Said)
    files: list[str] = field(default_factory=list)
    cut_ms: int | None = None
    received_ms: int = 0
    interrupted: bool = False
    out_of_band: bool = False
    status: str = "in_progress"
    reason: str = ""
    done: bool = False
    spoken: bool = False
    transcribed: bool = False
    done_at_s: float = 0.0
    sounding: bool = False
    written: bool = False
    kept: bool = False
    drawn: object | None = None
    noted: dict[str, Any] | None = None
    marks: Marks | None = None
    gone: bool = False

    @property
    def text(self) -> str:
        """All its text, as far as it is known."""
        said = self.said.text
        return f"{self.name}({said})" if self.name else said

    @property
    def in_room(self) -> bool:
        """Whether it was spoken, or cut while it was: that was heard, whatever became of it."""
        return bool(self.files) or self.spoken or self.cut_ms is not None

    def line(self) -> dict[str, Any]:
        """Return its line of transcript.jsonl."""
        text = self.text
        own = self.marks is None or self.marks.own_chosen
        line: dict[str, Any] = {
            "n": self.n,
            "who": self.who,
            "item_id": self.item_id,
            "text": text,
            "heard": text if self.cut_ms is None else heard_text(text, self.cut_ms, self.received_ms),
            "cut_ms": self.cut_ms,
            "start_s": round(self.start / RATE_HZ, 3),
            "end_s": round(max(self.start, self.end) / RATE_HZ, 3),
            "audio": self.files[0] if self.files else None,
            "interrupted": self.interrupted and own,
            "status": self.status if own else "completed",
        }
        if self.reason and own and self.status not in {"completed", "in_progress"}:
            line["reason"] = self.reason
        if self.said.clipped:
            line["clipped"] = True
        if len(self.files) > 1:
            line["more_audio"] = self.files[1:]
        if self.who == "tool":
            line["type"] = self.kind
            if self.call_id:
                line["tool"], line["call_id"] = self.tool, self.call_id
            if self.outcome is not None:
                line["outcome"], line["tool_ms"] = self.outcome
        if self.out_of_band:
            line["out_of_band"] = True
        if self.marks is not None:
            line |= self.marks.fields()
        return line
