"""Many cases: every one gets one result, faults are tried again, kills and Ctrl-C are survived."""

from __future__ import annotations

import collections
import contextlib
import json
import math
import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import msgspec
import pytest
import run_players as players
from run_players import make_cases, make_plan, result_of

from realtime_client.batch.plan import Plan
from realtime_client.batch.result import CaseResult, Fault
from realtime_client.batch.results.results import read_results, read_run
from realtime_client.batch.running.folder import LOCK, RunFolder, fingerprint
from realtime_client.batch.running.listeners import RunListener
from realtime_client.batch.running.pace import FIRST_PAUSE_S, StartGate, is_rate_limited
from realtime_client.batch.running.pool import SessionPool
from realtime_client.batch.running.run import GIVE_UP, GIVE_UP_PAUSES, Control, run, run_info
from realtime_client.batch.scenario import Case, Scenario
from realtime_client.errors import RecordingError, UsageError

LIMIT_S = 30.0
REFUSED = Fault(kind="HostUnreachableError", message="nobody there", infrastructure=True)
LIMITED = Fault(kind="RateLimitedError", message="429", infrastructure=True, retry_after_s=0.02)


def results_in(folder: Path) -> list[CaseResult]:
    results, damaged = read_results(folder / "results.jsonl")
    assert damaged == 0
    return results


@pytest.mark.parametrize(
    ("count", "fields", "says"),
    [
        (0, {}, "no case to play"),
        (1, {"jobs": 0}, "at least one job"),
        (1, {"per_minute": 0}, "a rate above 0"),
        (1, {"per_minute": float("nan")}, "a rate above 0"),
    ],
)
def test_a_run_of_nothing_is_refused(tmp_path, count, fields, says):
    with pytest.raises(UsageError, match=says):
        run(make_cases(count), make_plan(), Direct(), tmp_path / "run", **{"jobs": 1, **fields})
    assert not (tmp_path / "run").exists()


