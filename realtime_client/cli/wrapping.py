"""Breaking a running text into rows of a terminal, at word ends, as it arrives. Pure."""

from __future__ import annotations

from collections.abc import Callable


def wrap(text: str, width: int, cells: Callable[[str], int] = len) -> tuple[list[str], str]:
    """Split `text` into the rows that are complete and the rest that may still grow.

    width: cells in a row. cells: how many cells a string takes. A row is complete when a line feed ends it or the
    next word does not fit; a word longer than a row is cut.
    """
    rows: list[str] = []
    lines = text.split("\n")
    for number, line in enumerate(lines):
        full, rest = _wrap_line(line, max(1, width), cells)
        rows += full
        if number == len(lines) - 1:
            return rows, rest
        rows.append(rest)
    return rows, ""


def _wrap_line(line: str, width: int, cells: Callable[[str], int]) -> tuple[list[str], str]:
    rows: list[str] = []
    start = 0
    while (end := _fitting(line, start, width, cells)) < len(line):
        space = line.rfind(" ", start, end + 1)
        if space > start:
            rows.append(line[start:space])
            start = space + 1
        else:
            rows.append(line[start:end])
            start = end
    return rows, line[start:]


def _fitting(line: str, start: int, width: int, cells: Callable[[str], int]) -> int:
    """Return the end of what fits into a row from `start` on: at least one character, and any without a width."""
    used = 0
    for index in range(start, len(line)):
        used += cells(line[index])
        if used > width:
            return max(start + 1, index)
    return len(line)
