"""The session for asyncio programs, in asyncio's debug mode: whatever holds the event loop up, or is left behind, fails."""

from __future__ import annotations

import asyncio
import base64
import gc
import logging
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from scripted_server import SESSION, Peer, ScriptedServer

from realtime_client import LocalServer, aio, errors
from realtime_client import updates as up
from realtime_client.audio.files import read_audio
from realtime_client.changes import Changes
from realtime_client.client.client import RealtimeClient
from realtime_client.client.endpoint import Endpoint
from realtime_client.session.aside import Wake
from realtime_client.session.limits import Limits

T = TypeVar("T")
WAIT_S = 10.0
LONGEST_STEP_S = 1.0  # of the loop: a busy machine can take that long, and what blocks here takes longer
LIMITS = Limits(open_timeout_s=5, close_timeout_s=2, ping_interval_s=0)


def run(main: Callable[[], Awaitable[T]]) -> T:
    """Run to the end in debug mode; any complaint of asyncio's is a failure."""
    complaints: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: complaints.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("asyncio").addHandler(handler)
    try:
        with asyncio.Runner(debug=True) as runner:
            runner.get_loop().slow_callback_duration = LONGEST_STEP_S
            result = runner.run(_within(main))
        gc.collect()  # what was never awaited or never retrieved is told when it goes
    finally:
        logging.getLogger("asyncio").removeHandler(handler)
    assert not complaints
    return result


async def _within(main: Callable[[], Awaitable[T]]) -> T:
    async with asyncio.timeout(3 * WAIT_S):
        return await main()


def endpoint(server: ScriptedServer | LocalServer) -> Endpoint:
    return Endpoint(url=server.url, proxy=None)


def session_of(server: ScriptedServer, limits: Limits = LIMITS) -> aio.Connecting[RealtimeClient]:
    return aio.over(RealtimeClient(endpoint(server), limits=limits))


def our_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("realtime-")]


def greets(peer: Peer) -> None:
    peer.greet()
    peer.read_all()


async def happens(event: threading.Event) -> None:
    """Wait for what a server's thread sets."""
    assert await asyncio.to_thread(event.wait, WAIT_S)


# --- what it does -----------------------------------------------------------------------------------------------------


def test_a_conversation_with_the_local_server() -> None:
    """Updates are those of the threaded session, in its order; the end of the block ends everything."""

    async def main() -> tuple[list[up.Update], list[up.Update]]:
        threaded: list[up.Update] = []
        async with aio.connect(local=True, record=False) as session:
            session.session.observe(lambda update, _at_s: threaded.append(update))
            reader = session.updates()
            answer = await session.ask("What is 2 plus 3?")
            assert "5" in answer.text
            assert answer.timings is not None
            assert session.facts.abilities.answers
            assert session.stats.turn_count == 1
            assert (await session.send_text("Note this.", respond=False)).request_id is None
            await session.change(Changes(instructions="Be brief."))
            assert "7" in (await session.ask("What is 3 plus 4?")).text
        told = [update async for update in reader]
        with pytest.raises(errors.ClosedError):
            await session.ask("Still there?")
        await session.close()
        return threaded, told

    threaded, told = run(main)
    assert told == threaded
    assert isinstance(told[-1], up.SessionEnded)
    assert any(isinstance(update, up.SessionChanged) for update in told)
    assert not our_threads()


def test_a_session_that_outlives_a_block() -> None:
    async def main() -> str:
        session = await aio.connect(local=True, record=False)
        answer = await session.ask("What is 1 plus 2?")
        await session.close()
        await session.close()
        assert not our_threads()
        return answer.text

    assert "3" in run(main)


@pytest.mark.parametrize("vad", [False, True], ids=["by hand", "voice detection"])
def test_ask_with_audio(vad: bool) -> None:
    """Twenty seconds, which the server reads in its own time."""
    sound = bytes(range(256)) * 3750
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
        peer.answer("Heard.")
        peer.read_all()

    async def main() -> str:
        limits = Limits(open_timeout_s=5, close_timeout_s=2, ping_interval_s=10)
        async with session_of(server, limits) as session:
            answer = await session.ask(audio=sound, timeout_s=WAIT_S)
            assert session.session.in_step
            return answer.text

    with ScriptedServer(script) as server:
        assert run(main) == "Heard."
    assert bytes(got[: len(sound)]) == sound


