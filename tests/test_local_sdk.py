"""The official clients against the local server: a written turn, a spoken turn, a function call."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from local_helpers import WAIT_S, flite

from realtime_client.local import LocalServer

openai = pytest.importorskip("openai")
pytest.importorskip("agents")

TOOL: dict[str, Any] = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
SESSION: dict[str, Any] = {
    "type": "realtime",
    "tools": [TOOL],
    "audio": {"input": {"transcription": {"model": "gpt-transcribe"}}},
}


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer(pace=0, token="test-key") as running:
        yield running


def _base_url(server: LocalServer) -> str:
    return f"http://127.0.0.1:{server.port}/v1"


def _message(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def _question() -> list[str]:
    pcm = bytes(48 * 300) + flite("what can you do") + bytes(48 * 1_000)
    return [base64.b64encode(pcm[i : i + 4_800]).decode() for i in range(0, len(pcm), 4_800)]


def _call(done: Any) -> Any:
    (call,) = done.response.output
    assert json.loads(call.arguments) == {"city": "Paris"}
    return call


@pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager:DeprecationWarning")
def test_openai_sync(server):
    client = openai.OpenAI(api_key="test-key", base_url=_base_url(server), timeout=WAIT_S)
    with client, client.realtime.connect(model="gpt-realtime") as connection:

        def until(kind: str) -> Any:
            for event in connection:
                assert event.type != "error", event
                if event.type == kind:
                    return event
            raise AssertionError("the session ended")

        assert until("session.created").session.model == "gpt-realtime"
        connection.session.update(session=SESSION)
        connection.conversation.item.create(item=_message("count to three"))
        connection.response.create()
        done = until("response.done")
        assert done.response.output[0].content[0].transcript == "One, two, three. "
        for chunk in _question():
            connection.input_audio_buffer.append(audio=chunk)
        transcript = until("conversation.item.input_audio_transcription.completed").transcript
        assert transcript == "what can you do"
        assert "demo brain" in until("response.done").response.output[0].content[0].transcript
        connection.conversation.item.create(item=_message("what is the weather in Paris"))
        connection.response.create()
        call = _call(until("response.done"))
        output = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
        connection.conversation.item.create(item=output)
        connection.response.create()
        assert "sunny" in until("response.done").response.output[0].content[0].transcript


def test_openai_async(server):
    async def run() -> None:
        client = openai.AsyncOpenAI(api_key="test-key", base_url=_base_url(server), timeout=WAIT_S)
        async with client, client.realtime.connect(model="gpt-realtime") as connection:

            async def until(kind: str) -> Any:
                async for event in connection:
                    assert event.type != "error", event
                    if event.type == kind:
                        return event
                raise AssertionError("the session ended")

            await connection.session.update(session=SESSION)
            await connection.conversation.item.create(item=_message("count to three"))
            await connection.response.create()
            assert (await until("response.done")).response.output[0].content[0].transcript == "One, two, three. "
            for chunk in _question():
                await connection.input_audio_buffer.append(audio=chunk)
            assert "demo brain" in (await until("response.done")).response.output[0].content[0].transcript
            await connection.conversation.item.create(item=_message("what is the weather in Paris"))
            await connection.response.create()
            call = _call(await until("response.done"))
            output = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
            await connection.conversation.item.create(item=output)
            await connection.response.create()
            assert "sunny" in (await until("response.done")).response.output[0].content[0].transcript

    asyncio.run(asyncio.wait_for(run(), WAIT_S * 2))


def test_openai_agents(server):
    from agents import function_tool, set_tracing_disabled
    from agents.realtime import RealtimeAgent, RealtimeRunner

    set_tracing_disabled(disabled=True)
    asked: list[str] = []

    @function_tool
    def get_weather(city: str) -> str:
        """The weather in a city."""
        asked.append(city)
        return "sunny"

    async def run() -> None:
        agent = RealtimeAgent(name="demo", instructions="Be kind.", tools=[get_weather])
        settings = {"model_name": "gpt-realtime", "turn_detection": {"type": "server_vad"}}
        runner = RealtimeRunner(agent, config={"model_settings": settings, "tracing_disabled": True})
        session = await runner.run(model_config={"url": server.url + "?model=gpt-realtime", "api_key": "test-key"})
        async with session:
            said: list[str] = []
            raw_types: list[str] = []
            audio = bytearray()

            async def turn() -> None:
                """Read on until an answer in words is complete."""
                said.clear()
                async for event in session:
                    assert event.type != "error", event
                    if event.type == "raw_model_event":
                        raw_types.append(event.data.type)
                        if event.data.type == "transcript_delta":
                            said.append(event.data.delta)
                        assert event.data.type not in {"error", "exception"}, event.data
                    elif event.type == "audio":
                        audio.extend(event.audio.data)
                    elif event.type == "agent_end" and said:
                        return

            await session.send_message("count to three")
            await turn()
            assert "".join(said) == "One, two, three. "
            assert len(audio) > 48 * 500
            await session.send_audio(bytes(48 * 300) + flite("what can you do") + bytes(48 * 1_000))
            await turn()
            assert "demo brain" in "".join(said)
            assert "input_audio_transcription_completed" in raw_types
            await session.send_message("what is the weather in Paris")
            await turn()
            assert asked == ["Paris"]
            assert "sunny" in "".join(said)

    asyncio.run(asyncio.wait_for(run(), WAIT_S * 2))
