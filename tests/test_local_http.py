"""What the local server answers to HTTP: ephemeral keys, refusals, and whatever else arrives at its port."""

from __future__ import annotations

import http.client
import json
import socket
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from local_helpers import WAIT_S, raw
from websockets.exceptions import InvalidStatus

from realtime_client.local import LocalServer
from realtime_client.local.http import MAX_BODY_BYTES, MAX_HEAD_BYTES
from realtime_client.local.keys import Keys
from realtime_client.local.lobby import Lobby

Json = dict[str, Any]

KEYS = "/v1/realtime/client_secrets"
SETTINGS: Json = {
    "type": "realtime",
    "model": "gpt-realtime",
    "instructions": "Be brief.",
    "output_modalities": ["text"],
}


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer(pace=0) as running:
        yield running


@pytest.fixture
def guarded() -> Iterator[LocalServer]:
    with LocalServer(pace=0, token="s3cret") as running:
        yield running


class Wall:
    """A clock whose wall is moved by hand."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def monotonic(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return self.now_s


def ask(server: LocalServer, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Json, Any]:
    """Send a request; its status, JSON body and headers."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=WAIT_S)
    try:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection.request(method, path, data, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        read = answer.read()
    finally:
        connection.close()
    assert answer.getheader("Content-Type") == "application/json"
    return answer.status, json.loads(read) if read else {}, answer.headers


def send(server: LocalServer, data: bytes, *, end: bool = False) -> bytes:
    """Send bytes; all that is answered until the server ends the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S) as connection:
        connection.sendall(data)
        if end:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while more := connection.recv(65_536):
            answer += more
    return answer


# --- ephemeral keys ---


def test_a_key_opens_sessions_that_begin_with_its_settings(guarded):
    body = {"session": SETTINGS, "expires_after": {"anchor": "created_at", "seconds": 60}}
    status, made, _ = ask(guarded, "POST", KEYS, body, Authorization="Bearer s3cret")
    assert status == 200
    assert made["value"].startswith("ek_")
    assert made["session"]["instructions"] == "Be brief."
    assert made["session"]["audio"]["output"]["voice"] == "marin"
    names = ["realtime", f"openai-insecure-api-key.{made['value']}"]
    for options in (
        {"additional_headers": {"Authorization": f"Bearer {made['value']}"}},
        {"subprotocols": names, "origin": "https://some.site"},
    ):
        with raw(guarded.url, **options) as client:
            session = client.next()["session"]
            assert (session["model"], session["instructions"]) == ("gpt-realtime", "Be brief.")
            client.say("count to two")
            client.send("response.create")
            assert client.until("response.done")["response"]["output"][0]["content"][0]["text"] == "One, two. "


def test_the_official_client_makes_keys(guarded):
    openai = pytest.importorskip("openai")
    base = f"http://127.0.0.1:{guarded.port}/v1"
    with openai.OpenAI(api_key="s3cret", base_url=base, timeout=WAIT_S, max_retries=0) as client:
        made = client.realtime.client_secrets.create(session={"type": "transcription"})
        with pytest.raises(openai.BadRequestError, match=r"Unknown parameter: 'session\.nonsense'"):
            client.realtime.client_secrets.create(session={"type": "realtime", "nonsense": 1})
    assert made.session.type == "transcription"
    with raw(guarded.url, additional_headers={"Authorization": f"Bearer {made.value}"}) as session:
        assert session.next()["session"]["type"] == "transcription"


def test_without_a_token_everyone_here_gets_a_key_and_pages_of_other_sites_none(server):
    assert ask(server, "POST", KEYS)[0] == 200
    assert ask(server, "POST", KEYS, {}, Origin="http://localhost:3000")[0] == 200
    for origin in ("https://evil.example", "null"):
        status, told, _ = ask(server, "POST", KEYS, {}, Origin=origin)
        assert (status, told["error"]["code"]) == (403, "origin_not_allowed")


def test_with_a_token_only_who_knows_it_gets_a_key(guarded):
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer ek_0123"}):
        status, told, _ = ask(guarded, "POST", KEYS, {}, **headers)
        assert (status, told["error"]["code"]) == (401, "invalid_api_key")
    foreign = {"Authorization": "Bearer s3cret", "Origin": "https://evil.example"}
    status, told, _ = ask(guarded, "POST", KEYS, {}, **foreign)
    assert (status, told["error"]["message"]) == (
        403,
        "Pages of https://evil.example may not do this here: keys are for programs.",
    )
    made = ask(guarded, "POST", KEYS, {}, Authorization="Bearer s3cret")[1]["value"]
    assert ask(guarded, "POST", KEYS, {}, Authorization=f"Bearer {made}")[0] == 401, "a key makes no keys"


@pytest.mark.parametrize("token", [None, "s3cret"])
def test_a_key_that_has_expired_opens_nothing(token):
    clock = Wall()
    with LocalServer(token=token, clock=clock) as server:
        made = ask(server, "POST", KEYS, {}, Authorization="Bearer s3cret")[1]
        assert made["expires_at"] == clock.now_s + 600
        for later_s, opens in ((599, True), (1, False)):
            clock.now_s += later_s
            if opens:
                with raw(server.url, additional_headers={"Authorization": f"Bearer {made['value']}"}) as client:
                    client.next()
                continue
            with (
                pytest.raises(InvalidStatus) as caught,
                raw(server.url, additional_headers={"Authorization": f"Bearer {made['value']}"}),
            ):
                pass
            assert caught.value.response.status_code == 401


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"nope", "invalid_json", None),
        (b'{"session":{"type":"realtime","instructions":"\xff"}}', "invalid_json", None),
        (
            b'{"session":{"type":"realtime","prompt":' + b'{"variables":' * 600 + b"1" + b"}" * 602,
            "invalid_value",
            "session",
        ),
        ([], "invalid_type", "body"),
        ({"model": "x"}, "unknown_parameter", "model"),
        ({"session": []}, "invalid_type", "session"),
        ({"session": {}}, "missing_required_parameter", "session.type"),
        ({"session": {"type": "other"}}, "invalid_value", "session.type"),
        ({"session": {"type": "realtime", "tool_choice": "required"}}, "invalid_value", "session.tool_choice"),
        ({"expires_after": {"seconds": 9}}, "integer_below_min_value", "expires_after.seconds"),
        ({"expires_after": {"seconds": 7_201}}, "integer_above_max_value", "expires_after.seconds"),
        ({"expires_after": {"seconds": 10**400}}, "integer_above_max_value", "expires_after.seconds"),
        ({"expires_after": False}, "invalid_type", "expires_after"),
        ({"expires_after": {"anchor": "now"}}, "invalid_value", "expires_after.anchor"),
        ({"expires_after": {"at": 5}}, "unknown_parameter", "expires_after.at"),
        ({"expires_after": 5}, "invalid_type", "expires_after"),
    ],
)
def test_a_key_that_cannot_be_made(server, body, code, param):
    status, told, _ = ask(server, "POST", KEYS, body)
    assert status == 400
    assert (told["error"]["code"], told["error"]["param"]) == (code, param)


def test_keys_are_bounded_and_make_room_when_they_expire():
    clock = Wall()
    keys = Keys(clock)
    big = json.dumps({"session": {"type": "realtime", "instructions": "x" * 250_000}}).encode()
    count = 0
    while (made := keys.mint(big)).status == 200:
        count += 1
        assert count < 1_000, "no bound"
    assert made.status == 429
    clock.now_s += 601
    assert keys.mint(big).status == 200


def test_servers_share_keys_in_a_folder(tmp_path):
    clock = Wall()
    one, other = (Keys(clock, tmp_path) for _ in range(2))
    body = json.dumps({"session": {"type": "realtime", "instructions": "Be brief."}}).encode()
    made = one.mint(body)
    key = json.loads(made.body)["value"]
    assert other.session(key) == {"type": "realtime", "instructions": "Be brief."}
    assert other.session(key + "x") is None
    assert other.session(key + "\udcff") is None, "what is no ASCII in a header"
    assert all(key not in path.name for path in tmp_path.iterdir())
    clock.now_s += 601
    assert other.session(key) is None
    big = json.dumps({"session": {"type": "realtime", "instructions": "x" * 250_000}}).encode()
    for _ in range(200):
        one.mint(big)
    clock.now_s += 601
    assert one.mint(big).status == 200
    assert len(list(tmp_path.iterdir())) == 1, "what has expired is taken back"


def test_kept_settings_take_no_more_than_their_text():
    keys = Keys(Wall())
    body = json.dumps({"session": {"type": "realtime", "tracing": {"metadata": {"x": [{}] * 20_000}}}}).encode()
    tracemalloc.start()
    try:
        for _ in range(5):
            assert keys.mint(body).status == 200
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 10 * len(body)


# --- what is refused ---


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("POST", "/v1/realtime", 405, "GET"),
        ("PUT", "/v1/realtime?model=m", 405, "GET"),
        ("HEAD", "/v1/realtime", 405, "GET"),
        ("GET", KEYS, 405, "POST"),
        ("OPTIONS", KEYS, 405, "POST"),
        ("DELETE", "/openai" + KEYS, 405, "POST"),
        ("M-SEARCH", "/v1/realtime", 405, "GET"),
        ("VERSION-CONTROL", KEYS, 405, "POST"),
        ("GET", "/v1/realtime", 426, None),
        ("POST", "/v1/realtime/calls", 404, None),
        ("POST", "/v1/chat/completions", 404, None),
        ("GET", "/", 404, None),
        ("GET", "//[", 404, None),
        ("GET", "//v1/realtime", 404, None),
        ("POST", "//[", 404, None),
    ],
)
def test_other_requests_get_an_answer(server, method, path, status, allow):
    got, told, headers = ask(server, method, path)
    assert (got, headers["Allow"]) == (status, allow)
    assert (method == "HEAD") == (not told)
    if told:
        assert told["error"]["message"]
        assert told["error"]["type"] == "invalid_request_error"


POST = f"POST {KEYS} HTTP/1.1\r\nHost: x\r\n".encode()
GET = b"GET /v1/realtime HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\xff", 400),
        (b"\x16\x03\x01\x02\x00\x01", 400),
        (b"\x00" * 5_000, 400),
        (b"hello there\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\n\r\n", 400),
        (b"{" * 10, 400),
        (b"GET http://[/v1/realtime HTTP/1.1\r\n\r\n", 400),
        (b"GET http:///v1/realtime HTTP/1.1\r\n\r\n", 400),
        (b"GET http://x/v1/realtime?model=m HTTP/1.1\r\n\r\n", 426),
        (b"GET HTTPS://[::1]:80/v1/realtime HTTP/1.1\r\n\r\n", 426),
        (b"GET http://x HTTP/1.1\r\n\r\n", 404),
        (b"POST http://x" + KEYS.encode() + b" HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", 200),
        (b"GET * HTTP/1.1\r\n\r\n", 404),
        (GET + b"no header\r\n\r\n", 400),
        (GET + b" folded: x\r\n\r\n", 400),
        (GET + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 400),
        (GET + b"X: " + b"x" * MAX_HEAD_BYTES, 431),
        (POST + b"\r\n", 411),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", 411),
        (POST + b"Content-Length: -1\r\n\r\n", 400),
        (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}", 400),
        (POST + f"Content-Length: {MAX_BODY_BYTES + 1}\r\n\r\n".encode(), 413),
        (POST + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n", 413),
        (POST + b"Content-Length: 2\r\n\r\n{}", 200),
        (POST + b"Content-Length: 2\r\n\r\n{}GET / HTTP/1.1\r\n\r\n", 200),
    ],
    ids=lambda value: str(value)[:50],
)
def test_bytes_get_an_answer(server, data, status):
    assert send(server, data).startswith(f"HTTP/1.1 {status} ".encode())


@pytest.mark.parametrize("data", [b"GET / HT", POST + b"Content-Length: 5\r\n\r\n{}"])
def test_half_a_request_gets_an_answer_when_it_ends(server, data):
    assert send(server, data, end=True).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("data", [b"GET / HT", POST + b"Content-Length: 5\r\n\r\n{}"])
def test_half_a_request_gets_an_answer_when_its_time_is_over(server, data, monkeypatch):
    from realtime_client.local import wire

    monkeypatch.setattr(wire, "OPEN_TIMEOUT_S", 0.2)
    assert send(server, data).startswith(b"HTTP/1.1 408 ")


def test_a_client_that_says_nothing_is_dropped(server, monkeypatch):
    from realtime_client.local import wire

    monkeypatch.setattr(wire, "OPEN_TIMEOUT_S", 0.2)
    assert send(server, b"") == b""


def test_a_body_may_be_asked_for_first(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S) as connection:
        connection.sendall(POST + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(65_536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"{}")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 OK\r\n")


# --- who makes room for whom ---


class Visitor:
    """A connection as the lobby sees it."""

    def __init__(self) -> None:
        self.was_cut = False

    def cut(self) -> None:
        self.was_cut = True


def test_the_oldest_that_says_nothing_makes_room():
    lobby: Any = Lobby(3)
    first, second, third, fourth, fifth = visitors = [Visitor() for _ in range(5)]
    assert all(lobby.enter(each) for each in visitors[:3])
    lobby.heard(first)
    assert lobby.enter(fourth)
    assert lobby.enter(fifth)
    assert [each.was_cut for each in visitors] == [False, True, True, False, False]
    for each in (fourth, fifth):
        lobby.heard(each)
    assert not lobby.enter(second), "all have spoken"
    lobby.answered(fourth)
    assert lobby.enter(second)
    assert fourth.was_cut
    lobby.leave(first)
    assert lobby.enter(third)
    assert not first.was_cut
    assert not fifth.was_cut


def test_silent_connections_do_not_shut_the_server():
    with LocalServer(pace=0, max_sessions=2) as server, raw(server.url) as before:
        before.next()
        silent = [socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S) for _ in range(400)]
        try:
            with raw(server.url) as client:
                client.next()
                client.say("hello")
                client.until("conversation.item.added")
            before.say("hello")
            before.until("conversation.item.added")
        finally:
            for connection in silent:
                connection.close()
