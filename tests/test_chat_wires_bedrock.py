"""The wire of Amazon Bedrock: each trap of it is a row, and boto3 is the judge, also of the signatures."""

from __future__ import annotations

import contextlib
import json
import struct
import sys
import zlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3
import botocore.auth
import msgspec
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from wire_stage import (
    JSON,
    Served,
    assistant,
    called,
    ends,
    entry,
    fault,
    mutants,
    read,
    result,
    row,
    rows,
    sent,
    serving,
    user,
)

from realtime_client.changes import ToolSpec
from realtime_client.chat.aws import region, signer
from realtime_client.chat.wires import pieces as pc
from realtime_client.chat.wires.ask import Ask
from realtime_client.chat.wires.bedrock import EVENT_STREAM, Bedrock
from realtime_client.errors import MissingExtraError, UsageError
from realtime_client.history import Call, Image, Opaque, ProviderState

BEDROCK = Bedrock()
WEATHER = ToolSpec(name="w", description="the weather", parameters={"type": "object", "properties": {}})
Event = tuple[str, dict[str, Any]]


def header(name: str, value: str) -> bytes:
    return bytes([len(name)]) + name.encode() + b"\x07" + struct.pack("!H", len(value)) + value.encode()


def framed(headers: dict[str, str], payload: bytes) -> bytes:
    """A message: lengths and their CRC, headers, payload, CRC of all of it."""
    head = b"".join(header(name, value) for name, value in headers.items())
    prelude = struct.pack("!II", len(head) + len(payload) + 16, len(head))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + head + payload
    return message + struct.pack("!I", zlib.crc32(message))


def stream(*events: Event) -> bytes:
    """Events; what is named `!...` is an exception."""
    told = b""
    for name, value in events:
        kind, at = ("exception", ":exception-type") if name.startswith("!") else ("event", ":event-type")
        headers = {at: name.removeprefix("!"), ":content-type": JSON, ":message-type": kind}
        told += framed(headers, json.dumps(value).encode())
    return told


START: Event = ("messageStart", {"role": "assistant", "p": "abcd"})  # p: padding, which Bedrock adds
USED: Event = (
    "metadata",
    {
        "usage": {
            "inputTokens": 10,
            "outputTokens": 7,
            "totalTokens": 25,
            "cacheReadInputTokens": 5,
            "cacheWriteInputTokens": 3,
        },
        "metrics": {"latencyMs": 12},
    },
)


def delta(index: int, value: dict[str, Any]) -> Event:
    return "contentBlockDelta", {"contentBlockIndex": index, "delta": value}


def closed(index: int) -> Event:
    return "contentBlockStop", {"contentBlockIndex": index}


def text(index: int, *words: str) -> list[Event]:
    return [*(delta(index, {"text": each}) for each in words), closed(index)]


def thinking(index: int, *words: str, signature: str = "SIG") -> list[Event]:
    told = [delta(index, {"reasoningContent": {"text": each}}) for each in words]
    told += [delta(index, {"reasoningContent": {"signature": signature}})] if signature else []
    return [*told, closed(index)]


def tool(index: int, *fragments: str, call_id: str = "tu_1") -> list[Event]:
    begin = {"contentBlockIndex": index, "start": {"toolUse": {"toolUseId": call_id, "name": "w"}}}
    told = [delta(index, {"toolUse": {"input": each}}) for each in fragments]
    return [("contentBlockStart", begin), *told, closed(index)]


def stopped(reason: str) -> list[Event]:
    return [("messageStop", {"stopReason": reason}), USED]


def over(reason: str, words: str) -> list[tuple[Any, ...]]:
    return [("usage", 18, 7), ("finish", reason, words)]


# --- the answer -------------------------------------------------------------------------------------------------------

