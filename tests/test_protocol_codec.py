"""The wire: what leaves is what the official SDK's types allow, what arrives loses nothing, and nothing raises."""

from __future__ import annotations

import base64
import json
import random
from typing import Any, get_args

import msgspec
import openai.types.realtime as official
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from protocol_helpers import AUDIO, BASE64, members, samples, strictly

from realtime_client.protocol import codec, items
from realtime_client.protocol import events as ev
from realtime_client.protocol import session as tree
from realtime_client.updates import AudioFormat

# The protocol's list, written out: a type that gets lost in events.py is missed here.
_CLIENT_TYPES = """
conversation.item.create conversation.item.delete conversation.item.retrieve conversation.item.truncate
input_audio_buffer.append input_audio_buffer.clear input_audio_buffer.commit output_audio_buffer.clear
response.cancel response.create session.update
"""
_SERVER_TYPES = """
conversation.created conversation.item.added conversation.item.created conversation.item.deleted
conversation.item.done conversation.item.input_audio_transcription.completed
conversation.item.input_audio_transcription.delta conversation.item.input_audio_transcription.failed
conversation.item.input_audio_transcription.segment conversation.item.retrieved conversation.item.truncated error
input_audio_buffer.cleared input_audio_buffer.committed input_audio_buffer.dtmf_event_received
input_audio_buffer.speech_started input_audio_buffer.speech_stopped input_audio_buffer.timeout_triggered
mcp_list_tools.completed mcp_list_tools.failed mcp_list_tools.in_progress output_audio_buffer.cleared
output_audio_buffer.started output_audio_buffer.stopped rate_limits.updated response.content_part.added
response.content_part.done response.created response.done response.function_call_arguments.delta
response.function_call_arguments.done response.mcp_call.completed response.mcp_call.failed
response.mcp_call.in_progress response.mcp_call_arguments.delta response.mcp_call_arguments.done
response.output_audio.delta response.output_audio.done response.output_audio_transcript.delta
response.output_audio_transcript.done response.output_item.added response.output_item.done
response.output_text.delta response.output_text.done session.created session.updated
"""
CLIENT_TYPES, SERVER_TYPES = _CLIENT_TYPES.split(), _SERVER_TYPES.split()
BETA_ONLY = {"conversation.item.created"}  # known under its modern name

OFFICIAL_SERVER = {get_args(m.model_fields["type"].annotation)[0]: m for m in members(official.RealtimeServerEvent)}
OFFICIAL_CLIENT = {get_args(m.model_fields["type"].annotation)[0]: m for m in members(official.RealtimeClientEvent)}


def test_the_lists_are_complete() -> None:
    assert len(CLIENT_TYPES) == 11
    assert len(SERVER_TYPES) == 46
    assert sorted(kind.__struct_config__.tag for kind in ev.CLIENT_EVENTS) == sorted(CLIENT_TYPES)
    assert sorted(kind.__struct_config__.tag for kind in ev.SERVER_EVENTS) == sorted({*SERVER_TYPES} - BETA_ONLY)
    assert set(OFFICIAL_CLIENT) == set(CLIENT_TYPES)
    assert set(OFFICIAL_SERVER) == set(SERVER_TYPES)


# --- what leaves ------------------------------------------------------------------------------------------------------

