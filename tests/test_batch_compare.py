"""`realtime compare`: what changed is named with confidence, chance is not."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from cli_helpers import Terminal, realtime
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime_client.batch.result import CaseResult, Fault, RunInfo
from realtime_client.batch.results.compare import Change, Measure, compare
from realtime_client.batch.results.results import encode_line
from realtime_client.batch.results.statistics import Test as Outcome
from realtime_client.batch.results.statistics import fisher, holm, mann_whitney, shift

# Hollander and Wolfe, "Nonparametric Statistical Methods", table 4.1: permeability of the human chorioamnion.
AT_TERM = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46]
EARLIER = [1.15, 0.88, 0.90, 0.74, 1.21]


# --- against known values ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "p"),
    [
        ((3, 1, 1, 3), 34 / 70),  # Fisher's tea taster, both sides
        ((4, 0, 0, 4), 2 / 70),
        ((8, 2, 1, 5), 0.034965034965),
        ((10, 2, 3, 15), 0.000536724),  # convicted twins, in R's help page of fisher.test
        ((1, 0, 0, 1), 1.0),
        ((5, 0, 7, 0), 1.0),
    ],
)
def test_fisher(table, p):
    assert fisher(*table).p == pytest.approx(p, rel=1e-5)
    a, b, c, d = table
    assert fisher(c, d, a, b).p == pytest.approx(p, rel=1e-5)


def test_fisher_of_great_numbers_and_its_least_p():
    assert fisher(5_000, 5_000, 4_000, 6_000).p < 1e-40
    assert fisher(50, 50, 40, 60).p == pytest.approx(0.2009, abs=5e-4)
    assert fisher(2, 1, 1, 2).least_p == pytest.approx(2 / 20)
    assert fisher(3, 0, 3, 0).least_p == 1.0


def test_mann_whitney_and_its_interval():
    assert mann_whitney(AT_TERM, EARLIER).p == pytest.approx(0.2544, abs=5e-5)
    moved = shift(AT_TERM, EARLIER)
    assert moved.value == pytest.approx(-0.305)
    assert (moved.low, moved.high) == pytest.approx((-0.76, 0.15))


def by_counting(a: Sequence[float], b: Sequence[float]) -> float:
    """The two-sided p of the rank sum by looking at every way to share out the ranks."""
    values = [*a, *b]
    ranks = [sum(other < one for other in values) + (values.count(one) + 1) / 2 for one in values]
    middle = len(a) * (len(values) + 1) / 2
    seen = abs(sum(ranks[: len(a)]) - middle)
    sums = [abs(sum(chosen) - middle) for chosen in itertools.combinations(ranks, len(a))]
    return sum(distance >= seen - 1e-9 for distance in sums) / len(sums)


SMALL = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=6)


@settings(deadline=None, max_examples=60)
@given(SMALL, SMALL)
def test_mann_whitney_with_ties_is_exact(a, b):
    assert mann_whitney(a, b).p == pytest.approx(by_counting(a, b))
    assert mann_whitney(b, a).p == pytest.approx(by_counting(a, b))


def test_mann_whitney_of_many_values_goes_over_smoothly():
    rng = random.Random(5)
    for _ in range(5):
        a, b = [rng.gauss(0, 1) for _ in range(19)], [rng.gauss(0.5, 1) for _ in range(21)]
        exact = mann_whitney(a, b).p  # 399 pairs
        near = mann_whitney(a, [*b, sorted(b)[10]]).p  # 418 pairs: the normal approximation
        assert near == pytest.approx(exact, abs=0.04)
    tied = mann_whitney([1.0] * 40 + [2.0] * 10, [1.0] * 10 + [2.0] * 40)
    # By hand: U differs from its mean by 750; variance 2500/12 * (101 - 2 * (50**3 - 50) / (100 * 99)).
    z = 749.5 / math.sqrt(2500 / 12 * (101 - 2 * (50**3 - 50) / 9900))
    assert tied.p == pytest.approx(math.erfc(z / math.sqrt(2)))
    assert mann_whitney([3.0] * 40, [3.0] * 40).p == 1.0


def test_too_few_values_have_no_interval():
    assert shift([1.0], [2.0]) == (1.0, -math.inf, math.inf)
    assert mann_whitney([1.0], [2.0]).least_p == 1.0
    assert mann_whitney([1, 2, 3], [4, 5, 6]) == (0.1, 0.1)
    with pytest.raises(ValueError, match="need values"):
        shift([], [1.0])


def test_holm():
    tests = [Outcome(p, 0.0) for p in (0.01, 0.04, 0.03, 0.005)]
    assert holm(tests) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # Holm's own steps: 4, 3, 2, 1 times, never falling
    assert holm([]) == []


def test_what_cannot_be_significant_does_not_count():
    hopeless = [Outcome(1.0, 1.0)] * 50
    assert holm([Outcome(0.02, 0.001), *hopeless])[0] == 0.02
    assert holm([Outcome(0.02, 0.001), *hopeless])[1:] == [None] * 50
    # 20 tests that reach 0.029 at best: three of them together could not, so none counts (Tarone).
    assert holm([Outcome(0.029, 0.029)] * 20) == [None] * 20


@settings(deadline=None, max_examples=5)
@given(st.integers(0, 10**6))
def test_where_there_is_no_difference_p_is_small_as_rarely_as_it_says(seed):
    rng = random.Random(seed)
    rounds = 300
    small = sum(
        mann_whitney([rng.gauss(0, 1) for _ in range(12)], [rng.gauss(0, 1) for _ in range(10)]).p < 0.05
        for _ in range(rounds)
    )
    assert small / rounds < 0.05 + 4 * math.sqrt(0.05 * 0.95 / rounds)
    assert small > 0


def test_an_interval_holds_the_true_shift_about_as_often_as_it_says():
    rng = random.Random(3)
    held = 0
    for _ in range(300):
        moved = shift([rng.gauss(0, 1) for _ in range(10)], [rng.gauss(1, 1) for _ in range(10)])
        held += moved.low <= 1 <= moved.high
    assert 0.91 < held / 300 <= 1.0


# --- two runs ---------------------------------------------------------------------------------------------------------


def result(scenario: str, repeat: int, status: str, row: int | None = None, **fields) -> CaseResult:
    name = scenario if row is None else f"{scenario}[{row}]"
    fault = Fault(kind="X", message="x") if status == "error" else None
    case = name if repeat == 0 else f"{name}#{repeat}"
    return CaseResult(case=case, scenario=scenario, status=status, repeat=repeat, row=row, fault=fault, **fields)


def runs(scenario: str, passed: int, failed: int, errors: int = 0, ms: Iterable[float] = ()) -> list[CaseResult]:
    values = list(ms)
    found = []
    for n, status in enumerate(["passed"] * passed + ["failed"] * failed + ["error"] * errors):
        latencies = {"answer": [values[n], values[n]]} if n < len(values) else {}
        found.append(result(scenario, n, status, latencies=latencies))
    return found


def only(changes: list[Change]) -> Change:
    (change,) = changes
    return change


def measure(change: Change, name: str) -> Measure:
    return next(one for one in change.measures if one.name == name)


def test_a_fall_that_is_no_chance():
    found = only(compare(runs("a", 20, 0), runs("a", 5, 15)).changes)
    assert found.verdict == "worse"
    passed = measure(found, "passed")
    assert (passed.a, passed.b, passed.count_a) == (1.0, 0.25, 20)
    assert passed.p is not None
    assert passed.p < 0.001
    assert only(compare(runs("a", 5, 15), runs("a", 20, 0)).changes).verdict == "better"


def test_one_against_one_proves_nothing():
    comparison = compare(runs("a", 1, 0), runs("a", 0, 1))
    found = only(comparison.changes)
    assert (found.verdict, found.few, comparison.tests) == ("not proven", True, 0)
    assert found.measures[0].p is None
    assert [(flip.case, flip.a, flip.b) for flip in found.flips] == [("a", "passed", "failed")]


def test_many_latencies_do_not_hide_one_scenario_that_fails():
    rng = random.Random(2)

    def side(failed: int) -> list[CaseResult]:
        steady = [one for k in range(30) for one in runs(f"s{k}", 6, 0, ms=[rng.gauss(300, 30) for _ in range(6)])]
        return steady + runs("a", 6 - failed, failed)

    comparison = compare(side(0), side(6))
    assert [change.name for change in comparison.changes if change.verdict == "worse"] == ["a"]
    assert (comparison.tests, comparison.repeats) == (1, 7)  # 2 / C(12, 6) is more than 0.025 / 30; 2 / C(14, 7) is not


def test_errors_are_no_failures():
    found = only(compare(runs("a", 20, 0), runs("a", 10, 0, errors=10)).changes)
    assert found.verdict == "same"
    assert (found.b.passed, found.b.failed, found.b.errors) == (10, 0, 10)
    assert only(compare(runs("a", 20, 0), runs("a", 0, 0, errors=20)).changes).verdict == "not judged"


def test_slower_by_more_than_chance_and_by_more_than_little():
    rng = random.Random(1)
    before = [300 + rng.gauss(0, 20) for _ in range(15)]
    slower = only(compare(runs("a", 15, 0, ms=before), runs("a", 15, 0, ms=[v + 100 for v in before])).changes)
    assert slower.verdict == "worse"
    answer = measure(slower, "answer")
    assert answer.change == pytest.approx(100, abs=20)
    assert answer.low is not None
    assert answer.high is not None
    assert answer.low < 100 < answer.high
    little = compare(
        runs("a", 15, 0, ms=[300.0 + n / 10 for n in range(15)]),
        runs("a", 15, 0, ms=[305.0 + n / 10 for n in range(15)]),
    )
    assert only(little.changes).verdict == "same"  # for sure, but by 1.7 %
    noise = [300 + rng.gauss(0, 20) for _ in range(15)]
    assert only(compare(runs("a", 15, 0, ms=before), runs("a", 15, 0, ms=noise)).changes).verdict == "same"


def test_a_few_milliseconds_do_not_count():
    before, after = ([base + n / 100 for n in range(15)] for base in (2.0, 8.0))
    assert only(compare(runs("a", 15, 0, ms=before), runs("a", 15, 0, ms=after)).changes).verdict == "same"


def test_cost():
    cheap = [result("a", n, "passed", cost_usd=0.001 + n / 1e6) for n in range(10)]
    dear = [result("a", n, "passed", cost_usd=0.002 + n / 1e6) for n in range(10)]
    comparison = compare(cheap, dear)
    assert only(comparison.changes).verdict == "worse"
    assert comparison.b.cost_usd == pytest.approx(0.020045)


def test_scenarios_of_one_run_only():
    comparison = compare(runs("a", 1, 0) + runs("b", 1, 0), runs("b", 1, 0) + runs("c", 1, 0))
    assert [(change.name, change.verdict) for change in comparison.changes] == [
        ("a", "only in A"),
        ("b", "too few"),
        ("c", "only in B"),
    ]


def test_too_few_repeats_are_not_called_the_same(folders):
    run_folder("once", runs("same", 1, 0))
    done = realtime("compare", folders[0], "once")
    assert done.stdout.splitlines()[-1].startswith(
        "0 worse, 0 better, 0 not proven, 1 with too few repeats to tell, 0 the"
    )
    verdicts = json.loads(realtime("compare", "--json", folders[0], "once").stdout)["verdicts"]
    assert (verdicts["same"], verdicts["too few"]) == (0, 1)


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ([90, 100, 110, 300], [95, 270, 280, 290], "too few"),  # by a factor of 2.7, with p = 0.26 and more
        ([100, 101, 102, 103] * 3, [101, 102, 103, 104] * 3, "same"),
        ([100], [270], "too few"),
        ([100] * 30, [270] * 30, "worse"),
    ],
)
def test_what_differs_and_may_be_chance_is_not_the_same(before, after, verdict):
    found = compare(runs("a", len(before), 0, ms=before), runs("a", len(after), 0, ms=after))
    assert measure(only(found.changes), "answer").verdict == verdict
    assert only(found.changes).verdict == verdict


def test_each_scenario_is_one_line_and_those_that_differ_most_are_shown(folders):
    before = [300.0 + n for n in range(20)]
    run_folder(
        "before", [one for k in range(12) for one in runs(f"s{k}", 1, 0, ms=[100])] + runs("a", 20, 0, ms=before)
    )
    after = [one for k in range(12) for one in runs(f"s{k}", 1, 0, ms=[100 + 20 * k])]
    run_folder("after", after + runs("a", 2, 18, ms=[ms / 2 for ms in before]))
    lines = realtime("compare", "before", "after").stdout.splitlines()
    assert [line.partition(": p")[0] for line in lines if line.startswith("worse")] == ["worse: a"]
    assert "; better: answer 310 -> 155 ms, -155 ms (-" in lines[2]
    shown = [line.split(": ")[1] for line in lines if line.startswith("too few: ")]
    assert shown == [f"s{k}" for k in range(11, 1, -1)]
    assert "too few: s11: answer 100 -> 320 ms, +220 ms, 1 against 1 cannot tell chance from change" in lines
    assert "12 with too few repeats to tell (10 shown, what differs most), 0 the same" in lines[-1]


def test_rows_are_pooled_or_compared_one_by_one():
    before = [result("a", n, "passed", row=row) for row in (1, 2, 3) for n in range(8)]
    after = [result("a", n, "failed" if row == 2 else "passed", row=row) for row in (1, 2, 3) for n in range(8)]
    by_row = compare(before, after, by_row=True)
    assert [(change.name, change.verdict) for change in by_row.changes] == [
        ("a[1]", "same"),
        ("a[2]", "worse"),
        ("a[3]", "same"),
    ]
    assert only(compare(before, after).changes).b.failed == 8


def test_many_scenarios_of_chance_alone_name_a_change_rarely():
    rng = random.Random(11)
    wrong = 0
    for _ in range(20):
        before, after = (
            [
                result(
                    f"s{k}", n, "passed" if rng.random() < 0.8 else "failed", latencies={"answer": [rng.gauss(300, 50)]}
                )
                for k in range(10)
                for n in range(8)
            ]
            for _ in range(2)
        )
        comparison = compare(before, after)
        wrong += bool(comparison.count("worse") + comparison.count("better"))
    assert wrong <= 4


# --- the command ------------------------------------------------------------------------------------------------------


def run_folder(name: str, results: list[CaseResult], state: str = "ended") -> str:
    import msgspec

    folder = Path(name)
    folder.mkdir()
    info = RunInfo(run=name, state=state, cases=[one.case for one in results])
    (folder / "run.json").write_bytes(msgspec.json.encode(info))
    (folder / "results.jsonl").write_bytes(b"".join(map(encode_line, results)))
    return name


@pytest.fixture
def folders() -> tuple[str, str]:
    a = run_folder("a", runs("falls", 20, 0) + runs("flips", 1, 0) + runs("old", 1, 0) + runs("same", 20, 0))
    b = run_folder("b", runs("falls", 5, 15) + runs("flips", 0, 1) + runs("new", 1, 0) + runs("same", 20, 0, 1))
    return a, b


def test_lines(folders):
    done = realtime("compare", *folders)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "A a: 42 passed, 0 failed, 0 without a verdict",
        "B b: 26 passed, 16 failed, 1 without a verdict",
        "worse: falls: passed 100% of 20 -> 25% of 20, p < 0.0001; "  # noqa: ISC004
        "falls#5 passed -> failed, falls#6 passed -> failed, falls#7 passed -> failed, "
        "falls#8 passed -> failed, falls#9 passed -> failed and 10 more",
        "not proven: flips: passed 100% of 1 -> 0% of 1, 1 against 1 cannot tell chance from change; "  # noqa: ISC004
        "flips passed -> failed",
        "only in A: old",
        "only in B: new",
        "too few repeats to prove anything about 1 of 5: run with --repeat 5 or more",
        "1 worse, 0 better, 1 not proven, 1 the same (1 comparisons, alpha 0.05)",
    ]


def test_nothing_worse_is_0_and_json_holds_all(folders):
    done = realtime("compare", "--json", folders[1], folders[0])
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert report["verdicts"]["better"] == 1
    assert report["changes"][0]["measures"][0]["p"] < 0.0001
    assert report["run_a"] == "b"


def test_a_run_that_is_not_finished_is_compared_and_named(folders):
    run_folder("broken", runs("same", 20, 0), "running")
    done = realtime("compare", folders[0], "broken")
    assert done.returncode == 0
    assert done.stderr == "the run in broken is not finished: what it has so far is compared\n"
    assert realtime("compare", "--quiet", folders[0], "broken").stderr == ""


@pytest.mark.parametrize(("b", "says"), [("nowhere", "not the folder of a run"), ("empty", "no results yet")])
def test_no_run_is_2(folders, b, says):
    run_folder("empty", [])
    done = realtime("compare", folders[0], b)
    assert done.returncode == 2
    assert says in done.stderr


@pytest.mark.parametrize("flags", [[], ["--json"]])
@pytest.mark.parametrize(
    ("other", "says"),
    [
        (runs("new", 20, 0), "the runs have no scenario in common, so nothing was compared"),
        (runs("same", 0, 0, 20) + runs("new", 1, 0), "no scenario has a verdict in both runs, so nothing was compared"),
    ],
)
def test_runs_with_nothing_to_compare_are_no_success(folders, other, says, flags):
    run_folder("c", other)
    done = realtime("compare", *flags, folders[0], "c")
    assert (done.returncode, done.stderr) == (2, f"realtime: {says}\n")
    assert "new" in done.stdout


def test_rows_with_nothing_in_common(tmp_path):
    for name, rows in (("a", (1, 2)), ("b", (3, 4))):
        run_folder(name, [result("cities", 0, "passed", row) for row in rows])
    assert realtime("compare", "a", "b").returncode == 0
    assert realtime("compare", "--by", "row", "a", "b").returncode == 2


def test_a_table_on_a_terminal(folders):
    with Terminal("compare", *folders, columns=120, COLUMNS="120") as terminal:
        assert terminal.wait_end() == 1
        assert "│ worse" in terminal.text
        assert "cannot tell chance from change" in terminal.text
        assert "1 worse, 0 better" in terminal.text
