"""Tools in runs: what scenarios say of them, how calls are judged, who allows them, and what becomes of them in results."""

from __future__ import annotations

import json
import textwrap
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cli_helpers import realtime
from test_batch_play import case, passes, plan
from tool_helpers import Scripted

from realtime_client.batch.judging.checks import check
from realtime_client.batch.judging.evidence import Evidence, Means
from realtime_client.batch.loading.load import cases, load
from realtime_client.batch.playing.turn import Call
from realtime_client.batch.result import CaseResult, CheckResult, RunInfo, StepResult, ToolUse
from realtime_client.batch.results.junit import junit_xml
from realtime_client.batch.results.results import csv_table
from realtime_client.batch.results.summary import figures
from realtime_client.batch.scenario import Expect
from realtime_client.local import LocalServer
from realtime_client.local.brain import CallTool, Say
from realtime_client.local.parts import Parts
from realtime_client.report.run_page import run_page
from realtime_client.session.tooling import NOBODY

WEATHER = {
    "name": "get_weather",
    "description": "the weather in a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "returns": "sunny",
}
ASKS = {"text": "What is the weather in Oslo?"}


@pytest.fixture(scope="module")
def server():
    with LocalServer() as running:
        yield running


# --- checks of one call -----------------------------------------------------------------------------------------------

OSLO = ToolUse(
    name="get_weather",
    arguments='{"city": "Oslo", "days": 3, "wind": true}',
    output="21.5",
    status="completed",
    at_ms=400.0,
    duration_ms=120.0,
)
ROME = ToolUse(
    name="get_weather",
    arguments='{"city": "Rome", "days": "3"}',
    output="warm and sunny",
    status="failed",
    error="no key",
    at_ms=900.0,
)
NEWS = ToolUse(name="get_news", arguments="{}", output="none", status="completed", at_ms=1_200.0, duration_ms=5.0)


def judged(expect: dict[str, Any], *uses: ToolUse, **fields: Any) -> CheckResult:
    seen = Evidence(turn=1, answer="Well.", tools=list(uses), **{"answered": True, **fields})
    (result,) = check(msgspec.convert(expect, Expect), seen, Means(place=lambda path: path))
    assert result.ok == (result.message == "")
    return result


def of_call(use: ToolUse, **wanted: Any) -> CheckResult:
    return judged({"tool": {"name": use.name, **wanted}}, use)


def test_a_call_that_nobody_could_be_asked_about_says_what_allows_it():
    found = of_call(ToolUse(name="pay", arguments="{}", status="refused", error=NOBODY), status="completed")
    assert found.message == f"pay was refused, expected completed: {NOBODY}; --approve pay=always allows it"


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        ({"equals": "oslo"}, {"equals": "Rome"}, 'city is "Oslo", expected "Rome"'),
        ({"contains": "Oslo"}, {"contains": ["Oslo", "Rome"]}, 'city does not contain "Rome": "Oslo"'),
        ({"lacks": "Rome"}, {"lacks": "oslo"}, 'city contains "oslo": "Oslo"'),
        ({"matches": "^Os"}, {"matches": "^os"}, 'city does not match "^os": "Oslo"'),
        ({"lacks": "x"}, {"min": 1}, 'city is no number: "Oslo"'),
    ],
)
def test_arguments_that_are_text(good, bad, message):
    assert of_call(OSLO, where={"city": good}).ok
    assert of_call(OSLO, where={"city": bad}).message == f"get_weather: {message}"


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        ({"equals": 3}, {"equals": 4}, "days is 3, expected 4.0"),
        ({"equals": 3.4, "tolerance": 0.5}, {"equals": 3.4, "tolerance": 0.3}, "days is 3, expected 3.4 within 0.3"),
        ({"min": 3}, {"min": 3.5}, "days is 3, expected at least 3.5"),
        ({"min": 0, "max": 3}, {"max": 2}, "days is 3, expected at most 2"),
        ({"contains": "3"}, {"equals": "3"}, 'days is 3, expected "3"'),
        ({"max": 9}, {"equals": True}, "days is 3, expected true"),
    ],
)
def test_arguments_that_are_numbers(good, bad, message):
    assert of_call(OSLO, where={"days": good}).ok
    assert of_call(OSLO, where={"days": bad}).message == f"get_weather: {message}"


