"""`realtime approvals`: what was remembered of the questions whether a tool may run."""

from __future__ import annotations

import json

import click

from realtime_client.cli.group import Invocation
from realtime_client.cli.session import notice
from realtime_client.errors import UsageError
from realtime_client.escape import one_line
from realtime_client.tools.approval import fits
from realtime_client.tools.memory import FileMemory, Remembered, UnreadableError


@click.group("approvals", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """What was answered with `always` or `never` when a tool was to run; without a word, list it.

    It holds for a tool of that name, from there; `always` only as long as it says the same of itself.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(listed)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="one JSON object")
@click.pass_obj
def listed(invocation: Invocation, *, as_json: bool = False) -> None:
    """List what is remembered, the oldest first."""
    memory = FileMemory()
    found = _all(memory)
    if as_json:
        rows = [{"tool": each.name, "origin": each.origin, "verdict": _verdict(each)} for each in found]
        click.echo(json.dumps({"file": str(memory.path), "approvals": rows}))
        return
    for each in found:
        click.echo(_row(each))
    if not found:
        notice(invocation, "nothing is remembered")


@command.command("forget")
@click.argument("pattern")
@click.pass_obj
def forget(invocation: Invocation, pattern: str) -> None:
    """Forget what is remembered of the tools that fit PATTERN: `get_weather`, `time/*`, or '*' for all."""
    memory = FileMemory()
    try:
        gone = memory.forget(lambda each: fits(pattern, each.name, each.origin))
    except UnreadableError as error:
        raise UsageError(f"{error}; correct or remove it") from None
    except OSError as error:
        raise UsageError(f"{memory.path} cannot be written ({error.strerror})") from None
    for each in gone:
        click.echo(_row(each))
    if not gone:
        raise UsageError(f"nothing is remembered of {one_line(pattern, 80)}; `realtime approvals` lists what is")
    notice(invocation, "forgotten")


def _all(memory: FileMemory) -> list[Remembered]:
    try:
        return memory.all()
    except UnreadableError as error:
        raise UsageError(f"{error}; correct or remove it") from None


def _verdict(each: Remembered) -> str:
    return "always" if each.approve else "never"


def _row(each: Remembered) -> str:
    where = f" from {one_line(each.origin, 64)}" if each.origin else ""
    return f"{_verdict(each):6}  {one_line(each.name, 64)}{where}"
