"""The hub: one order of events however full its queue is, readers that always end; and a connection that is replaced."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from scripted_server import Peer, ScriptedServer

from realtime_client import LocalServer, errors
from realtime_client import updates as up
from realtime_client.audio.files import read_audio
from realtime_client.changes import Changes, ToolSpec
from realtime_client.client.client import RealtimeClient
from realtime_client.client.endpoint import Endpoint
from realtime_client.client.outbox import WRITE_OUT
from realtime_client.deadline import SYSTEM_CLOCK, Deadline
from realtime_client.protocol.events import ResponseCreate
from realtime_client.protocol.session import RealtimeConfig
from realtime_client.recording.recorder import Recorder
from realtime_client.session.hub import Hub
from realtime_client.session.limits import Limits

WAIT_S = 10.0
LIMITS = Limits(open_timeout_s=5, close_timeout_s=2, ping_interval_s=0)


class Notes:
    """A recorder that notes what it is told."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.ended: str | None = None

    def received(self, frame, _media, _updates, _at_s) -> None:
        self.seen.append(json.loads(frame)["type"])

    sent = received

    def noticed(self, update, _at_s) -> None:
        self.seen.append(type(update).__name__)

    def kept(self, _audio, _at_s) -> None:
        self.seen.append("kept")

    def close(self, *, ended, stats) -> None:
        self.ended = ended


def hub_of(limits: Limits, recorder: Any = None, on_failure: Callable[[], None] = lambda: None) -> Hub:
    hub = Hub(limits, SYSTEM_CLOCK, recorder, dict, on_failure, on_room=lambda: None)
    hub.start()
    return hub


def ended(hub: Hub) -> None:
    hub.finish("closed")
    hub.join(Deadline(WAIT_S))
    assert not hub.audio.thread.is_alive()


def notice(text: str) -> up.Notice:
    return up.Notice(message=text)


# --- order ------------------------------------------------------------------------------------------------------------


def test_nothing_overtakes_when_the_queue_is_full() -> None:
    """Frames and calls of eight threads, a queue of 2 and an audio thread that begins late."""
    go, told, decided = threading.Event(), [], []

    def observe(update: up.Update, _at_s: float) -> None:
        assert go.wait(WAIT_S)
        told.append(update.message)

    hub = hub_of(Limits(inbound_queue=2))
    hub.observe(observe, direct=False)

    def decide(name: str) -> None:
        for number in range(50):
            with hub.lock:
                decided.append(f"{name}{number}")
                hub.publish((notice(decided[-1]),), 0.0, size=100)
            hub.wait_for_room()

    threads = [threading.Thread(target=decide, args=(name,)) for name in "abcdefgh"]
    for thread in threads:
        thread.start()
    while len(decided) < 8:  # every thread has decided once and waits for room, or is about to
        threads[0].join(0.001)
    go.set()
    for thread in threads:
        thread.join(WAIT_S)
    ended(hub)
    assert told[:-1] == decided if told[-1] == "closed" else told == decided
    assert hub.inbound.high_water <= 2 + len(threads)


def test_a_call_does_not_overtake_a_frame_whose_thread_waits_for_room() -> None:
    """A queue of 2 that is full from the second frame on; this program says something after each frame."""
    count = 60
    send, decided, permits = threading.Semaphore(0), threading.Semaphore(0), threading.Semaphore(0)
    told: list[str] = []

    def script(peer: Peer) -> None:
        peer.greet()
        for number in range(count):
            assert send.acquire(timeout=WAIT_S)
            peer.send(type="conversation.item.deleted", event_id="e", item_id=f"frame {number}")
        peer.read_all()

    def ordinary(update: up.Update, _at_s: float) -> None:
        if not isinstance(update, up.SessionEnded):
            assert permits.acquire(timeout=WAIT_S)
            told.append(update.item_id if isinstance(update, up.ItemDeleted) else update.message)

    limits = Limits(open_timeout_s=5, close_timeout_s=5, ping_interval_s=0, inbound_queue=2)
    with ScriptedServer(script) as server, RealtimeClient(endpoint(server), limits=limits) as client:
        client.observe(ordinary)
        client.observe(lambda _update, _at_s: decided.release(), direct=True)
        for number in range(count):
            send.release()
            assert decided.acquire(timeout=WAIT_S), "the frame"
            client.tell(notice(f"call {number}"))
            assert decided.acquire(timeout=WAIT_S), "the call"
            if number:
                permits.release(2)
        permits.release(2)
    assert told == [f"{what} {number}" for number in range(count) for what in ("frame", "call")]


