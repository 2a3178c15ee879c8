"""The group of commands. Each command's module is imported when that command is run."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
from typing import TYPE_CHECKING, cast

import click

from realtime_client.version import __version__

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_COMMANDS = {
    "chat": "Hold a conversation: speak or type, and interrupt.",
    "say": "One turn: a text or an audio file in, the answer out.",
    "run": "Play many scenarios at a time, and check what comes back.",
    "serve": "Run the built-in local server on its own.",
    "doctor": "Check key, server, sound and everything else a session needs.",
    "devices": "List speakers and microphones, try them, and choose.",
    "models": "Weights of speech and text models: list, get, check, remove.",
    "tools": "What models could call: tools of files and of MCP servers.",
    "approvals": "What tools may do without a question: list it, forget it.",
    "settings": "Show what is in force and where each value came from.",
    "check": "Find every mistake in scenario files.",
    "compare": "What changed between two runs, and what is only chance.",
    "report": "Make one HTML file that shows a recording or a run.",
    "recover": "Finish a recording that was cut off.",
}


@dataclasses.dataclass
class Invocation:
    """What the options say about this run as such. verbose: number of -v; quiet: -q."""

    verbose: int = 0
    quiet: bool = False


class LazyGroup(click.Group):
    """Knows its commands by name, and imports one only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names in the order of the help page."""
        return list(_COMMANDS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; for a mistyped one the nearest is named."""
        name = args[0]
        if name not in _COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            near = difflib.get_close_matches(name, _COMMANDS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the commands are {', '.join(_COMMANDS)}"
            if " " in name:
                hint = "to say it: realtime say TEXT"
            ctx.fail(f"there is no command {name!r}; {hint}")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands that begin so, without importing one; for what begins with a dash, the options."""
        from click.shell_completion import CompletionItem

        if incomplete.startswith("-"):
            return click.Command.shell_complete(self, ctx, incomplete)
        return [CompletionItem(name, help=text) for name, text in _COMMANDS.items() if name.startswith(incomplete)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the module of a command."""
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"realtime_client.cli.{cmd_name}_command")
        return cast("click.Command", module.command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=LazyGroup, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="realtime", message="%(prog)s %(version)s")
@click.pass_context
def realtime(ctx: click.Context) -> None:
    """Realtime voice and text conversations with AI models.

    With OPENAI_API_KEY (environment or .env) it talks to OpenAI, without any key to a local server inside this program.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def complete(instruction: str, variable: str) -> int:
    """Answer a shell that completes our command line; returns the exit code.

    instruction: `bash_source` prints the script for bash, `bash_complete` is what that script asks; the same for zsh
    and fish. variable: the environment variable that holds it. Errors: UsageError for anything else.
    """
    from click.shell_completion import shell_complete

    code = shell_complete(realtime, {}, "realtime", variable, instruction)
    if code:
        raise click.UsageError(f"{variable}={instruction}: it should be bash_source, zsh_source or fish_source")
    return code
