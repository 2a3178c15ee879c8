"""An HTTP server for tests of text models: each request runs one script, and everything that came is kept.

    with TextServer(answers("Hello", " there.")) as server:      # the last script serves all further requests
        ...  # --model openai/test --url server.url
    assert server.requests[0].json["messages"][-1]["content"] == "Hi"

A pause in a script is an event that the test sets; nothing sleeps.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import select
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any, Self

LIMIT_S = 20.0


class GoneError(Exception):
    """The client has gone, or the server closes: the script ends, and nothing is wrong."""


class Request:
    """One request, and the verbs to answer it.

    headers: names in lower case. connection: the number of the connection it came on, from 0. gone: set when the
    client was seen to have gone before the script was over.
    """

    def __init__(self, server: TextServer, handler: _Handler, body: bytes) -> None:
        self.method, self.path = handler.command, handler.path
        self.headers = {name.lower(): value for name, value in handler.headers.items()}
        self.body = body
        self.connection = handler.number
        self.gone = threading.Event()
        self._server = server
        self._handler = handler
        self._chunked = False

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)

    def raw(self, data: bytes) -> None:
        """Write bytes as they are."""
        try:
            self._handler.wfile.write(data)
        except OSError:
            self._has_gone()

    def head(self, status: int = 200, content_type: str = "text/event-stream", **headers: str) -> None:
        """Begin an answer whose length is not known. headers: `_` in a name is `-`."""
        lines = [f"HTTP/1.1 {status} Status", f"Content-Type: {content_type}", "Transfer-Encoding: chunked"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self._chunked = True
        self.raw("\r\n".join([*lines, "", ""]).encode())

    def send(self, data: bytes) -> None:
        """Write one piece of it, as one packet."""
        self.raw(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> None:
        """It is complete; the connection can be used again."""
        self._chunked = False
        self.raw(b"0\r\n\r\n")

    def answer(
        self, body: bytes | dict[str, Any], status: int = 200, content_type: str = "application/json", **headers: str
    ) -> None:
        """Write a whole answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"HTTP/1.1 {status} Status", f"Content-Type: {content_type}", f"Content-Length: {len(data)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.raw("\r\n".join([*lines, "", ""]).encode() + data)

    def drop(self, *, reset: bool = False) -> None:
        """End the connection in the middle. reset: by a RST instead of a FIN."""
        connection = self._handler.connection
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._server._forget(connection)
            self._handler.rfile.close()  # the last references, so that the socket is closed here
            self._handler.wfile.close()
            connection.close()
        else:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        raise GoneError

    def wait(self, event: threading.Event, limit_s: float = LIMIT_S) -> None:
        """Wait until the test sets the event."""
        self._server._release_at_end(event)
        assert event.wait(limit_s), "the test never set the event"
        if self._server._closing.is_set():
            raise GoneError

    def wait_gone(self, limit_s: float = LIMIT_S) -> None:
        """Say nothing until the client goes (or the server closes), and end the script."""
        ready, _, _ = select.select([self._handler.connection], [], [], limit_s)
        assert ready, "the client never went"
        with contextlib.suppress(OSError):
            assert not self._handler.connection.recv(1, socket.MSG_PEEK), "the client sent another request instead"
        self._has_gone()

    def _has_gone(self) -> None:
        if not self._server._closing.is_set():
            self.gone.set()
        raise GoneError


Script = Callable[[Request], None]
Step = bytes | threading.Event | Script


