"""conversation.wav of a recording that was killed: what the files of the turns have and it has not is put into it."""

from __future__ import annotations

import os
import wave
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from realtime_client.audio.resample import resample

from .folder import CONVERSATION, TURNS
from .timeline import RATE_HZ
from .wav import HEADER_BYTES, create_private, repair_wav, write_all

_BLOCK = RATE_HZ * 10
_DRAFT = RATE_HZ * 3  # where the file ends there may be only one side of it yet
_LONGEST_SILENCE = RATE_HZ * 60  # that a journal can ask for: nothing waits longer to be written


@dataclass(slots=True, frozen=True)
class Placed:
    """From a frame (at 24 kHz) of its file on, sound stands at a frame of conversation.wav."""

    file: str
    source: int
    frame: int
    left: bool


@dataclass(slots=True)
class SoundStory:
    """What the journal tells of the sound."""

    placed: list[Placed] = field(default_factory=list)
    user_end: int = 0  # so far the user's sound goes, in frames of conversation.wav
    heard: set[str] = field(default_factory=set)  # files of which only what was heard is placed, when it was
    cuts: dict[str, int] = field(default_factory=dict)


def finish_conversation(folder: Path, story: SoundStory) -> tuple[float, float]:
    """Write what the turns have and conversation.wav has not; returns the seconds added, and those that nothing has.

    Errors: OSError, EOFError, wave.Error.
    """
    path = folder / CONVERSATION
    if not path.exists():
        return 0.0, 0.0
    with create_private(path, new=False) as file:
        end = first = max(0, file.seek(0, os.SEEK_END) - HEADER_BYTES) // 4
        spoken_end = first
        begin = max(0, first - _DRAFT)
        for stretch, frames in _stretches(folder, story):
            skip = max(0, begin - stretch.frame)
            if skip >= frames or stretch.frame - end > _LONGEST_SILENCE:
                continue
            mono = _at_24k(folder / stretch.file)[(stretch.source + skip) * 2 : (stretch.source + frames) * 2]
            at = stretch.frame + skip
            end = max(end, at + len(mono) // 2)
            _lengthen(file, end)
            for offset in range(0, len(mono), _BLOCK * 2):
                _put(file, at + offset // 2, mono[offset : offset + _BLOCK * 2], left=stretch.left)
            if stretch.left:
                spoken_end = max(spoken_end, at + len(mono) // 2)
        told_end = min(story.user_end, end + _LONGEST_SILENCE)
        _lengthen(file, told_end)
        end = max(end, told_end)
    repair_wav(path)
    return (end - first) / RATE_HZ, max(0, told_end - spoken_end) / RATE_HZ


def _stretches(folder: Path, story: SoundStory) -> Iterator[tuple[Placed, int]]:
    """Every stretch of a turn that stands in conversation.wav, and its frames; in order of time."""
    ends: dict[str, int] = {}
    stretches = []
    for placed in reversed(story.placed):
        stretches.append((placed, ends.get(placed.file, 1 << 62)))
        ends[placed.file] = placed.source
    for placed, later in reversed(stretches):
        path = folder / placed.file
        if not path.is_file() or path.parent.name != TURNS or ".." in placed.file:
            continue  # became FLAC: then all of it is written
        if placed.file in story.heard:
            continue  # what is not written was not heard when it ended, or in the last half second
        end = min(later, story.cuts.get(placed.file, 1 << 62), frames_24k(path))
        if 0 <= placed.source < end and placed.frame >= 0:
            yield placed, end - placed.source


def _lengthen(file: Any, frames: int) -> None:
    """Silence behind what is there, up to a frame."""
    if file.seek(0, os.SEEK_END) < HEADER_BYTES + frames * 4:
        file.truncate(HEADER_BYTES + frames * 4)


def _put(file: Any, frame: int, mono: bytes, *, left: bool) -> None:
    """Write one channel of what is there."""
    file.seek(HEADER_BYTES + frame * 4)
    stereo = bytearray(file.read(len(mono) * 2) or b"").ljust(len(mono) * 2, b"\0")
    first = 0 if left else 2
    stereo[first::4], stereo[first + 1 :: 4] = mono[0::2], mono[1::2]
    file.seek(HEADER_BYTES + frame * 4)
    write_all(file, bytes(stereo))


def frames_24k(path: Path) -> int:
    """Return how long a WAV file is, in frames at 24 kHz. Errors: OSError, EOFError, wave.Error."""
    with wave.open(str(path)) as file:
        return int(file.getnframes() * RATE_HZ // file.getframerate())


def _at_24k(path: Path) -> bytes:
    with wave.open(str(path)) as file:
        return resample(file.readframes(file.getnframes()), file.getframerate(), RATE_HZ)
