"""The journal as a list for people, and the latencies that follow from it. Pure: fed line by line.

An hour has a hundred thousand messages, most of them audio. Consecutive deltas, or pieces of appended audio, become one
row with their number and length; whatever else happens ends such a row. The list is bounded: of a very long journal the
first and the last rows are kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from realtime_client import updates as up
from realtime_client.recording.journal_line import AudioPlace, JournalLine
from realtime_client.recording.journal_reader import event_of, type_of

from .fields import table, text
from .latencies import Latencies
from .markup import code, json_code, speech
from .models import TAKEN, Models

MOST_ROWS = 12_000
LONGEST_DETAIL = 4_000
_DETAIL_BUDGET = 12_000_000
_SUMMARY = 200
_UNSAID = {"text", "content_index"}
_RECORDER = {"turn", "placed", "journal"}
_PIECES = {
    up.AudioDelta, up.TextDelta, up.ThinkingDelta, up.UserTranscriptDelta, up.ToolCallDelta, up.InputSent, up.Audible,
    up.Captured,
}  # fmt: skip
RateOf = Callable[[str], int]
"""Name of an audio file -> bytes of its sound in a second."""


class Row(msgspec.Struct, array_like=True):
    """A row of the list: as an array, because there are many. count: messages in it. audio_s: sound in them."""

    n: int
    t: float
    direction: str
    kind: str
    count: int
    audio_s: float
    summary: str
    detail: str


class EventList:
    """Takes the lines of a journal. `rows()` and the other attributes say what was in it."""

    def __init__(self, bytes_per_s: RateOf) -> None:
        self.latencies = Latencies()
        self.models = Models()
        self.messages = 0
        self.unreadable = 0
        self.last_s = 0.0
        self.turn_notes: dict[int, dict[str, Any]] = {}
        self.gone: set[int] = set()
        self._bytes_per_s = bytes_per_s
        self._first: list[Row] = []
        self._last: deque[Row] = deque(maxlen=MOST_ROWS // 2)
        self._runs: dict[tuple[str, str, str], Row] = {}
        self._dropped = 0
        self._detail_bytes = 0

    @property
    def dropped(self) -> int:
        """Rows in the middle that were left out."""
        return self._dropped

    def rows(self) -> list[Row]:
        """All rows that were kept, in order."""
        return [*self._first, *self._last]

    def read(self, lines: Iterable[JournalLine | None]) -> None:
        """Take many lines; None for one that cannot be read."""
        for line in lines:
            if line is None:
                self.unreadable += 1
                continue
            self.messages += 1
            self.last_s = max(self.last_s, line.t)
            if line.dir == "note" and any(type(update) is up.ResponseStarted for update in line.updates):
                self.latencies.asked(line.t)  # that it begins was decided here: with the request
            self.latencies.take_all(line.updates, line.t)
            for update in line.updates:
                if type(update) in TAKEN:
                    self.models.take(update, line.t)
            if _is_piece(line):
                self._take_piece(line)
            else:
                self._take(line)

    def _take_piece(self, line: JournalLine) -> None:
        """Take a piece of something long (most messages are) into the row of the pieces before it."""
        update = line.updates[0] if line.updates else None
        kind = type_of(line) or (update.kind if update is not None else "")
        key = (line.dir, kind, getattr(update, "item_id", ""))
        row = self._runs.get(key)
        if row is None:
            row = self._runs[key] = self._add(line.n, line.t, line.dir, kind)
        else:
            row.count += 1
        if line.audio:
            row.audio_s = round(row.audio_s + self._audio_s(line.audio), 6)
        if len(row.summary) < _SUMMARY and (said := getattr(update, "text", "")):
            row.summary = (row.summary + speech(said, _SUMMARY))[:_SUMMARY]

    def _take(self, line: JournalLine) -> None:
        event = event_of(line)
        kind = text(event, "type")
        if line.dir == "note" and kind in _RECORDER:
            self._note(kind, event)
            return
        if event == {} and line.updates:
            event, kind = msgspec.to_builtins(line.updates[0]), line.updates[0].kind
        if not isinstance(event, dict):
            shown = code(event, 500) if isinstance(event, str) else ""
            told = f"{code(line.error, 200)}: {shown}"[:_SUMMARY]
            self._add(line.n, line.t, line.dir, line.type or "not a message", told=told, detail=shown)
            return
        self._runs.clear()
        detail = json_code(event, LONGEST_DETAIL) if self._detail_bytes < _DETAIL_BUDGET else ""
        self._detail_bytes += len(detail)
        told = summary(line.updates)
        row = self._add(line.n, line.t, line.dir, kind or "without a type", told=told, detail=detail)
        row.audio_s = self._audio_s(line.audio)

    def _note(self, kind: str, event: dict[str, Any]) -> None:
        """The recorder's notes on turns replace lines that the transcript does not have yet."""
        n = table(event, "line").get("n")
        if kind != "turn" or not isinstance(n, int) or len(self.turn_notes) + len(self.gone) >= 100_000:
            return
        if event.get("gone") is True:
            self.gone.add(n)
            self.turn_notes.pop(n, None)
        else:
            self.turn_notes[n] = event

    def _audio_s(self, places: list[AudioPlace]) -> float:
        return sum(max(0, place.length) / self._bytes_per_s(place.file or "") for place in places)

    def _add(self, n: int, t: float, direction: str, kind: str, *, told: str = "", detail: str = "") -> Row:
        direction = direction if direction in {"in", "out", "note"} else "?"
        row = Row(n, round(t, 3), direction, code(kind, 120), 1, 0.0, told, detail)
        if len(self._first) < MOST_ROWS // 2:
            self._first.append(row)
        else:
            self._dropped += len(self._last) == self._last.maxlen
            self._last.append(row)
        return row


def _is_piece(line: JournalLine) -> bool:
    """Tell whether it is one of many that say little alone; so are pieces of sound that was kept, or is sent again."""
    if not line.updates:
        return line.dir == "note" and bool(line.audio)
    kind = type(line.updates[0])
    return kind in _PIECES or (kind is up.SentAgain and bool(line.audio))


def summary(updates: Iterable[up.Update]) -> str:
    """Return what matters of a message's meaning, on one line: what was said comes last."""
    parts = [part for update in updates for part in _words(update)]
    return speech(" · ".join(" ".join(part.split()) for part in parts), _SUMMARY)


def _words(update: up.Update) -> Iterator[str]:
    for name in update.__struct_fields__:
        value = getattr(update, name)
        if isinstance(value, up.Usage):
            yield f"{value.total_tokens:,} tokens"
        elif name in _UNSAID or name.endswith(("_id", "_ids")):
            continue
        elif isinstance(value, str) and value:
            yield value
        elif isinstance(value, bool):
            yield from (name.replace("_", " "),) if value else ()
        elif isinstance(value, int | float):
            yield f"{name} {value:g}"
    if said := getattr(update, "text", ""):
        yield said