class Direct(Executor):
    """Runs each task at once, in the caller's thread."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class Script:
    """Plays cases by a list of what happens at each beginning: a fault, a status, or an exception."""

    def __init__(self, *outcomes: Fault | str | Exception) -> None:
        self.outcomes = list(outcomes)
        self.begun: list[str] = []
        self.plans: list[Plan] = []

    def __call__(self, case: Case, plan: Plan) -> CaseResult:
        self.begun.append(case.id)
        self.plans.append(plan)
        outcome = self.outcomes.pop(0) if self.outcomes else "passed"
        if isinstance(outcome, Exception):
            raise outcome
        return result_of(case, "error", outcome) if isinstance(outcome, Fault) else result_of(case, outcome)


def executors() -> dict[str, Any]:
    return {
        "threads": lambda: ThreadPoolExecutor(4),
        "processes": lambda: ProcessPoolExecutor(2, mp_context=get_context("spawn")),
        "sessions": lambda: SessionPool(4, processes=2),
    }


@pytest.mark.parametrize("kind", ["threads", "processes", "sessions"])
def test_every_case_gets_one_result_on_every_executor(tmp_path: Path, kind: str):
    cases = make_cases(30)
    with executors()[kind]() as executor:
        whole = run(cases, make_plan(), executor, tmp_path / "run", jobs=4, play=players.passes)
    assert sorted(r.case for r in results_in(tmp_path / "run")) == sorted(case.id for case in cases)
    assert (whole.all.passed, whole.state) == (30, "ended")
    for name in ("run.json", "results.jsonl", "results.csv", "junit.xml", "summary.json", LOCK):
        assert stat.S_IMODE((tmp_path / "run" / name).stat().st_mode) == 0o600, name
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700
    info = read_run(tmp_path / "run" / "run.json")
    assert info is not None
    assert (info.state, info.totals) == ("ended", {"passed": 30, "failed": 0, "error": 0})


def test_no_more_than_jobs_run_at_a_time(tmp_path: Path):
    now, most, lock = 0, 0, threading.Lock()
    met = threading.Barrier(3)

    def play(case: Case, _plan: Plan) -> CaseResult:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        met.wait(LIMIT_S)
        with lock:
            now -= 1
        return result_of(case)

    with ThreadPoolExecutor(10) as executor:
        run(make_cases(12), make_plan(), executor, tmp_path / "run", jobs=3, play=play)
    assert most == 3


# --- trying again -----------------------------------------------------------------------------------------------------


def test_sessions_are_recorded_in_the_folder_of_the_run(tmp_path: Path):
    play = Script()
    run(make_cases(1), make_plan(), Direct(), tmp_path / "run", jobs=1, play=play)
    assert [plan.settings.record_dir for plan in play.plans] == [tmp_path / "run" / "sessions"]


def test_faults_of_the_endpoint_are_tried_again_and_failed_checks_are_not(tmp_path: Path):
    play = Script(REFUSED, "failed", REFUSED, REFUSED, REFUSED)
    run(make_cases(2), make_plan(retries=2), Direct(), tmp_path / "run", jobs=1, play=play)
    first, second = sorted(results_in(tmp_path / "run"), key=lambda r: r.status)
    assert (first.status, first.attempts) == ("error", 3)
    assert (second.status, second.attempts) == ("failed", 1)
    assert [plan.retries for plan in play.plans] == [0] * 4 + [0][: len(play.plans) - 4]


def test_a_fault_of_the_scenario_is_not_tried_again(tmp_path: Path):
    play = Script(Fault(kind="UsageError", message="no such file"))
    run(make_cases(1), make_plan(retries=5), Direct(), tmp_path / "run", jobs=1, play=play)
    assert len(play.begun) == 1


def test_an_exception_of_the_player_is_a_result(tmp_path: Path):
    run(make_cases(2), make_plan(), Direct(), tmp_path / "run", jobs=1, play=Script(ZeroDivisionError("oops")))
    result = next(r for r in results_in(tmp_path / "run") if r.status == "error")
    assert result.fault is not None
    assert (result.fault.kind, result.fault.message) == ("ZeroDivisionError", "oops")


class Heard(RunListener):
    def __init__(self) -> None:
        self.pauses: list[float] = []
        self.finishes: list[str] = []
        self.gave_up_because: list[str] = []

    def gave_up(self, fault: Fault, why: str) -> None:
        self.gave_up_because.append(why)

    def paused(self, seconds: float, reason: str) -> None:
        self.pauses.append(seconds)

    def finished(self, result: CaseResult) -> None:
        self.finishes.append(result.case)


def test_too_many_requests_pause_all_and_cost_few_retries(tmp_path: Path):
    heard = Heard()
    play = Script(*[LIMITED] * 5)
    run(make_cases(3), make_plan(retries=1), Direct(), tmp_path / "run", jobs=1, play=play, listener=heard)
    assert [r.status for r in results_in(tmp_path / "run")] == ["passed"] * 3
    assert len(heard.pauses) == 5
    assert all(0 < pause < 0.03 for pause in heard.pauses)
    assert len(heard.finishes) == 3


@pytest.mark.parametrize(("retries", "begun"), [(0, 1), (1, 11), (2, 21)])
def test_a_case_that_is_limited_for_ever_ends(tmp_path: Path, retries: int, begun: int):
    play = Script("passed", *[LIMITED] * 100)
    heard = Heard()
    cases = make_cases(2)
    whole = run(cases, make_plan(retries=retries), Direct(), tmp_path / "run", jobs=1, play=play, listener=heard)
    assert (whole.state, whole.all.passed, whole.all.errors) == ("ended", 1, 1)
    assert play.begun == ["hello#0"] + ["hello#1"] * begun
    assert len(heard.pauses) == begun - 1, "no pause is told after which nothing comes"


def test_limits_that_let_nobody_in_end_the_run(tmp_path: Path):
    play, heard = Script(*[LIMITED] * 100), Heard()
    whole = run(make_cases(9), make_plan(retries=9), Direct(), tmp_path / "run", jobs=1, play=play, listener=heard)
    assert (whole.state, whole.all.errors) == ("interrupted", 1)
    assert len(play.begun) == GIVE_UP_PAUSES + 1
    assert heard.gave_up_because == ["too many requests, again and again, and not one case came in"]


@pytest.mark.parametrize("asked", [99_999.0, 1e300])
def test_a_server_that_asks_for_more_than_anybody_waits(tmp_path: Path, asked: float):
    heard = Heard()
    play = Script("passed", msgspec.structs.replace(LIMITED, retry_after_s=asked))
    whole = run(make_cases(5), make_plan(retries=2), Direct(), tmp_path / "run", jobs=1, play=play, listener=heard)
    assert (whole.state, whole.all.passed, whole.all.errors) == ("interrupted", 1, 1)
    assert heard.gave_up_because == [f"the server asks to wait {asked:g} s, and a run waits at most 600 s"]
    assert heard.pauses == []


@pytest.mark.parametrize("asked", [math.nan, math.inf, -math.inf, -1.0, 0.0, None])
def test_what_is_no_length_of_time_is_not_waited_for(asked: float | None):
    fault = msgspec.structs.replace(LIMITED, retry_after_s=asked)
    gate = StartGate()
    gate.limited(0.0, 1.0, fault.asked_s)
    assert gate.wait_s(1.0) == FIRST_PAUSE_S


def test_a_killed_worker_costs_nothing_but_time(tmp_path: Path):
    cases = make_cases(8, mark=str(tmp_path / "mark"))
    with SessionPool(2, processes=1) as pool:
        run(cases, make_plan(retries=0), pool, tmp_path / "run", jobs=2, play=players.kills_its_worker_once)
    results = results_in(tmp_path / "run")
    assert sorted(r.case for r in results) == sorted(case.id for case in cases)
    assert {r.status for r in results} == {"passed"}
    assert next(r for r in results if r.repeat == 0 and r.case == "hello#3").attempts == 2


def test_where_nobody_answers_it_is_given_up(tmp_path: Path):
    play = Script(*[REFUSED] * 100)
    cases = make_cases(50)
    whole = run(cases, make_plan(retries=0), Direct(), tmp_path / "run", jobs=2, play=play)
    assert (len(play.begun), whole.all.errors, whole.state) == (GIVE_UP, GIVE_UP, "interrupted")
    folder = RunFolder.resume(tmp_path / "run", run_info("run", cases))
    try:
        whole = run(cases, make_plan(), Direct(), folder, jobs=2, play=Script())
    finally:
        folder.close()
    assert (whole.all.passed, whole.all.errors, whole.state) == (50, 0, "ended"), "errors are played again"


def test_one_connection_is_enough_not_to_give_up(tmp_path: Path):
    play = Script("passed", *[REFUSED] * 100)
    whole = run(make_cases(50), make_plan(retries=0), Direct(), tmp_path / "run", jobs=2, play=play)
    assert (whole.all.cases, whole.state) == (50, "ended")


# --- resuming ---------------------------------------------------------------------------------------------------------

_VICTIM = """
import sys
from pathlib import Path
import run_players as players
from realtime_client.batch.running.folder import RunFolder
from realtime_client.batch.running.pool import SessionPool
from realtime_client.batch.running.run import run, run_info
if __name__ == "__main__":
    place, marks, allowed = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    cases = players.make_cases(60, marks=marks, allowed=allowed)
    with SessionPool(4, processes=1) as pool:
        folder = RunFolder.resume(place, run_info("victim", cases))
        print("begun", flush=True)
        run(cases, players.make_plan(), pool, folder, jobs=4, play=players.notes_as_allowed)
        folder.close()
    print("done", flush=True)
