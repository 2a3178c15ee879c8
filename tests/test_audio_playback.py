"""Playback without a device: order, prebuffer, fades, and what was heard, against a plain model."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime_client.audio.playback.jitter import BLOCK_MS, MAX_LATENESS_MS, START_MS, Jitter
from realtime_client.audio.playback.playback import Playback
from realtime_client.audio.playback.ramp import FADE_MS, Ramp

RATE_HZ = 24_000
BLOCK = RATE_HZ * BLOCK_MS // 1000
A, B = ("item_a", 0), ("item_b", 0)


def tone(count: int, value: int = 1000) -> np.ndarray:
    return np.full(count, value, np.int16)


def numbers(start: int, count: int) -> np.ndarray:
    """Samples that tell which they are: 1, 2, 3 ... of the whole stream."""
    return np.arange(start + 1, start + count + 1).astype(np.int16)


def read(playback: Playback, count: int = BLOCK) -> tuple[int, np.ndarray]:
    out = np.full(count, 77, np.int16)
    return playback.read(out), out


# Order, and nothing lost or twice: any interleaving.

_PART = st.sampled_from([("a", 0), ("a", 1), ("b", 0), ("c", 0)])
_STEP = st.one_of(
    st.tuples(st.just("write"), _PART, st.integers(1, 1500)),
    st.tuples(st.just("end"), _PART, st.just(0)),
    st.tuples(st.just("read"), st.none(), st.integers(1, 900)),
    st.tuples(st.just("drop"), st.none(), st.integers(0, 2000)),
)


class Model:
    """The same in the plainest way: one list of (part, sample) to play, one list of what was handed over."""

    def __init__(self) -> None:
        self.waiting: list[tuple] = []
        self.handed: list[tuple | None] = []
        self.written: dict[tuple, int] = {}
        self.ended: set[tuple] = set()
        self.final: dict[tuple, int] = {}
        self.count = 0

    def write(self, part, count):
        new = numbers(self.count, count)
        if part not in self.final:
            self.count += count
            self.ended.discard(part)
            self.written[part] = self.written.get(part, 0) + count
            self.waiting += [(part, int(value)) for value in new]
        return new

    def heard_ms(self, part, held):
        if part in self.final:
            return self.final[part]
        audible = self.handed[: max(0, len(self.handed) - held)]
        return sum(1 for entry in audible if entry and entry[0] == part) * 1000 // RATE_HZ

    def drop(self, held):
        heard = {}
        for part, written in self.written.items():
            so_far = self.heard_ms(part, held)
            if part not in self.final and not (part in self.ended and so_far >= written * 1000 // RATE_HZ):
                heard[part] = so_far
        self.final |= heard
        self.waiting.clear()
        return heard


@settings(max_examples=300, deadline=None)
@given(st.lists(_STEP, max_size=40))
def test_any_interleaving_keeps_order_and_loses_nothing(steps):
    playback, model, at_s = Playback(RATE_HZ), Model(), 0.0
    for what, part, count in steps:
        if what == "write":
            playback.write(part, model.write(part, count), at_s)
        elif what == "end":
            playback.end(part)
            if part in model.written:
                model.ended.add(part)
        elif what == "drop":
            assert playback.drop(count) == model.drop(count)
        else:
            underruns = playback.underruns
            sounded, out = read(playback, count)
            at_s += count / RATE_HZ
            expected = model.waiting[:sounded]
            assert len(expected) == sounded
            if playback.underruns == underruns:  # after an underrun the first 5 ms rise from silence
                rising = np.flatnonzero(out[:sounded] != [value for _, value in expected])
                assert not len(rising) or rising[-1] < RATE_HZ * FADE_MS // 1000 + 900
            del model.waiting[:sounded]
            model.handed += expected + [None] * (count - sounded)
        for known in model.written:
            for held in (0, 480, 5000):
                assert playback.heard_ms(known, held) == model.heard_ms(known, held)
        assert playback.backlog_ms == len(model.waiting) * 1000 // RATE_HZ
        assert playback.idle == (not model.waiting)
    assert playback.handed == len(model.handed)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 3000), min_size=1, max_size=20), st.lists(st.integers(1, 900), min_size=1, max_size=10))
def test_what_is_written_comes_out_sample_for_sample(writes, reads):
    playback, start = Playback(RATE_HZ), 0
    for count in writes:
        playback.write(A, numbers(start, count), 0.0)
        start += count
    playback.end(A)
    got, turn = [], 0
    while not playback.idle:
        sounded, out = read(playback, reads[turn % len(reads)])
        got.append(out[:sounded])
        turn += 1
    assert np.array_equal(np.concatenate(got), numbers(0, start))
    assert playback.underruns == 0
    assert playback.heard_ms(A, 0) == start * 1000 // RATE_HZ


def test_the_reader_beside_a_writer_and_a_dropper_keeps_order():
    """Three threads, as in a session: the numbers that come out never go back."""
    playback, ends = Playback(RATE_HZ, prebuffer_ms=40), threading.Event()
    got: list[np.ndarray] = []
    limits: list[bool] = []

    def listen() -> None:
        while not ends.is_set():
            sounded, out = read(playback)
            got.append(out[:sounded].copy())

    def drop() -> None:
        while not ends.wait(0.002):
            for part, heard_ms in playback.drop(960).items():
                limits.append(0 <= heard_ms <= written.get(part, 0))

    written: dict[tuple, float] = {}
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=target) for target in (listen, drop)]
    try:
        for thread in threads:
            thread.start()
        for number in range(3000):
            part = (f"item_{number}", 0)
            written[part] = 100
            playback.write(part, np.full(2400, number + 1, np.int16), 0.0)
            playback.end(part)
    finally:
        ends.set()
        for thread in threads:
            thread.join(5.0)
        sys.setswitchinterval(switch)
    heard = np.concatenate(got)
    assert len(heard)
    assert np.all(np.diff(heard.astype(np.int32)) >= 0)
    assert limits
    assert all(limits)


# Waiting for enough.


def test_playing_starts_with_the_prebuffer_or_the_end_or_the_wait():
    playback = Playback(RATE_HZ, prebuffer_ms=60)
    playback.write(A, tone(BLOCK * 2), 0.0)
    assert read(playback)[0] == 0
    playback.write(A, tone(BLOCK), 0.02)
    assert read(playback)[0] == BLOCK  # 60 ms are there

    short = Playback(RATE_HZ, prebuffer_ms=60)
    short.write(A, tone(BLOCK), 0.0)
    short.end(A)
    assert read(short)[0] == BLOCK  # no more of it will come

    left = Playback(RATE_HZ, prebuffer_ms=60)
    left.write(A, tone(BLOCK), 0.0)
    assert [read(left)[0] for _ in range(4)] == [0, 0, 0, BLOCK]  # waited for 60 ms


def test_the_prebuffer_follows_the_lateness():
    jitter = Jitter(60)
    for number in range(300):
        jitter.arrived(A, 0.1, number * 0.1 + (0.25 if number % 10 == 5 else 0))
    assert jitter.prebuffer_ms == 250 + BLOCK_MS
    for number in range(300, 600):
        jitter.arrived(A, 0.1, number * 0.1)
    assert jitter.prebuffer_ms == 60
    jitter.arrived(A, 0.1, 1000.0)  # a stall counts as 500 ms, once ...
    for number in range(1, 201):
        jitter.arrived(A, 0.1, 1000 + number * 0.1)  # ... and what follows is on time again
        assert jitter.prebuffer_ms == (MAX_LATENESS_MS + BLOCK_MS if number < 200 else 60)


def test_sound_that_comes_faster_than_it_plays_is_never_late():
    jitter = Jitter(60)
    for number in range(100):
        jitter.arrived(A, 0.1, number * 0.02)
    assert jitter.prebuffer_ms == 60


def play(arrivals: list[tuple[float, int]], playback: Playback, part=A) -> list[int]:
    """Let pieces (second, samples) arrive while blocks are read in real time; return the lengths of the gaps inside."""
    sounded, now, todo = [], 0.0, list(arrivals)
    while todo or not playback.idle:
        while todo and todo[0][0] <= now:
            playback.write(part, tone(todo[0][1]), todo.pop(0)[0])
        if not todo:
            playback.end(part)
        count, _ = read(playback)
        sounded.append(count)
        now += BLOCK_MS / 1000
    first, last = next(i for i, c in enumerate(sounded) if c), max(i for i, c in enumerate(sounded) if c)
    gaps, silent = [], 0
    for count in sounded[first : last + 1]:
        silent += BLOCK - count
        if count == BLOCK and silent:
            gaps.append(silent)
            silent = 0
    return gaps


@pytest.mark.parametrize("most_ms", [100, 300, 500])
@pytest.mark.parametrize("seed", range(5))
def test_frames_up_to_500_ms_late_make_no_gap_once_that_is_known(seed, most_ms):
    rng = np.random.default_rng(seed)
    playback = Playback(RATE_HZ)

    def frames() -> list[tuple[float, int]]:
        late = np.maximum.accumulate(np.arange(600) * 0.1 + rng.uniform(0, most_ms / 1000, 600))
        return [(at - late[0], RATE_HZ // 10) for at in late]

    for turn in range(3):
        play(frames(), playback, (f"learning_{turn}", 0))
    learned = playback.underruns
    gaps = play(frames(), playback, ("adapted", 0))
    assert max(gaps, default=0) <= BLOCK
    assert playback.underruns - learned <= 2
    assert playback.prebuffer_ms <= MAX_LATENESS_MS + BLOCK_MS


@pytest.mark.parametrize("ppm", [-400, 0, 400])
def test_ten_minutes_stay_in_step_with_a_device_whose_clock_is_another(ppm):
    """An unbroken answer whose frames come 0 to 300 ms late: no gap, and the ledger counts no sample twice."""
    rng, block_s = np.random.default_rng(4), BLOCK / RATE_HZ / (1 + ppm / 1e6)
    late = rng.uniform(0, 0.3, 6000)
    comes = np.maximum.accumulate(np.arange(6000) * 0.1 + late)
    playback, gaps, blocks = Playback(RATE_HZ, start_prebuffer_ms=START_MS), 0, 0
    for number, at_s in enumerate(comes):
        while blocks * block_s < at_s:
            count, _ = read(playback)
            gaps += count < BLOCK and playback.handed > RATE_HZ
            blocks += 1
        playback.write(A, numbers(number * 2400, 2400), float(at_s))
    assert (gaps, playback.underruns) == (0, 0)
    behind = playback.backlog_ms
    assert abs(playback.heard_ms(A, 0) - (600_000 - behind)) <= 1
    assert sum(s.to_ms - s.from_ms for s in playback.stood(0, playback.handed)) <= 600_000


def test_bursts_500_ms_apart_play_without_a_gap():
    playback = Playback(RATE_HZ)
    bursts = [(0.5 * (number // 5), RATE_HZ // 10) for number in range(50)]
    assert max(play(bursts, playback), default=0) <= BLOCK  # the second may be one block late
    assert playback.underruns <= 1
    assert play(bursts, playback, B) == []


# Fades, volume, mute.


def largest_step(samples: list[np.ndarray]) -> int:
    return int(np.abs(np.diff(np.concatenate([np.zeros(1, np.int16), *samples]).astype(np.int32))).max())


def test_an_underrun_fades_instead_of_clicking():
    playback = Playback(RATE_HZ)
    ramp_in = (np.linspace(0, 1, BLOCK * 3) * 20_000).astype(np.int16)
    playback.write(A, ramp_in, 0.0)
    blocks = [read(playback)[1] for _ in range(5)]
    assert playback.underruns == 0  # it may have been the end
    playback.write(A, tone(BLOCK * 5, 20_000), 0.3)
    blocks += [read(playback)[1] for _ in range(20)]
    assert playback.underruns == 1
    assert np.concatenate(blocks).max() == 20_000
    assert largest_step(blocks) < 300  # 20 000 in 120 samples, as a cosine
    assert not blocks[-1].any()


def test_a_cut_fades_what_was_handed_over_last():
    playback = Playback(RATE_HZ)
    playback.write(A, tone(BLOCK * 50, 20_000), 0.0)
    for _ in range(5):
        read(playback)
    assert playback.drop(BLOCK) == {A: 80}
    blocks = [np.array([20_000], np.int16), read(playback)[1], read(playback)[1]]
    assert np.abs(np.diff(np.concatenate(blocks).astype(np.int32))).max() < 300
    assert np.count_nonzero(blocks[1]) <= RATE_HZ * FADE_MS // 1000
    assert not blocks[2].any()


def test_a_cut_that_empties_the_device_leaves_no_sound_behind():
    playback = Playback(RATE_HZ)
    playback.write(A, tone(BLOCK * 50), 0.0)
    for _ in range(5):
        read(playback)
    playback.drop(BLOCK, fade=False)
    assert not read(playback)[1].any()


def test_volume_and_mute_move_without_a_click():
    playback = Playback(RATE_HZ)
    playback.write(A, tone(BLOCK * 20, 20_000), 0.0)
    before = read(playback)[1]
    playback.volume = 0.5
    half = read(playback)[1]
    playback.muted = True
    muted = read(playback)[1]
    playback.muted, playback.volume = False, 7.0
    full = read(playback)[1]
    assert (before[-1], half[-1], muted[-1], full[-1]) == (20_000, 10_000, 0, 20_000)
    assert np.abs(np.diff(np.concatenate([before, half, muted, full]).astype(np.int32))).max() < 300
    assert playback.heard_ms(A, 0) == 4 * BLOCK_MS  # muted sound counts as heard


def test_a_gain_stays_where_it_was_moved_to():
    ramp = Ramp(RATE_HZ)
    length = RATE_HZ * FADE_MS // 1000
    as_it_is, moving, steady, last = (tone(count, 10_000) for count in (300, length, 300, 1))
    ramp.apply(as_it_is, 1.0)
    ramp.apply(moving, 0.5)
    ramp.apply(steady, 0.5)
    assert (as_it_is == 10_000).all()
    assert (np.diff(moving) <= 0).all()
    assert (steady == 5_000).all()
    ramp.apply(last, 0.5)
    dying = np.full(length + 10, 77, np.int16)
    for start in range(0, len(dying), 50):  # in blocks of any length
        ramp.tail(dying[start : start + 50])
    assert dying[0] == int(5_000 * np.float32((1 + np.cos(np.pi * 0.5 / length)) / 2))
    assert (np.diff(dying) <= 0).all()
    assert dying[length - 1] < 50
    assert not dying[length:].any()


def test_a_device_that_is_a_little_too_fast_gets_some_samples_twice():
    """As many as were asked for, one a block, its last one; nothing else changes."""
    playback = Playback(RATE_HZ)
    playback.write(A, numbers(0, BLOCK * 12), 0.0)
    read(playback)
    playback._wanted = 3.7
    blocks = [read(playback)[1] for _ in range(8)]
    twice = [bool(block[-1] == block[-2]) for block in blocks]
    assert twice == [True, True, True, False, False, False, False, False]
    steps = np.diff(np.concatenate(blocks))
    assert ((steps == 0).sum(), (steps == 1).sum()) == (3, len(steps) - 3)


# What was heard.


def test_heard_counts_each_part_up_to_what_is_audible():
    playback = Playback(RATE_HZ)
    playback.write(A, tone(BLOCK * 5), 0.0)
    playback.end(A)
    playback.write(B, tone(BLOCK * 5), 0.0)
    for _ in range(7):
        read(playback)
    assert (playback.heard_ms(A, 0), playback.heard_ms(B, 0)) == (100, 40)
    assert (playback.heard_ms(A, 3 * BLOCK), playback.heard_ms(B, 3 * BLOCK)) == (80, 0)
    assert playback.heard_ms(("unknown", 0), 0) is None
    assert playback.drop(3 * BLOCK) == {A: 80, B: 0}  # the tail of A after its end counts as well
    playback.write(B, tone(BLOCK * 5), 1.0)  # late sound of a part that was cut
    assert playback.idle
    assert playback.heard_ms(B, 0) == 0


def test_a_part_heard_to_its_end_is_not_cut():
    playback = Playback(RATE_HZ)
    playback.write(A, tone(BLOCK * 5), 0.0)
    playback.end(A)
    for _ in range(6):
        read(playback)
    assert playback.drop(0) == {}
    assert playback.heard_ms(A, 0) == 100


def test_a_full_backlog_takes_no_more_and_says_so():
    playback = Playback(RATE_HZ, limit_s=1.0)
    playback.write(A, tone(RATE_HZ - 100), 0.0)
    playback.write(A, tone(RATE_HZ), 0.0)
    playback.write(A, tone(RATE_HZ), 0.0)
    assert playback.backlog_ms == 1000
    assert playback.refused == 2 * RATE_HZ - 100


def test_the_ledger_stays_small():
    playback = Playback(RATE_HZ)
    for number in range(2000):
        part = (f"item_{number}", 0)
        playback.write(part, tone(100), 0.0)
        playback.end(part)
        read(playback)
    assert len(playback._records) <= 257
    assert len(playback._runs) <= 1024
    assert playback.heard_ms(("item_1999", 0), 0) == 4
    assert playback.heard_ms(("item_0", 0), 0) is None


def test_moving_to_another_rate_keeps_order_and_positions():
    playback = Playback(RATE_HZ)
    playback.write(A, tone(BLOCK * 5, 100), 0.0)
    playback.end(A)
    playback.write(B, tone(BLOCK * 5, 200), 0.0)
    for _ in range(3):
        read(playback)
    moved = playback.moved_to(2 * RATE_HZ, lambda samples: np.repeat(samples, 2))
    assert (moved.heard_ms(A, 0), moved.heard_ms(B, 0), moved.backlog_ms) == (60, 0, 140)
    moved.end(B)
    blocks = [read(moved, 2 * BLOCK) for _ in range(7)]
    assert [count for count, _ in blocks] == [2 * BLOCK] * 7
    assert [int(block[5]) for _, block in blocks] == [100, 100, 200, 200, 200, 200, 200]
    assert (moved.heard_ms(A, 0), moved.heard_ms(B, 0)) == (100, 100)


def test_what_a_lost_device_held_is_played_again():
    playback = Playback(RATE_HZ)
    playback.write(A, tone(BLOCK * 2, 100), 0.0)
    playback.end(A)
    playback.write(B, numbers(0, BLOCK * 5), 0.0)
    for _ in range(5):
        read(playback)
    moved = playback.moved_to(RATE_HZ, lambda samples: samples, 2 * BLOCK + 100)  # 100 samples of B had sounded
    assert moved.heard_ms(A, 0) == 40
    assert moved.heard_ms(B, 0) == 100 * 1000 // RATE_HZ
    moved.end(B)
    got = np.concatenate([out[:count] for count, out in (read(moved) for _ in range(6))])
    assert np.array_equal(got, numbers(0, BLOCK * 5)[100:])
    assert moved.heard_ms(B, 0) == 100
    assert [stretch.from_ms for stretch in moved.stood(0, moved.handed)] == [pytest.approx(100 / 24)]
    again = moved.moved_to(2 * RATE_HZ, lambda samples: np.repeat(samples, 2), moved.handed)
    assert again.idle
    assert again.heard_ms(B, 0) == 100


def test_what_plays_goes_on_at_once_on_the_next_device():
    playback = Playback(RATE_HZ, prebuffer_ms=200)
    playback.write(A, tone(BLOCK * 12, 100), 0.0)
    blocks = [read(playback)[0] for _ in range(10)]
    assert blocks[-1] == BLOCK
    assert 0 < playback.backlog_ms < 100, "less than it would wait for at the start"
    moved = playback.moved_to(RATE_HZ, lambda samples: samples, playback.handed)
    assert read(moved)[0] == BLOCK
    assert moved.underruns == 0


def test_what_was_cut_is_not_played_again_on_the_next_device():
    playback = Playback(RATE_HZ)
    playback.write(A, tone(BLOCK * 5), 0.0)
    for _ in range(4):
        read(playback)
    playback.drop(BLOCK, fade=False)
    assert playback.moved_to(RATE_HZ, lambda samples: samples, BLOCK).idle
    assert [(s.from_ms, s.to_ms) for s in playback.stood(0, playback.handed)] == [(0.0, 60.0)]


@settings(max_examples=200, deadline=None)
@given(st.lists(_STEP, max_size=40))
def test_what_stood_where_fits_what_was_heard(steps):
    playback, at_s, told = Playback(RATE_HZ), 0.0, {}
    for what, part, count in steps:
        if what == "write":
            playback.write(part, tone(count), at_s)
        elif what == "end":
            playback.end(part)
        elif what == "drop":
            playback.drop(count)
        else:
            begin = playback.handed
            read(playback, count)
            at_s += count / RATE_HZ
            stretches = playback.stood(begin, playback.handed)
            for stretch in stretches:
                assert begin <= stretch.position < playback.handed
                assert stretch.from_ms == pytest.approx(told.get(stretch.part, 0.0))
                told[stretch.part] = stretch.to_ms
            for again in {stretch.part for stretch in stretches}:  # one may stand there twice
                assert playback.heard_ms(again, 0) == int(told[again])


@pytest.mark.parametrize("seed", range(8))
def test_the_first_answer_of_a_session_has_no_gap_under_300_ms_of_jitter(seed):
    rng = np.random.default_rng(seed)
    late = np.maximum.accumulate(np.arange(200) * 0.1 + rng.uniform(0, 0.3, 200))
    playback = Playback(RATE_HZ, start_prebuffer_ms=START_MS)
    assert play([(at - late[0], RATE_HZ // 10) for at in late], playback) == []
    assert playback.underruns == 0


def test_a_server_that_sends_fast_is_not_held_up_at_the_start():
    playback = Playback(RATE_HZ, start_prebuffer_ms=START_MS)
    playback.write(A, tone(RATE_HZ // 10), 0.0)
    assert read(playback)[0] == 0
    for number in range(1, 5):
        playback.write(A, tone(RATE_HZ // 10), number * 0.005)
    assert read(playback)[0] == BLOCK  # 20 ms later, not 320
    for number in range(60):
        playback.write(A, tone(RATE_HZ // 10), 0.03 + number * 0.005)
    assert playback.prebuffer_ms == 60  # by now it is known


def test_reading_keeps_no_memory():
    import tracemalloc

    playback = Playback(RATE_HZ)
    playback.write(A, tone(RATE_HZ * 60), 0.0)
    playback.volume = 0.5
    out = np.empty(BLOCK, np.int16)
    tracemalloc.start()
    try:
        for _ in range(300):
            playback.read(out)
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(1000):
            playback.read(out)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 3000
