"""The MCP servers that a scenario names."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from realtime_client.batch.scenario import McpServer, seconds

if TYPE_CHECKING:
    from realtime_client.tools.mcp.spec import McpServerSpec


def specs_of(mcp: Any, folder: str) -> tuple[McpServerSpec, ...]:
    """Return what servers are to be started. mcp: as in `Scenario`. folder: where commands start.

    Errors: UsageError for a server that cannot be used.
    """
    from realtime_client.tools.mcp.spec import server_specs

    if isinstance(mcp, Mapping):
        specs = server_specs(sections={name: _section(server) for name, server in mcp.items()})
    else:
        specs = server_specs([mcp] if isinstance(mcp, str) else mcp)
    return tuple(dataclasses.replace(spec, cwd=_within(folder, spec.cwd)) if spec.command else spec for spec in specs)


def _section(server: Any) -> dict[str, Any]:
    """Return a server as the config file has it."""
    given = msgspec.to_builtins(server) if isinstance(server, McpServer) else dict(server)
    times = {key: seconds(given[key]) for key in ("timeout", "start_timeout") if key in given}
    return given | times


def _within(folder: str, cwd: str) -> str:
    return f"{folder}/{cwd}" if cwd and not cwd.startswith("/") else cwd or folder
