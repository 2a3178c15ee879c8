"""Which case of a run a session was, how it turned out, and the way back to the run's report."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import msgspec

from realtime_client.batch.result import BUILT_IN, RESULTS, RUN, CaseResult, RunInfo
from realtime_client.batch.results.results import check_line, failed_checks, read_results, read_run
from realtime_client.errors import RecordingError
from realtime_client.version import __version__

from .markup import Markup, code, speech, tag, together

_MOST_REASONS = 10
_WORST_FIRST = ("failed", "error", "passed")


@dataclass(frozen=True, slots=True)
class CaseOf:
    """One session's case. reasons: why it did not pass, a line each. back: address of the run's report, '' for none.

    local: it was played against the built-in server.
    """

    name: str
    verdict: str
    reasons: tuple[str, ...]
    run: str
    back: str
    local: bool


def reasons(result: CaseResult, *, places: bool = True) -> list[str]:
    """Return why a case did not pass, a line each; [] for one that did. places: add where the checks are."""
    if result.status == "error":
        fault = result.fault
        return [f"{fault.kind}: {fault.message}" if fault else "no verdict"]
    if result.status != "failed":
        return []
    failed = [check if places else msgspec.structs.replace(check, place="") for check in failed_checks(result)]
    return [check_line(check) for check in failed] or ["failed"]


def worst_first(results: Sequence[CaseResult]) -> list[CaseResult]:
    """Return what failed, then what has no verdict, then what passed, each in the order planned."""
    return sorted(results, key=lambda result: _WORST_FIRST.index(result.status))


def case_of(result: CaseResult, info: RunInfo, session: Path, report: Path) -> CaseOf:
    """Return what a session's page says about its case. session: its folder. report: where the run's report is."""
    way = os.path.relpath(report.resolve(), session.resolve())
    back = "./" + quote(Path(way).as_posix())
    return CaseOf(result.case, result.status, tuple(reasons(result)), info.run, back, info.target == BUILT_IN)


def found_case(session: Path, out: Path, report: str) -> CaseOf | None:
    """Return the case of a session that is reported by itself; None if it is in no run's folder.

    out: where its page will be. report: the name of a run's report.
    """
    session = session.resolve()
    run = session.parent.parent
    if not (run / RESULTS).is_file():
        return None
    try:
        info, results = read_run(run / RUN), read_results(run / RESULTS)[0]
    except RecordingError:
        return None
    name = session.relative_to(run).as_posix()
    result = next((each for each in results if each.recording == name), None)
    if result is None:
        return None
    found = case_of(result, info or RunInfo(run=run.name, state=""), out.resolve().parent, run / report)
    if (run / report).is_file():
        return found
    return CaseOf(found.name, found.verdict, found.reasons, found.run, "", found.local)


def stamp(case: CaseOf | None) -> str:
    """Return a stamp that tells whether a session's page says this about its case, and was made by this version."""
    return hashlib.sha256(repr((__version__, case)).encode("utf-8", "replace")).hexdigest()[:16]


def kind(case: CaseOf | None) -> Markup | str:
    """Return what the page is, with the way back to the run."""
    if case is None:
        return "Session"
    run = code(case.run, 120)
    whole = tag("a", f"\N{LEFTWARDS ARROW} run {run}", href=case.back, class_="back") if case.back else f"run {run}"
    return together("Case · ", whole)


def verdict(case: CaseOf) -> Markup:
    """Return how the case turned out, and why."""
    lines = [speech(reason, 1_000) for reason in case.reasons[:_MOST_REASONS]]
    if len(case.reasons) > _MOST_REASONS:
        lines.append(f"and {len(case.reasons) - _MOST_REASONS} more")
    word = tag("b", case.verdict, class_=case.verdict)
    first = together(word, f" {lines[0]}") if lines else word
    rest = [tag("p", line) for line in lines[1:]]
    return tag("div", tag("p", first), *rest, class_=f"verdict {case.verdict}")
