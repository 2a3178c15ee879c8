"""The session of a scenario: its settings between the command line and the environment, and its tools."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from realtime_client.batch.loading.session_rules import SESSION_SETTINGS
from realtime_client.batch.scenario import Scenario, Tool
from realtime_client.changes import ToolSpec
from realtime_client.errors import UsageError
from realtime_client.settings import ENVIRONMENT, FLAG, SPECS, Settings


def scenario_settings(settings: Settings, scenario: Scenario) -> Settings:
    """Return the settings of a scenario's session: a flag beats the scenario, which beats everything else.

    Errors: UsageError for a name that is not a setting of a session, or a value that it does not take.
    """
    values: dict[str, Any] = {}
    sources = dict(settings.sources)
    for name, raw in scenario.session.items():
        if name not in SESSION_SETTINGS:
            raise UsageError(f"session: {name!r} is not one of {', '.join(SESSION_SETTINGS)}")
        if settings.rank(name) == FLAG or raw is None:
            continue
        try:
            values[name] = SPECS[name].parse(raw)
        except (TypeError, ValueError) as error:
            raise UsageError(f"session: {name}: the value {str(raw)[:60]!r} {error}") from None
        sources[name] = (ENVIRONMENT, "scenario")
    return dataclasses.replace(settings, **values, sources=sources)


def offered(tools: list[Tool]) -> list[ToolSpec]:
    """Return tools as the session offers them."""
    return [ToolSpec(name=tool.name, description=tool.description or "", parameters=tool.parameters) for tool in tools]


def tool_output(tool: Tool | None, name: str) -> str:
    """Return what a call of a tool gives back: text as it is, everything else as JSON."""
    if tool is None:
        return json.dumps({"error": f"there is no tool {name}"})
    if tool.error is not None:
        return json.dumps({"error": tool.error}, ensure_ascii=False)
    return tool.returns if isinstance(tool.returns, str) else json.dumps(tool.returns, ensure_ascii=False)
