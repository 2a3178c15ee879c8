"""The suite in scripts/scenarios, played by `realtime run` against the local server: green, and red where it must be."""

from __future__ import annotations

import subprocess
from pathlib import Path

from cli_helpers import COMMAND, realtime

from realtime_client.batch.loading.load import load
from realtime_client.batch.result import CaseResult
from realtime_client.batch.results.results import read_results
from realtime_client.batch.scenario import Expect

LIMIT_S = 85.0
# What a failing check of each kind says; figures and the answer's own words left out.
SAYS = {
    "contains": 'the answer does not contain "good morning": "Goodbye!"',
    "lacks": 'the answer contains "goodbye": "Goodbye!"',
    "matches": 'the answer does not match "^\\d+$": "Goodbye!"',
    "equals": 'the answer is not "good night": "Goodbye!"',
    "wer": 'the word error rate is 1.00, above 0.5: "see you later" came as "Goodbye!"',
    "tool": 'get_weather was called with city = "Oslo", expected "Rome"',
    "tools": "expected exactly get_weather, get_weather, but get_weather did not come; all calls: ",
    "no_tool": 'expected no call of get_weather: get_weather({"city": "Oslo"})',
    "event": "interrupted did not come",
    "no_event": "response.done came after ",
    "latency": "answer took ",
    "audio": "the answer's speech lasts ",
    "heard": "expected an interrupted answer, but the answer was not interrupted",
    "cost": "it cost $",
    "language": "the answer is in en, not fr: ",
    "judge": 'the judge says no to "is a question": ',
    "status": "the answer's status is completed, expected incomplete",
    "interrupted": "the answer was not interrupted, expected interrupted",
}


def play(folder: Path, *args: str) -> tuple[int, list[CaseResult], str]:
    """Run scenarios in a process of its own; returns exit code, results and what was printed."""
    done = subprocess.run(
        [*COMMAND, "run", "--local", "--jobs", "8", "--out", str(folder), *args],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    results, damaged = read_results(folder / "results.jsonl")
    assert damaged == 0
    return done.returncode, results, done.stdout + done.stderr


def test_the_suite_is_green(project, tmp_path):
    suite = project / "scripts/scenarios"
    loaded = load([suite])
    assert loaded.problems == ()
    assert len(loaded.templates) >= 20
    code, results, printed = play(tmp_path / "run", "--retries", "0", str(suite))
    wrong = {
        result.case: [check.message for check in result.checks if not check.ok] or str(result.fault)
        for result in results
        if result.status != "passed"
    }
    assert wrong == {}
    assert code == 0, printed
    assert sorted(result.case for result in results) == sorted(c.id for t in loaded.templates for c in t.cases)
    for result in results:
        assert result.checks, f"{result.case} checks nothing"
        assert (tmp_path / "run" / result.recording / "session.json").is_file()
    same = realtime("compare", str(tmp_path / "run"), str(tmp_path / "run"))
    assert same.returncode == 0
    assert "0 worse, 0 better, 0 not proven" in same.stdout


SAYS_OF_TOOLS = {
    "where of a call": 'get_weather: city does not match "^Ber": "Oslo"',
    "result of a call": "get_weather: the result is 21.5, expected at least 25",
    "status of a call": "get_weather completed, expected failed",
    "within of a call": "get_weather was called after ",
    "duration of a call": "get_weather worked for ",
    "times of a call": "expected 2 to 3 calls of get_weather, 1 came: get_weather(",
    "order of all calls": "expected get_news, get_weather in this order, but no get_weather comes after get_news; all ",
    "adjacent of all calls": "expected get_weather, get_weather in this order, one right after the other, but ",
    "exactly of all calls": 'expected exactly get_weather, get_news({"city": "Rome"}), but get_news({"city": "Rome"}) '
    'did not come and get_news({"city": "Oslo"}) came, too; all calls: ',
    "only of all calls": 'expected no tools but get_news, but get_weather({"city": "Oslo"}) came; all ',
}


def test_whatever_is_said_of_calls_fails_where_it_must(project, tmp_path):
    file = project / "scripts/scenarios/_failing/tools.yaml"
    code, results, printed = play(tmp_path / "run", str(file))
    assert code == 1, printed
    said = {result.scenario: [check.message for check in result.checks if not check.ok] for result in results}
    assert set(said) == {f"fails {what}" for what in SAYS_OF_TOOLS}
    for what, message in SAYS_OF_TOOLS.items():
        (line,) = said[f"fails {what}"]
        assert line.startswith(message)


def test_each_kind_of_check_fails_where_it_must(project, tmp_path):
    file = project / "scripts/scenarios/_failing/checks.yaml"
    code, results, printed = play(tmp_path / "run", str(file))
    assert code == 1, printed
    failed = {result.scenario: result for result in results}
    assert set(failed) == {f"fails {kind}" for kind in Expect.__struct_fields__}
    for kind, message in SAYS.items():
        result = failed[f"fails {kind}"]
        assert (result.status, result.fault) == ("failed", None), result
        (check,) = [check for check in result.checks if not check.ok]
        assert (check.kind, check.turn) == (kind, 1)
        assert check.message.startswith(message)
        assert check.place.startswith(f"{file}:")
        line = int(check.place.split(":")[1])
        assert f"{kind}: " in file.read_text(encoding="utf-8").splitlines()[line - 1]
