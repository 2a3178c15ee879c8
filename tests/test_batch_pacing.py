"""Time in scripted speech: the microphone keeps its schedule, the listener hears at the pace of time, sounds are right."""

from __future__ import annotations

import math
import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from realtime_client.audio.files import write_wav
from realtime_client.audio.g711 import decode
from realtime_client.batch.playing import sound
from realtime_client.batch.playing.listener import PatientListener, ScriptedListener
from realtime_client.batch.playing.microphone import BLOCK_MS, ScriptedMicrophone
from realtime_client.batch.playing.sound import StepSound
from realtime_client.batch.scenario import Case, Scenario, Step
from realtime_client.deadline import SYSTEM_CLOCK
from realtime_client.errors import UsageError
from realtime_client.updates import PCM16_24K, AudioFormat

ULAW = AudioFormat("ulaw", 8_000)
BLOCK = BLOCK_MS * PCM16_24K.bytes_per_ms


class HandClock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now


class Sink:
    """What the microphone sent, and when."""

    def __init__(self, clock: HandClock) -> None:
        self.blocks: list[bytes] = []
        self.times: list[float] = []
        self.clock = clock

    def __call__(self, block: bytes) -> None:
        self.blocks.append(block)
        self.times.append(self.clock.now)


def nothing(_at_s: float) -> None:
    return


def voice(ms: int, fmt: AudioFormat = PCM16_24K) -> bytes:
    return b"\x11" * (ms * fmt.bytes_per_ms)


# The microphone.


def test_every_block_leaves_at_its_own_moment_however_late_it_is_tended():
    clock = HandClock()
    sink = Sink(clock)
    microphone = ScriptedMicrophone(PCM16_24K, sink, live=True, clock=clock)
    microphone.play(StepSound(voice(61_000)), nothing, nothing)
    start, chance = clock.now, random.Random(1)
    while clock.now < start + 60:
        clock.now += chance.choice([0.001, 0.007, 0.02, 0.3])
        microphone.tend()
        due = math.floor((clock.now - start) / 0.02 + 1e-6) + 1
        assert len(sink.blocks) in (due, due - 1)  # rounding of the clock itself, never a sum of it
    for number, at in enumerate(sink.times):
        assert -1e-6 <= at - (start + number * 0.02) <= 0.3 + 1e-6


def test_long_silence_goes_out_in_fewer_pieces_and_keeps_its_schedule():
    clock = HandClock()
    sink = Sink(clock)
    microphone = ScriptedMicrophone(PCM16_24K, sink, live=True, clock=clock)
    start = clock.now
    for _ in range(6_000):
        clock.now += 0.005
        microphone.tend()
        behind_ms = (clock.now - start) * 1000 - microphone.sent_ms
        assert -20.1 <= behind_ms <= 100.1
    assert len(sink.blocks) == pytest.approx(250 + 25 * 10, abs=3)
    clip = voice(40)
    clock.now += 0.05
    microphone.play(StepSound(clip, 0, 40), nothing, nothing)
    assert microphone.sent_ms - (clock.now - start) * 1000 == pytest.approx(10, abs=10), (
        "the silence before it has left"
    )
    before = len(sink.blocks)
    for _ in range(3):
        clock.now += 0.02
        microphone.tend()
    assert b"".join(sink.blocks[before:]).startswith(clip)
    assert len(sink.blocks) == before + 3


def test_a_clip_goes_out_whole_between_silence_and_marks_where_its_voice_is():
    clock = HandClock()
    sink = Sink(clock)
    microphone = ScriptedMicrophone(PCM16_24K, sink, live=True, clock=clock)
    microphone.tend()
    clip = voice(50)  # two and a half blocks
    marks: dict[str, float] = {}
    microphone.play(
        StepSound(clip, 25, 50), lambda at: marks.setdefault("began", at), lambda at: marks.setdefault("ended", at)
    )
    start = clock.now
    for _ in range(5):
        clock.now += 0.02
        microphone.tend()
    sent = b"".join(sink.blocks)
    assert sent[BLOCK : BLOCK + len(clip)] == clip
    assert not any(sent[:BLOCK] + sent[BLOCK + len(clip) :])
    assert {len(block) for block in sink.blocks} == {BLOCK}
    assert marks == {"began": pytest.approx(start + 0.04), "ended": pytest.approx(start + 0.06)}
    assert not microphone.speaking
    assert microphone.sent_ms == 20 * len(sink.blocks)


