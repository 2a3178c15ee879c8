"""One connection to an MCP server: how it is opened, what the server lists and says over it, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, Self

import anyio

from realtime_client import logs
from realtime_client.deadline import Deadline
from realtime_client.escape import one_line, shortened
from realtime_client.version import __version__

from .http import Answered, Ways, http_streams
from .spec import McpServerSpec
from .stdio import Said, stdio

if TYPE_CHECKING:
    from mcp import Client
    from mcp.client._transport import TransportStreams
    from mcp.shared.dispatcher import ProgressFnT
    from mcp_types import CallToolResult, LoggingMessageNotificationParams, Tool

MOST_LISTED = 1_000
"""The most tools, resources or prompts of one server that are known here."""
_MOST_PAGES = 100
_LIST_S = 30.0
_LISTEN_AGAIN_S = (1.0, 60.0)
_SETTLES_S = (0.05, 5.0)  # a server that changes several things tells each; one that never stops is asked rarely
Kind = Literal["tools", "resources", "resource_templates", "prompts"]

log = logs.Log("tools")


class Link:
    """An open connection. lost: set when it is over. said, answered: what the server printed, or answered over HTTP."""

    def __init__(self, spec: McpServerSpec, environ: Mapping[str, str]) -> None:
        self.lost = asyncio.Event()
        self.session_unknown = False
        self.said = Said(spec.name, [environ[name] for name in spec.env])
        self.answered = Answered(self._session_unknown)
        self.tools: tuple[Tool, ...] = ()
        self._name = spec.name
        self._changed = asyncio.Event()
        self._told: set[str] = set()
        self._client: Client

    def _session_unknown(self) -> None:
        self.session_unknown = True
        self.lost.set()

    @property
    def protocol(self) -> str:
        """The version of the protocol that was agreed on."""
        return self._client.protocol_version

    async def call(self, tool: str, arguments: Mapping[str, Any], progress: ProgressFnT) -> CallToolResult:
        """Call a tool. Errors: MCPError; pydantic's ValidationError for what is no result; RefusedRequestError.

        What it returns is not judged by the schema that the server has for it: that is nobody's need here, and the
        schema is a stranger's.
        """
        from mcp import MCPError
        from mcp_types import HEADER_MISMATCH

        try:
            return await self._called(tool, arguments, progress)
        except MCPError as error:
            if error.error.code != HEADER_MISMATCH:
                raise
            await self.list_tools()  # it was refused unread, because the tool is another one now
            return await self._called(tool, arguments, progress)

    async def _called(self, tool: str, arguments: Mapping[str, Any], progress: ProgressFnT) -> CallToolResult:
        from mcp_types import CallToolRequest, CallToolRequestParams, CallToolResult

        request = CallToolRequest(params=CallToolRequestParams(name=tool, arguments=dict(arguments)))
        result = await self._client.session.send_request(request, _result(), progress_callback=progress)
        if isinstance(result, CallToolResult):
            return result
        wanted = sorted({each.method for each in (result.input_requests or {}).values()})
        self._tell_once(*wanted)
        raise RefusedRequestError(", ".join(wanted) or "input")

    async def list_tools(self) -> None:
        """Learn the tools anew."""
        self.tools = tuple(await self.listed("tools"))

    async def listed(self, kind: Kind) -> list[Any]:
        """Return all tools, resources or prompts, as far as `MOST_LISTED`. Errors: those of `call`."""
        ability = "resources" if kind == "resource_templates" else kind
        if getattr(self._client.server_capabilities, ability) is None:
            return []
        found: list[Any] = []
        cursor, seen = None, set[str]()
        for _ in range(_MOST_PAGES):
            page = await getattr(self._client, f"list_{kind}")(cursor=cursor)
            found += getattr(page, kind)
            cursor = page.next_cursor
            if cursor is None or cursor in seen or len(found) > MOST_LISTED:
                break
            seen.add(cursor)
        if cursor is not None or len(found) > MOST_LISTED:
            log.warning("list_cut", server=self._name, kind=kind, taken=min(len(found), MOST_LISTED))
        return found[:MOST_LISTED]

    async def watch(self, on_tools: Callable[[], object]) -> None:
        """Until the connection is lost: learn the tools anew when they change, and tell."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._follow, on_tools)
            tasks.start_soon(self._subscribe)
            await self.lost.wait()
            tasks.cancel_scope.cancel()

    async def _follow(self, on_tools: Callable[[], object]) -> None:
        from mcp import MCPError

        least_s, most_s = _SETTLES_S
        settles_s = least_s
        while True:
            listed_s = anyio.current_time()
            await self._changed.wait()
            calm = anyio.current_time() - listed_s > settles_s
            settles_s = least_s if calm else min(2 * settles_s, most_s)
            await asyncio.sleep(settles_s)
            self._changed.clear()
            try:
                with anyio.fail_after(_LIST_S):
                    await self.list_tools()
            except (MCPError, ValueError, TimeoutError) as error:
                log.warning("list_failed", server=self._name, why=shortened(str(error)))
            else:
                on_tools()

    async def _subscribe(self) -> None:
        """Servers of 2026-07-28 tell changes only to those who listen; those before it tell all."""
        from mcp import MCPError
        from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost

        tools = self._client.server_capabilities.tools
        wait_s, most_s = _LISTEN_AGAIN_S
        while tools is not None and tools.list_changed:
            try:
                async with self._client.listen(tools_list_changed=True) as subscription:
                    async for _ in subscription:
                        wait_s = _LISTEN_AGAIN_S[0]  # `heard` gets it, too
            except (ListenNotSupportedError, MCPError):
                return
            except (SubscriptionLost, TimeoutError):
                pass
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, most_s)
            self._changed.set()  # what changed meanwhile was told to nobody

    async def heard(self, message: Any) -> None:
        """Take a notification, or what the transport could not read."""
        from mcp_types import ToolListChangedNotification

        if isinstance(message, ToolListChangedNotification):
            self._changed.set()

    async def logged(self, params: LoggingMessageNotificationParams) -> None:
        """Take a line of the server's log."""
        log.debug("server_logged", server=self._name, level=params.level, text=one_line(str(params.data)[:2_000]))

    def requested(self, method: str) -> None:
        """The server asks for something: only `ping` is answered with more than a refusal."""
        if method != "ping":
            self._tell_once(method)

    def _tell_once(self, *methods: str) -> None:
        for method in methods:
            if method not in self._told and len(self._told) < 16:
                self._told.add(method)
                log.info("refused", server=self._name, request=shortened(method), why="this program does not offer it")


