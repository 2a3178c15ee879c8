"""How the demo brain picks one of the client's tools, and fills in its arguments from what was said."""

from __future__ import annotations

import re
from typing import Any

from realtime_client.changes import ToolSpec

from .brain import BrainTurn
from .numbers import read_number

_COMMON = frozenset(
    re.findall(
        r"\w+",
        "a an and are at be by call can current do for from get give given how i in is it me my of on or please return "
        "returns set some tell that the this to tool use user using what whats which with you your",
    )
)
_MOST_CHARS = 10_000
_STOPS = _COMMON | {"now", "today", "there", "here"}


def _words(text: str) -> set[str]:
    text = re.sub(r"([a-z])([A-Z])", r"\1 \2", text[:_MOST_CHARS]).replace("_", " ")
    found = re.findall(r"[a-z]{2,}", text.lower())
    return {word.rstrip("s") if len(word) > 3 else word for word in found} - _COMMON


def choose_tool(turn: BrainTurn, asked: str) -> ToolSpec | None:
    """Return the tool to call now, or None.

    The one that is forced (tool_choice names one, or is `required`), else the one whose name or description shares most
    words with what was asked; words of the name count double.
    """
    if not turn.tools or turn.tool_choice == "none":
        return None
    named = [tool for tool in turn.tools if tool.name == turn.tool_choice]
    if named:
        return named[0]
    words = _words(asked)
    scored = [(2 * len(words & _words(t.name)) + len(words & _words(t.description)), t) for t in turn.tools]
    score, best = max(scored, key=lambda row: row[0])
    if turn.tool_choice == "required" or best.name.lower() in asked.lower():
        return best
    return best if score >= 2 else None


def fill_arguments(tool: ToolSpec, asked: str) -> dict[str, Any]:
    """Return arguments that fit the tool's schema, taken from the words as far as they have them."""
    whole = tool.parameters or {}
    properties = whole.get("properties")
    if not isinstance(properties, dict):
        return {}
    required = whole.get("required") or []
    source = _Source(asked, _words(f"{tool.name} {tool.description}"))
    arguments: dict[str, Any] = {}
    for name, schema in properties.items():
        value = source.find(str(name), schema if isinstance(schema, dict) else {})
        if value is None and name in required:
            value = _empty(schema if isinstance(schema, dict) else {}, asked)
        if value is not None:
            arguments[name] = value
    return arguments


def _empty(schema: dict[str, Any], asked: str) -> Any:
    """Return something of the right type for a required field that the words do not provide."""
    choices = schema.get("enum")
    if isinstance(choices, list) and choices:
        return choices[0]
    return {"string": asked, "number": 0, "integer": 0, "boolean": True, "array": [], "object": {}}.get(
        str(schema.get("type")), asked
    )


class _Source:
    """What was said, used up piece by piece: two fields never get the same number."""

    def __init__(self, asked: str, own_words: set[str]) -> None:
        self._asked = asked
        self._numbers = [n for n in map(_number, re.findall(r"-?\d+(?:\.\d+)?|[a-z]+", asked.lower())) if n is not None]
        self._quoted = re.findall(r"[\"“]([^\"”]+)[\"”]|(?<!\w)'([^']+)'(?!\w)", asked)
        self._own_words = own_words

    def find(self, name: str, schema: dict[str, Any]) -> Any:
        """Return a value for this field, or None."""
        choices = schema.get("enum")
        if isinstance(choices, list):
            return next((c for c in choices if _named(str(c), self._asked)), None)
        kind = schema.get("type")
        if kind in {"number", "integer"}:
            number = self._numbers.pop(0) if self._numbers else None
            return int(number) if number is not None and kind == "integer" else number
        if kind in {"string", None}:
            return self._text(name)
        return None

    def _text(self, name: str) -> str | None:
        if self._quoted:
            return str(next(filter(None, self._quoted.pop(0))))
        named = re.search(
            rf"\b{re.escape(name.replace('_', ' '))}\s+(?:is\s+|of\s+|=\s*)?([\w-]+)", self._asked, re.IGNORECASE
        )
        if named is not None and named[1].lower() not in _STOPS:
            return named[1]
        after = re.search(r"\b(?:in|for|at|to|about|of)\s+((?:the\s+)?[\w-]+(?:\s+[A-Z][\w-]*)*)", self._asked)
        if after is not None and after[1].lower() not in _STOPS:
            return after[1]
        rest = [w for w in re.findall(r"[\w'-]+", self._asked) if _fresh(w, self._own_words)]
        return rest[-1] if rest else None


def _named(word: str, text: str) -> bool:
    return re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) is not None


def _fresh(word: str, own_words: set[str]) -> bool:
    low = word.lower()
    return low not in _STOPS and low.rstrip("s") not in own_words and not low.isdecimal()


def _number(text: str) -> float | int | None:
    if re.fullmatch(r"-?\d+\.\d+", text):
        return float(text)
    return read_number(text)
