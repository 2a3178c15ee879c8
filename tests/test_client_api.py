"""The client's API against a server that says exactly what the test wants: answers, errors, nonsense."""

from __future__ import annotations

import base64
import contextlib
import http
import itertools
import json
import random
import re
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
from scripted_server import SESSION, Peer, ScriptedServer
from websockets.http11 import Response

from realtime_client import errors
from realtime_client import updates as up
from realtime_client.client.client import RealtimeClient
from realtime_client.client.diagnosis import retry_after_s
from realtime_client.client.endpoint import Endpoint
from realtime_client.client.wire import Wire
from realtime_client.protocol.session import Audio, AudioInput, RealtimeConfig, ServerVad
from realtime_client.session.limits import Limits

KEY = "sk-very-secret"
LIMITS = Limits(open_timeout_s=5, close_timeout_s=2, ping_interval_s=0)


def client_for(url: str, **more: Any) -> RealtimeClient:
    limits = more.pop("limits", LIMITS)
    endpoint = Endpoint(url=url, headers={"Authorization": f"Bearer {KEY}"}, **{"proxy": None, **more})
    return RealtimeClient(endpoint, limits=limits)


def refused(url: str, kind: type[errors.RealtimeError], **more: Any) -> Any:
    """Open, and return the error: of this very class, one line, without the key."""
    client = client_for(url, **more)
    with pytest.raises(errors.RealtimeError) as caught:
        client.open()
    error = caught.value
    assert type(error) is kind, repr(error)
    text = str(error)
    assert text
    assert "\n" not in text
    assert KEY not in text
    assert "Traceback" not in text
    assert len(text) < 400
    client.close()
    return error


# --- answers ----------------------------------------------------------------------------------------------------------


def part(response_id: str) -> dict[str, Any]:
    return {"response_id": response_id, "item_id": f"item_{response_id}", "output_index": 0, "content_index": 0}


def test_ask_a_text() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        item = peer.receive("conversation.item.create")["item"]
        assert item["content"] == [{"type": "input_text", "text": "What?"}]
        peer.receive("response.create")
        peer.answer("Forty-two.")
        peer.read_all()

    with ScriptedServer(script) as server, client_for(server.url) as client:
        answer = client.ask("What?", timeout_s=5)
        assert (answer.text, answer.status, answer.audio, answer.tool_calls) == ("Forty-two.", "completed", b"", ())
        assert answer.timings is not None
        assert answer.timings.total_ms is not None
        assert (client.session_id, client.model, client.settings["type"]) == ("sess_test", "test-model", "realtime")
        stats = client.stats()
        assert parsedate_to_datetime(client.server_date).tzinfo is not None
        assert stats.turn_count == 1
        assert stats.traffic.frames_out >= 2
        json.dumps(stats.to_dict())
        assert not client.answering
        for empty in ("", " \n"):
            with pytest.raises(errors.UsageError, match="empty"):
                client.send_text(empty)
        with pytest.raises(errors.UsageError, match="text or audio"):
            client.ask()


@pytest.mark.parametrize("vad", [False, True], ids=["by hand", "voice detection"])
def test_ask_with_audio(vad: bool) -> None:
    sound = bytes(range(256)) * 40
    got = bytearray()

    def script(peer: Peer) -> None:
        detection = {"type": "server_vad", "silence_duration_ms": 200} if vad else None
        session = SESSION | {"audio": {"input": {"turn_detection": detection}}}
        peer.send(type="session.created", event_id="e", session=session)
        while len(got) < len(sound) + (600 * 48 if vad else 0):
            got.extend(base64.b64decode(peer.receive("input_audio_buffer.append")["audio"]))
        if not vad:
            peer.receive("input_audio_buffer.commit")
            peer.receive("response.create")
        prefix = "conversation.item.input_audio_transcription"
        peer.send(type=f"{prefix}.completed", event_id="e", item_id="u", content_index=0, transcript="hi", usage={})
        where = part("resp_1")
        peer.send(type="response.created", event_id="e", response={"id": "resp_1"})
        for piece in (b"\1\2" * 100, b"\3\4" * 50):
            peer.send(type="response.output_audio.delta", delta=base64.b64encode(piece).decode(), **where)
        peer.send(type="response.output_audio_transcript.delta", delta="Hello", **where)
        usage = {"total_tokens": 3, "input_token_details": {"cached_tokens": 1}}
        peer.send(type="response.done", event_id="e", response={"id": "resp_1", "status": "completed", "usage": usage})
        peer.read_all()

    with ScriptedServer(script) as server, client_for(server.url) as client:
        answer = client.ask(audio=sound, timeout_s=5)
    assert answer.audio == b"\1\2" * 100 + b"\3\4" * 50
    assert (answer.text, answer.heard, answer.audio_format) == ("Hello", "hi", up.PCM16_24K)
    assert (answer.usage.total_tokens, answer.usage.cached) == (3, 1)
    assert bytes(got[: len(sound)]) == sound
    assert not any(got[len(sound) :])


def call_tools(peer: Peer, response_id: str, *call_ids: str) -> None:
    peer.send(type="response.created", event_id="e", response={"id": response_id})
    for n, call_id in enumerate(call_ids):
        item = {"id": f"item_{call_id}", "type": "function_call", "status": "completed", "call_id": call_id}
        item |= {"name": "add", "arguments": '{"a": 1}'}
        peer.send(type="response.output_item.done", event_id="e", response_id=response_id, output_index=n, item=item)
    peer.send(type="response.done", event_id="e", response={"id": response_id, "status": "completed"})


