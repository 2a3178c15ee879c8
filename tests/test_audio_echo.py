"""Echo: the gate, the canceller, the onset of near speech, the loop measurement, and what is remembered of it."""

from __future__ import annotations

import functools
import stat
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime_client.audio.echo import control as echo_module
from realtime_client.audio.echo import loop_test
from realtime_client.audio.echo.control import (
    LOOK_AHEAD_MS,
    UNKNOWN_PATH,
    EchoControl,
    EchoMode,
    WebRtcCanceller,
    choose_mode,
)
from realtime_client.audio.echo.far_line import FarLine, SampleHistory
from realtime_client.audio.echo.level import EchoPath
from realtime_client.audio.echo.loop_test import (
    Advice,
    Clipped,
    Disturbed,
    LoopMeasurement,
    NothingHeard,
    advise,
    measure,
    sweep,
)
from realtime_client.audio.echo.onset import OnsetDetector, OnsetEvent, OnsetSettings, frame_levels
from realtime_client.audio.resample import resample
from realtime_client.errors import MissingExtraError, UsageError
from realtime_client.local.voice import EspeakVoice
from realtime_client.talk import echo_memory

RATE_HZ, BLOCK = 24_000, 480
MEASURED = EchoPath(delay_ms=60, return_loss_db=12, hold_ms=330)
TALE = (
    "The old harbour lies at the end of a long road. Ships come in every morning, and they bring fish, wood and paper. "
    "In the afternoon the wind turns, and the water becomes quiet. Today nobody waits for letters any more."
)
WORDS = ("Stop, that is wrong.", "Wait a moment please.", "No, tell me about the other one.", "What time is it now?")


@functools.cache
def spoken(text: str, voice: str) -> np.ndarray:
    engine = EspeakVoice()
    return np.frombuffer(resample(b"".join(engine.speak(text, voice=voice)), engine.rate_hz, RATE_HZ), np.int16).astype(
        float
    )


def at_level(sound: np.ndarray, dbfs: float) -> np.ndarray:
    active = sound[np.abs(sound) > np.abs(sound).max() * 0.02]
    return sound * (10 ** (dbfs / 20) * 32_768 / np.sqrt(np.mean(active**2)))