STREAMS: dict[str, tuple[list[Event], list[tuple[Any, ...]]]] = {
    "text, which has no beginning": (
        [START, *text(0, "Hel", "lo"), *stopped("end_turn")],
        [("text", "Hel"), ("text", "lo"), *over("stop", "end_turn")],
    ),
    "thoughts": (
        [START, *thinking(0, "h", "m"), *text(1, "Yes"), *stopped("end_turn")],
        [("thinking", "h"), ("thinking", "m"), ("text", "Yes"), *over("stop", "end_turn")],
    ),
    "a call in fragments": (
        [START, *text(0, "x"), *tool(1, '{"ci', 'ty":"Bo', 'ston"}'), *stopped("tool_use")],
        [
            ("text", "x"),
            ("usage", 18, 7),
            ("call", "tu_1", "w", '{"city":"Boston"}'),
            ("finish", "tool_calls", "tool_use"),
        ],
    ),
    "no fragments are no arguments; two calls": (
        [START, *tool(0), *tool(1, '{"a":1}', call_id="tu_2"), *stopped("tool_use")],
        [
            ("usage", 18, 7),
            ("call", "tu_1", "w", "{}"),
            ("call", "tu_2", "w", '{"a":1}'),
            ("finish", "tool_calls", "tool_use"),
        ],
    ),
    "a call counts, whatever the reason says": (
        [START, *tool(0, "{}"), *stopped("end_turn")],
        [("usage", 18, 7), ("call", "tu_1", "w", "{}"), ("finish", "tool_calls", "end_turn")],
    ),
    "a call that a limit cut is not run": (
        [START, *tool(0, '{"dry_'), *stopped("max_tokens")],
        [("usage", 18, 7), ("cut", "w", '{"dry_'), ("finish", "length", "max_tokens")],
    ),
    "the context is full": (
        [START, *text(0, "x"), *stopped("model_context_window_exceeded")],
        [("text", "x"), *over("length", "model_context_window_exceeded")],
    ),
    "a guardrail": (
        [START, *text(0, "x"), *stopped("guardrail_intervened")],
        [("text", "x"), *over("content_filter", "guardrail_intervened")],
    ),
    "filtered": ([START, *stopped("content_filtered")], over("content_filter", "content_filtered")),
    "a reason that nobody knows": (
        [START, *text(0, "x"), *stopped("new_reason")],
        [("text", "x"), *over("other", "new_reason")],
    ),
    "malformed, but something was said": (
        [START, *text(0, "x"), *stopped("malformed_tool_use")],
        [("text", "x"), *over("other", "malformed_tool_use")],
    ),
    "malformed: once again": ([START, *stopped("malformed_model_output")], [("error", "protocol", "restart")]),
    "throttled in the stream": (
        [START, *text(0, "x"), ("!throttlingException", {"message": "slower"})],
        [("text", "x"), ("error", "application", "retry")],
    ),
    "unavailable": ([START, ("!serviceUnavailableException", {})], [("error", "application", "retry")]),
    "internal": ([START, ("!internalServerException", {"message": "no"})], [("error", "application", "retry")]),
    "not valid": ([START, ("!validationException", {"message": "no"})], [("error", "application", "fatal")]),
    "the model failed": (
        [
            START,
            ("!modelStreamErrorException", {"message": "no", "originalStatusCode": 500, "originalMessage": "boom"}),
        ],
        [("error", "application", "retry")],
    ),
    "the model failed, nobody knows why": (
        [START, ("!modelStreamErrorException", {"message": "no"})],
        [("error", "application", "fallback")],
    ),
    "an event that nobody knows": (
        [START, ("weatherReport", {"sky": "blue"}), *text(0, "x"), *stopped("end_turn")],
        [("text", "x"), *over("stop", "end_turn")],
    ),
    "a delta that nobody knows": (
        [START, delta(0, {"citation": {"title": "x"}}), *text(0, "x"), *stopped("end_turn")],
        [("text", "x"), *over("stop", "end_turn")],
    ),
    "the figures are lost": (
        [START, *text(0, "x"), ("messageStop", {"stopReason": "end_turn"})],
        [("text", "x"), ("finish", "stop", "end_turn")],
    ),
    "cut": ([START, *text(0, "x")], [("text", "x"), ("error", "network", "retry")]),
    "cut after a call: it is not run": ([START, *tool(0, "{}")], [("error", "network", "retry")]),
}


@pytest.mark.parametrize(("events", "told"), STREAMS.values(), ids=STREAMS)
def test_a_stream(events: list[Event], told: list[tuple[Any, ...]]) -> None:
    assert rows(BEDROCK, stream(*events), kind=EVENT_STREAM) == told


