"""The WebSocket end: what it makes of any bytes is what the library makes of them; and the socket under it.

Streams are made and changed at random with fixed seeds: 5,000 of them, and 100,000 in `scripts/soak`.
"""

from __future__ import annotations

import os
import random
import socket
import ssl
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trustme
from websockets.client import ClientProtocol
from websockets.frames import Frame
from websockets.http11 import Response
from websockets.protocol import Protocol, State
from websockets.uri import parse_uri
from websockets.utils import accept_key

from realtime_client import errors
from realtime_client.client.connecting import _SILENT
from realtime_client.client.framing import ClientFraming
from realtime_client.client.outbox import Ping
from realtime_client.client.stream import Stream
from realtime_client.client.wire import Wire
from realtime_client.deadline import Deadline

COUNT = 100_000 if os.environ.get("REALTIME_SOAK") else 5_000
CHUNKS = 20  # tests that share the work
WAIT_S = 10.0
TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10
LIMIT = 3_000
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPTED = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Accept: {accept_key(KEY)}\r\nDate: Thu, 26 Nov 2026 10:00:00 GMT\r\n\r\n"
).encode()


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, form: int = 0, mask: bytes = b"", rsv: int = 0
) -> bytes:
    """One frame. form: how its length is written, 7, 16 or 64 bits; 0 for the shortest."""
    size = len(payload)
    form = form or (7 if size < 126 else 16 if size < 65536 else 64)
    flag = 128 if mask else 0
    head = bytes([fin << 7 | rsv << 4 | opcode])
    if form == 7:
        head += bytes([flag | size])
    elif form == 16:
        head += bytes([flag | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([flag | 127]) + size.to_bytes(8, "big")
    if mask:
        payload = bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))
    return head + mask + payload


def close_frame(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, code.to_bytes(2, "big") + reason)


# --- against the library ----------------------------------------------------------------------------------------------


def protocol(limit: int = LIMIT) -> ClientProtocol:
    made = ClientProtocol(parse_uri("ws://127.0.0.1/"), max_size=limit, logger=_SILENT)
    made.key = KEY
    made.send_request(made.connect())
    made.data_to_send()
    return made


class Library:
    """What a program gets that leaves all to the library."""

    def __init__(self) -> None:
        self.protocol: Protocol = protocol()
        self.messages: list[bytes] = []
        self.pongs: list[bytes] = []
        self.written: list[bytes] = []
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> None:
        self.protocol.receive_data(data)
        self._take()

    def feed_end(self) -> None:
        self.protocol.receive_eof()
        self._take()

    def send(self, message: bytes | Ping) -> None:
        if isinstance(message, Ping):
            self.protocol.send_ping(message.payload)
        else:
            self.protocol.send_text(message)
        self._take()

    def send_close(self) -> None:
        self.protocol.send_close(1000, "enough")
        self._take()

    def _take(self) -> None:
        for event in self.protocol.events_received():
            if isinstance(event, Response):
                continue
            assert isinstance(event, Frame)
            if event.opcode == PONG:
                self.pongs.append(bytes(event.data))
            elif event.opcode in {TEXT, BINARY, CONTINUATION}:
                self._parts.append(bytes(event.data))
                if event.fin:
                    self.messages.append(b"".join(self._parts))
                    self._parts.clear()
        self.written += self.protocol.data_to_send()


class Ours:
    """What our end makes of the same."""

    def __init__(self) -> None:
        self.framing = ClientFraming(protocol(), LIMIT)
        self.protocol = self.framing.protocol
        self.messages: list[bytes] = []
        self.pongs: list[bytes] = []
        self.written: list[bytes] = []

    def feed(self, data: bytes) -> None:
        self.framing.feed(data)
        self._take()

    def feed_end(self) -> None:
        self.framing.feed_end()
        self._take()

    def send(self, message: bytes | Ping) -> None:
        self.framing.send([message])
        self._take()

    def send_close(self) -> None:
        self.framing.send_close(1000, "enough")
        self._take()

    def _take(self) -> None:
        self.messages += self.framing.messages
        self.pongs += self.framing.pongs
        self.framing.messages, self.framing.pongs = [], []
        self.written += self.framing.outgoing
        self.framing.outgoing.clear()