def test_a_tool_result_and_its_answer() -> None:
    call = {"id": "item_c", "type": "function_call", "status": "completed", "call_id": "call_1", "name": "add"}

    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive("response.create")
        peer.send(type="response.created", event_id="e", response={"id": "resp_1"})
        peer.send(type="response.output_item.done", event_id="e", response_id="resp_1", output_index=0, item=call)
        peer.send(type="response.done", event_id="e", response={"id": "resp_1", "status": "completed"})
        assert peer.receive("conversation.item.create")["item"]["output"] == "5"
        peer.receive("response.create")
        peer.answer("It is 5.", "resp_2")
        error = {
            "type": "x",
            "code": "busy",
            "message": "not now",
            "event_id": peer.receive("response.create")["event_id"],
        }
        peer.send(type="error", event_id="e", error=error)
        peer.read_all()

    async def main() -> None:
        async with session_of(server) as session:
            answer = await session.ask("Add.")
            (made,) = answer.tool_calls
            answer = await session.next_answer(after=lambda: session.send_tool_result(made.call_id, "5"))
            assert answer.text == "It is 5."
            with pytest.raises(errors.ResponseFailedError, match="not now"):
                await session.next_answer(after=session.respond, timeout_s=WAIT_S)
            with pytest.raises(errors.TimeLimitError, match=r"no complete answer within 0\.01 s"):
                await session.next_answer(timeout_s=0.01)
            async with session.updates(timeout_s=0.01) as updates:
                with pytest.raises(errors.TimeLimitError, match="no update in time"):
                    await anext(updates)
            assert [update async for update in updates] == [], "closed"

    with ScriptedServer(script) as server:
        run(main)


# --- errors -----------------------------------------------------------------------------------------------------------


def never_greets(peer: Peer) -> None:
    peer.read_all()


def refuses_the_request(peer: Peer) -> None:
    peer.greet()
    request = peer.receive("response.create")
    error = {"type": "invalid_request_error", "code": "no", "message": "not today", "event_id": request["event_id"]}
    peer.send(type="error", event_id="e", error=error)
    peer.read_all()


def drops_in_the_middle(peer: Peer) -> None:
    peer.greet()
    peer.receive("response.create")
    peer.send(type="response.created", event_id="e", response={"id": "resp_1"})
    peer.drop()


def closes_before_the_answer(peer: Peer) -> None:
    peer.greet()
    peer.receive("response.create")
    peer.websocket.close(1001)


def wrong_key(connection: Any, _request: Any) -> Any:
    return connection.respond(401, "no")


@pytest.mark.parametrize(
    ("script", "kind", "ask", "options"),
    [
        (greets, errors.AuthenticationError, {"text": "x"}, {"process_request": wrong_key}),
        (never_greets, errors.NotRealtimeError, {"text": "x"}, {}),
        (greets, errors.UsageError, {"text": " "}, {}),
        (greets, errors.UsageError, {}, {}),
        (greets, errors.UsageError, {"audio": b"odd"}, {}),
        (greets, errors.TimeLimitError, {"text": "x", "timeout_s": 0.05}, {}),
        (refuses_the_request, errors.ResponseFailedError, {"text": "x"}, {}),
        (drops_in_the_middle, errors.ConnectionLostError, {"text": "x"}, {}),
        (closes_before_the_answer, errors.ConnectionLostError, {"text": "x"}, {}),
    ],
)
def test_errors_are_those_of_the_threaded_session(script: Any, kind: Any, ask: Any, options: Any) -> None:
    limits = Limits(open_timeout_s=1, close_timeout_s=2, ping_interval_s=0)

    async def main() -> BaseException:
        with pytest.raises(errors.RealtimeError) as caught:
            async with session_of(server, limits) as session:
                await session.ask(**ask)
        return caught.value

    with ScriptedServer(script, **options) as server:
        with pytest.raises(errors.RealtimeError) as caught:
            with RealtimeClient(endpoint(server), limits=limits) as client:
                client.ask(**ask)
        error = run(main)
    assert type(error) is type(caught.value) is kind
    assert str(error) == str(caught.value)
    assert not our_threads()