def test_reading_waits_while_the_audio_thread_is_behind() -> None:
    hold = threading.Event()
    limits = Limits(open_timeout_s=5, close_timeout_s=5, ping_interval_s=0, inbound_queue=2)
    with ScriptedServer(greets) as server, RealtimeClient(endpoint(server), limits=limits) as client:
        inbound = client._hub.inbound
        client.observe(lambda _update, _at_s: hold.wait(WAIT_S))

        def arrive() -> None:
            for number in range(200):
                frame = f'{{"type":"conversation.item.deleted","event_id":"e","item_id":"{number}"}}'
                client.on_frames(client._connection, [frame.encode()], 0.0)

        thread = threading.Thread(target=arrive)
        thread.start()
        while not inbound.crowded:
            thread.join(0.001)
        assert client.is_behind()
        hold.set()
        thread.join(WAIT_S)
        assert inbound.high_water <= 3
    assert not client.is_behind()


def test_a_pong_to_write_overtakes_what_waits_to_be_sent() -> None:
    client = RealtimeClient(Endpoint(url="ws://127.0.0.1:9", proxy=None), limits=LIMITS)
    client._connection.outbox.put_now(ResponseCreate())
    client._connection.on_unwritten()
    assert client._connection.outbox.get()[0] is WRITE_OUT


# --- readers ----------------------------------------------------------------------------------------------------------


class _BrokenError(Exception):
    pass


def broken(*_: object) -> None:
    raise _BrokenError


def finishes(hub: Hub) -> None:
    hub.publish((notice("last"),), 0.0)
    hub.finish("closed")


def observer_breaks(hub: Hub) -> None:
    hub.observe(broken, direct=False)
    hub.publish((notice("last"),), 0.0)


def is_never_emptied(hub: Hub) -> None:
    """The audio thread hangs for longer than the end may take."""
    free = threading.Event()
    hub.observe(lambda _update, _at_s: free.wait(WAIT_S), direct=False)
    hub.publish((notice("last"),), 0.0)
    hub.finish("closed")
    hub.end_readers()
    free.set()


@pytest.mark.parametrize("end", [finishes, observer_breaks, is_never_emptied])
@pytest.mark.parametrize("limit", [1, 2, 100], ids="queue of {}".format)
def test_a_reader_ends_however_the_session_does(end: Callable[[Hub], None], limit: int) -> None:
    """It waits already, comes late, or is so far behind that it has an error; it is told why at most once."""
    hub = hub_of(Limits(inbound_queue=2, updates_queue=limit))
    outcomes: queue.Queue[object] = queue.Queue()

    def read() -> None:
        try:
            outcomes.put([type(update).__name__ for update in hub.read(None)])
        except (errors.RealtimeError, _BrokenError) as error:
            outcomes.put(error)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    lagging = hub.read(None)
    end(hub)
    readers.append(threading.Thread(target=read))
    readers[-1].start()
    for reader in readers:
        reader.join(WAIT_S)
        assert not reader.is_alive(), "a reader does not end"
    hub.join(Deadline(WAIT_S))
    for _ in readers:
        outcome = outcomes.get_nowait()
        if isinstance(outcome, Exception):
            assert end is observer_breaks or isinstance(outcome, errors.QueueFullError), outcome
    with pytest.raises((StopIteration, errors.RealtimeError)):
        for _ in range(3):
            next(lagging)
    with pytest.raises((StopIteration, errors.QueueFullError)):
        next(lagging)
    late = hub.read(None)
    with pytest.raises((StopIteration, errors.RealtimeError)):
        next(late)


def test_whoever_leaves_is_told_no_more() -> None:
    hub = hub_of(Limits())
    told: list[str] = []

    def note(update: up.Update, _at_s: float) -> None:
        told.append(update.message)

    leave = [hub.observe(note, direct=direct) for direct in (False, True)]
    reader = hub.read(None)
    hub.publish((notice("a"),), 0.0)
    hub.tell_directly((notice("b"),), 0.0)
    assert next(reader).message == "a"
    reader.close()
    for each in leave:
        each()
    hub.publish((notice("c"),), 0.0)
    hub.tell_directly((notice("d"),), 0.0)
    assert not hub._observers, "nothing of it is kept"
    assert not hub._readers
    ended(hub)
    assert sorted(told) == ["a", "b"]


