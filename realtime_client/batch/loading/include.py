"""From files to whole scenarios, still as trees: documents, `scenarios`, `include`, defaults.

What wins, from the weakest: what a file includes (a later one over an earlier one), the file's own defaults (the keys
beside `scenarios`), what a scenario includes, the scenario's own keys. How two values of one key are combined:

    session, variables, prices, expect    by their keys, the stronger wins; `latency` within `expect` likewise
    mcp                                   by the names of the servers, if both have names, the stronger wins
    tools                                 by name (or file), the stronger wins
    tags                                  both
    all others (turns, parameters ...)    the stronger alone

null takes a weaker value away.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from .problem import BAD, Mark, Problems
from .yaml_tree import Node, parse, read_text

MAX_INCLUDES = 1_000  # of one file: included files include others
_BY_KEY = ("session", "variables", "prices", "expect", "latency", "mcp")


@dataclass(frozen=True, slots=True)
class Draft:
    """A scenario with all that it includes, before variables. file: as people know it; folder: where that is."""

    node: Node
    file: str
    folder: Path


class Files:
    """Reads scenario files and what they include, each one once."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._read: dict[Path, list[Node]] = {}
        self._chain: list[tuple[Path, str]] = []
        self._included = 0

    def drafts(self, path: Path) -> list[Draft]:
        """Return the scenarios of a file."""
        file, folder = str(path), path.parent
        self._included = 0
        self._chain = [(_real(path), file)]
        before = len(self._problems)
        documents = self._documents(path, file, None)
        if not documents and len(self._problems) == before:
            self._problems.add(Mark(file, 1, 1), "there is no scenario in this file")
        return [Draft(node, file, folder) for document in documents for node in self._scenarios(document)]

    def _documents(self, path: Path, file: str, at: Mark | None) -> list[Node]:
        real = _real(path)
        if real not in self._read:
            text = read_text(path, file, self._problems, at=at)
            if text is None:
                return []
            self._read[real] = parse(text, file, self._problems)
        return self._read[real]

    def _scenarios(self, document: Node) -> Iterator[Node]:
        if not isinstance(document.value, dict):
            hint = "a scenario begins with `name: ...`; files whose names begin with _ are not taken for scenarios"
            self._problems.add(document.mark, "a scenario must hold keys and values", hint)
            return
        listed = document.value.get("scenarios")
        if listed is None and "scenarios" not in document.keys:
            yield self._whole(document, None)
            return
        if "name" in document.value:
            what = "a file with `scenarios` has no name of its own"
            self._problems.add(document.keys["name"], what, "each of its scenarios has one")
        if listed is None or not isinstance(listed.value, list) or not listed.value:
            self._problems.add(document.keys["scenarios"], "`scenarios` must be a list of scenarios")
            return
        defaults = self._whole(_without(document, "scenarios", "name"), None)
        for item in listed.value:
            if isinstance(item.value, dict):
                yield self._whole(item, defaults)
            else:
                self._problems.add(item.mark, "a scenario must hold keys and values")

    def _whole(self, own: Node, defaults: Node | None) -> Node:
        """Return a mapping over what it includes over the defaults, its turns spread out."""
        base = defaults
        for part in self._included_defaults(own):
            base = part if base is None else merge(base, part)
        own = self._with_turns(_without(own, "include"))
        return own if base is None else merge(base, own)

    def _included_defaults(self, own: Node) -> Iterator[Node]:
        asked = own.value.get("include")
        for name in self._names(asked) if asked is not None else ():
            for document in self._enter(name):
                if not isinstance(document.value, dict):
                    hint = "a list of turns is included where a turn stands"
                    self._problems.add(name.mark, f"{name.value} holds no keys and values", hint)
                    self._chain.pop()
                    continue
                for key in ("scenarios", "name"):
                    if key in document.keys:
                        what = f"an included file has no `{key}`"
                        self._problems.add(document.keys[key], what, f"it is included from {name.mark}")
                whole = self._whole(_without(document, "scenarios", "name"), None)
                self._chain.pop()
                yield whole

    def _with_turns(self, own: Node) -> Node:
        turns = own.value.get("turns")
        if turns is None or not isinstance(turns.value, list):
            return own
        before = len(self._problems)
        spread: list[Node] = list(self._spread(turns.value))
        lost = not spread and len(self._problems) > before
        return replace(own, value=own.value | {"turns": replace(turns, value=BAD if lost else spread)})

    def _spread(self, turns: list[Node]) -> Iterator[Node]:
        """Yield turns, with those of the file in place of `include: FILE`."""
        for turn in turns:
            if not isinstance(turn.value, dict) or "include" not in turn.value:
                yield turn
                continue
            for key in turn.value.keys() - {"include"}:
                what = f"`{key}` cannot stand beside `include` in a turn"
                self._problems.add(turn.keys[key], what, "the included turns bring their own")
            for name in self._names(turn.value["include"]):
                for document in self._enter(name):
                    yield from self._spread(self._turns_of(document, name))
                    self._chain.pop()

    def _turns_of(self, document: Node, name: Node) -> list[Node]:
        found = document
        if isinstance(document.value, dict) and "turns" in document.value:
            found = document.value["turns"]
        if isinstance(found.value, list):
            return list(found.value)
        self._problems.add(name.mark, f"{name.value} holds no turns", "it must be a list, or have a key `turns`")
        return []

    def _names(self, asked: Node) -> Iterator[Node]:
        """Yield the names of files of an `include`."""
        for name in asked.value if isinstance(asked.value, list) else [asked]:
            if not isinstance(name.value, str) or not name.value.strip():
                self._problems.add(name.mark, "`include` takes the name of a file, or a list of names")
            elif "\0" in name.value:
                self._problems.add(name.mark, "this is not the name of a file")
            elif "${" in name.value:
                self._problems.add(name.mark, "the name of an included file holds no variables")
            else:
                yield name

    def _enter(self, name: Node) -> Iterator[Node]:
        """Yield the one document of an included file, after noting that we are in it; the caller pops the chain."""
        file = os.path.normpath(Path(name.mark.file).parent / name.value)
        path = Path(file)
        real = _real(path)
        self._included += 1
        places = [where for where, _ in self._chain]
        if real in places:
            chain = " -> ".join([shown for _, shown in self._chain[places.index(real) :]] + [file])
            self._problems.add(name.mark, f"a file includes itself: {chain}")
            return
        if self._included > MAX_INCLUDES:
            self._problems.add(name.mark, f"more than {MAX_INCLUDES} files are included")
            return
        documents = self._documents(path, file, name.mark)
        if len(documents) > 1:
            self._problems.add(documents[1].mark, "an included file holds one document")
        for document in documents[:1]:
            self._chain.append((real, file))
            yield document