def test_pieces_come_with_their_bytes() -> None:
    """What has come is told at once, not at the end of the body."""
    reader = BEDROCK.reader("s")
    reader.head(200, {"content-type": EVENT_STREAM})
    assert reader.feed(stream(START), 1.0) == []
    assert [row(piece) for piece in reader.feed(stream(*text(0, "Hi")), 2.0)] == [("text", "Hi")]
    assert not reader.finished
    assert reader.feed(stream(stopped("end_turn")[0]), 3.0) == []
    assert reader.finished
    assert not reader.over
    assert [type(piece) for piece in reader.feed(stream(USED), 4.0)] == [pc.UsagePiece, pc.FinishPiece]
    assert reader.over


WHOLE = stream(START, *text(0, "x"), *stopped("end_turn"))


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (WHOLE[:60], [("error", "network", "retry")]),  # cut inside a message
        (stream(START, *text(0, "x")) + WHOLE[:9], [("text", "x"), ("error", "network", "retry")]),
        (WHOLE[:20] + b"X" + WHOLE[21:], [("error", "protocol", "restart")]),  # a CRC that does not fit
        (stream(START, *text(0, "x")) + b"\xff" * 40, [("text", "x"), ("error", "protocol", "restart")]),
        (framed({":message-type": "event", ":event-type": "contentBlockDelta"}, b"{no"), [("error", "protocol", "restart")]),
        (framed({":message-type": "error", ":error-code": "InternalFailure", ":error-message": "boom"}, b""), [("error", "application", "retry")]),
        (framed({":message-type": "exception", ":exception-type": "throttlingException"}, b""), [("error", "application", "retry")]),
        (stream(delta(0, {"text": 7}), *stopped("end_turn")), over("stop", "end_turn")),
        (framed({":event-type": "contentBlockDelta"}, b'{"contentBlockIndex":"a"}'), [("error", "protocol", "restart")]),
    ],
)  # fmt: skip
def test_a_stream_that_is_broken(body: bytes, told: list[tuple[Any, ...]]) -> None:
    assert rows(BEDROCK, body, kind=EVENT_STREAM) == told


def test_a_message_without_end_is_not_awaited() -> None:
    prelude = struct.pack("!II", 2**31, 0)
    found = fault(BEDROCK, prelude + struct.pack("!I", zlib.crc32(prelude)), kind=EVENT_STREAM)
    assert (found.category, found.action) == ("protocol", "restart")


ANSWER = {
    "output": {
        "message": {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "SIG"}}},
                {"text": "Yes"},
                {"toolUse": {"toolUseId": "t", "name": "w", "input": {"a": 1}}},
            ],
        }
    },
    "stopReason": "tool_use",
    "usage": USED[1]["usage"],
    "metrics": {"latencyMs": 1},
}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (
            ANSWER,
            [
                ("thinking", "hm"),
                ("text", "Yes"),
                ("usage", 18, 7),
                ("call", "t", "w", '{"a":1}'),
                ("finish", "tool_calls", "tool_use"),
            ],
        ),
        ({"Output": {"__type": "UnknownOperationException"}, "Version": "1.0"}, [("error", "protocol", "restart")]),
    ],
)
def test_an_answer_in_one_piece(body: Any, told: list[tuple[Any, ...]]) -> None:
    assert rows(BEDROCK, msgspec.json.encode(body), kind=JSON) == told


@pytest.mark.parametrize("name", STREAMS)
def test_whatever_comes_there_is_an_end(name: str) -> None:
    events = STREAMS[name][0]
    for n, (kind, value) in enumerate(events):
        for odd in mutants(value):
            assert ends(BEDROCK, stream(*events[:n], (kind, odd), *events[n + 1 :]), kind=EVENT_STREAM)


def test_whatever_comes_in_one_piece_there_is_an_end() -> None:
    assert all(ends(BEDROCK, json.dumps(odd).encode(), kind=JSON) for odd in mutants(ANSWER))


