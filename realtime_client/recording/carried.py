"""What was said in a recorded session, for a new one that goes on with it.

It is read from the journal, or from the transcript where there is no journal; the session may have been realtime or
with text models, and may have been killed. Garbage costs only itself, and no more is kept in memory than a conversation
may hold.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from realtime_client import history
from realtime_client import updates as up
from realtime_client.errors import RecordingError, UsageError
from realtime_client.escape import one_line
from realtime_client.history import Call, Entry, History, Part, Result, Text, heard_text, whole_pairs

from .catalogue import find, goes_on, info_of, is_recording, recordings
from .folder import JOURNAL, TRANSCRIPT
from .journal_reader import LONGEST_LINE, event_of, read_journal
from .summary import VERSION
from .turn_notes import TurnNotes

NEWEST = "newest"
_MOST_LINKS = 64
_MOST_TURNS = 2 * history.MOST_ENTRIES  # some of them leave the conversation, and notes are none of its entries
_MOST_BYTES = 4 * history.MOST_BYTES
_MOST_OPEN = 64
_LONGEST_ID = 256
_ABOUT_TURNS = (b'"turn"', b'"item_added"', b'"item_deleted"', b'"journal"')
_MESSAGES = {"user", "assistant", "system"}
_TEXTS = up.TextDelta | up.TextDone | up.UserTranscriptDelta | up.UserTranscript


class Carried(msgspec.Struct, frozen=True, kw_only=True):
    """What a new session is told.

    folder: the recording that it goes on with. entries: what was said there, in order, and in the sessions that it went
    on with itself; ids are made anew. instructions: what the model was told to be, '' for nothing. clipped: more was
    said before these. missing: the recording before, where that is not in the same folder any more; else ''.
    """

    folder: Path
    entries: tuple[Entry, ...]
    instructions: str = ""
    clipped: bool = False
    missing: str = ""

    @property
    def told(self) -> str:
        """For people: what is carried over."""
        count = f"{len(self.entries):,} {'entry' if len(self.entries) == 1 else 'entries'}"
        count = f"the last {count}" if self.clipped else count
        missing = f"; without {one_line(self.missing, 100)}, which is not there" if self.missing else ""
        return f"{one_line(self.folder.name, 100)} ({count}{missing})"


def carry(which: str | Path, base: Path) -> Carried:
    """Read the recording that is meant: `newest`, or what `catalogue.find` takes. base: the folder of all recordings.

    The newest one is the newest that is over and in which something was said. Errors: UsageError where there is none,
    or nothing in it that could be gone on with.
    """
    if which != NEWEST:
        folder = which if isinstance(which, Path) else find(which, base)
        carried = read(folder)
        if not carried.entries:
            raise UsageError(f"nothing was said in {one_line(str(folder), 300)}: there is nothing to go on with")
        return carried
    for folder in recordings(base):
        try:
            if not goes_on(folder) and (carried := read(folder)).entries:
                return carried
        except UsageError:
            continue
    raise UsageError(f"there is no recording in {base} in which something was said: nothing to go on with")


def read(folder: Path) -> Carried:
    """Read what was said in a recorded session, the newest 1,024 entries of it.

    Calls of tools come with their results or not at all, answers as they were heard. Left out is what left the
    conversation, answers beside it, calls that a server made itself, images, and speech that nobody wrote down.
    Errors: UsageError when it is no recording, is of a newer version, or cannot be read.
    """
    shown = one_line(str(folder), 300)
    try:
        folder = folder.resolve()
        if not is_recording(folder):
            raise UsageError(f"{shown} is not a recording: neither {JOURNAL} nor {TRANSCRIPT}.jsonl is in it")
        entries: tuple[Entry, ...] = ()
        clipped = False
        chain, missing = _chain(folder)
        for each in reversed(chain):
            entries, more = _continued(entries, each)
            clipped |= more
        instructions = _instructions(info_of(folder))
        return Carried(folder=folder, entries=entries, instructions=instructions, clipped=clipped, missing=missing)
    except RecordingError as error:
        raise UsageError(one_line(str(error))) from error
    except (OSError, RuntimeError) as error:  # RuntimeError: links that lead in a circle
        raise UsageError(f"cannot read {shown}: {getattr(error, 'strerror', None) or error}") from error


def _chain(folder: Path) -> tuple[list[Path], str]:
    """The recording, that which it goes on with, and so on; and the name of the first one that is not there."""
    chain = [folder]
    while len(chain) < _MOST_LINKS:
        info = info_of(chain[-1])
        version, before = info.get("version", VERSION), info.get("continues")
        if not isinstance(version, int) or version > VERSION:
            raise RecordingError(f"{chain[-1]} was written by a newer version (format {version})")
        if not isinstance(before, str) or not before or Path(before).name != before:
            break
        earlier = folder.parent / before
        if earlier in chain:
            break
        if not is_recording(earlier):
            return chain, before
        chain.append(earlier)
    return chain, ""


def _instructions(info: dict[str, Any]) -> str:
    """What the user wanted the model to be: a server's own words are not carried to another one."""
    tables = [table if isinstance(table := info.get(name), dict) else {} for name in ("settings", "session")]
    given, in_force = (table.get("instructions") for table in tables)
    if not (isinstance(given, str) and given):
        return ""
    return in_force if isinstance(in_force, str) and in_force else given


