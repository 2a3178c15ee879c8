"""Whole sessions on a clock set by hand: what is in the folder afterwards."""

import errno
import itertools
import json
import re
import stat

import numpy as np
import pytest
import soundfile
from recording_helpers import RATE, Stage, read_samples, runs, sound

from realtime_client import updates as up
from realtime_client.errors import RecordingError
from realtime_client.protocol import events as ev
from realtime_client.protocol.items import Item, user_audio, user_text
from realtime_client.recording import Recorder, audio_path
from realtime_client.recording import wav as wav_module


def test_a_spoken_conversation(tmp_path):
    stage = Stage(tmp_path)
    said = sound(3.0)
    stage.mic(said[: 2 * RATE])
    stage.hear(ev.InputAudioBufferSpeechStarted(item_id="u1", audio_start_ms=200))
    stage.mic(said[2 * RATE :])
    stage.hear(ev.InputAudioBufferSpeechStopped(item_id="u1", audio_end_ms=2600))
    stage.committed("u1")
    answer = sound(5.0, 3000)
    stage.answer("a1", "Hello there, my friend.", answer, "u1")
    assert read_samples(stage.folder / "turns/0002-assistant.wav").tobytes() == answer  # whole as soon as it is done
    stage.mic(sound(6.0))
    stage.transcript("u1", "what was asked")
    stage.close()

    assert sorted(p.name for p in stage.folder.iterdir()) == [
        "conversation.wav", "journal.jsonl", "session.json",
        "transcript.jsonl", "transcript.md", "transcript.srt", "transcript.vtt", "turns",
    ]  # fmt: skip
    assert read_samples(stage.folder / "turns/0001-user.wav").tobytes() == said[int(0.2 * 48_000) : int(2.6 * 48_000)]
    user, assistant = stage.lines()
    assert (user["n"], user["who"], user["text"], user["start_s"], user["end_s"]) == (
        1,
        "user",
        "what was asked",
        0.2,
        2.6,
    )
    assert (assistant["n"], assistant["heard"]) == (2, "Hello there, my friend.")
    assert assistant["audio"] == "turns/0002-assistant.wav"
    left, right = stage.stereo()
    assert runs(left) == [(0, 9.0)]
    assert runs(right) == [(3.0, 8.0)]
    begin = np.flatnonzero(right)[0]
    assert right[begin : begin + 5 * RATE].tobytes() == answer
    session = stage.session_json()
    assert session["version"] == 2
    assert (session["state"], session["how_it_ended"], session["stats"]) == ("ended", "closed", {"turns": 1})
    assert session["totals"] == {"turns": 2, "user_audio_s": 9.0, "assistant_audio_s": 5.0}
    usage = session["usage"]
    assert (usage["input_audio"], usage["cached"], usage["total_tokens"]) == (15, 4, 30)


