"""How soon a half-open connection is noticed while audio flows, and whether slow servers are taken for gone.

Half-open: the server's socket drops, at some moment, all that arrives, before it is acknowledged. Sessions send blocks
of 20 to 100 ms, in step with the clock; the time runs from that moment until the session has ended.

Slow: servers that are there all the time. For 15 s they read nothing, or 1 kB/s, or leave pings unanswered, or their
process is stopped (SIGSTOP); then they go on, and each session must get an answer. Pings go out every 2 s. Once as is,
and once with `ack_timeout_s=0`, when pongs alone decide.

    python scripts/bench/half_open.py [TRIES] [SLOW] [SEED]
"""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, SERVER, Protocol
from websockets.utils import accept_key
from wire_load import BEGIN, END, SESSION, event, text_frame

from realtime_client.batch.results.summary import spread
from realtime_client.client.client import RealtimeClient
from realtime_client.client.endpoint import Endpoint
from realtime_client.errors import RealtimeError
from realtime_client.local.half_open import stop_acknowledging
from realtime_client.session.limits import Limits

AT_ONCE = 50
SLOW_S = 15.0
BEGINS_S = 1.0
SOON_S = 5.0
BYTES_PER_S = 48_000
OFTEN = Limits(ping_interval_s=2.0)  # a ping is overdue before the slow time is over
PONGS_ALONE = Limits(ping_interval_s=2.0, ack_timeout_s=0.0)
KINDS = ("reads nothing", "reads 1 kB/s", "answers pings late", "process stopped")


# --- the servers, in processes of their own ---------------------------------------------------------------------------