class TextServer:
    """Serves on loopback while its block runs; a script that fails makes the block fail.

    The n-th request gets the n-th script, those after the last one the last. url: the base URL, with /v1.
    connections: how many were opened.
    """

    def __init__(self, *scripts: Script) -> None:
        self.connections = 0
        self.errors: list[BaseException] = []
        self._scripts = scripts
        self._requests: list[Request] = []
        self._came = threading.Condition()
        self._closing = threading.Event()
        self._open: set[socket.socket] = set()
        self._events: list[threading.Event] = []
        self._http = _Server(self)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), name="text-server")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._http.shutdown()
        self._thread.join()
        with self._came:
            self._closing.set()
            for event in self._events:
                event.set()
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self._http.server_close()  # joins the threads of all connections
        if self.errors and kind is None:
            raise self.errors[0]

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._http.server_address[1])

    @property
    def host(self) -> str:
        """As people are shown it."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The base URL of the OpenAI-like wires; without `/v1` it is that of the others."""
        return f"http://{self.host}/v1"

    @property
    def requests(self) -> list[Request]:
        """All that came so far."""
        with self._came:
            return list(self._requests)

    def request(self, number: int, limit_s: float = LIMIT_S) -> Request:
        """Wait for a request, numbered from 0, and return it."""
        with self._came:
            assert self._came.wait_for(lambda: len(self._requests) > number, limit_s), f"request {number} never came"
            return self._requests[number]

    def _script(self, request: Request) -> Script:
        with self._came:
            self._requests.append(request)
            self._came.notify_all()
            return self._scripts[min(len(self._requests), len(self._scripts)) - 1]

    def _opened(self, connection: socket.socket) -> int:
        with self._came:
            self._open.add(connection)
            self.connections += 1
            return self.connections - 1

    def _forget(self, connection: socket.socket) -> None:
        with self._came:
            self._open.discard(connection)

    def _release_at_end(self, event: threading.Event) -> None:
        with self._came:
            self._events.append(event)
            if self._closing.is_set():
                event.set()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 128

    def __init__(self, owner: TextServer) -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.number = self.server.owner._opened(self.connection)

    def finish(self) -> None:
        self.server.owner._forget(self.connection)
        with contextlib.suppress(OSError, ValueError):
            super().finish()

    def handle(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # the client has gone, or a script has dropped it
            super().handle()

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:  # the client went before it had said everything
            self.close_connection = True
            return
        request = Request(self.server.owner, self, body)
        try:
            self.server.owner._script(request)(request)
        except GoneError:
            self.close_connection = True
        except BaseException as error:
            self.server.owner.errors.append(error)
            self.close_connection = True
        else:
            self.close_connection = self.close_connection or request._chunked

    do_GET = do_POST = do_DELETE = answer  # noqa: N815 - names of http.server

    def log_message(self, *_: Any) -> None:
        pass


# --- scripts ----------------------------------------------------------------------------------------------------------


def stream(*steps: Step, content_type: str = "text/event-stream", end: bool = True, **headers: str) -> Script:
    """Return a script of steps: bytes are sent, an event is waited for, a function gets the request.

    end: the body is ended as HTTP wants it; otherwise the connection ends in the middle of it.
    """

    def script(request: Request) -> None:
        request.head(200, content_type, **headers)
        for step in steps:
            if isinstance(step, bytes):
                request.send(step)
            elif isinstance(step, threading.Event):
                request.wait(step)
            else:
                step(request)
        if end:
            request.end()

    return script


def refuses(status: int, body: bytes | dict[str, Any] = b"", **headers: str) -> Script:
    """Return a script that answers with an HTTP error."""
    return lambda request: request.answer(body, status, **headers)


def in_turn(*scripts: Script) -> Script:
    """Return a script that does as the next of these with each request, and as the last one from then on."""
    left = list(scripts)

    def script(request: Request) -> None:
        chosen = left.pop(0) if len(left) > 1 else left[0]
        chosen(request)

    return script


def by_path(**scripts: Script) -> Script:
    """Return a script that chooses by the last word of the path: `by_path(models=..., completions=...)`."""
    return lambda request: scripts[request.path.partition("?")[0].rpartition("/")[2]](request)


def silent(request: Request) -> None:
    """Say nothing at all until the client goes."""
    request.wait_gone()


def drops(request: Request) -> None:
    """End the connection; also a step in a stream."""
    request.drop()


# --- chat completions -------------------------------------------------------------------------------------------------


def sse(*values: Any) -> bytes:
    """Return server-sent events, one a value; text is written as it is."""
    return b"".join(
        b"data: " + (value.encode() if isinstance(value, str) else json.dumps(value).encode()) + b"\n\n"
        for value in values
    )


def delta(text: str | None = None, finish: str | None = None, **fields: Any) -> bytes:
    """Return one chunk of a chat completion. fields: others of its delta, such as `reasoning_content`."""
    told = ({} if text is None else {"content": text}) | fields
    choice = {"index": 0, "delta": told, "finish_reason": finish}
    return sse({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "test", "choices": [choice]})


def usage(input_tokens: int = 7, output_tokens: int = 3) -> bytes:
    """Return the chunk with the usage, which follows the finish."""
    return sse({"id": "chatcmpl-1", "choices": [], "usage": _usage(input_tokens, output_tokens)})


DONE = sse("[DONE]")


def ends(finish: str = "stop") -> bytes:
    """Return what ends a stream as it should."""
    return delta(finish=finish) + usage() + DONE


def answers(*texts: str, finish: str = "stop") -> Script:
    """Return a script that answers with these pieces of text, or with the whole where no stream is asked for."""

    def script(request: Request) -> None:
        if request.json.get("stream"):
            stream(*map(delta, texts), ends(finish))(request)
            return
        message = {"role": "assistant", "content": "".join(texts)}
        choices = [{"index": 0, "message": message, "finish_reason": finish}]
        request.answer({"id": "chatcmpl-1", "model": "test", "choices": choices, "usage": _usage(7, 3)})

    return script


def _usage(input_tokens: int, output_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    }
