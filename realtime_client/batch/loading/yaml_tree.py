"""YAML as a tree in which every value knows its place. Pure but for `read_text`.

Plain words are read by the core schema of YAML 1.2, as editors do: `no`, `on` and `12:30` are text, `true` is not.
Built from the parser's events, not by a constructor: no tag creates an object, and nesting and size are bounded.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .problem import Mark, Problems

MAX_FILE_BYTES = 8_000_000
MAX_DEPTH = 50
MAX_NODES = 500_000  # of one file, with its aliases written out

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_ZEROS = re.compile(r"[-+]?0[0-9]")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS: dict[str, Any] = dict.fromkeys(("", "~", "null", "Null", "NULL"))
_WORDS |= dict.fromkeys(("true", "True", "TRUE"), True) | dict.fromkeys(("false", "False", "FALSE"), False)
_TEXT_TAGS = ("!", "tag:yaml.org,2002:str")


@dataclass(slots=True)
class Node:
    """A value of a file. value: dict of nodes, list of nodes, or a plain JSON value.

    keys: of a dict, where each key stands. inner: of a text on one line, the place of its first character. variable:
    the name of the variable that the whole value came from, '' for none. size: number of nodes with those inside.
    raw: what the file says, where that became a number or a switch: `0123`, `1e3`.
    """

    value: Any
    mark: Mark
    keys: dict[str, Mark] = field(default_factory=dict)
    inner: Mark | None = None
    variable: str = ""
    size: int = 1
    raw: str = ""

    def plain(self) -> Any:
        """Return the value as plain JSON types."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        return [node.plain() for node in self.value] if isinstance(self.value, list) else self.value


def wrap(value: Any, mark: Mark, variable: str = "") -> Node:
    """Return plain JSON types as a node, all of it at one place."""
    if isinstance(value, dict):
        value = {str(key): wrap(item, mark, variable) for key, item in value.items()}
        return Node(value, mark, keys=dict.fromkeys(value, mark), variable=variable)
    if isinstance(value, list):
        value = [wrap(item, mark, variable) for item in value]
    return Node(value, mark, variable=variable)


def note_zeros(node: Node, problems: Problems) -> None:
    """Note numbers that begin with 0 where any value is allowed: if it is a code, the zeros would be lost."""
    if _ZEROS.match(node.raw):
        what = f"{node.raw} is read as the number {node.value}, without its zeros"
        problems.add(node.mark, what, f'put it in quotes: "{node.raw}"')
    children = node.value.values() if isinstance(node.value, dict) else node.value
    if isinstance(node.value, dict | list):
        for child in children:
            note_zeros(child, problems)


