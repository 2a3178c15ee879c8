"""Runs on a Dask cluster: a real scheduler and two worker processes, one killed in the run; and what may come back."""

from __future__ import annotations

import collections
import io
import os
import re
import stat
import subprocess
import sys
import tarfile
import wave
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cli_helpers import LIMIT_S, realtime, started
from run_players import make_cases, result_of, wait_until

from realtime_client.batch.results.results import read_results
from realtime_client.batch.running.parcel import pack, unpack
from realtime_client.batch.running.remote import Returned, receive_into
from realtime_client.errors import RecordingError

SCENARIO = """
name: far
session: {modality: text}
turns:
  - text: What is two plus three?
    expect: {contains: "5"}
  - audio: tone.wav
    answer: false
  - pause: 500 ms
"""
START_S = 40.0


class Cluster:
    """A scheduler and two workers of one process each, as their own commands start them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._environ = {name: value for name, value in os.environ.items() if "API_KEY" not in name}
        self._stack = stack
        self._log = stack.enter_context((folder / "log").open("ab"))
        place = folder / "scheduler.json"
        common = ["--host", "127.0.0.1", "--no-dashboard"]
        self._start("scheduler", "--port", "0", "--scheduler-file", str(place), *common)
        wait_until(lambda: place.exists() and place.stat().st_size > 0, START_S)
        self.address = msgspec.json.decode(place.read_bytes())["address"].replace("tcp://", "dask://")
        worker = ["--scheduler-file", str(place), "--no-nanny", "--nthreads", "2", "--local-directory", str(folder)]
        self.workers = [self._start("worker", *worker, *common) for _ in range(2)]
        wait_until(lambda: (folder / "log").read_text().count("Registered to:") >= 2, START_S)

    def _start(self, command: str, *args: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [Path(sys.executable).parent / "dask", command, *args],
            stdout=self._log,
            stderr=self._log,
            env=self._environ,
        )
        self._stack.callback(process.wait, LIMIT_S)
        self._stack.callback(process.kill)
        return process


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with ExitStack() as stack:
        folder = tmp_path / "cluster"
        folder.mkdir()
        yield Cluster(folder, stack)


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    file = tmp_path / "far.yaml"
    file.write_text(SCENARIO)
    with wave.open(str(tmp_path / "tone.wav"), "wb") as tone:
        tone.setnchannels(1)
        tone.setsampwidth(2)
        tone.setframerate(24_000)
        tone.writeframes(bytes(24_000))
    return file


def test_the_suite_on_a_cluster_that_loses_a_worker(tmp_path: Path, cluster: Cluster, project: Path):
    """What the lost worker did not finish runs elsewhere; recordings come back."""
    out = tmp_path / "run"
    arguments = ["run", str(project / "scripts/scenarios"), "--local", "--fast", "--jobs", "4", "--out", str(out)]
    environ = os.environ | {"OPENAI_API_KEY": "sk-not-needed-by-a-local-server"}
    with started(*arguments, "--executor", cluster.address, env=environ) as process:
        wait_until(lambda: bool(read_results(out / "results.jsonl")[0]), START_S)
        first = read_results(out / "results.jsonl")[0][0].worker
        (victim,) = [worker for worker in cluster.workers if first.endswith(f" process {worker.pid}")]
        victim.kill()
        stdout, stderr = process.communicate(timeout=80)
    assert process.returncode == 0, stdout + stderr
    assert re.match(r"(\d\d) of \1 cases passed", stdout)
    results, damaged = read_results(out / "results.jsonl")
    assert damaged == 0
    lines = (out / "results.jsonl").read_text().count("\n")
    assert len({result.case for result in results}) == len(results) == lines >= 30
    by_process = collections.Counter(r.worker for r in results)
    assert len(by_process) == 2, "what the lost worker did not finish was played by the other"
    for result in results:
        journal = out / result.recording / "journal.jsonl"
        assert stat.S_IMODE(journal.stat().st_mode) == 0o600
        assert stat.S_IMODE(journal.parent.stat().st_mode) == 0o700
    # Keys do not travel: a worker without one is named before anything runs.
    refused = realtime(
        *arguments[:2],
        "--url",
        "ws://127.0.0.1:9/v1",
        "--executor",
        cluster.address,
        OPENAI_API_KEY="sk-of-this-machine",
    )
    assert refused.returncode == 2, refused.stderr
    assert "set OPENAI_API_KEY in its environment" in refused.stderr
    assert "sk-of-this" not in refused.stderr
    # Neither does a URL that holds one.
    url = "ws://user:hush-hush@127.0.0.1:9/v1"
    refused = realtime(*arguments[:2], "--url", url, "--executor", cluster.address)
    assert refused.returncode == 2, refused.stderr
    assert "set REALTIME_URL in its environment" in refused.stderr
    assert "REALTIME_URL as ws://***@127.0.0.1:9/v1" in refused.stderr
    assert "hush" not in refused.stderr


def test_no_scheduler_is_no_connection(scenario: Path, tmp_path: Path):
    done = realtime("run", str(scenario), "--local", "--executor", "dask://127.0.0.1:1", "--out", str(tmp_path / "run"))
    assert done.returncode == 3, done.stderr
    assert "no Dask scheduler answers at tcp://127.0.0.1:1" in done.stderr
    assert not (tmp_path / "run").exists()


# --- what comes back --------------------------------------------------------------------------------------------------


def session(folder: Path) -> Path:
    (folder / "turns").mkdir(parents=True)
    (folder / "session.json").write_text("{}")
    (folder / "turns" / "0001-user.wav").write_bytes(b"RIFF" * 100)
    return folder


def test_a_folder_comes_back_private(tmp_path: Path):
    data = pack(session(tmp_path / "there"))
    assert data is not None
    first, second = (unpack(data, tmp_path / "here", "2026-x") for _ in range(2))
    assert (first.name, second.name) == ("2026-x", "2026-x-2")
    for path in first.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    assert (first / "turns" / "0001-user.wav").read_bytes() == b"RIFF" * 100
    assert pack(tmp_path / "there", 100) is None
    with pytest.raises(RecordingError, match="larger than"):
        unpack(data, tmp_path / "here", "2026-y", 100)
    assert not (tmp_path / "here" / "2026-y").exists()


def tar(*members: tuple[str, Any]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, what in members:
            info = tarfile.TarInfo(name)
            if what not in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE):
                info.size = len(what)
                archive.addfile(info, io.BytesIO(what))
            else:
                info.type, info.linkname = what, "/etc/passwd"
                archive.addfile(info)
    return out.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        tar(("../evil", b"x")),
        tar(("/tmp/evil", b"x")),
        tar(("a/../../evil", b"x")),
        tar((".hidden", b"x")),
        tar(("link", tarfile.SYMTYPE), ("link", b"x")),
        tar(("link", tarfile.LNKTYPE)),
        tar(("device", tarfile.CHRTYPE)),
        tar(("twice", b"x"), ("twice", b"y")),
        tar(("deep/a/b/c/d", b"x")),
        tar(("good", b"x"))[:40],
        b"no tar at all",
    ],
    ids=range(11),  # the time is in the bytes, and the processes that run tests compare names
)
def test_hostile_archives_leave_nothing_behind(tmp_path: Path, data: bytes):
    with pytest.raises(RecordingError):
        unpack(data, tmp_path / "here" / "sessions", "2026-x")
    assert [path.name for path in tmp_path.rglob("*")] == ["here", "sessions"]


@pytest.mark.parametrize("name", ["..", "a/b", ".x", "", "x" * 200])
def test_hostile_names_are_refused(tmp_path: Path, name: str):
    with pytest.raises(RecordingError):
        unpack(tar(("a", b"x")), tmp_path, name)


def test_a_result_whose_recording_is_bad_counts_all_the_same(tmp_path: Path):
    result = result_of(make_cases(1)[0], recording="sessions/2026-x")
    for bad in (None, b"rubbish"):
        assert receive_into(tmp_path, Returned(result, bad)) == msgspec.structs.replace(result, recording="")
    good = receive_into(tmp_path, Returned(result, tar(("session.json", b"{}"))))
    assert good.recording == "sessions/2026-x"
    assert (tmp_path / "sessions" / "2026-x" / "session.json").read_bytes() == b"{}"
