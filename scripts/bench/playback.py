#!/usr/bin/env python3
"""Playback on the virtual sound card, measured at the speaker's monitor.

Prints: frame arrival to first sample, less the prebuffer; cut to silence; error of the played position, over 30 cuts at
random points; gaps under frame jitter of 0 to 300 ms; CPU of both directions.
`playback.py SECONDS` sets the length of the jitter run (default 60; the promise is made for 600).
"""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from sound_card import RATE_HZ, SoundCard, missing, wait_until

VOICE_HZ = 24_000
CUTS = 30


def noise(duration_s: float) -> np.ndarray:
    """Noise of 200 to 3500 Hz."""
    count = round(duration_s * VOICE_HZ)
    spectrum = np.fft.rfft(np.random.default_rng(1).normal(size=count))
    hz = np.fft.rfftfreq(count, 1 / VOICE_HZ)
    spectrum[(hz < 200) | (hz > 3500)] = 0
    wave = np.fft.irfft(spectrum, count)
    return (wave / np.abs(wave).max() * 12_000).astype("<i2")


def pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def told(name: str, values: list[float]) -> None:
    low, middle, high = min(values), np.median(values), max(values)
    print(f"{name:52} median {middle:6.1f} ms, from {low:6.1f} to {high:6.1f} ({len(values)} times)")


def cuts(card: SoundCard, speaker) -> None:
    """Play, cut at a random point, be silent; and look at all of it on the monitor."""
    rng, marks, sent = np.random.default_rng(5), [], noise(6.0).tobytes()
    with card.hear() as tape:
        for number in range(CUTS):
            part = (f"item_{number}", 0)
            came_s = time.monotonic()
            speaker.play(part, sent, VOICE_HZ, came_s)
            prebuffer_ms = speaker.playback.prebuffer_ms
            pause(0.3 + rng.uniform(0, 0.5))
            cut_s = time.monotonic()
            heard_ms = speaker.cut()[part]
            marks.append((came_s, prebuffer_ms, cut_s, heard_ms))
            pause(0.2)
    loud, rows = tape.loud(60), []
    for came_s, prebuffer_ms, cut_s, heard_ms in marks:
        inside = loud[(loud > tape.index(came_s)) & (loud < tape.index(cut_s + 0.18))]
        first_s, last_s = tape.at_s(inside[0]), tape.at_s(inside[-1])
        rows.append(
            ((first_s - came_s) * 1000 - prebuffer_ms, (last_s - cut_s) * 1000, heard_ms - (last_s - first_s) * 1000)
        )
    late, silent, wrong = zip(*rows, strict=True)
    told("frame arrival to first sample, less the prebuffer", late)
    told("cut() to silence", silent)
    told("error of the played position", wrong)


def jitter(card: SoundCard, speaker, duration_s: float) -> None:
    """100 ms frames at their own pace, each 0 to 300 ms late; CPU of speaker and microphone meanwhile."""
    from realtime_client.audio import devices
    from realtime_client.audio.microphone import Microphone

    rng, count, size = np.random.default_rng(3), round(duration_s * 10), VOICE_HZ // 10
    sent, ticker, part = noise(30.0), threading.Event(), ("jitter", 0)
    arrivals = np.maximum.accumulate(np.arange(count) * 0.1 + rng.uniform(0, 0.3, count))
    microphone = Microphone(devices.choose("card1", "input"), on_block=lambda *_: None)
    underruns = speaker.underruns
    with card.hear() as tape:
        before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
        for number, at in enumerate(arrivals):
            ticker.wait(max(0.0, began + at - time.monotonic()))
            start = number % 300 * size
            speaker.play(part, sent[start : start + size].tobytes(), VOICE_HZ, time.monotonic())
        speaker.end(part)
        wait_until(lambda: speaker.idle, 5.0)
        after, ended = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
        pause(0.1)
    microphone.close()
    loud = tape.loud(60)
    gaps = np.diff(loud)
    at = [(tape.at_s(loud[i]) - began, gaps[i] / RATE_HZ * 1000) for i in np.flatnonzero(gaps > RATE_HZ // 50)]
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"jitter 0 to 300 ms for {duration_s:g} s: prebuffer {speaker.playback.prebuffer_ms} ms,", end=" ")
    print(f"{speaker.underruns - underruns} underruns, {speaker.device_underflows} of the device (a busy machine)")
    print(f"  gaps above 20 ms: {', '.join(f'{ms:.0f} ms at {second:.1f} s' for second, ms in at) or 'none'}")
    length = (loud[-1] - loud[0] + 1) / RATE_HZ - sum(ms for _, ms in at) / 1000
    print(
        f"  {length * 1000:.0f} ms on the monitor of {duration_s * 1000:.0f} sent; heard: {speaker.heard_ms(*part)} ms"
    )
    print(f"CPU of speaker, microphone and the recording: {used / (ended - began) * 100:.1f} % of a core")


def main() -> int:
    if lacks := missing():
        print(lacks)
        return 1
    duration_s = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    card = SoundCard()
    card.start()
    os.environ.update(card.variables())
    from realtime_client.audio import devices
    from realtime_client.audio.speaker import Speaker

    speaker = Speaker(devices.choose("card1", "output"), on_change=print)
    try:
        cuts(card, speaker)
        jitter(card, speaker, duration_s)
    finally:
        speaker.close()
        card.remove()
    return 0


if __name__ == "__main__":
    sys.exit(main())
