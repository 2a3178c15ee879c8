"""Several servers on one port, and the ears that they share."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cli_helpers import started
from local_helpers import espeak
from run_players import wait_until
from test_batch_pool import alive
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from realtime_client.batch.running.own_server import OwnServer
from realtime_client.cores import usable_cores
from realtime_client.errors import RealtimeError, UsageError
from realtime_client.local import processes as processes_module
from realtime_client.local import shared_ears as shared_ears_module
from realtime_client.local.ear import DurationEar
from realtime_client.local.processes import Servers
from realtime_client.local.server_process import ServerProcess
from realtime_client.local.shared_ears import SharedEar, SharedEars, shared_ears

LIMIT_S = 30.0
TOKEN = "open-sesame-123456"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux shares out the clients of one port")


def greeted(url: str, token: str = TOKEN) -> bool:
    with connect(url, additional_headers={"Authorization": f"Bearer {token}"}) as websocket:
        return '"session.created"' in str(websocket.recv(timeout=LIMIT_S))


def ephemeral_key(url: str) -> str:
    """Ask one of the servers for a key."""
    place = url.replace("ws:", "http:", 1) + "/client_secrets"
    request = urllib.request.Request(place, b"{}", {"Authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
        return str(json.load(answer)["value"])


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(folder.name))
    return found


def test_servers_share_a_port_and_one_that_dies_is_replaced():
    said: list[str] = []
    told, failed = threading.Event(), threading.Event()

    def say(text: str) -> None:
        said.append(text)
        told.set()

    with Servers(2, "127.0.0.1", 0, say=say, on_failure=failed.set, token=TOKEN) as servers:
        assert servers.loopback
        before = servers.pids()
        assert len(set(before)) == 2
        assert all(greeted(servers.url) for _ in range(8))
        key = ephemeral_key(servers.url)
        assert all(greeted(servers.url, key) for _ in range(8)), "whichever process made it"
        os.kill(before[0], signal.SIGKILL)
        assert told.wait(LIMIT_S)
        after = servers.pids()
        wait_until(lambda: greeted_or_not(servers.url))
    assert said == [f"server process {before[0]} ended (exit code -9) with its sessions; another takes its place"]
    assert before[1] in after
    assert before[0] not in after
    assert not any(alive(pid) for pid in {*before, *after})
    assert not failed.is_set()


def greeted_or_not(url: str) -> bool:
    with contextlib.suppress(OSError, ConnectionClosed):
        return greeted(url)
    return False


def test_a_server_that_cannot_be_replaced_ends_all(monkeypatch):
    failed = threading.Event()
    with pytest.raises(RealtimeError, match="could not be started"):
        with Servers(2, "127.0.0.1", 0, say=lambda _text: None, on_failure=failed.set, token=TOKEN) as servers:
            monkeypatch.setattr("realtime_client.local.server_process._CODE", "raise SystemExit(3)")
            os.kill(servers.pids()[1], signal.SIGKILL)
            assert failed.wait(LIMIT_S)


def test_a_port_that_cannot_be_shared_is_named(monkeypatch):
    def several(port: int) -> Servers:
        return Servers(2, "127.0.0.1", port, say=lambda _text: None, on_failure=lambda: None)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1 port {port}"), several(port):
            pass
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as shared:
        port = shared.getsockname()[1]
        with pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1 port {port}"), several(port):
            pass  # each would get a part of the other's clients
    monkeypatch.setattr(processes_module, "CAN_SHARE_PORT", False)
    with pytest.raises(UsageError, match="leave out --processes"), several(0):
        pass


@pytest.mark.parametrize(
    ("by", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130), (signal.SIGHUP, 129), (signal.SIGKILL, -9)]
)
def test_serve_ends_with_all_its_processes(by: signal.Signals, code: int):
    with started("serve", "--processes", "2", "--token", TOKEN) as serve:
        assert serve.stdout is not None
        url = serve.stdout.readline().strip()
        pids = children(serve.pid)
        assert len(pids) == 2
        with connect(url, additional_headers={"Authorization": f"Bearer {TOKEN}"}) as websocket:
            websocket.recv(timeout=LIMIT_S)
            serve.send_signal(by)
            with pytest.raises(ConnectionClosed) as closed:
                websocket.recv(timeout=LIMIT_S)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001
        assert serve.wait(timeout=LIMIT_S) == code
        assert serve.stdout.read() == ""
    wait_until(lambda: not any(alive(pid) for pid in pids))


def test_a_server_of_ones_own_that_died_is_started_again():
    own = OwnServer(fast=True)
    try:
        first = own.url()
        assert greeted(first, own.token)
        os.kill(own._server.pid, signal.SIGKILL)
        own._server.wait_for_its_end()
        second = own.url()
        assert greeted(second, own.token)
        assert own.url() == second
    finally:
        own._server.close()


# --- ears -------------------------------------------------------------------------------------------------------------


def transcript(server: ServerProcess, speech: bytes) -> str:
    from realtime_client import connect as connect_session

    with connect_session(url=server.url, token=server.token, record=False, turn_detection="none") as session:
        session.send_audio(speech)
        session.commit()
        return next(update.text for update in session.updates(LIMIT_S) if update.kind == "user_transcript")


def test_servers_share_an_ear_and_the_next_one_hears_what_waits_when_it_dies():
    pytest.importorskip("pocketsphinx")
    with SharedEars(1) as ears:
        assert stat.S_IMODE(Path(ears.path).parent.stat().st_mode) == 0o700
        assert ears.pids() == []
        with ServerProcess(ears=ears.path) as server:
            heard = transcript(server, espeak("What is two plus three?"))
        assert set(heard.lower().strip("?.").split()) & {"what", "two", "three"}
        (first,) = ears.pids()
        os.kill(first, signal.SIGSTOP)  # it is busy
        with ThreadPoolExecutor(1) as clients:
            waits = clients.submit(SharedEar(ears.path).transcribe, espeak("what is two plus three", 16_000))
            os.kill(first, signal.SIGKILL)
            assert waits.result(LIMIT_S) == heard
        (second,) = ears.pids()
        assert second != first
    assert not any(alive(pid) for pid in (first, second))
    assert not Path(ears.path).parent.exists()


def test_an_answer_that_never_came_is_an_error(tmp_path: Path):
    path = str(tmp_path / "ears")
    with socket.socket(socket.AF_UNIX) as listening, ThreadPoolExecutor(1) as clients:
        listening.bind(path)
        listening.listen()
        heard = clients.submit(SharedEar(path).transcribe, bytes(3_200))
        listening.accept()[0].close()
        with pytest.raises((RealtimeError, OSError)):
            heard.result(LIMIT_S)


@pytest.mark.parametrize("why", ["simple", "windows", "long"])
def test_where_ears_cannot_be_shared_each_server_has_its_own(why: str, monkeypatch, tmp_path: Path):
    if why == "simple":
        monkeypatch.setattr(shared_ears_module, "default_ear", DurationEar)
    elif why == "windows":
        monkeypatch.setattr(shared_ears_module, "CAN_SHARE", False)
    else:
        folder = tmp_path / ("long" * 40)
        folder.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(folder))
    with shared_ears(4) as path:
        assert path == ""


# --- places: of all programs of a user --------------------------------------------------------------------------------

HOLD = """
import sys
from realtime_client.local import ear_places
ear_places.usable_cores = lambda: int(sys.argv[1])
with ear_places.a_place():
    print("has it", flush=True)
    sys.stdin.read(1)
