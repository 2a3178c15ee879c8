#!/usr/bin/env python3
"""Recorded sessions once more through today's echo control, in seconds instead of minutes.

    python scripts/bench/echo_card.py --keep DIR --minutes 1 --barge-ins 30
    python scripts/bench/echo_replay.py DIR/*.npz

A recording holds every block of both sides with its times, in order, and when the user spoke. It ends an answer where
the session did, so an interruption that is found later than it was then is found without the assistant over it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from echo_card import spread

from realtime_client.audio.echo.control import EchoControl
from realtime_client.audio.echo.onset import OnsetEvent

EARLY_S, LATE_S = 0.1, 0.6  # around what the user says: no false onset


def onsets(kept: dict[str, np.ndarray], mode: str) -> list[float]:
    """When near speech is found."""
    control, found, at = EchoControl(int(kept["near_hz"]), mode, far_hz=int(kept["far_hz"])), [], 0
    for far, at_s, came_s, size in zip(kept["far"], kept["at_s"], kept["came_s"], kept["sizes"], strict=True):
        block = kept["samples"][at : at + size]
        at += size
        if far:
            control.far(block, float(at_s))
        else:
            control.near(block, float(at_s))
            if control.event is OnsetEvent.STARTED:
                found.append(float(came_s))
    return found


def judge(path: Path, mode: str) -> str:
    kept = dict(np.load(path))
    began_s = time.perf_counter()
    found, said = onsets(kept, mode), kept["said"]
    took_s = time.perf_counter() - began_s
    false = [at_s for at_s in found if not any(a - EARLY_S <= at_s <= b + LATE_S for a, b in said)]
    firsts = [next((at_s for at_s in found if a - EARLY_S <= at_s <= b), None) for a, b in said]
    late_ms = [1000 * (at_s - a) for at_s, (a, _) in zip(firsts, said, strict=True) if at_s is not None]
    start_s, end_s = kept["came_s"][[0, -1]]
    where = ", ".join(f"{at_s - start_s:.1f} s" for at_s in false)
    return (
        f"{path.name} {mode:11} {(end_s - start_s) / 60:.1f} min in {took_s:.1f} s: {len(false)} false onsets"
        f"{f' ({where})' if false else ''}, barge-ins found {len(late_ms)}/{len(said)} after {spread(late_ms)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--modes", nargs="+", default=["aec", "half-duplex"])
    wanted = parser.parse_args()
    for path in wanted.files:
        for mode in wanted.modes:
            print(judge(path, mode), flush=True)


if __name__ == "__main__":
    main()
