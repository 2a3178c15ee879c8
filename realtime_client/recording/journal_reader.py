"""Reading journal.jsonl, of this version and earlier ones: the one reader for recovery, reports and others.

A journal may have been cut off, or damaged by another program: a line that cannot be read costs only itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from realtime_client.errors import RecordingError

from .journal_line import VERSION, AnyUpdate, JournalLine
from .journal_v1 import meaning_v1

LONGEST_LINE = 1 << 26
_BLOCK_BYTES = 1 << 20
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


def read_journal(path: Path, holding: Sequence[bytes] = ()) -> Iterator[JournalLine | None]:
    """Yield the lines of a journal; None for one that cannot be read. A torn last one is left out.

    holding: only lines with one of these in them, as they stand in the file: nearly all lines are about sound, and to
    pass over them takes next to nothing. Nothing when there is no such file. Errors: OSError; RecordingError for a
    journal of a newer version.
    """
    try:
        with path.open("rb", buffering=1 << 20) as file:
            for raw in _lines_with(file, holding) if holding else _whole_lines(file):
                line = read_line(raw)
                if line is not None and line.dir == "note":
                    _check(path, line)
                yield line
    except FileNotFoundError:
        return


def _whole_lines(file: BinaryIO) -> Iterator[bytes]:
    while raw := file.readline(LONGEST_LINE):
        if raw.endswith(b"\n"):
            yield raw


def _lines_with(file: BinaryIO, wanted: Sequence[bytes]) -> Iterator[bytes]:
    """Search block by block, and look for the ends of a line only where something was found."""
    rest = b""
    while more := file.read(_BLOCK_BYTES):
        block = rest + more
        end = block.rfind(b"\n") + 1
        rest = block[end:]
        if len(rest) > LONGEST_LINE:
            rest = b""
        found: set[tuple[int, int]] = set()
        for each in wanted:
            at = block.find(each, 0, end)
            while at >= 0:
                stop = block.find(b"\n", at, end) + 1
                found.add((block.rfind(b"\n", 0, at) + 1, stop))
                at = block.find(each, stop, end)
        for begin, stop in sorted(found):
            yield block[begin:stop]


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