def test_tool_calls_and_their_answer() -> None:
    heard: list[str] = []

    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive("response.create")
        call_tools(peer, "resp_1", "c1", "c2")
        while heard.count("conversation.item.create") < 2 or heard[-1] != "response.create":
            heard.append(peer.receive()["type"])
        peer.answer("Three.", "resp_2")
        peer.read_all()

    with ScriptedServer(script) as server, client_for(server.url) as client:
        answer = client.ask("What is 1 + 2?", timeout_s=5)
        assert [(call.call_id, call.name, json.loads(call.arguments)) for call in answer.tool_calls] == [
            ("c1", "add", {"a": 1}),
            ("c2", "add", {"a": 1}),
        ]

        def run() -> None:
            for call in answer.tool_calls:
                client.send_tool_result(call.call_id, "3")

        assert client.next_answer(after=run, timeout_s=5).text == "Three."
    assert heard == ["conversation.item.create", "conversation.item.create", "response.create"]


@pytest.mark.parametrize("named", [True, False])
def test_ask_while_the_server_answers_by_itself(named: bool) -> None:
    """The question is refused, waits, and its own answer comes back, not the server's other one."""

    def script(peer: Peer) -> None:
        peer.greet()
        request = peer.receive("response.create")
        peer.send(type="input_audio_buffer.committed", event_id="e", item_id="item_u")
        peer.send(type="response.created", event_id="e", response={"id": "resp_vad"})
        error = {"type": "x", "code": "conversation_already_has_active_response", "message": "busy: resp_vad"}
        peer.send(type="error", event_id="e", error=error | ({"event_id": request["event_id"]} if named else {}))
        peer.send(type="response.output_text.delta", delta="Other", **part("resp_vad"))
        peer.send(type="response.done", event_id="e", response={"id": "resp_vad", "status": "completed"})
        assert peer.receive("response.create")["event_id"] == request["event_id"]
        peer.answer("Mine.", "resp_2")
        peer.read_all()

    with ScriptedServer(script) as server, client_for(server.url) as client:
        assert client.ask("Mine?", timeout_s=5).text == "Mine."


def test_a_second_question_before_the_first_answer_began() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        first = peer.receive("response.create")
        peer.receive("conversation.item.create")
        peer.send(type="error", event_id="e", error={"type": "x", "code": "y", "message": "n", **ids(first)})
        peer.receive("response.create")
        peer.answer("Second.", "resp_2")
        peer.read_all()

    def ids(event: dict[str, Any]) -> dict[str, str]:
        return {"event_id": event["event_id"]}

    with ScriptedServer(script) as server, client_for(server.url) as client:
        client.send_text("first")
        assert client.ask("second", timeout_s=5).text == "Second."


def test_a_refused_request_and_one_that_is_never_answered() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        for _ in range(2):
            event_id = peer.receive("response.create")["event_id"]
            error = {"type": "x", "code": "invalid_value", "message": "no such voice", "event_id": event_id}
            peer.send(type="error", event_id="e", error=error)
        peer.read_all()

    with ScriptedServer(script) as server, client_for(server.url) as client:
        with pytest.raises(errors.ResponseFailedError, match="no such voice") as caught:
            client.ask("x", timeout_s=5)
        assert caught.value.code == "invalid_value"
        with pytest.raises(errors.ResponseFailedError, match="no such voice"):
            client.next_answer(after=client.respond, timeout_s=5)
        with pytest.raises(TimeoutError):
            client.ask("y", timeout_s=0.05)


def test_the_session_ends_before_the_answer() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive("response.create")
        peer.send(type="response.created", event_id="e", response={"id": "resp_1"})
        peer.websocket.close(1011, "oops")

    with ScriptedServer(script) as server, client_for(server.url) as client:
        with pytest.raises(errors.ConnectionLostError, match="1011: oops"):
            client.ask("x", timeout_s=5)
    with pytest.raises(errors.ConnectionLostError):
        client.send_text("y")


