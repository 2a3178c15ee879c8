"""Faults on demand over real loopback sockets: each once, as a client meets it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from cli_helpers import LIMIT_S, realtime, started
from local_helpers import WAIT_S, Raw, types
from local_helpers import raw as strictly
from websockets.exceptions import ConnectionClosed, InvalidStatus

from realtime_client.deadline import Deadline
from realtime_client.errors import UsageError
from realtime_client.local import LocalServer

TEXT: dict[str, Any] = {"type": "realtime", "output_modalities": ["text"]}
REQUEST = (
    b"GET /v1/realtime HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def raw(url: str) -> contextlib.AbstractContextManager[Raw]:
    return strictly(url, strict=False)  # whose messages are right is judged elsewhere


class Turned:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def monotonic(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return self.now_s + 1_000_000


@contextlib.contextmanager
def serving(faults: str, **options: Any) -> Iterator[LocalServer]:
    with LocalServer(pace=0, faults=faults, **options) as server:
        yield server


def lost(client: Raw) -> ConnectionClosed:
    """Read until the connection is over; return how it ended."""
    with pytest.raises(ConnectionClosed) as caught:
        while True:
            client.next()
    return caught.value


def ask(client: Raw) -> None:
    """Ask for an answer in writing: it is the same each time."""
    client.send("session.update", session=TEXT)
    client.say("Please count to five")
    client.send("response.create")


def works(url: str) -> None:
    """A client of this server gets its answer."""
    with raw(url) as client:
        ask(client)
        assert client.until("response.done")["response"]["status"] == "completed"


# --- the end of a connection ---


def test_a_close_in_the_middle_of_an_answer_and_the_next_connection_is_served_well():
    with serving("close:1012,reason=back soon@response.output_audio.delta#5@times=1") as server:
        with raw(server.url) as client:
            client.send("response.create")
            closed = lost(client)
        assert types(client.seen).count("response.output_audio.delta") == 5
        assert client.seen[-1]["type"] == "response.output_audio.delta"
        assert closed.rcvd is not None
        assert (closed.rcvd.code, closed.rcvd.reason) == (1012, "back soon")
        works(server.url)
        assert server.struck == (1,)


@pytest.mark.parametrize(("what", "code"), [("rst", None), ("eof", None), ("close", 1011)])
@pytest.mark.parametrize(
    "when", ["session.created", "response.create", "response.output_text.delta#3", "0s", "sent=2000", "received=150"]
)
def test_each_end_at_each_moment(what, code, when):
    with serving(f"{what}@{when}") as server:
        with raw(server.url) as client:
            with contextlib.suppress(ConnectionClosed):
                ask(client)
            closed = lost(client)
        assert server.struck == (1,)
    if what != "rst":  # of which a client that is sending sees a broken pipe, too
        assert not isinstance(closed.__cause__, ConnectionResetError)
    assert (closed.rcvd and closed.rcvd.code) == code
    kinds = types(client.seen)
    assert "response.done" not in kinds
    if when == "response.create":
        assert "response.created" not in kinds, "it was received and not acted on"
    if "#" in when:
        assert kinds.count("response.output_text.delta") == 3


@pytest.mark.parametrize("what", ["rst", "eof"])
def test_a_line_is_cut_at_a_byte_in_the_middle_of_a_message(what):
    with serving(f"{what}@sent=1000") as server, bare(server) as sock:
        sock.sendall(frame({"type": "session.update", "session": TEXT}))
        got = b""
        try:
            while data := sock.recv(65_536):
                got += data
        except ConnectionResetError:
            assert what == "rst"
        else:
            assert what == "eof"
    assert len(got) == 1_000


@contextlib.contextmanager
def bare(server: LocalServer) -> Iterator[socket.socket]:
    """A WebSocket connection after its handshake, without a library."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S) as sock:
        sock.sendall(REQUEST)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += sock.recv(1)
        assert head.startswith(b"HTTP/1.1 101")
        yield sock


