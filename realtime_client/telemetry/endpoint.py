"""Metrics over HTTP, on loopback: `GET /metrics` for a Prometheus server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from realtime_client.errors import UsageError

from .metrics import CONTENT_TYPE

HOST = "127.0.0.1"
_SOCKET_S = 5.0
_LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]", "::1")


@contextmanager
def metrics_endpoint(port: int, render: Callable[[], str]) -> Iterator[str]:
    """Serve `render()` while the block runs; gives the URL. port: 0 takes a free one.

    Errors: UsageError when the port cannot be used.
    """
    try:
        server = _Server((HOST, port), _handler(render))
    except OSError as error:
        raise UsageError(f"cannot serve metrics on {HOST} port {port}: {error.strerror or error}") from None
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="realtime-metrics", daemon=True
    )
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_address[1]}/metrics"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    """Joins the threads of its requests when it is closed; each has a time limit on its socket."""

    daemon_threads = False
    block_on_close = True

    def handle_error(self, _request: Any, _client_address: Any) -> None:
        """Ignore what a client leaves behind that went away: the next one asks again."""


def _handler(render: Callable[[], str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _SOCKET_S

        def do_GET(self) -> None:
            threading.current_thread().name = "realtime-metrics-request"
            host = self.headers.get("Host", HOST).rpartition(":")[0] or self.headers.get("Host", HOST)
            if host not in _LOCAL_NAMES:  # a page of another site whose name was made to resolve to this machine
                self.send_error(403)
            elif self.path.partition("?")[0] != "/metrics":
                self.send_error(404, "see /metrics")
            else:
                body = render().encode()
                self.send_response(200)
                self.send_header("Content-Type", CONTENT_TYPE)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing: standard error belongs to the command."""

    return Handler