def test_an_answer_that_is_quicker_than_the_thread_that_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole answer is there before `send` returns; it is timed all the same."""
    done = threading.Event()
    send = Wire.send

    def slow(self: Wire, messages: Any) -> None:
        send(self, messages)
        if any(b"response.create" in bytes(m) for m in messages if isinstance(m, bytes)):
            assert done.wait(5)

    monkeypatch.setattr(Wire, "send", slow)
    with ScriptedServer(on_request(Peer.answer)) as server, client_for(server.url) as client:
        client.observe(lambda u, _at: done.set() if isinstance(u, up.ResponseDone) else None, direct=True)
        answer = client.ask("hi", timeout_s=5)
        assert answer.timings is not None
        assert answer.timings.total_ms is not None
        assert answer.timings.first_text_ms is not None
        assert answer.timings.first_text_ms <= answer.timings.total_ms < 5000


def test_a_cancelled_answer() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive("response.create")
        peer.send(type="response.created", event_id="e", response={"id": "resp_1"})
        peer.send(type="response.output_text.delta", delta="One, two", **part("resp_1"))
        assert peer.receive("response.cancel")["response_id"] == "resp_1"
        peer.send(type="response.output_text.delta", delta=" late", **part("resp_1"))
        details = {"type": "cancelled", "reason": "client_cancelled"}
        done = {"id": "resp_1", "status": "cancelled", "status_details": details}
        peer.send(type="response.done", event_id="e", response=done)
        peer.read_all()

    with ScriptedServer(script) as server, client_for(server.url) as client:
        assert not client.cancel()
        seen: list[up.Update] = []
        with client.updates(timeout_s=5) as updates:
            client.send_text("count")
            for update in updates:
                seen.append(update)
                if isinstance(update, up.TextDelta):
                    assert client.cancel()
                elif isinstance(update, up.ResponseDone):
                    break
    assert (seen[-1].text, seen[-1].reason) == ("One, two", "client_cancelled")
    assert [u.cause for u in seen if isinstance(u, up.Interrupted)] == ["cancel"]


def test_settings_are_in_force_when_the_session_is_open() -> None:
    session = RealtimeConfig(audio=Audio(input=AudioInput(turn_detection=ServerVad())))

    def script(peer: Peer) -> None:
        peer.greet()
        wanted = peer.receive("session.update")["session"]
        assert wanted == session.to_wire()
        peer.send(type="session.updated", event_id="e", session=SESSION | wanted)
        peer.read_all()

    with ScriptedServer(script) as server:
        with RealtimeClient(Endpoint(url=server.url, proxy=None), session=session, limits=LIMITS) as client:
            assert client.settings["audio"]["input"]["turn_detection"] == {"type": "server_vad"}


def test_refused_settings() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive("session.update")
        peer.send(type="error", event_id="e", error={"type": "x", "code": "unknown_parameter", "message": "no voice"})
        peer.read_all()

    with ScriptedServer(script) as server:
        client = RealtimeClient(Endpoint(url=server.url, proxy=None), session=RealtimeConfig(), limits=LIMITS)
        with pytest.raises(errors.SessionRefusedError, match="no voice") as caught:
            client.open()
        assert caught.value.code == "unknown_parameter"


# --- listening --------------------------------------------------------------------------------------------------------


def on_request(answer: Callable[[Peer], None]) -> Callable[[Peer], None]:
    """A script that greets and does this for each response.create."""

    def script(peer: Peer) -> None:
        peer.greet()
        while True:
            peer.receive("response.create")
            answer(peer)

    return script


def test_updates_and_observers_see_the_same() -> None:
    observed: list[tuple[up.Update, float]] = []
    with ScriptedServer(on_request(Peer.answer)) as server, client_for(server.url) as client:
        remove = client.observe(lambda update, at_s: observed.append((update, at_s)))
        with client.updates(timeout_s=5) as updates:
            client.send_text("hi")
            seen = list(itertools.takewhile(lambda u: not isinstance(u, up.ResponseDone), updates))
        assert [update for update, _ in observed[: len(seen)]] == seen
        assert [at for _, at in observed] == sorted(at for _, at in observed)
        kinds = [update.kind for update in seen]
        assert kinds[0] == "item_added"
        assert kinds[-2:] == ["text_delta", "text_done"]
        remove()
        remove()
        count = len(observed)
        assert client.ask("more", timeout_s=5).text == "Hello."
        assert len(observed) == count


def test_iteration_ends_with_the_session() -> None:
    with ScriptedServer(on_request(Peer.answer)) as server:
        client = client_for(server.url)
        client.open()
        updates = client.updates(timeout_s=5)
        client.close()
        assert [type(update) for update in updates] == [up.SessionEnded]
        assert list(client.updates(timeout_s=5)) == []
        with pytest.raises(errors.ClosedError):
            client.send_text("x")
        with pytest.raises(errors.ClosedError):
            client.open()


def test_a_reader_that_does_not_read() -> None:
    def flood(peer: Peer) -> None:
        peer.send(type="response.created", event_id="e", response={"id": "resp_1"})
        for _ in range(200):
            peer.send(type="response.output_text.delta", delta="x", **part("resp_1"))
        peer.send(type="response.done", event_id="e", response={"id": "resp_1", "status": "completed"})

    limits = Limits(open_timeout_s=5, close_timeout_s=2, ping_interval_s=0, updates_queue=50)
    over = threading.Event()
    with ScriptedServer(on_request(flood)) as server, client_for(server.url, limits=limits) as client:
        client.observe(lambda update, _at: over.set() if isinstance(update, up.ResponseDone) else None)
        lazy = client.updates(timeout_s=5)
        client.respond()
        assert over.wait(10)
        seen: list[up.Update] = []
        with pytest.raises(errors.QueueFullError, match="more than 50 updates behind"):
            seen.extend(lazy)
        assert client.error is None  # the session itself does not care


def test_calls_before_open() -> None:
    client = client_for("ws://127.0.0.1:9/")
    with pytest.raises(errors.ClosedError, match="not open yet"):
        client.send_text("x")
    client.close()


# --- no session comes about -------------------------------------------------------------------------------------------


def http_answer(status: int, body: bytes = b"", **headers: str) -> Callable[..., Any]:
    def process_request(connection: Any, _request: Any) -> Response:
        response = connection.respond(http.HTTPStatus(status), "")
        response.body = body
        for name in ("Content-Length", "Content-Type"):
            with contextlib.suppress(KeyError):
                del response.headers[name]
        response.headers["Content-Length"] = str(len(body))
        for name, value in headers.items():
            response.headers[name.replace("_", "-")] = value
        return response

    return process_request


def body(code: str | None, message: str) -> bytes:
    return json.dumps({"error": {"type": "invalid_request_error", "code": code, "message": message}}).encode()


@pytest.mark.parametrize(
    ("status", "content", "kind", "says"),
    [
        (401, body("invalid_api_key", "Incorrect API key"), errors.AuthenticationError, "HTTP 401.*Incorrect API key"),
        (401, b"", errors.AuthenticationError, "refused the key"),
        (403, b"<html>", errors.AuthenticationError, "HTTP 403"),
        (404, b"not here", errors.NotRealtimeError, r"HTTP 404.*check the URL"),
        (404, body("not_found", "no such path"), errors.NotRealtimeError, r"HTTP 404.*no such path"),
        (404, body("model_not_found", "no such model"), errors.SessionRefusedError, r"HTTP 404.*no such model"),
        (400, body("beta_api_shape_disabled", "no beta"), errors.SessionRefusedError, "HTTP 400.*no beta"),
        (400, b"bad", errors.NotRealtimeError, "HTTP 400"),
        (400, b'{"error": 7}', errors.NotRealtimeError, "HTTP 400"),
        (400, b"[]", errors.NotRealtimeError, "HTTP 400"),
        (429, body("rate_limit_exceeded", "slow\ndown\x1b[31m"), errors.RateLimitedError, "HTTP 429.*slow"),
        (500, b"", errors.HostUnreachableError, "out of order .HTTP 500"),
        (503, body("x", "later"), errors.HostUnreachableError, "HTTP 503.*later"),
        (200, b"<html>hello</html>", errors.NotRealtimeError, "HTTP 200"),
        (426, b"", errors.NotRealtimeError, "HTTP 426"),
    ],
)
def test_http_answers(status: int, content: bytes, kind: type[errors.ConnectError], says: str) -> None:
    answer = http_answer(status, content, Retry_After="7.5")
    with ScriptedServer(lambda peer: None, process_request=answer) as server:
        error = refused(server.url, kind)
        assert re.search(says, str(error))
        assert "\x1b" not in str(error)
        if isinstance(error, errors.RateLimitedError):
            assert error.retry_after_s == 7.5
        if isinstance(error, errors.SessionRefusedError):
            assert error.code in {"beta_api_shape_disabled", "model_not_found"}


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7.5", 7.5),
        ("0", 0.0),
        ("-3", 0.0),
        ("99999", 99_999.0),
        ("nan", None),
        ("inf", None),
        ("1e300", None),
        ("soon", None),
        ("", None),
        (None, None),
        ("Fri, 20 Nov 2026 17:00:30 GMT", 30.0),
        ("Fri, 20 Nov 2026 16:00:00 GMT", 0.0),
        ("Fri, 20 Nov 2226 16:00:00 GMT", None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, "Fri, 20 Nov 2026 17:00:00 GMT") == seconds


@pytest.mark.parametrize(
    ("status", "content", "kind", "says"),
    [
        (400, b'{"detail": "no such voice"}', errors.SessionRefusedError, "no such voice"),
        (422, b'{"detail": [{"loc": ["query", "model"], "msg": "x"}]}', errors.SessionRefusedError, "query.model: x"),
        (400, b'{"message": "bad model name"}', errors.SessionRefusedError, "bad model name"),
        (400, b'{"error": "a sentence"}', errors.SessionRefusedError, "a sentence"),
        (404, b'{"detail": "Not Found"}', errors.NotRealtimeError, "Not Found"),
        (403, b"this key has no realtime access", errors.AuthenticationError, "this key has no realtime access"),
        (403, b"", errors.AuthenticationError, "the key may not use this, or nothing answers at this path"),
        (503, b"upstream is down", errors.HostUnreachableError, "upstream is down"),
        (429, b'{"detail": "slow down"}', errors.RateLimitedError, "slow down"),
    ],
)
def test_the_servers_own_words_are_shown(
    status: int, content: bytes, kind: type[errors.ConnectError], says: str
) -> None:
    with ScriptedServer(lambda peer: None, process_request=http_answer(status, content)) as server:
        error = refused(server.url, kind)
        assert says in str(error)
        assert isinstance(error.__cause__, Exception)


def test_a_redirect_names_its_target_without_secrets() -> None:
    answer = http_answer(302, Location="https://user:pass@other.example/v1/realtime?api-key=secret")
    with ScriptedServer(lambda peer: None, process_request=answer) as server:
        error = str(refused(server.url, errors.NotRealtimeError))
    assert "https://***@other.example/v1/realtime?api-key=***" in error
    assert "pass" not in error
    assert "secret" not in error


def says_error(code: str, message: str, close: int = 1000) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        peer.send(type="error", event_id="e", error={"type": "x", "code": code, "message": message})
        peer.websocket.close(close, code)

    return script


@pytest.mark.parametrize(
    ("script", "kind", "says"),
    [
        (says_error("invalid_api_key", "wrong key", 3000), errors.AuthenticationError, "wrong key"),
        (says_error("insufficient_quota", "no money"), errors.RateLimitedError, "no money"),
        (says_error("rate_limit_exceeded", "too quick"), errors.RateLimitedError, "too quick"),
        (says_error("invalid_model", "no such model", 4000), errors.SessionRefusedError, "no such model"),
        (says_error("new_code", ""), errors.SessionRefusedError, "new_code"),
        (lambda peer: peer.websocket.close(3000, "bad key"), errors.AuthenticationError, "bad key"),
        (lambda peer: peer.websocket.close(4000, "beta"), errors.SessionRefusedError, "4000: beta"),
        (lambda peer: peer.websocket.close(1008, "policy"), errors.SessionRefusedError, "1008: policy"),
        (lambda peer: peer.drop(), errors.SessionRefusedError, "before it began"),
        (lambda peer: peer.raw("hello"), errors.NotRealtimeError, "does not speak the Realtime protocol"),
        (lambda peer: peer.raw(b"\xff\xfe"), errors.NotRealtimeError, "does not speak the Realtime protocol"),
    ],
)
def test_refused_sessions(script: Callable[[Peer], None], kind: type[errors.ConnectError], says: str) -> None:
    with ScriptedServer(script) as server:
        assert says in str(refused(server.url, kind))


@pytest.mark.parametrize("how", ["cancelled", "given up"])
def test_a_request_that_ends_here_while_the_session_opens_is_no_refusal_by_the_server(how: str) -> None:
    """The settings are confirmed only after it has ended."""
    ended = threading.Event()

    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive("response.create")
        assert ended.wait(10)
        peer.send(type="session.updated", event_id="e", session=SESSION)
        peer.read_all()

    limits = Limits(answer_timeout_s=30 if how == "cancelled" else 0.05)
    with ScriptedServer(script) as server:
        client = RealtimeClient(Endpoint(url=server.url), session=RealtimeConfig(), limits=limits)

        def observe(update: up.Update, _at_s: float) -> None:
            if isinstance(update, up.SessionStarted):
                client.send_text("Hello?")
                if how == "cancelled":
                    client.cancel()
            elif isinstance(update, up.Failure):
                assert update.of_this_side
                ended.set()

        client.observe(observe)
        with client:
            assert ended.is_set()
            assert client.error is None


def test_a_normal_close_instead_of_a_greeting() -> None:
    with ScriptedServer(lambda peer: peer.websocket.close(1000)) as server:
        error = refused(server.url, errors.SessionRefusedError)
        assert "before it began" in str(error)


def echo(peer: Peer) -> None:
    with contextlib.suppress(Exception):
        for message in peer.websocket:
            peer.raw(message)


def test_an_echo_server_and_a_silent_one() -> None:
    limits = Limits(open_timeout_s=0.3, close_timeout_s=2, ping_interval_s=0)
    for script in (echo, Peer.read_all):
        with ScriptedServer(script) as server:
            error = refused(server.url, errors.NotRealtimeError, limits=limits)
            assert "sent no session.created within 0.3 s" in str(error)


def test_a_server_that_confirms_no_settings() -> None:
    """The session goes on, with a warning."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive("response.create")
        peer.answer("Good enough.")
        peer.read_all()

    limits = Limits(open_timeout_s=0.3, close_timeout_s=2, ping_interval_s=0)
    with ScriptedServer(script) as server:
        client = RealtimeClient(Endpoint(url=server.url, proxy=None), session=RealtimeConfig(), limits=limits)
        told: list[up.Update] = []
        client.observe(lambda update, _at: told.append(update))
        with client:
            assert client.ask("hello", timeout_s=5).text == "Good enough."
        (notice,) = (update for update in told if isinstance(update, up.Notice))
        assert "did not confirm the settings within 0.3 s" in notice.message


