#!/usr/bin/env python3
"""Echo control in whole sessions on the virtual sound card, whose microphone hears its speaker.

The path: direct sound and two reflections (27 and 61 ms later), noise at -65 dBFS; the devices and the server's sound
path add 100 to 200 ms. A local server in a process of its own reads a tale in its voice. First nobody speaks, for
`--minutes` of the assistant: every onset found, every cut, and every turn that the server hears is false. Then
sentences of three voices of flite at -26 dBFS, at random moments over the answer. `--echo` is the level of the echo
over that of the user, in dB: +3 is louder than the user. `--measured`: after a loop test, as `realtime doctor --echo`
does it; else the session begins without knowing the path.

    python scripts/bench/echo_card.py --modes aec half-duplex --echo 3 -6 --minutes 5 --barge-ins 30
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from echo import WORDS
from echo_stage import TALE, BargeIn, Kept, Listener, active_dbfs, listening, room, sentence
from sound_card import SoundCard
from talk_stage import last_loud_s

from realtime_client import updates as up

USER_DBFS = -26.0
VOICES = ("slt", "rms", "awb")


@contextlib.contextmanager
def server() -> Iterator[str]:
    """A local server in its own process; its URL."""
    command = [sys.executable, "-m", "realtime_client", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def assistant_dbfs(card: SoundCard, url: str) -> float:
    """How loud the assistant is at the speaker."""
    with listening(card, "headphones", url=url) as listener, card.hear() as tape:
        listener.ask(f"Repeat after me: {TALE}")
        threading.Event().wait(8)
        listener.hush()
        return active_dbfs(tape.samples)


def measure() -> str:
    """The loop test, remembered for the sessions to come; what it found."""
    from realtime_client.audio import devices
    from realtime_client.doctor import sound as doctor_sound

    pair = doctor_sound.Pair(devices.choose("card1", "output"), devices.choose("card1", "input"))
    return doctor_sound.measure_echo(pair).check.text


def alone(listener: Listener, minutes: float) -> str:
    """Let the assistant speak, with nobody there; what was taken for somebody."""
    listener.forget()
    spoken_s, pause = 0.0, threading.Event()
    cpu_s, began_s = time.process_time(), time.monotonic()
    while spoken_s < 60 * minutes:
        start_s = time.monotonic()
        listener.ask(f"Repeat after me: {TALE}")
        listener.wait_silent(90)
        spoken_s += time.monotonic() - start_s
        pause.wait(1.5)  # the tail
    load = (time.process_time() - cpu_s) / (time.monotonic() - began_s)
    cuts, turns = len(listener.of(up.Interrupted)), len(listener.of(up.SpeechStarted))
    stumbles = listener.stumbles
    return (
        f"nobody speaks, {spoken_s / 60:.1f} min of assistant: {len(listener.onsets_s)} false onsets, {cuts} false"
        f" cuts, {turns} false turns at the server; {100 * load:.1f} % of a core for the whole client; the devices"
        f" stumbled {stumbles} times"
    )


def interrupt(listener: Listener, count: int, kept: Kept) -> str:
    """Sentences over the answer; how many were found, cut, reached the server, and how fast."""
    made: list[BargeIn] = []
    delays_ms: list[float] = []
    with listener.card.hear() as speaker, listener.card.hear_mic() as mic:
        for index in range(count):
            said = sentence(WORDS[index % len(WORDS)], USER_DBFS, VOICES[index // len(WORDS) % 3])
            one = BargeIn(listener, mic, said, wait_s=random.uniform(0.8, 4.0))
            made.append(one)
            kept.said.append((one.onset_s, one.end_s))
            if one.cut_s is not None and one.cut_s > one.onset_s:
                silent_s = last_loud_s(speaker, one.onset_s - 1, one.cut_s + 0.25)
                delays_ms.append(1000 * (silent_s - one.onset_s))
    found = [1000 * (one.found_s - one.onset_s) for one in made if one.found_s is not None]
    cut = sum(one.cut_s is not None for one in made)
    reached = sum(one.server_s is not None for one in made)
    false = sum(one.false for one in made)
    return (
        f"barge-ins: found {len(found)}/{count} after {spread(found)}; cut {cut}/{count}, silence after"
        f" {spread(delays_ms)}; reach the server {reached}/{count}; false before {false}"
    )


def spread(values_ms: list[float]) -> str:
    if not values_ms:
        return "-"
    ordered = sorted(values_ms)
    return f"{statistics.median(ordered):.0f} ms (median), {ordered[int(0.9 * (len(ordered) - 1))]:.0f} ms (90 %)"


def one_level(card: SoundCard, url: str, wanted: Any, loud_dbfs: float, echo_db: float) -> None:
    loss_db = loud_dbfs - USER_DBFS - echo_db
    print(f"echo {echo_db:+g} dB over the user ({loss_db:.1f} dB below the speaker)")
    with room(card, loss_db):
        if wanted.measured:
            print(f"  loop test: {measure()}")
        for mode in wanted.modes:
            kept = Kept()
            with listening(card, mode, url=url, kept=kept if wanted.keep else None) as listener:
                if wanted.minutes:
                    print(f"  {mode:11} {alone(listener, wanted.minutes)}", flush=True)
                if wanted.barge_ins:
                    print(f"  {mode:11} {interrupt(listener, wanted.barge_ins, kept)}", flush=True)
            if wanted.keep:
                wanted.keep.mkdir(parents=True, exist_ok=True)
                kept.save(wanted.keep / f"{mode}{echo_db:+g}.npz")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modes", nargs="+", default=["aec", "half-duplex"])
    parser.add_argument("--echo", nargs="+", type=float, default=[3.0, -6.0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--barge-ins", type=int, default=30)
    parser.add_argument("--measured", action="store_true")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="record the sessions there, for echo_replay.py")
    wanted = parser.parse_args()
    random.seed(1)
    card = SoundCard()
    with tempfile.TemporaryDirectory() as home:
        card.start()
        os.environ.update(card.variables() | {"XDG_STATE_HOME": home})
        from realtime_client.audio import devices

        devices.refresh()
        try:
            with server() as url:
                loud_dbfs = assistant_dbfs(card, url)
                print(f"assistant {loud_dbfs:.1f} dBFS at the speaker, user {USER_DBFS:g} dBFS at the microphone")
                for echo_db in wanted.echo:
                    one_level(card, url, wanted, loud_dbfs, echo_db)
        finally:
            card.remove()


if __name__ == "__main__":
    main()
