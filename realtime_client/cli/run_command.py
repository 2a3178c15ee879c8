"""`realtime run`: many scenarios, checked."""

from __future__ import annotations

import dataclasses
import fnmatch
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from realtime_client.cli.group import Invocation
from realtime_client.cli.interruption import interruption
from realtime_client.cli.options import SectionedCommand, run_options
from realtime_client.cli.session import logging_as_set, notice
from realtime_client.deadline import SYSTEM_CLOCK
from realtime_client.errors import UsageError
from realtime_client.escape import one_line
from realtime_client.logs import tells_steps
from realtime_client.session.limits import Recovery
from realtime_client.settings import SPECS, Settings, recordings_folder
from realtime_client.settings.target import target

if TYPE_CHECKING:
    from realtime_client.batch.result import RunInfo
    from realtime_client.batch.results.summary import Summary
    from realtime_client.batch.running.listeners import RunListener
    from realtime_client.batch.running.stage import Stage
    from realtime_client.batch.scenario import Case
    from realtime_client.cli.run_screen import RunScreen


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What the command line says about the run itself; see the options' help."""

    paths: tuple[Path, ...]
    jobs: int
    repeat: int
    out: Path | None
    junit: Path | None
    fast: bool
    resume: bool
    rate: float | None
    case_retries: int
    tags: tuple[str, ...]
    names: tuple[str, ...]
    as_json: bool
    executor: str | None
    processes: int | None
    approve: tuple[str, ...]


def tags_of(_context: click.Context, _option: click.Parameter, begun: str) -> list[str]:
    """Offer to a shell that completes the tags of the scenarios that the line names.

    Click has not read them yet: it stops at the option that lacks its value.
    """
    from click.shell_completion import split_arg_string

    from realtime_client.batch.loading.load import load

    words = split_arg_string(os.environ.get("COMP_WORDS", ""))[2:]
    templates = load([word for word in words if Path(word).exists()]).templates
    tags = {tag for template in templates for case in template.cases[:1] for tag in case.scenario.tags}
    return sorted(tag for tag in tags if tag.startswith(begun))


@click.command("run", cls=SectionedCommand)
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@click.option("--jobs", type=click.IntRange(1, 10_000), default=8, show_default=True, help="most sessions at a time")
@click.option(
    "--repeat", type=click.IntRange(1, 1_000_000), default=1, show_default=True, help="play everything K times"
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="folder of the run [a new one in runs/ next to the recordings]",
)
@click.option("--junit", type=click.Path(path_type=Path), metavar="FILE", help="also write JUnit XML here")
@click.option("--fast", is_flag=True, help="send audio at once and skip pauses; where the server permits it")
@click.option(
    "--resume",
    is_flag=True,
    help="go on with the run in DIR, which was ended or killed; cases without a verdict are played again",
)
@click.option("--rate", type=click.FloatRange(min=0.01), metavar="N", help="start at most N sessions a minute")
@click.option(
    "--retries",
    "case_retries",
    type=click.IntRange(0, 100),
    default=2,
    show_default=True,
    help="how often to begin a case again after a fault of the endpoint, ten times as often after a rate limit; "
    "never after a failed check",
)
@click.option(
    "--tag",
    "tags",
    multiple=True,
    metavar="TAG",
    shell_complete=tags_of,
    help="only scenarios with this tag (or one of several)",
)
@click.option(
    "--filter", "names", multiple=True, metavar="NAME", help="only scenarios whose name holds NAME (or fits x*)"
)
@click.option("--json", "as_json", is_flag=True, help="one JSON object on standard output")
@click.option("--executor", metavar="dask://HOST:PORT", help="play on a Dask cluster [on this machine]")
@click.option(
    "--processes",
    type=click.IntRange(1, 256),
    metavar="P",
    help="worker processes [one for each core, more beyond 50 jobs a core]",
)
@click.option(
    "--approve",
    multiple=True,
    metavar="[PATTERN=]VERDICT",
    help="play scenarios with tools of their own (Python files, MCP servers), which run on this machine: those whose "
    "name fits a pattern with the verdict `always`, and those that only read; the first rule that fits counts",
)
@run_options
def command(*, settings: Settings, invocation: Invocation, **options: Any) -> None:
    """Play the scenarios in PATH (files or folders) and check what comes back.

    Standard output is the summary. The folder of the run holds results.jsonl, results.csv, junit.xml, summary.json and
    the recordings. The first Ctrl-C lets running sessions finish, the second (or SIGTERM) ends them, whatever they
    compute, within seconds; --resume goes on.

    Exit code: 0 all passed; 1 a check failed; 3 no check failed, but a session could not be opened or begun; 4 no check
    failed, but a session was lost or ended without a verdict; 130 interrupted.
    """
    chosen = RunOptions(**options)
    settings = dataclasses.replace(
        settings, tool_files=(), mcp=None, server_mcp=None
    )  # those of a chat: scenarios name their own
    cases = chosen_cases(chosen)
    if chosen.junit is not None:
        _try_to_write(chosen.junit)
    with logging_as_set(settings), interruption() as state:
        code = _Command(settings, invocation, chosen, cases).run(state)
    click.get_current_context().exit(code)


