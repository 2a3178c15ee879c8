"""Two runs of the same scenarios: what changed, and whether by more than chance. Pure.

A case's verdict is one observation of its scenario, and so is the median of each of its latencies: values within one
session depend on each other. Cases without a verdict (`error`: no connection, lost, timed out) say nothing about the
scenario and are left out of every rate and figure; they are counted separately.

Verdicts and figures are two families of comparisons; each gets half of alpha, so that many latencies do not hide one
scenario that fails.

A figure is the same only where no difference that counts is seen. One that is seen, and may be chance, is `too few`:
more repeats would tell.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from realtime_client.batch.result import CaseResult

from .statistics import Shift, Test, can_tell, fisher, holm, mann_whitney, repeats_needed, shift

Verdict = Literal["worse", "better", "not proven", "same", "too few", "only in A", "only in B", "not judged"]
Outcome = Literal["worse", "better", "not proven", "too few", "same"]
PASSED, COST = "passed", "cost"
LEAST_MS = 10.0  # a latency that differs by less counts as the same: nobody notices


class Verdicts(msgspec.Struct, kw_only=True):
    """One run's cases of one scenario."""

    passed: int = 0
    failed: int = 0
    errors: int = 0

    @property
    def judged(self) -> int:
        """Cases with a verdict."""
        return self.passed + self.failed