@pytest.mark.parametrize(
    ("status", "name", "said", "seen"),
    [
        (429, "ThrottlingException:http://internal.amazon.com/", {"message": "slower"}, ("retry", "", "slower")),
        (429, "ModelNotReadyException", {"message": "starting"}, ("retry", "", "starting")),
        (408, "ModelTimeoutException", {"message": "late"}, ("retry", "", "late")),
        (424, "ModelErrorException", {"message": "no", "originalStatusCode": 400}, ("fallback", "", "no")),
        (503, "ServiceUnavailableException", {"message": "no"}, ("retry", "", "no")),
        (500, "InternalServerException", {"message": "no"}, ("retry", "", "no")),
        (404, "ResourceNotFoundException", {"message": "no model"}, ("fallback", "", "no model")),
        (403, "AccessDeniedException", {"Message": "not yours"}, ("fallback", "", "access to this model")),
        (403, "ExpiredTokenException", {"message": "too old"}, ("fallback", "", "sign in again")),
        (400, "ValidationException", {"message": "text is blank"}, ("fatal", "", "text is blank")),
        (
            400,
            "ValidationException",
            {"message": "The model requires the last turn in the conversation to be a user message."},
            ("fatal", "prefill", "last turn"),
        ),
    ],
)
def test_an_error(status: int, name: str, said: dict[str, Any], seen: tuple[str, str, str]) -> None:
    body = msgspec.json.encode(said)
    found = fault(BEDROCK, body, kind=JSON, status=status, headers={"x-amzn-errortype": name})
    assert (found.action, found.field) == seen[:2]
    assert seen[2] in found.line
    assert found.code == name.partition(":")[0]
    inside = fault(BEDROCK, msgspec.json.encode({"__type": f"com.amazon#{name}", **said}), kind=JSON, status=status)
    assert (inside.action, inside.code) == (found.action, found.code)


def test_an_error_that_is_no_json() -> None:
    assert fault(BEDROCK, b"<html>", kind="text/html", status=502).action == "retry"


def test_an_error_of_a_gateway_on_the_way() -> None:
    body = b'{"error": {"message": "Slow down.", "type": "rate_limit_error"}}'
    found = fault(BEDROCK, body, kind=JSON, status=429, headers={"retry-after": "3"})
    assert (found.action, found.message, found.retry_after_s) == ("retry", "Slow down.", 3.0)


def test_usage_of_a_cache() -> None:
    usage = read(BEDROCK, WHOLE, kind=EVENT_STREAM)[1].usage
    assert usage is not None
    assert (usage.input_tokens, usage.cached, usage.output_tokens, usage.total_tokens) == (18, 5, 7, 25)


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("botocore.eventstream", "botocore.session"):
        monkeypatch.setitem(sys.modules, module, None)
    for attempt in (lambda: BEDROCK.reader("s"), lambda: signer("us-east-1"), region):
        with pytest.raises(MissingExtraError, match="bedrock"):
            attempt()


# --- what goes back ---------------------------------------------------------------------------------------------------

ROUNDS: dict[str, tuple[list[Event], list[dict[str, Any]]]] = {
    "thoughts with their signatures, in their places": (
        [
            START,
            *thinking(0, "h", "m", signature="S1"),
            *text(1, "Let me"),
            *tool(2, "{}"),
            *thinking(3, "more", signature="S2"),
            *tool(4, '{"a":1}', call_id="tu_2"),
            *stopped("tool_use"),
        ],
        [
            {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "S1"}}},
            {"text": "Let me"},
            {"toolUse": {"toolUseId": "tu_1", "name": "w", "input": {}}},
            {"reasoningContent": {"reasoningText": {"text": "more", "signature": "S2"}}},
            {"toolUse": {"toolUseId": "tu_2", "name": "w", "input": {"a": 1}}},
        ],
    ),
    "a thought that only the provider can read": (
        [START, delta(0, {"reasoningContent": {"redactedContent": "QUJD"}}), *text(1, "x"), *stopped("end_turn")],
        [{"reasoningContent": {"redactedContent": "QUJD"}}, {"text": "x"}],
    ),
    "a thought without signature stays here": (
        [START, *thinking(0, "hm", signature=""), *text(1, "x"), *stopped("end_turn")],
        [{"text": "x"}],
    ),
}


