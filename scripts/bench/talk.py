"""Live voice, measured from the two monitor recordings of a virtual sound card.

Barge-in with the local onset and with the server's voice-activity detection, played position at truncation, frame
arrival to first sample, CPU of a session. Needs pulseaudio, flite, ALSA's pulse plugin (`scripts/test` installs them).

    python scripts/bench/talk.py [RUNS]
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from sound_card import SoundCard, Tape, wait_until
from talk_stage import LOUD, Stage, first_loud_s, last_loud_s, speech, stage

from realtime_client import updates as up
from realtime_client.audio.resample import resample
from realtime_client.opening import opened
from realtime_client.settings import Settings, load_settings
from realtime_client.talk.assembly import LiveSound


def wait_s(seconds: float) -> None:
    threading.Event().wait(seconds)


def played_until_ms(tape: Tape, source: np.ndarray, silent_s: float) -> tuple[float, float]:
    """Which positions of the 24 kHz source the last audible moment lies between, found by correlation.

    The second is where the next audible sample would have been: a cut in a pause may be anywhere between the two.
    """
    first, last = tape.index(silent_s - 0.5), tape.index(silent_s)
    heard = np.frombuffer(resample(tape.samples[first : last + 1].tobytes(), 48_000, 24_000), np.int16).astype(float)
    size = 1 << (len(source) + len(heard)).bit_length()
    product = np.fft.irfft(np.fft.rfft(source.astype(float), size) * np.conj(np.fft.rfft(heard, size)))
    lag = int(np.argmax(product[: len(source)]))
    end = lag + len(heard)
    after = np.nonzero(np.abs(source[end:].astype(np.int32)) > LOUD)[0]
    following = end + (int(after[0]) if len(after) else len(source) - end)
    return end / 24, following / 24


class Figures:
    """Collected values, and how they are shown."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}

    def add(self, name: str, value: float) -> None:
        self.values.setdefault(name, []).append(value)

    def show(self) -> None:
        for name, values in self.values.items():
            print(f"{name:58} median {statistics.median(values):6.1f}  worst {max(values):6.1f}  of {len(values)}")


def one_cut(scene: Stage, tapes: tuple[Tape, Tape], said: bytes, figures: Figures, *, local: bool) -> None:
    """One story, interrupted by a sentence at a random moment."""
    tape, mic = tapes
    scene.forget()
    scene.tell_a_story()
    wait_s(random.uniform(0.6, 2.0))
    began = time.monotonic()
    scene.card.speak(said)
    cut, cut_s = scene.wait(up.Interrupted)
    wait_s(0.3)
    onset_s = first_loud_s(mic, began)
    silent_s = last_loud_s(tape, began - 1.0, cut_s + 0.25)
    if local:
        figures.add("onset at the microphone to silence, local onset, ms", (silent_s - onset_s) * 1000)
    else:
        started_s = scene.wait(up.SpeechStarted)[1]
        figures.add("speech_started to silence, ms", (silent_s - started_s) * 1000)
    source = np.frombuffer(bytes(scene.audio[cut.item_id, cut.content_index]), np.int16)
    low, high = played_until_ms(tape, source, silent_s)
    figures.add("played position error at the cut, ms", max(low - cut.heard_ms, cut.heard_ms - high, 0.0))
    scene.wait(up.ResponseDone, 2)  # the first is the story's, the second the reply to the sentence
    scene.client.interrupt("typed")
    wait_until(lambda: not scene.client.answering and scene.speaker.idle, 10, "quiet")


def arrivals(scene: Stage, tape: Tape, figures: Figures, runs: int) -> None:
    """First audio of an answer to first sample at the monitor."""
    for _ in range(runs):
        scene.forget()
        prebuffer_ms = scene.speaker.playback.prebuffer_ms
        scene.client.send_text("What time is it?")
        _, came_s = scene.wait(up.AudioDelta)
        scene.wait(up.ResponseDone)
        wait_until(lambda: scene.speaker.idle, 15, "the end of the answer")
        wait_s(0.2)
        source = np.frombuffer(bytes(next(iter(scene.audio.values()))), np.int16).astype(np.int32)
        lead_ms = int(np.nonzero(np.abs(source) > LOUD)[0][0]) / 24
        delay_ms = (first_loud_s(tape, came_s) - came_s) * 1000
        figures.add("frame arrival to first sample less the prebuffer, ms", delay_ms - lead_ms - prebuffer_ms)


def cpu(seconds: float) -> None:
    """CPU of a process that holds one whole session, as `realtime chat` opens it; the server has its own process."""
    command = [sys.executable, "-m", "realtime_client", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, tempfile.TemporaryDirectory() as place:
        assert server.stdout is not None
        os.environ["XDG_STATE_HOME"] = place
        where = {"url": server.stdout.readline().strip(), "record_dir": place, "mic": "card1", "speaker": "card1"}
        for echo in ("headphones", "half-duplex", "aec"):
            for record in (False, True):
                used = 100 * load(load_settings({**where, "echo": echo, "record": record}), seconds)
                words = "recorded" if record else "not recorded"
                print(f"CPU of a live session, both directions, echo {echo}, {words}: {used:.1f} % of a core")
        server.terminate()


def load(settings: Settings, seconds: float) -> float:
    """CPU seconds a second of a session in which the assistant speaks and the microphone is open."""
    sound = LiveSound(settings, print)
    with opened(settings, sound=sound) as held:
        held.session.send_text("Tell me a long story.")
        wait_s(9.0)  # a minute of sound has come by then; what remains is the talk itself
        start, began = time.process_time(), time.monotonic()
        wait_s(seconds)
        used = (time.process_time() - start) / (time.monotonic() - began)
        assert not sound.speaker.idle
        held.session.interrupt("typed")
    return used


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    card = SoundCard()
    card.start()
    os.environ.update(card.variables())
    from realtime_client.audio import devices

    devices.refresh()
    random.seed(1)
    said, figures = speech("Stop it now please."), Figures()
    try:
        for local in (True, False):
            with stage(card, local_onset=local) as scene, card.hear(1) as tape, card.hear_mic(1) as mic:
                for _ in range(runs):
                    one_cut(scene, (tape, mic), said, figures, local=local)
        with stage(card) as scene, card.hear(1) as tape:
            arrivals(scene, tape, figures, max(3, runs // 3))
        cpu(10.0)
        figures.show()
    finally:
        card.remove()


if __name__ == "__main__":
    main()
