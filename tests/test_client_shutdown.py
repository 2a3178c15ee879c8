"""However a session ends: no thread is left, every file is finished, and it takes no longer than the deadline."""

from __future__ import annotations

import itertools
import json
import os
import random
import socket
import sys
import threading
import time
from pathlib import Path

import pytest
from scripted_server import Peer, ScriptedServer

from realtime_client import errors
from realtime_client import updates as up
from realtime_client.client.client import RealtimeClient
from realtime_client.client.connection import Connection
from realtime_client.client.endpoint import Endpoint
from realtime_client.client.stream import Stream
from realtime_client.client.wire import Wire
from realtime_client.protocol import codec
from realtime_client.protocol.events import InputAudioBufferAppend
from realtime_client.session.limits import Limits

CLOSE_S = 2.0
CLOSES = 1000 if os.environ.get("REALTIME_SOAK") else 100
LIMITS = Limits(open_timeout_s=5, close_timeout_s=CLOSE_S, ping_interval_s=0)


class Recorder:
    """Notes what the client tells a recorder; can fail on purpose."""

    def __init__(self, fail_on: str = "") -> None:
        self.fail_on = fail_on
        self.seen: list[str] = []
        self.ended: str | None = None
        self.closed = 0

    def _note(self, what: str) -> None:
        self.seen.append(what)
        if what == self.fail_on:
            raise errors.RecordingError("the disk is full")

    def received(self, frame, _media, _updates, _at_s) -> None:
        self._note(json.loads(frame)["type"])

    def sent(self, frame, _media, _updates, _at_s) -> None:
        self._note(json.loads(frame)["type"])

    def noticed(self, update, _at_s) -> None:
        self._note(type(update).__name__)

    def kept(self, _audio, _at_s) -> None:
        self._note("kept")

    def close(self, *, ended, stats) -> None:
        self.ended = ended
        self.closed += 1
        assert stats["traffic"]["frames_in"] >= 0


def client_of(server: ScriptedServer, recorder: Recorder | None = None, limits: Limits = LIMITS) -> RealtimeClient:
    return RealtimeClient(Endpoint(url=server.url, proxy=None), limits=limits, recorder=recorder)


def idle(peer: Peer) -> None:
    peer.greet()
    peer.read_all()


def ended_in_time(client: RealtimeClient, recorder: Recorder, started_s: float) -> None:
    assert time.monotonic() - started_s < CLOSE_S + 0.5
    assert recorder.closed == 1
    assert recorder.seen[-1] == "SessionEnded"
    assert not [t for t in threading.enumerate() if t.name.startswith("realtime-")]


def test_normal_end_sends_what_is_queued_first() -> None:
    got: list[int] = []

    def script(peer: Peer) -> None:
        peer.greet()
        while True:
            try:
                message = peer.websocket.recv(timeout=10)
            except Exception:
                got.append(peer.websocket.protocol.close_rcvd.code)
                return
            got.append(len(message))

    recorder = Recorder()
    with ScriptedServer(script) as server:
        with client_of(server, recorder) as client:
            for _ in range(300):
                client.send_audio(bytes(960))
            started = time.monotonic()
        ended_in_time(client, recorder, started)
    assert len(got) == 301
    assert got[-1] == 1000
    assert recorder.ended == "closed"
    assert client.error is None


@pytest.mark.parametrize("code", [1001, 1011])
def test_server_closes(code: int) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive("response.create")
        peer.websocket.close(code, "because")

    recorder = Recorder()
    with ScriptedServer(script) as server, client_of(server, recorder) as client:
        updates = client.updates(timeout_s=5)
        client.respond()
        with pytest.raises(errors.ConnectionLostError, match=f"{code}: because") as caught:
            list(updates)
        assert caught.value.close_code == code
        assert client.stop.wait(5)
        started = time.monotonic()
        client.close()
        ended_in_time(client, recorder, started)
        assert recorder.ended == f"lost: {client.error}"
        assert "ConnectionLost" in recorder.seen
        with pytest.raises((errors.ClosedError, errors.ConnectionLostError)):
            client.send_text("too late")


