"""What a run leaves behind: lines, tables, JUnit, figures; hostile text in each of them."""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from run_players import make_cases, result_of

from realtime_client.batch.result import CaseResult, CheckResult, Fault, RunInfo, StepResult
from realtime_client.batch.results.junit import junit_xml
from realtime_client.batch.results.results import csv_table, encode_line, read_results, read_run
from realtime_client.batch.results.summary import figures, percentile, summary, too_busy, wilson
from realtime_client.cli.run_screen import summary_text
from realtime_client.errors import RecordingError

CASES = make_cases(4)
HOSTILE = "=1+1\x00\x1b[31m<b>&'\"\ud800\uffff]]>\u202e\nnext"


def results() -> list[CaseResult]:
    bad = [
        CheckResult(kind="contains", ok=False, expected="a", seen="b", turn=2, place="a.yaml:3:5"),
        CheckResult(kind="cost", ok=False, message="cost 3 dollars"),
        CheckResult(kind="wer", ok=True),
    ]
    fault = Fault(kind="HostUnreachableError", message="nobody there", infrastructure=True)
    return [
        result_of(CASES[0], cost_usd=0.25, usage={"input_tokens": 3}),
        result_of(CASES[1], "failed", checks=bad, latencies={"first_text": [5.0, 7.0, 9.0], "answer": [20.0]}),
        result_of(CASES[2], "error", fault, checks=[], latencies={}),
    ]


def info(**fields: object) -> RunInfo:
    known = {"run": "r", "state": "ended", "cases": [case.id for case in CASES], "started": "2026-11-20T10:00:00.123Z"}
    return RunInfo(**{**known, **fields})  # type: ignore[arg-type]


# --- results.jsonl ----------------------------------------------------------------------------------------------------


def test_lines_come_back_and_torn_and_damaged_ones_are_counted(tmp_path: Path):
    file = tmp_path / "results.jsonl"
    lines = [encode_line(result) for result in results()]
    file.write_bytes(lines[0] + b'{"case": 3}\n' + lines[1] + lines[0] + lines[2][:40])
    read, damaged = read_results(file)
    assert read == results()[:2]
    assert damaged == 2
    assert read_results(tmp_path / "none") == ([], 0)


@pytest.mark.parametrize("cut", [0, 1, 20, -1])
def test_a_line_counts_only_with_its_end(tmp_path: Path, cut: int):
    file = tmp_path / "results.jsonl"
    line = encode_line(results()[0])
    file.write_bytes(line + line[:cut])
    assert read_results(file) == (results()[:1], int(cut != 0))


def test_newer_versions_are_refused(tmp_path: Path):
    (tmp_path / "results.jsonl").write_text('{"version": 99, "case": 1}\n')
    (tmp_path / "run.json").write_text('{"version": 99}')
    with pytest.raises(RecordingError, match="newer version"):
        read_results(tmp_path / "results.jsonl")
    with pytest.raises(RecordingError, match="newer version"):
        read_run(tmp_path / "run.json")
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RecordingError, match="damaged"):
        read_run(tmp_path / "run.json")


def test_half_a_surrogate_pair_does_not_lose_the_result(tmp_path: Path):
    file = tmp_path / "results.jsonl"
    file.write_bytes(encode_line(result_of(CASES[0], values={HOSTILE: [HOSTILE]}, scenario=HOSTILE)))
    (result,), damaged = read_results(file)
    assert (result.scenario, damaged) == (HOSTILE.replace("\ud800", "\N{REPLACEMENT CHARACTER}"), 0)


# --- CSV --------------------------------------------------------------------------------------------------------------


def test_the_table_has_a_row_a_case():
    rows = list(csv.DictReader(io.StringIO(csv_table(results()))))
    assert [row["status"] for row in rows] == ["passed", "failed", "error"]
    assert rows[1]["first_text_ms"] == "7"
    assert rows[0]["answer_ms"] == ""
    assert rows[1]["failed_checks"].startswith("turn 2, contains: expected a, seen b (a.yaml:3:5); cost: cost 3")
    assert rows[2]["fault"] == "HostUnreachableError: nobody there"


def test_own_waiting_has_columns_behind_the_latencies():
    waits = result_of(CASES[0], own_waiting={"first_text": [0.5, 3.0, 1.5]})
    head, row, none = csv_table([waits, result_of(CASES[1])]).splitlines()
    assert head.endswith(",fault,tool_calls,tool_failures,first_text_ms,first_text_own_waiting_ms")
    assert row.endswith(",1,1.5")
    assert none.endswith(",2,")


@pytest.mark.parametrize(
    ("latency", "own", "busy"),
    [
        pytest.param([100.0] * 20, [2.0] * 20, False, id="small"),
        pytest.param([100.0] * 20, [2.0] * 18 + [21.0] * 2, True, id="more than a tenth"),
        pytest.param([1_000.0] * 20, [90.0] * 20, False, id="a tenth of much"),
        pytest.param([3.0] * 20, [19.0] * 20, False, id="shorter than a block of sound"),
        pytest.param([100.0] * 20, [], False, id="not known"),
    ],
)
def test_own_waiting_that_is_not_small_is_told(latency: list[float], own: list[float], busy: bool, tmp_path: Path):
    known = {"first_text": own} if own else {}
    whole = summary(info(), [result_of(CASES[0], latencies={"first_text": latency}, own_waiting=known)])
    assert too_busy(whole.all) == ["first_text"] * busy
    text = summary_text(whole, tmp_path)
    assert ("own waiting p50" in text) == bool(own)
    assert ("warning: this program itself waited long beside first text" in text) == busy


