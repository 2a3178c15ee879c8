#!/usr/bin/env python3
"""Playback on the virtual sound card, measured at the speaker's monitor.

Prints: frame arrival to first sample, less the prebuffer; cut to silence; error of the played position, over 30 cuts at
random points. Then, from a server whose frames come 0 to 300 ms late, through a recorded session: gaps at the monitor,
underruns, and how far conversation.wav is from the monitor.
`playback.py SECONDS` sets the length of that run (default 60; the promise is made for 600).
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from jittery import VOICE_HZ, JitteryServer, arrivals, gaps_ms, lags_ms, noise, recorded, started_s
from sound_card import RATE_HZ, SoundCard, StallWatch, Tape, missing, wait_until
from talk_stage import stage

from realtime_client import updates as up
from realtime_client.recording.recorder import Recorder

CUTS = 30
AFTER_STALL_S = 0.5


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


def jitter(card: SoundCard, duration_s: float) -> None:
    """A server whose frames of 100 ms are 0 to 300 ms late, a session with both devices, a recorder, the monitor."""
    sound = noise(30.0)
    with contextlib.ExitStack() as stack:
        recorder = Recorder.create(Path(stack.enter_context(tempfile.TemporaryDirectory())), settings={})
        server = stack.enter_context(JitteryServer(sound, [arrivals(duration_s, 0.3)]))
        tape, stalls = stack.enter_context(card.hear()), stack.enter_context(StallWatch())
        with stage(card, recorder=recorder, url=server.url) as scene:
            scene.client.respond()
            scene.wait(up.ResponseDone, limit_s=duration_s + 30)
            wait_until(lambda: scene.speaker.idle, 60.0)
            pause(0.3)
            speaker = scene.speaker
            print(f"jitter 0 to 300 ms for {duration_s:g} s, from the server to the monitor, with a recorder:")
            print(f"  prebuffer at the end {speaker.playback.prebuffer_ms} ms, {speaker.underruns} underruns,", end=" ")
            print(f"{speaker.device_underflows} of the device; the machine stood still for", end=" ")
            print(f"{stalls.worst_s * 1000:.0f} ms at most, the server was {server.worst_late_s * 1000:.0f} ms late")
        tape.stop()
        gaps(sound, tape, stalls.stalls)
        drift(recorder.folder, tape)


def gaps(sound: np.ndarray, tape: Tape, stalls: list[tuple[float, float]]) -> None:
    """Silences at the monitor above the sound's own, and which of them a stall of the machine explains."""
    own = gaps_ms(sound, VOICE_HZ).max()
    loud = np.flatnonzero(np.abs(tape.samples.astype(np.int32)) >= 60)
    silent = np.diff(loud) / RATE_HZ * 1000 - own
    long = [(tape.at_s(loud[at]), silent[at]) for at in np.flatnonzero(silent > 20)]
    stalled = [
        ms for at_s, ms in long if any(-0.1 < at_s - end_s + length_s < AFTER_STALL_S for end_s, length_s in stalls)
    ]
    print(f"  worst gap at the monitor: {silent.max():.1f} ms above what the sound itself has ({own:.1f} ms);", end=" ")
    print(f"above 20 ms: {len(long)} (goal: 0), {len(stalled)} of them up to {AFTER_STALL_S:g} s after one of", end=" ")
    print(f"{len(stalls)} moments at which the machine stood still for 30 ms or more")


def drift(folder: Path, tape: Tape) -> None:
    """How much later the monitor was than conversation.wav says, window by window of 200 ms."""
    began_s = started_s(folder, time.time() - time.monotonic())
    rows = np.array(list(lags_ms(recorded(folder), began_s, tape)))
    sure = rows[rows[:, 2] > 0.8]
    lags, count = sure[:, 1], max(1, len(sure) // 20)
    moved = np.median(lags[-count:]) - np.median(lags[:count])
    beside = np.abs(lags - np.median(lags)).max()
    print(
        f"  conversation.wav against the monitor, {len(rows)} windows of 200 ms ({len(rows) - len(sure)} unlike):",
        end=" ",
    )
    print(f"lag median {np.median(lags):.1f} ms, from {lags.min():.1f} to {lags.max():.1f};", end=" ")
    print(
        f"drift from begin to end {moved:.1f} ms, worst window {beside:.1f} ms beside the median (goal: 20);", end=" "
    )
    print(f"the sound server's clock ran {tape.clock_ppm:+.0f} ppm fast, and was followed")


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
        try:
            cuts(card, speaker)
        finally:
            speaker.close()
        jitter(card, duration_s)
    finally:
        card.remove()
    return 0


if __name__ == "__main__":
    sys.exit(main())
