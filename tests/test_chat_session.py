"""Sessions with text models over real sockets: threads, connections, cancels, limits, endings."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from text_server import DONE, Request, Script, TextServer, answers, delta, drops, ends, refuses, silent, stream

from realtime_client import updates as up
from realtime_client.chat.breaker import BreakerState, MemoryStore
from realtime_client.chat.limits import ChatLimits
from realtime_client.chat.orders import Wishes
from realtime_client.chat.place import Place
from realtime_client.chat.session import ChatSession
from realtime_client.chat.wires.openai_chat import OpenAIChat
from realtime_client.chat.wires.pieces import FinishPiece, Piece
from realtime_client.deadline import SYSTEM_CLOCK
from realtime_client.errors import ClosedError, RealtimeError, ResponseFailedError, UsageError

WAIT_S = 10.0


def place(server: TextServer, name: str = "one", **more: Any) -> Place:
    return Place(provider="openai", model=name, base_url=server.url, wire=OpenAIChat(), **more)


def session(*servers: TextServer, wishes: Wishes | None = None, **limits: Any) -> ChatSession:
    places = [place(server, f"m{n}") for n, server in enumerate(servers)]
    limits = {"retry_delay_s": 0.001, **limits}
    return ChatSession(places, wishes=wishes, chat_limits=ChatLimits(**limits), breakers=MemoryStore())


@contextmanager
def talking(*scripts: Script, **limits: Any) -> Iterator[tuple[TextServer, ChatSession]]:
    with TextServer(*scripts) as server, session(server, **limits) as client:
        yield server, client


def until(client: ChatSession, kind: type[up.Update], after: Callable[[], object] = bool) -> Any:
    """Wait for an update of a kind."""
    with client.updates(timeout_s=WAIT_S) as updates:
        after()
        return next(update for update in updates if isinstance(update, kind))


# --- a conversation ---------------------------------------------------------------------------------------------------


def test_two_turns_over_one_connection():
    with talking(answers("Hello", " there."), answers("Yes.")) as (server, client):
        first = client.ask("Hi?", timeout_s=WAIT_S)
        assert (first.text, first.status) == ("Hello there.", "completed")
        assert first.usage is not None
        assert first.usage.output_tokens == 3
        assert client.ask("Still there?", timeout_s=WAIT_S).text == "Yes."
        said = [message["content"] for message in server.requests[1].json["messages"]]
        assert said == ["Hi?", "Hello there.", "Still there?"]
        assert server.connections == 1
        assert client.facts.abilities.audio_in is False
        assert client.where == server.host
    stats = client.stats()
    assert (stats.turn_count, stats.traffic.frames_out) == (2, 2)
    assert all(turn.first_text_ms is not None and turn.first_text_ms >= 0 for turn in stats.turns)


def test_pieces_come_as_they_are_sent():
    more = threading.Event()
    with talking(stream(delta("One"), more, delta(", two."), ends())) as (_, client):
        with client.updates(timeout_s=WAIT_S) as updates:
            client.send_text("Count.")
            first = next(update for update in updates if isinstance(update, up.TextDelta))
            more.set()
            second = next(update for update in updates if isinstance(update, up.TextDelta))
        assert [first.text, second.text] == ["One", ", two."]


def test_a_server_that_does_not_stream_answers_all_the_same():
    with talking(answers("All at once.")) as (_, client):
        assert client.ask("Hi?", timeout_s=WAIT_S).text == "All at once."
    with TextServer(answers("All at once.")) as server, session(server, wishes=Wishes(streaming=False)) as client:
        assert client.ask("Hi?", timeout_s=WAIT_S).text == "All at once."
        assert server.requests[0].json["stream"] is False


def test_several_answers_are_several_streams_at_once():
    together = threading.Barrier(3)

    def meets(request: Request) -> None:
        together.wait(WAIT_S)  # nobody answers before all were asked
        answers(f"Answer on {request.connection}.")(request)

    with talking(meets) as (server, client):
        with client.updates(timeout_s=WAIT_S) as updates:
            client.send_text("A colour?", answers=3)
            offered = next(each for each in updates if isinstance(each, up.Alternatives) and len(each.texts) == 3)
        assert len(set(offered.texts)) == 3
        assert server.connections == 3


def test_ask_for_several_answers_waits_for_all_of_them():
    late = threading.Event()
    over: list[str] = []

    def script(request: Request) -> None:
        if request in server.requests[2:3]:
            request.wait(late)  # whichever it is: the last one is there when the others are over
        answers(f"Answer {server.requests.index(request)}.")(request)

    def count(piece: Piece) -> None:
        if isinstance(piece, FinishPiece):
            over.append(piece.stream)
            if len(over) == 2:
                late.set()

    with TextServer(script) as server, session(server) as client:
        client.watch(count)
        answer = client.ask("A colour?", answers=3, timeout_s=WAIT_S)
        assert {answer.text, *answer.alternatives} == {"Answer 0.", "Answer 1.", "Answer 2."}
        assert "alternatives='<2>'" in repr(answer)
        assert client.ask("And one?", timeout_s=WAIT_S).alternatives == ()


def test_tools_are_called_and_their_results_go_back():
    calls = [{"index": 0, "id": "call_1", "function": {"name": "clock", "arguments": "{}"}}]
    with talking(stream(delta(tool_calls=calls), delta(finish="tool_calls"), DONE), answers("It is noon.")) as (
        server,
        client,
    ):
        call = until(client, up.ToolCall, lambda: client.send_text("What time is it?"))
        answer = client.next_answer(after=lambda: client.send_tool_result(call.call_id, "noon"), timeout_s=WAIT_S)
        assert answer.text == "It is noon."
        roles = [message["role"] for message in server.requests[1].json["messages"]]
        assert roles == ["user", "assistant", "tool"]


def test_what_it_has_no_sound_for_is_refused():
    with talking(answers("Hi.")) as (_, client):
        for call in (lambda: client.send_audio(b"\0\0"), client.commit, client.clear_input):
            with pytest.raises(UsageError, match="takes text, not sound"):
                call()
        for text in ("", "  \n"):
            with pytest.raises(UsageError, match="empty"):
                client.send_text(text)
        with pytest.raises(UsageError):
            client.send_text("Hi", answers="3")  # type: ignore[arg-type]


def test_images_go_with_what_is_said():
    image = "data:image/png;base64,iVBORw0KGgo="
    with talking(answers("A cat.")) as (server, client):
        until(client, up.ResponseDone, lambda: client.send_text("What is this?", images=[image]))
        content = server.requests[0].json["messages"][0]["content"]
        assert [part["type"] for part in content] == ["image_url", "text"]
        assert content[0]["image_url"]["url"] == image


# --- cancel -----------------------------------------------------------------------------------------------------------


def test_cancel_in_mid_stream_is_seen_by_the_server_and_the_text_stays():
    with talking(stream(delta("One, "), lambda request: request.wait_gone()), answers("Yes.")) as (server, client):
        until(client, up.TextDelta, lambda: client.send_text("Count."))
        done = until(client, up.ResponseDone, client.cancel)
        assert (done.status, done.text) == ("cancelled", "One, ")
        assert server.request(0).gone.wait(WAIT_S)
        assert client.ask("Still there?", timeout_s=WAIT_S).text == "Yes."
        said = [message["content"] for message in server.requests[1].json["messages"]]
        assert said == ["Count.", "One, ", "Still there?"]


def test_cancel_before_the_head_came_is_seen_by_the_server():
    with talking(answers("First."), silent, answers("Yes.")) as (server, client):
        client.ask("Hi?", timeout_s=WAIT_S)  # so that the next request goes over a connection that is open
        client.send_text("Slow?")
        request = server.request(1)
        assert request.connection == 0
        assert client.cancel() is True
        assert request.gone.wait(WAIT_S)
        assert client.ask("Still there?", timeout_s=WAIT_S).text == "Yes."


def test_cancel_while_connecting_ends_the_stream():
    def script(request: Request) -> None:
        last = request.json["messages"][-1]["content"] == "And now?"
        answers("Hi.")(request) if last else request.wait_gone()

    with TextServer(script) as server:
        client = session(server)
        with client:
            for _ in range(20):
                client.send_text("Hi?")
                assert client.cancel() is True
            assert client.ask("And now?", timeout_s=WAIT_S).text == "Hi."


def test_a_cancel_elsewhere_leaves_a_connection_alone():
    held = threading.Event()
    with talking(answers("One."), stream(delta("A"), held, ends()), answers("B."), answers("C.")) as (server, client):
        client.ask("First?", timeout_s=WAIT_S)
        until(client, up.TextDelta, lambda: client.send_text("Second?"))
        client.cancel()
        held.set()
        client.ask("Third?", timeout_s=WAIT_S)
        client.ask("Fourth?", timeout_s=WAIT_S)
        assert [request.connection for request in server.requests] == [0, 0, 1, 1]


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "limits", "says"),
    [
        (silent, {"first_byte_s": 0.2}, "said nothing within 0.2 s"),
        (stream(lambda request: request.wait_gone()), {"silence_s": 0.2}, "was silent for 0.2 s"),
        (stream(lambda request: request.wait_gone()), {"stream_timeout_s": 0.2}, "took longer than 0.2 s"),
    ],
    ids=["first byte", "silence", "whole"],
)
def test_a_server_that_takes_too_long_is_left(script: Script, limits: dict[str, float], says: str):
    with talking(script, retries=0, **limits) as (server, client):
        with pytest.raises(RealtimeError, match=says):
            client.ask("Hi?", timeout_s=WAIT_S)
        assert server.request(0).gone.wait(WAIT_S)


class Jumping:
    """A clock that jumps, and sees when the coordinator has looked at it twice since."""

    def __init__(self) -> None:
        self.looked = threading.Event()
        self._ahead_s = 0.0
        self._looks = 0

    def wall(self) -> float:
        return SYSTEM_CLOCK.wall()

    def monotonic(self) -> float:
        if threading.current_thread().name == "realtime-coordinator":
            self._looks += 1
            if self._looks > _LOOKS:
                self.looked.set()
        return SYSTEM_CLOCK.monotonic() + self._ahead_s

    def jump(self, seconds: float) -> None:
        self._ahead_s += seconds

    def look_again(self) -> None:
        self.looked.clear()
        self._looks = 0


_LOOKS = 6  # two rounds of the coordinator, whichever it is in


def test_the_time_of_an_answer_begins_with_its_first_sign():
    """A model that is being loaded may take longer than the whole answer then does."""
    clock = Jumping()

    def script(request: Request) -> None:
        clock.jump(200)  # of the 300 s that the first sign may take
        request.head()
        request.send(delta("Here"))
        clock.look_again()
        request.wait(clock.looked)
        request.send(delta(" at last.") + ends())
        request.end()

    with TextServer(script) as server:
        client = ChatSession([place(server, "m")], breakers=MemoryStore(), clock=clock)
        with client:
            assert client.ask("Hi?", timeout_s=200 + WAIT_S).text == "Here at last."
        assert len(server.requests) == 1


def test_a_server_that_hangs_up_is_told_in_plain_words():
    with talking(stream(delta("One, "), end=False), retries=0) as (_, client):
        failure = until(client, up.Failure, lambda: client.send_text("Hi?"))
    assert failure.message == "the answer was cut: the server ended the connection"


def test_figures_after_the_end_are_awaited_for_a_moment_only():
    with talking(stream(delta("Hi."), delta(finish="stop"), lambda r: r.wait_gone()), grace_s=0.1) as (server, client):
        answer = client.ask("Hi?", timeout_s=WAIT_S)
        assert (answer.text, answer.status, answer.usage) == ("Hi.", "completed", None)
        assert server.request(0).gone.wait(WAIT_S)


# --- faults -----------------------------------------------------------------------------------------------------------


def test_a_refusal_in_the_servers_own_words():
    error = {
        "error": {"message": "Incorrect API key provided", "type": "invalid_request_error", "code": "invalid_api_key"}
    }
    with talking(refuses(401, error)) as (_, client):
        failure = until(client, up.Failure, lambda: client.send_text("Hi?"))
        assert failure.message.startswith("Incorrect API key provided")
        assert (failure.error_type, failure.action) == ("application", "fallback")


def test_a_busy_server_is_asked_again():
    with talking(refuses(503), refuses(429, retry_after="0"), answers("Now.")) as (server, client):
        assert client.ask("Hi?", timeout_s=WAIT_S).text == "Now."
        assert len(server.requests) == 3


def test_death_in_mid_stream_with_a_chain_of_two():
    with TextServer(stream(delta("One, two, thr"), drops)) as one, TextServer(answers("three, ", "four.")) as two:
        with session(one, two) as client, client.updates(timeout_s=WAIT_S) as updates:
            client.send_text("Count to four.")
            seen = []
            for update in updates:
                seen.append(update)
                if isinstance(update, up.ResponseDone):
                    break
        assert seen[-1].text == "One, two, three, four."
        sources = [update for update in seen if isinstance(update, up.AnswerSource)]
        assert [(source.offset, source.source) for source in sources] == [(13, "openai/m1")]


def test_death_in_mid_stream_with_a_chain_of_one():
    with talking(stream(delta("One, two, "), drops), answers("three.")) as (server, client):
        assert client.ask("Count.", timeout_s=WAIT_S).text == "One, two, three."
        assert len(server.requests) == 2


def test_nobody_is_there():
    with TextServer(answers("Hi.")) as server:
        gone = place(server)
    with ChatSession([gone], chat_limits=ChatLimits(retries=0), breakers=MemoryStore()) as client:
        failure = until(client, up.Failure, lambda: client.send_text("Hi?"))
    assert "cannot reach 127.0.0.1" in failure.message
    assert failure.error_type == "network"


def test_what_was_kept_is_sent_when_somebody_is_there_again():
    with talking(refuses(503), answers("Now."), retries=0) as (_, client):
        with client.updates(timeout_s=WAIT_S) as updates:
            client.send_text("Hi?")
            done = [next(u for u in updates if isinstance(u, up.ResponseDone)) for _ in range(2)]
        assert [each.status for each in done] == ["failed", "completed"]


def test_a_pause_is_no_longer_than_it_is_meant_to_be():
    """Nor does anybody wait for the coordinator's next look, which may be a quarter of a second away."""
    took = []
    with talking(*[refuses(503, retry_after="0.02"), answers("Now.")] * 4) as (_, client):
        for _ in range(4):
            before = time.monotonic()
            assert client.ask("Hi?", timeout_s=WAIT_S).text == "Now."
            took.append(time.monotonic() - before)
    assert min(took) < 0.2


