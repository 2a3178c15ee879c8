"""A server that is gone is told from one that is slow, by what its system acknowledges.

The half-open connections are true ones: the server's socket drops what arrives before it is acknowledged. How soon the
default limits notice them, and 100 slow servers, are measured by `scripts/bench/half_open.py`.
"""

from __future__ import annotations

import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from scripted_server import Peer, ScriptedServer

from realtime_client import errors
from realtime_client.client import keepalive, tcp_info
from realtime_client.client.client import RealtimeClient
from realtime_client.client.endpoint import Endpoint
from realtime_client.client.keepalive import LOOK_S, KeepAlive
from realtime_client.client.stream import Stream
from realtime_client.client.tcp_info import TcpInfo
from realtime_client.local.half_open import acknowledge_again, stop_acknowledging
from realtime_client.session.limits import Limits

linux = pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell what is acknowledged")
WAIT_S = 10.0
BLOCK = bytes(4_800)
FINE = TcpInfo(waiting=False, in_vain=0, heard_s=0.05)


# --- the judgement, with a clock that is moved by hand ----------------------------------------------------------------


class Line:
    """A keep-alive, stepped whenever it wants to be, and what its system says at each moment."""

    def __init__(self, *, interval: float = 10, pong: float = 10, ack: float = 4, busy: float = 60) -> None:
        self.now_s = 0.0
        self.wakes = self.looks = 0
        self.unanswered: list[bytes] = []
        self.info: TcpInfo | None = FINE
        self.it = KeepAlive(
            interval_s=interval, pong_timeout_s=pong, read_timeout_s=0, now_s=0, ack_timeout_s=ack, busy_timeout_s=busy
        )

    def look(self) -> TcpInfo | None:
        self.looks += 1
        return self.info

    def wake(self, *, stalled: bool = False) -> errors.ConnectionLostError | None:
        self.wakes += 1
        return self.it.step(self.now_s, self.unanswered.append, self.look, stalled_here=stalled)

    def answer(self) -> None:
        for payload in self.unanswered:
            self.it.pong(payload, self.now_s)
        self.unanswered.clear()

    def run(
        self, until_s: float, *, block_s: float = 0, answers: bool = True, dead_at_s: float = 0, stalled: bool = False
    ) -> errors.ConnectionLostError | None:
        """Let time pass: blocks are written every block_s, pings are answered; the network may go at dead_at_s."""
        block_at_s = self.now_s
        while self.now_s < until_s:
            step_s = self.it.next_step_s(self.now_s)
            to_block_s = max(0.0, block_at_s - self.now_s) if block_s else until_s
            self.now_s += min(until_s - self.now_s, to_block_s, until_s if step_s is None else step_s)
            dead_s = self.now_s - dead_at_s if dead_at_s else 0.0
            if dead_s > 0:
                self.info = TcpInfo(waiting=True, in_vain=int(dead_s / 0.4), heard_s=dead_s)
            woken = step_s is not None and step_s <= to_block_s
            if block_s and self.now_s >= block_at_s:
                block_at_s += block_s
                woken = self.it.acknowledgements.wrote() or woken
            if woken and (gone := self.wake(stalled=stalled)) is not None:
                return gone
            if answers and dead_s <= 0:
                self.answer()
        return None


def test_nothing_is_looked_at_while_nothing_is_written() -> None:
    plain, line = Line(ack=0), Line()
    assert plain.run(3600) is None
    assert line.run(3600) is None
    assert line.looks == 0
    assert line.wakes == plain.wakes  # 360 pings


@pytest.mark.parametrize("block_s", [0.02, 0.1, 0.3])
def test_what_is_written_is_looked_at_twice_a_second_and_no_longer(block_s: float) -> None:
    line = Line()
    assert line.run(60, block_s=block_s) is None
    assert 100 <= line.looks <= 60 / LOOK_S + 1
    line.looks = 0
    assert line.run(120) is None
    assert line.looks <= 2


@pytest.mark.parametrize("stalled", [False, True])
@pytest.mark.parametrize("block_s", [0.02, 0.06, 0.1])
@pytest.mark.parametrize("dead_at_s", [3.0, 3.26, 3.49, 9.99, 10.01, 31.7])
def test_a_network_that_goes_while_audio_flows(block_s: float, dead_at_s: float, stalled: bool) -> None:
    line = Line()
    gone = line.run(100, block_s=block_s, dead_at_s=dead_at_s, stalled=stalled)
    assert isinstance(gone, errors.NetworkGoneError)
    assert str(gone) == "the network is gone: nothing that was sent was acknowledged for 4 s"
    assert 4 <= line.now_s - dead_at_s < 4 + LOOK_S + block_s