@pytest.mark.parametrize(("events", "content"), ROUNDS.values(), ids=ROUNDS)
def test_an_answer_goes_back_as_it_came(events: list[Event], content: list[dict[str, Any]]) -> None:
    kept = read(BEDROCK, stream(*events), kind=EVENT_STREAM)[1].parts()
    told = [user("hi"), assistant(*kept), *(result(part.call_id) for part in kept if isinstance(part, Call))]
    assert sent(BEDROCK, *told, user("go on"))["messages"][1] == {"role": "assistant", "content": content}


def returned(call_id: str, output: str = "sunny") -> dict[str, Any]:
    return {"toolResult": {"toolUseId": call_id, "content": [{"text": output}]}}


def use(call_id: str) -> dict[str, Any]:
    return {"toolUse": {"toolUseId": call_id, "name": "w", "input": {"city": "Boston"}}}


BARE = {"tools": [{"toolSpec": {"name": "w", "inputSchema": {"json": {"type": "object", "properties": {}}}}}]}
DECLARED = [{"toolSpec": {"name": "w", "description": "the weather", "inputSchema": {"json": WEATHER.parameters}}}]
HI = {"role": "user", "content": [{"text": "hi"}]}

REQUESTS: dict[str, tuple[list[Any], dict[str, Any], dict[str, Any]]] = {
    "roles alternate, no blank text": (
        [user("a"), user("b", " "), assistant("c"), assistant("\n"), user("d"), entry("system", "be brief")],
        {"instructions": "be kind", "max_tokens": 5, "temperature": 0.5},
        {
            "system": [{"text": "be kind\n\nbe brief"}],
            "messages": [
                {"role": "user", "content": [{"text": "a"}, {"text": "b"}]},
                {"role": "assistant", "content": [{"text": "c"}]},
                {"role": "user", "content": [{"text": "d"}]},
            ],
            "inferenceConfig": {"maxTokens": 5, "temperature": 0.5},
        },
    ),
    "results first; tools are declared as long as the history has calls": (
        [user("hi"), assistant(called("c1"), called("c2")), result("c2", " "), result("c1"), user("so?")],
        {"tool_choice": "none"},
        {
            "messages": [
                HI,
                {"role": "assistant", "content": [use("c1"), use("c2")]},
                {
                    "role": "user",
                    "content": [
                        returned("c1"),
                        {"toolResult": {"toolUseId": "c2", "content": [{"json": {"result": " "}}]}},
                        {"text": "so?"},
                    ],
                },
            ],
            "toolConfig": BARE,
        },
    ),
    "tools": ([user("hi")], {"tools": (WEATHER,)}, {"messages": [HI], "toolConfig": {"tools": DECLARED}}),
    "a tool must be called": (
        [user("hi")],
        {"tools": (WEATHER,), "tool_choice": "required"},
        {"messages": [HI], "toolConfig": {"tools": DECLARED, "toolChoice": {"any": {}}}},
    ),
    "one tool": (
        [user("hi")],
        {"tools": (WEATHER,), "tool_choice": "w"},
        {"messages": [HI], "toolConfig": {"tools": DECLARED, "toolChoice": {"tool": {"name": "w"}}}},
    ),
    "no tool": ([user("hi")], {"tools": (WEATHER,), "tool_choice": "none"}, {"messages": [HI]}),
    "images": (
        [user(Image(media="a"), Image(media="b"), Image(media="c"), Image(media="gone"))],
        {
            "media": {
                "a": "data:image/jpg;base64,QUJD",
                "b": "s3://bucket/y.PNG",
                "c": "https://x.example/y.png",
            }.get
        },
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"image": {"format": "jpeg", "source": {"bytes": "QUJD"}}},
                        {"image": {"format": "png", "source": {"s3Location": {"uri": "s3://bucket/y.PNG"}}}},
                        {"text": "[an image at https://x.example/y.png]"},
                        {"text": "[an image that is no longer kept]"},
                    ],
                }
            ]
        },
    ),
    "the beginning of an answer": (
        [user("hi")],
        {"prefill": "Once upon "},
        {"messages": [HI, {"role": "assistant", "content": [{"text": "Once upon"}]}]},
    ),
    "what another provider signed stays with it": (
        [user("hi"), assistant(Opaque(provider_state=ProviderState("anthropic", {"type": "thinking"})), "x"), user("?")],
        {},
        {
            "messages": [
                HI,
                {"role": "assistant", "content": [{"text": "x"}]},
                {"role": "user", "content": [{"text": "?"}]},
            ]
        },
    ),
    "fields of one family of models": (
        [user("hi")],
        {"options": {"additionalModelRequestFields": {"thinking": {"type": "adaptive"}}}},
        {"messages": [HI], "additionalModelRequestFields": {"thinking": {"type": "adaptive"}}},
    ),
    "without what was refused": (
        [user("hi")],
        {"temperature": 0.5, "max_tokens": 5, "without": frozenset({"temperature"})},
        {"messages": [HI], "inferenceConfig": {"maxTokens": 5}},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("entries", "more", "body"), REQUESTS.values(), ids=REQUESTS)
