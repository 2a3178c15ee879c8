"""kill -9 at random moments, and what is left; recovery of damaged folders."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
from recording_helpers import RATE, Stage, read_samples, runs, sound

from realtime_client.errors import RecordingError
from realtime_client.protocol import events as ev
from realtime_client.recording import recover

HERE = Path(__file__).parent
WAIT_S = 60


def killed_recording(base, seed):
    """Start the victim, let it get somewhere, kill it; returns the folder and what it had said it did."""
    chance = random.Random(seed)
    victim = subprocess.Popen(
        [sys.executable, str(HERE / "recording_victim.py"), str(base)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=HERE,
    )
    try:
        folder = Path(json.loads(victim.stdout.readline())["folder"])
        done = {"turns": 0, "sent_s": 0.0}
        for _ in range(chance.randint(1, 4)):
            done = json.loads(victim.stdout.readline())
        with pytest.raises(subprocess.TimeoutExpired):
            victim.wait(chance.uniform(0, 0.08))  # somewhere within the next turn
        victim.send_signal(signal.SIGKILL)
        assert victim.wait(WAIT_S) == -signal.SIGKILL
    finally:
        victim.kill()
        victim.stdout.close()
        victim.wait(WAIT_S)
    return folder, done


def check_sound_opens(folder):
    for path in folder.rglob("*.wav"):
        with wave.open(str(path)) as file:
            frames = file.getnframes()
            assert len(file.readframes(frames)) == frames * 2 * file.getnchannels()
        assert len(soundfile.read(path)[0]) == frames


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("seed", range(6))
def test_killed_at_a_random_moment(tmp_path, seed):
    folder, done = killed_recording(tmp_path, seed)
    check_sound_opens(folder)  # as it is, before anything is repaired
    lines = (folder / "journal.jsonl").read_bytes().split(b"\n")
    rows = [json.loads(line) for line in lines[:-1]]
    left = read_samples(folder / "conversation.wav")[0::2]
    assert len(left) / RATE >= done["sent_s"] - 0.5
    report = recover(folder, force=True)
    check_sound_opens(folder)
    assert json.loads((folder / "session.json").read_text())["state"] == "killed"
    transcript = [json.loads(line) for line in (folder / "transcript.jsonl").read_text().splitlines()]
    texts = [line["text"] for line in transcript]
    assert texts[: 2 * done["turns"]] == [t for i in range(done["turns"]) for t in (f"said {i}", f"answer {i}")]
    assert report.turns == len(transcript)
    answers = [line for line in transcript if line["who"] == "assistant"]
    for line in answers[: done["turns"]]:
        assert read_samples(folder / line["audio"]).tobytes() == sound(0.1, 5000) * 24
    for row in rows:
        for place in row.get("audio", ()):
            assert (folder / place["file"]).exists()
    right = read_samples(folder / "conversation.wav")[1::2]
    heard_s = sum(end - begin for begin, end in runs(right))
    assert heard_s >= 2.4 * done["turns"] - 0.1
    assert recover(folder).complete


def test_recovery_adds_what_was_received_and_not_yet_due(tmp_path):
    stage = Stage(tmp_path)
    answer = sound(20.0, 3000)
    stage.answer_begins("a1", "r1")
    stage.answer_text("a1", "r1", "a long ")
    stage.answer_audio("a1", "r1", answer)
    stage.answer_text("a1", "r1", "answer")
    stage.mic(sound(1.0))
    folder = copied(stage, tmp_path)
    with (folder / "journal.jsonl").open("ab") as file:
        file.write(b'{"n":99,"t":')
    report = recover(folder, force=True)
    assert report.dropped_bytes == 12
    assert report.added_s == pytest.approx(19, abs=0.5)
    right = read_samples(folder / "conversation.wav")[1::2]
    begin = right.nonzero()[0][0]
    assert right[begin:].tobytes() == answer[: len(right[begin:]) * 2]
    assert len(right) - begin >= 19.7 * RATE
    (line,) = [json.loads(row) for row in (folder / "transcript.jsonl").read_text().splitlines()]
    assert (line["text"], line["status"]) == ("a long answer", "killed")
    assert line["end_s"] - line["start_s"] >= 19.7
    assert "a long answer" in (folder / "transcript.vtt").read_text()


def test_recovery_keeps_a_cut(tmp_path):
    stage = Stage(tmp_path, heard_ms=lambda _item, _part: 2000)
    stage.answer("a1", "one two three four five", sound(10.0, 3000))
    stage.mic(sound(2.0))
    stage.type("stop")
    folder = copied(stage, tmp_path)
    recover(folder, force=True)
    assert runs(read_samples(folder / "conversation.wav")[1::2])[0][1] <= 2.1
    line = json.loads((folder / "transcript.jsonl").read_text().splitlines()[0])
    assert (line["heard"], line["cut_ms"]) == ("one", 2000)


@pytest.mark.parametrize("rate_hz", [24_000, 8_000])
@pytest.mark.parametrize("vad", [False, True])
def test_recovery_takes_the_users_sound_from_the_turns(tmp_path, vad, rate_hz):
    """conversation.wav ends before the turn's file, and the journal tells of more than either has."""
    stage = Stage(tmp_path, vad=vad, fmt={"type": "audio/pcm", "rate": rate_hz})
    stage.mic(sound(1.0, 1000, rate_hz), block=rate_hz // 25, rate=2 * rate_hz)
    stage.wait(0.7)
    if vad:
        stage.hear(ev.InputAudioBufferSpeechStarted(item_id="u1", audio_start_ms=400))
    stage.mic(sound(2.0, 2000, rate_hz), block=rate_hz // 25, rate=2 * rate_hz)
    stage.answer_begins("a1", "r1")
    stage.answer_audio("a1", "r1", sound(0.2, 3000, rate_hz))
    stage.mic(sound(0.4, 4000, rate_hz), block=rate_hz // 25, rate=2 * rate_hz)
    folder = copied(stage, tmp_path)
    whole_left, whole_right = stage.stereo()
    wav, turn = folder / "conversation.wav", folder / "turns" / "0001-user.wav"
    with wav.open("r+b") as file:
        file.truncate(44 + (len(whole_left) - RATE) * 4)  # a second too short
    with turn.open("r+b") as file:
        file.truncate(44 + 2 * round((3.4 - 0.4 * vad - 0.1) * rate_hz))  # a tenth is in no file
    report = recover(folder, force=True)
    samples = read_samples(wav)
    left, right = samples[0::2], samples[1::2]
    places = [place for row in journal(folder) for place in row.get("audio", ()) if place.get("channel") == "left"]
    assert len(left) >= max(place["offset"] + place["length"] for place in places) // 4
    assert report.added_s == pytest.approx(1.0, abs=0.05)
    assert report.lost_s == pytest.approx(0.1, abs=0.03)
    there = len(whole_left) - round(0.18 * RATE)
    near = 0 if rate_hz == RATE else 200  # resampled from another place, and in one go
    assert abs(left[:there].astype(int) - whole_left[:there]).mean() <= near
    assert np.count_nonzero(right) == pytest.approx(np.count_nonzero(whole_right), abs=RATE // 20)
    assert recover(folder).complete


def journal(folder):
    return [json.loads(line) for line in (folder / "journal.jsonl").read_bytes().split(b"\n")[:-1]]


def copied(stage, tmp_path):
    """The folder as a kill would leave it now; the recorder itself ends in peace."""
    stage.recorder._journal.flush(stage.clock.now)
    folder = tmp_path / "killed"
    shutil.copytree(stage.folder, folder)
    stage.close()
    return folder


def test_recovery_of_telephone_sound_and_flac(tmp_path):
    stage = Stage(tmp_path, vad=False, fmt={"type": "audio/pcmu"}, flac=True)
    stage.answer("a1", "first", bytes(range(1, 101)) * 80)
    stage.wait(3)
    stage.mic(b"\x10" * 800, block=160, rate=8000)
    stage.answer("a2", "second", bytes(range(1, 101)) * 80, "a1")
    folder = copied(stage, tmp_path)
    (folder / "turns" / "0009-user.part").write_bytes(b"half")
    recover(folder, force=True)
    right = read_samples(folder / "conversation.wav")[1::2]
    assert [round(end - begin, 1) for begin, end in runs(right)] == [1.0, 1.0]
    assert not list(folder.rglob("*.part"))
    lines = [json.loads(row) for row in (folder / "transcript.jsonl").read_text().splitlines()]
    assert [line["text"] for line in lines if line["who"] == "assistant"] == ["first", "second"]
    assert all((folder / line["audio"]).exists() for line in lines)


def test_a_live_recording_is_left_alone(tmp_path):
    stage = Stage(tmp_path)
    session = stage.session_json()
    session["pid"] = os.getppid()
    (stage.folder / "session.json").write_text(json.dumps(session))
    with pytest.raises(RecordingError, match="still being recorded"):
        recover(stage.folder)
    stage.close()


def test_a_finished_folder_is_complete(tmp_path):
    stage = Stage(tmp_path)
    stage.answer("a1", "hi", sound(0.1))
    stage.close()
    before = {p: p.read_bytes() for p in stage.folder.rglob("*") if p.is_file()}
    assert recover(stage.folder).complete
    assert before == {p: p.read_bytes() for p in stage.folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda p: None, "not a folder"),
        (lambda p: p.mkdir(), "not a recording"),
        (lambda p: (p.mkdir(), (p / "session.json").write_text('{"version":99}')), "newer version"),
        (lambda p: (p.mkdir(), (p / "session.json").write_text('{"version":"x"}')), "newer version"),
    ],
)
def test_no_recording(tmp_path, make, match):
    make(tmp_path / "f")
    with pytest.raises(RecordingError, match=match) as caught:
        recover(tmp_path / "f")
    assert "\n" not in str(caught.value)


def test_a_damaged_journal_still_gives_its_turns(tmp_path):
    stage = Stage(tmp_path)
    stage.answer("a1", "kept", sound(0.5))
    stage.hear(ev.InputAudioBufferCleared())
    folder = copied(stage, tmp_path)
    journal = folder / "journal.jsonl"
    bad = b'\x00\xff garbage\n{"dir":"note","event":{"type":"turn"}}\n[]\n{"dir":"in","event":{"type":1}}\n'
    journal.write_bytes(bad + journal.read_bytes())
    (folder / "session.json").write_bytes(b"")
    (folder / "turns" / "0001-assistant.wav").write_bytes(b"RI")
    assert recover(folder).turns == 1
    check_sound_opens(folder)


def test_a_dead_process_that_nobody_waited_for_does_not_live():
    from realtime_client.recording.folder import process_alive

    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as process:
        assert process_alive(process.pid)
        process.kill()
        ends = time.monotonic() + 30
        while process_alive(process.pid):  # it is a zombie now: it has not been waited for
            assert time.monotonic() < ends
        assert process.returncode is None
    assert not process_alive(process.pid)
