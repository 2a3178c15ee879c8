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
    while cells(line) > width:
        cut = _fitting(line, width, cells)
        space = line.rfind(" ", 0, cut + 1)
        if space > 0:
            rows.append(line[:space])
            line = line[space + 1 :]
        else:
            rows.append(line[:cut])
            line = line[cut:]
    return rows, line


def _fitting(line: str, width: int, cells: Callable[[str], int]) -> int:
    """Return how many characters fit into a row; at least one."""
    used = 0
    for index, character in enumerate(line):
        used += cells(character)
        if used > width:
            return max(1, index)
    return len(line)
