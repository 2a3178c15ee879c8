"""What asyncio costs beside threads: the same session, the same server, updates read by iteration and by `async for`.

CPU of the client's process for each update of a burst, and the time of a whole `ask` of a server that answers at once;
medians of interleaved rounds.

    python scripts/bench/aio.py [UPDATES] [ROUNDS]
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from pathlib import Path

from realtime_client import aio
from realtime_client.client.client import RealtimeClient
from realtime_client.client.endpoint import Endpoint
from realtime_client.session.limits import Limits
from realtime_client.updates import ItemDeleted

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from scripted_server import Peer, ScriptedServer

ASKS = 200


def client_of(url: str, updates: int) -> RealtimeClient:
    limits = Limits(updates_queue=updates + 100, ping_interval_s=0)
    return RealtimeClient(Endpoint(url=url, proxy=None), limits=limits)


def threads(url: str, updates: int) -> tuple[float, float]:
    """CPU of one update in us, and an ask in ms."""
    with client_of(url, updates) as client:
        with client.updates() as reader:
            cpu = time.process_time()
            client.clear_input()
            seen = 0
            for update in reader:
                seen += isinstance(update, ItemDeleted)
                if seen == updates:
                    break
            cpu = time.process_time() - cpu
        began = time.monotonic()
        for _ in range(ASKS):
            client.ask("x")
        return cpu / updates * 1e6, (time.monotonic() - began) / ASKS * 1e3


def loop(url: str, updates: int) -> tuple[float, float]:
    """The same by asyncio."""

    async def main() -> tuple[float, float]:
        async with aio.over(client_of(url, updates)) as session:
            async with session.updates() as reader:
                cpu = time.process_time()
                await session.clear_input()
                seen = 0
                async for update in reader:
                    seen += isinstance(update, ItemDeleted)
                    if seen == updates:
                        break
                cpu = time.process_time() - cpu
            began = time.monotonic()
            for _ in range(ASKS):
                await session.ask("x")
            return cpu / updates * 1e6, (time.monotonic() - began) / ASKS * 1e3

    return asyncio.run(main())


def serve(updates: int) -> None:
    """The server, in a process of its own."""
    text = b'{"type":"conversation.item.deleted","event_id":"e","item_id":"item_1"}'
    frame = b"\x81" + bytes([len(text)]) + text

    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive("input_audio_buffer.clear")
        for _ in range(updates // 100):
            peer.websocket.socket.sendall(frame * 100)
        for number in range(ASKS):
            peer.receive("response.create")
            peer.answer("y", f"resp_{number}")
        peer.read_all()

    with ScriptedServer(script) as server:
        print(server.url, flush=True)
        sys.stdin.read()


def main() -> None:
    updates = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 7
    if sys.argv[3:] == ["--serve"]:
        serve(updates)
        return
    command = [sys.executable, __file__, str(updates), "0", "--serve"]
    figures: dict[str, list[tuple[float, float]]] = {"threads": [], "asyncio": []}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        url = server.stdout.readline().strip()
        for _ in range(rounds):
            figures["threads"].append(threads(url, updates))
            figures["asyncio"].append(loop(url, updates))
        server.stdin.close()
    for way, measured in figures.items():
        cpu, ask = (statistics.median(column) for column in zip(*measured, strict=True))
        print(f"{way}: {cpu:.1f} us of CPU an update, {ask:.2f} ms an ask")


if __name__ == "__main__":
    main()