class Measure(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One thing that was compared. name: `passed`, `cost`, or a latency's name.

    a, b: share of passed cases, or the median (ms, US dollars). count_a, count_b: of how many cases. change, low, high:
    by how much b is greater, with its interval; low and high None where there are too few. p: corrected for the number
    of comparisons; None where no outcome of so many cases with so many failures in all could prove anything.
    """

    name: str
    verdict: Outcome
    a: float
    b: float
    count_a: int
    count_b: int
    change: float = 0.0
    low: float | None = None
    high: float | None = None
    p: float | None = None

    @property
    def seen(self) -> float:
        """The difference as it shows: of the medians, or `change` where that is greater."""
        return max(abs(self.change), abs(self.b - self.a))


class Flip(msgspec.Struct):
    """A case that passed in one run and failed in the other."""

    case: str
    a: str
    b: str


class Change(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One scenario (or row of one) in both runs. few: there are too few repeats to prove anything about it.

    verdict: `too few` where a figure differs by what may be chance, or nothing differs and nothing could be proven:
    that is not `same`.
    """

    name: str
    verdict: Verdict
    a: Verdicts
    b: Verdicts
    measures: list[Measure] = []
    flips: list[Flip] = []
    few: bool = False


class Totals(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One run as a whole. cost_usd: of the cases whose cost is known; None when of none."""

    cases: Verdicts
    cost_usd: float | None = None


class Comparison(msgspec.Struct, kw_only=True):
    """The whole of it. tests: how many comparisons count.

    repeats: how many repeats on each side would let every comparison of figures count; 0 where all of them do.
    """

    a: Totals
    b: Totals
    changes: list[Change]
    tests: int
    alpha: float
    repeats: int = 0

    def count(self, verdict: Verdict) -> int:
        """Return how many scenarios have this verdict."""
        return sum(change.verdict == verdict for change in self.changes)


def compare(
    a: Sequence[CaseResult],
    b: Sequence[CaseResult],
    *,
    alpha: float = 0.05,
    least_change: float = 0.05,
    by_row: bool = False,
) -> Comparison:
    """Compare two runs, scenario by scenario.

    alpha: the chance of reporting any change at all where there is none. least_change: share of the first run's median
    by which a latency or cost must differ to count (a latency by `LEAST_MS`, too). by_row: rows of parameters are
    compared one by one.
    """
    groups_a, groups_b = _groups(a, by_row=by_row), _groups(b, by_row=by_row)
    drafts: list[tuple[Change, list[tuple[Measure, Test]]]] = []
    for name in dict.fromkeys([*groups_a, *groups_b]):
        one, other = groups_a.get(name, []), groups_b.get(name, [])
        change = Change(name=name, verdict="same", a=_side(one), b=_side(other), flips=_flips(one, other))
        measured = list(_measures(one, other, alpha)) if change.a.judged and change.b.judged else []
        drafts.append((change, measured))
    flat = [pair for _, measured in drafts for pair in measured]
    verdicts, figures = ([pair for pair in flat if (pair[0].name == PASSED) is passed] for passed in (True, False))
    _correct(verdicts, alpha)
    _correct(figures, alpha)
    for measure, _ in flat:
        measure.verdict = _judge(measure, alpha, least_change)
    for change, measured in drafts:
        change.measures = [measure for measure, _ in measured]
        change.few = bool(change.measures) and not can_tell(change.a.judged, change.b.judged, alpha / 2)
        change.verdict = _overall(change)
    return Comparison(
        a=_totals(a),
        b=_totals(b),
        changes=[change for change, _ in drafts],
        tests=sum(measure.p is not None for measure, _ in flat),
        alpha=alpha,
        repeats=repeats_needed(len(figures), alpha / 2) if any(measure.p is None for measure, _ in figures) else 0,
    )


def _correct(pairs: list[tuple[Measure, Test]], alpha: float) -> None:
    """Correct one family: Holm at half of alpha; p is doubled, so that alpha is what it is held against."""
    for (measure, _), p in zip(pairs, holm([test for _, test in pairs], alpha / 2), strict=True):
        measure.p = None if p is None else min(1.0, 2 * p)


def _groups(results: Iterable[CaseResult], *, by_row: bool) -> dict[str, list[CaseResult]]:
    groups: dict[str, list[CaseResult]] = {}
    for result in results:
        name = f"{result.scenario}[{result.row}]" if by_row and result.row is not None else result.scenario
        groups.setdefault(name, []).append(result)
    return groups


def _side(results: Iterable[CaseResult]) -> Verdicts:
    statuses = [result.status for result in results]
    return Verdicts(passed=statuses.count("passed"), failed=statuses.count("failed"), errors=statuses.count("error"))


def _totals(results: Sequence[CaseResult]) -> Totals:
    costs = [result.cost_usd for result in results if result.cost_usd is not None]
    return Totals(cases=_side(results), cost_usd=sum(costs) if costs else None)


def _flips(a: Iterable[CaseResult], b: Iterable[CaseResult]) -> list[Flip]:
    before = {result.case: result.status for result in a}
    return [
        Flip(result.case, before[result.case], result.status)
        for result in sorted(b, key=lambda result: (result.row or 0, result.repeat))
        if {before.get(result.case), result.status} == {"passed", "failed"}
    ]


def _measures(a: list[CaseResult], b: list[CaseResult], alpha: float) -> Iterable[tuple[Measure, Test]]:
    """Yield what both runs measured of a scenario, with its test; verdicts come later."""
    a = [result for result in a if result.status != "error"]
    b = [result for result in b if result.status != "error"]
    one, other = _side(a), _side(b)
    share_a, share_b = one.passed / len(a), other.passed / len(b)
    yield (
        Measure(
            name=PASSED,
            verdict="same",
            a=share_a,
            b=share_b,
            count_a=len(a),
            count_b=len(b),
            change=share_b - share_a,
        ),
        fisher(one.passed, one.failed, other.passed, other.failed),
    )
    names = sorted({name for result in [*a, *b] for name in result.latencies})
    for name in names:
        yield from _figure(name, _medians(a, name), _medians(b, name), alpha)
    yield from _figure(COST, _costs(a), _costs(b), alpha)


def _medians(results: Iterable[CaseResult], name: str) -> list[float]:
    return [statistics.median(values) for result in results if (values := result.latencies.get(name))]


def _costs(results: Iterable[CaseResult]) -> list[float]:
    return [result.cost_usd for result in results if result.cost_usd is not None]


def _figure(name: str, a: list[float], b: list[float], alpha: float) -> Iterable[tuple[Measure, Test]]:
    if not a or not b or not any([*a, *b]):
        return
    moved: Shift = shift(a, b, 1 - alpha)
    known = moved.low != float("-inf")
    measure = Measure(
        name=name,
        verdict="same",
        a=statistics.median(a),
        b=statistics.median(b),
        count_a=len(a),
        count_b=len(b),
        change=moved.value,
        low=moved.low if known else None,
        high=moved.high if known else None,
    )
    yield measure, mann_whitney(a, b)


def _judge(measure: Measure, alpha: float, least_change: float) -> Outcome:
    proven = measure.p is not None and measure.p <= alpha
    if measure.name == PASSED:
        if measure.change == 0:
            return "same"
        return ("better" if measure.change > 0 else "worse") if proven else "not proven"
    least = max(least_change * measure.a, 0.0 if measure.name == COST else LEAST_MS)
    if measure.seen < least or measure.seen == 0:
        return "same"
    if not proven:
        return "too few"
    if abs(measure.change) < least:
        return "same"
    return "worse" if measure.change > 0 else "better"


def _overall(change: Change) -> Verdict:
    """Return the verdict of a scenario: what is worse outweighs what is better."""
    if not change.a.judged + change.a.errors:
        return "only in B"
    if not change.b.judged + change.b.errors:
        return "only in A"
    if not change.measures:
        return "not judged"
    found = {measure.verdict for measure in change.measures}
    order: tuple[Outcome, ...] = ("worse", "better", "not proven", "too few")
    return next((verdict for verdict in order if verdict in found), "too few" if change.few else "same")
