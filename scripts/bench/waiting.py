"""What a run measures of a server that answers after 100 ms, and how long it waited for itself.

A server in a process of its own answers each text 100 ms after it came, and writes into the answer how long it really
took. Conversations of ten turns, 32 at a time, by `realtime run`; once with a second between the turns, which is a
quick person, and once without, which is as much as the machine can do: then all wait for a core.

The reported latency less what the server took is what is added to it on the way, the server's own waiting for a core
included; own waiting is what the run says of itself.

    python scripts/bench/waiting.py [JOBS] [CONVERSATIONS] [TURNS]
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from wire_load import SESSION, event

from realtime_client.batch.results.results import read_results
from realtime_client.batch.results.summary import spread
from realtime_client.cores import usable_cores

AFTER_S = 0.1
_numbers = itertools.count(1)


async def converse(websocket: ServerConnection) -> None:
    """Answer each `response.create` `AFTER_S` after it came."""
    await websocket.send(event("session.created", session=SESSION).decode())
    with contextlib.suppress(ConnectionClosed):
        async for frame in websocket:
            came_s, message = time.monotonic(), json.loads(frame)
            if message["type"] == "session.update":
                await websocket.send(event("session.updated", session=SESSION | message["session"]).decode())
            elif message["type"] == "conversation.item.create":
                item = message["item"] | {"id": f"item_{next(_numbers)}", "status": "completed"}
                await websocket.send(event("conversation.item.added", item=item).decode())
            elif message["type"] == "response.create":
                await answer(websocket, came_s)


async def answer(websocket: ServerConnection, came_s: float) -> None:
    number = next(_numbers)
    response = {"id": f"resp_{number}", "object": "realtime.response", "status": "in_progress", "output": []}
    item = {"id": f"item_{number}", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    part = {"response_id": response["id"], "item_id": item["id"], "output_index": 0, "content_index": 0}
    await websocket.send(event("response.created", response=response).decode())
    await websocket.send(
        event("response.output_item.added", response_id=response["id"], output_index=0, item=item).decode()
    )
    await asyncio.sleep(came_s + AFTER_S - time.monotonic())
    took = f"{(time.monotonic() - came_s) * 1000:.3f}"
    await websocket.send(event("response.output_text.delta", **part, delta=took).decode())
    item |= {"status": "completed", "content": [{"type": "output_text", "text": took}]}
    done = response | {"status": "completed", "output": [item]}
    await websocket.send(event("response.done", response=done).decode())


async def serve_for_ever() -> None:
    async with serve(converse, "127.0.0.1", 0, ping_interval=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        os._exit(0)


def main() -> None:
    jobs, count, turns = (int(n) for n in (*sys.argv[1:], *("32", "200", "10")[len(sys.argv) - 1 :]))
    with subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        url = f"ws://127.0.0.1:{server.stdout.readline().strip()}/v1/realtime"
        with tempfile.TemporaryDirectory() as name:
            for pause in ("1 s", ""):
                measure(Path(name), url, jobs=jobs, count=count, turns=turns, pause=pause)
        server.kill()


def measure(folder: Path, url: str, *, jobs: int, count: int, turns: int, pause: str) -> None:
    scenario, out = folder / "asked.yaml", folder / f"run{pause}"
    between = f"  - pause: {pause}\n" if pause else ""
    texts = between.join(f"  - text: Question {n}.\n" for n in range(turns))
    scenario.write_text(f"name: asked\nsession: {{modality: text}}\nturns:\n{texts}")
    command = [sys.executable, "-m", "realtime_client", "run", str(scenario), "--url", url, "--jobs", str(jobs)]
    load = os.getloadavg()[0]
    began_s = time.monotonic()
    subprocess.run(
        [*command, "--repeat", str(count), "--out", str(out), "-q"],
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"OPENAI_API_KEY": "bench"},
    )
    seconds = time.monotonic() - began_s
    results, _ = read_results(out / "results.jsonl")
    steps = [step for result in results for step in result.steps if step.answer]
    processes = len({result.worker for result in results})
    print(
        f"{count} conversations of {turns} turns, {pause or 'nothing'} between them, {jobs} at a time, in {processes} "
        f"processes on {usable_cores()} cores (load before: {load:.1f}): {seconds:.1f} s"
    )
    added = [step.latencies["first_text"] - float(step.answer) for step in steps]
    own = [step.own_waiting["first_text"] for step in steps if "first_text" in step.own_waiting]
    for what, values in (("added to the server's time", added), ("own waiting", own)):
        found = spread(values)
        if found is not None:
            goal = " (goal at 32 jobs on two cores: 2, 10)" if what == "own waiting" and pause else ""
            print(f"  {what}: p50 {found.p50:.1f} ms, p95 {found.p95:.1f} ms, worst {found.max:.0f} ms{goal}")


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        asyncio.run(serve_for_ever())
    else:
        main()
