"""A room around the sound card that is not there: the microphone hears the speaker, its reflections, and noise."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sound_card import RATE_HZ, SoundCard, Tape, wait_until
from talk_stage import speech

from realtime_client import updates as up
from realtime_client.audio.devices import Device
from realtime_client.audio.echo.control import EchoControl
from realtime_client.client.client import RealtimeClient
from realtime_client.opening import Opened, opened
from realtime_client.protocol.session import Audio, AudioInput, RealtimeConfig, ServerVad
from realtime_client.settings import Settings, load_settings
from realtime_client.talk.assembly import LiveSound

TALE = (
    "The old harbour lies at the end of a long road. Ships come in every morning, and they bring fish, wood and paper."
    " In the afternoon the wind turns, and the water becomes quiet. People sit on the wall and talk about the weather,"
    " about their children, and about the price of bread. Some remember a time when there was no road at all. Then"
    " everything came by sea, and a letter took nine days. Today nobody waits for letters, but they look at the ships."
)
NOISE_DBFS = -65.0
REFLECTIONS = ((0, -1.2), (27, -8.0), (61, -13.0))  # ms after the direct sound, dB; together 0 dB
_FULL_SCALE = 32_768.0


def active_dbfs(samples: np.ndarray) -> float:
    """The level of speech; pauses do not count."""
    sound = samples.astype(np.float64)
    active = sound[np.abs(sound) > np.abs(sound).max() * 0.02]
    return float(10 * np.log10(np.mean(active**2) / _FULL_SCALE**2))


def at_level(pcm: bytes, dbfs: float) -> bytes:
    """Scale speech, 16-bit mono PCM, to a level."""
    samples = np.frombuffer(pcm, np.int16)
    scaled = samples * 10 ** ((dbfs - active_dbfs(samples)) / 20)
    return np.clip(np.rint(scaled), -32_768, 32_767).astype("<i2").tobytes()


@contextlib.contextmanager
def room(
    card: SoundCard, loss_db: float, *, delay_ms: int = 20, noise_dbfs: float | None = NOISE_DBFS
) -> Iterator[None]:
    """Let the first microphone hear the first speaker, loss_db quieter in all, with two reflections, in noise."""
    modules = [_path(card, delay_ms + later_ms, gain_db - loss_db) for later_ms, gain_db in REFLECTIONS]
    try:
        with contextlib.ExitStack() as stack:
            if noise_dbfs is not None:
                stack.enter_context(_noise(card, noise_dbfs))
            yield
    finally:
        for module in modules:
            card.pactl("unload-module", module)


def _path(card: SoundCard, latency_ms: int, gain_db: float) -> str:
    module = card.pactl(
        "load-module",
        "module-loopback",
        "source=speaker1.monitor",
        "sink=mic1_in",
        f"latency_msec={latency_ms}",
        "adjust_time=0",
    )
    inputs = json.loads(card.pactl("-f", "json", "list", "sink-inputs"))
    index = next(one["index"] for one in inputs if one["owner_module"] == module)
    card.pactl("set-sink-input-volume", str(index), f"{gain_db}dB")
    return module


@contextlib.contextmanager
def _noise(card: SoundCard, dbfs: float) -> Iterator[None]:
    wave = np.random.default_rng(2).standard_normal(RATE_HZ * 10) * 10 ** (dbfs / 20) * _FULL_SCALE
    pcm, process = np.rint(wave).astype("<i2").tobytes(), card.speaking()
    assert process.stdin is not None

    def feed() -> None:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError, ValueError):
            while True:
                process.stdin.write(pcm)

    feeder = threading.Thread(target=feed, name="noise")
    feeder.start()
    try:
        yield
    finally:
        process.kill()
        process.wait(5)
        feeder.join(5)
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


class Listener:
    """One open session in such a room, and what happened in it: updates, and beginnings of near speech, with times."""

    def __init__(self, held: Opened, sound: _Counting, card: SoundCard) -> None:
        self.client, self.sound, self.card = held.session, sound, card
        self.happened: list[tuple[up.Update, float]] = []
        self.onsets_s = sound.onsets_s
        held.session.observe(lambda update, at_s: self.happened.append((update, at_s)), direct=True)

    def of(self, kind: type[up.Update]) -> list[tuple[Any, float]]:
        return [entry for entry in list(self.happened) if isinstance(entry[0], kind)]

    def forget(self) -> None:
        self.happened.clear()
        self.onsets_s.clear()

    @property
    def stumbles(self) -> int:
        """How often a device ran empty or over, or was replaced: what a machine does that stands still."""
        speaker, microphone = self.sound.speaker, self.sound.microphone
        return int(speaker.device_underflows + microphone.overflows) + len(self.of(up.DeviceChanged))

    @property
    def playing(self) -> bool:
        return not self.sound.speaker.idle

    def ask(self, text: str) -> None:
        """Ask for an answer, and wait until it sounds."""
        self.client.send_text(text)
        wait_until(lambda: self.playing, 15, "the answer is heard")

    def wait_silent(self, limit_s: float) -> None:
        wait_until(lambda: not self.client.answering and not self.playing, limit_s, "the end of the answer")

    def hush(self) -> None:
        """End what is being said."""
        self.client.interrupt("typed")
        self.wait_silent(10)


class Kept:
    """What went through an echo control, in order, for `scripts/bench/echo_replay.py`.

    said: when the user began and ended a sentence, on the monotonic clock.
    """

    def __init__(self) -> None:
        self.said: list[tuple[float, float]] = []
        self._blocks: list[tuple[bool, float, float, np.ndarray]] = []
        self._rates: dict[str, int] = {}

    def of(self, control: EchoControl, near_hz: int, far_hz: int) -> EchoControl:
        far, near = control.far, control.near

        def take_far(samples: np.ndarray, at_s: float) -> None:
            self._blocks.append((True, at_s, time.monotonic(), samples.copy()))
            far(samples, at_s)

        def take_near(samples: np.ndarray, at_s: float) -> np.ndarray:
            self._blocks.append((False, at_s, time.monotonic(), samples.copy()))
            return near(samples, at_s)

        control.far, control.near = take_far, take_near  # type: ignore[method-assign]
        self._rates = {"near_hz": near_hz, "far_hz": far_hz}
        return control

    def save(self, path: Path) -> None:
        far, at_s, came_s, blocks = zip(*self._blocks, strict=True)
        sizes, samples = [block.size for block in blocks], np.concatenate(blocks)
        said = np.array(self.said).reshape(-1, 2)
        np.savez_compressed(
            path, far=far, at_s=at_s, came_s=came_s, sizes=sizes, samples=samples, said=said, **self._rates
        )


class _Counting(LiveSound):
    """Live sound that notes when near speech is found, whether it interrupts or not."""

    def __init__(self, settings: Settings, kept: Kept | None = None) -> None:
        self.onsets_s: list[float] = []
        self._kept = kept
        super().__init__(settings, lambda _text: None)
        voice, take = self.voice, self.voice.on_block

        def on_block(samples: Any, at_s: float) -> None:
            before = voice.user_speaking
            take(samples, at_s)
            if voice.user_speaking and not before:
                self.onsets_s.append(time.monotonic())

        voice.on_block = on_block  # type: ignore[method-assign]

    def _echo_control(self, microphone: Device | None) -> EchoControl:
        control: EchoControl = super()._echo_control(microphone)
        if self._kept is None or self.speaker is None or self._session is None:
            return control
        return self._kept.of(control, self._session.input_format.rate_hz, self.speaker.rate_hz)


@contextlib.contextmanager
def listening(
    card: SoundCard, echo: str, *, url: str = "", kept: Kept | None = None, **values: Any
) -> Iterator[Listener]:
    """Open a session of live voice on the first card, with its own local server or the one at `url`.

    The server hears turns and lets them interrupt, but does not answer them: what is said is not the matter here.
    """
    place = {"url": url} if url else {"local": True}
    settings = load_settings({**place, "record": False, "echo": echo, "mic": "card1", "speaker": "card1", **values})
    sound = _Counting(settings, kept)
    with opened(settings, sound=sound) as held:
        assert sound.echo_mode == echo
        detection = ServerVad(create_response=False, interrupt_response=True)
        assert isinstance(held.session, RealtimeClient)
        held.session.update_session(RealtimeConfig(audio=Audio(input=AudioInput(turn_detection=detection))))
        yield Listener(held, sound, card)


def find(tape: Tape, said: bytes, after_s: float) -> float:
    """When the sound `said` began on a recording of the microphone, echo or not: the peak of the correlation."""
    first = max(0, tape.index(after_s))
    heard = tape.samples[first:].astype(np.float64)
    assert heard.size, f"the tape ends {after_s - tape.at_s(tape.samples.size):.1f} s before {after_s:.1f}"
    sought = np.frombuffer(said, np.int16).astype(np.float64)
    size = 1 << (heard.size + sought.size).bit_length()
    product = np.fft.irfft(np.fft.rfft(heard, size) * np.fft.rfft(sought, size).conj(), size)
    return tape.at_s(first + int(np.argmax(product[: heard.size])))


class BargeIn:
    """One sentence said over an answer, and what came of it.

    Moments are on the monotonic clock, None for what did not happen. false: onsets and turns before anyone spoke.
    """

    def __init__(self, listener: Listener, mic: Tape, said: bytes, *, wait_s: float) -> None:
        pause = threading.Event()
        listener.forget()
        listener.ask(f"Repeat after me: {TALE}")
        pause.wait(wait_s)
        self.false = len(listener.onsets_s) + len(listener.of(up.SpeechStarted))
        began_s = time.monotonic()
        listener.card.speak(said)
        pause.wait(0.4)
        self.onset_s = find(mic, said, began_s - 0.1)
        self.found_s = next((at_s for at_s in listener.onsets_s if at_s > self.onset_s - 0.1), None)
        self.cut_s = next((at_s for update, at_s in listener.of(up.Interrupted) if update.cause == "speech"), None)
        self.server_s = next((at_s for _, at_s in listener.of(up.SpeechStarted) if at_s > self.onset_s), None)
        self.end_s = self.onset_s + len(said) / 2 / RATE_HZ
        listener.hush()


def sentence(text: str, dbfs: float, voice: str = "slt") -> bytes:
    """What the user says, at a level."""
    return at_level(speech(text, voice=voice), dbfs)