def test_a_request(entries: list[Any], more: dict[str, Any], body: dict[str, Any]) -> None:
    assert sent(BEDROCK, *entries, **more) == body


@pytest.mark.parametrize(
    ("model", "streamed", "path"),
    [
        ("us.anthropic.claude-x-v1:0", True, "/model/us.anthropic.claude-x-v1%3A0/converse-stream"),
        ("amazon.nova-pro-v1", False, "/model/amazon.nova-pro-v1/converse"),
        ("arn:aws:bedrock:us-east-1:1:p/x", True, "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ap%2Fx/converse-stream"),
    ],
)
def test_where_it_goes(model: str, streamed: bool, path: str) -> None:
    request = BEDROCK.request(Ask(model=model, entries=(user("hi"),), stream=streamed))
    assert request.path == path
    assert request.headers["Accept"] == (EVENT_STREAM if streamed else JSON)
    assert BEDROCK.models_request() is None
    with pytest.raises(ValueError):
        BEDROCK.models(b"{}")


# --- the judge: boto3 -------------------------------------------------------------------------------------------------

Amazon = tuple[Served, Any]


@pytest.fixture(scope="module")
def amazon() -> Iterator[Amazon]:
    """A server, and the official client of it."""
    config = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=20, proxies={})
    with serving() as served:
        session = boto3.Session(aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key="not-a-secret")
        client = session.client("bedrock-runtime", region_name="us-east-1", endpoint_url=served.url, config=config)
        served.kind = EVENT_STREAM
        yield served, client
        client.close()


def amazon_events(client: Any, **request: Any) -> Iterator[dict[str, Any]]:
    """Ask, and give the events as boto3 reads them."""
    with contextlib.closing(client.converse_stream(**request)["stream"]) as events:
        yield from events


@pytest.mark.parametrize("name", STREAMS)
def test_amazon_reads_the_same(amazon: Amazon, name: str) -> None:
    served, client = amazon
    served.answers = [stream(*STREAMS[name][0])]
    told = rows(BEDROCK, served.answers[0], kind=EVENT_STREAM)
    words, thoughts, calls, used, reason, failed = "", "", {}, None, "", ""
    try:
        for event in amazon_events(client, modelId="m", messages=[HI]):
            if begun := event.get("contentBlockStart"):
                calls[begun["contentBlockIndex"]] = [begun["start"]["toolUse"]["toolUseId"], ""]
            change = event.get("contentBlockDelta", {}).get("delta", {})
            words += change.get("text", "")
            thoughts += change.get("reasoningContent", {}).get("text", "")
            if "toolUse" in change:
                calls[event["contentBlockDelta"]["contentBlockIndex"]][1] += change["toolUse"]["input"]
            reason = event.get("messageStop", {}).get("stopReason", reason)
            if "metadata" in event:
                used = event["metadata"]["usage"]
    except ClientError as error:
        failed = error.response["Error"]["Code"]
    assert words == "".join(each[1] for each in told if each[0] == "text")
    assert thoughts == "".join(each[1] for each in told if each[0] == "thinking")
    last = told[-1]
    assert bool(failed) == (last[:2] == ("error", "application"))
    if last[0] == "finish":
        assert reason == last[2]
        ours = [[each[1], each[3]] for each in told if each[0] == "call"]
        assert [[call_id, given or "{}"] for call_id, given in calls.values()] == ours or reason == "max_tokens"
    if used is not None and last[0] == "finish":
        taken = used["inputTokens"] + used["cacheReadInputTokens"] + used["cacheWriteInputTokens"]
        assert ("usage", taken, used["outputTokens"]) in told
        assert used["totalTokens"] == taken + used["outputTokens"]


