"""Start of the command, and the first connection.

`realtime --version` against a bare interpreter, and connecting to a local server in a process of its own.

    python scripts/bench/startup.py [ROUNDS]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time


def wall_ms(*command: str) -> float:
    start = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return (time.monotonic() - start) * 1000


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    bare, version = [], []
    for _ in range(rounds):
        bare.append(wall_ms(sys.executable, "-c", "pass"))
        version.append(wall_ms(sys.executable, "-m", "realtime_client", "--version"))
    more = statistics.median(v - b for v, b in zip(version, bare, strict=True))
    print(
        f"bare interpreter {statistics.median(bare):.0f} ms; realtime --version {more:.0f} ms more (goal: within 150)"
    )

    from realtime_client.client.client import RealtimeClient
    from realtime_client.client.endpoint import Endpoint

    command = [sys.executable, "-m", "realtime_client", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        endpoint = Endpoint(url=server.stdout.readline().strip(), proxy=None)
        times = []
        for _ in range(rounds):
            start = time.monotonic()
            with RealtimeClient(endpoint):
                times.append((time.monotonic() - start) * 1000)
        server.terminate()
    print(f"first connect {times[0]:.1f} ms, later median {statistics.median(times):.1f} ms (goal: first under 15)")


if __name__ == "__main__":
    main()
