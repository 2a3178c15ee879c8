"""What Ctrl-C, SIGTERM and a closed terminal do to a command that holds a session."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from realtime_client.client.signals import signals


class SignalledError(Exception):
    """The command ended because of a signal; `which` says which one."""

    def __init__(self, which: signal.Signals) -> None:
        super().__init__(which.name)
        self.which = which


class Interruption:
    """Passes signals on to whoever is in charge at the moment; before anyone is, the first is kept.

    The action runs in the signals thread. It returns True if the command is to end, which is then remembered in
    `which`.
    """

    def __init__(self) -> None:
        self.which: signal.Signals | None = None
        self._lock = threading.Lock()
        self._action: Callable[[signal.Signals], bool] | None = None

    def on_signal(self, which: signal.Signals, _count: int) -> None:
        """Take a signal."""
        with self._lock:
            action = self._action
            if action is None:
                self.which = self.which or which
        if action is not None and action(which):
            self.which = self.which or which

    def handle(self, action: Callable[[signal.Signals], bool]) -> None:
        """Put `action` in charge; a signal that came before goes to it at once."""
        with self._lock:
            self._action = action
            earlier = self.which
        if earlier is not None:
            action(earlier)

    def end_by(self, which: signal.Signals) -> None:
        """Remember that the command ends because of `which`, a key that stands for the signal."""
        self.which = self.which or which

    def check(self) -> None:
        """Raise SignalledError if a signal has ended the command."""
        if self.which is not None:
            raise SignalledError(self.which)


@contextmanager
def interruption() -> Iterator[Interruption]:
    """Take signals while the block runs; enter it before any thread starts.

    Whatever the block ends with, a signal that ended it comes first: SignalledError.
    """
    state = Interruption()
    with signals(state.on_signal):
        try:
            yield state
        except Exception:
            state.check()
            raise
    state.check()
