"""Ctrl-C and SIGTERM, taken by a thread of their own.

A Python signal handler that sets an event or feeds a queue can deadlock with the main thread waiting on the same
object, so on POSIX no handler runs at all: the signals are blocked before the first other thread starts, and the thread
`realtime-signals` waits for them with sigwait. Where there is no sigwait (Windows) the handler does nothing but
`SimpleQueue.put`, which is reentrant. A blocked SIGINT does not interrupt `input()`: read standard input in a thread.
"""

from __future__ import annotations

import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_WANTED = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name))
OnSignal = Callable[[signal.Signals, int], None]
"""(which, how many came so far); runs in the signals thread."""


@contextmanager
def signals(on_signal: OnSignal) -> Iterator[None]:
    """Deliver SIGINT, SIGTERM and SIGHUP to `on_signal` while the block runs.

    Enter it in the main thread before any other thread starts: threads inherit the mask. A SIGHUP that is ignored when
    it begins (`nohup`) stays ignored.
    """
    if hasattr(signal, "pthread_sigmask") and hasattr(signal, "sigwait"):
        yield from _with_sigwait(on_signal)
    else:  # pragma: no cover - Windows
        yield from _with_handlers(on_signal)


def _with_sigwait(on_signal: OnSignal) -> Iterator[None]:
    wanted = _not_ignored()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
    ended = threading.Event()

    def take() -> int:
        which = signal.sigwait(wanted)
        return 0 if ended.is_set() else which

    thread = _tell_from(take, on_signal)
    try:
        yield
    finally:
        ended.set()
        if thread.is_alive():
            signal.pthread_kill(thread.ident or 0, signal.SIGTERM)
        thread.join(timeout=5)
        _discard_pending(wanted)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _with_handlers(on_signal: OnSignal) -> Iterator[None]:  # pragma: no cover - Windows
    arrived: queue.SimpleQueue[int] = queue.SimpleQueue()
    thread = _tell_from(arrived.get, on_signal)
    before = {which: signal.signal(which, lambda number, _frame: arrived.put(number)) for which in _not_ignored()}
    try:
        yield
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
        arrived.put(0)
        thread.join(timeout=5)


def _tell_from(take: Callable[[], int], on_signal: OnSignal) -> threading.Thread:
    """Start the thread that calls back for each signal taken, until it takes 0.

    A failing callback is reported, and must not make the program deaf to the next Ctrl-C.
    """

    def run() -> None:
        count = 0
        while which := take():
            count += 1
            try:
                on_signal(signal.Signals(which), count)
            except Exception:  # noqa: BLE001 - reported as any thread's exception
                threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))

    thread = threading.Thread(target=run, name="realtime-signals", daemon=True)
    thread.start()
    return thread


def _discard_pending(wanted: set[signal.Signals]) -> None:
    """Discard signals that came too late: unblocking them would kill the process after its work is done."""
    while pending := signal.sigpending() & wanted:
        signal.sigwait(pending)


def _not_ignored() -> set[signal.Signals]:
    """Return the signals to take. sigwait gets a blocked signal even if it is meant to be ignored."""
    hangup = getattr(signal, "SIGHUP", None)
    return {which for which in _WANTED if which != hangup or signal.getsignal(which) != signal.SIG_IGN}
