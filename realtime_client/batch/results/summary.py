"""A run in figures: pass rate, percentiles of every latency, cost; of each scenario and of all. Pure.

Percentiles are by nearest rank: p95 is the smallest measured value that at least 95 % of the values do not exceed, so
it is always a value that was measured. The interval of the pass rate is Wilson's at 95 % (E. B. Wilson, "Probable
inference, the law of succession, and statistical inference", JASA 22, 1927). An error is a case that did not pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from realtime_client.batch.result import VERSION, CaseResult, RunInfo, is_failure, tool_uses

PERCENTILE = "nearest rank"
_NOT_NOTICED_MS = 20.0
_SMALL_SHARE = 0.1
_HEARD = frozenset({"speak", "audio"})  # kinds of steps that an ear listens to
_Z_95 = 1.959964


class Spread(msgspec.Struct, kw_only=True):
    """The distribution of values, in their unit."""

    count: int
    min: float
    mean: float
    p50: float
    p95: float
    p99: float
    max: float


class Figures(msgspec.Struct, kw_only=True):
    """Figures of some cases.

    pass_rate: passed of all, 0 to 1; pass_low, pass_high: its interval at 95 %. latencies: ms, by name. own_waiting:
    ms, by the same names; see `StepResult`. duration_s: of a case. cost_usd: of the cases whose price is known,
    priced: how many those are; None when there is none. tool_calls: how many calls of tools there were;
    tool_failures: of those, how many were not completed. tools: how long each tool worked on a call, in ms.
    """

    cases: int
    passed: int
    failed: int
    errors: int
    pass_rate: float
    pass_low: float
    pass_high: float
    checks: int
    checks_failed: int
    attempts: int
    latencies: dict[str, Spread]
    own_waiting: dict[str, Spread]
    duration_s: Spread | None
    cost_usd: float | None
    priced: int
    usage: dict[str, int]
    tool_calls: int = 0
    tool_failures: int = 0
    tools: dict[str, Spread] = {}


class Summary(msgspec.Struct, kw_only=True):
    """summary.json. state: as of `RunInfo`. cases: planned in all. percentile: how percentiles are defined.

    warnings: why latencies may tell of this machine instead of the server, in sentences.
    """

    run: str
    state: str
    version: int = VERSION
    cases: int
    duration_s: float
    percentile: str = PERCENTILE
    warnings: list[str] = []
    all: Figures
    scenarios: dict[str, Figures]


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the percentile of ascending values by nearest rank. At least one value."""
    rank = math.ceil(percent / 100 * len(ordered))
    return ordered[max(0, rank - 1)]


def spread(values: Iterable[float]) -> Spread | None:
    """Return the distribution of values; None for none."""
    ordered = sorted(value for value in values if math.isfinite(value))
    if not ordered:
        return None
    p50, p95, p99 = (round(percentile(ordered, percent), 3) for percent in (50, 95, 99))
    mean = round(math.fsum(ordered) / len(ordered), 3)
    return Spread(count=len(ordered), min=ordered[0], mean=mean, p50=p50, p95=p95, p99=p99, max=ordered[-1])


def wilson(passed: int, cases: int) -> tuple[float, float]:
    """Return the 95 % interval of a pass rate, (0, 1) when there is no case."""
    if cases == 0:
        return 0.0, 1.0
    rate, z2 = passed / cases, _Z_95**2
    middle = (rate + z2 / (2 * cases)) / (1 + z2 / cases)
    half = _Z_95 / (1 + z2 / cases) * math.sqrt(rate * (1 - rate) / cases + z2 / (4 * cases**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def figures(results: Sequence[CaseResult]) -> Figures:
    """Return the figures of some cases."""
    by_status = {status: sum(r.status == status for r in results) for status in ("passed", "failed", "error")}
    low, high = wilson(by_status["passed"], len(results))
    costs = [r.cost_usd for r in results if r.cost_usd is not None]
    calls = [use for result in results for use in tool_uses(result)]
    usage: dict[str, int] = {}
    for result in results:
        for name, count in result.usage.items():
            usage[name] = usage.get(name, 0) + count
    return Figures(
        cases=len(results),
        passed=by_status["passed"],
        failed=by_status["failed"],
        errors=by_status["error"],
        pass_rate=round(by_status["passed"] / len(results), 6) if results else 0.0,
        pass_low=round(low, 6),
        pass_high=round(high, 6),
        checks=sum(len(r.checks) for r in results),
        checks_failed=sum(not check.ok for r in results for check in r.checks),
        attempts=sum(r.attempts for r in results),
        latencies=_spreads([r.latencies for r in results]),
        own_waiting=_spreads([r.own_waiting for r in results]),
        duration_s=spread(r.duration_s for r in results),
        cost_usd=round(math.fsum(costs), 9) if costs else None,
        priced=len(costs),
        usage=usage,
        tool_calls=len(calls),
        tool_failures=sum(is_failure(use) for use in calls),
        tools=_spreads([{use.name: [use.duration_ms]} for use in calls if use.duration_ms is not None]),
    )


def _spreads(values: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, Spread]:
    """Return the distribution of all values of each name, names in the order of their first value."""
    names = dict.fromkeys(name for each in values for name in each)
    found = {name: spread(value for each in values for value in each.get(name, ())) for name in names}
    return {name: one for name, one in found.items() if one is not None}


def too_busy(figures: Figures) -> list[str]:
    """Return the latencies beside which this program's own waiting is not small.

    That is where its p95 is more than a tenth of the latency's median, and longer than a block of a microphone.
    """
    waits = figures.own_waiting
    return [
        name
        for name, latency in figures.latencies.items()
        if name in waits and waits[name].p95 > max(_NOT_NOTICED_MS, _SMALL_SHARE * latency.p50)
    ]


def warnings(info: RunInfo, results: Sequence[CaseResult], whole: Figures) -> list[str]:
    """Return why latencies may tell of this machine instead of the server. whole: the figures of all results."""
    found = []
    if busy := [name.replace("_", " ") for name in too_busy(whole)]:
        found.append(
            f"this program itself waited long beside {', '.join(busy)}: it has too many sessions at a time for this "
            "machine's cores, and holds up the conversations; fewer --jobs tell more"
        )
    spoken = sum(any(step.kind in _HEARD for step in result.steps) for result in results)
    if 0 < info.ears < min(info.jobs, spoken):
        found.append(
            f"spoken turns may have waited for each other: the built-in server transcribes {info.ears} at a time on "
            f"this machine, and up to {min(info.jobs, spoken)} sessions spoke at a time; fewer --jobs tell more"
        )
    return found


def summary(info: RunInfo, results: Sequence[CaseResult]) -> Summary:
    """Return a run's summary; scenarios in the order in which their first case stands in the run."""
    place = {case: n for n, case in enumerate(info.cases)}
    groups: dict[str, list[CaseResult]] = {}
    for result in sorted(results, key=lambda r: place.get(r.case, len(place))):
        groups.setdefault(result.scenario, []).append(result)
    whole = figures(results)
    return Summary(
        run=info.run,
        state=info.state,
        cases=len(info.cases),
        duration_s=info.duration_s,
        warnings=warnings(info, results, whole),
        all=whole,
        scenarios={name: figures(group) for name, group in groups.items()},
    )