ITEMS = [
    items.user_text("hello", item_id="item_1"),
    items.user_audio(AUDIO, item_id="item_2"),
    items.user_image("data:image/png;base64,AAAA", detail="low", item_id="item_3"),
    items.user_image("data:image/png;base64,AAAA"),
    items.system_text("be brief", item_id="item_4"),
    items.assistant_text("before", item_id="item_5"),
    items.function_call("add", '{"a": 1}', "call_1", item_id="item_6"),
    items.function_output("call_1", "2", item_id="item_7"),
    items.mcp_approval("req_1", approve=False, reason="no", item_id="item_8"),
    items.mcp_approval("req_1", approve=True, item_id="item_9"),
    items.Item(type="mcp_list_tools", id="i", server_label="s", tools=[{"name": "t", "input_schema": {}}]),
    items.Item(
        type="mcp_call", id="i", server_label="s", name="t", arguments="{}", output="1", approval_request_id="req_1"
    ),
    items.Item(type="mcp_approval_request", id="i", server_label="s", name="t", arguments="{}"),
]
RESPONSES: list[dict[str, Any] | None] = [
    None,
    {},
    {"conversation": "none", "metadata": {"topic": "weather"}, "input": [], "output_modalities": ["text"]},
    {"conversation": "auto", "input": [msgspec.to_builtins(item) for item in ITEMS]},
    {"instructions": "Sing.", "max_output_tokens": 400, "parallel_tool_calls": False, "tool_choice": "required"},
    {"max_output_tokens": "inf", "reasoning": {"effort": "low"}, "prompt": {"id": "p", "version": "1"}},
    {"audio": {"output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "marin"}}},
    {"tools": [{"type": "function", "name": "add"}], "tool_choice": {"type": "function", "name": "add"}},
]
CLIENT_EVENTS: list[ev.ClientEvent] = [
    ev.InputAudioBufferAppend(audio=AUDIO),
    ev.InputAudioBufferAppend(audio=b"", event_id="event_1"),
    ev.InputAudioBufferCommit(),
    ev.InputAudioBufferClear(event_id="event_1"),
    *(ev.ConversationItemCreate(item=item, event_id="event_1") for item in ITEMS),
    ev.ConversationItemCreate(item=ITEMS[0], previous_item_id="root"),
    ev.ConversationItemRetrieve(item_id="item_1"),
    ev.ConversationItemTruncate(item_id="item_1", content_index=0, audio_end_ms=1500),
    ev.ConversationItemDelete(item_id="item_1"),
    *(ev.ResponseCreate(response=response, event_id="event_1") for response in RESPONSES),
    ev.ResponseCancel(),
    ev.ResponseCancel(response_id="resp_1", event_id="event_1"),
    ev.OutputAudioBufferClear(),
    ev.SessionUpdate(session={"type": "realtime"}),
]


def accepted(event: ev.ClientEvent) -> None:
    """The SDK's type takes every key that we send and would itself send the same."""
    wire = json.loads(codec.encode(event))
    model = strictly(OFFICIAL_CLIENT[wire["type"]], wire)
    assert model.model_dump(mode="json", exclude_unset=True, by_alias=True) == wire
    strictly(official.RealtimeClientEvent, wire)
    if "null" not in json.dumps(wire):  # the SDK's dictionary types know null in fewer places than its models
        strictly(getattr(official, type(model).__name__ + "Param"), wire)


@pytest.mark.parametrize("event", CLIENT_EVENTS, ids=lambda event: event.type)
def test_client_events_are_the_sdks(event: ev.ClientEvent) -> None:
    accepted(event)


def test_every_client_event_is_among_them() -> None:
    assert {event.type for event in CLIENT_EVENTS} == set(CLIENT_TYPES)


def test_the_yardstick_is_strict() -> None:
    for wire in (
        {"type": "response.cancel", "bogus": 1},
        {"type": "conversation.item.truncate", "item_id": "i", "content_index": "0", "audio_end_ms": 1},
        {"type": "session.update", "session": {"type": "realtime", "audio": {"input": {"bogus": 1}}}},
    ):
        with pytest.raises(ValueError, match="validation error"):
            strictly(OFFICIAL_CLIENT[wire["type"]], wire)


_MCP = tree.McpTool(
    server_label="s",
    server_url="https://127.0.0.1/mcp",
    server_description="d",
    authorization="token",
    headers={"X-A": "1"},
    allowed_tools=["a"],
    require_approval="never",
    defer_loading=True,
    allowed_callers=["direct"],
)
_FORMATS = [tree.PCM(), tree.PCMU(), tree.PCMA()]
_DETECTIONS = [
    None,
    tree.ServerVad(),
    tree.ServerVad(
        threshold=0.6,
        prefix_padding_ms=200,
        silence_duration_ms=400,
        create_response=False,
        interrupt_response=False,
        idle_timeout_ms=6000,
    ),
    tree.ServerVad(idle_timeout_ms=None),
    *(tree.SemanticVad(eagerness=each) for each in ("auto", "low", "medium", "high")),
    tree.SemanticVad(create_response=True, interrupt_response=False),
]
_TRANSCRIPTIONS = [
    None,
    tree.Transcription(model="gpt-transcribe", languages=["en", "de"], keywords=["Cologne"]),
    tree.Transcription(model="gpt-realtime-whisper", language="en", prompt="names", delay="low"),
]
_REDUCTIONS = [None, tree.NoiseReduction(type="near_field"), tree.NoiseReduction(type="far_field", strength=0.5)]


def _inputs() -> list[tree.AudioInput]:
    return [
        tree.AudioInput(),
        *(tree.AudioInput(format=each) for each in _FORMATS),
        *(tree.AudioInput(turn_detection=each) for each in _DETECTIONS),
        *(tree.AudioInput(transcription=each) for each in _TRANSCRIPTIONS),
        *(tree.AudioInput(noise_reduction=each) for each in _REDUCTIONS),
    ]


SESSIONS: list[tree.SessionConfig] = [
    tree.RealtimeConfig(),
    *(tree.RealtimeConfig(audio=tree.Audio(input=each)) for each in _inputs()),
    *(tree.RealtimeConfig(audio=tree.Audio(output=tree.AudioOutput(format=each))) for each in _FORMATS),
    tree.RealtimeConfig(audio=tree.Audio(output=tree.AudioOutput(voice="marin", speed=1.25))),
    tree.RealtimeConfig(audio=tree.Audio(output=tree.AudioOutput(voice={"id": "voice_1"}))),
    tree.RealtimeConfig(model="gpt-realtime-2.1", instructions="", output_modalities=["audio"], max_output_tokens=9),
    tree.RealtimeConfig(output_modalities=["text"], max_output_tokens="inf", parallel_tool_calls=True),
    tree.RealtimeConfig(tools=[], tool_choice="auto"),
    tree.RealtimeConfig(
        tools=[tree.FunctionTool(name="add", description="adds", parameters={"type": "object"}), _MCP],
        tool_choice={"type": "function", "name": "add"},
    ),
    tree.RealtimeConfig(
        tools=[
            tree.McpTool(server_label="s", connector_id="connector_gmail", allowed_tools={"tool_names": ["a"]}),
            tree.McpTool(server_label="s", tunnel_id="t", require_approval={"always": {"read_only": True}}),
        ],
        tool_choice={"type": "mcp", "server_label": "s", "name": "a"},
    ),
    *(tree.RealtimeConfig(reasoning=tree.Reasoning(effort=e)) for e in ("minimal", "low", "medium", "high", "xhigh")),
    *(tree.RealtimeConfig(truncation=each) for each in ("auto", "disabled")),
    tree.RealtimeConfig(
        truncation=tree.RetentionRatio(retention_ratio=0.8, token_limits=tree.TokenLimits(post_instructions=8000))
    ),
    tree.RealtimeConfig(tracing=None),
    tree.RealtimeConfig(tracing="auto"),
    tree.RealtimeConfig(tracing=tree.Tracing(workflow_name="w", group_id="g", metadata={"a": "b"})),
    tree.RealtimeConfig(prompt=tree.Prompt(id="p", version="2", variables={"city": "Cologne"})),
    tree.RealtimeConfig(prompt=None, include=["item.input_audio_transcription.logprobs"]),
    tree.TranscriptionConfig(),
    tree.TranscriptionConfig(include=["item.input_audio_transcription.logprobs"]),
    *(tree.TranscriptionConfig(audio=tree.Audio(input=each)) for each in _inputs()),
]


def _session_id(session: tree.SessionConfig) -> str:
    return json.dumps(session.to_wire())[:100]


@pytest.mark.parametrize("session", SESSIONS, ids=_session_id)
def test_session_tree_is_the_sdks(session: tree.SessionConfig) -> None:
    wire = session.to_wire()
    accepted(ev.SessionUpdate(session=wire))
    assert tree.session_from_wire(json.loads(json.dumps(wire))) == session


def test_the_session_tree_has_every_field_of_the_sdks() -> None:
    """A field that the service has and our tree has not would be a setting nobody can make."""
    for config, model in (
        (tree.RealtimeConfig, official.RealtimeSessionCreateRequest),
        (tree.TranscriptionConfig, official.RealtimeTranscriptionSessionCreateRequest),
    ):
        for wire in samples(model, bare=False):
            mine = msgspec.convert(wire, config).to_wire()
            assert {k: _sorted(v) for k, v in mine.items()} == {k: _sorted(v) for k, v in wire.items()}


def _sorted(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def test_absent_and_null_are_different() -> None:
    absent = tree.RealtimeConfig(audio=tree.Audio(input=tree.AudioInput()))
    cleared = tree.RealtimeConfig(audio=tree.Audio(input=tree.AudioInput(turn_detection=None)))
    assert absent.to_wire() == {"type": "realtime", "audio": {"input": {}}}
    assert cleared.to_wire() == {"type": "realtime", "audio": {"input": {"turn_detection": None}}}


@pytest.mark.parametrize("audio", [AudioFormat(), AudioFormat("ulaw", 8000), AudioFormat("alaw", 8000)])
@pytest.mark.parametrize("direction", ["input", "output"])
def test_audio_format_round_trip(audio: AudioFormat, direction: str) -> None:
    wire = msgspec.to_builtins(tree.wire_format(audio))
    assert tree.audio_format({"audio": {direction: {"format": wire}}}, direction) == audio


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"input_audio_format": "g711_ulaw"}, AudioFormat("ulaw", 8000)),
        ({"input_audio_format": "g711_alaw"}, AudioFormat("alaw", 8000)),
        ({"input_audio_format": "pcm16"}, AudioFormat()),
        ({"input_audio_format": "new"}, AudioFormat()),
        ({"audio": None}, AudioFormat()),
        ({"audio": {"input": []}}, AudioFormat()),
        ({"audio": {"input": {"format": {"type": "audio/pcm", "rate": 16000}}}}, AudioFormat("pcm16", 16000)),
        ({"audio": {"input": {"format": {"type": "audio/pcm", "rate": 0}}}}, AudioFormat()),
        ({"audio": {"input": {"format": {"type": "audio/pcm", "rate": "x"}}}}, AudioFormat()),
        ({"audio": {"input": {"format": {"type": "audio/pcm", "rate": True}}}}, AudioFormat()),
        ({"audio": {"input": {"format": {"type": ["audio/pcmu"]}}}}, AudioFormat()),
    ],
)
def test_audio_format_of_any_session(settings: dict[str, Any], expected: AudioFormat) -> None:
    assert tree.audio_format(settings, "input") == expected


