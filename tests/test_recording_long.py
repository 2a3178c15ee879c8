"""Long sessions and bursts: memory and open files stay where they are."""

import gc
import tracemalloc
from pathlib import Path

import pytest
from recording_helpers import RATE, Stage, read_samples, sound

from realtime_client.protocol import events as ev

FILES = Path("/proc/self/fd")


def talk(stage, first, turns):
    """Turns of 6 s: a spoken question, an answer that arrives at once."""
    for i in range(first, first + turns):
        stage.hear(ev.InputAudioBufferSpeechStarted(item_id=f"u{i}", audio_start_ms=i * 6000 + 200))
        stage.mic(sound(2.0), block=9600)
        stage.hear(ev.InputAudioBufferSpeechStopped(item_id=f"u{i}", audio_end_ms=i * 6000 + 1800))
        stage.committed(f"u{i}", f"a{i - 1}" if i else None, f"question {i}")
        stage.answer(f"a{i}", f"answer {i} " * 10, sound(3.0, 5000), f"u{i}")
        stage.mic(sound(4.0), block=9600)


def open_files():
    """0 where it cannot be told."""
    return len(list(FILES.iterdir())) if FILES.is_dir() else 0


def held():
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@pytest.mark.slow
def test_an_hour_needs_no_more_memory_than_ten_minutes(tmp_path):
    stage = Stage(tmp_path)
    files = open_files()
    tracemalloc.start()
    try:
        talk(stage, 0, 280)  # what is remembered of late turns is full now
        after_warmup = held()
        tracemalloc.reset_peak()
        talk(stage, 280, 320)  # one hour in all
        assert held() - after_warmup < 150_000
        assert tracemalloc.get_traced_memory()[1] - after_warmup < 3_000_000
    finally:
        tracemalloc.stop()
    assert open_files() <= files + 4
    stage.close()
    assert len(stage.lines()) == 1200
    assert len(read_samples(stage.folder / "conversation.wav")) / 2 / RATE == pytest.approx(3600 + 600 * 0.03, abs=2)


def test_a_burst_is_not_kept_in_memory(tmp_path):
    stage = Stage(tmp_path)
    stage.mic(sound(1.0))
    answer = sound(1.0, 5000)
    tracemalloc.start()
    try:
        before = held()
        stage.answer_begins("a1", "r1")
        for _ in range(120):
            stage.answer_audio("a1", "r1", answer, every_s=0.0005)
        assert held() - before < 500_000  # 5.8 MB have arrived
        tracemalloc.reset_peak()
        stage.answer_ends("a1", "r1", "long")
        stage.close()
        assert tracemalloc.get_traced_memory()[1] - before < 2_000_000
    finally:
        tracemalloc.stop()
    assert len(read_samples(stage.folder / "turns/0001-assistant.wav")) == 120 * RATE
    assert sum(stage.stereo()[1] != 0) == 120 * RATE


def test_hours_of_silence_cost_no_time(tmp_path):
    stage = Stage(tmp_path)
    stage.mic(sound(0.5))
    stage.wait(8 * 3600)
    stage.mic(sound(0.5))
    stage.close()
    path = stage.folder / "conversation.wav"
    assert path.stat().st_size == pytest.approx(8 * 3600 * 96_000, rel=0.001)