def test_a_setting_that_does_not_exist() -> None:
    with pytest.raises(errors.UsageError, match="there is no setting 'colour'"):
        aio.connect(colour="red")


def test_a_reader_that_lags_behind() -> None:
    """It gets what it has, then an error; the session goes on."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive("input_audio_buffer.clear")
        for number in range(10):
            peer.send(type="conversation.item.deleted", event_id="e", item_id=str(number))
        peer.read_all()

    all_told = threading.Event()

    async def main() -> None:
        limits = Limits(open_timeout_s=5, close_timeout_s=2, ping_interval_s=0, updates_queue=3)
        async with session_of(server, limits) as session:
            lagging = session.updates()
            session.session.observe(lambda update, _at_s: getattr(update, "item_id", "") == "9" and all_told.set())
            await session.clear_input()
            await happens(all_told)
            assert [(await anext(lagging)).item_id for _ in range(3)] == ["0", "1", "2"]
            with pytest.raises(errors.QueueFullError, match="more than 3 updates behind"):
                await anext(lagging)
            assert session.session.error is None

    with ScriptedServer(script) as server:
        run(main)


def test_one_wake_up_for_many_updates() -> None:
    async def main() -> int:
        loop, woken, queue = asyncio.get_running_loop(), [], []
        wake, call = Wake(), loop.call_soon_threadsafe
        loop.call_soon_threadsafe = lambda *given: (woken.append(1), call(*given))[1]  # type: ignore[assignment]
        waits = asyncio.create_task(wake.until(lambda: queue or None, WAIT_S))
        await asyncio.sleep(0)

        def bring() -> None:
            for number in range(1000):
                queue.append(number)
                wake.ring()

        thread = threading.Thread(target=bring)
        thread.start()
        thread.join()
        assert len(await waits) == 1000
        thread = threading.Thread(target=bring)
        thread.start()
        thread.join()
        return len(woken)

    assert run(main) == 1


def test_whoever_still_waits_is_woken_when_another_has_what_it_wanted() -> None:
    async def main() -> None:
        wake, here = Wake(), set()
        one, other = (asyncio.create_task(wake.until(lambda name=name: name in here or None, WAIT_S)) for name in "ab")
        await asyncio.sleep(0)
        for name, task in (("a", one), ("b", other)):
            here.add(name)
            await asyncio.to_thread(wake.ring)
            assert await task
        with pytest.raises(TimeoutError):
            await wake.until(lambda: None, 0.01)

    run(main)


# --- room -------------------------------------------------------------------------------------------------------------


def frozen(peer: Peer) -> None:
    peer.greet()
    peer.freeze()


def test_a_server_that_does_not_read_holds_nobody_up() -> None:
    """What finds no room waits without the loop, can be cancelled at once, and fails after its time limit."""
    limits = Limits(open_timeout_s=5, write_timeout_s=1.5, close_timeout_s=2, ping_interval_s=0, outbox_queue=2)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with session_of(server, limits) as session:
            sent = 0
            with pytest.raises(errors.QueueFullError, match=r"1\.5 s"):
                while sent < 1000:
                    await session.send_audio(bytes(96_000))
                    sent += 1
            assert 2 <= sent < 1000
            began = loop.time()
            for call in (session.commit, session.respond, lambda: session.send_text("x")):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await call()
            with pytest.raises(errors.QueueFullError):
                session.session.respond()
            assert loop.time() - began < LONGEST_STEP_S
            assert not session.session._conversation.gate.wanted, "a request that was not sent is none"
            waits = [asyncio.create_task(session.clear_input()) for _ in range(5)]
            await asyncio.sleep(0)
            began = loop.time()
            await session.close()
            assert loop.time() - began < 2.5
            for outcome in await asyncio.gather(*waits, return_exceptions=True):
                assert isinstance(outcome, errors.ClosedError), outcome

    with ScriptedServer(frozen) as server:
        run(main)
    assert not our_threads()


def test_room_comes_in_the_order_of_the_calls() -> None:
    """Forty tasks and an outbox for one message."""
    got: list[str] = []

    def script(peer: Peer) -> None:
        peer.greet()
        while len(got) < 40:
            got.append(peer.receive("conversation.item.create")["item"]["content"][0]["text"])
        peer.read_all()

    async def main() -> None:
        limits = Limits(open_timeout_s=5, close_timeout_s=2, ping_interval_s=0, outbox_queue=1, inbound_queue=1)
        async with session_of(server, limits) as session:
            session.session.observe(lambda _update, _at_s: None)
            await asyncio.gather(*(session.send_text(str(number), respond=False) for number in range(40)))

    with ScriptedServer(script) as server:
        run(main)
    assert got == [str(number) for number in range(40)]


def test_observers_that_are_behind_are_waited_for_without_the_loop() -> None:
    free = threading.Event()

    async def main() -> None:
        limits = Limits(open_timeout_s=5, close_timeout_s=2, ping_interval_s=0, inbound_queue=1)
        async with session_of(server, limits) as session:
            session.session.observe(lambda _update, _at_s: free.wait(WAIT_S))
            for number in range(2):  # one is in the observer's hands at most
                await session.send_text(f"{number}", respond=False)
                if session.session.is_behind():
                    break
            session.session.tell(up.Notice(message="behind"))
            session.session.tell(up.Notice(message="behind"))
            waits = asyncio.create_task(session.send_text("last", respond=False))
            await asyncio.sleep(0)
            assert not waits.done()
            free.set()
            await waits

    with ScriptedServer(greets) as server:
        run(main)


# --- cancelling -------------------------------------------------------------------------------------------------------


class Stage:
    """A server that answers what is asked first, slowly, and lists what it is sent."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.reached, self.go = threading.Event(), threading.Event()

    def until(self, peer: Peer, kind: str) -> dict[str, Any]:
        while True:
            event = peer.receive()
            self.got.append(event)
            if event["type"] == kind:
                return event

    def begin(self, peer: Peer, response_id: str) -> None:
        peer.send(type="response.created", event_id="e", response={"id": response_id})

    def done(self, peer: Peer, response_id: str, status: str = "cancelled") -> None:
        peer.send(type="response.done", event_id="e", response={"id": response_id, "status": status})

    def reach(self) -> None:
        self.reached.set()
        assert self.go.wait(WAIT_S)

    def kinds(self) -> list[str]:
        return [event["type"] for event in self.got if event["type"].startswith("response")]


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("begun", [False, True], ids=["before it begins", "in the middle"])
def test_cancelling_ask_cancels_its_answer(begun: bool) -> None:
    stage = Stage()

    def script(peer: Peer) -> None:
        peer.greet()
        stage.until(peer, "response.create")
        if begun:
            stage.begin(peer, "resp_1")
        stage.reach()
        if not begun:
            stage.begin(peer, "resp_1")
        assert stage.until(peer, "response.cancel")["response_id"] == "resp_1"
        stage.done(peer, "resp_1")
        stage.until(peer, "response.create")
        peer.answer("The next one.", "resp_2")
        peer.read_all()

    async def main() -> None:
        async with session_of(server) as session:
            updates = session.updates(timeout_s=WAIT_S)
            task = asyncio.create_task(session.ask("A long story."))
            await happens(stage.reached)
            if begun:
                await anext(update async for update in updates if isinstance(update, up.ResponseStarted))
            await cancelled(task)
            assert not session.session.answering or begun
            stage.go.set()
            assert (await session.ask("Another.")).text == "The next one."
            updates.close()

    with ScriptedServer(script) as server:
        run(main)
    assert stage.kinds() == ["response.create", "response.cancel", "response.create"]


