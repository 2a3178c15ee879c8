"""OpenAI's Responses: what is asked, and what is answered, cut anywhere."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest
from wire_helpers import Replaying, Told, every_way, read, sse

from realtime_client.changes import ToolSpec
from realtime_client.chat.wires.ask import GONE, Ask
from realtime_client.chat.wires.openai_responses import OpenAIResponses
from realtime_client.history import Call, Entry, Image, Opaque, ProviderState, Result, Text

NAME = "openai-responses"
REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}
SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed"}

# --- what is asked ----------------------------------------------------------------------------------------------------

PNG = "data:image/png;base64,AAAA"
TOOL = ToolSpec(name="w", description="weather")
PARAMETERS = {"type": "object", "properties": {}}
TALK = (
    Entry(id="1", role="user", parts=(Text(text="look"), Image(media=PNG), Image(media="sha256:gone"))),
    Entry(id="2", role="assistant", parts=(
        Opaque(provider_state=ProviderState(NAME, REASONING)),
        Text(text="one", provider_state=ProviderState(NAME, {"phase": "commentary"})),
        Text(text="two"),
        Opaque(provider_state=ProviderState("gemini", {"x": 1})),
        Call(call_id="c1", name="w", arguments='{"a":1}'))),
    Entry(id="3", role="tool", parts=(Result(call_id="c1", output="sunny"),)),
)  # fmt: skip


def asked(**fields: Any) -> dict[str, Any]:
    return json.loads(OpenAIResponses().request(Ask(**{"model": "m", "entries": (), **fields})).body)


def test_a_conversation_is_asked_as_items() -> None:
    ask = Ask(model="m", entries=TALK, instructions="be brief", tools=(TOOL,), max_tokens=9, temperature=0.5,
              think="high", media={PNG: PNG}.get)  # fmt: skip
    request = OpenAIResponses().request(ask)
    assert (request.method, request.path, request.headers["Accept"]) == ("POST", "/responses", "text/event-stream")
    assert json.loads(request.body) == {
        "model": "m", "stream": True, "store": False, "include": ["reasoning.encrypted_content"],
        "instructions": "be brief", "max_output_tokens": 9, "temperature": 0.5,
        "reasoning": {"effort": "high", "summary": "auto"}, "tool_choice": "auto",
        "tools": [{"type": "function", "name": "w", "description": "weather", "parameters": PARAMETERS, "strict": False}],
        "input": [
            {"type": "message", "role": "user", "content": [
                {"type": "input_text", "text": "look"},
                {"type": "input_image", "image_url": PNG, "detail": "auto"},
                {"type": "input_text", "text": GONE}]},
            REASONING,
            {"type": "message", "role": "assistant", "phase": "commentary", "content": [{"type": "output_text", "text": "one"}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "two"}]},
            {"type": "function_call", "call_id": "c1", "name": "w", "arguments": '{"a":1}'},
            {"type": "function_call_output", "call_id": "c1", "output": "sunny"}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, {}),
        ({"without": frozenset({"include", "store"})}, {"include": None, "store": None}),
        ({"stream": False}, {"stream": False}),
        ({"think": True}, {"reasoning": {"summary": "auto"}}),
        ({"think": False}, {"reasoning": {"effort": "none"}}),
        ({"think": "low", "without": frozenset({"reasoning"})}, {}),
        ({"options": {"truncation": "auto"}}, {"truncation": "auto"}),
        ({"tools": (TOOL,), "tool_choice": "w"}, {"tool_choice": {"type": "function", "name": "w"}}),
    ],
)
def test_fields_of_a_request(fields: dict[str, Any], told: dict[str, Any]) -> None:
    common = {"model": "m", "input": [], "stream": True, "store": False, "include": ["reasoning.encrypted_content"]}
    body = asked(**fields)
    body.pop("tools", None)
    assert body == {name: value for name, value in (common | told).items() if value is not None}


# --- what is answered -------------------------------------------------------------------------------------------------


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", "sequence_number": 0, **fields}


def text(words: str, **more: Any) -> dict[str, Any]:
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "logprobs": []}
    return event("output_text.delta", delta=words, **{**place, **more})


def message(words: str, **more: Any) -> dict[str, Any]:
    content = [{"type": "output_text", "text": words, "annotations": []}]
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content, **more}


def function(arguments: str, n: int = 1, name: str = "w") -> dict[str, Any]:
    return {"type": "function_call", "id": f"fc_{n}", "call_id": f"call_{n}", "name": name, "arguments": arguments,
            "status": "completed"}  # fmt: skip


def added(item: dict[str, Any], index: int | None = 0) -> dict[str, Any]:
    return event("output_item.added", item=item) | ({} if index is None else {"output_index": index})


def finished(item: dict[str, Any], index: int | None = 0) -> dict[str, Any]:
    return event("output_item.done", item=item) | ({} if index is None else {"output_index": index})


def arguments(words: str, n: int = 1, index: int | None = 0) -> dict[str, Any]:
    told = event("function_call_arguments.delta", item_id=f"fc_{n}", delta=words)
    return told | ({} if index is None else {"output_index": index})


def over(status: str = "completed", *items: dict[str, Any], **more: Any) -> dict[str, Any]:
    response = {"id": "resp_1", "object": "response", "status": status, "output": list(items), "error": None, **more}
    return event(status, response=response)


USAGE = {"input_tokens": 34, "input_tokens_details": {"cached_tokens": 2}, "output_tokens": 8,
         "output_tokens_details": {"reasoning_tokens": 5}, "total_tokens": 42}  # fmt: skip
CUT = ("network", "retry", "the answer was cut: the stream ended before the server said that it was over")
MADE = {"calls": [("call_1", "w", '{"x":1}')], "finish": "tool_calls"}
BOTH = {"calls": [("call_1", "w", '{"x":1}'), ("call_2", "v", '{"y":2}')], "finish": "tool_calls"}
LENGTH = {"incomplete_details": {"reason": "max_output_tokens"}}


@dataclasses.dataclass
class Row:
    """judged: the official client reads the same."""

    data: bytes
    told: Told
    judged: bool = True


def row(*messages: Any, judged: bool = True, **told: Any) -> Row:
    """As servers send them: the event is named as its type."""
    data = b"".join(sse(each, name=each["type"] if isinstance(each, dict) else "") for each in messages)
    return Row(data, told, judged)


def app(action: str, words: str) -> tuple[str, str, str]:
    return ("application", action, words)


ROWS: dict[str, Row] = {
    "text": row(event("created", response={}), event("in_progress", response={}), added(message("")),
                event("content_part.added", part={}), text("Hi"), text(" there"),
                event("output_text.done", text="Hi there"), event("content_part.done", part={}),
                finished(message("Hi there")), over("completed", message("Hi there"), usage=USAGE),
                text="Hi there", usage=(34, 8, 2), finish="stop"),
    "timings": row(text("Hi"), over() | {"timings": {"prompt_ms": 20.5, "predicted_ms": 1000}},
                   text="Hi", timings=(None, 0.0205, 1.0), finish="stop"),
    "deltas alone": row(text("Hi"), over(), text="Hi", finish="stop"),
    "no names of events": Row(sse(text("Hi"), over()), {"text": "Hi", "finish": "stop"}),
    "no types": Row(sse({"delta": "Hi"}, name="response.output_text.delta") + sse({}, name="response.completed"),
                    {"text": "Hi", "finish": "stop"}, judged=False),
    "[DONE] after it": row(text("Hi"), over(), "[DONE]", text="Hi", finish="stop"),
    "a text that says more than its deltas": row(text("Hi"), event("output_text.done", text="Hi there"), over(),
                                                 text="Hi there", finish="stop", judged=False),
    "an item that says more": row(text("Hi"), finished(message("Hi there")), over(),
                                  text="Hi there", finish="stop", judged=False),
    "only the items": row(finished(message("Hi")), over(), text="Hi", finish="stop", judged=False),
    "only the response": row(over("completed", message("Hi"), function('{"x":1}')), judged=False, text="Hi", **MADE),
    "everything twice": row(text("Hi"), finished(message("Hi")), finished(message("Hi")),
                            added(function(""), 1), arguments('{"x":1}', 1, 1), finished(function('{"x":1}'), 1),
                            over("completed", message("Hi"), function('{"x":1}')), text="Hi", **MADE),
    "ids that change": row(text("Hi", item_id="a"), finished(message("Hi", id="b")), over("completed", message("Hi", id="c")),
                           text="Hi", finish="stop"),
    "two messages": row(added(message("")), text("One. "), finished(message("One. ")), added(message("", id="msg_2"), 1),
                        text("Two.", item_id="msg_2", output_index=1), finished(message("Two.", id="msg_2"), 1), over(),
                        text="One. Two.", finish="stop"),
    "many bytes a character": row(text("日本"), text("語😀"), over(), text="日本語😀", finish="stop"),
    "a surrogate pair in two": Row(
        sse(text("H"), text("L"), over()).replace(b'"H"', b'"a\\ud83d"').replace(b'"L"', b'"\\ude00b"'),
        {"text": "a😀b", "finish": "stop"}, judged=False),
    "unknown events": row(event("mcp_call.in_progress"), event("next.year", delta="x"), text("Hi"), over(),
                          text="Hi", finish="stop"),
    "thinking": row(event("reasoning_summary_text.delta", delta="hm", summary_index=0),
                    event("reasoning_summary_part.added", summary_index=1),
                    event("reasoning_summary_text.delta", delta="so", summary_index=1),
                    event("reasoning_text.delta", delta="!"), text("Hi"), over(),
                    thinking="hm\n\nso!", text="Hi", finish="stop"),
    "a refusal": row(event("refusal.delta", delta="I can't"), event("refusal.done", refusal="I can't do that"),
                     over(), text="I can't do that", finish="refusal", judged=False),
    "a refusal in its item": row(finished(message("", content=[{"type": "refusal", "refusal": "No"}])), over(),
                                 text="No", finish="refusal", judged=False),
    # calls
    "a call": row(added(function("")), arguments('{"x"'), arguments(":1}"),
                  event("function_call_arguments.done", arguments='{"x":1}', item_id="fc_1", output_index=0),
                  finished(function('{"x":1}')), over("completed", function('{"x":1}')), **MADE),
    "two in turns": row(added(function("")), added(function("", 2, "v"), 1), arguments('{"x"'), arguments('{"y":2}', 2, 1),
                        arguments(":1}"), finished(function('{"x":1}')), finished(function('{"y":2}', 2, "v"), 1), over(),
                        **BOTH),
    "no indices": row(added(function(""), None), added(function("", 2, "v"), None), arguments('{"x":1}', 1, None),
                      arguments('{"y":2}', 2, None), finished(function('{"x":1}'), None),
                      finished(function('{"y":2}', 2, "v"), None), over("completed", function('{"x":1}'), function('{"y":2}', 2)),
                      **BOTH),
    "no fragments": row(finished(function('{"x":1}')), over(), **MADE),
    "no arguments": row(added(function("")), finished(function("")), over(),
                        calls=[("call_1", "w", "{}")], finish="tool_calls", judged=False),
    "cut by length": row(added(function("")), arguments('{"x"'), over("incomplete", **LENGTH),
                         cut=[("w", '{"x"')], finish="length", judged=False),
    # the end
    "length": row(text("Hi"), over("incomplete", **LENGTH), text="Hi", finish="length"),
    "content_filter": row(text("Hi"), over("incomplete", incomplete_details={"reason": "content_filter"}),
                          text="Hi", finish="content_filter"),
    "incomplete for no reason": row(text("Hi"), over("incomplete", incomplete_details=None), text="Hi", finish="other"),
    "cancelled": row(text("Hi"), over("cancelled"), text="Hi", finish="other"),
    "failed": row(text("Hi"), over("failed", error={"code": "server_error", "message": "it broke"}),
                  text="Hi", error=app("retry", "it broke"), judged=False),
    "failed for no reason": row(over("failed"), judged=False,
                                error=app("fallback", "the server says no more than that it failed")),
    "an error": row({"type": "error", "code": "rate_limit_exceeded", "message": "slow", "param": None},
                    error=app("retry", "slow"), judged=False),
    "an error in an error": row({"type": "error", "error": {"type": "invalid_request_error", "code": None, "message": "no"}},
                                error=app("fallback", "no")),
    "an event named error": Row(sse({"message": "no"}, name="error"), {"error": app("fallback", "no")}, judged=False),
    "cut": row(text("Hi"), text="Hi", error=CUT),
    "cut after the items": row(text("Hi"), finished(message("Hi")), text="Hi", error=CUT),
    "nothing": row(error=CUT),
    # in one piece
    "one answer": Row(json.dumps(over("completed", REASONING, message("Hi"), function('{"x":1}'), usage=USAGE)["response"]).encode(),
                      {"text": "Hi", "usage": (34, 8, 2), **MADE}, judged=False),
    "one that was cut": Row(json.dumps(over("incomplete", message("Hi"), **LENGTH)["response"]).encode(),
                            {"text": "Hi", "finish": "length"}, judged=False),
    "one that failed": Row(json.dumps(over("failed", error={"code": "server_error", "message": "x"})["response"]).encode(),
                           {"error": app("retry", "x")}, judged=False),
    "no answer": Row(b'{"choices":[]}', {"error": ("protocol", "restart",
                     'the server sends what makes no sense (there is no answer in it): {"choices":[]}')}, judged=False),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_answers_are_read_however_they_are_cut(row: Row) -> None:
    for reads in every_way(row.data):
        assert read(OpenAIResponses().reader("s"), reads) == row.told, reads


@pytest.fixture(scope="module")
def openai() -> Iterator[tuple[Replaying, Any]]:
    from openai import OpenAI

    with Replaying("text/event-stream").serving() as server:
        with OpenAI(api_key="k", base_url=server.url, max_retries=0) as client:
            yield server, client


@pytest.mark.parametrize(
    "row", [each for each in ROWS.values() if each.judged], ids=[n for n, r in ROWS.items() if r.judged]
)
def test_the_official_client_reads_the_same(row: Row, openai: tuple[Replaying, Any]) -> None:
    from openai import APIError

    server, client = openai
    server.body = row.data
    words, made, failed, ended = "", {}, False, False
    try:
        for each in client.responses.create(model="m", input="", stream=True):
            if each.type == "response.output_text.delta":
                words += each.delta
            elif each.type == "response.output_item.done" and each.item.type == "function_call":
                made[each.item.call_id] = (each.item.call_id, each.item.name, each.item.arguments)
            ended = ended or each.type in ("response.completed", "response.incomplete", "response.cancelled")
    except APIError:
        failed = True
    assert words == row.told.get("text", "")
    assert list(made.values()) == row.told.get("calls", [])
    assert failed == (row.told.get("error", CUT) != CUT)
    assert ended == ("finish" in row.told)


def test_what_is_kept_has_its_order_and_what_goes_back() -> None:
    reader = OpenAIResponses().reader("s")
    bare = {"type": "reasoning", "id": "rs_2", "summary": []}  # without its content it cannot go back
    items = [REASONING, message("One", phase="commentary"), SEARCH, bare, function("{}"), message("Two", id="msg_2")]
    read(reader, [sse(*(finished(item, n) for n, item in enumerate(items)), over("completed", *items))])
    kept = reader.parts()
    assert kept == (
        Opaque(provider_state=ProviderState(NAME, REASONING)),
        Text(text="One", provider_state=ProviderState(NAME, {"phase": "commentary"})),
        Opaque(provider_state=ProviderState(NAME, SEARCH)),
        Call(call_id="call_1", name="w", arguments="{}"),
        Text(text="Two"),
    )
    sent = asked(entries=(Entry(id="1", role="assistant", parts=kept),))["input"]
    assert [item["type"] for item in sent] == ["reasoning", "message", "web_search_call", "function_call", "message"]
    assert (sent[0], sent[2]) == (REASONING, SEARCH)
