"""Devices, speaker and microphone: the choice, and real sound with real faults on the virtual sound card."""

from __future__ import annotations

import json
import math
import os
import stat
import threading
import time

import numpy as np
import pytest
from cli_helpers import realtime
from sound_card import RATE_HZ, SoundCard, again_after_a_stall, wait_until

from realtime_client.audio import devices
from realtime_client.audio.devices import Device, DeviceError, StuckError
from realtime_client.audio.lines.telling import DeviceChange
from realtime_client.audio.microphone import Microphone, _Blocker
from realtime_client.audio.resample import resample
from realtime_client.audio.speaker import Speaker
from realtime_client.errors import UsageError

pytest_plugins = ["sound_card_fixture"]

VOICE_HZ = 24_000
PART = ("item", 0)


def device(index: int, name: str, inputs: int = 2, outputs: int = 2, **more) -> Device:
    return Device(index=index, name=name, host_api="ALSA", inputs=inputs, outputs=outputs, rate_hz=44_100, **more)


SPEAKERS = [
    device(0, "Built-in Audio", default_input=True),
    device(1, "USB Headset"),
    device(2, "USB Webcam", outputs=0),
    device(3, "HDMI 1", inputs=0),
    device(4, "default", default_output=True),
]


def noise(duration_s: float, seed: int = 1, rate_hz: int = VOICE_HZ) -> np.ndarray:
    """Noise of 200 to 3500 Hz, which is like nothing but itself: what arrives can be found again to the sample."""
    count = round(duration_s * rate_hz)
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(size=count))
    hz = np.fft.rfftfreq(count, 1 / rate_hz)
    spectrum[(hz < 200) | (hz > 3500)] = 0
    wave = np.fft.irfft(spectrum, count)
    return (wave / np.abs(wave).max() * 12_000).astype("<i2")


def pause(seconds: float) -> None:
    threading.Event().wait(seconds)


# The choice.


def test_a_device_is_chosen_by_index_or_part_of_the_name():
    assert devices.choose("1", "output", SPEAKERS).name == "USB Headset"
    assert devices.choose(3, "output", SPEAKERS).name == "HDMI 1"
    assert devices.choose("headset", "input", SPEAKERS).index == 1
    assert devices.choose("hdmi 1", "output", SPEAKERS).index == 3
    assert devices.choose("usb", "output", SPEAKERS).index == 1  # the webcam plays nothing
    assert devices.choose(None, "output", SPEAKERS).name == "default"
    assert devices.choose(None, "input", SPEAKERS).name == "Built-in Audio"


@pytest.mark.parametrize(
    ("wanted", "named"),
    [("usb", ["USB Headset", "USB Webcam"]), ("bluetooth", ["Built-in Audio", "default"]), ("9", ["USB Webcam"])],
)
def test_a_choice_that_is_not_one_device_lists_the_candidates(wanted, named):
    with pytest.raises(UsageError) as caught:
        devices.choose(wanted, "input", SPEAKERS)
    assert all(name in str(caught.value) for name in named)


def test_no_device_at_all_is_no_wrong_choice():
    with pytest.raises(DeviceError, match="there is no microphone"):
        devices.choose("usb", "input", [device(0, "HDMI", inputs=0)])


def test_the_choice_is_remembered_and_falls_back_with_a_warning():
    said: list[str] = []
    assert devices.preferred(None, "output", said.append, SPEAKERS).name == "default"
    devices.remember("output", "USB Headset")
    devices.remember("input", "USB Webcam")
    assert devices.preferred(None, "output", said.append, SPEAKERS).name == "USB Headset"
    assert devices.preferred("hdmi", "output", said.append, SPEAKERS).name == "HDMI 1"
    assert said == []
    assert devices.preferred(None, "output", said.append, SPEAKERS[3:]).name == "default"
    assert said == ["'USB Headset', chosen before, is not there; using 'default'"]
    path = devices._choice_path()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    devices.remember("output", None)
    assert (devices.remembered("output"), devices.remembered("input")) == (None, "USB Webcam")
    path.write_text('{"output": 7, broken')
    assert devices.remembered("input") is None


