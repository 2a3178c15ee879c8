"""Resident memory over one hour of audio in one recorded session, run faster than real time.

A local server in a process of its own tells stories until an hour of audio has arrived; every answer is recorded.

    python scripts/bench/memory.py [MINUTES]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import realtime_client


def resident_mb() -> float:
    """Resident memory of this process, in MiB."""
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) / 1024


def main() -> None:
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    command = [sys.executable, "-m", "realtime_client", "serve", "--port", "0"]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server,
        tempfile.TemporaryDirectory() as folder,
    ):
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        try:
            run(url, folder, minutes)
        finally:
            server.terminate()


def run(url: str, folder: str, minutes: float) -> None:
    """Ask until the audio is long enough; print a line each tenth of it."""
    heard_s, turns, marks = 0.0, 0, []
    start = time.monotonic()
    with realtime_client.connect(url=url, record=True, record_dir=folder) as client:
        while heard_s < minutes * 60:
            answer = client.ask("Tell me a long story.", timeout_s=60)
            heard_s += answer.audio_format.ms(len(answer.audio)) / 1000
            turns += 1
            if heard_s >= (len(marks) + 1) * minutes * 6:
                marks.append(resident_mb())
                print(f"{heard_s / 60:5.1f} min of audio, {turns:4} answers: {marks[-1]:6.1f} MiB", flush=True)
    spent = time.monotonic() - start
    print(f"{heard_s / spent:.0f} times real time; from the first tenth to the last: {marks[-1] - marks[0]:+.1f} MiB")


if __name__ == "__main__":
    main()