# --- after the end ----------------------------------------------------------------------------------------------------


def test_what_the_conversation_wants_sent_after_the_end_is_dropped() -> None:
    """The server says goodbye, and something that calls for an answer, in one breath."""
    call = {"id": "item_1", "type": "function_call", "status": "completed", "call_id": "call_1", "name": "f"}

    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive("response.create")
        peer.send(type="response.created", event_id="e", response={"id": "resp_1"})
        peer.send(type="response.output_item.done", event_id="e", response_id="resp_1", output_index=0, item=call)
        peer.send(type="response.done", event_id="e", response={"id": "resp_1", "status": "completed"})
        peer.receive("response.create")
        for number in range(20):
            peer.send(type="input_audio_buffer.speech_started", event_id="e", item_id=f"u{number}", audio_start_ms=0)
            peer.send(type="response.created", event_id="e", response={"id": f"resp_{number}"})
        peer.websocket.close(1000)

    with ScriptedServer(script) as server:
        client = RealtimeClient(endpoint(server), limits=LIMITS)
        with client, client.updates(timeout_s=WAIT_S) as updates:
            client.respond()
            call_made = next(update for update in updates if isinstance(update, up.ToolCall))
            client.send_tool_result(call_made.call_id, "5")
            client.respond()
            with pytest.raises(errors.ConnectionLostError, match="in the middle of an answer"):
                for update in updates:
                    last = update
            assert isinstance(last, up.SessionEnded)
            for late in (client.respond, client.cancel, client.commit, lambda: client.send_text("x")):
                with pytest.raises((errors.ClosedError, errors.ConnectionLostError)):
                    late()
            assert client._hub.inbound.qsize() == 0
            client._flush()
            client._hub.publish((notice("late"),), 0.0)
            assert client._hub.inbound.qsize() == 0
    assert type(client.error) is errors.ConnectionLostError, "no thread failed on account of it"


