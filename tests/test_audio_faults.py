"""What fails on the way of the sound: it is told once, and goes on. With devices whose faults are exact."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from fake_portaudio import FakePortAudio, PortAudioError, broken, fake_portaudio, in_time
from sound_card import wait_until

from realtime_client.audio import devices
from realtime_client.audio.devices import DeviceError, StuckError
from realtime_client.audio.faults import Trouble, why
from realtime_client.audio.lines import feed, line
from realtime_client.audio.lines.open_lines import rescan
from realtime_client.audio.lines.telling import DeviceChange
from realtime_client.audio.lines.watch import News
from realtime_client.audio.microphone import Microphone
from realtime_client.audio.speaker import Speaker
from realtime_client.errors import UsageError
from realtime_client.talk import following
from realtime_client.talk.following import Follower

RATE_HZ = 24_000
BLOCK = RATE_HZ // 50
PART, LATER = ("item", 0), ("later", 0)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePortAudio]:
    with fake_portaudio(monkeypatch, "card1", "card2") as module:
        yield module
    wait_until(devices.can_refresh, what="the calls that hung")


def tone(seconds: float, value: int = 1000) -> bytes:
    return np.full(round(seconds * RATE_HZ), value, "<i2").tobytes()


def failing(error: Exception) -> Callable[..., None]:
    def fail(*_args: Any) -> None:
        raise error

    return fail


# The words, and what is told once.


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (DeviceError("the card is gone"), "the card is gone"),
        (UsageError("two\n lines"), "two lines"),
        (ValueError("odd"), "internal error: ValueError('odd')"),
        (DeviceError("x" * 400), "x" * 299 + "…"),
    ],
)
def test_a_fault_in_words(error, text):
    assert why(error) == text


def test_a_trouble_is_told_at_its_begin_and_its_end():
    trouble = Trouble(enough=2)
    assert not trouble.worked()
    assert trouble.failed(DeviceError("gone")) == "gone"
    assert trouble.failed(DeviceError("gone")) is None
    assert not trouble.worked()
    assert trouble.failed(DeviceError("gone")) is None
    assert (trouble.worked(), trouble.worked(), trouble.worked()) == (False, True, False)
    assert [trouble.failed(DeviceError(str(number))) for number in range(6)] == ["0", "1", "2", "3", None, None]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            PortAudioError("Error opening RawOutputStream: Device unavailable", -9985),
            "Device unavailable (PortAudio -9985)",
        ),
        (PortAudioError("Error querying device -1"), "Error querying device -1"),
        (PortAudioError("Error: Host error", -9999, (0, 0, "")), "Host error (PortAudio -9999)"),
        (PortAudioError("Error: Host error", -9999, (0, -19, "no card")), "Host error (PortAudio -9999) no card"),
        (ValueError(), ""),
    ],
)
def test_what_portaudio_says(error, text):
    assert devices._reason(error) == text


# A line and the thread that watches it.


class Told:
    """Takes the changes of a line."""

    def __init__(self) -> None:
        self.changes: list[DeviceChange] = []

    def __call__(self, change: DeviceChange) -> None:
        self.changes.append(change)

    @property
    def faults(self) -> list[str]:
        return [change.reason for change in self.changes if change.fault]

    def moved_to(self, name: str | None) -> bool:
        return any(change.now == name and not change.fault for change in self.changes)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PortAudioError("out of order"), "the sound devices cannot be listed: out of order"),
        (RuntimeError("a mistake"), "internal error: RuntimeError('a mistake')"),
    ],
)
def test_a_list_that_cannot_be_read_is_told_once_and_read_again(fake, error, told):
    changes = Told()
    speaker = Speaker(on_change=changes)
    try:
        fake.on["query"] = failing(error)
        fake.running("output").end()
        wait_until(lambda: changes.moved_to(None), what="the loss of the device")
        asked = fake.counts["query"]
        wait_until(lambda: fake.counts["query"] > asked + 1, what="another try")
        assert changes.faults == [told]
        del fake.on["query"]
        wait_until(lambda: changes.moved_to("card1"), what="the device is back")
        assert changes.faults == [told]
    finally:
        in_time(speaker.close)


def test_a_list_that_cannot_be_read_when_the_server_moves_a_stream_is_asked_for_again(fake):
    changes = Told()
    speaker = Speaker(on_change=changes)
    try:
        fake.on["query"] = failing(PortAudioError("out of order"))
        speaker._line.renew("the default has changed")
        wait_until(lambda: changes.faults, what="the fault")
        asked = fake.counts["query"]
        wait_until(lambda: fake.counts["query"] > asked, what="another try")
        del fake.on["query"]
        wait_until(lambda: changes.moved_to("card1"), what="the renewal")
        assert changes.faults == ["the sound devices cannot be listed: out of order"]
    finally:
        speaker.close()


def test_who_is_told_of_devices_may_fail(fake):
    changes = Told()

    def note(change: DeviceChange) -> None:
        changes(change)
        if not change.fault:
            raise ValueError("an observer")

    speaker = Speaker(on_change=note)
    try:
        for number in (1, 2):
            fake.running("output").end()
            wait_until(lambda number=number: len(changes.changes) - len(changes.faults) == number, what="a change")
        fake.on["open"] = broken("card1")
        assert in_time(rescan) is True
        assert changes.changes[-1].now == "card2"
        wait_until(lambda: changes.faults)
        assert changes.faults == ["internal error: ValueError('an observer')"]
    finally:
        speaker.close()


@pytest.mark.parametrize("kind", ["query", "initialize"])
def test_a_list_that_cannot_be_read_again_leaves_no_line_locked(fake, kind):
    heard = Told()
    speaker, microphone = Speaker(), Microphone(on_block=lambda *_: None, on_change=heard)
    try:
        fake.on[kind] = failing(PortAudioError("out of order"))
        if kind == "initialize":
            with pytest.raises(DeviceError, match="PortAudio does not start"):
                in_time(rescan)
        else:
            in_time(rescan)
        del fake.on[kind]
        wait_until(lambda: speaker.device and microphone.device, what="both devices again")
        assert in_time(rescan) is True
        assert speaker.device.name == microphone.device.name == "card1"
    finally:
        in_time(speaker.close)
        in_time(microphone.close)


def test_a_list_whose_reading_hangs_holds_nobody_up(fake):
    gate = threading.Event()
    fake.on["initialize"] = lambda _name: gate.wait(20)
    try:
        with pytest.raises(StuckError):
            in_time(lambda: devices.limited(devices.refresh, 0.05))
        with pytest.raises(StuckError, match="cannot be listed: the sound server does not answer"):
            devices.list_devices()
        assert devices.refresh() is False
    finally:
        gate.set()
    wait_until(devices.can_refresh)
    assert len(devices.list_devices()) == 2


def test_a_speaker_that_cannot_be_made_ready_for_a_device_leaves_none_open(fake, monkeypatch):
    changes = Told()
    speaker = Speaker(on_change=changes)
    try:
        speaker._line._prepare = failing(ValueError("no room"))
        fake.running("output").end()
        wait_until(lambda: changes.faults, what="the fault")
        assert changes.faults == ["internal error: ValueError('no room')"]
        speaker._line._prepare = speaker._prepare
        wait_until(lambda: speaker.device, what="a device again")
    finally:
        speaker.close()
    assert devices.refresh(), "no stream is left open"


@pytest.mark.parametrize("direction", ["input", "output"])
def test_a_callback_that_fails_is_told_and_does_not_end_its_stream(fake, direction):
    changes = Told()
    sound = line.Line(
        direction,
        None,
        RATE_HZ,
        callback=failing(ValueError("a callback")),
        prepare=lambda _rate: None,
        on_change=changes,
    )
    sound.open()
    try:
        wait_until(lambda: changes.faults, what="the fault")
        stream = fake.running(direction)
        wait_until(lambda: direction == "input" or len(stream.handed) > 10, what="more blocks")
        assert stream.failed is None
        assert changes.faults == ["internal error: ValueError('a callback')"]
        assert [change for change in changes.changes if not change.fault] == []
        assert not any(any(block) for block in stream.handed)
    finally:
        sound.close()


def test_what_listens_to_the_speaker_may_fail(fake):
    changes = Told()
    speaker = Speaker(on_change=changes, on_far=failing(ValueError("the echo")))
    try:
        speaker.play(PART, tone(1.0), RATE_HZ, time.monotonic())
        speaker.end(PART)
        wait_until(lambda: any(any(block) for block in fake.running("output").handed), what="the sound")
        wait_until(lambda: changes.faults)
        assert changes.faults == ["internal error: ValueError('the echo')"]
    finally:
        speaker.close()


# The microphone's consumer.


def test_a_block_that_nobody_could_take_does_not_make_the_others_unheard(fake):
    error = ValueError("a block")
    taken: list[float] = []
    faults: list[Exception] = []

    def take(_block: Any, at_s: float) -> None:
        taken.append(at_s)
        if len(taken) in (3, 4):
            raise error

    microphone = Microphone(on_block=take, on_fault=faults.append)
    try:
        wait_until(lambda: len(taken) >= 20, what="20 blocks")
        assert faults == [error, error]
        assert microphone.error is error
    finally:
        microphone.close()


def test_who_is_told_of_gaps_and_faults_may_fail(fake):
    taken: list[float] = []
    microphone = Microphone(
        on_block=lambda _block, at_s: taken.append(at_s),
        on_gap=failing(ValueError("a gap")),
        on_fault=failing(ValueError("whom to tell")),
    )
    try:
        microphone._blocker.put = failing(ValueError("a block"))  # type: ignore[method-assign]
        wait_until(lambda: len(taken) > 5, what="blocks")
        fake.on["open"] = lambda _name: time.sleep(0.2)
        fake.running("input").end()
        count = len(taken)
        wait_until(lambda: len(taken) > count + 5, what="blocks after a gap")
        assert str(microphone.error) == "whom to tell"
    finally:
        microphone.close()


# A cut: the position at once, the device later.


def test_a_cut_waits_for_no_device_and_loses_nothing_of_what_follows(fake, monkeypatch):
    for module in (feed, line):
        monkeypatch.setattr(module, "CALL_LIMIT_S", 20.0)
    gate, entered = threading.Event(), threading.Event()
    speaker = Speaker(start_prebuffer_ms=0)
    first = fake.running("output")
    try:
        speaker.play(PART, tone(30.0), RATE_HZ, time.monotonic())
        wait_until(lambda: (speaker.heard_ms(*PART) or 0) > 100, what="the sound")
        fake.on["abort"] = lambda _name: (entered.set(), gate.wait(20))
        heard = in_time(speaker.cut)
        assert entered.wait(5), "the device is told all the same"
        assert 100 < heard[PART] < 30_000
        assert in_time(speaker.cut) == {}, "again, as for each part of an answer"
        in_time(lambda: speaker.play(LATER, tone(0.5, 2000), RATE_HZ, time.monotonic()))
        speaker.end(LATER)
        count = len(first.handed)
        wait_until(lambda: len(first.handed) > count + 5, what="blocks of the device that is slow to stop")
        assert not any(any(block) for block in first.handed[count + 1 :]), "silence, and nothing of what follows"
        gate.set()
        wait_until(lambda: speaker.idle, what="the end of what follows")
        later = np.frombuffer(b"".join(fake.running("output").handed), "<i2")
        assert np.count_nonzero(later == 2000) == RATE_HZ // 2, "all of it on the device that was emptied"
        assert (speaker.heard_ms(*PART), speaker.heard_ms(*LATER)) == (heard[PART], 500)
        assert fake.counts["abort"] == 2, "one cut, and the old stream's closing"
    finally:
        gate.set()
        speaker.close()


def test_a_device_that_does_not_stop_in_time_is_left_and_what_follows_is_heard(fake):
    gate = threading.Event()
    changes = Told()
    speaker = Speaker(start_prebuffer_ms=0, on_change=changes)
    try:
        speaker.play(PART, tone(30.0), RATE_HZ, time.monotonic())
        wait_until(lambda: (speaker.heard_ms(*PART) or 0) > 100, what="the sound")
        fake.on["abort"] = lambda _name: gate.wait(20)
        speaker.cut()
        speaker.play(LATER, tone(0.2), RATE_HZ, time.monotonic())
        speaker.end(LATER)
        wait_until(lambda: changes.moved_to(None), what="the loss of the device")
        gate.set()
        wait_until(lambda: speaker.device and speaker.heard_ms(*LATER) == 200, what="what follows")
    finally:
        gate.set()
        speaker.close()


@pytest.mark.parametrize("kind", ["abort", "open", "restart"])
def test_a_restart_that_fails_leaves_no_speaker_mute(fake, monkeypatch, kind):
    changes = Told()
    speaker = Speaker(start_prebuffer_ms=0, on_change=changes)
    try:
        fake.on[kind] = failing(RuntimeError("a mistake"))
        if kind == "restart":
            monkeypatch.setattr(speaker._line, "restart", fake.on[kind])
        speaker.play(PART, tone(30.0), RATE_HZ, time.monotonic())
        wait_until(lambda: (speaker.heard_ms(*PART) or 0) > 100, what="the sound")
        speaker.cut()
        wait_until(lambda: changes.faults, what="the fault")
        fake.on.clear()
        speaker.play(LATER, tone(0.2), RATE_HZ, time.monotonic())
        speaker.end(LATER)
        wait_until(lambda: speaker.heard_ms(*LATER) == 200, what="what follows")
        assert changes.faults == ["internal error: RuntimeError('a mistake')"]
    finally:
        fake.on.clear()
        speaker.close()


# A device that was chosen and does not work.


@pytest.mark.parametrize("alone", [False, True], ids=["beside the other", "by itself"])
def test_a_chosen_device_that_does_not_open_is_refused(monkeypatch, alone):
    changes = Told()
    with fake_portaudio(monkeypatch, "card1", "card2", "gone") as fake:
        fake.on["open"] = broken("gone")
        speaker = Speaker(devices.choose("card2", "output"), on_change=changes)
        try:
            if alone:  # no device at all in use
                fake.on["open"] = broken("gone", "card1", "card2")
                fake.running("output").end()
                wait_until(lambda: changes.moved_to(None))
                fake.on["open"] = broken("gone")
                wait_until(lambda: speaker.device, what="a device")
                changes.changes.clear()
            before = speaker.device.name
            speaker.use(devices.choose("gone", "output"))
            change = wait_until(lambda: next((c for c in changes.changes if c.asked), None), what="the answer")
            assert (change.before, change.now, change.asked) == (before, before, "gone")
            assert change.reason == "'gone' cannot be opened: No such device (PortAudio -9996)"
            assert speaker._line.wanted.name == "card2"
            speaker.use(devices.choose("card1" if before == "card2" else "card2", "output"))
            change = wait_until(lambda: next((c for c in changes.changes if c.asked not in (None, "gone")), None))
            assert (change.now, change.reason) == (change.asked, "chosen")
        finally:
            speaker.close()


# Following.


class Followed:
    """Fails at the first device that comes."""

    def __init__(self) -> None:
        self.came = 0
        self.errors: list[Exception] = []
        self.lacking = False

    def moved(self, direction: str, device: str, reason: str) -> None:
        raise AssertionError

    def devices_came(self, *, plugged: bool) -> None:
        assert plugged
        self.came += 1
        if self.came == 1:
            raise ValueError("the first")

    def following_failed(self, error: Exception) -> None:
        self.errors.append(error)


@pytest.mark.parametrize("look_every_s", [0.05, 60.0], ids=["by itself", "with the next change"])
def test_a_device_that_could_not_be_taken_up_is_tried_again(monkeypatch, tmp_path, look_every_s):
    monkeypatch.setattr(following, "_LOOK_EVERY_S", look_every_s)
    monkeypatch.setenv("PULSE_SERVER", f"unix:{tmp_path}/none")
    sound = Followed()
    follower = Follower(sound)
    try:
        came = [News(kind="came", direction="output", device="headset")]
        follower._heard(came)
        wait_until(lambda: sound.errors, what="the fault")
        if look_every_s > 1:
            follower._heard(came)
        wait_until(lambda: sound.came == 2, what="another try")
        assert [str(error) for error in sound.errors] == ["the first"]
    finally:
        follower.close()
