"""`realtime compare`: what changed between two runs."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from realtime_client.cli.group import Invocation
from realtime_client.cli.options import SectionedCommand, log_options
from realtime_client.errors import UsageError
from realtime_client.escape import one_line
from realtime_client.settings import Settings

if TYPE_CHECKING:
    from realtime_client.batch.result import CaseResult
    from realtime_client.batch.results.compare import Change, Comparison, Measure, Totals

_LISTED = ("worse", "better", "not proven", "not judged", "too few")
_STYLES = {"worse": "red", "better": "green"}
_MOST_FLIPS = 5
_MOST_FEW = 10


@click.command("compare", cls=SectionedCommand)
@click.argument("run_a", type=click.Path(path_type=Path))
@click.argument("run_b", type=click.Path(path_type=Path))
@click.option("--by", type=click.Choice(["scenario", "row"]), default="scenario", help="compare rows one by one")
@click.option(
    "--alpha",
    type=click.FloatRange(0, 0.5, min_open=True),
    default=0.05,
    show_default=True,
    help="accepted chance of reporting a change where there is none",
)
@click.option(
    "--least-change",
    type=click.FloatRange(0, 1_000),
    default=5.0,
    show_default=True,
    metavar="PERCENT",
    help="a latency or cost that differs by less counts as the same",
)
@click.option("--json", "as_json", is_flag=True, help="one JSON object")
@log_options
def command(
    *,
    settings: Settings,  # noqa: ARG001  # one shape for all
    invocation: Invocation,
    run_a: Path,
    run_b: Path,
    by: str,
    alpha: float,
    least_change: float,
    as_json: bool,
) -> None:
    """Compare two runs (folders of `realtime run`): which scenarios changed, with confidence, not noise.

    Pass rates by Fisher's exact test, latencies and cost by the test of Mann and Whitney, corrected (Holm) for the
    number of comparisons. A latency or cost that differs, but perhaps by chance, has too few repeats to tell. Cases
    that ended in an error are left out. Ends with 1 when something is worse for sure, and with 2 when no scenario has a
    verdict in both runs.
    """
    from realtime_client.batch.results.compare import compare

    _notice_unfinished(run_a, run_b, quiet=invocation.quiet)
    comparison = compare(
        _results(run_a), _results(run_b), alpha=alpha, least_change=least_change / 100, by_row=by == "row"
    )
    if as_json:
        click.echo(json.dumps(_report(comparison, run_a, run_b), ensure_ascii=False))
    elif sys.stdout.isatty():
        _show(comparison, run_a, run_b)
    else:
        for line in _lines(comparison, run_a, run_b):
            click.echo(one_line(line, 2_000))
    _refuse_nothing(comparison)
    if comparison.count("worse"):
        click.get_current_context().exit(1)


def _refuse_nothing(comparison: Comparison) -> None:
    """Errors: UsageError when no scenario was compared: that nothing is worse would mean nothing."""
    if any(change.measures for change in comparison.changes):
        return
    common = any(change.verdict == "not judged" for change in comparison.changes)
    why = "no scenario has a verdict in both runs" if common else "the runs have no scenario in common"
    raise UsageError(f"{why}, so nothing was compared")


def _results(folder: Path) -> list[CaseResult]:
    """Read a run's results. Errors: UsageError when the folder is not a run's; RecordingError."""
    from realtime_client.batch.result import RESULTS, RUN
    from realtime_client.batch.results.results import read_results

    if not (folder / RUN).is_file() and not (folder / RESULTS).is_file():
        raise UsageError(f"{folder} is not the folder of a run: there is no {RUN} in it")
    results, _ = read_results(folder / RESULTS)
    if not results:
        raise UsageError(f"the run in {folder} has no results yet")
    return results


def _notice_unfinished(*folders: Path, quiet: bool) -> None:
    """Say on standard error which run did not finish."""
    from realtime_client.batch.result import RUN
    from realtime_client.batch.results.results import read_run

    for folder in folders:
        info = read_run(folder / RUN)
        if info is not None and info.state != "ended" and not quiet:
            click.echo(one_line(f"the run in {folder} is not finished: what it has so far is compared"), err=True)


def _report(comparison: Comparison, run_a: Path, run_b: Path) -> dict[str, Any]:
    import msgspec

    whole: dict[str, Any] = msgspec.to_builtins(comparison)
    counts = {verdict: comparison.count(verdict) for verdict in (*_LISTED, "same", "only in A", "only in B")}  # type: ignore[arg-type]
    return {"run_a": str(run_a), "run_b": str(run_b), "verdicts": counts, **whole}


def _lines(comparison: Comparison, run_a: Path, run_b: Path) -> Iterator[str]:
    """Yield the comparison as plain lines."""
    yield f"A {run_a}: {_whole(comparison.a)}"
    yield f"B {run_b}: {_whole(comparison.b)}"
    for change in _listed(comparison):
        yield f"{change.verdict}: {change.name}: {'; '.join(_details(change))}"
    yield from _ending(comparison)


def _show(comparison: Comparison, run_a: Path, run_b: Path) -> None:
    """Draw the comparison as a table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    for name, folder, totals in (("A", run_a, comparison.a), ("B", run_b, comparison.b)):
        console.print(Text(one_line(f"{name} {folder}: {_whole(totals)}")))
    listed = list(_listed(comparison))
    if listed:
        table = Table("verdict", "scenario", "what", show_lines=True)
        for change in listed:
            what = "\n".join(one_line(text) for text in _details(change))
            table.add_row(
                Text(change.verdict, style=_STYLES.get(change.verdict, "yellow")),
                Text(one_line(change.name)),
                Text(what),
            )
        console.print(table)
    for line in _ending(comparison):
        console.print(Text(one_line(line, 2_000)))


