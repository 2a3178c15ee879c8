"""MCP servers over HTTP: the package's own, in this process, one by hand that forgets its sessions, and what is none."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time

import pytest
import trustme
from mcp.server.mcpserver import Context, MCPServer
from mcp_helpers import WAIT_S, Box, Call, Running, servers
from mcp_http import hand_made, served

from realtime_client.errors import (
    AuthenticationError,
    ConnectError,
    HostUnreachableError,
    RealtimeError,
    TLSError,
    ToolError,
)
from realtime_client.secret import Secret
from realtime_client.tools.mcp.http import Ways
from realtime_client.tools.mcp.keeper import Restarts
from realtime_client.tools.mcp.spec import McpServerSpec
from realtime_client.tools.tool import ToolCancelledError

QUICK = Restarts(first_s=0.0)


def at(url: str, **more: object) -> McpServerSpec:
    return McpServerSpec(name="web", url=url, **more)


class Official:
    """A server of the package, with what happened in it."""

    def __init__(self) -> None:
        self.cancelled_s = 0.0
        self.cancelled = threading.Event()
        self.begun = threading.Event()
        self.mcp = MCPServer("official")
        self.mcp.add_tool(self.add)
        self.mcp.add_tool(self.long)
        self.mcp.add_tool(self.grow)

    def add(self, a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    async def long(self, context: Context) -> str:
        """Work for ever."""
        await context.report_progress(1, 2, "half\x1b[2J\nway")
        self.begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled_s = time.monotonic()
            self.cancelled.set()
            raise
        return ""

    async def grow(self, context: Context) -> str:
        """Add a tool."""
        self.mcp.add_tool(lambda: "new", name="grown")
        await context.notify_tools_changed()
        return "grew"


def test_the_packages_own_server():
    box, official = Box(), Official()
    with served(official.mcp.streamable_http_app()) as url, servers(box, at(url)):
        tools = box.tools["web"]
        assert sorted(tools) == ["add", "grow", "long"]
        assert tools["add"].spec.description == "Add two numbers."
        assert box.run("add", '{"a": 2, "b": 3}', source="web") == "5"
        assert box.run("grow", source="web") == "grew"
        box.wait(2)
        assert sorted(box.tools["web"]) == ["add", "grow", "grown", "long"]
        assert box.run("grown", source="web") == "new"

        long = Running(box, "long", source="web")
        assert long.context.told.get(timeout=WAIT_S) == ("half[2J way", 1, 2)
        began = time.monotonic()
        long.context.cancel()
        assert isinstance(long.wait().error, ToolCancelledError)
        assert official.cancelled.wait(WAIT_S)
        assert official.cancelled_s - began < 0.5  # 50 ms are promised; a machine under load has its own time
        assert box.run("add", '{"a": 2, "b": 3}', source="web") == "5"


def test_a_server_that_was_started_again_is_connected_to_again():
    box = Box()
    with served(Official().mcp.streamable_http_app()) as url:
        running = servers(box, at(url), restarts=QUICK)
        running.start()
    port = int(url.rpartition(":")[2].partition("/")[0])
    try:
        with served(Official().mcp.streamable_http_app(), port):
            calls = []
            for _ in range(3):  # the first may find out that the connection is gone
                try:
                    calls.append(box.run("add", '{"a": 1, "b": 1}', source="web"))
                except ToolError as error:
                    calls.append(str(error))
            assert calls[-1] == "2"
    finally:
        running.close()


def test_a_forgotten_session_is_begun_again_and_the_call_is_made():
    box = Box()
    with hand_made() as server, servers(box, at(server.url), restarts=QUICK):
        assert box.run("echo", source="web") == "session-1"
        server.sessions.clear()
        assert box.run("echo", source="web") == "session-2"
        assert box.run("echo", source="web") == "session-2"
        with pytest.raises(ToolError, match="the answer is too long: at most 16,777,216 bytes are read"):
            box.run("huge", source="web")
        with pytest.raises(ToolError, match="was lost while it worked on this call"):
            box.run("drop", source="web")
        assert box.run("echo", source="web") == "session-3"
    assert server.sessions == {"session-2"}, "a session is ended when it is left, unless the connection is gone"


def test_a_call_under_way_is_not_repeated_in_the_session_after_it():
    box = Box()
    with hand_made() as server, servers(box, at(server.url), restarts=QUICK):
        held = Running(box, "hold", source="web")
        assert server.held.wait(WAIT_S)
        server.sessions.clear()
        assert box.run("echo", source="web") == "session-2"
        assert "was lost while it worked on this call" in str(held.wait().error)
        server.release.set()
        assert server.called.count("hold") == 1


def test_a_server_that_does_not_let_go_is_left():
    with hand_made() as server:
        server.slow_to_leave = threading.Event()
        with servers(Box(), at(server.url)) as running:
            began = time.monotonic()
            running.close()
            assert time.monotonic() - began < 3.0
        server.slow_to_leave.set()


def test_headers_reach_the_server_and_no_message():
    box = Box()
    with hand_made() as server:
        spec = at(server.url, headers={"X-Key": Secret("very-secret-key")})
        with servers(box, spec):
            box.run("echo", source="web")
        assert {headers["x-key"] for _, headers in server.seen} == {"very-secret-key"}
        assert "very-secret" not in repr(spec)
        server.way = "401"
        with pytest.raises(AuthenticationError) as caught, servers(Box(), spec):
            pass
        assert "very-secret" not in str(caught.value)


REFUSED = {
    "401": (AuthenticationError, "HTTP 401 Unauthorized; a key is given in headers of its section"),
    "403": (AuthenticationError, "HTTP 403 Forbidden"),
    "500": (ConnectError, r"HTTP 500 Internal Server Error; is this the URL of an MCP server\?"),
    "404": (ConnectError, "HTTP 404 Not Found; is this the URL"),
    "page": (ConnectError, "cannot be used: Unexpected content type: text/html"),
    "json": (ConnectError, "cannot be used: Failed to parse JSON response"),
    "gzip": (ConnectError, "cannot be used: Failed to parse JSON response"),
    "empty": (ConnectError, "cannot be used"),
    "moved": (ConnectError, "cannot be used: Redirect to http://192.0.2.1/mcp not followed"),
}


@pytest.mark.parametrize("way", REFUSED)
def test_what_is_no_mcp_server_is_one_line(way: str):
    kind, says = REFUSED[way]
    with hand_made(way) as server, pytest.raises(kind, match=says) as caught, servers(Box(), at(server.url)):
        pass
    assert type(caught.value) is kind
    assert str(caught.value).startswith(f"MCP server web ({server.url})")
    assert not set("\n\x1b") & set(str(caught.value))


def unusable(url: str, kind: type[RealtimeError], says: str, ways: Ways | None = None) -> None:
    with pytest.raises(kind, match=says) as caught, servers(Box(), at(url, start_timeout_s=WAIT_S), ways=ways):
        pass
    assert type(caught.value) is kind


def test_nobody_there_and_nobody_trusted():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    unusable(
        f"http://127.0.0.1:{port}/mcp?key=0123456789", HostUnreachableError, r"mcp\?key=\*\*\*\): cannot be reached"
    )
    authority = trustme.CA()
    with authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.tempfile() as pem:
        with served(Official().mcp.streamable_http_app(), ssl_certfile=pem) as url:
            unusable(url, TLSError, "TLS failed: .*certificate verify failed")
            with authority.cert_pem.tempfile() as ca:
                with servers(Box(), at(url), ways=Ways(ca_file=ca)):
                    pass


def test_a_server_that_does_not_answer_in_time():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/mcp"
        with pytest.raises(HostUnreachableError, match=r"did not answer within 0.3 s"):
            with servers(Box(), at(url, start_timeout_s=0.3)):
                pass


def test_arguments_and_results_keep_every_character():
    box, text = Box(), 'ünï\u2028 "q" \U0001f600'
    official = MCPServer("echo")
    official.add_tool(lambda text: text, name="echo")
    with served(official.streamable_http_app()) as url, servers(box, at(url)):
        assert box.run("echo", json.dumps({"text": text}), Call(), source="web") == text
