"""Which report a folder gets, and writing it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from realtime_client.batch.result import RESULTS, RUN, RunInfo
from realtime_client.batch.results.results import read_results, read_run
from realtime_client.errors import UsageError
from realtime_client.recording.folder import CONVERSATION, JOURNAL, SESSION

from .cases import CaseOf, case_of, found_case, stamp
from .page import stamped, write_page
from .run_page import links_to, run_page, session_folder
from .session_data import is_session, read_session
from .session_page import session_page

REPORT = "report.html"
_MOST_PROBLEMS = 20
Progress = Callable[[int, int], None]
"""Called with how many sessions of a run have their report, and of how many."""


class Written(msgspec.Struct, kw_only=True, frozen=True):
    """What was written. problems: what is unusual about the folder, in sentences. sessions: reports written besides."""

    path: Path
    kind: Literal["session", "run"]
    size_bytes: int
    problems: list[str] = []
    sessions: int = 0


def write_report(
    folder: Path | str, out: Path | str | None = None, *, sessions: bool = True, progress: Progress | None = None
) -> Written:
    """Write the report of a session's or a run's folder; returns where it is.

    out: default report.html in the folder. sessions: of a run, write those of its sessions, too, where they are missing
    or older than the recording. Errors: UsageError when the folder is neither, or cannot be read or written;
    RecordingError when a run's files are damaged or of a newer version.
    """
    folder = Path(folder)
    path = Path(out) if out is not None else folder / REPORT
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; a recording's or a run's is needed")
    if path.is_dir():
        raise UsageError(f"{path} is a folder; the report is one file")
    if (folder / RUN).is_file() or (folder / RESULTS).is_file():
        return _run(folder, path, sessions=sessions, progress=progress)
    if is_session(folder):
        return _session(folder, path, found_case(folder, path, REPORT))
    raise UsageError(f"{folder} holds neither a recording ({SESSION}) nor a run ({RUN}, {RESULTS})")


def _session(folder: Path, path: Path, case: CaseOf | None) -> Written:
    session = read_session(folder)
    size = write_page(path, session_page(session, case))
    return Written(path=path, kind="session", size_bytes=size, problems=session.problems)


def _run(folder: Path, path: Path, *, sessions: bool, progress: Progress | None) -> Written:
    info = read_run(folder / RUN) or RunInfo(run=folder.resolve().name, state="")
    results, damaged = read_results(folder / RESULTS)
    place = {case: n for n, case in enumerate(info.cases)}
    results.sort(key=lambda result: place.get(result.case, len(place)))
    problems = [f"{damaged:,} lines of {RESULTS} cannot be read."] if damaged else []
    cases: dict[Path, CaseOf] = {}
    for result in results:
        session = session_folder(folder, result.recording)
        if session is not None:
            cases.setdefault(session, case_of(result, info, session, path))
    written = _sessions(cases, problems, progress) if sessions else 0
    links = links_to(results, folder, path, REPORT)
    size = write_page(path, run_page(info, results, links, problems[:_MOST_PROBLEMS]))
    return Written(path=path, kind="run", size_bytes=size, problems=problems[:_MOST_PROBLEMS], sessions=written)


def _sessions(cases: dict[Path, CaseOf], problems: list[str], progress: Progress | None) -> int:
    """Write the reports of a run's sessions that are still missing; returns how many."""
    stale = [session for session, case in cases.items() if _stale(session, case)]
    written = 0
    for index, session in enumerate(stale):
        if progress is not None:
            progress(index, len(stale))
        try:
            _session(session, session / REPORT, cases[session])
            written += 1
        except UsageError as error:
            problems.append(str(error))
    return written


def _stale(session: Path, case: CaseOf) -> bool:
    """Tell whether a session lacks a report that is as new as itself and says how its case turned out."""
    if not is_session(session):
        return False
    report = session / REPORT
    newest = max(
        (p.stat().st_mtime_ns for n in (SESSION, JOURNAL, CONVERSATION) if (p := session / n).exists()), default=0
    )
    return not stamped(report, stamp(case)) or report.stat().st_mtime_ns < newest
