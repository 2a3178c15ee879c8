"""A server whose frames come late, each by another time, and what was heard of it compared with what was recorded."""

from __future__ import annotations

import json
import threading
import time
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pybase64
import soxr
from scripted_server import SESSION, Peer, ScriptedServer
from sound_card import RATE_HZ, Tape

VOICE_HZ = 24_000
FRAME_S = 0.1
WINDOW_S = 0.2
SEARCH_S = 0.1


def noise(duration_s: float, seed: int = 1) -> np.ndarray:
    """Noise of 200 to 3500 Hz, int16 at 24 kHz."""
    count = round(duration_s * VOICE_HZ)
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(size=count))
    hz = np.fft.rfftfreq(count, 1 / VOICE_HZ)
    spectrum[(hz < 200) | (hz > 3500)] = 0
    sound = np.fft.irfft(spectrum, count)
    return (sound / np.abs(sound).max() * 12_000).astype("<i2")


def arrivals(duration_s: float, most_late_s: float, seed: int = 3) -> np.ndarray:
    """When each frame of 100 ms comes: at its own pace, from nothing to `most_late_s` late, never before another."""
    count = round(duration_s / FRAME_S)
    late = np.random.default_rng(seed).uniform(0, most_late_s, count)
    return np.maximum.accumulate(np.arange(count) * FRAME_S + late)


class JitteryServer(ScriptedServer):
    """Answers each response.create with the next of `answers`: frames of `sound`, repeated, at these times."""

    def __init__(self, sound: np.ndarray, answers: list[np.ndarray]) -> None:
        super().__init__(self._talk)
        size = round(FRAME_S * VOICE_HZ)
        self._frames = [
            pybase64.b64encode(sound[at : at + size].tobytes()).decode() for at in range(0, len(sound), size)
        ]
        self._answers = iter(answers)
        self.worst_late_s = 0.0
        self._over = threading.Event()

    def _talk(self, peer: Peer) -> None:
        peer.greet()
        speaker: threading.Thread | None = None
        try:
            for frame in peer.websocket:
                event = json.loads(frame)
                if event["type"] == "session.update":
                    peer.send(type="session.updated", event_id="e", session=SESSION | event["session"])
                elif event["type"] == "response.create":
                    name = event.get("event_id", "resp")
                    speaker = threading.Thread(target=self._answer, args=(peer, name, next(self._answers)))
                    speaker.start()
        finally:
            self._over.set()
            if speaker is not None:
                speaker.join(10)

    def _answer(self, peer: Peer, name: str, times: np.ndarray) -> None:
        item = {"id": f"item_{name}", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
        part = {"response_id": name, "item_id": item["id"], "output_index": 0, "content_index": 0}
        peer.send(type="response.created", event_id="e", response={"id": name, "status": "in_progress"})
        peer.send(type="response.output_item.added", event_id="e", response_id=name, output_index=0, item=item)
        peer.send(type="conversation.item.added", event_id="e", item=item)
        began = time.monotonic()
        for number, at in enumerate(times):
            if self._over.wait(max(0.0, began + at - time.monotonic())):
                return
            self.worst_late_s = max(self.worst_late_s, time.monotonic() - began - at)
            frame = self._frames[number % len(self._frames)]
            peer.send(type="response.output_audio.delta", event_id="e", delta=frame, **part)
        peer.send(type="response.output_audio.done", event_id="e", **part)
        peer.send(type="response.output_item.done", event_id="e", response_id=name, output_index=0, item=item)
        peer.send(type="response.done", event_id="e", response={"id": name, "status": "completed", "output": [item]})


def recorded(folder: Path, side: int = 1) -> np.ndarray:
    """One side of conversation.wav at the rate of the tape: 0 the user, 1 the assistant."""
    with wave.open(str(folder / "conversation.wav")) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")[side::2]
    return soxr.resample(samples, VOICE_HZ, RATE_HZ)


def started_s(folder: Path, offset_s: float) -> float:
    """The moment of its first frame, on a clock that is `offset_s` behind the wall clock; exact to a millisecond."""
    with (folder / "journal.jsonl").open() as file:
        rows = [json.loads(line) for line in file]
    return float(np.percentile([row["wall"] - row["t"] for row in rows], 5)) - offset_s


def lags_ms(sound: np.ndarray, sound_s: float, tape: Tape) -> Iterator[tuple[float, float, float]]:
    """For each window of 200 ms with sound: its second, how much later it is on the tape, the correlation there.

    sound_s: when the first sample of `sound` was, on the monotonic clock.
    """
    heard = tape.samples.astype(np.float32)
    window, search = round(WINDOW_S * RATE_HZ), round(SEARCH_S * RATE_HZ)
    for begin in range(0, len(sound) - window, window):
        piece = sound[begin : begin + window].astype(np.float32)
        at = tape.index(sound_s + begin / RATE_HZ) - search
        if at < 0 or at + window + 2 * search > len(heard) or np.mean(np.abs(piece) > 60) < 0.9:
            continue
        place = heard[at : at + window + 2 * search]
        size = 1 << (len(place) + window).bit_length()
        both = np.fft.irfft(np.fft.rfft(place, size) * np.conj(np.fft.rfft(piece, size)), size)[: 2 * search + 1]
        energy = np.concatenate(([0.0], np.cumsum(place.astype(np.float64) ** 2)))
        norm = np.sqrt((energy[window : window + 2 * search + 1] - energy[: 2 * search + 1]) * np.sum(piece**2)) + 1.0
        best = int(np.argmax(both / norm))
        yield begin / RATE_HZ, (best - search) / RATE_HZ * 1000, float(both[best] / norm[best])


def gaps_ms(samples: np.ndarray, rate_hz: int, level: int = 60) -> np.ndarray:
    """How long each silence between two loud samples is."""
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) >= level)
    return np.diff(loud) / rate_hz * 1000
