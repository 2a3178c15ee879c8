"""What callers hand in is judged in the call, and the session goes on."""

from __future__ import annotations

import array
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripted_server import Peer, ScriptedServer

import realtime_client
from realtime_client import errors
from realtime_client import updates as up
from realtime_client.audio.pcm import as_bytes, pcm16
from realtime_client.changes import Changes, ToolSpec
from realtime_client.client.client import RealtimeClient
from realtime_client.client.endpoint import Endpoint
from realtime_client.protocol import events as ev
from realtime_client.protocol import items
from realtime_client.protocol.session import RealtimeConfig
from realtime_client.session.limits import Limits
from realtime_client.updates import PCM16_24K, AudioFormat

LIMITS = Limits(open_timeout_s=5, close_timeout_s=2, ping_interval_s=0)
RAMP = np.arange(-4, 4, dtype=np.int16)
ULAW = AudioFormat("ulaw", 8000)


# --- audio ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "audio",
    [
        RAMP.tobytes(),
        bytearray(RAMP.tobytes()),
        memoryview(RAMP.tobytes()),
        RAMP,
        RAMP.reshape(-1, 1),
        RAMP.astype(">i2"),
        memoryview(RAMP),
        array.array("h", RAMP.tolist()),
        np.frombuffer(RAMP.tobytes(), np.uint8),
        np.ascontiguousarray(np.repeat(RAMP, 2)[::2]),
    ],
    ids=lambda audio: f"{type(audio).__name__}-{getattr(audio, 'dtype', '')}",
)
def test_audio_with_one_clear_meaning(audio: Any) -> None:
    assert as_bytes(audio, PCM16_24K) == RAMP.astype("<i2").tobytes()


@pytest.mark.parametrize(
    ("audio", "audio_format", "says"),
    [
        ("text", PCM16_24K, "not str"),
        ([0, 1, 2], PCM16_24K, "not list"),
        (None, PCM16_24K, "not NoneType"),
        (5, PCM16_24K, "not int"),
        (b"odd", PCM16_24K, "half a sample"),
        (RAMP[::2], PCM16_24K, "C-contiguous"),
        (np.zeros((4, 2), np.int16), PCM16_24K, "mono"),
        (np.zeros(4, np.float32), PCM16_24K, "pcm16"),
        (np.zeros(4), PCM16_24K, "pcm16"),
        (np.zeros(4, np.float16), PCM16_24K, "pcm16"),
        (np.zeros(4, np.int32), PCM16_24K, "16-bit integers"),
        (array.array("d", [0.0]), PCM16_24K, "pcm16"),
        (RAMP, ULAW, "takes ulaw"),
    ],
)
def test_audio_without(audio: Any, audio_format: AudioFormat, says: str) -> None:
    with pytest.raises(errors.UsageError, match=says):
        as_bytes(audio, audio_format)


def test_bytes_are_not_copied() -> None:
    audio = RAMP.tobytes()
    assert as_bytes(audio, PCM16_24K) is audio
    assert as_bytes(b"odd", ULAW) == b"odd"


def test_floats_through_a_helper_that_says_so() -> None:
    assert realtime_client.pcm16 is pcm16
    wanted = np.array([0, 32_767, -32_767, 16_384, -16_384], "<i2").tobytes()
    samples = [0.0, 1.0, -1.0, 0.5, -0.5]
    for given in (samples, np.array(samples), np.array(samples, np.float32), np.array(samples)[:, None]):
        assert pcm16(given) == wanted
    assert pcm16(np.array([1.005, -1.005])) == np.array([32_767, -32_767], "<i2").tobytes()


@pytest.mark.parametrize(
    ("samples", "says"),
    [
        (np.array([0, 1000], np.int16), "takes 16-bit integers"),
        ([0, 1], "must be floats"),
        (np.array([0.0, 12_000.0]), "the loudest is 12000"),
        (np.array([0.0, np.nan]), "no numbers"),
        (np.zeros((3, 2)), "mono"),
        ("text", "not str"),
        (None, "not NoneType"),
    ],
)
def test_samples_that_are_none(samples: Any, says: str) -> None:
    with pytest.raises(errors.UsageError, match=says):
        pcm16(samples)


