"""A named thread that keeps its exception and says that it failed."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Iterable


class Worker:
    """One thread with one task.

    An exception of the task is kept in `error` and reported once through `on_failure`, from the failing thread.
    """

    def __init__(self, name: str, task: Callable[[], None], on_failure: Callable[[BaseException], None]) -> None:
        self.error: BaseException | None = None
        self._task = task
        self._on_failure = on_failure
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self.thread.start()

    def _run(self) -> None:
        try:
            self._task()
        except BaseException as error:  # noqa: BLE001 - kept and raised by close()
            self.error = error
            self._on_failure(error)


def stacks(threads: Iterable[threading.Thread]) -> str:
    """Describe where each living thread is: name, file, line and function of its innermost frames."""
    frames = sys._current_frames()  # noqa: SLF001 - the documented way to see other threads
    lines = []
    for thread in threads:
        frame = frames.get(thread.ident or -1)
        if frame is not None:
            where = " < ".join(
                f"{entry.name} ({entry.filename.rpartition('/')[2]}:{entry.lineno})"
                for entry in reversed(traceback.extract_stack(frame)[-4:])
            )
            lines.append(f"{thread.name}: {where}")
    return "; ".join(lines)
