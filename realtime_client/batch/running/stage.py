"""Where a run is played: the executor, the local server if there is one, and the plan that fits both."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from realtime_client.batch.plan import Plan
from realtime_client.batch.result import SESSIONS, CaseResult
from realtime_client.batch.scenario import Case
from realtime_client.local.server_process import ServerProcess
from realtime_client.secret import Secret
from realtime_client.settings import FLAG, Settings
from realtime_client.settings.target import endpoint, target

from .pool import SessionPool
from .run import STOP_S, Play
from .worker import WorkerLog, play_here, prepare


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


@contextmanager
def stage(
    settings: Settings,
    folder: Path,
    *,
    jobs: int,
    fast: bool = False,
    retries: int = 2,
    executor: str | None = None,
    processes: int | None = None,
    quiet_workers: bool = False,
) -> Iterator[Stage]:
    """Set up what a run needs, and take it down at the end of the block.

    folder: the run's; sessions are recorded in it if `settings.record`. executor: None for worker processes on this
    machine, else the address of a Dask scheduler, `dask://HOST:PORT` or `tls://HOST:PORT`. quiet_workers: worker
    processes write nothing to standard error. Errors: UsageError; MissingExtraError; ConnectError when there is no
    such scheduler.
    """
    own = dataclasses.replace(settings, metrics_port=0, record_dir=folder / SESSIONS)  # one port for all is the run's
    local = target(own) == "local"
    plan = Plan(settings=own, fast=fast, retries=retries, local=local)
    if executor is not None:
        from .remote import dask_stage

        with dask_stage(executor, plan, folder) as found:
            yield found
        return
    with ExitStack() as stack:
        if local:
            server = stack.enter_context(ServerProcess(max_sessions=max(1_000, 2 * jobs), pace=0 if fast else 10))
            plan = dataclasses.replace(plan, settings=at_server(own, server.url, server.token))
        endpoint(plan.settings)  # what cannot be a server's address is told now, once
        log = WorkerLog(settings.log_level, settings.log_file, settings.log_json, quiet_workers)
        pool = SessionPool(jobs, processes=processes, initializer=prepare, initargs=(plan.secrets(), log))
        stack.callback(_close, pool)
        yield Stage(plan=plan, executor=pool, play=play_here, stop=pool.stop, kill=pool.kill)


def at_server(settings: Settings, url: str, token: str) -> Settings:
    """Return the settings for a built-in server at `url`: no proxy, and no key but its token."""
    sources = {**settings.sources, "url": (FLAG, "built-in server")}
    own = without_keys(settings)
    return dataclasses.replace(own, url=url, token=Secret(token), local=False, proxy="none", sources=sources)


def without_keys(settings: Settings) -> Settings:
    """Return the settings without any key, for those who need none."""
    return dataclasses.replace(
        settings, token=None, api_key=None, azure_api_key=None, azure_ad_token=None, organization=None, project=None
    )


def _close(pool: SessionPool) -> None:
    """End the pool: what still runs, because the run could not go on, is told to end, and killed in the end."""
    pool.stop()
    patience = threading.Timer(STOP_S, pool.kill)
    patience.name = "realtime-pool-end"
    patience.start()
    pool.shutdown(cancel_futures=True)
    patience.cancel()
    patience.join()