class _MistakeError(Exception):
    """Reading cannot go on after this one."""

    def __init__(self, mark: Mark, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.mark, self.hint = mark, hint


def read_text(path: Path, file: str, problems: Problems, *, at: Mark | None = None) -> str | None:
    """Read a file as UTF-8 text; None, and a mistake, if it cannot be read.

    file: its name for people. at: where the file is referred to, None when the user named it.
    """
    what = file if at is not None else "this"
    at = at or Mark(file)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            problems.add(at, f"{what} is not a regular file")
            return None
        if status.st_size > MAX_FILE_BYTES:
            problems.add(at, f"{what} is too big ({status.st_size} bytes)", f"at most {MAX_FILE_BYTES} are read")
            return None
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        problems.add(at, f"{what} cannot be read: {getattr(error, 'strerror', None) or error}")
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        problems.add(Mark(file, line, column), "this is not UTF-8 text", "save the file as UTF-8")
        return None


def parse(text: str, file: str, problems: Problems) -> list[Node]:
    """Return the documents of a YAML text as far as they could be read; empty ones are left out."""
    builder = _Builder(file, problems)
    documents: list[Node] = []
    try:
        documents.extend(builder.documents(yaml.parse(text, Loader=_Loader)))
    except _MistakeError as error:
        problems.add(error.mark, str(error), error.hint)
    except yaml.reader.ReaderError as error:
        at = error.position if isinstance(error.position, int) else 0
        line = text.count("\n", 0, at) + 1
        mark = Mark(file, line, at - (text.rfind("\n", 0, at) + 1) + 1)
        problems.add(mark, "here is a control character, which YAML does not allow")
    except yaml.MarkedYAMLError as error:
        _explain(error, text, file, problems)
    return documents


def _explain(error: yaml.MarkedYAMLError, text: str, file: str, problems: Problems) -> None:
    """Turn the parser's complaint into a message, with a hint where the usual cause is recognisable."""
    where = error.problem_mark or error.context_mark
    line, column = (where.line, where.column) if where is not None else (0, 0)
    lines = text.splitlines()
    shown = lines[line] if line < len(lines) else ""
    begun = error.context_mark.line + 1 if error.context_mark is not None else 0
    hint = ""
    if "\t" in shown[: column + 1]:
        hint = "there is a tab; indent with spaces"
    elif "mapping values are not allowed" in str(error.problem):
        hint = "put a text with a colon in quotes, and give the keys of one part the same indentation"
    elif "${" in shown and "flow" in str(error.context):
        hint = "within [ ] and { } put ${...} in quotes"
    elif re.search(r"[:\[{,-]\s*[*&]", shown) and "alias" in str(error.context) + str(error.problem):
        hint = "put a text that begins with * or & in quotes"
    elif "cannot start any token" in str(error.problem):
        hint = "put a text that begins with such a sign in quotes"
    elif "end of stream" in str(error.problem) and begun:
        hint = f"what begins in line {begun} is not closed"
    what = f"{error.context}: {error.problem}" if error.context else str(error.problem)
    problems.add(Mark(file, line + 1, column + 1), f"this is not YAML: {what}", hint)


class _Builder:
    """Assembles events into nodes: a stack of what is open, bounded in depth and size."""

    def __init__(self, file: str, problems: Problems) -> None:
        self._file = file
        self._problems = problems
        self._anchors: dict[str, Node | None] = {}
        self._open: list[tuple[Node, str | None]] = []  # the container, and its anchor
        self._keys: list[tuple[str, Mark] | None] = []  # of each open container: the key whose value comes next
        self._merges: dict[int, dict[str, tuple[Node, Mark]]] = {}  # by id of an open container: what << brings
        self._root: Node | None = None
        self._count = 0

    def documents(self, events: Iterator[Any]) -> Iterator[Node]:
        """Yield each document's node."""
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._anchors, self._root = {}, None
            elif isinstance(event, yaml.DocumentEndEvent):
                if self._root is not None and self._root.value is not None:
                    yield self._root
            elif isinstance(event, yaml.NodeEvent):
                self._node(event)
            elif isinstance(event, yaml.CollectionEndEvent):
                self._close()

    def _mark(self, event: Any) -> Mark:
        return Mark(self._file, event.start_mark.line + 1, event.start_mark.column + 1)

    def _node(self, event: Any) -> None:
        mark = self._mark(event)
        if isinstance(event, yaml.AliasEvent):
            self._place(self._aliased(str(event.anchor), mark), mark)
            return
        if event.tag is not None and not (isinstance(event, yaml.ScalarEvent) and event.tag in _TEXT_TAGS):
            self._problems.add(mark, f"the tag {event.tag[:40]} has no meaning here", "leave it out")
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event, mark)
            if event.anchor:
                self._anchors[event.anchor] = node
            self._place(node, mark)
            return
        if len(self._open) >= MAX_DEPTH:
            raise _MistakeError(mark, f"this is nested more than {MAX_DEPTH} deep")
        node = Node({} if isinstance(event, yaml.MappingStartEvent) else [], mark)
        if event.anchor:
            self._anchors[event.anchor] = None  # until it is closed
        self._open.append((node, event.anchor))
        self._keys.append(None)

    def _aliased(self, anchor: str, mark: Mark) -> Node:
        if anchor not in self._anchors:
            hint = "put a text that begins with * in quotes"
            raise _MistakeError(mark, f"there is no anchor &{anchor} before this *{anchor}", hint)
        node = self._anchors[anchor]
        if node is None:
            raise _MistakeError(mark, f"*{anchor} stands within &{anchor}: it would contain itself")
        return node

    def _scalar(self, event: Any, mark: Mark) -> Node:
        one_line = event.start_mark.line == event.end_mark.line
        quoted = event.style is not None and event.style != ""
        shift = 1 if quoted else 0
        inner = mark._replace(column=mark.column + shift) if one_line else None
        if quoted or event.tag in _TEXT_TAGS:
            return Node(event.value, mark, inner=inner)
        if _NOT_FINITE.fullmatch(event.value):
            self._problems.add(mark, f"{event.value} is no number that can be used", "put it in quotes if it is text")
        value = read_plain(event.value)
        return Node(value, mark, inner=inner, raw="" if isinstance(value, str) else event.value)

    def _place(self, node: Node, mark: Mark) -> None:
        """Put a finished node where it belongs; mark: where it is here (for an alias, not where it was written)."""
        self._count += node.size
        if self._count > MAX_NODES:
            raise _MistakeError(mark, f"the file holds more than {MAX_NODES} values once its aliases are written out")
        if not self._open:
            self._root = node
            return
        parent = self._open[-1][0]
        if isinstance(parent.value, list):
            parent.value.append(node)
        elif self._keys[-1] is None:
            self._keys[-1] = (self._key(node, mark), mark)
        else:
            self._entry(parent, *self._keys[-1], node)
            self._keys[-1] = None

    def _key(self, node: Node, mark: Mark) -> str:
        if isinstance(node.value, str):
            return node.value
        if node.value is None or isinstance(node.value, dict | list):
            raise _MistakeError(mark, "a key must be text", "put ${...} and { in quotes")
        return str(node.value).lower() if isinstance(node.value, bool) else str(node.value)

    def _entry(self, parent: Node, key: str, mark: Mark, node: Node) -> None:
        if key == "<<":
            self._merge(parent, mark, node)
        elif key in parent.keys:
            self._problems.add(mark, f"{key[:80]!r} is here twice; the first is in line {parent.keys[key].line}")
        else:
            parent.value[key], parent.keys[key] = node, mark

    def _merge(self, parent: Node, mark: Mark, node: Node) -> None:
        """Take over the entries of another mapping, as `<<: *anchor` asks; its own win wherever they are."""
        sources = node.value if isinstance(node.value, list) else [node]
        for source in sources:
            if not isinstance(source.value, dict):
                raise _MistakeError(mark, "<< takes a mapping, or a list of mappings")
            merged = self._merges.setdefault(id(parent), {})
            for key, value in source.value.items():
                merged.setdefault(key, (value, source.keys[key]))

    def _close(self) -> None:
        node, anchor = self._open.pop()
        self._keys.pop()
        for key, (value, mark) in self._merges.pop(id(node), {}).items():
            if key not in node.value:
                node.value[key], node.keys[key] = value, mark
        inside = node.value.values() if isinstance(node.value, dict) else node.value
        node.size = 1 + sum(child.size for child in inside)
        if anchor:
            self._anchors[anchor] = node
        self._count -= node.size - 1  # they were counted one by one
        self._place(node, node.mark)


def read_plain(text: str) -> Any:
    """Return what a word without quotes means, by the core schema of YAML 1.2 (section 10.3.2)."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) <= 40 and _INTEGER.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if len(text) <= 40 and _FLOAT.fullmatch(text):
        value = float(text)
        return value if abs(value) != float("inf") else text
    return text