def frame(event: dict[str, Any]) -> bytes:
    data = json.dumps(event).encode()
    assert len(data) < 126
    return bytes([0x81, 0x80 | len(data), 0, 0, 0, 0]) + data


def test_a_moment_by_a_clock_that_is_turned():
    clock = Turned()
    with serving("close:1013@60s", clock=clock) as server, raw(server.url) as client:
        client.say("hello")
        client.until("conversation.item.done")
        clock.now_s += 59.9
        client.say("still here")
        client.until("conversation.item.done")
        clock.now_s += 0.2
        closed = lost(client)
    assert closed.rcvd is not None
    assert closed.rcvd.code == 1013


@pytest.mark.parametrize("when", ["@30s", "@response.created"])
def test_a_session_that_expires(when):
    clock = Turned()
    with serving("expire" + when, clock=clock) as server, raw(server.url) as client:
        told_s = client.next()["session"]["expires_at"] - clock.wall()
        if when == "@30s":
            assert told_s == 30
            clock.now_s += 31
        else:
            assert told_s == 3_600
            client.send("response.create")
        closed = lost(client)
        assert server.struck == (1,)
    assert client.seen[-1]["error"]["code"] == "session_expired"
    assert closed.rcvd is not None
    assert (closed.rcvd.code, closed.rcvd.reason) == (1001, "Your session hit the maximum duration of 60 minutes.")


def test_an_error_instead_of_what_was_asked_for():
    code = "conversation_already_has_active_response"
    at = "@response.create#1"
    with serving(f"error:{code},message=One at a time{at}; drop{at}") as server, raw(server.url) as client:
        client.send("response.create", event_id="mine")
        error = client.until("error")["error"]
        assert (error["code"], error["message"], error["event_id"]) == (code, "One at a time", "mine")
        client.send("response.create")
        assert client.next()["type"] == "response.created", "the first one was not acted on"


# --- stalls ---


def test_a_server_that_stops_reading_still_talks_and_still_ends():
    with serving("stall-reads@response.create@times=1") as server, raw(server.url) as client:
        ask(client)
        client.until("rate_limits.updated")
        client.say("do you hear me?")
        pong = client.connection.ping()
        works(server.url)
        assert not pong.is_set()
        server.close()
        closed = lost(client)
    assert closed.rcvd is not None
    assert closed.rcvd.code == 1001
    assert client.seen[-1]["type"] == "rate_limits.updated"


def test_stalls_that_are_over():
    """While it stands still a turned clock is all that can end it."""
    clock = Turned()
    for spec in ("stall-reads,for=60@session.updated", "half-open,for=60@session.updated"):
        with serving(spec, clock=clock) as server, raw(server.url) as client:
            client.send("session.update", session=TEXT)
            client.until("session.updated")
            pong = client.connection.ping()
            client.say("hello")
            assert server.struck == (1,)
            assert not pong.is_set()
            clock.now_s += 61
            client.until("conversation.item.done")
            assert pong.wait(WAIT_S)


def until_struck(server: LocalServer) -> None:
    deadline = Deadline(WAIT_S)
    while not any(server.struck):
        assert not deadline.expired


def test_a_half_open_connection_stays_and_says_nothing_while_others_are_served():
    with serving("half-open@session.updated@connections=1") as server, raw(server.url) as client:
        client.send("session.update", session=TEXT)
        client.until("session.updated")
        client.say("hello?")
        pong = client.connection.ping()
        works(server.url)
        assert not pong.is_set()
        began_s = time.monotonic()
        server.close()
        assert time.monotonic() - began_s < 1.9, "nobody is waited for who stands still"
        closed = lost(client)
    assert closed.rcvd is None
    assert types(client.seen) == ["session.created", "session.updated"]


