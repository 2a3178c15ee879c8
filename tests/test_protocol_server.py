"""The server's side of the conversation, message by message."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from local_helpers import Drive, types

from realtime_client.protocol.server.conversation import ServerLimits
from realtime_client.protocol.server.work import Listen, Relisten, StartResponse, StopResponse, Transcribe

MANUAL: dict[str, Any] = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
TRANSCRIBED: dict[str, Any] = {
    "type": "realtime",
    "audio": {"input": {"turn_detection": None, "transcription": {"model": "any"}}},
}


@pytest.fixture
def drive() -> Drive:
    return Drive()


def update(drive: Drive, **session: Any) -> dict[str, Any]:
    events = drive.send("session.update", session={"type": "realtime", **session})
    assert types(events)[0] == "session.updated", events
    updated: dict[str, Any] = events[0]["session"]
    return updated


# --- session ---


def test_greets_with_the_effective_session(drive):
    assert types(drive.all) == ["session.created"]
    session = drive.all[0]["session"]
    assert session["model"] == "demo"
    assert session["id"].startswith("sess_")
    assert session["audio"]["input"]["turn_detection"]["silence_duration_ms"] == 500


def test_update_leaves_what_is_absent_and_clears_what_is_null(drive):
    update(drive, instructions="be kind", tools=[{"type": "function", "name": "f", "parameters": {}}])
    update(drive, audio={"input": {"transcription": {"model": "w", "language": "en"}}})
    session = update(drive, audio={"input": {"transcription": {"language": "de"}}})
    assert session["instructions"] == "be kind"
    assert session["audio"]["input"]["transcription"] == {"model": "w", "language": "de"}
    assert session["audio"]["output"]["voice"] == "marin"
    cleared = update(drive, instructions="", tools=[], audio={"input": {"transcription": None, "turn_detection": None}})
    assert cleared["instructions"] == ""
    assert cleared["tools"] == []
    assert cleared["audio"]["input"]["transcription"] is None
    assert cleared["audio"]["input"]["turn_detection"] is None


def test_changing_the_kind_of_turn_detection_takes_its_defaults(drive):
    session = update(drive, audio={"input": {"turn_detection": {"type": "semantic_vad", "eagerness": "low"}}})
    assert session["audio"]["input"]["turn_detection"] == {
        "type": "semantic_vad",
        "eagerness": "low",
        "create_response": True,
        "interrupt_response": True,
    }
    kept = update(drive, audio={"input": {"turn_detection": {"type": "semantic_vad", "create_response": False}}})
    assert kept["audio"]["input"]["turn_detection"]["eagerness"] == "low"


def test_session_type_is_required(drive):
    error = drive.error("session.update", session={"instructions": "x"}, event_id="e7")
    assert (error["code"], error["param"], error["event_id"]) == ("missing_required_parameter", "session.type", "e7")


def nested(levels: int) -> dict[str, Any]:
    """An object in an object in an object."""
    node: dict[str, Any] = {}
    for _ in range(levels):
        node = {"in": node}
    return node


@pytest.mark.parametrize(
    ("session", "param"),
    [
        ({"nonsense": 1}, "session.nonsense"),
        ({"modalities": ["text"]}, "session.modalities"),
        ({"audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": 7}}}}, None),
        ({"audio": {"input": {"turn_detection": {"type": ""}}}}, "session.audio.input.turn_detection.type"),
        ({"audio": {"output": {"speed": 9}}}, "session.audio.output.speed"),
        ({"audio": {"output": {"speed": -(10**400)}}}, "session.audio.output.speed"),
        ({"audio": {"output": {"voice": "nobody"}}}, "session.audio.output.voice"),
        ({"audio": {"input": {"format": {"type": "audio/pcm", "rate": 8000}}}}, "session.audio.input.format.rate"),
        ({"output_modalities": ["text", "audio"]}, "session.output_modalities"),
        ({"max_output_tokens": 0}, "session.max_output_tokens"),
        ({"max_output_tokens": 10**400}, "session.max_output_tokens"),
        ({"tracing": {"metadata": nested(110)}}, "session"),
        ({"tracing": {"metadata": nested(600)}}, "session"),
        ({"tools": [{"type": "function"}]}, "session.tools[0].name"),
        ({"audio": []}, "session.audio"),
        ({"model": "another"}, "session.model"),
    ],
)
def test_a_bad_update_changes_nothing(drive, session, param):
    before = dict(drive.conversation.settings)
    error = drive.error("session.update", session={"type": "realtime", "instructions": "new", **session})
    assert error["type"] == "invalid_request_error"
    assert error["code"]
    if param:
        assert error["param"] == param
    assert drive.conversation.settings == before


def test_the_voice_is_locked_after_the_first_audio(drive):
    update(drive, audio={"output": {"voice": "ash"}})
    drive.answer()
    error = drive.error("session.update", session={"type": "realtime", "audio": {"output": {"voice": "echo"}}})
    assert error["code"] == "cannot_update_voice"
    update(drive, audio={"output": {"voice": "ash"}})
    error = drive.error("response.create", response={"audio": {"output": {"voice": "echo"}}})
    assert error["code"] == "cannot_update_voice"


def test_tracing_stays_and_speed_waits_for_the_end_of_the_answer(drive):
    update(drive, tracing="auto")
    assert drive.error("session.update", session={"type": "realtime", "tracing": None})["param"] == "session.tracing"
    response_id = drive.respond()
    error = drive.error("session.update", session={"type": "realtime", "audio": {"output": {"speed": 1.2}}})
    assert error["param"] == "session.audio.output.speed"
    drive.take(drive.conversation.finish(response_id))
    assert update(drive, audio={"output": {"speed": 1.2}})["audio"]["output"]["speed"] == 1.2


def test_a_repeated_update_does_not_disturb_listening(drive):
    drive.work.clear()
    same = {"type": "server_vad", "threshold": 0.5}
    update(drive, audio={"input": {"turn_detection": same, "transcription": {"model": "w"}}})
    assert drive.work == []
    update(drive, audio={"input": {"turn_detection": {"type": "server_vad", "threshold": 0.6}}})
    assert [type(w) for w in drive.work] == [Relisten]


def test_a_session_may_begin_with_settings():
    tool = {"type": "mcp", "server_label": "s", "server_url": "https://x"}
    drive = Drive(model="", start={"type": "realtime", "model": "mine", "instructions": "be kind", "tools": [tool]})
    session = drive.all[0]["session"]
    assert (session["model"], session["instructions"], session["tools"]) == ("mine", "be kind", [tool])
    assert "mcp_list_tools.in_progress" in types(drive.all)
    assert drive.error("session.update", session={"type": "realtime", "model": "x"})["code"] == "cannot_update_model"


def test_a_transcription_session_has_no_responses():
    drive = Drive(kind="transcription")
    assert drive.all[0]["session"]["object"] == "realtime.transcription_session"
    session = {"type": "transcription", "audio": {"input": {"turn_detection": None, "transcription": {"model": "w"}}}}
    assert types(drive.send("session.update", session=session)) == ["session.updated"]
    drive.append(200)
    assert types(drive.send("input_audio_buffer.commit")) == [
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
    ]
    work = drive.work[-2]
    assert isinstance(work, Transcribe)
    heard = drive.take(drive.conversation.heard(work.item_id, 0, "hello"))
    assert types(heard)[-1].endswith("completed")
    drive.error("response.create")


def test_the_kind_of_session_can_change_only_before_use(drive):
    session: dict[str, Any] = {"type": "transcription"}
    assert types(drive.send("session.update", session=session)) == ["session.updated"]
    assert drive.send("session.update", session={"type": "realtime"})[0]["session"]["model"] == "demo"
    drive.text("hi")
    assert drive.error("session.update", session=session)["param"] == "session.type"


# --- what cannot be understood ---


def test_unknown_and_malformed_messages_are_errors_and_the_session_goes_on(drive):
    error = drive.error("make.coffee", event_id="mine")
    assert (error["code"], error["param"], error["event_id"]) == ("invalid_value", "type", "mine")
    for frame in ("", "[]", "nope", '{"type":', "{}", '{"type":5}', b"\xff\xfe", '{"type":"session.update"}'):
        assert types(drive.frame(frame)) == ["error"], frame
    missing = drive.frame('{"type":"conversation.item.delete"}')[0]["error"]
    assert (missing["code"], missing["param"]) == ("missing_required_parameter", "item_id")
    bad = drive.frame('{"type":"input_audio_buffer.append","audio":"%%%"}')[0]["error"]
    assert "base64" in bad["message"]
    assert drive.text("still here")


ITEM = '"type":"conversation.item.create","item":{"type":"message","role":"user","content"'


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ('"type":"make.coffee"', "invalid_value", "type"),
        ('"type":5', "missing_required_parameter", "type"),
        ('"kind":"x"', "missing_required_parameter", "type"),
        ('"type":"conversation.item.create"', "missing_required_parameter", "item"),
        ('"type":"conversation.item.create","item":[]', "invalid_type", "item"),
        ('"type":"conversation.item.create","item":{"role":"user"}', "missing_required_parameter", "item.type"),
        ('"type":"conversation.item.delete","item_id":null', "missing_required_parameter", "item_id"),
        ('"type":"conversation.item.truncate","item_id":"x","content_index":"0"', "invalid_type", "content_index"),
        (ITEM + ":5}", "invalid_type", "item.content"),
        (ITEM + ':[{"type":"input_text","text":5}]}', "invalid_type", "item.content[0].text"),
        (ITEM + ':"x"}', "invalid_type", "item.content"),
        (ITEM + ':["x"]}', "invalid_type", "item.content[0]"),
        (ITEM + ':[{"text":"x"}]}', "missing_required_parameter", "item.content[0].type"),
        (
            ITEM + ':[{"type":"input_text","text":"x"},{"type":"input_audio","audio":"%"}]}',
            "invalid_value",
            "item.content[1].audio",
        ),
        ('"type":"session.update","session":[]', "invalid_type", "session"),
        ('"type":"response.create","response":[]', "invalid_type", "response"),
        ('"type":"input_audio_buffer.append"', "missing_required_parameter", "audio"),
        ('"type":"input_audio_buffer.append","audio":5', "invalid_value", "audio"),
        ('"type":"input_audio_buffer.append","audio":"%"', "invalid_value", "audio"),
        ('"type":"session.update","session":{"type":"realtime","instructions":"\\ud83d"}', "invalid_value", None),
    ],
)
def test_an_error_names_the_message_and_the_field_at_fault(drive, fields, code, param):
    (event,) = drive.frame('{"event_id":"mine",' + fields + "}")
    assert (event["type"], event["error"]["event_id"]) == ("error", "mine")
    assert (event["error"]["code"], event["error"]["param"]) == (code, param)


@pytest.mark.parametrize("frame", ["[]", "nope", '{"event_id":"mine"', '{"event_id":7,"type":"response.create"}'])
def test_what_carries_no_id_is_refused_without_one(drive, frame):
    (event,) = drive.frame(frame)
    assert event["error"]["event_id"] is None


# --- items ---


def test_items_keep_their_order(drive):
    a, c = drive.text("a"), drive.text("c")
    b = drive.text("b", previous_item_id=a)
    first = drive.text("first", previous_item_id="root")
    assert [entry.id for entry in drive.conversation.items] == [first, a, b, c]
    assert next(e for e in drive.all if e["type"] == "conversation.item.added")["previous_item_id"] is None
    assert drive.all[-1]["previous_item_id"] is None
    assert next(e for e in drive.all if e.get("item", {}).get("id") == b)["previous_item_id"] == a
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]}
    error = drive.error("conversation.item.create", item=item, previous_item_id="nowhere")
    assert error["param"] == "previous_item_id"
    assert len(drive.conversation.items) == 4


TEXT = {"type": "input_text", "text": "x"}


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"type": "message", "role": "user"}, "item.content"),
        ({"type": "message", "role": "robot", "content": []}, "item.role"),
        ({"type": "message", "role": "user", "content": [{"type": "output_text", "text": "x"}]}, None),
        ({"type": "message", "role": "assistant", "content": [{"type": "output_audio", "audio": "AAAA"}]}, None),
        ({"type": "message", "role": "user", "content": [{"type": "input_text"}]}, "item.content[0].text"),
        (
            {"type": "message", "role": "user", "content": [TEXT, {"type": "input_audio", "audio": "AA=="}]},
            "item.content[1].audio",
        ),
        ({"type": "function_call_output", "call_id": "none", "output": "x"}, "item.call_id"),
        ({"type": "function_call_output", "call_id": "none"}, "item.output"),
        ({"type": "surprise"}, "item.type"),
        ({"type": "message", "id": "", "role": "user", "content": []}, "item.id"),
    ],
)
def test_items_that_a_client_cannot_create(drive, item, param):
    error = drive.error("conversation.item.create", item=item)
    if param:
        assert error["param"] == param
    assert len(drive.conversation.items) == 0


def test_an_id_can_be_chosen_once(drive):
    item = {"type": "message", "id": "mine", "role": "system", "content": [{"type": "input_text", "text": "x"}]}
    assert drive.send("conversation.item.create", item=item)[0]["item"]["id"] == "mine"
    assert drive.error("conversation.item.create", item=item)["param"] == "item.id"


def test_delete_and_its_error(drive):
    item_id = drive.text("x")
    assert drive.send("conversation.item.delete", item_id=item_id)[0]["item_id"] == item_id
    assert drive.error("conversation.item.delete", item_id=item_id)["code"] == "item_delete_invalid_item_id"
    assert drive.error("conversation.item.retrieve", item_id="x")["code"] == "item_retrieve_invalid_item_id"
    assert (
        drive.error("conversation.item.truncate", item_id="x", content_index=0, audio_end_ms=5)["code"]
        == "item_truncate_invalid_item_id"
    )


def test_retrieve_brings_the_audio_and_added_does_not(drive):
    sound = base64.b64encode(bytes(range(96)) * 100).decode()
    item = {"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": sound}]}
    added = drive.send("conversation.item.create", item=item)
    assert "audio" not in added[0]["item"]["content"][0]
    got = drive.send("conversation.item.retrieve", item_id=added[0]["item"]["id"])
    assert got[0]["item"]["content"][0]["audio"] == sound
    _, spoken = drive.answer(audio_ms=500)
    got = drive.send("conversation.item.retrieve", item_id=spoken)
    assert len(base64.b64decode(got[0]["item"]["content"][0]["audio"])) == 48 * 500


def test_truncate_within_what_was_generated(drive):
    _, item_id = drive.answer("hello there", audio_ms=9_250)
    at = {"item_id": item_id, "content_index": 0}
    error = drive.error("conversation.item.truncate", **at, audio_end_ms=57_340)
    assert error["message"] == "Audio content of 9250ms is already shorter than 57340ms"
    drive.error("conversation.item.truncate", **at, audio_end_ms=0)
    events = drive.send("conversation.item.truncate", **at, audio_end_ms=4_000)
    assert events[0]["audio_end_ms"] == 4_000
    part = drive.send("conversation.item.retrieve", item_id=item_id)[0]["item"]["content"][0]
    assert part["transcript"] == ""
    assert len(base64.b64decode(part["audio"])) == 48 * 4_000
    drive.error("conversation.item.truncate", **at, audio_end_ms=4_001)
    user = drive.text("x")
    error = drive.error("conversation.item.truncate", item_id=user, content_index=0, audio_end_ms=5)
    assert error["code"] == "unsupported_content_type"


def test_truncate_may_count_a_begun_millisecond(drive):
    drive.take(drive.conversation.say(drive.respond(), "hello", bytes(48 * 668 + 40)))
    at = {"item_id": drive.all[-1]["item_id"], "content_index": 0}
    error = drive.error("conversation.item.truncate", **at, audio_end_ms=670)
    assert error["message"] == "Audio content of 668ms is already shorter than 670ms"
    assert types(drive.send("conversation.item.truncate", **at, audio_end_ms=669)) == ["conversation.item.truncated"]


def test_truncate_of_a_running_answer_keeps_what_follows_out_of_the_item(drive):
    response_id = drive.respond()
    drive.take(drive.conversation.say(response_id, "one two", bytes(48_000)))
    item_id = drive.all[-1]["item_id"]
    drive.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=300)
    drive.take(drive.conversation.say(response_id, "three", bytes(48_000)))
    drive.take(drive.conversation.finish(response_id))
    part = drive.send("conversation.item.retrieve", item_id=item_id)[0]["item"]["content"][0]
    assert (part["transcript"], len(base64.b64decode(part["audio"]))) == ("", 48 * 300)


def test_memory_is_bounded():
    drive = Drive(limits=ServerLimits(max_item_audio_bytes=100_000, max_items=3, max_text_bytes=2_000))
    _, first = drive.answer(audio_ms=1_000)
    assert "audio" in drive.send("conversation.item.retrieve", item_id=first)[0]["item"]["content"][0]
    drive.answer(audio_ms=1_500)
    assert drive.conversation.items.audio_bytes <= 100_000
    part = drive.send("conversation.item.retrieve", item_id=first)[0]["item"]["content"][0]
    assert (part.get("audio"), part["transcript"]) == (None, "hello")
    error = drive.error("conversation.item.truncate", item_id=first, content_index=0, audio_end_ms=1_001)
    assert "1000ms" in error["message"], "its length stays known"
    for number in range(5):
        drive.text(f"x{number}")
    assert len(drive.conversation.items) == 3
    drive.text("y" * 1_900)
    assert len(drive.conversation.items) == 1


# --- input audio ---


def test_commit_by_hand(drive):
    drive.send("session.update", session=TRANSCRIBED)
    drive.append(99)
    error = drive.error("input_audio_buffer.commit", event_id="c")
    assert error["code"] == "input_audio_buffer_commit_empty"
    assert error["event_id"] == "c"
    drive.append(101)
    events = drive.send("input_audio_buffer.commit")
    assert types(events) == ["input_audio_buffer.committed", "conversation.item.added", "conversation.item.done"]
    item_id = events[0]["item_id"]
    assert events[1]["item"]["id"] == item_id
    work = next(w for w in drive.work if isinstance(w, Transcribe))
    assert len(work.audio) == 48 * 200
    heard = drive.take(drive.conversation.heard(item_id, 0, "hi"))
    assert types(heard) == [f"conversation.item.input_audio_transcription.{n}" for n in ("delta", "completed")]
    assert heard[1]["usage"] == {"type": "duration", "seconds": 0.2}
    assert drive.take(drive.conversation.heard(item_id, 0, "again")) == [], "told once"
    assert drive.conversation.input_ms == 200


def test_failed_transcription_is_told(drive):
    drive.send("session.update", session=TRANSCRIBED)
    drive.append(200)
    item_id = drive.send("input_audio_buffer.commit")[0]["item_id"]
    events = drive.take(drive.conversation.not_heard(item_id, 0, "no ear"))
    assert types(events) == ["conversation.item.input_audio_transcription.failed"]


def test_what_was_heard_stays_private_without_transcription(drive):
    drive.send("session.update", session=MANUAL)
    drive.append(200)
    item_id = drive.send("input_audio_buffer.commit")[0]["item_id"]
    response_id = drive.respond()
    assert drive.conversation.brief(response_id) is None, "waits for the ear"
    assert drive.take(drive.conversation.heard(item_id, 0, "secret")) == []
    brief = drive.conversation.brief(response_id)
    assert brief is not None
    assert brief.context[-1].said == "secret"


def test_clear_and_positions(drive):
    drive.append(500)
    assert types(drive.send("input_audio_buffer.clear")) == ["input_audio_buffer.cleared"]
    assert drive.work[-1].at_ms == 500
    drive.send("session.update", session={"type": "realtime", "audio": {"input": {"format": {"type": "audio/pcmu"}}}})
    drive.append(100)  # 4800 bytes are 600 ms of G.711
    assert drive.conversation.input_ms == 1_100


def test_append_limits():
    drive = Drive(limits=ServerLimits(max_input_bytes=48 * 1_000))
    listening = drive.append(900) + drive.append(900)
    assert listening == [], "while the server listens, the oldest audio makes room"
    assert drive.conversation.input_ms == 1_800
    drive.send("session.update", session=MANUAL)
    drive.send("input_audio_buffer.clear")
    drive.append(900)
    assert drive.append(200)[0]["error"]["code"] == "input_audio_buffer_full"
    big = base64.b64encode(bytes(15 * 2**20 + 2)).decode()
    assert "15 MiB" in drive.error("input_audio_buffer.append", audio=big)["message"]
    assert "even" in drive.error("input_audio_buffer.append", audio="AAAA")["message"]


def test_a_spoken_turn(drive):
    update(drive, audio={"input": {"transcription": {"model": "w"}}})
    drive.append(2_000)
    assert isinstance(drive.work[-1], Listen)
    started = drive.take(drive.conversation.speech_started(300))
    drive.append(1_000)
    stopped = drive.take(drive.conversation.speech_stopped(2_500))
    assert types(started + stopped) == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
    ]
    ids = {e["item_id"] for e in started + stopped if "item_id" in e}
    assert ids == {stopped[2]["item"]["id"]}
    work = next(w for w in drive.work if isinstance(w, Transcribe))
    assert len(work.audio) == 48 * 2_200
    assert isinstance(drive.work[-1], StartResponse)


def test_speech_interrupts_an_answer(drive):
    response_id = drive.respond()
    drive.take(drive.conversation.say(response_id, "I am", bytes(4_800)))
    drive.append(500)
    events = drive.take(drive.conversation.speech_started(100))
    assert types(events) == [
        "input_audio_buffer.speech_started",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "response.output_item.done",
        "conversation.item.done",
        "response.done",
        "rate_limits.updated",
    ]
    response = events[6]["response"]
    assert (response["status"], response["status_details"]["reason"]) == ("cancelled", "turn_detected")
    assert events[4]["item"]["status"] == "incomplete"
    assert drive.work[-1] == StopResponse(response_id=response_id)
    assert drive.conversation.say(response_id, "late", b"") == []


def test_vad_flags(drive):
    vad = {"type": "server_vad", "create_response": False, "interrupt_response": False}
    update(drive, audio={"input": {"turn_detection": vad}})
    response_id = drive.respond()
    drive.append(1_000)
    assert types(drive.take(drive.conversation.speech_started(0))) == ["input_audio_buffer.speech_started"]
    assert "response.created" not in types(drive.take(drive.conversation.speech_stopped(900)))
    assert drive.conversation.active_response == response_id
    update(drive, audio={"input": {"turn_detection": {"type": "server_vad", "create_response": True}}})
    drive.append(1_000)
    drive.take(drive.conversation.speech_started(1_100))
    last = drive.take(drive.conversation.speech_stopped(1_900))[-1]
    assert last["error"]["code"] == "conversation_already_has_active_response"
    assert last["error"]["event_id"] is None


def test_manual_commit_during_speech_uses_the_announced_item(drive):
    drive.append(1_000)
    announced = drive.take(drive.conversation.speech_started(0))[0]["item_id"]
    assert drive.send("input_audio_buffer.commit")[0]["item_id"] == announced
    assert drive.conversation.speech_stopped(1_000) == []


def test_idle_timeout(drive):
    vad = {"type": "server_vad", "idle_timeout_ms": 5_000}
    update(drive, audio={"input": {"turn_detection": vad}})
    assert drive.conversation.tick(1_000.0) == []
    assert drive.conversation.next_tick_s() is None, "counts from an answer"
    drive.answer(audio_ms=2_000)
    drive.append(300)
    assert drive.conversation.tick(100.0) == []
    assert drive.conversation.next_tick_s() == pytest.approx(107.0)
    assert drive.conversation.tick(106.9) == []
    events = drive.take(drive.conversation.tick(107.0))
    assert types(events) == [
        "input_audio_buffer.timeout_triggered",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
    ]
    assert (events[0]["audio_start_ms"], events[0]["audio_end_ms"]) == (0, 300)
    assert drive.conversation.next_tick_s() is None


def test_speech_disarms_the_idle_timeout(drive):
    update(drive, audio={"input": {"turn_detection": {"type": "server_vad", "idle_timeout_ms": 5_000}}})
    drive.answer(audio_ms=1_000)
    drive.take(drive.conversation.tick(0.0))
    drive.append(300)
    drive.take(drive.conversation.speech_started(100))
    assert drive.take(drive.conversation.tick(1_000.0)) == []


# --- responses ---


def test_messages_of_a_spoken_answer_come_in_order(drive):
    drive.text("hi")
    drive.all.clear()
    drive.answer()
    assert types(drive.all) == [
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_audio_transcript.delta",
        "response.output_audio.delta",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "response.output_item.done",
        "conversation.item.done",
        "response.done",
        "rate_limits.updated",
    ]
    assert drive.all[3]["part"]["type"] == "audio"
    assert drive.all[-2]["response"]["output"][0]["content"] == [{"type": "output_audio", "transcript": "hello"}]


def test_messages_of_a_written_answer(drive):
    response_id = drive.respond(response={"output_modalities": ["text"], "metadata": {"topic": "x"}})
    events = drive.take(drive.conversation.say(response_id, "hello")) + drive.take(
        drive.conversation.finish(response_id)
    )
    assert types(events)[2:6] == [
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
    ]
    assert events[2]["part"]["type"] == "text"
    done = events[-2]["response"]
    assert done["metadata"] == {"topic": "x"}
    assert done["usage"]["output_token_details"]["audio_tokens"] == 0


def test_function_call_and_its_output(drive):
    response_id = drive.respond()
    arguments = json.dumps({"city": "Paris", "unit": "celsius", "long": "x" * 60})
    events = drive.take(drive.conversation.call(response_id, "get_weather", arguments))
    kinds = types(events)
    assert kinds[:2] == ["response.output_item.added", "conversation.item.added"]
    assert kinds[-3:] == [
        "response.function_call_arguments.done",
        "response.output_item.done",
        "conversation.item.done",
    ]
    assert "".join(e["delta"] for e in events if e["type"].endswith("arguments.delta")) == arguments
    assert events[-3]["name"] == "get_weather"
    drive.take(drive.conversation.finish(response_id))
    item = {"type": "function_call_output", "call_id": events[-3]["call_id"], "output": "sunny"}
    assert types(drive.send("conversation.item.create", item=item))[0] == "conversation.item.added"
    brief = drive.conversation.brief(drive.respond())
    assert brief is not None
    assert [c.item.type for c in brief.context] == ["function_call", "function_call_output"]


def test_one_active_response(drive):
    active = drive.respond()
    error = drive.error("response.create", event_id="second")
    assert error["code"] == "conversation_already_has_active_response"
    assert active in error["message"]
    assert error["event_id"] == "second"
    side = drive.respond(response={"conversation": "none", "metadata": {"a": "b"}})
    assert side != active
    events = drive.take(drive.conversation.say(side, "x", bytes(960))) + drive.take(drive.conversation.finish(side))
    assert not [k for k in types(events) if k.startswith("conversation.item")]
    assert events[-2]["response"]["conversation_id"] is None
    assert drive.conversation.active_response == active
    assert len(drive.conversation.items) == 0


def test_out_of_band_responses_are_bounded():
    drive = Drive(limits=ServerLimits(max_parallel=2))
    for _ in range(3):
        drive.respond(response={"conversation": "none"})
    assert drive.error("response.create", response={"conversation": "none"})["code"] == "rate_limit_exceeded"


@pytest.mark.parametrize(
    ("part", "count"),
    [
        ({"type": "input_text", "text": "x"}, 6),
        ({"type": "input_text", "text": "x" * 1_500}, 3),
        ({"type": "input_audio", "audio": base64.b64encode(bytes(800)).decode()}, 3),
    ],
    ids=["items", "text", "audio"],
)
def test_what_running_responses_are_given_is_bounded(part, count):
    limits = ServerLimits(max_items=5, max_text_bytes=4_000, max_item_audio_bytes=2_000, max_parallel=9)
    drive = Drive(limits=limits)
    item = {"type": "message", "role": "user", "content": [part]}
    aside = {"conversation": "none", "input": [item]}
    assert drive.error("response.create", response=aside | {"input": [item] * 6})["param"] == "response.input"
    running = [drive.respond(response=aside) for _ in range(count - 1)]
    error = drive.error("response.create", response=aside)
    assert (error["code"], error["param"]) == ("invalid_value", "response.input")
    drive.take(drive.conversation.finish(running[0]))
    drive.respond(response=aside)


def test_items_that_are_only_referred_to_count_as_such():
    drive = Drive(limits=ServerLimits(max_items=2, max_text_bytes=2_000))
    item_id = drive.text("x" * 1_500)
    aside = {"conversation": "none", "input": [{"type": "item_reference", "id": item_id}]}
    drive.respond(response=aside)
    drive.respond(response=aside)
    assert drive.error("response.create", response=aside)["param"] == "response.input"


def test_cancel(drive):
    assert drive.error("response.cancel", event_id="x")["code"] == "response_cancel_not_active"
    response_id = drive.respond()
    events = drive.send("response.cancel")
    assert types(events) == ["response.done", "rate_limits.updated"]
    assert events[0]["response"]["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
    side = drive.respond(response={"conversation": "none"})
    drive.respond()
    assert drive.send("response.cancel", response_id=side)[0]["response"]["id"] == side
    assert drive.conversation.active_response is not None
    assert drive.error("response.cancel", response_id=response_id)["code"] == "response_cancel_not_active"


def test_max_output_tokens_ends_an_answer_incomplete(drive):
    response_id = drive.respond(response={"max_output_tokens": 30})
    drive.take(drive.conversation.say(response_id, "hello ", bytes(48 * 1_000)))
    events = drive.take(drive.conversation.say(response_id, "more and more", bytes(48 * 1_000)))
    response = events[-2]["response"]
    assert response["status"] == "incomplete"
    assert response["status_details"]["reason"] == "max_output_tokens"
    assert response["output"][0]["status"] == "incomplete"
    assert response["usage"]["output_tokens"] <= 30


def test_a_failed_answer(drive):
    response_id = drive.respond()
    done = drive.take(drive.conversation.fail(response_id, "the brain broke"))[0]["response"]
    assert done["status"] == "failed"
    assert done["status_details"]["error"]["message"] == "the brain broke"
    drive.respond()


def test_input_overrides_the_context(drive):
    kept = drive.text("in the conversation")
    part = {"type": "input_text", "text": "apart"}
    given = [{"type": "item_reference", "id": kept}, {"type": "message", "role": "user", "content": [part]}]
    brief = drive.conversation.brief(drive.respond(response={"conversation": "none", "input": given}))
    assert brief is not None
    assert [c.said for c in brief.context] == ["in the conversation", "apart"]
    empty = drive.conversation.brief(drive.respond(response={"conversation": "none", "input": []}))
    assert empty is not None
    assert empty.context == ()
    assert len(drive.conversation.items) == 1
    drive.error("response.create", response={"input": [{"type": "item_reference", "id": "gone"}]})
    drive.error("response.create", response={"input": ["text"]})
    drive.error("response.create", response={"input": [{"role": "user"}]})
    assert drive.conversation.active_response is None


def test_audio_in_the_input_is_heard_first(drive):
    sound = base64.b64encode(bytes(48 * 300)).decode()
    given = [{"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": sound}]}]
    response_id = drive.respond(response={"conversation": "none", "input": given})
    assert drive.conversation.brief(response_id) is None
    work = next(w for w in drive.work if isinstance(w, Transcribe))
    assert drive.take(drive.conversation.heard(work.item_id, 0, "apart")) == []
    brief = drive.conversation.brief(response_id)
    assert brief is not None
    assert brief.context[0].said == "apart"


def test_audio_of_one_id_is_heard_for_each_that_has_it(drive):
    def sound(ms: int) -> dict[str, Any]:
        part = {"type": "input_audio", "audio": base64.b64encode(bytes(48 * ms)).decode()}
        return {"type": "message", "id": "same", "role": "user", "content": [part]}

    first = drive.respond(response={"conversation": "none", "input": [sound(100), sound(200)]})
    second = drive.respond(response={"conversation": "none", "input": [sound(300)]})
    drive.send("conversation.item.create", item=sound(400))
    for work in [w for w in drive.work if isinstance(w, Transcribe)]:
        drive.take(drive.conversation.heard(work.item_id, work.content_index, f"{len(work.audio) // 48} ms"))
    briefs = [drive.conversation.brief(each) for each in (first, second)]
    assert [[c.said for c in brief.context] for brief in briefs if brief] == [["100 ms", "200 ms"], ["300 ms"]]
    assert [entry.said() for entry in drive.conversation.items] == ["400 ms"]


def user_says(**part):
    return {"type": "message", "role": "user", "content": [part]}


@pytest.mark.parametrize(
    ("response", "param"),
    [
        ({"metadata": {str(n): "" for n in range(17)}}, "response.metadata"),
        ({"metadata": {"k" * 65: ""}}, "response.metadata"),
        ({"metadata": {"k": "v" * 513}}, "response.metadata.k"),
        ({"metadata": {"k": 1}}, "response.metadata.k"),
        ({"conversation": "maybe"}, "response.conversation"),
        ({"temperature": 1}, "response.temperature"),
        ({"input": "text"}, "response.input"),
        ({"input": [nested(600)]}, "response"),
        ({"tools": [{"type": "function"}]}, "response.tools[0].name"),
        ({"input": ["x"]}, "response.input[0]"),
        ({"input": [{"role": "user"}]}, "response.input[0].type"),
        ({"input": [{"type": "message", "id": 5}]}, "response.input[0].id"),
        ({"input": [{"type": "message", "role": "user", "content": [TEXT, "x"]}]}, "response.input[0].content[1]"),
        ({"input": [user_says(type="input_text")]}, "response.input[0].content[0].text"),
        ({"input": [user_says(type="input_audio", audio="%")]}, "response.input[0].content[0].audio"),
        ({"input": [user_says(type="input_audio", audio="AA==")]}, "response.input[0].content[0].audio"),
        ({"input": [user_says(**TEXT), user_says(**TEXT) | {"role": "boss"}]}, "response.input[1].role"),
        ({"input": [{"type": "item_reference"}]}, "response.input[0].id"),
        ({"input": [{"type": "item_reference", "id": "x", "role": "user"}]}, "response.input[0].role"),
    ],
)
def test_bad_response_settings(drive, response, param):
    error = drive.error("response.create", response=response)
    assert error["param"] == param
    assert drive.conversation.active_response is None


def test_usage_counts_cached_as_a_subset(drive):
    drive.text("a question of some length, long enough to count")
    drive.answer()
    first = drive.all[-2]["response"]["usage"]
    drive.text("another")
    drive.answer()
    second = drive.all[-2]["response"]["usage"]
    assert first["input_token_details"]["cached_tokens"] == 0
    details = second["input_token_details"]
    assert 0 < details["cached_tokens"] <= second["input_tokens"]
    assert details["text_tokens"] + details["audio_tokens"] + details["image_tokens"] == second["input_tokens"]
    assert details["cached_tokens_details"]["text_tokens"] <= details["text_tokens"]
    assert second["total_tokens"] == second["input_tokens"] + second["output_tokens"]
    assert first["output_token_details"]["audio_tokens"] == 20, "50 ms a token"


def test_an_item_deleted_while_it_is_generated(drive):
    response_id = drive.respond()
    drive.take(drive.conversation.say(response_id, "x", bytes(960)))
    item_id = drive.all[-1]["item_id"]
    drive.send("conversation.item.delete", item_id=item_id)
    drive.take(drive.conversation.say(response_id, "y", bytes(960)))
    events = drive.take(drive.conversation.finish(response_id))
    assert "conversation.item.done" not in types(events)
    assert types(events)[-2] == "response.done"


def test_output_buffer_clear_is_not_for_websockets(drive):
    drive.error("output_audio_buffer.clear")
