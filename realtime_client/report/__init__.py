"""One HTML file that shows a session or a run, opens from the disk and needs nothing else."""

from __future__ import annotations

from .write import Written, write_report

__all__ = ["Written", "write_report"]