def test_what_was_kept_while_nobody_could_be_asked_is_sent_later():
    store = MemoryStore()
    with TextServer(answers("Now.")) as server:
        there = place(server)
        until_s = time.monotonic() + 0.1
        down = BreakerState(state="open", until_s=until_s, reason="it was down")
        store.update(f"{there.base_url} {there.name}", lambda _new: (down, None))
        with ChatSession([there], chat_limits=ChatLimits(), breakers=store) as client:
            with client.updates(timeout_s=WAIT_S) as updates:
                client.send_text("Hi?")
                done = [next(u for u in updates if isinstance(u, up.ResponseDone)) for _ in range(2)]
            assert [(each.status, each.text) for each in done] == [("failed", ""), ("completed", "Now.")]


# --- endings ----------------------------------------------------------------------------------------------------------

STATES: dict[str, Script] = {
    "idle": answers("Hi."),
    "no head": silent,
    "in mid stream": stream(delta("One"), lambda request: request.wait_gone()),
    "after the finish": stream(delta("One"), delta(finish="stop"), lambda request: request.wait_gone()),
    "between two tries": refuses(503, retry_after="60"),
}


@pytest.mark.parametrize("state", STATES)
def test_it_closes_quickly_in_every_state(state: str):
    with TextServer(STATES[state]) as server:
        client = session(server, grace_s=60.0)
        with client:
            moment = {"in mid stream": up.TextDelta, "after the finish": up.TextDelta, "between two tries": up.Notice}
            if state == "no head":
                client.send_text("Hi?")
                server.request(0)
            elif state != "idle":
                until(client, moment[state], lambda: client.send_text("Hi?"))
            before = time.monotonic()
            client.close()
            assert time.monotonic() - before < 2
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("realtime-")]
        with pytest.raises(ClosedError):
            client.send_text("Hi?")


