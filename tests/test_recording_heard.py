"""With a speaker that tells what it plays: the assistant stands in conversation.wav where and when it was heard."""

from __future__ import annotations

import itertools
import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recording_helpers import RATE, Stage, read_samples, runs, sound

from realtime_client import updates as up
from realtime_client.audio.playback.sounding import JUMP_S, Sounding
from realtime_client.recording import audio_path, recover
from realtime_client.recording.timeline import RATE_HZ, Timeline

BEGAN_S = 1000.0


class Listener(Stage):
    """A stage with a speaker."""

    def __init__(self, base, **options):
        super().__init__(base, **options)
        self.notice(up.SpeakerAttached(attached=True))

    def audible(self, item_id, from_ms, to_ms, at_s, part=0):
        """The speaker tells, now. at_s: when the first sample sounded, since the beginning."""
        told = up.Audible(item_id=item_id, content_index=part, from_ms=from_ms, to_ms=to_ms, at_s=BEGAN_S + at_s)
        self.notice(told)

    def listen(self, item_id, begin_ms, end_ms, at_s, *, step_ms=100, behind_s=0.1):
        """Hear a stretch from a second on, told in steps, each `behind_s` after its end."""
        for at_ms in range(begin_ms, end_ms, step_ms):
            to_ms = min(at_ms + step_ms, end_ms)
            sounds_s = at_s + (at_ms - begin_ms) / 1000
            self.wait(max(0.0, BEGAN_S + sounds_s + (to_ms - at_ms) / 1000 + behind_s - self.clock.now))
            self.audible(item_id, at_ms, to_ms, sounds_s)

    def right(self):
        return self.stereo()[1]


def source(seconds, value=1000):
    return np.frombuffer(sound(seconds, value), "<i2")


