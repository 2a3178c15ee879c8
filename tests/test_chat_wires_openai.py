"""Chat completions: what is asked, and what servers of many makes answer, cut anywhere."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from wire_helpers import Replaying, Told, every_way, read, sse

from realtime_client.changes import ToolSpec
from realtime_client.chat.wires import pieces as pc
from realtime_client.chat.wires import reader as reading
from realtime_client.chat.wires.ask import GONE, Ask, ModelInfo
from realtime_client.chat.wires.azure import ApiManagement, AzureOpenAI, gateway, resource
from realtime_client.chat.wires.openai_chat import ChatReader, OpenAIChat
from realtime_client.history import Call, Entry, Image, Opaque, ProviderState, Result, Text

# --- what is asked ----------------------------------------------------------------------------------------------------

PNG = "data:image/png;base64,AAAA"
TOOL = ToolSpec(name="w", description="weather", parameters={"type": "object", "properties": {"city": {}}})
TALK = (
    Entry(id="1", role="system", parts=(Text(text="be kind"),)),
    Entry(id="2", role="user", parts=(Text(text="look: "), Image(media=PNG, detail="low"), Image(media="sha256:gone"))),
    Entry(id="3", role="assistant", parts=(Text(text="one "), Text(text="two"), Call(call_id="c1", name="w", arguments='{"a":1}'))),
    Entry(id="4", role="tool", parts=(Result(call_id="c1", output="sunny", name="w"),)),
    Entry(id="5", role="assistant", parts=(Call(call_id="c2", name="w", arguments="{}"), Call(call_id="c3", name="w", arguments="{}"))),
    Entry(id="6", role="tool", parts=(Result(call_id="c3", output="3"), Result(call_id="c2", output="2"))),
)  # fmt: skip
MESSAGES = [
    {"role": "system", "content": "be brief"},
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": [
        {"type": "text", "text": "look: "},
        {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}},
        {"type": "text", "text": GONE}]},
    {"role": "assistant", "content": "one two", "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "w", "arguments": '{"a":1}'}}]},
    {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    {"role": "assistant", "content": None, "tool_calls": [
        {"id": "c2", "type": "function", "function": {"name": "w", "arguments": "{}"}},
        {"id": "c3", "type": "function", "function": {"name": "w", "arguments": "{}"}}]},
    {"role": "tool", "tool_call_id": "c3", "content": "3"},
    {"role": "tool", "tool_call_id": "c2", "content": "2"},
]  # fmt: skip


def media(reference: str) -> str | None:
    return reference if reference.startswith("data:") else None


def asked(**fields: Any) -> dict[str, Any]:
    return json.loads(OpenAIChat().request(Ask(**{"model": "m", "entries": (), **fields})).body)


def test_a_conversation_is_asked_as_the_wire_has_it() -> None:
    ask = Ask(
        model="m", entries=TALK, instructions="be brief", tools=(TOOL,), max_tokens=9, temperature=0.5, media=media
    )
    request = OpenAIChat().request(ask)
    assert (request.method, request.path) == ("POST", "/chat/completions")
    assert request.headers["Accept-Encoding"] == "identity"
    assert json.loads(request.body) == {
        "model": "m", "messages": MESSAGES, "stream": True, "stream_options": {"include_usage": True},
        "tools": [{"type": "function", "function": {"name": "w", "description": "weather", "parameters": TOOL.parameters}}],
        "tool_choice": "auto", "max_completion_tokens": 9, "temperature": 0.5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"stream": False}, {"stream": False}),
        ({"without": frozenset({"stream_options"})}, {"stream": True}),
        ({"max_tokens": 5, "without": frozenset({"max_completion_tokens", "stream_options"})}, {"max_tokens": 5}),
        ({"max_tokens": 5, "without": frozenset({"max_tokens", "stream_options"})}, {"max_completion_tokens": 5}),
        (
            {"stream": False, "max_tokens": 5, "without": frozenset({"max_tokens", "max_completion_tokens"})},
            {"stream": False},
        ),
        ({"temperature": 0.1, "without": frozenset({"temperature", "stream_options"})}, {}),
        ({"stream": False, "think": "high"}, {"reasoning_effort": "high"}),
        ({"stream": False, "think": False}, {"reasoning_effort": "none"}),
        ({"stream": False, "think": True}, {}),
        ({"stream": False, "options": {"seed": 1, "model": "other"}}, {"seed": 1, "model": "other"}),
        (
            {"stream": False, "tools": (TOOL,), "tool_choice": "w"},
            {"tool_choice": {"type": "function", "function": {"name": "w"}}},
        ),
        ({"stream": False, "tools": (TOOL,), "tool_choice": "required"}, {"tool_choice": "required"}),
        ({"stream": False, "prefill": "On"}, {"messages": [{"role": "assistant", "content": "On"}]}),
    ],
)
def test_fields_of_a_request(fields: dict[str, Any], told: dict[str, Any]) -> None:
    expected = {"model": "m", "messages": [], "stream": fields.get("stream", True)} | told
    body = asked(**fields)
    body.pop("tools", None)
    assert body == expected


def test_what_a_provider_wants_back_goes_to_it_alone_and_while_its_tools_are_at_work() -> None:
    state = ProviderState("openai", {"reasoning_details": [{"type": "x"}], "reasoning_content": "hm"})
    call = Call(call_id="c1", name="w", arguments="{}")
    answer = Entry(id="2", role="assistant", parts=(Opaque(provider_state=state), call))
    result = Entry(id="3", role="tool", parts=(Result(call_id="c1", output="1"),))
    question = Entry(id="1", role="user", parts=(Text(text="q"),))
    at_work = asked(entries=(question, answer, result))["messages"][1]
    assert at_work["reasoning_details"] == [{"type": "x"}]
    assert at_work["reasoning_content"] == "hm"
    later = asked(entries=(question, answer, result, question))["messages"][1]
    assert later["reasoning_details"] == [{"type": "x"}]
    assert "reasoning_content" not in later
    foreign = msgspec.structs.replace(answer, parts=(Opaque(provider_state=ProviderState("gemini", {"a": 1})), call))
    assert "a" not in asked(entries=(question, foreign, result))["messages"][1]


@pytest.mark.parametrize(
    ("body", "models"),
    [
        (b'{"data":[{"id":"a","owned_by":"x"},{"id":"b"}]}', [ModelInfo(name="a", about="x"), ModelInfo(name="b")]),
        (b'[{"id":"a","owned_by":null}]', [ModelInfo(name="a")]),
        (b'{"data":[{"id":"a","max_model_len":4096}]}', [ModelInfo(name="a", context=4096)]),
        (b'{"data":[{"id":"a","context_length":8192}]}', [ModelInfo(name="a", context=8192)]),
        (b'{"data":[{"id":"a","meta":{"n_ctx_train":2048}}],"models":[]}', [ModelInfo(name="a", context=2048)]),
        (b'{"data":[]}', []),
    ],
)
def test_lists_of_models(body: bytes, models: list[ModelInfo]) -> None:
    assert OpenAIChat().models(body) == models


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"models":[]}', b'{"data":[{}]}', b"null"])
def test_what_is_no_list_of_models_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        OpenAIChat().models(body)


# --- what is answered -------------------------------------------------------------------------------------------------


def delta(finish: Any = None, /, **fields: Any) -> dict[str, Any]:
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}  # fmt: skip


def call(index: Any, call_id: Any = None, name: str | None = None, arguments: Any = None) -> dict[str, Any]:
    fragment: dict[str, Any] = {"function": {"name": name, "arguments": arguments}}
    if index != "none":
        fragment["index"] = index
    if call_id is not None:
        fragment |= {"id": call_id, "type": "function"}
    return fragment


def calls(*fragments: dict[str, Any]) -> list[dict[str, Any]]:
    return [delta(tool_calls=[each]) for each in fragments]


HI, STOP = delta(content="Hi"), delta("stop")
USAGE = {"prompt_tokens": 34, "completion_tokens": 8, "total_tokens": 42, "prompt_tokens_details": {"cached_tokens": 2}}
LAST = {"id": "c1", "choices": [], "usage": USAGE}
DONE = "[DONE]"
CUT = ("network", "retry", "the answer was cut: the stream ended before the server said that it was over")
MADE = {"calls": [("a", "w", '{"x":1}')], "finish": "tool_calls"}
BOTH = {"calls": [("a", "w", '{"x":1}'), ("b", "v", '{"y":2}')], "finish": "tool_calls"}


def app(action: str, message: str) -> tuple[str, str, str]:
    return ("application", action, message)


def senseless(message: str) -> tuple[str, str, str]:
    return ("protocol", "restart", f"the server sends {message}")


@dataclasses.dataclass
class Row:
    """judged: the official client reads the same."""

    data: bytes
    told: Told
    judged: bool = True


def row(*messages: Any, judged: bool = True, **told: Any) -> Row:
    return Row(sse(*messages), told, judged)


def whole(*choice_fields: Any, judged: bool = False, **told: Any) -> Row:
    return Row(json.dumps(choice_fields[0]).encode(), told, judged)


ROWS: dict[str, Row] = {
    # text
    "text": row(delta(role="assistant", content=None), HI, delta(content=" there"), STOP, LAST, DONE,
                text="Hi there", usage=(34, 8, 2), finish="stop"),
    "comments and a name": Row(b": OPENROUTER PROCESSING\n\n" + sse(HI, name="message") + sse(STOP, DONE),
                               {"text": "Hi", "finish": "stop"}),
    "BOM": Row(b"\xef\xbb\xbf" + sse(HI, STOP, DONE), {"text": "Hi", "finish": "stop"}, judged=False),
    "CRLF": Row(sse(HI, STOP, DONE, end="\r\n"), {"text": "Hi", "finish": "stop"}),
    "CR": Row(sse(HI, STOP, DONE, end="\r"), {"text": "Hi", "finish": "stop"}),
    "no final blank line": Row(sse(HI, STOP)[:-2], {"text": "Hi", "finish": "stop"}, judged=False),
    "other ends of lines": row(delta(content="a\u2028b\u0085c"), STOP, text="a\u2028b\u0085c", finish="stop"),
    "many bytes a character": row(delta(content="日本"), delta(content="語😀"), STOP, text="日本語😀", finish="stop"),
    "a surrogate pair, escaped": row('{"choices":[{"index":0,"delta":{"content":"\\ud83d\\ude00"}}]}', STOP,
                                     text="😀", finish="stop"),
    "a surrogate pair in two": row('{"choices":[{"index":0,"delta":{"content":"a\\ud83d"}}]}',
                                   '{"choices":[{"index":0,"delta":{"content":"\\ude00b"}}]}', STOP,
                                   text="a😀b", finish="stop", judged=False),
    "half a pair": row('{"choices":[{"index":0,"delta":{"content":"a\\ud83d"}}]}', HI, STOP,
                       text="a\ufffdHi", finish="stop", judged=False),
    "half a pair at the end": row('{"choices":[{"index":0,"delta":{"content":"a\\ud83d"}}]}', STOP,
                                  text="a\ufffd", finish="stop", judged=False),
    "bytes that are no UTF-8": Row(sse(HI).replace(b"Hi", b"H\xff") + sse(STOP),
                                   {"text": "H\ufffd", "finish": "stop"}, judged=False),
    "content in parts": row(delta(content=[{"type": "text", "text": "Hi"}, {"type": "x"}]), STOP,
                            text="Hi", finish="stop", judged=False),
    "text of a second answer": row(HI, {"choices": [{"index": 1, "delta": {"content": "No"}}]}, STOP,
                                   text="Hi", finish="stop"),
    "content in the last chunk": row(HI, delta("stop", content=" all"), DONE, text="Hi all", finish="stop"),
    "all of it once more in the last chunk": row(HI, delta(content=" all"), delta("stop", content="Hi all"), DONE,
                                                 text="Hi all", finish="stop", judged=False),
    "one digit twice": row(delta(content="1"), delta("stop", content="1"), DONE, text="11", finish="stop"),
    "all of it in one chunk": row(delta("stop", content="Hi"), DONE, text="Hi", finish="stop"),
    "a message after its pieces": row(HI, {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]},
                                      text="Hi", finish="stop"),
    "a message that brings the rest": row(HI, {"choices": [{"message": {"content": "Hi all"}, "finish_reason": "stop"}]},
                                          text="Hi all", finish="stop", judged=False),
    "a message instead of pieces": row({"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]},
                                       text="Hi", finish="stop", judged=False),
    # the end
    "no [DONE]": row(HI, STOP, text="Hi", finish="stop"),
    "[DONE] without a reason": row(HI, DONE, text="Hi", finish="stop"),
    "[DONE] and nothing else": row(delta(role="assistant"), DONE, error=CUT),
    "neither": row(HI, text="Hi", error=CUT),
    "an empty reason": row(HI, delta(""), text="Hi", error=CUT),
    "nothing": row(error=CUT),
    "cut in a message": Row(sse(HI, STOP)[:-30], {"text": "Hi", "error": CUT}, judged=False),
    "cut in [DONE]": Row(sse(HI, STOP, DONE)[:-5], {"text": "Hi", "finish": "stop"}, judged=False),
    "nonsense after the end": Row(sse(HI, STOP) + b"data: {?}\n\n", {"text": "Hi", "finish": "stop"}, judged=False),
    "length": row(HI, delta("length"), text="Hi", finish="length"),
    "content_filter": row(HI, delta("content_filter"), text="Hi", finish="content_filter"),
    "eos": row(HI, delta("eos"), text="Hi", finish="stop"),
    "end_turn": row(HI, delta("end_turn"), text="Hi", finish="stop"),
    "an unknown reason": row(HI, delta("bored"), text="Hi", finish="other"),
    "a refusal": row(delta(refusal="I can't"), delta(refusal=" do that"), STOP,
                     text="I can't do that", finish="refusal", judged=False),
    # thinking
    "reasoning_content": row(delta(reasoning_content="hm"), HI, STOP, thinking="hm", text="Hi", finish="stop"),
    "reasoning": row(delta(reasoning="hm"), HI, STOP, thinking="hm", text="Hi", finish="stop"),
    "both": row(delta(reasoning="hm", reasoning_content="hm"), HI, STOP, thinking="hm", text="Hi", finish="stop"),
    "one of them null": row(delta(reasoning="hm", reasoning_content=None), HI, STOP,
                            thinking="hm", text="Hi", finish="stop"),
    "one of them empty": row(delta(reasoning="hm", reasoning_content=""), HI, STOP,
                             thinking="hm", text="Hi", finish="stop"),
    "one of them an object": row(delta(reasoning={"a": 1}, reasoning_content="hm"), HI, STOP,
                                 thinking="hm", text="Hi", finish="stop"),
    "tags": row(delta(content="<think>hm</think>\n\nHi"), STOP, thinking="hm", text="Hi", finish="stop", judged=False),
    "tags in pieces": row(*(delta(content=each) for each in "<think>h<m</think>\n\nHi < all"), STOP,
                          thinking="h<m", text="Hi < all", finish="stop", judged=False),
    "a tag that never ends": row(delta(content="<think>h</thi"), STOP,
                                 thinking="h</thi", finish="stop", judged=False),
    "no tag after all": row(delta(content=" <thi"), delta(content="n>"), STOP, text=" <thin>", finish="stop"),
    "a tag too late": row(HI, delta(content="<think>x</think>"), STOP, text="Hi<think>x</think>", finish="stop"),
    "held until it is cut": row(delta(content="<thi"), text="<thi", error=CUT),
    "held until a call": row(delta(content="<thi"), *calls(call(0, "a", "w", '{"x":1}')), delta("stop"), text="<thi", **MADE),
    # calls
    "a call": row(*calls(call(0, "a", "w", ""), call(0, None, None, '{"x"'), call(0, None, None, ":1}")),
                  delta("tool_calls"), DONE, **MADE),
    "text and two calls": row(HI, *calls(call(0, "a", "w", ""), call(0, None, None, '{"x":1}'),
                                         call(1, "b", "v", ""), call(1, None, None, '{"y":2}')), delta("tool_calls"),
                              text="Hi", **BOTH),
    "two in turns": row(*calls(call(0, "a", "w", '{"x'), call(1, "b", "v", '{"y"'), call(0, None, None, '":1}'),
                               call(1, None, None, ":2}")), delta("tool_calls"), **BOTH),
    "whole in one chunk": row(delta(tool_calls=[call(0, "a", "w", '{"x":1}'), call(1, "b", "v", '{"y":2}')]),
                              delta("tool_calls"), **BOTH),
    "in the chunk that ends": row(delta("tool_calls", tool_calls=[call(0, "a", "w", '{"x":1}')]), **MADE),
    "it says stop": row(*calls(call(0, "a", "w", '{"x":1}')), STOP, **MADE),
    "it says no reason": row(*calls(call(0, "a", "w", '{"x":1}')), DONE, **MADE),
    "function_call": row(delta(function_call={"name": "w", "arguments": '{"x"'}),
                         delta(function_call={"arguments": ":1}"}), delta("function_call"),
                         calls=[("call_s_0", "w", '{"x":1}')], finish="tool_calls", judged=False),
    "no index": row(*calls(call("none", "a", "w", '{"x"'), call("none", None, None, ":1}"), call("none", "b", "v", '{"y":'),
                           call("none", "b", None, "2}")), delta("tool_calls"), judged=False, **BOTH),
    "null for an index": row(*calls(call(None, "a", "w", '{"x":1}'), call(None, "b", "v", '{"y":2}')), delta("tool_calls"),
                             judged=False, **BOTH),
    "odd indices": row(*calls(call("0", "a", "w", '{"x":1}'), call(7.5, "b", "v", '{"y":2}')), delta("tool_calls"),
                       judged=False, **BOTH),
    "from 1": row(*calls(call(1, "a", "w", '{"x":1}'), call(2, "b", "v", '{"y":2}')), delta("tool_calls"), **BOTH),
    "index 0 for all": row(*calls(call(0, "a", "w", '{"x":1}'), call(0, "b", "v", '{"y":2}')), delta("tool_calls"),
                           judged=False, **BOTH),
    "name and id in each": row(*calls(call(0, "a", "w", '{"x"'), call(0, "a", "w", ":1}")), delta("tool_calls"), **MADE),
    "arguments as an object": row(*calls(call(0, "a", "w", {"x": 1})), delta("tool_calls"), judged=False, **MADE),
    "no arguments": row(*calls(call(0, "a", "w", "")), delta("tool_calls"),
                        calls=[("a", "w", "{}")], finish="tool_calls"),
    "null for arguments": row(*calls(call(0, "a", "w", None)), delta("tool_calls"),
                              calls=[("a", "w", "{}")], finish="tool_calls"),
    "no id": row(*calls(call(0, None, "w", '{"x":1}'), call(1, None, "v", '{"y":2}')), delta("tool_calls"), judged=False,
                 calls=[("call_s_0", "w", '{"x":1}'), ("call_s_1", "v", '{"y":2}')], finish="tool_calls"),
    "the same id twice": row(*calls(call(0, "a", "w", '{"x":1}'), call(1, "a", "v", '{"y":2}')), delta("tool_calls"),
                             judged=False, calls=[("a", "w", '{"x":1}'), ("a_s_1", "v", '{"y":2}')], finish="tool_calls"),
    "an id that is a number": row(*calls(call(0, 7, "w", '{"x":1}')), delta("tool_calls"), judged=False,
                                  calls=[("7", "w", '{"x":1}')], finish="tool_calls"),
    "a pair in two in its arguments": row(
        '{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"w","arguments":"{\\"x\\":\\"\\ud83d"}}]}}]}',
        '{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\\ude00\\"}"}}]}}]}', delta("tool_calls"),
        judged=False, calls=[("a", "w", '{"x":"😀"}')], finish="tool_calls"),
    # calls that are not whole
    "cut by length": row(*calls(call(0, "a", "w", '{"x":1}'), call(1, "b", "v", '{"y')), delta("length"), judged=False,
                         calls=[("a", "w", '{"x":1}')], cut=[("v", '{"y')], finish="length"),
    "cut, but told as whole": row(*calls(call(0, "a", "w", '{"x')), delta("tool_calls"), judged=False,
                                  cut=[("w", '{"x')], finish="other"),
    "no object": row(*calls(call(0, "a", "w", "[1]")), delta("tool_calls"), judged=False, cut=[("w", "[1]")], finish="other"),
    "no name": row(*calls(call(0, "a", None, "{}")), delta("tool_calls"), judged=False, cut=[("", "{}")], finish="other"),
    "nearly JSON": row(*calls(call(0, "a", "w", "{'x':1,}")), delta("tool_calls"), judged=False,
                       cut=[("w", "{'x':1,}")], finish="other"),
    "the stream is cut": row(*calls(call(0, "a", "w", '{"x":1}')), judged=False, error=CUT),
    # figures
    "usage with the reason": row(HI, delta("stop") | {"usage": USAGE}, text="Hi", usage=(34, 8, 2), finish="stop"),
    "usage in each": row(HI | {"usage": {"prompt_tokens": 34, "completion_tokens": 1}}, STOP | {"usage": USAGE},
                         {"choices": [], "usage": None}, text="Hi", usage=(34, 8, 2), finish="stop"),
    "usage before the reason": row(HI, LAST, STOP, DONE, text="Hi", usage=(34, 8, 2), finish="stop"),
    "usage without choices": row(HI, STOP, {"usage": USAGE}, text="Hi", usage=(34, 8, 2), finish="stop"),
    "usage at Groq": row(HI, STOP | {"x_groq": {"usage": USAGE}}, text="Hi", usage=(34, 8, 2), finish="stop"),
    "odd usage": row(HI, STOP | {"usage": {"prompt_tokens": None, "completion_tokens": -1, "total_tokens": True}},
                     text="Hi", usage=(0, 0, 0), finish="stop"),
    "empty usage": row(HI, STOP | {"usage": {}}, text="Hi", finish="stop"),
    "timings": row(HI, STOP, LAST | {"timings": {"prompt_ms": 20.5, "predicted_ms": 1000}},
                   text="Hi", usage=(34, 8, 2), timings=(None, 0.0205, 1.0), finish="stop"),
    # errors inside of 200
    "an error": row({"error": {"message": "busy", "code": 503}}, error=app("retry", "busy")),
    "an error with empty choices": row({"error": {"message": "busy", "code": "502"}, "choices": []},
                                       error=app("retry", "busy")),
    "an error with choices": row(HI, delta("error", content="") | {"error": {"code": 429, "message": "slow"}},
                                 text="Hi", error=app("retry", "slow")),
    "an error in a choice": row(HI, {"choices": [{"delta": {}, "error": {"code": 429, "message": "slow"}}]},
                                text="Hi", error=app("retry", "slow"), judged=False),
    "error for a reason": row(HI, delta("error"), text="Hi", judged=False,
                              error=app("fallback", "the server says no more than that it failed")),
    "an error that is text": row({"error": "no"}, error=app("fallback", "no")),
    "an error in a list": row([{"error": {"message": "no"}}], error=app("fallback", "no"), judged=False),
    "detail": row({"detail": "no"}, error=app("fallback", "no"), judged=False),
    "an object that is an error": row({"object": "error", "message": "no"}, error=app("fallback", "no"), judged=False),
    "an event named error": Row(sse({"message": "no"}, name="error"), {"error": app("fallback", "no")}, judged=False),
    "one of text": Row(sse("it broke", name="error"), {"error": app("fallback", "it broke")}, judged=False),
    "one of nothing": Row(sse({}, name="error"),
                          {"error": app("fallback", "the server says no more than that it failed")}, judged=False),
    "an empty error": row({"error": None} | HI, STOP, text="Hi", finish="stop"),
    # what makes no sense
    "no JSON": row(HI, "{?}", text="Hi", judged=False, error=senseless(
        "what makes no sense (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)): {?}")),
    "no chunk": row("7", judged=False, error=senseless("what makes no sense (Expected `object`, got `int`): 7")),
    "a proxy's page": Row(b"<html>\n<body>Sign in</body></html>", {"error": senseless(
        "no answer, but: <html> <body>Sign in</body></html> (is the URL right?)")}, judged=False),
    "a proxy's word": Row(b"upstream connect error", {"error": senseless(
        "no answer, but: upstream connect error (is the URL right?)")}, judged=False),
    # Azure
    "the filter's first chunk": row({"id": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}], "model": ""},
                                    HI, STOP, DONE, text="Hi", finish="stop"),
    "the filter's chunks without delta": row(
        HI, {"id": "", "choices": [{"index": 0, "finish_reason": None, "content_filter_offsets": {"check_offset": 3},
                                    "content_filter_results": {"hate": {"filtered": False}}}]}, STOP, DONE,
        text="Hi", finish="stop", judged=False),
    # in one piece
    "one answer": whole({"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}], "usage": USAGE},
                        text="Hi", usage=(34, 8, 2), finish="stop"),
    "one answer without a reason": whole({"choices": [{"message": {"content": "Hi"}}]}, text="Hi", finish="stop"),
    "one answer with all": whole(
        {"choices": [{"message": {"content": "<think>a</think>Hi", "reasoning_content": "hm",
                                  "tool_calls": [{"id": "a", "function": {"name": "w", "arguments": '{"x":1}'}}]}}]},
        thinking="hma", text="Hi", **MADE),
    "one error": whole({"error": {"message": "busy", "code": 503}}, error=app("retry", "busy")),
    "no answer in it": whole({"id": "x"}, error=senseless('what makes no sense (there is no answer in it): {"id": "x"}')),
    "one error in a list": whole([{"error": {"message": "no"}}], error=app("fallback", "no")),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_answers_are_read_however_they_are_cut(row: Row) -> None:
    for reads in every_way(row.data):
        assert read(OpenAIChat().reader("s"), reads) == row.told, reads


class Unhurried(ChatReader):
    """Reads every message as one that may hold anything."""

    _plain = property(lambda _self: False, lambda _self, _plain: None)  # type: ignore[assignment]


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_after_text_everything_is_read_as_it_is_elsewhere(row: Row) -> None:
    hasty, unhurried = ChatReader("s", "openai"), Unhurried("s", "openai")
    for data in (sse(HI, HI), row.data):
        assert hasty.feed(data, 1.0) == unhurried.feed(data, 1.0)
    assert hasty.end(2.0) == unhurried.end(2.0)
    assert hasty.parts() == unhurried.parts()


@pytest.mark.parametrize(
    "content_type", ["text/event-stream", "text/plain", "application/json", "application/octet-stream", ""]
)
@pytest.mark.parametrize("name", ["text", "one answer", "one error", "two in turns"])
def test_the_content_type_is_not_relied_on(name: str, content_type: str) -> None:
    data = ROWS[name].data
    told = read(OpenAIChat().reader("s"), [data[:20], data[20:]], headers={"content-type": content_type})
    assert told == ROWS[name].told


def test_a_stream_under_a_wrong_name_comes_at_once() -> None:
    reader = OpenAIChat().reader("s")
    reader.head(200, {"content-type": "application/json"})
    assert [type(each) for each in reader.feed(b"\n" + sse(HI), 0.0)] == [pc.TextPiece]


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
    text, made, failed = "", {}, False
    try:
        for chunk in client.chat.completions.create(model="m", messages=[], stream=True):
            for choice in chunk.choices or ():
                if choice.index in (0, None) and choice.delta is not None:
                    text += choice.delta.content or ""
                    for each in choice.delta.tool_calls or ():
                        call = made.setdefault(each.index, ["", "", ""])
                        call[0] = call[0] or each.id
                        call[1] = call[1] or each.function.name
                        call[2] += each.function.arguments or ""
    except APIError:
        failed = True
    assert text == row.told.get("text", "")
    assert [(i, name, arguments or "{}") for i, name, arguments in made.values()] == row.told.get("calls", [])
    assert failed == (row.told.get("error", CUT) != CUT)


def test_what_is_kept_of_an_answer_has_its_order_and_what_the_provider_wants_back() -> None:
    reader = OpenAIChat().reader("s")
    details = [{"type": "reasoning.encrypted", "data": "x"}]
    read(reader, [sse(delta(reasoning_content="h"), delta(reasoning_content="m", reasoning_details=details), HI,
                      *calls(call(0, "a", "w", "{}"), call(1, "b", "w", "{")), delta("length"))])  # fmt: skip
    state = ProviderState("openai", {"reasoning_details": details, "reasoning_content": "hm"})
    assert reader.parts() == (
        Text(text="Hi"),
        Call(call_id="a", name="w", arguments="{}"),
        Opaque(provider_state=state),
    )


def test_thoughts_are_kept_for_calls_alone() -> None:
    reader = OpenAIChat().reader("s")
    read(reader, [sse(delta(reasoning_content="hm"), HI, STOP)])
    assert reader.parts() == (Text(text="Hi"),)


def test_what_is_kept_of_a_cut_answer_is_its_text() -> None:
    reader = OpenAIChat().reader("s")
    read(reader, [sse(HI, *calls(call(0, "a", "w", "{}")))])
    assert reader.parts() == (Text(text="Hi"),)


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [302, 400, 429, 500])
def test_an_http_error_is_judged_by_its_body(status: int) -> None:
    body = json.dumps({"error": {"message": "busy"}}).encode()
    for reads in every_way(body):
        told = read(OpenAIChat().reader("s"), reads, status)
        assert told["error"][2] == "busy"


def test_an_error_without_an_end_is_not_read_to_it() -> None:
    reader = OpenAIChat().reader("s")
    reader.head(500, {})
    reads = 0
    while not reader.over:
        reader.feed(b"x" * 4096, 0.0)
        reads += 1
    assert reads == 17


@pytest.mark.parametrize(
    ("begin", "more", "message"),
    [
        (b"data: ", b"x" * 2**20, "a message of more than 16 MiB"),
        (b'{"a":"', b"x" * 2**20, "a message of more than 16 MiB"),
        (b"data: {}\n\n", sse(delta(content="x" * 2**20)), "more than 64 MiB"),
        (b"data: {}\n\n", sse(*(delta(tool_calls=[call(n, f"{n}", "w", "{}")]) for n in range(1025))), "1024 calls"),
    ],
)
def test_a_server_cannot_fill_the_memory(begin: bytes, more: bytes, message: str) -> None:
    reader = OpenAIChat().reader("s")
    reader.head(200, {})
    reader.feed(begin, 0.0)
    got: list[pc.Piece] = []
    for _ in range(reading.MOST_ANSWER_BYTES // 2**20 + 2):
        got = reader.feed(more, 0.0) or got
        if reader.over:
            break
    assert isinstance(got[-1], pc.ErrorPiece)
    assert message in got[-1].fault.message


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"error":' * 100_000, sse("[" * 100_000), sse('{"a":' * 100_000)])
@pytest.mark.parametrize("status", [200, 400])
def test_deep_nesting_is_an_error_like_others(body: bytes, status: int) -> None:
    assert "error" in read(OpenAIChat().reader("s"), [body], status)


# --- Azure ------------------------------------------------------------------------------------------------------------

DATED = "/deployments/dep/chat/completions?api-version=2024-10-21"


@pytest.mark.parametrize(
    ("wire", "model", "path", "models"),
    [
        (AzureOpenAI(), "dep", "/openai/v1/chat/completions", "/openai/v1/models"),
        (AzureOpenAI("2024-10-21"), "dep", f"/openai{DATED}", None),
        (
            AzureOpenAI("2024-10-21"),
            "a/b c",
            "/openai/deployments/a%2Fb%20c/chat/completions?api-version=2024-10-21",
            None,
        ),
        (ApiManagement("2024-10-21"), "dep", DATED, None),
        (ApiManagement(), "dep", "/deployments/dep/chat/completions", None),
    ],
)
def test_paths_of_azure(wire: AzureOpenAI, model: str, path: str, models: str | None) -> None:
    request, listed = wire.request(Ask(model=model, entries=(), max_tokens=5)), wire.models_request()
    assert request.path == path
    assert (listed.path if listed else None) == models
    body = json.loads(request.body)
    assert (body["model"], body["max_completion_tokens"]) == (model, 5)


def test_old_versions_of_azure_are_spared_new_fields() -> None:
    body = json.loads(AzureOpenAI("2024-06-01").request(Ask(model="m", entries=(), max_tokens=5)).body)
    assert body == {"model": "m", "messages": [], "stream": True, "max_tokens": 5}


@pytest.mark.parametrize("end", ["", "/", "/openai", "/openai/v1/", f"/openai{DATED}", "/openai/v1/chat/completions"])
def test_the_address_of_a_resource_is_found_in_what_people_copy(end: str) -> None:
    assert resource(f"https://x.openai.azure.com{end}") == "https://x.openai.azure.com"


@pytest.mark.parametrize("end", ["", "/", "/deployments", "/deployments/dep", DATED])
@pytest.mark.parametrize("base", ["https://gw.azure-api.net/openai", "https://gw.azure-api.net/team/llm"])
def test_the_base_of_a_gateway_is_found_in_what_people_copy(base: str, end: str) -> None:
    assert gateway(base + end) == base


def test_the_states_of_a_provider_are_its_own() -> None:
    reader = ApiManagement().reader("s")
    read(reader, [sse(delta(reasoning_details=[{"a": 1}]), HI, STOP)])
    assert reader.parts()[-1] == Opaque(provider_state=ProviderState("apim", {"reasoning_details": [{"a": 1}]}))
