"""A tool of an MCP server, as every other tool."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import CancelledError, Future
from functools import cached_property
from typing import TYPE_CHECKING, Any

from realtime_client.changes import ToolSpec
from realtime_client.errors import ToolError
from realtime_client.escape import one_line, shortened
from realtime_client.tools.tool import Tool, ToolCancelledError, ToolContext

from .arguments import Arguments
from .content import description, output_of
from .keeper import Keeper

if TYPE_CHECKING:
    from mcp.shared.dispatcher import ProgressFnT
    from mcp_types import CallToolResult
    from mcp_types import Tool as Offered

_PROGRESS_EVERY_S = 0.05
Submit = Callable[[Coroutine[Any, Any, Any]], "Future[Any]"]


class McpTool(Tool):
    """One tool of a server. submit: runs a coroutine in the servers' event loop."""

    def __init__(self, offered: Offered, keeper: Keeper, submit: Submit) -> None:
        hints = offered.annotations
        super().__init__(
            ToolSpec(
                name=one_line(offered.name, 128),
                description=description(offered.description or offered.title),
                parameters=offered.input_schema,
            ),
            origin=f"mcp {keeper.spec.name}",
            reads=True if hints and hints.read_only_hint is True and hints.destructive_hint is not True else None,
            timeout_s=keeper.spec.timeout_s,
        )
        self.home = keeper.spec.shown
        self._offered_name = offered.name
        self._keeper = keeper
        self._submit = submit

    @cached_property
    def _arguments(self) -> Arguments:
        return Arguments(self.name, self.spec.parameters or {})

    def check(self, arguments: str) -> dict[str, Any]:
        """See `Tool`."""
        return self._arguments.judged(arguments)

    def run(self, checked: Mapping[str, Any], context: ToolContext) -> str:
        """See `Tool`."""
        context.check_cancelled()
        future = self._submit(self._keeper.call(self._offered_name, checked, _reporting(context)))
        context.on_cancel(future.cancel)
        try:
            result: CallToolResult = future.result()
        except CancelledError:
            raise ToolCancelledError("cancelled") from None
        output = output_of(result)
        if result.is_error:
            raise ToolError(output or "the tool failed, and does not say why")
        return output


def _reporting(context: ToolContext) -> ProgressFnT:
    """Hand on progress, not every step of a server that tells too many."""
    told_s = -_PROGRESS_EVERY_S

    async def report(progress: float, total: float | None, message: str | None) -> None:
        nonlocal told_s
        now = time.monotonic()
        if now - told_s >= _PROGRESS_EVERY_S or progress == total:
            told_s = now
            context.progress(shortened(message or "", 200), progress, total)

    return report
