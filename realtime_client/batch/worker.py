"""What a worker process of a run does: takes the keys, logs as asked, plays cases."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from realtime_client import logs

from . import pool_worker
from .plan import Plan, give_secrets
from .play import play_case
from .result import CaseResult
from .scenario import Case

_open = contextlib.ExitStack()


@dataclasses.dataclass(frozen=True)
class WorkerLog:
    """How workers log. quiet: not to standard error, where a progress display is."""

    level: str = "warning"
    file: Path | None = None
    as_json: bool = False
    quiet: bool = False


def prepare(secrets: Mapping[str, str], log: WorkerLog) -> None:
    """Make this process ready to play; the initializer of a `SessionPool`. secrets: as of `Plan.secrets`."""
    give_secrets(secrets)
    sys.setswitchinterval(0.002)  # the wait for the interpreter is the delay of a message, with hundreds of sessions
    if log.quiet and log.file is None:
        logging.getLogger(logs.ROOT).addHandler(logging.NullHandler())
        return
    values = tuple(secrets.values())
    _open.enter_context(logs.configured(log.level, file=log.file, as_json=log.as_json, secrets=values))


def play_here(case: Case, plan: Plan) -> CaseResult:
    """Play a case in a worker process of a `SessionPool`, until it is told to stop."""
    return play_case(case, dataclasses.replace(plan, worker=f"process {os.getpid()}"), stop=pool_worker.stopping)
