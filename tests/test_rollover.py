"""A session that its server is about to end goes on in another one: nobody hears it, nothing is lost, nothing twice."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

import pytest
from rollover_stage import LIMITS, SPOKEN, WAIT_S, AheadClock, leave_now, said, stage
from scripted_server import Peer, ScriptedServer
from sound_card import wait_until

from realtime_client import updates as up
from realtime_client.changes import Changes, ToolSpec
from realtime_client.client.client import RealtimeClient
from realtime_client.client.endpoint import Endpoint
from realtime_client.client.rollover import leaving
from realtime_client.local import LocalServer
from realtime_client.protocol import events as ev
from realtime_client.protocol.conversation import Conversation
from realtime_client.protocol.items import ContentPart, Item
from realtime_client.session.limits import Recovery

GAP_MS = 20
UNSEEN = (up.ConnectionLost, up.Reconnecting, up.SessionChanged, up.Notice, up.Failure, up.ItemDeleted, up.Interrupted)


def unseen(scene) -> bool:
    """Whether nothing of it is on the screen."""
    return not [update for kind in UNSEEN for update in scene.all(kind)]


def ready(client: RealtimeClient) -> bool:
    """Whether a new session waits to take over."""
    candidate = client._candidate
    return candidate is not None and candidate.ready


# --- when -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expires_in_s", "lasts_s", "from_s", "by_s"),
    [
        (3600.0, 3600.0, 3480.0, 3588.0),
        (1800.0, 3600.0, 1680.0, 1788.0),
        (300.0, 3600.0, 225.0, 292.5),
        (None, 3600.0, 3420.0, 3528.0),  # its connection was begun a minute ago
        (-7200.0, 3600.0, 3420.0, 3528.0),  # a clock that is wrong
        (1e9, 3600.0, 3420.0, 3528.0),
        (None, 30.0, 0.0, 0.0),
        (3600.0, 0.0, None, 0.0),
        (None, 0.0, None, 0.0),
    ],
)
def test_when_a_session_is_left(expires_in_s: float | None, lasts_s: float, from_s: float | None, by_s: float) -> None:
    plan = leaving(made_s=940.0, now_s=1000.0, expires_in_s=expires_in_s, lasts_s=lasts_s)
    assert plan.from_s == (None if from_s is None else 1000 + from_s)
    assert plan.by_s == (1000 + by_s if from_s is not None else 0)


def test_what_failed_is_tried_again_as_long_as_there_is_time() -> None:
    plan = leaving(made_s=0.0, now_s=0.0, expires_in_s=3600.0, lasts_s=3600.0)
    tries = []
    while plan.from_s is not None and plan.from_s < plan.by_s:
        tries.append(plan.from_s)
        plan.failed(plan.from_s + 0.5, None)
    assert tries[:3] == [3480, 3485.5, 3491]
    assert tries[-1] > 3580
    assert len(tries) < 40
    plan.failed(3500.0, 30.0)
    assert plan.from_s == 3530, "as the server asks"
    plan.failed(3500.0, 100.0)
    assert plan.from_s is None


# --- nobody hears it --------------------------------------------------------------------------------------------------


def test_twelve_sessions_are_one_to_the_ear_and_to_the_model() -> None:
    """The sentences are as long as a session or so: most of it happens while one is heard."""
    with stage(1.5) as scene:
        scene.client.ask("The code word is banana.", timeout_s=WAIT_S)
        scene.hears()
        asked = 1
        while scene.moved < 12:
            asked += 1
            assert scene.client.ask(f"Repeat after me: {asked} ships.", timeout_s=WAIT_S).text == f"{asked} ships."
            scene.hears()
        assert scene.client.ask("What is the code word?", timeout_s=WAIT_S).text == "The code word is banana."
        assert scene.brain.knows == said(scene)
        assert len(scene.client._conversation.entries()) == 2 * asked + 2
    assert unseen(scene)
    assert {each.away_ms for each in scene.all(up.Restored)} == {0}
    assert not any(each.lost_audio or each.left_out or each.refused or each.unknown for each in scene.all(up.Restored))
    assert len({each.session_id for each in scene.all(up.Restored)}) == len(scene.all(up.Restored))
    assert scene.listener.longest_gap_ms <= GAP_MS, scene.listener.gaps_ms
    assert scene.listener.playback.underruns == 0
    assert all(each.status == "completed" for each in scene.all(up.ResponseDone))


def test_it_moves_when_it_is_quiet() -> None:
    """While an answer is heard, it waits as long as it can."""
    with stage(600.0) as scene:
        idle = []
        scene.client.observe(lambda _update, _at_s: idle.append(scene.listener.idle), direct=True)
        scene.client.ask("What time is it?", timeout_s=WAIT_S)
        leave_now(scene.client)
        wait_until(lambda: ready(scene.client), WAIT_S, "the new session")
        assert not scene.listener.idle
        assert not scene.moved
        scene.wait(up.Restored)
        assert idle[-1]
    assert unseen(scene)


def test_the_servers_own_end_is_never_met() -> None:
    with stage(3600.0, server=LocalServer(session_s=2.2)) as scene:
        scene.wait(up.Restored, 2)
    assert {each.reason for each in scene.all(up.Restored)} == {"rollover"}
    assert not scene.all(up.ConnectionLost)


# --- what is under way ------------------------------------------------------------------------------------------------


def test_who_speaks_is_heard_whole_and_once() -> None:
    """The session ends within the sentence."""
    with stage(1.2) as scene:
        scene.client.change(Changes(transcription="gpt-transcribe"))
        scene.speak(1.2)
        moved_before = scene.moved
        scene.client._leaving.from_s = None  # the ear takes its time
        scene.speak(since_s=1.2)
        transcript = scene.wait(up.UserTranscript)
        assert transcript.text.lower().rstrip("?") == SPOKEN
        scene.wait(up.ResponseDone)
        assert scene.client.ask("Thank you.", timeout_s=WAIT_S).text == "You are welcome."
    assert moved_before
    assert len(scene.all(up.InputCommitted)) == 1
    assert [text.lower().rstrip("?") for role, text in scene.brain.knows if role == "user"] == [SPOKEN, "thank you."]
    assert not scene.all(up.ConnectionLost)
    assert not [lost for each in scene.all(up.Restored) for lost in each.lost_audio]


def test_what_was_said_by_hand_and_not_committed_goes_along() -> None:
    with stage(2.0) as scene:
        scene.client.change(Changes(turn_end="manual", transcription="gpt-transcribe"))
        wait_until(lambda: scene.client.facts.turn_end == "manual", WAIT_S, "the settings")
        scene.speak(ends=False)
        scene.wait(up.Restored, scene.moved + 1)
        scene.client._leaving.from_s = None
        scene.client.commit()
        scene.client.respond()
        assert scene.wait(up.UserTranscript).text.lower().rstrip("?") == SPOKEN
        scene.wait(up.ResponseDone)
    assert len(scene.all(up.InputCommitted)) == 1
    assert not scene.all(up.ConnectionLost)


def test_the_result_of_a_tool_goes_to_the_session_that_is_there_then() -> None:
    with stage(1.5) as scene:
        scene.client.change(Changes(tools=(ToolSpec(name="weather", description="Tells the weather"),)))
        scene.client.send_text("How is the weather?")
        call = scene.wait(up.ToolCall)
        scene.wait(up.Restored, scene.moved + 2)
        scene.client.send_tool_result(call.call_id, "It rains.")
        assert scene.wait(up.ResponseDone, 2).text == "The tool says: It rains."
        assert [role for role, _ in scene.brain.knows] == ["user", "call", "output"]
    assert len(scene.all(up.ToolCall)) == 1
    assert not scene.all(up.ConnectionLost)


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_server_that_lets_in_one_session_at_a_time() -> None:
    """It is tried until the old session is over, and then it is a connection lost as any other."""
    with stage(0.0, server=LocalServer(session_s=2.2, max_sessions=1), clock=AheadClock(3600.0)) as scene:
        scene.client.ask("My name is Ada.", timeout_s=WAIT_S)
        scene.wait(up.Restored)
        assert scene.client.ask("What is my name?", timeout_s=WAIT_S).text == "Your name is Ada."
    assert [each.goes_on for each in scene.all(up.ConnectionLost)][:1] == [True]
    assert scene.all(up.Restored)[0].reason == "lost"


def greets(peer: Peer) -> None:
    peer.greet()
    peer.read_all()


def client_of(server: ScriptedServer, **recovery: float) -> RealtimeClient:
    return RealtimeClient(
        Endpoint(url=server.url, proxy=None), limits=LIMITS, recovery=Recovery(**{"rollover_s": 0.4} | recovery)
    )


def test_the_new_session_is_lost_before_the_old_one_is_over() -> None:
    """The old server says no goodbye, which is waited for."""
    connections, told = [], []

    def script(peer: Peer) -> None:
        connections.append(peer)
        peer.greet()
        if len(connections) == 1:
            peer.freeze()
        elif len(connections) == 2:
            peer.receive("input_audio_buffer.clear")
            peer.drop()
        else:
            peer.read_all()

    with ScriptedServer(script) as server, client_of(server) as client:
        restored = threading.Semaphore(0)

        def observe(update: up.Update, _at_s: float) -> None:
            told.append(update)
            if isinstance(update, up.Restored):
                restored.release()

        client.observe(observe)
        assert restored.acquire(timeout=WAIT_S)
        client._leaving.from_s = None
        client.clear_input()
        assert restored.acquire(timeout=WAIT_S)
        server.let_go.set()
    reasons = [each.reason for each in told if isinstance(each, up.Restored)]
    assert reasons[:2] == ["rollover", "lost"]


def never_quiet(peer: Peer) -> None:
    """An answer runs all the time."""
    peer.greet()
    peer.send(type="response.created", event_id="e", response={"id": "resp_1"})
    peer.read_all()


@pytest.mark.parametrize("ends", ["close", "reconnect"])
def test_while_it_waits_for_a_quiet_moment(ends: str) -> None:
    with ScriptedServer(never_quiet) as server:
        with client_of(server, rollover_s=400) as client, client.updates(timeout_s=WAIT_S) as updates:
            wait_until(lambda: client.answering, WAIT_S, "the answer")
            leave_now(client)
            wait_until(lambda: ready(client), WAIT_S, "the new session")
            if ends == "reconnect":
                client.reconnect()
                restored = next(update for update in updates if isinstance(update, up.Restored))
                assert restored.reason == "asked"
                wait_until(lambda: not client._moves, WAIT_S, "the end of the other attempt")
                assert client._leaving.from_s is not None
        names = [thread.name for thread in threading.enumerate()]
        assert not [name for name in names if name.startswith("realtime-")], names


def test_a_new_session_that_ends_while_it_waits_is_tried_again() -> None:
    connections = []

    def script(peer: Peer) -> None:
        connections.append(peer)
        if len(connections) != 2:
            never_quiet(peer)
            return
        peer.greet()
        peer.websocket.close(1012)

    with ScriptedServer(script) as server, client_of(server, rollover_s=3) as client:
        leave_now(client)
        wait_until(lambda: len(connections) == 3 and ready(client), WAIT_S, "one more")
        assert client.error is None


def test_a_key_that_is_refused_meanwhile_is_not_tried_again() -> None:
    first = []

    def let_in(_connection, _request):
        from http import HTTPStatus

        first.append(None)
        return None if len(first) == 1 else _connection.respond(HTTPStatus.UNAUTHORIZED, "no")

    with ScriptedServer(greets, process_request=let_in) as server, client_of(server, rollover_s=400) as client:
        leave_now(client)
        wait_until(lambda: len(first) == 2 and not client._moves, WAIT_S, "the refusal")
        assert client._leaving.from_s is None
        assert client.error is None


# --- what the new session is told -------------------------------------------------------------------------------------


def test_an_answer_that_is_cut_after_the_new_session_was_told_of_it_is_told_anew() -> None:
    """In its place, with what was heard of it."""
    heard_ms = [None]
    conversation = Conversation(heard_ms=lambda _item, _part: heard_ms[0], new_id=names())
    conversation.receive(ev.SessionCreated(session={"id": "sess_1"}))
    say(conversation, "One two three four", "a", sound_ms=1000)
    say(conversation, "And five", "b")
    restoration = conversation.restoration(None, most_tokens=1000)
    restoration.receive(ev.SessionCreated(session={"id": "sess_2"}))
    first, second = restoration.commands
    heard_ms[0] = 500
    assert conversation.interrupt("speech")[0]
    conversation.take_commands()
    conversation.lost()
    (*_, restored) = conversation.restored(restoration, reason="rollover", away_ms=0, where="")
    anew, gone = conversation.take_commands()
    assert (anew.item.content[0].text, anew.previous_item_id) == ("One two", first.item.id)
    assert gone.item_id == first.item.id
    assert all(event.event_id.startswith("again_") for event in (anew, gone))
    assert restored.told == 2
    for event in (
        ev.ConversationItemAdded(item=anew.item, previous_item_id=first.item.id),
        ev.ConversationItemDeleted(item_id=first.item.id),
    ):
        assert conversation.receive(event) == [], "what is told again is no news"
    assert [entry.as_heard.said for entry in conversation.entries()] == ["One two", "And five"]
    conversation.send(ev.ConversationItemDelete(item_id="item_a"))
    (sent,) = conversation.take_commands()
    assert sent.item_id == anew.item.id
    assert second.item.id != anew.item.id


@pytest.mark.parametrize("soon", [True, False], ids=["before it takes over", "after that"])
def test_what_a_new_session_hears_in_sound_that_it_is_told_is_of_the_same_item(soon: bool) -> None:
    conversation = Conversation(new_id=names(), keep_audio_s=10)
    conversation.receive(ev.SessionCreated(session={"id": "sess_1"} | LISTENS))
    conversation.keep(bytes(48_000))
    for event in [*SPEECH, *ANSWER]:
        conversation.receive(event)
    conversation.receive(
        ev.ConversationItemDone(
            item=Item(id="item_u", type="message", role="user", content=[ContentPart(type="input_audio")])
        )
    )
    restoration = conversation.restoration(None, most_tokens=1000)
    restoration.receive(ev.SessionCreated(session={"id": "sess_2"}))
    (told,) = restoration.commands
    assert len(told.item.content[0].audio) == 24_000
    heard = ev.InputTranscriptionCompleted(item_id=told.item.id, content_index=0, transcript="Hello")
    if soon:
        restoration.receive(heard)
    conversation.lost()
    happened = conversation.restored(restoration, reason="rollover", away_ms=0, where="")
    happened += [] if soon else conversation.receive(heard)
    (transcript,) = [each for each in happened if isinstance(each, up.UserTranscript)]
    assert (transcript.item_id, transcript.text) == ("item_u", "Hello")
    assert [(entry.id, entry.said) for entry in conversation.entries()] == [("item_u", "Hello")]


def names() -> Callable[[str], str]:
    numbers = itertools.count(1)
    return lambda prefix: f"{prefix}_{next(numbers)}"


def say(conversation: Conversation, text: str, name: str, sound_ms: int = 0) -> None:
    """A whole answer of the server; only one with sound can be cut later."""
    part = {"response_id": f"resp_{name}", "item_id": f"item_{name}", "output_index": 0, "content_index": 0}
    item = Item(id=f"item_{name}", type="message", role="assistant", content=[])
    conversation.receive(ev.ResponseCreated(response=ev.Response(id=f"resp_{name}")))
    conversation.receive(ev.ConversationItemAdded(item=item))
    if sound_ms:
        conversation.receive(ev.ResponseOutputAudioDelta(delta=bytes(48 * sound_ms), **part))
        conversation.receive(ev.ResponseOutputAudioTranscriptDone(transcript=text, **part))
    else:
        conversation.receive(ev.ResponseOutputTextDone(text=text, **part))
    conversation.receive(ev.ResponseDone(response=ev.Response(id=f"resp_{name}", status="completed")))


LISTENS = {"audio": {"input": {"turn_detection": {"type": "server_vad"}, "transcription": {"model": "x"}}}}
SPEECH = [
    ev.InputAudioBufferSpeechStarted(item_id="item_u", audio_start_ms=0),
    ev.InputAudioBufferSpeechStopped(item_id="item_u", audio_end_ms=500),
    ev.InputAudioBufferCommitted(item_id="item_u"),
]
ANSWER = [
    ev.ResponseCreated(response=ev.Response(id="resp_1")),
    ev.ResponseDone(response=ev.Response(id="resp_1", status="completed")),
]
HEARD = ev.InputTranscriptionCompleted(item_id="item_u", content_index=0, transcript="Hello")
UNHEARD = ev.InputTranscriptionFailed(
    item_id="item_u", content_index=0, error=ev.ErrorDetail(type="x", code="x", message="x")
)
REMOTE = ev.ResponseOutputItemAdded(
    response_id="resp_1", output_index=0, item=Item(id="mcp_1", type="mcp_call", name="ask", arguments="{}")
)


@pytest.mark.parametrize(
    ("events", "quiet"),
    [
        ([], True),
        (SPEECH[:1], False),
        (SPEECH, False),
        ([*SPEECH, HEARD], False),
        ([*SPEECH, *ANSWER], False),
        ([*SPEECH, HEARD, ANSWER[0]], False),
        ([*SPEECH, HEARD, *ANSWER], True),
        ([*SPEECH, *ANSWER, UNHEARD], True),
        ([ANSWER[0], REMOTE, ANSWER[1]], False),
        ([ANSWER[0], REMOTE, ANSWER[1], ev.ResponseMcpCallCompleted(item_id="mcp_1", output_index=0)], False),
    ],
    ids=[
        "nothing", "speech", "its answer is to begin", "it is written down", "it is not written down", "an answer",
        "all is over", "nobody could tell", "the server's own tool works", "its answer is asked for",
    ],
)  # fmt: skip
def test_what_is_a_quiet_moment(events: list[ev.ServerEvent], quiet: bool) -> None:
    conversation = Conversation(new_id=names(), keep_audio_s=10)
    conversation.receive(ev.SessionCreated(session={"id": "sess_1"} | LISTENS))
    conversation.keep(bytes(48_000))
    for event in events:
        conversation.receive(event)
    assert conversation.quiet == quiet
