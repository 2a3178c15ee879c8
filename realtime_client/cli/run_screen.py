"""What a run shows: its progress on standard error, its summary on standard output."""

from __future__ import annotations

import shutil
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from realtime_client.batch.result import CaseResult, Fault, RunInfo
from realtime_client.batch.results.results import check_line, failed_checks, read_results
from realtime_client.batch.results.summary import Figures, Summary
from realtime_client.batch.running.listeners import RunListener
from realtime_client.batch.scenario import Case
from realtime_client.cli.screen import dim
from realtime_client.deadline import SYSTEM_CLOCK, Clock
from realtime_client.escape import one_line

REFRESH_S = 0.2
LINE_EVERY_S = 10.0
SHOWN_RUNNING = 4
MOST_NOTES = 100
_WIDTH = 110


class RunScreen(RunListener):
    """Counts, and says what failed as it comes. Lines go through `say`; subclasses show the state of things."""

    def __init__(self, total: int, done: int, clock: Clock = SYSTEM_CLOCK) -> None:
        self.total = total
        self.before = done
        self.counts = {"passed": 0, "failed": 0, "error": 0}
        self.retries = 0
        self.running: dict[str, None] = {}
        self._noted: set[str] = set()
        self.pause_ends_s = 0.0
        self.clock = clock
        self.began_s = clock.monotonic()

    def say(self, text: str) -> None:
        """Show one line; from any thread."""

    @property
    def finished_here(self) -> int:
        """Cases that this run of the program has finished."""
        return sum(self.counts.values())

    def began(self, case: Case, attempt: int) -> None:  # noqa: ARG002
        """A case starts."""
        self.running[case.id] = None

    def finished(self, result: CaseResult) -> None:
        """A case has its result: report it unless it passed."""
        self.running.pop(result.case, None)
        self.counts[result.status] += 1
        for line in bad_lines(result):
            self.say(line)
        for note in result.notes:
            if note not in self._noted and len(self._noted) < MOST_NOTES:
                self._noted.add(note)
                self.say(f"note    {result.case}: {note}")

    def again(self, case: Case, fault: Fault) -> None:
        """A case is begun again."""
        self.running.pop(case.id, None)
        self.retries += 1
        self.say(f"again   {case.id}: {fault.kind}: {fault.message}")

    def dropped(self, case: Case) -> None:
        """A case is left for later."""
        self.running.pop(case.id, None)

    def paused(self, seconds: float, reason: str) -> None:
        """Nothing starts for a while."""
        ends_s = self.clock.monotonic() + seconds
        if ends_s > self.pause_ends_s + 0.5:
            pause = f"{seconds:.1f} s" if seconds < 60 else duration(seconds)
            self.say(f"too many requests: nothing starts for {pause} ({reason})")
        self.pause_ends_s = max(self.pause_ends_s, ends_s)

    def gave_up(self, fault: Fault, why: str) -> None:  # noqa: ARG002
        """Nothing more is begun."""
        self.say(f"given up: {why}; --resume goes on with the others")

    def state(self) -> str:
        """Return one line about the whole."""
        done = self.before + self.finished_here
        seconds = self.clock.monotonic() - self.began_s
        parts = [f"{done}/{self.total}", *(f"{name} {count}" for name, count in self.counts.items() if count)]
        if self.before:
            parts.append(f"{self.before} from before")
        if self.retries:
            parts.append(f"begun again {self.retries}")
        if self.finished_here and seconds > 0:
            rate = self.finished_here / seconds
            parts.append(f"{rate * 60:.0f}/min")
            if done < self.total:
                parts.append(f"{duration((self.total - done) / rate)} left")
        waits_s = self.pause_ends_s - self.clock.monotonic()
        if waits_s > 0:
            parts.append(f"paused for {waits_s:.0f} s")
        return ", ".join(parts)


