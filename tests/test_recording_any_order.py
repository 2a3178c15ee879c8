"""Whatever comes, in whatever order: the recorder goes on, and what it leaves can be opened."""

import json
import shutil
import wave

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recording_helpers import LostStage, sound

from realtime_client import updates as up
from realtime_client.protocol import codec
from realtime_client.protocol import events as ev
from realtime_client.protocol.items import ContentPart, Item, user_audio
from realtime_client.recording import recover

IDS = st.sampled_from(["a", "b", "c", "../d", ""])
MS = st.sampled_from([-5, 0, 100, 700, 3000, 10**9])
HEARD_MS = st.sampled_from([-3.0, 0.0, 0.04, 100.0, 333.3, 1e9])
AT_S = st.sampled_from([-1e6, 1000.0, 1000.05, 1000.3, 1002.0, 1e9])  # the sessions begin at 1000
SIZES = st.sampled_from([0, 1, 2, 333, 4800, 24_001])
TEXTS = st.sampled_from(["", "one two three", "\x1b[2J --> <b>"])
FORMATS = st.sampled_from(
    [{"type": "audio/pcm", "rate": 24_000}, {"type": "audio/pcmu"}, {"type": "audio/pcma"}, {}, None]
)


def audio(size):
    return sound(1, 700)[:size]


def items():
    parts = st.builds(
        ContentPart,
        type=st.sampled_from(["input_audio", "output_audio", "input_text"]),
        text=TEXTS,
        audio=SIZES.map(audio),
    )
    kinds = st.sampled_from(["message", "function_call", "function_call_output", "mcp_list_tools", "new_kind"])
    roles = st.sampled_from(["user", "assistant", "system", None, "judge"])
    return st.builds(
        Item, type=kinds, id=IDS, role=roles, content=st.lists(parts, max_size=2), status=st.just("completed")
    )


def part(kind, **fields):
    return st.builds(
        kind, response_id=IDS, item_id=IDS, output_index=st.just(0), content_index=st.integers(0, 1), **fields
    )


def sessions():
    return st.builds(
        lambda fmt, vad, heard: {
            "audio": {
                "input": {"format": fmt, "turn_detection": {"type": "server_vad"} if vad else None, "transcription": {"model": "m"} if heard else None},
                "output": {"format": fmt},
            }
        },
        FORMATS, st.booleans(), st.booleans(),
    )  # fmt: skip