@pytest.mark.parametrize(
    "info",
    [
        pytest.param(TcpInfo(waiting=True, in_vain=0, heard_s=30.0), id="no room, asked for seldom"),
        pytest.param(TcpInfo(waiting=True, in_vain=1, heard_s=30.0), id="just asked for room"),
        pytest.param(TcpInfo(waiting=True, in_vain=1, heard_s=5.0), id="one lost segment, slow line"),
        pytest.param(TcpInfo(waiting=True, in_vain=5, heard_s=3.9), id="heard of"),
        pytest.param(TcpInfo(waiting=False, in_vain=5, heard_s=99.0), id="nothing is waiting"),
    ],
)
def test_a_system_that_is_there(info: TcpInfo) -> None:
    line = Line()
    line.info = info
    assert line.run(100, block_s=0.1) is None


def test_what_was_written_after_a_long_silence_has_its_time() -> None:
    """The last acknowledgement is from long ago: the waiting begins with what is written."""
    line = Line(interval=0)
    line.info = TcpInfo(waiting=True, in_vain=2, heard_s=1000)
    line.it.acknowledgements.wrote()
    line.now_s = 1000
    assert line.wake() is None
    assert line.run(1003.9) is None
    line.info = TcpInfo(waiting=True, in_vain=2, heard_s=1004)
    assert isinstance(line.run(1005), errors.NetworkGoneError)


def test_an_outage_that_heals_in_time_is_none() -> None:
    line = Line()
    assert line.run(10, block_s=0.1) is None
    for _ in range(5):
        assert line.run(line.now_s + 3.5, block_s=0.1, dead_at_s=line.now_s) is None
        line.info = FINE
        assert line.run(line.now_s + 1, block_s=0.1) is None


def busy(heard_s: float = 0.1, in_vain: int = 0) -> TcpInfo:
    return TcpInfo(waiting=True, in_vain=in_vain, heard_s=heard_s)


@pytest.mark.parametrize(
    ("info", "limits", "after_s", "said"),
    [
        (busy(), {}, 60, "no pong within 60 s of a ping; the network is there, and the server does not answer"),
        (FINE, {}, 60, "the network is there"),
        (busy(), {"busy": 15}, 15, "no pong within 15 s"),
        (busy(), {"busy": 5}, 10, "no pong within 10 s of a ping; the network is there"),
        (busy(), {"pong": 70}, 70, "the network is there"),
        (busy(), {"busy": 0}, None, ""),
        (busy(3600, in_vain=2), {}, 10, "no pong within 10 s of a ping; the server or the network is gone"),
        (None, {}, 10, "no pong within 10 s of a ping; the server or the network is gone"),
        (busy(), {"ack": 0}, 10, "the server or the network is gone"),
    ],
)
def test_pings_without_an_answer(info: TcpInfo | None, limits: dict[str, float], after_s: float, said: str) -> None:
    line = Line(**limits)
    line.info = info
    gone = line.run(1000, answers=False)
    if after_s is None:
        assert gone is None
        assert line.wakes < 250
    else:
        assert isinstance(gone, errors.PongMissedError)
        assert said in str(gone)
        assert line.now_s == pytest.approx(1 + after_s)  # the first ping goes out after a second


def test_a_busy_server_that_comes_back_begins_anew() -> None:
    line = Line()
    for _ in range(5):
        line.info = busy()
        assert line.run(line.now_s + 50, block_s=0.1, answers=False) is None
        line.answer()
        line.info = FINE
        assert line.run(line.now_s + 30, block_s=0.1) is None


def test_a_system_that_tells_nothing_is_asked_once() -> None:
    line = Line()
    line.info = None
    assert line.run(60, block_s=0.1) is None
    assert line.looks == 1
    assert not line.it.acknowledgements.wrote()


# --- what Linux says --------------------------------------------------------------------------------------------------


def packed(
    *, repeated: int = 0, probes: int = 0, segment: int = 1448, unacked: int = 0, heard_ms: int = 0, unsent: int = 0
) -> bytes:
    """`struct tcp_info` as of Linux 4.6: eight bytes, 24 numbers of 32 bits, four of 64, three of 32."""
    words = [0] * 24
    words[2], words[4], words[12] = segment, unacked, heard_ms
    return struct.pack("=8B24I4Q3I", 1, 0, repeated, probes, 0, 0, 0, 0, *words, 0, 0, 0, 0, 9, 9, unsent)


