"""Words: how texts are compared, and the word error rate. Pure.

All texts are put into one form first (`normal`), so that what only a typesetter would tell apart is the same for every
check: Unicode compatibility forms (NFKC), quotes and apostrophes, dashes, spaces; soft hyphens and other marks that are
not seen are dropped.

Words, for the word error rate and for equality: of that form, case folded, apostrophes dropped (`don't` is `dont`),
every other punctuation mark is a space, and each Chinese, Japanese or Korean character is a word of its own; for the
word error rate whole numbers in digits become English number words (both sides alike, so other languages lose nothing).
In outline that of Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision" (2022), appendix C,
without its rewriting of spellings.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")
_ALIKE = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u02b9\u02bb\u02bc\u00b4`\u2039\u203a\uff07", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb\u300c\u300d\u300e\u300f\uff02", '"')
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d", "-")
    # Soft hyphen, zero-width spaces and joiners, marks of direction, selectors of variants.
    | dict.fromkeys(
        [0xAD, 0x61C, 0xFE0E, 0xFE0F, 0xFEFF, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x206A)]
    )
)
_ENDS_IN_WORD = re.compile(rf"[^\W{_CJK}]\Z")
_BEGINS_WITH_WORD = re.compile(rf"[^\W{_CJK}]")


def normal(text: str) -> str:
    """Return a text in the one form in which texts are compared, in its own case; '' where nothing is left."""
    return " ".join(unicodedata.normalize("NFKC", text.translate(_ALIKE)).translate(_ALIKE).split())


def plain_words(text: str) -> list[str]:
    """Return the words without case, spaces and punctuation; numbers stay as they are."""
    return _WORD.findall(normal(text).replace("'", "").casefold())


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


def same(text: str, other: str) -> bool:
    """Return whether two texts are the same, but for case, spaces and punctuation, if there is anything else in one."""
    wanted = plain_words(other)
    return plain_words(text) == wanted if wanted else normal(text) == normal(other)


def holds(text: str, words: str) -> bool:
    """Return whether a text holds these words: whole ones, whatever their case and the spaces between them.

    Nothing holds no words at all.
    """
    needle = normal(words).casefold()
    if not needle:
        return False
    before = r"(?<!\w)" if _BEGINS_WITH_WORD.match(needle) else ""
    after = r"(?!\w)" if _ENDS_IN_WORD.search(needle) else ""
    return re.search(before + re.escape(needle) + after, normal(text).casefold()) is not None
