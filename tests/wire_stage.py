"""What the tests of the wires share: pieces as rows, an answer fed in all ways, a server for the official clients."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import msgspec

from realtime_client.chat.wires import pieces as pc
from realtime_client.chat.wires.ask import Ask, Wire
from realtime_client.chat.wires.reader import Reader
from realtime_client.history import Call, Entry, Part, Result, Text

SSE = "text/event-stream"
JSON = "application/json"


def events(*values: Any, names: bool = False) -> bytes:
    """Server-sent events; with their types as names, if those are wanted."""
    return b"".join(
        (f"event: {value['type']}\n".encode() if names else b"") + b"data: " + msgspec.json.encode(value) + b"\n\n"
        for value in values
    )


def row(piece: pc.Piece) -> tuple[Any, ...]:
    """A piece as a row: its kind and what it tells."""
    match piece:
        case pc.TextPiece(text=text):
            return "text", text
        case pc.ThinkingPiece(text=text):
            return "thinking", text
        case pc.CallPiece(name=name, text=text):
            return "more", name, text
        case pc.CallDonePiece(call_id=call_id, name=name, arguments=arguments):
            return "call", call_id, name, arguments
        case pc.CallCutPiece(name=name, arguments=arguments):
            return "cut", name, arguments
        case pc.UsagePiece(usage=usage):
            return "usage", usage.input_tokens, usage.output_tokens
        case pc.FinishPiece(reason=reason, words=words):
            return "finish", reason, words
        case pc.ErrorPiece(fault=fault):
            return "error", fault.category, fault.action
    raise AssertionError(piece)


def read(
    wire: Wire, body: bytes, *, kind: str = SSE, status: int = 200, headers: Mapping[str, str] | None = None
) -> tuple[list[pc.Piece], Reader]:
    """Read an answer, whole and byte by byte, which must give the same."""
    seen: list[tuple[list[pc.Piece], Reader]] = []
    for step in (len(body) or 1, 1):
        reader = wire.reader("s")
        reader.head(status, {"content-type": kind, **(headers or {})})
        pieces = [piece for n in range(0, len(body), step) for piece in reader.feed(body[n : n + step], 1.0)]
        pieces += reader.end(1.0)
        assert reader.over
        assert [piece.n for piece in pieces] == list(range(len(pieces)))
        assert isinstance(pieces[-1], pc.FinishPiece | pc.ErrorPiece)
        seen.append((pieces, reader))
    assert seen[0][0] == seen[1][0]
    assert seen[0][1].parts() == seen[1][1].parts()
    return seen[0]


def rows(wire: Wire, body: bytes, **how: Any) -> list[tuple[Any, ...]]:
    """Read an answer; its pieces as rows, without what calls looked like while they were made."""
    return [row(piece) for piece in read(wire, body, **how)[0] if not isinstance(piece, pc.CallPiece)]


ODD = (None, 7, "x", [], {}, [7], {"x": 7}, True, 1.5, "\ud83d")


def mutants(value: Any) -> Iterator[Any]:
    """The same with each of its places, one after the other, filled with what does not belong there."""
    yield from ODD
    for name in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        changed = value.copy()
        for each in mutants(value[name]):
            changed[name] = each
            yield changed


def ends(wire: Wire, body: bytes, *, kind: str = SSE) -> bool:
    """Whether the reader takes it, whatever it is, and ends with one last piece; and what it keeps can be sent."""
    reader = wire.reader("s")
    reader.head(200, {"content-type": kind})
    pieces = [*reader.feed(body, 1.0), *reader.end(1.0)]
    last = [isinstance(piece, pc.FinishPiece | pc.ErrorPiece) for piece in pieces]
    parts = tuple(part for part in reader.parts() if not isinstance(part, Call))
    wire.request(Ask(model="m", entries=(user("hi"), assistant(*parts), user("go on"))))
    return reader.over and last.index(True) == len(last) - 1


def fault(wire: Wire, body: bytes, **how: Any) -> Any:
    """Read an answer that fails; why."""
    last = read(wire, body, **how)[0][-1]
    assert isinstance(last, pc.ErrorPiece), last
    return last.fault


def sent(wire: Wire, *entries: Entry, **more: Any) -> Any:
    """The body of a request."""
    return msgspec.json.decode(wire.request(Ask(model="m", entries=entries, **more)).body)


def user(*parts: Part | str) -> Entry:
    return entry("user", *parts)


def assistant(*parts: Part | str) -> Entry:
    return entry("assistant", *parts)


def entry(role: str, *parts: Part | str) -> Entry:
    return Entry(id="e", role=role, parts=tuple(Text(text=part) if isinstance(part, str) else part for part in parts))


def called(call_id: str = "c1", name: str = "w", arguments: str = '{"city":"Boston"}') -> Call:
    return Call(call_id=call_id, name=name, arguments=arguments)


def result(call_id: str = "c1", output: str = "sunny") -> Entry:
    return entry("tool", Result(call_id=call_id, output=output))


class Served:
    """url: of the server; answers: what it sends, one after the other, the last one again and again.

    kind, status: of the answers. requests: what it was sent: (path, headers in lower case, body). body: the last one.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: list[bytes] = []
        self.kind, self.status = SSE, 200
        self.body = b""
        self.requests: list[tuple[str, dict[str, str], Any]] = []


@contextmanager
def serving() -> Iterator[Served]:
    """A server that answers POSTs with what it is told to."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            served.body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            served.requests.append((self.path, headers, msgspec.json.decode(served.body)))
            self.send_response(served.status)
            self.send_header("content-type", served.kind)
            self.end_headers()
            self.wfile.write(served.answers.pop(0) if len(served.answers) > 1 else served.answers[0])

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    served = Served(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, name="server of the test")
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()
