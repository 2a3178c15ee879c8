"""Scripted conversations: scenarios, their runs, checks and results.

    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path

    from realtime_client import load_settings
    from realtime_client.batch import Plan, cases, load, run

    loaded = load([Path("scripts/scenarios")])
    with ThreadPoolExecutor(8) as executor:
        summary = run(cases(loaded), Plan(settings=load_settings()), executor, Path("runs/first"), jobs=8)

`load` gives every mistake in the files as `loaded.problems`. `SessionPool` is an executor of worker processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtime_client.lazy import loader

if TYPE_CHECKING:
    from .loading.load import cases, load
    from .plan import Plan
    from .playing.play import play_case
    from .result import CaseResult
    from .results.compare import compare
    from .results.summary import Summary
    from .running.pool import SessionPool
    from .running.run import run
    from .scenario import Case, Scenario

_WHERE = {
    "Case": "scenario",
    "CaseResult": "result",
    "Plan": "plan",
    "Scenario": "scenario",
    "SessionPool": "running.pool",
    "Summary": "results.summary",
    "cases": "loading.load",
    "compare": "results.compare",
    "load": "loading.load",
    "play_case": "playing.play",
    "run": "running.run",
}

__all__ = [
    "Case",
    "CaseResult",
    "Plan",
    "Scenario",
    "SessionPool",
    "Summary",
    "cases",
    "compare",
    "load",
    "play_case",
    "run",
]

__getattr__ = loader(__name__, _WHERE)


def __dir__() -> list[str]:
    """The public names."""
    return __all__
