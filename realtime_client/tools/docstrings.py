"""What a function's docstring says of it, and of its parameters, for the model."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection
from typing import NamedTuple


class Described(NamedTuple):
    """The first paragraph, on one line, and the text on each parameter that has one."""

    summary: str
    parameters: dict[str, str]


def described(docstring: str | None, names: Collection[str]) -> Described:
    """Read a docstring in the style of Google, NumPy or reST, or with `name: text.` in its sentences.

    names: the function's parameters.
    """
    text = inspect.cleandoc(docstring or "")
    if "\n" not in text:
        return Described(text, {})
    summary, said = _styled(text)
    first, *paragraphs = re.split(r"\n\s*\n", text)
    found = _in_sentences(paragraphs, names) | {name: said[name] for name in names if said.get(name)}
    return Described(_joined(summary or first), found)


def _styled(text: str) -> tuple[str, dict[str, str]]:
    """The first paragraph and the parameters, if they are in a style that is known."""
    import docstring_parser

    try:
        parsed = docstring_parser.parse(text)
    except Exception:  # noqa: BLE001 - it fails in more ways than its ParseError; then the text is in no style
        return "", {}
    summary = parsed.short_description or ""
    if parsed.long_description and not parsed.blank_after_short_description:
        summary += "\n" + re.split(r"\n\s*\n", parsed.long_description)[0]
    return summary, {each.arg_name: _joined(each.description or "") for each in parsed.params}


def _in_sentences(paragraphs: list[str], names: Collection[str]) -> dict[str, str]:
    """`city: where. days: how many.` in a paragraph."""
    if not names:
        return {}
    name = re.compile(rf"(?:^|(?<=[.;]\s))({'|'.join(map(re.escape, names))}): ")
    found: dict[str, str] = {}
    for paragraph in paragraphs:
        _, *pieces = name.split(_joined(paragraph))
        found |= dict(zip(pieces[::2], (piece.strip() for piece in pieces[1::2]), strict=True))
    return found


def _joined(text: str) -> str:
    return " ".join(text.split())
