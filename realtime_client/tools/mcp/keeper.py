"""Keeps one MCP server up: connects, and again when the connection is lost. Runs in the servers' event loop."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio

from realtime_client import logs
from realtime_client.deadline import Deadline
from realtime_client.errors import RealtimeError, ToolError
from realtime_client.escape import shortened

from .faults import end_words, leaf, start_error, words
from .http import Ways
from .link import Kind, Link, RefusedRequestError, linked
from .spec import McpServerSpec

if TYPE_CHECKING:
    from mcp.shared.dispatcher import ProgressFnT
    from mcp_types import CallToolResult, Tool

log = logs.Log("tools")


@dataclass
class Restarts:
    """When a server is started again: at most `most` times within `within_s`, each time later until it has worked.

    That it could be connected to is nothing: it has worked when it has answered a call.
    """

    most: int = 5
    within_s: float = 120.0
    first_s: float = 0.25
    longest_s: float = 15.0
    _at: deque[float] = field(default_factory=deque, init=False, repr=False)
    _in_a_row: int = field(default=0, init=False, repr=False)

    def worked(self) -> None:
        """It has answered a call."""
        self._in_a_row = 0

    def allowed(self, now: float) -> bool:
        """Whether it may be started again."""
        while self._at and now - self._at[0] >= self.within_s:
            self._at.popleft()
        return len(self._at) < self.most

    def take(self, now: float) -> float:
        """Start it again; returns after how many seconds."""
        self._at.append(now)
        self._in_a_row += 1
        return min(math.ldexp(self.first_s, self._in_a_row - 1), self.longest_s)


class Keeper:
    """One server. on_tools: called with its tools when it is up, and when they have changed."""

    def __init__(
        self,
        spec: McpServerSpec,
        environ: Mapping[str, str],
        ways: Ways,
        *,
        restarts: Restarts,
        on_tools: Callable[[Sequence[Tool]], object],
        ending: Callable[[], Deadline],
    ) -> None:
        self.spec = spec
        self.started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._environ = environ
        self._ways = ways
        self._restarts = restarts
        self._on_tools = on_tools
        self._ending = ending
        self._link: Link | None = None
        self._told: Sequence[Tool] | None = None
        self._fault = ""
        self._given_up = False
        self._settled = asyncio.Event()  # it is up, or given up
        self._wanted = asyncio.Event()

    async def keep(self) -> None:
        """Be connected, again and again, until cancelled. `started` is how it went first; it ends if that was badly."""
        while True:
            error = await self._one_connection()
            if not self.started.done():
                assert error is not None  # or else it was up
                self.started.set_exception(error)
                return
            if self._ending().remaining_s() is not None:
                return
            self._fault = str(error) if error else self._fault
            log.warning("server_lost", server=self.spec.name, why=self._fault)
            if not self._restarts.allowed(time.monotonic()):
                await self._give_up()
            await asyncio.sleep(self._restarts.take(time.monotonic()))
            log.info("server_restarts", server=self.spec.name)

    async def _give_up(self) -> None:
        """Wait until somebody wants the server at a time when it may be started again."""
        log.error("server_given_up", server=self.spec.name, why=self._fault)
        self._wanted.clear()
        self._given_up = True
        self._settled.set()
        await self._wanted.wait()

    async def _one_connection(self) -> RealtimeError | None:
        """Be connected until the connection is lost; returns why it could not be used, or None if it could."""
        link, up, cause = Link(self.spec, self._environ), False, None
        try:
            with anyio.CancelScope(deadline=anyio.current_time() + self.spec.start_timeout_s) as opening:
                async with linked(link, self.spec, self._environ, self._ways, self._ending):
                    await link.list_tools()
                    opening.deadline, up = math.inf, True
                    self._is_up(link)
                    await link.watch(lambda: self._publish(link))
                    self._forget(link)
        except Exception as error:  # noqa: BLE001 - the transports raise of all kinds, in groups
            cause = error
        finally:
            self._forget(link)
        if not up:
            return start_error(self.spec, link, cause)
        self._fault = end_words(link, cause)
        return None

    def _forget(self, link: Link) -> None:
        """Give a connection that is lost to nobody any longer."""
        if self._link is link:
            self._link = None
            self._settled.clear()

    def _is_up(self, link: Link) -> None:
        self._link = link
        log.info("server_up", server=self.spec.name, protocol=link.protocol, tools=len(link.tools))
        self._publish(link)
        if not self.started.done():
            self.started.set_result(None)
        self._settled.set()

    def _publish(self, link: Link) -> None:
        """Tell the tools, unless they are those that were told."""
        if link.tools != self._told:
            self._told = link.tools
            self._on_tools(link.tools)

    async def call(self, tool: str, arguments: Mapping[str, Any], progress: ProgressFnT) -> CallToolResult:
        """Call a tool; waits while the server is started again. Errors: ToolError.

        A call that was under way when the server died is not repeated: what it did is not known. One that a server
        refused because it does not know the session any longer was not begun.
        """
        while True:
            link = await self._linked()
            try:
                result = await link.call(tool, arguments, progress)
            except Exception as error:  # noqa: BLE001 - the transports raise of all kinds
                if link.session_unknown and "session" in str(error).lower():
                    continue
                raise ToolError(self._call_fault(link, error)) from None
            self._restarts.worked()
            return result

    async def listed(self, kind: Kind) -> list[Any]:
        """Return what the server lists. Errors: ToolError."""
        link = await self._linked()
        try:
            return await link.listed(kind)
        except Exception as error:  # noqa: BLE001 - the transports raise of all kinds
            raise ToolError(f"MCP server {self.spec.name}: {words(leaf(error))}") from None

    async def _linked(self) -> Link:
        """Wait until the server is up. Errors: ToolError when it is given up."""
        while True:
            if self._link is not None:
                if not self._link.lost.is_set():
                    return self._link
                self._forget(self._link)
            if self._given_up:
                if not self._restarts.allowed(time.monotonic()):
                    raise ToolError(
                        f"the server {self.spec.name} does not work: it was started again {self._restarts.most} times "
                        f"within {self._restarts.within_s:g} s: {shortened(self._fault, 300)}"
                    )
                self._given_up = False
                self._settled.clear()
                self._wanted.set()
            await self._settled.wait()

    def _call_fault(self, link: Link, error: Exception) -> str:
        """Say for the model why a call failed."""
        from mcp import MCPError
        from mcp_types import CONNECTION_CLOSED
        from pydantic import ValidationError

        name = self.spec.name
        if isinstance(error, RefusedRequestError):
            return f"the server {name} needs {shortened(str(error))} for this, which is not offered here"
        if isinstance(error, ValidationError):
            return f"the server {name} answered with what is no result of a tool"
        closed = isinstance(error, MCPError) and error.error.code == CONNECTION_CLOSED
        if closed and str(error) == "Connection closed":  # of the whole; else of the answer to this call
            link.lost.set()
        if link.lost.is_set() or closed:
            what = "was lost while it worked on this call" if link.lost.is_set() else "broke off its answer"
            return f"the server {name} {what}, and whether the call had an effect is not known"
        answered = f" ({link.answered.words})" if link.answered.words else ""
        return f"the server {name} refused the call: {words(error)}{answered}"