class PlainRunScreen(RunScreen):
    """Lines only: for files, pipes and logs."""

    def __init__(self, total: int, done: int, clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__(total, done, clock)
        self._told_s = self.began_s
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        """Write a line."""
        with self._lock:
            print(one_line(text, 1000), file=sys.stderr, flush=True)  # noqa: T201

    def tick(self) -> None:
        """Say how things stand, now and then."""
        if self.clock.monotonic() - self._told_s >= LINE_EVERY_S:
            self._told_s = self.clock.monotonic()
            self.say(self.state())


class LiveScreen(RunScreen):
    """A progress bar with the running cases at the bottom of a terminal. Foreign text is escaped, never markup."""

    def __init__(self, total: int, done: int, clock: Clock = SYSTEM_CLOCK) -> None:
        from rich.console import Console
        from rich.live import Live

        super().__init__(total, done, clock)
        self._shown_s = 0.0
        self._console = Console(file=sys.stderr, highlight=False, markup=False, emoji=False)
        # No thread of its own: `tick` draws.
        self._live = Live(
            console=self._console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show it while the block runs."""
        with self._live:
            yield

    def say(self, text: str) -> None:
        """Write a line above the bar."""
        from rich.text import Text

        word = text.partition(" ")[0]
        style = {"failed": "red", "error": "magenta", "again": "yellow"}.get(word, "dim")
        self._console.print(Text(one_line(text, 1000), style=style), soft_wrap=True)

    def tick(self) -> None:
        """Draw, a few times a second."""
        now_s = self.clock.monotonic()
        if now_s - self._shown_s >= REFRESH_S:
            self._shown_s = now_s
            self._live.update(self._picture(), refresh=True)

    def _picture(self) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        width = max(20, shutil.get_terminal_size().columns)
        done = self.before + self.finished_here
        bar = ProgressBar(total=max(1, self.total), completed=done, width=min(60, width))
        names = list(self.running)
        shown = ", ".join(one_line(name, 40) for name in names[:SHOWN_RUNNING])
        more = f" and {len(names) - SHOWN_RUNNING} more" if len(names) > SHOWN_RUNNING else ""
        lines = [Text(self.state(), no_wrap=True, overflow="ellipsis")]
        lines.append(Text(f"running {len(names)}: {shown}{more}", style="dim", no_wrap=True, overflow="ellipsis"))
        return Group(bar, *lines)


class QuietScreen(RunScreen):
    """Shows nothing."""


@contextmanager
def run_screen(total: int, done: int, *, quiet: bool, live: bool) -> Iterator[RunScreen]:
    """Return the screen that is wanted: none, one that redraws itself, or lines."""
    if quiet:
        yield QuietScreen(total, done)
    elif live:
        screen = LiveScreen(total, done)
        with screen.shown():
            yield screen
    else:
        yield PlainRunScreen(total, done)


def bad_lines(result: CaseResult) -> list[str]:
    """Return what is wrong with a case, a line a check; [] for one that passed."""
    if result.status == "error":
        fault = result.fault
        return [f"error   {result.case}: {f'{fault.kind}: {fault.message}' if fault else 'no verdict'}"]
    if result.status == "failed":
        return [f"failed  {result.case}: {check_line(check)}" for check in failed_checks(result)]
    return []


def duration(seconds: float) -> str:
    """Return a length of time for people: 7 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


# --- the summary ------------------------------------------------------------------------------------------------------


def summary_text(summary: Summary, path: Path) -> str:
    """Return the summary for people. path: the run's folder."""
    whole = summary.all
    lines = [_verdict(summary)]
    if len(summary.scenarios) > 1:
        lines += ["", *_table(["scenario", "passed", "failed", "errors", "rate"], _scenario_rows(summary))]
    if whole.latencies:
        lines += ["", *_latencies(whole)]
    if whole.tool_calls:
        lines += ["", *_tools(whole)]
    for warning in summary.warnings:
        lines += ["", *textwrap.wrap(one_line(f"warning: {warning}", 1_000), _WIDTH)]
    if whole.cost_usd is not None:
        of = "" if whole.priced == whole.cases else f" ({whole.priced} of {whole.cases} cases have a known price)"
        lines += ["", f"cost: ${whole.cost_usd:.4f}{of}"]
    lines += ["", f"results: {one_line(str(path))}"]
    return "\n".join(lines)


def _latencies(whole: Figures) -> list[str]:
    """Latencies, and this program's own waiting beside them."""
    rows = []
    for name, spread in whole.latencies.items():
        values = [f"{value:.0f}" for value in (spread.p50, spread.p95, spread.p99, spread.max)]
        own = whole.own_waiting.get(name)
        beside = [f"{own.p50:.1f}", f"{own.p95:.1f}"] if own is not None else [""] * bool(whole.own_waiting) * 2
        rows.append([name.replace("_", " "), *values, str(spread.count), *beside])
    own_head = ["own waiting p50", "p95"] * bool(whole.own_waiting)
    return _table(["latency, ms", "p50", "p95", "p99", "max", "count", *own_head], rows)


def _tools(whole: Figures) -> list[str]:
    """How long the tools worked on their calls."""
    rows = [
        [one_line(name, 50), *(f"{value:.0f}" for value in (each.p50, each.p95, each.p99, each.max)), str(each.count)]
        for name, each in whole.tools.items()
    ]
    failures = [f"{whole.tool_failures} of {whole.tool_calls} calls of tools were not completed"]
    return (_table(["tool, ms", "p50", "p95", "p99", "max", "count"], rows) if rows else []) + failures * bool(
        whole.tool_failures
    )


def _verdict(summary: Summary) -> str:
    whole = summary.all
    parts = [f"{whole.passed} of {whole.cases} cases passed"]
    parts += [f"{whole.failed} failed"] * bool(whole.failed) + [f"{whole.errors} without a verdict"] * bool(
        whole.errors
    )
    if summary.cases > whole.cases:
        parts.append(f"{summary.cases - whole.cases} not run (--resume goes on)")
    interval = f"{100 * whole.pass_low:.1f} to {100 * whole.pass_high:.1f} % at 95 % confidence"
    rate = f"{100 * whole.pass_rate:.1f} % ({interval})" if whole.cases else "nothing was run"
    return f"{', '.join(parts)} in {duration(summary.duration_s)}: {rate}"


def _scenario_rows(summary: Summary) -> list[list[str]]:
    def row(name: str, figures: Figures) -> list[str]:
        counts = [str(count) if count else "" for count in (figures.failed, figures.errors)]
        return [one_line(name, 50), str(figures.passed), *counts, f"{100 * figures.pass_rate:.0f} %"]

    return [row(name, figures) for name, figures in summary.scenarios.items()]


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[n]) for row in [head, *rows]) for n in range(len(head))]

    def line(cells: list[str]) -> str:
        first, *rest = cells
        return "  ".join(
            [first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(rest, widths[1:], strict=True))]
        ).rstrip()

    return [dim(line(head)) if sys.stdout.isatty() else line(head), *map(line, rows)]


def summary_json(summary: Summary, info: RunInfo, path: Path) -> dict[str, Any]:
    """Return the one object of --json: the summary, the folder, and the cases that did not pass."""
    results, _ = read_results(path / "results.jsonl")
    bad = [
        {"case": r.case, "status": r.status, "messages": [line.partition(": ")[2] for line in bad_lines(r)]}
        for r in results
        if r.status != "passed"
    ]
    plain: dict[str, Any] = msgspec.to_builtins(summary)
    return plain | {"folder": str(path), "target": info.target, "not_passed": bad}