@pytest.mark.parametrize("others", [0, 1], ids=["for itself", "shared with another ask"])
def test_cancelling_an_ask_that_waits_behind_a_running_answer(others: int) -> None:
    """Its request never leaves, unless somebody else waits for the same answer."""
    stage = Stage()

    def script(peer: Peer) -> None:
        peer.greet()
        stage.until(peer, "response.create")
        stage.begin(peer, "resp_1")
        stage.reach()
        stage.done(peer, "resp_1")
        if others:
            stage.until(peer, "response.create")
            peer.answer("For the other.", "resp_2")
        stage.until(peer, "input_audio_buffer.clear")
        peer.read_all()

    async def main() -> None:
        async with session_of(server) as session:
            updates = session.updates(timeout_s=WAIT_S)
            await session.respond()
            await happens(stage.reached)
            await anext(update async for update in updates if isinstance(update, up.ResponseStarted))
            tasks = [asyncio.create_task(session.ask(f"Question {number}")) for number in range(1 + others)]
            await asyncio.sleep(0)
            await cancelled(tasks[0])
            stage.go.set()
            for task in tasks[1:]:
                assert (await task).text == "For the other."
            await anext(update async for update in updates if isinstance(update, up.ResponseDone))
            await session.clear_input()
            updates.close()

    with ScriptedServer(script) as server:
        run(main)
    assert stage.kinds() == ["response.create", "response.cancel", *["response.create"] * others]


