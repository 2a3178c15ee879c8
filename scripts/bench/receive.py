"""CPU of the receive path: frame to update with audio as bytes, deltas sent as fast as possible.

Compares, in one run and in turn: a bare `websockets.sync` recv loop over the same frames (no parsing at all), this
client, and the official `openai` SDK (sync) with base64 decoding. And the other direction: appending microphone audio.

    python scripts/bench/receive.py [ROUNDS]
"""

from __future__ import annotations

import base64
import contextlib
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

COUNT = 20_000
APPENDS = 3_000
HERE = Path(__file__).parent


def bare(port: int) -> float:
    from websockets.sync.client import connect

    with connect(f"ws://127.0.0.1:{port}/v1/realtime", compression=None, max_size=None, ping_interval=None) as ws:
        ws.recv()
        ws.send("{}")
        start = time.process_time()
        for _ in range(COUNT + 2):
            ws.recv(decode=False)
        return (time.process_time() - start) / COUNT


def ours(port: int, *, direct: bool = False) -> float:
    from realtime_client.client.client import RealtimeClient
    from realtime_client.client.endpoint import Endpoint
    from realtime_client.protocol.events import InputAudioBufferClear
    from realtime_client.session.limits import Limits
    from realtime_client.updates import AudioDelta, ResponseDone

    done, size = threading.Event(), 0

    def observe(update: object, _at_s: float) -> None:
        nonlocal size
        if type(update) is AudioDelta:
            size += len(update.audio)
        elif type(update) is ResponseDone:
            done.set()

    limits = Limits(ping_interval_s=0)  # the server writes past its library: a pong would fall into a frame
    with RealtimeClient(Endpoint(url=f"ws://127.0.0.1:{port}/v1/realtime"), limits=limits) as client:
        client.observe(observe, direct=direct)
        start = time.process_time()
        client.send_event(InputAudioBufferClear())
        assert done.wait(120)
        spent = time.process_time() - start
    assert size == COUNT // 4 * 3 * 4800, size
    return spent / COUNT


def direct(port: int) -> float:
    return ours(port, direct=True)


def openai_sdk(port: int) -> float:
    from openai import OpenAI

    client = OpenAI(api_key="none", base_url=f"http://127.0.0.1:{port}/v1")
    size = 0
    with client.realtime.connect(model="bench") as connection:
        connection.recv()
        connection.input_audio_buffer.clear()
        start = time.process_time()
        for event in connection:
            if event.type == "response.output_audio.delta":
                size += len(base64.b64decode(event.delta))
            elif event.type == "response.done":
                break
        spent = time.process_time() - start
    assert size == COUNT // 4 * 3 * 4800, size
    return spent / COUNT


def append_ours(port: int) -> float:
    from realtime_client.client.client import RealtimeClient
    from realtime_client.client.endpoint import Endpoint

    audio = bytes(960)
    with RealtimeClient(Endpoint(url=f"ws://127.0.0.1:{port}/v1/realtime")) as client:
        start = time.process_time()
        for _ in range(APPENDS):
            client.send_audio(audio)
        client.close()
        return (time.process_time() - start) / APPENDS


def append_openai_sdk(port: int) -> float:
    from openai import OpenAI

    client = OpenAI(api_key="none", base_url=f"http://127.0.0.1:{port}/v1")
    audio = bytes(960)
    with client.realtime.connect(model="bench") as connection:
        connection.recv()
        start = time.process_time()
        for _ in range(APPENDS):
            connection.input_audio_buffer.append(audio=base64.b64encode(audio).decode())
        return (time.process_time() - start) / APPENDS


WAYS = {f.__name__: f for f in (bare, ours, direct, openai_sdk, append_ours, append_openai_sdk)}


def measure(way: str, port: int) -> float:
    """Seconds of CPU per event, in a process of its own."""
    out = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, "--one", way, str(port)],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return float(json.loads(out.stdout.splitlines()[-1]))


@contextlib.contextmanager
def load_server(count: int, pace_ms: float) -> Iterator[int]:
    """A server process of its own; gives its port."""
    command = [sys.executable, str(HERE / "wire_load.py"), str(count), str(pace_ms)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline())
        finally:
            server.kill()


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(WAYS[sys.argv[2]](int(sys.argv[3]))))
        return
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    figures: dict[str, list[float]] = {way: [] for way in WAYS}
    with load_server(COUNT, 0) as talking, load_server(0, 0) as listening:
        for _ in range(rounds):
            for way, series in figures.items():
                series.append(measure(way, listening if way.startswith("append") else talking))
    median = {way: statistics.median(series) * 1e6 for way, series in figures.items()}
    for way, us in median.items():
        print(f"{way:20} {us:8.2f} us CPU per event")
    pairs = lambda a, b: statistics.median(x / y for x, y in zip(figures[a], figures[b], strict=True))  # noqa: E731
    print(f"receive: ours / bare recv loop   {pairs('ours', 'bare'):6.2f}   (goal: at most 0.75)")
    print(f"receive: direct / bare recv loop {pairs('direct', 'bare'):6.2f}   (goal: at most 0.62)")
    print(f"receive: openai SDK / ours       {pairs('openai_sdk', 'ours'):6.2f}   (goal: at least 8)")
    print(f"append:  openai SDK / ours       {pairs('append_openai_sdk', 'append_ours'):6.2f}   (goal: at least 15)")


if __name__ == "__main__":
    main()
