"""An MCP server over HTTP, by hand: as an older one with sessions, which it may forget, and what else may answer there."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import uvicorn

WAYS = ("401", "403", "500", "404", "page", "json", "empty", "moved", "gzip")


class HandMade(ThreadingHTTPServer):
    """way: one of WAYS, or '' for a server that works. sessions: those that it knows. seen: methods, and headers of each."""

    daemon_threads = True

    def __init__(self, way: str = "") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.way = way
        self.sessions: set[str] = set()
        self.begun = 0
        self.called: list[str] = []
        self.held, self.release = threading.Event(), threading.Event()
        self.slow_to_leave: threading.Event | None = None
        self.seen: list[tuple[str, dict[str, str]]] = []

    def handle_error(self, *_request: Any) -> None:
        """Say nothing: a client may go at any time."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/mcp"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HandMade

    def log_message(self, *_words: Any) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.answer(405)

    def do_DELETE(self) -> None:
        if self.server.slow_to_leave is not None:
            self.server.slow_to_leave.wait(60)
        self.server.sessions.discard(self.headers["mcp-session-id"])
        self.answer(200)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        method, number = body.get("method"), body.get("id")
        self.server.seen.append((method, {name.lower(): value for name, value in self.headers.items()}))
        if self.server.way:
            self.refuse(self.server.way)
        elif method == "server/discover":
            self.reply(number, error={"code": -32601, "message": "Method not found"})
        elif method == "initialize":
            self.server.begun += 1
            session = f"session-{self.server.begun}"
            self.server.sessions.add(session)
            info = {"name": "by hand", "version": "1"}
            result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": info}
            self.reply(number, result=result, Mcp_Session_Id=session)
        elif self.headers["mcp-session-id"] not in self.server.sessions:
            self.answer(404, b"")
        elif number is None:
            self.answer(202)
        elif method == "tools/list":
            self.reply(
                number,
                result={
                    "tools": [
                        {"name": each, "inputSchema": {"type": "object"}} for each in ("echo", "huge", "drop", "hold")
                    ]
                },
            )
        else:
            self.call(number, body["params"])

    def call(self, number: Any, params: dict[str, Any]) -> None:
        self.server.called.append(params["name"])
        if params["name"] == "hold":
            self.server.held.set()
            self.server.release.wait(60)
        if params["name"] == "drop":
            self.connection.shutdown(2)
            self.close_connection = True
            return
        text = "x" * 20_000_000 if params["name"] == "huge" else self.headers["mcp-session-id"]
        self.reply(number, result={"content": [{"type": "text", "text": text}]})

    def reply(self, number: Any, *, Mcp_Session_Id: str = "", **content: Any) -> None:  # noqa: N803
        more = {"Mcp_Session_Id": Mcp_Session_Id} if Mcp_Session_Id else {}
        self.answer(200, json.dumps({"jsonrpc": "2.0", "id": number, **content}).encode(), **more)

    def refuse(self, way: str) -> None:
        match way:
            case "page":
                self.answer(200, b"<html>\x1b[2J</html>", "text/html")
            case "json":
                self.answer(200, b'{"hello": "there"}')
            case "gzip":
                self.answer(200, b"\x1f\x8b" + b"\0" * 100, Content_Encoding="gzip")
            case "empty":
                self.answer(204)
            case "moved":
                self.answer(307, Location="http://192.0.2.1/mcp")
            case status:
                self.answer(int(status))


@contextmanager
def hand_made(way: str = "") -> Iterator[HandMade]:
    server = HandMade(way)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def served(app: object, port: int = 0, **more: object) -> Iterator[str]:
    """Serve an application in a thread; gives its URL."""
    listening = socket.create_server(("127.0.0.1", port))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1, **more))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        yield f"http{'s' if more else ''}://127.0.0.1:{listening.getsockname()[1]}/mcp"
    finally:
        server.should_exit = True
        thread.join(30.0)
        listening.close()
