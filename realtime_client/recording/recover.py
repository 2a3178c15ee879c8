"""Finishes a folder whose recording was killed.

Sound files get headers that fit, the journal loses a torn last line, conversation.wav gets what was received and not
yet written, the transcript is made anew from the journal, session.json says `killed`. Doing it twice changes nothing.
"""

from __future__ import annotations

import os
import wave
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from realtime_client.audio.pcm import interleave
from realtime_client.audio.resample import resample
from realtime_client.errors import RecordingError

from .folder import CONVERSATION, JOURNAL, RETRIEVED, SESSION, TURNS, iso, process_alive, replace_file
from .masking import Masker
from .summary import VERSION
from .timeline import RATE_HZ
from .transcripts import write_transcripts
from .turns import heard_text
from .wav import create_private, repair_wav, write_all

_decode = msgspec.json.decode
_BLOCK = RATE_HZ * 10
_DELTAS = {
    "response.output_audio_transcript.delta": "delta",
    "response.audio_transcript.delta": "delta",
    "response.output_text.delta": "delta",
    "response.text.delta": "delta",
}
_WHOLE = {
    "response.output_audio_transcript.done": "transcript",
    "response.audio_transcript.done": "transcript",
    "response.output_text.done": "text",
    "response.text.done": "text",
    "conversation.item.input_audio_transcription.completed": "transcript",
}


class RecoverReport(msgspec.Struct, kw_only=True):
    """What was done. repaired: files whose sizes were wrong. added_s: sound added to conversation.wav.

    complete: there was nothing to do. dropped_bytes: of a torn last line of the journal.
    """

    folder: Path
    complete: bool = False
    repaired: list[str] = []
    dropped_bytes: int = 0
    added_s: float = 0.0
    turns: int = 0


