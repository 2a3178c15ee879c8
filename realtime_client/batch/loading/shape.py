"""Whether a tree has the shape of a struct: every mistake, not only the first. Pure.

The shapes are read from the structs themselves (`msgspec.inspect`), so struct, loader and JSON schema cannot differ.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection
from typing import Any

import msgspec
import msgspec.inspect as types

from realtime_client.batch.scenario import Duration, Expect

from .problem import BAD, Mark, Problems, near
from .session_rules import SESSION_SETTINGS
from .variables import written
from .yaml_tree import Node, note_zeros, read_plain

_SWITCHES = ("yes", "no", "on", "off", "y", "n")
_DURATION_PATTERN: str = msgspec.json.schema(Duration)["pattern"]
_PATTERNS = {
    _DURATION_PATTERN: "a length of time, such as 300 ms, 1.5 s or 2 min",
    r"^[0-9A-D*#]+$": "keys of a telephone (0-9, A-D, * and #)",
}
_NOT_READ = object()


class Shaper:
    """Shapes one tree.

    places: path -> where its key (or list item) stands. values: path -> where the value itself stands.
    """

    def __init__(self, problems: Problems) -> None:
        self.places: dict[str, Mark] = {}
        self.values: dict[str, Mark] = {}
        self._problems = problems

    def shape(self, node: Node, cls: type[msgspec.Struct]) -> dict[str, Any]:
        """Return the tree as plain types that fit the struct, BAD in place of what does not."""
        self.places[""] = self.values[""] = node.mark
        return self._struct(node, _info(cls), "")

    def _value(self, node: Node, kind: types.Type, path: str) -> Any:
        if node.value is BAD:
            return BAD
        kind = _bare(kind)
        options = [_bare(option) for option in kind.types] if isinstance(kind, types.UnionType) else [kind]
        for option in _by_fitness(node, options):
            shaped = self._try(node, option, path)
            if shaped is not _NOT_READ:
                return shaped
        wanted = " or ".join(_wanted(o) for o in options if not isinstance(o, types.NoneType))
        self._problems.add(node.mark, f"{_label(path)} must be {wanted}, not {_shown(node)}", _hint(node, options))
        return BAD

    def _try(self, node: Node, kind: types.Type, path: str) -> Any:
        """Return the value as this kind, or _NOT_READ if it is of another."""
        if isinstance(kind, types.AnyType):
            note_zeros(node, self._problems)
            return node.plain()
        if isinstance(kind, types.StructType):
            return self._struct(node, kind, path) if isinstance(node.value, dict) else _NOT_READ
        if isinstance(kind, types.ListType):
            return self._list(node, kind, path) if isinstance(node.value, list) else _NOT_READ
        if isinstance(kind, types.DictType):
            return self._dict(node, kind, path) if isinstance(node.value, dict) else _NOT_READ
        return _scalar(node, kind)

    def _struct(self, node: Node, kind: types.StructType, path: str) -> dict[str, Any]:
        fields = {field.encode_name: field for field in kind.fields}
        shaped: dict[str, Any] = {}
        if kind.cls is Expect and not node.value:
            self._problems.add(node.mark, "`expect` is empty, so nothing is checked", "write a check, or leave it out")
        for key, child in node.value.items():
            if key not in fields:
                place = f" in {_label(path)}" if path else ""
                self._problems.add(
                    node.keys[key], f"there is no key {key[:80]!r}{place}", _where(key, fields) or near(key, fields)
                )
                continue
            shaped[key] = self._value(child, fields[key].type, self._note(path, key, node.keys[key], child.mark))
        for key, field in fields.items():
            if field.required and key not in shaped:
                what = f"{_label(path)} needs `{key}`" if path else f"the scenario needs `{key}`"
                self._problems.add(node.mark, what)
                shaped[key] = BAD
        return shaped

    def _list(self, node: Node, kind: types.ListType, path: str) -> list[Any]:
        return [
            self._value(child, kind.item_type, self._note(path, str(index), child.mark, child.mark))
            for index, child in enumerate(node.value)
        ]

    def _dict(self, node: Node, kind: types.DictType, path: str) -> dict[str, Any]:
        return {
            key: self._value(child, kind.value_type, self._note(path, key, node.keys[key], child.mark))
            for key, child in node.value.items()
        }

    def _note(self, path: str, key: str, place: Mark, value: Mark) -> str:
        inner = f"{path}.{key}" if path else key
        self.places[inner], self.values[inner] = place, value
        return inner


@functools.cache
def _info(cls: type[msgspec.Struct]) -> types.StructType:
    info = types.type_info(cls)
    assert isinstance(info, types.StructType)
    return info


def _where(key: str, fields: Collection[str]) -> str:
    """Return the other key under which this one belongs, '' for none."""
    homes = {"expect": Expect.__struct_fields__, "session": SESSION_SETTINGS}
    home = next((home for home, keys in homes.items() if home in fields and key in keys), "")
    return f"it belongs under `{home}`, indented" if home else ""


def is_whole(shaped: Any) -> bool:
    """Return whether nothing in it is BAD."""
    if isinstance(shaped, dict):
        return all(map(is_whole, shaped.values()))
    return all(map(is_whole, shaped)) if isinstance(shaped, list) else shaped is not BAD


def _bare(kind: types.Type) -> types.Type:
    while isinstance(kind, types.Metadata):
        kind = kind.type
    return kind


def _by_fitness(node: Node, options: list[types.Type]) -> list[types.Type]:
    """Return the kinds in the order in which to try them: a variable's list is a list where one is allowed."""
    if isinstance(node.value, dict | list):
        return sorted(options, key=lambda option: isinstance(option, types.StrType))
    return options


