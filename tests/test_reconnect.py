"""A connection that is lost is replaced under a running session: real servers, real sockets, exact faults."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from scripted_server import Peer, ScriptedServer

from realtime_client import errors
from realtime_client import updates as up
from realtime_client.changes import Changes, ToolSpec
from realtime_client.client.client import RealtimeClient
from realtime_client.client.endpoint import Endpoint
from realtime_client.history import Entry, Text
from realtime_client.local import LocalServer
from realtime_client.protocol.session import Audio, AudioInput, RealtimeConfig
from realtime_client.session.limits import Limits, Recovery
from realtime_client.settings import load_settings

WAIT_S = 10.0
LIMITS = Limits(open_timeout_s=5, close_timeout_s=5, write_timeout_s=2)
BY_HAND = RealtimeConfig(audio=Audio(input=AudioInput(turn_detection=None)))


@contextmanager
def session(
    server: LocalServer | ScriptedServer | str, **more: Any
) -> Iterator[tuple[RealtimeClient, list[up.Update]]]:
    """A session that recovers, and what is told of it."""
    url = server if isinstance(server, str) else server.url
    more = {"recovery": Recovery(reconnect_s=30.0), "limits": LIMITS, **more}
    told: list[up.Update] = []
    client = RealtimeClient(Endpoint(url=url, proxy=None), **more)
    client.observe(lambda update, _at_s: told.append(update))
    with client:
        yield client, told


def of(kind: type[up.Update], told: list[up.Update]) -> list[Any]:
    return [update for update in told if isinstance(update, kind)]


def until(client: RealtimeClient, kind: type[up.Update], act: Any = bool) -> Any:
    """Act, and wait for an update."""
    with client.updates(timeout_s=WAIT_S) as updates:
        act()
        return next(update for update in updates if isinstance(update, kind))


# --- the session goes on ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["rst", "eof", *(f"close:{code}" for code in (1001, 1011, 1012, 1013, 1014))])
def test_the_conversation_goes_on_with_all_that_was_said(fault: str) -> None:
    with LocalServer(faults=f"{fault} @response.done#2 @connections=1") as server, session(server) as (client, told):
        client.ask("My name is Ada.", timeout_s=WAIT_S)
        client.ask("What is 1 plus 2?", timeout_s=WAIT_S)
        assert "Ada" in client.ask("What is my name?", timeout_s=WAIT_S).text
        assert [each.reason for each in of(up.Restored, told)] == ["lost"]
        assert [each.goes_on for each in of(up.ConnectionLost, told)] == [True]
        assert client.error is None
    assert of(up.SessionEnded, told) == [up.SessionEnded(reason="closed")]
    assert len(of(up.SessionStarted, told)) == 1


def test_the_order_of_what_is_told() -> None:
    with LocalServer(faults="rst @response.output_audio.delta#3 @connections=1") as server:
        with session(server) as (client, told):
            assert "7" in client.ask("What is 3 plus 4?", timeout_s=WAIT_S).text, "the answer that was asked for again"
    kinds = [type(each).__name__ for each in told]
    kinds = [
        kind for kind in kinds if "Delta" not in kind and "Item" not in kind and kind not in {"TextDone", "AudioDone"}
    ]
    assert kinds == [
        "SessionStarted", "ResponseStarted", "AnswerFollows", "ResponseDone", "ConnectionLost", "Reconnecting", "Restored",
        "ResponseStarted", "ResponseDone", "RateLimits", "SessionEnded",
    ]  # fmt: skip
    broken, whole = of(up.ResponseDone, told)
    assert (broken.status, broken.reason, whole.status) == ("incomplete", "connection_lost", "completed")
    (restored,) = of(up.Restored, told)
    assert restored.asked_again == of(up.AnswerFollows, told)[0].request_id
    (tried,) = of(up.Reconnecting, told)
    assert (tried.attempt, tried.in_s) == (1, 0.0)
    assert "close code 1006" in tried.reason


def test_words_that_are_typed_while_away_are_sent_after_the_return() -> None:
    """The server refuses until something has been said."""
    said = threading.Event()
    refused = threading.Event()

    def hold(_connection: Any, _request: Any) -> Any:
        if client_is_open.is_set() and not said.is_set():
            refused.set()
            return _connection.respond(503, "later\n")
        return None

    client_is_open = threading.Event()

    def script(peer: Peer) -> None:
        peer.greet()
        if not client_is_open.is_set():
            assert client_is_open.wait(WAIT_S)
            peer.drop()
            return
        while (event := peer.receive())["type"] != "response.create":
            if event["type"] == "conversation.item.create":
                got.append(event["item"]["content"][0]["text"])
                peer.send(type="conversation.item.added", event_id="e", item=event["item"])
        peer.answer("Welcome back.")
        peer.read_all()

    got: list[str] = []
    with ScriptedServer(script, process_request=hold) as server, session(server) as (client, told):
        until(client, up.ConnectionLost, client_is_open.set)
        assert refused.wait(WAIT_S)
        assert client.away
        sent = client.send_text("Are you there?")
        answer = client.next_answer(after=said.set, timeout_s=WAIT_S)
        assert answer.text == "Welcome back."
        (restored,) = of(up.Restored, told)
        assert restored.sent_late == (sent.item_id,)
        assert restored.away_ms > 0
    assert got == ["Are you there?"]
    assert max(each.attempt for each in of(up.Reconnecting, told)) >= 2


def test_sound_is_kept_while_away_and_committed_once() -> None:
    """What was sent and not committed, and what was said meanwhile, comes whole to the new session, in order."""
    appended: list[list[str]] = []
    back, open_again = threading.Event(), threading.Event()

    def hold(connection: Any, _request: Any) -> Any:
        return connection.respond(503, "later\n") if appended and not open_again.is_set() else None

    def script(peer: Peer) -> None:
        peer.greet()
        mine: list[str] = []
        appended.append(mine)
        first = len(appended) == 1
        while True:
            event = peer.receive()
            if event["type"] == "session.update":
                peer.send(
                    type="session.updated",
                    event_id="e",
                    session={"id": "s", "audio": {"input": {"turn_detection": None}}},
                )
            elif event["type"] == "input_audio_buffer.append":
                mine.append(event["audio"])
                if first and len(mine) == 10:
                    peer.drop()
                    return
            elif event["type"] == "input_audio_buffer.commit":
                mine.append("commit")
                peer.send(
                    type="input_audio_buffer.committed",
                    event_id="e",
                    item_id=f"item_{len(mine)}",
                    previous_item_id=None,
                )
                back.set()

    blocks = [bytes([n]) * 4800 for n in range(30)]
    with ScriptedServer(script, process_request=hold) as server, session(server, session=BY_HAND) as (client, told):
        with client.updates(timeout_s=WAIT_S) as updates:
            for block in blocks[:10]:
                client.send_audio(block)
            next(update for update in updates if isinstance(update, up.ConnectionLost))
            for block in blocks[10:]:
                client.send_audio(block)
            client.commit()
            open_again.set()
            assert back.wait(WAIT_S)
            next(update for update in updates if isinstance(update, up.InputCommitted))
    assert appended[1].count("commit") == 1
    assert appended[1][-1] == "commit"
    assert b"".join(base64.b64decode(each) for each in appended[1][:-1]) == b"".join(blocks)
    (restored,) = of(up.Restored, told)
    assert (restored.audio_ms, restored.lost_audio) == (3000, ())


def test_a_tool_works_on_and_its_result_goes_to_the_new_session() -> None:
    city = {"type": "object", "properties": {"city": {"type": "string"}}}
    with LocalServer(faults="close:1011 @response.done#1 @connections=1") as server, session(server) as (client, told):
        with client.updates(timeout_s=WAIT_S) as updates:
            client.change(Changes(tools=(ToolSpec(name="get_weather", parameters=city),)))
            next(update for update in updates if isinstance(update, up.SessionChanged))
            client.send_text("What is the weather in Paris?")
            call = next(update for update in updates if isinstance(update, up.ToolCall))
            next(update for update in updates if isinstance(update, up.Restored))
        answer = client.next_answer(after=lambda: client.send_tool_result(call.call_id, "sunny"), timeout_s=WAIT_S)
        assert "sunny" in answer.text
    assert len(of(up.ToolCall, told)) == 1


# --- when it cannot be had again --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        ("refuse:401", errors.AuthenticationError),
        ("refuse:403", errors.AuthenticationError),
        ("error:invalid_api_key @session.created", errors.AuthenticationError),
        ("error:insufficient_quota @session.created", errors.RateLimitedError),
    ],
)
def test_what_the_next_try_would_meet_again_ends_it(refusal: str, kind: type[Exception]) -> None:
    with LocalServer(faults=f"close:1011 @response.done @connections=1; {refusal} @connections=2-") as server:
        with pytest.raises(kind), session(server) as (client, told):
            client.ask("What is 1 plus 2?", timeout_s=WAIT_S)
            assert client.stop.wait(WAIT_S)
            raise client.error or AssertionError
    assert [each.goes_on for each in of(up.ConnectionLost, told)] == [True, False]
    assert len(of(up.Reconnecting, told)) == 1
    assert len(of(up.SessionEnded, told)) == 1


def test_it_is_given_up_in_the_end_and_says_why() -> None:
    with LocalServer(faults="close:1011 @response.done @connections=1; refuse:502 @connections=2-") as server:
        with session(server, recovery=Recovery(reconnect_s=1.0)) as (client, told):
            client.ask("What is 1 plus 2?", timeout_s=WAIT_S)
            assert client.stop.wait(WAIT_S)
            with pytest.raises(errors.ConnectionLostError, match=r"tried again for 1 s.*HTTP 502"):
                client.send_text("Still there?")
    assert [each.goes_on for each in of(up.ConnectionLost, told)] == [True, False]
    assert len(of(up.Reconnecting, told)) >= 2
    assert "HTTP 502" in of(up.SessionEnded, told)[0].reason


def test_a_server_that_asks_for_time_gets_it() -> None:
    with LocalServer(
        faults="close:1011 @response.done @connections=1; refuse:503,retry-after=1 @connections=2"
    ) as server:
        with session(server) as (client, told):
            client.ask("What is 1 plus 2?", timeout_s=WAIT_S)
            assert "7" in client.ask("What is 3 plus 4?", timeout_s=WAIT_S).text
    first, second = of(up.Reconnecting, told)
    assert (first.in_s, second.in_s) == (0.0, 1.0)


def test_a_handshake_is_no_success() -> None:
    """A server that lets everybody in and drops them uses up the time for which it is tried."""
    with LocalServer(faults="close:1011 @response.done @connections=1; eof @session.created @connections=2-") as server:
        with session(server, recovery=Recovery(reconnect_s=1.5)) as (client, told):
            client.ask("What is 1 plus 2?", timeout_s=WAIT_S)
            assert client.stop.wait(WAIT_S)
    attempts = [each.attempt for each in of(up.Reconnecting, told)]
    assert attempts == list(range(1, len(attempts) + 1))
    assert len(attempts) > 1


def test_without_recovery_the_end_is_the_end() -> None:
    with LocalServer(faults="close:1011 @response.done") as server, session(server, recovery=None) as (client, told):
        client.ask("What is 1 plus 2?", timeout_s=WAIT_S)
        assert client.stop.wait(WAIT_S)
    assert [each.goes_on for each in of(up.ConnectionLost, told)] == [False]
    assert not of(up.Reconnecting, told)


# --- the end while away -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["waits", "connects", "is told"])
def test_close_while_away(phase: str) -> None:
    """It ends at once, whatever is under way, and nothing is left."""
    faults = {"waits": "refuse:503,retry-after=20", "connects": "no-answer", "is told": "stall-reads"}[phase]
    with LocalServer(faults=f"close:1011 @response.done @connections=1; {faults} @connections=2-") as server:
        with session(server) as (client, told):
            with client.updates(timeout_s=WAIT_S) as updates:
                client.ask("What is 1 plus 2?", timeout_s=WAIT_S)
                wanted = 2 if phase == "waits" else 1
                for update in updates:
                    wanted -= isinstance(update, up.Reconnecting)
                    if not wanted:
                        break
            client.close()
            assert client.error is None
    assert of(up.SessionEnded, told)[0].reason == "closed"


def test_reconnect_while_away_does_not_wait() -> None:
    with LocalServer(
        faults="close:1011 @response.done @connections=1; refuse:503,retry-after=20 @connections=2"
    ) as server:
        with session(server) as (client, _):
            with client.updates(timeout_s=WAIT_S) as updates:
                client.ask("What is 1 plus 2?", timeout_s=WAIT_S)
                tries = (update for update in updates if isinstance(update, up.Reconnecting))
                next(tries), next(tries)
                client.reconnect()
                next(update for update in updates if isinstance(update, up.Restored))
            assert "7" in client.ask("What is 3 plus 4?", timeout_s=WAIT_S).text


def test_lost_again_and_again() -> None:
    """Each connection dies after one answer; all is remembered, and no thread is left behind."""
    with (
        LocalServer(faults="close:1011 @response.done#1 @connections=1-8") as server,
        session(server) as (client, told),
    ):
        client.ask("My name is Ada.", timeout_s=WAIT_S)
        for n in range(7):
            until_restored(told, n + 1, client)
            assert str(n + 1) in client.ask(f"What is {n} plus 1?", timeout_s=WAIT_S).text
        assert "Ada" in client.ask("What is my name?", timeout_s=WAIT_S).text
        names = [thread.name for thread in threading.enumerate() if thread.name.startswith("realtime-")]
        assert names.count("realtime-send") == 1
    assert len(of(up.Restored, told)) == 8


def until_restored(told: list[up.Update], count: int, client: RealtimeClient) -> None:
    with client.updates(timeout_s=WAIT_S) as updates:
        while len(of(up.Restored, told)) < count:
            next(updates)


# --- a conversation that was held before ------------------------------------------------------------------------------


def test_a_session_begins_with_what_was_said_before() -> None:
    before = (
        Entry(id="old_1", role="user", parts=(Text(text="My name is Ada."),)),
        Entry(id="old_2", role="assistant", parts=(Text(text="I will remember your name.", spoken=True),)),
    )
    with LocalServer() as server, session(server, told=before) as (client, told):
        assert "Ada" in client.ask("What is my name?", timeout_s=WAIT_S).text
        assert [entry.id for entry in client._conversation.entries()][:2] == ["old_1", "old_2"]
    assert not [each for each in of(up.ItemAdded, told) if each.text == "My name is Ada."], "it is no news"


def test_the_settings_say_so() -> None:
    settings = load_settings(
        {"reconnect_s": "7", "restore_tokens": "50", "keep_audio_s": 3, "rollover_s": 0}, environ={}
    )
    assert settings.recovery == Recovery(reconnect_s=7, restore_tokens=50, keep_audio_s=3, rollover_s=0)
    assert load_settings({}, environ={}).recovery == Recovery()