# --- the session's methods --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client() -> Iterator[RealtimeClient]:
    def script(peer: Peer) -> None:
        peer.greet()
        while True:
            if peer.receive()["type"] == "response.create":
                peer.answer()

    with (
        ScriptedServer(script) as server,
        RealtimeClient(Endpoint(url=server.url, proxy=None), limits=LIMITS) as client,
    ):
        yield client


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda it: it.send_text(5), "must be text"),
        (lambda it: it.send_text(b"bytes"), "must be text"),
        (lambda it: it.send_text(" \n"), "empty"),
        (lambda it: it.send_text("half \ud83d"), "at character 6 it holds half of a surrogate pair"),
        (lambda it: it.send_text("byte \udcff"), "surrogate"),
        (lambda it: it.send_audio("text"), "bytes"),
        (lambda it: it.send_audio([1, 2]), "bytes"),
        (lambda it: it.send_audio(np.zeros(4, np.float32)), "pcm16"),
        (lambda it: it.send_audio(b"odd"), "half a sample"),
        (lambda it: it.send_audio(RAMP[::2]), "C-contiguous"),
        (lambda it: it.ask(), "either text or audio"),
        (lambda it: it.ask("a", audio=b"ab"), "either text or audio"),
        (lambda it: it.ask(5), "must be text"),
        (lambda it: it.ask(audio=b""), "empty"),
        (lambda it: it.ask(audio="text"), "bytes"),
        (lambda it: it.respond(instructions="\ud800"), "surrogate"),
        (lambda it: it.respond(metadata={object()}), "cannot be sent as JSON"),
        (lambda it: it.add_item("text"), "must be an item"),
        (lambda it: it.add_item(items.user_text("\ud800")), "surrogate"),
        (lambda it: it.send_tool_result("unknown", "5"), "no call 'unknown'"),
        (lambda it: it.send_tool_result("unknown", {"a": 1}), "output of a tool must be text"),
        (lambda it: it.send_tool_result(5, "x"), "call_id must be text"),
        (lambda it: it.approve(5, approve=True), "request_id must be text"),
        (lambda it: it.update_session({"voice": "x"}), "RealtimeConfig"),
        (lambda it: it.update_session(RealtimeConfig(instructions="\ud800")), "surrogate"),
        (lambda it: it.send_event({"type": "response.create"}), "message of a client"),
        (lambda it: it.send_event(ev.ResponseCreate(response={"a": {1}, "b": object()})), "cannot be sent as JSON"),
        (lambda it: it.send_event(ev.ConversationItemDelete(item_id="\ud800")), "surrogate"),
        (lambda it: it.tell("text"), "an update"),
        (lambda it: it.commit(), "only 0 ms"),
        (lambda it: it.observe(5), "must be callable"),
        (lambda it: it.observe_events(None), "must be callable"),
        (lambda it: it.next_answer(after=5), "must be callable"),
        (lambda it: it.updates("x"), "number of seconds"),
        (lambda it: it.ask("a", timeout_s=float("nan")), "number of seconds"),
        (lambda it: it.approve("r", approve="yes"), "True or False"),
        (lambda it: it.approve("r", approve=False, reason="\ud800"), "surrogate"),
        (lambda it: it.respond(metadata="abc"), "metadata"),
        (lambda it: it.change({"voice": "x"}), "changes of settings"),
        (lambda it: it.change(Changes(turn_end="foo")), "Invalid enum value 'foo'"),
        (lambda it: it.change(Changes(tools=("x",))), "Expected `object`"),
        (lambda it: it.change(Changes(voice=5)), "Expected `str"),
        (lambda it: it.change(Changes(tools=(ToolSpec(name="x", parameters="y"),))), "Expected `object"),
        (lambda it: it.interrupt(5), "cause must be text"),
        (lambda it: it.updates(timeout_s=-1), "must not be negative"),
        (lambda it: it.ask("a", timeout_s=-1), "must not be negative"),
        (lambda it: it.reconnect("ws://x"), "where to connect to"),
        (lambda it: it.add_item(items.Item(type="message", id=[1])), "cannot be sent"),
        (lambda it: it.add_item(items.Item(type="message", content=5)), "cannot be sent"),
        (lambda it: it.update_session(RealtimeConfig(instructions=object())), "cannot be sent"),
        (lambda it: it.send_event(ev.ResponseCreate(response=5)), "cannot be sent"),
        (lambda it: it.send_event(ev.ConversationItemCreate(item=None)), "cannot be sent"),
        (lambda it: it.send_event(ev.InputAudioBufferAppend(audio="text")), "bytes"),
        (lambda it: it.send_event(ev.InputAudioBufferAppend(audio=b"odd")), "half a sample"),
        (lambda it: it.send_event(ev.InputAudioBufferAppend(audio=b"ab", event_id="\ud800")), "surrogate"),
    ],
)
def test_arguments_are_judged_in_the_call(
    client: RealtimeClient, call: Callable[[RealtimeClient], object], says: str
) -> None:
    sent = client.stats().traffic.frames_out
    with pytest.raises(errors.UsageError, match=says):
        call(client)
    assert client.stats().traffic.frames_out == sent
    assert client.ask("still here?", timeout_s=5).text == "Hello."


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda _: realtime_client.connect("ws://x"), "connect\\(url="),
        (lambda _: realtime_client.connect(tools="tools.py"), "tools=.* tool_files=.*, not str"),
        (lambda _: realtime_client.connect(tools=print), "a list of functions.* not builtin_function"),
        (lambda _: realtime_client.connect(asks="yes"), "asks=True or asks=False, not str"),
        (lambda _: realtime_client.load_settings({"locl": True}), "no setting 'locl'"),
        (lambda _: Endpoint(url=5), "url must be text"),
        (lambda _: RealtimeClient(Endpoint(url="ws://x"), limits=Limits(ping_interval_s="x")), "limits"),
        (lambda _: RealtimeClient(Endpoint(url="ws://x"), limits=5), "limits"),
        (lambda _: realtime_client.read_audio("x.wav", 5), "AudioFormat"),
        (lambda path: realtime_client.write_audio(path, "abc", up.PCM16_24K), "bytes"),
        (lambda path: realtime_client.write_audio(path, b"abc", up.PCM16_24K), "half a sample"),
    ],
)
def test_arguments_are_judged_before_there_is_a_session(
    call: Callable[[Path], object], says: str, tmp_path: Path
) -> None:
    with pytest.raises(errors.UsageError, match=says):
        call(tmp_path / "w.wav")
    assert not (tmp_path / "w.wav").exists()


