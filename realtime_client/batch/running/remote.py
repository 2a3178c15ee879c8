"""Playing cases on a Dask cluster: cases and their audio go there, results and recordings come back.

Keys do not travel, nor URLs that hold one: each worker takes them from its own environment. With the built-in server,
each worker process has one of its own. Whoever controls the cluster can run code here and on its machines (Dask sends
pickled objects): use your own.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from realtime_client.batch.loading.load import with_files
from realtime_client.batch.plan import Plan
from realtime_client.batch.playing.play import play_case
from realtime_client.batch.result import SESSIONS, CaseResult
from realtime_client.batch.scenario import Case
from realtime_client.errors import HostUnreachableError, MissingExtraError, RecordingError, UsageError
from realtime_client.logs import Log
from realtime_client.version import __version__

from .own_server import OwnServer, at_server, without_keys
from .parcel import pack, unpack
from .stage import Stage

_log = Log("run")
_CONNECT_S = 20.0
_SCHEMES = {"dask": "tcp", "tcp": "tcp", "tls": "tls"}


class Returned(msgspec.Struct):
    """What comes back of a case. recording: its packed folder, None when there is none or it is too large."""

    result: CaseResult
    recording: bytes | None = None


# --- on the worker ----------------------------------------------------------------------------------------------------


def play_there(case: Case, plan: Plan) -> Returned:
    """Play a case on a worker of the cluster; its recording goes into a folder that does not outlive the call."""
    plan = dataclasses.replace(plan, worker=f"{socket.gethostname()} process {os.getpid()}")
    if plan.local:
        server = _own_server(fast=plan.fast)
        plan = dataclasses.replace(plan, settings=at_server(plan.settings, server.url(), server.token))
    with tempfile.TemporaryDirectory(prefix="realtime-") as scratch:
        base = Path(scratch) / SESSIONS
        plan = dataclasses.replace(plan, settings=dataclasses.replace(plan.settings, record_dir=base))
        result = play_case(case, plan)
        return Returned(result, _packed(base, result))


def _packed(base: Path, result: CaseResult) -> bytes | None:
    if not result.recording:
        return None
    try:
        return pack(base / Path(result.recording).name)
    except OSError as error:
        _log.warning("a recording cannot be sent", error=str(error))
        return None


@functools.cache
def _own_server(*, fast: bool) -> OwnServer:
    """Return the server of this worker; it ends with it."""
    return OwnServer(fast=fast)


# --- here -------------------------------------------------------------------------------------------------------------


def receive_into(folder: Path, returned: Returned) -> CaseResult:
    """Put the recording where those of the run are, and return the result that names it. folder: the run's."""
    result = returned.result
    if not result.recording:
        return result
    name = Path(result.recording).name
    place = ""
    if returned.recording is None:
        _log.warning("a recording is too large to come back", case=result.case)
    else:
        try:
            place = f"{SESSIONS}/{unpack(returned.recording, folder / SESSIONS, name).name}"
        except (RecordingError, OSError) as error:
            _log.warning("a recording did not come back", case=result.case, error=str(error))
    return msgspec.structs.replace(result, recording=place)


@contextmanager
def dask_stage(address: str, plan: Plan, folder: Path) -> Iterator[Stage]:
    """Use the cluster of the scheduler at `address`, `dask://HOST:PORT` or `tls://HOST:PORT` (as Dask is configured).

    Errors: UsageError for another address, no workers or workers that cannot play; MissingExtraError;
    HostUnreachableError when no scheduler answers.
    """
    if plan.local:
        plan = dataclasses.replace(plan, settings=without_keys(plan.settings))
    with _client(_dask_address(address)) as client:
        _check_workers(client, plan)
        executor = client.get_executor(pure=False)
        yield Stage(
            plan=plan,
            executor=executor,
            play=play_there,
            stop=lambda: executor.shutdown(wait=False),  # cancels what runs; what is under way there has no result
            send=with_files,
            receive=lambda returned: receive_into(folder, returned),
        )


def _dask_address(address: str) -> str:
    scheme, mark, rest = address.partition("://")
    host, colon, port = rest.rpartition(":")
    if not mark or scheme not in _SCHEMES or not (host and colon and port.isdecimal()):
        raise UsageError(f"--executor {address}: it should look like dask://HOST:PORT (or tls://HOST:PORT)")
    return f"{_SCHEMES[scheme]}://{rest}"


@contextmanager
def _client(address: str) -> Iterator[Any]:
    try:
        import distributed
    except ImportError:
        raise MissingExtraError("distributed", "dask") from None
    connect: Any = distributed.Client  # it has no types
    host, _, port = address.partition("://")[2].rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()  # Dask would keep trying
        client = connect(address, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, OverflowError) as error:
        raise HostUnreachableError(f"no Dask scheduler answers at {address}: {error}") from None
    try:
        yield client
    finally:
        client.close(timeout=10)


def _check_workers(client: Any, plan: Plan) -> None:
    """Errors: UsageError when nobody can play."""
    found = client.run(_able, plan, on_error="return")
    if not found:
        raise UsageError("the Dask cluster has no workers")
    for worker, answer in found.items():
        if isinstance(answer, Exception):
            raise UsageError(
                f"worker {worker} cannot play ({type(answer).__name__}: {answer}); is realtime_client installed there?"
            )
        version, missing = answer
        if version != __version__:
            raise UsageError(f"worker {worker} has realtime_client {version}, this is {__version__}")
        if missing:
            raise UsageError(f"worker {worker}: {missing}")


def _able(plan: Plan) -> tuple[str, str]:
    """Say which version a worker has, and what keeps it from playing."""
    try:
        plan.check()
    except UsageError as error:
        return __version__, str(error)
    return __version__, ""