def test_a_dead_port_and_an_unknown_host(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        assert "nothing listens there" in str(refused(f"ws://127.0.0.1:{port}/x", errors.HostUnreachableError))

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = refused("ws://nowhere.invalid/x?key=sk-very-secret", errors.HostUnreachableError)
    assert str(error) == "ws://nowhere.invalid/x: no such host"


@pytest.mark.parametrize("url", ["", "hello", "http://127.0.0.1/", "ws://", "wss:///x", "ws://127.0.0.1:port/"])
def test_bad_urls(url: str) -> None:
    assert re.search("not a WebSocket URL|Port", str(refused(url, errors.UsageError)))


@pytest.mark.parametrize("key", [f"{KEY}\r\nX-More: 1", f"{KEY}\n", f"{KEY}\0", f"{KEY}\N{SNOWMAN}", f"{KEY}\udc80"])
def test_a_key_that_no_header_can_carry(key: str) -> None:
    with ScriptedServer(Peer.read_all) as server:
        client = RealtimeClient(Endpoint(url=server.url, headers={"Authorization": key}, proxy=None), limits=LIMITS)
        with pytest.raises(errors.UsageError, match="header") as caught:
            client.open()
        assert KEY not in str(caught.value)
        assert "\n" not in str(caught.value)


@contextlib.contextmanager
def raw_server(handle: Callable[[socket.socket], None]) -> Iterator[int]:
    """A TCP server whose every connection is handled by a function; the port."""
    connections: list[socket.socket] = []
    threads: list[threading.Thread] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            handle(connection)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(connection)
            threads.append(threading.Thread(target=serve, args=(connection,)))
            threads[-1].start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield listener.getsockname()[1]
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(5)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(5)
        for connection in connections:
            connection.close()


@pytest.mark.parametrize(
    "reply",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: no\r\n\r\n",
        b"\x00\x01\x02\x03" * 100,
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        b"",
    ],
)
def test_servers_that_are_no_websocket_servers(reply: bytes) -> None:
    def handle(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(reply)
        connection.shutdown(socket.SHUT_RDWR)

    with raw_server(handle) as port:
        refused(f"ws://127.0.0.1:{port}/", errors.NotRealtimeError)


def test_a_server_that_never_answers_the_handshake() -> None:
    limits = Limits(open_timeout_s=0.3, close_timeout_s=2)
    with raw_server(lambda connection: [None for _ in iter(lambda: connection.recv(65536), b"")]) as port:
        error = refused(f"ws://127.0.0.1:{port}/", errors.HostUnreachableError, limits=limits)
        assert "did not answer within 0.3 s" in str(error)


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path]:
    ca = trustme.CA()
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return ca, path


