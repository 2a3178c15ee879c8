"""A session's threads: one with its task, where they stand, how they are joined, and the event that ends them."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Sequence

from realtime_client.deadline import Deadline


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


def join_all(threads: Sequence[threading.Thread], deadline: Deadline) -> None:
    """Wait for threads, this one excepted."""
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join(deadline.remaining_s())


class StopEvent(threading.Event):
    """Set when the session has to end. It also sets the events of threads that wait for more than one thing."""

    def __init__(self) -> None:
        super().__init__()
        self._wakes: tuple[threading.Event, ...] = ()
        self._changing = threading.Lock()

    def wakes(self, event: threading.Event) -> Callable[[], None]:
        """Set this event, too, when the end is asked for; at once if it has been. Returns what ends that."""
        with self._changing:
            self._wakes = (*self._wakes, event)
        if self.is_set():
            event.set()

        def forget() -> None:
            with self._changing:
                self._wakes = tuple(each for each in self._wakes if each is not event)

        return forget

    def set(self) -> None:
        """Ask for the end."""
        super().set()
        for event in self._wakes:
            event.set()
