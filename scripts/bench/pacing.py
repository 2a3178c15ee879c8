"""Drift and lateness of scripted speech: microphones of 20 ms blocks, waited for as a case's player waits.

    scripts/bench/pacing.py [--seconds 60] [--sessions 1] [--busy]

Each session has a thread of its own and a microphone that speaks all the time. Lateness: how long after its moment
(start + number * 20 ms) a block left. Drift: the least lateness in the last quarter of the run less that in the first;
a sum of sleeps would have added up every delay in between. --busy: another thread of the process computes all the time.
"""

from __future__ import annotations

import argparse
import threading

import numpy as np

from realtime_client.batch.playing.microphone import BLOCK_MS, ScriptedMicrophone
from realtime_client.batch.playing.sound import StepSound
from realtime_client.deadline import SYSTEM_CLOCK, Deadline
from realtime_client.updates import PCM16_24K


def speak(seconds: float, times: list[float], news: threading.Event) -> None:
    """Tend one microphone for so long."""
    microphone = ScriptedMicrophone(PCM16_24K, lambda _block: times.append(SYSTEM_CLOCK.monotonic()), live=True)
    sound = bytes(PCM16_24K.bytes_per_ms * round(seconds * 1000 + 1000))
    microphone.play(StepSound(sound), lambda _at_s: None, lambda _at_s: None)
    times.clear()
    deadline = Deadline(seconds)
    while not deadline.expired:
        news.wait(max(0.0, min(0.25, microphone.due_in_s())))
        microphone.tend()


def compute(stop: threading.Event) -> None:
    while not stop.is_set():
        sum(range(10_000))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--sessions", type=int, default=1)
    parser.add_argument("--busy", action="store_true")
    options = parser.parse_args()
    never, stop = threading.Event(), threading.Event()
    runs: list[list[float]] = [[] for _ in range(options.sessions)]
    threads = [threading.Thread(target=speak, args=(options.seconds, times, never)) for times in runs]
    busy = threading.Thread(target=compute, args=(stop,), daemon=True)
    if options.busy:
        busy.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    late, drifts, missing = [], [], 0
    for times in runs:
        moments = np.array(times)
        numbers = np.arange(len(moments))
        lateness = (moments - moments[0] - numbers * BLOCK_MS / 1000) * 1000
        lateness -= lateness.min()
        late.append(lateness)
        quarter = len(lateness) // 4
        drifts.append(float(lateness[-quarter:].min() - lateness[:quarter].min()))
        missing += round(options.seconds * 1000 / BLOCK_MS) - len(moments)
    p50, p99, worst = (float(np.percentile(np.concatenate(late), q)) for q in (50, 99, 100))
    print(
        f"{options.sessions} sessions, {options.seconds:g} s, blocks of {BLOCK_MS} ms{', busy' if options.busy else ''}"
    )
    print(f"lateness p50 {p50:.2f} ms, p99 {p99:.2f} ms, worst {worst:.2f} ms")
    print(f"drift {max(drifts, key=abs):+.3f} ms; blocks missing at the end: {max(0, missing - options.sessions)}")


if __name__ == "__main__":
    main()