@pytest.mark.parametrize(
    ("jobs", "ears", "spoken", "waited"),
    [(8, 2, 8, 8), (8, 2, 3, 3), (8, 2, 2, 0), (2, 2, 8, 0), (8, 0, 8, 0), (8, 8, 8, 0)],
)
def test_more_spoken_jobs_than_ears_are_told(jobs: int, ears: int, spoken: int, waited: int, tmp_path: Path):
    kinds = ["speak"] * spoken + ["text"] * 8
    played = [result_of(CASES[0], steps=[StepResult(n=1, kind=kind)]) for kind in kinds]
    whole = summary(info(jobs=jobs, ears=ears), played)
    told = f"{ears} at a time on this machine, and up to {waited} sessions spoke at a time"
    assert [told in warning for warning in whole.warnings] == [True] * bool(waited)
    assert ("warning: spoken turns may have waited for each other" in summary_text(whole, tmp_path)) == bool(waited)


def test_hostile_text_is_no_formula():
    hostile = result_of(CASES[0], "error", Fault(kind="=cmd", message=HOSTILE), scenario=HOSTILE)
    (row,) = csv.DictReader(io.StringIO(csv_table([hostile])))
    assert row["scenario"].startswith("'=1+1")
    assert row["fault"].startswith("'=cmd")


# --- JUnit ------------------------------------------------------------------------------------------------------------

_SUITE = {"name", "tests", "failures", "errors", "time", "timestamp", "hostname", "id", "package", "skipped"}
_CHILDREN = {
    "testsuites": ["testsuite"],
    "testsuite": ["properties", "testcase", "system-out", "system-err"],
    "testcase": ["skipped", "error", "failure", "system-out", "system-err"],
}


def check_schema(data: bytes) -> ET.Element:
    """The rules of the common schemas: which elements in which order, which attributes, and counts that add up."""
    root = ET.fromstring(data)
    assert root.tag == "testsuites"
    for element in root.iter():
        allowed = _CHILDREN.get(element.tag, [])
        places = [allowed.index(child.tag) for child in element]
        assert places == sorted(places)
    for suite in root:
        assert set(suite.keys()) >= _SUITE - {"skipped"}
        assert set(suite.keys()) <= _SUITE
        cases = suite.findall("testcase")
        assert int(suite.attrib["tests"]) == len(cases)
        for name in ("failure", "error"):
            assert int(suite.attrib[f"{name}s"]) == sum(case.find(name) is not None for case in cases)
        assert len(suite.attrib["timestamp"]) == len("2026-11-20T10:00:00")
        for case in cases:
            assert set(case.keys()) == {"name", "classname", "time"}
            assert sum(case.find(name) is not None for name in ("failure", "error", "skipped")) <= 1
            for verdict in (*case.findall("failure"), *case.findall("error")):
                assert set(verdict.keys()) == {"type", "message"}
    return root


def test_junit_follows_the_schema_and_tells_everything():
    root = check_schema(junit_xml(info(), results()))
    assert root.attrib["failures"] == "1"
    failure = root.find(".//failure")
    assert failure is not None
    assert failure.text == "turn 2, contains: expected a, seen b (a.yaml:3:5)\ncost: cost 3 dollars"
    assert failure.attrib["message"].endswith("(and 1 more)")
    error = root.find(".//error")
    assert error is not None
    assert error.attrib["type"] == "HostUnreachableError"
    assert [case.attrib["name"] for case in root.findall(".//testcase[skipped]")] == ["hello#3"]


def test_junit_holds_hostile_text():
    check = CheckResult(kind=HOSTILE, ok=False, message=HOSTILE, place=HOSTILE)
    hostile = [
        result_of(CASES[0], "failed", case=HOSTILE, scenario=HOSTILE, checks=[check], recording=HOSTILE, started="x<"),
        result_of(CASES[1], "error", Fault(kind=HOSTILE, message=HOSTILE)),
    ]
    hostile[0].started = "2026-11-20T10:00:00Z"
    root = check_schema(junit_xml(info(run=HOSTILE), hostile))
    failure = root.find(".//failure")
    assert failure is not None
    assert failure.text is not None
    assert "\N{REPLACEMENT CHARACTER}[31m<b>&'\"" in failure.text


# --- figures ----------------------------------------------------------------------------------------------------------


def test_percentiles_are_values_that_were_measured():
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, p) for p in (50, 95, 99, 100, 0)] == [50, 95, 99, 100, 1]
    assert percentile([3.0], 99) == 3
    assert percentile([1.0, 2.0], 50) == 1
    assert percentile([1.0, 2.0], 51) == 2


@pytest.mark.parametrize(
    ("passed", "cases", "low", "high"),
    [(0, 0, 0.0, 1.0), (10, 10, 0.7225, 1.0), (0, 10, 0.0, 0.2775), (81, 263, 0.2553, 0.3662)],  # the last: Newcombe
)
def test_the_interval_is_wilsons(passed: int, cases: int, low: float, high: float):
    assert wilson(passed, cases) == pytest.approx((low, high), abs=5e-5)


def test_figures_count_errors_as_not_passed():
    whole = summary(info(duration_s=3.5), results())
    assert (whole.cases, whole.all.cases, whole.all.passed, whole.all.failed, whole.all.errors) == (4, 3, 1, 1, 1)
    assert whole.all.pass_rate == pytest.approx(1 / 3, abs=1e-6)
    assert whole.all.latencies["first_text"].count == 4
    assert whole.all.latencies["first_text"].p50 == 5
    assert (whole.all.cost_usd, whole.all.priced, whole.all.usage) == (0.25, 1, {"input_tokens": 3})
    assert (whole.all.checks, whole.all.checks_failed) == (4, 2)
    assert list(whole.scenarios) == ["hello"]
    assert figures([]).duration_s is None
