"""Text models in asyncio programs, in asyncio's debug mode: nothing holds the event loop up, nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest
from test_aio import our_threads, run
from text_server import Request, TextServer, answers, delta, drops, refuses, stream

from realtime_client import aio, errors
from realtime_client import updates as up
from realtime_client.chat.session import ChatSession
from realtime_client.chat.wires.pieces import FinishPiece, Piece
from realtime_client.client.client import RealtimeClient
from realtime_client.client.endpoint import Endpoint

IMAGE = "data:image/png;base64,iVBORw0KGgo="
LIMIT_S = 20.0


def session_of(server: TextServer) -> aio.Connecting[ChatSession]:
    return aio.connect_text(model="openai/test", url=server.url, token="sk-123456789", record=False, retry_delay_s=0.01)


async def wait_for(updates: aio.Updates, kind: type[up.Update], **fields: object) -> up.Update:
    async for update in updates:
        if isinstance(update, kind) and all(getattr(update, name) == value for name, value in fields.items()):
            return update
    raise AssertionError("it never came")


def test_a_conversation() -> None:
    async def main() -> None:
        with TextServer(answers("Hello", " there."), refuses(503), answers("Fine.")) as server:
            async with session_of(server) as session:
                answer = await session.ask("Hi", timeout_s=LIMIT_S)
                assert (answer.text, answer.usage and answer.usage.total_tokens) == ("Hello there.", 10)
                assert session.facts.abilities.audio_in is False
                async with session.updates(LIMIT_S) as updates:
                    await session.send_text("How are you?")
                    assert (await wait_for(updates, up.Failure)).action == "retry"  # type: ignore[attr-defined]
                    done = await wait_for(updates, up.ResponseDone)
                assert isinstance(done, up.ResponseDone)
                assert done.text == "Fine."
                assert session.stats.turn_count == 2
                with pytest.raises(errors.UsageError, match="takes text, not sound"):
                    await session.send_audio(b"\0\0")

    run(main)


def test_images_several_answers_again_other_words_and_a_choice() -> None:
    async def main() -> None:
        with TextServer(answers("a"), answers("b"), answers("c"), answers("d"), answers("e")) as server:
            async with session_of(server) as session, session.updates(LIMIT_S) as updates:
                await session.send_text("What is this?", images=[IMAGE], answers=2)
                first = await wait_for(updates, up.Alternatives)
                assert isinstance(first, up.Alternatives)
                assert sorted(first.texts) == ["a", "b"]
                parts = server.requests[0].json["messages"][-1]["content"]
                assert [part["type"] for part in parts] == ["image_url", "text"]
                await session.retry()
                again = await wait_for(updates, up.Alternatives)
                assert isinstance(again, up.Alternatives)
                assert again.texts[again.chosen] == "c"
                await session.choose(0)
                await wait_for(updates, up.Alternatives, chosen=0)
                await session.edit("And what is that?")
                done = await wait_for(updates, up.ResponseDone)
                assert isinstance(done, up.ResponseDone)
                assert done.text == "d"
                assert "And what is that?" in server.requests[3].body.decode()
                assert "What is this?" not in server.requests[3].body.decode()
                await session.respond(answers=2)
                await wait_for(updates, up.Alternatives)
                for call in (session.choose(7), session.retry(99), session.send_text("x", answers=0)):
                    with pytest.raises(errors.UsageError):
                        await call

    run(main)


def test_ask_takes_images_and_waits_for_several_answers() -> None:
    """As `ChatSession.ask` does, whichever of them is made last."""
    held = threading.Event()
    over: list[str] = []

    def script(request: Request) -> None:
        number = server.requests.index(request)
        if number == 2:
            request.wait(held)
        answers(f"answer {number}")(request)

    def count(piece: Piece) -> None:
        if isinstance(piece, FinishPiece):
            over.append(piece.stream)
            if len(over) == 2:
                held.set()

    async def main() -> None:
        async with session_of(server) as session:
            session.session.watch(count)
            answer = await session.ask("What is this?", images=[IMAGE], answers=3, timeout_s=LIMIT_S)
            assert {answer.text, *answer.alternatives} == {"answer 0", "answer 1", "answer 2"}
            assert server.requests[0].json["messages"][-1]["content"][0]["type"] == "image_url"
            assert (await session.ask("", images=[IMAGE], timeout_s=LIMIT_S)).status == "completed"

    with TextServer(script) as server:
        run(main)


def test_a_session_has_the_same_threads_as_everywhere() -> None:
    async def main() -> None:
        with TextServer(answers("a")) as server:
            async with session_of(server) as session:
                await session.ask("Hi", timeout_s=LIMIT_S)
                names = {name for name in our_threads() if not name.startswith("realtime-stream")}
                assert names == {"realtime-audio", "realtime-coordinator"}

    run(main)
    assert our_threads() == []


@pytest.mark.parametrize("by", ["cancel", "task"])
def test_cancelling_ends_the_request_at_the_server(by: str) -> None:

    def waits(request: Request) -> None:
        request.wait_gone()

    async def main() -> None:
        with TextServer(stream(delta("One, two"), waits), answers("Fine.")) as server:
            async with session_of(server) as session:
                async with session.updates(LIMIT_S) as updates:
                    asking = asyncio.create_task(session.ask("Count", timeout_s=LIMIT_S))
                    await wait_for(updates, up.TextDelta)
                    if by == "cancel":
                        assert await session.cancel() is True
                        answer = await asking
                        assert (answer.status, answer.text) == ("cancelled", "One, two")
                    else:
                        asking.cancel()
                        with contextlib.suppress(asyncio.CancelledError):
                            await asking
                        await wait_for(updates, up.ResponseDone, status="cancelled")
                assert (await session.ask("And now?", timeout_s=LIMIT_S)).text == "Fine."
                assert await asyncio.to_thread(server.requests[0].gone.wait, LIMIT_S)

    run(main)


def test_failures_are_those_of_the_threaded_session() -> None:
    async def main() -> None:
        with TextServer(stream(delta("x"), drops), refuses(400, {"error": {"message": "not that"}})) as server:
            async with session_of(server) as session:
                with pytest.raises(errors.ResponseFailedError, match="not that"):
                    await session.ask("Hi", timeout_s=LIMIT_S)
                with pytest.raises(errors.UsageError, match="over a new connection each time"):
                    await session.reconnect()

    run(main)


def test_a_realtime_session_has_none_of_these() -> None:
    async def main() -> None:
        session = aio.AsyncSession(RealtimeClient(Endpoint(url="ws://127.0.0.1:1", proxy=None)), bool)
        for call in (
            session.retry(),
            session.edit("x"),
            session.choose(0),
            session.respond(answers=2),
            session.send_text("x", answers=2),
        ):
            with pytest.raises(errors.UsageError, match="only text models have that"):
                await call

    run(main)
