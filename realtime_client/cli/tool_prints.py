"""What tools of a Python file print, as lines for people: it belongs neither on standard output nor over a screen."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from realtime_client.cli.streams import output, take_over
from realtime_client.escape import one_line

_LONGEST = 2_000


@contextmanager
def tool_prints(show: Callable[[str], object]) -> Iterator[None]:
    """Show each line that a tool prints while the block runs, on whatever stream. show: may be called in any thread.

    A tool is told by its thread: those of this package, and the main one, print what they mean to. What is written to
    file descriptor 1 itself, as programs do that a tool starts, goes where standard error leads.
    """
    before = sys.stdout, sys.stderr
    with _own_output() as ours:
        out, err = _Sieve(ours, show), _Sieve(sys.stderr, show)
        sys.stdout, sys.stderr = cast("Any", out), cast("Any", err)
        try:
            yield
        finally:
            out.end()
            err.end()
            sys.stdout, sys.stderr = before


@contextmanager
def _own_output() -> Iterator[Any]:
    """Give standard output as a stream with a descriptor of its own, and let descriptor 1 lead where 2 does."""
    before = sys.stdout
    try:
        if not isinstance(before, io.TextIOWrapper) or before.fileno() != 1:
            raise OSError
        before.flush()
        kept = os.dup(1)
    except (OSError, ValueError):  # it is somebody's own, or closed
        yield before
        return
    ours = output(kept, before)
    try:
        os.dup2(2, 1)
        yield ours
    finally:
        take_over(before, ours)
        os.dup2(kept, 1)
        os.close(kept)


class _Sieve:
    """A stream whose own threads write to it; what others write becomes lines."""

    def __init__(self, stream: Any, show: Callable[[str], object]) -> None:
        self._stream = stream
        self._show = show
        self._lock = threading.Lock()
        self._begun: dict[int, str] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, or show what is complete."""
        if _is_ours(threading.current_thread()):
            return int(self._stream.write(text))
        me = threading.get_ident()
        with self._lock:
            *lines, rest = (self._begun.pop(me, "") + text).split("\n")
            if len(rest) > _LONGEST:
                lines, rest = [*lines, rest], ""
            if rest:
                self._begun[me] = rest
        self._tell(lines)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write each."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write what waits; lines of tools do not."""
        if _is_ours(threading.current_thread()):
            self._stream.flush()

    def end(self) -> None:
        """Show what was begun."""
        with self._lock:
            rest = list(self._begun.values())
            self._begun.clear()
        self._tell(rest)

    def _tell(self, lines: list[str]) -> None:
        _telling.now = True  # where it is shown, it may be written to this stream
        try:
            for line in lines:
                if shown := one_line(line, _LONGEST):
                    self._show(f"| {shown}")
        finally:
            _telling.now = False


_telling = threading.local()


def _is_ours(thread: threading.Thread) -> bool:
    if thread is threading.main_thread() or getattr(_telling, "now", False):
        return True
    return thread.name.startswith("realtime-") and not thread.name.startswith("realtime-tool-")
