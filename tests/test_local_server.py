"""The local server over real loopback sockets, with a bare WebSocket client that validates every frame."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from local_helpers import WAIT_S, espeak, flite, raw, types
from websockets.exceptions import ConnectionClosed, InvalidStatus

from realtime_client.deadline import Deadline
from realtime_client.errors import UsageError
from realtime_client.local import BrainTurn, LocalServer, Parts, Say

MANUAL: dict[str, Any] = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
TRANSCRIBED: dict[str, Any] = {"type": "realtime", "audio": {"input": {"transcription": {"model": "any"}}}}
SILENCE = bytes(48 * 1_000)
REQUEST = (
    b"GET /v1/realtime HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Endless:
    """A brain that talks until it is stopped."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self.said = 0

    def reply(self, turn: BrainTurn) -> Iterator[Say]:
        try:
            while True:
                self.said += 1
                yield Say("and on and on ")
        finally:
            self.stopped.set()


def until_it_stands(number: Callable[[], int]) -> None:
    """Wait until a number that grows does so no more, for ten looks."""
    pause, last, same = threading.Event(), 0, 0
    ends = time.monotonic() + WAIT_S
    while same < 10:
        assert time.monotonic() < ends, "it grows and grows"
        pause.wait(0.01)
        now = number()
        same = same + 1 if now and now == last else 0
        last = now


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer(pace=0) as running:
        yield running


def refused(url: str, **options: Any) -> tuple[int, dict[str, Any]]:
    """Connect in vain; return HTTP status and the error of the JSON body."""
    with pytest.raises(InvalidStatus) as caught, raw(url, **options):
        pass
    response = caught.value.response
    assert response.headers["Content-Type"] == "application/json"
    return response.status_code, json.loads(response.body or b"{}")["error"]


# --- turns ---


def test_a_written_turn(server):
    with raw(server.url + "?model=any-model") as client:
        assert client.next()["session"]["model"] == "any-model"
        client.send("session.update", session={"type": "realtime", "output_modalities": ["text"]})
        client.say("Please count to five")
        client.send("response.create")
        done = client.until("response.done")["response"]
    assert done["output"][0]["content"][0]["text"] == "One, two, three, four, five. "
    deltas = [e["delta"] for e in client.seen if e["type"] == "response.output_text.delta"]
    assert "".join(deltas) == "One, two, three, four, five. "


@pytest.mark.parametrize("wire_format", [{"type": "audio/pcm", "rate": 24000}, {"type": "audio/pcmu"}])
def test_a_spoken_answer_has_audio_and_transcript_interleaved(server, wire_format):
    with raw(server.url) as client:
        client.send("session.update", session={"type": "realtime", "audio": {"output": {"format": wire_format}}})
        client.say("What can you do?")
        client.send("response.create")
        client.until("rate_limits.updated")
    chunks = [base64.b64decode(e["delta"]) for e in client.seen if e["type"] == "response.output_audio.delta"]
    bytes_per_ms = 48 if wire_format["type"] == "audio/pcm" else 8
    assert all(len(chunk) <= 100 * bytes_per_ms for chunk in chunks)
    assert len(b"".join(chunks)) > 3_000 * bytes_per_ms
    kinds = types(client.seen)
    last_text = max(i for i, k in enumerate(kinds) if k == "response.output_audio_transcript.delta")
    first_audio = kinds.index("response.output_audio.delta")
    assert first_audio < last_text, "the transcript comes along with the audio"
    assert kinds.index("response.output_audio.delta") - kinds.index("response.content_part.added") <= 2


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("what can you do", "demo brain"),
        ("count to five", "One, two, three, four, five."),
        ("what time is it", "by the clock"),
        ("repeat after me hello world", "hello world"),
        ("tell me a story", "lighthouse"),
    ],
)
def test_a_spoken_question_is_heard_and_answered(server, question, answer):
    with raw(server.url) as client:
        client.send("session.update", session=TRANSCRIBED)
        client.append(bytes(48 * 400) + flite(question) + SILENCE)
        done = client.until("response.done")["response"]
        client.until("rate_limits.updated")
    kinds = types(client.seen)
    order = ["speech_started", "speech_stopped", "committed"]
    positions = [kinds.index(f"input_audio_buffer.{name}") for name in order]
    assert positions == sorted(positions)
    assert positions[-1] < kinds.index("conversation.item.added") < kinds.index("response.created")
    heard = [e for e in client.seen if e["type"].endswith("input_audio_transcription.completed")]
    assert [e["transcript"] for e in heard] == [question]
    assert answer in done["output"][0]["content"][0]["transcript"]


