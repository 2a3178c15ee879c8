"""What a recording's folder says, read for a report. Nothing in it is trusted to be as the recorder wrote it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from realtime_client.errors import RecordingError, UsageError
from realtime_client.recording.folder import CONVERSATION, JOURNAL, SESSION, TRANSCRIPT, audio_path, process_alive
from realtime_client.recording.journal_reader import read_journal
from realtime_client.recording.turns import SPEAKERS
from realtime_client.recording.wav import HEADER_BYTES

from .events import EventList
from .fields import listed, number, table, text
from .sound import PageSound, read_sound

MOST_TURNS = 10_000
MOST_OTHERS = 64
_LONGEST_GAP_MS = 60_000
_STEREO_24K = 96_000
_MONO_24K = 48_000
_LARGEST_LINE = 1 << 24


@dataclass(slots=True)
class ShownTurn:
    """A line of the transcript. start_s, end_s: in conversation.wav. heard is '' or the beginning of `text`.

    cut_ms: how much of the answer's sound was heard, None for all of it. tool: name of the function that was called
    (then `text` holds its arguments), or that returned `text`; the latter is '' in older recordings. sources: (how
    many characters come before, who made what follows, why the request before did not), where that is told. others:
    the answers that stand beside each other, of which `chosen` is this one. outcome: of a result, how the tool's work
    ended; tool_ms: how long it took, None where that is not known.
    """

    n: int
    who: str
    text: str
    heard: str
    start_s: float
    end_s: float
    status: str
    cut_ms: float | None = None
    interrupted: bool = False
    kind: str = ""
    tool: str = ""
    out_of_band: bool = False
    item_id: str = ""
    sources: list[tuple[int, str, str]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    chosen: int = 0
    outcome: str = ""
    tool_ms: float | None = None

    @property
    def calls(self) -> bool:
        """Whether it is a call of a tool."""
        return bool(self.tool) and self.kind != "function_call_output"

    @property
    def audible(self) -> bool:
        """Whether it has a stretch of conversation.wav."""
        return self.who in {"user", "assistant"} and self.end_s > self.start_s and not self.out_of_band


@dataclass(slots=True)
class SessionData:
    """Everything a session's report shows. problems: what could not be read, or is unfinished, in sentences."""

    name: str
    info: dict[str, Any]
    turns: list[ShownTurn]
    events: EventList
    sound: PageSound | None
    problems: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Length of the session's clock."""
        heard_s = self.sound.seconds if self.sound else 0.0
        return max(heard_s, number(self.info, "duration_s") or 0.0, self.events.last_s)


def is_session(folder: Path) -> bool:
    """Tell whether a folder is a recording."""
    return (folder / SESSION).is_file() or (folder / JOURNAL).is_file()


def read_session(folder: Path) -> SessionData:
    """Read a recording, finished or not.

    Errors: UsageError when its files cannot be opened; RecordingError for those of a newer version.
    """
    problems: list[str] = []
    try:
        info = _info(folder, problems)
        events = EventList(_Rates(folder))
        with ThreadPoolExecutor(
            1, thread_name_prefix="realtime-report-sound"
        ) as pool:  # encoding runs in parallel with the reading
            coming = pool.submit(read_sound, folder / CONVERSATION)
            events.read(read_journal(folder / JOURNAL))
            turns = _turns(folder, events, problems)
            sound = coming.result()
        empty = sound is None and (folder / CONVERSATION).exists()
    except OSError as error:
        raise UsageError(f"cannot read {folder}: {error.strerror or error}") from error
    if empty and (folder / CONVERSATION).stat().st_size > HEADER_BYTES:
        problems.append(f"{CONVERSATION} is not a recording of two channels, so there is no sound here.")
    if events.unreadable:
        problems.append(f"{events.unreadable:,} lines of {JOURNAL} cannot be read.")
    _reply_gaps(turns, events)
    return SessionData(folder.resolve().name, info, turns, events, sound, problems)


