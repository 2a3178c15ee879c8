"""Sessions, the user's audio and its transcripts, usage and errors."""

from __future__ import annotations

from typing import Any

import pytest
from conversation_script import BUSY, USAGE, Scene, only
from hypothesis import given
from hypothesis import strategies as st

from realtime_client import updates as up
from realtime_client.errors import UsageError
from realtime_client.protocol import codec, listening
from realtime_client.protocol import events as ev
from realtime_client.protocol.conversation import random_id
from realtime_client.protocol.usage import read_usage


@pytest.fixture
def scene() -> Scene:
    return Scene()


# --- committing by hand -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wire", "bytes_a_ms"), [("audio/pcm", 48), ("audio/pcmu", 8), ("audio/pcma", 8)])
def test_commit_needs_100_ms(scene: Scene, wire: str, bytes_a_ms: int) -> None:
    scene.settings(audio={"input": {"format": {"type": wire}}})
    with pytest.raises(UsageError, match="only 0 ms"):
        scene.it.commit()
    scene.it.appended(100 * bytes_a_ms - 1)
    with pytest.raises(UsageError, match="only 99 ms of audio to commit: at least 100 ms"):
        scene.it.commit()
    assert scene.sent() == []
    scene.it.send(ev.InputAudioBufferAppend(audio=b"\0"))
    scene.sent()
    scene.it.commit()
    assert scene.kinds() == ["input_audio_buffer.commit"]
    with pytest.raises(UsageError, match="only 0 ms"):
        scene.it.commit()
    scene.it.appended(100 * bytes_a_ms)
    scene.it.clear_input()
    assert scene.kinds() == ["input_audio_buffer.clear"]
    with pytest.raises(UsageError, match="only 0 ms"):
        scene.it.commit()


# --- transcripts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "during", "after"])
def test_transcripts_come_when_they_come(scene: Scene, when: str) -> None:
    def transcript() -> list[up.Update]:
        prefix = "conversation.item.input_audio_transcription"
        told = scene.get(f"{prefix}.delta", item_id="item_u", content_index=0, delta="what is")
        usage = {"type": "tokens", "input_tokens": 5, "output_tokens": 2, "total_tokens": 7}
        where = {"item_id": "item_u", "content_index": 0}
        return told + scene.get(f"{prefix}.completed", **where, transcript="what is it", usage=usage)

    scene.get("input_audio_buffer.committed", item_id="item_u", previous_item_id=None)
    told = transcript() if when == "before" else []
    scene.created()
    told += transcript() if when == "during" else []
    scene.text("It is")
    scene.done()
    told += transcript() if when == "after" else []
    assert told == [
        up.UserTranscriptDelta(item_id="item_u", content_index=0, text="what is"),
        up.UserTranscript(item_id="item_u", content_index=0, text="what is it", usage=told[1].usage),
    ]
    assert scene.it.transcription_usage == {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7}
    assert scene.it.usage == up.Usage()  # billed apart
    assert scene.sent() == []


def test_failed_transcripts_and_segments(scene: Scene) -> None:
    prefix, where = "conversation.item.input_audio_transcription", {"item_id": "i", "content_index": 0}
    error = {"type": "x", "code": "audio_unintelligible", "message": "no speech"}
    (failed,) = scene.get(f"{prefix}.failed", **where, error=error)
    assert (failed.message, failed.code) == ("no speech", "audio_unintelligible")
    (segment,) = scene.get(f"{prefix}.segment", **where, id="s", text="hi", speaker="A", start=0.5, end=1.5)
    assert (segment.speaker, segment.start_s, segment.end_s) == ("A", 0.5, 1.5)
    scene.get(f"{prefix}.completed", **where, transcript="", usage={"type": "duration", "seconds": 1.5})
    scene.get(f"{prefix}.completed", **where, transcript="", usage={"type": "duration", "seconds": 2})
    assert scene.it.transcription_usage == {"seconds": 3.5}


# --- usage, errors, sessions ------------------------------------------------------------------------------------------


def test_usage_is_added_up_by_modality(scene: Scene) -> None:
    for name in ("resp_1", "resp_2"):
        scene.created(name)
        usage = only(scene.done(name, usage=USAGE), up.ResponseDone).usage
        assert usage.input_text + usage.input_audio + usage.input_image == usage.input_tokens
        assert usage.cached_text + usage.cached_audio + usage.cached_image == usage.cached
    total = scene.it.usage
    assert (total.total_tokens, total.input_tokens, total.output_tokens) == (200, 140, 60)
    assert (total.input_text, total.input_audio, total.input_image) == (80, 40, 20)
    assert (total.cached, total.cached_text, total.cached_audio, total.cached_image) == (70, 50, 16, 4)
    assert (total.output_text, total.output_audio) == (24, 36)
    scene.done("resp_2", usage=USAGE)
    assert scene.it.usage == total  # the same answer is not counted twice


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(st.sampled_from([*USAGE, *USAGE["input_token_details"]]), inner, max_size=4)
        ),
        max_leaves=8,
    )
)
def test_strange_usage_does_not_raise(data: Any) -> None:
    if isinstance(data, dict):
        usage = read_usage(data)
        assert usage is None or all(isinstance(getattr(usage, f), int) for f in usage.__struct_fields__)


