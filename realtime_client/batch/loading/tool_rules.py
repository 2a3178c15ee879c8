"""What must be true of a scenario's tools and servers, and of what it expects of calls: every mistake. Pure.

Each mistake is a path, what is wrong there, and what to do about it. Files and servers are not run for it: what tools
they have is only known when a case is played.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from realtime_client.batch.judging.words import normal
from realtime_client.errors import UsageError

from .parts import Part, dict_of, dicts_of, each_part, each_text, pattern_problem, text_of
from .problem import Mark, near
from .servers import specs_of
from .shape import is_whole

_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CANNED = ("description", "parameters", "returns", "error", "delay")
Mistake = tuple[str, str, str]


def tool_names(scenario: Part) -> list[str] | None:
    """Return the names of all tools; None where only files and servers know them."""
    if scenario.get("mcp"):
        return None
    names = []
    for tool in dicts_of(scenario, "tools"):
        if "file" in tool and not isinstance(tool.get("only"), list):
            return None
        names += [name for _, name in each_text(tool, "only", "")] if "file" in tool else [text_of(tool, "name")]
    return [name for name in names if name]


def tool_problems(scenario: Part, marks: Mapping[str, Mark]) -> Iterator[Mistake]:
    """Yield the mistakes in `tools` and `mcp`. marks: path -> where the value stands."""
    seen: set[str] = set()
    for index, tool in enumerate(dicts_of(scenario, "tools")):
        path = f"tools.{index}"
        if "file" in tool:
            yield from _of_file(tool, path, marks)
            continue
        name = text_of(tool, "name")
        if tool and tool.get("name") is None:
            yield path, "a tool needs `name`, or `file` for the functions of a Python file", ""
        if name and not _TOOL_NAME.fullmatch(name):
            yield f"{path}.name", f"{name[:80]!r} cannot be the name of a tool", "letters, digits, _ and -"
        elif name in seen:
            yield f"{path}.name", f"the tool {name!r} is here twice", ""
        seen.add(name)
        if "only" in tool:
            yield f"{path}.only", "`only` belongs to `file`", ""
        if "returns" in tool and tool.get("error") is not None:
            yield f"{path}.error", "a tool has `returns` or `error`, not both", ""
        if dict_of(tool, "parameters").get("type", "object") != "object":
            hint = "write {type: object, properties: {...}}"
            yield f"{path}.parameters", "`parameters` must be the JSON schema of an object", hint
    yield from _of_servers(scenario)


def _of_file(tool: Part, path: str, marks: Mapping[str, Mark]) -> Iterator[Mistake]:
    for key in ("name", *_CANNED):
        if key in tool:
            yield f"{path}.{key}", f"`{key}` cannot stand beside `file`", "the file says it of its functions"
    if "only" in tool and not tool["only"]:
        yield f"{path}.only", "`only` is empty, so the file has no tools", "name functions, or leave it out"
    file = tool["file"]
    if not isinstance(file, str):
        if file is None:
            yield f"{path}.file", "`file` has no value", "name a Python file"
        return
    where = Path(marks[f"{path}.file"].file).parent / file if "\0" not in file else None
    if not file.endswith(".py") or where is None:
        yield f"{path}.file", f"{file[:80]!r} is no Python file", "its name ends in .py"
    elif not where.is_file():
        yield f"{path}.file", f"there is no file {where}", ""


def _of_servers(scenario: Part) -> Iterator[Mistake]:
    mcp = scenario.get("mcp")
    if "mcp" in scenario and not mcp:
        yield "mcp", "`mcp` is empty", "give a command or a URL, or leave it out"
    if not mcp or not is_whole(mcp):
        return
    entries: dict[str, object] = {"mcp": mcp}
    if isinstance(mcp, dict):
        entries = {f"mcp.{name}": {name: one} for name, one in mcp.items()}
    elif isinstance(mcp, list):
        entries = {f"mcp.{index}": one for index, one in enumerate(mcp)}
    for path, one in entries.items():
        try:
            specs_of(one, ".")
        except UsageError as error:
            yield path, str(error), ""


def call_problems(expect: Part, path: str, known: list[str] | None) -> Iterator[Mistake]:
    """Yield the mistakes in what is expected of calls. known: the names of all tools, None if they are not known."""

    def offered(name: object, at: str) -> Iterator[Mistake]:
        if isinstance(name, str) and known is not None and name not in known:
            yield at, f"the scenario offers no tool {name[:80]!r}", near(name, known) or "add it to `tools`"
        elif isinstance(name, str) and not name.strip():
            yield at, "the name of a tool is empty", ""

    for at, check in each_part(expect, "tool", path):
        yield from offered(check.get("name"), f"{at}.name")
        yield from _times(check, at)
        for name, value in dict_of(check, "where").items():
            if isinstance(value, dict):
                yield from _value(value, f"{at}.where.{name}")
        if isinstance(check.get("result"), dict):
            yield from _value(check["result"], f"{at}.result")
    if normal(text_of(expect, "no_tool")):
        yield from offered(expect["no_tool"], f"{path}.no_tool")
    for at, tools in each_part(expect, "tools", path):
        yield from _sets(tools, at, offered)


def _sets(tools: Part, at: str, offered: Callable[[object, str], Iterator[Mistake]]) -> Iterator[Mistake]:
    if not any(key in tools for key in ("order", "exactly", "only")):
        yield at, "`tools` needs `order`, `exactly` or `only`", ""
    if "adjacent" in tools and "order" not in tools:
        yield f"{at}.adjacent", "`adjacent` belongs to `order`", ""
    if isinstance(tools.get("order"), list) and len(tools["order"]) == 1:
        yield f"{at}.order", "one call alone has no order", "write `tool`"
    for key in ("order", "exactly", "only"):
        for place, name in each_text(tools, key, at):
            yield from offered(name, place)
        for place, call in each_part(tools, key, at):
            yield from offered(call.get("name"), f"{place}.name")


def _times(check: Part, at: str) -> Iterator[Mistake]:
    times = check.get("times")
    if isinstance(times, int) and times < 1:
        yield f"{at}.times", "`times` counts from 1", "write `no_tool` for never"
    if not isinstance(times, dict):
        return
    least, most = times.get("min"), times.get("max")
    if most is None and not least:
        yield f"{at}.times", "any number of calls is enough, so nothing is checked", "give `min` from 1 on, or `max`"
    elif isinstance(least, int) and isinstance(most, int) and least > most:
        yield f"{at}.times.min", f"`min` ({least}) is more than `max` ({most})", ""


def _value(value: Part, at: str) -> Iterator[Mistake]:
    """Yield the mistakes in what an argument, or a result, is to be like."""
    if not value.keys() - {"tolerance"}:
        yield at, "nothing is said of it, so nothing is checked", "give a check, such as `contains`"
    wanted = value.get("equals")
    if "tolerance" in value and (isinstance(wanted, bool) or not isinstance(wanted, int | float)):
        yield f"{at}.tolerance", "`tolerance` belongs to a number in `equals`", ""
    least, most = value.get("min"), value.get("max")
    if isinstance(least, int | float) and isinstance(most, int | float) and least > most:
        yield f"{at}.min", f"`min` ({least:g}) is more than `max` ({most:g})", ""
    for key in ("contains", "lacks", "matches"):
        for place, text in each_text(value, key, at):
            if not (text.strip() if key == "matches" else normal(text)):
                yield place, f"`{key}` has an empty text", ""
            elif key == "matches":
                yield place, *pattern_problem(text)