def _info(folder: Path, problems: list[str]) -> dict[str, Any]:
    """Return session.json, {} when it cannot be read; note what is unusual about it."""
    try:
        info = msgspec.json.decode((folder / SESSION).read_bytes())
    except FileNotFoundError:
        info = None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        info = None
    if not isinstance(info, dict):
        problems.append(f"{SESSION} is missing or cannot be read.")
        return {}
    state, pid = text(info, "state"), info.get("pid")
    if state == "running" and isinstance(pid, int) and process_alive(pid):
        problems.append("This session was still being recorded when the report was made.")
    elif state == "running":
        problems.append("This recording was cut off and never finished: `realtime recover` completes it.")
    elif state == "killed":
        problems.append("This recording was cut off, and finished afterwards from what was on disk.")
    elif state == "failed":
        problems.append("The recording failed before the session ended.")
    problems += [str(note) for note in info.get("notes", []) if isinstance(note, str)][:20]
    return info


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the complete lines of a file, without a torn last one; none when there is no file."""
    try:
        with path.open("rb", buffering=1 << 20) as file:
            while line := file.readline(_LARGEST_LINE):
                if line.endswith(b"\n"):
                    yield line
    except FileNotFoundError:
        return


def _turns(folder: Path, events: EventList, problems: list[str]) -> list[ShownTurn]:
    """Return the turns of the transcript, then those that only the journal has."""
    turns: list[ShownTurn] = []
    known: set[int] = set()
    for line in _lines((folder / TRANSCRIPT).with_suffix(".jsonl")):
        try:
            turn = _turn(msgspec.json.decode(line))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
        known.add(turn.n)
        if turn.n not in events.gone:
            turns.append(turn)
    turns += [_turn(table(note, "line")) for n, note in sorted(events.turn_notes.items()) if n not in known]
    if len(turns) > MOST_TURNS:
        problems.append(f"Only the first {MOST_TURNS:,} of {len(turns):,} turns are shown.")
    return turns[:MOST_TURNS]


def _turn(line: Any) -> ShownTurn:
    who, said = text(line, "who"), text(line, "text")
    heard = text(line, "heard")
    kind = text(line, "type")
    tool = text(line, "tool")
    if kind in {"function_call", "mcp_call"} and said.endswith(")") and "(" in said:
        tool, _, said = said[:-1].partition("(")
        heard = said
    start_s = max(0.0, number(line, "start_s") or 0.0)
    return ShownTurn(
        n=int(number(line, "n") or 0),
        who=who if who in SPEAKERS else "system",
        text=said,
        heard=heard if said.startswith(heard) else "",
        start_s=start_s,
        end_s=max(start_s, number(line, "end_s") or 0.0),
        status=text(line, "status"),
        cut_ms=number(line, "cut_ms"),
        interrupted=table({"line": line}, "line").get("interrupted") is True,
        kind=kind,
        tool=tool,
        out_of_band=table({"line": line}, "line").get("out_of_band") is True,
        item_id=text(line, "item_id"),
        sources=_sources(listed(line, "sources")),
        others=[other for other in listed(line, "alternatives")[:MOST_OTHERS] if isinstance(other, str)],
        chosen=int(number(line, "chosen") or 0),
        outcome=text(line, "outcome"),
        tool_ms=number(line, "tool_ms"),
    )


def _sources(found: list[Any]) -> list[tuple[int, str, str]]:
    """Return who made what of an answer, in the order of its text."""
    sources = [(int(number(each, "offset") or 0), text(each, "source"), text(each, "reason")) for each in found]
    return sorted((each for each in sources[:MOST_OTHERS] if each[0] >= 0), key=lambda each: each[0])


def _reply_gaps(turns: list[ShownTurn], events: EventList) -> None:
    """The silence between a spoken turn of the user and the answer to it, where nothing else sounds in between."""
    before: ShownTurn | None = None
    others_end_s = 0.0
    for turn in turns:
        if not turn.audible:
            continue
        if before is not None and before.who == "user" and turn.who == "assistant" and before.end_s >= others_end_s:
            gap_ms = (turn.start_s - before.end_s) * 1000
            if 0 <= gap_ms <= _LONGEST_GAP_MS:
                events.latencies.add("reply_gap", turn.start_s, gap_ms)
        others_end_s = max(others_end_s, before.end_s if before else 0.0)
        before = turn


class _Rates:
    """Bytes a second of the audio files that a journal names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, int] = {"": _MONO_24K, CONVERSATION: _STEREO_24K}

    def __call__(self, name: str) -> int:
        known = self._known.get(name)
        if known is None:
            known = self._read(name)
            if len(self._known) < 100_000:
                self._known[name] = known
        return known

    def _read(self, name: str) -> int:
        """Bytes a second as the header has it (WAV, bytes 28 to 32), 24 kHz mono when there is no such file."""
        try:
            path = audio_path(self._folder, name)
            if path.suffix != ".wav":
                return _MONO_24K
            file = os.open(path, os.O_RDONLY)
        except (RecordingError, OSError, ValueError):
            return _MONO_24K
        try:
            head = os.read(file, HEADER_BYTES)
        finally:
            os.close(file)
        rate = int.from_bytes(head[28:32], "little")
        return rate if head[:4] == b"RIFF" and rate >= 8_000 else _MONO_24K
