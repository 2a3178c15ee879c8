"""A mock suite of others (aimock) that speaks all wires: what is said and called over each of them, and its faults.

Its script is made from INPUTS: it knows nothing of our wires, and what it understood of our requests it tells itself.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from foreign_server import fetched, foreign_server

import realtime_client
from realtime_client import updates as up
from realtime_client.changes import Changes, ToolSpec
from realtime_client.chat.continuation import INSTRUCTION
from realtime_client.chat.session import ChatSession

WAIT_S = 20.0
ROME = ("What is the capital of Italy?", "It is Rome: Roma, la città eterna 🏛️.")
WEATHER = ("How is the weather in Bergen?", "It rains, as ever.")
ARGUMENTS = {"city": "Bergen", "note": 'with "quotes" and \u2028'}
RESULT = "rain, 9 degrees"
BUSY = ("Are you busy?", "Not any more.")
DIES = (
    "Tell me a long story.",
    "Once upon a time there was a sea, and a ship upon it, and nobody knew where it came from.",
)
INPUTS: list[dict[str, Any]] = [
    {"match": {"userMessage": ROME[0]}, "response": {"content": ROME[1]}},
    {
        "match": {"userMessage": WEATHER[0], "hasToolResult": False},
        "response": {"toolCalls": [{"name": "get_weather", "arguments": json.dumps(ARGUMENTS)}]},
    },
    {"match": {"userMessage": WEATHER[0], "toolResultContains": "9 degrees"}, "response": {"content": WEATHER[1]}},
    {
        "match": {"userMessage": BUSY[0], "sequenceIndex": 0},
        "response": {"error": {"message": "Slow down.", "type": "rate_limit_error"}, "status": 429, "retryAfter": 0},
    },
    {"match": {"userMessage": BUSY[0], "sequenceIndex": 1}, "response": {"content": BUSY[1]}},
    {
        "match": {"userMessage": DIES[0], "sequenceIndex": 0},
        "response": {"content": DIES[1]},
        "truncateAfterChunks": 8,
    },
    {"match": {"userMessage": DIES[0], "sequenceIndex": 1}, "response": {"content": DIES[1]}},
    {"match": {"userMessage": INSTRUCTION}, "response": {"content": DIES[1]}},
]
TOOL = ToolSpec(
    name="get_weather",
    description="The weather of a place.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}, "note": {"type": "string"}}},
)
WIRES: dict[str, tuple[str, dict[str, Any]]] = {  # what follows the server's URL, and settings
    "openai": ("/v1", {}),
    "openai-responses": ("/v1", {}),
    "anthropic": ("", {}),
    "gemini": ("/v1beta", {}),
    "azure": ("", {}),
    "azure of a date": ("", {"azure_api_version": "2024-10-21"}),
    "bedrock": ("", {}),
    "ollama": ("", {}),
}
wires = pytest.mark.parametrize("wire", WIRES)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with foreign_server("aimock", "server.mjs", json.dumps(INPUTS)) as url:
        yield url


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ACCESS_KEY_ID", "id"), ("SECRET_ACCESS_KEY", "secret"), ("REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)


def session(url: str, wire: str, test: str, **values: Any) -> AbstractContextManager[ChatSession]:
    """A session over a wire. test: what the server keeps the sequences and faults of this session by."""
    base, more = WIRES[wire]
    model, header = f"{wire.partition(' ')[0]}/{test}", f"X-Test-Id={test}"  # breakers go by the model
    given = {"record": False, "header": header, "retry_delay_s": 0.01, **more, **values}
    return realtime_client.connect(model=model, url=url + base, **given)  # type: ignore[return-value]


def journal(url: str, test: str) -> list[dict[str, Any]]:
    """What the server says of the requests of a session."""
    found = json.loads(fetched(f"{url}/__aimock/journal?testId={test}"))
    return [entry for entry in found if entry["body"] and entry["body"].get("messages")]


def faults(url: str, test: str, **rates: float) -> None:
    """Let the server make faults for a session from now on; none given: no longer."""
    request = urllib.request.Request(
        f"{url}/__aimock/chaos", json.dumps(rates).encode(), {"Content-Type": "application/json", "X-Test-Id": test}
    )
    urllib.request.urlopen(request, timeout=WAIT_S).close()


# --- wires ------------------------------------------------------------------------------------------------------------


@wires
def test_an_answer_and_a_call(url: str, wire: str) -> None:
    test = f"call-{wire.replace(' ', '-')}"
    with session(url, wire, test) as client:
        answer = client.ask(ROME[0], timeout_s=WAIT_S)
        assert (answer.text, answer.status) == (ROME[1], "completed")
        client.change(Changes(tools=(TOOL,)))
        answer = client.ask(WEATHER[0], timeout_s=WAIT_S)
        (call,) = answer.tool_calls
        assert (call.name, json.loads(call.arguments)) == ("get_weather", ARGUMENTS)
        answer = client.next_answer(after=lambda: client.send_tool_result(call.call_id, RESULT), timeout_s=WAIT_S)
        assert (answer.text, answer.status) == (WEATHER[1], "completed")
    asked = journal(url, test)
    assert [entry["response"]["status"] for entry in asked] == [200, 200, 200]
    body = asked[-1]["body"]
    assert (body["model"], body["stream"], body["tools"][0]["function"]["name"]) == (test, True, TOOL.name)
    messages = body["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user", "assistant", "tool"]
    assert [message["content"] for message in messages[:3]] == [ROME[0], ROME[1], WEATHER[0]]
    assert json.loads(messages[3]["tool_calls"][0]["function"]["arguments"]) == ARGUMENTS
    assert RESULT in messages[4]["content"]


@wires
def test_several_pieces(url: str, wire: str) -> None:
    with session(url, wire, f"pieces-{wire.replace(' ', '-')}") as client, client.updates(timeout_s=WAIT_S) as updates:
        client.send_text(ROME[0])
        pieces = []
        for update in updates:
            if isinstance(update, up.TextDelta):
                pieces.append(update.text)
            elif isinstance(update, up.ResponseDone):
                break
        assert len(pieces) > 3
        assert "".join(pieces) == ROME[1]


# --- faults -----------------------------------------------------------------------------------------------------------


@wires
def test_a_rate_limit_is_waited_for(url: str, wire: str) -> None:
    test = f"busy-{wire.replace(' ', '-')}"
    with session(url, wire, test, retry_delay_s=2 * WAIT_S) as client, client.updates(timeout_s=WAIT_S) as updates:
        client.send_text(BUSY[0])
        notices = []
        for update in updates:
            if isinstance(update, up.Notice):
                notices.append(update.message)
            elif isinstance(update, up.ResponseDone):
                break
        assert update.text == BUSY[1]
        assert len(notices) == 1
        assert "Slow down." in notices[0]
        assert "asking again at once" in notices[0]
    assert [entry["response"]["status"] for entry in journal(url, test)] == [429, 200]


@wires
def test_an_answer_that_dies_is_made_whole(url: str, wire: str) -> None:
    """By the same model, which says all of it again."""
    test = f"dies-{wire.replace(' ', '-')}"
    with session(url, wire, test) as client:
        answer = client.ask(DIES[0], timeout_s=WAIT_S)
        assert (answer.text, answer.status) == (DIES[1], "completed")
    assert len(journal(url, test)) == 2


CHAOS = {  # what is said, of which kind it is, and how often the server was asked
    "drop": ("Chaos: request dropped", "application", 2),
    "rateLimit": ("Chaos: rate limit exceeded", "application", 1),  # it wants a second
    "malformed": ("makes no sense", "protocol", 3),  # once more, and once more without a stream
    "disconnect": ("cut", "network", 3),
}


@pytest.mark.parametrize("fault", CHAOS)
@wires
def test_chaos_is_told_and_survived(url: str, wire: str, fault: str) -> None:
    test = f"{fault}-{wire.replace(' ', '-')}"
    says, category, requests = CHAOS[fault]
    if (wire, fault) == ("ollama", "malformed"):  # half a line, which no line end follows
        says, category = CHAOS["disconnect"][:2]
    faults(url, test, **{f"{fault}Rate": 1})
    with session(url, wire, test, retries=0 if fault == "rateLimit" else 1) as client:
        with client.updates(timeout_s=WAIT_S) as updates:
            client.send_text(ROME[0])
            failure = next(each for each in updates if isinstance(each, up.Failure) and not each.benign)
        assert says in failure.message
        assert failure.error_type == category
        assert client.stats().traffic.frames_out == requests
        faults(url, test)
        assert client.ask(ROME[0], timeout_s=WAIT_S).text == ROME[1]