def tls_server(ca: trustme.CA, name: str, script: Callable[[Peer], None]) -> ScriptedServer:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(name).configure_cert(context)
    return ScriptedServer(script, ssl=context)


def test_tls_with_a_trusted_authority(authority: tuple[trustme.CA, Path]) -> None:
    ca, path = authority
    with tls_server(ca, "127.0.0.1", on_request(Peer.answer)) as server:
        with client_for(server.url.replace("ws://", "wss://"), trust=str(path)) as client:
            assert client.ask("hi", timeout_s=5).text == "Hello."


def test_over_tls_nothing_is_read_before_the_request_is_written(
    authority: tuple[trustme.CA, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else session tickets are read while the request is written, which then may be lost: 4 of 100 connections were."""
    order: list[str] = []

    def noting(name: str) -> Any:
        method = getattr(ssl.SSLSocket, name)

        def noted(self: ssl.SSLSocket, *args: Any) -> Any:
            if not self.server_side:
                order.append(name)
            return method(self, *args)

        return noted

    ca, path = authority
    with tls_server(ca, "127.0.0.1", on_request(Peer.answer)) as server:
        for name in ("recv", "send"):
            monkeypatch.setattr(ssl.SSLSocket, name, noting(name))
        for _ in range(5):
            order.clear()
            with client_for(server.url.replace("ws://", "wss://"), trust=str(path)):
                assert order[0] == "send"


def test_tls_that_nobody_vouches_for(authority: tuple[trustme.CA, Path]) -> None:
    ca, path = authority
    with tls_server(ca, "127.0.0.1", Peer.read_all) as server:
        error = refused(server.url.replace("ws://", "wss://"), errors.TLSError)
        assert "certificate is not trusted" in str(error)
    with tls_server(ca, "other.example", Peer.read_all) as server:
        error = refused(server.url.replace("ws://", "wss://"), errors.TLSError, trust=str(path))
        assert "not trusted" in str(error)
        assert "127.0.0.1" in str(error)


def test_tls_to_a_plain_server() -> None:
    with ScriptedServer(Peer.read_all) as server:
        error = refused(server.url.replace("ws://", "wss://"), errors.TLSError)
        assert "plain ws:// server" in str(error)


def test_plain_to_a_tls_server(authority: tuple[trustme.CA, Path]) -> None:
    with tls_server(authority[0], "127.0.0.1", Peer.read_all) as server:
        refused(server.url, errors.NotRealtimeError)


def test_a_file_of_authorities_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("hello")
    for trust in (str(tmp_path / "ca.pem"), str(tmp_path / "missing.pem")):
        error = refused("wss://127.0.0.1:9/", errors.UsageError, trust=trust)
        assert "trusted certificates cannot be used" in str(error)


# --- proxies and redirects --------------------------------------------------------------------------------------------


def read_head(connection: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        data = connection.recv(65536)
        if not data:
            raise OSError("gone")
        head += data
    return head


def pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


def proxy(heads: list[bytes], refusal: bytes = b"") -> contextlib.AbstractContextManager[int]:
    """An HTTP proxy that knows CONNECT."""

    def handle(connection: socket.socket) -> None:
        heads.append(read_head(connection))
        if refusal:
            connection.sendall(refusal)
            connection.shutdown(socket.SHUT_RDWR)
            return
        host, _, port = heads[-1].split(b" ")[1].decode().rpartition(":")
        with socket.create_connection((host, int(port)), timeout=5) as target:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=pump, args=(target, connection))
            back.start()
            pump(connection, target)
            back.join(5)

    return raw_server(handle)


@pytest.mark.parametrize("source", ["setting", "environment"])
def test_through_a_proxy(source: str, authority: tuple[trustme.CA, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    ca, path = authority
    heads: list[bytes] = []
    with proxy(heads) as port, tls_server(ca, "127.0.0.1", on_request(Peer.answer)) as server:
        address = f"http://127.0.0.1:{port}"
        if source == "environment":
            monkeypatch.setenv("HTTPS_PROXY", address)
        url = server.url.replace("ws://", "wss://")
        with client_for(url, trust=str(path), proxy=address if source == "setting" else True) as client:
            assert client.ask("hi", timeout_s=5).text == "Hello."
    (head,) = heads
    assert head.startswith(b"CONNECT 127.0.0.1:")
    assert KEY.encode() not in head


def test_a_proxy_that_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[bytes] = []
    with proxy(heads) as port, ScriptedServer(on_request(Peer.answer)) as server:
        for name in ("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        with client_for(server.url, proxy=None) as client:
            assert client.ask("hi", timeout_s=5).text == "Hello."
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with client_for(server.url, proxy=True) as client:
            assert client.ask("hi", timeout_s=5).text == "Hello."
    assert heads == []


@pytest.mark.parametrize(
    "refusal",
    [
        b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
)
def test_a_proxy_that_refuses(refusal: bytes) -> None:
    with proxy([], refusal) as port:
        error = refused("ws://127.0.0.1:9/", errors.HostUnreachableError, proxy=f"http://127.0.0.1:{port}")
        assert "proxy" in str(error)


def test_a_dead_proxy_and_a_bad_one() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{held.getsockname()[1]}"
        refused("ws://127.0.0.1:9/", errors.HostUnreachableError, proxy=dead)
    error = refused("ws://127.0.0.1:9/", errors.HostUnreachableError, proxy="ftp://127.0.0.1:1")
    assert "proxy" in str(error)


def test_an_https_proxy_cannot_carry_tls() -> None:
    error = refused("wss://127.0.0.1:9/", errors.UsageError, proxy="https://127.0.0.1:9")
    assert "https:// URL cannot carry wss://" in str(error)


def socks_proxy(asked: list[bytes], refuse: bool = False) -> contextlib.AbstractContextManager[int]:
    """A SOCKS5 proxy (RFC 1928) that wants no password."""

    def handle(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(b"\x05\x00")
        asked.append(connection.recv(300))
        connection.sendall(bytes([5, 5 if refuse else 0, 0, 1]) + bytes(6))
        if refuse:
            return
        with socket.create_connection(("127.0.0.1", int.from_bytes(asked[-1][-2:], "big")), timeout=5) as target:
            back = threading.Thread(target=pump, args=(target, connection))
            back.start()
            pump(connection, target)
            back.join(5)

    return raw_server(handle)


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_through_a_socks_proxy(scheme: str) -> None:
    pytest.importorskip("python_socks")
    asked: list[bytes] = []
    with socks_proxy(asked) as port, ScriptedServer(on_request(Peer.answer)) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        with client_for(url, proxy=f"{scheme}://127.0.0.1:{port}") as client:
            assert client.ask("hi", timeout_s=5).text == "Hello."
    assert (b"localhost" in asked[0]) == (scheme == "socks5h")
    with socks_proxy(asked, refuse=True) as port:
        error = refused("ws://127.0.0.1:9/", errors.HostUnreachableError, proxy=f"{scheme}://127.0.0.1:{port}")
        assert "the proxy refused or failed" in str(error)


def test_a_socks_proxy_without_the_library_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "python_socks", None)
    error = refused("ws://127.0.0.1:9/", errors.UsageError, proxy="socks5://127.0.0.1:9")
    assert "pip install python-socks" in str(error)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("by_proxy", [False, True])
def test_a_redirect_is_not_followed(status: int, by_proxy: bool) -> None:
    """The key was given for one host; no other one sees it, whatever version of the library connects."""
    heads: list[bytes] = []

    def take(connection: socket.socket) -> None:
        heads.append(read_head(connection))

    with contextlib.ExitStack() as stack:
        port = stack.enter_context(raw_server(take))
        way = f"http://127.0.0.1:{stack.enter_context(proxy([]))}" if by_proxy else None
        for location in (f"ws://127.0.0.1:{port}/v1/realtime", f"http://127.0.0.1:{port}/", "/elsewhere"):
            answer = http_answer(status, Location=location)
            with ScriptedServer(lambda peer: None, process_request=answer) as server:
                endpoint = Endpoint(url=server.url, headers={"api-key": KEY, "Authorization": KEY}, proxy=way)
                with pytest.raises(errors.NotRealtimeError, match="redirects to another address") as caught:
                    RealtimeClient(endpoint, limits=LIMITS).open()
                assert KEY not in str(caught.value)
    assert not any(KEY.encode() in head for head in heads)


# --- nonsense ---------------------------------------------------------------------------------------------------------


def nonsense() -> list[str | bytes]:
    """Frames that a session survives."""
    text = json.dumps({"type": "response.output_text.delta", "event_id": "e", "delta": "x", **part("resp_1")})
    audio = {"type": "response.output_audio.delta", "event_id": "e", **part("resp_1")}
    luck = random.Random(7)
    return [
        "",
        "hello",
        "null",
        "[]",
        "{}",
        '{"type":null}',
        '{"type":"new.event","x":[1,{"y":null}]}',
        text[:-1],
        text[: len(text) // 2],
        text.replace('"x"', "7"),
        json.dumps(audio | {"delta": "%%%"}),
        json.dumps(audio | {"delta": 7}),
        json.dumps(audio | {"delta": None}),
        '{"type":"session.updated","session":7}',
        '{"type":"response.done","response":{"id":"resp_1","usage":[]}}',
        '{"type":"error","error":{}}',
        '{"type":"error"}',
        '{"type":"response.done"}',
        '{"type":"a\\u0000b"}',
        "{" * 5000,
        '{"type":"x","a":' + "[" * 3000 + "]" * 3000 + "}",
        b"\x00\xff\xfe" * 30,
        *(luck.randbytes(luck.randrange(1, 300)) for _ in range(50)),
        *("".join(chr(luck.randrange(1, 0xD7FF)) for _ in range(100)) for _ in range(20)),
    ]


def test_nonsense_does_not_end_a_session() -> None:
    def answer(peer: Peer) -> None:
        for frame in nonsense():
            peer.raw(frame)
        peer.answer("Still here.")

    seen: list[up.Update] = []
    with ScriptedServer(on_request(answer)) as server, client_for(server.url) as client:
        client.observe(lambda update, _at: seen.append(update))
        assert client.ask("hi", timeout_s=10).text == "Still here."
        assert client.ask("hi", timeout_s=10).text == "Still here."
        assert client.error is None
        traffic = client.stats().traffic
    assert traffic.malformed > 80
    assert traffic.unknown >= 2
    named = {update.event_type for update in seen if isinstance(update, up.Malformed)}
    assert {"response.output_text.delta", "response.output_audio.delta", "session.updated"} <= named


@pytest.mark.parametrize("binary", [False, True])
def test_fragmented_and_binary_messages_are_messages(binary: bool) -> None:
    def answer(peer: Peer) -> None:
        peer.send(type="response.created", event_id="e", response={"id": "resp_1"})
        text = json.dumps({"type": "response.output_text.delta", "delta": "whole \N{SNOWMAN}", **part("resp_1")})
        data = text.encode()
        pieces = [data[n : n + 7] for n in range(0, len(data), 7)]
        peer.websocket.send(iter(pieces), text=not binary)
        peer.raw(json.dumps({"type": "response.done", "response": {"id": "resp_1", "status": "completed"}}).encode())

    with ScriptedServer(on_request(answer)) as server, client_for(server.url) as client:
        assert client.ask("hi", timeout_s=5).text == "whole \N{SNOWMAN}"


@pytest.mark.parametrize("size", [0, 1])
def test_a_frame_beyond_the_limit_ends_the_session_with_one_clear_error(size: int) -> None:
    limit = 100_000
    head = '{"type":"response.output_text.delta","event_id":"e",' + json.dumps(part("resp_1"))[1:-1] + ',"delta":"'

    def answer(peer: Peer) -> None:
        peer.send(type="response.created", event_id="e", response={"id": "resp_1"})
        peer.send(type="response.output_text.delta", delta="before", **part("resp_1"))
        peer.raw(head + "x" * (limit - len(head) - 2 + size) + '"}')
        peer.send(type="response.done", event_id="e", response={"id": "resp_1", "status": "completed"})

    limits = Limits(open_timeout_s=5, close_timeout_s=2, ping_interval_s=0, max_frame_bytes=limit)
    seen: list[up.Update] = []
    with ScriptedServer(on_request(answer)) as server, client_for(server.url, limits=limits) as client:
        client.observe(lambda update, _at: seen.append(update))
        if size == 0:
            assert len(client.ask("hi", timeout_s=5).text) > limit - 1000
            return
        with pytest.raises(errors.ConnectionLostError) as caught:
            client.ask("hi", timeout_s=5)
        assert caught.value.close_code == 1009
        assert "too long" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert [u.text for u in seen if isinstance(u, up.TextDelta)] == ["before"]  # what came before stands


@pytest.mark.parametrize(
    "wire",
    [
        b"\x83\x01x",  # an opcode that nobody has defined
        b"\xc1\x01x",  # a reserved bit
        b"\x81\x85\x01\x02\x03\x04hello",  # a server must not mask
        b"\x80\x01x",  # a continuation of nothing
        b"\x89\x7e\x00\xff" + b"x" * 255,  # a ping that is too long
        b"\x88\x01x",  # half a close code
        b"\x81\x7f" + b"\xff" * 8,  # longer than any message
    ],
    ids=lambda wire: wire[:4].hex(),
)
def test_broken_frames_end_the_session_with_one_clear_error(wire: bytes) -> None:
    def answer(peer: Peer) -> None:
        peer.send(type="response.created", event_id="e", response={"id": "resp_1"})
        peer.send(type="response.output_text.delta", delta="before", **part("resp_1"))
        peer.websocket.socket.sendall(wire)
        peer.read_all()

    seen: list[up.Update] = []
    with ScriptedServer(on_request(answer)) as server, client_for(server.url) as client:
        client.observe(lambda update, _at: seen.append(update))
        with pytest.raises(errors.ConnectionLostError) as caught:
            client.ask("hi", timeout_s=5)
        assert "\n" not in str(caught.value)
        assert caught.value.close_code in {1002, 1006, 1009}
    assert [u.text for u in seen if isinstance(u, up.TextDelta)] == ["before"]
    assert isinstance(seen[-1], up.SessionEnded)


@pytest.mark.slow
def test_a_burst_of_tiny_events() -> None:
    """Far more than any queue holds, as fast as the socket takes them: nothing is lost, and no queue outgrows its limit."""
    count, at_once = 60_000, 10_000
    one = b'\x81\x0e{"type":"a.b"}'
    assert len(one) == 16

    def answer(peer: Peer) -> None:
        for _ in range(count // at_once):
            peer.websocket.socket.sendall(one * at_once)
        peer.answer("Done.")

    over = threading.Event()
    with ScriptedServer(on_request(answer)) as server, client_for(server.url) as client:
        client.observe(lambda update, _at: over.set() if isinstance(update, up.ResponseDone) else None)
        client.respond()
        assert over.wait(60)
        stats = client.stats()
        assert stats.traffic.unknown == count
        assert stats.queue_high_water["inbound"] <= LIMITS.inbound_queue
        assert client.error is None