def _scalar(node: Node, kind: types.Type) -> Any:
    value = node.value
    if node.variable:
        value = _as_needed(value, kind)
    if isinstance(kind, types.NoneType):
        return None if value is None else _NOT_READ
    if isinstance(kind, types.BoolType):
        return value if isinstance(value, bool) else _NOT_READ
    if isinstance(kind, types.StrType):
        good = isinstance(value, str) and (kind.pattern is None or _matches(kind.pattern, value))
        return value if good else _NOT_READ
    if isinstance(kind, types.LiteralType):
        return value if value in kind.values else _NOT_READ
    if isinstance(kind, types.IntType):
        return value if isinstance(value, int) and not isinstance(value, bool) else _NOT_READ
    if isinstance(kind, types.FloatType) and isinstance(value, int | float) and not isinstance(value, bool):
        return value if kind.ge is None or value >= kind.ge else _NOT_READ
    return _NOT_READ


def _as_needed(value: Any, kind: types.Type) -> Any:
    """Read what came from a variable as required: numbers as text, text (CSV has nothing else) as a number."""
    if isinstance(kind, types.StrType) and not isinstance(value, str) and value is not None:
        return written(value)
    if isinstance(kind, types.IntType | types.FloatType | types.BoolType) and isinstance(value, str):
        return read_plain(value.strip())
    return value


@functools.lru_cache(maxsize=64)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _matches(pattern: str, text: str) -> bool:
    return _compiled(pattern).search(text) is not None and not text.endswith("\n")


def _wanted(kind: types.Type) -> str:
    if isinstance(kind, types.StrType):
        return "text" if kind.pattern is None else _PATTERNS.get(kind.pattern, f"text like {kind.pattern}")
    if isinstance(kind, types.LiteralType):
        return f"one of {', '.join(map(str, kind.values))}"
    if isinstance(kind, types.ListType):
        item = _bare(kind.item_type)
        return "a list of texts" if isinstance(item, types.StrType) else "a list"
    if isinstance(kind, types.FloatType):
        return "a number" if kind.ge is None else f"a number from {kind.ge:g} on"
    if isinstance(kind, types.IntType):
        return "a whole number"
    return "true or false" if isinstance(kind, types.BoolType) else "keys and values"


def _shown(node: Node) -> str:
    value = node.value
    if isinstance(value, dict):
        return "keys and values"
    if isinstance(value, list):
        return "a list"
    what = repr(value[:60]) if isinstance(value, str) else "nothing" if value is None else node.raw or written(value)
    return f"{what} (from ${{{node.variable}}})" if node.variable else what


def _hint(node: Node, options: list[types.Type]) -> str:
    value = node.value
    texts = [option for option in options if isinstance(option, types.StrType)]
    if isinstance(value, bool | int | float):
        if any(option.pattern == _DURATION_PATTERN for option in texts) and not isinstance(value, bool):
            return f"write the unit too, as {value:g} ms or {value:g} s"
        good = any(option.pattern is None or _matches(option.pattern, node.raw) for option in texts)
        return f'put it in quotes: "{node.raw or written(value)}"' if good else ""
    if isinstance(value, str) and not node.variable:
        if value.lower() in _SWITCHES and any(isinstance(option, types.BoolType) for option in options):
            return "write true or false"
        words = [str(w) for option in options if isinstance(option, types.LiteralType) for w in option.values]
        found = near(value, words) if words else ""
        if found.startswith("did"):
            return found
        if any(isinstance(o, types.FloatType | types.IntType) for o in options) and not isinstance(
            read_plain(value), str | None
        ):
            return "leave out the quotes"
    return ""


def _label(path: str) -> str:
    """Return how a part is called in a message: its own name, or for an item of a list its number."""
    outer, _, last = path.rpartition(".")
    if not last.isdecimal():
        return f"`{last}`"
    name = outer.rpartition(".")[2]
    one = {"turns": "turn", "tools": "tool", "tags": "tag"}.get(name)
    return f"{one} {int(last) + 1}" if one else f"`{name}`, entry {int(last) + 1},"