def test_a_polite_end_is_a_loss_for_whoever_waits_for_an_answer() -> None:
    """Nobody asked for one, so it is no error of the session."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive("input_audio_buffer.clear")
        peer.websocket.close(1000)

    with ScriptedServer(script) as server, RealtimeClient(endpoint(server), limits=LIMITS) as client:
        with pytest.raises(errors.ConnectionLostError, match="before the answer began") as caught:
            client.next_answer(after=client.clear_input, timeout_s=WAIT_S)
        assert caught.value.close_code == 1000
        assert client.error is None


# --- another connection under a running session -----------------------------------------------------------------------


def endpoint(server: ScriptedServer | LocalServer) -> Endpoint:
    return Endpoint(url=server.url, proxy=None)


def session_threads() -> list[str]:
    ours = ("realtime-connect", "realtime-receive", "realtime-send", "realtime-keep-alive", "realtime-audio")
    return [thread.name for thread in threading.enumerate() if thread.name in ours]


def kinds(updates: list[up.Update]) -> list[str]:
    return [type(update).__name__ for update in updates]


def test_another_server_takes_over() -> None:
    """Observers, readers, recorder and figures go on, and hear of both servers in one order."""
    recorder, ordinary, direct, events = Notes(), [], [], []
    with LocalServer() as first, LocalServer() as second:
        client = RealtimeClient(endpoint(first), limits=LIMITS, recorder=recorder, session=RealtimeConfig())
        client.observe(lambda update, _at_s: ordinary.append(update))
        client.observe(lambda update, _at_s: direct.append(update), direct=True)
        client.observe_events(lambda kind, _at_s: events.append(kind))
        with client:
            reader = client.updates()
            assert client.where == endpoint(first).label
            ids = [client.session_id]
            assert "3" in client.ask("What is 1 plus 2?").text
            client.reconnect(endpoint(second))
            ids.append(client.session_id)
            assert second.sessions == 1
            assert client.where == endpoint(second).label
            assert "7" in client.ask("What is 3 plus 4?").text
            client.reconnect()
            ids.append(client.session_id)
            assert "9" in client.ask("What is 4 plus 5?").text
            assert len(session_threads()) == 4, session_threads()
        read = list(reader)
    assert len(set(ids)) == 3
    assert [each.session_id for each in ordinary if isinstance(each, up.SessionStarted | up.Restored)] == ids
    assert [each.told for each in ordinary if isinstance(each, up.Restored)] == [2, 4], "all that was said"
    assert kinds(read) == kinds(ordinary)[-len(read) :]
    assert kinds(ordinary) == kinds(direct)
    assert kinds(ordinary)[-1] == "SessionEnded"
    assert kinds(ordinary).count("ResponseDone") == kinds(ordinary).count("ResponseStarted") == 3
    assert [each for each in recorder.seen if each in set(events)] == events
    assert (recorder.seen.count("session.created"), recorder.seen.count("session.update")) == (3, 3)
    assert recorder.ended == "closed"
    stats = client.stats()
    assert (stats.turn_count, stats.traffic.frames_in) == (3, len(events))
    assert client.error is None
    assert not session_threads()


def test_the_new_server_knows_what_was_said() -> None:
    with LocalServer() as first, LocalServer() as second:
        with RealtimeClient(endpoint(first), limits=LIMITS) as client:
            client.ask("My name is Ada.", timeout_s=WAIT_S)
            client.reconnect(endpoint(second))
            assert "Ada" in client.ask("What is my name?", timeout_s=WAIT_S).text


def greets(peer: Peer) -> None:
    peer.greet()
    peer.read_all()


def test_what_runs_is_over_and_late_frames_of_the_old_server_are_ignored() -> None:
    """An answer runs, and another is asked for."""
    asked, got = threading.Event(), []
    audio = {"response_id": "resp_1", "item_id": "item_1", "output_index": 0, "content_index": 0}

    def old(peer: Peer) -> None:
        peer.greet()
        peer.receive("response.create")
        peer.send(type="response.created", event_id="e", response={"id": "resp_1"})
        peer.send(type="response.output_audio.delta", event_id="e", delta="AAAA" * 4000, **audio)
        peer.receive("input_audio_buffer.clear")
        asked.set()
        peer.read_all()

    def new(peer: Peer) -> None:
        peer.greet()
        while (event := peer.receive())["type"] != "input_audio_buffer.clear":
            got.append(event["type"])
            if event["type"] == "conversation.item.create":
                peer.send(type="conversation.item.added", event_id="e", item=event["item"])
            elif event["type"] == "response.create":
                peer.answer(f"Answer {len(got)}.", f"resp_{len(got)}")
        peer.answer("From the new one.", "resp_9")
        peer.read_all()

    with ScriptedServer(old) as first, ScriptedServer(new) as second:
        client = RealtimeClient(endpoint(first), limits=LIMITS, heard_ms=lambda _item, _part: 10)
        with client:
            updates = client.updates(timeout_s=WAIT_S)
            client.respond()
            waiting = client.respond()
            client.tell(up.Failure(message="of the old server", code="still to be told"))
            client.clear_input()
            assert asked.wait(WAIT_S)
            assert client.answering
            old_connection = client._connection
            client.reconnect(endpoint(second))
            client.on_frames(
                old_connection, [b'{"type":"conversation.item.deleted","event_id":"e","item_id":"late"}'], 0.0
            )
            client.on_end(old_connection, 1006, "", by_us=False)
            told = []
            while kinds(told).count("ResponseDone") < 3:
                told.append(next(updates))
            assert not client.answering
            assert client.interrupt(), "it may still be heard"
            answer = client.next_answer(after=client.clear_input, timeout_s=WAIT_S)
            assert answer.text == "From the new one."
            client.close()
            told += updates
    done = [update for update in told if isinstance(update, up.ResponseDone)]
    assert [each.status for each in done] == ["incomplete", *["completed"] * 3]
    assert done[0].reason == "connection_lost"
    asked = [each.request_id for each in told if isinstance(each, up.ResponseStarted)]
    follows = next(each for each in told if isinstance(each, up.AnswerFollows))
    restored = next(each for each in told if isinstance(each, up.Restored))
    assert asked[1:3] == [follows.request_id, waiting], "the one that ran is asked for again, then the one that waited"
    assert (follows.response_id, restored.asked_again) == ("resp_1", follows.request_id)
    where = [kinds(told).index(kind) for kind in ("AnswerFollows", "ResponseDone", "Restored")]
    assert where == sorted(where)
    assert "ItemDeleted" not in kinds(told), "the old server's"
    assert "Interrupted" in kinds(told)
    assert got == ["response.create"] * 2, "no correction of an item that the new server does not have"


@pytest.mark.parametrize("asked", [False, True], ids=["of its own accord", "asked"])
def test_servers_that_give_the_same_names(asked: bool) -> None:
    """What had a name on the old server is nothing to the new one."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive("response.create" if asked else "input_audio_buffer.clear")
        peer.answer(f"From {peer.websocket.local_address[1]}.", "resp_1")
        peer.read_all()

    with ScriptedServer(script) as first, ScriptedServer(script) as second:
        with RealtimeClient(endpoint(first), limits=LIMITS) as client:
            for server in (first, second):
                if server is second:
                    client.reconnect(endpoint(second))
                cause = client.respond if asked else client.clear_input
                answer = client.next_answer(after=cause, timeout_s=WAIT_S)
                assert f":{answer.text.split()[1][:-1]}/" in server.url
            assert not client.answering


