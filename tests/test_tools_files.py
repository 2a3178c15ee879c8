"""Tools from a user's Python file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from realtime_client import updates as up
from realtime_client.errors import UsageError
from realtime_client.tools import Tool, ToolContext, load_tools
from realtime_client.tools.approval import Policy
from realtime_client.user_file import run_file

HEAD = "from realtime_client.tools import tool\n"
TWO = (
    HEAD
    + '''
@tool
def second(city: str) -> str:
    """Tell it."""
    return helper(city)

@tool(reads=True, timeout_s=2)
def first(days: int = 3) -> int:
    return days

def helper(city: str) -> str:
    """Help."""
    return city.upper()
'''
)


def write(folder: Path, text: str, name: str = "mine.py") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def run(tool: Tool, arguments: str = "{}") -> str:
    context = ToolContext("call_1", tool.name, facts=up.Facts, report=lambda *_: None)
    return tool.run(tool.check(arguments), context)


def test_what_is_decorated_is_a_tool(tmp_path: Path):
    second, first = load_tools(write(tmp_path, TWO))
    assert (second.name, second.spec.description, second.origin) == ("second", "Tell it.", "mine.py")
    assert (first.name, first.reads, first.timeout_s, first.origin) == ("first", True, 2.0, "mine.py")
    assert run(second, '{"city": "Rome"}') == "ROME"
    assert run(first) == "3"


def test_people_are_asked_unless_a_tool_only_reads(tmp_path: Path):
    text = HEAD + "@tool(allowed=True)\ndef a() -> None: ...\n@tool(reads=True)\ndef b() -> None: ...\n"
    policy = Policy()
    assert [policy.verdict(each.name, each) for each in load_tools(write(tmp_path, text))] == ["ask", "always"]


@pytest.mark.parametrize("bracket", ["[{}]", "({})"])
def test_a_list_names_them_all(tmp_path: Path, bracket: str):
    path = write(tmp_path, TWO + f"\ntools = {bracket.format('helper, first,')}\n")
    assert [each.name for each in load_tools(path)] == ["helper", "first"]


def test_what_it_imports_may_be_a_tool_and_stays_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path, HEAD + "@tool\ndef shared() -> None: ...\n", "shared_tools_file.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    text = "from realtime_client import tools\nfrom shared_tools_file import shared\nagain = shared\n"
    (taken,) = load_tools(write(tmp_path, text))
    own = sys.modules.pop("shared_tools_file").shared
    assert (taken.name, taken.origin, taken.allowed) == ("shared", "mine.py", False)
    assert (own.origin, own.allowed) == ("", True)


def test_classes_of_the_file_mean_what_they_say(tmp_path: Path):
    text = """
from __future__ import annotations
from dataclasses import dataclass, field
from typing import TypedDict
from realtime_client.tools import tool

@dataclass
class Node:
    name: str
    kids: list[Node] = field(default_factory=list)

class Options(TypedDict):
    node: Node

@tool
def count(node: Node, options: Options | None = None) -> int:
    return 1 + len(node.kids)
"""
    (count,) = load_tools(write(tmp_path, text))
    assert run(count, '{"node": {"name": "a", "kids": [{"name": "b"}]}}') == "2"


def test_two_files_of_one_name(tmp_path: Path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        text = f"{HEAD}WORD = '{folder}'\n@tool\ndef word() -> str:\n    return WORD\n"
        write(tmp_path / folder, text)
    found = [load_tools(tmp_path / folder / "mine.py")[0] for folder in ("one", "two")]
    assert [run(each) for each in found] == ["one", "two"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"mine.py: there is no tool in it: put @tool above a function \(from realtime_client.tools import tool\)"),
        ("def weather(city: str) -> str: ...", "there is no tool in it: .* or name functions in a list: tools = "),
        ("from realtime_client.tools import tool", "there is no tool"),
        ("tools = []", "there is no tool"),
        ("tools = 3", "there is no tool"),
        ("\ntools = [3]", "mine.py: tool int: a tool is made of a function, not of int"),
        ("\ndef f(a): ...\ntools = [f]", "mine.py:2: tool f: parameter a has no type hint"),
        (f"{HEAD}\n@tool\ndef f(a: int, b): ...", "mine.py:3: tool f: parameter b has no type hint"),
        ("\n1 / 0", "mine.py:2: cannot be run: ZeroDivisionError: division by zero"),
        ("def f():\n    fail()\n\nf()", "mine.py:2: cannot be run: NameError: name 'fail'"),
        ("import json\njson.loads('x')", "mine.py:2: cannot be run: JSONDecodeError"),
        ("a = 1\ndef f(:", "mine.py:2: cannot be run: SyntaxError"),
        ("import no_such_module_here", "mine.py:1: cannot be run: ModuleNotFoundError"),
        ("raise SystemExit(3)", "mine.py:1: cannot be run: SystemExit: 3"),
        ("a = '\\x00'\0", "cannot be run: "),
    ],
)
def test_files_with_mistakes(tmp_path: Path, text: str, says: str):
    with pytest.raises(UsageError, match=says) as caught:
        load_tools(write(tmp_path, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [("none.py", "there is no such file"), ("folder", "this is a folder"), ("text.txt", "not a Python file")],
)
def test_what_is_no_python_file(tmp_path: Path, name: str, says: str):
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.txt").write_text("tools = []")
    with pytest.raises(UsageError, match=says):
        load_tools(tmp_path / name)


def test_what_it_prints_goes_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    text = """
import sys
print("loaded")
sys.stdout.write("written\\n")

def speak(to: object = None) -> None:
    print("called", "twice", sep=", ", **({"file": to} if to else {}))
"""
    module: Any = run_file(write(tmp_path, text))
    module.speak()
    module.speak(sys.stdout)
    shown = capsys.readouterr()
    assert shown.err == "loaded\nwritten\ncalled, twice\n"
    assert shown.out == "called, twice\n", "unless it says where"
