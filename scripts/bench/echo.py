#!/usr/bin/env python3
"""Echo control and onset detection in a synthetic room: what echo is left, what is taken for speech, what gets through.

The room: 60 ms of delay and 120 ms of decaying reflections, linear, noise at -65 dBFS; the assistant (espeak-ng and,
where it is installed, flite) speaks at -20 dBFS, the user at -26 dBFS, over the assistant, who does not stop. Real
loudspeakers distort and real devices' clocks drift: read it as an upper limit. `--minutes` of the assistant alone.
"""

from __future__ import annotations

import argparse
import functools
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from realtime_client.audio.echo.control import UNKNOWN_PATH, EchoControl, EchoPath, WebRtcCanceller, aec_available
from realtime_client.audio.echo.onset import OnsetDetector, OnsetEvent, frame_levels
from realtime_client.audio.files import read_audio
from realtime_client.audio.resample import resample
from realtime_client.local.vad import SileroModel, SpeechBegan, TurnDetector
from realtime_client.local.voice import EspeakVoice
from realtime_client.updates import AudioFormat

RATE_HZ, BLOCK = 24_000, 480
FORMAT = AudioFormat("pcm16", RATE_HZ)
TALE = (
    "The old harbour lies at the end of a long road. Ships come in every morning, and they bring fish, wood and paper."
    " In the afternoon the wind turns, and the water becomes quiet. People sit on the wall and talk about the weather,"
    " about their children, and about the price of bread. Some remember a time when there was no road at all. Then"
    " everything came by sea, and a letter took nine days. Today nobody waits for letters, but they look at the ships."
)
WORDS = (
    "Stop, that is not what I meant.",
    "Wait a moment please.",
    "No, tell me about the other one.",
    "Can you repeat that?",
    "Hold on, I have a question.",
    "Yes, I understand, thank you.",
    "What time is it now?",
    "Please speak more slowly.",
    "Actually, let us talk about music.",
    "How much does it cost?",
    "Sorry, go back to the beginning.",
    "Fine, and what about tomorrow?",
)


@functools.cache
def spoken(text: str, voice: str) -> np.ndarray:
    """A text in a voice: one of flite's if it is installed, else espeak-ng's."""
    names = {"slt": "sage", "rms": "ash", "kal": "verse", "awb": "coral"}
    if voice in names and shutil.which("flite"):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "said.wav"
            subprocess.run(["flite", "-voice", voice, "-t", text, "-o", str(file)], check=True)
            return np.frombuffer(read_audio(file, FORMAT), np.int16)
    engine = EspeakVoice()
    pcm = b"".join(engine.speak(text, voice=names.get(voice, voice)))
    return np.frombuffer(resample(pcm, engine.rate_hz, RATE_HZ), np.int16)


def at_level(samples: np.ndarray, dbfs: float) -> np.ndarray:
    """Scale speech; pauses do not count."""
    sound = samples.astype(np.float64)
    active = sound[np.abs(sound) > np.abs(sound).max() * 0.02]
    return sound * (10 ** (dbfs / 20) * 32_768 / np.sqrt(np.mean(active**2)))


def assistant(seconds: float) -> np.ndarray:
    pieces, size = [], 0
    while size < seconds * RATE_HZ:
        for voice in ("marin", "awb"):
            pieces += [at_level(spoken(TALE, voice), -20), np.zeros(2 * RATE_HZ)]
            size += pieces[-2].size + pieces[-1].size
    return np.concatenate(pieces)[: round(seconds * RATE_HZ)]


def room(loss_db: float, delay_ms: float = 60, tail_ms: float = 120, seed: int = 1) -> np.ndarray:
    """The impulse response from speaker to microphone."""
    size = round(tail_ms * RATE_HZ / 1000)
    decay = np.random.default_rng(seed).standard_normal(size) * 10 ** (-3 * np.arange(size) / size) * 0.3
    decay[0] = 1
    direct = decay / np.sqrt(np.sum(decay**2)) * 10 ** (-loss_db / 20)
    return np.concatenate((np.zeros(round(delay_ms * RATE_HZ / 1000)), direct))