def chosen_cases(options: RunOptions) -> list[Case]:
    """Return the cases to play. Errors: UsageError after every mistake in the files was printed."""
    from realtime_client.batch.loading.load import cases, load
    from realtime_client.batch.playing.tools import check_allowed
    from realtime_client.tools.approval import rule

    for text in options.approve:
        rule(text)
    for flag, given in (("--tag", options.tags), ("--filter", options.names)):
        if not all(word.strip() for word in given):
            raise UsageError(f"{flag} is empty: name what is to be played, or leave it out")
    loaded = load(options.paths)
    if loaded.problems:
        for problem in loaded.problems:
            print(one_line(str(problem), 1000), file=sys.stderr)  # noqa: T201
        count = len(loaded.problems)
        raise UsageError(f"{count} mistake{'s' if count > 1 else ''} in the scenarios; nothing was run")
    for note in loaded.notes:
        print(one_line(str(note), 1000), file=sys.stderr)  # noqa: T201
    templates = tuple(
        template
        for template in loaded.templates
        if _wanted(template.name, template.cases[0].scenario.tags if template.cases else [], options)
    )
    if loaded.templates and not templates:
        raise UsageError("no scenario has such a tag or name")
    for template in templates:
        for case in template.cases[:1]:
            check_allowed(case, approved=bool(options.approve))
    return cases(dataclasses.replace(loaded, templates=templates), options.repeat)


def _wanted(name: str, tags: Sequence[str], options: RunOptions) -> bool:
    by_tag = not options.tags or bool(set(tags) & set(options.tags))
    by_name = not options.names or any(
        pattern.casefold() in name.casefold() or fnmatch.fnmatchcase(name.casefold(), pattern.casefold())
        for pattern in options.names
    )
    return by_tag and by_name


