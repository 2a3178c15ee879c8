"""The MCP servers of one session, and calls of their tools: in threads beside the session.

    session         threads                     `tools.mcp`
    take(work) ->   list a server's tools, ->   one `McpServers` for each server, started when it is listed
    inbox      <-   call one, let a server go   and closed with the session

The rules (what is offered, asked and told, time limits) are those of `protocol.server.remote`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from realtime_client import updates as up
from realtime_client.errors import RealtimeError, ToolError
from realtime_client.escape import one_line
from realtime_client.protocol.server.remote_tools import RemoteTool
from realtime_client.protocol.server.work import CallRemote, LeaveRemote, ListRemote, RemoteWork, StopRemote
from realtime_client.session.limits import ToolLimits
from realtime_client.tools.mcp.servers import McpServers
from realtime_client.tools.mcp.spec import McpServerSpec
from realtime_client.tools.telling import sayable, shortened
from realtime_client.tools.tool import Tool, ToolContext

from .helpers import Helpers
from .inbox import ToolReturned, ToolsListed

_log = logging.getLogger(__name__)
_START_S = 10.0
_LONGEST_ERROR = 2_000
_MOST_STARTING = 16
_NO_THREAD = "this computer has no more threads"
ELSEWHERE = "a local server that other machines can reach asks no MCP servers"


@dataclass
class _Place:
    """A server in use. tools: by their own names, as it offers them now. left: it is not wanted any longer."""

    servers: McpServers
    tools: dict[str, Tool] = field(default_factory=dict)
    left: bool = False

    def close(self) -> None:
        """End it."""
        try:
            self.servers.close()
        except RealtimeError as error:
            _log.warning("%s", error)


class McpSession:
    """One session's. `take` and `end` are for the session's own thread, and never wait.

    tell: takes results, from any thread. allowed: whether servers are asked at all.
    """

    def __init__(
        self, helpers: Helpers, tell: Callable[[ToolsListed | ToolReturned], object], *, allowed: bool
    ) -> None:
        self._helpers = helpers
        self._tell = tell
        self._allowed = allowed
        self._lock = threading.Lock()
        self._places: dict[str, _Place] = {}
        self._calls: dict[str, ToolContext] = {}
        self._starting = 0

    def take(self, work: RemoteWork) -> None:
        """Do what the conversation asks for."""
        if isinstance(work, ListRemote):
            self._list(work)
        elif isinstance(work, LeaveRemote):
            self._leave(work.label)
        elif isinstance(work, CallRemote):
            self._call(work)
        elif isinstance(work, StopRemote):
            self._stop(work.item_id)

    def end(self) -> None:
        """The session is over: calls are cancelled, and servers let go."""
        with self._lock:
            calls = list(self._calls)
        for item_id in calls:
            self._stop(item_id)
        for label in list(self._places):
            self._leave(label)

    def _begin(self, work: Callable[[], object]) -> bool:
        """Do this in a thread; False where the system has none."""
        try:
            self._helpers.begin("realtime-serve-mcp", work)
        except RuntimeError:
            return False
        return True

    # --- servers ------------------------------------------------------------------------------------------------------

    def _list(self, work: ListRemote) -> None:
        why = self._refusal()
        if not why:
            place = self._places[work.server.label] = _place_of(work)
            with self._lock:
                self._starting += 1
            why = "" if self._begin(lambda: self._start(work, place)) else _NO_THREAD
        if why:
            self._tell_unlisted(work, why)

    def _refusal(self) -> str:
        """Why no server can be asked now, '' where it can."""
        if not self._allowed:
            return ELSEWHERE
        with self._lock:
            return "too many MCP servers are asked at one time" if self._starting >= _MOST_STARTING else ""

    def _tell_unlisted(self, work: ListRemote, why: str) -> None:
        message = one_line(why, _LONGEST_ERROR)
        self._tell(ToolsListed(item_id=work.item_id, tools=None, message=message))

    def _start(self, work: ListRemote, place: _Place) -> None:
        """Start a server, and tell its tools: a thread's work."""
        tools: tuple[RemoteTool, ...] | None = None
        why = ""
        try:
            place.servers.start()
            tools = tuple(map(_remote, place.tools.values()))
        except RealtimeError as error:
            why = str(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the session is told
            why = f"MCP server {work.server.label}: {type(error).__name__}: {error}"
        with self._lock:
            self._starting -= 1
            left = place.left
        if left or tools is None:
            place.close()
        if tools is None:
            self._tell_unlisted(work, why)
        else:
            self._tell(ToolsListed(item_id=work.item_id, tools=tools))

    def _leave(self, label: str) -> None:
        place = self._places.pop(label, None)
        if place is not None:
            with self._lock:
                place.left = True
            self._begin(place.close)

    # --- calls --------------------------------------------------------------------------------------------------------

    def _call(self, work: CallRemote) -> None:
        place = self._places.get(work.label)
        tool = place.tools.get(work.name) if place is not None else None
        if tool is None:
            why = f"the server {work.label} does not offer {one_line(work.name, 80)} any longer"
            self._tell(ToolReturned(item_id=work.item_id, output=None, message=why))
            return
        context = ToolContext(work.item_id, tool.name, facts=up.Facts, report=lambda *_: None)
        with self._lock:
            self._calls[work.item_id] = context
        if not self._begin(lambda: self._run(work, tool, context)):
            self._stop(work.item_id)
            self._tell(ToolReturned(item_id=work.item_id, output=None, message=_NO_THREAD))

    def _run(self, work: CallRemote, tool: Tool, context: ToolContext) -> None:
        """Work on a call: a thread's work."""
        output, why = None, ""
        try:
            output = tool.run(tool.check(work.arguments), context)
        except ToolError as error:
            why = str(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the model is told
            why = f"{type(error).__name__}: {error}"
        with self._lock:
            self._calls.pop(work.item_id, None)
        if output is not None:
            output = sayable(shortened(output, ToolLimits().result_characters))
        message = sayable(shortened(why, _LONGEST_ERROR))
        self._tell(ToolReturned(item_id=work.item_id, output=output, message=message))

    def _stop(self, item_id: str) -> None:
        with self._lock:
            context = self._calls.pop(item_id, None)
        if context is not None:
            context.cancel()


def _place_of(work: ListRemote) -> _Place:
    def take(_name: str, tools: Iterable[Tool]) -> None:
        place.tools = {tool.name: tool for tool in tools}

    server = work.server
    spec = McpServerSpec(name=server.label, url=server.url, headers=server.headers, start_timeout_s=_START_S)
    place = _Place(McpServers((spec,), take, environ={}))
    return place


def _remote(tool: Tool) -> RemoteTool:
    return RemoteTool(
        name=tool.name,
        description=tool.spec.description,
        input_schema=tool.spec.parameters or {"type": "object"},
        reads=tool.reads is True,
    )