def test_a_time_limit_without_end(client: RealtimeClient) -> None:
    for timeout_s in (float("inf"), 1e12):
        assert client.ask("hello", timeout_s=timeout_s).text == "Hello."


def test_nothing_is_no_audio(client: RealtimeClient) -> None:
    sent = client.stats().traffic.frames_out
    client.send_audio(b"")
    assert client.stats().traffic.frames_out == sent


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"token": "a b"}, "^argument token: the value holds a space"),
        ({"speed": "quick"}, "^argument speed: the value 'quick' must be a number"),
        ({"open_timeout_s": -1}, "^argument open_timeout_s: "),
        ({"proxy": "x"}, "^argument proxy: a proxy looks like"),
        ({"url": "ws://h", "local": True}, "^argument url and argument local name two servers"),
    ],
)
def test_what_a_program_gives_is_named_as_it_gave_it(values: dict[str, Any], says: str) -> None:
    with pytest.raises(errors.UsageError, match=says), realtime_client.connect(**{"url": "ws://h", **values}):
        pass


def test_connect_without_with() -> None:
    session = realtime_client.connect(local=True, record=False)
    with pytest.raises(errors.UsageError, match=r"with realtime_client\.connect"):
        session.ask("hello")
    with pytest.raises(errors.UsageError, match=r"with realtime_client\.connect"):
        session.send_text("hello")


def test_the_shape_of_an_answer_for_people() -> None:
    from realtime_client.session.answer import Answer

    answer = Answer(text="x" * 500, audio=bytes(48_000_000), audio_format=PCM16_24K, status="completed")
    assert len(repr(answer)) < 200
    assert "48000000 bytes, 1000.0 s" in repr(answer)
    assert Answer(text=" ", audio=b"", audio_format=PCM16_24K, status="completed").empty


# --- requests that a server does not answer -------------------------------------------------------------------------


def session(script: Callable[[Peer], None], **limits: Any) -> Any:
    server = ScriptedServer(script)
    values = {"open_timeout_s": 5, "close_timeout_s": 2, "ping_interval_s": 0, **limits}
    return server, RealtimeClient(Endpoint(url=server.url, proxy=None), limits=Limits(**values))