def test_expiry_is_told_apart() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive("response.create")
        peer.send(type="error", event_id="e", error={"type": "x", "code": "session_expired", "message": "60 minutes"})
        peer.websocket.close(1001, "Your session hit the maximum duration of 60 minutes.")

    with ScriptedServer(script) as server, client_of(server) as client:
        client.respond()
        assert client.stop.wait(5)
        client.close()
        assert isinstance(client.error, errors.SessionExpiredError)


def test_connection_drops_without_a_close_frame() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive("response.create")
        peer.drop()

    recorder = Recorder()
    with ScriptedServer(script) as server, client_of(server, recorder) as client:
        with pytest.raises(errors.ConnectionLostError) as caught:
            client.ask("anybody there?", timeout_s=5)
        assert caught.value.close_code == 1006
        started = time.monotonic()
        client.close()
        ended_in_time(client, recorder, started)


def test_server_stops_reading() -> None:
    """A full socket blocks the send thread while it holds the library's lock: only a raw shutdown frees it."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.freeze()

    limits = Limits(close_timeout_s=CLOSE_S, ping_interval_s=0, write_timeout_s=0.2, outbox_queue=4)
    recorder = Recorder()
    with ScriptedServer(script) as server, client_of(server, recorder, limits) as client:
        with pytest.raises(errors.QueueFullError, match="wait to be sent"):
            for _ in range(200):
                client.send_audio(bytes(400_000))
        started = time.monotonic()
        client.close()
        ended_in_time(client, recorder, started)


@pytest.mark.parametrize(
    ("ack_s", "said"),
    [
        (0.0, r"no pong within 0\.3 s of a ping; the server or the network"),
        (4.0, "no pong within 1 s .* the network is there"),
    ],
)
def test_server_stops_answering_pings(ack_s: float, said: str) -> None:
    if ack_s and sys.platform != "linux":
        pytest.skip("the system does not tell what is acknowledged")

    def script(peer: Peer) -> None:
        peer.greet()
        peer.freeze()

    limits = Limits(
        close_timeout_s=CLOSE_S, ping_interval_s=0.1, pong_timeout_s=0.3, ack_timeout_s=ack_s, busy_timeout_s=0.8
    )
    recorder = Recorder()
    with ScriptedServer(script) as server, client_of(server, recorder, limits) as client:
        started = time.monotonic()
        with pytest.raises(errors.PongMissedError, match=said):
            list(client.updates(timeout_s=5))
        assert time.monotonic() - started < 3
        assert client.stop.is_set()
        started = time.monotonic()
        client.close()
        ended_in_time(client, recorder, started)


def test_pongs_are_measured() -> None:
    limits = Limits(close_timeout_s=CLOSE_S, ping_interval_s=0.05, pong_timeout_s=5)
    measured = threading.Event()
    with ScriptedServer(idle) as server, client_of(server, None, limits) as client:
        wrapped = client._connection._keep_alive.pong

        def pong(payload: bytes, now_s: float) -> None:
            wrapped(payload, now_s)
            measured.set()

        client._connection._keep_alive.pong = pong
        assert measured.wait(5)
        assert 0 < (client.stats().round_trip.last_ms or 0) < 1000


def test_silence_longer_than_the_read_timeout() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.freeze()

    limits = Limits(close_timeout_s=CLOSE_S, ping_interval_s=0, read_timeout_s=0.3)
    with ScriptedServer(script) as server, client_of(server, None, limits) as client:
        with pytest.raises(errors.ConnectionLostError, match=r"silent for 0\.3 s"):
            list(client.updates(timeout_s=5))


class _BrokenError(Exception):
    pass


@pytest.mark.parametrize("thread", ["receive", "audio", "send", "keep-alive", "recorder"])
def test_exception_in_a_thread_ends_the_session_and_is_raised(thread: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive("response.create")
        peer.answer()
        peer.read_all()

    def broken(*_: object, **__: object) -> None:
        raise _BrokenError(thread)

    recorder = Recorder("response.done" if thread == "recorder" else "")
    limits = Limits(close_timeout_s=CLOSE_S, ping_interval_s=0.05 if thread == "keep-alive" else 0)
    with ScriptedServer(script) as server:
        client = client_of(server, recorder, limits)
        client.open()
        if thread == "receive":
            monkeypatch.setattr(client._conversation, "receive", broken)
        elif thread == "audio":
            client.observe(broken)
        elif thread == "send":
            monkeypatch.setattr(codec, "encode", broken)
        elif thread == "keep-alive":
            monkeypatch.setattr(client._connection._keep_alive, "step", broken)
        client.respond()
        assert client.stop.wait(5)
        started = time.monotonic()
        with pytest.raises(errors.RecordingError if thread == "recorder" else _BrokenError):
            client.close()
        assert time.monotonic() - started < CLOSE_S + 0.5
        assert recorder.closed == 1
        client.close()  # idempotent, and says it once


def test_close_from_two_threads() -> None:
    recorder = Recorder()
    with ScriptedServer(idle) as server:
        client = client_of(server, recorder)
        client.open()
        gate = threading.Barrier(4)
        failures: list[BaseException] = []

        def close() -> None:
            gate.wait(5)
            try:
                client.close()
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=close) for _ in range(4)]
        started = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5)
        assert not failures
        ended_in_time(client, recorder, started)


def test_close_from_an_observer_only_asks_for_the_end() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive("response.create")
        peer.answer()
        peer.read_all()

    with ScriptedServer(script) as server, client_of(server) as client:
        client.observe(lambda update, _at: client.close() if isinstance(update, up.ResponseDone) else None)
        reader = client.updates(timeout_s=10)
        client.respond()
        assert client.stop.wait(5)
        seen = list(reader)  # a reader always ends, also before somebody closes the session
        assert isinstance(seen[-1], up.SessionEnded)
        assert seen[-1].reason == "closed"


@pytest.mark.parametrize("direct", [False, True])
def test_close_from_an_observer_with_a_server_that_is_stuck(direct: bool) -> None:
    """Nobody else closes; the server never says goodbye. The readers end all the same."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive("response.create")
        peer.answer()
        peer.freeze()

    limits = Limits(close_timeout_s=0.5, ping_interval_s=0)
    with ScriptedServer(script) as server, client_of(server, None, limits) as client:
        reader = client.updates(timeout_s=10)
        client.observe(
            lambda update, _at: client.close() if isinstance(update, up.ResponseDone) else None, direct=direct
        )
        client.respond()
        assert isinstance(list(reader)[-1], up.SessionEnded)


