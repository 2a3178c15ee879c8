"""English number words, as far as the demo needs them."""

from __future__ import annotations

import re

_SMALL: list[str] = re.findall(
    r"\w+",
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen",
)
_TENS: list[str] = re.findall(r"\w+", "zero ten twenty thirty forty fifty sixty seventy eighty ninety")

_UNITS = "|".join(_SMALL[1:10])
_COMPOUND = rf"(?:{'|'.join(_TENS[2:])})(?:[ -](?:{_UNITS}))?"
NUMBER = rf"(?:-?\b\d+|\b(?:(?:a |one )?hundred|{_COMPOUND}|{'|'.join(reversed(_SMALL))})\b)"
"""A pattern for what `read_number` reads."""


def number_words(number: int) -> str:
    """Return a whole number in words, below a thousand; larger ones in digits."""
    if number < 0:
        return f"minus {number_words(-number)}"
    if number < 20:
        return _SMALL[number]
    if number < 100:
        tens, rest = divmod(number, 10)
        return _TENS[tens] + (f"-{_SMALL[rest]}" if rest else "")
    if number < 1_000:
        hundreds, rest = divmod(number, 100)
        return f"{_SMALL[hundreds]} hundred" + (f" and {number_words(rest)}" if rest else "")
    return str(number)


def read_number(text: str) -> int | None:
    """Read `12`, `twelve`, `twenty-one` or `hundred`; None for anything else."""
    word = text.strip().lower().replace("-", " ").strip()
    digits = text.strip()
    if digits.lstrip("-").isdecimal():
        return int(digits) if len(digits) < 16 else None
    if word in {"hundred", "a hundred", "one hundred"}:
        return 100
    total = 0
    for part in word.split():
        if part in _SMALL:
            total += _SMALL.index(part)
        elif part in _TENS:
            total += _TENS.index(part) * 10
        else:
            return None
    return total if word else None