def test_a_refusal_without_a_name_is_told_with_the_servers_words() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive("response.create")
        peer.send(type="error", event_id="e", error="out of capacity")
        peer.receive("response.create")
        peer.answer("Now.")
        peer.read_all()

    server, client = session(script)
    with server, client:
        with pytest.raises(errors.ResponseFailedError, match="out of capacity"):
            client.ask("hello", timeout_s=20)
        assert not client.answering
        assert client.ask("and now?", timeout_s=5).text == "Now."


def test_a_server_that_never_answers() -> None:
    arrived = threading.Event()

    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive("response.create")
        assert arrived.wait(10)
        peer.answer("Late.", "resp_1")
        peer.receive("response.create")
        peer.answer("In time.", "resp_2")
        peer.read_all()

    server, client = session(script, answer_timeout_s=0.3)
    with server, client, client.updates(timeout_s=10) as updates:
        with pytest.raises(errors.ResponseFailedError, match=r"not answered for 0\.3 s") as caught:
            client.ask("hello", timeout_s=20)
        assert caught.value.code == "request_unanswered"
        arrived.set()
        late = next(update for update in updates if isinstance(update, up.ResponseDone))
        assert late.text == "Late."  # still shown
        assert client.ask("again", timeout_s=5).text == "In time."


def test_cancel_frees_a_session_with_a_silent_server() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive("response.create")
        peer.receive("response.create")
        peer.answer("Yes.")
        peer.read_all()

    server, client = session(script)
    with server, client:
        client.send_text("to nobody")
        assert client.answering
        assert client.cancel()
        assert not client.answering
        assert client.ask("are you there?", timeout_s=20).text == "Yes."


def test_somebody_elses_error_does_not_fail_an_answer() -> None:
    """A proxy in between asks for answers of its own, and their refusals come to us."""
    busy = {"type": "x", "code": "conversation_already_has_active_response", "message": "active: resp_1"}

    def script(peer: Peer) -> None:
        peer.greet()
        for n in range(20):
            peer.receive("response.create")
            peer.send(type="response.created", event_id="e", response={"id": f"resp_{n}"})
            peer.send(type="error", event_id="e", error=busy)
            peer.send(type="error", event_id="e", error={"message": "unrelated", "event_id": "event_proxy"})
            part = {"response_id": f"resp_{n}", "item_id": f"i{n}", "output_index": 0, "content_index": 0}
            peer.send(type="response.output_text.delta", event_id="e", delta="Done.", **part)
            peer.send(type="response.done", event_id="e", response={"id": f"resp_{n}", "status": "completed"})
        peer.read_all()

    server, client = session(script)
    with server, client:
        for _ in range(20):
            assert client.ask("hello", timeout_s=5).text == "Done."
        assert not client.answering


def test_the_answer_that_is_ours_takes_the_place_of_one_that_seemed_to_be() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive("response.create")
        where = {"response_id": "resp_stray", "item_id": "i", "output_index": 0, "content_index": 0}
        peer.send(type="response.output_text.delta", event_id="e", delta="stray", **where)
        peer.answer("Ours.", "resp_1")
        peer.read_all()

    server, client = session(script)
    with server, client:
        assert client.ask("hello", timeout_s=5).text == "Ours."


def test_a_full_outbox_changes_no_mind() -> None:
    """A decision whose messages find no room is not made: afterwards nothing waits for an answer."""
    hold = threading.Event()

    def script(peer: Peer) -> None:
        peer.greet()
        assert hold.wait(20)
        peer.receive("response.create")
        peer.answer()
        peer.read_all()

    server, client = session(script, outbox_queue=4, write_timeout_s=0.1)
    with server, client:
        big = "x" * 200_000
        sent = 0
        with pytest.raises(errors.QueueFullError):
            while True:
                client.send_text(big, respond=False)
                sent += 1
        for call in (lambda: client.send_text("hello"), client.respond):
            with pytest.raises(errors.QueueFullError):
                call()
            assert not client.answering
        hold.set()
        ends = time.monotonic() + 20
        while not _asked(client):  # each try waits for room by itself
            assert time.monotonic() < ends
        assert client.stats().traffic.frames_out >= sent


def _asked(client: RealtimeClient) -> bool:
    try:
        return client.ask("hello", timeout_s=10).text == "Hello."
    except errors.QueueFullError:
        return False