"""


def test_killed_again_and_again_nothing_is_lost_or_written_twice(tmp_path: Path, project: Path):
    script, place, marks, allowed = (tmp_path / name for name in ("victim.py", "run", "marks", "allowed"))
    script.write_text(_VICTIM)
    marks.touch()
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(project), str(project / "tests")])}
    kills = 0
    for more in (7, 20, 1_000):
        have = len(marks.read_text().split())
        allowed.write_text(str(have + more))
        command = [sys.executable, script, place, marks, allowed]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environ) as victim, contextlib.ExitStack() as ending:
            ending.callback(victim.kill)
            assert victim.stdout is not None
            assert victim.stdout.readline() == b"begun\n"
            if more < 60:
                running = have + more + 4
                players.wait_until(lambda running=running: len(marks.read_text().split()) == running)
                victim.kill()
                kills += 1
            else:
                assert victim.stdout.readline() == b"done\n"
    results = results_in(place)
    assert collections.Counter(r.case for r in results) == {f"hello#{n}": 1 for n in range(60)}
    begun = collections.Counter(marks.read_text().split())
    assert sum(begun.values()) <= 60 + kills * 4, "only what ran at a kill is begun anew"
    info = read_run(place / "run.json")
    assert info is not None
    assert (info.state, info.resumed) == ("ended", 2)


def test_a_torn_line_is_dropped_and_its_case_played_anew(tmp_path: Path):
    cases = make_cases(3)
    folder = tmp_path / "run"
    run(cases, make_plan(), Direct(), folder, jobs=1, play=Script())
    lines = (folder / "results.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "results.jsonl").write_bytes(b"".join(lines[:2]) + lines[2][:30])
    play = Script()
    place = RunFolder.resume(folder, run_info("run", cases))
    try:
        assert place.torn == 1
        run(cases, make_plan(), Direct(), place, jobs=1, play=play)
    finally:
        place.close()
    assert play.begun == ["hello#2"]
    assert len(results_in(folder)) == 3


def test_of_what_is_played_again_the_verdict_counts_else_the_last_error(tmp_path: Path):
    cases, path = make_cases(3), tmp_path / "run"
    run(cases, make_plan(retries=0), Direct(), path, jobs=1, play=Script("passed", REFUSED, REFUSED))
    other = msgspec.structs.replace(REFUSED, message="still nobody")
    play = Script("failed", other)
    folder = RunFolder.resume(path, run_info("run", cases))
    try:
        whole = run(cases, make_plan(retries=0), Direct(), folder, jobs=1, play=play)
    finally:
        folder.close()
    assert play.begun == ["hello#1", "hello#2"]
    assert (whole.all.passed, whole.all.failed, whole.all.errors) == (1, 1, 1)
    assert results_in(path)[2].fault == other
    assert len((path / "results.jsonl").read_bytes().splitlines()) == 5, "what was before is kept"


def test_a_folder_is_not_shared_and_not_written_over(tmp_path: Path):
    cases, path = make_cases(2), tmp_path / "run"
    folder = RunFolder.create(path, run_info("run", cases))
    try:
        with pytest.raises(UsageError, match="another run is writing"):
            RunFolder.resume(path, run_info("run", cases))
    finally:
        folder.close()
    with pytest.raises(UsageError, match="--resume"):
        RunFolder.create(path, run_info("run", cases))
    with pytest.raises(UsageError, match="0 cases are gone, 1 are new"):
        RunFolder.resume(path, run_info("run", make_cases(3)))
    with pytest.raises(UsageError, match="a scenario was changed"):
        RunFolder.resume(path, run_info("run", make_cases(2, colour="red")))
    with pytest.raises(UsageError, match="another endpoint"):
        RunFolder.resume(path, run_info("run", cases, target="elsewhere"))
    (tmp_path / "file").touch()
    with pytest.raises(RecordingError, match="cannot write"):
        RunFolder.create(tmp_path / "file", run_info("run", cases))


def test_the_fingerprint_is_of_the_scenarios_not_of_their_place():
    case = make_cases(1)[0]
    moved = msgspec.structs.replace(case, file="b.yaml", folder="/elsewhere")
    changed = msgspec.structs.replace(case, scenario=Scenario(name="hello", timeout="3 s"))
    assert fingerprint([case]) == fingerprint([moved]) != fingerprint([changed])


def test_sessions_that_no_result_speaks_of_are_finished_and_named(tmp_path: Path):
    from realtime_client.recording.recorder import Recorder

    cases, path = make_cases(2), tmp_path / "run"
    RunFolder.create(path, run_info("run", cases)).close()
    recorder = Recorder.create(path / "sessions", settings={})
    session = json.loads((recorder.folder / "session.json").read_text())
    (recorder.folder / "session.json").write_text(json.dumps(session | {"pid": 2**22 + 5}))  # no process has it
    folder = RunFolder.resume(path, run_info("run", cases))
    try:
        run(cases, make_plan(), Direct(), folder, jobs=1, play=Script())
    finally:
        folder.close()
    info = read_run(path / "run.json")
    assert info is not None
    assert info.abandoned == [f"sessions/{recorder.folder.name}"]
    assert json.loads((recorder.folder / "session.json").read_text())["state"] == "killed"
    recorder.close(ended="closed", stats={})


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cases = make_cases(2)
    real = os.write

    def full(file: int, data: bytes) -> int:
        return real(file, data[: len(data) // 2])

    folder = RunFolder.create(tmp_path / "run", run_info("run", cases))
    try:
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(RecordingError, match="disk is full"):
            folder.add(result_of(cases[0]))
        monkeypatch.undo()
        assert (tmp_path / "run" / "results.jsonl").read_bytes() == b""
    finally:
        folder.close()


# --- ending early -----------------------------------------------------------------------------------------------------


def test_a_drain_finishes_what_runs_and_begins_nothing(tmp_path: Path):
    cases = make_cases(6, folder=str(tmp_path))
    control = Control()
    summaries = []
    with SessionPool(2, processes=1) as pool:
        runner = threading.Thread(
            target=lambda: summaries.append(
                run(cases, make_plan(), pool, tmp_path / "run", jobs=2, play=players.waits_for_a_file, control=control)
            )
        )
        runner.start()
        for n in (0, 1):
            players.wait_for_file(tmp_path / f"{n}.runs")
        control.drain()
        (tmp_path / "go").touch()
        runner.join(LIMIT_S)
    assert sorted(r.case for r in results_in(tmp_path / "run")) == ["hello#0", "hello#1"]
    assert (summaries[0].state, summaries[0].all.passed) == ("interrupted", 2)


def test_a_stop_ends_what_runs_without_a_result(tmp_path: Path):
    cases = make_cases(6, folder=str(tmp_path))
    with SessionPool(2, processes=1) as pool:
        control = Control(pool.stop)
        done = threading.Event()

        def work() -> None:
            run(cases, make_plan(), pool, tmp_path / "run", jobs=2, play=players.waits_for_the_stop, control=control)
            done.set()

        runner = threading.Thread(target=work)
        runner.start()
        for n in (0, 1):
            players.wait_for_file(tmp_path / f"{n}.runs")
        control.stop()
        assert done.wait(LIMIT_S)
        runner.join(LIMIT_S)
    assert results_in(tmp_path / "run") == []
    folder = RunFolder.resume(tmp_path / "run", run_info("run", cases))
    try:
        whole = run(cases, make_plan(), Direct(), folder, jobs=1, play=Script())
    finally:
        folder.close()
    assert (whole.state, whole.all.passed) == ("ended", 6)


@pytest.mark.parametrize("by_hand", [True, False])
def test_workers_that_hear_nothing_are_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_hand: bool):
    monkeypatch.setattr("realtime_client.batch.running.run.STOP_S", LIMIT_S if by_hand else 0.1)
    with SessionPool(2, processes=2) as pool, ThreadPoolExecutor(1) as executor:
        control = Control(pool.stop, pool.kill)
        cases = make_cases(3, folder=str(tmp_path))
        going = executor.submit(
            run, cases, make_plan(), pool, tmp_path / "run", jobs=2, play=players.computes_for_ever, control=control
        )
        for n in (0, 1):
            players.wait_for_file(tmp_path / f"{n}.runs")
        control.stop()
        if by_hand:
            control.kill()
        summary = going.result(LIMIT_S)
    assert (summary.state, summary.all.cases) == ("interrupted", 0)
    assert pool.worker_pids() == []


def test_where_nobody_can_be_killed_the_run_ends_without_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("realtime_client.batch.running.run.STOP_S", 0.1)
    control = Control()
    with ThreadPoolExecutor(1) as executor, ThreadPoolExecutor(1) as other:
        cases = make_cases(2, folder=str(tmp_path))
        going = other.submit(
            run, cases, make_plan(), executor, tmp_path / "run", jobs=1, play=players.waits_for_a_file, control=control
        )
        players.wait_for_file(tmp_path / "0.runs")
        control.stop()
        assert going.result(LIMIT_S).all.cases == 0
        (tmp_path / "go").touch()


# --- the pace of starts -----------------------------------------------------------------------------------------------


def test_starts_are_spread_evenly():
    gate = StartGate(60)
    assert gate.wait_s(0) == 0
    gate.started(0)
    assert gate.wait_s(0) == 1
    gate.started(1.25)  # a little late: the next is not later for it
    assert gate.wait_s(1.25) == 0.75
    gate.started(10)  # after a long time without work there is no burst
    assert gate.wait_s(10) == 1
    free = StartGate()
    free.started(0)
    assert free.wait_s(0) == 0


def test_pauses_grow_while_it_goes_on_and_only_once_for_cases_that_ran_together():
    gate = StartGate()
    for began in (0.0, 0.1, 0.2):
        gate.limited(began, 1.0)
    assert (gate.paused_s(1.0), gate.pauses) == (1.0, 1)
    gate.limited(2.0, 2.5)
    assert gate.paused_s(2.5) == 2.0
    gate.limited(4.5, 5.0, asked_s=30)
    assert gate.paused_s(5.0) == 30
    gate.went_well(35.0)
    gate.limited(36.0, 36.0)
    assert gate.paused_s(36.0) == 1.0
    for n in range(20):
        gate.limited(100.0 + n * 100, 100.0 + n * 100)
    assert gate.paused_s(2000.0) == 60.0


@pytest.mark.parametrize(
    ("fault", "limited"),
    [
        (LIMITED, True),
        (Fault(kind="ResponseFailedError", message="rate_limit_exceeded: slow down", infrastructure=True), True),
        (Fault(kind="ResponseFailedError", message="Rate limit reached", infrastructure=False), False),
        (REFUSED, False),
    ],
)
def test_what_counts_as_too_many(fault: Fault, *, limited: bool):
    assert is_rate_limited(result_of(make_cases(1)[0], "error", fault)) is limited
    assert not is_rate_limited(result_of(make_cases(1)[0], "failed"))