def test_rights_and_names(tmp_path):
    stage = Stage(tmp_path / "new" / "place")
    stage.answer("../../evil", "x", sound(0.1))
    stage.close()
    assert stage.folder.parent == tmp_path / "new" / "place"
    assert stage.folder.name[:20] == "2026-11-18T11-23-20Z"[:20]
    for path in [stage.folder, *stage.folder.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert [p.name for p in (stage.folder / "turns").iterdir()] == ["0001-assistant.wav"]


def test_two_sessions_in_one_second_do_not_meet(tmp_path):
    stages = [Stage(tmp_path) for _ in range(5)]
    assert len({stage.folder for stage in stages}) == 5
    for stage in stages:
        stage.close()


def test_no_place_to_record(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RecordingError, match=r"cannot record into .*--no-record"):
        Recorder.create(tmp_path / "file" / "sub", settings={})


def test_questions_from_files_stand_before_their_answers(tmp_path):
    stage = Stage(tmp_path, vad=False)
    previous = None
    for i in range(3):
        stage.mic(sound(4.0), block=9600, live=False)
        stage.say(ev.InputAudioBufferCommit())
        stage.wait(0.05)
        stage.committed(f"u{i}", previous, f"question {i}")
        stage.answer(f"a{i}", f"answer {i}", sound(10.0, 3000), f"u{i}")
        previous = f"a{i}"
    stage.close()
    left, right = stage.stereo()
    marks = sorted([(b, e, "user") for b, e in runs(left)] + [(b, e, "assistant") for b, e in runs(right)])
    assert [who for _, _, who in marks] == ["user", "assistant"] * 3
    assert all(end <= begin for (_, end, _), (begin, _, _) in itertools.pairwise(marks))
    assert [round(e - b, 1) for b, e, _ in marks] == [4.0, 10.0] * 3
    lines = stage.lines()
    assert [line["text"] for line in lines] == [f"{w} {i}" for i in range(3) for w in ("question", "answer")]
    for line, (begin, end, who) in zip(lines, marks, strict=True):
        assert (line["who"], line["start_s"], line["end_s"]) == (
            who,
            pytest.approx(begin, abs=0.02),
            pytest.approx(end, abs=0.02),
        )


def test_manual_turns_hold_all_since_the_last_commit(tmp_path):
    stage = Stage(tmp_path, vad=False)
    stage.mic(sound(1.0))
    stage.say(ev.InputAudioBufferCommit())
    stage.mic(sound(0.5, 2000))  # before the server has answered: the next turn already
    stage.committed("u1", None, "one")
    stage.mic(sound(0.5, 2500))
    stage.say(ev.InputAudioBufferCommit())
    stage.committed("u2", "u1", "two")
    stage.close()
    assert read_samples(stage.folder / "turns/0001-user.wav").tobytes() == sound(1.0)
    assert read_samples(stage.folder / "turns/0002-user.wav").tobytes() == sound(0.5, 2000) + sound(0.5, 2500)
    assert [(line["item_id"], line["text"]) for line in stage.lines()] == [("u1", "one"), ("u2", "two")]


def test_a_refused_commit_keeps_the_sound_for_the_next(tmp_path):
    stage = Stage(tmp_path, vad=False)
    stage.mic(sound(0.04))
    stage.say(ev.InputAudioBufferCommit())
    stage.hear(ev.Error(error=ev.ErrorDetail(code="input_audio_buffer_commit_empty", message="too short")))
    stage.mic(sound(0.2, 2000))
    stage.say(ev.InputAudioBufferCommit())
    stage.committed("u1", None, "short")
    stage.close()
    assert read_samples(stage.folder / "turns/0001-user.wav").tobytes() == sound(0.04) + sound(0.2, 2000)
    assert len(stage.lines()) == 1


def test_what_the_server_says_may_come_before_the_sound(tmp_path):
    """The send thread and the receive thread tell the recorder independently."""
    stage = Stage(tmp_path)
    stage.mic(sound(0.1))
    stage.hear(ev.InputAudioBufferSpeechStarted(item_id="u1", audio_start_ms=500))
    stage.hear(ev.InputAudioBufferSpeechStopped(item_id="u1", audio_end_ms=1500))
    stage.committed("u1", None, "one")
    stage.hear(ev.InputAudioBufferSpeechStarted(item_id="u2", audio_start_ms=1700))
    stage.mic(sound(2.0, 2000))
    stage.hear(ev.InputAudioBufferSpeechStopped(item_id="u2", audio_end_ms=9000))
    stage.close()
    said = sound(0.1) + sound(2.0, 2000)
    assert read_samples(stage.folder / "turns/0001-user.wav").tobytes() == said[500 * 48 : 1500 * 48]
    assert read_samples(stage.folder / "turns/0002-user.wav").tobytes() == said[1700 * 48 :]
    assert stage.lines()[0]["start_s"] == pytest.approx(0.5, abs=0.03)
    assert stage.lines()[0]["end_s"] == pytest.approx(1.5, abs=0.03)


def test_a_turn_after_a_pause_begins_behind_the_pause(tmp_path):
    stage = Stage(tmp_path)
    stage.mic(sound(1.0))
    stage.wait(5)
    stage.mic(sound(1.0))
    stage.hear(ev.InputAudioBufferSpeechStarted(item_id="u1", audio_start_ms=800))  # 200 ms of it are from before
    stage.hear(ev.InputAudioBufferSpeechStopped(item_id="u1", audio_end_ms=2000))
    stage.committed("u1", text="hello")
    stage.close()
    (turn,) = stage.lines()
    assert turn["start_s"] == pytest.approx(5.8, abs=0.05)
    assert turn["end_s"] == pytest.approx(7.0, abs=0.05)


def test_a_new_session_after_a_loss_counts_from_its_own_beginning(tmp_path):
    stage = Stage(tmp_path)
    stage.mic(sound(2.0))
    stage.hear(ev.InputAudioBufferSpeechStarted(item_id="u1", audio_start_ms=1500))
    stage.notice(up.ConnectionLost(code=1006, reason="gone"))
    stage.wait(2)
    stage.hear(ev.SessionCreated(session=stage.session))
    stage.mic(sound(2.0, 3000))
    stage.hear(ev.InputAudioBufferSpeechStarted(item_id="u2", audio_start_ms=1000))
    stage.hear(ev.InputAudioBufferSpeechStopped(item_id="u2", audio_end_ms=1800))
    stage.committed("u2", None, "again")
    stage.close()
    assert read_samples(stage.folder / "turns/0001-user.wav").tobytes() == sound(2.0)[1500 * 48 :]
    assert read_samples(stage.folder / "turns/0002-user.wav").tobytes() == sound(2.0, 3000)[1000 * 48 : 1800 * 48]
    assert [line["status"] for line in stage.lines()] == ["incomplete", "completed"]
    assert stage.lines()[1]["start_s"] == pytest.approx(5.0, abs=0.05)


def test_confirmations_that_come_before_the_commit(tmp_path):
    stage = Stage(tmp_path, vad=False)
    stage.mic(sound(0.2))
    stage.committed("u1", None, "one")
    stage.mic(sound(0.1, 2000))
    stage.say(ev.InputAudioBufferCommit())
    stage.hear(ev.Error(error=ev.ErrorDetail(code="input_audio_buffer_commit_empty", message="too short")))
    stage.mic(sound(0.05, 3000))
    stage.say(ev.InputAudioBufferCommit())  # the one that was refused
    stage.mic(sound(0.3, 4000))
    stage.say(ev.InputAudioBufferCommit())
    stage.committed("u2", "u1", "two")
    stage.close()
    assert read_samples(stage.folder / "turns/0001-user.wav").tobytes() == sound(0.2) + sound(0.1, 2000)
    assert read_samples(stage.folder / "turns/0002-user.wav").tobytes() == sound(0.05, 3000) + sound(0.3, 4000)
    assert [(line["item_id"], line["text"]) for line in stage.lines()] == [("u1", "one"), ("u2", "two")]


def test_a_long_question_sent_in_one_go_is_whole(tmp_path):
    stage = Stage(tmp_path)
    stage.mic(sound(90.0), block=48_000, live=False)
    stage.hear(ev.InputAudioBufferSpeechStarted(item_id="u1", audio_start_ms=100))
    stage.hear(ev.InputAudioBufferSpeechStopped(item_id="u1", audio_end_ms=89_000))
    stage.committed("u1", None, "long")
    stage.close()
    assert read_samples(stage.folder / "turns/0001-user.wav").tobytes() == sound(90.0)[4_800 : 89 * 48_000]


def test_what_was_not_heard_is_not_in_the_conversation(tmp_path):
    position = {"ms": 2000}
    stage = Stage(tmp_path, heard_ms=lambda _item, _part: position["ms"])
    stage.answer("a1", "one two three four five six seven eight nine ten", sound(10.0, 3000))
    stage.mic(sound(2.2))
    stage.hear(ev.InputAudioBufferSpeechStarted(item_id="u1", audio_start_ms=2000))
    stage.mic(sound(3.0))
    stage.close()
    _, right = stage.stereo()
    assert runs(right) == [(0.0, 2.0)]
    line = stage.lines()[0]
    assert (line["cut_ms"], line["interrupted"]) == (2000, True)
    assert line["text"].endswith("ten")
    assert line["heard"] == "one two"
    assert len(read_samples(stage.folder / "turns/0001-assistant.wav")) == 10 * RATE  # all that was generated
    assert "~~three" in (stage.folder / "transcript.md").read_text()
    assert "three" not in (stage.folder / "transcript.vtt").read_text()


def test_a_cut_far_behind_what_is_written_silences_it(tmp_path):
    stage = Stage(tmp_path)
    stage.answer("a1", "hello", sound(10.0, 3000))
    stage.mic(sound(9.0))
    stage.notice(
        up.Interrupted(response_id="r", item_id="a1", content_index=0, heard_ms=3000, received_ms=10_000, cause="typed")
    )
    stage.mic(sound(2.0))
    stage.close()
    left, right = stage.stereo()
    assert runs(right) == [(0.0, 3.0)] or runs(right) == [(0.05, 3.05)]
    assert runs(left)[0][1] - runs(left)[0][0] == pytest.approx(11.0, abs=0.05)


def test_late_transcripts_find_their_turn(tmp_path):
    stage = Stage(tmp_path)
    for i in range(12):
        stage.hear(ev.InputAudioBufferSpeechStarted(item_id=f"u{i}", audio_start_ms=i * 1000))
        stage.mic(sound(1.0))
        stage.hear(ev.InputAudioBufferSpeechStopped(item_id=f"u{i}", audio_end_ms=i * 1000 + 900))
        stage.committed(f"u{i}", f"a{i - 1}" if i else None, f"said {i}" if i != 2 else None)
        stage.answer(f"a{i}", f"answer {i}", sound(0.3), f"u{i}")
    assert "answer 3" in (stage.folder / "transcript.jsonl").read_text()  # the missing one does not hold all back
    stage.transcript("u2", "said late")
    stage.close()
    texts = [line["text"] for line in stage.lines()]
    assert texts == [t for i in range(12) for t in (f"said {i}" if i != 2 else "said late", f"answer {i}")]
    for kind in ("md", "srt", "vtt"):
        text = (stage.folder / f"transcript.{kind}").read_text()
        assert text.index("said 1") < text.index("said late") < text.index("said 3"), kind


def test_typed_turns_and_tools_are_turns(tmp_path):
    stage = Stage(tmp_path)
    typed = stage.type("what time is it")
    stage.hear(ev.ResponseCreated(response=ev.Response(id="r1", status="in_progress")))
    call = Item(type="function_call", id="f1", call_id="c1", name="clock", arguments="{}", status="completed")
    stage.hear(ev.ConversationItemAdded(item=call, previous_item_id=typed))
    stage.hear(ev.ResponseOutputItemDone(response_id="r1", output_index=0, item=call))
    stage.hear(ev.ConversationItemDone(item=call, previous_item_id=typed))
    stage.hear(ev.ResponseDone(response=ev.Response(id="r1", status="completed", output=[call])))
    output, happened = stage.talk.tool_result("c1", "noon")
    told = up.ToolResult(call_id="c1", name="clock", output="noon", item_id=output, response_id="r1")
    stage.notice(*(each for each in happened if each.kind != told.kind), told)
    stage.answer("a1", "It is twelve.", sound(1.0), output)
    stage.close()
    assert [(line["who"], line["text"], line.get("type")) for line in stage.lines()] == [
        ("user", "what time is it", None),
        ("tool", "clock({})", "function_call"),
        ("tool", "noon", "function_call_output"),
        ("assistant", "It is twelve.", None),
    ]
    assert "call_id" not in stage.lines()[0]
    assert [(line["tool"], line["call_id"]) for line in stage.lines() if line["who"] == "tool"] == [("clock", "c1")] * 2
    assert "noon" not in (stage.folder / "transcript.srt").read_text()
    assert "noon" in (stage.folder / "transcript.md").read_text()


def test_typed_text_that_cuts_an_answer(tmp_path):
    stage = Stage(tmp_path, heard_ms=lambda _item, _part: 500)
    stage.answer_begins("a1", "r1")
    stage.answer_text("a1", "r1", "a long answer to nothing")
    stage.answer_audio("a1", "r1", sound(2.0, 3000))
    stage.type("stop")
    stage.answer_audio("a1", "r1", sound(1.0, 3000))  # late audio of the cut answer
    stage.answer_ends("a1", "r1", "a long answer to nothing at all", status="cancelled")
    stage.answer("a2", "sure", sound(1.0, 4000))
    stage.close()
    first, typed, second = stage.lines()
    assert (first["cut_ms"], first["heard"], first["status"]) == (500, "a long", "cancelled")
    assert (typed["text"], second["text"]) == ("stop", "sure")
    late = [row for row in stage.lines("journal.jsonl") if row.get("audio") and row["audio"][0]["file"] is None]
    assert sum(row["audio"][0]["length"] for row in late) == 48_000
    right = stage.stereo()[1]
    assert np.count_nonzero((right >= 3000) & (right < 4000)) == RATE // 2


def test_order_is_the_conversations(tmp_path):
    stage = Stage(tmp_path)
    for item_id, previous, text in (("a", None, "first"), ("c", "a", "third"), ("b", "a", "second")):
        item = Item(type="message", id=item_id, role="system", content=[])
        item.content = user_text(text).content
        stage.hear(ev.ConversationItemAdded(item=item, previous_item_id=previous))
    stage.close()
    assert [line["text"] for line in stage.lines()] == ["first", "second", "third"]


def test_audio_sent_as_an_item(tmp_path):
    stage = Stage(tmp_path)
    item = user_audio(sound(1.0), item_id="u1")
    stage.say(ev.ConversationItemCreate(item=item))
    stage.answer("a1", "heard you", sound(1.0, 3000), "u1")
    stage.close()
    line = next(row for row in stage.lines("journal.jsonl") if row["event"].get("type") == "conversation.item.create")
    assert line["audio"] == [{"file": "turns/0001-user.wav", "offset": 0, "length": 48_000}]
    assert line["event"]["item"]["content"][0]["audio"] == ""
    left, right = stage.stereo()
    assert runs(left)[0][1] <= runs(right)[0][0]


@pytest.mark.parametrize("kind", ["audio/pcmu", "audio/pcma"])
def test_telephone_sound(tmp_path, kind):
    from realtime_client.audio import g711

    law = "ulaw" if kind.endswith("u") else "alaw"
    stage = Stage(tmp_path, vad=False, fmt={"type": kind})
    tone = (np.sin(np.arange(8000) * 0.3) * 9000).astype("<i2").tobytes()
    codes = g711.encode(tone, law)
    stage.mic(codes, block=160, rate=8000)
    stage.say(ev.InputAudioBufferCommit())
    stage.committed("u1", None, "hi")
    stage.answer("a1", "ho", codes * 3, "u1")
    stage.close()
    assert soundfile.info(stage.folder / "turns/0001-user.wav").samplerate == 8000
    assert read_samples(stage.folder / "turns/0002-assistant.wav").tobytes() == g711.decode(codes * 3, law)
    left, right = stage.stereo()
    assert runs(left)[0] == pytest.approx((0.02, 1.05), abs=0.06)
    assert len(np.flatnonzero(right)) == pytest.approx(3 * RATE, rel=0.02)
    line = stage.lines()[1]
    assert line["end_s"] - line["start_s"] == pytest.approx(3.0, abs=0.001)


def test_flac_on_request(tmp_path):
    stage = Stage(tmp_path, flac=True)
    answer = sound(1.0, 3000)
    stage.answer("a1", "one", answer)
    stage.mic(sound(2.0))
    assert [p.name for p in (stage.folder / "turns").iterdir()] == ["0001-assistant.flac"]
    stage.answer("a2", "two", answer, "a1")
    stage.close()
    assert sorted(p.name for p in (stage.folder / "turns").iterdir()) == ["0001-assistant.flac", "0002-assistant.flac"]
    data, rate = soundfile.read(stage.folder / "turns/0002-assistant.flac", dtype="int16")
    assert (data.astype("<i2").tobytes(), rate) == (answer, RATE)
    assert [line["audio"] for line in stage.lines()] == ["turns/0001-assistant.flac", "turns/0002-assistant.flac"]
    assert audio_path(stage.folder, "turns/0001-assistant.wav").name == "0001-assistant.flac"
    _, right = stage.stereo()
    assert len(np.flatnonzero(right)) == 2 * RATE


def test_sound_that_the_server_shows_again(tmp_path):
    stage = Stage(tmp_path)
    answer = sound(0.5, 3000)
    stage.answer("a1", "hello", answer)
    for item_id, role, audio in (
        ("a1", "assistant", answer),
        ("u7", "user", sound(0.2)),
        ("a1", "assistant", sound(0.1)),
    ):
        item = stage.item(item_id, role, "output_audio", "completed", audio=audio, transcript="hello")
        stage.hear(ev.ConversationItemRetrieved(item=item))
    stage.raw(
        b'{"type":"conversation.item.retrieved","item":{"type":"message","content":[{"type":"audio","audio":"!"}]}}'
    )
    stage.close()
    rows = [row for row in stage.lines("journal.jsonl") if "audio" in row and "retrieved" in row["event"]["type"]]
    assert [row["audio"][0]["file"] for row in rows] == [
        "turns/0001-assistant.wav",
        "retrieved/0001.wav",
        "retrieved/0002.wav",
    ]
    assert all(row["event"]["item"]["content"][0]["audio"] == "" for row in rows)
    assert read_samples(stage.folder / "retrieved/0001.wav").tobytes() == sound(0.2)
    assert len((stage.folder / "journal.jsonl").read_bytes()) < 20_000


def test_flac_that_cannot_be_written_leaves_the_wav(tmp_path, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise soundfile.LibsndfileError(1, "no: ")

    stage = Stage(tmp_path, flac=True)
    stage.answer("a1", "one", sound(1.0, 3000))
    monkeypatch.setattr(soundfile, "SoundFile", refuse)
    stage.close()
    assert [p.name for p in (stage.folder / "turns").iterdir()] == ["0001-assistant.wav"]
    assert stage.lines()[0]["audio"] == "turns/0001-assistant.wav"
    assert "stays WAV" in stage.session_json()["notes"][0]


def test_a_transcript_is_waited_for_but_not_for_ever(tmp_path):
    stage = Stage(tmp_path)
    stage.mic(sound(1.0))
    stage.hear(ev.InputAudioBufferSpeechStarted(item_id="u1", audio_start_ms=0))
    stage.hear(ev.InputAudioBufferSpeechStopped(item_id="u1", audio_end_ms=900))
    stage.committed("u1")
    stage.wait(14)
    stage.hear(ev.InputAudioBufferCleared())
    assert stage.lines() == []
    stage.wait(2)
    stage.hear(ev.InputAudioBufferCleared())
    assert [line["text"] for line in stage.lines()] == [""]
    stage.transcript("u1", "at last")
    stage.close()
    assert [line["text"] for line in stage.lines()] == ["at last"]


def test_odd_bytes_and_empty_deltas(tmp_path):
    stage = Stage(tmp_path)
    answer = sound(1.0)
    stage.answer_begins("a1", "r1")
    stage.answer_audio("a1", "r1", answer, block=777)
    stage.hear(ev.ResponseOutputAudioDelta(**stage.part("a1", "r1"), delta=b""))
    stage.answer_ends("a1", "r1", "hm")
    stage.close()
    assert read_samples(stage.folder / "turns/0001-assistant.wav").tobytes() == answer


def test_hostile_text_and_names(tmp_path):
    stage = Stage(tmp_path)
    evil = "ok \x1b[2J\x07 </script><b>x</b>\n\n1\n00:00:00,000 --> 00:00:09,000\nforged # *y* \u202e"
    for item_id in ("../../x", "\x1b[2J", "</script>", "a\x00b", "x" * 5000):
        stage.answer(item_id, evil, sound(0.1))
    stage.notice(up.ItemAdded(item_id="/etc/passwd", role="<script>", item_type="message", text=evil, local=True))
    stage.close()
    assert all(p.is_relative_to(stage.folder) for p in tmp_path.rglob("*") if p != stage.folder and p.is_file())
    assert {p.name for p in (stage.folder / "turns").iterdir()} == {f"{n:04}-assistant.wav" for n in range(1, 6)}
    for kind in ("md", "srt", "vtt"):
        text = (stage.folder / f"transcript.{kind}").read_text()
        assert not set(text) & {"\x1b", "\x07", "\u202e", "\0"}, kind
        assert "<b>" not in text
        assert "</script" not in text
    srt = (stage.folder / "transcript.srt").read_text()
    assert srt.count("-->") == len(re.findall(r"(?m)^\d+\n[\d:,]+ --> [\d:,]+\n", srt)) >= 5
    assert len(stage.lines()) == 6
    assert stage.lines()[0]["text"] == evil  # the data file keeps what was said


def test_gaps_and_errors_are_counted(tmp_path):
    stage = Stage(tmp_path)
    stage.wait(2)
    stage.notice(up.ConnectionLost(code=1006, reason="gone"))
    stage.wait(3)
    stage.hear(ev.SessionCreated(session=stage.session))
    stage.hear(ev.Error(error=ev.ErrorDetail(code="response_cancel_not_active", message="race")))
    stage.hear(ev.Error(error=ev.ErrorDetail(code="invalid_value", message="bad")))
    stage.raw(b'{"type":"response.done"')
    stage.raw(b'{"type":"new.thing","x":1}')
    stage.hear(
        ev.RateLimitsUpdated(rate_limits=[ev.RateLimit(name="tokens", limit=10, remaining=9, reset_seconds=1.5)])
    )
    stage.close("lost")
    session = stage.session_json()
    assert session["gaps"] == [{"from_s": 2.0, "to_s": 5.0, "code": 1006, "reason": "gone"}]
    assert (session["errors"], session["malformed"], session["unknown"]) == (1, 1, 1)
    assert session["rate_limits"] == {"tokens": [10, 9, 1.5]}
    assert session["how_it_ended"] == "lost"


def test_a_full_disk_keeps_what_was_said(tmp_path, monkeypatch):
    stage = Stage(tmp_path)
    stage.answer("a1", "kept", sound(2.0, 3000))
    stage.mic(sound(1.0))
    real = wav_module.write_all

    def full(file, data):
        if len(data) > 44:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file, data)

    monkeypatch.setattr(wav_module, "write_all", full)
    with pytest.raises(RecordingError, match="No space left on device") as caught:
        stage.answer("a2", "lost", sound(2.0, 3000), "a1")
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(wav_module, "write_all", real)
    stage.mic(sound(1.0))  # no second error
    stage.close()
    assert len(read_samples(stage.folder / "turns/0001-assistant.wav")) == 2 * RATE
    assert stage.lines()[0]["text"] == "kept"
    assert stage.session_json()["state"] == "failed"
    for path in stage.folder.rglob("*.wav"):
        soundfile.read(path)


def test_close_twice_and_calls_after_close(tmp_path):
    stage = Stage(tmp_path)
    stage.close()
    before = {p: p.read_bytes() for p in stage.folder.rglob("*") if p.is_file()}
    stage.close()
    stage.mic(sound(0.1))
    stage.notice(up.SessionEnded(reason="closed"))
    stage.hear(ev.InputAudioBufferCleared())
    assert before == {p: p.read_bytes() for p in stage.folder.rglob("*") if p.is_file()}


def test_session_json_is_there_from_the_start(tmp_path):
    stage = Stage(tmp_path)
    session = stage.session_json()
    assert session["state"] == "running"
    assert session["settings"]["voice"] == "marin"
    stage.close()


def test_out_of_band_answers_stand_apart(tmp_path):
    stage = Stage(tmp_path)
    command = stage.talk
    event = {"type": "response.created", "response": {"id": "r9", "status": "in_progress"}}
    frame = json.dumps(event).encode()
    stage.recorder.received(frame, (), [up.ResponseStarted(response_id="r9", out_of_band=True)], stage.clock.now)
    delta = up.AudioDelta(response_id="r9", item_id="x9", content_index=0, audio=sound(1.0))
    stage.notice(delta, up.TextDelta(response_id="r9", item_id="x9", content_index=0, text="aside", spoken=True))
    stage.notice(up.ResponseDone(response_id="r9", status="completed", item_ids=("x9",), out_of_band=True))
    assert command.session_id == "sess_1"
    stage.close()
    assert stage.lines()[0]["out_of_band"] is True
    assert len(read_samples(stage.folder / "turns/0001-assistant.wav")) == RATE
    assert not runs(stage.stereo()[1])