def test_a_second_voice_is_heard(server):
    with raw(server.url) as client:
        client.send("session.update", session=TRANSCRIBED)
        client.append(bytes(48 * 300) + flite("repeat after me hello world", voice="rms") + SILENCE)
        client.until("response.done")
    heard = [e["transcript"] for e in client.seen if e["type"].endswith("input_audio_transcription.completed")]
    assert heard == ["repeat after me hello world"]


def test_a_synthetic_voice_is_one_turn(server):
    """espeak-ng sounds a little different each time, and the ear does not get all of its words: the turn is found."""
    with raw(server.url) as client:
        client.send("session.update", session=TRANSCRIBED)
        client.append(bytes(48 * 300) + espeak("repeat after me hello world") + SILENCE)
        client.until("response.done")
    kinds = [e["type"] for e in client.seen]
    assert kinds.count("input_audio_buffer.speech_started") == 1
    heard = [e["transcript"] for e in client.seen if e["type"].endswith("input_audio_transcription.completed")]
    assert len(heard) == 1
    assert len(heard[0].split()) >= 3


def test_push_to_talk(server):
    with raw(server.url) as client:
        client.send("session.update", session=MANUAL)
        client.append(flite("what can you do"))
        client.send("input_audio_buffer.commit")
        client.send("response.create")
        done = client.until("response.done")["response"]
        item_id = next(e["item_id"] for e in client.seen if e["type"] == "input_audio_buffer.committed")
        client.send("conversation.item.retrieve", item_id=item_id)
        item = client.until("conversation.item.retrieved")["item"]
    assert "demo brain" in done["output"][0]["content"][0]["transcript"]
    assert base64.b64decode(item["content"][0]["audio"]) == flite("what can you do")