def test_an_answer_stands_where_it_was_heard(tmp_path):
    stage = Listener(tmp_path)
    stage.answer("a1", "one two", sound(2.0))  # all of it comes at once, within some milliseconds
    stage.listen("a1", 0, 800, 0.5)
    stage.listen("a1", 800, 2000, 1.6)  # held up for 0.3 s
    stage.close()
    right = stage.right()
    assert runs(right) == [(0.5, 1.3), (1.6, 2.8)]
    assert np.array_equal(right[RATE // 2 :][: 800 * 24], source(2.0)[: 800 * 24])
    assert np.array_equal(right[round(1.6 * RATE) :][: 1200 * 24], source(2.0)[800 * 24 :])
    (line,) = stage.lines()
    assert (line["start_s"], line["end_s"]) == (0.5, 2.8)
    assert "00:00:00,500 --> 00:00:02,800" in (stage.folder / "transcript.srt").read_text()


def test_without_a_speaker_an_answer_stands_where_it_came(tmp_path):
    stage = Listener(tmp_path)
    stage.notice(up.SpeakerAttached(attached=False))
    stage.answer("a1", "one two", sound(2.0))
    stage.audible("a1", 0, 2000, 5.0)  # nobody asked
    stage.close()
    assert runs(stage.right())[0][0] < 0.1


def test_what_was_not_heard_when_the_session_ends_is_not_there(tmp_path):
    stage = Listener(tmp_path)
    stage.answer("a1", "one two", sound(2.0))
    stage.listen("a1", 0, 700, 0.2)
    stage.close()
    assert runs(stage.right()) == [(0.2, 0.9)]
    assert read_samples(stage.folder / "turns" / "0001-assistant.wav").size == 2 * RATE


def test_a_cut_ends_it_where_it_was_heard_whatever_was_told_until_then(tmp_path):
    stage = Listener(tmp_path, heard_ms=lambda _item, _part: 950)
    stage.answer("a1", "one two three four", sound(2.0))
    stage.listen("a1", 0, 800, 0.2, behind_s=0.0)
    stage.wait(0.15)
    stage.type("stop")  # at 1.15 s
    stage.wait(0.1)
    stage.audible("a1", 800, 1200, 1.0)  # told too late, and too much: what the device held then was dropped
    stage.wait(2.0)
    stage.close()
    right = stage.right()
    assert runs(right) == [(0.2, 1.15)]
    assert np.array_equal(right[RATE // 5 :][: 950 * 24], source(2.0)[: 950 * 24])
    assert stage.lines()[0]["cut_ms"] == 950


def test_a_cut_before_anything_was_told(tmp_path):
    stage = Listener(tmp_path, heard_ms=lambda _item, _part: 60)
    stage.answer_begins("a1", "r1")
    stage.answer_audio("a1", "r1", sound(2.0))
    stage.wait(0.3)
    stage.type("stop")
    stage.wait(1.0)
    stage.close()
    begun = stage.clock.now - BEGAN_S - 1.0 - 0.06
    assert runs(stage.right()) == [(pytest.approx(begun, abs=0.011), pytest.approx(begun + 0.06, abs=0.011))]


def test_what_is_told_late_goes_into_what_is_written(tmp_path):
    stage = Listener(tmp_path)
    stage.answer("a1", "one two", sound(2.0))
    stage.mic(sound(3.0, 5000))  # three seconds go by and are written
    stage.audible("a1", 0, 2000, 0.5)
    stage.mic(sound(0.5, 5000))
    stage.close()
    left, right = stage.stereo()
    assert np.array_equal(right[RATE // 2 :][: 2 * RATE], source(2.0))
    assert not right[: RATE // 2].any()
    assert np.count_nonzero(left) == round(3.5 * RATE)


def test_what_was_received_before_a_loss_is_played_out(tmp_path):
    stage = Listener(tmp_path)
    stage.answer("a1", "one", sound(1.0))
    stage.answer("a2", "two", sound(1.0, 3000))
    stage.listen("a1", 0, 500, 0.2, behind_s=0.0)
    stage.notice(up.ConnectionLost(code=1006, reason="gone"))
    stage.close("lost")
    assert np.array_equal(stage.right()[RATE // 5 :][: 2 * RATE], np.concatenate([source(1.0), source(1.0, 3000)]))


def test_who_types_does_not_put_the_clock_ahead(tmp_path):
    stage = Listener(tmp_path, heard_ms=lambda _item, _part: 3000)
    stage.answer("a1", "one", sound(3.0))
    stage.listen("a1", 0, 3000, 0.2)
    stage.type("more")
    stage.answer("a2", "two", sound(1.0))
    stage.listen("a2", 0, 1000, 4.0)
    stage.close()
    assert runs(stage.right()) == [(0.2, 3.2), (4.0, 5.0)]


def test_telephone_sound_and_flac(tmp_path):
    stage = Listener(tmp_path, fmt={"type": "audio/pcmu"}, flac=True)
    stage.answer("a1", "one", bytes(range(1, 101)) * 160)  # 2 s
    stage.listen("a1", 0, 2000, 0.5, step_ms=37)
    stage.wait(1.0)
    stage.close()
    assert runs(stage.right()) == [(pytest.approx(0.5, abs=0.011), pytest.approx(2.5, abs=0.02))]
    assert [path.name for path in (stage.folder / "turns").iterdir()] == ["0001-assistant.flac"]
    rows = stage.lines("journal.jsonl")
    assert {"type": "flac", "file": "turns/0001-assistant.wav", "now": "turns/0001-assistant.flac"} in [
        row["event"] for row in rows
    ]
    for row in rows:
        for place in row.get("audio", ()):
            assert audio_path(stage.folder, place["file"]).exists()


def test_a_killed_recording_has_what_was_heard_and_no_more(tmp_path):
    stage = Listener(tmp_path)
    stage.answer("a1", "one two", sound(9.0))
    stage.listen("a1", 0, 3000, 0.5)
    stage.recorder._journal.flush(stage.clock.now)
    folder = tmp_path / "killed"
    shutil.copytree(stage.folder, folder)
    stage.close()
    recover(folder, force=True)
    right = read_samples(folder / "conversation.wav")[1::2]
    ((begin_s, end_s),) = runs(right)
    assert begin_s == 0.5
    assert 3.5 - 0.5 <= end_s <= 3.5
    (line,) = [json.loads(row) for row in (folder / "transcript.jsonl").read_text().splitlines()]
    assert line["start_s"] == 0.5
    assert line["end_s"] <= 3.7


def test_answers_that_are_never_heard_do_not_pile_up(tmp_path):
    stage = Listener(tmp_path)
    for number in range(100):
        stage.answer(f"a{number}", "one", sound(0.05))
        stage.wait(1.0)
    assert len(stage.recorder._stereo._sources) <= 65
    stage.close()
    assert not stage.right().any()


def test_the_user_stands_where_it_was_captured_however_late_it_is_sent(tmp_path):
    stage = Listener(tmp_path)
    stage.answer("a1", "one", sound(1.0))
    stage.notice(up.Captured(at_ms=0.0, at_s=BEGAN_S + 0.5))
    stage.wait(1.5)  # the network stood still
    stage.mic(sound(1.0, 5000), live=False)  # all of it at 1.5 s
    stage.notice(up.Captured(at_ms=1000.0, at_s=BEGAN_S + 2.0))  # the microphone was gone for half a second
    stage.wait(0.7)
    stage.mic(sound(0.3, 5000))
    stage.listen("a1", 0, 1000, 2.6)  # and nothing has put the clock ahead
    stage.close()
    left, right = stage.stereo()
    assert runs(left) == [(0.5, 1.5), (2.0, 2.3)]
    assert np.array_equal(left[RATE // 2 :][:RATE], source(1.0, 5000))
    assert runs(right) == [(2.6, 3.6)]


def test_telephone_sound_of_the_user_stands_where_it_was_captured(tmp_path):
    stage = Listener(tmp_path, vad=False, fmt={"type": "audio/pcmu"})
    stage.notice(up.Captured(at_ms=0.0, at_s=BEGAN_S + 0.2))
    stage.wait(0.22)
    stage.mic(b"\x10" * 8000, block=160, rate=8000)
    stage.wait(1.0)
    stage.close()
    assert runs(stage.stereo()[0]) == [(pytest.approx(0.2, abs=0.011), pytest.approx(1.2, abs=0.011))]


@pytest.mark.parametrize("ppm", [-150, 150])
def test_ten_minutes_of_another_microphone_clock_stay_in_place(ppm):
    line, worst = Timeline(), 0
    for number in range(30_000):
        captured_s = 1.0 + number * 0.02 * (1 + ppm * 1e-6)
        line.move_to(captured_s + 0.06)
        captured = round(captured_s * RATE_HZ)
        start = line.user(480 + line.slip(captured), captured)
        worst = max(worst, abs(start - captured))
        line.take(line.due)
    assert worst <= 0.006 * RATE_HZ
    assert line.end < 602 * RATE_HZ


# --- the clock of the device ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ppm", [-150, 0, 150])
def test_ten_minutes_of_another_clock_stay_in_place(ppm):
    line, rng, sent, elapsed_s = Timeline(), np.random.default_rng(1), 0, 1.0
    worst, slips = 0, 0
    while elapsed_s < 600:
        real_s = 1.0 + sent / RATE_HZ * (1 + ppm * 1e-6)
        elapsed_s = real_s + 0.15
        line.move_to(elapsed_s)
        count, before = len(line.pieces), line.heard_end
        piece = line.hear("a", sent, 2400, round((real_s + rng.uniform(-0.001, 0.001)) * RATE_HZ))
        slips += len(line.pieces) > count
        assert piece is not None
        assert not sent or piece.start == before  # no gap and no overlap
        worst = max(worst, abs(piece.start - round(real_s * RATE_HZ)))
        sent += 2400
        line.take(line.due)
        assert len(line.pieces) < 100
    assert worst <= 0.006 * RATE_HZ
    assert slips > 500 if ppm else slips == 1
    assert line.span("a") == (pytest.approx(RATE_HZ, abs=24), line.heard_end)


TELLS = st.lists(
    st.tuples(
        st.sampled_from(["next", "next", "again", "hole", "answer", "cut", "wait", "write"]),
        st.integers(1, 9000),
        st.integers(-4000, 4000),
        st.integers(0, 2),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=300)
@given(TELLS)
def test_whatever_is_told_nothing_overlaps(tells):
    line, elapsed_s, kept = Timeline(), 1.0, {}
    for what, frames, beside, key in tells:
        elapsed_s += frames / RATE_HZ if what == "wait" else 0.001
        line.move_to(elapsed_s)
        known, before = line.heard_to(key), line.heard_end
        if what in {"next", "again", "hole"}:
            begin = known if what == "next" else max(0, known - frames // 2) if what == "again" else known + frames
            piece = line.hear(key, begin, frames, line.now + beside)
            assert piece is None or piece.start >= before
            assert piece is None or piece.source >= known - 1
            assert line.heard_to(key) <= max(known, min(begin + frames, kept.get(key, 1 << 62)))
        elif what == "answer":
            line.answer(("by arrival", key), frames)
        elif what == "cut":
            kept[key] = min(frames, kept.get(key, 1 << 62))
            line.cut(key, frames)
        elif what == "write":
            line.take(line.due)
        pieces = list(line.pieces)
        assert all(a.end <= b.start for a, b in itertools.pairwise(pieces))
        assert all(piece.frames > 0 for piece in pieces)
        for piece in pieces:
            assert piece.source + piece.frames <= kept.get(piece.key, 1 << 62) + 1


# --- when what was handed over sounds ---------------------------------------------------------------------------------

BLOCK = 480


def marked(sounding, first, count, zero_s, delay_s=0.04):
    """The callbacks of a device that plays position 0 at `zero_s` and has a buffer of `delay_s`."""
    for number in range(first, first + count):
        sounds_s = zero_s + number * BLOCK / RATE_HZ
        sounding.mark(number * BLOCK, sounds_s, sounds_s - delay_s)


def test_only_what_has_surely_sounded_is_told():
    sounding = Sounding(RATE_HZ)
    assert sounding.sounded == 0
    marked(sounding, 0, 1, 10.0)
    assert sounding.sounded == 0
    marked(sounding, 1, 9, 10.0)
    assert sounding.sounded == 9 * BLOCK - 960  # what the device held at the last callback may never sound
    assert sounding.spans(0, 960) == [(0, 960, pytest.approx(10.0))]


def test_sound_that_was_held_up_begins_a_new_span():
    sounding = Sounding(RATE_HZ)
    marked(sounding, 0, 10, 10.0)
    sounding.mark(10 * BLOCK, 10.2 + 0.05, 10.2)  # one callback alone is not believed
    marked(sounding, 11, 9, 10.0)
    assert len(sounding.spans(0, sounding.sounded)) == 1
    marked(sounding, 20, 2, 10.1)
    assert sounding.sounded <= 20 * BLOCK  # not yet sure when that sounded
    marked(sounding, 22, 20, 10.1)
    spans = sounding.spans(0, sounding.sounded)
    assert [(span.begin, span.end) for span in spans] == [(0, 20 * BLOCK), (20 * BLOCK, 39 * BLOCK + 0)]
    assert spans[1].at_s == pytest.approx(10.1 + 20 * BLOCK / RATE_HZ, abs=0.001)


def test_the_clock_of_the_device_is_followed():
    sounding = Sounding(RATE_HZ)
    for number in range(30_000):  # 10 minutes, 100 ppm slow
        sounds_s = 10.0 + number * 0.02 * (1 + 1e-4)
        sounding.mark(number * BLOCK, sounds_s, sounds_s - 0.04)
        _ = sounding.sounded
    (span,) = sounding.spans(29_000 * BLOCK, 29_001 * BLOCK)
    assert span.at_s == pytest.approx(10.0 + 29_000 * 0.02 * (1 + 1e-4), abs=JUMP_S)
