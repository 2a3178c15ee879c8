"""The journal as a list for people, and the latencies that follow from it. Pure: fed line by line.

An hour has a hundred thousand messages, most of them audio. Deltas and appended audio of one kind that follow on each
other become one row with their number and length; whatever else happens ends such a row. The list is bounded: of a very
long journal the first and the last rows are kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from .fields import listed, number, table, text
from .latencies import Latencies
from .markup import code, json_code, speech

MOST_ROWS = 12_000
LONGEST_DETAIL = 4_000
_DETAIL_BUDGET = 12_000_000
_SUMMARY = 200
_RECORDER = {"turn", "placed"}
RateOf = Callable[[str], int]
"""Name of an audio file -> bytes of its sound in a second."""


class _Place(msgspec.Struct):
    file: str | None = None
    length: int = 0


class _Line(msgspec.Struct):
    n: int = 0
    t: float = 0.0
    dir: str = ""
    event: msgspec.Raw = msgspec.Raw(b"null")
    audio: list[_Place] = []
    error: str = ""
    type: str = ""


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


class _Piece(msgspec.Struct):
    """What matters of a delta, of which there are most."""

    type: str = ""
    response_id: str = ""
    item_id: str = ""
    delta: str = ""


class _PieceLine(msgspec.Struct):
    event: _Piece
    n: int = 0
    t: float = 0.0
    dir: str = ""
    audio: list[_Place] = []


_decode_line = msgspec.json.Decoder(_Line).decode
_decode_piece = msgspec.json.Decoder(_PieceLine).decode
_decode = msgspec.json.decode


class EventList:
    """Takes the lines of a journal. `rows()` and the other attributes tell what was in it."""

    def __init__(self, bytes_per_s: RateOf) -> None:
        self.latencies = Latencies()
        self.messages = 0
        self.unreadable = 0
        self.last_s = 0.0
        self.turn_notes: dict[int, dict[str, Any]] = {}
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

    def read(self, lines: Iterable[bytes]) -> None:
        """Take many lines."""
        for line in lines:
            if not self._take_piece(line):
                self._take(line)

    def _take_piece(self, line: bytes) -> bool:
        """Take a line when it is a delta or audio that was appended; the quick way."""
        try:
            record = _decode_piece(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return False
        event = record.event
        kind = event.type
        if not (kind.endswith(".delta") or kind == "input_audio_buffer.append"):
            return False
        self._count(record.t)
        self.latencies.piece(kind, record.t, event.response_id)
        key = (record.dir, kind, event.item_id)
        row = self._runs.get(key)
        if row is None:
            row = self._runs[key] = self._add(record.n, record.t, record.dir, kind)
        else:
            row.count += 1
        if record.audio:
            row.audio_s = round(row.audio_s + self._audio_s(record.audio), 6)
        if event.delta and len(row.summary) < _SUMMARY:
            row.summary = (row.summary + speech(event.delta, _SUMMARY))[:_SUMMARY]
        return True

    def _take(self, line: bytes) -> None:
        try:
            record = _decode_line(line)
            event = _decode(record.event)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self.unreadable += 1
            return
        self._count(record.t)
        if not isinstance(event, dict):
            shown = code(event, 500) if isinstance(event, str) else ""
            told = f"{code(record.error, 200)}: {shown}"[:_SUMMARY]
            self._add(record.n, record.t, record.dir, record.type or "not a message", told=told, detail=shown)
            return
        kind = text(event, "type") or "without a type"
        if record.dir == "note" and kind in _RECORDER:
            self._note(kind, event)
            return
        self.latencies.take(record.dir, kind, record.t, event)
        self._runs.clear()
        detail = json_code(event, LONGEST_DETAIL) if self._detail_bytes < _DETAIL_BUDGET else ""
        self._detail_bytes += len(detail)
        row = self._add(record.n, record.t, record.dir, kind, told=summary(event), detail=detail)
        row.audio_s = self._audio_s(record.audio)

    def _count(self, t: float) -> None:
        self.messages += 1
        self.last_s = max(self.last_s, t)

    def _note(self, kind: str, event: dict[str, Any]) -> None:
        """What the recorder notes of its turns replaces lines that the transcript does not have yet."""
        if kind == "turn" and isinstance(n := table(event, "line").get("n"), int) and len(self.turn_notes) < 100_000:
            self.turn_notes[n] = event

    def _audio_s(self, places: list[_Place]) -> float:
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


def summary(event: dict[str, Any]) -> str:
    """Return what matters in a message, on one line."""
    response, item = table(event, "response"), table(event, "item")
    parts = [
        text(table(event, "error"), "message"),
        text(event, "transcript") or text(event, "text"),
        text(event, "name") and f"{text(event, 'name')}({text(event, 'arguments')})",
        text(response, "status"),
        _tokens(table(response, "usage")),
        " ".join(filter(None, (text(item, "role"), text(item, "type"), text(item, "name")))),
        _content(item),
        text(event, "reason"),
        *_milliseconds(event),
    ]
    return speech(" · ".join(" ".join(part.split()) for part in parts if part), _SUMMARY)


def _milliseconds(event: dict[str, Any]) -> list[str]:
    names = ("audio_start_ms", "audio_end_ms", "heard_ms", "received_ms")
    return [f"{name} {value:g}" for name in names if (value := number(event, name)) is not None]


def _tokens(usage: dict[str, Any]) -> str:
    total = number(usage, "total_tokens")
    return "" if total is None else f"{total:,.0f} tokens"


def _content(item: dict[str, Any]) -> str:
    said = [text(part, "text") or text(part, "transcript") for part in listed(item, "content")]
    return " ".join(filter(None, said)) or text(item, "output")