def through(sound: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Convolve, minute by minute (overlap and add), so that the spectra stay small."""
    piece = 60 * RATE_HZ
    size = 1 << (piece + response.size).bit_length()
    spectrum, heard = np.fft.rfft(response, size), np.zeros(sound.size + response.size)
    for at in range(0, sound.size, piece):
        part = sound[at : at + piece]
        whole = np.fft.irfft(np.fft.rfft(part, size) * spectrum, size)[: part.size + response.size]
        heard[at : at + whole.size] += whole[: heard.size - at]
    return heard[: sound.size]


def noise(size: int, dbfs: float, seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(size) * 10 ** (dbfs / 20) * 32_768


def pcm(sound: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(sound), -32_768, 32_767).astype(np.int16)


def controlled(far: np.ndarray, near: np.ndarray, control: EchoControl) -> tuple[np.ndarray, list[float]]:
    """Run both directions through; returns what goes to the server, and when near speech was found (s)."""
    passed, onsets = [], []
    for at in range(0, far.size - BLOCK + 1, BLOCK):
        control.far(far[at : at + BLOCK], at / RATE_HZ)
        passed.append(control.near(near[at : at + BLOCK], at / RATE_HZ))
        if control.event is OnsetEvent.STARTED:
            onsets.append((at + BLOCK) / RATE_HZ)
    return np.concatenate(passed), onsets


def server_starts(sound: np.ndarray) -> list[float]:
    """When the local server's VAD hears speech begin, without the padding (s)."""
    rules = {"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 0, "silence_duration_ms": 500}
    detector = TurnDetector(rules, FORMAT, 0, SileroModel())
    blocks = (sound[at : at + BLOCK].tobytes() for at in range(0, sound.size, BLOCK))
    return [one.at_ms / 1000 for block in blocks for one in detector.feed(block) if isinstance(one, SpeechBegan)]


def first_loud_ms(sound: np.ndarray) -> int:
    """Where speech becomes clear: 25 dB below its loudest millisecond."""
    levels = np.array(frame_levels(pcm(sound), RATE_HZ // 1000))
    return int(np.argmax(levels > levels.max() - 25))


def barge_ins(far: np.ndarray, every_s: float) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """The user, once in `every_s`, at random moments; and when each time begins and ends (s)."""
    rng, near, marks = np.random.default_rng(5), np.zeros(far.size), []
    for index in range(round(far.size / RATE_HZ / every_s) - 2):
        voice = ("slt", "rms", "kal")[index // len(WORDS) % 3]
        said = at_level(spoken(WORDS[index % len(WORDS)], voice), -26)
        at = round(RATE_HZ * (10 + every_s * index + rng.random() * 2))
        near[at : at + said.size] += said
        marks.append((at / RATE_HZ + first_loud_ms(said) / 1000, (at + said.size) / RATE_HZ))
    return near, marks


def found(starts: list[float], marks: list[tuple[float, float]], later_s: float = 0.2) -> list[float]:
    """For each utterance that was found: how long after its beginning (ms)."""
    hits = (next((s - a for s in starts if a - 0.1 <= s <= b + later_s), None) for a, b in marks)
    return [1000 * one for one in hits if one is not None]


def bench_onset() -> None:
    rng = np.random.default_rng(3)
    for noise_dbfs in (-65, -45):
        for name, make in (("levels", lambda: None), ("levels + Silero", SileroModel)):
            late = []
            said = [at_level(spoken(w, v), -26) for w in WORDS for v in ("slt", "rms", "kal")]
            for one in said:
                lead = RATE_HZ + int(rng.integers(0, BLOCK))
                sound = np.concatenate((np.zeros(lead), one, np.zeros(RATE_HZ)))
                found_s = first_onset(pcm(sound + noise(sound.size, noise_dbfs)), make())
                if found_s is not None:
                    late.append(1000 * found_s - lead / RATE_HZ * 1000 - first_loud_ms(one))
            print(
                f"onset, {name:15} noise {noise_dbfs} dBFS: found {len(late)}/{len(said)}, after"
                f" {np.median(late):.0f} ms (median), {np.percentile(late, 90):.0f} ms (90 %), blocks of 20 ms"
            )
    bench_clicks()


def bench_clicks() -> None:
    rng = np.random.default_rng(4)
    for click_ms in (3, 8, 30):
        sound = noise(RATE_HZ * 60, -65)
        for second in range(60):
            size = click_ms * RATE_HZ // 1000
            at = round(RATE_HZ * (second + 0.3)) + int(rng.integers(0, 4000))
            sound[at : at + size] += rng.standard_normal(size) * np.exp(-3 * np.arange(size) / size) * 8000
        taken = [len(onsets(pcm(sound), model)) for model in (None, SileroModel())]
        print(f"60 clicks of {click_ms:2} ms taken for speech: {taken[0]} by levels, {taken[1]} with Silero")


def onsets(sound: np.ndarray, model: SileroModel | None) -> list[float]:
    detector = OnsetDetector(RATE_HZ, model=model)
    return [
        (at + BLOCK) / RATE_HZ
        for at in range(0, sound.size - BLOCK + 1, BLOCK)
        if detector.feed(sound[at : at + BLOCK]) is OnsetEvent.STARTED
    ]


def first_onset(sound: np.ndarray, model: SileroModel | None) -> float | None:
    return next(iter(onsets(sound, model)), None)


def bench_echo(minutes: float) -> None:
    far = assistant(60 * minutes)
    talk = assistant(6 * 38)
    user, marks = barge_ins(talk, 6)
    modes = ("half-duplex", "aec") if aec_available() else ("half-duplex",)
    for loss_db in (3, 12, 24):
        echo, over = through(far, room(loss_db)), through(talk, room(loss_db))
        alone, double = pcm(echo + noise(far.size, -65)), pcm(over + user + noise(talk.size, -65))
        raw = len(server_starts(alone))
        print(f"echo {loss_db} dB below the speaker; untreated, {raw} false turns in {minutes:g} min of assistant")
        for mode in modes:
            for path in (UNKNOWN_PATH, EchoPath(delay_ms=60, return_loss_db=loss_db, hold_ms=330)):
                show(mode, path, (pcm(far), alone, echo), (pcm(talk), double, marks))


def show(mode: str, path: EchoPath, alone: tuple, double: tuple) -> None:
    began = time.process_time()
    passed, false = controlled(alone[0], alone[1], EchoControl(RATE_HZ, mode, path=path))
    load = (time.process_time() - began) / (alone[0].size / RATE_HZ)
    turns = server_starts(passed)
    passed_double, starts = controlled(double[0], double[1], EchoControl(RATE_HZ, mode, path=path))
    hits, heard = found(starts, double[2]), found(server_starts(passed_double), double[2])
    print(
        f"  {mode:11} {'measured  ' if path.delay_ms else 'unmeasured'}  false onsets {len(false)}, false turns"
        f" {len(turns)}; barge-ins found {len(hits)}/{len(double[2])} after {np.median(hits or [0]):.0f} ms (median),"
        f" reach the server {len(heard)}/{len(double[2])}; {100 * load:.1f} % of a core{erle(mode, alone, path)}"
    )


def erle(mode: str, alone: tuple, path: EchoPath) -> str:
    """Echo return loss enhancement, by ITU-T G.168: the echo's power over what the canceller leaves, noise included."""
    if mode != "aec":
        return ""
    canceller = WebRtcCanceller(RATE_HZ, RATE_HZ, round(path.delay_ms or 0))
    frame, frames = RATE_HZ // 100, []
    for at in range(0, alone[0].size - frame + 1, frame):
        canceller.far(alone[0][at : at + frame])
        frames.append(canceller.near(alone[1][at : at + frame]))
    left = np.concatenate(frames)
    words = []
    for first, last in ((0, 2), (10, left.size // RATE_HZ)):
        part = slice(first * RATE_HZ, last * RATE_HZ)
        power = np.mean(left[part].astype(np.float64) ** 2)
        words.append(f"{10 * np.log10(np.mean(alone[2][part] ** 2) / power):.0f}")
    return f"; ERLE {words[0]} dB in the first 2 s, {words[1]} dB from 10 s on (noise included)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    wanted = parser.parse_args()
    print(f"voices: espeak-ng{' and flite' if shutil.which('flite') else ''}")
    bench_onset()
    bench_echo(wanted.minutes)


if __name__ == "__main__":
    main()
