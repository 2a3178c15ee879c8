"""The event that ends a session."""

from __future__ import annotations

import threading


class StopEvent(threading.Event):
    """Set when the session has to end. It also sets the events of threads that wait for more than one thing."""

    def __init__(self) -> None:
        super().__init__()
        self._wakes: tuple[threading.Event, ...] = ()

    def wakes(self, event: threading.Event) -> None:
        """Set this event, too, when the end is asked for; at once if it has been."""
        self._wakes = (*self._wakes[-7:], event)
        if self.is_set():
            event.set()

    def set(self) -> None:
        """Ask for the end."""
        super().set()
        for event in self._wakes:
            event.set()