@pytest.mark.parametrize(
    ("code", "benign", "fatal"),
    [
        ("response_cancel_not_active", True, False),
        ("session_expired", False, True),
        ("invalid_api_key", False, True),
        ("invalid_model", False, True),
        ("beta_api_shape_disabled", False, True),
        ("invalid_value", False, False),
        (BUSY, False, False),
        ("something_new", False, False),
        (None, False, False),
    ],
)
def test_failures(scene: Scene, code: str | None, benign: bool, fatal: bool) -> None:
    failure = scene.error(code, "event_x", "what is wrong")
    assert (failure.benign, failure.fatal) == (benign, fatal)
    assert (failure.message, failure.code, failure.event_id) == ("what is wrong", code, "event_x")


@pytest.mark.parametrize(
    ("details", "reason", "error"),
    [
        (None, None, None),
        ({"type": "cancelled", "reason": "turn_detected"}, "turn_detected", None),
        ({"type": "incomplete", "reason": "content_filter"}, "content_filter", None),
        (
            {"type": "failed", "error": {"code": "rate_limit_exceeded", "message": "slow"}},
            "rate_limit_exceeded",
            "slow",
        ),
        ({"type": "failed", "error": {"type": "server_error"}}, "server_error", ""),
    ],
)
def test_why_an_answer_did_not_complete(scene: Scene, details: Any, reason: str | None, error: str | None) -> None:
    done = only(scene.done(status="failed", status_details=details), up.ResponseDone)
    assert (done.status, done.reason, done.error) == ("failed", reason, error)


@pytest.mark.parametrize(
    "where",
    [
        {"error": {"code": "overloaded", "message": "no capacity"}},
        {"error": {"code": "overloaded", "detail": "no capacity"}, "status_details": {"type": "failed"}},
        {"error": [{"msg": "no capacity"}], "status_details": None},
        {"error": "no capacity"},
        {"status_details": {"type": "failed", "message": "no capacity"}},
        {"status_details": "no capacity"},
    ],
)
@pytest.mark.parametrize("status", ["failed", None])
def test_words_about_a_failure_are_found_where_they_stand(scene: Scene, where: dict[str, Any], status: str) -> None:
    scene.created()
    (done,) = scene.get("response.done", response={"id": "resp_1", "status": status, **where})
    assert isinstance(done, up.ResponseDone)
    assert (done.status, done.error) == ("failed", "no capacity")
    if isinstance(where.get("error"), dict):
        assert done.reason == "overloaded"


def test_words_about_a_failure_beside_the_response(scene: Scene) -> None:
    scene.created()
    (done,) = scene.get("response.done", response={"id": "resp_1", "status": "failed"}, error={"message": "no"})
    assert isinstance(done, up.ResponseDone)
    assert (done.status, done.error, done.reason) == ("failed", "no", "error")


def test_no_error_where_there_is_none(scene: Scene) -> None:
    scene.created()
    (done,) = scene.get("response.done", response={"id": "resp_1", "error": None}, error={})
    assert isinstance(done, up.ResponseDone)
    assert (done.status, done.error, done.reason) == ("completed", None, None)


def test_a_session_of_the_current_shape(scene: Scene) -> None:
    session = {
        "id": "sess_1",
        "model": "m",
        "expires_at": 1_800_000_000,
        "audio": {"input": {"format": {"type": "audio/pcmu"}}, "output": {"format": {"type": "audio/pcma"}}},
    }
    started = only(scene.get("session.created", session=session), up.SessionStarted)
    assert (started.session_id, started.facts.model, started.facts.expires_at) == ("sess_1", "m", 1_800_000_000)
    assert started.facts.input_format == scene.it.facts.input_format == up.AudioFormat("ulaw", 8000)
    assert started.facts.output_format == scene.it.facts.output_format == up.AudioFormat("alaw", 8000)
    assert started.settings == session
    changed = only(scene.settings(audio={}), up.SessionChanged)
    assert changed.facts.input_format == up.PCM16_24K


def test_a_session_of_the_beta_shape(scene: Scene) -> None:
    event = codec.decode_server(
        '{"type":"transcription_session.updated","session":{"input_audio_format":"g711_ulaw","turn_detection":null}}'
    )
    changed = only(scene.it.receive(event), up.SessionChanged)
    assert changed.facts.input_format == up.AudioFormat("ulaw", 8000)
    assert changed.facts.output_format == up.PCM16_24K


@pytest.mark.parametrize("expires", [None, "soon", [], 1e300, True])
def test_a_session_with_strange_facts(scene: Scene, expires: Any) -> None:
    session = {"id": 7, "model": None, "expires_at": expires, "audio": "loud"}
    started = only(scene.get("session.created", session=session), up.SessionStarted)
    assert started.session_id == "7"
    assert started.facts.model == ""


def test_unknown_and_malformed_messages_are_passed_on(scene: Scene) -> None:
    assert scene.it.receive(ev.UnknownEvent(type="x.y", data={"a": 1})) == [up.Unknown(event_type="x.y", data={"a": 1})]
    assert scene.it.receive(ev.MalformedEvent(type="x.y", error="z")) == [up.Malformed(event_type="x.y", error="z")]


def test_rate_limits(scene: Scene) -> None:
    limits = [{"name": "requests", "limit": 10, "remaining": 9, "reset_seconds": 1.5}]
    assert scene.get("rate_limits.updated", rate_limits=limits) == [up.RateLimits(limits={"requests": (10, 9, 1.5)})]


def test_every_server_event_has_a_handler(scene: Scene) -> None:
    assert {*ev.SERVER_EVENTS, ev.UnknownEvent, ev.MalformedEvent} == set(listening._HANDLERS)


def test_random_ids() -> None:
    ids = {random_id("item") for _ in range(100)}
    assert len(ids) == 100
    assert all(each.startswith("item_") and len(each) == 25 for each in ids)
