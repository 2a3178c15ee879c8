"""The report of a run: its figures, and a table of its cases that leads to the sessions."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from realtime_client.batch.result import CaseResult, CheckResult, RunInfo, StepResult, ending
from realtime_client.batch.results.summary import Figures, warnings
from realtime_client.batch.results.summary import figures as figures_of
from realtime_client.version import __version__

from .cases import reasons, worst_first
from .cost import dollars
from .latencies import MEANINGS
from .markup import NOTHING, Markup, code, json_code, speech, tag, together
from .page import facts, masthead, notices, page, section, table
from .plots import Series, histogram, ms
from .session_page import latency_table, plotted

SCRIPTS = ("theme.js", "run.js")
MOST_CASES = 5_000
_MOST_LISTED = 200
_OWN_WAITING = "how long request and answer waited for the program that ran this; not part of the latency"
_SHOWN_LATENCIES = ("first_audio", "speech_to_audio", "first_text", "answer")


def run_page(
    info: RunInfo, results: Sequence[CaseResult], links: dict[str, str], problems: Sequence[str] = ()
) -> Iterator[str]:
    """Yield the page piece by piece. links: case -> address of its session's report."""
    parts = [("cases", "Cases"), ("scenarios", "Scenarios"), ("latency", "Latency"), ("run", "Run")]
    figures = figures_of(results)
    shown = worst_first(results)[:MOST_CASES]
    told = [*problems, *_unfinished(info, results), *map(_sentence, warnings(info, results, figures))]
    if len(shown) < len(results):
        of = f"{len(shown):,} of {len(results):,} cases"
        told.append(f"Only {of} are listed, what failed before what passed; the figures are of all.")
    body = together(
        masthead("Run", code(info.run, 120) or "Run", _under(info), parts),
        tag(
            "main",
            notices(told),
            facts(_facts(info, figures)),
            _bar(figures),
            _cases(shown, links, {result.case: n for n, result in enumerate(results)}),
            _scenarios(results),
            _latency(results),
            _about(info, results),
            id="main",
        ),
        tag("footer", f"Made by realtime_client {__version__}. Percentiles are by nearest rank."),
    )
    yield from page(f"Run {info.run}", body, scripts=SCRIPTS, data=())


def _unfinished(info: RunInfo, results: Sequence[CaseResult]) -> Iterator[str]:
    missing = len(set(info.cases) - {result.case for result in results})
    if missing:
        yield f"{missing:,} of {len(info.cases):,} cases have no result."
    if info.state == "running":
        yield "This run has not ended, or was killed: `realtime run --resume` goes on with it."
    elif info.state not in {"", "ended"}:
        yield f"This run was {code(info.state, 40)}."


def _sentence(words: str) -> str:
    return speech(f"{words[0].upper()}{words[1:]}.", 1_000)


def _under(info: RunInfo) -> str:
    words = (info.started.replace("T", " ")[:19], info.target, info.program)
    return " · ".join(speech(word, 200) for word in words if word)


def _facts(info: RunInfo, figures: Figures) -> Iterator[tuple[str, Markup | str]]:
    yield "Cases", f"{figures.cases:,}"
    yield "Passed", tag("span", f"{figures.passed:,}", class_="passed" if figures.passed else None)
    yield "Failed", tag("span", f"{figures.failed:,}", class_="failed" if figures.failed else None)
    yield "Errors", tag("span", f"{figures.errors:,}", class_="error" if figures.errors else None)
    if figures.cases:
        yield "Pass rate", f"{figures.pass_rate:.1%}"
        yield "95 % interval", f"{figures.pass_low:.0%} to {figures.pass_high:.0%}"
    yield "Checks", f"{figures.checks - figures.checks_failed:,} of {figures.checks:,}"
    for name in _SHOWN_LATENCIES[:1]:
        if name in figures.latencies:
            yield f"{MEANINGS[name][0]}, p95", ms(figures.latencies[name].p95)
    yield "Time", _seconds(info.duration_s)
    if figures.cost_usd is not None:
        yield "Cost", dollars(figures.cost_usd)


