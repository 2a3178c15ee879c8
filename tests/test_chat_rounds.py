"""A round with a tool at each provider that wants its thoughts back, in a session over a real socket."""

from __future__ import annotations

from typing import Any

import pytest
import test_chat_wires_anthropic as anthropic
import test_chat_wires_bedrock as bedrock
import test_chat_wires_gemini as gemini
from wire_stage import SSE, events, serving

from realtime_client import updates as up
from realtime_client.chat.aws import signer
from realtime_client.chat.breaker import MemoryStore
from realtime_client.chat.limits import ChatLimits
from realtime_client.chat.orders import Wishes
from realtime_client.chat.place import Place
from realtime_client.chat.session import ChatSession
from realtime_client.chat.wires.ask import Wire

WAIT_S = 10.0
ROUNDS: dict[str, tuple[Wire, str, bytes, bytes, list[dict[str, Any]]]] = {
    "gemini": (
        gemini.GEMINI,
        SSE,
        events(gemini.chunk(gemini.text("hm", thought=True)), gemini.chunk(gemini.CALL, reason="STOP")),
        events(gemini.chunk(gemini.text("Sunny."), reason="STOP", usageMetadata=gemini.USED)),
        [gemini.text("hm", thought=True), gemini.CALL],
    ),
    "anthropic": (
        anthropic.ANTHROPIC,
        SSE,
        events(
            anthropic.START,
            *anthropic.thinking(0, "hm"),
            *anthropic.tool(1, "{}"),
            *anthropic.ended("tool_use"),
            names=True,
        ),
        events(anthropic.START, *anthropic.text(0, "Sunny."), *anthropic.ended("end_turn"), names=True),
        [
            {"type": "thinking", "thinking": "hm", "signature": "SIG"},
            {"type": "tool_use", "id": "toolu_1", "name": "w", "input": {}},
        ],
    ),
    "bedrock": (
        bedrock.BEDROCK,
        bedrock.EVENT_STREAM,
        bedrock.stream(bedrock.START, *bedrock.thinking(0, "hm"), *bedrock.tool(1, "{}"), *bedrock.stopped("tool_use")),
        bedrock.stream(bedrock.START, *bedrock.text(0, "Sunny."), *bedrock.stopped("end_turn")),
        [
            {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "SIG"}}},
            {"toolUse": {"toolUseId": "tu_1", "name": "w", "input": {}}},
        ],
    ),
}


@pytest.mark.parametrize("provider", ROUNDS)
def test_a_round_with_a_tool(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
    wire, kind, first, last, content = ROUNDS[provider]
    with serving() as served:
        served.kind, served.answers = kind, [first, last]
        sign = signer("us-east-1") if provider == "bedrock" else None
        place = Place(provider=provider, model="m", base_url=served.url, wire=wire, sign=sign)
        wishes = Wishes(tools=(gemini.WEATHER,))
        limits = ChatLimits(retry_delay_s=0.001)
        with ChatSession([place], wishes=wishes, chat_limits=limits, breakers=MemoryStore()) as client:
            with client.updates(timeout_s=WAIT_S) as updates:
                client.send_text("How is the weather?")
                call = next(update for update in updates if isinstance(update, up.ToolCall))
            answer = client.next_answer(after=lambda: client.send_tool_result(call.call_id, "sunny"), timeout_s=WAIT_S)
        assert (answer.text, answer.status) == ("Sunny.", "completed")
        assert answer.usage is not None
        assert answer.usage.output_tokens > 0
    _, headers, body = served.requests[1]
    messages = body.get("messages") or body["contents"]
    assert [message["role"] for message in messages] == [
        "user",
        "model" if provider == "gemini" else "assistant",
        "user",
    ]
    assert messages[1]["parts" if provider == "gemini" else "content"] == content
    assert ("authorization" in headers) == (provider == "bedrock")
