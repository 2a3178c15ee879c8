"""The tools of a scenario: what it says they return, functions of its files, and tools of its MCP servers."""

from __future__ import annotations

import json
from typing import Any

from realtime_client.batch.scenario import Tool as Written
from realtime_client.batch.scenario import seconds
from realtime_client.changes import ToolSpec
from realtime_client.errors import ToolError
from realtime_client.tools.tool import Tool, ToolCancelledError, ToolContext

_BESIDES_S = 60.0


class CannedTool(Tool):
    """Gives each call the result that the scenario has for it, whatever its arguments are, when it would be done."""

    def __init__(self, written: Written) -> None:
        self._written = written
        self._delay_s = 0.0 if written.delay is None else seconds(written.delay)
        spec = ToolSpec(name=written.name, description=written.description or "", parameters=written.parameters)
        super().__init__(spec, allowed=True, timeout_s=self._delay_s + _BESIDES_S, instant=not self._delay_s)

    def check(self, arguments: str) -> Any:
        """Take any: the checks of a scenario judge them."""
        return arguments

    def run(self, checked: Any, context: ToolContext) -> str:  # noqa: ARG002
        """Return text as it is, everything else as JSON."""
        if self._delay_s and context.wait(self._delay_s):
            raise ToolCancelledError("cancelled")
        written = self._written
        if written.error is not None:
            raise ToolError(written.error)
        return written.returns if isinstance(written.returns, str) else json.dumps(written.returns, ensure_ascii=False)
