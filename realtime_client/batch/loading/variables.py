"""`${name}` in the texts of a scenario. Pure.

`$${` stands for `${` itself. A text that is nothing but one `${name}` takes the value with its type; within other text
the value is written out (numbers and words as in YAML, anything else as JSON).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .problem import BAD, Mark, Problems, near
from .yaml_tree import Node, wrap

NAME = r"[A-Za-z_][A-Za-z0-9_.-]*"
_PART = re.compile(r"\$\$\{|\$\{(?:\s*(" + NAME + r")\s*\})?")
UNKNOWN = ""
"""Among the values: there may be any others, because the rows that hold them could not be read."""
MAX_TEXT_CHARS = 200_000


def is_name(text: str) -> bool:
    """Return whether this can be a variable's name."""
    return len(text) <= 100 and re.fullmatch(NAME, text) is not None


def uses_variables(node: Node) -> bool:
    """Return whether `fill` would change anything in this node."""
    if isinstance(node.value, str):
        return "${" in node.value
    children = node.value.values() if isinstance(node.value, dict) else node.value
    return isinstance(node.value, dict | list) and any(map(uses_variables, children))


def resolve(variables: Node | None, values: Mapping[str, Any], problems: Problems) -> dict[str, Any]:
    """Return the values of all variables: those of a row (`values`), over those of the scenario.

    A scenario's variable may contain others; one that contains itself is a mistake.
    """
    nodes = variables.value if variables is not None and isinstance(variables.value, dict) else {}
    return _Resolver(nodes, values, problems).all()


def fill(node: Node, values: Mapping[str, Any], problems: Problems) -> Node:
    """Return the node with its variables filled in; the node itself where there are none."""
    if isinstance(node.value, str):
        return _fill_text(node, node.value, values, problems) if "${" in node.value else node
    if isinstance(node.value, dict):
        filled = {key: fill(child, values, problems) for key, child in node.value.items()}
        changed = any(filled[key] is not child for key, child in node.value.items())
        return replace(node, value=filled) if changed else node
    if isinstance(node.value, list):
        items = [fill(child, values, problems) for child in node.value]
        return replace(node, value=items) if any(a is not b for a, b in zip(items, node.value, strict=True)) else node
    return node


def _fill_text(node: Node, text: str, values: Mapping[str, Any], problems: Problems) -> Node:
    whole = _PART.fullmatch(text.strip())
    if whole is not None and whole[1] is not None:
        return wrap(_value(whole[1], node, text.index("${"), values, problems), node.mark, whole[1])

    def put(found: re.Match[str]) -> str:
        if found[0] == "$${":
            return "${"
        if found[1] is None:
            hint = "it takes letters, digits, _ . and -, as ${name}; write $${ for the text itself"
            problems.add(_place(node, found.start()), "`${` is followed by no name", hint)
        value = BAD if found[1] is None else _value(found[1], node, found.start(), values, problems)
        unknown.append(value is BAD)
        return "" if value is BAD else written(value)

    unknown: list[bool] = []
    filled = _PART.sub(put, text)
    if any(unknown):
        return replace(node, value=BAD)
    if len(filled) > MAX_TEXT_CHARS:
        problems.add(node.mark, f"the text has {len(filled)} characters with its variables filled in")
        return replace(node, value=BAD)
    return replace(node, value=filled)


def _value(name: str, node: Node, at: int, values: Mapping[str, Any], problems: Problems) -> Any:
    if name in values:
        return values[name]
    if UNKNOWN in values:
        return BAD
    problems.add(_place(node, at), f"there is no variable {name!r}", near(name, values) or "add it to `variables`")
    return BAD


def _place(node: Node, at: int) -> Mark:
    """Return the place of a character of a text, as far as that is known (text on one line)."""
    return node.inner._replace(column=node.inner.column + at) if node.inner is not None else node.mark


def written(value: Any) -> str:
    """Return a variable's value as it is written within a text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


class _Resolver:
    """Fills variables into variables, each one once."""

    def __init__(self, nodes: Mapping[str, Node], given: Mapping[str, Any], problems: Problems) -> None:
        self._nodes = nodes
        self._problems = problems
        self._values: dict[str, Any] = dict(given)
        self._chain: list[str] = []

    def all(self) -> dict[str, Any]:
        for name in self._nodes:
            self._resolve(name)
        return self._values

    def _resolve(self, name: str) -> None:
        node = self._nodes.get(name)
        if node is None or name in self._values:
            return
        if name in self._chain:
            chain = " -> ".join([*self._chain[self._chain.index(name) :], name])
            self._problems.add(node.mark, f"the variable {name!r} is made of itself: {chain}")
            self._values[name] = BAD
            return
        self._chain.append(name)
        for other in _names(node):
            self._resolve(other)
        self._chain.pop()
        if name not in self._values:
            self._values[name] = fill(node, _Known(self._values, self._nodes), self._problems).plain()


class _Known(dict[str, Any]):
    """The values so far; iterating also names those to come, for `did you mean`."""

    def __init__(self, values: Mapping[str, Any], nodes: Mapping[str, Node]) -> None:
        super().__init__(values)
        self._all = dict.fromkeys([*values, *nodes])

    def __iter__(self) -> Any:
        return iter(self._all)


def _names(node: Node) -> list[str]:
    if isinstance(node.value, str):
        return [found[1] for found in _PART.finditer(node.value) if found[1]]
    children = node.value.values() if isinstance(node.value, dict) else node.value
    return [name for child in children for name in _names(child)] if isinstance(node.value, dict | list) else []