@pytest.mark.parametrize(
    ("detection", "expected"),
    [
        (None, 0),
        ({"type": "server_vad"}, 900),
        ({"type": "server_vad", "silence_duration_ms": 200}, 600),
        ({"type": "server_vad", "silence_duration_ms": "x"}, 900),
        ({"type": "semantic_vad"}, 4400),
        ({"type": "semantic_vad", "eagerness": "low"}, 8400),
        ({"type": "semantic_vad", "eagerness": ["high"]}, 4400),
    ],
)
def test_silence_that_ends_a_turn(detection: Any, expected: int) -> None:
    assert tree.trailing_silence_ms({"audio": {"input": {"turn_detection": detection}}}) == expected
    assert tree.trailing_silence_ms({"turn_detection": detection}) == expected


# --- what arrives -----------------------------------------------------------------------------------------------------


def plain(event: Any) -> Any:
    return json.loads(msgspec.json.encode(event))


def lost(sent: Any, read: Any, where: str = "$") -> list[str]:
    """What of `sent` is not in `read`. Where a server may leave a field out, its default may stand in `read`."""
    if isinstance(sent, dict) and isinstance(read, dict):
        return [gone for k, v in sent.items() if v is not None for gone in lost(v, read.get(k), f"{where}.{k}")]
    if isinstance(sent, list) and isinstance(read, list) and len(sent) == len(read):
        return [gone for n, pair in enumerate(zip(sent, read, strict=True)) for gone in lost(*pair, f"{where}[{n}]")]
    return [] if sent == read else [f"{where}: {sent!r} became {read!r}"]