@pytest.mark.parametrize("spec", ["half-open@session.created", "stall-reads@session.created", "no-answer"])
def test_a_client_that_leaves_a_connection_that_stands_still_is_forgotten(spec):
    with serving(spec) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S) as sock:
            sock.sendall(REQUEST)
            until_struck(server)
        deadline = Deadline(WAIT_S)
        while any(thread.name == "realtime-serve-session" for thread in threading.enumerate()):
            assert not deadline.expired


def test_pongs_that_never_come_and_pongs_that_are_late():
    with serving("no-pongs@connections=1; late-pongs:0.25@connections=2") as server:
        with raw(server.url) as client:
            client.next()
            pong = client.connection.ping()
            client.say("hello")
            client.until("conversation.item.done")
            assert not pong.is_set(), "what came after the ping was answered"
        with raw(server.url) as client:
            client.next()
            began_s = time.monotonic()
            assert client.connection.ping().wait(WAIT_S)
            assert time.monotonic() - began_s >= 0.25


# --- the line ---


@pytest.mark.parametrize(
    ("spec", "least_s"),
    [
        ("delay:0.2,jitter=0.1", 0.2),
        ("delay:0.2@client", 0.2),
        ("delay:0.2@response.done", 0.2),
        ("bandwidth:30k", 0.2),
        ("bandwidth:1k@client", 0.2),
        ("drip:100,every=0.002", 0.1),
        ("bandwidth:30k; delay:100ms; delay:0.1@client; split:50", 0.3),
    ],
)
def test_a_line_that_is_late_or_narrow_brings_all_of_it(spec, least_s):
    with serving(spec) as server:
        began_s = time.monotonic()
        works(server.url)
        assert time.monotonic() - began_s >= least_s
        assert sum(server.struck)


def test_a_delay_is_no_queue():
    """Ten questions in a row, each answer 200 ms under way: that is not two seconds."""
    with serving("delay:0.2") as server, raw(server.url) as client:
        client.next()
        began_s = time.monotonic()
        for _ in range(10):
            client.say("hello")
        for _ in range(10):
            client.until("conversation.item.done")
        assert 0.2 <= time.monotonic() - began_s < 1.9


def test_a_spoken_answer_over_a_bad_line_is_whole():
    with serving("delay:50ms,jitter=20ms; split:700@p=0.2; seed=3") as server, raw(server.url) as client:
        client.say("Please count to five")
        client.send("response.create")
        done = client.until("response.done")["response"]
    said = "".join(e["delta"] for e in client.seen if e["type"] == "response.output_audio_transcript.delta")
    assert said == done["output"][0]["content"][0]["transcript"]


# --- messages ---


def answer(server: LocalServer) -> list[str]:
    """The types of an answer, up to rate_limits.updated, which comes last."""
    with raw(server.url) as client:
        ask(client)
        client.until("rate_limits.updated")
    return types(client.seen)


def test_messages_that_are_lost_doubled_and_swapped():
    with LocalServer(pace=0) as server:
        whole = answer(server)
    delta, first = "response.output_text.delta", whole.index("response.output_text.delta")
    specs = {
        f"drop@{delta}#1": whole[:first] + whole[first + 1 :],
        f"duplicate@{delta}#1": [*whole[:first], delta, *whole[first:]],
        "reorder@response.created": swapped(whole, whole.index("response.created")),
    }
    with serving("; ".join(f"{spec}@connections={n}" for n, spec in enumerate(specs, 1))) as server:
        for spec, expected in specs.items():
            assert answer(server) == expected, spec
        assert server.struck == (1, 1, 1)


def swapped(kinds: list[str], at: int) -> list[str]:
    return [*kinds[:at], kinds[at + 1], kinds[at], *kinds[at + 2 :]]