def unmasked(written: list[bytes]) -> list[tuple[int, bytes]]:
    """(first byte, payload) of the frames that a client wrote; the masks are drawn at random."""
    data, frames = b"".join(written), []
    while data:
        size, head = data[1] & 127, 2
        if size >= 126:
            head = 4 if size == 126 else 10
            size = int.from_bytes(data[2:head], "big")
        mask, payload = data[head : head + 4], data[head + 4 : head + 4 + size]
        frames.append((data[0], bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))))
        data = data[head + 4 + size :]
    return frames


def seen(side: Library | Ours, *, end: bool = False) -> tuple[Any, ...]:
    """Everything that can be seen from outside."""
    now = (side.messages, side.pongs, side.protocol.state, type(side.protocol.handshake_exc))
    if not end:
        return now
    closed = side.protocol.close_exc
    return (
        *now,
        str(side.protocol.handshake_exc),
        unmasked(side.written),
        closed.rcvd,
        closed.sent,
        closed.rcvd_then_sent,
    )


def some_frame(luck: random.Random) -> bytes:
    opcode = luck.choices([TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG], [60, 5, 12, 3, 10, 10])[0]
    fin = luck.random() < (0.97 if opcode >= CLOSE else 0.8)
    size = luck.choice([0, 1, 2, 3, 20, 125] if opcode >= CLOSE else [0, 1, 2, 50, 125, 126, 127, 300, 1000, LIMIT])
    size += luck.choice([0] * 19 + [1])
    payload = luck.randbytes(size)
    if opcode == CLOSE and luck.random() < 0.8:
        payload = luck.choice([1000, 1001, 1005, 1011, 4000, 5000]).to_bytes(2, "big") + luck.choice(
            [b"", b"bye", b"\xff"]
        )
    form = luck.choice([0, 0, 0, 16, 64] if size < 126 else [0, 0, 64])
    mask = luck.choice([b""] * 60 + [b"\1\2\3\4"])
    return frame(opcode, payload, fin=fin, form=form, mask=mask, rsv=luck.choice([0] * 60 + [4, 2, 1]))


def changed(luck: random.Random, stream: bytes, places: list[int]) -> bytes:
    """The stream with some bytes changed, taken out, put in or doubled, at heads of frames more often than not."""
    data = bytearray(stream)
    for _ in range(luck.choice([0, 1, 1, 2, 5])):
        if not data:
            break
        at = luck.choice(places) + luck.randrange(3) if luck.random() < 0.7 else luck.randrange(len(data))
        at = min(at, len(data) - 1)
        match luck.randrange(5):
            case 0:
                data[at] ^= 1 << luck.randrange(8)
            case 1:
                data[at] = luck.choice([0x81, 0x01, 0x00, 0x80, 0x88, 0x89, 0x8A, 126, 127, 0xC1, luck.randrange(256)])
            case 2:
                del data[at : at + luck.choice([1, 2, 50])]
            case 3:
                data[at:at] = luck.randbytes(luck.choice([1, 2, 20]))
            case 4:
                data[at:at] = data[at : at + luck.choice([2, 50, 500])]
    return bytes(data[: luck.choice([len(data)] * 5 + [luck.randrange(len(data) + 1)])])


HEADS = [
    ACCEPTED.replace(b"Accept: ", b"Accept: x"),
    ACCEPTED.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
    ACCEPTED.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: other\r\n\r\n"),
    ACCEPTED.replace(b"101 Switching Protocols", b"100 Continue"),
    ACCEPTED.replace(b"\r\n", b"\n"),
    ACCEPTED.replace(b"Upgrade: websocket\r\n", b""),
    b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\n\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"\r\n\r\n",
]


