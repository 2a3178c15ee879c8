"""The wire of Anthropic's messages: each trap of it is a row, and Anthropic's own client is the judge."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import anthropic
import msgspec
import pydantic
import pytest
from anthropic.types import MessageParam
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming, MessageCreateParamsStreaming
from wire_stage import (
    JSON,
    Served,
    assistant,
    called,
    ends,
    entry,
    events,
    fault,
    mutants,
    read,
    result,
    rows,
    sent,
    serving,
    user,
)

from realtime_client.changes import ToolSpec
from realtime_client.chat.wires.anthropic import Anthropic
from realtime_client.chat.wires.ask import Ask
from realtime_client.chat.wires.turns import plain_id
from realtime_client.history import Call, Image, Opaque, ProviderState, Text

ANTHROPIC = Anthropic()
WEATHER = ToolSpec(name="w", description="the weather", parameters={"type": "object", "properties": {}})

# --- the answer -------------------------------------------------------------------------------------------------------

USED = {"input_tokens": 10, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 5, "output_tokens": 1}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "usage": USED,
}
START = {"type": "message_start", "message": MESSAGE}
STOP = {"type": "message_stop"}
PING = {"type": "ping"}
BEGUN = ("usage", 18, 1)


def block(index: int, begin: dict[str, Any], *deltas: dict[str, Any], end: bool = True) -> list[dict[str, Any]]:
    told = [{"type": "content_block_start", "index": index, "content_block": begin}]
    told += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
    return [*told, {"type": "content_block_stop", "index": index}] if end else told


def text(index: int, *words: str) -> list[dict[str, Any]]:
    return block(index, {"type": "text", "text": ""}, *({"type": "text_delta", "text": each} for each in words))


def thinking(index: int, *words: str, signature: str = "SIG") -> list[dict[str, Any]]:
    deltas = [{"type": "thinking_delta", "thinking": each} for each in words]
    deltas += [{"type": "signature_delta", "signature": signature}] if signature else []
    return block(index, {"type": "thinking", "thinking": "", "signature": ""}, *deltas)


def tool(index: int, *fragments: str, call_id: str = "toolu_1", end: bool = True) -> list[dict[str, Any]]:
    begin = {"type": "tool_use", "id": call_id, "name": "w", "input": {}}
    deltas = ({"type": "input_json_delta", "partial_json": each} for each in fragments)
    return block(index, begin, *deltas, end=end)


def ended(reason: str, tokens: int = 7, **more: Any) -> list[dict[str, Any]]:
    delta = {"stop_reason": reason, "stop_sequence": None, **more}
    return [{"type": "message_delta", "delta": delta, "usage": {"output_tokens": tokens}}, STOP]


def over(reason: str, words: str, tokens: int = 7) -> list[tuple[Any, ...]]:
    return [("usage", 18, tokens), ("finish", reason, words)]


OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
RESULTS = [{"type": "web_search_result", "url": "https://x.example", "title": "x", "encrypted_content": "e", "page_age": None}]  # fmt: skip

STREAMS: dict[str, tuple[list[dict[str, Any]], list[tuple[Any, ...]]]] = {
    "text": (
        [START, PING, *text(0, "Hel", "lo"), *ended("end_turn")],
        [BEGUN, ("text", "Hel"), ("text", "lo"), *over("stop", "end_turn")],
    ),
    "a thought": (
        [START, *thinking(0, "h", "m"), *text(1, "Yes"), *ended("end_turn")],
        [BEGUN, ("thinking", "h"), ("thinking", "m"), ("text", "Yes"), *over("stop", "end_turn")],
    ),
    "a call in fragments": (
        [START, *tool(0, "", '{"ci', 'ty":"Bo', 'ston"}'), *ended("tool_use")],
        [BEGUN, ("usage", 18, 7), ("call", "toolu_1", "w", '{"city":"Boston"}'), ("finish", "tool_calls", "tool_use")],
    ),
    "no fragments are no arguments": (
        [START, *tool(0), *ended("tool_use")],
        [BEGUN, ("usage", 18, 7), ("call", "toolu_1", "w", "{}"), ("finish", "tool_calls", "tool_use")],
    ),
    "two calls": (
        [START, *text(0, "x"), *tool(1, "{}"), *tool(2, '{"a":1}', call_id="toolu_2"), *ended("tool_use")],
        [
            BEGUN,
            ("text", "x"),
            ("usage", 18, 7),
            ("call", "toolu_1", "w", "{}"),
            ("call", "toolu_2", "w", '{"a":1}'),
            ("finish", "tool_calls", "tool_use"),
        ],
    ),
    "a call counts, whatever the reason says": (
        [START, *tool(0, "{}"), *ended("end_turn")],
        [BEGUN, ("usage", 18, 7), ("call", "toolu_1", "w", "{}"), ("finish", "tool_calls", "end_turn")],
    ),
    "a call that a limit cut is not run": (
        [START, *tool(0, '{"path":"/tmp", "dry_'), *ended("max_tokens")],
        [BEGUN, ("usage", 18, 7), ("cut", "w", '{"path":"/tmp", "dry_'), ("finish", "length", "max_tokens")],
    ),
    "refused": (
        [START, *text(0, "I"), *ended("refusal", stop_details={"type": "refusal", "category": "bio", "explanation": "No."})],
        [BEGUN, ("text", "I"), *over("refusal", "refusal: No.")],
    ),
    "the context is full": (
        [START, *text(0, "x"), *ended("model_context_window_exceeded")],
        [BEGUN, ("text", "x"), *over("length", "model_context_window_exceeded")],
    ),
    "paused": (
        [START, *text(0, "x"), *ended("pause_turn")],
        [BEGUN, ("text", "x"), *over("other", "pause_turn")],
    ),
    "a stop sequence": (
        [START, *text(0, "x"), *ended("stop_sequence")],
        [BEGUN, ("text", "x"), *over("stop", "stop_sequence")],
    ),
    "figures count up, and may all come at the end": (
        [
            {"type": "message_start", "message": {**MESSAGE, "usage": {"input_tokens": 0, "output_tokens": 0}}},
            *text(0, "x"),
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                "usage": {**USED, "output_tokens": 9},
            },
            STOP,
        ],
        [("usage", 0, 0), ("text", "x"), ("usage", 18, 9), ("finish", "stop", "end_turn")],
    ),
    "overloaded, on HTTP 200": ([START, OVERLOADED], [BEGUN, ("error", "application", "retry")]),
    "overloaded in mid-answer": (
        [START, *text(0, "x"), OVERLOADED],
        [BEGUN, ("text", "x"), ("error", "application", "retry")],
    ),
    "an event that nobody knows": (
        [START, {"type": "weather_report", "sky": "blue"}, *text(0, "x"), *ended("end_turn")],
        [BEGUN, ("text", "x"), *over("stop", "end_turn")],
    ),
    "a search of the provider's own": (
        [
            START,
            *block(0, {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {}}, {"type": "input_json_delta", "partial_json": '{"query":"x"}'}),
            *block(1, {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": RESULTS}),
            *text(2, "x"),
            *ended("end_turn"),
        ],
        [BEGUN, ("text", "x"), *over("stop", "end_turn")],
    ),
}  # fmt: skip
ODD: dict[str, tuple[list[dict[str, Any]], list[tuple[Any, ...]]]] = {  # not Anthropic's own, and broken ones
    "the whole input with the beginning of a call": (
        [*block(0, {"type": "tool_use", "id": "t", "name": "w", "input": {"a": 1}}), *ended("tool_use")],
        [("usage", 0, 7), ("call", "t", "w", '{"a":1}'), ("finish", "tool_calls", "tool_use")],
    ),
    "nothing says where blocks end": (
        [
            *thinking(0, "hm")[:-1],
            *text(1, "x")[1:-1],
            *tool(2, "{}", end=False),
            *ended("end_turn"),
        ],
        [
            ("thinking", "hm"),
            ("text", "x"),
            ("usage", 0, 7),
            ("call", "toolu_1", "w", "{}"),
            ("finish", "tool_calls", "end_turn"),
        ],
    ),
    "no reason": ([*text(0, "x"), STOP], [("text", "x"), ("finish", "stop", "")]),
    "a reason is an end": (
        [*text(0, "x"), ended("end_turn")[0]],
        [("text", "x"), ("usage", 0, 7), ("finish", "stop", "end_turn")],
    ),
    "cut": ([START, *text(0, "x")], [BEGUN, ("text", "x"), ("error", "network", "retry")]),
    "cut after a call: it is not run": ([START, *tool(0, "{}")], [BEGUN, ("error", "network", "retry")]),
    "no shape": ([{"type": "content_block_start", "content_block": 7}], [("error", "protocol", "restart")]),
    "out of order": (
        [{"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}],
        [("error", "application", "fatal")],
    ),
    "a failure inside": (
        [{"type": "error", "error": {"type": "api_error", "message": "Internal server error"}}],
        [("error", "application", "retry")],
    ),
}


@pytest.mark.parametrize(("values", "told"), [*STREAMS.values(), *ODD.values()], ids=[*STREAMS, *ODD])
@pytest.mark.parametrize("names", [True, False])
def test_a_stream(values: list[dict[str, Any]], told: list[tuple[Any, ...]], names: bool) -> None:
    assert rows(ANTHROPIC, events(*values, names=names)) == told


def test_types_that_stand_in_the_names_of_events_only() -> None:
    body = b"".join(
        b"event: " + each.pop("type").encode() + b"\ndata: " + msgspec.json.encode(each) + b"\n\n"
        for each in msgspec.json.decode(msgspec.json.encode([START, *text(0, "x"), *ended("end_turn")]))
    )
    assert rows(ANTHROPIC, body) == [BEGUN, ("text", "x"), *over("stop", "end_turn")]


WHOLE = {
    **MESSAGE,
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "SIG"},
        {"type": "text", "text": "Yes"},
        {"type": "tool_use", "id": "t", "name": "w", "input": {"a": 1}},
    ],
    "stop_reason": "tool_use",
}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (
            WHOLE,
            [
                ("thinking", "hm"),
                ("text", "Yes"),
                BEGUN,
                ("call", "t", "w", '{"a":1}'),
                ("finish", "tool_calls", "tool_use"),
            ],
        ),
        (OVERLOADED, [("error", "application", "retry")]),
        ({"id": "x"}, [("error", "protocol", "restart")]),
    ],
)
def test_an_answer_in_one_piece(body: Any, told: list[tuple[Any, ...]]) -> None:
    assert rows(ANTHROPIC, msgspec.json.encode(body), kind=JSON) == told


@pytest.mark.parametrize("name", [*STREAMS, *ODD])
def test_whatever_comes_there_is_an_end(name: str) -> None:
    values = (STREAMS | ODD)[name][0]
    for n, value in enumerate(values):
        for odd in mutants(value):
            assert ends(
                ANTHROPIC,
                b"".join(f"data: {json.dumps(each)}\n\n".encode() for each in [*values[:n], odd, *values[n + 1 :]]),
            )


def test_whatever_comes_in_one_piece_there_is_an_end() -> None:
    assert all(ends(ANTHROPIC, json.dumps(odd).encode(), kind=JSON) for odd in mutants(WHOLE))


def error(kind: str, message: str) -> bytes:
    return msgspec.json.encode({"type": "error", "error": {"type": kind, "message": message}, "request_id": "r"})


@pytest.mark.parametrize(
    ("status", "body", "seen"),
    [
        (529, error("overloaded_error", "Overloaded"), ("retry", "")),
        (429, error("rate_limit_error", "slower"), ("retry", "")),
        (500, error("api_error", "Internal server error"), ("retry", "")),
        (401, error("authentication_error", "invalid x-api-key"), ("fallback", "")),
        (413, error("request_too_large", "too large"), ("fatal", "")),
        (400, error("invalid_request_error", "prompt is too long: 2 tokens > 1 maximum"), ("fatal", "")),
        (
            400,
            error(
                "invalid_request_error",
                "This model does not support assistant message prefill. The conversation must end with a user message.",
            ),
            ("fatal", "prefill"),
        ),
        (
            400,
            error("invalid_request_error", "temperature: Extra inputs are not permitted"),
            ("fatal", "temperature"),
        ),
        (
            400,
            error("invalid_request_error", "`temperature` is deprecated for this model."),
            ("fatal", "temperature"),
        ),
        (
            400,
            error("invalid_request_error", "adaptive thinking is not supported on this model"),
            ("fatal", "adaptive"),
        ),
        (400, error("invalid_request_error", "thinking: not supported by this model"), ("fatal", "thinking")),
        (400, error("invalid_request_error", "messages.1: all messages must have non-empty content"), ("fatal", "")),
    ],
)
def test_an_error(status: int, body: bytes, seen: tuple[str, str]) -> None:
    found = fault(ANTHROPIC, body, kind=JSON, status=status)
    assert (found.action, found.field) == seen
    in_stream = fault(ANTHROPIC, b"event: error\ndata: " + body + b"\n\n")
    assert (in_stream.action, in_stream.field, in_stream.status) == (*seen, status)


def test_how_long_to_wait() -> None:
    body = error("rate_limit_error", "slower")
    assert fault(ANTHROPIC, body, kind=JSON, status=429, headers={"retry-after": "9"}).retry_after_s == 9.0
    assert fault(ANTHROPIC, body, kind=JSON, status=429, headers={"x-should-retry": "false"}).action == "fallback"


def test_usage_of_a_cache() -> None:
    usage = read(ANTHROPIC, events(START, *text(0, "x"), *ended("end_turn", 7)))[1].usage
    assert usage is not None
    assert (usage.input_tokens, usage.cached, usage.cached_text, usage.output_tokens) == (18, 5, 5, 7)
    assert usage.total_tokens == 25


# --- what goes back ---------------------------------------------------------------------------------------------------

ROUNDS: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "thoughts with their signatures, in their places": (
        [
            START,
            *thinking(0, "h", "m", signature="S1"),
            *text(1, "Let me"),
            *tool(2, "{}"),
            *thinking(3, "more", signature="S2"),
            *tool(4, '{"a":1}', call_id="toolu_2"),
            *ended("tool_use"),
        ],
        [
            {"type": "thinking", "thinking": "hm", "signature": "S1"},
            {"type": "text", "text": "Let me"},
            {"type": "tool_use", "id": "toolu_1", "name": "w", "input": {}},
            {"type": "thinking", "thinking": "more", "signature": "S2"},
            {"type": "tool_use", "id": "toolu_2", "name": "w", "input": {"a": 1}},
        ],
    ),
    "a thought that only the provider can read": (
        [START, *block(0, {"type": "redacted_thinking", "data": "XXX"}), *text(1, "x"), *ended("end_turn")],
        [{"type": "redacted_thinking", "data": "XXX"}, {"type": "text", "text": "x"}],
    ),
    "a thought of which only the signature comes": (
        [START, *thinking(0, signature="S"), *text(1, "x"), *ended("end_turn")],
        [{"type": "thinking", "thinking": "", "signature": "S"}, {"type": "text", "text": "x"}],
    ),
    "a thought without signature stays here": (
        [START, *thinking(0, "hm", signature=""), *text(1, "x"), *ended("end_turn")],
        [{"type": "text", "text": "x"}],
    ),
    "a search of the provider's own": (
        STREAMS["a search of the provider's own"][0],
        [
            {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "x"}},
            {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": RESULTS},
            {"type": "text", "text": "x"},
        ],
    ),
}


@pytest.mark.parametrize(("values", "content"), ROUNDS.values(), ids=ROUNDS)
def test_an_answer_goes_back_as_it_came(values: list[dict[str, Any]], content: list[dict[str, Any]]) -> None:
    kept = read(ANTHROPIC, events(*values))[1].parts()
    told = [user("hi"), assistant(*kept), *(result(part.call_id) for part in kept if isinstance(part, Call))]
    assert sent(ANTHROPIC, *told, user("go on"))["messages"][1] == {"role": "assistant", "content": content}


def said(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def use(call_id: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": "w", "input": {"city": "Boston"}}


def returned(call_id: str, output: str = "sunny") -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call_id, "content": output}


DECLARED = [{"name": "w", "input_schema": {"type": "object", "properties": {}}}]
BARE = {"tools": DECLARED, "tool_choice": {"type": "none"}}  # the history has calls, but nothing may be called

REQUESTS: dict[str, tuple[list[Any], dict[str, Any], dict[str, Any]]] = {
    "system stands on top, roles alternate, no blank text": (
        [user("a"), user("b"), assistant("c", " \n"), user(" "), assistant("d"), entry("system", "be brief"), user("e")],
        {"instructions": "be kind"},
        {
            "system": "be kind\n\nbe brief",
            "messages": [
                {"role": "user", "content": [said("a"), said("b")]},
                {"role": "assistant", "content": [said("c"), said("d")]},
                {"role": "user", "content": [said("e")]},
            ],
        },
    ),
    "the user comes first": (
        [assistant("and so on"), user("ok")],
        {},
        {
            "messages": [
                {"role": "user", "content": [said("[what came before is not told again]")]},
                {"role": "assistant", "content": [said("and so on")]},
                {"role": "user", "content": [said("ok")]},
            ]
        },
    ),
    "results come first, right behind their calls": (
        [user("hi"), assistant("Let me", called("c1"), called("c2")), user("hurry"), result("c2", "rain"), result("c1"), user("so?")],
        {},
        {
            "messages": [
                {"role": "user", "content": [said("hi")]},
                {"role": "assistant", "content": [said("Let me"), use("c1"), use("c2")]},
                {"role": "user", "content": [returned("c1"), returned("c2", "rain"), said("hurry"), said("so?")]},
            ],
            **BARE,
        },
    ),
    "a result that came late": (
        [user("hi"), assistant(called("c1")), user("hurry"), assistant("soon"), result("c1"), user("so?")],
        {},
        {
            "messages": [
                {"role": "user", "content": [said("hi")]},
                {"role": "assistant", "content": [use("c1")]},
                {"role": "user", "content": [returned("c1"), said("hurry")]},
                {"role": "assistant", "content": [said("soon")]},
                {"role": "user", "content": [said("so?")]},
            ],
            **BARE,
        },
    ),
    "rounds of calls, whose ids repeat": (
        [user("hi"), assistant(called("c")), result("c", "1"), assistant(called("c")), result("c", "2")],
        {},
        {
            "messages": [
                {"role": "user", "content": [said("hi")]},
                {"role": "assistant", "content": [use("c")]},
                {"role": "user", "content": [returned("c", "1")]},
                {"role": "assistant", "content": [use("c")]},
                {"role": "user", "content": [returned("c", "2")]},
            ],
            **BARE,
        },
    ),
    "ids of other servers, results that are empty": (
        [user("hi"), assistant(called("functions.w:0")), result("functions.w:0", "")],
        {},
        {
            "messages": [
                {"role": "user", "content": [said("hi")]},
                {"role": "assistant", "content": [use(plain_id("functions.w:0"))]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": plain_id("functions.w:0")}]},
            ],
            **BARE,
        },
    ),
    "what another provider signed stays with it": (
        [user("hi"), assistant(Opaque(text="hm", provider_state=ProviderState("gemini", {"text": "hm"})), Text(text="x", provider_state=ProviderState("gemini", {"text": "x"}))), user("?")],
        {},
        {
            "messages": [
                {"role": "user", "content": [said("hi")]},
                {"role": "assistant", "content": [said("x")]},
                {"role": "user", "content": [said("?")]},
            ]
        },
    ),
    "a turn of thoughts alone is none": (
        [user("hi"), assistant(Opaque(provider_state=ProviderState("anthropic", {"type": "thinking"}))), user("?")],
        {},
        {"messages": [{"role": "user", "content": [said("hi"), said("?")]}]},
    ),
    "images": (
        [user(Image(media="a"), Image(media="b"), Image(media="gone"), "what?")],
        {"media": {"a": "data:image/png;base64,QUJD", "b": "https://x.example/y.png"}.get},
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}},
                        {"type": "image", "source": {"type": "url", "url": "https://x.example/y.png"}},
                        said("[an image that is no longer kept]"),
                        said("what?"),
                    ],
                }
            ]
        },
    ),
    "the beginning of an answer": (
        [user("hi")],
        {"prefill": "Once upon \n"},
        {"messages": [{"role": "user", "content": [said("hi")]}, {"role": "assistant", "content": [said("Once upon")]}]},
    ),
    "tools": (
        [user("hi")],
        {"tools": (WEATHER,), "tool_choice": "required"},
        {
            "messages": [{"role": "user", "content": [said("hi")]}],
            "tools": [{"name": "w", "description": "the weather", "input_schema": WEATHER.parameters}],
            "tool_choice": {"type": "any"},
        },
    ),
    "one tool": (
        [user("hi")],
        {"tools": (WEATHER,), "tool_choice": "w", "max_tokens": 5, "temperature": 0.5, "options": {"top_k": 3}},
        {
            "messages": [{"role": "user", "content": [said("hi")]}],
            "tools": [{"name": "w", "description": "the weather", "input_schema": WEATHER.parameters}],
            "tool_choice": {"type": "tool", "name": "w"},
            "max_tokens": 5,
            "temperature": 0.5,
            "top_k": 3,
        },
    ),
    "thinking": (
        [user("hi")],
        {"think": "low"},
        {
            "messages": [{"role": "user", "content": [said("hi")]}],
            "thinking": {"type": "adaptive", "display": "summarized"},
            "output_config": {"effort": "low"},
        },
    ),
    "thinking as older models have it": (
        [user("hi")],
        {"think": True, "without": frozenset({"adaptive"}), "max_tokens": 4096},
        {
            "messages": [{"role": "user", "content": [said("hi")]}],
            "thinking": {"type": "enabled", "budget_tokens": 2048},
            "max_tokens": 4096,
        },
    ),
    "without what was refused": (
        [user("hi")],
        {"think": True, "temperature": 0.5, "without": frozenset({"thinking", "temperature"})},
        {"messages": [{"role": "user", "content": [said("hi")]}]},
    ),
    "no thinking": (
        [user("hi")],
        {"think": False},
        {"messages": [{"role": "user", "content": [said("hi")]}], "thinking": {"type": "disabled"}},
    ),
}  # fmt: skip
STREAMED = pydantic.TypeAdapter(MessageCreateParamsStreaming)
IN_ONE = pydantic.TypeAdapter(MessageCreateParamsNonStreaming)


@pytest.mark.parametrize(("entries", "more", "body"), REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize("stream", [True, False])
def test_a_request(entries: list[Any], more: dict[str, Any], body: dict[str, Any], stream: bool) -> None:
    ours = sent(ANTHROPIC, *entries, stream=stream, **more)
    whole = {"model": "m", "max_tokens": 8192, **body} | ({"stream": True} if stream else {})
    assert ours == whole
    (STREAMED if stream else IN_ONE).validate_python(ours)


@pytest.mark.parametrize("call_id", ["functions.w:0", "", "x" * 65, "\ud83d"])
def test_ids_of_calls_in_plain_letters(call_id: str) -> None:
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", plain_id(call_id))
    assert plain_id("toolu_1") == "toolu_1"


def test_where_it_goes() -> None:
    request = ANTHROPIC.request(Ask(model="m", entries=(user("hi"),)))
    assert (request.method, request.path) == ("POST", "/v1/messages")
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert request.headers["Accept-Encoding"] == "identity"


def test_the_list_of_models() -> None:
    listed = [{"type": "model", "id": "claude-x", "display_name": "Claude X", "max_input_tokens": 200000}, {"id": "y"}]
    first, second = ANTHROPIC.models(msgspec.json.encode({"data": listed, "has_more": False}))
    assert (first.name, first.about, first.context) == ("claude-x", "Claude X", 200000)
    assert (second.name, second.context) == ("y", None)
    with pytest.raises(ValueError):
        ANTHROPIC.models(b'{"models":[]}')


# --- the judge: Anthropic's own client --------------------------------------------------------------------------------

Official = tuple[Served, anthropic.Anthropic]


@pytest.fixture(scope="module")
def official() -> Iterator[Official]:
    """A server, and the official client of it."""
    with serving() as served:
        with anthropic.Anthropic(api_key="not-a-key", base_url=served.url, max_retries=0) as client:
            yield served, client


@pytest.mark.parametrize("name", STREAMS)
def test_anthropic_reads_the_same(official: Official, name: str) -> None:
    served, client = official
    served.answers = [events(*STREAMS[name][0], names=True)]
    told = rows(ANTHROPIC, served.answers[0])
    words = "".join(each[1] for each in told if each[0] == "text")
    messages: list[MessageParam] = [{"role": "user", "content": "hi"}]
    with client.messages.stream(model="m", max_tokens=9, messages=messages) as stream:
        if told[-1][0] == "error":
            with pytest.raises(anthropic.APIStatusError):
                stream.until_done()
            shown = stream.current_message_snapshot
            assert "".join(each.text for each in shown.content if each.type == "text") == words
            return
        message = stream.get_final_message()
    assert "".join(each.text for each in message.content if each.type == "text") == words
    thoughts = "".join(each.thinking for each in message.content if each.type == "thinking")
    assert thoughts == "".join(each[1] for each in told if each[0] == "thinking")
    if not any(each[0] == "cut" for each in told):  # the client mends what was cut
        calls = [(each.id, each.name, each.input) for each in message.content if each.type == "tool_use"]
        ours = [(each[1], each[2], msgspec.json.decode(each[3])) for each in told if each[0] == "call"]
        assert calls == ours
    used = message.usage
    cached = (used.cache_read_input_tokens or 0) + (used.cache_creation_input_tokens or 0)
    ours_used = next(each[1:] for each in reversed(told) if each[0] == "usage")
    assert (used.input_tokens + cached, used.output_tokens) == ours_used
    assert told[-1][2].partition(":")[0] == message.stop_reason


@pytest.mark.parametrize("name", [name for name in ROUNDS if name != "a thought without signature stays here"])
def test_anthropic_sends_the_same(official: Official, name: str) -> None:
    """A round: the answer as the official client read it, and results; its next request is what this wire sends."""
    served, client = official
    served.answers = [
        events(*ROUNDS[name][0], names=True),
        events(START, *text(0, "x"), *ended("end_turn"), names=True),
    ]
    messages: list[MessageParam] = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    tools: Any = [{"name": "w", "description": "the weather", "input_schema": WEATHER.parameters}]
    more: Any = {"model": "m", "max_tokens": 9, "system": "be kind", "tools": tools, "tool_choice": {"type": "auto"}}
    with client.messages.stream(messages=messages, **more) as stream:
        message = stream.get_final_message()
    calls = [each.id for each in message.content if each.type == "tool_use"]
    content: Any = [returned(each) for each in calls]
    follow: list[MessageParam] = [
        *messages,
        {"role": "assistant", "content": message.content},
        {"role": "user", "content": [*content, {"type": "text", "text": "go on"}]},
    ]
    with client.messages.stream(messages=follow, **more) as stream:
        stream.until_done()
    path, _, body = served.requests[-1]
    kept = read(ANTHROPIC, events(*ROUNDS[name][0]))[1].parts()
    told = [user("hi"), assistant(*kept), *map(result, calls), user("go on")]
    ask = Ask(model="m", entries=tuple(told), tools=(WEATHER,), max_tokens=9, instructions="be kind")
    ours = ANTHROPIC.request(ask)
    assert ours.path == path
    assert without_nulls(msgspec.json.decode(ours.body)) == without_nulls(body)


def without_nulls(value: Any) -> Any:
    """The client sends what it was given as null; a field that is left out means the same there."""
    if isinstance(value, list):
        return [without_nulls(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {name: without_nulls(each) for name, each in value.items() if each is not None}
