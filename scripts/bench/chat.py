"""What sessions with text models cost: first token, cancel, many streams, streams that die.

A server in a process of its own speaks chat completions on loopback. Both read the same monotonic clock (Linux).

    python scripts/bench/chat.py [TIMES]

first token   a session against a bare httpx2 stream of the same server, in turn
history       how long `send_text` takes in a conversation of 1,024 entries
cancel        until the server sees the end, and until the caller goes on; in mid-stream and before the head came
accumulator   10,000 streams through it: what is left in memory
streams       100 sessions, 20 pieces a second each, for 10 s: from the server's write to the observer's call
death         answers that break off in the middle, with a chain of two models and of one
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable

import httpx2

from realtime_client import updates as up
from realtime_client.chat.accumulator import Accumulator
from realtime_client.chat.breaker import MemoryStore
from realtime_client.chat.limits import ChatLimits
from realtime_client.chat.place import Place
from realtime_client.chat.session import ChatSession
from realtime_client.chat.wires import pieces as pc
from realtime_client.chat.wires.openai_chat import OpenAIChat
from realtime_client.session.limits import Limits

WORDS = [f"word{n} " for n in range(40)]


# --- the server -------------------------------------------------------------------------------------------------------


def chunk(text: str) -> bytes:
    data = b'data: {"choices":[{"index":0,"delta":{"content":%s}}]}\n\n' % json.dumps(text).encode()
    return b"%x\r\n%b\r\n" % (len(data), data)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
END = b"%x\r\n%b\r\n0\r\n\r\n" % (len(LAST), LAST)
RATE = 20


async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
            messages = json.loads(await reader.readexactly(length))["messages"]
            await answer(messages, reader, writer)
    writer.close()


async def answer(messages: list[dict[str, str]], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    asked = next(m["content"] for m in reversed(messages) if m["content"].startswith("/"))
    kind, _, more = asked.partition(" ")
    if kind == "/silent":
        print("silent", flush=True)
        await reader.read(1)
        print(time.monotonic(), flush=True)
        return
    writer.write(HEAD)
    if kind == "/hold":
        writer.write(chunk("One, "))
        await reader.read(1)
        print(time.monotonic(), flush=True)
    elif kind == "/paced":
        start_s = time.monotonic()
        for n in range(int(more) * RATE):
            await asyncio.sleep(start_s + n / RATE - time.monotonic())
            writer.write(chunk(f"{time.monotonic()} "))
        writer.write(END)
    elif kind == "/die" and not any("cut off" in m["content"] for m in messages):
        for word in WORDS[: int(more)]:
            writer.write(chunk(word))
        await writer.drain()
        writer.transport.abort() if int(more) % 2 else writer.close()
        raise ConnectionError
    else:
        said = next((m["content"] for m in messages if m["role"] == "assistant"), "") if kind == "/die" else ""
        for word in WORDS[len(said.split()) :]:
            writer.write(chunk(word))
        writer.write(END)


async def serve_for_ever() -> None:
    server = await asyncio.start_server(handle, "127.0.0.1", 0, backlog=1_000)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        os._exit(0)


# --- what is measured -------------------------------------------------------------------------------------------------


def session(url: str, models: int = 1, **limits: object) -> ChatSession:
    places = [Place(provider="openai", model=f"m{n}", base_url=url, wire=OpenAIChat()) for n in range(models)]
    chat_limits = ChatLimits(retry_delay_s=0.0, **limits)  # type: ignore[arg-type]
    return ChatSession(places, chat_limits=chat_limits, breakers=MemoryStore(), limits=Limits(close_timeout_s=10))


def first_token(url: str, times: int) -> None:
    bare: list[float] = []
    ours: list[float] = []
    body = {"model": "m0", "stream": True, "messages": [{"role": "user", "content": "/all"}]}
    came = threading.Event()
    at: list[float] = []

    def observe(update: up.Update, _at_s: float) -> None:
        if update.kind == "text_delta" and not came.is_set():
            at.append(time.monotonic())
            came.set()

    with session(url, history_entries=1) as client, httpx2.Client() as http:
        client.observe(observe)
        for _ in range(times):
            began_s = time.monotonic()
            with http.stream("POST", f"{url}/chat/completions", json=body) as response:
                for n, _data in enumerate(response.iter_raw()):
                    if n == 0:
                        bare.append(time.monotonic() - began_s)
            came.clear()
            began_s = time.monotonic()
            client.ask("/all", timeout_s=10)
            ours.append(at.pop() - began_s)
    _print("first token, bare httpx2 stream", bare)
    _print("first token, session and observer", ours)
    print(f"  over it: p50 {(statistics.median(ours) - statistics.median(bare)) * 1000:.2f} ms (goal 2)")


def long_history(url: str, times: int, entries: int = 1_024) -> None:
    spent: list[float] = []
    with session(url, history_entries=entries) as client:
        for _ in range(entries // 2):
            client.ask("/all", timeout_s=10)
        for _ in range(times):
            with client.updates(timeout_s=10) as updates:
                began_s = time.monotonic()
                client.send_text("/all")
                spent.append(time.monotonic() - began_s)
                assert any(update.kind == "response_done" for update in updates)
    _print(f"send_text after {entries:,} entries of history", spent, goal="2 ms")


def shown_first(url: str) -> None:
    began_s = time.monotonic()
    first: list[float] = []
    with session(url) as client:
        client.observe(lambda u, _at: first.append(time.monotonic()) if u.kind == "text_delta" else None)
        client.ask("/paced 2", timeout_s=20)
    whole_s = time.monotonic() - began_s
    first_ms = (first[0] - began_s) * 1000
    print(f"an answer of 2 s: the first piece is there after {first_ms:.1f} ms, all of it after {whole_s:.2f} s")


def cancel(url: str, times: int, next_line: Callable[[], str], kind: str) -> None:
    seen: list[float] = []
    goes_on: list[float] = []
    with session(url) as client:
        for _ in range(times):
            with client.updates(timeout_s=10) as updates:
                client.send_text(kind)
                if kind == "/silent":
                    assert next_line() == "silent"
                else:
                    next(update for update in updates if update.kind == "text_delta")
                began_s = time.monotonic()
                assert client.cancel()
                goes_on.append(time.monotonic() - began_s)
                seen.append(float(next_line()) - began_s)
    where = "before the head came" if kind == "/silent" else "in mid-stream"
    _print(f"cancel {where}: the server sees the end", seen, goal="5 ms each")
    _print(f"cancel {where}: the caller goes on", goes_on, goal="50 ms each")


def accumulator() -> None:
    streams = Accumulator()

    def run(count: int) -> None:
        for n in range(count):
            name = f"s{n}"
            streams.begin(name, "m", 0.0)
            for k in range(20):
                streams.take([pc.TextPiece(name, k, k / 20, "word ")])
            streams.end(name, 1.0)

    tracemalloc.start()
    run(1_000)
    before = tracemalloc.get_traced_memory()[0]
    run(10_000)
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    print(f"10,000 streams through the accumulator: {(after - before) / 1024:.1f} kB more than before")


def streams(url: str, count: int = 100, seconds: int = 10) -> None:
    delays: list[tuple[float, float]] = []  # (when, how late)
    done = threading.Semaphore(0)

    def observe(update: up.Update, _at_s: float) -> None:
        if update.kind == "text_delta":
            now_s = time.monotonic()
            delays.append((now_s, now_s - float(update.text)))  # type: ignore[attr-defined]
        elif update.kind == "response_done":
            done.release()

    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(session(url)) for _ in range(count)]
        for client in clients:
            client.ask("/all", timeout_s=20)  # its connection is open
            client.observe(observe)
        before, began_s = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
        for client in clients:
            client.send_text(f"/paced {seconds}")
        for _ in clients:
            assert done.acquire(timeout=60)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert len(delays) == count * seconds * RATE
    what = f"{count} streams of {RATE} pieces a second: from the server's write to the observer"
    _print(f"{what}, once all have begun (1 s)", [late for at, late in delays if at > began_s + 1], goal="p99 20 ms")
    _print("  with the second in which all begin at once", [late for _, late in delays])
    print(f"  CPU: {cpu_s / seconds * 100:.0f} % of a core, {cpu_s / len(delays) * 1e6:.0f} us a piece")


def death(url: str, times: int, models: int) -> None:
    whole = "".join(WORDS)
    complete = marked = 0
    for n in range(times):
        with session(url, models) as client, client.updates(timeout_s=20) as updates:
            client.send_text(f"/die {1 + n % 38}")
            told = list(itertools.takewhile(lambda update: update.kind != "response_done", updates))
        shown = "".join(update.text for update in told if update.kind == "text_delta")  # type: ignore[attr-defined]
        complete += shown == whole
        marked += any(update.kind in ("answer_source", "notice") for update in told)
    print(
        f"{times} answers that died, a chain of {models}: {complete} complete and without a word twice, {marked} marked"
    )


def _print(what: str, values: list[float], goal: str = "") -> None:
    ordered = sorted(values)
    p50, p99 = statistics.median(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    told = f" (goal: {goal})" if goal else ""
    print(f"{what}: p50 {p50 * 1000:.2f} ms, p99 {p99 * 1000:.2f}, worst {ordered[-1] * 1000:.2f}{told}")


def main() -> None:
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    print(f"load before: {os.getloadavg()[0]:.1f}")
    with subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        next_line = lambda: server.stdout.readline().strip()  # type: ignore[union-attr]  # noqa: E731
        url = f"http://127.0.0.1:{next_line()}/v1"
        first_token(url, times)
        long_history(url, times)
        shown_first(url)
        cancel(url, times, next_line, "/hold")
        cancel(url, times, next_line, "/silent")
        accumulator()
        streams(url)
        death(url, times, 2)
        death(url, times, 1)
        server.kill()


if __name__ == "__main__":
    if "--serve" in sys.argv:
        asyncio.run(serve_for_ever())
    else:
        main()