def some_stream(luck: random.Random) -> bytes:
    head = ACCEPTED if luck.random() < 0.85 else luck.choice(HEADS)
    places, stream = [], b""
    for _ in range(luck.randrange(12)):
        places.append(len(stream))
        stream += some_frame(luck)
    if luck.random() < 0.05:
        return changed(luck, head + stream, [0, len(head) - 3])
    return head + (changed(luck, stream, places) if places else b"")


def some_pieces(luck: random.Random, stream: bytes) -> Iterator[bytes]:
    size = luck.choice([1, 2, 7, 100, 1000, 8192, 10**6])
    if size == 1 and len(stream) > 1500:
        size = 7
    at = 0
    while at < len(stream):
        step = size if size > 2 or luck.random() < 0.9 else 200
        yield stream[at : at + step]
        at += step


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_any_stream_means_to_us_what_it_means_to_the_library(chunk: int) -> None:
    for seed in range(chunk, COUNT, CHUNKS):
        luck = random.Random(seed)
        stream = some_stream(luck)
        ours, library = Ours(), Library()
        closes_at = luck.randrange(len(stream) + 1) if luck.random() < 0.2 else None
        fed = 0
        for piece in some_pieces(luck, stream):
            for side in (ours, library):
                side.feed(piece)
            assert seen(ours) == seen(library), (seed, fed)
            fed += len(piece)
            if library.protocol.state is State.OPEN and luck.random() < 0.02:
                message = luck.choice([b"{}", Ping(b"1")])
                for side in (ours, library):
                    side.send(message)
            if closes_at is not None and fed >= closes_at and library.protocol.state is State.OPEN:
                for side in (ours, library):
                    side.send_close()
        for side in (ours, library):
            side.feed_end()
        assert seen(ours, end=True) == seen(library, end=True), seed


# --- one by one -------------------------------------------------------------------------------------------------------

ILLEGAL = [b"\x83\x05", b"\x81\x85", b"\x8b\x00", b"\x09\x00", b"\xc1\x00", b"\x81\x7f" + bytes([255] * 8)]


@pytest.mark.parametrize("step", [1, 7, 10**6])
@pytest.mark.parametrize(
    ("after", "delivered"),
    [
        (frame(TEXT, b"a") + close_frame(1000) + frame(TEXT, b"late"), [b"a"]),
        (frame(TEXT, b"a") + frame(CONTINUATION, b"of nothing") + frame(TEXT, b"late"), [b"a"]),
        (frame(TEXT, b"a", fin=False) + frame(TEXT, b"inside") + frame(CONTINUATION, b"b"), []),
        (frame(TEXT, b"a", fin=False) + frame(PING) + frame(CONTINUATION, b"b") + frame(TEXT, b"c"), [b"ab", b"c"]),
        (frame(TEXT, b"a") + frame(CONTINUATION, form=64) + frame(TEXT, b"late"), [b"a"]),
        *((frame(TEXT, b"a") + illegal + frame(TEXT, b"late"), [b"a"]) for illegal in ILLEGAL),
    ],
)
def test_what_is_delivered(after: bytes, delivered: list[bytes], step: int) -> None:
    stream, ours = ACCEPTED + after, Ours()
    for at in range(0, len(stream), step):
        ours.feed(stream[at : at + step])
    assert ours.messages == delivered


@pytest.mark.parametrize("head", HEADS)
def test_after_a_failed_handshake_nothing_is_delivered(head: bytes) -> None:
    ours = Ours()
    ours.feed(head + frame(TEXT, b"x") * 3)
    ours.feed_end()
    assert ours.messages == []
    assert ours.protocol.handshake_exc is not None


@pytest.mark.parametrize("head", ILLEGAL[:3])
def test_an_illegal_head_is_refused_at_once(head: bytes) -> None:
    ours = Ours()
    ours.feed(ACCEPTED + head)
    assert ours.protocol.state is State.CLOSING


