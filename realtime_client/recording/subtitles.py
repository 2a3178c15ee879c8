"""Subtitles out of transcript lines: what stands on the screen, and when. Pure.

A cue is a sentence, or a part of one, on at most two lines of 42 columns (a wide character has two), for one to seven
seconds; cues are in order, and no two are there at once. Those are the limits of the field (Netflix's style guide,
BBC's guidelines) but for their five sixths of a second as the shortest.

Nobody states where words are in the audio, so the time of a turn is divided among its cues by their length. What was
typed, or answered without sound, has no time of its own: it stands until the next turn begins, or as long as it takes
to read it. What finds no room even for a second a cue (more than 80 letters a second) is cut off with an ellipsis; the
transcript has it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from realtime_client.escape import printable

COLUMNS = 42
LINES = 2
SHORTEST_MS, LONGEST_MS = 1_000, 7_000
_LATEST_MS = 5_000  # a cue that would come later than that is left out
_READ_PER_S = 17  # characters: the usual limit for adults
_SLOW = 20  # columns: what is shorter is not divided because it is spoken slowly
_EARNS = 20.0  # a break behind a comma may be so many columns off the middle
_LONGEST_LINE = 200_000
_MOST_SENTENCES = 10_000
_SENTENCE_END = re.compile("(?<=[.!?\u2026])[\"'\u201d\u2019)\\]]*\\s+|(?<=[\u3002\uff01\uff1f])|\\n+")
_PAUSE = (",", ";", ":", "\u2013", "\u2014", "\u3001", "\uff0c", ")")
_VOICES = {"user": "You", "assistant": "Assistant"}
# SubRip has no escapes, and players obey braces and backslashes in both kinds: `{\\an8}` moves text, `\\N` breaks it.
_TIME = re.compile(r"(?<=:\d\d)[.,](?=\d)")  # two of these on a line begin a cue to some readers, whatever is between
_WIDENED = "{}\\<>"
_SRT = str.maketrans({sign: ord(sign) + 0xFEE0 for sign in _WIDENED})
_VTT = str.maketrans({sign: ord(sign) + 0xFEE0 for sign in _WIDENED} | {"&": "&amp;"})


@dataclass(slots=True, frozen=True)
class Cue:
    """What stands on the screen from `start_ms` to `end_ms`. who: `user` or `assistant`."""

    start_ms: int
    end_ms: int
    who: str
    lines: tuple[str, ...]

    def srt(self, number: int) -> str:
        """Return it for SubRip; what players obey is written in full width."""
        text = "\n".join(self.lines).translate(_SRT)
        return f"{number}\n{_stamp(self.start_ms, ',')} --> {_stamp(self.end_ms, ',')}\n{text}\n\n"

    def vtt(self) -> str:
        """Return it for WebVTT."""
        text = "\n".join(self.lines).translate(_VTT)
        return f"{_stamp(self.start_ms, '.')} --> {_stamp(self.end_ms, '.')}\n<v {_VOICES[self.who]}>{text}\n\n"


@dataclass(slots=True, frozen=True)
class Block:
    """The cues of a turn before they have their times."""

    start_ms: int
    end_ms: int
    who: str
    cues: tuple[tuple[str, ...], ...]
    sizes: tuple[int, ...]

    def timed(self, until_ms: int | None) -> Iterator[Cue]:
        """Yield the cues with their times. until_ms: where the next turn begins."""
        sizes = self.sizes
        spoken_ms = self.end_ms - self.start_ms
        total_ms = spoken_ms
        if spoken_ms <= 0:
            total_ms = sum(min(max(SHORTEST_MS, size * 1000 // _READ_PER_S), LONGEST_MS) for size in sizes)
        if total_ms < len(sizes) * SHORTEST_MS:
            total_ms = max(total_ms, len(sizes) * SHORTEST_MS if until_ms is None else until_ms - self.start_ms)
        elif spoken_ms <= 0 and until_ms is not None:
            total_ms = min(total_ms, max(SHORTEST_MS, until_ms - self.start_ms))
        shown = min(len(sizes), max(1, total_ms // SHORTEST_MS))
        ends = _ends(sizes[:shown], max(total_ms, shown * SHORTEST_MS))
        for i, (lines, begin, end) in enumerate(zip(self.cues, [0, *ends], ends, strict=False)):
            text = _cut(lines) if i == shown - 1 and shown < len(sizes) else lines
            yield Cue(self.start_ms + begin, self.start_ms + min(end, begin + LONGEST_MS), self.who, text)


def block(line: dict[str, Any]) -> Block | None:
    """Return what is shown of a transcript line: what was heard of it. None for tools, asides, and nothing said."""
    if line["who"] not in _VOICES or line.get("out_of_band"):
        return None
    start_ms, end_ms = (_on_grid(min(max(0, float(line[key])), 1e9) * 1000) for key in ("start_s", "end_s"))
    text = _TIME.sub(lambda found: chr(ord(found[0]) + 0xFEE0), printable(str(line["heard"]))[:_LONGEST_LINE])
    ms = max(0, end_ms - start_ms)
    per_column_ms = ms / max(1, columns(text))
    pieces = [piece for sentence in sentences(text) for piece in _pieces(_words(sentence), per_column_ms)]
    cues = tuple(tuple(_wrapped(piece) or ()) for piece in _together(pieces, per_column_ms))
    sizes = tuple(sum(map(columns, lines)) for lines in cues)
    return Block(start_ms, start_ms + ms, line["who"], cues, sizes) if cues else None


def laid_out(blocks: Iterable[Block], after_ms: int = 0) -> list[Cue]:
    """Return the cues of several turns, one after the other, none before `after_ms`."""
    ordered = sorted(blocks, key=lambda each: each.start_ms)
    starts: list[int | None] = [*(each.start_ms for each in ordered[1:]), None]
    wanted = [cue for each, until_ms in zip(ordered, starts, strict=False) for cue in each.timed(until_ms)]
    out: list[Cue] = []
    for cue in sorted(wanted, key=lambda each: each.start_ms):
        last = out[-1] if out else None
        if last is not None:
            after_ms = min(last.end_ms, max(cue.start_ms, last.start_ms + SHORTEST_MS))
        start_ms = max(cue.start_ms, after_ms)
        if start_ms - cue.start_ms > _LATEST_MS:
            continue
        if last is not None:
            out[-1] = Cue(last.start_ms, after_ms, last.who, last.lines)
        end_ms = min(max(cue.end_ms, start_ms + SHORTEST_MS), start_ms + LONGEST_MS)
        out.append(Cue(start_ms, end_ms, cue.who, cue.lines))
    return out


def sentences(text: str, most: int = _MOST_SENTENCES) -> list[str]:
    """Cut a text after its sentences. The pieces put together are the text."""
    pieces: list[str] = []
    start = 0
    for found in _SENTENCE_END.finditer(text):
        if found.end() > start and len(pieces) < most - 1:
            pieces.append(text[start : found.end()])
            start = found.end()
    if start < len(text):
        pieces.append(text[start:])
    return pieces


def columns(text: str) -> int:
    """How much room a text takes: wide characters take two columns, marks on others none."""
    if text.isascii() and not any(sign in text for sign in _WIDENED):
        return len(text)
    return sum(map(_width, text))


def _width(char: str) -> int:
    if unicodedata.category(char) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if char in _WIDENED or unicodedata.east_asian_width(char) in "WF" else 1


Words = list[str]
"""Each with the space that stands before it, if there is one."""


def _words(text: str) -> Words:
    """The words of a text; those that fit on no line are cut."""
    words: Words = []
    for i, word in enumerate(text.split()):
        before, rest = " " if i else "", word
        while rest:
            head = _head(rest)
            words.append(before + head)
            before, rest = "", rest[len(head) :]
    return words


def _head(word: str) -> str:
    """As much of a word as one line holds."""
    if columns(word) <= COLUMNS:
        return word
    room = COLUMNS
    for i, char in enumerate(word):
        room -= _width(char)
        if room < 0:
            return word[:i]
    return word


def _pieces(words: Words, per_column_ms: float) -> Iterator[Words]:
    """Divide a sentence near its middle, until each piece fits a cue and its seven seconds."""
    if not words:
        return
    waiting = [words]
    while waiting:
        piece = waiting.pop()
        size = sum(map(columns, piece))
        slow = size > _SLOW and size * per_column_ms > LONGEST_MS
        if len(piece) == 1 or (not slow and _wrapped(piece) is not None):
            yield piece
            continue
        at = _middle(piece, size)
        waiting += [piece[at:], piece[:at]]


def _middle(words: Words, size: int) -> int:
    """Where to divide: near the middle, rather behind a comma."""
    best, best_cost, before = 1, float("inf"), 0
    for i, word in enumerate(words[:-1]):
        before += columns(word)
        cost = abs(size - 2 * before) / 2 - (_EARNS if word.endswith(_PAUSE) else 0.0)
        if cost < best_cost:
            best, best_cost = i + 1, cost
    return best


def _together(pieces: list[Words], per_column_ms: float) -> list[Words]:
    """Put pieces that are too short for a cue of their own to their neighbours."""
    out: list[Words] = []
    for piece in pieces:
        if out and per_column_ms:
            short = min(sum(map(columns, each)) for each in (out[-1], piece)) * per_column_ms < SHORTEST_MS
            gap = "" if _width(out[-1][-1][-1]) == 2 else " "
            both = [*out[-1], gap + piece[0].lstrip(), *piece[1:]]
            if short and _wrapped(both) is not None:
                out[-1] = both
                continue
        out.append(piece)
    return out


def _wrapped(words: Words) -> list[str] | None:
    """On one line, or on two as even as can be; None when it takes more."""
    size = sum(map(columns, words))
    if size > LINES * (COLUMNS + 1):
        return None
    text = "".join(words).strip()
    if columns(text) <= COLUMNS:
        return [text]
    best: tuple[int, list[str]] | None = None
    for i in range(1, len(words)):
        pair = ["".join(words[:i]).strip(), "".join(words[i:]).strip()]
        longest = max(map(columns, pair))
        if longest <= COLUMNS and (best is None or longest < best[0]):
            best = longest, pair
    return best[1] if best else None


def _ends(sizes: Sequence[int], total_ms: int) -> list[int]:
    """Divide a time by sizes, so that each part has its second."""
    spare = total_ms - len(sizes) * SHORTEST_MS
    whole = sum(sizes)
    rich = [max(0, size * total_ms // max(1, whole) - SHORTEST_MS) for size in sizes]
    all_rich = max(1, sum(rich))
    ends, at = [], 0
    for extra in rich:
        at += SHORTEST_MS + extra * spare // all_rich
        ends.append(_on_grid(at))
    return [*ends[:-1], _on_grid(total_ms)]


def _on_grid(ms: float) -> int:
    """Hundredths of a second: finer times overlap once a program has rounded them."""
    return round(ms / 10) * 10


def _cut(lines: tuple[str, ...]) -> tuple[str, ...]:
    """Show that there is more."""
    last = lines[-1]
    while columns(last) > COLUMNS - 1:
        last = last[:-1]
    return (*lines[:-1], last.rstrip() + "\u2026")


def _stamp(ms: int, point: str) -> str:
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{point}{ms % 1000:03}"