def test_a_function_call_and_its_answer(server):
    tool = {
        "type": "function",
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
    with raw(server.url) as client:
        client.send("session.update", session={"type": "realtime", "output_modalities": ["text"], "tools": [tool]})
        client.say("What is the weather in Paris?")
        client.send("response.create")
        done = client.until("response.done")["response"]
        (call,) = done["output"]
        assert (call["type"], call["name"]) == ("function_call", "get_weather")
        assert json.loads(call["arguments"]) == {"city": "Paris"}
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": '{"temperature": 21}'}
        client.send("conversation.item.create", item=output)
        client.send("response.create")
        client.until("response.created")
        done = client.until("response.done")["response"]
    assert done["output"][0]["content"][0]["text"] == "The tool says: temperature is 21."


def test_out_of_band_beside_the_conversation():
    with LocalServer(parts=Parts(brain=Endless())) as server, raw(server.url) as client:
        client.send("response.create")
        client.until("response.output_audio.delta")
        client.send("response.create", response={"conversation": "none", "input": [], "max_output_tokens": 40})
        while True:
            done = client.until("response.done")["response"]
            assert done["conversation_id"] is None
            break
        assert done["status"] == "incomplete"
        client.send("response.cancel")
        assert client.until("response.done")["response"]["status"] == "cancelled"


# --- interruption ---


def test_cancel_stops_the_answer_at_once():
    brain = Endless()
    with LocalServer(pace=0, parts=Parts(brain=brain)) as server, raw(server.url) as client:
        client.send("response.create")
        client.until("response.output_audio.delta")
        client.send("response.cancel")
        done = client.until("response.done")["response"]
        assert done["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
        assert brain.stopped.wait(WAIT_S)
        client.until("rate_limits.updated")
        client.say("still here")
        assert client.next()["type"] == "conversation.item.added", "nothing of the answer comes after its end"


def test_speech_interrupts_a_running_answer():
    brain = Endless()
    with LocalServer(pace=10, parts=Parts(brain=brain)) as server, raw(server.url) as client:
        client.send("response.create")
        client.until("response.output_audio.delta")
        client.append(flite("please stop"))
        client.until("input_audio_buffer.speech_started")
        done = client.until("response.done")["response"]
        assert done["status_details"]["reason"] == "turn_detected"
        item = done["output"][0]
        client.send("conversation.item.truncate", item_id=item["id"], content_index=0, audio_end_ms=50)
        client.until("conversation.item.truncated")
    assert brain.stopped.wait(WAIT_S)


def test_two_sessions_do_not_mix(server):
    with raw(server.url) as one, raw(server.url) as two:
        for client, word in ((one, "apple"), (two, "banana")):
            client.say(f"spell {word}")
            client.send("response.create")
        answers = [client.until("response.done")["response"]["output"][0]["content"][0] for client in (one, two)]
        assert server.sessions == 2
    assert "A, P, P" in answers[0]["transcript"]
    assert "B, A, N" in answers[1]["transcript"]


def test_a_broken_brain_fails_its_answer_only(caplog):
    class Broken:
        def reply(self, turn: BrainTurn) -> Iterator[Say]:
            yield Say("I think ")
            raise ZeroDivisionError

    with LocalServer(pace=0, parts=Parts(brain=Broken())) as server, raw(server.url) as client:
        client.send("response.create")
        done = client.until("response.done")["response"]
        assert done["status"] == "failed"
        client.say("still here")
        client.until("conversation.item.added")
    assert "ZeroDivisionError" in caplog.text


def test_a_fault_of_the_server_ends_its_session_with_1011(server, caplog, monkeypatch):
    from realtime_client.local.engine import Engine

    with raw(server.url) as other, raw(server.url) as client:
        other.next()
        client.next()
        monkeypatch.setattr(Engine, "_receive", lambda *_: 1 / 0)
        client.say("hello")
        with pytest.raises(ConnectionClosed) as caught:
            client.next()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1011
        monkeypatch.undo()
        other.say("hello")
        other.until("conversation.item.added")
    assert "a session failed: ZeroDivisionError" in caplog.text


def test_the_session_ends_when_its_time_is_over():
    with LocalServer(session_s=0.3) as server, raw(server.url) as client:
        client.until("error")
        with pytest.raises(ConnectionClosed) as caught:
            client.next()
        assert client.seen[-1]["error"]["code"] == "session_expired"
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1001


def test_transcription_by_url(server):
    with raw(server.url + "?intent=transcription") as client:
        assert client.next()["session"]["type"] == "transcription"
        client.append(flite("tell me a story") + SILENCE)
        transcript = client.until("conversation.item.input_audio_transcription.completed")["transcript"]
    assert transcript == "tell me a story"
    assert "response.created" not in types(client.seen)


# --- who may come in ---


def test_token_by_header_and_by_subprotocol():
    with LocalServer(token="s3cret") as server:
        for headers in ({"Authorization": "Bearer s3cret"}, {"api-key": "s3cret"}):
            with raw(server.url, additional_headers=headers) as client:
                assert client.connection.subprotocol is None
        names = ["realtime", "openai-insecure-api-key.s3cret"]
        with raw(server.url, subprotocols=names, origin="https://some.site") as client:
            assert client.connection.subprotocol == "realtime"
        status, error = refused(server.url)
        assert (status, error["code"]) == (401, "invalid_api_key")
        assert refused(server.url, additional_headers={"Authorization": "Bearer wrong"})[0] == 401
        assert refused(server.url, subprotocols=["realtime", "openai-insecure-api-key.no"])[0] == 401


def test_paths(server):
    base = server.url.removesuffix("/v1/realtime")
    for path in ("/v1/realtime", "/openai/v1/realtime?model=m", "/openai/realtime?api-version=1&deployment=d"):
        with raw(base + path) as client:
            assert client.next()["type"] == "session.created"
    for path, shown in (("/v1/chat/completions", "/v1/chat/completions"), ("/", "/"), ("", "/")):
        status, error = refused(base + path)
        assert (status, error["code"]) == (404, "not_found")
        assert error["message"].startswith(f"Nothing here: {shown}. ")


def test_pages_of_other_sites_are_refused(server):
    for origin in ("https://evil.example", "null", "http://127.0.0.1.evil.example", "http://localhost.evil.example"):
        assert refused(server.url, origin=origin)[0] == 403
    for origin in ("http://localhost:3000", "http://127.0.0.1:8080", "http://[::1]:5173"):
        with raw(server.url, origin=origin) as client:
            assert client.next()["type"] == "session.created"


def test_beta_is_refused_unless_it_is_on(server):
    status, error = refused(server.url, additional_headers={"OpenAI-Beta": "realtime=v1"})
    assert (status, error["code"]) == (400, "beta_api_shape_disabled")
    status, error = refused(server.url, subprotocols=["realtime", "openai-beta.realtime-v1"])
    assert (status, error["code"]) == (400, "beta_api_shape_disabled")


def test_beta_shape():
    headers = {"OpenAI-Beta": "realtime=v1"}
    with LocalServer(beta=True, pace=0) as server:
        with raw(server.url, strict=False, additional_headers=headers) as client:
            session = {"modalities": ["text", "audio"], "voice": "echo", "turn_detection": None, "temperature": 0.7}
            session |= {"input_audio_format": "g711_ulaw", "output_audio_format": "g711_ulaw"}
            client.send("session.update", session=session)
            updated = client.until("session.updated")["session"]
            client.say("hello")
            client.send("response.create", response={"modalities": ["audio", "text"]})
            done = client.until("response.done")["response"]
            client.send("transcription_session.update", session={"turn_detection": None})
            client.until("session.updated")
        with raw(server.url) as client:
            assert client.next()["session"]["output_modalities"] == ["audio"], "others get the GA shape"
        kinds = set(types(client.seen))
    assert (updated["voice"], updated["output_audio_format"], updated["turn_detection"]) == ("echo", "g711_ulaw", None)
    assert done["output"][0]["content"][0]["type"] == "audio"
    assert done["modalities"] == ["audio", "text"]
    assert "conversation.item.done" not in kinds


def test_beta_transcription():
    with LocalServer(beta=True, pace=0) as server:
        headers = {"OpenAI-Beta": "realtime=v1"}
        with raw(server.url + "?intent=transcription", strict=False, additional_headers=headers) as client:
            session = {"input_audio_format": "pcm16", "input_audio_transcription": {"model": "whisper-1"}}
            client.send("transcription_session.update", session=session)
            updated = client.until("transcription_session.updated")["session"]
    assert updated["object"] == "realtime.transcription_session"
    assert updated["input_audio_transcription"] == {"model": "whisper-1"}


def test_beta_names_on_the_wire():
    with LocalServer(beta=True, pace=0) as server:
        with raw(server.url, strict=False, additional_headers={"OpenAI-Beta": "realtime=v1"}) as client:
            client.say("hello")
            client.send("response.create")
            client.until("response.done")
        kinds = set(types(client.seen))
    assert {"conversation.created", "conversation.item.created", "response.audio.delta"} <= kinds
    assert {"response.audio_transcript.delta", "response.audio.done"} <= kinds
    assert not {"conversation.item.added", "conversation.item.done", "response.output_audio.delta"} & kinds


def test_too_many_sessions():
    with LocalServer(max_sessions=1) as server, raw(server.url) as client:
        client.next()
        assert refused(server.url)[0] == 503


def test_a_plain_http_request_gets_an_http_answer(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=WAIT_S)
    connection.request("GET", "/v1/models")
    assert connection.getresponse().status == 404
    connection.close()


# --- bad input ---


def test_garbage_huge_and_truncated_frames_are_survived(server):
    with raw(server.url) as client:
        client.next()
        frames: list[str | bytes] = ["", "nope", "[1,2", '{"type":"response.create"', b"\x00\xff\xfe", "[" * 50_000]
        frames += ['{"type":"input_audio_buffer.append","audio":"!!"}', json.dumps({"type": "x" * 100_000})]
        frames += [json.dumps({"type": "conversation.item.create", "item": {"type": "message", "content": 5}})]
        for frame in frames:
            client.connection.send(frame)
            assert client.next()["type"] == "error", frame[:50]
        big = base64.b64encode(bytes(16 * 2**20)).decode()
        client.send("input_audio_buffer.append", audio=big)
        assert "15 MiB" in client.until("error")["error"]["message"]
        client.connection.send(iter(['{"type":"input_audio_', "buffer", '.clear"}']))  # in fragments
        client.until("input_audio_buffer.cleared")
        client.say("still here")
        client.until("conversation.item.added")


@pytest.mark.parametrize("role", ["user", "output"])
def test_a_huge_text_does_not_hold_up_other_clients(server, role):
    """9 MiB, the most that is taken: the others' answers come as if it were not there, give or take the machine."""
    text = "word " * 1_900_000
    with raw(server.url, strict=False) as big, raw(server.url, strict=False) as other:
        for client in (big, other):
            client.send("session.update", session={"type": "realtime", "output_modalities": ["text"]})
        if role == "output":
            call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
            big.send("conversation.item.create", item=call)
            result = {"type": "function_call_output", "call_id": "c", "output": text}
            big.send("conversation.item.create", item=result)
        else:
            big.say(text)
        big.send("response.create")
        longest = 0.0
        for _ in range(20):
            began = time.monotonic()
            other.say("hello")
            other.send("response.create")
            other.until("response.done")
            longest = max(longest, time.monotonic() - began)
        assert big.until("response.done")["response"]["status"] == "completed"
    assert longest < 2, "it took 28 s when the brain searched all of it"


def test_what_is_too_much_is_refused(server):
    with raw(server.url) as client:
        client.next()
        client.say("x" * (10 * 2**20 + 1))
        error = client.until("error")["error"]
        assert (error["code"], error["param"]) == ("string_above_max_length", "item.content[0].text")
        client.send("session.update", session={"type": "realtime", "tools": [[]] * 400_000})
        assert "more than 200000 objects and arrays" in client.until("error")["error"]["message"]
        client.say("still here")
        client.until("conversation.item.added")


@pytest.mark.parametrize("message", [b'{"type":"\xff"}', [b'{"event_id":"\xc3', b'"}'], [b"\xed\xa0\x80", b""]])
def test_text_that_is_not_utf_8_ends_the_connection(server, message):
    """RFC 6455, section 8.1. What came before it is answered; a character may be in two fragments."""
    with raw(server.url) as client:
        client.next()
        client.connection.send([b'{"type":"input_audio_buffer.clear","event_id":"\xc3', b'\xa9"}'], text=True)
        client.until("input_audio_buffer.cleared")
        client.connection.send(message, text=True)
        with pytest.raises(ConnectionClosed) as closed:
            client.next()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1007, "a text message must be UTF-8")


def test_bytes_that_are_no_websocket_are_survived(server):
    no_url = b"GET //[ HTTP/1.1\r\n\r\n"
    more = b"GET / HTTP/1.1\r\n\r\nnonsense"
    for junk in (b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\n\r\n", no_url, more, b"\x00" * 5_000, b""):
        with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S) as connection:
            connection.sendall(junk)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65_536):
                pass
    with raw(server.url) as client:
        client.next()
        client.connection.socket.sendall(b"\xff\xff\xff garbage inside an open connection")
        with pytest.raises(ConnectionClosed):
            client.next()
    with raw(server.url) as client:
        assert client.next()["type"] == "session.created"


