"""Text models with rude servers and rude programs: whatever they do, each call ends, and says what was wrong."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from test_chat_session import WAIT_S, place, session, talking, until
from text_server import TextServer, answers, delta, ends, in_turn, refuses, sse, stream

from realtime_client import updates as up
from realtime_client.changes import Changes
from realtime_client.chat.breaker import Breaker, BreakerPolicy, MemoryStore
from realtime_client.chat.limits import ChatLimits
from realtime_client.chat.place import Place
from realtime_client.chat.session import ChatSession
from realtime_client.chat.wires.ask import Ask, HttpRequest
from realtime_client.chat.wires.openai_chat import OpenAIChat
from realtime_client.errors import (
    NotRealtimeError,
    RealtimeError,
    ResponseFailedError,
    UsageError,
)

# --- programs ---------------------------------------------------------------------------------------------------------


def consulting(server: TextServer, on_error: Any) -> ChatSession:
    limits = ChatLimits(retry_delay_s=0.001, retries=1)
    return ChatSession([place(server)], chat_limits=limits, breakers=MemoryStore(), on_error=on_error)


def raises(error: type[BaseException]) -> Callable[[], object]:
    def act() -> object:
        raise error("no")

    return act


@pytest.mark.parametrize(
    "act", [raises(ValueError), raises(RuntimeError), lambda: sys.exit(3), lambda: "perhaps", list]
)
def test_an_on_error_that_fails_ends_the_answer(act: Callable[[], object]):
    with TextServer(refuses(500), answers("Now.")) as server:
        with consulting(server, lambda _fault, _place: act()) as client:
            with pytest.raises(ResponseFailedError, match="what decides about faults"):
                client.ask("Well?", timeout_s=WAIT_S)
            assert client.error is None


def test_on_error_may_call_the_session():
    said: list[object] = []

    def on_error(_fault: object, _place: object) -> None:
        said.append(client.stats().turn_count)
        with pytest.raises(UsageError, match="waits for updates"):
            client.ask("Why?")
        said.append(client.cancel())

    with TextServer(refuses(500)) as server, consulting(server, on_error) as client:
        assert client.ask("Well?", timeout_s=WAIT_S).status == "cancelled"
        assert said[1] is True


def test_on_error_may_close_the_session():
    with TextServer(refuses(500)) as server:
        with consulting(server, lambda _fault, _place: client.close()) as client:
            client.send_text("Well?")
            assert client.stop.wait(WAIT_S)


@pytest.mark.parametrize("act", [raises(ValueError), raises(ZeroDivisionError), lambda: sys.exit(3)])
def test_a_thread_that_fails_ends_the_session_for_whoever_waits(act: Callable[[], object]):
    with TextServer(answers("Hello.")) as server:
        client = session(server)
        client.observe_events(lambda _kind, _at_s: act())
        client.open()
        with pytest.raises(RealtimeError, match="internal error"):
            client.ask("Well?", timeout_s=60.0)  # it does not wait so long
        with pytest.raises((ValueError, ZeroDivisionError, SystemExit)):
            client.close()


def bad_maker() -> Any:
    raise KeyError("no")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (bad_maker, "KeyError"),
        (lambda _needs: str, "TypeError"),
        (lambda: sys.exit, "SystemExit"),
        (lambda: lambda text: text + "\ud83d", "UnicodeEncodeError"),
    ],
)
def test_a_filter_that_fails_ends_the_answer(make: Any, says: str):
    with talking(answers("Hello.")) as (_, client):
        client.add_filter(make)
        with pytest.raises(ResponseFailedError, match=f"a filter failed: {says}"):
            client.ask("Well?", timeout_s=WAIT_S)
        assert client.error is None


class SlowToAsk(OpenAIChat):
    """A wire whose first request takes until the test lets it go."""

    def __init__(self) -> None:
        self.began, self.go = threading.Event(), threading.Event()

    def request(self, ask: Ask) -> HttpRequest:
        self.began.set()
        assert self.go.wait(WAIT_S)
        return super().request(ask)


def test_however_many_answers_are_asked_for_and_cancelled_the_last_one_comes():
    wire = SlowToAsk()
    with TextServer(answers("Yes.")) as server:
        where = Place(provider="openai", model="one", base_url=server.url, wire=wire)
        with ChatSession([where], breakers=MemoryStore()) as client:
            client.send_text("Are you there?", answers=8)
            assert wire.began.wait(WAIT_S)
            for _ in range(300):
                client.retry(8)
            with client.updates(timeout_s=WAIT_S) as updates:
                client.retry()
                wire.go.set()
                done = next(
                    each for each in updates if isinstance(each, up.ResponseDone) and each.status != "cancelled"
                )
        assert done.text == "Yes."
        assert len(server.requests) < 20, "what was cancelled before it left is not asked"


def test_what_is_typed_while_the_model_is_left_alone_is_sent_when_it_answers():
    store = MemoryStore()
    with TextServer(answers("Yes.")) as server:
        where = place(server)
        breaker = Breaker(f"{where.base_url} {where.name}", store, BreakerPolicy(in_a_row=1, open_s=0.5))
        with ChatSession([where], breakers=store) as client, client.updates(timeout_s=WAIT_S) as updates:
            until(client, up.SessionChanged, lambda: client.change(Changes(instructions="Be brief.")))
            breaker.failed(client._clock.monotonic(), "out of order")  # as another session saw it
            client.send_text("Are you there?")
            assert next(each.text for each in updates if isinstance(each, up.ResponseDone) and each.text) == "Yes."


# --- servers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ["1" + "0" * 400, "1e308", "-5", '"x"', "true", "NaN", "Infinity"])
def test_times_that_are_none_are_left_out(number: str):
    timings = f'{{"choices": [], "timings": {{"prompt_ms": {number}, "predicted_ms": {number}}}}}'
    with talking(stream(delta("Hello."), delta(finish="stop"), sse(timings), sse("[DONE]"))) as (_, client):
        assert client.ask("Well?", timeout_s=WAIT_S).text == "Hello."
        figures = client.streams.stats()[-1]
        assert figures.prompt_s is None or 0 <= figures.prompt_s < 1e7


def test_cookies_are_not_kept():
    with talking(stream(delta("Hello."), ends(), Set_Cookie="a=b; Path=/"), answers("Yes.")) as (server, client):
        assert client.ask("Well?", timeout_s=WAIT_S).text == "Hello."
        assert client.ask("Well?", timeout_s=WAIT_S).text == "Yes."
        assert "cookie" not in server.requests[1].headers


@pytest.mark.parametrize(
    "greeting", [b"SSH-2.0-OpenSSH_9.6\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x46", b"220 mail\r\n\r\n"]
)
def test_a_server_that_does_not_speak_http_is_not_what_it_was_taken_for(greeting: bytes):
    def script(request: Any) -> None:
        request.raw(greeting)
        request.drop()

    with talking(script, retries=0) as (_, client):
        with pytest.raises(NotRealtimeError, match="does not keep to HTTP"):
            client.ask("Well?", timeout_s=WAIT_S)


def test_a_server_that_goes_on_after_the_end_does_not_hold_the_answer():
    def script(request: Any) -> None:
        request.head()
        request.send(delta("Hello."))
        request.send(delta(finish="stop"))
        while not request.gone.wait(0.02):
            request.send(b": still here\n\n")

    with talking(script, stream_timeout_s=0.3) as (_, client):
        assert client.ask("Well?", timeout_s=WAIT_S).text == "Hello."


@pytest.mark.parametrize("said", ["inf", "nan", "1e999", "-inf"])
@pytest.mark.parametrize("name", ["Retry_After", "Retry_After_Ms"])
def test_no_time_at_all_is_none_that_is_waited_for(name: str, said: str):
    with talking(in_turn(refuses(503, b"", **{name: said}), answers("Yes."))) as (_, client):
        assert client.ask("Well?", timeout_s=WAIT_S).text == "Yes."


def test_a_header_that_cannot_be_sent_is_not_shown():
    with TextServer(answers("Yes.")) as server:
        where = place(server, headers={"Authorization": "Bearer sk-first\nsecond"})
        with ChatSession([where], breakers=MemoryStore()) as client:
            with pytest.raises(RealtimeError, match="a header") as caught:
                client.ask("Well?", timeout_s=WAIT_S)
    assert "sk-first" not in str(caught.value)


def test_a_signer_that_refuses_is_told_in_one_line():
    def sign(*_: object) -> dict[str, str]:
        raise UsageError("the key is only sent over https")

    with TextServer(answers("Yes.")) as server:
        with ChatSession([place(server, sign=sign)], breakers=MemoryStore()) as client:
            with pytest.raises(UsageError, match="only sent over https"):
                client.ask("Well?", timeout_s=WAIT_S)


# --- breakers ---------------------------------------------------------------------------------------------------------


def test_a_probe_that_is_never_heard_of_again_does_not_hold_the_breaker_for_ever():
    breaker = Breaker("one", MemoryStore(), BreakerPolicy(in_a_row=1, open_s=30, lost_s=100))
    breaker.failed(0, "out of order")
    assert breaker.allows(30)  # its program dies
    assert not breaker.allows(129)
    assert breaker.allows(131)
    assert not breaker.allows(132)


def test_a_server_cannot_ask_to_be_left_alone_for_years():
    breaker = Breaker("one", MemoryStore(), BreakerPolicy(in_a_row=1, longest_s=3600))
    breaker.failed(0, "busy", retry_after_s=1e9)
    assert not breaker.allows(3599)
    assert breaker.allows(3600)


def test_an_answer_that_is_cut_for_its_length_gives_its_probe_back():
    store = MemoryStore()
    with TextServer(stream(delta("Hello, and much more."), ends())) as server:
        where = place(server)
        breaker = Breaker(f"{where.base_url} {where.name}", store, BreakerPolicy(in_a_row=1, open_s=0.0))
        breaker.failed(0.0, "out of order")
        with ChatSession([where], breakers=store, chat_limits=ChatLimits(answer_characters=5)) as client:
            for _ in range(2):
                assert client.ask("Well?", timeout_s=WAIT_S).status == "incomplete"
