"""What a worker process of a run does: takes the keys, logs as asked, plays cases, at a built-in server of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from realtime_client import logs
from realtime_client.batch.plan import Plan, give_secrets
from realtime_client.batch.result import CaseResult
from realtime_client.batch.scenario import Case
from realtime_client.secret import url_secrets

from . import pool_worker
from .own_server import OwnServer, at_server

SWITCH_S = 0.02
"""How long a thread waits for the interpreter before it asks for it (`sys.setswitchinterval`; default 5 ms).

Each of hundreds of threads that wait asks again after this time. The work of a session is much shorter than that, so
asking brings nothing and costs system calls: with 200 recorded sessions 20 ms gave a tenth of the delay.
"""
_open = contextlib.ExitStack()


@dataclasses.dataclass(frozen=True)
class WorkerLog:
    """How workers log. quiet: not to standard error, where a progress display is."""

    level: str = "warning"
    file: Path | None = None
    as_json: bool = False
    quiet: bool = False


@dataclasses.dataclass(frozen=True)
class LocalServers:
    """That each worker process has a built-in server of its own. fast, ears: as of `OwnServer`."""

    fast: bool = False
    ears: str = ""


_own: list[OwnServer] = []
_TOLD = ("failure", "notice")  # a case's result reports these


def prepare(secrets: Mapping[str, str], log: WorkerLog, local: LocalServers | None = None) -> None:
    """Make this process ready to play; the initializer of a `SessionPool`. secrets: as of `Plan.secrets`."""
    unspoken = dict(secrets)
    if local is not None:
        server = OwnServer(fast=local.fast, ears=local.ears)
        server.launch()
        _own[:] = [server]
        unspoken["own token"] = server.token
    import realtime_client.batch.playing.play  # noqa: F401 - takes as long as the server's start: both at a time

    give_secrets(secrets)
    sys.setswitchinterval(SWITCH_S)
    if log.quiet and log.file is None:
        logging.getLogger(logs.ROOT).addHandler(logging.NullHandler())
        return
    values = tuple(part for value in unspoken.values() for part in (value, *url_secrets(value)))
    _open.enter_context(logs.configured(log.level, file=log.file, as_json=log.as_json, secrets=values, told=_TOLD))


def play_here(case: Case, plan: Plan) -> CaseResult:
    """Play a case in a worker process of a `SessionPool`, until it is told to stop."""
    from realtime_client.batch.playing.play import play_case

    if _own:
        settings = at_server(plan.settings, _own[0].url(), _own[0].token)
        plan = dataclasses.replace(plan, settings=settings)
    return play_case(case, dataclasses.replace(plan, worker=f"process {os.getpid()}"), stop=pool_worker.stopping)