def test_candidates_begin_with_the_wanted_and_end_with_the_lost():
    names = [d.name for d in devices.candidates(SPEAKERS[1], "output", lost="default", devices=SPEAKERS)]
    assert names == ["USB Headset", "Built-in Audio", "HDMI 1", "default"]


# Calls that hang, and no PortAudio.


def test_a_call_that_hangs_is_left_and_its_late_result_tidied_up():
    gate, tidied = threading.Event(), []
    with pytest.raises(StuckError):
        devices.limited(lambda: gate.wait(20.0) and "stream", 0.05, late=tidied.append)
    assert devices.stuck()
    assert not devices.refresh()
    gate.set()
    wait_until(lambda: not devices.stuck())
    assert tidied == ["stream"]
    with pytest.raises(ZeroDivisionError):
        devices.limited(lambda: 1 / 0, 5.0)


def test_without_portaudio_there_is_one_clear_line(tmp_path):
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    done = realtime("devices", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "PortAudio is missing, so there is no sound" in done.stderr


# The command.


def test_the_command_lists_plays_meters_and_remembers(sound_card):
    listed = realtime("devices")
    assert listed.returncode == 0
    assert [line.split()[-6:-4] and line for line in listed.stdout.splitlines() if "card1" in line or "card2" in line]
    assert listed.stderr == ""
    rows = json.loads(realtime("devices", "--json", "--use-speaker", "CARD2").stdout)["devices"]
    by_name = {row["name"]: row for row in rows}
    assert by_name["card2"]["chosen_output"]
    assert not by_name["card2"]["chosen_input"]
    assert by_name["default"]["default_output"]
    assert 24_000 in by_name["card1"]["output_rates_hz"]
    with sound_card.hear(2) as tape:
        assert realtime("devices", "--play", "card2").returncode == 0
        wait_until(lambda: len(tape.loud(3000)) > RATE_HZ * 0.3, what="the tone")
    for wanted, code in (("card", 2), ("nothing", 2)):
        done = realtime("devices", "--play", wanted)
        assert (done.returncode, "card1" in done.stderr) == (code, True)


def test_the_command_meters_what_is_said(sound_card):
    voice = threading.Thread(target=sound_card.speak, args=(noise(4.0, rate_hz=RATE_HZ).tobytes(),))
    voice.start()
    done = realtime("devices", "--meter", "card1", "--json")
    voice.join(10.0)
    assert done.returncode == 0
    assert -15 < json.loads(done.stdout)["metered"]["peak_dbfs"] < 0


# Playing.


class Playing:
    """A speaker on the first card, for one attempt of a test, and what it told of its devices."""

    def __init__(self, card: SoundCard) -> None:
        self._card = card
        self.changes: list[tuple[float, DeviceChange]] = []
        self.speaker = Speaker(devices.choose("card1", "output"), on_change=self.changed)

    def changed(self, change: DeviceChange) -> None:
        self.changes.append((time.monotonic(), change))

    def __enter__(self) -> Speaker:
        return self.speaker

    def __exit__(self, *_: object) -> None:
        self._card.thaw()
        self.speaker.close()

    def noticed(self, since_s: float, limit_s: float = 3.0) -> tuple[float, DeviceChange]:
        """Wait for the first change since then: how long after, and what."""
        first = wait_until(
            lambda: next((c for c in self.changes if c[0] >= since_s), None), limit_s, "a change of device"
        )
        return first[0] - since_s, first[1]


def play(speaker: Speaker, samples: np.ndarray, part=PART, *, end: bool = True) -> None:
    speaker.play(part, samples.tobytes(), VOICE_HZ, time.monotonic())
    if end:
        speaker.end(part)


def at_48_khz(samples: np.ndarray, rate_hz: int = VOICE_HZ) -> np.ndarray:
    return np.frombuffer(resample(samples.tobytes(), rate_hz, RATE_HZ), "<i2")


def windows(sent: np.ndarray, came: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find what was sent in what came, both at 48 kHz: for each 200 ms window its correlation and its lag in ms."""
    wave, heard = sent.astype(float), came.astype(float)
    size = 1 << (len(wave) + len(heard)).bit_length()
    lag = int(np.argmax(np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(wave, size)), size)[: len(heard)]))
    width, reach, found = RATE_HZ // 5, RATE_HZ // 50, []
    for start in range(width, len(wave) - 2 * width, width):
        piece = wave[start : start + width]
        around = heard[lag + start - reach : lag + start + width + reach]
        if len(around) < width + 2 * reach:
            break
        dots = np.correlate(around, piece, "valid")
        energy = np.sqrt(np.convolve(around**2, np.ones(width), "valid") * (piece**2).sum())
        match = dots / np.maximum(energy, 1)
        found.append((match.max(), (int(match.argmax()) - reach) / RATE_HZ * 1000))
    table = np.array(found)
    return table[:, 0], table[:, 1]


@pytest.mark.parametrize("device_rate_hz", [VOICE_HZ, 44_100])
@again_after_a_stall
def test_what_is_played_arrives_whole(sound_card, device_rate_hz):
    sent = noise(3.0)
    speaker = Speaker(devices.choose("card1", "output"), rate_hz=device_rate_hz)
    try:
        with sound_card.hear() as tape:
            for start in range(0, len(sent), 2400):
                speaker.play(PART, sent[start : start + 2400].tobytes(), VOICE_HZ, time.monotonic())
            speaker.end(PART)
            wait_until(lambda: speaker.idle, 6.0, "the end of the sound")
            pause(0.1)
        assert speaker.heard_ms(*PART) == 3000
    finally:
        speaker.close()
    correlation, lag_ms = windows(at_48_khz(sent), tape.samples)
    assert len(correlation) >= 11
    assert np.median(correlation) > 0.99
    assert np.median(np.abs(lag_ms)) < 1.0
    assert speaker.underruns == 0


@again_after_a_stall
def test_a_cut_is_silent_at_once_and_knows_what_was_heard(sound_card):
    playing = Playing(sound_card)
    with playing as speaker:
        rng, marks = np.random.default_rng(7), []
        with sound_card.hear() as tape:
            for number in range(10):
                part, came_s = (f"item_{number}", 0), time.monotonic()
                play(speaker, noise(5.0), part)
                pause(0.25 + rng.uniform(0, 0.1))
                at_s = time.monotonic()
                heard = speaker.cut()
                marks.append((came_s, at_s, heard[part]))
                assert speaker.heard_ms(*part) == heard[part]
                pause(0.15)
        loud, silent_ms, wrong_ms = tape.loud(60), [], []
        for came_s, cut_s, heard_ms in marks:
            inside = loud[(loud > tape.index(came_s)) & (loud < tape.index(cut_s + 0.13))]
            silent_ms.append((tape.at_s(inside[-1]) - cut_s) * 1000)
            wrong_ms.append(abs((inside[-1] - inside[0]) / RATE_HZ * 1000 - heard_ms))
        assert np.median(silent_ms) <= 30
        assert max(silent_ms) <= 60, silent_ms
        assert max(wrong_ms) <= 20, wrong_ms


@again_after_a_stall
def test_frames_that_come_up_to_300_ms_late_leave_no_gap_once_that_is_known(sound_card):
    playing = Playing(sound_card)
    with playing as speaker:
        rng, frame_s = np.random.default_rng(3), 0.05
        samples, size = noise(6.0), round(VOICE_HZ * 0.05)
        arrivals = np.maximum.accumulate(np.arange(120) * frame_s + rng.uniform(0, 0.3, 120))
        ticker = threading.Event()
        with sound_card.hear() as tape:
            began = time.monotonic()
            for number, at in enumerate(arrivals):
                ticker.wait(max(0.0, began + at - time.monotonic()))
                play(speaker, samples[number * size : (number + 1) * size], end=number == 119)
            wait_until(lambda: speaker.idle, 5.0)
            pause(0.1)
        loud = tape.loud(60)
        gaps = [
            (tape.at_s(loud[i]) - began, (loud[i + 1] - loud[i]) / RATE_HZ)
            for i in np.flatnonzero(np.diff(loud) > RATE_HZ // 100)
        ]
        assert speaker.playback.prebuffer_ms > 200
        assert [gap for gap in gaps if gap[0] > 3.0 and gap[1] > 0.02] == []
        assert speaker.heard_ms(*PART) == 6000


# Faults while it plays.


@again_after_a_stall
def test_a_device_that_hangs_is_left_for_the_next(sound_card):
    playing = Playing(sound_card)
    with playing as speaker:
        play(speaker, noise(20.0))
        pause(0.2)
        with sound_card.hear(2) as tape:
            began = time.monotonic()
            sound_card.suspend(1)
            took_s, change = playing.noticed(began)
            wait_until(lambda: len(tape.loud()) > RATE_HZ / 4, what="sound from the second card")
        assert (change.before, change.now, change.reason) == ("card1", "card2", "the device hangs")
        assert tape.at_s(tape.loud()[0]) - began < 0.5
        assert took_s < 0.5
        assert speaker.device.name == "card2"
        assert 0 < speaker.heard_ms(*PART) < 5000


@again_after_a_stall
def test_a_hanging_default_is_not_taken_for_another_device(sound_card):
    """Both names lead to the card that hangs; only the second card plays."""
    playing = Playing(sound_card)
    with playing as speaker:
        play(speaker, noise(20.0))
        speaker.use(devices.choose("default", "output"))
        playing.noticed(0.0)
        began = time.monotonic()
        sound_card.suspend(1)
        wait_until(lambda: speaker.device and speaker.device.name == "card2", what="the second card")
        assert time.monotonic() - began < 1.5


@again_after_a_stall
def test_an_unplugged_card_leaves_its_sound_to_the_other(sound_card):
    playing = Playing(sound_card)
    with playing as speaker:
        play(speaker, noise(20.0))
        pause(0.2)
        with sound_card.hear(2) as tape:
            began = time.monotonic()
            sound_card.unplug(1)
            wait_until(lambda: len(tape.loud()) > RATE_HZ / 4, what="sound from the second card")
        assert tape.at_s(tape.loud()[0]) - began < 0.5


@again_after_a_stall
def test_sound_on_the_default_follows_the_default(sound_card):
    """The sound server moves it; a stream on a card that was chosen by name stays."""
    with Playing(sound_card) as speaker, sound_card.hear(1) as first, sound_card.hear(2) as second:
        speaker.use(devices.choose("default", "output"))
        play(speaker, noise(20.0))
        wait_until(lambda: len(first.loud()))
        began = time.monotonic()
        sound_card.use(2)
        wait_until(lambda: len(second.loud()) > RATE_HZ / 4, what="sound from the new default")
    assert second.at_s(second.loud()[0]) - began < 0.5


@pytest.mark.parametrize("fault", ["kill", "freeze"])
@again_after_a_stall
def test_without_a_server_it_says_so_and_comes_back(sound_card, fault):
    playing = Playing(sound_card)
    with playing as speaker:
        play(speaker, noise(60.0))
        pause(0.2)
        began = time.monotonic()
        getattr(sound_card, fault)()
        took_s, change = playing.noticed(began)
        assert took_s < 0.5
        assert (change.before, change.now) == ("card1", None)
        assert speaker.device is None
        asked_s = time.monotonic()
        heard_ms, waiting_ms = speaker.heard_ms(*PART), speaker.backlog_ms
        assert 0 < heard_ms < 5000
        assert waiting_ms > 50_000
        play(speaker, noise(1.0), ("item_2", 0))
        assert time.monotonic() - asked_s < 0.2
        healed_s = time.monotonic()
        sound_card.heal()
        _, change = playing.noticed(healed_s, 6.0)
        assert change.now is not None
        wait_until(lambda: speaker.backlog_ms < waiting_ms + 900, what="playback to go on")


@again_after_a_stall
def test_closing_while_the_server_hangs_ends_in_time(sound_card):
    playing = Playing(sound_card)
    with playing as speaker:
        play(speaker, noise(10.0))
        sound_card.freeze()
        began = time.monotonic()
        speaker.cut()
        assert time.monotonic() - began < 0.5
        speaker.close()
        assert time.monotonic() - began < 3.5
        sound_card.thaw()
        wait_until(devices.can_refresh)
        assert devices.refresh()


# Listening.


class Ear:
    def __init__(self) -> None:
        self.blocks: list[np.ndarray] = []
        self.times: list[float] = []
        self.gaps: list[float] = []

    def hear(self, block: np.ndarray, at_s: float) -> None:
        self.blocks.append(block)
        self.times.append(at_s)

    @property
    def samples(self) -> np.ndarray:
        return np.concatenate(self.blocks)


@pytest.mark.parametrize("rate_hz", [VOICE_HZ, 16_000])
@again_after_a_stall
def test_the_microphone_hears_what_is_said(sound_card, rate_hz):
    ear, said = Ear(), noise(1.5, rate_hz=RATE_HZ)
    microphone = Microphone(
        devices.choose("card1", "input"), on_block=ear.hear, rate_hz=rate_hz, on_gap=ear.gaps.append
    )
    try:
        wait_until(lambda: ear.blocks)
        assert microphone.level_dbfs == -math.inf
        with sound_card.hear_mic() as tape:
            sound_card.speak(said.tobytes())
            heard_s = 1.4
            wait_until(lambda: sum(1 for b in ear.blocks if np.abs(b.astype(int)).max() > 1000) * 0.02 > heard_s)
        microphone.muted = True
        count = len(ear.blocks)
        wait_until(lambda: len(ear.blocks) > count + 20)
        assert not ear.blocks[-1].any()
    finally:
        microphone.close()
    assert {len(block) for block in ear.blocks} == {rate_hz // 50}
    assert np.all(np.abs(np.diff(ear.times) - 0.02) < 0.015)
    first = next(at for at, block in zip(ear.times, ear.blocks, strict=True) if np.abs(block.astype(int)).max() > 1000)
    assert abs(first - tape.at_s(tape.loud(1000)[0])) < 0.06
    sounding = tape.loud(60)
    correlation, lag_ms = windows(tape.samples[sounding[0] : sounding[-1]], at_48_khz(ear.samples, rate_hz))
    assert len(correlation) >= 4
    assert np.median(correlation) > 0.97
    assert np.ptp(lag_ms) < 2.0
    assert ear.gaps == []
    assert microphone.error is None


@again_after_a_stall
def test_a_microphone_that_hangs_is_replaced_and_the_gap_told(sound_card):
    ear, changes = Ear(), []
    microphone = Microphone(
        devices.choose("card1", "input"),
        on_block=ear.hear,
        on_gap=ear.gaps.append,
        on_change=lambda change: changes.append((time.monotonic(), change)),
    )
    try:
        wait_until(lambda: len(ear.blocks) > 10)
        began = time.monotonic()
        sound_card.suspend(1)
        at_s, change = wait_until(lambda: next(iter(changes), None), what="another microphone")
        assert at_s - began < 0.5
        assert (change.now, microphone.device.name) == ("card2", "card2")
        sound_card.speak(noise(0.5, rate_hz=RATE_HZ).tobytes(), 2)
        wait_until(lambda: any(np.abs(b.astype(int)).max() > 1000 for b in ear.blocks), what="the second microphone")
    finally:
        microphone.close()
    assert len(ear.gaps) == 1
    assert 0.2 < ear.gaps[0] < 0.8
    assert microphone.dropped == 0


def test_blocks_at_another_rate_keep_time_over_a_gap():
    blocker, at_s, times, count = _Blocker(VOICE_HZ), 100.0, [], 0
    gaps = []
    for number in range(200):
        if number == 100:
            at_s += 0.5
        gap_s = blocker.put(bytes(882 * 2), at_s, 44_100)
        gaps += [] if gap_s is None else [gap_s]
        found = blocker.blocks()
        times += [at for _, at in found]
        count += len(found)
        at_s += 0.02
    assert gaps == [pytest.approx(0.5)]
    assert 196 <= count <= 201
    steps = np.diff(times)
    assert np.count_nonzero(np.abs(steps - 0.02) > 0.001) == 1
    assert steps.max() == pytest.approx(0.52, abs=0.025)


def test_the_voice_path_leaves_no_file_descriptors_and_no_threads(sound_card):
    def opened() -> None:
        speaker = Speaker(devices.choose("card1", "output"))
        microphone = Microphone(devices.choose("card1", "input"), on_block=lambda *_: None)
        speaker.cut()
        microphone.close()
        speaker.close()

    opened()
    before = len(os.listdir("/proc/self/fd")), threading.active_count()  # noqa: PTH208  # nothing to open meanwhile
    for _ in range(3):
        opened()
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before  # noqa: PTH208