def test_muted_it_sends_nothing_and_keeps_its_schedule():
    clock = HandClock()
    sink = Sink(clock)
    microphone = ScriptedMicrophone(PCM16_24K, sink, live=True, clock=clock)
    microphone.tend()
    microphone.muted = True
    clock.now += 1.01
    microphone.tend()
    assert len(sink.blocks) == 1
    microphone.muted = False
    clock.now += 0.011
    microphone.tend()
    assert len(sink.blocks) == 2


def test_it_tells_when_each_unbroken_stretch_was_due():
    clock = HandClock()
    told: list[tuple[int, float]] = []
    microphone = ScriptedMicrophone(
        PCM16_24K, Sink(clock), live=True, captured=lambda *mark: told.append(mark), clock=clock
    )
    start = clock.now
    clock.now += 0.33
    microphone.tend()
    assert told == [(0, start)]
    microphone.muted = True
    clock.now += 1
    microphone.tend()
    microphone.muted = False
    clock.now += 0.02
    microphone.tend()
    assert told[1:] == [(340, pytest.approx(start + 1.34))]


def test_a_key_that_is_not_pressed_sends_nothing():
    clock = HandClock()
    sink = Sink(clock)
    microphone = ScriptedMicrophone(PCM16_24K, sink, live=False, clock=clock)
    clock.now += 5
    microphone.tend()
    assert not sink.blocks
    assert microphone.due_in_s() > 60
    for _ in range(2):
        microphone.play(StepSound(voice(40), 0, 40), nothing, nothing)
        clock.now += 1
        microphone.tend()
        assert not microphone.speaking
        clock.now += 5
        microphone.tend()
    assert b"".join(sink.blocks) == voice(80)


def test_silence_is_silence_in_every_format():
    clock = HandClock()
    sink = Sink(clock)
    ScriptedMicrophone(ULAW, sink, live=True, clock=clock).tend()
    assert not np.frombuffer(decode(sink.blocks[0], "ulaw"), "<i2").any()
    assert len(sink.blocks[0]) == 160


def test_fast_it_sends_all_at_once():
    clock = HandClock()
    sink = Sink(clock)
    microphone = ScriptedMicrophone(PCM16_24K, sink, live=False, clock=clock)
    microphone.play_fast(StepSound(voice(1_230), 0, 1_000), 150, nothing, nothing)
    assert b"".join(sink.blocks) == voice(1_230) + bytes(150 * 48)
    assert microphone.sent_ms == 1_380


