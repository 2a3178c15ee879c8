"""How many cores this process may use, which can be fewer than the machine has."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def usable_cores(cgroup: Path = CGROUP) -> int:
    """Return how many cores this process may use; at least 1.

    Fewer than the machine has where it is bound to some of them (`taskset`), or where its container gets only so much
    time. cgroup: where the limit of a container stands.
    """
    return int(max(1, min(_allowed(), _granted(cgroup))))


def _allowed() -> int:
    """The cores on which the system lets this process run."""
    if hasattr(os, "process_cpu_count"):  # from Python 3.13 on; knows PYTHON_CPU_COUNT, too
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _granted(cgroup: Path) -> float:
    """The time that the container gets, in cores, rounded up; infinite without a limit (cgroup v2 and v1)."""
    try:
        if (cgroup / "cpu.max").exists():
            quota, period = (cgroup / "cpu.max").read_text().split()
        else:
            quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text()
        share = math.ceil(int(quota) / int(period))
    except (OSError, ValueError, ZeroDivisionError):  # there is none, or it is "max"
        return math.inf
    return share if share > 0 else math.inf
