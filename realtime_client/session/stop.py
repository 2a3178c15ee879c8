"""The event that ends a session."""

from __future__ import annotations

import threading


class StopEvent(threading.Event):
    """Set when the session has to end. `wake` is set with it: for a thread that waits for other reasons, too."""

    def __init__(self) -> None:
        super().__init__()
        self.wake = threading.Event()

    def set(self) -> None:
        """Ask for the end."""
        super().set()
        self.wake.set()
