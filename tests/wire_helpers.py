"""Shared by the tests of the chat wires: bytes in, the sum of their pieces out; and a server that replays bytes."""

from __future__ import annotations

import contextlib
import json
import socketserver
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from realtime_client.chat.wires import pieces as pc
from realtime_client.chat.wires.reader import Reader

Told = dict[str, Any]


def sse(*messages: Any, name: str = "", end: str = "\n") -> bytes:
    """Server-sent events of JSON, or of text as it stands."""
    lines = [each if isinstance(each, str) else json.dumps(each, ensure_ascii=False) for each in messages]
    head = f"event: {name}{end}" if name else ""
    return "".join(f"{head}data: {line}{end}{end}" for line in lines).encode("utf-8", "surrogatepass")


def lines(*messages: Any) -> bytes:
    """JSON by lines."""
    return "".join(f"{json.dumps(each, ensure_ascii=False)}\n" for each in messages).encode()


def read(reader: Reader, reads: Iterable[bytes], status: int = 200, headers: Mapping[str, str] = {}) -> Told:
    """Read an answer and return its pieces' sum: what there is of it."""
    reader.head(status, headers)
    got: list[pc.Piece] = []
    for n, data in enumerate(reads):
        got += reader.feed(data, float(n))
    got += reader.end(-1.0)
    assert reader.over
    assert [piece.n for piece in got] == list(range(len(got)))
    assert {piece.stream for piece in got} == {reader.stream}
    assert isinstance(got[-1], pc.FinishPiece | pc.ErrorPiece)
    assert not any(isinstance(piece, pc.FinishPiece | pc.ErrorPiece) for piece in got[:-1])
    assert reader.feed(b"data: more\n\n", 0.0) == [] == reader.end(0.0)
    return summed(got)


def summed(got: list[pc.Piece]) -> Told:
    """Put pieces together; calls that were shown on their way are those that were made."""
    told: Told = {}
    shown: dict[str, str] = {}
    for piece in got:
        match piece:
            case pc.TextPiece():
                told["text"] = told.get("text", "") + piece.text
            case pc.ThinkingPiece():
                told["thinking"] = told.get("thinking", "") + piece.text
            case pc.CallPiece():
                shown[piece.call_id] = shown.get(piece.call_id, "") + piece.text
            case pc.CallDonePiece():
                assert (shown[piece.call_id].strip() or "{}") == piece.arguments
                told.setdefault("calls", []).append((piece.call_id, piece.name, piece.arguments))
            case pc.CallCutPiece():
                told.setdefault("cut", []).append((piece.name, piece.arguments))
            case pc.UsagePiece():
                told["usage"] = (piece.usage.input_tokens, piece.usage.output_tokens, piece.usage.cached)
            case pc.TimingsPiece():
                told["timings"] = (piece.timings.load_s, piece.timings.prompt_s, piece.timings.generate_s)
            case pc.FinishPiece():
                told["finish"] = piece.reason
            case pc.ErrorPiece():
                told["error"] = (piece.fault.category, piece.fault.action, piece.fault.message)
    return told


def every_way(data: bytes) -> Iterator[list[bytes]]:
    """The same bytes in one read, byte by byte, and in two reads, cut at every position (at some, if there are many)."""
    yield [data]
    yield [data[n : n + 1] for n in range(len(data))]
    yield [data[n : n + 7] for n in range(0, len(data), 7)]
    for n in range(1, len(data), max(1, len(data) // 150)):
        yield [data[:n], data[n:]]


class Replaying:
    """A server that answers every request with the same bytes, in small writes."""

    def __init__(self, content_type: str) -> None:
        self.content_type = content_type
        self.body = b""
        replaying = self

        class Handler(socketserver.StreamRequestHandler):
            timeout = 10

            def handle(self) -> None:
                length = 0
                while line := self.rfile.readline().strip():
                    if line.lower().startswith(b"content-length:"):
                        length = int(line[15:])
                self.rfile.read(length)
                head = f"HTTP/1.1 200 OK\r\nContent-Type: {replaying.content_type}\r\nConnection: close\r\n\r\n"
                self.wfile.write(head.encode())
                for n in range(0, len(replaying.body), 50):
                    self.wfile.write(replaying.body[n : n + 50])

        self._server = socketserver.TCPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    @contextlib.contextmanager
    def serving(self) -> Iterator[Replaying]:
        """Serve until the block ends."""
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join(10)
