"""Parts of a shaped scenario, in which BAD stands for what is wrong: what is there of the right kind. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

Part = dict[str, Any]
_ASSERTION = re.compile(r"[$^]|\\[AbBzZ]|\(\?[(<!=]")  # with one of these, a match of an empty text says nothing


def pattern_problem(pattern: str) -> tuple[str, str]:
    """Return what is wrong with a regular expression, and a hint; ('', '') for nothing."""
    try:
        fits_nothing = re.compile(pattern).fullmatch("") is not None
    except (re.error, OverflowError, RecursionError) as error:
        return f"this is not a regular expression: {error}", ""
    if pattern.strip() and fits_nothing and not _ASSERTION.search(pattern):
        return "this fits every text, because it also fits an empty one", "say what must be there"
    return "", ""


def text_of(part: Part, key: str) -> str:
    """Return a text; '' where there is none."""
    value = part.get(key)
    return value if isinstance(value, str) else ""


def dict_of(part: Part, key: str) -> Part:
    """Return a mapping; an empty one where there is none."""
    value = part.get(key)
    return value if isinstance(value, dict) else {}


def dicts_of(part: Part, key: str) -> list[Part]:
    """Return the entries of a list, an empty one in place of a BAD one, so that the others keep their numbers."""
    value = part.get(key)
    return [item if isinstance(item, dict) else {} for item in value] if isinstance(value, list) else []


def each_text(part: Part, key: str, path: str) -> Iterator[tuple[str, str]]:
    """Yield path and text of a text, or of each text in a list."""
    value = part.get(key)
    if isinstance(value, str):
        yield f"{path}.{key}", value
    elif isinstance(value, list):
        yield from ((f"{path}.{key}.{i}", text) for i, text in enumerate(value) if isinstance(text, str))


def each_part(part: Part, key: str, path: str) -> Iterator[tuple[str, Part]]:
    """Yield path and entry of one mapping, or of each mapping in a list."""
    value = part.get(key)
    if isinstance(value, dict):
        yield f"{path}.{key}", value
    elif isinstance(value, list):
        yield from ((f"{path}.{key}.{i}", item) for i, item in enumerate(value) if isinstance(item, dict))