class RefusedRequestError(Exception):
    """The server wants something of us, in the middle of a call, that we do not offer: what, in its words."""


@asynccontextmanager
async def linked(
    link: Link, spec: McpServerSpec, environ: Mapping[str, str], ways: Ways, ending: Callable[[], Deadline]
) -> AsyncIterator[None]:
    """Hold a connection open. link: is told of it. Errors: of all kinds, in groups."""
    from mcp import Client
    from mcp_types import Implementation

    streams: AbstractAsyncContextManager[TransportStreams] = (
        stdio(spec, environ, link.said, ending) if spec.command else http_streams(spec, ways, link.answered)
    )
    client = Client(
        _watched(streams, link),
        cache=None,
        message_handler=link.heard,
        logging_callback=link.logged,
        client_info=Implementation(name="realtime_client", version=__version__),
    )
    async with client:
        link._client = client  # noqa: SLF001 - the other half of the same thing
        yield


@asynccontextmanager
async def _watched(
    streams: AbstractAsyncContextManager[TransportStreams], link: Link
) -> AsyncIterator[TransportStreams]:
    async with streams as (read, write):
        yield _Watched(read, link), write


class _Watched:
    """A stream of a server's messages: the link is told of requests in it, and of its end."""

    def __init__(self, stream: Any, link: Link) -> None:
        self._stream = stream
        self._link = link

    @property
    def last_context(self) -> Any:
        return getattr(self._stream, "last_context", None)

    async def receive(self) -> Any:
        try:
            item = await self._stream.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
            self._link.lost.set()
            raise
        method, number = (getattr(getattr(item, "message", None), name, None) for name in ("method", "id"))
        if method is not None and number is not None:
            self._link.requested(method)
        return item

    def __aiter__(self) -> _Watched:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> bool | None:
        return await self._stream.__aexit__(*error)  # type: ignore[no-any-return]


def _result() -> Any:
    """What comes of a call: a result, or a wish of the server."""
    from mcp_types import CallToolResult, InputRequiredResult
    from pydantic import TypeAdapter

    global _adapter  # noqa: PLW0603
    _adapter = _adapter or TypeAdapter(CallToolResult | InputRequiredResult)
    return _adapter


_adapter: Any = None