@dataclass(slots=True)
class _Story:
    """What the journal tells."""

    lines: int = 0
    last_t: float = 0.0
    last_wall: float = 0.0
    turns: dict[int, dict[str, Any]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    placed: list[tuple[str, int, int]] = field(default_factory=list)
    heard: set[str] = field(default_factory=set)  # files of which only what was heard is placed, when it was
    cuts: dict[str, int] = field(default_factory=dict)


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
        report.added_s = _finish_conversation(folder, story)
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
            wav.unlink()  # killed between the two: the FLAC is whole
        elif wav.exists() and repair_wav(wav):
            repaired.append(str(wav.relative_to(folder)))
    return repaired


def _trim(journal: Path) -> int:
    """Take a torn last line away; returns its size."""
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
    for row in _rows(journal):
        event = row.get("event")
        story.lines += 1
        story.last_t = max(story.last_t, row.get("t", 0.0))
        story.last_wall = max(story.last_wall, row.get("wall", 0.0))
        if not isinstance(event, dict):
            continue
        if row.get("dir") == "note":
            try:
                _take_note(story, event)
            except (KeyError, TypeError):
                continue  # not a note of ours
        elif row.get("dir") == "in":
            _take_text(story, event)
    return story


def _rows(journal: Path) -> Iterator[dict[str, Any]]:
    if not journal.exists():
        return
    with journal.open("rb") as file:
        for line in file:
            try:
                row = _decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue  # a line that another program damaged; the others still count
            if isinstance(row, dict):
                yield row


def _take_note(story: _Story, event: dict[str, Any]) -> None:
    kind = event.get("type")
    if kind == "turn":
        line = event["line"]
        story.turns[line["n"]] = event
        if event["done"] and line["text"]:
            story.texts.pop(line["item_id"], None)
    elif kind == "placed":
        story.placed.append((event["file"], event["source"], event["frame"]))
        if event.get("heard"):
            story.heard.add(event["file"])
    elif kind == "cut":
        story.cuts[event["file"]] = event["keep"]


def _take_text(story: _Story, event: dict[str, Any]) -> None:
    kind, item_id = event.get("type"), event.get("item_id")
    if not isinstance(kind, str) or not isinstance(item_id, str):
        return
    if kind in _DELTAS:
        story.texts[item_id] = story.texts.get(item_id, "") + str(event.get(_DELTAS[kind], ""))
    elif kind in _WHOLE:
        story.texts[item_id] = str(event.get(_WHOLE[kind], ""))


def _finish_conversation(folder: Path, story: _Story) -> float:
    """Append what was received of the assistant and not yet due; returns its seconds."""
    path = folder / CONVERSATION
    if not path.exists():
        return 0.0
    with create_private(path, new=False) as file:
        at = first = (file.seek(0, os.SEEK_END) - 44) // 4
        for name, source, frame, frames in _stretches(folder, story):
            skip = max(0, at - frame)
            if skip >= frames:
                continue
            _append_silence(file, frame + skip - at)
            right = _at_24k(folder / name)[(source + skip) * 2 : (source + frames) * 2]
            for begin in range(0, len(right), _BLOCK * 2):
                write_all(file, interleave(b"", right[begin : begin + _BLOCK * 2]))
            at = frame + skip + len(right) // 2
    repair_wav(path)
    return (at - first) / RATE_HZ


def _stretches(folder: Path, story: _Story) -> Iterator[tuple[str, int, int, int]]:
    """Every stretch of an answer that stands in conversation.wav: file, source, frame, frames; in order of time."""
    for i, (name, source, frame) in enumerate(story.placed):
        path = folder / name
        if not path.is_file() or path.parent.name != TURNS or ".." in name:
            continue  # became FLAC: then all of it is written
        if name in story.heard:
            continue  # what is not written was not heard when it ended, or in the last half second
        later = [begin for other, begin, _ in story.placed[i + 1 :] if other == name]
        end = min([*later[:1], story.cuts.get(name, 1 << 62), _frames_24k(path)])
        if end > source:
            yield name, source, frame, end - source


def _append_silence(file: Any, frames: int) -> None:
    if frames > 0:
        file.truncate(file.seek(0, os.SEEK_END) + frames * 4)
        file.seek(0, os.SEEK_END)


def _frames_24k(path: Path) -> int:
    with wave.open(str(path)) as file:
        return int(file.getnframes() * RATE_HZ // file.getframerate())


def _at_24k(path: Path) -> bytes:
    with wave.open(str(path)) as file:
        return resample(file.readframes(file.getnframes()), file.getframerate(), RATE_HZ)


def _transcript(folder: Path, story: _Story) -> list[dict[str, Any]]:
    """Return the lines in the order of the conversation."""
    lines: list[dict[str, Any]] = []
    for _, turn in sorted(story.turns.items()):
        line = dict(turn["line"])
        _complete(folder, line, turn, story)
        after = next((i for i, other in enumerate(lines) if other["item_id"] == turn["after"]), None)
        # Only an item that says so stands elsewhere than where it came.
        lines.insert(len(lines) if after is None or not line["item_id"] else _behind(lines, after, story), line)
    return lines


def _behind(lines: list[dict[str, Any]], index: int, story: _Story) -> int:
    """Where an item goes that follows the one at `index`: behind what hangs on that one without a place of its own."""
    index += 1
    while index < len(lines) and not story.turns[lines[index]["n"]]["after"]:
        index += 1
    return index


def _complete(folder: Path, line: dict[str, Any], turn: dict[str, Any], story: _Story) -> None:
    """Fill in what the turn's last note could not know."""
    if not line["text"]:
        text = story.texts.get(line["item_id"], "")
        cut_ms = line["cut_ms"]
        line["text"] = text
        line["heard"] = text if cut_ms is None else heard_text(text, cut_ms, max(1, turn["received_ms"]))
    files = [line["audio"], *line.get("more_audio", [])]
    names = [_present(folder, name) for name in files if name]
    if names:
        line["audio"], *more = names
        if more:
            line["more_audio"] = more
    if story.heard.intersection(files):
        line["end_s"] = max(line["start_s"], min(line["end_s"], round(story.last_t, 3)))
    if not turn["done"]:
        line["status"] = "killed"
        if story.heard.intersection(files):
            return
        length = sum(_frames_24k(folder / name) for name in names if name.endswith(".wav") and (folder / name).exists())
        line["end_s"] = max(line["end_s"], round(line["start_s"] + length / RATE_HZ, 3))


def _present(folder: Path, name: str) -> str:
    flac = name.removesuffix(".wav") + ".flac"
    return flac if not (folder / name).exists() and (folder / flac).exists() else name


def _finish_session(folder: Path, session: dict[str, Any], story: _Story, lines: list[dict[str, Any]]) -> None:
    session.setdefault("version", VERSION)
    totals = session.setdefault("totals", {})
    totals["turns"] = len(lines)
    for who in ("user", "assistant"):
        files = folder.glob(f"{TURNS}/*-{who}*.wav")
        heard = round(sum(_frames_24k(path) for path in files) / RATE_HZ, 3)
        totals[f"{who}_audio_s"] = max(totals.get(f"{who}_audio_s", 0.0), heard)
    session.update(state="killed", how_it_ended="killed", duration_s=round(story.last_t, 3))
    session["ended"] = iso(story.last_wall) if story.last_wall else None
    replace_file(folder / SESSION, msgspec.json.format(msgspec.json.encode(session), indent=2) + b"\n")
