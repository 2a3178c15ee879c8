"""Ollama: what is asked, and what is answered, cut anywhere."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from wire_helpers import Replaying, Told, every_way, lines, read

from realtime_client.changes import ToolSpec
from realtime_client.chat.wires import pieces as pc
from realtime_client.chat.wires.ask import GONE, Ask, ModelInfo
from realtime_client.chat.wires.ollama import (
    Ollama,
    OllamaReader,
    context_and_abilities,
    loaded,
    ps_request,
    show_request,
)
from realtime_client.history import Call, Entry, Image, Opaque, ProviderState, Result, Text

# --- what is asked ----------------------------------------------------------------------------------------------------

TOOL, OTHER = ToolSpec(name="w", description="weather"), ToolSpec(name="v")
STATE = ProviderState("ollama", {"thinking": "hm"})
PICTURES = {
    "sha256:1": "data:image/png;base64,AAAA",
    "sha256:2": b"\x00",
    "sha256:3": "data:image/svg+xml,%3Csvg%3E",
    "https://x.org/a.png": "https://x.org/a.png",
}
TALK = (
    Entry(id="1", role="user", parts=(Text(text="look"), *(Image(media=each) for each in [*PICTURES, "sha256:gone"]))),
    Entry(id="2", role="assistant", parts=(Text(text="one"), Opaque(provider_state=STATE), Call(call_id="c1", name="w", arguments='{"a":1}'))),
    Entry(id="3", role="tool", parts=(Result(call_id="c1", output="sunny"),)),
)  # fmt: skip


def asked(**fields: Any) -> dict[str, Any]:
    return json.loads(Ollama().request(Ask(**{"model": "m", "entries": (), **fields})).body)


def test_a_conversation_is_asked_as_the_wire_has_it() -> None:
    ask = Ask(model="m", entries=TALK, instructions="be brief", tools=(TOOL,), max_tokens=9, temperature=0.5,
              context=8192, think="high", media=PICTURES.get, options={"keep_alive": "5m", "options": {"seed": 1}})  # fmt: skip
    request = Ollama().request(ask)
    assert (request.method, request.path, request.headers["Accept"]) == ("POST", "/api/chat", "application/x-ndjson")
    assert json.loads(request.body) == {
        "model": "m", "stream": True, "think": "high", "keep_alive": "5m",
        "options": {"num_ctx": 8192, "num_predict": 9, "temperature": 0.5, "seed": 1},
        "tools": [{"type": "function", "function": {
            "name": "w", "description": "weather", "parameters": {"type": "object", "properties": {}}}}],
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": f"look{GONE}{GONE}", "images": ["AAAA", "AA==", "PHN2Zz4="]},
            {"role": "assistant", "content": "one", "thinking": "hm",
             "tool_calls": [{"id": "c1", "function": {"name": "w", "arguments": {"a": 1}}}]},
            {"role": "tool", "tool_name": "w", "tool_call_id": "c1", "content": "sunny"}],
    }  # fmt: skip


def test_old_thoughts_do_not_go_back() -> None:
    question = Entry(id="4", role="user", parts=(Text(text="and now?"),))
    assert "thinking" not in asked(entries=(*TALK, question))["messages"][1]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, {"stream": True}),
        ({"stream": False}, {"stream": False}),
        ({"think": False}, {"stream": True, "think": False}),
        ({"think": True, "without": frozenset({"think"})}, {"stream": True}),
        ({"tools": (TOOL,), "tool_choice": "none"}, {"stream": True}),
        ({"options": {"options": {"top_k": 3}}}, {"stream": True, "options": {"top_k": 3}}),
    ],
)
def test_fields_of_a_request(fields: dict[str, Any], told: dict[str, Any]) -> None:
    assert asked(**fields) == {"model": "m", "messages": []} | told


def test_a_tool_that_is_chosen_is_offered_alone() -> None:
    names = [tool["function"]["name"] for tool in asked(tools=(TOOL, OTHER), tool_choice="v")["tools"]]
    assert names == ["v"]
    assert len(asked(tools=(TOOL, OTHER), tool_choice="required")["tools"]) == 2


def test_lists_of_models() -> None:
    body = (
        b'{"models":[{"name":"a:1b","details":{"parameter_size":"1.2B","quantization_level":"Q4_K_M"}},{"name":"b"}]}'
    )
    assert Ollama().models(body) == [ModelInfo(name="a:1b", about="1.2B Q4_K_M"), ModelInfo(name="b")]
    request = Ollama().models_request()
    assert request is not None
    assert (request.method, request.path) == ("GET", "/api/tags")


def test_what_a_model_can_do() -> None:
    request = show_request("m")
    assert (request.method, request.path, json.loads(request.body)) == ("POST", "/api/show", {"model": "m"})
    body = b'{"model_info":{"general.parameter_count":1,"llama.context_length":131072},"capabilities":["completion","tools"]}'
    assert context_and_abilities(body) == (131_072, ("completion", "tools"))
    assert context_and_abilities(b"{}") == (None, ())
    assert context_and_abilities(b'{"model_info":{"x.context_length":"?"},"capabilities":null}') == (None, ())


def test_what_is_in_memory() -> None:
    assert (ps_request().method, ps_request().path) == ("GET", "/api/ps")
    body = b'{"models":[{"name":"a:latest","expires_at":"x"},{"name":"b:1b"}]}'
    assert [loaded(body, name) for name in ("a", "a:latest", "b:1b", "b", "c")] == [True, True, True, False, False]


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"data":[]}'])
def test_what_makes_no_sense_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Ollama().models(body)
    with pytest.raises(ValueError, match=r".+"):
        loaded(body, "m")


# --- what is answered -------------------------------------------------------------------------------------------------


def said(content: str | None = "", **more: Any) -> dict[str, Any]:
    return {"model": "m", "created_at": "2026-11-26T12:00:00Z", "done": False,
            "message": {"role": "assistant", "content": content, **more}}  # fmt: skip


def done(reason: str | None = "stop", content: str = "", /, **more: Any) -> dict[str, Any]:
    message = {key: more.pop(key) for key in ("tool_calls", "thinking") if key in more}
    told = {"done": True} | ({"done_reason": reason} if reason is not None else {})
    return said(content, **message) | told | more


def call(name: str = "w", arguments: Any = None, **more: Any) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": {"x": 1} if arguments is None else arguments}, **more}


FIGURES = {"total_duration": 5_043_500_667, "load_duration": 5_000_000, "prompt_eval_count": 26, "eval_count": 290,
           "prompt_eval_duration": 325_000_000, "eval_duration": 4_700_000_000}  # fmt: skip
CUT = ("network", "retry", "the answer was cut: the stream ended before the server said that it was over")
MADE = {"calls": [("call_s_0", "w", '{"x":1}')], "finish": "tool_calls"}


def senseless(message: str) -> tuple[str, str, str]:
    return ("protocol", "restart", f"the server sends what makes no sense ({message}")


@dataclasses.dataclass
class Row:
    """judged: the official client reads the same."""

    data: bytes
    told: Told
    judged: bool = True


def row(*messages: Any, judged: bool = True, **told: Any) -> Row:
    return Row(lines(*messages), told, judged)


ROWS: dict[str, Row] = {
    "text": row(said("Hi"), said(" there"), done(**FIGURES), text="Hi there", finish="stop",
                usage=(26, 290, 0), timings=(0.005, 0.325, 4.7)),
    "no figures": row(said("Hi"), done(), text="Hi", finish="stop"),
    "some are missing": row(said("Hi"), done(eval_count=3, eval_duration=1_000_000_000), text="Hi", finish="stop",
                            usage=(0, 3, 0), timings=(None, None, 1.0)),
    "null for content": row(said(None), said("Hi"), done(), text="Hi", finish="stop"),
    "thinking": row(said(thinking="Let me"), said(thinking=" see"), said("Hi"), done(),
                    thinking="Let me see", text="Hi", finish="stop"),
    "tags": row(said("<think>hm</think>"), said("\n\nHi"), done(), thinking="hm", text="Hi", finish="stop", judged=False),
    "the rest in the last": row(said("Hi"), done("stop", " there"), text="Hi there", finish="stop"),
    "all of it in the last": row(done("stop", "Hi there"), text="Hi there", finish="stop"),
    "all of it once more in the last": row(said("Hi"), said(" there"), done("stop", "Hi there"),
                                           text="Hi there", finish="stop", judged=False),
    "all of it and more in the last": row(said("Hi"), done("stop", "Hi there"), text="Hi there", finish="stop", judged=False),
    "one digit twice": row(said("1"), done("stop", "1"), text="11", finish="stop"),
    "length": row(said("Hi"), done("length"), text="Hi", finish="length"),
    "load": row(done("load"), finish="other"),
    "no reason": row(said("Hi"), done(None), text="Hi", finish="stop"),
    "an unknown reason": row(said("Hi"), done("bored"), text="Hi", finish="other"),
    "CRLF": Row(lines(said("Hi"), done()).replace(b"\n", b"\r\n"), {"text": "Hi", "finish": "stop"}),
    "no final line end": Row(lines(said("Hi"), done())[:-1], {"text": "Hi", "finish": "stop"}),
    "BOM": Row(b"\xef\xbb\xbf" + lines(said("Hi"), done()), {"text": "Hi", "finish": "stop"}, judged=False),
    "empty lines": Row(b"\n\n" + lines(said("Hi")) + b"\n" + lines(done()), {"text": "Hi", "finish": "stop"}, judged=False),
    "other ends of lines": row(said("a\u2028b\u0085c"), done(), text="a\u2028b\u0085c", finish="stop", judged=False),
    "many bytes a character": row(said("日本"), said("語😀"), done(), text="日本語😀", finish="stop"),
    "a surrogate pair in two": Row(
        lines(said("H"), said("L"), done()).replace(b'"H"', b'"a\\ud83d"').replace(b'"L"', b'"\\ude00b"'),
        {"text": "a😀b", "finish": "stop"}, judged=False),
    "one in thoughts": Row(
        lines(said(thinking="H"), said(thinking="L"), done()).replace(b'"H"', b'"a\\ud83d"').replace(b'"L"', b'"\\ude00b"'),
        {"thinking": "a😀b", "finish": "stop"}, judged=False),
    "one answer": row(done("stop", "Hi", **FIGURES), text="Hi", finish="stop",
                      usage=(26, 290, 0), timings=(0.005, 0.325, 4.7)),
    "after the end": row(said("Hi"), done(), said("more"), text="Hi", finish="stop", judged=False),
    # calls
    "a call": row(said(tool_calls=[call(id="a")]), done(), calls=[("a", "w", '{"x":1}')], finish="tool_calls"),
    "without an id": row(said(tool_calls=[call()]), done(), **MADE),
    "several in one": row(said(tool_calls=[call(), call("v", {"y": "ü"})]), done(), finish="tool_calls",
                          calls=[("call_s_0", "w", '{"x":1}'), ("call_s_1", "v", '{"y":"ü"}')]),
    "several, each in its own": row(said(tool_calls=[call()]), said(tool_calls=[call()]), done(), finish="tool_calls",
                                    calls=[("call_s_0", "w", '{"x":1}'), ("call_s_1", "w", '{"x":1}')]),
    "in the last": row(said("Hi"), done("stop", "", tool_calls=[call()]), text="Hi", **MADE),
    "once more in the last": row(said(tool_calls=[call()]), done("stop", "", tool_calls=[call()]), judged=False, **MADE),
    "another in the last": row(said(tool_calls=[call()]), done("stop", "", tool_calls=[call("v", {})]), finish="tool_calls",
                               calls=[("call_s_0", "w", '{"x":1}'), ("call_s_1", "v", "{}")]),
    "arguments as text": row(said(tool_calls=[call("w", '{"x":1}')]), done(), judged=False, **MADE),
    "arguments that are cut": row(said(tool_calls=[call("w", '{"x":')]), done("length"), judged=False,
                                  cut=[("w", '{"x":')], finish="length"),
    "no arguments": row(said(tool_calls=[{"function": {"name": "w"}}]), done(), judged=False,
                        calls=[("call_s_0", "w", "{}")], finish="tool_calls"),
    # what goes wrong
    "cut": row(said("Hi"), text="Hi", error=CUT),
    "cut in a line": Row(lines(said("Hi"), done())[:-20], {"text": "Hi", "error": CUT}, judged=False),
    "nothing": row(error=CUT),
    "an error": row(said("Hi"), {"error": "llama runner process has terminated"}, text="Hi",
                    error=("application", "retry", "llama runner process has terminated")),
    "an error of another kind": row({"error": "no"}, error=("application", "fallback", "no")),
    "an error that is an object": row({"error": {"message": "no", "code": 429}}, error=("application", "retry", "no"),
                                      judged=False),
    "a proxy's line": Row(lines(said("Hi")) + b"upstream connect error\n", {"text": "Hi", "error": senseless(
        "Expecting value: line 1 column 1 (char 0)): upstream connect error")}, judged=False),
    "a proxy's last word": Row(lines(said("Hi")) + b"upstream connect error", {"text": "Hi", "error": senseless(
        "Expecting value: line 1 column 1 (char 0)): upstream connect error")}, judged=False),
    "no answer": row({"models": []}, error=senseless('it is no part of an answer): {"models": []}'), judged=False),
    "another kind of answer": row({"message": 7}, error=senseless(
        'Expected `object | null`, got `int` - at `$.message`): {"message": 7}'), judged=False),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_answers_are_read_however_they_are_cut(row: Row) -> None:
    for reads in every_way(row.data):
        assert read(Ollama().reader("s"), reads) == row.told, reads


class Unhurried(OllamaReader):
    """Reads every message as one that may hold anything."""

    _plain = property(lambda _self: False, lambda _self, _plain: None)  # type: ignore[assignment]


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_after_text_everything_is_read_as_it_is_elsewhere(row: Row) -> None:
    hasty, unhurried = OllamaReader("s"), Unhurried("s")
    for data in (lines(said("Hi"), said(" there")), row.data):
        assert hasty.feed(data, 1.0) == unhurried.feed(data, 1.0)
    assert hasty.end(2.0) == unhurried.end(2.0)
    assert hasty.parts() == unhurried.parts()


@pytest.mark.parametrize("content_type", ["application/x-ndjson", "application/json", "text/event-stream", ""])
def test_lines_come_at_once_whatever_the_content_type(content_type: str) -> None:
    reader = Ollama().reader("s")
    reader.head(200, {"content-type": content_type})
    assert [type(each) for each in reader.feed(lines(said("Hi")), 0.0)] == [pc.TextPiece]
    assert [type(each) for each in reader.feed(lines(done()), 0.0)] == [pc.FinishPiece]


@pytest.fixture(scope="module")
def official() -> Iterator[tuple[Replaying, Any]]:
    from ollama import Client

    with Replaying("application/x-ndjson").serving() as server:
        client = Client(host=server.url)
        yield server, client
        client._client.close()


@pytest.mark.parametrize(
    "row", [each for each in ROWS.values() if each.judged], ids=[n for n, r in ROWS.items() if r.judged]
)
def test_the_official_client_reads_the_same(row: Row, official: tuple[Replaying, Any]) -> None:
    from ollama import ResponseError

    server, client = official
    server.body = row.data
    told: Told = {"text": "", "thinking": ""}
    made, failed, figures = [], False, None
    try:
        for part in client.chat(model="m", messages=[], stream=True):
            told["text"] += part.message.content or ""
            told["thinking"] += part.message.thinking or ""
            made += [(each.function.name, dict(each.function.arguments)) for each in part.message.tool_calls or ()]
            if part.prompt_eval_count:
                figures = (part.prompt_eval_count, part.eval_count, 0)
    except ResponseError:
        failed = True
    assert told == {name: row.told.get(name, "") for name in ("text", "thinking")}
    assert made == [(name, msgspec.json.decode(arguments)) for _, name, arguments in row.told.get("calls", [])]
    assert failed == (row.told.get("error", CUT) != CUT)
    assert figures is None or figures == row.told["usage"]


@pytest.mark.parametrize(
    ("status", "error", "action", "field"),
    [
        (400, '"m" does not support thinking', "fatal", "think"),
        (400, "m does not support tools", "fatal", ""),
        (500, "this model is missing data required for image input", "fallback", ""),
        (401, "unauthorized", "fallback", ""),
        (404, "model 'm' not found", "fallback", ""),
        (429, "too many requests", "retry", ""),
        (500, "it broke", "retry", ""),
        (502, "bad gateway", "retry", ""),
        (503, "server busy, please try again. maximum pending requests exceeded", "retry", ""),
    ],
)
def test_refusals(status: int, error: str, action: str, field: str) -> None:
    reader = Ollama().reader("s")
    reader.head(status, {"content-type": "application/json"})
    assert reader.feed(lines({"error": error}), 0.0) == []
    (piece,) = reader.end(0.0)
    assert isinstance(piece, pc.ErrorPiece)
    assert (piece.fault.message, piece.fault.action, piece.fault.field, piece.fault.status) == (
        error,
        action,
        field,
        status,
    )


def test_thoughts_are_kept_for_calls_alone() -> None:
    reader = Ollama().reader("s")
    read(reader, [lines(said(thinking="hm"), said("Hi"), done())])
    assert reader.parts() == (Text(text="Hi"),)
    reader = Ollama().reader("s")
    read(reader, [lines(said(thinking="h"), said(thinking="m"), said("Hi"), said(tool_calls=[call(id="a")]), done())])
    assert reader.parts() == (
        Text(text="Hi"),
        Call(call_id="a", name="w", arguments='{"x":1}'),
        Opaque(provider_state=STATE),
    )
