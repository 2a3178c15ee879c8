"""The journal: its schema, its reader, what was recorded before, and the sound that messages carry."""

import json
import shutil
from pathlib import Path

import msgspec
import pytest
from recording_helpers import Stage, read_samples, sound
from report_helpers import make_session

import realtime_client
from realtime_client import updates as up
from realtime_client.errors import RecordingError
from realtime_client.protocol import codec
from realtime_client.protocol import events as ev
from realtime_client.protocol.items import ContentPart, Item
from realtime_client.protocol.media import meaning_of, media_of
from realtime_client.recording import recover
from realtime_client.recording.journal_line import AudioPlace, JournalLine, schema
from realtime_client.recording.journal_reader import event_of, read_journal, read_line, type_of
from realtime_client.report import write_report
from realtime_client.report.session_data import read_session

DOCS = Path(__file__).parent.parent / "docs"


def journal(folder):
    return list(read_journal(folder / "journal.jsonl"))


# --- the schema -------------------------------------------------------------------------------------------------------


def test_the_schema_in_the_docs_is_the_journals():
    kept = json.loads((DOCS / "journal.schema.json").read_text())
    assert kept == json.loads(json.dumps(schema())), "write it anew, as docs/journal.md says"


def test_the_docs_name_every_field_and_every_note(tmp_path):
    text = (DOCS / "journal.md").read_text()
    for struct in (JournalLine, AudioPlace):
        assert all(f"`{field}`" in text for field in struct.__struct_fields__)
    lines = journal(make_session(tmp_path))
    notes = {type_of(line) for line in lines if line.dir == "note"} - {""}
    assert {"journal", "turn", "placed"} <= notes
    assert all(f"`{note}`" in text for note in notes | {"cut", "flac"})


def test_a_kind_is_its_tag():
    kinds = [up.Update]
    for each in kinds:
        kinds += each.__subclasses__()
    assert all(each.__struct_config__.tag == each.kind for each in kinds)


def test_a_session_reads_back_in_the_words_of_updates(tmp_path):
    stage = Stage(tmp_path, vad=False)
    stage.mic(sound(0.2))
    stage.say(ev.InputAudioBufferCommit())
    stage.committed("u1", text="so")
    stage.say(ev.ResponseCreate(event_id="e1"))
    stage.answer("a1", "Hi.", sound(0.1))
    stage.notice(up.ConnectionLost(code=1006, reason="the cable"))
    stage.say(ev.InputAudioBufferClear())
    stage.close()
    lines = journal(stage.folder)
    assert [line.n for line in lines] == list(range(1, len(lines) + 1))
    assert event_of(lines[0]) == {"type": "journal", "version": 2}
    told = [update for line in lines for update in line.updates if not isinstance(update, up.InputSent)]
    assert told[0] == up.SessionStarted(session_id="sess_1", facts=stage.talk.facts)  # the settings stand in `event`
    assert up.RequestSent(request_id="e1") in told
    assert up.AudioDelta(response_id="resp_a1", item_id="a1", content_index=0, audio=b"") in told
    assert up.UserTranscript(item_id="u1", content_index=0, text="so", usage={"seconds": 1}) in told
    assert [type(each) for each in told if isinstance(each, up.SentMessage)] == [
        up.CommitSent,
        up.RequestSent,
        up.InputCleared,
    ]
    assert told[-2] == up.ConnectionLost(code=1006, reason="the cable")


# --- the reader -------------------------------------------------------------------------------------------------------

HEAD = b'{"n":1,"t":0.5,"wall":0,"dir":"in","event":{"type":"x"}'


@pytest.mark.parametrize(
    ("rest", "updates"),
    [
        (b',"updates":[{"kind":"item_deleted","item_id":"a"}]}', [up.ItemDeleted(item_id="a")]),
        (b',"updates":[{"kind":"of tomorrow"},{"kind":"item_deleted","item_id":"a"}]}', [up.ItemDeleted(item_id="a")]),
        (b',"updates":[{"kind":"item_deleted"},7,[]]}', []),
        (b',"updates":[],"more":{}}', []),
        (b"}", []),
        (b',"updates":{}}', None),
        (b',"updates":[]', None),
        (b',"updates":[],"n":"one"}', None),
        (b',"type":"\xff"}', None),
    ],
)
def test_a_line_that_is_not_as_expected_costs_only_itself(rest, updates):
    line = read_line(HEAD + rest + b"\n")
    assert (None if line is None else line.updates) == updates