def test_an_utterance_waits_for_changes_that_are_under_way() -> None:
    speech = read_audio(Path(__file__).parent.parent / "scripts/scenarios/audio/weather_in_paris.ogg", up.PCM16_24K)

    async def main() -> str:
        async with aio.connect(url=server.url, record=False) as session:
            await session.change(Changes(turn_end="manual"))
            return (await session.ask(audio=speech, timeout_s=WAIT_S)).status

    with LocalServer() as server:
        assert run(main) == "completed"


@pytest.mark.parametrize("caused", [False, True], ids=["somebody else's", "its own"])
def test_cancelling_next_answer(caused: bool) -> None:
    """It stops the answer that it caused, and leaves one that somebody else asked for."""
    stage, asked, listening = Stage(), threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.greet()
        stage.until(peer, "response.create")
        asked.set()
        assert listening.wait(WAIT_S)
        stage.begin(peer, "resp_1")
        stage.reach()
        if caused:
            stage.until(peer, "response.cancel")
        stage.done(peer, "resp_1", "cancelled" if caused else "completed")
        peer.read_all()

    async def main() -> str:
        async with session_of(server) as session:
            if caused:
                task = asyncio.create_task(session.next_answer(after=session.respond))
            else:
                task = asyncio.create_task(session.next_answer())
                await asyncio.sleep(0)
                await session.respond()
            await happens(asked)
            updates = session.updates(timeout_s=WAIT_S)  # behind the task's own: what is read here, it has been told
            listening.set()
            await happens(stage.reached)
            await anext(update async for update in updates if isinstance(update, up.ResponseStarted))
            await asyncio.sleep(0)
            await cancelled(task)
            stage.go.set()
            done = await anext(update async for update in updates if isinstance(update, up.ResponseDone))
            updates.close()
            return done.status

    with ScriptedServer(script) as server:
        assert run(main) == ("cancelled" if caused else "completed")
    assert stage.kinds() == ["response.create", *["response.cancel"] * caused]