def _seconds(value: float) -> str:
    return f"{value:,.1f} s" if value < 600 else f"{value / 60:,.1f} min"


def _bar(figures: Figures) -> Markup:
    """Draw the shares of the three outcomes."""
    shapes, at = [], 0.0
    for status, count in (("passed", figures.passed), ("failed", figures.failed), ("error", figures.errors)):
        width = 1000 * count / max(1, figures.cases)
        if count:
            shapes.append(tag("rect", x=f"{at:.1f}", width=f"{width:.1f}", y=0, height=10, class_=status))
        at += width
    label = f"{figures.passed} passed, {figures.failed} failed, {figures.errors} errors"
    drawn = tag("svg", *shapes, viewBox="0 0 1000 10", preserveAspectRatio="none", role="img", aria_label=label)
    return tag("div", drawn, class_="bar")


# --- cases ------------------------------------------------------------------------------------------------------------


def _cases(results: Sequence[CaseResult], links: dict[str, str], planned: dict[str, int]) -> Markup:
    if not results:
        return section("cases", "Cases", tag("p", "No case has finished.", class_="empty"))
    tags = sorted({name for result in results for name in result.tags})
    statuses = [tag("option", "all", value="")]
    statuses += [tag("option", name, value=name) for name in ("passed", "failed", "error")]
    names = [tag("option", "all", value="")] + [
        tag("option", code(name, 80), value=str(i)) for i, name in enumerate(tags)
    ]
    orders = [
        ("", "failed first"),
        ("planned", "as planned"),
        ("duration", "longest"),
        ("latency", "slowest"),
        ("cost", "dearest"),
    ]
    filters = tag(
        "div",
        tag("label", "Status ", tag("select", *statuses, id="status")),
        tag("label", "Tag ", tag("select", *names, id="tag")),
        tag("label", "Text ", tag("input", id="words", type="search", autocomplete="off")),
        tag("label", "Order ", tag("select", *(tag("option", name, value=by) for by, name in orders), id="order")),
        tag("output", id="cases-shown"),
        class_="filters",
    )
    latency = _shown_latency(results)
    head = ("Status", "Case", MEANINGS[latency][0] if latency else "Latency", "Time", "Cost", "Session")
    rows = [_case(result, links.get(result.case), latency, tags, planned[result.case]) for result in results]
    top = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in head)))
    whole = tag("table", tag("caption", "Cases of this run", class_="unseen"), top, tag("tbody", *rows, id="case-rows"))
    return section("cases", "Cases", filters, tag("div", whole, class_="wide cases"))


def _shown_latency(results: Sequence[CaseResult]) -> str:
    """Which latency the table shows: the first for which there are values."""
    there = {name for result in results for name in result.latencies}
    return next((name for name in _SHOWN_LATENCIES if name in there), "")


def _case(result: CaseResult, link: str | None, latency: str, tags: Sequence[str], planned: int) -> Markup:
    values = sorted(result.latencies.get(latency, []))
    middle = statistics.median(values) if values else None
    scenario = "" if result.scenario == result.case else code(result.scenario, 120)
    under = " · ".join(filter(None, (scenario, " ".join(code(name, 40) for name in result.tags[:20]))))
    said = tag("small", under) if under else None
    name = tag("summary", tag("span", code(result.case, 300), class_="name"), " ", said, _reason(result))
    none = tag("span", "no report" if result.recording else NOTHING, class_="empty")
    session = tag("a", "report", href=link) if link else none
    return tag(
        "tr",
        tag("td", result.status, class_=f"status {result.status}"),
        tag("td", tag("details", name, tag("div", *_inside(result), class_="inside"))),
        tag("td", NOTHING if middle is None else ms(middle), class_="figure"),
        tag("td", _seconds(result.duration_s), class_="figure"),
        tag("td", NOTHING if result.cost_usd is None else dollars(result.cost_usd), class_="figure"),
        tag("td", session),
        data_status=result.status,
        data_tags=" ".join(str(tags.index(name)) for name in result.tags[:100]),
        data_planned=-planned,
        data_duration=f"{result.duration_s:.3f}",
        data_latency=f"{middle or 0:.3f}",
        data_cost=f"{result.cost_usd or 0:.6f}",
    )