def test_a_newer_journal_is_refused(tmp_path):
    stage = Stage(tmp_path)
    stage.close()
    path = stage.folder / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"version":2', b'"version":3', 1))
    with pytest.raises(RecordingError, match=r"newer version \(format 3, this one knows 2\)"):
        journal(stage.folder)
    with pytest.raises(RecordingError, match="newer version"):
        write_report(stage.folder)
    assert list(read_journal(tmp_path / "none.jsonl")) == []


# --- what was recorded before -----------------------------------------------------------------------------------------

NOTED_BEFORE = {"interrupted", "connection_lost", "session_ended"}


def as_version_1(folder):
    """Make it what version 1 would have written: no words of updates, few notes, and the version in one place."""
    rows = []
    for row in map(json.loads, (folder / "journal.jsonl").read_bytes().splitlines()):
        updates = row.pop("updates", [])
        if row["event"] == {}:
            if updates[0]["kind"] not in NOTED_BEFORE:
                continue
            row["event"] = {"type": updates[0].pop("kind"), **updates[0]}
        if row["event"].get("type") != "journal":
            rows.append(row | {"n": len(rows) + 1})
    (folder / "journal.jsonl").write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    info = json.loads((folder / "session.json").read_text())
    (folder / "session.json").write_text(json.dumps(info | {"version": 1}))


def killed(stage, folder):
    """The folder as a kill would leave it now."""
    stage.recorder._journal.flush(stage.clock.now)
    return Path(shutil.copytree(stage.folder, folder))


@pytest.fixture
def cut_off(tmp_path):
    """One session, cut off while both speak, in both versions."""
    stage = Stage(tmp_path / "whole")
    stage.mic(sound(1.0))
    stage.hear(ev.InputAudioBufferSpeechStarted(item_id="u1", audio_start_ms=200))
    stage.hear(ev.InputAudioBufferSpeechStopped(item_id="u1", audio_end_ms=900))
    stage.committed("u1", text="what was asked")
    stage.answer("a1", "One answer.", sound(1.0, 3000), "u1")
    stage.mic(sound(0.5, 2000))
    stage.hear(ev.InputAudioBufferSpeechStarted(item_id="u2", audio_start_ms=1200))
    stage.hear(ev.InputTranscriptionDelta(item_id="u2", content_index=0, delta="and "))
    stage.hear(ev.InputTranscriptionDelta(item_id="u2", content_index=0, delta="now"))
    stage.answer_begins("a2", "r2", "u2")
    stage.answer_text("a2", "r2", "a long ")
    stage.answer_audio("a2", "r2", sound(2.0, 5000))
    stage.answer_text("a2", "r2", "answer")
    now, before = killed(stage, tmp_path / "now"), killed(stage, tmp_path / "before")
    stage.close()
    as_version_1(before)
    return now, before


def test_recovery_finishes_both_versions_alike(cut_off):
    now, before = cut_off
    reports = [recover(folder, force=True) for folder in (now, before)]
    assert reports[0].turns == reports[1].turns == 4
    assert reports[0].added_s == reports[1].added_s
    for name in ("transcript.jsonl", "transcript.md", "conversation.wav"):
        assert (now / name).read_bytes() == (before / name).read_bytes()
    lines = [json.loads(line) for line in (before / "transcript.jsonl").read_text().splitlines()]
    assert [line["text"] for line in lines] == ["what was asked", "One answer.", "and now", "a long answer"]
    assert [json.loads((folder / "session.json").read_text())["version"] for folder in (now, before)] == [2, 1]
    assert len(read_samples(before / lines[3]["audio"])) == 48_000
    assert recover(before).complete


def test_a_report_of_version_1_has_the_same_latencies_and_turns(tmp_path):
    folder = make_session(tmp_path)
    now = read_session(folder)
    as_version_1(folder)
    before = read_session(folder)
    assert now.events.latencies.points == before.events.latencies.points
    assert "first_audio" in now.events.latencies.points
    assert now.turns == before.turns
    assert not before.events.unreadable
    counted = [{row.kind: row.count for row in each.events.rows() if row.direction != "note"} for each in (now, before)]
    assert counted[0] == counted[1]