def test_the_same_seed_loses_the_same_messages():
    runs = []
    for seed in (5, 5, 6):
        with serving(f"drop@response.output_text.delta@p=0.5; seed={seed}") as server:
            runs.append((answer(server), answer(server)))
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_broken_messages_reach_the_client_as_they_are():
    delta = "response.output_text.delta"
    spec = f"corrupt:json@{delta}#1; corrupt:surrogate@{delta}#2"
    with serving(spec) as server, raw(server.url) as client:
        ask(client)
        frames = []
        while "response.done" not in (frames[-1][:60] if frames else ""):
            frames.append(client.connection.recv(timeout=WAIT_S))
        first, second = [each for each in frames if delta in each][:2]
        assert not first.endswith("}")
        assert json.loads(second)["delta"].startswith("\ud83d")
    with serving(f"corrupt:utf8@{delta}") as server, raw(server.url) as client:
        ask(client)
        closed = lost(client)
        assert closed.sent is not None
        assert closed.sent.code == 1007, "the client's library ends it"


def test_what_the_client_says_is_broken_on_the_way():
    with serving("corrupt@conversation.item.create#1") as server, raw(server.url) as client:
        client.next()
        client.say("hello")
        assert client.next()["type"] == "error"
        client.say("hello")
        assert client.next()["type"] == "conversation.item.added"


# --- handshakes ---


def test_handshakes_that_are_refused_and_the_third_is_served():
    spec = "refuse:503,retry-after=2@connections=1; refuse:401@connections=2"
    with serving(spec) as server:
        for status, after, code in ((503, "2", "server_error"), (401, None, "invalid_api_key")):
            with pytest.raises(InvalidStatus) as caught, raw(server.url):
                pass
            response = caught.value.response
            assert (response.status_code, response.headers.get("Retry-After")) == (status, after)
            assert json.loads(response.body or b"")["error"]["code"] == code
        works(server.url)


def test_a_handshake_that_gets_no_answer():
    with serving("no-answer") as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S) as sock:
            sock.sendall(REQUEST)
            until_struck(server)
            began_s = time.monotonic()
            server.close()
            assert time.monotonic() - began_s < 1.9
            assert sock.recv(1) == b""


def test_other_requests_are_no_connections():
    with serving("refuse@connections=1") as server:
        import http.client

        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=WAIT_S)
        connection.request("GET", "/v1/models")
        assert connection.getresponse().status == 404
        connection.close()
        with pytest.raises(InvalidStatus), raw(server.url):
            pass
        works(server.url)


# --- the server and the command ---


def test_a_server_without_faults_knows_nothing_of_them():
    code = (
        "import sys; from realtime_client.local import LocalServer; from websockets.sync.client import connect\n"
        "with LocalServer() as server, connect(server.url) as client: client.recv(timeout=20)\n"
        "print([name for name in sys.modules if 'local.faults' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT_S, check=True)
    assert done.stdout.strip() == "[]"


def test_what_cannot_be_is_said_before_anything_is_served():
    with pytest.raises(UsageError, match="did you mean rst"):
        LocalServer(faults="rts@3s")
    done = realtime("serve", "--faults", "rst", "--processes", "2")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("leave out --processes\n")


def test_serve_with_faults_as_a_user_does(tmp_path):
    file = tmp_path / "faults.yaml"
    file.write_text("seed: 4\nfaults:\n- do: refuse\n  headers: {Retry-After: 1}\n  connections: 1\n")
    args = ["--faults", str(file), "--faults", "drop@rate_limits.updated@p=0.5; close:1000@9999s"]
    with started("serve", "-v", *args, env=os.environ) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        first = realtime("say", "Count to three.", "--url", url, "--text", "--no-record")
        second = realtime("say", "Count to three.", "--url", url, "--text", "--no-record")
        server.send_signal(signal.SIGTERM)
        _, errors = server.communicate(timeout=LIMIT_S)
    assert first.returncode == 3
    assert "HTTP 503" in first.stderr
    assert second.stdout.strip() == "One, two, three."
    assert "3 faults on demand, by chance with seed=4" in errors
    assert "connection 1: refuse:503" in errors