def _reason(result: CaseResult) -> Markup | None:
    """Return why a case did not pass, in one line; the rest is inside."""
    first, *others = reasons(result, places=False) or [""]
    if not first:
        return None
    more = f" (and {len(others)} more)" if others else ""
    return tag("span", f"{speech(first, 300)}{more}", class_="reason", dir="auto")


def _inside(result: CaseResult) -> Iterator[Markup]:
    if result.fault is not None:
        blame = "the endpoint or the way to it" if result.fault.infrastructure else "this side or the scenario"
        yield tag(
            "p", tag("b", f"{code(result.fault.kind, 80)}: ", class_="error"), speech(result.fault.message, 2_000)
        )
        yield tag("p", f"No verdict: the fault lies with {blame}. Attempts: {result.attempts}.", class_="small")
    if result.checks:
        yield tag("h3", "Checks")
        yield _checks(result.checks[:_MOST_LISTED])
    if result.steps:
        yield tag("h3", "Turns")
        yield tag("div", *(_step(step) for step in result.steps[:_MOST_LISTED]), class_="steps")
    if result.values:
        yield tag("h3", "Values")
        yield tag("pre", json_code(result.values, 4_000), dir="ltr")
    yield tag("p", " · ".join(_details(result)), class_="small")


def _details(result: CaseResult) -> Iterator[str]:
    for name, value in (("file", result.file), ("model", result.model), ("at", result.target), ("by", result.worker)):
        if value:
            yield f"{name} {code(value, 300)}"
    if result.attempts > 1:
        yield f"{result.attempts} attempts"
    if tokens := result.usage.get("total_tokens"):
        yield f"{tokens:,} tokens"


def _checks(checks: Iterable[CheckResult]) -> Markup:
    rows = []
    for check in sorted(checks, key=lambda check: check.ok):
        verdict = tag("span", "held" if check.ok else "failed", class_="passed" if check.ok else "failed")
        what = together(
            code(check.kind, 80), tag("small", f" turn {check.turn}" if check.turn is not None else " whole")
        )
        seen = [speech(check.seen, 2_000)]
        if check.message:
            seen.insert(0, speech(check.message, 2_000))
        if check.score is not None:
            seen.append(f"({check.score:g})")
        rows.append(
            (what, verdict, speech(check.expected, 2_000), " ".join(filter(None, seen)), code(check.place, 200))
        )
    return table(("Check", "Result", "Expected", "Seen", "Where"), rows, caption="Checks", class_="checks")


def _step(step: StepResult) -> Markup:
    rest = step.answer[len(step.heard) :] if step.heard and step.answer.startswith(step.heard) else ""
    answer: list[Markup | str] = [speech(step.answer[: len(step.answer) - len(rest)], 4_000)]
    if rest.strip() and step.cut_ms is not None:
        answer.append(tag("del", speech(rest, 4_000), title="never heard"))
    heard = step.transcript and step.transcript != step.said
    return tag(
        "div",
        tag("p", tag("b", f"{step.n} ", code(step.name or step.kind, 60), " "), speech(step.said, 2_000), dir="auto"),
        tag("p", "understood: ", speech(step.transcript, 2_000), class_="small", dir="auto") if heard else None,
        *(
            tag(
                "p",
                tag("code", code(f"{tool.name}({tool.arguments})", 1_000)),
                tag("small", f" {code(ending(tool), 300)} ", class_=None if tool.status == "completed" else "failed"),
                "→ ",
                tag("code", code(tool.output, 1_000)),
            )
            for tool in step.tools[:50]
        ),
        tag("p", *answer, class_="answer", dir="auto") if step.answer else None,
        tag("p", f"cut after {step.cut_ms / 1000:.2f} s", class_="small cut") if step.cut_ms is not None else None,
        tag("p", _step_latencies(step), class_="small") if step.latencies else None,
        class_="step",
    )


def _step_latencies(step: StepResult) -> str:
    return " · ".join(
        f"{code(name, 40).replace('_', ' ')} {ms(value)}" for name, value in list(step.latencies.items())[:20]
    )


