"""Text on its way to a screen. Pure but for its lock."""

from __future__ import annotations

import threading
from collections.abc import Callable

from realtime_client.cli.wrapping import wrap

_MOST_PENDING = 1_000_000


class Pending:
    """Text on its way to the screen: complete lines, and the one still growing. Safe to use from any thread.

    It holds at most a million characters; while it is full (the terminal has been stopped), further text is not shown,
    and a line says so.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._text = ""
        self._left_out = 0

    def add(self, text: str) -> None:
        """Append text."""
        with self._lock:
            if len(self._text) + len(text) > _MOST_PENDING:
                self._left_out += len(text)
            else:
                self._text += text

    def end_line(self) -> None:
        """Append a line end unless the text ends with one."""
        with self._lock:
            if self._text and not self._text.endswith("\n"):
                self._text += "\n"

    def take(self, width: int, cells: Callable[[str], int] = len) -> tuple[list[str], str]:
        """Return the rows that are complete, and the growing one, which stays."""
        with self._lock:
            rows, self._text = wrap(self._text, width, cells)
            if self._left_out:
                rows.append(f"[{self._left_out} characters are not shown]")
                self._left_out = 0
            return rows, self._text