@pytest.mark.parametrize("fragmented", [False, True])
def test_crumbs_cost_no_more_than_their_message(fragmented: bool) -> None:
    size = 2**15 if fragmented else 2**17
    payload = random.Random(1).randbytes(size)
    if fragmented:  # in pieces of two bytes: Python shares objects of one
        parts = [frame(CONTINUATION, payload[n : n + 2], fin=False) for n in range(2, size - 2, 2)]
        pieces = [frame(TEXT, payload[:2], fin=False), *parts, frame(CONTINUATION, payload[-2:])]
    else:
        whole = frame(TEXT, payload)
        pieces = [whole[n : n + 2] for n in range(0, len(whole), 2)]
    framing = ClientFraming(protocol(2 * size), 2 * size)
    framing.feed(ACCEPTED)
    tracemalloc.start()
    try:
        for piece in pieces:
            framing.feed(piece)
        assert tracemalloc.get_traced_memory()[1] < 5 * size
    finally:
        tracemalloc.stop()
    assert framing.messages == [payload]


# --- with a socket ----------------------------------------------------------------------------------------------------


class Handler:
    """Keeps what comes."""

    def __init__(self, fail: bool = False) -> None:
        self.calls: list[list[bytes]] = []
        self.pongs: list[bytes] = []
        self.unwritten = 0
        self.ended: list[tuple[int, str, bool]] = []
        self.came = threading.Semaphore(0)
        self.fail = fail

    def on_frames(self, frames: list[bytes]) -> None:
        self.calls.append(frames)
        self.came.release()
        if self.fail:
            raise ValueError("the handler's")

    def on_pong(self, payload: bytes) -> None:
        self.pongs.append(payload)

    def on_unwritten(self) -> None:
        self.unwritten += 1
        self.came.release()

    def on_end(self, code: int, reason: str, *, by_us: bool) -> None:
        self.ended.append((code, reason, by_us))


@contextmanager
def wired(
    handler: Handler,
    waits: bytes = b"",
    *,
    tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None,
    close_s: float = 5,
) -> Iterator[tuple[Wire, socket.socket]]:
    """An open wire and its peer's socket. waits: what the peer has sent before anything is read."""
    near, far = socket.socketpair()
    far.settimeout(WAIT_S)
    stream = Stream(near)
    if tls is not None:
        client, server = tls
        accepted: list[ssl.SSLSocket] = []
        thread = threading.Thread(target=lambda: accepted.append(server.wrap_socket(far, server_side=True)))
        thread.start()
        stream.begin_tls(client, "localhost", Deadline(WAIT_S))
        thread.join(WAIT_S)
        far = accepted[0]
    framing = ClientFraming(protocol(2**20), 2**20)
    framing.feed(ACCEPTED)
    far.sendall(waits)
    wire = Wire(stream, framing, handler, close_timeout_s=close_s)
    wire.start()
    try:
        yield wire, far
    finally:
        wire.abort()
        wire.receive_thread.join(WAIT_S)
        wire.release()
        far.close()
        assert not wire.receive_thread.is_alive()
        assert len(handler.ended) == 1


@pytest.fixture(scope="module")
def tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    client, server = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.configure_trust(client)
    authority.issue_cert("localhost").configure_cert(server)
    return client, server


def test_what_waits_together_is_handed_over_together() -> None:
    handler = Handler()
    sent = [b"%06d" % n * 200 for n in range(100)]  # 120 kB; a pair of sockets holds more
    with wired(handler, b"".join(frame(TEXT, each) for each in sent)):
        assert handler.came.acquire(timeout=WAIT_S)
    assert handler.calls == [sent]


def test_the_end_is_told_with_its_code() -> None:
    handler = Handler()
    with wired(handler, frame(TEXT, b"last words") + close_frame(1001, b"so long")) as (wire, far):
        wire.receive_thread.join(0)
        assert far.recv(100)[0] == 0x88  # our close frame
        far.close()
        wire.receive_thread.join(WAIT_S)
        assert handler.ended == [(1001, "so long", False)]
        with pytest.raises(errors.ConnectionLostError) as caught:
            wire.send([b"too late"])
        assert caught.value.close_code == 1001
    assert handler.calls == [[b"last words"]]


