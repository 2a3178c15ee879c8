"""What runs in a worker process of a `SessionPool`: tasks in threads, until the parent is gone.

Messages are pickled tuples. From the parent: (TASK, number, pickled call), (STOP,), (END,). To the parent: (READY,),
then (DONE, number, True, result) or (DONE, number, False, exception).
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any, Final

TASK: Final = "task"
STOP: Final = "stop"
END: Final = "end"
READY: Final = "ready"
DONE: Final = "done"
_PR_SET_PDEATHSIG = 1

stopping = threading.Event()
"""Set in a worker when its parent wants running tasks to end soon."""


def main(
    connection: Connection,
    parent: int,
    threads: int,
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
) -> None:
    """Serve tasks until the parent ends this process or is gone. parent: its process id."""
    _live_and_die_with(parent)
    if initializer is not None:
        initializer(*initargs)
    gc.freeze()  # a full collection stops every session of this process; it need not also look through the modules
    sending = threading.Lock()
    with contextlib.suppress(OSError):  # the parent is gone, which reading finds out
        connection.send((READY,))
    with ThreadPoolExecutor(threads, thread_name_prefix="realtime-case") as executor:
        while True:
            try:
                kind, *rest = connection.recv()
            except (EOFError, OSError):
                os._exit(1)  # the parent is gone; what runs has nobody to tell
            if kind == STOP:
                stopping.set()
            elif kind == TASK:
                executor.submit(_run, connection, sending, *rest)
            else:
                break


def _live_and_die_with(parent: int) -> None:
    """Leave signals of the terminal to the parent, and end when it does, however it ends."""
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the parent's mask came along
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _run(connection: Connection, sending: threading.Lock, number: int, call: bytes) -> None:
    """Run one task and send its outcome."""
    message: tuple[object, ...]
    try:
        function, args, kwargs = pickle.loads(call)  # noqa: S301 - from our own parent
        message = (DONE, number, True, function(*args, **kwargs))
    except BaseException as error:  # noqa: BLE001 - it belongs to the future
        message = (DONE, number, False, error)
    try:
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001 - foreign objects may fail in any way
        text = f"what the task returned cannot travel: {type(error).__name__}: {error}"
        data = pickle.dumps((DONE, number, False, TypeError(text)))
    try:
        with sending:
            connection.send_bytes(data)
    except OSError:
        os._exit(1)  # the parent is gone
