"""The executor of processes with threads: sharing out, errors, deaths, and the death of the parent."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import run_players as players

from realtime_client.batch.running.pool import SessionPool, default_processes
from realtime_client.errors import ClosedError, QueueFullError, UsageError, WorkerLostError

LIMIT_S = 30.0


def test_tasks_come_back_with_results_and_with_errors():
    with SessionPool(4, processes=2) as pool:
        assert list(pool.map(players.square, range(20), timeout=LIMIT_S)) == [n * n for n in range(20)]
        with pytest.raises(ValueError, match="no square"):
            pool.submit(players.fails, 3).result(LIMIT_S)
        with pytest.raises(TypeError, match="cannot travel"):
            pool.submit(players.cannot_travel).result(LIMIT_S)
        assert pool.submit(players.signals_ignored).result(LIMIT_S)
    with pytest.raises(ClosedError):
        pool.submit(players.square, 3)


def test_all_jobs_run_at_once_and_the_processes_share_them(tmp_path: Path):
    with SessionPool(8, processes=2) as pool:
        futures = [pool.submit(players.met, str(tmp_path), n, 8) for n in range(8)]
        pids = [future.result(LIMIT_S) for future in futures]
    assert sorted(pids.count(pid) for pid in set(pids)) == [4, 4]


def test_a_dead_worker_fails_its_tasks_and_is_replaced(tmp_path: Path):
    with SessionPool(2, processes=1) as pool:
        first = pool.submit(players.where).result(LIMIT_S)
        lost = pool.submit(players.waits_for_a_file, players.make_cases(1, folder=str(tmp_path))[0], None)
        players.wait_for_file(tmp_path / "0.runs")
        assert pool.worker_pids() == [first]
        os.kill(first, signal.SIGKILL)
        with pytest.raises(WorkerLostError, match=r"worker process \d+ ended \(exit code -9\)"):
            lost.result(LIMIT_S)
        assert pool.submit(players.where).result(LIMIT_S) != first


def test_workers_that_always_die_are_not_started_for_ever():
    with SessionPool(1, initializer=players.exits) as pool:
        futures = [pool.submit(players.square, n) for n in range(10)]
        for future in futures:
            with pytest.raises(WorkerLostError):
                future.result(LIMIT_S)
        assert "again and again" in str(futures[-1].exception())


def test_what_waits_is_bounded_and_can_be_cancelled(tmp_path: Path):
    pool = SessionPool(1, backlog=2)
    running = pool.submit(players.waits_for_a_file, players.make_cases(1, folder=str(tmp_path))[0], None)
    players.wait_for_file(tmp_path / "0.runs")
    waiting = [pool.submit(players.square, n) for n in range(2)]
    with pytest.raises(QueueFullError):
        pool.submit(players.square, 5)
    pool.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in waiting)
    (tmp_path / "go").touch()
    assert running.result(LIMIT_S).status == "passed"
    pool.shutdown()


def test_running_tasks_can_be_told_to_stop_and_be_killed(tmp_path: Path):
    with SessionPool(1) as pool:
        future = pool.submit(players.stops)
        pool.stop()
        assert future.result(LIMIT_S)
    pool = SessionPool(1)
    future = pool.submit(players.waits_for_a_file, players.make_cases(1, folder=str(tmp_path))[0], None)
    players.wait_for_file(tmp_path / "0.runs")
    pool.kill()
    with pytest.raises(WorkerLostError):
        future.result(LIMIT_S)
    pool.shutdown()


_MASKED = """
import signal, threading
from pathlib import Path
import run_players as players
from realtime_client.batch.running.pool import SessionPool
if __name__ == "__main__":
    wanted = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
    with SessionPool(1) as pool:
        pool.submit(players.where).result(30)
        thread = next(thread for thread in threading.enumerate() if thread.name == "realtime-pool")
        status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
        blocked = int(status.split("SigBlk:")[1].split()[0], 16)
        print([bool(blocked >> number - 1 & 1) for number in sorted(wanted)])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads a thread's signal mask from /proc")
def test_the_first_worker_does_not_let_ctrl_c_into_the_pools_thread(tmp_path: Path, project: Path):
    """In a program of its own: what unblocks signals does so once in each."""
    script = tmp_path / "masked.py"
    script.write_text(_MASKED)
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(project), str(project / "tests")])}
    command = [sys.executable, script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, env=environ, check=False)
    assert done.stdout == "[True, True]\n", done.stderr


def test_a_pool_that_was_never_used_ends():
    SessionPool(1).shutdown()
    with pytest.raises(UsageError):
        SessionPool(0)
    assert [default_processes(jobs) for jobs in (1, 50, 51, 200)] == [1, 1, 2, 4]
    assert default_processes(100_000) == 4 * (os.cpu_count() or 1)


_PARENT = """
import sys
from realtime_client.batch.running.pool import SessionPool
import run_players as players
if __name__ == "__main__":
    pool = SessionPool(2, processes=2)
    cases = players.make_cases(2, folder=sys.argv[1])
    futures = [pool.submit(players.waits_for_a_file, case, None) for case in cases]
    for case in cases:
        players.wait_for_file(__import__("pathlib").Path(sys.argv[1]) / f"{case.repeat}.runs")
    print(*pool.worker_pids(), flush=True)
    futures[0].result()
"""


def test_workers_die_with_a_parent_that_is_killed(tmp_path: Path, project: Path):
    script = tmp_path / "parent.py"
    script.write_text(_PARENT)
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(project), str(project / "tests")])}
    with subprocess.Popen([sys.executable, script, tmp_path], stdout=subprocess.PIPE, text=True, env=environ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        parent.kill()
    pause = threading.Event()
    for _ in range(500):
        if not any(alive(pid) for pid in pids):
            return
        pause.wait(0.02)
    pytest.fail(f"workers {[pid for pid in pids if alive(pid)]} outlive their parent")


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False
