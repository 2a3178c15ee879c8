"""Words: how texts are compared, and the word error rate. Pure.

Normalisation: Unicode NFKC, case folded, apostrophes dropped (`don't` is `dont`), every other punctuation mark is a
space, whole numbers in digits become English number words (both sides alike, so other languages lose nothing), and
each Chinese, Japanese or Korean character is a word of its own. In outline that of Radford et al., "Robust Speech
Recognition via Large-Scale Weak Supervision" (2022), appendix C, without its rewriting of spellings.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from realtime_client.escape import printable

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")
_APOSTROPHES = re.compile(r"['\u2019\u02bc]")
_ENDS_IN_WORD = re.compile(rf"[^\W{_CJK}]\Z")
_BEGINS_WITH_WORD = re.compile(rf"[^\W{_CJK}]")


def plain_words(text: str) -> list[str]:
    """Return the words without case, spaces and punctuation; numbers stay as they are."""
    folded = _APOSTROPHES.sub("", unicodedata.normalize("NFKC", text)).casefold()
    return _WORD.findall(folded)


def normal_words(text: str) -> list[str]:
    """Return the words as the word error rate compares them."""
    from realtime_client.local.numbers import number_words

    words: list[str] = []
    for word in plain_words(text):
        if word.isdecimal() and len(word) <= 3:
            words += number_words(int(word)).replace("-", " ").split()
        else:
            words.append(word)
    return words


def edit_distance(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the least number of substitutions, deletions and insertions that turn one into the other (Levenshtein)."""
    row = list(range(len(second) + 1))
    for n, one in enumerate(first, 1):
        diagonal, row[0] = row[0], n
        for m, other in enumerate(second, 1):
            diagonal, row[m] = row[m], min(row[m] + 1, row[m - 1] + 1, diagonal + (one != other))
    return row[-1]


def word_error_rate(reference: str, heard: str) -> float:
    """Return (substitutions + deletions + insertions) / words of the reference; may exceed 1.

    Of an empty reference: 0 when nothing was heard, else 1.
    """
    right, got = normal_words(reference), normal_words(heard)
    if not right:
        return float(bool(got))
    return edit_distance(right, got) / len(right)


def holds(text: str, words: str) -> bool:
    """Return whether a text holds these words: whole ones, whatever their case and the spaces between them."""
    needle = " ".join(words.split()).casefold()
    before = r"(?<!\w)" if _BEGINS_WITH_WORD.match(needle) else ""
    after = r"(?!\w)" if _ENDS_IN_WORD.search(needle) else ""
    return re.search(before + re.escape(needle) + after, " ".join(text.split()).casefold()) is not None


def shortened(text: str, limit: int = 80) -> str:
    """Return a text for one line of a message, without control characters."""
    line = " ".join(printable(text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"
