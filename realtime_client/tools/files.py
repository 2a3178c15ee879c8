"""Tools from a Python file of the user's, for `--tools FILE.py`."""

from __future__ import annotations

import copy
from pathlib import Path

from realtime_client.errors import UsageError
from realtime_client.user_file import run_file

from .functions import as_tool
from .tool import Tool

_HOW = "put @tool above a function (from realtime_client.tools import tool), or name functions in a list: tools = [...]"


def load_tools(path: str | Path) -> list[Tool]:
    """Run a Python file, and return its tools: those of its list `tools`, else all that are made with `@tool`.

    Nothing in it is offered to the model without being named so. The tools' origin is the file's name, and none is
    `allowed`: people are asked, unless a tool only reads. Errors: UsageError with file and line.
    """
    path = Path(path)
    module = run_file(path)
    listed = getattr(module, "tools", None)
    if not isinstance(listed, list | tuple):
        listed = list({id(each): each for each in vars(module).values() if isinstance(each, Tool)}.values())
    if not listed:
        raise UsageError(f"{path}: there is no tool in it: {_HOW}")
    return [_taken(each, path) for each in listed]


def _taken(thing: object, path: Path) -> Tool:
    """One of the file's tools; a copy, since the tool may belong to a library."""
    try:
        tool = copy.copy(as_tool(thing))  # type: ignore[arg-type]  # it judges that
    except UsageError as error:
        line = getattr(getattr(thing, "__code__", None), "co_firstlineno", None)
        raise UsageError(f"{path}{f':{line}' if line else ''}: {error}") from error
    tool.origin, tool.home, tool.allowed = path.name, str(path.absolute()), False
    return tool
