"""A mistake in a scenario's file, and where it is."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, NamedTuple

BAD: Any = object()
"""Stands for a value that could not be read; the mistake has been noted."""


class Mark(NamedTuple):
    """A place in a file; line and column from 1, 0 for the file as a whole."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


class Problem(NamedTuple):
    """A mistake: what is wrong there (message), and what to do about it (hint, '' for none)."""

    file: str
    line: int
    column: int
    message: str
    hint: str = ""

    def __str__(self) -> str:
        end = f"; {self.hint}" if self.hint else ""
        return f"{Mark(self.file, self.line, self.column)}: {self.message}{end}"


class Problems:
    """Collects mistakes; one that is found again (in the next row of the parameters) counts once.

    row: the row of the parameters being examined, 0 for none; a mistake in that row only names it.
    """

    def __init__(self) -> None:
        self.row = 0
        self._found: dict[tuple[Mark, str], Problem] = {}

    def __len__(self) -> int:
        return len(self._found)

    def add(self, mark: Mark, message: str, hint: str = "") -> None:
        """Note a mistake."""
        key = (mark, message)
        if key not in self._found:
            of_row = self.row > 1 or (self.row == 1 and "${" in message)
            self._found[key] = Problem(*mark, f"{message} (row {self.row})" if of_row else message, hint)

    def all(self) -> list[Problem]:
        """Return the mistakes by file, in the order read, and by line within a file."""
        files = {file: n for n, file in enumerate(dict.fromkeys(problem.file for problem in self._found.values()))}
        return sorted(self._found.values(), key=lambda problem: (files[problem.file], problem.line, problem.column))


def near(name: str, names: Iterable[str]) -> str:
    """Return `did you mean X?`, or all names if they are few, or ''."""
    known = list(names)
    found = difflib.get_close_matches(name, known, n=1)
    if found:
        return f"did you mean {found[0]}?"
    return f"known: {', '.join(known)}" if 0 < len(known) <= 20 else ""