def test_beta_names_are_of_version_1_too():
    part = {"response_id": "r", "item_id": "i", "content_index": 0}
    event = {"type": "response.audio_transcript.done", "transcript": "Hi."} | part
    line = read_line(msgspec.json.encode({"n": 1, "t": 0, "wall": 0, "dir": "in", "event": event}))
    assert line.updates == [up.TextDone(**part, text="Hi.", spoken=True)]


@pytest.mark.parametrize("asked", [{"local": True}, {}])
def test_the_built_in_server_is_recorded_as_such(tmp_path, asked):
    with realtime_client.connect(**asked, record_dir=tmp_path):
        pass
    (folder,) = tmp_path.iterdir()
    assert json.loads((folder / "session.json").read_text())["settings"]["local"] is True
    assert "the built-in server costs nothing" in write_report(folder).path.read_text()


# --- sound in messages ------------------------------------------------------------------------------------------------

DELTA = '{"type":"response.output_audio.delta","response_id":"r","item_id":"i","output_index":0,"content_index":0,'
APPEND = '{"type":"input_audio_buffer.append",'


@pytest.mark.parametrize(
    "frame",
    [
        DELTA + '"delta":"AAECAw=="}',
        DELTA + '"delta" : "AAECAw==" }',
        DELTA + '"new":{"delta":"AAECAx=="},"delta":"AAECAw=="}',
        DELTA + '"delta":"AAECAw==","new":{"delta":"AAECAx=="}}',
        DELTA + '"new":[[{"a":"}"},["delta"]]],"delta":"AAECAw=="}',
        DELTA + '"d\\u0065lta":"AAECAw=="}',
        DELTA + '"a\\"":"\\\\","delta":"AAECAw=="}',
        DELTA + '"delta":"AA\\u0045CAw=="}',
        APPEND + '"audio":"AAECAw=="}',
    ],
)
def test_live_sound_is_found_where_it_stands(frame):
    decode = codec.decode_client if frame.startswith(APPEND) else codec.decode_server
    (media,) = media_of(decode(frame.encode()), frame.encode())
    assert (media.audio, media.live) == (b"\0\1\2\3", True)
    assert (media.who, media.item_id) == (("user", "") if frame.startswith(APPEND) else ("assistant", "i"))
    assert json.loads(f'"{frame[media.start : media.end]}"') == "AAECAw=="
    emptied = json.loads(frame[: media.start] + frame[media.end :])
    assert emptied == json.loads(frame) | {"audio" if frame.startswith(APPEND) else "delta": ""}


def test_sound_of_items_is_found_wherever_it_stands():
    parts = [
        ContentPart(type="input_audio", audio=b"\0\1"),
        ContentPart(type="input_text", text='"audio":"AAAA"'),
        ContentPart(type="input_audio", audio=b"\2\3"),
    ]
    item = Item(type="message", id="u1", role="user", content=parts)
    create = ev.ConversationItemCreate(item=item)
    frame = codec.encode(create)
    found = media_of(create, frame)
    assert [(media.audio, media.who, media.item_id, media.live) for media in found] == [
        (b"\0\1", "user", "u1", False),
        (b"\2\3", "user", "u1", False),
    ]
    assert [frame[media.start : media.end] for media in found] == [b"AAE=", b"AgM="]
    odd = b'{"type":"of.tomorrow","parts":[{"audio":"AA\\/=","type":"audio"},{"type":"audio","audio":"no base64!"}]}'
    (media,) = media_of(codec.decode_server(odd), odd)
    assert (media.audio, media.who, odd[media.start : media.end]) == (b"\0\x0f", "assistant", b"AA\\/=")


def test_what_carries_no_sound_or_is_no_message_has_none():
    for frame in (
        b'{"type":"session.created","session":{"audio":{}}}',
        b'{"audio":"AAAA"',
        DELTA.encode() + b'"delta":7}',
    ):
        assert list(media_of(codec.decode_server(frame), frame)) == []
    assert meaning_of(ev.SessionUpdate(session={})) == ()
