"""Devices that change under a running session: told, followed, taken up, and returned to; on the virtual sound card."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import numpy as np
import pytest
from sound_card import RATE_HZ, SoundCard, again_after_a_stall, wait_until

from realtime_client.audio import devices
from realtime_client.audio.lines.pulse_watch import PulseWatch
from realtime_client.audio.lines.watch import News, Side, Snapshot, compare
from realtime_client.audio.microphone import Microphone, _Blocker
from realtime_client.opening import opened
from realtime_client.settings import Settings, load_settings
from realtime_client.talk.assembly import LiveSound

pytest_plugins = ["sound_card_fixture"]

VOICE_HZ = 24_000
LIMIT_S = 8.0
TOLD_S = 2.0  # 0.15 on a calm machine

# What changed, from two looks.

TWO = {"a": "Built-in", "b": "Headset"}


def seen(default: str, names: dict[str, str], streams: dict[int, str]) -> Snapshot:
    return Snapshot(output=Side(default, names, streams), at_s=7.0)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (seen("a", TWO, {1: "a"}), seen("a", TWO, {1: "a"}), []),
        (seen("a", TWO, {1: "a"}), seen("a", TWO, {}), []),
        (seen("a", TWO, {}), seen("b", TWO, {1: "b"}), []),
        (seen("a", TWO, {1: "a"}), seen("a", TWO, {1: "b"}), [("moved", "Headset", "the sound server moved it")]),
        (seen("a", TWO, {1: "a"}), seen("b", TWO, {1: "b"}), [("moved", "Headset", "the default has changed")]),
        (seen("a", TWO, {1: "a"}), seen("b", TWO, {2: "b"}), [("moved", "Headset", "the default has changed")]),
        (seen("a", TWO, {1: "a"}), seen("b", TWO, {1: "a"}), [("left_behind", "Headset", "the default has changed")]),
        (seen("b", TWO, {1: "a"}), seen("a", TWO, {1: "a"}), []),
        (
            seen("b", TWO, {1: "b"}),
            seen("a", {"a": "Built-in"}, {1: "a"}),
            [("went", "Headset", None), ("moved", "Built-in", "Headset is gone")],
        ),
        (seen("a", {"a": "Built-in"}, {1: "a"}), seen("a", TWO, {1: "a"}), [("came", "Headset", None)]),
        (Snapshot(), seen("a", {"a": "Built-in"}, {1: "a"}), [("came", "Built-in", None)]),
    ],
)
def test_what_changed(before, after, told):
    news = compare(before, after)
    assert [
        (n.kind, n.device, n.reason if "o" in n.kind[1:2] or n.kind == "left_behind" else None) for n in news
    ] == told
    assert all(n.direction == "output" for n in news)


# A sound server that tells.


def test_without_a_server_the_watch_is_silent_and_ends_at_once(monkeypatch, tmp_path):
    monkeypatch.setenv("PULSE_SERVER", f"unix:{tmp_path}/none")
    watch = PulseWatch(lambda _news: pytest.fail("nothing can have been heard"))
    assert not watch.works
    began_s = time.monotonic()
    watch.close()
    watch.close()
    assert time.monotonic() - began_s < 2.0


@again_after_a_stall
def test_the_watch_tells_of_devices_and_of_a_server_that_came_back(sound_card: SoundCard):
    heard: list[News] = []
    watch = PulseWatch(heard.extend)

    def told(kind: str, device: str) -> None:
        wait_until(lambda: any((n.kind, n.device) == (kind, device) for n in heard), LIMIT_S, f"{device} {kind}")
        heard.clear()

    try:
        wait_until(lambda: watch.works, LIMIT_S)
        assert heard == [], "what was there at the start is no news"
        assert watch.snapshot is not None
        assert watch.snapshot.input.devices == {"mic1": "mic1", "mic2": "mic2"}, "no monitors"
        sound_card.unplug(2)
        told("went", "speaker2")
        sound_card.plug(2)
        told("came", "speaker2")
        sound_card.kill()
        wait_until(lambda: not watch.works, LIMIT_S, "the loss of the server")
        sound_card.start()
        told("came", "mic1")
    finally:
        watch.close()


@again_after_a_stall
def test_the_watch_goes_on_after_news_that_nobody_could_take(sound_card: SoundCard, capfd):
    heard: list[News] = []
    errors: list[Exception] = []

    def take(news: list[News]) -> None:
        if not errors:
            raise ValueError("the first")
        heard.extend(news)

    watch = PulseWatch(take, errors.append)
    try:
        wait_until(lambda: watch.works, LIMIT_S)
        sound_card.unplug(2)
        wait_until(lambda: errors, LIMIT_S, "the fault")
        wait_until(lambda: watch.works, LIMIT_S, "the watch again")
        heard.clear()
        sound_card.plug_settled(2)
        wait_until(lambda: any((n.kind, n.device) == ("came", "speaker2") for n in heard), LIMIT_S, "what comes next")
        assert [str(error) for error in errors] == ["the first"]
    finally:
        watch.close()
    assert "Traceback" not in capfd.readouterr().err


# A session on this machine.


def live_settings(tmp_path: Path, **values) -> Settings:
    return load_settings({"local": True, "record_dir": tmp_path, "echo": "headphones", **values})


class Session:
    """A session with live sound on given devices, and what it told."""

    def __init__(self, tmp_path: Path, **values) -> None:
        self.settings = live_settings(tmp_path, **values)
        self.warnings: list[str] = []
        self.sound = LiveSound(self.settings, self.warnings.append)
        self.notes: list[tuple[float, str]] = []
        self.folder: Path | None = None
        self._opened = opened(self.settings, sound=self.sound)

    def __enter__(self) -> Self:
        held = self._opened.__enter__()
        self.folder = held.recording
        held.session.observe(self._observe)
        return self

    def __exit__(self, *error) -> None:
        self._opened.__exit__(*error)

    def _observe(self, update, _at_s: float) -> None:
        if update.kind == "device_changed":
            self.notes.append((time.monotonic(), update.reason))

    def ready(self) -> None:
        """Wait until the streams are known to the watch."""
        wait_until(lambda: self.place("output") and self.place("input"), LIMIT_S, "the streams at the server")

    def place(self, direction) -> str | None:
        follower = self.sound._follower
        return None if follower is None else follower.place(direction)

    def told(self, *texts: str, since: Callable[[], object]) -> float:
        """Do something, wait until it is told (by how it begins), and return how long that took."""
        self.notes.clear()
        began_s = time.monotonic()
        since()
        said = lambda: [text for _, text in self.notes]  # noqa: E731
        try:
            wait_until(lambda: all(any(text.startswith(t) for text in said()) for t in texts), LIMIT_S)
        except AssertionError:
            raise AssertionError(f"{texts} not told: {said()}") from None
        return max(at_s for at_s, text in self.notes if text.startswith(texts)) - began_s


@again_after_a_stall
def test_a_change_of_the_default_is_followed_and_told(sound_card: SoundCard, tmp_path: Path):
    with Session(tmp_path, mic="default", speaker="default") as session:
        session.ready()
        took_s = session.told(
            "the speaker is now speaker2 (",
            "the microphone is now mic2 (",
            since=lambda: sound_card.use(2),
        )
        assert took_s < TOLD_S
        assert session.sound.place("output") == "speaker2"
        took_s = session.told(
            "the speaker is now speaker1",
            "the microphone is now mic1",
            since=lambda: sound_card.unplug(2),
        )
        assert took_s < TOLD_S
        speaker = session.sound.speaker
        wait_until(lambda: (device := speaker.device) and device.name == "default", LIMIT_S, "the default")
    assert session.folder is not None
    turns = [json.loads(line) for line in (session.folder / "transcript.jsonl").read_text().splitlines()]
    notes = [turn["text"] for turn in turns if turn["who"] == "note"]
    assert any(note.startswith("the speaker is now speaker2 (") for note in notes)
    assert any(note.startswith("the microphone is now mic1 (") for note in notes)


@again_after_a_stall
def test_a_chosen_device_is_kept_left_when_gone_and_returned_to(sound_card: SoundCard, tmp_path: Path):
    with Session(tmp_path, mic="card1", speaker="card1", record=False) as session:
        session.ready()
        session.told(
            "the speaker is card1 again (",
            "the microphone is card1 again (",
            since=lambda: sound_card.use(2),
        )
        wait_until(lambda: session.place("output") == "speaker1", LIMIT_S, "the stream on the chosen card")
        took_s = session.told(
            "the speaker is now default",
            "the microphone is now default",
            since=lambda: sound_card.unplug(1),
        )
        assert took_s < TOLD_S
        session.told(
            "the speaker is now card1 (",
            "the microphone is now card1 (",
            since=lambda: sound_card.plug_settled(1),
        )
        wait_until(lambda: session.place("input") == "mic1", LIMIT_S, "the stream on the chosen card")


@again_after_a_stall
def test_a_device_that_was_never_seen_is_listed_and_the_one_that_was_chosen_is_taken(
    sound_card: SoundCard, tmp_path: Path
):
    devices.refresh()
    devices.remember("output", "card3")
    with Session(tmp_path, mic="card1", record=False) as session:
        assert session.warnings == ["'card3', chosen before, is not there; using 'default'"]
        session.ready()
        assert "card3" not in [device.name for device in session.sound.current_devices()]
        session.told("the speaker is now card3 (", since=sound_card.introduce)
        assert "card3" in [device.name for device in session.sound.current_devices()]
        microphone = session.sound.microphone
        wait_until(lambda: microphone.device and microphone.device.name == "card1", LIMIT_S, "the microphone again")
        session.told("the microphone is now card3 (", since=lambda: session.sound.use("input", "card3"))


@again_after_a_stall
def test_a_session_without_any_device_speaks_as_soon_as_there_is_one(sound_card: SoundCard, tmp_path: Path):
    sound_card.stop()
    devices.refresh()
    session = Session(tmp_path, record=False)
    assert not session.sound.possible
    with session:
        assert session.sound.silent
        sound_card.start()
        for direction, kind in (("input", "microphone"), ("output", "speaker")):
            wait_until(lambda d=direction: (now := session.sound._current(d)) and now.device, LIMIT_S, kind)
            wait_until(lambda k=kind: any(k in text and "is now" in text for _, text in session.notes), LIMIT_S, kind)
        assert not session.sound.silent


# One line.


@contextmanager
def python(source: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program of its own on the sound card; it is ended with the block."""
    pipe = subprocess.PIPE
    program = subprocess.Popen(
        [sys.executable, "-c", source], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=os.environ
    )
    with program:
        try:
            yield program
        finally:
            program.kill()