def test_changed_settings_go_along() -> None:
    changes = Changes(instructions="Be brief.", voice="cedar", turn_end="manual", tools=(ToolSpec(name="w"),))
    with LocalServer() as first, LocalServer() as second:
        with RealtimeClient(endpoint(first), limits=LIMITS) as client, client.updates(WAIT_S) as updates:
            client.change(changes)
            next(update for update in updates if isinstance(update, up.SessionChanged))
            before = client.facts
            client.reconnect(endpoint(second))
            assert msgspec.structs.replace(client.facts, expires_at=before.expires_at) == before
            assert client.settings["instructions"] == "Be brief."
    assert (before.voice, before.turn_end, before.tools) == ("cedar", "manual", ("w",))


def test_an_utterance_waits_for_changes_that_are_under_way() -> None:
    """Who ends the turn is a setting: asked at once, the utterance is committed by the new one."""
    speech = read_audio(Path(__file__).parent.parent / "scripts/scenarios/audio/weather_in_paris.ogg", up.PCM16_24K)
    with LocalServer() as server, RealtimeClient(endpoint(server), limits=LIMITS) as client:
        client.change(Changes(turn_end="manual"))
        assert client.ask(audio=speech, timeout_s=WAIT_S).status == "completed"
        assert client.facts.turn_end == "manual"


def test_a_server_that_confirms_nothing_is_not_waited_for_twice() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        for turn in (1, 2):
            peer.receive("response.create")
            peer.answer("Yes.", f"resp_{turn}")
        peer.read_all()

    with ScriptedServer(script) as server, RealtimeClient(endpoint(server), limits=LIMITS) as client:
        client.change(Changes(voice="cedar"))
        assert not client.settled
        for turn in (1, 2):
            assert client.ask(audio=bytes([turn]) * 4800, timeout_s=WAIT_S).text == "Yes."
            assert client.settled


def test_who_brings_the_updates_cannot_wait_for_them() -> None:
    with LocalServer() as server, RealtimeClient(endpoint(server), limits=LIMITS) as client:
        said: list[str] = []

        def ask(update: up.Update, _at_s: float) -> None:
            if isinstance(update, up.ResponseStarted):
                for call in (lambda: client.ask("and?"), client.next_answer):
                    with pytest.raises(errors.UsageError) as refused:
                        call()
                    said.append(str(refused.value))

        client.observe(ask)
        assert client.ask("Count to two.").text
    assert ["ask() waits" in said[0], "next_answer() waits" in said[1]] == [True, True]


def test_the_recording_goes_on(tmp_path: Path) -> None:
    with LocalServer() as first, LocalServer() as second:
        recorder = Recorder.create(tmp_path, settings={})
        with RealtimeClient(endpoint(first), limits=LIMITS, recorder=recorder) as client:
            client.ask("What is 1 plus 2?")
            client.reconnect(endpoint(second))
            client.ask("What is 3 plus 4?")
    lines = (recorder.folder / "transcript.jsonl").read_text().splitlines()
    said = [json.loads(line)["text"] for line in lines]
    assert said == ["What is 1 plus 2?", "1 plus 2 is 3.", "What is 3 plus 4?", "3 plus 4 is 7."]
    assert json.loads((recorder.folder / "session.json").read_text())["errors"] == 0
    assert len(list((recorder.folder / "turns").iterdir())) == 2


def refuses(peer: Peer) -> None:
    peer.websocket.close(1000)


