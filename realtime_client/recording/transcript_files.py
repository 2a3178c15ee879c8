"""The four files of a transcript: jsonl, Markdown, SubRip, WebVTT.

They end with a tail, the last turns, which is rewritten when one of them changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from . import render, subtitles
from .folder import TRANSCRIPT, replace_file
from .masking import Masker
from .turns import Turn
from .wav import create_private, write_all

_HEADS = {"jsonl": b"", "md": render.MD_HEAD.encode(), "srt": b"", "vtt": render.VTT_HEAD.encode()}


class _Drawn(NamedTuple):
    """A line as it is in the files."""

    jsonl: bytes
    md: bytes
    block: subtitles.Block | None


def _draw(line: render.Line, masker: Masker) -> _Drawn:
    line = masker.value(line)
    return _Drawn(
        msgspec.json.encode(line) + b"\n", render.markdown(line).encode("utf-8", "replace"), subtitles.block(line)
    )


class TranscriptFiles:
    """transcript.jsonl, .md, .srt, .vtt. Errors of every method: OSError."""

    def __init__(self, folder: Path, masker: Masker) -> None:
        self._folder = folder
        self._masker = masker
        self._files = {kind: create_private(self.path(kind)) for kind in _HEADS}
        for kind, text in _HEADS.items():
            write_all(self._files[kind], text)
        self._begin_tail()
        self._cues = self._cues_end_ms = 0

    def path(self, kind: str) -> Path:
        """Return the path of one of the four."""
        return (self._folder / TRANSCRIPT).with_suffix("." + kind)

    def _begin_tail(self) -> None:
        """What is written so far stays."""
        self._begins = {kind: file.seek(0, 2) for kind, file in self._files.items()}
        self._tails = dict.fromkeys(_HEADS, b"")
        self._there: list[_Drawn] = []

    def show(self, turns: Sequence[Turn]) -> None:
        """Make these the tail."""
        drawn = [self._drawn(turn) for turn in turns]
        if drawn == self._there:
            return
        cues = self._cues_of(turns)
        self._put("jsonl", b"".join(each.jsonl for each in drawn))
        self._put("md", b"".join(each.md for each in drawn))
        self._put("srt", "".join(cue.srt(self._cues + i) for i, cue in enumerate(cues, 1)).encode("utf-8", "replace"))
        self._put("vtt", "".join(cue.vtt() for cue in cues).encode("utf-8", "replace"))
        self._there = drawn

    def keep(self, turns: Sequence[Turn]) -> None:
        """Make these the tail, and begin a new one behind them."""
        self.show(turns)
        cues = self._cues_of(turns)
        self._cues += len(cues)
        self._cues_end_ms = cues[-1].end_ms if cues else self._cues_end_ms
        self._begin_tail()

    def _drawn(self, turn: Turn) -> _Drawn:
        if not isinstance(turn.drawn, _Drawn):
            turn.drawn = _draw(turn.line(), self._masker)
        return turn.drawn

    def _cues_of(self, turns: Sequence[Turn]) -> list[subtitles.Cue]:
        blocks = [self._drawn(turn).block for turn in turns]
        return subtitles.laid_out([block for block in blocks if block is not None], self._cues_end_ms)

    def _put(self, kind: str, tail: bytes) -> None:
        file, old, begin = self._files[kind], self._tails[kind], self._begins[kind]
        if tail == old:
            return
        same = len(old) if tail.startswith(old) else 0
        file.seek(begin + same)
        self._tails[kind] = b""  # when this fails, nobody knows what is there
        write_all(file, tail[same:])
        if len(tail) < len(old):
            file.truncate(begin + len(tail))
        self._tails[kind] = tail

    def close(self) -> None:
        """Close all four; idempotent."""
        for file in self._files.values():
            file.close()

    def rewrite(self, changes: dict[int, render.Line | None], moved: dict[str, str], *, over: bool) -> None:
        """Replace lines by number (None: it goes), put moved items (item_id: after) in their places, rewrite all four.

        over: nothing is in progress any more.
        """
        lines = [msgspec.json.decode(row) for row in self.path("jsonl").read_bytes().splitlines()]
        lines = [line for old in lines if (line := changes.get(old["n"], old)) is not None]
        if over:
            unfinished = {"status": "incomplete", "reason": "ended"}
            lines = [line | unfinished if line["status"] == "in_progress" else line for line in lines]
        for item_id, after in moved.items():
            lines = _move(lines, item_id, after)
        cues = write_transcripts(self._folder, lines, self._masker)
        self._cues, self._cues_end_ms = len(cues), cues[-1].end_ms if cues else 0

    def reopen(self) -> None:
        """Go on after what was rewritten."""
        self.close()
        self._files = {kind: create_private(self.path(kind), new=False) for kind in _HEADS}
        self._begin_tail()


def write_transcripts(folder: Path, lines: list[render.Line], masker: Masker) -> list[subtitles.Cue]:
    """Rewrite the four transcript files of a folder, each in one step; returns the cues. Errors: OSError."""
    drawn = [_draw(line, masker) for line in lines]
    cues = subtitles.laid_out([each.block for each in drawn if each.block is not None])
    whole = {
        "jsonl": b"".join(each.jsonl for each in drawn),
        "md": b"".join(each.md for each in drawn),
        "srt": "".join(cue.srt(i) for i, cue in enumerate(cues, 1)).encode("utf-8", "replace"),
        "vtt": "".join(cue.vtt() for cue in cues).encode("utf-8", "replace"),
    }
    for kind, data in whole.items():
        replace_file((folder / TRANSCRIPT).with_suffix("." + kind), _HEADS[kind] + data)
    return cues


def _move(lines: list[render.Line], item_id: str, after: str) -> list[render.Line]:
    """Put the line of one item after that of another, when both are there."""
    mine = next((line for line in lines if line["item_id"] == item_id), None)
    if mine is None or not any(line["item_id"] == after for line in lines):
        return lines
    rest = [line for line in lines if line is not mine]
    at = next(i for i, line in enumerate(rest) if line["item_id"] == after)
    return [*rest[: at + 1], mine, *rest[at + 1 :]]
