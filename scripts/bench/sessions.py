"""Many sessions in one process at real-time pace: a 100 ms audio delta each 100 ms a session.

Compares this client with the official `openai` SDK (sync, a thread a session), in one run, each in a process of its
own: CPU a session, delay from the server's send to the program's hand with audio as bytes, memory a session, and
how many sessions one process holds with a p99 delay under 20 ms. In both, Python's garbage collector is frozen before
the traffic begins, so that what is there then is not looked through again, and a thread that waits for the interpreter
asks for it every 20 ms instead of every 5.

    python scripts/bench/sessions.py [SESSIONS] [SECONDS]
"""

from __future__ import annotations

import base64
import contextlib
import gc
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

from receive import load_server

LADDER = (200, 300, 400, 500, 600, 800, 1000, 1200, 1400)


class Meter:
    """Delays of everything that arrives, and CPU and memory of this process."""

    def __init__(self) -> None:
        self.delays_ms: list[float] = []
        self.listening = False

    def note(self, item_id: str) -> None:
        if self.listening:
            self.delays_ms.append((time.monotonic_ns() - int(item_id[5:])) / 1e6)

    def run(self, seconds: float, sessions: int, before_kb: int) -> dict[str, float]:
        wait = threading.Event()
        wait.wait(1.5)
        memory_kb = (resident_kb() - before_kb) / sessions
        self.listening = True
        cpu, start = time.process_time(), time.monotonic()
        wait.wait(seconds)
        self.listening = False
        cpu, wall = time.process_time() - cpu, time.monotonic() - start
        delays = sorted(self.delays_ms)
        return {
            "cpu_percent": cpu / wall * 100 / sessions,
            "p50_ms": delays[len(delays) // 2],
            "p99_ms": delays[int(len(delays) * 0.99)],
            "memory_kb": memory_kb,
            "rate": len(delays) / wall / sessions,
        }


def resident_kb() -> int:
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0])


def settle() -> None:
    """Before traffic, hide what is there from the collector: a full collection takes 47 ms at 300 sessions.

    And hundreds of threads that each wake 200 times a second to ask for the interpreter leave no time for the work.
    """
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(0.02)


def leave(figures: dict[str, float]) -> NoReturn:
    """Print the figures and end the process at once: closing hundreds of sessions is not what is measured."""
    print(json.dumps(figures), flush=True)
    os._exit(0)


def ours(port: int, sessions: int, seconds: float, *, direct: bool = True) -> NoReturn:
    from realtime_client.client.client import RealtimeClient
    from realtime_client.client.endpoint import Endpoint
    from realtime_client.session.limits import Limits
    from realtime_client.updates import AudioDelta

    meter = Meter()

    def observe(update: object, _at_s: float) -> None:
        if type(update) is AudioDelta:
            meter.note(update.item_id)

    with contextlib.ExitStack() as stack:
        endpoint = Endpoint(url=f"ws://127.0.0.1:{port}/v1/realtime", proxy=None)
        limits = Limits(ping_interval_s=0)  # the load's server writes past its library: a pong could fall into a frame
        first = stack.enter_context(RealtimeClient(endpoint, limits=limits))
        before = resident_kb()
        clients = [first] + [stack.enter_context(RealtimeClient(endpoint, limits=limits)) for _ in range(sessions - 1)]
        for client in clients:
            client.observe(observe, direct=direct)
        settle()
        for client in clients:
            client.clear_input()  # starts the server
        leave(meter.run(seconds, sessions, before))


def openai_sdk(port: int, sessions: int, seconds: float) -> NoReturn:
    from openai import OpenAI

    meter = Meter()
    client = OpenAI(api_key="none", base_url=f"http://127.0.0.1:{port}/v1")

    def read(connection: object) -> None:
        with contextlib.suppress(Exception):
            for event in connection:  # type: ignore[attr-defined]
                if event.type == "response.output_audio.delta":
                    base64.b64decode(event.delta)
                    meter.note(event.item_id)

    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(client.realtime.connect(model="bench"))]
        before = resident_kb()
        connections += [stack.enter_context(client.realtime.connect(model="bench")) for _ in range(sessions - 1)]
        settle()
        for connection in connections:
            threading.Thread(target=read, args=(connection,), daemon=True).start()
            connection.input_audio_buffer.clear()
        leave(meter.run(seconds, sessions, before))


def ours_queued(port: int, sessions: int, seconds: float) -> NoReturn:
    """The same with an ordinary observer: one more hand-off, to the audio thread."""
    ours(port, sessions, seconds, direct=False)


WAYS = {"ours": ours, "ours_queued": ours_queued, "openai_sdk": openai_sdk}


def measure(way: str, sessions: int, seconds: float) -> dict[str, float] | None:
    """Figures of one process of its own against a fresh server process; None when it broke down."""
    with load_server(1, 100) as port:
        command = [sys.executable, "-W", "ignore", __file__, "--one", way, str(port), str(sessions), str(seconds)]
        try:
            out = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 90, check=True)
        except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
            return None
        figures: dict[str, float] = json.loads(out.stdout.splitlines()[-1])
        return figures


def climb(way: str, seconds: float) -> int:
    """Most sessions of the ladder with every step up to it under 20 ms at p99 and nothing falling behind."""
    best = 0
    for sessions in LADDER:
        for _ in range(3):  # a shared machine stands still now and then: a step may be tried again
            figures = measure(way, sessions, seconds)
            good = figures is not None and figures["p99_ms"] < 20 and figures["rate"] > 9.5
            if good:
                break
        shown = "broke down" if figures is None else f"p99 {figures['p99_ms']:7.1f} ms, {figures['rate']:.1f} deltas/s"
        print(f"  {way:12} {sessions:5} sessions: {shown}", flush=True)
        if not good:
            break
        best = sessions
    return best


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        way, port, sessions, seconds = sys.argv[2:]
        WAYS[way](int(port), int(sessions), float(seconds))
    sessions = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 8.0
    series: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(3):
        for way, figures in series.items():
            if (measured := measure(way, sessions, seconds)) is not None:
                figures.append(measured)
    middle = {
        way: {key: statistics.median(f[key] for f in figures) for key in figures[0]} for way, figures in series.items()
    }
    for way, figures in middle.items():
        print(
            f"{way:12} {sessions} sessions: {figures['cpu_percent']:.3f} % of a core each, "
            f"delay p50 {figures['p50_ms']:.2f} ms, p99 {figures['p99_ms']:.2f} ms, {figures['memory_kb']:.0f} kB each"
        )
    mine, queued, theirs = middle["ours"], middle["ours_queued"], middle["openai_sdk"]
    print(f"CPU:    direct / openai SDK     {mine['cpu_percent'] / theirs['cpu_percent']:.2f}   (goal: at most 0.25)")
    print(f"CPU:    ordinary / openai SDK   {queued['cpu_percent'] / theirs['cpu_percent']:.2f}   (goal: at most 0.4)")
    print(f"delay:  direct / openai SDK     {mine['p50_ms'] / theirs['p50_ms']:.2f}   (goal: at most 0.5)")
    print(f"memory: direct                  {mine['memory_kb']:.0f} kB a session   (goal: at most 150)")
    most = {way: climb(way, min(seconds, 5.0)) for way in ("ours", "openai_sdk")}
    print(f"most sessions with p99 under 20 ms: {most}   (goal: 600, and at least as many as the SDK)")


if __name__ == "__main__":
    main()
