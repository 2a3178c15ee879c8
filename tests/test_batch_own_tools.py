"""Scenarios with tools of their own: functions of a Python file and tools of MCP servers, in real runs."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from test_batch_play import case, passes, plan
from test_batch_suite import play

from realtime_client.batch.loading.load import load, with_files
from realtime_client.batch.playing.play import play_case
from realtime_client.batch.result import CaseResult
from realtime_client.local import LocalServer

OWN = '''
from realtime_client.tools import tool

calls = []

@tool
def add(first: int, second: int) -> int:
    """Add two numbers."""
    calls.append(first)
    return first + second + 100 * (len(calls) - 1)

@tool(reads=True)
def tell_secret() -> str:
    """Tell the secret of the house."""
    return "under the mat"

@tool
def break_down() -> str:
    """Break down and cry."""
    raise ValueError("no <b>luck")
'''
ADD = {"text": "Add 2 and 3."}


@pytest.fixture(scope="module")
def server():
    with LocalServer() as running:
        yield running


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(OWN, encoding="utf-8")
    return tmp_path


def test_the_scenarios_with_real_tools_are_green(project, tmp_path):
    suite = project / "scripts/scenarios/_tools"
    loaded = load([suite])
    assert loaded.problems == ()
    code, results, printed = play(tmp_path / "run", "--retries", "0", "--approve", "always", str(suite))
    wrong = {r.case: [c.message for c in r.checks if not c.ok] or str(r.fault) for r in results if r.status != "passed"}
    assert (wrong, code) == ({}, 0), printed
    assert {use.name for r in results for step in r.steps for use in step.tools} == {
        "count_letters",
        "search_archive",
        "tell_time",
    }


def test_each_session_runs_the_file_anew(server, own):
    one = case(
        [{**ADD, "expect": {"tool": {"name": "add", "result": {"equals": 5}}}}], tools=[{"file": "own.py"}], folder=own
    )
    for _ in range(2):
        passes(play_case(one, plan(server.url, approve=("always",))))


def test_rules_decide_call_by_call(server, own):
    turns = [
        {**ADD, "expect": {"tool": {"name": "add", "status": "refused"}}},
        {"text": "Tell the secret.", "expect": {"tool": {"name": "tell_secret", "status": "completed"}}},
    ]
    one = case(turns, tools=[{"file": "own.py"}], folder=own)
    result = passes(play_case(one, plan(server.url, approve=("break_*=always",))))
    assert result.steps[0].tools[0].error == "nobody is here who could allow it"


def test_only_some_tools_of_a_file_are_offered(server, own):
    turns = [{**ADD, "expect": {"no_tool": True}}, {"text": "Tell the secret.", "expect": {"no_tool": "add"}}]
    one = case(turns, tools=[{"file": "own.py", "only": ["tell_secret"]}], folder=own)
    result = play_case(one, plan(server.url, approve=("always",)))
    assert [check.ok for check in result.checks] == [True, False]
    assert result.checks[1].message == "expected no call of add, but no tool add was offered"


def test_a_tool_that_fails_is_a_result(server, own):
    turns = [{"text": "Break down and cry.", "expect": {"tool": {"name": "break_down", "status": "failed"}}}]
    result = passes(
        play_case(case(turns, tools=[{"file": "own.py"}], folder=own), plan(server.url, approve=("always",)))
    )
    assert "no <b>luck" in result.steps[0].tools[0].error


def test_a_file_travels_with_its_case(server, own):
    one = with_files(case([{**ADD, "expect": {"contains": "5"}}], tools=[{"file": "own.py"}], folder=own))
    (own / "own.py").unlink()
    passes(play_case(one, plan(server.url, approve=("always",))))


def problem(result: CaseResult) -> str:
    assert (result.status, result.steps) == ("error", [])
    assert not result.fault.connected
    return f"{result.fault.kind}: {result.fault.message}"


@pytest.mark.parametrize(
    ("content", "only", "message"),
    [
        ("1 / 0", None, "UsageError: "),
        ("x = 1", None, "there is no tool in it"),
        (OWN, ["sub"], "own.py has no tool 'sub'; there are: add, tell_secret, break_down"),
    ],
)
def test_a_file_that_cannot_be_used_is_no_verdict(content, only, message, server, tmp_path):
    (tmp_path / "own.py").write_text(content, encoding="utf-8")
    tools = [{"file": "own.py"} | ({"only": only} if only else {})]
    result = play_case(case([ADD], tools=tools, folder=tmp_path), plan(server.url, approve=("always",)))
    assert message in problem(result)


def test_a_server_that_cannot_be_started_is_no_verdict(server, tmp_path):
    one = case([ADD], mcp={"gone": {"command": "no-such-program-here"}}, folder=tmp_path)
    assert "no-such-program-here" in problem(play_case(one, plan(server.url, approve=("always",))))


@pytest.mark.parametrize(
    ("mcp", "place", "message"),
    [
        ("mcp: ftp://example.org/x", "2:6", "ftp"),
        ("mcp: [python3 a.py, '\"unclosed']", "2:21", "cannot be split"),
        ("mcp: {a: {args: [x]}}", "2:10", "it needs a command, or a url"),
        ("mcp: {a: {command: x, url: 'http://h/'}}", "2:10", "and not both"),
        ("mcp: {'a b': {command: x}}", "2:14", "the name of a server"),
        ("mcp: {a: {command: x, evn: [A]}}", "2:23", "there is no key 'evn' in `a`; did you mean env?"),
        ("mcp: {a: {command: x, env: [A=1]}}", "2:10", "env"),
        ("mcp: {a: {command: x, timeout: 5}}", "2:32", "write the unit too"),
    ],
)
def test_mistakes_in_servers(mcp, place, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = f"name: a\n{mcp}\nturns: [{{text: hi, expect: {{no_tool: anything}}}}]\n"
    Path("s.yaml").write_text(textwrap.dedent(text), encoding="utf-8")
    (found,) = map(str, load(["s.yaml"]).problems)
    assert found.startswith(f"s.yaml:{place}: ")
    assert message in found
