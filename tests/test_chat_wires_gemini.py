"""The wire of Gemini: each trap of it is a row, and Google's own client is the judge."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from google import genai
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
from realtime_client.chat.wires.ask import Ask
from realtime_client.chat.wires.gemini import Gemini
from realtime_client.chat.wires.schema import inlined
from realtime_client.history import Call, Image, Opaque, ProviderState, Text

GEMINI = Gemini()
CALL = {"functionCall": {"id": "f1", "name": "w", "args": {"city": "Boston"}}, "thoughtSignature": "QWJD"}
SECOND = {"functionCall": {"id": "f2", "name": "w", "args": {"city": "Rome"}}}
WEATHER = ToolSpec(
    name="w", description="the weather", parameters={"type": "object", "properties": {"city": {"type": "string"}}}
)


def chunk(*parts: dict[str, Any], reason: str | None = None, **more: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}, "index": 0}
    return {"candidates": [candidate | ({"finishReason": reason} if reason else {})], **more}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"text": words, **more}


USED = {"promptTokenCount": 107, "candidatesTokenCount": 31, "thoughtsTokenCount": 148, "totalTokenCount": 286}
STOP = ("finish", "stop", "STOP")

STREAMS: dict[str, tuple[list[Any], list[tuple[Any, ...]]]] = {
    "text": ([chunk(text("Hel")), chunk(text("lo"), reason="STOP")], [("text", "Hel"), ("text", "lo"), STOP]),
    "thoughts are no part of the answer": (
        [chunk(text("Considering", thought=True)), chunk(text("Yes"), reason="STOP")],
        [("thinking", "Considering"), ("text", "Yes"), STOP],
    ),
    "a call, whose end says STOP": (
        [chunk(CALL), chunk(text(""), reason="STOP")],
        [("call", "f1", "w", '{"city":"Boston"}'), ("finish", "tool_calls", "STOP")],
    ),
    "two calls in one chunk": (
        [chunk(CALL, SECOND, reason="STOP")],
        [
            ("call", "f1", "w", '{"city":"Boston"}'),
            ("call", "f2", "w", '{"city":"Rome"}'),
            ("finish", "tool_calls", "STOP"),
        ],
    ),
    "calls without ids get some": (
        [chunk({"functionCall": {"name": "a"}}, {"functionCall": {"name": "b", "args": {}}}, reason="STOP")],
        [("call", "call_s_0", "a", "{}"), ("call", "call_s_1", "b", "{}"), ("finish", "tool_calls", "STOP")],
    ),
    "a call in pieces, which nobody asked for, is not run": (
        [
            chunk({"functionCall": {"name": "w", "willContinue": True}}),
            chunk({"functionCall": {"partialArgs": [{"jsonPath": "$.city", "stringValue": "Bos"}]}}),
            chunk({"functionCall": {}}, reason="STOP"),
        ],
        [("cut", "w", "{"), ("finish", "other", "STOP")],
    ),
    "a piece of a call that never began is nothing": (
        [chunk({"functionCall": {"args": {"a": 1}}}), chunk(text("x"), reason="STOP")],
        [("text", "x"), STOP],
    ),
    "the last chunk has no content": (
        [chunk(text("x")), {"candidates": [{"finishReason": "STOP"}]}],
        [("text", "x"), STOP],
    ),
    "the last chunk's content has no parts": (
        [chunk(text("x")), {"candidates": [{"content": {"role": "model"}, "finishReason": "STOP"}]}],
        [("text", "x"), STOP],
    ),
    "a translator says STOP first": (
        [chunk(reason="STOP"), chunk(text("x")), chunk(text("y"))],
        [("text", "x"), ("text", "y"), STOP],
    ),
    "STOP, and then a call": (
        [chunk(text(""), reason="STOP"), chunk(CALL, reason="STOP")],
        [("call", "f1", "w", '{"city":"Boston"}'), ("finish", "tool_calls", "STOP")],
    ),
    "an answer may be empty": ([chunk(reason="STOP")], [STOP]),
    "the first of several answers": (
        [{"candidates": [{"index": 1, "content": {"parts": [text("other")]}}]}, chunk(text("x"), reason="STOP")],
        [("text", "x"), STOP],
    ),
    "figures count up": (
        [
            chunk(text("x"), usageMetadata={"promptTokenCount": 9, "totalTokenCount": 40, "thoughtsTokenCount": 31}),
            chunk(text("y"), usageMetadata=USED),
            chunk(reason="STOP", usageMetadata=USED),
        ],
        [("usage", 9, 31), ("text", "x"), ("usage", 107, 179), ("text", "y"), STOP],
    ),
    "figures after the end": (
        [chunk(text("x"), reason="STOP"), {"usageMetadata": USED}],
        [("text", "x"), ("usage", 107, 179), STOP],
    ),
    "a limit": ([chunk(text("x"), reason="MAX_TOKENS")], [("text", "x"), ("finish", "length", "MAX_TOKENS")]),
    "taken back": (
        [chunk(text("x")), {"candidates": [{"finishReason": "SAFETY"}]}],
        [("text", "x"), ("finish", "content_filter", "SAFETY")],
    ),
    "blocked in mid-answer": (
        [chunk(text("x")), {"promptFeedback": {"blockReason": "MODEL_ARMOR"}}],
        [("text", "x"), ("finish", "content_filter", "MODEL_ARMOR")],
    ),
    "a reason that nobody knows": (
        [chunk(text("x"), reason="PUP_LIMITED_DISABLED")],
        [("text", "x"), ("finish", "other", "PUP_LIMITED_DISABLED")],
    ),
    "malformed, but something was said": (
        [chunk(text("x"), reason="MALFORMED_FUNCTION_CALL")],
        [("text", "x"), ("finish", "other", "MALFORMED_FUNCTION_CALL")],
    ),
    "malformed: once again": (
        [chunk(text("hm", thought=True)), chunk(reason="MALFORMED_FUNCTION_CALL")],
        [("thinking", "hm"), ("error", "protocol", "restart")],
    ),
    "malformed response": ([chunk(reason="MALFORMED_RESPONSE")], [("error", "protocol", "restart")]),
    "the prompt is blocked": (
        [{"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 5}}],
        [("usage", 5, 0), ("error", "application", "fatal")],
    ),
    "an overload in the stream": (
        [chunk(text("x")), {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}],
        [("text", "x"), ("error", "application", "retry")],
    ),
    "an error as a list": (
        [chunk(text("x")), [{"error": {"code": 500, "message": "boom", "status": "INTERNAL"}}]],
        [("text", "x"), ("error", "application", "retry")],
    ),
    "an error without a number": ([{"error": {"status": "RESOURCE_EXHAUSTED"}}], [("error", "application", "retry")]),
    "cut": ([chunk(text("x"))], [("text", "x"), ("error", "network", "retry")]),
    "cut after a call: it is not run": ([chunk(CALL)], [("error", "network", "retry")]),
    "no shape": ([{"candidates": [7]}], [("error", "protocol", "restart")]),
}


@pytest.mark.parametrize(("values", "told"), STREAMS.values(), ids=STREAMS)
def test_a_stream(values: list[Any], told: list[tuple[Any, ...]]) -> None:
    assert rows(GEMINI, events(*values)) == told


@pytest.mark.parametrize("name", STREAMS)
def test_whatever_comes_there_is_an_end(name: str) -> None:
    values = STREAMS[name][0]
    for n, value in enumerate(values):
        for odd in mutants(value):
            assert ends(
                GEMINI,
                b"".join(f"data: {json.dumps(each)}\n\n".encode() for each in [*values[:n], odd, *values[n + 1 :]]),
            )
            assert ends(GEMINI, json.dumps(odd).encode(), kind=JSON)


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n\r\n"])
def test_its_end_may_lack_a_line_end(ending: bytes) -> None:
    body = events(chunk(text("x"))) + b"data: " + msgspec.json.encode(chunk(text("y"), reason="STOP")) + ending
    assert rows(GEMINI, body) == [("text", "x"), ("text", "y"), STOP]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (chunk(text("x"), reason="STOP", usageMetadata=USED), [("usage", 107, 179), ("text", "x"), STOP]),
        ([chunk(text("x")), chunk(text("y"), reason="STOP")], [("text", "x"), ("text", "y"), STOP]),  # not `alt=sse`
        ([chunk(text("x")), {"error": {"code": 429}}], [("text", "x"), ("error", "application", "retry")]),
        ([], [("error", "protocol", "restart")]),
        ({}, [("error", "protocol", "restart")]),
    ],
)
def test_an_answer_in_one_piece(body: Any, told: list[tuple[Any, ...]]) -> None:
    assert rows(GEMINI, msgspec.json.encode(body), kind="application/json; charset=UTF-8") == told


@pytest.mark.parametrize("wrap", [lambda error: error, lambda error: [error]])
@pytest.mark.parametrize(
    ("status", "error", "seen"),
    [
        (
            429,
            {"status": "RESOURCE_EXHAUSTED", "details": [{"@type": "x/RetryInfo", "retryDelay": "17s"}]},
            ("retry", 17.0, ""),
        ),
        (
            429,
            {"details": [{"violations": [{"quotaId": "RequestsPerDayPerProject"}]}, {"retryDelay": "9s"}]},
            ("fallback", 9.0, ""),
        ),
        (503, {"message": "The model is overloaded.", "status": "UNAVAILABLE"}, ("retry", None, "overloaded")),
        (500, {"status": "INTERNAL"}, ("retry", None, "")),
        (400, {"message": "API key not valid.", "status": "INVALID_ARGUMENT"}, ("fatal", None, "API key")),
        (404, {"message": "models/x is not found", "status": "NOT_FOUND"}, ("fallback", None, "models/x")),
    ],
)
def test_an_error(wrap: Any, status: int, error: Any, seen: tuple[str, float | None, str]) -> None:
    """In one piece with its status, and in a stream on HTTP 200."""
    body = msgspec.json.encode(wrap({"error": {"code": status, "message": "no", **error}}))
    action, wait_s, shown = seen
    for found in (fault(GEMINI, body, kind=JSON, status=status), fault(GEMINI, b"data: " + body + b"\n\n")):
        assert (found.status, found.action, found.retry_after_s) == (status, action, wait_s)
        assert shown in found.line


def test_an_error_that_is_no_json() -> None:
    assert fault(GEMINI, b"<html>Bad Gateway", kind="text/html", status=502).action == "retry"


def test_a_model_that_does_not_think_names_the_field() -> None:
    body = b'{"error":{"code":400,"message":"Thinking is not enabled for models/m"}}'
    assert fault(GEMINI, body, kind=JSON, status=400).field == "thinkingConfig"


def test_a_blocked_prompt_is_no_fault_of_the_provider() -> None:
    seen = fault(GEMINI, events({"promptFeedback": {"blockReason": "SAFETY"}}))
    assert not seen.trips
    assert "SAFETY" in seen.message


def test_usage_by_kind() -> None:
    used = {
        "promptTokenCount": 100,
        "toolUsePromptTokenCount": 7,
        "cachedContentTokenCount": 40,
        "candidatesTokenCount": 5,
        "thoughtsTokenCount": 6,
        "totalTokenCount": 118,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 70}, {"modality": "IMAGE", "tokenCount": 30}],
        "cacheTokensDetails": [{"modality": "IMAGE", "tokenCount": 30}],
    }
    usage = read(GEMINI, events(chunk(text("x"), reason="STOP", usageMetadata=used)))[1].usage
    assert usage is not None
    assert (usage.input_tokens, usage.input_text, usage.input_image) == (107, 77, 30)
    assert (usage.cached, usage.cached_text, usage.cached_image) == (40, 10, 30)
    assert (usage.output_tokens, usage.output_text, usage.total_tokens) == (11, 11, 118)


# --- what goes back ---------------------------------------------------------------------------------------------------

ROUNDS: dict[str, tuple[list[Any], list[Any]]] = {
    "calls: the signature stays on the first": ([chunk(text("Let me", thought=True)), chunk(CALL, SECOND, reason="STOP")], [text("Let me", thought=True), CALL, SECOND]),
    "unsigned text is one, signed text is not": (
        [chunk(text("a")), chunk(text("b")), chunk(text("c", thoughtSignature="UzE=")), chunk(text("d"), reason="STOP")],
        [text("ab"), text("c", thoughtSignature="UzE="), text("d")],
    ),
    "a signature on nothing": (
        [chunk(text("a")), chunk(text("", thoughtSignature="UzI="), reason="STOP")],
        [text("a"), text("", thoughtSignature="UzI=")],
    ),
    "thoughts between": (
        [chunk(text("t1", thought=True), text("t2", thought=True)), chunk(text("a"), text("t3", thought=True, thoughtSignature="Uw==")), chunk(CALL, reason="STOP")],
        [text("t1t2", thought=True), text("a"), text("t3", thought=True, thoughtSignature="Uw=="), CALL],
    ),
    "what no wire has words for": (
        [chunk({"executableCode": {"code": "1"}}, {"codeExecutionResult": {"output": "1"}}, text("x"), reason="STOP")],
        [{"executableCode": {"code": "1"}}, {"codeExecutionResult": {"output": "1"}}, text("x")],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("values", "parts"), ROUNDS.values(), ids=ROUNDS)
def test_an_answer_goes_back_as_it_came(values: list[Any], parts: list[Any]) -> None:
    kept = read(GEMINI, events(*values))[1].parts()
    told = [user("hi"), assistant(*kept)]
    told += [result(part.call_id) for part in kept if isinstance(part, Call)]
    contents = sent(GEMINI, *told, user("go on"))["contents"]
    assert contents[1] == {"role": "model", "parts": parts}


def test_half_a_surrogate_pair_does_not_go_back() -> None:
    body = b'data: {"candidates":[{"content":{"parts":[{"text":"x\\ud83d","thoughtSignature":"Uw=="}]},"finishReason":"STOP"}]}\n\n'
    kept = read(GEMINI, body)[1].parts()
    assert sent(GEMINI, user("hi"), assistant(*kept))["contents"][1]["parts"] == [text("x?", thoughtSignature="Uw==")]


def test_a_call_whose_arguments_are_no_unicode_is_not_run() -> None:
    body = b'data: {"candidates":[{"content":{"parts":[{"functionCall":{"name":"w","args":{"a":"\\ud83d"}}}]},"finishReason":"STOP"}]}\n\n'
    assert rows(GEMINI, body)[0][:2] == ("cut", "w")


REQUESTS: dict[str, tuple[list[Any], dict[str, Any], dict[str, Any]]] = {
    "roles, and no empty text": (
        [user("hi"), assistant("yes", " "), user("", "and")],
        {"instructions": "be kind"},
        {
            "systemInstruction": {"parts": [text("be kind")]},
            "contents": [
                {"role": "user", "parts": [text("hi")]},
                {"role": "model", "parts": [text("yes")]},
                {"role": "user", "parts": [text("and")]},
            ],
        },
    ),
    "neighbours of one role are one": (
        [user("a"), user("b"), entry("system", "be brief")],
        {"instructions": "be kind"},
        {
            "systemInstruction": {"parts": [text("be kind\n\nbe brief")]},
            "contents": [{"role": "user", "parts": [text("a"), text("b")]}],
        },
    ),
    "results are objects, all in one content, in the order of the calls": (
        [
            user("hi"),
            assistant(called("c1"), called("c2"), called("c3")),
            result("c2", '{"sky":"blue"}'),
            result("c1", "sunny"),
            result("c3", "[1]"),
            user("so?"),
        ],
        {},
        {
            "contents": [
                {"role": "user", "parts": [text("hi")]},
                {
                    "role": "model",
                    "parts": [
                        {
                            "functionCall": {"id": "c1", "name": "w", "args": {"city": "Boston"}},
                            "thoughtSignature": "skip_thought_signature_validator",
                        },
                        {"functionCall": {"id": "c2", "name": "w", "args": {"city": "Boston"}}},
                        {"functionCall": {"id": "c3", "name": "w", "args": {"city": "Boston"}}},
                    ],
                },
                {
                    "role": "user",
                    "parts": [
                        {"functionResponse": {"id": "c1", "name": "w", "response": {"result": "sunny"}}},
                        {"functionResponse": {"id": "c2", "name": "w", "response": {"sky": "blue"}}},
                        {"functionResponse": {"id": "c3", "name": "w", "response": {"result": [1]}}},
                    ],
                },
                {"role": "user", "parts": [text("so?")]},
            ]
        },
    ),
    "without an id, the order tells": (
        [
            user("hi"),
            assistant(
                Call(
                    call_id="call_s_0",
                    name="w",
                    arguments="{}",
                    provider_state=ProviderState("gemini", {"functionCall": {"name": "w"}}),
                )
            ),
            result("call_s_0"),
        ],
        {},
        {
            "contents": [
                {"role": "user", "parts": [text("hi")]},
                {"role": "model", "parts": [{"functionCall": {"name": "w"}}]},
                {"role": "user", "parts": [{"functionResponse": {"name": "w", "response": {"result": "sunny"}}}]},
            ]
        },
    ),
    "what another provider signed stays with it": (
        [
            user("hi"),
            assistant(
                Opaque(text="hm", provider_state=ProviderState("anthropic", {"type": "thinking"})),
                Text(text="yes", provider_state=ProviderState("openai", {"x": 1})),
            ),
            user("?"),
        ],
        {},
        {
            "contents": [
                {"role": "user", "parts": [text("hi")]},
                {"role": "model", "parts": [text("yes")]},
                {"role": "user", "parts": [text("?")]},
            ]
        },
    ),
    "images": (
        [user(Image(media="a"), Image(media="b"), Image(media="gone"), "what is it?")],
        {"media": {"a": "data:image/png;base64,QUJD", "b": "https://x.example/y.png"}.get},
        {
            "contents": [
                {
                    "role": "user",
                    "parts": [
                        {"inlineData": {"mimeType": "image/png", "data": "QUJD"}},
                        {"fileData": {"fileUri": "https://x.example/y.png"}},
                        text("[an image that is no longer kept]"),
                        text("what is it?"),
                    ],
                }
            ]
        },
    ),
    "figures": (
        [user("hi")],
        {"max_tokens": 5, "temperature": 0.5, "think": "low", "options": {"generationConfig": {"seed": 1}, "safetySettings": []}},
        {
            "contents": [{"role": "user", "parts": [text("hi")]}],
            "generationConfig": {
                "maxOutputTokens": 5,
                "temperature": 0.5,
                "thinkingConfig": {"includeThoughts": True, "thinkingLevel": "low"},
                "seed": 1,
            },
        },
    ),
    "without what was refused": (
        [user("hi")],
        {"temperature": 0.5, "think": True, "without": frozenset({"thinkingConfig", "temperature"})},
        {"contents": [{"role": "user", "parts": [text("hi")]}]},
    ),
    "tools": (
        [user("hi")],
        {"tools": (WEATHER, ToolSpec(name="now")), "tool_choice": "w"},
        {
            "contents": [{"role": "user", "parts": [text("hi")]}],
            "tools": [
                {
                    "functionDeclarations": [
                        {"name": "w", "description": "the weather", "parametersJsonSchema": WEATHER.parameters},
                        {"name": "now"},
                    ]
                }
            ],
            "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["w"]}},
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize(("entries", "more", "body"), REQUESTS.values(), ids=REQUESTS)
def test_a_request(entries: list[Any], more: dict[str, Any], body: dict[str, Any]) -> None:
    assert sent(GEMINI, *entries, **more) == body
    genai.types.GenerateContentConfig.model_validate(body.get("generationConfig", {}))
    for content in body["contents"]:
        genai.types.Content.model_validate(content)
    for tool in body.get("tools", []):
        genai.types.Tool.model_validate(tool)


@pytest.mark.parametrize(
    ("model", "stream", "path"),
    [
        ("gemini-3-flash", True, "/models/gemini-3-flash:streamGenerateContent?alt=sse"),
        ("gemini-3-flash", False, "/models/gemini-3-flash:generateContent"),
        ("tunedModels/a b", True, "/tunedModels/a%20b:streamGenerateContent?alt=sse"),
    ],
)
def test_where_it_goes(model: str, stream: bool, path: str) -> None:
    request = GEMINI.request(Ask(model=model, entries=(user("hi"),), stream=stream))
    assert request.path == path
    assert request.headers["Accept"] == ("text/event-stream" if stream else "application/json")


def test_the_list_of_models() -> None:
    body = msgspec.json.encode(
        {
            "models": [
                {
                    "name": "models/gemini-x",
                    "displayName": "Gemini X",
                    "inputTokenLimit": 1000,
                    "supportedGenerationMethods": ["generateContent"],
                },
                {"name": "models/embedding", "supportedGenerationMethods": ["embedContent"]},
            ]
        }
    )
    (model,) = GEMINI.models(body)
    assert (model.name, model.about, model.context) == ("gemini-x", "Gemini X", 1000)
    with pytest.raises(ValueError):
        GEMINI.models(b"{}")


@pytest.mark.parametrize(
    ("schema", "plain"),
    [
        (
            {"$ref": "#/$defs/P", "$defs": {"P": {"type": "object", "properties": {"q": {"$ref": "#/$defs/Q"}}}, "Q": {"type": "string"}}},
            {"type": "object", "properties": {"q": {"type": "string"}}},
        ),
        (
            {"properties": {"a": {"$ref": "#/definitions/x~1y", "description": "an a"}}, "definitions": {"x/y": {"type": "integer"}}},
            {"properties": {"a": {"type": "integer", "description": "an a"}}},
        ),
        (
            {"anyOf": [{"$ref": "#/$defs/Tree"}], "$defs": {"Tree": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}}},
            {"anyOf": [{"type": "array", "items": {"type": "object"}}]},
        ),
        ({"a": {"$ref": "#"}, "b": {"$ref": "#/$defs/none"}}, {"a": {"type": "object"}, "b": {"type": "object"}}),
        ({"a": {"$ref": "https://x.example/schema"}}, {"a": {"$ref": "https://x.example/schema"}}),
    ],
)  # fmt: skip
def test_references_of_a_schema_are_replaced(schema: dict[str, Any], plain: dict[str, Any]) -> None:
    before = msgspec.json.encode(schema)
    assert inlined(schema) == plain
    assert msgspec.json.encode(schema) == before


def test_a_schema_that_doubles_at_each_step_has_an_end() -> None:
    steps = {f"s{n}": {"anyOf": [{"$ref": f"#/$defs/s{n + 1}"}] * 2} for n in range(60)}
    assert len(msgspec.json.encode(inlined({"$ref": "#/$defs/s0", "$defs": steps}))) < 2_000_000


# --- the judge: Google's own client -----------------------------------------------------------------------------------


Google = tuple[Served, genai.Client]


@pytest.fixture(scope="module")
def google() -> Iterator[Google]:
    """A server, and the official client of it."""
    with serving() as served:
        retry = genai.types.HttpRetryOptions(attempts=1)
        options = genai.types.HttpOptions(base_url=served.url, api_version="v1beta", retry_options=retry)
        with genai.Client(api_key="not-a-key", vertexai=False, http_options=options) as client:
            yield served, client


def seen_by_google(google: Google, body: bytes) -> tuple[Any, ...]:
    """(text, thoughts, calls, tokens in and out) as the official client reads them; 'error' for the last two."""
    said, thought, calls, used = "", "", [], (0, 0)
    served, client = google
    served.answers = [body]
    try:
        for answer in client.models.generate_content_stream(model="m", contents="hi"):
            for candidate in answer.candidates or []:
                for part in (not candidate.index and candidate.content and candidate.content.parts) or []:
                    if part.function_call and part.function_call.name:
                        calls.append((part.function_call.name, part.function_call.args or {}))
                    elif part.thought:
                        thought += part.text or ""
                    else:
                        said += part.text or ""
            if usage := answer.usage_metadata:
                made = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
                used = (usage.prompt_token_count or 0, made)
    except genai.errors.APIError:
        return said, thought, "error"
    return said, thought, calls, used


JUDGED = [
    name for name in STREAMS if name not in {"no shape", "an error without a number", "an error as a list"}
]  # the client breaks on these


@pytest.mark.parametrize("name", JUDGED)
def test_google_reads_the_same(google: Google, name: str) -> None:
    body = events(*STREAMS[name][0])
    told = rows(GEMINI, body)
    said = "".join(each[1] for each in told if each[0] == "text")
    thought = "".join(each[1] for each in told if each[0] == "thinking")
    judged = seen_by_google(google, body)
    assert judged[:2] == (said, thought)
    if judged[2] == "error":
        assert told[-1][:2] == ("error", "application")
        return
    ours = [(each[2], msgspec.json.decode(each[3])) for each in told if each[0] == "call"]
    if told[-1][0] == "finish" and not any(each[0] == "cut" for each in told):
        assert judged[2] == ours
    used = next((each[1:] for each in reversed(told) if each[0] == "usage"), (0, 0))
    assert judged[3] == used


def test_google_sends_the_same(google: Google) -> None:
    """A round with a thought and two calls: what the official chat sends next is what this wire sends."""
    first = events(chunk(text("Let me", thought=True)), chunk(CALL), chunk(SECOND, reason="STOP"))
    last = events(chunk(text("Both."), reason="STOP"))
    respond = genai.types.Part.from_function_response
    served, client = google
    served.answers = [first, last]
    tool = genai.types.FunctionDeclaration(
        name="w", description="the weather", parameters_json_schema=WEATHER.parameters
    )
    config = genai.types.GenerateContentConfig(
        system_instruction="be kind",
        max_output_tokens=50,
        temperature=0.5,
        thinking_config=genai.types.ThinkingConfig(include_thoughts=True),
        tools=[genai.types.Tool(function_declarations=[tool])],
        tool_config=genai.types.ToolConfig(
            function_calling_config=genai.types.FunctionCallingConfig(mode=genai.types.FunctionCallingConfigMode.AUTO)
        ),
        automatic_function_calling=genai.types.AutomaticFunctionCallingConfig(disable=True),
    )
    chat = client.chats.create(model="m", config=config)
    list(chat.send_message_stream("hi"))
    answers = [respond(name="w", response={"result": each}) for each in ("sunny", "rain")]
    for answer, call_id in zip(answers, ("f1", "f2"), strict=True):
        assert answer.function_response is not None
        answer.function_response.id = call_id
    list(chat.send_message_stream(answers))
    path, headers, body = served.requests[-1]
    assert headers["x-goog-api-key"] == "not-a-key"
    kept = read(GEMINI, first)[1].parts()
    more: dict[str, Any] = {
        "instructions": "be kind",
        "tools": (WEATHER,),
        "max_tokens": 50,
        "temperature": 0.5,
        "think": True,
    }
    told = [user("hi"), assistant(*kept), result("f1", "sunny"), result("f2", "rain")]
    ours = GEMINI.request(Ask(model="m", entries=tuple(told), **more))
    assert "/v1beta" + ours.path == path
    assert normal(msgspec.json.decode(ours.body)) == normal(body)


def camel(value: Any) -> Any:
    """Google's client spells some fields with underscores; the server takes both."""
    if isinstance(value, list):
        return [camel(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {re.sub(r"_([a-z])", lambda found: found[1].upper(), name): camel(each) for name, each in value.items()}


def normal(body: dict[str, Any]) -> dict[str, Any]:
    """Contents of one role that stand side by side as one: the official chat keeps each chunk as one of its own."""
    body = camel(body)
    contents: list[Any] = []
    for content in body["contents"]:
        if contents and contents[-1]["role"] == content["role"]:
            contents[-1]["parts"] += content["parts"]
        else:
            contents.append(content)
    system = {name: value for name, value in body["systemInstruction"].items() if name != "role"}
    return {**body, "contents": contents, "systemInstruction": system}