def frames_of(kind: str) -> list[bytes]:
    """Frames as the SDK's own type writes them, with every field and every alternative."""
    model, frames = OFFICIAL_SERVER[kind], []
    for wire in samples(model):
        if kind == "response.output_audio.delta":
            wire["delta"] = BASE64
        frames.append(strictly(model, wire).model_dump_json(by_alias=True, exclude_unset=True).encode())
    return frames


@pytest.mark.parametrize("kind", SERVER_TYPES)
def test_server_events_lose_nothing(kind: str) -> None:
    for frame in frames_of(kind):
        event = codec.decode_server(frame)
        assert isinstance(event, ev.ServerEvent), event
        modern = ev.BETA_ALIASES.get(kind, kind)
        assert event.type == modern
        assert lost(json.loads(frame) | {"type": modern}, plain(event)) == []
        assert codec.unknown_fields(event, frame) == {}
        assert codec.decode_server(frame.decode()) == event
        assert codec.decode_server(codec.encode(event)) == event


@pytest.mark.parametrize("kind", CLIENT_TYPES)
def test_client_events_lose_nothing(kind: str) -> None:
    """The other side of the wire: what the SDK may send is read whole."""
    for wire in samples(OFFICIAL_CLIENT[kind]):
        frame = strictly(OFFICIAL_CLIENT[kind], wire).model_dump_json(by_alias=True, exclude_unset=True).encode()
        event = codec.decode_client(frame)
        assert isinstance(event, ev.ClientEvent), event
        assert lost(json.loads(frame), plain(event)) == []
        assert codec.decode_client(codec.encode(event)) == event


BETA = {
    "conversation.item.created": "conversation.item.added",
    "response.audio.delta": "response.output_audio.delta",
    "response.audio.done": "response.output_audio.done",
    "response.audio_transcript.delta": "response.output_audio_transcript.delta",
    "response.audio_transcript.done": "response.output_audio_transcript.done",
    "response.text.delta": "response.output_text.delta",
    "response.text.done": "response.output_text.done",
    "transcription_session.updated": "session.updated",
}


@pytest.mark.parametrize(("beta", "modern"), BETA.items())
def test_beta_names(beta: str, modern: str) -> None:
    for frame in frames_of(modern):
        named = json.dumps(json.loads(frame) | {"type": beta}).encode()
        event = codec.decode_server(named)
        assert event == codec.decode_server(frame)


def test_beta_client_name() -> None:
    event = codec.decode_client(b'{"type": "transcription_session.update", "session": {"a": 1}}')
    assert event == ev.SessionUpdate(session={"a": 1})


def test_beta_content_types() -> None:
    item = items.Item(type="message", role="assistant", content=[items.ContentPart(type="audio", transcript="hi")])
    assert items.modernise(item).content == [items.ContentPart(type="output_audio", transcript="hi")]
    user = items.Item(type="message", role="user", content=[items.ContentPart(type="text", text="hi")])
    assert items.modernise(user).content == [items.ContentPart(type="text", text="hi")]