def test_when_no_new_connection_can_be_opened_all_stays_as_it_is() -> None:
    nowhere = Endpoint(url="ws://127.0.0.1:9/v1/realtime", proxy=None)
    with LocalServer() as server, RealtimeClient(endpoint(server), limits=LIMITS) as client:
        before = client.session_id
        with client.updates(timeout_s=WAIT_S) as updates:
            with pytest.raises(errors.HostUnreachableError):
                client.reconnect(nowhere)
            assert client.session_id == before
            assert client.where == endpoint(server).label
            assert "3" in client.ask("What is 1 plus 2?").text
            assert "SessionStarted" not in {type(next(updates)).__name__ for _ in range(3)}
        assert len(session_threads()) == 4, session_threads()


@pytest.mark.parametrize(
    ("script", "kind"),
    [(refuses, errors.SessionRefusedError), (lambda peer: peer.read_all(), errors.NotRealtimeError)],
    ids=["it ends the session at once", "it never greets"],
)
def test_a_new_server_that_does_not_take_it_leaves_all_as_it_was(script: Any, kind: type[Exception]) -> None:
    def old(peer: Peer) -> None:
        peer.greet()
        peer.receive("response.create")
        peer.answer("Still here.")
        peer.read_all()

    limits = Limits(open_timeout_s=0.5, close_timeout_s=2, ping_interval_s=0)
    with ScriptedServer(old) as first, ScriptedServer(script) as second:
        with RealtimeClient(endpoint(first), limits=limits) as client:
            with pytest.raises(kind):
                client.reconnect(endpoint(second))
            assert client.ask("Are you there?", timeout_s=WAIT_S).text == "Still here."
    assert not session_threads()


@pytest.mark.parametrize("phase", ["before the handshake", "before the greeting"])
def test_close_during_a_reconnect_leaves_nothing(phase: str) -> None:
    arrived, let_go, outcome = threading.Event(), threading.Event(), []

    def stuck(peer: Peer) -> None:
        arrived.set()
        peer.read_all()

    def hold(_connection: Any, _request: Any) -> None:
        arrived.set()
        assert let_go.wait(WAIT_S)

    options = {"process_request": hold} if phase == "before the handshake" else {}
    with ScriptedServer(greets) as first, ScriptedServer(stuck, **options) as second:
        client = RealtimeClient(
            endpoint(first), limits=Limits(open_timeout_s=30, close_timeout_s=10, ping_interval_s=0)
        )
        client.open()

        def reconnect() -> None:
            try:
                client.reconnect(endpoint(second))
            except errors.RealtimeError as error:
                outcome.append(error)

        thread = threading.Thread(target=reconnect)
        thread.start()
        assert arrived.wait(WAIT_S)
        with pytest.raises(errors.UsageError, match="under way"):
            client.reconnect()
        began = SYSTEM_CLOCK.monotonic()
        client.close()
        assert not session_threads()
        thread.join(2)
        assert not thread.is_alive()
        assert SYSTEM_CLOCK.monotonic() - began < 5, "nobody waits for one that is not open yet"
        assert isinstance(outcome[0], errors.ClosedError), outcome
        with pytest.raises(errors.ClosedError):
            client.reconnect()
        let_go.set()


def test_an_observer_cannot_reconnect() -> None:
    """It would wait for the thread in which it runs."""
    outcome: queue.Queue[Exception] = queue.Queue()

    def observe(update: up.Update, _at_s: float) -> None:
        if isinstance(update, up.Notice):
            try:
                client.reconnect()
            except errors.UsageError as error:
                outcome.put(error)

    with ScriptedServer(greets) as server, RealtimeClient(endpoint(server), limits=LIMITS) as client:
        client.observe(observe)
        client.tell(notice("now"))
        assert "from another" in str(outcome.get(timeout=WAIT_S))


def test_offsets_go_on_counting_where_no_sound_is_kept() -> None:
    """A session with one connection only, as far as it knows, that is asked for another one."""
    with ScriptedServer(greets) as server, RealtimeClient(endpoint(server), limits=LIMITS) as client:
        client.send_audio(bytes(48_000))
        client.reconnect()
        with client.updates(timeout_s=WAIT_S) as updates:
            heard = b'{"type":"input_audio_buffer.speech_started","event_id":"e","item_id":"i","audio_start_ms":20}'
            client.on_frames(client._connection, [heard], 0.0)
            assert next(each for each in updates if isinstance(each, up.SpeechStarted)).at_ms == 1020