_CUT = """
import os, sys, threading, time
from realtime_client.audio import devices
from realtime_client.audio.speaker import Speaker
speaker = Speaker(devices.choose("card1", "output"))
speaker.play(("a", 0), bytes(480_000), 24_000, time.monotonic())
print("playing", flush=True)
sys.stdin.readline()
for _ in range(4):
    speaker.cut()
    threading.Event().wait(0.03)
speaker.play(("b", 0), bytes(480_000), 24_000, time.monotonic())
ends = time.monotonic() + 6
while not speaker.heard_ms("b", 0) and time.monotonic() < ends:
    threading.Event().wait(0.02)
print(speaker.heard_ms("b", 0) > 0, devices.stuck(), flush=True)
os._exit(0)  # a call that hangs for good is one of the ends that it may have
"""


@again_after_a_stall
def test_a_cut_in_the_moment_of_unplug_leaves_a_speaker(sound_card: SoundCard):
    """The start of a stream on a device that is gone hangs in PortAudio; one such call is left behind, if any."""
    with python(_CUT) as program:
        assert program.stdout is not None
        assert program.stdin is not None
        assert program.stdout.readline() == "playing\n"
        unplugging = threading.Thread(target=sound_card.unplug, args=(1,))
        unplugging.start()
        program.stdin.write("\n")
        program.stdin.flush()
        unplugging.join(LIMIT_S)
        assert program.communicate(timeout=LIMIT_S)[0] == "True False\n"