def test_unknown_events_are_kept_whole() -> None:
    data = {"type": "response.smell.delta", "event_id": "e", "deep": {"a": [1, None, "x"]}}
    assert codec.decode_server(json.dumps(data)) == ev.UnknownEvent(type="response.smell.delta", data=data)
    assert codec.decode_client(json.dumps(data)) == ev.UnknownEvent(type="response.smell.delta", data=data)
    reordered = {"event_id": "e", "type": "response.smell.delta"}
    assert codec.decode_server(json.dumps(reordered)) == ev.UnknownEvent(type="response.smell.delta", data=reordered)


@pytest.mark.parametrize("kind", sorted({*SERVER_TYPES} - BETA_ONLY))
def test_unknown_fields_are_kept(kind: str) -> None:
    frame = frames_of(kind)[0]
    more = json.dumps(json.loads(frame) | {"brand_new": {"a": 1}, "zz": None}).encode()
    event = codec.decode_server(more)
    assert event == codec.decode_server(frame)
    assert codec.unknown_fields(event, more) == {"brand_new": {"a": 1}, "zz": None}


def test_unknown_values_of_enums_are_kept() -> None:
    wire = {
        "type": "response.done",
        "event_id": "e",
        "response": {
            "id": "r",
            "status": "postponed",
            "status_details": {"type": "postponed", "reason": "lunch"},
            "output": [{"type": "dream", "id": "i", "status": "vivid", "role": "ghost"}],
            "max_output_tokens": "plenty",
        },
    }
    assert lost(wire, plain(codec.decode_server(json.dumps(wire)))) == []


# --- audio ------------------------------------------------------------------------------------------------------------


def delta_frame(text: str) -> bytes:
    return (
        '{"type":"response.output_audio.delta","event_id":"e","response_id":"r","item_id":"i","output_index":0,'
        f'"content_index":0,"delta":"{text}"}}'
    ).encode()


@given(st.binary(max_size=2000))
def test_audio_round_trip(audio: bytes) -> None:
    assert codec.encode_append(audio) == codec.encode(ev.InputAudioBufferAppend(audio=audio))
    assert codec.encode_append(audio) == msgspec.json.encode(ev.InputAudioBufferAppend(audio=audio))
    assert codec.decode_client(codec.encode_append(memoryview(audio))) == ev.InputAudioBufferAppend(audio=audio)
    named = ev.InputAudioBufferAppend(audio=audio, event_id="e")
    assert codec.decode_client(codec.encode(named)) == named
    text = base64.b64encode(audio).decode()
    for escaped in (text, text.replace("/", "\\/"), text.replace("+", "\\u002b").replace("A", "\\u0041")):
        event = codec.decode_server(delta_frame(escaped))
        assert isinstance(event, ev.ResponseOutputAudioDelta), event
        assert event.delta == audio
    assert codec.decode_server(codec.encode(event)) == event


_PLACES = [b'"event_id":"e"', b'"response_id":"r"', b'"item_id":"i"', b'"output_index":0', b'"content_index":0']
_STRANGE = [
    b'"delta":"AAAA"',
    b'"delta" :""',
    b'"x\\"delta":"AAAA"',
    b'"d\\u0065lta":"BBBB"',
    b'"x":{"delta":"AAAA"}',
    b'"x":"{"',
    b'"delta":',
    b'"item_id":"\\u00e4\xc3\xa4"',
    b'"item_id":"\xff"',
    b'"x":[1,{"y":"}"}]',
    b'"content_index":"one"',
]