def test_the_receive_thread_is_the_sessions_own_from_its_first_message_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end begins while the thread that connects has only just started it."""
    came, told, owned = threading.Event(), threading.Event(), list[bool]()
    start, on_frames = Wire.start, Connection.on_frames

    def start_and_stay(wire: Wire) -> None:
        start(wire)
        assert told.wait(10)

    def tell_and_take(connection: Connection, frames: list[bytes]) -> None:
        came.set()
        on_frames(connection, frames)

    def observe(_update: up.Update, _at_s: float) -> None:
        owned.append(client.owns(threading.current_thread()))
        client.close()
        told.set()

    monkeypatch.setattr(Wire, "start", start_and_stay)
    monkeypatch.setattr(Connection, "on_frames", tell_and_take)
    with ScriptedServer(idle) as server:
        client = client_of(server)
        client.observe(observe, direct=True)
        opener = threading.Thread(target=_open_or_closed, args=(client,))
        opener.start()
        assert came.wait(10)
        client.close()
        opener.join(5)
    assert owned[0]


def test_setting_stop_ends_the_session() -> None:
    with ScriptedServer(idle) as server, client_of(server) as client:
        reader = client.updates(timeout_s=10)
        client.stop.set()
        assert isinstance(list(reader)[-1], up.SessionEnded)


def test_a_direct_observer_that_outlasts_the_close_does_not_cost_the_files() -> None:
    release = threading.Event()

    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive("response.create")
        peer.answer()
        peer.read_all()

    recorder = Recorder()
    with ScriptedServer(script) as server:
        client = client_of(server, recorder, Limits(close_timeout_s=0.6, ping_interval_s=0))
        client.open()
        held = threading.Event()

        def observe(update: up.Update, _at_s: float) -> None:
            if isinstance(update, up.ResponseDone):
                held.set()
                release.wait(20)

        client.observe(observe, direct=True)
        client.respond()
        assert held.wait(5)
        try:
            with pytest.raises(errors.ShutdownError) as caught:
                client.close()
            assert caught.value.threads == ("realtime-receive",)
            assert recorder.closed == 1
            assert recorder.seen[-1] == "SessionEnded"
        finally:
            release.set()


def test_both_ends_full_is_no_stand_still() -> None:
    """Neither reads before it has said everything; a send that waits for room must not stop reading."""
    total = 3000
    big = "x" * 4000

    def script(peer: Peer) -> None:
        peer.greet()
        for n in range(total):
            peer.send(type="made.up", n=n, text=big)
        for _ in range(total):
            peer.receive("conversation.item.create")
        peer.answer()
        peer.read_all()

    limits = Limits(close_timeout_s=CLOSE_S, ping_interval_s=1, pong_timeout_s=5)
    with ScriptedServer(script) as server, client_of(server, None, limits) as client:
        reader = client.updates(timeout_s=20)
        for _ in range(total):
            client.send_text(big, respond=False)
        assert any(isinstance(update, up.ResponseDone) for update in until_answer(reader))
        assert client.stats().traffic.unknown == total


def until_answer(reader):
    for update in reader:
        yield update
        if isinstance(update, up.ResponseDone):
            return


def test_a_server_that_reads_slowly_is_not_gone() -> None:
    """Speech that comes faster than it is heard: the server takes its time with each second and answers pings late."""
    seconds, taken = 12, 0

    def script(peer: Peer) -> None:
        nonlocal taken
        peer.greet()
        while taken < seconds:
            peer.receive("input_audio_buffer.append")
            taken += 1
            peer.let_go.wait(0.1)  # this is how fast it hears
        peer.receive("response.create")
        peer.answer()
        peer.read_all()

    limits = Limits(close_timeout_s=CLOSE_S, ping_interval_s=0.2, pong_timeout_s=0.6)
    with ScriptedServer(script, max_queue=1) as server, client_of(server, None, limits) as client:
        ahead = 0
        for n in range(seconds):
            client.send_audio(bytes(48_000), in_step=True)
            ahead = max(ahead, n + 1 - taken)
        assert client.next_answer(after=client.respond, timeout_s=10).text == "Hello."
    assert ahead <= 8  # five seconds, what the server's library holds and what it has in hand


@pytest.mark.parametrize("phase", ["tcp", "handshake", "greeting"])
def test_close_during_connect(phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The listener of each phase takes the connection that far and no further."""
    arrived, connecting, connect = threading.Event(), threading.Event(), Stream.connect

    def tell_and_connect(*arguments: object) -> None:
        connecting.set()
        connect(*arguments)

    monkeypatch.setattr(Stream, "connect", tell_and_connect)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers: list[socket.socket] = []
        if phase == "tcp":  # a full backlog swallows the SYN
            for _ in range(8):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
                fillers.append(filler)
        server = ScriptedServer(lambda peer: (arrived.set(), peer.read_all())) if phase == "greeting" else None
        url = server.url if server else f"ws://127.0.0.1:{port}/"
        client = RealtimeClient(Endpoint(url=url, proxy=None), limits=LIMITS)
        outcome: list[BaseException] = []

        def run() -> None:
            try:
                client.open()
            except BaseException as error:
                outcome.append(error)

        thread = threading.Thread(target=run)
        if server:
            server.__enter__()
        thread.start()
        if phase == "handshake":
            accepted, _ = listener.accept()
            assert accepted.recv(10)
            fillers.append(accepted)
        elif phase == "greeting":
            assert arrived.wait(5)
        elif phase == "tcp":
            assert connecting.wait(5)
        started = time.monotonic()
        client.close()
        thread.join(CLOSE_S + 1)
        assert not thread.is_alive()
        assert time.monotonic() - started < CLOSE_S + 0.5
        assert isinstance(outcome[0], errors.RealtimeError), outcome
        if server:
            server.__exit__()
        for filler in fillers:
            filler.close()