def test_a_number_in_quotes_is_no_number_and_a_switch_is_none_either():
    assert of_call(ROME, where={"days": {"min": 1}}).message == 'get_weather: days is no number: "3"'
    assert of_call(OSLO, where={"wind": {"min": 0}}).message == "get_weather: wind is no number: true"
    assert of_call(OSLO, where={"wind": {"equals": True}}).ok
    assert of_call(ROME, where={"wind": {"equals": True}}).message.startswith("get_weather was called without 'wind'")


@pytest.mark.parametrize(
    ("use", "good", "bad", "message"),
    [
        (OSLO, {"result": {"min": 20, "max": 22}}, {"result": {"max": 20}}, "the result is 21.5, expected at most 20"),
        (OSLO, {"result": {"equals": "21.5"}}, {"result": {"equals": 21}}, "the result is 21.5, expected 21.0"),
        (ROME, {"result": {"contains": "Sunny"}}, {"result": {"matches": "rain"}}, "the result does not match"),
        (OSLO, {"status": "completed"}, {"status": "failed"}, "get_weather completed, expected failed"),
        (ROME, {"status": "failed"}, {"status": "completed"}, "get_weather failed, expected completed: no key"),
        (OSLO, {"within": "400 ms"}, {"within": "399 ms"}, "get_weather was called after 400 ms, not within 399 ms"),
        (OSLO, {"duration": {"min": "0.1 s"}}, {"duration": {"max": "119 ms"}}, "worked for 120 ms, expected at most"),
        (OSLO, {"duration": {"max": "1 s"}}, {"duration": {"min": "1 s"}}, "worked for 120 ms, expected at least 1 s"),
        (ROME, {}, {"duration": {"max": "1 s"}}, "get_weather never worked on the call: it failed"),
    ],
)
def test_what_becomes_of_a_call(use, good, bad, message):
    assert of_call(use, **good).ok
    assert message in of_call(use, **bad).message


@pytest.mark.parametrize(
    ("times", "fitting", "fine"),
    [
        (1, 1, True),
        (1, 2, False),
        ({"min": 1}, 0, False),
        ({"min": 1}, 3, True),
        ({"min": 2, "max": 3}, 1, False),
        ({"min": 2, "max": 3}, 3, True),
        ({"max": 2}, 0, True),
        ({"max": 2}, 3, False),
        ({"max": 0}, 0, True),
        ({"max": 0}, 1, False),
    ],
)
def test_times_count_the_calls_that_fit(times, fitting, fine):
    wanted = {"tool": {"name": "get_weather", "arguments": {"city": "Oslo"}, "times": times}}
    assert judged(wanted, NEWS, ROME, *[OSLO] * fitting).ok is fine


def test_that_a_tool_is_not_called_says_nothing_without_an_answer_or_a_tool():
    wanted = {"tool": {"name": "get_weather", "times": {"max": 1}}}
    assert judged(wanted, offered=frozenset({"get_weather"})).ok
    for expect in (wanted, {"no_tool": "get_weather"}):
        assert judged(expect, answered=False).message.endswith("but there was no answer")
        assert judged(expect, offered=frozenset({"get_news"})).message.endswith("but no tool get_weather was offered")


# --- checks of all calls ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        ({"order": ["get_weather", "get_news"]}, ""),
        ({"order": ["get_weather", "get_weather", "get_news"], "adjacent": True}, ""),
        ({"order": [{"name": "get_weather", "arguments": {"city": "Oslo"}}, "get_news"]}, ""),
        ({"order": ["get_news", "get_weather"]}, "no get_weather comes after get_news"),
        ({"order": ["get_time", "get_news"]}, "no get_time comes"),
        (
            {"order": [{"name": "get_weather", "arguments": {"city": "Oslo"}}, "get_news"], "adjacent": True},
            "they do not come so",
        ),
        ({"exactly": ["get_news", "get_weather", "get_weather"]}, ""),
        ({"exactly": ["get_weather", {"name": "get_weather", "arguments": {"city": "Oslo"}}, "get_news"]}, ""),
        (
            {"exactly": ["get_weather", "get_news"]},
            'get_weather({"city": "Rome", "days": "3"}) failed (no key) came, too; all calls: get_',
        ),
        ({"exactly": ["get_weather", "get_weather", "get_time"]}, "get_time did not come and get_news({}) came, too"),
        ({"only": ["get_weather", "get_news", "get_time"]}, ""),
        ({"only": ["get_weather"]}, "get_news({}) came"),
    ],
)
def test_order_and_sets_of_calls(wanted, problem):
    result = judged({"tools": wanted}, OSLO, ROME, NEWS)
    assert result.ok is not problem
    assert problem in result.message
    assert result.place == f"turns.0.expect.tools.{next(iter(wanted))}"


