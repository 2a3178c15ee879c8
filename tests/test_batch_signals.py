"""Ctrl-C and SIGTERM end `check`, `compare` and `report` at once, whatever they compute."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import msgspec
import pytest
from cli_helpers import LIMIT_S, started
from run_players import wait_until

from realtime_client.batch.result import CaseResult, RunInfo
from realtime_client.batch.results.results import encode_line

MANY = 60_000
_BUSY_S = 0.8  # of computing: by then it is in the midst of it


def computed_s(pid: int) -> float:
    """How long a process has computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scenario with many rows, and a run with as many cases."""
    folder = tmp_path_factory.mktemp("large")
    (folder / "rows.csv").write_text("city\n" + "Paris\n" * MANY)
    (folder / "s.yaml").write_text(
        "name: a\nparameters: rows.csv\nturns: [{text: 'in ${city}?', expect: {contains: x}}]\n"
    )
    (folder / "run").mkdir()
    results = [
        CaseResult(case=f"a[{n}]", scenario=f"a{n % 500}", status="passed", latencies={"answer": [float(n % 977)] * 20})
        for n in range(MANY)
    ]
    (folder / "run" / "results.jsonl").write_bytes(b"".join(map(encode_line, results)))
    info = RunInfo(run="run", state="ended", cases=[result.case for result in results])
    (folder / "run" / "run.json").write_bytes(msgspec.json.encode(info))
    return folder


@pytest.mark.parametrize(("which", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
@pytest.mark.parametrize("command", [["check", "s.yaml"], ["compare", "run", "run"], ["report", "run"]])
def test_a_signal_ends_what_computes(large: Path, command: list[str], which: signal.Signals, code: int):
    name, *paths = command
    with started(name, *(str(large / path) for path in paths)) as process:
        wait_until(lambda: computed_s(process.pid) > _BUSY_S)
        process.send_signal(which)
        stdout, stderr = process.communicate(timeout=LIMIT_S)
    assert process.returncode == code, "it was at work when the signal came"
    assert stdout == ""
    assert "Traceback" not in stderr