@pytest.mark.parametrize("floods", [False, True])
def test_a_peer_that_says_goodbye_and_stays_is_left(floods: bool) -> None:
    handler = Handler()
    with wired(handler, close_frame(1000), close_s=0.2) as (wire, far):
        if floods:
            with pytest.raises(OSError):
                while True:
                    far.sendall(frame(TEXT, b"x" * 1000))
        wire.receive_thread.join(WAIT_S)
        assert handler.ended == [(1000, "", False)]


def test_a_close_that_nobody_answers_has_a_limit() -> None:
    handler = Handler()
    with wired(handler, close_s=0.2) as (wire, _):
        wire.close()
        wire.receive_thread.join(WAIT_S)
        assert handler.ended == [(1006, "", False)]


def test_a_close_behind_what_nobody_reads_has_a_limit() -> None:
    handler = Handler()
    with wired(handler, close_s=0.2) as (wire, _):
        wire._framing.send([bytes(2**23)])
        wire.close()
        wire.receive_thread.join(WAIT_S)
        assert handler.ended


def test_a_fault_of_the_server_is_named() -> None:
    handler = Handler()
    with wired(handler, b"\x83\x00", close_s=0.2) as (wire, _):
        wire.receive_thread.join(WAIT_S)
    assert handler.ended[0][::2] == (1002, True)


def test_a_handler_that_fails_ends_it() -> None:
    handler = Handler(fail=True)
    with wired(handler, frame(TEXT, b"x")) as (wire, _):
        wire.receive_thread.join(WAIT_S)
        assert isinstance(wire.receive_error, ValueError)
    assert handler.ended == [(1006, "", False)]


def test_pongs_that_nobody_reads_are_bounded_and_hold_up_nothing() -> None:
    handler = Handler()
    with wired(handler) as (wire, far):
        burst = frame(PING, b"p" * 125) * 50
        for _ in range(300):  # 2 MB of pongs; the sockets hold a tenth of it
            far.sendall(burst)
        far.sendall(frame(TEXT, b"still reading"))
        while not handler.calls:
            assert handler.came.acquire(timeout=WAIT_S)
        assert handler.unwritten
        kept = sum(map(len, wire._framing.outgoing))
        assert kept < 2**19  # one drain's, and 64 more
        writer = threading.Thread(target=wire.write_out)
        writer.start()
        while kept > 0:
            kept -= len(far.recv(65536))
        writer.join(WAIT_S)
        assert not writer.is_alive()


@pytest.mark.parametrize("secure", [False, True])
def test_both_directions_at_once(secure: bool, tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """More than sockets hold goes both ways, and each side writes all before it reads; nothing is lost or mixed up."""
    handler = Handler()
    theirs = [b"%05d" % n * 500 for n in range(2_000)]
    ours = [b"%05d" % n * 400 for n in range(2_000)]
    with wired(handler, tls=tls if secure else None) as (wire, far):
        failed: list[BaseException] = []

        def send() -> None:
            try:
                for at in range(0, len(ours), 10):
                    wire.send([*ours[at : at + 10], Ping(b"%d" % at)])
            except BaseException as error:
                failed.append(error)

        sender = threading.Thread(target=send)
        sender.start()
        far.sendall(b"".join(frame(TEXT, each) + frame(PING, b"?") for each in theirs))
        got = bytearray()
        size = sum(len(each) + 8 for each in ours) + 200 * 6
        while len(got) < size:
            data = far.recv(2**20)
            assert data
            got += data
        sender.join(WAIT_S)
        assert not failed
        while sum(map(len, handler.calls)) < len(theirs):
            assert handler.came.acquire(timeout=WAIT_S)
        assert [each for call in handler.calls for each in call] == theirs
    texts = [payload for head, payload in unmasked([bytes(got)]) if head == 0x81]
    assert texts == ours[: len(texts)]