def test_a_client_that_speaks_with_its_request_is_heard(server):
    create = b'{"type":"response.create"}'
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S) as connection:
        connection.sendall(REQUEST + bytes([0x81, 0x80 | len(create), 0, 0, 0, 0]) + create)
        heard = b""
        while b"response.created" not in heard:
            data = connection.recv(65_536)
            assert data
            heard += data


def test_a_client_that_vanishes_frees_its_session(server):
    with raw(server.url) as client:
        client.say("tell me a story")
        client.send("response.create")
        client.until("response.created")
        client.connection.socket.shutdown(socket.SHUT_RDWR)
    deadline = Deadline(WAIT_S)
    with raw(server.url) as client:
        while server.sessions > 1:
            assert not deadline.expired
            client.say("x")
            client.until("conversation.item.done")


# --- the end ---


def test_close_ends_sessions_with_1001_and_joins_all_threads():
    server = LocalServer(parts=Parts(brain=Endless()))
    server.start()
    with raw(server.url) as idle, raw(server.url) as busy:
        idle.next()
        busy.append(flite("hello"))
        busy.send("response.create")
        busy.until("response.output_audio.delta")
        mine = [t.name for t in threading.enumerate() if t.name.startswith("realtime-")]
        assert len([name for name in mine if name.startswith("realtime-serve-")]) == 4, "two threads a session"
        closer = threading.Thread(target=server.close)
        closer.start()
        for client in (idle, busy):
            with pytest.raises(ConnectionClosed) as caught:
                while True:
                    client.next()
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1001
        closer.join(WAIT_S)
    assert not [t for t in threading.enumerate() if t.name.startswith("realtime-")]
    server.close()


def test_close_does_not_wait_for_a_client_that_does_not_read():
    brain = Endless()
    server = LocalServer(pace=0, parts=Parts(brain=brain))
    server.start()
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S) as connection:
        connection.sendall(REQUEST)
        assert connection.recv(12).startswith(b"HTTP/1.1 101")
        create = b'{"type":"response.create"}'
        connection.sendall(bytes([0x81, 0x80 | len(create), 0, 0, 0, 0]) + create)
        until_it_stands(lambda: brain.said)  # the socket is full
        server.close(deadline_s=4.0)
    assert not [t for t in threading.enumerate() if t.name.startswith("realtime-")]


def test_a_port_in_use_is_one_clear_error(server):
    with pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1 port {server.port}"):
        LocalServer(port=server.port).start()
    for token in ("", " ", "\t\n"):
        with pytest.raises(UsageError, match="the token is empty"):
            LocalServer(token=token)
    for token in (" a", "a\n", "\xe4", "\udcff"):
        with pytest.raises(UsageError, match="no client could send this token"):
            LocalServer(token=token)
    assert server.loopback
    assert not LocalServer(host="0.0.0.0").loopback
