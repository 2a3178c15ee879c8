"""`openai-agents` and our client with the same functions against the same servers: the same calls, the same outcome."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from text_server import DONE, TextServer, answers, delta, stream
from tool_helpers import WAIT_S

import realtime_client
from realtime_client.local import LocalServer
from realtime_client.local.brain import BrainTurn, CallTool, Say
from realtime_client.local.demo_brain import DemoBrain
from realtime_client.local.parts import Parts
from realtime_client.tools import tool


def get_weather(city: str, days: int = 1) -> str:
    """Tell the weather in a city.

    Args:
        city: The city's name.
        days: How many days ahead.
    """
    return f"sunny in {city} for {days}"


def add(first: int, second: int) -> str:
    """Add two numbers.

    Args:
        first: One number.
        second: Another one.
    """
    return str(first + second)


FUNCTIONS = [get_weather, add]
QUESTION = "What is the weather in Paris?"


class Remembering(DemoBrain):
    """The demo brain; `turns` holds what it was asked."""

    def __init__(self) -> None:
        self.turns: list[BrainTurn] = []

    def reply(self, turn: BrainTurn) -> Iterator[Say | CallTool]:
        self.turns.append(turn)
        return super().reply(turn)


def shape(parameters: dict[str, Any] | None) -> dict[str, Any]:
    """What a schema means: names, types, descriptions, and what must be there."""
    assert parameters is not None
    return {
        name: (each.get("type"), each.get("description"), name in parameters.get("required", ()))
        for name, each in parameters["properties"].items()
    }


def seen(turns: list[BrainTurn]) -> list[Any]:
    return [
        (
            [
                (each.role, each.text if each.role != "call" else json.loads(each.text), each.name)
                for each in turn.utterances
            ],
            {each.name: (each.description, shape(each.parameters)) for each in turn.tools},
        )
        for turn in turns
    ]


def ours_aloud(url: str) -> str:
    tools = [tool(each) for each in FUNCTIONS]
    with realtime_client.connect(url=url, record=False, modality="text", tools=tools) as session:
        return session.ask(QUESTION, timeout_s=WAIT_S).text


def theirs_aloud(url: str) -> str:
    from agents import function_tool, set_tracing_disabled
    from agents.realtime import RealtimeAgent, RealtimeModelConfig, RealtimeRunner

    async def talk() -> str:
        set_tracing_disabled(disabled=True)
        tools = [function_tool(each, strict_mode=False) for each in FUNCTIONS]
        runner = RealtimeRunner(RealtimeAgent(name="it", tools=tools))
        settings: Any = {"modalities": ["text"], "model_name": "gpt-realtime"}
        model = RealtimeModelConfig(url=url, api_key="none", initial_model_settings=settings)
        async with await runner.run(model_config=model) as session:
            await session.send_message(QUESTION)
            async for event in session:
                if event.type in {"history_added", "history_updated"}:
                    items = event.history if event.type == "history_updated" else [event.item]
                    said = [part for item in items if getattr(item, "role", "") == "assistant" for part in item.content]
                    if text := "".join(part.text or "" for part in said if part.type == "text"):
                        return text
        raise AssertionError("no answer")

    return asyncio.run(asyncio.wait_for(talk(), WAIT_S))


def test_the_local_server_is_told_the_same_and_says_the_same():
    told = []
    for talk in (ours_aloud, theirs_aloud):
        brain = Remembering()
        with LocalServer(parts=Parts(brain=brain)) as server:
            text = talk(server.url)
        told.append((text, seen(brain.turns)))
    ours, theirs = told
    assert ours[1] == theirs[1]
    assert "sunny in Paris" in ours[0]
    assert ours[0].startswith(theirs[0])


def calls() -> Any:
    asked = [("get_weather", '{"city": "Paris"}'), ("add", '{"first": 2, "second": 3}'), ("add", '{"first": "two"}')]
    made = [
        {"index": n, "id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for n, (name, arguments) in enumerate(asked)
    ]
    return stream(delta(tool_calls=made), delta(finish="tool_calls"), DONE)


def ours_in_writing(server: TextServer) -> str:
    tools = [tool(each) for each in FUNCTIONS]
    settings = {"model": "openai/m", "url": server.url, "token": "none", "record": False}
    with realtime_client.connect_text(**settings, tools=tools) as session:
        return session.ask(QUESTION, timeout_s=WAIT_S).text


def theirs_in_writing(server: TextServer) -> str:
    from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled
    from openai import AsyncOpenAI

    async def talk() -> str:
        set_tracing_disabled(disabled=True)
        tools = [function_tool(each, strict_mode=False) for each in FUNCTIONS]
        client = AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0)
        agent = Agent(name="it", tools=tools, model=OpenAIChatCompletionsModel("m", client))
        result = Runner.run_streamed(agent, QUESTION)
        async for _ in result.stream_events():
            pass
        await client.close()
        return str(result.final_output)

    return asyncio.run(asyncio.wait_for(talk(), WAIT_S))


@pytest.mark.parametrize("talk", [ours_in_writing, theirs_in_writing])
def test_a_text_model_gets_the_same_results(talk: Callable[[TextServer], str]):
    with TextServer(calls(), answers("It is sunny, and five.")) as server:
        assert talk(server) == "It is sunny, and five."
        first, second = (request.json for request in server.requests)
    offered = {each["function"]["name"]: shape(each["function"]["parameters"]) for each in first["tools"]}
    assert offered == {
        "get_weather": {
            "city": ("string", "The city's name.", True),
            "days": ("integer", "How many days ahead.", False),
        },
        "add": {"first": ("integer", "One number.", True), "second": ("integer", "Another one.", True)},
    }
    results = {each["tool_call_id"]: each["content"] for each in second["messages"] if each["role"] == "tool"}
    assert (results["call_0"], results["call_1"]) == ("sunny in Paris for 1", "5")
    assert "error" in results["call_2"], "what does not fit is told, and not run"
    made = next(each for each in second["messages"] if each.get("tool_calls"))["tool_calls"]
    assert [each["function"]["name"] for each in made] == ["get_weather", "add", "add"]
