"""Finishes a folder whose recording was killed.

Sound files get correct headers, the journal loses a torn last line, conversation.wav gets what it lacks from the files
of the turns (and silence for other sound in the journal), the transcript is rebuilt from the journal, and session.json
says `killed`. Doing it twice changes nothing.
"""

from __future__ import annotations

import os
import wave
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from realtime_client.errors import RecordingError
from realtime_client.history import heard_text

from .folder import CONVERSATION, JOURNAL, RETRIEVED, SESSION, TURNS, iso, process_alive, replace_file
from .journal_line import AudioPlace
from .journal_reader import event_of, read_journal
from .masking import Masker
from .recover_sound import Placed, SoundStory, finish_conversation, frames_24k
from .summary import VERSION
from .timeline import RATE_HZ
from .transcript_files import write_transcripts
from .turn_notes import TurnNotes
from .wav import create_private, repair_wav

_decode = msgspec.json.decode


class RecoverReport(msgspec.Struct, kw_only=True):
    """What was done. repaired: files whose sizes were wrong. added_s: sound added to conversation.wav.

    lost_s: sound of the user that is in the journal and in no file: it is silent now. complete: there was nothing to
    do. dropped_bytes: of a torn last line of the journal.
    """

    folder: Path
    complete: bool = False
    repaired: list[str] = []
    dropped_bytes: int = 0
    added_s: float = 0.0
    lost_s: float = 0.0
    turns: int = 0


@dataclass(slots=True)
class _Story:
    """What the journal says."""

    lines: int = 0
    last_t: float = 0.0
    last_wall: float = 0.0
    notes: TurnNotes = field(default_factory=TurnNotes)
    sound: SoundStory = field(default_factory=SoundStory)


