"""A real small model (llama.cpp) as the brain of the local server, asked by our client: aloud, interrupted, with a tool.

The model knows no tools, and its server's grammar for them lets it talk instead. So here a call is asked for as a text
under the grammar of the tool's schema, and read as the call that it is: from there on everything is as in use.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from foreign_server import fetched, foreign_server
from models_helpers import real_model
from rollover_stage import leave_now
from sound_card import wait_until

import realtime_client
from realtime_client import ToolSpec
from realtime_client import updates as up
from realtime_client.changes import Changes
from realtime_client.chat.wires.ask import Ask, HttpRequest
from realtime_client.chat.wires.openai_chat import ChatReader, OpenAIChat
from realtime_client.client.client import RealtimeClient
from realtime_client.client.endpoint import Endpoint
from realtime_client.local import LocalServer, Parts, TextBrain
from realtime_client.protocol.session import RealtimeConfig
from realtime_client.session.limits import Recovery

WAIT_S = 60.0
CONTEXT, AT_ONCE = 1024, 2
BRIEF = "Answer in one short sentence."
PLACE = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}
WEATHER = ToolSpec(name="weather", description="Tells the weather of a place", parameters=PLACE)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    (weights,) = real_model("smollm2-135m-instruct").iterdir()
    with foreign_server("llama-cpp", "server.py", str(weights), str(CONTEXT), str(AT_ONCE)) as url:
        yield url


class GrammarReader(ChatReader):
    """Reads an answer under a tool's grammar: its text is the call's arguments."""

    def __init__(self, stream: str, provider: str, tool: str) -> None:
        super().__init__(stream, provider)
        self._tool = tool
        self._json: list[str] = []

    def _message(self, name: str, data: bytes) -> None:
        self._plain = False  # no piece of text takes the short way, past `_text`
        super()._message(name, data)

    def _text(self, text: str) -> None:
        self._json.append(text)

    def _finish(self) -> None:
        self._call(object(), "", self._tool, "".join(self._json))
        super()._finish()


class ByGrammar(OpenAIChat):
    """Chat completions where a tool has to be called: its schema is the grammar of the answer."""

    tool = ""

    def request(self, ask: Ask) -> HttpRequest:
        self.tool = ask.tools[0].name if ask.tools and ask.tool_choice == "required" else ""
        if not self.tool:
            return super().request(msgspec.structs.replace(ask, tools=()))
        shape = {"type": "json_schema", "json_schema": {"name": "call", "schema": ask.tools[0].parameters}}
        return super().request(msgspec.structs.replace(ask, tools=(), options={"response_format": shape}))

    def reader(self, stream: str) -> Any:
        return GrammarReader(stream, self.name, self.tool) if self.tool else super().reader(stream)


@pytest.fixture
def server(url: str) -> Iterator[LocalServer]:
    brain = TextBrain.of(brain="openai/smollm2", base_url=f"{url}/v1", temperature=0)
    places = [msgspec.structs.replace(place, wire=ByGrammar()) for place in brain.places]
    with LocalServer(parts=Parts(brain=TextBrain(places, wishes=brain.wishes))) as server:
        yield server


def test_it_answers_aloud_sentence_by_sentence_and_remembers(server: LocalServer) -> None:
    with realtime_client.connect(url=server.url, record=False, instructions=BRIEF) as session:
        answer = session.ask("What is the capital of Australia?", timeout_s=WAIT_S)
        assert "Canberra" in answer.text
        assert len(answer.audio) > len(answer.text) * 24 * 2 * 20  # more than 20 ms a character
        assert answer.usage is not None
        assert answer.usage.output_text > 0
        assert answer.usage.output_audio == 0  # its own figures
        session.ask("The code word is banana.", timeout_s=WAIT_S)
        assert "ban" in session.ask("What was the code word?", timeout_s=WAIT_S).text.lower()  # it is a poor speller


def test_it_speaks_before_it_is_done_and_is_cut_when_interrupted(url: str, server: LocalServer) -> None:
    with realtime_client.connect(url=server.url, record=False) as session, session.updates(timeout_s=WAIT_S) as updates:
        session.send_text("Write a long story about the sea.")
        next(update for update in updates if isinstance(update, up.AudioDelta))
        assert busy(url) == 1  # it still writes
        assert session.interrupt()
        done = next(update for update in updates if isinstance(update, up.ResponseDone))
        assert done.status == "cancelled"
        session.change(Changes(instructions=BRIEF))
        assert session.ask("What is the capital of Australia?", timeout_s=WAIT_S).status == "completed"
        assert busy(url) == 0  # nobody makes the story any more


def test_it_calls_a_tool_by_grammar_and_gets_its_result(server: LocalServer) -> None:
    with realtime_client.connect(url=server.url, record=False) as session, session.updates(timeout_s=WAIT_S) as updates:
        session.change(Changes(tools=(WEATHER,)))
        session.send_text("How is the weather in Paris?", respond=False)
        session.respond(tool_choice="required")  # type: ignore[call-arg]
        call = next(update for update in updates if isinstance(update, up.ToolCall))
        assert call.name == "weather"
        assert "Paris" in json.loads(call.arguments)["place"]
        next(update for update in updates if isinstance(update, up.ResponseDone))
        session.send_tool_result(call.call_id, "It rains in Paris, and it is cold.")
        done = next(update for update in updates if isinstance(update, up.ResponseDone))
        assert done.status == "completed"
        assert done.text


def busy(url: str) -> int:
    """How many answers the model's server is making."""
    return sum(slot["is_processing"] for slot in json.loads(fetched(f"{url}/slots")))


def test_it_knows_a_code_word_through_twelve_sessions(server: LocalServer) -> None:
    brief = RealtimeConfig(instructions=BRIEF, output_modalities=["text"])
    place, moved = Endpoint(url=server.url, proxy=None), []
    with RealtimeClient(place, session=brief, recovery=Recovery()) as client:
        client.observe(lambda update, _at_s: moved.append(update) if isinstance(update, up.Restored) else None)
        client.ask("The code word is banana.", timeout_s=WAIT_S)
        for session in range(1, 13):
            leave_now(client)
            wait_until(lambda session=session: len(moved) == session, WAIT_S, "the next session")
            if session == 6:
                client.ask("What is the capital of Australia?", timeout_s=WAIT_S)
        assert "ban" in client.ask("What was the code word?", timeout_s=WAIT_S).text.lower()
    assert [(each.reason, each.told) for each in moved] == [("rollover", 2)] * 6 + [("rollover", 4)] * 6
