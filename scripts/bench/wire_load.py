"""A server process for the benchmarks: answers each connection with prepared frames, as fast as possible or paced.

Run by the other benchmarks; prints its port. `PACE_MS` 0 sends everything at once.
"""

from __future__ import annotations

import base64
import contextlib
import heapq
import json
import os
import queue
import socket
import struct
import sys
import threading
import time

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

AUDIO = base64.b64encode(bytes(range(256)) * 18 + bytes(192)).decode()  # 4,800 bytes: 100 ms at 24 kHz
SESSION = {"id": "sess_bench", "type": "realtime", "object": "realtime.session", "model": "bench"}
PART = {"response_id": "resp_bench", "item_id": "item_bench", "output_index": 0, "content_index": 0}


def event(kind: str, **fields: object) -> bytes:
    """One event as the service writes it."""
    return json.dumps({"type": kind, "event_id": "event_0123456789abcdefgh", **fields}).encode()


def text_frame(payload: bytes) -> bytes:
    """An unmasked WebSocket text frame (RFC 6455, section 5.2)."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x81, size)
    elif size < 65536:
        head = struct.pack("!BBH", 0x81, 126, size)
    else:
        head = struct.pack("!BBQ", 0x81, 127, size)
    return head + payload


def answer_frames(count: int) -> list[bytes]:
    """`count` deltas of one answer: audio and transcript in turn, three audio to one transcript."""
    frames = []
    for n in range(count):
        if n % 4 == 3:
            payload = event("response.output_audio_transcript.delta", **PART, delta=" words of it")
        else:
            payload = event("response.output_audio.delta", **PART, delta=AUDIO)
        frames.append(text_frame(payload))
    return frames


BEGIN = text_frame(event("response.created", response={"id": "resp_bench", "status": "in_progress", "output": []}))
END = text_frame(
    event(
        "response.done",
        response={"id": "resp_bench", "status": "completed", "output": [], "object": "realtime.response"},
    )
)


class Load:
    """What every connection gets after its greeting."""

    def __init__(self, count: int, pace_ms: float) -> None:
        self.count = count
        self.pacer = Pacer(pace_ms) if pace_ms else None
        self.blob = b"".join(answer_frames(min(count, 2000)))

    def handle(self, websocket: ServerConnection) -> None:
        websocket.send(event("session.created", session=SESSION).decode())
        with contextlib.suppress(ConnectionClosed, OSError):
            websocket.recv()  # the client says when it is ready
            if self.pacer:
                self.pacer.add(websocket.socket)
            else:
                self.burst(websocket)
            for _ in websocket:
                pass

    def burst(self, websocket: ServerConnection) -> None:
        websocket.socket.sendall(BEGIN)
        for _ in range(self.count // 2000):
            websocket.socket.sendall(self.blob)
        websocket.socket.sendall(END)


class Pacer:
    """One thread that sends a delta to every session each `pace_ms`, sessions spread evenly over that time.

    The moment of sending travels in the item's id, in nanoseconds of the machine's monotonic clock.
    """

    def __init__(self, pace_ms: float) -> None:
        self._pace_s = pace_ms / 1000
        self._sockets: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
        head, _, tail = event(
            "response.output_audio.delta", **{**PART, "item_id": "item_" + "0" * 19}, delta=AUDIO
        ).partition(b"0" * 19)
        frame_head = text_frame(head + b"0" * 19 + tail)
        self._head, self._tail = frame_head[: frame_head.index(b"0" * 19)], tail
        threading.Thread(target=self._run, daemon=True).start()

    def add(self, sock: socket.socket) -> None:
        sock.sendall(BEGIN)
        self._sockets.put(sock)

    def _run(self) -> None:
        due: list[tuple[float, int, socket.socket]] = []
        wake, order, golden = threading.Event(), 0, 0.6180339887
        while True:
            while not self._sockets.empty() or not due:
                order += 1
                phase = (order * golden) % 1.0 * self._pace_s
                heapq.heappush(due, (time.monotonic() + phase, order, self._sockets.get()))
            moment, number, sock = due[0]
            left = moment - time.monotonic()
            if left > 0:
                wake.wait(min(left, 0.01))
                continue
            try:
                sock.send(b"".join((self._head, b"%019d" % time.monotonic_ns(), self._tail)), socket.MSG_DONTWAIT)
            except OSError:
                heapq.heappop(due)
            else:
                heapq.heapreplace(due, (moment + self._pace_s, number, sock))


def main() -> None:
    load = Load(int(sys.argv[1]), float(sys.argv[2]))
    with serve(load.handle, "127.0.0.1", 0, compression=None, ping_interval=None, max_size=None) as server:
        print(server.socket.getsockname()[1], flush=True)
        threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
        server.serve_forever()


if __name__ == "__main__":
    main()