def test_close_before_open() -> None:
    client = RealtimeClient(Endpoint(url="ws://127.0.0.1:1/"), limits=LIMITS)
    client.close()
    with pytest.raises(errors.ClosedError):
        client.open()


def test_close_races_with_open() -> None:
    """Whoever comes first, no thread is left and both calls return."""
    with ScriptedServer(idle) as server:
        for _ in range(30):
            client = client_of(server)
            opener = threading.Thread(target=lambda c=client: _open_or_closed(c))
            opener.start()
            client.close()
            opener.join(5)
            assert not opener.is_alive()


def _open_or_closed(client: RealtimeClient) -> None:
    try:
        client.open()
    except errors.RealtimeError:
        return


def test_a_thread_that_does_not_end_is_named() -> None:
    release = threading.Event()
    with ScriptedServer(idle) as server:
        client = client_of(server, None, Limits(close_timeout_s=0.4, ping_interval_s=0))
        client.open()
        client.observe(lambda _update, _at: release.wait(10))
        client.send_text("hold", respond=False)
        try:
            with pytest.raises(errors.ShutdownError, match="realtime-audio") as caught:
                client.close()
            assert caught.value.threads == ("realtime-audio",)
        finally:
            release.set()


def test_closes_with_queued_requests_and_waiting_readers() -> None:
    """Whatever is queued, whoever reads: a close is quiet, and every reader ends. The seed is fixed."""
    luck = random.Random(9)

    def script(peer: Peer) -> None:
        peer.greet()
        for n in itertools.count():
            peer.receive("response.create")
            peer.answer(response_id=f"resp_{n}")

    waiting: list[threading.Thread] = []
    failures: list[BaseException] = []

    def read(reader) -> None:
        try:
            for _ in reader:
                pass
        except BaseException as error:
            failures.append(error)

    with ScriptedServer(script) as server:
        for _ in range(CLOSES):
            client = client_of(server)
            client.open()
            readers = [threading.Thread(target=read, args=(client.updates(),)) for _ in range(luck.randrange(1, 4))]
            for reader in readers:
                reader.start()
            if luck.random() < 0.3:
                client.observe(
                    lambda update, _at, c=client: c.close() if isinstance(update, up.ResponseDone) else None,
                    direct=luck.random() < 0.5,
                )
            try:
                for _ in range(luck.randrange(0, 12)):
                    luck.choice((client.respond, client.cancel, lambda c=client: c.send_text("hello")))()
            except errors.ClosedError:
                pass  # the observer was quicker
            closer = threading.Thread(target=client.close) if luck.random() < 0.3 else None
            if closer is not None:
                closer.start()
            client.close()  # raises what went wrong
            if closer is not None:
                closer.join(5)
            for reader in readers:
                reader.join(5)
            waiting += [reader for reader in readers if reader.is_alive()]
    assert not failures
    assert not waiting


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files through /proc")
def test_many_sessions_leave_nothing_behind() -> None:
    with ScriptedServer(idle) as server:
        counts = []
        for _ in range(30):
            with client_of(server) as client:
                client.send_event(InputAudioBufferAppend(audio=b"\0" * 10))
            counts.append(len(list(Path("/proc/self/fd").iterdir())))
    assert max(counts[-5:]) <= counts[0] + 4, counts  # the server's end of the last ones may still be closing
