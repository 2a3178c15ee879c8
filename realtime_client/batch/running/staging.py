"""Setting up where a run is played: worker processes, each with a local server if need be, or a cluster."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from realtime_client.batch.plan import Plan
from realtime_client.cores import usable_cores
from realtime_client.local.ear_places import ears_for
from realtime_client.local.shared_ears import shared_ears
from realtime_client.settings import Settings
from realtime_client.settings.providers import chain, is_text
from realtime_client.settings.target import endpoint, target

from .own_server import without_keys
from .pool import SessionPool
from .run import STOP_S
from .stage import Stage
from .worker import LocalServers, WorkerLog, play_here, prepare


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
    approve: tuple[str, ...] | None = None,
) -> Iterator[Stage]:
    """Set up what a run needs, and take it down at the end of the block.

    folder: the run's. executor: None for worker processes on this machine, else the address of a Dask scheduler,
    `dask://HOST:PORT` or `tls://HOST:PORT`. quiet_workers: worker processes write nothing to standard error. approve:
    as of `Plan`. Errors: UsageError; MissingExtraError; ConnectError when there is no such scheduler.
    """
    own = dataclasses.replace(settings, metrics_port=0)  # one port for all is the run's
    local = not is_text(own) and target(own) == "local"
    plan = Plan(settings=own, fast=fast, retries=retries, local=local, approve=approve)
    if executor is not None:
        from .remote import dask_stage

        with dask_stage(executor, plan, folder) as found:
            yield found
        return
    with ExitStack() as stack:
        servers = None
        if local:
            cores = usable_cores()
            ears = stack.enter_context(shared_ears(cores))
            plan = dataclasses.replace(plan, settings=without_keys(own), ears=ears_for(cores) if ears else 0)
            servers = LocalServers(fast, ears)
        elif is_text(own):
            chain(own)  # a missing key is reported now, once
        else:
            endpoint(own)  # and so is an impossible address
        log = WorkerLog(settings.log_level, settings.log_file, settings.log_json, quiet_workers)
        pool = SessionPool(jobs, processes=processes, initializer=prepare, initargs=(plan.secrets(), log, servers))
        stack.callback(_close, pool)
        yield Stage(plan=plan, executor=pool, play=play_here, stop=pool.stop, kill=pool.kill)


def _close(pool: SessionPool) -> None:
    """End the pool: what still runs, because the run could not go on, is told to end, and killed in the end."""
    pool.stop()
    patience = threading.Timer(STOP_S, pool.kill)
    patience.name = "realtime-pool-end"
    patience.start()
    pool.shutdown(cancel_futures=True)
    patience.cancel()
    patience.join()
