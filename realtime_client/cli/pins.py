"""Lines that a screen keeps in sight, above the one being typed. Pure but for its lock."""

from __future__ import annotations

import threading
from collections.abc import Callable

from realtime_client.cli.wrapping import wrap
from realtime_client.escape import one_line

_MOST_PASSING = 4
_LONGEST = 2_000


class Pins:
    """Lines by their keys. What is passing gets one row each, and few of these; the rest stand below. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: dict[str, tuple[str, bool]] = {}

    def __bool__(self) -> bool:
        return bool(self._lines)

    def put(self, key: str, text: str, *, passing: bool) -> None:
        """Show a line, in place of the one that this key had."""
        with self._lock:
            self._lines[key] = (one_line(text, _LONGEST), passing)

    def drop(self, key: str) -> None:
        """Show it no longer."""
        with self._lock:
            self._lines.pop(key, None)

    def shown(self, width: int, cells: Callable[[str], int] = len) -> str:
        """Return the lines. width: of a row, in cells; only what is passing is cut to it."""
        with self._lock:
            lines = list(self._lines.values())
        passing = [_cut(line, width, cells) for line, passes in lines if passes]
        more = len(passing) - _MOST_PASSING
        told = [f"[... and {more} more]"] if more > 0 else []
        rest = "\n".join(line for line, passes in lines if not passes)
        rows, last = wrap(rest, width, cells)
        return "\n".join([*passing[:_MOST_PASSING], *told, *rows, *([last] if last else [])])


def _cut(line: str, width: int, cells: Callable[[str], int]) -> str:
    if cells(line) <= width:
        return line
    while line and cells(line) > width - 3:
        line = line[:-1]
    return f"{line}..."