def test_without_an_answer_no_set_of_calls_is_right():
    assert judged({"tools": {"only": ["get_news"]}}).ok
    assert judged({"tools": {"only": ["get_news"]}}, answered=False).message.endswith("but there was no answer")


# --- what is read -----------------------------------------------------------------------------------------------------


def mistakes(text: str) -> list[str]:
    Path("s.yaml").write_text(textwrap.dedent(text), encoding="utf-8")
    return [str(problem) for problem in load(["s.yaml"]).problems]


@pytest.mark.parametrize(
    ("expect", "message"),
    [
        ("tool: {name: get_weather, times: {}}", "any number of calls is enough"),
        ("tool: {name: get_weather, times: {min: 0}}", "any number of calls is enough, so nothing is checked"),
        ("tool: {name: get_weather, times: {min: 3, max: 2}}", "`min` (3) is more than `max` (2)"),
        ("tool: {name: get_weather, where: {city: {}}}", "nothing is said of it, so nothing is checked"),
        ("tool: {name: get_weather, where: {city: {tolerance: 1}}}", "nothing is said of it"),
        ("tool: {name: get_weather, where: {city: {equals: a, tolerance: 1}}}", "belongs to a number in `equals`"),
        ("tool: {name: get_weather, where: {city: {min: 2, max: 1}}}", "`min` (2) is more than `max` (1)"),
        ("tool: {name: get_weather, where: {city: {matches: '('}}}", "this is not a regular expression"),
        ("tool: {name: get_weather, where: {city: {matches: 'a*'}}}", "this fits every text"),
        ("tool: {name: get_weather, where: {city: {contain: a}}}", "there is no key 'contain' in `city`; did you"),
        ("tool: {name: get_weather, result: {contains: ''}}", "`contains` has an empty text"),
        ("tool: {name: get_weather, status: done}", "`status` must be one of cancelled, completed, failed"),
        ("tool: {name: get_weather, within: 5}", "write the unit too"),
        ("tool: {name: get_weather, duration: {}}", "`duration` needs `min` or `max`"),
        ("tool: {name: get_weather, duration: {min: 2 s, max: 1 s}}", "`min` (2 s) is more than `max` (1 s)"),
        ("tools: {}", "`tools` needs `order`, `exactly` or `only`"),
        ("tools: {adjacent: true}", "`tools` needs `order`, `exactly` or `only`"),
        ("tools: {exactly: []}", "`exactly` is empty, so nothing is checked"),
        ("tools: {order: [get_weather]}", "one call alone has no order"),
        ("tools: {only: [get_weather], adjacent: true}", "`adjacent` belongs to `order`"),
        ("tools: {order: [get_weather, {name: get_wether}]}", "no tool 'get_wether'; did you mean get_weather?"),
        ("tools: {only: [get_time]}", "the scenario offers no tool 'get_time'"),
    ],
)
def test_what_cannot_fail_or_be_is_a_mistake(expect, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = f"name: a\ntools: [{{name: get_weather}}]\nturns:\n  - text: hi\n    expect:\n      {expect}\n"
    found = mistakes(text)
    assert any(message in one for one in found), found
    assert all(one.startswith(("s.yaml:6:", "s.yaml:5:")) for one in found), found


@pytest.mark.parametrize(
    ("tools", "message"),
    [
        ("tools: other.py", "s.yaml:2:8: there is no file other.py"),
        ("tools: [{file: own.txt}]", "s.yaml:2:16: 'own.txt' is no Python file"),
        ("tools: [{file: own.py, name: a}]", "2:30: `name` cannot stand beside `file`"),
        ("tools: [{file: own.py, returns: 1}]", "2:33: `returns` cannot stand beside `file`"),
        ("tools: [{file: own.py, only: []}]", "2:30: `only` is empty"),
        ("tools: [{name: a, only: [b]}]", "`only` belongs to `file`"),
        ("tools: [{returns: 1}]", "2:9: a tool needs `name`, or `file`"),
        ("tools: [{fil: own.py}]", "there is no key 'fil' in tool 1; did you mean file?"),
        ("mcp: []", "`mcp` is empty"),
    ],
)
def test_mistakes_in_tools(tools, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("own.py").touch()
    assert any(message in one for one in mistakes(f"name: a\n{tools}\nturns: [{{text: hi}}]\n"))


def test_files_are_named_relative_to_where_they_stand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("shared", "main"):
        Path(folder).mkdir()
        Path(folder, "own.py").touch()
    Path("shared/_base.yaml").write_text("tools: ['own.py', ]\n".replace("['own.py', ]", "own.py"), encoding="utf-8")
    Path("main/s.yaml").write_text(
        textwrap.dedent("""\
        name: a
        include: ../shared/_base.yaml
        variables: {which: own}
        tools: [{name: t}, {file: "${which}.py", only: [one]}]
        turns: [{text: hi, expect: {no_tool: anything}}]
        """),
        encoding="utf-8",
    )
    (found,) = cases(load(["main/s.yaml"]))
    assert [(tool.name, tool.file, tool.only) for tool in found.scenario.tools] == [
        (None, "../shared/own.py", None),
        ("t", None, None),
        (None, "own.py", ["one"]),
    ]


def test_where_a_file_says_which_tools_it_has_their_names_are_known(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("own.py").touch()
    text = "name: a\ntools: [{file: own.py, only: [add]}]\nturns: [{text: hi, expect: {tool: {name: ad}}}]\n"
    (found,) = mistakes(text)
    assert found.endswith("the scenario offers no tool 'ad'; did you mean add?")


# --- who allows them --------------------------------------------------------------------------------------------------


def test_a_file_does_not_run_unless_the_command_line_says_so(tmp_path):
    file = tmp_path / "s.yaml"
    file.write_text("name: a\ntools:\n  - file: own.py\nturns: [{text: hi}]\n", encoding="utf-8")
    (tmp_path / "own.py").write_text("raise SystemExit('it ran')\n", encoding="utf-8")
    done = realtime("run", "--local", str(file), "--out", str(tmp_path / "run"), REALTIME_APPROVE="always")
    assert done.returncode == 2
    assert f"{file}:3:5: own.py is code of the scenario's own" in done.stderr
    assert "--approve always" in done.stderr
    assert not (tmp_path / "run").exists()
    wrong = realtime("run", "--local", str(file), "--approve", "perhaps", "--out", str(tmp_path / "run"))
    assert wrong.returncode == 2
    assert "is no rule" in wrong.stderr


def test_neither_does_it_in_a_plan_without_rules(server, tmp_path):
    (tmp_path / "own.py").touch()
    result = played(case([ASKS], tools=[{"file": "own.py"}], folder=tmp_path), plan(server.url))
    assert (result.status, result.fault.kind) == ("error", "UsageError")
    assert "own.py is code of the scenario's own" in result.fault.message


def played(one: Any, how: Any) -> CaseResult:
    from realtime_client.batch.playing.play import play_case

    return play_case(one, how)


# --- canned tools -----------------------------------------------------------------------------------------------------


def test_what_is_measured_of_a_canned_tool(server):
    expect = {
        "tool": {"name": "get_weather", "status": "completed", "within": "20 s", "duration": {"min": "50 ms"}},
        "tools": {"exactly": ["get_weather"]},
        "latency": {"answer": "20 s"},
    }
    result = passes(played(case([{**ASKS, "expect": expect}], tools=[{**WEATHER, "delay": "50 ms"}]), plan(server.url)))
    (use,) = result.steps[0].tools
    assert (use.name, use.output, use.status, use.error) == ("get_weather", "sunny", "completed", "")
    assert 0 <= use.at_ms <= result.steps[0].latencies["answer"] - use.duration_ms


def test_a_call_that_nobody_allows_is_refused_and_the_case_says_so(server):
    how = plan(server.url, approve=("get_*=never",))
    turns = [{**ASKS, "expect": {"tool": {"name": "get_weather", "result": {"contains": "sunny"}}}}]
    result = played(case(turns, tools=[WEATHER]), how)
    (wrong,) = [one for one in result.checks if not one.ok]
    assert wrong.seen == 'get_weather({"city": "Oslo"}) was refused (this tool is not allowed)'
    assert result.steps[0].tools[0].status == "refused"


def test_a_turn_waits_for_a_tool_as_long_as_its_own_time_limit(server):
    slow = {**WEATHER, "delay": "2 min"}
    result = played(case([{**ASKS, "timeout": "500 ms"}], tools=[slow]), plan(server.url))
    assert (result.status, result.fault.kind) == ("error", "TimeLimitError")
    assert result.steps[0].tools[0].status == "", "it is not over"


def test_a_call_of_what_nobody_offers_gets_an_error_that_the_model_reads():
    brain = Scripted([CallTool("open_door", "{}")], [Say("I cannot do that.")])
    turns = [{"text": "Open the door.", "expect": {"tool": {"name": "open_door", "status": "invalid"}}}]
    with LocalServer(parts=Parts(brain=brain)) as server:
        result = passes(played(case(turns), plan(server.url)))
    assert "there is no tool open_door" in result.steps[0].tools[0].output
    assert result.steps[0].answer == "I cannot do that."


def test_a_session_without_tools_has_no_thread_for_them(server):
    import threading

    names: set[str] = set()
    how = plan(server.url)
    from realtime_client.batch.playing.play import play_case

    play_case(
        case([{"text": "What is two plus three?"}]),
        how,
        observers=[lambda *_: names.update(thread.name for thread in threading.enumerate())],
    )
    assert names
    assert not {name for name in names if name.startswith("realtime-tool")}


# --- results ----------------------------------------------------------------------------------------------------------

BAD = "<bad>\x1b[2J\n" + "x" * 5_000
RESULT = CaseResult(
    case="it",
    scenario="it",
    status="passed",
    steps=[
        StepResult(n=1, kind="text", tools=[OSLO, ROME]),
        StepResult(n=2, kind="text", tools=[ToolUse(name=BAD, arguments=BAD, output=BAD, status=BAD, error=BAD)]),
    ],
)


def test_calls_are_counted_and_their_time_is_measured():
    whole = figures([RESULT, RESULT])
    assert (whole.tool_calls, whole.tool_failures) == (6, 4)
    assert {name: (each.count, each.p95) for name, each in whole.tools.items()} == {"get_weather": (2, 120.0)}
    head, row = csv_table([RESULT]).splitlines()
    found = dict(zip(head.split(","), row.split(","), strict=True))
    assert (found["tool_calls"], found["tool_failures"]) == ("3", "2")


def test_calls_stand_in_junit_and_report_escaped_and_bounded():
    info = RunInfo(run="r", state="ended", cases=["it"])
    out = ET.fromstring(junit_xml(info, [RESULT])).find(".//testcase/system-out").text
    first, second, third = out.splitlines()
    assert first == 'turn 1: get_weather({"city": "Oslo", "days": 3, "wind": true}) completed in 120 ms -> 21.5'
    assert second.startswith('turn 1: get_weather({"city": "Rome", "days": "3"}) failed: no key -> warm')
    assert len(third) <= 600
    page = "".join(run_page(info, [RESULT], {}))
    assert "completed in 120 ms" in page
    assert "failed: no key" in page
    assert "<bad>" not in page
    assert "\x1b" not in page
    assert len(page) < 200_000


def test_a_result_tells_when_a_call_came():
    use = Call("t", "{}", 12.5, status="completed", duration_ms=3.0).use(10.0)
    assert json.loads(msgspec.json.encode(use)) == {
        "name": "t",
        "arguments": "{}",
        "status": "completed",
        "at_ms": 2500.0,
        "duration_ms": 3.0,
    }
