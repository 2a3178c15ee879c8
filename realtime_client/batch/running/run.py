"""A run: many cases on any `concurrent.futures.Executor`, a bounded number at a time, every result written once.

One thread decides: it starts cases, takes results, writes them, and begins a case again after a fault of the endpoint
or the loss of a worker. A failed check is never tried again.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import queue
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Executor, Future
from pathlib import Path
from typing import Any

import msgspec

from realtime_client.batch.plan import LONGEST_ASKED_S, Plan
from realtime_client.batch.playing.play import play_case
from realtime_client.batch.result import SESSIONS, CaseResult, Fault, RunInfo
from realtime_client.batch.results.summary import Summary
from realtime_client.batch.scenario import Case
from realtime_client.deadline import SYSTEM_CLOCK, Clock, Deadline
from realtime_client.errors import UsageError, WorkerLostError

from .folder import RunFolder, fingerprint
from .listeners import RunListener
from .pace import StartGate, is_rate_limited

Play = Callable[[Case, Plan], Any]
RATE_TRIES = 10  # how often a case is begun again because there were too many requests, for each of its retries
LOST_TRIES = 3  # how often a case is begun again because its worker died
STOP_S = 5.0  # how long sessions have to end by themselves when they are told to
KILL_S = 5.0  # and how long killed workers have to be seen as gone
GIVE_UP = 20  # so many cases (or as many as run at a time) without any connection are enough to know
GIVE_UP_PAUSES = 8  # and so many pauses for too many requests: 3 minutes, where the server names no time
_NOBODY = ("HostUnreachableError", "AuthenticationError", "TLSError", "RateLimitedError", "NotRealtimeError")


@dataclasses.dataclass(slots=True, eq=False)
class _Entry:
    """A case that has no result yet. attempts: how often it was begun."""

    case: Case
    attempts: int = 0
    faults: int = 0
    limited: int = 0
    lost: int = 0
    began_s: float = 0.0


class Control:
    """Ends a run early, from any thread.

    drain: nothing new begins, what runs finishes. stop: what runs ends at once; `on_stop` is called to tell it. kill:
    what runs is no longer asked: `on_kill` ends the workers, whatever they compute; the run does so by itself `STOP_S`
    after a stop. inbox: the run's own: what has finished.
    """

    def __init__(
        self, on_stop: Callable[[], object] | None = None, on_kill: Callable[[], object] | None = None
    ) -> None:
        self.draining = False
        self.stopping = False
        self.killing = False
        self._on_stop = on_stop
        self._on_kill = on_kill
        self.inbox: queue.SimpleQueue[tuple[_Entry, Future[Any]] | None] = queue.SimpleQueue()

    @property
    def can_kill(self) -> bool:
        """Whether there is a way to end workers that do not answer."""
        return self._on_kill is not None

    def drain(self) -> None:
        """Begin nothing new."""
        self.draining = True
        self.inbox.put(None)

    def stop(self) -> None:
        """End what runs, too."""
        self.draining = self.stopping = True
        if self._on_stop is not None:
            self._on_stop()
        self.inbox.put(None)

    def kill(self) -> None:
        """End the workers, if there is a way to."""
        self.draining = self.stopping = self.killing = True
        if self._on_kill is not None:
            self._on_kill()
        self.inbox.put(None)


def run_info(name: str, cases: Sequence[Case], **fields: object) -> RunInfo:
    """Return what run.json says of a run that begins. fields: those of `RunInfo`."""
    begun = RunInfo(run=name, state="running", cases=[case.id for case in cases], fingerprint=fingerprint(cases))
    return msgspec.structs.replace(begun, **fields)


def run(
    cases: Sequence[Case],
    plan: Plan,
    executor: Executor,
    folder: RunFolder | Path,
    *,
    jobs: int,
    per_minute: float | None = None,
    play: Play = play_case,
    send: Callable[[Case], Case] = lambda case: case,
    receive: Callable[[Any], CaseResult] = lambda result: result,
    control: Control | None = None,
    listener: RunListener | None = None,
    junit: Path | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> Summary:
    """Play all cases that have no result yet, and write the results.

    executor: where they are played; it is not shut down. folder: an open `RunFolder`, or where a new run begins; the
    sessions are recorded in it. jobs: most cases at a time. per_minute: most starts a minute. play: called in the
    executor with a case and the plan (whose retries are 0 there: this function does them). Where the first `GIVE_UP`
    cases come to no connection, nothing more begins. send, receive: what is done here to a case before it leaves, and
    to what came back of it.
    Errors: UsageError for no cases, no jobs or no rate; RecordingError when results cannot be written.
    """
    if not cases:
        raise UsageError("there is no case to play")
    if jobs < 1 or not (per_minute is None or per_minute > 0):
        raise UsageError(f"a run needs at least one job and a rate above 0, not jobs={jobs}, per_minute={per_minute}")
    own = isinstance(folder, Path)
    place = RunFolder.create(folder, run_info(folder.name, cases)) if isinstance(folder, Path) else folder
    control = control or Control()
    own_settings = dataclasses.replace(plan.settings, record_dir=place.path / SESSIONS)
    try:
        place.info.jobs, place.info.ears = jobs, plan.ears
        todo = [case for case in cases if case.id not in place.done]
        runner = _Runner(
            plan=dataclasses.replace(plan, settings=own_settings),
            executor=executor,
            folder=place,
            jobs=jobs,
            gate=StartGate(per_minute),
            play=play,
            send=send,
            receive=receive,
            control=control,
            listener=listener or RunListener(),
            clock=clock,
        )
        runner.work(todo)
        whole = len(place.done) >= len(cases)
        return place.finish("ended" if whole else "interrupted", junit)
    finally:
        if own:
            place.close()


@dataclasses.dataclass(kw_only=True, eq=False)
class _Runner:
    """The state of a run that goes on. ready: cases that may begin; later: (moment, order, case)."""

    plan: Plan
    executor: Executor
    folder: RunFolder
    jobs: int
    gate: StartGate
    play: Play
    send: Callable[[Case], Case]
    receive: Callable[[Any], CaseResult]
    control: Control
    listener: RunListener
    clock: Clock
    ready: deque[_Entry] = dataclasses.field(default_factory=deque)
    later: list[tuple[float, int, _Entry]] = dataclasses.field(default_factory=list)
    running: dict[Future[Any], _Entry] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self._sent_plan = dataclasses.replace(self.plan, retries=0)
        self._order = itertools.count()
        self._unconnected = 0
        self._connected = False
        self._stop_by: Deadline | None = None
        self._kill_by: Deadline | None = None

    def work(self, cases: Sequence[Case]) -> None:
        """Play until nothing is left, or until the end is asked for."""
        self.ready.extend(_Entry(case) for case in cases)
        while self.running or (not self.control.draining and (self.ready or self.later)):
            if not self.control.stopping:
                self._start()
            elif not self._worth_waiting():
                return  # a worker does not answer: its cases have no result
            self._take(self._wait_s())
            self.listener.tick()

    def _worth_waiting(self) -> bool:
        """Return whether what runs may still finish; makes sure that it does."""
        control = self.control
        if self._stop_by is None:
            self._stop_by = Deadline(STOP_S, self.clock)
        if self._stop_by.expired and not control.killing:
            control.kill()
        if control.killing and self._kill_by is None:
            self._kill_by = Deadline(KILL_S if control.can_kill else 0.0, self.clock)
        return self._kill_by is None or not self._kill_by.expired

    def _start(self) -> None:
        """Start what may start now."""
        now_s = self.clock.monotonic()
        while self.later and self.later[0][0] <= now_s:
            self.ready.append(heapq.heappop(self.later)[2])
        while self.ready and len(self.running) < self.jobs and not self.control.draining:
            if self.gate.wait_s(now_s) > 0:
                return
            entry = self.ready.popleft()
            entry.attempts += 1
            entry.began_s = now_s
            self.gate.started(now_s)
            self.listener.began(entry.case, entry.attempts)
            try:
                future = self.executor.submit(self.play, self.send(entry.case), self._sent_plan)
            except Exception as error:  # noqa: BLE001 - executors raise their own kinds
                self._finished(entry, _no_result(entry.case, error))
                continue
            self.running[future] = entry
            future.add_done_callback(lambda done, entry=entry: self.control.inbox.put((entry, done)))  # type: ignore[misc]

    def _wait_s(self) -> float:
        """Return for how long there is nothing to do but wait for results."""
        now_s = self.clock.monotonic()
        moments = [0.5]
        if not self.control.draining:
            if self.ready and len(self.running) < self.jobs:
                moments.append(self.gate.wait_s(now_s))
            if self.later:
                moments.append(self.later[0][0] - now_s)
        return max(0.0, min(moments))

    def _take(self, timeout_s: float) -> None:
        """Take what has finished; waits for the first of it."""
        try:
            message = self.control.inbox.get(timeout=timeout_s) if timeout_s else self.control.inbox.get_nowait()
            while True:
                if message is not None:
                    entry, future = message
                    self.running.pop(future, None)
                    self._finished(entry, self._outcome(entry, future))
                message = self.control.inbox.get_nowait()
        except queue.Empty:
            return

    def _outcome(self, entry: _Entry, future: Future[Any]) -> CaseResult:
        """Return what the executor delivered; an exception becomes a result without verdict."""
        try:
            return self.receive(future.result(timeout=0))
        except CancelledError:
            return _no_result(entry.case, WorkerLostError("the task was cancelled"))
        except Exception as error:  # noqa: BLE001 - executors raise their own kinds
            return _no_result(entry.case, error)

    def _finished(self, entry: _Entry, result: CaseResult) -> None:
        """Write the result, or have the case begun again."""
        if result.status == "error":
            if self.control.stopping:
                self.listener.dropped(entry.case)
                return
            if self._begins_again(entry, result):
                return
        if not is_rate_limited(result):
            self.gate.went_well(entry.began_s)
        result.attempts = max(entry.attempts, result.attempts)
        self.folder.add(result)
        self.listener.finished(result)
        self._count_connections(result)

    def _count_connections(self, result: CaseResult) -> None:
        """Give up where there is nobody: the other cases would fail in the same way, and are left for --resume."""
        fault = result.fault
        if fault is None or fault.kind not in _NOBODY or fault.connected:
            self._connected = True
            return
        self._unconnected += 1
        if not self._connected and self._unconnected == max(GIVE_UP, self.jobs) and (self.ready or self.later):
            self._give_up(fault, f"not one case came to a connection ({fault.kind})")

    def _begins_again(self, entry: _Entry, result: CaseResult) -> bool:
        """Tell whether the case has another try, and plan it. After a drain it is left for --resume."""
        fault = result.fault
        if fault is None or not fault.infrastructure:
            return False
        now_s = self.clock.monotonic()
        if is_rate_limited(result):
            wait_s, again = 0.0, self._limited(entry, fault, now_s)
        elif fault.kind == WorkerLostError.__name__:
            entry.lost += 1
            wait_s, again = 0.0, entry.lost <= LOST_TRIES
        else:
            entry.faults += 1
            wait_s = min(self.plan.backoff_s * 2 ** (entry.faults - 1), self.plan.backoff_max_s)
            again = entry.faults <= self.plan.retries
        if again:
            self.listener.again(entry.case, fault)
            if wait_s > 0:
                heapq.heappush(self.later, (now_s + wait_s, next(self._order), entry))
            else:
                self.ready.appendleft(entry)
        return again

    def _limited(self, entry: _Entry, fault: Fault, now_s: float) -> bool:
        """Pause all starts, because there were too many requests; tells whether the case has another try.

        If the pause would be no use, the run is given up: no case was ever let in, or the server asks for longer than a
        run waits.
        """
        entry.limited += 1
        again = entry.limited <= RATE_TRIES * self.plan.retries
        self.gate.limited(entry.began_s, now_s, fault.asked_s)
        if fault.asked_s > LONGEST_ASKED_S:
            asks = f"the server asks to wait {fault.asked_s:g} s"
            self._give_up(fault, f"{asks}, and a run waits at most {LONGEST_ASKED_S:g} s")
            return False
        if not self._connected and self.gate.pauses > GIVE_UP_PAUSES:
            self._give_up(fault, "too many requests, again and again, and not one case came in")
            return False
        if again or self.ready or self.later:
            self.listener.paused(self.gate.paused_s(now_s), fault.message)
        return again

    def _give_up(self, fault: Fault, why: str) -> None:
        """Begin nothing more; once."""
        if not self.control.draining and (self.ready or self.later):
            self.listener.gave_up(fault, why)
        self.control.drain()


def _no_result(case: Case, error: Exception) -> CaseResult:
    """Return the result of a case whose player never answered."""
    lost = isinstance(error, WorkerLostError) or type(error).__name__ in _LOST
    kind = WorkerLostError.__name__ if lost else type(error).__name__
    return CaseResult(
        case=case.id,
        scenario=case.scenario.name,
        status="error",
        file=case.file,
        tags=case.scenario.tags,
        row=case.row,
        repeat=case.repeat,
        values=case.values,
        fault=Fault(kind=kind, message=str(error) or kind, infrastructure=lost, connected=lost),
    )


_LOST = ("BrokenProcessPool", "KilledWorker", "FutureCancelledError")
"""How the executors of the standard library and of Dask say that a worker is gone."""
