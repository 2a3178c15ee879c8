"""Where a run is played: the executor, and the plan that fits it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from realtime_client.batch.plan import Plan
from realtime_client.batch.result import CaseResult
from realtime_client.batch.scenario import Case

from .run import Play


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """What `run` needs. stop: ends running sessions soon. kill: ends the workers, None where that cannot be done.

    send, receive, play: as of `run`.
    """

    plan: Plan
    executor: Executor
    play: Play
    stop: Callable[[], object]
    kill: Callable[[], object] | None = None
    send: Callable[[Case], Case] = lambda case: case
    receive: Callable[[Any], CaseResult] = lambda result: result
