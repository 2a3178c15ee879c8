"""`realtime tools`: what a model could call, of files and of MCP servers, and what else these offer."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from realtime_client.cli.group import Invocation
from realtime_client.cli.interruption import Interruption, interruption
from realtime_client.cli.options import SectionedCommand, tool_options
from realtime_client.cli.session import logging_as_set, notice
from realtime_client.errors import RealtimeError
from realtime_client.escape import one_line, shortened
from realtime_client.settings import Settings

if TYPE_CHECKING:
    from realtime_client.tools.mcp.servers import Listed, McpServers
    from realtime_client.tools.mcp.spec import McpServerSpec
    from realtime_client.tools.tool import Tool
    from realtime_client.tools.toolbox import Toolbox

_GRACE_S = 10.0


@click.command("tools", cls=SectionedCommand)
@click.option("--json", "as_json", is_flag=True, help="one JSON object")
@tool_options
def command(*, settings: Settings, invocation: Invocation, as_json: bool) -> None:
    """List the tools that a model would be offered, of files and of MCP servers, as the flags and all settings say.

    Files are run, and servers are started and ended. Of each tool: its arguments, in brackets those that may be left
    out; whether it says that it only reads; and its description. Of servers also their resources and prompts.
    """
    from realtime_client.settings.tool_settings import server_specs

    specs = server_specs(settings.mcp, settings.mcp_env)
    if not (specs or settings.tool_files):
        raise click.UsageError("there are no tools; name some: --tools FILE.py, --mcp 'COMMAND' or --mcp URL")
    from realtime_client.tools.files import load_tools
    from realtime_client.tools.toolbox import Toolbox

    with logging_as_set(settings), interruption(_GRACE_S) as state:
        files = {path: load_tools(path) for path in settings.tool_files}
        box = Toolbox(tool for tools in files.values() for tool in tools)
        found = _asked(specs, box, state) if specs else _Servers((), (), ())
    named = box.named
    if as_json:
        click.echo(json.dumps({"files": _file_rows(files), "servers": found.rows(named)}, ensure_ascii=False))
        return
    for path, tools in files.items():
        click.echo(one_line(str(path), 300))
        _show_tools((tool.name, tool) for tool in tools)
    found.show(named)
    many = f"{len(named)} tools, {len(found.resources)} resources, {len(found.prompts)} prompts"
    notice(invocation, many)


def _asked(specs: Sequence[McpServerSpec], box: Toolbox, state: Interruption) -> _Servers:
    """Start servers, put their tools into the box, and ask them for the rest."""
    from realtime_client.tools.mcp.servers import McpServers

    servers = McpServers(specs, box.set)
    state.handle(lambda _which: _close_soon(servers))
    with servers:
        return _Servers(servers.specs, servers.resources(), servers.prompts())


def _close_soon(servers: McpServers) -> bool:
    """Close the servers from where nobody may wait; the signal behind it ends the command."""
    threading.Thread(target=_close, args=(servers,), name="realtime-close", daemon=True).start()
    return True


def _close(servers: McpServers) -> None:
    with contextlib.suppress(RealtimeError):  # the main thread gets it, too
        servers.close()


@dataclasses.dataclass(frozen=True)
class _Servers:
    """What servers offer besides tools; `named`, below, are the tools of all by the names that the model sees."""

    specs: Sequence[McpServerSpec]
    resources: Sequence[Listed]
    prompts: Sequence[Listed]

    def rows(self, named: Mapping[str, Tool]) -> list[dict[str, Any]]:
        """Return all of it for programs."""
        return [
            {
                "name": spec.name,
                "server": spec.shown,
                "tools": [_tool_row(name, tool) for name, tool in _of(spec.name, named)],
                "resources": [_listed_row(each) for each in self.resources if each.server == spec.name],
                "prompts": [_listed_row(each) for each in self.prompts if each.server == spec.name],
            }
            for spec in self.specs
        ]

    def show(self, named: Mapping[str, Tool]) -> None:
        """Print all of it for people."""
        for spec in self.specs:
            click.echo(one_line(f"{spec.name}: {spec.shown}", 300))
            _show_tools(_of(spec.name, named))
            for each in self.resources:
                if each.server == spec.name:
                    _line(f"resource {each.uri}", f"{each.name} {each.mime_type}".strip())
            for each in self.prompts:
                if each.server == spec.name:
                    _line(f"prompt {each.name}({', '.join(each.arguments)})", shortened(each.description, 100))


def _of(server: str, named: Mapping[str, Tool]) -> list[tuple[str, Tool]]:
    return [(name, tool) for name, tool in named.items() if tool.origin == f"mcp {server}"]


def _file_rows(files: Mapping[Path, Sequence[Tool]]) -> list[dict[str, Any]]:
    return [
        {"name": path.name, "file": str(path), "tools": [_tool_row(tool.name, tool) for tool in tools]}
        for path, tools in files.items()
    ]


def _show_tools(tools: Iterable[tuple[str, Tool]]) -> None:
    for name, tool in tools:
        reads = "only reads: " if tool.reads else ""
        _line(f"{name}({_arguments(tool)})", f"{reads}{shortened(tool.spec.description, 100)}")


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