class Server:
    """One connection; its path says what is wrong with it: /KIND/NUMBER/SECONDS."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.protocol = Protocol(SERVER, state=OPEN, max_size=None)
        self.late: list[bytes] = []

    def run(self) -> None:
        """Serve until the client is gone."""
        with self.sock, contextlib.suppress(OSError):
            kind, number, seconds = self.greet()
            self.serve(until_s=time.monotonic() + seconds)
            if kind == "half-open":
                if not stop_acknowledging(self.sock):
                    raise SystemExit("this system cannot make a half-open connection")
                print(number, time.monotonic(), flush=True)
                threading.Event().wait()  # until the process ends
            self.be_slow(kind, time.monotonic() + SLOW_S)
            self.serve()

    def greet(self) -> tuple[str, int, float]:
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.sock.recv(4096)
        lines = head.decode().split("\r\n")
        key = next(line.split(": ")[1] for line in lines if line.lower().startswith("sec-websocket-key"))
        self.sock.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept_key(key).encode() + b"\r\n\r\n"
        )
        self.sock.sendall(text_frame(event("session.created", session=SESSION)))
        _, kind, number, seconds = lines[0].split()[1].split("/")
        return kind, int(number), float(seconds)

    def be_slow(self, kind: str, until_s: float) -> None:
        if kind == "late":
            self.serve(until_s=until_s, answers=False)
        while (left_s := until_s - time.monotonic()) > 0 and kind in {"nothing", "drip"}:
            time.sleep(min(left_s, 0.1))
            if kind == "drip":
                self.protocol.receive_data(self.sock.recv(100))

    def serve(self, *, until_s: float | None = None, answers: bool = True) -> None:
        """Read, and answer pings and requests."""
        while until_s is None or time.monotonic() < until_s:
            if until_s is not None:
                self.sock.settimeout(max(0.001, until_s - time.monotonic()))
            try:
                data = self.sock.recv(65536)
            except TimeoutError:
                break
            if not data:
                raise ConnectionResetError
            self.protocol.receive_data(data)
            if answers:
                self.sock.settimeout(None)
                self.answer()
        self.sock.settimeout(None)

    def answer(self) -> None:
        for data in self.protocol.data_to_send():  # pongs
            self.sock.sendall(data)
        for frame in self.protocol.events_received():
            if isinstance(frame, Frame) and frame.opcode is Opcode.TEXT and b"response.create" in frame.data[:200]:
                self.sock.sendall(BEGIN + END)


def serve_all() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            sock, _ = listener.accept()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            threading.Thread(target=Server(sock).run, daemon=True).start()


@contextlib.contextmanager
def process() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process of servers, and where they listen."""
    command = [sys.executable, __file__, "serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as servers:
        assert servers.stdout is not None
        try:
            yield servers, f"ws://127.0.0.1:{int(servers.stdout.readline())}"
        finally:
            servers.kill()


# --- the sessions -----------------------------------------------------------------------------------------------------


def talk(client: RealtimeClient, block_s: float, until_s: float) -> None:
    """Send silence in step with the clock, until the session ends."""
    due_s = time.monotonic()
    while due_s < until_s and not client.stop.wait(max(0.0, due_s - time.monotonic())):
        client.send_audio(bytes(int(block_s * BYTES_PER_S) // 2 * 2))
        due_s += block_s


def half_open(tries: int, luck: random.Random) -> list[float]:
    """Seconds until each was noticed."""
    ended: dict[int, float] = {}
    kinds: Counter[str] = Counter()

    def one(url: str, number: int, block_s: float, after_s: float) -> None:
        client = RealtimeClient(Endpoint(url=f"{url}/half-open/{number}/{after_s}", proxy=None))
        with contextlib.suppress(RealtimeError), client:
            with contextlib.suppress(RealtimeError):
                talk(client, block_s, time.monotonic() + 60)
            client.stop.wait(60)
            ended[number] = time.monotonic()
        kinds[type(client.error).__name__] += 1

    with process() as (servers, url), ThreadPoolExecutor(AT_ONCE) as pool:
        for number in range(tries):
            pool.submit(one, url, number, luck.uniform(0.02, 0.1), luck.uniform(0.5, 3.5))
        pool.shutdown()
        assert servers.stdout is not None
        began = dict(line.split() for line in (servers.stdout.readline() for _ in range(tries)))
    print(f"half-open: ended with {dict(kinds)}")
    return [ended[int(number)] - float(at_s) for number, at_s in began.items()]


def slow(count: int, limits: Limits, luck: random.Random) -> Counter[str]:
    """How many of each kind were given up."""
    lost: Counter[str] = Counter()

    def one(kind: str, url: str, block_s: float) -> None:
        try:
            with RealtimeClient(Endpoint(url=url, proxy=None), limits=limits) as client:
                talk(client, block_s, time.monotonic() + BEGINS_S + SLOW_S + 1)
                client.next_answer(after=client.respond, timeout_s=20)
        except RealtimeError as error:
            lost[f"{kind}: {error}"] += 1

    with process() as (_, url), process() as (stopped, stopped_url), ThreadPoolExecutor(count) as pool:
        for number in range(count):
            kind = KINDS[number % len(KINDS)]
            path = {"reads nothing": "nothing", "reads 1 kB/s": "drip", "answers pings late": "late"}.get(kind, "well")
            where = stopped_url if path == "well" else url
            pool.submit(one, kind, f"{where}/{path}/{number}/{BEGINS_S}", luck.uniform(0.08, 0.12))
        time.sleep(BEGINS_S + 1)  # all of them are connected
        stopped.send_signal(signal.SIGSTOP)
        time.sleep(SLOW_S)
        stopped.send_signal(signal.SIGCONT)
        pool.shutdown()
    return lost


def main() -> None:
    arguments = [int(each) for each in sys.argv[1:]]
    tries, count, seed = (*arguments, *(100, 100, 1)[len(arguments) :])
    luck = random.Random(seed)
    if tries:
        took = half_open(tries, luck)
        late = sum(each > SOON_S for each in took)
        told = spread(took)
        assert told is not None
        print(
            f"half-open, seed {seed}: {told.count} of {tries} noticed after p50 {told.p50:.2f} s, p95 {told.p95:.2f} s,"
            f" at most {told.max:.2f} s; {late} after {SOON_S:g} s"
        )
    for name, limits in (("as is", OFTEN), ("by pongs alone", PONGS_ALONE)) if count else ():
        lost = slow(count, limits, luck)
        print(f"slow for {SLOW_S:g} s, {name}: {lost.total()} of {count} given up")
        for what, times in sorted(lost.items()):
            print(f"    {times} x {what}")


if __name__ == "__main__":
    serve_all() if sys.argv[1:] == ["serve"] else main()