# --- figures ----------------------------------------------------------------------------------------------------------


def _scenarios(results: Sequence[CaseResult]) -> Markup:
    groups: dict[str, list[CaseResult]] = {}
    for result in results:
        groups.setdefault(result.scenario, []).append(result)
    latency = _shown_latency(results)
    rows = []
    for name, group in list(groups.items())[:MOST_CASES]:
        figures = figures_of(group)
        spread = figures.latencies.get(latency)
        rows.append(
            (
                code(name, 200),
                f"{figures.passed} / {figures.cases}",
                f"{figures.pass_rate:.0%}",
                f"{figures.pass_low:.0%} to {figures.pass_high:.0%}",
                ms(spread.p50) if spread else NOTHING,
                ms(spread.p95) if spread else NOTHING,
            )
        )
    called = MEANINGS[latency][0] if latency else "latency"
    head = ("Scenario", "passed", "rate", "95 % interval", f"{called}, p50", "p95")
    return section("scenarios", "Scenarios", table(head, rows, caption="Scenarios", class_="figures"))


def _latency(results: Sequence[CaseResult]) -> Markup:
    values, waits = _by_name(r.latencies for r in results), _by_name(r.own_waiting for r in results)
    ordered = [name for name in MEANINGS if name in values] + sorted(set(values) - set(MEANINGS))
    series, own = [], []
    for name in ordered[:40]:
        called, meaning = MEANINGS.get(name, (code(name, 60), "as the run measured it"))
        one = Series(called, meaning, [(0.0, value) for value in values[name]])
        series += [one] if one.values else []
        wait = Series(f"{called}: own waiting", _OWN_WAITING, [(0.0, value) for value in waits.get(name, ())])
        own += [wait] if one.values and wait.values else []
    if not series:
        return section("latency", "Latency", tag("p", "Nothing was timed.", class_="empty"))
    return section("latency", "Latency", latency_table([*series, *own]), *(plotted(one, histogram) for one in series))


def _by_name(results: Iterable[Mapping[str, Sequence[float]]]) -> dict[str, list[float]]:
    values: dict[str, list[float]] = {}
    for result in results:
        for name, measured in result.items():
            values.setdefault(name, []).extend(measured)
    return values


def _about(info: RunInfo, results: Sequence[CaseResult]) -> Markup:
    kinds: dict[str, list[bool]] = {}
    for result in results:
        for check in result.checks:
            kinds.setdefault(check.kind, []).append(check.ok)
    rows = [
        (code(kind, 80), f"{sum(held):,}", f"{len(held) - sum(held):,}") for kind, held in sorted(kinds.items())[:500]
    ]
    return section(
        "run",
        "Run",
        table(("Check", "held", "failed"), rows, caption="Checks by kind", class_="figures") if rows else None,
        _tools(figures_of(results)),
        tag("details", tag("summary", "Options"), tag("pre", json_code(info.options), dir="ltr"))
        if info.options
        else None,
    )


def _tools(figures: Figures) -> Markup | None:
    """How often each tool worked on a call, and for how long."""
    rows = [
        (code(name, 80), f"{spread.count:,}", ms(spread.p50), ms(spread.p95), ms(spread.max))
        for name, spread in list(figures.tools.items())[:500]
    ]
    return table(("Tool", "calls", "p50", "p95", "max"), rows, caption="Tools", class_="figures") if rows else None


def links_to(results: Sequence[CaseResult], folder: Path, out: Path, report: str) -> dict[str, str]:
    """Return the relative addresses of the sessions' reports that are there. Names from results are not trusted."""
    found = {}
    for result in results:
        session = session_folder(folder, result.recording)
        if session is not None and (session / report).is_file():
            way = os.path.relpath(session / report, out.resolve().parent)
            found[result.case] = "./" + quote(Path(way).as_posix())
    return found


def session_folder(folder: Path, recording: str) -> Path | None:
    """Return the folder of a session inside a run's folder; None for none, and for one outside."""
    if not recording or "\0" in recording:
        return None
    whole = folder.resolve()
    session = (whole / recording).resolve()
    return session if session != whole and session.is_relative_to(whole) and session.is_dir() else None