def _listed(comparison: Comparison) -> Iterator[Change]:
    """Yield the scenarios of which there is something to say; of those with too few repeats what differs most."""
    for verdict in _LISTED:
        found = [change for change in comparison.changes if change.verdict == verdict]
        yield from sorted(filter(_most, found), key=_most, reverse=True)[:_MOST_FEW] if verdict == "too few" else found


def _most(change: Change) -> float:
    """By how many times a figure that differs by chance, perhaps, has grown or shrunk at most; 0 where none does."""
    seen = [(m.a, m.b) for m in change.measures if m.verdict == "too few"]
    return max((max(a, b) / min(a, b) if min(a, b) > 0 else math.inf for a, b in seen), default=0.0)


def _whole(totals: Totals) -> str:
    cases = totals.cases
    cost = f", ${totals.cost_usd:.4f}" if totals.cost_usd is not None else ""
    return f"{cases.passed} passed, {cases.failed} failed, {cases.errors} without a verdict{cost}"


def _details(change: Change) -> Iterator[str]:
    """Yield what to say about a scenario that changed."""
    if change.verdict == "not judged":
        yield "no case with a verdict in " + ("both" if not change.a.judged + change.b.judged else _empty_run(change))
        return
    for measure in change.measures:
        if measure.verdict == change.verdict:
            yield _measured(measure)
        elif measure.verdict not in {"same", "too few"}:
            yield f"{measure.verdict}: {_measured(measure)}"
    if change.flips:
        shown = ", ".join(f"{flip.case} {flip.a} -> {flip.b}" for flip in change.flips[:_MOST_FLIPS])
        more = f" and {len(change.flips) - _MOST_FLIPS} more" if len(change.flips) > _MOST_FLIPS else ""
        yield f"{shown}{more}"
    if change.a.errors or change.b.errors:
        yield f"without a verdict: {change.a.errors} -> {change.b.errors}"


def _empty_run(change: Change) -> str:
    return "B" if change.a.judged else "A"


def _measured(measure: Measure) -> str:
    if measure.name == "passed":
        a, b = (f"{share:.0%} of {count}" for share, count in _sides(measure))
        text = f"passed {a} -> {b}"
    elif measure.name == "cost":
        text = f"cost ${measure.a:.5f} -> ${measure.b:.5f} a case"
    else:
        text = f"{measure.name} {measure.a:.0f} -> {measure.b:.0f} ms, {measure.change:+.0f} ms"
        if measure.low is not None and measure.high is not None:
            text += f" ({measure.low:+.0f} to {measure.high:+.0f})"
    return f"{text}, {_confidence(measure)}"


def _sides(measure: Measure) -> tuple[tuple[float, int], tuple[float, int]]:
    return (measure.a, measure.count_a), (measure.b, measure.count_b)


def _confidence(measure: Measure) -> str:
    from realtime_client.batch.results.statistics import can_tell

    if measure.p is None:
        counts = f"{measure.count_a} against {measure.count_b}"
        few = measure.verdict == "too few" or not can_tell(measure.count_a, measure.count_b, 0.025)
        return f"{counts} cannot tell chance from change" if few else "too little to be more than chance"
    if measure.verdict == "too few":
        return f"p = {measure.p:.2g}: too few to tell"
    return "p < 0.0001" if measure.p < 0.0001 else f"p = {measure.p:.4f}"


def _ending(comparison: Comparison) -> Iterator[str]:
    """Yield what else there is to say, and the verdict as the last line."""
    for verdict in ("only in A", "only in B"):
        names = [change.name for change in comparison.changes if change.verdict == verdict]
        if names:
            yield f"{verdict}: {', '.join(names[:20])}{f' and {len(names) - 20} more' if len(names) > 20 else ''}"
    few = sum(change.few for change in comparison.changes)
    if few:
        yield f"too few repeats to prove anything about {few} of {len(comparison.changes)}: run with --repeat 5 or more"
    if comparison.repeats:
        yield f"to tell every change of latency and cost from chance takes --repeat {comparison.repeats} or more"
    counts = ((comparison.count("worse"), "worse"), (comparison.count("better"), "better"))
    parts = [f"{count} {word}" for count, word in counts]
    parts.append(f"{comparison.count('not proven')} not proven")
    if comparison.count("not judged"):
        parts.append(f"{comparison.count('not judged')} not judged")
    if few_tell := comparison.count("too few"):
        listed = sum(change.verdict == "too few" for change in _listed(comparison))
        shown = f" ({listed} shown, what differs most)" if 0 < listed < few_tell else ""
        parts.append(f"{few_tell} with too few repeats to tell{shown}")
    parts.append(f"{comparison.count('same')} the same")
    yield f"{', '.join(parts)} ({comparison.tests} comparisons, alpha {comparison.alpha:g})"
