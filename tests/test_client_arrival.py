"""How long what is read had lain in the socket: by the kernel's stamp, in the clear and in TLS."""

from __future__ import annotations

import select
import socket
import ssl
import sys
import threading
import time
import types
from collections.abc import Iterator

import pytest
import trustme

from realtime_client.client import arrival
from realtime_client.client import stream as stream_module
from realtime_client.client.arrival import Lateness, Stamps, lateness
from realtime_client.client.stream import Stream
from realtime_client.deadline import Deadline

WAIT_S = 10.0
LATER_S = 5.0
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems stamp no TCP")


def event_that_is_set() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Stream, socket.socket]]:
    """A stream that has connected, and its peer's socket."""
    monkeypatch.setattr(stream_module, "stamping", event_that_is_set())
    with socket.create_server(("127.0.0.1", 0)) as listening:
        stream = Stream(socket.socket())
        stream.connect(listening.getsockname(), WAIT_S)
        far, _ = listening.accept()
        with far:
            far.settimeout(WAIT_S)
            deadline, stamped = Deadline(WAIT_S), False
            while not stamped:  # the kernel begins to stamp soon after it was asked to
                assert not deadline.expired
                far.sendall(b"?")
                stream.read(1)
                stamped = lateness() is not None
            yield stream, far
        stream.close()


def has_come(stream: Stream) -> None:
    assert select.select([stream._sock], [], [], WAIT_S)[0]


def time_passes(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    later = types.SimpleNamespace(time=lambda: time.time() + seconds, monotonic=lambda: time.monotonic() + seconds)
    monkeypatch.setattr(arrival, "time", later)


@pytest.mark.parametrize("secure", [False, True])
def test_what_lay_there_is_as_late_as_it_lay(secure: bool, ends, monkeypatch):
    stream, plain = ends
    with in_tls(stream, plain) if secure else plain as far:
        far.sendall(b"at once")
        assert stream.read(100) == b"at once"
        far.sendall(b"late")
        has_come(stream)
        time_passes(monkeypatch, LATER_S)
        assert stream.read(100) == b"late"
    late = lateness()
    assert late is not None
    assert LATER_S <= late.least_s <= late.most_s < LATER_S + WAIT_S


def in_tls(stream: Stream, far: socket.socket) -> ssl.SSLSocket:
    authority = trustme.CA()
    client, server = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.configure_trust(client)
    authority.issue_cert("localhost").configure_cert(server)
    server.num_tickets = 0  # they would come with the first answer
    accepted: list[ssl.SSLSocket] = []
    thread = threading.Thread(target=lambda: accepted.append(server.wrap_socket(far, server_side=True)))
    thread.start()
    stream.begin_tls(client, "localhost", Deadline(WAIT_S))
    thread.join(WAIT_S)
    return accepted[0]


def test_each_thread_learns_of_what_it_read(ends):
    stream, far = ends
    found: list[Lateness | None] = []

    def read() -> None:
        found.append(lateness())
        stream.read(100)
        found.append(lateness())

    far.sendall(b"for the other thread")
    thread = threading.Thread(target=read)
    thread.start()
    thread.join(WAIT_S)
    assert found[0] is None
    assert found[1] is not None


@pytest.mark.parametrize(
    ("asked", "stamp", "least", "most"),
    [
        pytest.param(10.0, 12.5, 0.5, 0.5, id="it came while it was waited for"),
        pytest.param(12.0, 11.5, 1.5, 4.0, id="it was there: the oldest came after the last reading"),
        pytest.param(12.0, 13.5, 0.0, 0.0, id="a wall clock that was put back"),
    ],
)
def test_the_oldest_of_what_was_there_has_come_since_the_last_reading(asked, stamp, least, most, monkeypatch):
    """All times in seconds; the last reading was at 9, this one is at 13."""
    clock = types.SimpleNamespace(monotonic=lambda: 9.0, time=lambda: 1_009.0)
    monkeypatch.setattr(arrival, "time", clock)
    stamps = Stamps()
    clock.monotonic = lambda: asked
    stamps.asks()
    clock.monotonic, clock.time = (lambda: 13.0), (lambda: 1_013.0)
    nanoseconds = round(stamp % 1 * 1e9)
    data = arrival._TIMESPEC.pack(1_000 + int(stamp), nanoseconds)
    stamps.stamped([(socket.SOL_SOCKET, arrival._SO_TIMESTAMPNS, data)])
    stamps.has_read()
    assert lateness() == (pytest.approx(least), pytest.approx(most))


def test_other_systems_have_no_stamps(monkeypatch):
    monkeypatch.setattr(arrival.sys, "platform", "darwin")
    with socket.socket() as sock:
        assert Stamps.of(sock) is None


def test_nobody_pays_for_stamps_that_nobody_wants(monkeypatch):
    monkeypatch.setattr(stream_module, "stamping", threading.Event())
    with socket.create_server(("127.0.0.1", 0)) as listening:
        stream = Stream(socket.socket())
        stream.connect(listening.getsockname(), WAIT_S)
        assert stream.receive == stream._sock.recv
        stream.close()


def test_a_socket_that_stamps_nothing_is_read_all_the_same():
    near, far = socket.socketpair()
    with far:
        stream = Stream(near)
        far.sendall(b"data")
        assert stream.read(100) == b"data"
        stream.close()