class Ear:
    """Keeps what a microphone gives."""

    def __init__(self) -> None:
        self.blocks: list[np.ndarray] = []
        self.times: list[float] = []
        self.gaps: list[float] = []

    def hear(self, block: np.ndarray, at_s: float) -> None:
        self.blocks.append(block)
        self.times.append(at_s)


@again_after_a_stall
def test_nothing_is_missed_when_the_microphone_is_changed(sound_card: SoundCard):
    """A tone is said to both microphones; a piece that is missing, or heard twice, would break its phase."""
    ear, changes, hz = Ear(), [], 200
    tone = (np.sin(np.arange(RATE_HZ * 4) * 2 * np.pi * hz / RATE_HZ) * 8000).astype("<i2").tobytes()
    microphone = Microphone(
        devices.choose("card1", "input"),
        on_block=ear.hear,
        on_gap=ear.gaps.append,
        on_change=lambda change: changes.append((time.monotonic(), change)),
    )
    talking = [threading.Thread(target=sound_card.speak, args=(tone, number)) for number in (1, 2)]
    for thread in talking:
        thread.start()
    try:
        loud = lambda: sum(1 for block in ear.blocks if np.abs(block.astype(int)).max() > 4000)  # noqa: E731
        wait_until(lambda: loud() > 25, LIMIT_S, "the tone")
        microphone.use(devices.choose("card2", "input"))
        wait_until(lambda: changes, LIMIT_S, "the other microphone")
        count = loud()
        wait_until(lambda: loud() > count + 25, LIMIT_S, "the tone from the other microphone")
    finally:
        microphone.close()
        for thread in talking:
            thread.join(LIMIT_S)
    (at_s, change), *more = changes
    assert (change.before, change.now, more) == ("card1", "card2", [])
    assert change.gap_s < 0.1
    assert ear.gaps == []
    seam = [(t, block) for t, block in zip(ear.times, ear.blocks, strict=True) if abs(t - at_s) < 0.2]
    assert np.all(np.abs(np.diff([t for t, _ in seam]) - 0.02) < 0.015)
    heard = np.concatenate([block for _, block in seam]).astype(int)
    assert np.diff(np.flatnonzero(np.abs(heard) > 4000)).max() < VOICE_HZ * 0.02, "no hole in the tone"


