"""The executor of processes with threads: sharing out, errors, deaths, and the death of the parent."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path

import pytest
import run_players as players

from realtime_client.batch.result import CaseResult
from realtime_client.batch.running import pool as pool_module
from realtime_client.batch.running.pool import FEW_SESSIONS, SessionPool, default_processes
from realtime_client.batch.scenario import Case
from realtime_client.cores import usable_cores
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


@pytest.mark.parametrize(
    ("jobs", "cores", "processes"),
    [
        pytest.param(1, 16, 1, id="no more than there are jobs"),
        pytest.param(8, 16, 8, id="a core each"),
        pytest.param(32, 16, 16, id="all cores"),
        pytest.param(32, 2, 2, id="no more than cores"),
        pytest.param(200, 2, 4, id="one for each 50 jobs"),
        pytest.param(100_000, 2, 8, id="at most four for each core"),
    ],
)
def test_there_are_as_many_processes_as_cores_and_as_jobs_need(jobs: int, cores: int, processes: int):
    assert default_processes(jobs, cores) == processes


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        pytest.param({"cpu.max": "150000 100000"}, 2, id="v2"),
        pytest.param({"cpu.max": "10000 100000"}, 1, id="v2 less than one"),
        pytest.param({"cpu.max": "max 100000"}, None, id="v2 without a limit"),
        pytest.param({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1, id="v1"),
        pytest.param({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None, id="v1 without a limit"),
        pytest.param({"cpu.max": "what"}, None, id="not understood"),
        pytest.param({}, None, id="none"),
    ],
)
def test_cores_are_those_that_a_container_gets(
    files: dict[str, str], cores: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(os, "process_cpu_count", lambda: 64, raising=False)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert usable_cores(tmp_path) == (cores or 64)


@pytest.fixture
def two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "default_processes", lambda _jobs: 2)  # whatever this machine has


def test_other_processes_start_when_there_is_more_to_do_than_the_first_takes(tmp_path: Path, two_processes):
    cases = players.make_cases(FEW_SESSIONS + 2, folder=str(tmp_path))

    def begin(these: list[Case]) -> list[Future[CaseResult]]:
        futures = [pool.submit(players.waits_for_a_file, case, None) for case in these]
        for case in these:
            players.wait_for_file(tmp_path / f"{case.repeat}.runs")
        return futures

    with SessionPool(len(cases)) as pool:
        futures = begin(cases[:FEW_SESSIONS])
        assert len(pool.worker_pids()) == 1
        futures += begin(cases[FEW_SESSIONS:])
        assert len(pool.worker_pids()) == 2
        (tmp_path / "go").touch()
        assert {future.result(LIMIT_S).status for future in futures} == {"passed"}


def test_few_short_tasks_have_one_process(two_processes):
    with SessionPool(4) as pool:
        futures = [pool.submit(players.where) for _ in range(8)]
        assert len({future.result(LIMIT_S) for future in futures}) == 1


def test_a_worker_that_is_not_needed_any_more_is_not_waited_for(tmp_path: Path):
    pool = SessionPool(2, processes=2, initializer=players.only_one_gets_ready, initargs=(str(tmp_path / "taken"),))
    futures = [pool.submit(players.square, 3) for _ in range(2)]
    assert [future.result(LIMIT_S) for future in futures] == [9, 9]
    pool.shutdown()


def test_a_worker_that_starts_after_the_stop_is_told_of_it(tmp_path: Path):
    with SessionPool(2, processes=2) as pool:
        pool.stop()
        assert all(pool.submit(players.stops).result(LIMIT_S) for _ in range(2))


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
