"""Reading journal.jsonl, of this version and earlier ones: the one reader for recovery, reports and others.

A journal may have been cut off, or damaged by another program: a line that cannot be read costs only itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from realtime_client.errors import RecordingError

from .journal_line import VERSION, AnyUpdate, JournalLine
from .journal_v1 import meaning_v1

LONGEST_LINE = 1 << 26
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_decode = msgspec.json.Decoder(JournalLine).decode
_decode_update = msgspec.json.Decoder(AnyUpdate).decode
_decode_any = msgspec.json.Decoder().decode


class _UncertainLine(JournalLine, kw_only=True):
    """A line whose updates may be of a kind that this version does not know."""

    updates: list[msgspec.Raw] = msgspec.field(default_factory=list)  # type: ignore[assignment]


class _Head(msgspec.Struct):
    """What a note of the recorder is about. version: of the journal, in its first line."""

    type: str = ""
    version: int = 0


_decode_uncertain = msgspec.json.Decoder(_UncertainLine).decode
_decode_head = msgspec.json.Decoder(_Head).decode


def read_journal(path: Path, wanted: Callable[[bytes], object] | None = None) -> Iterator[JournalLine | None]:
    """Yield the lines of a journal; None for one that cannot be read. A torn last one is left out.

    wanted: tells of a line as it stands there whether it is to be read; the others are passed over, at ten times the
    speed. Nothing when there is no such file. Errors: OSError; RecordingError for a journal of a newer version.
    """
    try:
        with path.open("rb", buffering=1 << 20) as file:
            while raw := file.readline(LONGEST_LINE):
                if raw.endswith(b"\n") and (wanted is None or wanted(raw)):
                    line = read_line(raw)
                    if line is not None and line.dir == "note":
                        _check(path, line)
                    yield line
    except FileNotFoundError:
        return


def read_line(raw: bytes) -> JournalLine | None:
    """Return a line, with its updates even where version 1 did not write them; None for one that cannot be read."""
    try:
        line = _decode(raw)
    except _UNREADABLE:
        return _second_look(raw)
    if b',"updates":[' not in raw:
        line.updates = meaning_v1(line.dir, line.event)
    return line


def event_of(line: JournalLine) -> Any:
    """Return the message, or the recorder's note, as plain JSON; None where it cannot be read."""
    try:
        return _decode_any(line.event)
    except _UNREADABLE:
        return None


def type_of(line: JournalLine) -> str:
    """Return a message's type on its wire; '' where it has none."""
    try:
        return _decode_head(line.event).type
    except _UNREADABLE:
        return line.type


def _second_look(raw: bytes) -> JournalLine | None:
    """Read a line with an update that cannot be understood: the others count."""
    try:
        line = _decode_uncertain(raw)
    except _UNREADABLE:
        return None
    updates = []
    for each in line.updates:
        try:
            updates.append(_decode_update(each))
        except _UNREADABLE:
            continue
    fields = {name: getattr(line, name) for name in JournalLine.__struct_fields__}
    return JournalLine(**fields | {"updates": updates})


def _check(path: Path, note: JournalLine) -> None:
    """Errors: RecordingError when this note says that the journal is of a newer version."""
    try:
        head = _decode_head(note.event)
    except _UNREADABLE:
        return
    if head.type == "journal" and head.version > VERSION:
        raise RecordingError(f"{path} was written by a newer version (format {head.version}, this one knows {VERSION})")
