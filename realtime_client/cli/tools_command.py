"""`realtime tools`: what a model could call, and what else MCP servers offer."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
from typing import TYPE_CHECKING, Any

import click

from realtime_client.cli.group import Invocation
from realtime_client.cli.interruption import interruption
from realtime_client.cli.options import SectionedCommand, log_options
from realtime_client.cli.session import logging_as_set, notice
from realtime_client.errors import RealtimeError
from realtime_client.escape import one_line, shortened
from realtime_client.settings import Settings

if TYPE_CHECKING:
    from realtime_client.tools.mcp.servers import Listed, McpServers
    from realtime_client.tools.tool import Tool

_GRACE_S = 10.0


@click.command("tools", cls=SectionedCommand)
@click.option(
    "--mcp", "mcp", multiple=True, metavar="COMMAND|URL", help="an MCP server: 'command with arguments', or a URL"
)
@click.option("--json", "as_json", is_flag=True, help="one JSON object")
@log_options
def command(*, settings: Settings, invocation: Invocation, mcp: tuple[str, ...], as_json: bool) -> None:
    """Start the MCP servers, and list what they offer: tools, resources and prompts.

    Of each tool: its arguments, in brackets those that may be left out; whether the server says that it only reads; and
    its description.
    """
    if not mcp:
        raise click.UsageError("name at least one server: --mcp 'command with arguments' or --mcp URL")
    from realtime_client.tools.mcp.servers import McpServers
    from realtime_client.tools.mcp.spec import server_specs
    from realtime_client.tools.toolbox import Toolbox

    box = Toolbox()
    with logging_as_set(settings), interruption(_GRACE_S) as state:
        servers = McpServers(server_specs(mcp), box.set)
        state.handle(lambda _which: _close_soon(servers))
        with servers:
            found = _Found(servers, box.named)
    if as_json:
        click.echo(json.dumps({"servers": found.rows()}, ensure_ascii=False))
    else:
        found.show(invocation)


def _close_soon(servers: McpServers) -> bool:
    """Close the servers from where nobody may wait; the signal behind it ends the command."""
    threading.Thread(target=_close, args=(servers,), name="realtime-close", daemon=True).start()
    return True


def _close(servers: McpServers) -> None:
    with contextlib.suppress(RealtimeError):  # the main thread gets it, too
        servers.close()


class _Found:
    """What servers offer."""

    def __init__(self, servers: McpServers, named: dict[str, Tool]) -> None:
        self._specs = servers.specs
        self._tools = named
        self._resources = servers.resources()
        self._prompts = servers.prompts()

    def rows(self) -> list[dict[str, Any]]:
        """Return all of it for programs."""
        return [
            {
                "name": spec.name,
                "server": spec.shown,
                "tools": [_tool_row(name, tool) for name, tool in self._of(spec.name)],
                "resources": [_listed_row(each) for each in self._resources if each.server == spec.name],
                "prompts": [_listed_row(each) for each in self._prompts if each.server == spec.name],
            }
            for spec in self._specs
        ]

    def _of(self, server: str) -> list[tuple[str, Tool]]:
        return [(name, tool) for name, tool in self._tools.items() if tool.origin == f"mcp {server}"]

    def show(self, invocation: Invocation) -> None:
        """Print all of it for people."""
        for spec in self._specs:
            click.echo(one_line(f"{spec.name}: {spec.shown}", 300))
            for name, tool in self._of(spec.name):
                reads = "only reads: " if tool.reads else ""
                _line(f"{name}({_arguments(tool)})", f"{reads}{shortened(tool.spec.description, 100)}")
            for each in self._resources:
                if each.server == spec.name:
                    _line(f"resource {each.uri}", f"{each.name} {each.mime_type}".strip())
            for each in self._prompts:
                if each.server == spec.name:
                    _line(f"prompt {each.name}({', '.join(each.arguments)})", shortened(each.description, 100))
        many = f"{len(self._tools)} tools, {len(self._resources)} resources, {len(self._prompts)} prompts"
        notice(invocation, many)


def _line(what: str, about: str) -> None:
    click.echo("  " + one_line(f"{what}  {about}", 400))


def _arguments(tool: Tool) -> str:
    """Return the names of a tool's arguments, those in brackets that may be left out."""
    schema = tool.spec.parameters or {}
    properties, required = schema.get("properties"), schema.get("required")
    names = list(properties)[:20] if isinstance(properties, dict) else []
    needed = required if isinstance(required, list) else []
    return shortened(", ".join(name if name in needed else f"[{name}]" for name in names), 150)


def _tool_row(name: str, tool: Tool) -> dict[str, Any]:
    spec = tool.spec
    return {"name": name, "description": spec.description, "reads": bool(tool.reads), "parameters": spec.parameters}


def _listed_row(each: Listed) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(each).items() if name != "server" and value}
