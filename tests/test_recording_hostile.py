"""Whatever a server sends, byte by byte: the recorder goes on, and all that it leaves can be read.

Well-formed messages of a session are changed at random, with a fixed seed. REALTIME_SOAK sets how many (`scripts/soak`
runs 150,000); here a few thousand.
"""

import json
import os
import random
import shutil
import wave
from pathlib import Path

import pytest
from recording_helpers import Stage, sound

from realtime_client.protocol import codec
from realtime_client.protocol import events as ev
from realtime_client.protocol.items import ContentPart, Item
from realtime_client.recording import recover
from realtime_client.report import write_report

COUNT = int(os.environ.get("REALTIME_SOAK") or 3_000)
SESSION = 300  # messages
PARTS = max(1, COUNT // (5 * SESSION))  # a test is not to run for long

PART = {"response_id": "r1", "item_id": "a1", "output_index": 0, "content_index": 0}
VALUES = [
    b"1" + b"0" * 400, b"-1" + b"0" * 400, b"1e999", b"-0.0", b"null", b"true", b"[]", b"{}", b'""', b"0", b"-1", b"1e18",
    b"[" * 500 + b"]" * 500, b'{"a":' * 500 + b'"\\u00e9"' + b"}" * 500, b"[" * 3000 + b"]" * 3000, b"9" * 5000,
    b'"\\ud83d"', b'"\\ude00\\ud83d"', b'"\\u0000"', b'"\xff\xfe"', b'"\xed\xa0\x80"', b'"a\nb"', b'"\\q"', b"NaN",
    b'"' + b"x" * 3000 + b'"', b'"\xe2\x80\xa8 --> <b>{\\\\an8}&amp;"', b'{"type":"a","audio":"AAAA"}', b'["a","a"]',
]  # fmt: skip
PIECES = [
    b"\n", b"\r\n", b"\xff", b"\xc3", b"\xf0\x9f\x98", b"\\", b'"', b"\\u", b"\\ud800", b"{", b"}", b"[", b",", b":",
    b"\x00", b"\xef\xbb\xbf", b" ", b"\\/", b"null", b'"x":"\xff",', b'"headers":{"k":"abcdefgh12"},',
]  # fmt: skip


def messages():
    """One of each kind that a recorder does something with."""
    item = Item(
        type="message",
        id="a1",
        role="assistant",
        status="completed",
        content=[ContentPart(type="output_audio", transcript="Hi.", audio=sound(0.01))],
    )
    said = Item(
        type="message",
        id="u1",
        role="user",
        status="completed",
        content=[ContentPart(type="input_audio", transcript="Yes.")],
    )
    call = Item(type="function_call", id="f1", call_id="c1", name="clock", arguments="{}", status="completed")
    usage = {"total_tokens": 3, "input_tokens": 1, "output_tokens": 2, "input_token_details": {"audio_tokens": 1}}
    whole = ev.Response(id="r1", status="completed", output=[item, call], usage=usage)
    session = {"id": "s", "model": "m", "audio": {"input": {"format": {"type": "audio/pcm", "rate": 24000}}}}
    return [
        ev.SessionCreated(session=session),
        ev.SessionUpdated(session=session),
        ev.Error(error=ev.ErrorDetail(code="invalid_value", message="no")),
        ev.ConversationItemAdded(item=said, previous_item_id="a1"),
        ev.ConversationItemDone(item=said, previous_item_id="a1"),
        ev.ConversationItemRetrieved(item=item),
        ev.ConversationItemDeleted(item_id="u1"),
        ev.InputTranscriptionDelta(item_id="u1", delta="Ye"),
        ev.InputTranscriptionCompleted(item_id="u1", content_index=0, transcript="Yes.", usage={"seconds": 1.5, "type": "duration"}),
        ev.InputTranscriptionFailed(item_id="u1", content_index=0, error=ev.ErrorDetail(message="no")),
        ev.InputAudioBufferSpeechStarted(item_id="u1", audio_start_ms=100),
        ev.InputAudioBufferSpeechStopped(item_id="u1", audio_end_ms=600),
        ev.InputAudioBufferCommitted(item_id="u1", previous_item_id="a1"),
        ev.InputAudioBufferTimeoutTriggered(item_id="u2", audio_start_ms=0, audio_end_ms=500),
        ev.ResponseCreated(response=ev.Response(id="r1", status="in_progress", output=[])),
        ev.ResponseOutputItemAdded(response_id="r1", output_index=0, item=item),
        ev.ResponseOutputItemDone(response_id="r1", output_index=0, item=call),
        ev.ResponseOutputAudioDelta(**PART, delta=sound(0.02)),
        ev.ResponseOutputAudioDelta(**PART, delta=sound(0.02)),
        ev.ResponseOutputAudioDelta(**PART, delta=sound(0.02)),
        ev.ResponseOutputAudioDone(**PART),
        ev.ResponseOutputAudioTranscriptDelta(**PART, delta="Hi "),
        ev.ResponseOutputAudioTranscriptDone(**PART, transcript="Hi."),
        ev.ResponseOutputTextDelta(**PART, delta="Hi "),
        ev.ResponseOutputTextDone(**PART, text="Hi."),
        ev.ResponseDone(response=whole),
        ev.RateLimitsUpdated(rate_limits=[ev.RateLimit(name="tokens", limit=10, remaining=9, reset_seconds=1.5)]),
    ]  # fmt: skip


class Mutations:
    """Frames that are nearly messages."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.frames = [codec.encode(message) for message in messages()]

    def next(self):
        chance = self.chance
        frame = chance.choice(self.frames)
        for name in (b"a1", b"u1", b"r1"):  # of several items and answers
            if chance.random() < 0.5:
                frame = frame.replace(name, name[:1] + b"%d" % chance.randint(1, 40))
        for _ in range(chance.choice([0, 1, 1, 1, 2, 4])):
            frame = chance.choice([self.value, self.value, self.field, self.insert, self.flip, self.cut, self.copy])(
                frame
            )
        return frame

    def value(self, frame):
        """Another value for a field."""
        spots = [i for i in range(len(frame)) if frame[i : i + 2] == b'":']
        if not spots:
            return frame
        begin = self.chance.choice(spots) + 2
        end = begin + 1
        if frame[begin : begin + 1] == b'"':
            end = frame.find(b'"', begin + 1) + 1 or len(frame)
        else:
            while end < len(frame) and frame[end] not in b",}]":
                end += 1
        return frame[:begin] + self.chance.choice(VALUES) + frame[end:]

    def field(self, frame):
        """One more field, that nobody reads."""
        return frame[:-1] + b',"new":' + self.chance.choice(VALUES) + b"}"

    def insert(self, frame):
        at = self.chance.randint(0, len(frame))
        return frame[:at] + self.chance.choice(PIECES) + frame[at:]

    def flip(self, frame):
        at = self.chance.randint(0, len(frame) - 1) if frame else 0
        return frame[:at] + bytes([self.chance.randint(0, 255)]) + frame[at + 1 :]

    def cut(self, frame):
        at = self.chance.randint(0, len(frame))
        return frame[:at] if self.chance.random() < 0.5 else frame[:at] + frame[at + self.chance.randint(0, 9) :]

    def copy(self, frame):
        begin = self.chance.randint(0, len(frame))
        end = min(len(frame), begin + self.chance.randint(0, 60))
        return frame[:end] + frame[begin:end] + frame[end:]


def check_lines(folder):
    """Every line of the journal and of the transcript is one object, for the strictest and for the standard reader."""
    data = (folder / "journal.jsonl").read_bytes()
    assert data.endswith(b"\n")
    rows = [json.loads(line) for line in data.split(b"\n")[:-1]]
    assert [row["n"] for row in rows] == list(range(1, len(rows) + 1))
    assert all(isinstance(row, dict) and {"t", "wall", "dir", "event"} <= row.keys() for row in rows)
    lines = [json.loads(line) for line in (folder / "transcript.jsonl").read_text().split("\n")[:-1]]
    assert len({line["n"] for line in lines}) == len(lines)
    for line in lines:
        assert line["end_s"] >= line["start_s"] >= 0
        assert line["audio"] is None or (folder / line["audio"]).exists()
        assert line["status"] != "in_progress"
    for path in folder.rglob("*.wav"):
        with wave.open(str(path)) as file:
            file.readframes(file.getnframes())
    json.loads((folder / "session.json").read_bytes())
    return rows, lines


@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_that_a_server_sends_stops_the_recorder(tmp_path, part):
    """The session ends as always, nothing was left out, and recovery and report read what is there."""
    mutations = Mutations(part)
    for number in range(COUNT // PARTS // SESSION):
        stage = Stage(tmp_path, vad=number % 2 == 0)
        for sent in range(SESSION):
            stage.mic(sound(0.02), live=True)
            stage.raw(mutations.next())
            if sent == SESSION * 2 // 3:
                stage.recorder._journal.flush(stage.clock.now)
                killed = tmp_path / "killed"
                shutil.copytree(stage.folder, killed)
        stage.close()  # asserts that nothing was left out
        rows, _ = check_lines(stage.folder)
        assert sum(row["dir"] == "in" for row in rows) == SESSION + 1
        assert stage.session_json()["state"] == "ended"
        recover(killed, force=True)
        check_lines(killed)
        assert recover(killed).complete
        for folder in (stage.folder, killed):
            written = write_report(folder)
            assert not [problem for problem in written.problems if "cannot be read" in problem]
            shutil.rmtree(folder)


# --- one by one -------------------------------------------------------------------------------------------------------

DELTA = b'{"type":"response.output_audio.delta","response_id":"r1","item_id":"a1","output_index":0,"content_index":0,'
DONE = b'{"type":"response.output_text.done","response_id":"r1","item_id":"a1","output_index":0,"content_index":0,"text":"Hi."'
STARTED = b'{"type":"input_audio_buffer.speech_started","item_id":"u1","audio_start_ms":'
STOPPED = b'{"type":"input_audio_buffer.speech_stopped","item_id":"u1","audio_end_ms":'


@pytest.mark.parametrize(
    ("frame", "kept"),
    [
        (DONE + b',"new":"a\xffb"}', b'"new":"a\\\\xffb"},"updates"'),
        (DONE + b',"new":"\\ud83d"}', b'"new":"\\ufffd"},"updates"'),
        (DONE + b',"new":"\\\\ud83d"}', b'"new":"\\\\ud83d"},"updates"'),
        (DONE + b',"new":' + b"[" * 500 + b'"\\u00e9"' + b"]" * 500 + b"}", b"nested more than 128 deep"),
        (DONE + b',"new":' + b"[" * 5000 + b"]" * 5000 + b"}", b"[" * 3000),
        (DONE + b',"new":' + b"[" * 100 + b"1" + b"]" * 100 + b"}", b"[[1]]"),
        (DONE + b',"new":1e999}', b'\\"new\\":1e999}"'),
        (DONE + b',"new":' + b"9" * 5000 + b"}", b"9" * 5000),
        (DONE + b',\r\n"new":1}', b',  "new":1}'),
        (STARTED + b"1" + b"0" * 400 + b"}", b"0" * 400),
        (STARTED + b"-1" + b"0" * 400 + b"}", b"0" * 400),
        (STOPPED + b"1" + b"0" * 400 + b"}", b"0" * 400),
        (DELTA + b'"delta":"AAECAw==",\n"new":1}', b'"delta":"", "new":1}'),
        (DELTA + b'"delta":"AAECAw==","new":"\xff"}', b'"delta":"","new":"\\\\xff"}'),
        (DELTA + b'"new":"\xff",\n"delta":"AAECAw=="}', b'"new":"\\\\xff", "delta":""}'),
        (DELTA + b'"delta":"AAECAw==","new":' + b"[" * 500 + b"]" * 500 + b"}", b"nested more than 128 deep"),
        (DELTA + b'"new":{"delta":"AAAAAAAAAAAA"},"delta":"AAECAw=="}', b'{"delta":"AAAAAAAAAAAA"}'),
        (b'{"type":"response.output_text.done"\xff', b'\\"response.output_text.done\\"\\\\xff"'),
    ],
)
def test_a_message_that_few_can_read_is_a_line_that_all_can(tmp_path, frame, kept):
    stage = Stage(tmp_path)
    stage.mic(sound(0.5))
    stage.raw(frame)
    stage.mic(sound(0.5))
    stage.answer("a2", "Still here.", sound(0.5))
    stage.close()
    check_lines(stage.folder)
    assert kept in (stage.folder / "journal.jsonl").read_bytes()
    assert stage.lines()[-1]["text"] == "Still here."
    report = write_report(stage.folder)
    assert not report.problems
    if frame.startswith((STARTED, STOPPED)):  # what the user says later is not lost by it
        assert stage.session_json()["totals"]["user_audio_s"] == 1.0


@pytest.mark.parametrize(
    ("noise", "changed"),
    [
        (b'"\xff"', "bytes that are not UTF-8"),
        (b'"\\ud83d"', "halves of surrogate pairs"),
        (b'["\xff","\\ud83d"]', "bytes that are not UTF-8 and halves of surrogate pairs"),
        (b'"\\\\ud83d"', None),
    ],
)
def test_a_line_says_what_was_written_otherwise(tmp_path, noise, changed):
    stage = Stage(tmp_path)
    stage.raw(DONE + b',"new":' + noise + b"}")
    stage.close()
    (row,) = [row for row in check_lines(stage.folder)[0] if "new" in row["event"]]
    assert row.get("changed") == changed
    assert [update["kind"] for update in row["updates"]] == ["response_started", "text_delta", "text_done"]


def test_an_odd_time_costs_only_its_own_turn(tmp_path):
    stage = Stage(tmp_path)
    stage.mic(sound(1.0))
    stage.hear(ev.InputAudioBufferSpeechStarted(item_id="u1", audio_start_ms=200))
    stage.hear(ev.InputAudioBufferSpeechStopped(item_id="u1", audio_end_ms=10**400))
    stage.committed("u1", text="odd")
    stage.mic(sound(2.0, 3000))
    stage.hear(ev.InputAudioBufferSpeechStarted(item_id="u2", audio_start_ms=1500))
    stage.hear(ev.InputAudioBufferSpeechStopped(item_id="u2", audio_end_ms=2500))
    stage.committed("u2", "u1", "fine")
    stage.close()
    with wave.open(str(stage.folder / stage.lines()[1]["audio"])) as file:
        assert file.readframes(file.getnframes()) == sound(2.0, 3000)[500 * 48 : 1500 * 48]


def test_a_fault_of_our_own_is_told_once_and_ends_nothing(tmp_path, monkeypatch, caplog):
    from realtime_client.recording.transcripts import Transcript

    def trip(*_args):
        raise KeyError("never thought of")

    stage = Stage(tmp_path)
    monkeypatch.setattr(Transcript, "_text_done", trip)
    stage.recorder._transcript = Transcript(stage.recorder._transcript._files, stage.recorder._note_turn)
    for i in range(3):
        stage.answer(f"a{i}", f"answer {i}", sound(0.2))
    stage.recorder.close(ended="closed", stats={})
    assert [record.getMessage() for record in caplog.records] == [
        "a message could not be recorded in full; the session goes on"
    ]
    session = stage.session_json()
    assert (session["state"], session["degraded"]) == ("ended", 3)
    assert "never thought of" in session["notes"][0]
    assert [line["text"] for line in stage.lines()] == ["answer 0", "answer 1", "answer 2"]
    assert sum(b"transcript.done" in row for row in (stage.folder / "journal.jsonl").read_bytes().split(b"\n")) == 3


def test_a_journal_that_fails_writes_the_message_as_text(tmp_path, monkeypatch):
    from realtime_client.recording.journal import Journal

    def trip(*_args, **_more):
        raise RuntimeError("never thought of")

    stage = Stage(tmp_path)
    monkeypatch.setattr(Journal, "frame", trip)
    stage.raw(DONE + b"}")
    stage.raw(DELTA + b'"delta":"AAECAw=="}')
    stage.recorder.close(ended="closed", stats={})
    rows, _ = check_lines(stage.folder)
    assert [row["type"] for row in rows if isinstance(row["event"], str)] == [
        "response.output_text.done",
        "response.output_audio.delta",
    ]


def test_what_a_server_counts_and_names_is_bounded(tmp_path):
    stage = Stage(tmp_path)
    for i in range(300):
        usage = {f"kind_{i}_{'x' * 500}": 1, "seconds": 1, "big": 10**400}
        stage.hear(ev.InputTranscriptionCompleted(item_id="u1", content_index=i, transcript=f"{i} ", usage=usage))
        stage.hear(
            ev.ResponseDone(response=ev.Response(id=f"r{i}", status=f"status_{i}", usage={"total_tokens": 10**400}))
        )
        stage.hear(ev.RateLimitsUpdated(rate_limits=[ev.RateLimit(name=f"n{k}") for k in range(100)]))
    stage.close()
    session = stage.session_json()
    assert len(session["transcription_usage"]) == 64
    assert session["transcription_usage"]["seconds"] == 300
    assert len(session["responses"]) == 64
    assert len(session["rate_limits"]) == 64
    assert session["usage"]["total_tokens"] == 0
    assert all(len(name) <= 100 for name in session["transcription_usage"])
    assert stage.lines()[0]["text"].split() == [str(i) for i in range(300)]  # parts beyond 256 are one


def test_a_text_without_end_is_clipped_and_says_so(tmp_path):
    stage = Stage(tmp_path)
    for _ in range(30):
        stage.hear(ev.ResponseOutputTextDelta(**PART, delta="x" * 10_000))
    stage.close()
    (line,) = stage.lines()
    assert (len(line["text"]), line["clipped"]) == (200_000, True)


def open_files():
    """0 where it cannot be told."""
    files = Path("/proc/self/fd")
    return len(list(files.iterdir())) if files.is_dir() else 0


def test_items_and_sounds_without_end_open_few_files(tmp_path):
    """Two thousand answers at once, none of them ended; then as many that end and wait to be heard."""
    before = open_files()
    stage = Stage(tmp_path)
    for i in range(1000):
        stage.hear(ev.ResponseOutputAudioDelta(**{**PART, "item_id": f"a{i}"}, delta=sound(0.02, 3000)))
    for i in range(1000):
        stage.hear(ev.ResponseOutputAudioDelta(**{**PART, "item_id": f"b{i}"}, delta=sound(0.02, 3000)))
        stage.hear(ev.ResponseOutputAudioDone(**{**PART, "item_id": f"b{i}"}))
        assert i % 100 or open_files() - before < 100
    for i in range(40):
        stage.hear(ev.InputAudioBufferSpeechStarted(item_id=f"u{i}", audio_start_ms=i * 10))
        stage.hear(ev.InputAudioBufferSpeechStopped(item_id=f"u{i}", audio_end_ms=10**6))
    assert open_files() - before < 100
    stage.close()
    assert sum(stage.stereo()[1] != 0) == 2000 * 480
    assert len(stage.lines()) == 2040


def test_thousands_of_items_behind_unknown_ones_take_seconds(tmp_path):
    stage = Stage(tmp_path)
    for i in range(8_000):
        item = Item(type="message", id=f"i{i}", role="assistant", content=[])
        stage.hear(ev.ConversationItemAdded(item=item, previous_item_id=f"nowhere{i}"))
    stage.recorder._journal.flush(stage.clock.now)
    shutil.copytree(stage.folder, tmp_path / "killed")
    stage.close()
    assert len(stage.lines()) == 8_000
    assert recover(tmp_path / "killed", force=True).turns == 8_000
