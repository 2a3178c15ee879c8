"""An executor of worker processes with many threads each: for tasks that mostly wait, as sessions do.

One interpreter uses one core, so there is a process for each core. The more sessions a process holds, the more their
threads wait for its interpreter, until they do nothing else; so beyond 50 for each core there are more processes than
cores.

A process takes as long to start as a short session takes dozens of times, so they are started as there is work: the
first with the first task, the others when the first has worked for as long as its start took and there is still more
to do. A run that is over by then has lost nothing by them.

A task goes to the process with the fewest running, of those that are ready. A process that dies is replaced; the tasks
that it ran fail with `WorkerLostError`, and whoever submitted them decides whether to try again.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from multiprocessing.connection import Connection, Pipe, wait
from multiprocessing.process import BaseProcess
from typing import Any

from realtime_client.cores import usable_cores
from realtime_client.deadline import Deadline
from realtime_client.errors import ClosedError, QueueFullError, UsageError, WorkerLostError

from . import pool_worker

SESSIONS_A_PROCESS = 50
FEW_SESSIONS = 8
"""So many wait for each other no longer than others wait for a process that is not there yet."""
_MOST_A_CORE = 4
_END_S = 10.0
_DEATHS = 3


@dataclasses.dataclass(slots=True)
class _Task:
    number: int
    call: bytes
    future: Future[Any]


@dataclasses.dataclass(slots=True, eq=False)
class _Worker:
    process: BaseProcess
    connection: Connection
    began_s: float
    ready: bool = False
    told_to_stop: bool = False
    running: dict[int, _Task] = dataclasses.field(default_factory=dict)


def default_processes(jobs: int, cores: int | None = None) -> int:
    """Return how many processes so many sessions at a time get.

    One for each core, or one for each 50 sessions where that is more; at most four for each core, and one for each
    session. cores: default those that this process may use.
    """
    cores = cores or usable_cores()
    return min(jobs, _MOST_A_CORE * cores, max(cores, math.ceil(jobs / SESSIONS_A_PROCESS)))


@contextmanager
def _same_signal_mask() -> Iterator[None]:
    """Leave the thread's signal mask as it was.

    The first process that `multiprocessing` starts brings its resource tracker, which unblocks SIGINT and SIGTERM in
    the thread that starts it, for good. A Ctrl-C that came while `client.signals` was busy with another one then hit
    this thread, and the run ended without its summary.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class SessionPool(Executor):
    """Runs up to `jobs` tasks at a time in threads of worker processes (started by spawn).

    processes: how many there are in the end; default `default_processes`; a number that is given is started at once.
    initializer, initargs: called in each process first. backlog: most tasks that may wait; beyond it `submit` raises
    QueueFullError. Functions, arguments and results are pickled.
    Workers ignore Ctrl-C (this process decides) and end with this process, even when it is killed.
    """

    def __init__(
        self,
        jobs: int,
        *,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        backlog: int = 10_000,
    ) -> None:
        if jobs < 1 or (processes is not None and processes < 1):
            raise UsageError("a pool needs at least one job and one process")
        self.processes = min(jobs, processes or default_processes(jobs))
        share = math.ceil(jobs / self.processes)
        self._threads = share if processes else max(share, min(jobs, FEW_SESSIONS))
        self._initializer = initializer
        self._initargs = initargs
        self._backlog = backlog
        self._context = multiprocessing.get_context("spawn")
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._pending: deque[_Task] = deque()
        self._wake_reader, self._wake_writer = Pipe(duplex=False)
        self._woken = self._closing = self._stop_asked = self._kill_asked = False
        self._thread: threading.Thread | None = None
        # Only the pool's thread touches these.
        self._workers: list[_Worker] = []
        self._deaths = 0
        self._all_from_s = 0.0 if processes else math.inf  # from then on, all processes are worth their start

    # --- for the one who submits --------------------------------------------------------------------------------------

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a function in a worker. Errors: QueueFullError; ClosedError after `shutdown`; what pickle raises."""
        future: Future[Any] = Future()
        task = _Task(next(self._numbers), pickle.dumps((fn, args, kwargs), pickle.HIGHEST_PROTOCOL), future)
        with self._lock:
            if self._closing:
                raise ClosedError("the pool is shut down")
            if len(self._pending) >= self._backlog:
                raise QueueFullError(f"{self._backlog} tasks wait already")
            self._pending.append(task)
            if self._thread is None:
                self._thread = threading.Thread(target=self._manage, name="realtime-pool", daemon=True)
                self._thread.start()
        self._wake()
        return future

    def stop(self) -> None:
        """Tell running tasks to end soon: `pool_worker.stopping` is set in all workers."""
        self._stop_asked = True
        self._wake()

    def kill(self) -> None:
        """Kill the workers now; what runs and waits fails with WorkerLostError."""
        self._kill_asked = True
        self.shutdown(wait=False)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - the base class'
        """End the workers when everything submitted is done. cancel_futures: what has not begun is cancelled."""
        with self._lock:
            self._closing = True
            dropped = list(self._pending) if cancel_futures else []
            if cancel_futures:
                self._pending.clear()
            thread = self._thread
        for task in dropped:
            task.future.cancel()
        self._wake()
        if wait and thread is not None:
            thread.join()

    def worker_pids(self) -> list[int]:
        """Return the process ids of the workers that run."""
        return [worker.process.pid for worker in list(self._workers) if worker.process.pid is not None]

    def _wake(self) -> None:
        with self._lock:
            if self._woken or self._wake_writer.closed:
                return
            self._woken = True
            self._wake_writer.send_bytes(b"w")

    # --- the pool's thread --------------------------------------------------------------------------------------------

    def _manage(self) -> None:
        """Own the workers. They die with the thread that made them (PR_SET_PDEATHSIG), so it outlives them."""
        try:
            while True:
                self._obey()
                self._assign()
                if self._closing and not self._pending and not any(worker.running for worker in self._workers):
                    return
                connections = [worker.connection for worker in self._workers]
                for ready in wait([self._wake_reader, *connections], self._wait_s()):
                    if ready is self._wake_reader:
                        with self._lock:
                            self._wake_reader.recv_bytes()
                            self._woken = False
                    else:
                        self._receive(next(worker for worker in self._workers if worker.connection is ready))
        finally:
            self._end()

    def _obey(self) -> None:
        if self._kill_asked:
            for worker in self._workers:
                worker.process.kill()
            self._fail_pending("the run was ended")
        elif self._stop_asked:
            for worker in self._workers:
                if not worker.told_to_stop:
                    worker.told_to_stop = True
                    _send(worker, (pool_worker.STOP,))

    def _assign(self) -> None:
        """Start the workers that are worth it, and give waiting tasks to the ready ones with the fewest running."""
        while self._pending and not self._kill_asked:
            self._start_workers()
            worker = min((one for one in self._workers if one.ready), key=lambda one: len(one.running), default=None)
            if worker is None or len(worker.running) >= self._threads:
                return
            with self._lock:
                task = self._pending.popleft() if self._pending else None
            if task is None:
                return
            if task.future.set_running_or_notify_cancel():
                worker.running[task.number] = task
                _send(worker, (pool_worker.TASK, task.number, task.call))

    def _start_workers(self) -> None:
        """Start as many as there are tasks, where they are worth it; one otherwise."""
        tasks = len(self._pending) + sum(len(worker.running) for worker in self._workers)
        wanted = min(tasks, self.processes if time.monotonic() >= self._all_from_s else 1)
        while len(self._workers) < wanted:
            if self._deaths > _DEATHS * self.processes:
                self._fail_pending("worker processes die again and again before they have done anything")
                return
            self._workers.append(self._spawn())

    def _wait_s(self) -> float | None:
        """Return when to look again although nothing has come: when other workers become worth their start."""
        left_s = self._all_from_s - time.monotonic()
        return left_s if self._pending and 0 < left_s < math.inf else None

    def _spawn(self) -> _Worker:
        ours, theirs = Pipe()
        process = self._context.Process(
            target=pool_worker.main,
            args=(theirs, os.getpid(), self._threads, self._initializer, self._initargs),
            name="realtime-worker",
            daemon=True,
        )
        with _same_signal_mask():
            process.start()
        theirs.close()  # so that its death is the end of the pipe
        return _Worker(process, ours, time.monotonic())

    def _receive(self, worker: _Worker) -> None:
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            self._bury(worker)
            return
        except Exception as error:  # noqa: BLE001 - a result that cannot be unpickled; its number is lost with it
            self._bury(worker, f"sent what cannot be read ({type(error).__name__}: {error})")
            return
        if message[0] == pool_worker.READY:
            now_s = time.monotonic()
            worker.ready = True
            self._all_from_s = min(self._all_from_s, now_s + (now_s - worker.began_s))
            return
        _, number, good, value = message
        self._deaths = 0
        task = worker.running.pop(number)
        if good:
            task.future.set_result(value)
        else:
            task.future.set_exception(value)

    def _bury(self, worker: _Worker, what: str = "") -> None:
        """Remove a worker that is dead or useless; its tasks fail, and another replaces it when there is work."""
        worker.process.kill()
        worker.process.join(_END_S)
        worker.connection.close()
        self._workers.remove(worker)
        self._deaths += 1
        reason = what or f"ended (exit code {worker.process.exitcode})"
        for task in worker.running.values():
            task.future.set_exception(WorkerLostError(f"worker process {worker.process.pid} {reason} during the task"))

    def _fail_pending(self, reason: str) -> None:
        with self._lock:
            tasks, self._pending = list(self._pending), deque()
        for task in tasks:
            if task.future.set_running_or_notify_cancel():
                task.future.set_exception(WorkerLostError(reason))

    def _end(self) -> None:
        with self._lock:
            self._closing = True
        deadline = Deadline(_END_S)
        for worker in self._workers:
            if worker.ready:
                _send(worker, (pool_worker.END,))
            else:  # nobody waits for its beginning
                worker.process.kill()
        for worker in list(self._workers):
            worker.process.join(deadline.remaining_s())
            self._bury(worker)
        self._fail_pending("the pool is shut down")
        with self._lock:
            self._wake_writer.close()
            self._wake_reader.close()


def _send(worker: _Worker, message: tuple[object, ...]) -> None:
    """Send; that a worker is gone shows at the end of its pipe."""
    try:
        worker.connection.send(message)
    except OSError:
        return


__all__ = ["FEW_SESSIONS", "SESSIONS_A_PROCESS", "SessionPool", "default_processes"]
