"""Text that comes in pieces, cut into what a voice says in one go; and markup turned into plain words. Pure.

A sentence is given as soon as it is whole, so that it can be spoken while the next one is still being written. What
looks like its end and is none: the point of an abbreviation, of an initial and of a number. A full stop is the end of a
sentence only once a space follows, because the next piece may go on (`3.` and `5`); in scripts without spaces nothing
follows. A line is a sentence of its own: a heading, an item of a list. One that does not end is cut after a clause, or
between two words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

LONGEST = 240
"""The most characters of a piece."""

_LEAST_CLAUSE = 120  # a sentence without an end is not cut before that
_CLOSERS = "\"'”’»)]}*_`~"  # noqa: RUF001
# An end: CJK punctuation; the end of a line; or Western punctuation before a space.
_END = re.compile(rf"[。！？｡][」』”’）]*\s*|\n\s*|(?P<mark>[.!?…]+)[{re.escape(_CLOSERS)}]*\s+")  # noqa: RUF001
_CLAUSE = re.compile(r"[,;:–—][^\S\n]+|[、，；：]")  # noqa: RUF001
_BEFORE = re.compile(r"(?P<word>[^\W\d_](?:[\w.]*\w)?|\d+)$")
_ABBREVIATIONS = frozenset(
    re.findall(
        r"\S+",
        "dr mr mrs ms prof sr jr st vs etc e.g i.e eg ie approx no nos fig vol ch pp p inc ltd co corp dept est gen gov"
        " sen rep rev capt col lt sgt mt ave blvd rd jan feb mar apr jun jul aug sep sept oct nov dec a.m p.m u.s u.k"
        " cf al bzw z.b d.h u.a usw ca nr str tel hr fr evtl ggf inkl m mme mlle sra dra ud",
    )
)
# After these a capital letter most often begins the next sentence.
_MAY_END = frozenset(("etc", "inc", "ltd", "co", "corp", "jr", "sr", "no", "a.m", "p.m", "u.s", "u.k", "al", "usw"))


class SentenceCutter:
    """Cuts a text that comes in pieces: always at the same places. Joined, `feed` and `end` return the text."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> list[str]:
        """Take more of the text; returns the sentences that are whole now."""
        self._held += text
        begin, out = 0, []
        while end := _end_of_first(self._held, begin):
            out.append(self._held[begin:end])
            begin = end
        self._held = self._held[begin:]
        return out

    def end(self) -> list[str]:
        """The text is complete; returns the rest of it."""
        rest, self._held = self._held, ""
        return [rest] if rest else []


def _end_of_first(text: str, begin: int) -> int:
    """Where the sentence ends that begins here, 0 while what has come does not tell."""
    most = begin + LONGEST
    for found in _END.finditer(text, begin, most):
        if found.end() == len(text):
            return 0  # more of the gap may come, or the word that tells what it is
        if text[begin : found.end()].strip() and not (found["mark"] and _goes_on(text, begin, found)):
            return found.end()
    if len(text) <= most:
        return 0
    clauses = [found.end() for found in _CLAUSE.finditer(text, begin + _LEAST_CLAUSE, most)]
    return clauses[-1] if clauses else text.rfind(" ", begin + 1, most) + 1 or most


def _goes_on(text: str, begin: int, found: re.Match[str]) -> bool:
    """Whether a sentence goes on after what looks like its end."""
    following = text[found.end()]
    if following.islower():
        quoted = not text[found.end("mark")].isspace()  # "Really?" he asked.
        return quoted or not {"!", "?"} & set(found["mark"])
    if found["mark"] != ".":
        return False
    before = _BEFORE.search(text, max(begin, found.start() - 24), found.start())
    if before is None:
        return False
    word = before["word"]
    if word.isdigit():  # "1. " begins an item of a list
        return not text[begin : before.start()].strip()
    if word.lower() in _ABBREVIATIONS:
        return not (word.lower() in _MAY_END and following.isupper())
    return len(word) == 1 and word.isupper() and word != "I" and following.isupper()


def sentences(text: str) -> Iterator[str]:
    """Cut a whole text; joined, the pieces are the text."""
    cutter = SentenceCutter()
    yield from cutter.feed(text)
    yield from cutter.end()


# --- plain words ------------------------------------------------------------------------------------------------------

_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*\)")
_LINE_MARK = re.compile(r"^[ \t]*(?:#{1,6}[ \t]+|>[ \t]?|[-*+•][ \t]+|(?:[-*_=][ \t]*){3,}$|```\w*$)", re.MULTILINE)
_MARKS = re.compile(r"\*\*|~~|`+|(?<!\w)__?(?=\S)|(?<=\S)__?(?!\w)|(?<!\w)\*(?=\S)|(?<=\S)\*(?!\w)")
# Pictographs and symbols, their modifiers and joiners (Unicode, blocks).
_EMOJI = re.compile("[\u200d\u20e3\u2600-\u27bf\u2b00-\u2bff\ufe0f\U0001f000-\U0001faff\U000e0020-\U000e007f]+")


def plain(text: str) -> str:
    """Return text without the marks of Markdown: what people would say of it."""
    return _MARKS.sub("", _LINE_MARK.sub("", _LINK.sub(r"\1", text)))


def speakable(text: str) -> str:
    """Return what a voice can say of a text: all but pictures."""
    return _EMOJI.sub("", text)