print("over", flush=True)
"""


@contextlib.contextmanager
def holder(runtime: Path, cores: int = 1) -> Iterator[subprocess.Popen[str]]:
    """A program that wants a place, and holds it until something is written to it."""
    command = [sys.executable, "-c", HOLD, str(cores)]
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(runtime)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, text=True, stdin=pipe, stdout=pipe) as process:
        try:
            yield process
        finally:
            process.kill()


def said_by(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], LIMIT_S)[0]
    return process.stdout.readline().strip()


def waits_for_a_lock(pids: list[int]) -> bool:
    """Whether one of these processes waits in flock(2), as the kernel lists it."""
    waiting = [line for line in Path("/proc/locks").read_text().splitlines() if "->" in line]
    return any(f" {pid} " in line for line in waiting for pid in pids)


def test_programs_take_places_in_turn_and_one_that_is_killed_leaves_none_taken(tmp_path: Path):
    with holder(tmp_path) as first:
        assert said_by(first) == "has it"
        with holder(tmp_path) as second, holder(tmp_path) as third:
            wait_until(lambda: waits_for_a_lock([second.pid, third.pid]))
            first.kill()
            ready = select.select([second.stdout, third.stdout], [], [], LIMIT_S)[0]
            assert len(ready) == 1, "the other one waits"
            now, later = (second, third) if ready == [second.stdout] else (third, second)
            assert said_by(now) == "has it"
            assert not select.select([later.stdout], [], [], 0)[0]
            assert now.stdin is not None
            now.stdin.write("x")
            now.stdin.flush()
            assert said_by(now) == "over"
            assert said_by(later) == "has it"


def test_there_is_a_place_for_every_core(tmp_path: Path):
    with holder(tmp_path, 2) as first, holder(tmp_path, 2) as second:
        assert [said_by(first), said_by(second)] == ["has it", "has it"]
    assert sorted(path.name for path in (tmp_path / "realtime-client").iterdir()) == ["0", "1", "turn"]


@pytest.mark.parametrize("why", ["missing", "anybody's", "a link", "a file"])
def test_where_there_is_no_folder_of_ones_own_nobody_waits(why: str, tmp_path: Path):
    runtime, folder = tmp_path / "run", tmp_path / "run" / "realtime-client"
    if why != "missing":
        runtime.mkdir()
    if why == "anybody's":
        folder.mkdir()
        folder.chmod(0o777)
    elif why == "a link":
        folder.symlink_to(tmp_path)
    elif why == "a file":
        folder.touch()
    with holder(runtime) as first, holder(runtime) as second:
        assert [said_by(first), said_by(second)] == ["has it", "has it"]


def test_ears_of_two_programs_listen_one_after_the_other(tmp_path: Path, monkeypatch):
    """While another program holds the only place nothing is heard; then all is."""
    pytest.importorskip("pocketsphinx")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    speech = espeak("what is two plus three", 16_000)
    cores = usable_cores()
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(holder(tmp_path, cores)) for _ in range(cores)]
        assert [said_by(other) for other in others] == ["has it"] * len(others)
        pools = [stack.enter_context(SharedEars(1)) for _ in range(2)]
        clients = stack.enter_context(ThreadPoolExecutor(2))
        heard = [clients.submit(SharedEar(pool.path).transcribe, speech) for pool in pools]
        wait_until(lambda: sum(waits_for_a_lock(pool.pids()) for pool in pools) == 1)  # the other one has the turn
        assert not any(each.done() for each in heard)
        for other in others:
            other.kill()
        assert heard[0].result(LIMIT_S) == heard[1].result(LIMIT_S) != ""
