"""`realtime check`: every mistake in scenario files."""

from __future__ import annotations

import json
from pathlib import Path

import click

from realtime_client.cli.group import Invocation
from realtime_client.cli.options import SectionedCommand, log_options
from realtime_client.escape import one_line
from realtime_client.settings import Settings


@click.command("check", cls=SectionedCommand)
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="PATH...")
@click.option("--json", "as_json", is_flag=True, help="one JSON object")
@click.option("--schema", is_flag=True, help="print the JSON schema of scenario files, for editors")
@log_options
def command(
    *,
    settings: Settings,  # noqa: ARG001  # one shape for all
    invocation: Invocation,  # noqa: ARG001
    paths: tuple[Path, ...],
    as_json: bool,
    schema: bool,
) -> None:
    """Read scenarios (files, or directories with *.yaml) and print every mistake as FILE:LINE:COLUMN: what is wrong.

    Ends with 2 when there is one. No connection is made.
    """
    if schema:
        from realtime_client.batch.loading.schema import schema_text

        click.echo(schema_text(), nl=False)
        return
    if not paths:
        raise click.UsageError("name at least one file or directory of scenarios")
    if not _report(paths, as_json=as_json):
        click.get_current_context().exit(2)


def _report(paths: tuple[Path, ...], *, as_json: bool) -> bool:
    """Print what was found; returns whether all is well."""
    from realtime_client.batch.loading.load import load

    loaded = load(paths)
    scenarios, cases = len(loaded.templates), sum(len(template.cases) for template in loaded.templates)
    if as_json:
        problems = [problem._asdict() for problem in loaded.problems]
        notes = [note._asdict() for note in loaded.notes]
        found = {"scenarios": scenarios, "cases": cases, "problems": problems, "notes": notes}
        click.echo(json.dumps(found, ensure_ascii=False))
        return not problems
    for problem in loaded.problems:
        click.echo(one_line(str(problem), 1_000))
    for note in loaded.notes:
        click.echo(one_line(f"{note} (no mistake, but look at it)", 1_000))
    said = f"{_count(scenarios, 'scenario')} without mistakes, {_count(cases, 'case')}"
    click.echo(f"{_count(len(loaded.problems), 'mistake')}; {said}" if loaded.problems else said)
    return not loaded.problems


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