def _continued(before: Iterable[Entry], folder: Path) -> tuple[tuple[Entry, ...], bool]:
    """What a session was told and what was said in it, with new names; and whether there was more than is kept.

    Entries get the same names whenever a recording is read. So it can be seen which of them left the conversation in
    the session that goes on with it.
    """
    lines, deleted, clipped = _lines(folder)
    said: dict[str, Entry] = {entry.id: entry for entry in before if entry.id not in deleted}
    for n, line in enumerate(lines):
        entry = _entry(line, n)
        if entry is not None:
            said[entry.id] = entry
    room = History()
    for entry in whole_pairs(list(said.values())):
        room.put(entry)
    kept = whole_pairs(room.in_order())
    named = (msgspec.structs.replace(entry, id=f"told_{n}") for n, entry in enumerate(kept, 1))
    return tuple(named), clipped or room.dropped > 0


# --- lines ------------------------------------------------------------------------------------------------------------


def _lines(folder: Path) -> tuple[list[dict[str, Any]], set[str], bool]:
    """The turns of a recording, as in its transcript; the items that left it; whether there are more."""
    journal = folder / JOURNAL
    notes, deleted = _notes(journal)
    if not notes.turns:
        lines, clipped = _transcript(folder / f"{TRANSCRIPT}.jsonl")
        return lines, deleted, clipped
    unfinished = [turn for turn in notes.turns.values() if not turn["line"]["text"]][-_MOST_OPEN:]
    _read_texts(journal, notes, {turn["line"]["item_id"] for turn in unfinished})
    lines = [line for line in notes.lines() if line["item_id"] not in deleted]
    for line in lines:
        if not line["text"]:
            turn = notes.turns[line["n"]]
            line["text"] = text = notes.text_of(line)
            line["heard"] = text if line["cut_ms"] is None else _heard(text, line["cut_ms"], turn["received_ms"])
    return lines, deleted, notes.dropped > 0


def _heard(text: str, cut_ms: Any, received_ms: Any) -> str:
    whole = isinstance(cut_ms, int) and isinstance(received_ms, int)
    return heard_text(text, cut_ms, max(1, received_ms)) if whole else ""


def _notes(journal: Path) -> tuple[TurnNotes, set[str]]:
    """What the recorder noted of the turns, and which items left the conversation."""
    notes, deleted = TurnNotes(_MOST_TURNS, _MOST_BYTES), dict[str, None]()
    for line in read_journal(journal, _ABOUT_TURNS):
        if line is None:
            continue
        if line.dir == "note":
            notes.take_note(event_of(line), len(bytes(line.event)))
        for update in line.updates:
            if isinstance(update, up.ItemDeleted):
                deleted[update.item_id[:_LONGEST_ID]] = None
                if len(deleted) > _MOST_TURNS:
                    del deleted[next(iter(deleted))]
            elif isinstance(update, up.ItemAdded):
                deleted.pop(update.item_id, None)
    return notes, set(deleted)


def _read_texts(journal: Path, notes: TurnNotes, items: set[str]) -> None:
    """Read again what came of turns that had not ended when the session was killed."""
    items.discard("")
    for line in read_journal(journal, [msgspec.json.encode(item) for item in items]) if items else ():
        for update in line.updates if line is not None else ():
            if isinstance(update, _TEXTS) and update.item_id in items:
                notes.take_text(update)


def _transcript(path: Path) -> tuple[list[dict[str, Any]], bool]:
    """The newest lines of a transcript, and whether there are more."""
    rows: deque[bytes] = deque()
    size, clipped = 0, False
    try:
        with path.open("rb") as file:
            while row := file.readline(LONGEST_LINE):
                rows.append(row)
                size += len(row)
                while len(rows) > _MOST_TURNS or size > _MOST_BYTES:
                    size -= len(rows.popleft())
                    clipped = True
    except FileNotFoundError:
        pass
    lines = []
    for row in rows:
        try:
            lines.append(msgspec.json.decode(row))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
    return [line for line in lines if isinstance(line, dict)], clipped


# --- entries ----------------------------------------------------------------------------------------------------------


class _Line(msgspec.Struct):
    """What is read of a line of a transcript; see docs/recording.md."""

    who: str
    text: str
    heard: str | None = None
    item_id: str = ""
    type: str = ""
    tool: str = ""
    call_id: str = ""
    out_of_band: bool = False
    clipped: bool = False


def _entry(line: dict[str, Any], n: int) -> Entry | None:
    """Return the entry that a line stands for; None where it is none that can be told again."""
    try:
        told = msgspec.convert(line, _Line)
    except msgspec.ValidationError:
        return None
    part = None if told.out_of_band else _part(told)
    if part is None:
        return None
    role = told.who if isinstance(part, Text) else "assistant" if isinstance(part, Call) else "tool"
    name = f"{told.item_id} {told.call_id}".strip()  # calls, and words before them, may be of one item
    return Entry(id=name or f"line {n}", role=role, parts=(part,))


def _part(told: _Line) -> Part | None:
    if told.who in _MESSAGES:
        text = told.text if told.heard is None else told.heard
        return Text(text=text) if text.strip() else None
    if told.who != "tool" or not told.call_id:
        return None
    if told.type == "function_call_output":
        return Result(call_id=told.call_id, output=told.text, name=told.tool)
    if told.type != "function_call" or told.clipped:
        return None
    arguments = told.text.removeprefix(f"{told.tool}(").removesuffix(")")
    return Call(call_id=told.call_id, name=told.tool, arguments=arguments or "{}")