@pytest.mark.parametrize(
    ("data", "info"),
    [
        (packed(), TcpInfo(waiting=False, in_vain=0, heard_s=0)),
        (packed(unacked=3, heard_ms=250), TcpInfo(waiting=True, in_vain=0, heard_s=0.25)),
        (packed(unacked=1, repeated=4, heard_ms=4_100), TcpInfo(waiting=True, in_vain=4, heard_s=4.1)),
        (packed(unsent=70_000, probes=1), TcpInfo(waiting=True, in_vain=1, heard_s=0)),
        (packed(unacked=1) + bytes(200), TcpInfo(waiting=True, in_vain=0, heard_s=0)),  # a newer kernel
        (packed(unacked=1)[:-4], None),  # an older one
        (packed(segment=0, unacked=1), None),
        (bytes(148), None),
        (b"", None),
    ],
)
def test_what_the_numbers_mean(data: bytes, info: TcpInfo | None) -> None:
    assert tcp_info.parse(data) == info


def connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    return near, far


def test_a_socket_that_tells_nothing() -> None:
    near, far = connected()
    stream = Stream(near)
    stream.close()
    assert stream.tcp_info() is None  # the keep-alive may come late
    far.close()
    for each in socket.socketpair():
        assert tcp_info.read(each) is None or sys.platform == "win32"
        each.close()


@linux
def test_a_half_open_connection_and_its_end() -> None:
    near, far = connected()
    with near, far:
        near.setblocking(False)
        near.sendall(b"heard")
        assert far.recv(100) == b"heard"
        assert stop_acknowledging(far)
        near.sendall(b"lost")
        info = tcp_info.read(near)
        assert info is not None
        assert info.waiting
        acknowledge_again(far)
        far.settimeout(WAIT_S)
        assert far.recv(100) == b"lost"  # sent again


# --- sessions ---------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["ws", "wss"])
def tls(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[ssl.SSLContext | None, str | None]]:
    if request.param == "ws":
        yield None, None
        return
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    yield context, str(tmp_path / "ca.pem")


@linux
def test_a_session_notices_that_its_network_is_gone(tls: tuple[ssl.SSLContext | None, str | None]) -> None:
    context, trust = tls
    half_open = threading.Event()

    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive("input_audio_buffer.append")
        assert stop_acknowledging(peer.websocket.socket)
        half_open.set()
        assert peer.let_go.wait(20)

    limits = Limits(ack_timeout_s=0.5, close_timeout_s=2)  # pings are answered, or missed, far later
    with ScriptedServer(script, ssl=context) as server:
        url = server.url if context is None else server.url.replace("ws://", "wss://")
        with RealtimeClient(Endpoint(url=url, proxy=None, trust=trust), limits=limits) as client:
            client.send_audio(BLOCK)
            assert half_open.wait(WAIT_S)
            began_s = time.monotonic()
            client.send_audio(BLOCK)
            with pytest.raises(errors.NetworkGoneError, match=r"nothing that was sent was acknowledged for 0\.5 s"):
                list(client.updates(timeout_s=WAIT_S))
            assert 0.5 <= time.monotonic() - began_s < 5


@linux
@pytest.mark.parametrize("kilobytes", [5, 5_000], ids=["all acknowledged", "no room for it"])
def test_a_session_bears_with_a_server_that_is_slow(kilobytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads nothing for ten times as long as its pong, and its system's word, may take."""
    monkeypatch.setattr(keepalive, "LOOK_S", 0.02)
    looks = threading.Semaphore(0)
    heard_s: list[float] = []
    look = Stream.tcp_info

    def looked(stream: Stream) -> TcpInfo | None:
        info = look(stream)
        assert info is not None
        heard_s.append(info.heard_s)
        looks.release()
        return info

    monkeypatch.setattr(Stream, "tcp_info", looked)

    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive("input_audio_buffer.append")
        peer.freeze()
        peer.receive("response.create")
        peer.answer()
        peer.read_all()

    limits = Limits(ping_interval_s=0.05, pong_timeout_s=0.1, ack_timeout_s=0.1, busy_timeout_s=30, close_timeout_s=2)
    with (
        ScriptedServer(script) as server,
        RealtimeClient(Endpoint(url=server.url, proxy=None), limits=limits) as client,
    ):
        for _ in range(kilobytes // 5):
            client.send_audio(BLOCK)
        deadline_s = time.monotonic() + 1.0
        while time.monotonic() < deadline_s:
            assert looks.acquire(timeout=WAIT_S)
        server.let_go.set()
        assert client.next_answer(after=client.respond, timeout_s=WAIT_S).text == "Hello."
    if kilobytes > 5:
        assert max(heard_s) > 0.1  # so that by their age alone it would have been taken for gone