@functools.cache
def assistant(seconds: int) -> np.ndarray:
    one = np.concatenate([at_level(spoken(TALE, "marin"), -20), np.zeros(2 * RATE_HZ)])
    two = np.concatenate([at_level(spoken(TALE, "coral"), -20), np.zeros(RATE_HZ)])
    both = np.concatenate([one, two])
    return np.tile(both, seconds * RATE_HZ // both.size + 1)[: seconds * RATE_HZ]


def room(loss_db: float, rate_hz: int = RATE_HZ, delay_ms: float = 60) -> np.ndarray:
    """60 ms and a decaying tail of 120 ms."""
    size = rate_hz * 120 // 1000
    response = np.random.default_rng(1).standard_normal(size) * 10 ** (-3 * np.arange(size) / size) * 0.3
    response[0] = 1
    response *= 10 ** (-loss_db / 20) / np.sqrt(np.sum(response**2))
    return np.concatenate((np.zeros(round(delay_ms * rate_hz / 1000)), response))


def through(sound: np.ndarray, response: np.ndarray) -> np.ndarray:
    piece, heard = 1 << 19, np.zeros(sound.size + response.size)
    size = 1 << 20
    spectrum = np.fft.rfft(response, size)
    for at in range(0, sound.size, piece):
        part = np.fft.irfft(np.fft.rfft(sound[at : at + piece], size) * spectrum, size)
        heard[at : at + size] += part[: heard.size - at]
    return heard[: sound.size]


def noise(size: int, dbfs: float, seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(size) * 10 ** (dbfs / 20) * 32_768


def pcm(sound: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(sound), -32_768, 32_767).astype(np.int16)


def controlled(far: np.ndarray, near: np.ndarray, control: EchoControl) -> tuple[np.ndarray, list[float]]:
    """What goes to the server, and when near speech was found (s)."""
    passed, onsets = [], []
    for at in range(0, far.size - BLOCK + 1, BLOCK):
        control.far(far[at : at + BLOCK], at / RATE_HZ)
        passed.append(control.near(near[at : at + BLOCK], at / RATE_HZ))
        if control.event is OnsetEvent.STARTED:
            onsets.append((at + BLOCK) / RATE_HZ)
    return np.concatenate(passed), onsets


def interruptions(seconds: int) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """A user who speaks every 6 s, at -26 dBFS; and from when to when."""
    near, marks = np.zeros(seconds * RATE_HZ), []
    for index in range(seconds // 6 - 2):
        said = at_level(spoken(WORDS[index % 4], "ash"), -26)
        at = RATE_HZ * (9 + 6 * index) + 1234 * index % RATE_HZ
        near[at : at + said.size] += said
        marks.append((at / RATE_HZ, (at + said.size) / RATE_HZ))
    return near, marks


# The onset of speech.


def onsets(sound: np.ndarray, block: int = BLOCK, **options) -> list[float]:
    detector = OnsetDetector(RATE_HZ, **options)
    return [
        (at + block) / RATE_HZ
        for at in range(0, sound.size - block + 1, block)
        if detector.feed(sound[at : at + block]) is OnsetEvent.STARTED
    ]


@pytest.mark.parametrize("block", [240, 480])
def test_clear_speech_is_found_within_a_few_frames(block):
    late_ms = []
    for index, text in enumerate(WORDS * 3):
        said = at_level(spoken(text, ("ash", "sage", "verse")[index // 4]), -26)
        levels = np.array(frame_levels(pcm(said), RATE_HZ // 1000))
        clear_ms = int(np.argmax(levels > levels.max() - 25))
        lead = RATE_HZ + 37 * index
        sound = np.concatenate((np.zeros(lead), said, np.zeros(RATE_HZ)))
        found = onsets(pcm(sound + noise(sound.size, -65)), block)
        assert len(found) >= 1, text
        late_ms.append(1000 * found[0] - 1000 * lead / RATE_HZ - clear_ms)
    assert np.median(late_ms) <= 40, late_ms
    assert max(late_ms) <= 150, late_ms


def test_speech_ends_after_the_hangover_and_may_begin_again():
    detector = OnsetDetector(RATE_HZ)
    said = at_level(spoken("One, two, three.", "ash"), -26)
    sound = pcm(np.concatenate((np.zeros(RATE_HZ), said, np.zeros(RATE_HZ), said, np.zeros(RATE_HZ))))
    told = [detector.feed(sound[at : at + BLOCK]) for at in range(0, sound.size, BLOCK)]
    events = [event for event in told if event is not None]
    assert events[0] is OnsetEvent.STARTED
    assert events[-1] is OnsetEvent.STOPPED
    assert events[::2] == [OnsetEvent.STARTED] * (len(events) // 2)
    assert events[1::2] == [OnsetEvent.STOPPED] * (len(events) // 2)
    assert not detector.speaking


@pytest.mark.parametrize("level_dbfs", [-70, -50, -40, -30])
def test_steady_noise_is_no_speech(level_dbfs):
    assert onsets(pcm(noise(30 * RATE_HZ, level_dbfs))) == []


@pytest.mark.parametrize("click_ms", [1, 4, 9])
def test_clicks_are_no_speech(click_ms):
    sound = noise(30 * RATE_HZ, -65)
    rng = np.random.default_rng(click_ms)
    for second in range(1, 30):
        at = second * RATE_HZ + int(rng.integers(0, BLOCK))
        sound[at : at + click_ms * RATE_HZ // 1000] += 12_000
    assert onsets(pcm(sound)) == []


def test_a_model_keeps_noises_out_that_are_as_loud_as_speech():
    class Deaf:
        frame_samples = 512

        def rate(self, frame: bytes) -> float:
            assert len(frame) == 1024
            return 0.1

    burst = noise(3 * RATE_HZ, -65)
    burst[RATE_HZ : RATE_HZ * 3 // 2] += noise(RATE_HZ // 2, -20)
    assert len(onsets(pcm(burst))) == 1
    assert onsets(pcm(burst), model=Deaf()) == []


def test_more_noise_from_now_on_is_learnt():
    sound = np.concatenate((noise(5 * RATE_HZ, -65), noise(10 * RATE_HZ, -40)))
    found = onsets(pcm(sound))
    assert len(found) <= 1
    detector = OnsetDetector(RATE_HZ)
    for at in range(0, sound.size, BLOCK):
        detector.feed(pcm(sound[at : at + BLOCK]))
    assert not detector.speaking
    assert abs(detector.noise_dbfs - -41) < 2.5


def test_expected_echo_raises_the_threshold():
    detector = OnsetDetector(RATE_HZ)
    detector.feed(pcm(noise(RATE_HZ, -65)))
    tone = pcm(noise(RATE_HZ, -30))
    assert detector.feed(tone[:4800], echo_dbfs=-30) is None
    assert detector.feed(tone[4800:9600], echo_dbfs=-50) is OnsetEvent.STARTED


@given(st.lists(st.integers(0, 1500), max_size=30))
@settings(max_examples=25, deadline=None)
def test_how_the_sound_is_cut_changes_nothing(cuts):
    said = pcm(np.concatenate((np.zeros(RATE_HZ), at_level(spoken(WORDS[0], "ash"), -26))))
    whole, pieces = OnsetDetector(RATE_HZ), OnsetDetector(RATE_HZ)
    expected = whole.feed(said)
    found, at = [], 0
    for cut in cuts:
        found.append(pieces.feed(said[at : at + cut]))
        at += cut
    found.append(pieces.feed(said[at:]))
    assert pieces.speaking == whole.speaking
    assert [e for e in found if e][-1] is expected
    assert pieces.level_dbfs == whole.level_dbfs


def test_rates_without_whole_frames_are_refused():
    for rate_hz in (0, -100, 22_050):
        with pytest.raises(UsageError):
            OnsetDetector(rate_hz)
    with pytest.raises(UsageError):
        EchoControl(24_000, "half-duplex", far_hz=11_025)


# Modes.


def test_the_mode_that_is_used(monkeypatch):
    monkeypatch.setattr(echo_module, "aec_available", lambda: True)
    assert choose_mode("auto") is EchoMode.AEC
    assert choose_mode("auto", "headphones") is EchoMode.HEADPHONES
    assert choose_mode("half-duplex", "headphones") is EchoMode.HALF_DUPLEX
    monkeypatch.setattr(echo_module, "aec_available", lambda: False)
    assert choose_mode("auto") is EchoMode.HALF_DUPLEX
    assert choose_mode("auto", "aec") is EchoMode.HALF_DUPLEX
    with pytest.raises(MissingExtraError, match=r"realtime-client\[aec\]"):
        EchoControl(RATE_HZ, "aec")
    with pytest.raises(ValueError, match="loud"):
        choose_mode("loud")


def test_headphones_pass_everything_at_once():
    control = EchoControl(RATE_HZ, "headphones")
    sound = pcm(noise(RATE_HZ, -30))
    passed, _ = controlled(sound, sound, control)
    assert np.array_equal(passed, sound)
    assert control.delay_ms == 0
    assert control.passes_speech


@pytest.mark.parametrize("mode", ["half-duplex", "aec"])
def test_speech_without_an_assistant_passes_whole_and_a_little_later(mode):
    said = np.concatenate((np.zeros(RATE_HZ), at_level(spoken(TALE, "ash"), -26), np.zeros(RATE_HZ)))
    sound = pcm(said + noise(said.size, -65))
    passed, found = controlled(np.zeros_like(sound), sound, EchoControl(RATE_HZ, mode))
    assert found
    late = LOOK_AHEAD_MS * RATE_HZ // 1000
    assert passed.size == sound.size // BLOCK * BLOCK
    if mode == "half-duplex":
        assert np.array_equal(passed[late:], sound[: passed.size - late])
    else:
        left, right = passed[late:].astype(float), sound[: passed.size - late].astype(float)
        assert abs(10 * np.log10(np.mean(left**2) / np.mean(right**2))) < 2


def test_the_gate_is_closed_for_the_tail_and_then_opens():
    control = EchoControl(RATE_HZ, "half-duplex", path=EchoPath(hold_ms=750))
    hum = pcm(noise(4 * RATE_HZ, -50))
    far = np.zeros_like(hum)
    far[: 2 * RATE_HZ] = pcm(noise(2 * RATE_HZ, -20))
    passed, _ = controlled(far, hum, control)
    silent_until_s = np.flatnonzero(passed)[0] / RATE_HZ
    assert abs(silent_until_s - 2.76) <= 0.03


# Echo.


@pytest.mark.slow
@pytest.mark.parametrize(("loss_db", "measured"), [(3, True), (12, False)])
def test_half_duplex_two_minutes_of_assistant_are_no_speech(loss_db, measured):
    far = assistant(120)
    near = pcm(through(far, room(loss_db)) + noise(far.size, -60))
    path = EchoPath(delay_ms=60, return_loss_db=loss_db, hold_ms=330) if measured else UNKNOWN_PATH
    passed, found = controlled(pcm(far), near, EchoControl(RATE_HZ, "half-duplex", path=path))
    assert found == []
    levels = np.array(frame_levels(passed, 240))
    assert levels.max() < -50  # nothing of the assistant went through, only the room's noise in the pauses


@pytest.mark.slow
def test_aec_two_minutes_of_assistant_are_no_speech_and_the_echo_is_gone():
    far = assistant(120)
    echo = through(far, room(12))
    near = pcm(echo + noise(far.size, -65))
    passed, found = controlled(pcm(far), near, EchoControl(RATE_HZ, "aec"))
    assert found == []
    assert np.array(frame_levels(passed, 240)).max() < -50


def test_the_canceller_takes_25_db_away():
    far = assistant(20)
    echo = through(far, room(12))
    near, sent = pcm(echo + noise(far.size, -65)), pcm(far)
    canceller, left = WebRtcCanceller(RATE_HZ, RATE_HZ), []
    for at in range(0, sent.size - 239, 240):
        canceller.far(sent[at : at + 240])
        left.append(canceller.near(near[at : at + 240]))
    rest = np.concatenate(left).astype(float)
    part = slice(5 * RATE_HZ, 19 * RATE_HZ)
    assert 10 * np.log10(np.mean(echo[part] ** 2) / np.mean(rest[part] ** 2)) >= 25


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "path"), [("aec", UNKNOWN_PATH), ("aec", MEASURED), ("half-duplex", MEASURED)])
def test_interruptions_over_the_assistant_get_through(mode, path):
    far = assistant(90)
    user, marks = interruptions(90)
    near = pcm(through(far, room(12)) + user + noise(far.size, -65))
    passed, found = controlled(pcm(far), near, EchoControl(RATE_HZ, mode, path=path))
    hits = [next((one for one in found if begin <= one <= end), None) for begin, end in marks]
    assert sum(one is not None for one in hits) >= 0.9 * len(marks), hits
    assert all(any(begin - 0.05 <= one <= end + 0.4 for begin, end in marks) for one in found)
    for (begin, end), hit in zip(marks, hits, strict=True):
        if hit is not None:
            assert np.abs(passed[int(hit * RATE_HZ) : int(end * RATE_HZ)]).max() > 1000, begin


def test_the_beginning_of_an_interruption_is_not_lost():
    far = np.zeros(4 * RATE_HZ)
    far[: 3 * RATE_HZ] = assistant(3)
    near = noise(far.size, -65)
    burst = noise(RATE_HZ // 2, -12, seed=9)
    at = 2 * RATE_HZ + BLOCK
    near[at : at + burst.size] += burst
    path = EchoPath(delay_ms=60, return_loss_db=30, hold_ms=330)
    passed, found = controlled(pcm(far), pcm(near), EchoControl(RATE_HZ, "half-duplex", path=path))
    assert len(found) == 1
    loud = np.flatnonzero(np.abs(passed) > 1000)
    late = LOOK_AHEAD_MS * RATE_HZ // 1000
    assert loud[0] - (at + late) <= 2
    assert np.array_equal(passed[at + late : at + late + burst.size], pcm(near)[at : at + burst.size])


def test_a_speaker_that_stops_and_starts_does_no_harm():
    far, near = assistant(30), None
    near = pcm(through(far, room(12)) * (np.arange(far.size) < 20 * RATE_HZ) + noise(far.size, -65))
    control, found = EchoControl(RATE_HZ, "aec"), []
    sent = pcm(far)
    for at in range(0, far.size - BLOCK + 1, BLOCK):
        if at < 20 * RATE_HZ:  # then the speaker's device is gone: nothing is handed over any more
            control.far(sent[at : at + BLOCK], at / RATE_HZ)
        control.near(near[at : at + BLOCK], at / RATE_HZ)
        found.append(control.event)
    assert OnsetEvent.STARTED not in found
    assert control.passes_speech  # the assistant is not audible any more


def test_blocks_of_any_length_come_out_whole():
    control = EchoControl(RATE_HZ, "half-duplex")
    sizes = [1, 239, 240, 241, 1000, 7, 0, 512]
    out = [control.near(np.ones(size, np.int16), 0.0).size for size in sizes]
    assert sum(out) == sum(sizes) // 240 * 240
    assert all(size % 240 == 0 for size in out)


def test_memory_does_not_grow():
    control = EchoControl(RATE_HZ, "half-duplex")
    block = pcm(noise(BLOCK, -30))

    def run(blocks: int) -> None:
        for _ in range(blocks):
            control.far(block, 0.0)
            control.near(block, 0.0)

    run(600)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        run(1200)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 20_000


# Both sides brought together.


@given(st.lists(st.integers(0, 130), max_size=40), st.integers(-300, 5000), st.integers(0, 200))
@settings(max_examples=100, deadline=None)
def test_the_history_gives_back_what_there_is_and_zeros_else(sizes, first, count):
    history, all_of_it = SampleHistory(1000), np.arange(1, sum(sizes) + 1).astype(np.int16)
    at = 0
    for size in sizes:
        history.write(all_of_it[at : at + size])
        at += size
    expected = [n + 1 if max(0, at - 1000) <= n < at else 0 for n in range(first, first + count)]
    assert history.read(first, count).tolist() == expected


class TwoSides:
    """A speaker that plays a ramp 40 ms after it is handed over, a microphone that gives it 20 ms later."""

    def __init__(self) -> None:
        self.line = FarLine(RATE_HZ, RATE_HZ)
        self.handed, self.now_s = 0, 100.0

    def run(self, blocks: int, *, late_s: float = 0.0, wobble_s: float = 0.0) -> list[int]:
        """Let time go on; how much older than the moment of capture what came beside each frame is, in samples."""
        ages = []
        for index in range(blocks):
            sounds_s = self.now_s + 0.04 + late_s + wobble_s * (-1) ** index
            self.line.write(np.full(BLOCK, self.handed // BLOCK, np.int16), sounds_s)
            self.handed += BLOCK
            found = self.line.frames(2, self.now_s - 0.04)
            ages.append(self.handed // BLOCK - int(found[0][0]))
            self.now_s += 0.02
        return ages


def test_blocks_that_come_late_by_little_change_nothing():
    sides = TwoSides()
    assert len(set(sides.run(200, wobble_s=0.002)[10:])) == 1
    assert sides.line.slips == 0
    assert sides.line.steady


def test_what_the_speaker_loses_is_left_out():
    """It ran empty for 60 ms: from then on all that is handed over sounds 60 ms later."""
    sides = TwoSides()
    before = sides.run(100)[-1]
    sides.run(3, late_s=0.06)
    assert not sides.line.steady
    after = sides.run(100, late_s=0.06)
    assert sides.line.slips == 1
    assert after[-1] == before + 3  # blocks
    assert sides.line.steady


def test_clocks_that_differ_are_brought_together_again():
    sides = TwoSides()
    before, fast = sides.run(100)[-1], 0.0
    for _ in range(100):
        fast += 0.0005
        sides.run(20, late_s=fast)
    assert sides.line.slips == 0
    assert abs(sides.run(1, late_s=fast)[-1] - (before + fast / 0.02)) <= 1.5
    assert sides.line.steady


def test_one_block_with_a_wrong_time_is_no_jump():
    sides = TwoSides()
    before = sides.run(100)[-1]
    sides.run(1, late_s=0.3)
    assert sides.run(100)[-1] == before
    assert sides.line.slips == 0


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["half-duplex", "aec"])
def test_a_speaker_that_stumbles_is_not_taken_for_speech(mode):
    """Every 5 s it loses 60 ms of what is handed over: the echo comes earlier by that, for good."""
    far = pcm(assistant(60))
    blocks = far.reshape(-1, BLOCK)
    kept = np.array([index % 250 not in (40, 41, 42) or index < 250 for index in range(len(blocks))])
    heard = through(blocks[kept].reshape(-1).astype(float), room(6))
    near = pcm(heard + noise(heard.size, -65)).reshape(-1, BLOCK)
    control, found, sounded = EchoControl(RATE_HZ, mode), [], 0
    for index, block in enumerate(blocks):
        control.far(block, sounded * 0.02)
        if not kept[index]:
            continue
        control.near(near[sounded], sounded * 0.02)
        sounded += 1
        if control.event is OnsetEvent.STARTED:
            found.append(sounded * 0.02)
    assert found == []


# The loop measurement.


@pytest.mark.parametrize("rate_hz", [16_000, 24_000, 48_000])
@pytest.mark.parametrize(
    ("delay_ms", "loss_db", "noise_dbfs"), [(60, 12, -65), (5, 30, -60), (300, 6, -40), (180, 40, -55)]
)
def test_the_sweep_measures_the_path(rate_hz, delay_ms, loss_db, noise_dbfs):
    played = sweep(rate_hz)
    heard = through(played.astype(float), room(loss_db, rate_hz, delay_ms)) + noise(played.size, noise_dbfs)
    found = measure(pcm(heard), rate_hz)
    assert isinstance(found, LoopMeasurement)
    assert abs(found.delay_ms - delay_ms) <= 1
    assert abs(found.return_loss_db - loss_db) <= 2
    assert abs(found.noise_dbfs - noise_dbfs) <= 1
    assert 20 <= found.tail_ms <= 130
    assert found.path.hold_ms >= delay_ms + found.tail_ms


def test_a_small_loudspeaker_that_distorts_is_measured_all_the_same():
    played = sweep(RATE_HZ)
    heard = 4000 * np.tanh(through(played.astype(float), room(6)) / 4000) + noise(played.size, -50)
    found = measure(pcm(heard), RATE_HZ)
    assert isinstance(found, LoopMeasurement)
    assert abs(found.delay_ms - 60) <= 1


def test_what_cannot_be_measured_is_a_value():
    played = sweep(RATE_HZ)
    assert measure(np.zeros(played.size, np.int16), RATE_HZ) == NothingHeard(noise_dbfs=-120.0, dead=True)
    quiet = measure(pcm(noise(played.size, -55)), RATE_HZ)
    assert isinstance(quiet, NothingHeard)
    assert not quiet.dead
    assert abs(quiet.noise_dbfs - -55) < 1
    assert isinstance(measure(pcm(through(played * 1.0, room(-14))), RATE_HZ), Clipped)
    for nothing in (0, 10, 5000):
        assert isinstance(measure(np.zeros(nothing, np.int16), RATE_HZ), NothingHeard)


@pytest.mark.parametrize("at", range(15_000, 80_000, 8_000))
def test_a_door_that_falls_shut_is_not_the_sweep(at):
    played = sweep(RATE_HZ)
    heard = noise(played.size, -60)
    heard[at : at + 4800] += noise(4800, -15) * np.exp(-np.arange(4800) / 1000)
    assert isinstance(measure(pcm(heard), RATE_HZ), Disturbed | NothingHeard)


def measurement(**values) -> LoopMeasurement:
    usual = {"delay_ms": 80.0, "return_loss_db": 15.0, "noise_dbfs": -60.0, "tail_ms": 100.0, "clear_db": 50.0}
    return LoopMeasurement(**usual | values)


@pytest.mark.parametrize(
    ("result", "aec", "mode", "says"),
    [
        (measurement(), True, "aec", "15 dB below"),
        (measurement(), False, "half-duplex", "extra aec is not installed"),
        (measurement(return_loss_db=50.0), True, "headphones", "too faint"),
        (measurement(delay_ms=600.0), True, "half-duplex", "too late to cancel"),
        (NothingHeard(noise_dbfs=-60.0), True, "headphones", "does not hear"),
        (NothingHeard(noise_dbfs=-120.0, dead=True), True, "auto", "muted"),
        (Disturbed(noise_dbfs=-60.0), True, "auto", "try again"),
        (Clipped(share=0.1), True, "half-duplex", "overdriven"),
    ],
)
def test_what_is_recommended_and_why(result, aec, mode, says):
    found = advise(result, aec=aec)
    assert found.mode == mode
    assert says in found.reason


def test_thresholds_follow_the_measurement():
    found = advise(measurement(noise_dbfs=-45.0), aec=True)
    assert found.onset.least_dbfs == -33
    assert found.path == EchoPath(delay_ms=80.0, return_loss_db=15.0, hold_ms=330.0)


# What is remembered.


def test_a_choice_is_remembered_for_its_pair_of_devices_alone(tmp_path):
    path = tmp_path / "state" / "echo.json"
    first, second = advise(measurement(), aec=True), advise(NothingHeard(noise_dbfs=-60.0), aec=True)
    assert echo_memory.recall("speaker", "mic", path) is None
    echo_memory.remember("speaker", "mic", first, path)
    echo_memory.remember("headset", "headset mic", second, path)
    assert echo_memory.recall("speaker", "mic", path) == first
    assert echo_memory.recall("headset", "headset mic", path) == second
    assert echo_memory.recall("headset", "mic", path) is None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_broken_memory_is_as_good_as_none_and_it_is_bounded(tmp_path):
    path = tmp_path / "echo.json"
    path.write_text('{"pairs": {"a > b": {"mode": "shouting"')
    assert echo_memory.recall("a", "b", path) is None
    advice = Advice(mode=EchoMode.HEADPHONES, reason="said so", onset=OnsetSettings())
    for index in range(110):
        echo_memory.remember(f"speaker {index}", "mic", advice, path)
    assert echo_memory.recall("speaker 109", "mic", path) == advice
    assert echo_memory.recall("speaker 9", "mic", path) is None
    with pytest.raises(UsageError, match="cannot remember"):
        echo_memory.remember("a", "b", advice, path / "below")


def test_the_sweep_is_no_louder_than_it_should_be():
    sound = sweep(RATE_HZ)
    lead = round(loop_test.LEAD_S * RATE_HZ)
    assert not sound[:lead].any()
    assert not sound[-round(loop_test.TRAIL_S * RATE_HZ) :].any()
    assert np.abs(sound.astype(int)).max() < 32_768 * 10 ** (-14 / 20)
