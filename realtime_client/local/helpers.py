"""The threads that sessions of a local server start beside their own."""

from __future__ import annotations

import threading
from collections.abc import Callable

from realtime_client.deadline import Deadline


class Helpers:
    """Threads that end by themselves, of all sessions of one server. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()

    def begin(self, name: str, work: Callable[[], object]) -> None:
        """Do this in a thread of its own. Errors: RuntimeError when the system has no more threads."""

        def do() -> None:
            try:
                work()
            finally:
                with self._lock:
                    self._threads.discard(threading.current_thread())

        thread = threading.Thread(target=do, name=name, daemon=True)
        with self._lock:
            thread.start()
            self._threads.add(thread)

    def close(self, deadline: Deadline) -> list[threading.Thread]:
        """Wait for all of them, whose work was called off; returns those that still run."""
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(deadline.remaining_s())
        return [thread for thread in threads if thread.is_alive()]