def test_cancelling_audio_on_its_way() -> None:
    """The server reads nothing of it for a while: no more is sent, and what it holds is thrown away."""
    stage = Stage()

    def script(peer: Peer) -> None:
        peer.greet()
        stage.until(peer, "input_audio_buffer.append")
        with peer.websocket.protocol_mutex:
            stage.reach()
        stage.until(peer, "input_audio_buffer.clear")
        stage.until(peer, "response.create")
        peer.answer("Yes.")
        peer.read_all()

    async def main() -> None:
        limits = Limits(open_timeout_s=5, close_timeout_s=2, ping_interval_s=10)
        async with session_of(server, limits) as session:
            task = asyncio.create_task(session.ask(audio=bytes(48_000 * 60)))
            await happens(stage.reached)
            loop = asyncio.get_running_loop()
            began = loop.time()
            await cancelled(task)
            assert loop.time() - began < LONGEST_STEP_S
            stage.go.set()
            assert (await session.ask("Are you there?")).text == "Yes."

    with ScriptedServer(script) as server:
        run(main)
    appended = sum(len(event["audio"]) * 3 // 4 for event in stage.got if event["type"] == "input_audio_buffer.append")
    assert appended < 48_000 * 10
    assert stage.kinds() == ["response.create"]


def test_another_connection_holds_nobody_up() -> None:
    """Whoever reconnects waits, the loop does not: what it does meanwhile lets the new server answer."""
    stage = Stage()

    def hold(_connection: Any, _request: Any) -> None:
        if stage.reached.is_set():
            stage.go.wait(WAIT_S)
        stage.reached.set()

    async def main() -> None:
        async with session_of(server) as session:
            again = asyncio.create_task(session.reconnect())
            await asyncio.sleep(0)
            stage.go.set()
            await again
            await session.reconnect(endpoint(server))
            with pytest.raises(errors.UsageError, match="where to connect to"):
                await session.reconnect("ws://x")  # type: ignore[arg-type]

    with ScriptedServer(greets, process_request=hold) as server:
        run(main)


def test_updates_of_a_lost_connection_are_passed_on() -> None:
    told: list[up.Update] = [
        up.ConnectionLost(code=1006, reason="gone", goes_on=True),
        up.Reconnecting(attempt=1, in_s=0.0, reason="gone", left_s=300.0),
        up.Restored(reason="lost", away_ms=300),
    ]

    async def main() -> None:
        async with session_of(server) as session, session.updates(timeout_s=WAIT_S) as updates:
            for update in told:
                session.session.tell(update)
            assert [await anext(updates) for _ in told] == told

    with ScriptedServer(greets) as server:
        run(main)


@pytest.mark.parametrize("phase", ["at once", "before the handshake", "before the greeting"])
def test_cancelled_while_opening(phase: str) -> None:
    stage = Stage()

    def hold(_connection: Any, _request: Any) -> None:
        if phase == "before the handshake":
            stage.reach()

    def script(peer: Peer) -> None:
        stage.reached.set()
        peer.read_all()

    async def main() -> float:
        loop = asyncio.get_running_loop()
        limits = Limits(open_timeout_s=60, close_timeout_s=2, ping_interval_s=0)

        async def talk() -> None:
            async with session_of(server, limits):
                pytest.fail("it was never open")

        task = asyncio.create_task(talk())
        await asyncio.sleep(0)
        if phase != "at once":
            await happens(stage.reached)
        began = loop.time()
        await cancelled(task)
        stage.go.set()
        assert not our_threads()
        return loop.time() - began

    with ScriptedServer(script, process_request=hold) as server:
        assert run(main) < 2.5
        stage.go.set()


def test_cancelled_while_the_local_server_starts() -> None:
    async def main() -> None:
        async def talk() -> None:
            async with aio.connect(local=True, record=False):
                pytest.fail("it was never open")

        task = asyncio.create_task(talk())
        await asyncio.sleep(0)
        await cancelled(task)
        assert not our_threads()

    run(main)


class _OwnError(Exception):
    pass


@pytest.mark.parametrize("how", ["exception", "cancelled", "cancelled while closing"])
def test_leaving_closes_the_session_whatever_happens(how: str) -> None:
    """The server does not even take the goodbye: the close time limit holds, and the loop goes on meanwhile."""
    entered = asyncio.Event()

    async def talk() -> None:
        async with session_of(server, Limits(open_timeout_s=5, close_timeout_s=2, ping_interval_s=0)):
            entered.set()
            if how == "exception":
                raise _OwnError
            if how == "cancelled":
                await asyncio.Event().wait()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(talk())
        await entered.wait()
        began, ticks = loop.time(), 0
        if how == "cancelled while closing":
            await asyncio.sleep(0)
        if how != "exception":
            task.cancel()
        while not task.done():
            await asyncio.wait([task], timeout=0.05)
            ticks += 1
        assert loop.time() - began < 2.5
        assert ticks > 3, "the loop stood still"
        assert not our_threads()
        if how == "exception":
            assert isinstance(task.exception(), _OwnError)
        else:
            assert task.cancelled()

    with ScriptedServer(frozen) as server:
        run(main)


def test_an_exception_of_an_observer_is_raised_at_the_end_and_told_once() -> None:
    def breaks(_update: up.Update, _at_s: float) -> None:
        raise _OwnError

    async def main() -> None:
        with pytest.raises(_OwnError):
            async with session_of(server) as session:
                session.session.observe(breaks)
                session.session.tell(up.Notice(message="now"))
                with pytest.raises(errors.RealtimeError):
                    async for _ in session.updates():
                        pass
        await session.close()

    with ScriptedServer(greets) as server:
        run(main)