class _Command:
    """One run of the command."""

    def __init__(self, settings: Settings, invocation: Invocation, options: RunOptions, cases: Sequence[Case]) -> None:
        self._settings = settings
        self._invocation = invocation
        self._options = options
        self._cases = cases
        self._path = _folder(settings, options)

    def run(self, state: Any) -> int:
        """Play, and print what came of it; returns the exit code."""
        from realtime_client.batch.running.folder import RunFolder
        from realtime_client.batch.running.staging import stage
        from realtime_client.cli.run_screen import run_screen

        options, settings = self._options, self._settings
        info = self._info()
        live = not self._invocation.quiet and sys.stderr.isatty() and not _logs_to_stderr(settings)
        with ExitStack() as stack:
            place = stack.enter_context(
                stage(
                    settings,
                    self._path,
                    jobs=options.jobs,
                    fast=options.fast,
                    retries=options.case_retries,
                    executor=options.executor,
                    processes=options.processes,
                    quiet_workers=live,
                    approve=options.approve or None,
                )
            )
            folder = (RunFolder.resume if options.resume else RunFolder.create)(self._path, info)
            stack.callback(folder.close)
            self._announce(folder)
            screen = stack.enter_context(
                run_screen(len(self._cases), len(folder.done), quiet=self._invocation.quiet, live=live)
            )
            listener = stack.enter_context(self._listener(screen))
            summary = self._play(state, place, folder, listener, screen)
        code = exit_code(summary, self._path) if state.which is None else 128 + state.which
        self._print(summary, folder.info, code)
        return code

    def _play(self, state: Any, place: Stage, folder: Any, listener: RunListener, screen: RunScreen) -> Summary:
        from realtime_client.batch.running.run import STOP_S, Control, run

        control = Control(place.stop, place.kill)
        asked = 0

        def on_signal(which: signal.Signals) -> bool:
            nonlocal asked
            asked += 1
            if which == signal.SIGINT and asked == 1:
                screen.say("nothing new begins, what runs finishes; Ctrl-C again ends it now")
                control.drain()
            elif not control.stopping:
                screen.say(f"running sessions are ended; those that do not end within {STOP_S:g} s are killed")
                control.stop()
            elif not control.killing:
                screen.say("running sessions are killed")
                control.kill()
            else:
                os._exit(128 + which)  # whatever is going on: the results are on the disk, --resume does the rest
            return True

        state.handle(on_signal)
        return run(
            self._cases,
            place.plan,
            place.executor,
            folder,
            jobs=self._options.jobs,
            per_minute=self._options.rate,
            play=place.play,
            send=place.send,
            receive=place.receive,
            control=control,
            listener=listener,
            junit=self._options.junit,
        )

    @contextmanager
    def _listener(self, screen: RunScreen) -> Iterator[RunListener]:
        """Return the screen as the listener, and the metrics with it if they are wanted."""
        port = self._settings.metrics_port
        if not port:
            yield screen
            return
        from realtime_client.batch.running.listeners import Listeners
        from realtime_client.batch.running.run_metrics import RunMetrics
        from realtime_client.telemetry.endpoint import metrics_endpoint

        metrics = RunMetrics(len(self._cases))
        with metrics_endpoint(port, metrics.render) as url:
            screen.say(f"metrics: {url}")
            yield Listeners(metrics, screen)

    def _info(self) -> RunInfo:
        from realtime_client.batch.running.run import run_info
        from realtime_client.version import __version__

        options, settings = self._options, self._settings
        none_of_it = (*Recovery.__struct_fields__, "fallback_after_s")  # a lost connection is a result
        names = [name for name, spec in SPECS.items() if not (spec.is_secret or name in none_of_it)]
        shown = {name: settings.shown(name) for name in names}
        chosen = dataclasses.asdict(options) | {name: value for name, value in shown.items() if value is not None}
        plain = {name: _plain(value) for name, value in chosen.items() if value is not None}
        return run_info(
            self._path.name,
            self._cases,
            program=f"realtime_client {__version__}",
            target=_where(settings),
            options=plain,
        )

    def _announce(self, folder: Any) -> None:
        done = len(folder.done)
        more = f", {done} of them are done" if done else ""
        cases = f"{len(self._cases)} case{'s' if len(self._cases) != 1 else ''}"
        notice(self._invocation, f"{cases} against {_where(self._settings)}{more}; run: {self._path}")
        if folder.torn:
            notice(
                self._invocation, f"{folder.torn} damaged lines of results.jsonl are left out; their cases begin anew"
            )

    def _print(self, summary: Summary, info: RunInfo, code: int) -> None:
        from realtime_client.cli.run_screen import summary_json, summary_text

        if self._options.as_json:
            report = summary_json(summary, info, self._path) | {"exit_code": code}
            click.echo(json.dumps(report, ensure_ascii=sys.stdout.isatty()))
        else:
            click.echo(summary_text(summary, self._path))


def _try_to_write(path: Path) -> None:
    """Create the file at once: an hour's run must not end by finding that it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("ab").close()
    except OSError as error:
        raise UsageError(f"--junit {path}: {error.strerror}; nothing was run") from None


def _folder(settings: Settings, options: RunOptions) -> Path:
    """Return the run's folder; what is given, or a new name next to the recordings."""
    from realtime_client.recording.folder import folder_name

    if options.out is not None:
        return options.out
    if options.resume:
        raise UsageError("--resume needs --out DIR: the folder of the run to go on with")
    return recordings_folder(settings) / "runs" / folder_name(SYSTEM_CLOCK.wall())


def _where(settings: Settings) -> str:
    """Return the endpoint's name for people and run.json: always the same for the built-in server."""
    from realtime_client.batch.result import BUILT_IN
    from realtime_client.secret import shown_url
    from realtime_client.settings.providers import is_text, place
    from realtime_client.settings.target import endpoint

    if is_text(settings):
        return shown_url(place(settings, settings.model).base_url)
    return BUILT_IN if target(settings) == "local" else shown_url(endpoint(settings).url)


def _logs_to_stderr(settings: Settings) -> bool:
    return settings.log_file is None and tells_steps(settings.log_level)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, bool | int | float) else str(value)


def exit_code(summary: Summary, path: Path) -> int:
    """Return how a run that was not interrupted ends: 0, 1, 3 or 4."""
    from realtime_client.batch.result import RESULTS
    from realtime_client.batch.results.results import read_results

    if summary.all.failed:
        return 1
    if not summary.all.errors:
        return 3 if summary.cases > summary.all.cases else 0
    faults = [result.fault for result in read_results(path / RESULTS)[0] if result.status == "error"]
    return 3 if any(fault is None or not fault.connected for fault in faults) else 4