@pytest.mark.parametrize("name", REQUESTS)
def test_amazon_sends_the_same(amazon: Amazon, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What boto3 makes of the same conversation; it judges names and types. And its signature is ours."""
    served, client = amazon
    served.answers = [stream(*stopped("end_turn"))]
    entries, more, body = REQUESTS[name]
    model = "us.anthropic.claude-x-v1:0"
    list(amazon_events(client, modelId=model, **with_bytes(body)))
    path, headers, theirs = served.requests[-1]
    ours = BEDROCK.request(Ask(model=model, entries=tuple(entries), **more))
    assert ours.path == path
    assert msgspec.json.decode(ours.body) == theirs

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
    at = datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%S%z")
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: at)
    signed = signer("us-east-1")("POST", served.url + ours.path, ours.headers, served.body)
    assert signed["X-Amz-Date"] == headers["x-amz-date"]
    assert signed["Authorization"] == headers["authorization"]


def with_bytes(value: Any) -> Any:
    """boto3 takes images as bytes, which it writes as base64."""
    if isinstance(value, list):
        return [with_bytes(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {name: b"ABC" if name == "bytes" else with_bytes(each) for name, each in value.items()}


# --- signatures -------------------------------------------------------------------------------------------------------


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No credentials anywhere; returns the file of profiles, which is not there."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_DEFAULT_REGION", "AWS_BEARER_TOKEN_BEDROCK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return tmp_path / "config"


URL = "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/converse"


def test_a_profile_gives_region_and_credentials(nowhere: Path) -> None:
    nowhere.write_text(
        "[profile work]\nregion = eu-west-1\naws_access_key_id = AKWORK\naws_secret_access_key = s\n"
        "aws_session_token = TOKEN\n"
    )
    assert region(None, "work") == "eu-west-1"
    headers = signer("eu-west-1", "work")("POST", URL, {"Content-Type": JSON, "Accept": JSON}, b"{}")
    assert "Credential=AKWORK/" in headers["Authorization"]
    assert "/eu-west-1/bedrock/aws4_request" in headers["Authorization"]
    assert headers["X-Amz-Security-Token"] == "TOKEN"
    assert "accept" not in headers["Authorization"]  # what a proxy may change is not signed


@pytest.mark.parametrize(("name", "found"), [("AWS_REGION", "us-west-2"), ("AWS_DEFAULT_REGION", "us-west-2")])
def test_the_region_of_the_environment(nowhere: Path, monkeypatch: pytest.MonkeyPatch, name: str, found: str) -> None:
    monkeypatch.setenv(name, found)
    assert region() == found
    assert region("eu-west-1") == "eu-west-1"


def test_a_key_of_bedrock(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "KEY")
    sign = signer("us-east-1")
    assert sign("POST", URL, {}, b"") == {"Authorization": "Bearer KEY"}
    assert sign("POST", "http://127.0.0.1:1/x", {}, b"") == {"Authorization": "Bearer KEY"}
    with pytest.raises(UsageError, match="https"):
        sign("POST", "http://gateway.example/x", {}, b"")


@pytest.mark.parametrize(
    ("question", "says"),
    [
        (region, "set AWS_REGION"),
        (lambda: region("us-east-1/evil"), "no region"),
        (lambda: signer("us-east-1"), "AWS_BEARER_TOKEN_BEDROCK"),
        (lambda: signer("us-east-1", "none"), "none"),
    ],
)
def test_what_is_missing_is_told(nowhere: Path, question: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        question()
    assert "\n" not in str(caught.value)


def test_single_sign_on_that_is_over(nowhere: Path) -> None:
    nowhere.write_text(
        "[profile sso]\nsso_session = s\nsso_account_id = 1\nsso_role_name = r\n"
        "[sso-session s]\nsso_start_url = https://x.example\nsso_region = us-east-1\n"
    )
    sign = signer("us-east-1", "sso")
    with pytest.raises(UsageError, match="SSO"):
        sign("POST", URL, {}, b"")
