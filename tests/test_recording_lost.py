"""A connection that is lost and had again, a session moved to another: nothing is recorded twice, nothing is missing."""

import json
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recording_helpers import RATE, LostStage, sound

from realtime_client import updates as up
from realtime_client.protocol import events as ev
from realtime_client.protocol.items import user_text
from realtime_client.recording import recover
from realtime_client.report import write_report
from realtime_client.report.session_data import read_session


def heard_left(stage):
    """All samples of the user, without the silence between them (`sound` has no zeros)."""
    left = stage.stereo()[0]
    return left[left != 0].tobytes()


# --- sound that is kept -----------------------------------------------------------------------------------------------


def test_sound_spoken_while_away_stands_at_its_time_and_in_the_turn(tmp_path):
    stage = LostStage(tmp_path, transcribe=False)
    before, away, after = sound(1, 1000), sound(2, 3000), sound(0.5, 6000)
    stage.mic(before)
    stage.starts("A", 0.2)
    stage.lose()
    stage.keep(away)
    stage.again(ev.ConversationItemCreate(item=user_text("before", item_id="x")))
    stage.audio_again(before + away)
    stage.restore("A", away_ms=2000, told=1, audio_ms=3000)
    stage.mic(after)
    stage.starts("B", 0.2)
    stage.stops("B", 3.4)
    stage.committed("B")
    stage.close()
    left, _ = stage.stereo()
    assert left[: len(before + away + after) // 2].tobytes() == before + away + after
    assert heard_left(stage) == before + away + after
    (line,) = stage.turns()
    assert (line["item_id"], line["status"], line["start_s"], line["end_s"]) == ("B", "completed", 0.2, 3.4)
    assert stage.spoken(line) == (before + away + after)[round(0.2 * RATE) * 2 : round(3.4 * RATE) * 2]
    assert stage.user_files() == [line["audio"].removeprefix("turns/")]


def test_the_journal_says_where_kept_sound_is_and_has_no_copy_of_what_is_sent_again(tmp_path):
    stage = LostStage(tmp_path)
    stage.mic(sound(0.1))
    stage.lose()
    stage.keep(sound(0.02))
    stage.audio_again(sound(0.12))
    stage.restore()
    stage.close()
    journal = stage.journal()
    (kept,) = [line for line in journal if line["event"].get("type") == "kept"]
    assert kept["dir"] == "note"
    assert kept["audio"] == [{"file": "conversation.wav", "offset": 2400 * 4, "length": 480 * 4, "channel": "left"}]
    again = [line for line in journal if {"kind": "sent_again"} in line.get("updates", [])]
    assert [place["file"] for line in again for place in line["audio"]] == [None, None]
    assert all(line["event"]["audio"] == "" for line in again)
    assert sum(place["length"] for line in again for place in line["audio"]) == len(sound(0.12))


def test_what_is_sent_again_makes_no_turns(tmp_path):
    stage = LostStage(tmp_path, vad=False)
    stage.mic(sound(0.5))
    stage.say(ev.InputAudioBufferCommit())
    stage.lose()
    stage.again(ev.ConversationItemCreate(item=user_text("said long ago", item_id="old")))
    stage.audio_again(sound(0.5))
    stage.again(ev.InputAudioBufferCommit())
    stage.restore()
    stage.committed("B")
    stage.mic(sound(0.2, 5000))
    stage.say(ev.InputAudioBufferCommit())
    stage.committed("C", "B")
    stage.close()
    assert [line["item_id"] for line in stage.turns()] == ["B", "C"]
    assert [stage.spoken(line) for line in stage.turns()] == [sound(0.5), sound(0.2, 5000)]
    assert [line["status"] for line in stage.turns()] == ["completed"] * 2


def test_a_commit_made_while_away_ends_the_turn_there(tmp_path):
    stage = LostStage(tmp_path, vad=False)
    stage.mic(sound(0.5))
    stage.lose()
    stage.keep(sound(0.3, 3000))
    stage.notice(up.CommitSent())
    stage.keep(sound(0.2, 6000))
    stage.audio_again(sound(0.5) + sound(0.3, 3000))
    stage.again(ev.InputAudioBufferCommit())
    stage.audio_again(sound(0.2, 6000))
    stage.restore()
    stage.committed("A")
    stage.mic(sound(0.1, 9000))
    stage.say(ev.InputAudioBufferCommit())
    stage.committed("B", "A")
    stage.close()
    spoken = [stage.spoken(line) for line in stage.turns()]
    assert spoken == [sound(0.5) + sound(0.3, 3000), sound(0.2, 6000) + sound(0.1, 9000)]


# --- turns whose server was lost --------------------------------------------------------------------------------------


@pytest.mark.parametrize("b_s", [0.1, 0.2, 0.4])
@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.parametrize("flac", [False, True])
def test_a_turn_found_anew_is_one_turn(tmp_path, b_s, stopped, flac):
    """Wherever the next server hears it begin, and whether or not the one before had heard its end."""
    stage = LostStage(tmp_path, flac=flac, transcribe=False)
    whole = sound(1) + sound(0.5, 4000)
    stage.mic(sound(1))
    stage.starts("A", 0.2)
    if stopped:
        stage.stops("A", 0.8)
    stage.lose()
    stage.keep(sound(0.5, 4000))
    stage.restore("A")
    stage.starts("B", b_s)
    stage.stops("B", 1.4)
    stage.committed("B")
    stage.close()
    (line,) = stage.turns()
    first_s = min(b_s, 0.2)
    assert (line["item_id"], line["start_s"], line["end_s"], line["status"]) == ("B", first_s, 1.4, "completed")
    assert stage.user_files() == [line["audio"].removeprefix("turns/")]
    if not flac:
        assert stage.spoken(line) == whole[round(first_s * RATE) * 2 : round(1.4 * RATE) * 2]


def test_a_turn_found_anew_takes_nothing_of_the_turn_before(tmp_path):
    stage = LostStage(tmp_path, transcribe=False)
    stage.mic(sound(2))
    stage.starts("before", 0.1)
    stage.stops("before", 0.9)
    stage.committed("before")
    stage.starts("A", 1.0)
    stage.lose()
    stage.restore("A")
    stage.starts("B", 0.5)
    stage.stops("B", 1.9)
    stage.committed("B", "before")
    stage.close()
    before, again = stage.turns()
    assert stage.spoken(before) + stage.spoken(again) == sound(2)[round(0.1 * RATE) * 2 : round(1.9 * RATE) * 2]


def test_without_word_of_where_it_begins_the_commit_names_it(tmp_path):
    stage = LostStage(tmp_path, transcribe=False)
    stage.mic(sound(1))
    stage.starts("A", 0.2)
    stage.lose()
    stage.restore("A")
    stage.committed("B")
    stage.close()
    (line,) = stage.turns()
    assert (line["item_id"], line["status"]) == ("B", "completed")
    assert stage.spoken(line) == sound(1)[round(0.2 * RATE) * 2 :]


@pytest.mark.parametrize("stopped", [False, True])
def test_a_turn_that_is_not_found_anew_stays_incomplete(tmp_path, stopped):
    stage = LostStage(tmp_path, transcribe=False)
    stage.mic(sound(1))
    stage.starts("A", 0.2)
    if stopped:
        stage.stops("A", 0.8)
    stage.lose()
    stage.restore("A")
    stage.mic(sound(1, 4000))
    stage.starts("B", 1.3)
    stage.stops("B", 1.9)
    stage.committed("B")
    stage.close()
    lost, other = stage.turns()
    assert (lost["item_id"], lost["status"], lost["reason"]) == ("A", "incomplete", "lost")
    assert stage.spoken(lost) == sound(1)[round(0.2 * RATE) * 2 : round((0.8 if stopped else 1) * RATE) * 2]
    assert (other["item_id"], other["status"], other["start_s"]) == ("B", "completed", 1.3)


def test_a_turn_stays_incomplete_when_no_server_is_to_be_had(tmp_path):
    stage = LostStage(tmp_path, transcribe=False)
    stage.mic(sound(1))
    stage.starts("A", 0.2)
    stage.lose()
    stage.keep(sound(0.5, 4000))
    stage.notice(up.ConnectionLost(code=1006, reason="tried for 300 s"))
    stage.close("lost: tried for 300 s")
    (line,) = stage.turns()
    assert (line["item_id"], line["status"], line["reason"]) == ("A", "incomplete", "lost")
    assert stage.spoken(line) == (sound(1) + sound(0.5, 4000))[round(0.2 * RATE) * 2 :]
    (note,) = stage.turns("note")
    assert note["text"] == "the connection was lost: the cable; it did not come back: tried for 300 s"


def test_a_second_loss_before_it_is_found_changes_nothing(tmp_path):
    stage = LostStage(tmp_path, transcribe=False)
    stage.mic(sound(1))
    stage.starts("A", 0.2)
    for value in (3000, 6000):
        stage.lose()
        stage.keep(sound(0.5, value))
        stage.restore(*(["A"] if value == 3000 else []))
    stage.starts("B", 0.2)
    stage.stops("B", 2.0)
    stage.committed("B")
    stage.close()
    (line,) = stage.turns()
    assert line["item_id"] == "B"
    assert stage.spoken(line) == (sound(1) + sound(0.5, 3000) + sound(0.5, 6000))[round(0.2 * RATE) * 2 :]


def test_an_item_that_is_deleted_is_no_turn_found_anew(tmp_path):
    stage = LostStage(tmp_path, transcribe=False)
    stage.mic(sound(1))
    stage.starts("A", 0.2)
    stage.stops("A", 0.8)
    stage.committed("A")
    stage.notice(up.ItemDeleted(item_id="A"))
    stage.mic(sound(1, 4000))
    stage.starts("B", 1.1)
    stage.stops("B", 1.9)
    stage.committed("B")
    stage.close()
    assert [(line["item_id"], line["status"]) for line in stage.turns()] == [("A", "completed"), ("B", "completed")]


def test_a_transcript_is_waited_for_through_a_loss(tmp_path):
    stage = LostStage(tmp_path)
    stage.mic(sound(1))
    stage.starts("A", 0.2)
    stage.stops("A", 0.8)
    stage.committed("A")
    stage.lose()
    assert stage.turns() == []
    stage.restore()
    stage.transcript("A", "what I said")
    assert [line["text"] for line in stage.turns()] == ["what I said"]
    stage.close()


# --- answers ----------------------------------------------------------------------------------------------------------


def test_an_answer_that_is_cut_off_plays_out_and_is_told(tmp_path):
    stage = LostStage(tmp_path)
    stage.answer_begins("i", "r")
    stage.answer_text("i", "r", "one two")
    stage.answer_audio("i", "r", sound(1))
    stage.notice(
        up.ResponseDone(response_id="r", status="incomplete", reason="connection_lost", text="one two", item_ids=("i",))
    )
    stage.lose()
    stage.wait(2)
    stage.restore(away_ms=2000, asked_again="req_2")
    stage.answer("i2", "one two three", sound(2, 4000))
    stage.close()
    cut, whole = stage.turns("assistant")
    assert (cut["status"], cut["reason"], cut["text"]) == ("incomplete", "connection_lost", "one two")
    assert (stage.spoken(cut), stage.spoken(whole)) == (sound(1), sound(2, 4000))
    right = stage.stereo()[1]
    assert right[right != 0].tobytes() == sound(1) + sound(2, 4000)
    assert "cut off: the connection was lost" in (stage.folder / "transcript.md").read_text()


def test_a_speaker_goes_on_telling_what_is_heard(tmp_path):
    stage = LostStage(tmp_path)
    stage.notice(up.SpeakerAttached(attached=True))
    stage.answer_begins("i", "r")
    stage.answer_audio("i", "r", sound(1))
    stage.notice(up.ResponseDone(response_id="r", status="incomplete", reason="connection_lost", item_ids=("i",)))
    stage.lose()
    stage.wait(1)
    begun_s = stage.clock.now - 0.6
    stage.notice(up.Audible(item_id="i", content_index=0, from_ms=0, to_ms=500, at_s=begun_s))
    stage.restore()
    stage.wait(1)
    stage.notice(up.Audible(item_id="i", content_index=0, from_ms=500, to_ms=1000, at_s=begun_s + 0.5))
    stage.close()
    right = stage.stereo()[1]
    assert right[right != 0].tobytes() == sound(1)
    assert np.flatnonzero(right)[0] == round((begun_s - 1000) * RATE)


# --- what is told -----------------------------------------------------------------------------------------------------

BACK = up.Restored(
    reason="lost",
    away_ms=2300,
    told=12,
    left_out=3,
    sent_late=("a", "b"),
    unknown=("req_1",),
    asked_again="req_2",
    audio_ms=900,
    lost_audio=(up.LostAudio(start_ms=0, end_ms=100), up.LostAudio(start_ms=500, end_ms=520)),
)
WORDS = (
    "the connection was lost for 2.3 s: the cable; restored: 12 entries (3 left out); 2 sent late; "
    "1 with unknown fate; the answer asked for again; 120 ms of sound lost"
)


def test_a_gap_says_what_was_restored(tmp_path):
    stage = LostStage(tmp_path)
    stage.wait(1)
    stage.lose()
    stage.notice(up.Reconnecting(attempt=2, in_s=0.5, reason="refused", left_s=299.0))
    stage.wait(2.3)
    stage.notice(BACK)
    stage.wait(1)
    stage.notice(up.Restored(reason="rollover", told=14))
    stage.close()
    info = stage.session_json()
    assert info["gaps"] == [
        {
            "from_s": 1.0,
            "to_s": 3.3,
            "code": 1006,
            "reason": "the cable",
            "attempts": 2,
            "away_ms": 2300,
            "restored": {
                "told": 12, "left_out": 3, "refused": 0, "sent_late": 2, "unknown": 1, "asked_again": True,
                "audio_ms": 900,
            },
            "lost_audio_ms": 120,
        }
    ]  # fmt: skip
    totals = {name: info["totals"][name] for name in ("reconnects", "rollovers", "away_ms", "lost_audio_ms")}
    assert totals == {"reconnects": 1, "rollovers": 1, "away_ms": 2300, "lost_audio_ms": 120}
    (note,) = stage.turns("note")
    assert (note["text"], note["start_s"], note["end_s"], note["status"]) == (WORDS, 1.0, 3.3, "completed")
    assert "the connection was lost for 2.3 s" in (stage.folder / "transcript.md").read_text()
    assert (stage.folder / "transcript.srt").read_text() == ""


@pytest.mark.parametrize(
    ("back", "told"),
    [
        (up.Restored(reason="lost", away_ms=14, told=1), "for 14 ms: the cable; restored: 1 entry"),
        (
            up.Restored(reason="lost", away_ms=61_000, told=2, left_out=1, refused=3),
            "for 61.0 s: the cable; restored: 2 entries (1 left out, 3 refused)",
        ),
    ],
)
def test_words_say_what_there_was_and_no_more(tmp_path, back, told):
    stage = LostStage(tmp_path)
    stage.lose()
    stage.notice(back)
    stage.close()
    assert [line["text"] for line in stage.turns("note")] == [f"the connection was lost {told}"]


def test_the_files_tell_of_a_loss_while_it_lasts(tmp_path):
    stage = LostStage(tmp_path)
    stage.wait(3)
    stage.lose()
    info = stage.session_json()
    assert [(gap["to_s"], gap["reason"]) for gap in info["gaps"]] == [(None, "the cable")]
    assert [line["text"] for line in stage.turns("note")] == ["the connection was lost: the cable"]
    stage.close()


def test_no_secret_is_in_the_reason(tmp_path):
    stage = LostStage(tmp_path, secrets=["sk-verysecret-1234"])
    stage.notice(up.ConnectionLost(code=1006, reason="no sk-verysecret-1234", goes_on=True))
    stage.notice(up.ConnectionLost(code=1006, reason="still no sk-verysecret-1234"))
    stage.close()
    for path in stage.folder.rglob("*"):
        assert path.is_dir() or b"verysecret" not in path.read_bytes()


# --- a kill -----------------------------------------------------------------------------------------------------------


def killed(stage, seconds):
    """Leave the files as a kill would, with so much of conversation.wav; returns the left side as it was."""
    stage.recorder._journal.flush(stage.clock.now)
    journal = (stage.folder / "journal.jsonl").read_bytes()
    stage.close()
    left = stage.stereo()[0]
    (stage.folder / "journal.jsonl").write_bytes(journal)
    wav = stage.folder / "conversation.wav"
    wav.write_bytes(wav.read_bytes()[: 44 + round(seconds * RATE) * 4])
    (stage.folder / "session.json").write_text(json.dumps(stage.session_json() | {"state": "running"}))
    return left


@pytest.mark.parametrize("pause_s", [0, 1])
def test_recovery_knows_what_was_kept(tmp_path, pause_s):
    stage = LostStage(tmp_path, transcribe=False)
    stage.mic(sound(0.5))
    stage.starts("A", 0.2)
    stage.lose()
    stage.wait(pause_s)
    stage.keep(sound(1, 4000))
    stage.restore("A")
    stage.starts("B", 0.1)
    left = killed(stage, 0.3)
    report = recover(stage.folder, force=True)
    assert (report.turns, report.lost_s) == (2, 0.0)
    assert stage.stereo()[0].tobytes() == left.tobytes()
    assert [line["item_id"] for line in stage.turns()] == ["B"]


def test_recovery_says_how_much_of_what_was_kept_is_nowhere(tmp_path):
    stage = LostStage(tmp_path)
    stage.mic(sound(0.5))
    stage.lose()
    stage.keep(sound(1, 4000))
    left = killed(stage, 0.7)
    assert recover(stage.folder, force=True).lost_s == pytest.approx(0.8, abs=0.001)
    assert len(stage.stereo()[0]) == len(left)


# --- whatever happens -------------------------------------------------------------------------------------------------

SIZES = st.sampled_from([0.02, 0.1, 0.35, 1.0])
PLAN = st.lists(
    st.tuples(st.sampled_from(["speak", "speak", "lose", "restore", "begin", "end", "late_end", "roll"]), SIZES),
    max_size=30,
)
PROPERTY = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


class Speaker:
    """Acts a plan out; a server is lost and comes again at any moment. Positions in samples of all that was spoken."""

    def __init__(self, stage):
        self.stage = stage
        self.all = b""
        self.away = False
        self.items = 0
        self.done = []  # (item, first, last) of what the servers made items of
        self.begun = None  # (item, first) of what a server hears
        self.again = None  # where it began, when the next server must hear it again
        self.committed = 0

    @property
    def end(self):
        return len(self.all) // 2

    def name(self):
        self.items += 1
        return f"item_{self.items}"

    def speak(self, size_s):
        piece = sound(size_s, 1 + self.end % 20_000)
        self.all += piece
        (self.stage.keep if self.away else self.stage.mic)(piece, block=4800)

    def lose(self, _size_s):
        if not self.away:
            self.stage.lose()
            self.away = True

    def restore(self, size_s):
        if self.away:
            self.away = False
            self.move("lost")

    def roll(self, _size_s):
        if not self.away:
            self.move("rollover")

    def move(self, reason):
        self.stage.audio_again(self.all[self.committed * 2 :], block=9600)
        self.stage.restore(*([self.begun[0]] if self.begun else []), reason=reason)
        if self.begun:
            self.again, self.begun = self.begun[1], None


class Detected(Speaker):
    """With voice detection."""

    def begin(self, size_s):
        if self.away or self.begun or self.end == self.committed:
            return
        first = min(self.end - 1, self.committed + round(size_s * RATE / 10))
        if self.again is not None:  # servers agree to within a tenth of a second
            first = max(self.committed, self.again - round(size_s * RATE / 10))
            self.again = None
        first = round(first * 1000 / RATE) * RATE // 1000
        self.begun = self.name(), first
        self.stage.starts(self.begun[0], first / RATE)

    def end_turn(self, *, heard):
        item, first = self.begun
        last = self.end * 1000 // RATE * RATE // 1000
        if last <= first:
            return
        self.stage.stops(item, last / RATE)
        if not heard:
            return
        self.stage.committed(item)
        self.done.append((item, last))
        self.begun, self.committed = None, last

    def end_(self, _size_s):
        if self.begun and not self.away:
            self.end_turn(heard=True)

    def late_end(self, _size_s):
        """The end was heard, and then the line died."""
        if self.begun and not self.away:
            self.end_turn(heard=False)
            self.lose(0)


class Manual(Speaker):
    """The client commits by itself; what is not confirmed when the line dies is committed again."""

    def __init__(self, stage):
        super().__init__(stage)
        self.open = []  # ends of turns that are not confirmed

    def begin(self, _size_s):
        last = self.open[-1] if self.open else self.committed
        if self.end == last:
            return
        if self.away:
            self.stage.notice(up.CommitSent())
        else:
            self.stage.say(ev.InputAudioBufferCommit())
        self.open.append(self.end)

    def end_(self, _size_s):
        if self.open and not self.away:
            item = self.name()
            self.stage.committed(item)
            self.committed = self.open.pop(0)
            self.done.append((item, self.committed))

    late_end = end_

    def move(self, reason):
        at = self.committed
        for last in self.open:
            self.stage.audio_again(self.all[at * 2 : last * 2], block=9600)
            self.stage.again(ev.InputAudioBufferCommit())
            at = last
        self.stage.audio_again(self.all[at * 2 :], block=9600)
        self.stage.restore(reason=reason)


def act(tmp_path_factory, plan, kind):
    stage = LostStage(tmp_path_factory.mktemp("r"), vad=kind is Detected, transcribe=False)
    speaker = kind(stage)
    for what, size_s in plan:
        getattr(speaker, "end_" if what == "end" else what)(size_s)
    stage.close()
    assert heard_left(stage) == speaker.all  # each sample once, in order
    assert stage.session_json()["totals"]["user_audio_s"] == pytest.approx(speaker.end / RATE, abs=0.001)
    turns = {line["item_id"]: line for line in stage.turns()}
    files = [path for line in stage.turns() for path in [line["audio"], *line.get("more_audio", [])]]
    assert sorted(files) == [f"turns/{name}" for name in stage.user_files()]  # no turn without a file, no file without
    return stage, speaker, turns


@PROPERTY
@given(PLAN)
def test_every_sample_is_there_once_with_voice_detection(tmp_path_factory, plan):
    stage, speaker, turns = act(tmp_path_factory, plan, Detected)
    at = 0
    for item, last in speaker.done:
        spoken = stage.spoken(turns[item])
        first = last - len(spoken) // 2
        assert first >= at
        assert spoken == speaker.all[first * 2 : last * 2]
        at = last
    assert len(turns) <= len(speaker.done) + 1


@PROPERTY
@given(PLAN)
def test_every_sample_is_there_once_with_commits(tmp_path_factory, plan):
    stage, speaker, turns = act(tmp_path_factory, plan, Manual)
    at = 0
    for item, last in speaker.done:
        assert stage.spoken(turns[item]) == speaker.all[at * 2 : last * 2]
        at = last
    rest = b"".join(stage.spoken(line) for line in stage.turns() if line["item_id"] == "")
    assert rest == speaker.all[at * 2 :]


# --- the report -------------------------------------------------------------------------------------------------------


def test_a_report_tells_of_losses_and_counts_what_is_sent_again_as_one_row(tmp_path):
    stage = LostStage(tmp_path)
    stage.mic(sound(1))
    stage.starts("A", 0.2)
    stage.lose()
    stage.keep(sound(2, 4000))
    stage.audio_again(sound(3))
    stage.notice(up.ItemDeleted(item_id="A"), BACK)
    stage.notice(up.Restored(reason="rollover"))
    stage.close()
    page = write_report(stage.folder).path.read_text()
    assert page.count(WORDS) == 3  # the mark in the waveform, the note between the turns, the list of gaps
    assert re.search(r"<dt>Reconnects</dt><dd>1</dd>.*<dt>Rollovers</dt><dd>1</dd>", page)
    rows = read_session(stage.folder).events.rows()
    found = {(row.direction, row.kind): (row.count, row.audio_s) for row in rows}
    assert found["note", "kept"] == (100, 2.0)
    assert found["out", "input_audio_buffer.append"] == (30, 3.0)


@pytest.mark.parametrize(
    "gap",
    [
        {"from_s": 0, "reason": 5, "restored": []},
        {"from_s": 0, "restored": {"told": "x", "asked_again": 1}, "lost_audio_ms": 1e308, "away_ms": None},
        {"from_s": 0, "reason": "<script>", "gave_up": "<script>", "restored": {"told": 10**400}},
    ],
)
def test_a_report_copes_with_gaps_that_are_none(tmp_path, gap):
    stage = LostStage(tmp_path)
    stage.mic(sound(1))
    stage.close()
    info = stage.session_json() | {"gaps": [gap], "totals": {"reconnects": "many"}}
    (stage.folder / "session.json").write_text(json.dumps(info))
    assert "<td><script>" not in write_report(stage.folder).path.read_text()