RESPONSES = st.builds(
    ev.Response,
    id=IDS,
    status=st.sampled_from(["completed", "cancelled", "failed", "odd"]),
    output=st.lists(items(), max_size=2),
)
SERVER = st.one_of(
    st.builds(ev.SessionCreated, session=sessions()),
    st.builds(ev.SessionUpdated, session=sessions()),
    st.builds(ev.ConversationItemAdded, item=items(), previous_item_id=IDS),
    st.builds(ev.ConversationItemDone, item=items(), previous_item_id=IDS),
    st.builds(ev.ConversationItemRetrieved, item=items()),
    st.builds(ev.ConversationItemDeleted, item_id=IDS),
    st.builds(ev.InputTranscriptionDelta, item_id=IDS, delta=TEXTS),
    st.builds(ev.InputTranscriptionCompleted, item_id=IDS, content_index=st.just(0), transcript=TEXTS),
    st.builds(ev.InputTranscriptionFailed, item_id=IDS, content_index=st.just(0), error=st.builds(ev.ErrorDetail)),
    st.builds(ev.InputAudioBufferSpeechStarted, item_id=IDS, audio_start_ms=MS),
    st.builds(ev.InputAudioBufferSpeechStopped, item_id=IDS, audio_end_ms=MS),
    st.builds(ev.InputAudioBufferCommitted, item_id=IDS, previous_item_id=IDS),
    st.builds(ev.InputAudioBufferTimeoutTriggered, item_id=IDS, audio_start_ms=MS, audio_end_ms=MS),
    st.builds(
        ev.Error, error=st.builds(ev.ErrorDetail, code=st.sampled_from(["input_audio_buffer_commit_empty", "x"]))
    ),
    st.builds(ev.ResponseCreated, response=RESPONSES),
    st.builds(ev.ResponseDone, response=RESPONSES),
    st.builds(ev.ResponseOutputItemDone, response_id=IDS, output_index=st.just(0), item=items()),
    part(ev.ResponseOutputAudioDelta, delta=SIZES.map(audio)),
    part(ev.ResponseOutputAudioDelta, delta=SIZES.map(audio)),
    part(ev.ResponseOutputAudioDone),
    part(ev.ResponseOutputAudioTranscriptDelta, delta=TEXTS),
    part(ev.ResponseOutputTextDone, text=TEXTS),
)
CLIENT = st.one_of(
    st.builds(ev.InputAudioBufferAppend, audio=SIZES.map(audio)),
    st.builds(ev.InputAudioBufferAppend, audio=SIZES.map(audio)),
    st.builds(ev.InputAudioBufferCommit),
    st.builds(ev.InputAudioBufferClear),
    st.builds(ev.ConversationItemCreate, item=st.builds(user_audio, SIZES.map(audio), item_id=IDS)),
)
NOTICED = st.one_of(
    st.builds(
        up.Interrupted,
        response_id=IDS,
        item_id=IDS,
        content_index=st.just(0),
        heard_ms=MS,
        received_ms=MS,
        cause=st.just("typed"),
    ),
    st.builds(
        up.ItemAdded, item_id=IDS, role=st.just("user"), item_type=st.just("message"), text=TEXTS, local=st.just(True)
    ),
    st.builds(up.ConnectionLost, code=st.just(1006), reason=TEXTS, goes_on=st.booleans()),
    st.builds(up.Restored, reason=st.sampled_from(["lost", "rollover"]), away_ms=MS),
    st.builds(up.ItemDeleted, item_id=IDS),
    st.builds(up.CommitSent),
    st.builds(up.SpeakerAttached, attached=st.booleans()),
    st.builds(up.Captured, at_ms=HEARD_MS, at_s=AT_S),
    st.builds(up.Audible, item_id=IDS, content_index=st.integers(0, 1), from_ms=HEARD_MS, to_ms=HEARD_MS, at_s=AT_S),
    st.builds(up.Audible, item_id=IDS, content_index=st.integers(0, 1), from_ms=HEARD_MS, to_ms=HEARD_MS, at_s=AT_S),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("hear"), SERVER),
        st.tuples(st.just("hear"), SERVER),
        st.tuples(st.just("say"), CLIENT),
        st.tuples(st.just("again"), CLIENT),
        st.tuples(st.just("keep"), SIZES.map(audio)),
        st.tuples(st.just("notice"), NOTICED),
        st.tuples(st.just("wait"), st.sampled_from([0.01, 0.1, 0.3, 2.0, 20.0])),
        st.tuples(st.just("garble"), st.tuples(SERVER, st.integers(0, 300))),
    ),
    max_size=40,
)


def play(stage, steps):
    for act, what in steps:
        if act == "wait":
            stage.wait(what)
        elif act == "garble":
            stage.raw(codec.encode(what[0])[: what[1]])
        else:
            getattr(stage, act)(what)


def check(folder):
    for line in (folder / "journal.jsonl").read_bytes().split(b"\n")[:-1]:
        row = json.loads(line)
        for place in row.get("audio", ()):
            if place["file"] and place["length"]:
                name = folder / place["file"]
                assert (name if name.exists() else name.with_suffix(".flac")).exists()
    for path in folder.rglob("*.wav"):
        with wave.open(str(path)) as file:
            file.readframes(file.getnframes())
    lines = [json.loads(line) for line in (folder / "transcript.jsonl").read_text().splitlines()]
    assert len({line["n"] for line in lines}) == len(lines)
    for line in lines:
        assert line["end_s"] >= line["start_s"]
        assert line["audio"] is None or (folder / line["audio"]).exists()
    return lines


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(STEPS, st.booleans(), st.booleans(), st.booleans())
def test_any_order_of_anything(tmp_path_factory, steps, vad, flac, told):
    stage = LostStage(tmp_path_factory.mktemp("r"), vad=vad, flac=flac)
    try:
        stage.notice(up.SpeakerAttached(attached=told))
        play(stage, steps)
    finally:
        stage.close()
    check(stage.folder)
    assert stage.session_json()["state"] == "ended"
    right = stage.stereo()
    assert len(right[0]) == len(right[1])


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(STEPS)
def test_recovery_after_any_order_of_anything(tmp_path_factory, steps):
    stage = LostStage(tmp_path_factory.mktemp("r"))
    try:
        play(stage, steps)
        stage.recorder._journal.flush(stage.clock.now)
        expected = stage.recorder._transcript.count
        folder = tmp_path_factory.mktemp("k") / "killed"
        shutil.copytree(stage.folder, folder)
    finally:
        stage.close()
    recover(folder, force=True)
    assert len(check(folder)) <= expected