def merge(base: Node, own: Node) -> Node:
    """Return two mappings as one; `own` is the stronger."""
    value, keys = dict(base.value), dict(base.keys)
    for key, node in own.value.items():
        weaker = base.value.get(key)
        keys[key] = own.keys[key]
        if node.value is None and weaker is not None:
            del value[key], keys[key]
        else:
            value[key] = node if weaker is None else _together(key, weaker, node)
    return replace(own, value=value, keys=keys)


def _together(key: str, weaker: Node, stronger: Node) -> Node:
    if key == "tools":
        weaker, stronger = listed(weaker), listed(stronger)
    if key in _BY_KEY and isinstance(weaker.value, dict) and isinstance(stronger.value, dict):
        return merge(weaker, stronger)
    if isinstance(weaker.value, list) and isinstance(stronger.value, list):
        if key == "tools":
            named = {_tool_name(node) for node in stronger.value}
            return replace(stronger, value=[n for n in weaker.value if _tool_name(n) not in named] + stronger.value)
        if key == "tags":
            there = {str(node.value) for node in weaker.value}
            return replace(stronger, value=weaker.value + [n for n in stronger.value if str(n.value) not in there])
    return stronger


def listed(tools: Node) -> Node:
    """Return `tools: FILE.py` as the list that it stands for; anything else as it is."""
    if not isinstance(tools.value, str):
        return tools
    entry = Node({"file": tools}, tools.mark, keys={"file": tools.mark})
    return replace(tools, value=[entry], inner=None)


def _tool_name(node: Node) -> str:
    known = node.value if isinstance(node.value, dict) else {}
    if "file" in known:
        return f"{Path(known['file'].mark.file).parent}/{known['file'].value}"
    return str(known["name"].value) if "name" in known else ""


def _without(node: Node, *names: str) -> Node:
    return replace(node, value={key: child for key, child in node.value.items() if key not in names})


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
