"""When samples sound, from callbacks that come on time and devices that do not tell the truth."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from realtime_client.audio.lines.stream_clock import StreamClock

RATE_HZ, BLOCK, BLOCK_S = 24_000, 480, 0.02
DELAY_S = 0.042


class Device:
    """A device that holds two blocks, its callbacks a little late each, and what it tells."""

    def __init__(self, seed: int = 1) -> None:
        self._late_s = np.random.default_rng(seed)
        self.clock = StreamClock(RATE_HZ)
        self.now_s, self.position = 100.0, 0
        self._line_s = 0.0  # the earliest a block may come, less its position

    def stream(self) -> None:
        """Begin a new one: it is filled at once."""
        self.now_s += 0.01
        self._line_s = self.now_s - (self.position + 2 * BLOCK) / RATE_HZ
        self._first = True

    def lose(self, seconds: float) -> None:
        """Run empty for so long."""
        self.now_s += seconds
        self._line_s += seconds

    def blocks(self, count: int, wrong_s: Iterator[float] | float = 0.0) -> list[float]:
        """So many callbacks; how far what the clock says is from the truth, for each (ms). wrong_s: of what is told."""
        found = []
        for _ in range(count):
            due_s = self._line_s + self.position / RATE_HZ
            self.now_s = max(self.now_s + 0.0002, due_s + float(self._late_s.uniform(0, 0.004)))
            sounds_s = due_s + DELAY_S
            wrong = wrong_s if isinstance(wrong_s, float) else next(wrong_s)
            told_s = max(self.now_s, sounds_s + wrong)
            at_s = self.clock.at_s(self.position, told_s, self.now_s, anew=self._first)
            self._first = False
            self.position += BLOCK
            found.append(1000 * (at_s - sounds_s))
        return found


def test_a_device_that_tells_the_truth_is_believed_from_the_first_block():
    device = Device()
    device.stream()
    assert np.abs(device.blocks(500)).max() < 4.5
    device.stream()
    assert np.abs(device.blocks(500)).max() < 4.5


def test_single_wrong_times_do_not_show():
    device = Device()
    device.stream()
    device.blocks(200)
    wrong = (0.016 if number % 9 == 0 else 0.0 for number in range(500))
    assert np.abs(device.blocks(500, wrong)).max() < 4.5


def test_a_fresh_stream_on_a_busy_machine_that_tells_more_and_more():
    """As it was seen: half a second of no delay, then 65 ms more each second, up to 160."""
    device = Device()
    device.stream()
    device.blocks(200)
    device.stream()
    told_ms = [*[0.0] * 25, *np.arange(0, 160, 1.3), *[160.0] * 50]
    off_ms = device.blocks(len(told_ms), iter([ms / 1000 - DELAY_S for ms in told_ms]))
    assert np.abs(off_ms[3:]).max() < 4.5
    assert np.abs(device.blocks(50)).max() < 4.5


def test_a_device_that_ran_empty_is_followed_within_five_blocks():
    device = Device()
    device.stream()
    device.blocks(200)
    device.lose(0.07)
    assert np.abs(device.blocks(50)[5:]).max() < 4.5


@pytest.mark.parametrize("ppm", [-150, 150])
def test_a_clock_that_runs_at_another_speed_is_followed(ppm):
    device = Device()
    device.stream()
    device.blocks(200)
    off_ms = []
    for _ in range(3000):
        device._line_s += BLOCK_S * ppm / 1e6
        off_ms += device.blocks(1)
    assert np.abs(off_ms).max() < 6


def test_sound_that_was_moved_to_a_slower_device_is_followed_after_two_seconds():
    device = Device()
    device.stream()
    device.blocks(200)
    assert np.abs(device.blocks(90, 0.15)).max() < 4.5, "it may be wrong"
    device.blocks(30, 0.15)
    assert np.abs(np.array(device.blocks(50, 0.15)) - 150).max() < 4.5
