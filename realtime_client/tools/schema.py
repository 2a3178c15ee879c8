"""JSON schemas of arguments, in the shape that models' servers take."""

from __future__ import annotations

from typing import Any

import msgspec

_PLACES = "#/$defs/"
_DATA = ("default", "enum", "const", "examples")
_KINDS = {str: "string", int: "integer", bool: "boolean"}
_LEFT_OUT = ("uniqueItems", "discriminator")
"""Many servers refuse the first; a list with doubles makes a set all the same. The second refers to what is inlined."""


def schema_of(struct: type[msgspec.Struct], said: dict[str, str]) -> dict[str, Any]:
    """The schema of an object's fields. said: texts on fields that have none of their own.

    Without references, but for types that hold themselves: those stay in `$defs`. Errors: TypeError.
    """
    whole = msgspec.json.schema(struct)
    definitions: dict[str, Any] = whole["$defs"]
    top = definitions.pop(whole["$ref"].removeprefix(_PLACES))
    for name, field in top["properties"].items():
        if name in said:
            field.setdefault("description", said[name])
    inliner = _Inliner(definitions)
    schema: dict[str, Any] = inliner.of(top)
    del schema["title"]
    kept = {name: inliner.of(definitions[name]) for name in sorted(inliner.recursive)}
    return schema | ({"$defs": kept} if kept else {})


class _Inliner:
    def __init__(self, definitions: dict[str, Any]) -> None:
        self._definitions = definitions
        held = {name: _references(node) for name, node in definitions.items()}
        self.recursive = {name for name in definitions if name in _reached(name, held)}

    def of(self, node: Any) -> Any:
        """A schema with what it refers to in it."""
        if isinstance(node, list):
            return [self.of(each) for each in node]
        if not isinstance(node, dict):
            return node
        name = node.get("$ref", "").removeprefix(_PLACES)
        if name and name not in self.recursive:
            beside = {key: value for key, value in node.items() if key != "$ref"}
            return {key: value for key, value in self.of(self._definitions[name]).items() if key != "title"} | beside
        return _typed({key: self._under(key, value) for key, value in node.items() if key not in _LEFT_OUT})

    def _under(self, key: str, value: Any) -> Any:
        if key == "properties":
            return {name: self.of(each) for name, each in value.items()}
        return value if key in _DATA else self.of(value)


def _typed(node: dict[str, Any]) -> dict[str, Any]:
    """A choice of values with their type, which some servers demand."""
    kinds = {type(value) for value in node.get("enum", ())}
    name = _KINDS.get(kinds.pop()) if len(kinds) == 1 else None
    return {"type": name, **node} if name else node


def _references(node: Any) -> set[str]:
    """The definitions that a schema names."""
    if isinstance(node, list):
        return set().union(*map(_references, node))
    if not isinstance(node, dict):
        return set()
    reference = node.get("$ref")
    own = {reference.removeprefix(_PLACES)} if isinstance(reference, str) else set()
    return own.union(*(_references(value) for key, value in node.items() if key not in _DATA))


def _reached(start: str, held: dict[str, set[str]]) -> set[str]:
    """The definitions that one holds, at any depth."""
    reached: set[str] = set()
    todo = set(held[start])
    while todo:
        name = todo.pop()
        reached.add(name)
        todo |= held[name] - reached
    return reached
