"""Tools in asyncio programs: those that are coroutines run in the program's own loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any

import pytest
from tool_helpers import WAIT_S, Scripted

from realtime_client import aio
from realtime_client import updates as up
from realtime_client.local import LocalServer
from realtime_client.local.brain import CallTool, Say
from realtime_client.local.parts import Parts
from realtime_client.tools import tool

CALL = [CallTool("look", '{"what": "stars"}')]


@contextlib.contextmanager
def serving(*answers: list[Say | CallTool]):
    with LocalServer(parts=Parts(brain=Scripted(*answers))) as server:
        yield {"url": server.url, "modality": "text", "record": False}


def run(talk: Any) -> Any:
    return asyncio.run(asyncio.wait_for(talk(), WAIT_S))


def test_a_coroutine_runs_in_the_programs_loop_and_the_loop_goes_on_meanwhile():
    seen: list[Any] = []

    async def talk() -> str:
        go = asyncio.Event()  # of this loop

        @tool
        async def look(what: str) -> str:
            """Look at something."""
            seen.append(threading.current_thread())
            asyncio.get_running_loop().call_soon(go.set)
            await go.wait()
            return f"many {what}"

        async with aio.connect(**values, tools=[look]) as session:
            answer = await session.ask("Look!", timeout_s=WAIT_S)
            seen.append(threading.current_thread())
            return f"{answer.text} {[call.name for call in answer.tool_calls]}"

    with serving(CALL, [Say("I see.")]) as values:
        assert run(talk) == "I see. ['look']"
    assert seen[0] is seen[1]


def test_a_plain_function_does_not_hold_up_the_loop():
    go = threading.Event()

    @tool
    def look(what: str) -> str:
        """Look at something."""
        assert go.wait(WAIT_S), "the loop could not let it go"
        return what

    async def talk() -> str:
        async with aio.connect(**values, tools=[look]) as session:
            asked = asyncio.create_task(session.ask("Look!", timeout_s=WAIT_S))
            async with session.updates(timeout_s=WAIT_S) as updates:
                async for update in updates:
                    if isinstance(update, up.ToolStarted):
                        break
            go.set()
            return (await asked).text

    with serving(CALL, [Say("I see.")]) as values:
        assert run(talk) == "I see."


def test_a_coroutine_is_cancelled_where_it_waits_when_the_session_closes():
    ended: list[str] = []

    async def talk() -> None:
        begun = asyncio.Event()

        @tool
        async def look(what: str) -> str:
            """Look at something."""
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ended.append(what)
                raise
            return ""

        async with aio.connect(**values, tools=[look]) as session:
            await session.send_text("Look!")
            await begun.wait()

    with serving(CALL) as values:
        run(talk)
    assert ended == ["stars"]


@pytest.mark.parametrize("approve", [True, False])
def test_a_call_is_allowed_or_refused(approve: bool):
    @tool(allowed=False)
    def look(what: str) -> str:
        """Look at something."""
        return what

    async def talk() -> list[up.Update]:
        told: list[up.Update] = []
        async with aio.connect(**values, tools=[look], asks=True) as session:
            async with session.updates(timeout_s=WAIT_S) as updates:
                await session.send_text("Look!")
                async for update in updates:
                    told.append(update)
                    if isinstance(update, up.ApprovalRequested):
                        await session.approve(update.request_id, approve=approve)
                    if isinstance(update, up.ToolFinished):
                        return told
        raise AssertionError

    with serving(CALL) as values:
        told = run(talk)
    assert told[-1].status == ("completed" if approve else "refused")  # type: ignore[attr-defined]
