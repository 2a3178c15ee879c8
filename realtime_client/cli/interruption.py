"""What Ctrl-C, SIGTERM and a closed terminal do to a command.

1. A signal goes to the action in charge. An action that does something else with it (Ctrl-C stops an answer) says so,
   and nothing ends.
2. The signal that ends the command ends it in order: sessions are closed, files are finished. That has `grace_s`.
3. The next signal hurries: what is not done after `HURRY_S` is abandoned.
4. One more, or the end of that time, ends the process where it is, with the code of the signal that began it
   (128 and its number). Files are then as a kill leaves them: complete up to that moment, for `realtime recover` to
   finish. So a program that hangs, whatever it computes or waits for, still ends: by itself, or by one more signal. A
   command
whose end has steps of its own (a run lets sessions finish first) goes without `grace_s`: all signals are its action's.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from realtime_client.cli.hangup import hung_up, let_go
from realtime_client.session.signals import signals

HURRY_S = 2.0
_LAST_WORDS_S = 0.5  # a stopped terminal takes no output


class SignalledError(Exception):
    """The command ended because of a signal; `which` says which one."""

    def __init__(self, which: signal.Signals) -> None:
        super().__init__(which.name)
        self.which = which


class Interruption:
    """Passes signals on to whoever is in charge at the moment; before anyone is, the first ends the command.

    grace_s: how long an end in order may take; None: every signal goes to the action, and nothing is forced. fine:
    signals that end the command successfully. which: the signal behind the exit code. at_force: called before the
    process is ended by force, to leave the terminal as it was.

    The action runs in the signals thread and must not wait. It returns True if the command ends.
    """

    def __init__(self, grace_s: float | None = None, fine: Collection[signal.Signals] = ()) -> None:
        self.which: signal.Signals | None = None
        self.at_force: Callable[[], None] = lambda: None
        self._grace_s = grace_s
        self._fine = fine
        self._lock = threading.Lock()
        self._action: Callable[[signal.Signals], bool] | None = None
        self._guard: threading.Timer | None = None
        self._hurried = False

    def on_signal(self, which: signal.Signals, _count: int) -> None:
        """Take a signal."""
        with self._lock:
            action, ending, hurried = self._action, self._guard is not None, self._hurried
            self._hurried = ending
        if ending and hurried:
            self._force()
        if ending:
            self._end_within(HURRY_S)
        if action is None or action(which):
            self.end_by(which)

    def handle(self, action: Callable[[signal.Signals], bool]) -> None:
        """Put `action` in charge; a signal that came before goes to it at once."""
        with self._lock:
            self._action = action
            earlier = self.which
        if earlier is not None:
            action(earlier)

    def end_by(self, which: signal.Signals) -> None:
        """Say that the command ends now, because of `which` or a key that means the same: the clock starts."""
        self.which = self.which or which
        if self._guard is None and self._grace_s is not None:
            self._end_within(self._grace_s)

    def check(self) -> None:
        """Raise SignalledError if a signal has ended the command."""
        if self.which is not None and self.which not in self._fine:
            raise SignalledError(self.which)

    def close(self) -> None:
        """The command has ended."""
        with self._lock:
            if self._guard is not None:
                self._guard.cancel()

    def _end_within(self, seconds: float) -> None:
        with self._lock:
            if self._guard is not None:
                self._guard.cancel()
            self._guard = threading.Timer(seconds, self._force)
            self._guard.name, self._guard.daemon = "realtime-end", True
            self._guard.start()

    def _force(self) -> None:
        """End the process now. The terminal is asked, not waited for."""
        words = threading.Thread(target=self._last_words, name="realtime-last-words", daemon=True)
        words.start()
        words.join(_LAST_WORDS_S)
        os._exit(128 + (self.which or signal.SIGTERM))

    def _last_words(self) -> None:
        with contextlib.suppress(Exception):
            self.at_force()
            print("realtime: ended by force: it did not end by itself in time", file=sys.stderr, flush=True)  # noqa: T201


@contextmanager
def interruption(grace_s: float | None = None, fine: Collection[signal.Signals] = ()) -> Iterator[Interruption]:
    """Take signals while the block runs; enter it before any thread starts. The arguments are those of `Interruption`.

    Whatever the block ends with, a signal that ended it comes first: SignalledError. A terminal that is gone counts as
    SIGHUP, which may come later than the error of writing to it.
    """
    state = Interruption(grace_s, fine)
    with signals(state.on_signal):
        try:
            yield state
        except Exception as error:
            if isinstance(error, OSError) and hung_up():
                state.which = state.which or signal.SIGHUP
            state.check()
            raise
        finally:
            state.close()
            if hung_up():
                let_go()
    state.check()