def test_what_two_devices_heard_is_taken_once():
    blocker = _Blocker(VOICE_HZ)
    block, at_s, taken = 480, 50.0, []
    for number in range(10):  # the first device, 20 ms a block
        assert blocker.put(np.full(block, number, "<i2").tobytes(), at_s + number * 0.02, VOICE_HZ, 1) is None
        taken += blocker.blocks()
    for number in range(8, 15):  # the second began 30 ms before the first ended
        began_s = at_s + 0.01 + number * 0.02 - 0.02
        assert blocker.put(np.full(block, 100 + number, "<i2").tobytes(), began_s, VOICE_HZ, 2) is None
        taken += blocker.blocks()
    samples = np.concatenate([np.frombuffer(pcm, "<i2") for pcm, _ in taken])
    assert np.flatnonzero(samples >= 100)[0] == 10 * block
    assert list(dict.fromkeys(samples[10 * block :])) == [110, 111, 112, 113, 114]
    assert np.allclose(np.diff([at for _, at in taken]), 0.02, atol=0.002)
    assert blocker.put(bytes(2 * block), at_s + 1.0, VOICE_HZ, 3) == pytest.approx(0.71, abs=0.03)


_STOPPED = """
import sys, threading
from realtime_client.audio import devices
from realtime_client.audio.speaker import Speaker
speaker = Speaker(devices.choose("card1", "output"), on_change=lambda change: print(change.reason, flush=True))
print("open", flush=True)
sys.stdin.readline()
print("device", speaker.device.name, flush=True)
speaker.close()
"""


@again_after_a_stall
def test_a_program_that_stood_still_does_not_blame_its_device(sound_card: SoundCard):
    with python(_STOPPED) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "open\n"
        for _ in range(2):
            program.send_signal(signal.SIGSTOP)
            threading.Event().wait(0.7)
            program.send_signal(signal.SIGCONT)
            threading.Event().wait(0.4)
        assert program.communicate("\n", timeout=LIMIT_S)[0] == "device card1\n"


_PLAYS = """
import sys, time
import numpy as np
from realtime_client.audio import devices
from realtime_client.audio.speaker import Speaker
speaker = Speaker(devices.choose("card1", "output"))
sound = (np.random.default_rng(1).standard_normal(24_000 * 20) * 3000).astype("<i2")
speaker.play(("a", 0), sound.tobytes(), 24_000, time.monotonic())
print(speaker.buffer_ms, flush=True)
while sys.stdin.readline():
    print(speaker.buffer_ms, speaker.device_underflows, speaker.underruns, flush=True)
speaker.close()
"""


@again_after_a_stall
def test_after_a_stumble_the_device_holds_more_and_the_next_one_is_not_heard(sound_card: SoundCard):
    """The program stands still for 80 ms, twice the buffer that it begins with, three times."""
    pause = threading.Event().wait
    with python(_PLAYS) as program, sound_card.hear() as tape:
        assert program.stdout is not None
        assert program.stdin is not None
        before_ms = int(program.stdout.readline())
        pause(0.5)
        stopped_s = []
        for _ in range(3):
            stopped_s.append(time.monotonic())
            program.send_signal(signal.SIGSTOP)
            pause(0.08)
            program.send_signal(signal.SIGCONT)
            pause(0.6)
        program.stdin.write("\n")
        program.stdin.flush()
        after_ms, stumbles, underruns = map(int, program.stdout.readline().split())
    assert before_ms < 80 < after_ms - 20, (before_ms, after_ms)
    assert (stumbles, underruns) == (1, 0)
    loud = tape.loud(60)
    loud = loud[loud > tape.index(stopped_s[0])]
    gaps = [(tape.at_s(loud[at]), ms) for at, ms in enumerate(np.diff(loud) / RATE_HZ * 1000) if ms > 5]
    assert any(at_s < stopped_s[1] for at_s, _ in gaps), "the first one was heard"
    assert [ms for at_s, ms in gaps if at_s > stopped_s[1]] == []