def recover(folder: Path | str, *, force: bool = False) -> RecoverReport:
    """Finish a recording that was killed. force: even when its process seems to live.

    Errors: RecordingError when it is no recording, is still going on, or cannot be read or written.
    """
    folder = Path(folder)
    try:
        session = _check(folder, force=force)
        if session.get("state") in {"ended", "killed"}:
            return RecoverReport(folder=folder, complete=True, turns=session.get("totals", {}).get("turns", 0))
        report = RecoverReport(folder=folder, repaired=_repair_files(folder))
        report.dropped_bytes = _trim(folder / JOURNAL)
        story = _read(folder / JOURNAL)
        report.added_s, report.lost_s = finish_conversation(folder, story.sound)
        lines = _transcript(folder, story)
        write_transcripts(folder, lines, Masker())
        report.turns = len(lines)
        _finish_session(folder, session, story, lines)
    except (OSError, EOFError, wave.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RecordingError(f"cannot recover {folder}: {reason}") from error
    return report


def _check(folder: Path, *, force: bool) -> dict[str, Any]:
    """Return what session.json says, {} when it cannot be read."""
    if not folder.is_dir():
        raise RecordingError(f"{folder} is not a folder")
    if not (folder / JOURNAL).is_file() and not (folder / SESSION).is_file():
        raise RecordingError(f"{folder} is not a recording: neither {JOURNAL} nor {SESSION} is in it")
    try:
        session = _decode((folder / SESSION).read_bytes())
    except (FileNotFoundError, msgspec.DecodeError):
        session = {}
    if not isinstance(session, dict):
        session = {}
    version, pid = session.get("version", VERSION), session.get("pid")
    if not isinstance(version, int) or version > VERSION:
        raise RecordingError(f"{folder} was written by a newer version (format {version}, this one knows {VERSION})")
    running = session.get("state") == "running" and pid != os.getpid()
    if running and not force and isinstance(pid, int) and process_alive(pid):
        raise RecordingError(f"{folder} is still being recorded by process {pid}; end that first")
    return session


def _repair_files(folder: Path) -> list[str]:
    for part in [*folder.glob("*.part"), *folder.glob(f"{TURNS}/*.part")]:
        part.unlink()
    repaired = []
    wavs = [folder / CONVERSATION, *sorted(folder.glob(f"{TURNS}/*.wav")), *sorted(folder.glob(f"{RETRIEVED}/*.wav"))]
    for wav in wavs:
        if wav.with_suffix(".flac").exists():
            wav.unlink()  # killed between the two steps: the FLAC is complete
        elif wav.exists() and repair_wav(wav):
            repaired.append(str(wav.relative_to(folder)))
    return repaired


def _trim(journal: Path) -> int:
    """Remove a torn last line; returns its size."""
    if not journal.exists():
        return 0
    with create_private(journal, new=False) as file:
        size = end = file.seek(0, os.SEEK_END)
        tail = b""
        while end and b"\n" not in tail:
            begin = max(0, end - 65_536)
            file.seek(begin)
            tail = (file.read(end - begin) or b"") + tail
            end = begin
        keep = end + tail.rfind(b"\n") + 1
        file.truncate(keep)
        return size - keep


def _read(journal: Path) -> _Story:
    story = _Story()
    for line in read_journal(journal):
        if line is None:
            continue  # another program damaged it; the others still count
        story.lines += 1
        story.last_t = max(story.last_t, line.t)
        story.last_wall = max(story.last_wall, line.wall)
        for update in line.updates:
            story.notes.take_text(update)
        if line.dir == "out":
            _take_places(story, line.audio)
        elif line.dir == "note" and isinstance(event := event_of(line), dict):
            _take_places(story, line.audio)
            try:
                _take_note(story, event)
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
                continue  # not a note of ours
    return story


def _number(value: Any) -> float:
    return value if isinstance(value, float) or (isinstance(value, int) and value.bit_length() < 60) else 0.0


def _take_note(story: _Story, event: dict[str, Any]) -> None:
    kind = event.get("type")
    if kind == "turn":
        story.notes.take_note(event)
    elif kind == "placed":
        left = event.get("channel") == "left"
        story.sound.placed.append(Placed(str(event["file"]), int(event["source"]), int(event["frame"]), left))
        if event.get("heard"):
            story.sound.heard.add(event["file"])
    elif kind == "cut":
        story.sound.cuts[event["file"]] = int(event["keep"])


def _take_places(story: _Story, places: list[AudioPlace]) -> None:
    for place in places:
        if place.file == CONVERSATION and place.channel == "left":
            story.sound.user_end = max(story.sound.user_end, (place.offset + place.length) // 4)


def _transcript(folder: Path, story: _Story) -> list[dict[str, Any]]:
    """Return the lines in the order of the conversation."""
    lines = story.notes.lines()
    for line in lines:
        _complete(folder, line, story.notes.turns[line["n"]], story)
    return lines


def _complete(folder: Path, line: dict[str, Any], turn: dict[str, Any], story: _Story) -> None:
    """Fill in what the turn's last note could not know."""
    if not line["text"]:
        text = story.notes.text_of(line)
        cut_ms = line["cut_ms"]
        line["text"] = text
        line["heard"] = text if cut_ms is None else heard_text(text, cut_ms, max(1, turn["received_ms"]))
    files = [line["audio"], *line.get("more_audio", [])]
    names = [_present(folder, name) for name in files if name]
    if names:
        line["audio"], *more = names
        if more:
            line["more_audio"] = more
    if story.sound.heard.intersection(files):
        line["end_s"] = max(line["start_s"], min(line["end_s"], round(story.last_t, 3)))
    if not turn["done"]:
        line["status"] = "killed"
        if story.sound.heard.intersection(files):
            return
        length = sum(frames_24k(folder / name) for name in names if name.endswith(".wav") and (folder / name).exists())
        line["end_s"] = max(line["end_s"], round(line["start_s"] + length / RATE_HZ, 3))


def _present(folder: Path, name: str) -> str:
    flac = name.removesuffix(".wav") + ".flac"
    return flac if not (folder / name).exists() and (folder / flac).exists() else name


def _finish_session(folder: Path, session: dict[str, Any], story: _Story, lines: list[dict[str, Any]]) -> None:
    session.setdefault("version", VERSION)
    totals = session["totals"] = session["totals"] if isinstance(session.get("totals"), dict) else {}
    totals["turns"] = len(lines)
    for who in ("user", "assistant"):
        files = folder.glob(f"{TURNS}/*-{who}*.wav")
        heard = round(sum(frames_24k(path) for path in files) / RATE_HZ, 3)
        totals[f"{who}_audio_s"] = max(_number(totals.get(f"{who}_audio_s")), heard)
    session.update(state="killed", how_it_ended="killed", duration_s=round(story.last_t, 3))
    session["ended"] = iso(story.last_wall) if story.last_wall else None
    replace_file(folder / SESSION, msgspec.json.format(msgspec.json.encode(session), indent=2) + b"\n")
