"""The tools of a scenario: what it says they return, functions of its files, and tools of its MCP servers."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from realtime_client.batch.loading.servers import specs_of
from realtime_client.batch.scenario import Case, foreign, place, seconds
from realtime_client.batch.scenario import Tool as Written
from realtime_client.changes import ToolSpec
from realtime_client.errors import ToolError, UsageError
from realtime_client.tools.tool import Tool, ToolCancelledError, ToolContext
from realtime_client.tools.toolbox import Toolbox

_BESIDES_S = 60.0
_running_files = threading.Lock()  # while a file is run, what it prints is led away from stdout


@contextmanager
def toolbox_of(case: Case) -> Iterator[Toolbox]:
    """Hold all tools of a case: its files are run, its servers are up. Errors: UsageError; those of `McpServers`."""
    scenario = case.scenario
    tools: list[Tool] = []
    for written in scenario.tools:
        tools += [CannedTool(written)] if written.file is None else _of_file(case, written)
    toolbox = Toolbox(tools)
    with ExitStack() as stack:
        if scenario.mcp:
            from realtime_client.tools.mcp.servers import McpServers

            stack.enter_context(McpServers(specs_of(scenario.mcp, case.folder), toolbox.set))
        yield toolbox


def check_allowed(case: Case, *, approved: bool) -> None:
    """Refuse code of the scenario's own, unless somebody has said which of it may run. Errors: UsageError."""
    path = foreign(case.scenario)
    if path and not approved:
        index = path.split(".")[1] if "." in path else ""
        what = f"{case.scenario.tools[int(index)].file} is" if index else "an MCP server is"
        raise UsageError(
            f"{place(case, path)}: {what} code of the scenario's own, which would run on this machine: "
            "`--approve always` allows all of its tools, `--approve PATTERN=always` some"
        )


def _of_file(case: Case, written: Written) -> list[Tool]:
    """Run a file for its tools: anew for each session, so that none sees what another did to the file's variables."""
    from realtime_client.tools.files import load_tools

    assert written.file is not None
    content = case.files.get(written.file)
    with _running_files, ExitStack() as stack:
        path = Path(case.folder) / written.file
        if content is not None:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="realtime-"))) / path.name
            path.write_bytes(content)
        found = {tool.name: tool for tool in load_tools(path)}
    missing = [name for name in written.only or [] if name not in found]
    if missing:
        raise UsageError(f"{written.file} has no tool {missing[0]!r}; there are: {', '.join(found)}")
    return [found[name] for name in written.only or found]


class CannedTool(Tool):
    """Gives each call the result that the scenario has for it, whatever its arguments are, when it would be done."""

    def __init__(self, written: Written) -> None:
        self._written = written
        self._delay_s = 0.0 if written.delay is None else seconds(written.delay)
        spec = ToolSpec(name=written.name or "", description=written.description or "", parameters=written.parameters)
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
