"""Stand-ins for `play_case` that tests of runs send to worker processes, and small cases for them."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from realtime_client.batch.plan import Plan
from realtime_client.batch.result import CaseResult, CheckResult, Fault
from realtime_client.batch.running import pool_worker
from realtime_client.batch.scenario import Case, Scenario
from realtime_client.settings import Settings

LIMIT_S = 30.0


def make_cases(count: int, name: str = "hello", **values: Any) -> list[Case]:
    scenario = Scenario(name=name)
    return [
        Case(id=f"{name}#{n}", scenario=scenario, file="a.yaml", folder=".", repeat=n, values=values)
        for n in range(count)
    ]


def make_plan(**fields: Any) -> Plan:
    return Plan(**{"settings": Settings(record=False), "backoff_s": 0.01, **fields})


def result_of(of: Case, status: str = "passed", fault: Fault | None = None, **fields: Any) -> CaseResult:
    checks = [CheckResult(kind="contains", ok=status == "passed", expected="hi", seen="ho")]
    known = {"case": of.id, "scenario": of.scenario.name, "checks": checks, "duration_s": 0.01}
    known |= {"latencies": {"first_text": [1.0 + of.repeat]}, **fields}
    return CaseResult(status=status, fault=fault, **known)  # type: ignore[arg-type]


def passes(case: Case, _plan: Plan) -> CaseResult:
    return result_of(case, worker=str(os.getpid()))


def notes(case: Case, _plan: Plan) -> CaseResult:
    """Leave a mark for each beginning, so that a case that is played twice is seen."""
    with Path(case.values["marks"]).open("a") as file:
        file.write(f"{case.id}\n")
    return result_of(case, worker=str(os.getpid()))


def kills_its_worker_once(case: Case, _plan: Plan) -> CaseResult:
    mark = Path(case.values["mark"])
    if case.repeat == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return result_of(case)


def waits_for_the_stop(case: Case, _plan: Plan) -> CaseResult:
    (Path(case.values["folder"]) / f"{case.repeat}.runs").touch()
    assert pool_worker.stopping.wait(LIMIT_S)
    return result_of(case, "error", Fault(kind="Stopped", message="ended"))


def computes_for_ever(case: Case, _plan: Plan) -> CaseResult:
    """Hold the interpreter for good: nothing that is said to this process is heard."""
    (Path(case.values["folder"]) / f"{case.repeat}.runs").touch()
    re.search("(a+)+$", "a" * 60 + "!")
    raise AssertionError("it ended")


def waits_for_a_file(case: Case, _plan: Plan) -> CaseResult:
    """Wait until the test makes the file `go`, or for ever."""
    folder = Path(case.values["folder"])
    (folder / f"{case.repeat}.runs").touch()
    wait_for_file(folder / "go")
    return result_of(case)


def wait_for_file(path: Path, limit_s: float = LIMIT_S) -> None:
    pause = threading.Event()
    for _ in range(int(limit_s / 0.01)):
        if path.exists():
            return
        pause.wait(0.01)
    raise AssertionError(f"{path} never came")


def square(number: int) -> int:
    return number * number


def fails(_number: int) -> int:
    raise ValueError("no square")


def cannot_travel() -> object:
    return threading.Lock()


def where() -> int:
    return os.getpid()


def met(folder: str, number: int, others: int) -> int:
    """Wait until so many run at once; returns the process."""
    (Path(folder) / str(number)).touch()
    pause = threading.Event()
    for _ in range(int(LIMIT_S / 0.01)):
        if len(list(Path(folder).iterdir())) >= others:
            return os.getpid()
        pause.wait(0.01)
    raise AssertionError("they never met")


def exits() -> None:
    os._exit(3)


def only_one_gets_ready(taken: str) -> None:
    try:
        Path(taken).touch(exist_ok=False)
    except FileExistsError:
        threading.Event().wait()


def stops() -> bool:
    return pool_worker.stopping.wait(LIMIT_S)


def signals_ignored() -> bool:
    os.kill(os.getpid(), signal.SIGINT)
    return signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def wait_until(true: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    pause = threading.Event()
    for _ in range(int(limit_s / 0.01)):
        if true():
            return
        pause.wait(0.01)
    raise AssertionError("it never came to be")


def notes_as_allowed(case: Case, plan: Plan) -> CaseResult:
    """Leave a mark, and stay until so many marks are allowed: a kill then finds something running."""
    result = notes(case, plan)
    marks = Path(case.values["marks"]).read_text().split()
    place = len(marks) - marks[::-1].index(case.id)  # not the count: another case may have left a mark since
    wait_until(lambda: int(Path(case.values["allowed"]).read_text()) >= place)
    return result