def test_audio_read_in_place_is_what_the_general_way_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of audio, with fields in any order, strange ones among them, and bytes changed; the seed is fixed."""
    luck, quick = random.Random(3), 0
    pieces = [b'"', b"\\", b"}", b"{", b",", b":", b" ", b"=", b"/", b"A", b'"delta":', b'"}', b"\n", b"-", b"\xff"]
    monkeypatch.setattr(codec, "_SHORTEST_AUDIO", 10**9)  # the general way
    for _ in range(20_000):
        text = base64.b64encode(luck.randbytes(luck.choice([0, 1, 2, 3, 30]))).replace(
            b"/", luck.choice([b"/", b"\\/"])
        )
        fields = [
            b'"type":"response.output_audio.delta"',
            *_PLACES,
            *luck.choices(_STRANGE, k=luck.choice([0, 0, 0, 1, 2])),
        ]
        if luck.random() < 0.3:
            luck.shuffle(fields)
        fields.insert(luck.choice([len(fields)] * 9 + [luck.randrange(len(fields))]), b'"delta":"%s"' % text)
        frame = b"{" + luck.choice([b",", b", "]).join(fields) + b"}"
        if luck.random() < 0.3:
            frame = frame.replace(b":", b": ")
        for _ in range(luck.choice([0, 0, 1, 1, 2])):
            at = luck.choice([luck.randrange(len(frame)), len(frame) - luck.randrange(1, 9), frame.find(b'"delta"')])
            frame = frame[:at] + luck.choice(pieces) + frame[at + luck.randrange(2) :]
        read = codec._audio_delta(frame)
        if read is not None:
            quick += 1
            assert read == codec.decode_server(frame), frame
    assert quick > 5_000


def test_escaped_slash() -> None:
    assert b"/" in base64.b64encode(b"\xff" * 3)
    event = codec.decode_server(delta_frame("\\/\\/\\/\\/"))
    assert isinstance(event, ev.ResponseOutputAudioDelta)
    assert event.delta == b"\xff" * 3


@pytest.mark.parametrize("text", ["%%%%", "AAA", "AA=A", "AAAA AAAA", "AAAA\\nAAAA", "\\u00e4AAA", "-_-_", "A", "===="])
def test_invalid_base64(text: str) -> None:
    event = codec.decode_server(delta_frame(text))
    assert isinstance(event, ev.MalformedEvent), event
    assert event.type == "response.output_audio.delta"
    assert "base64" in event.error
    append = codec.decode_client(b'{"type":"input_audio_buffer.append","audio":"%s"}' % text.encode())
    assert isinstance(append, ev.MalformedEvent), append
    assert append.type == "input_audio_buffer.append"


@pytest.mark.parametrize("value", ["null", "1", "[]", "{}", "true", '["AAAA"]', "1e400", "12"])
def test_audio_that_is_no_string(value: str) -> None:
    frame = delta_frame("X").replace(b'"X"', value.encode())
    event = codec.decode_server(frame)
    assert isinstance(event, ev.MalformedEvent), event
    assert event.type == "response.output_audio.delta"
    append = codec.decode_client(b'{"type":"input_audio_buffer.append","audio":%s}' % value.encode())
    assert isinstance(append, ev.MalformedEvent), append


# --- malformed --------------------------------------------------------------------------------------------------------

_TEXT = b'{"type":"response.output_text.delta","response_id":"r","item_id":"i","output_index":0,"content_index":0,'


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (b"", ""),
        (b"null", ""),
        (b"17", ""),
        (b'"response.done"', ""),
        (b"[]", ""),
        (b'[{"type":"response.done"}]', None),
        (b"{}", ""),
        (b'{"type":null}', ""),
        (b'{"type":7}', None),
        (b'{"type":{"a":1}}', None),
        (b'{"type":""}', ""),
        (_TEXT + b'"delta":"cut', "response.output_text.delta"),
        (_TEXT + b'"delta":1}', "response.output_text.delta"),
        (_TEXT + b'"delta":null}', "response.output_text.delta"),
        (_TEXT[:-1] + b"}", "response.output_text.delta"),
        (_TEXT + b'"delta":"a"} trailing', "response.output_text.delta"),
        (_TEXT + b'"delta":"a"}{}', "response.output_text.delta"),
        (_TEXT + b'"delta":"\x00"}', "response.output_text.delta"),
        (_TEXT + b'"delta":"\n"}', "response.output_text.delta"),
        (_TEXT + b'"delta":"a"}\x00', "response.output_text.delta"),
        (_TEXT.replace(b'index":0', b'index":NaN') + b'"delta":"a"}', "response.output_text.delta"),
        (b"\xef\xbb\xbf" + _TEXT + b'"delta":"a"}', "response.output_text.delta"),
        (b'{"type":"session.created","session":' + b"[" * 100_000, "session.created"),
        (b'{"type":"session.created","session":{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}}", "session.created"),
        (b'{"type":"made.up","x":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}", "made.up"),
        (b"\x00\x01\x02", ""),
        (b"<html>", ""),
    ],
)
def test_malformed_frames_are_values_that_name_the_event(frame: bytes, kind: str | None) -> None:
    event = codec.decode_server(frame)
    assert isinstance(event, ev.MalformedEvent), event
    if kind is not None:
        assert event.type == kind
    assert event.error
    assert "\n" not in event.error
    assert isinstance(codec.decode_client(frame), ev.MalformedEvent | ev.UnknownEvent)


# --- what servers leave out, add or spell otherwise ---------------------------------------------------------------------

_PART = {"response_id": "r", "item_id": "i", "output_index": 0, "content_index": 0}


def _delta(**other: Any) -> bytes:
    wire = {"type": "response.output_text.delta", **_PART, "delta": "a", **other}
    return json.dumps({key: value for key, value in wire.items() if value != "absent"}).encode()


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (_delta(output_index=None), {"output_index": 0}),
        (_delta(content_index=None, response_id=None), {"content_index": 0, "response_id": "", "item_id": "i"}),
        (_delta(output_index="absent", content_index="absent", item_id="absent"), {"output_index": 0, "item_id": ""}),
        (_delta(output_index=0.0, content_index=1.0), {"output_index": 0, "content_index": 1}),
        (_delta(output_index="0", content_index=0.5), {"output_index": 0, "content_index": 0}),
        (_delta(event_id=7), {"event_id": None, "delta": "a"}),
        (_delta(delta="\ud83d"), {"delta": "\ud83d"}),  # its other half comes with the next
        (_delta(item_id="x\ud83d"), {"item_id": "x\ufffd"}),
        (_TEXT + b'"delta":"\xff\xfe"}', {"delta": "\ufffd\ufffd"}),
        (_TEXT + b'"delta":"a","unread":"\xff"}', {"delta": "a"}),
        (_TEXT + b'"delta":"\\ud83d\\ude00"}', {"delta": "\U0001f600"}),
        (_TEXT + b'"delta":"a","unread":"\\udc00"}', {"delta": "a"}),
        (_TEXT + b'"delta":"a","unread":' + b"[" * 500 + b"]" * 500 + b',"x":"\\ud800"}', {"delta": "a"}),
    ],
)
def test_a_delta_spelled_otherwise_is_read(frame: bytes, expected: dict[str, Any]) -> None:
    event = codec.decode_server(frame)
    assert isinstance(event, ev.ResponseOutputTextDelta), event
    assert {name: getattr(event, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("wire", "message", "code"),
    [
        ({"error": "no such model"}, "no such model", None),
        ({"message": "flat", "code": "x"}, "flat", "x"),
        ({"error": {"error": {"message": "nested", "code": 429}}}, "nested", "429"),
        ({"error": {"detail": "what FastAPI says"}}, "what FastAPI says", None),
        ({"error": {"detail": [{"loc": ["body", "audio"], "msg": "too long"}]}}, "body.audio: too long", None),
        ({"error": {"message": {"text": "an object"}}}, '{"text": "an object"}', None),
        ({"error": ["one", {"message": "two"}]}, "one; two", None),
        ({"error": {"message": None, "code": "only_a_code"}}, "", "only_a_code"),
        ({"error": None}, "", None),
        ({}, "", None),
        ({"error": {"message": "half \ud83d"}}, "half \ufffd", None),
    ],
)
def test_errors_of_any_shape_keep_their_words(wire: dict[str, Any], message: str, code: str | None) -> None:
    event = codec.decode_server(json.dumps({"type": "error", **wire}))
    assert isinstance(event, ev.Error), event
    assert (event.error.message, event.error.code) == (message, code)


def test_other_messages_that_tell_of_errors() -> None:
    failed = {"type": "conversation.item.input_audio_transcription.failed", "item_id": "i", "error": "no ear"}
    event = codec.decode_server(json.dumps(failed))
    assert isinstance(event, ev.InputTranscriptionFailed)
    assert (event.error.message, event.content_index) == ("no ear", 0)
    for details, says in (({"error": "broke"}, "broke"), ("broke", "broke"), ({"error": {"detail": "broke"}}, "broke")):
        done = {"type": "response.done", "response": {"id": "r", "status": "failed", "status_details": details}}
        event = codec.decode_server(json.dumps(done))
        assert isinstance(event, ev.ResponseDone), event
        assert event.response.status_details is not None
        assert event.response.status_details.error is not None
        assert event.response.status_details.error.message == says


@pytest.mark.parametrize(
    ("response", "kept"),
    [
        ({"output": [{"id": "i"}]}, {"output": [items.Item(type="message", id="i")]}),
        ({"usage": "none", "metadata": {"a": 1}, "id": "r"}, {"usage": None, "metadata": None, "id": "r"}),
        ({"output": [1, 2], "status": "completed"}, {"output": None, "status": "completed"}),
        ({"id": 7, "status": 5}, {"id": "", "status": None}),
        (None, {"id": "", "status": None}),
        ([], {"id": ""}),
        ("resp_1", {"id": ""}),
        ({"output": [{"type": "message", "content": [{"type": "text", "text": 5}, {"text": "b"}]}]}, {"id": ""}),
    ],
)
def test_one_bad_field_does_not_cost_the_end_of_an_answer(response: Any, kept: dict[str, Any]) -> None:
    event = codec.decode_server(json.dumps({"type": "response.done", "response": response}))
    assert isinstance(event, ev.ResponseDone), event
    assert {name: getattr(event.response, name) for name in kept} == kept


def test_numbers_without_measure() -> None:
    frame = b'{"type":"input_audio_buffer.speech_started","item_id":"i","audio_start_ms":1' + b"0" * 400 + b"}"
    event = codec.decode_server(frame)
    assert isinstance(event, ev.InputAudioBufferSpeechStarted), event
    assert event.audio_start_ms == 0


def test_clients_are_judged_strictly() -> None:
    for frame in (b'{"type":"conversation.item.delete","item_id":"\xff"}', b'{"type":"conversation.item.delete"}'):
        assert isinstance(codec.decode_client(frame), ev.MalformedEvent)


def test_duplicate_keys_take_the_last_and_do_not_raise() -> None:
    event = codec.decode_server(_TEXT + b'"delta":"a","delta":"b"}')
    assert isinstance(event, ev.ResponseOutputTextDelta)
    assert event.delta == "b"
    twice = codec.decode_server(b'{"type":"input_audio_buffer.cleared","type":"response.done"}')
    assert isinstance(twice, ev.ServerEvent | ev.MalformedEvent | ev.UnknownEvent)


def test_huge_numbers_where_any_json_may_stand() -> None:
    event = codec.decode_server(b'{"type":"session.created","session":{"a":' + b"9" * 5000 + b"}}")
    assert isinstance(event, ev.SessionCreated | ev.MalformedEvent)
    if isinstance(event, ev.MalformedEvent):
        assert event.type == "session.created"


def test_str_with_a_lone_surrogate() -> None:
    assert codec.decode_server('{"type":"error\udc80"}') == ev.UnknownEvent(
        type="error\ufffd", data={"type": "error\ufffd"}
    )
    assert isinstance(codec.decode_client('{"type":"error\udc80"}'), ev.MalformedEvent)


_EVERY_FRAME = [frame for kind in SERVER_TYPES for frame in frames_of(kind)]
_RESULTS = ev.ServerEvent | ev.MalformedEvent | ev.UnknownEvent


@given(st.binary(max_size=300))
def test_no_bytes_raise(data: bytes) -> None:
    assert isinstance(codec.decode_server(data), _RESULTS)
    assert isinstance(codec.decode_client(data), ev.ClientEvent | ev.MalformedEvent | ev.UnknownEvent)


@given(st.sampled_from(_EVERY_FRAME), st.data())
@settings(max_examples=300)
def test_no_mutation_of_a_frame_raises(frame: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(frame)))
    end = data.draw(st.integers(start, min(len(frame), start + 20)))
    mutated = frame[:start] + data.draw(st.binary(max_size=8)) + frame[end:]
    event = codec.decode_server(mutated)
    assert isinstance(event, _RESULTS)
    if isinstance(event, ev.ServerEvent):
        codec.encode(event)


@given(st.sampled_from(_EVERY_FRAME), st.data())
def test_a_truncated_frame_is_malformed_and_named(frame: bytes, data: st.DataObject) -> None:
    whole = codec.decode_server(frame)
    cut = frame[: data.draw(st.integers(0, len(frame) - 1))]
    event = codec.decode_server(cut)
    assert isinstance(event, ev.MalformedEvent), event
    kind = json.loads(frame)["type"]
    assert whole.type == ev.BETA_ALIASES.get(kind, kind)
    if f'"type":"{kind}"'.encode() in cut and cut.index(b'"type"') == cut.index(f'"type":"{kind}"'.encode()):
        assert event.type == kind


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(_EVERY_FRAME), st.data())
@settings(max_examples=300)
def test_no_wrong_type_raises(frame: bytes, data: st.DataObject) -> None:
    wire = json.loads(frame)
    key = data.draw(st.sampled_from(sorted(wire)))
    wire[key] = data.draw(_values)
    event = codec.decode_server(json.dumps(wire))
    assert isinstance(event, _RESULTS)
    if key != "type" and isinstance(event, ev.MalformedEvent):
        assert event.type in {wire["type"], ev.BETA_ALIASES.get(wire["type"])}


# --- translation sessions ---------------------------------------------------------------------------------------------

TRANSLATION_SERVER = {
    get_args(m.model_fields["type"].annotation)[0]: m
    for m in members(official.realtime_translation_server_event.RealtimeTranslationServerEvent)
}


def test_translation_events_that_leave() -> None:
    union = official.realtime_translation_client_event.RealtimeTranslationClientEvent
    assert len(get_args(ev.AnyTranslationClientEvent)) == len(members(union)) == 3
    for event in (
        ev.TranslationAudioAppend(audio=AUDIO),
        ev.TranslationClose(event_id="e"),
        ev.SessionUpdate(session={"audio": {"output": {"language": "de"}}}),
    ):
        wire = json.loads(codec.encode(event))
        assert strictly(union, wire).model_dump(mode="json", exclude_unset=True, by_alias=True) == wire


@pytest.mark.parametrize("kind", sorted(TRANSLATION_SERVER))
def test_translation_events_that_arrive(kind: str) -> None:
    assert len(TRANSLATION_SERVER) == len(get_args(ev.AnyTranslationServerEvent)) == 7
    for wire in samples(TRANSLATION_SERVER[kind]):
        if kind == "session.output_audio.delta":
            wire["delta"] = BASE64
        frame = strictly(TRANSLATION_SERVER[kind], wire).model_dump_json(by_alias=True, exclude_unset=True)
        event = codec.decode_translation(frame)
        assert isinstance(event, ev.ServerEvent), event
        assert lost(json.loads(frame), plain(event)) == []
    assert isinstance(codec.decode_translation(frame[:-3]), ev.MalformedEvent)
    assert isinstance(codec.decode_translation('{"type":"session.fork"}'), ev.UnknownEvent)