@pytest.mark.parametrize("where", ["an observer", "who decides about faults"])
def test_who_waits_is_told_when_the_end_is_asked_for_from_inside(where: str):
    script = stream(delta("One, "), lambda r: r.wait_gone()) if where == "an observer" else refuses(503)
    with TextServer(script) as server, session(server) as client:

        def ends(update: up.Update, _at_s: float) -> None:
            if update.kind == "text_delta":
                client.close()

        def decides(_fault: object, _place: object) -> None:
            client.close()

        client.observe(ends)
        client.decide_faults(decides)
        with pytest.raises((ClosedError, ResponseFailedError)) as ended:
            answer = client.ask("Hi?", timeout_s=WAIT_S)
            raise ResponseFailedError(f"the answer is {answer.status}")
        assert "within" not in str(ended.value)
        assert client.stop.is_set()
    if where == "an observer":
        assert server.request(0).gone.wait(WAIT_S)


def test_an_observer_that_fails_ends_the_session():
    with TextServer(stream(delta("One"), lambda request: request.wait_gone())) as server:
        client = session(server)

        def fails(update: up.Update, _at_s: float) -> None:
            if update.kind == "text_delta":
                raise RuntimeError("no")

        client.observe(fails)
        with pytest.raises(RuntimeError, match="no"):
            with client:
                client.send_text("Hi?")
                assert client.stop.wait(WAIT_S)
        assert server.request(0).gone.wait(WAIT_S)