def test_real_time_has_no_drift():
    """One second of real blocks, waited for as the player does: the schedule holds to the block."""
    times: list[float] = []
    microphone = ScriptedMicrophone(PCM16_24K, lambda _block: times.append(SYSTEM_CLOCK.monotonic()), live=True)
    never = threading.Event()
    while len(times) < 50:
        never.wait(max(0.0, microphone.due_in_s()))
        microphone.tend()
    lateness = [at - times[0] - number * 0.02 for number, at in enumerate(times)]
    assert min(lateness) > -0.02, "none before its time"
    assert sorted(lateness)[len(lateness) // 2] < 0.25, "and most close to it, even on a busy machine"


# The listener.


def test_it_hears_at_the_pace_of_time():
    clock = HandClock()
    listener = ScriptedListener(clock)
    listener.arrived(("a", 0), 2.0, clock.now)
    listener.arrived(("a", 0), 1.0, clock.now)
    listener.arrived(("b", 0), 1.0, clock.now)
    clock.now += 2.5
    assert listener.so_far_ms([("a", 0)]) == pytest.approx(2500)
    assert listener.so_far_ms([("b", 0)]) == 0
    assert listener.remaining_s() == pytest.approx(1.5)
    clock.now += 1.0
    assert listener.so_far_ms([("a", 0), ("b", 0)]) == pytest.approx(3500)
    clock.now += 10
    assert listener.so_far_ms([("a", 0), ("b", 0), ("never", 0)]) == pytest.approx(4000)
    assert listener.remaining_s() == 0


def test_a_late_piece_is_heard_later():
    clock = HandClock()
    listener = ScriptedListener(clock)
    listener.arrived(("a", 0), 0.1, clock.now)
    clock.now += 0.5
    listener.arrived(("a", 0), 0.2, clock.now)
    assert listener.underruns == 1
    clock.now += 0.1
    assert listener.so_far_ms([("a", 0)]) == pytest.approx(200)


def test_a_cut_is_where_a_person_would_have_stopped_hearing():
    clock = HandClock()
    listener = ScriptedListener(clock)
    listener.arrived(("a", 0), 1.0, clock.now)
    listener.arrived(("b", 0), 1.0, clock.now)
    clock.now += 1.25
    assert listener.heard_ms("b", 0) == 250
    assert listener.heard_ms("a", 0) == 1000
    assert listener.heard_ms("unknown", 0) == 0
    assert listener.remaining_s() == 0
    listener.arrived(("b", 0), 5.0, clock.now)
    clock.now += 3
    assert listener.heard_ms("b", 0) == 250, "what comes after the cut is not heard"
    listener.arrived(("c", 0), 1.0, clock.now)
    clock.now += 0.5
    assert listener.heard_ms("c", 0) == 500


def test_all_of_it_is_all_of_it():
    clock = HandClock()
    listener = ScriptedListener(clock)
    listener.arrived(("a", 0), 0.0333, clock.now)
    clock.now += 1
    assert listener.heard_ms("a", 0) == 34, "rounded up: never less than what arrived"


def test_its_memory_does_not_grow():
    clock = HandClock()
    listener = ScriptedListener(clock)
    for number in range(1000):
        listener.arrived((str(number), 0), 0.01, clock.now)
        listener.heard_ms(f"unknown {number}", 0)
    assert len(listener._parts) <= 65


def test_what_was_heard_is_told_once_in_order_and_at_its_time():
    clock = HandClock()
    listener = ScriptedListener(clock)
    start = clock.now
    listener.arrived(("a", 0), 1.0, clock.now)
    listener.arrived(("b", 0), 1.0, clock.now)
    clock.now += 0.4
    assert listener.played() == [(("a", 0), 0.0, pytest.approx(0.4), start)]
    clock.now += 1.0
    assert listener.played() == [
        (("a", 0), pytest.approx(0.4), 1.0, pytest.approx(start + 0.4)),
        (("b", 0), 0.0, pytest.approx(0.4), pytest.approx(start + 1.0)),
    ]
    assert listener.played() == []
    clock.now += 2.0
    listener.arrived(("b", 0), 1.0, clock.now)
    clock.now += 0.25
    assert listener.heard_ms("b", 0) == 1250
    clock.now += 5
    assert listener.played() == [
        (("b", 0), pytest.approx(0.4), 1.0, pytest.approx(start + 1.4)),
        (("b", 0), 1.0, pytest.approx(1.25), pytest.approx(start + 3.4)),
    ]


def test_where_nobody_listens_a_cut_is_where_the_scenario_says():
    listener = PatientListener()
    assert listener.heard_ms("a", 0) is None
    listener.stop_at({("a", 0): 1000.0, ("b", 0): 2000.0}, 1500)
    assert [listener.heard_ms(item, 0) for item in "abc"] == [1000, 500, None]


# Sounds.


def goertzel(samples: Any, rate_hz: int, hz: float) -> float:
    time_s = np.arange(len(samples)) / rate_hz
    return float(abs(np.sum(samples * np.exp(-2j * np.pi * hz * time_s))) / len(samples))


@pytest.mark.parametrize("rate_hz", [8_000, 24_000])
def test_the_tones_are_those_of_the_telephone(rate_hz):
    lows, highs = (697, 770, 852, 941), (1209, 1336, 1477, 1633)
    keys = "123A456B789C*0#D"
    pcm = np.frombuffer(sound.dtmf(keys, rate_hz), "<i2").astype(float)
    tone, step = 70 * rate_hz // 1000, 140 * rate_hz // 1000
    assert len(pcm) == len(keys) * step
    for number, _key in enumerate(keys):
        samples = pcm[number * step : number * step + tone]
        found = [max(band, key=lambda hz: goertzel(samples, rate_hz, hz)) for band in (lows, highs)]
        assert found == [lows[number // 4], highs[number % 4]]
        assert not pcm[number * step + tone : (number + 1) * step].any(), "70 ms of silence"
    with pytest.raises(UsageError, match="no telephone has the key 'E'"):
        sound.dtmf("E", rate_hz)


def case(folder: Path | str = ".", **fields: Any) -> Case:
    return Case(id="x", scenario=Scenario(name="x"), file="x.yaml", folder=str(folder), **fields)


def test_voice_bounds_leave_silence_out():
    tone = sound.dtmf("5", 24_000)[: 70 * 48]
    pcm = bytes(48 * 500) + tone + bytes(48 * 300)
    assert sound.voice_bounds(pcm, 24_000) == (500, 570)
    assert sound.voice_bounds(bytes(4800), 24_000) == (0, 0)
    assert sound.voice_bounds(b"", 24_000) == (0, 0)


def test_files_of_any_rate_from_a_folder_or_from_the_case(tmp_path):
    tone = sound.dtmf("5", 44_100)
    write_wav(tmp_path / "five.wav", tone, 44_100)
    step = Step(audio="five.wav")
    for fmt in (PCM16_24K, ULAW):
        clip = sound.make_clip(step, case(tmp_path), fmt)
        assert fmt.ms(len(clip.audio)) == 140
        assert (clip.voice_start_ms, clip.voice_end_ms) == (0, pytest.approx(70, abs=10))
        assert sound.make_clip(step, case(files={"five.wav": (tmp_path / "five.wav").read_bytes()}), fmt) == clip
    write_wav(tmp_path / "five.wav", tone * 2, 44_100)
    assert PCM16_24K.ms(len(sound.make_clip(step, case(tmp_path), PCM16_24K).audio)) == 280, (
        "a changed file is read anew"
    )
    with pytest.raises(UsageError, match=r"cannot read the audio file .*none\.wav"):
        sound.make_clip(Step(audio="none.wav"), case(tmp_path), PCM16_24K)


def test_the_local_voice_speaks_once_and_by_any_name_that_it_has():
    clip = sound.make_clip(Step(speak="hello there"), case(), PCM16_24K)
    assert 300 < PCM16_24K.ms(len(clip.audio)) < 3000
    assert clip.voice_end_ms > clip.voice_start_ms
    assert sound.make_clip(Step(speak="hello there"), case(), PCM16_24K) is clip
    other = sound.make_clip(Step(speak="hello there", voice="de"), case(), PCM16_24K)
    assert other.audio != clip.audio
    lengths = []
    for _ in range(2):  # right after another language each time: what was said in this process before may differ
        sound._spoken.cache_clear()
        sound.make_clip(Step(speak="hello there", voice="de"), case(), PCM16_24K)
        lengths.append(len(sound.make_clip(Step(speak="hello there"), case(), PCM16_24K).audio))
    assert lengths[1] == pytest.approx(lengths[0], rel=0.03), "another language leaves no traces"
    with pytest.raises(UsageError, match="espeak-ng has no voice 'nobody'"):
        sound.make_clip(Step(speak="hello", voice="nobody"), case(), PCM16_24K)


def test_silence_and_keys():
    clip = sound.make_clip(Step(silence="1.5 s"), case(), ULAW)
    assert (ULAW.ms(len(clip.audio)), set(clip.audio), clip.voice_end_ms) == (1500, {0xFF}, 0)
    assert ULAW.ms(len(sound.make_clip(Step(dtmf="12#"), case(), ULAW).audio)) == 420
