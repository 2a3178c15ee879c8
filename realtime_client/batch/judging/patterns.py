"""Regular expressions with a time limit: `re` in a process of its own, which can be killed.

A search by Python's `re` may take longer than a lifetime (`(a+)+$`) and holds the interpreter's lock all the while; no
thread or signal handler can stop it. So it is done in a small process that ends itself by an alarm, whatever it
computes. Processes are kept for the next search: it takes half a millisecond then, the first one 30 ms.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from contextlib import suppress

from realtime_client.batch.faults import CheckError
from realtime_client.deadline import SYSTEM_CLOCK, Clock

LIMIT_S = 5.0
_KEPT = 4
_LATE_S = 5.0  # beyond the limit, where the process has no alarm of its own
_CODE = """
import json, re, signal, sys
alarm = getattr(signal, "setitimer", lambda *_: None)
real = getattr(signal, "ITIMER_REAL", None)
for line in sys.stdin.buffer:
    pattern, text, limit_s = json.loads(line)
    alarm(real, limit_s)
    found = re.search(pattern, text) is not None
    alarm(real, 0)
    sys.stdout.buffer.write(b"1\\n" if found else b"0\\n")
    sys.stdout.buffer.flush()
"""
_idle: list[_Searcher] = []
_lock = threading.Lock()


def search(pattern: str, text: str, limit_s: float = LIMIT_S, clock: Clock = SYSTEM_CLOCK) -> bool:
    """Return whether a regular expression is found in a text.

    Errors: CheckError when it takes longer than `limit_s`, or cannot be searched for at all.
    """
    for _ in range(2):  # a waiting process may have been killed by somebody
        with _lock:
            searcher = _idle.pop() if _idle else None
        searcher = searcher or _started()
        began_s = clock.monotonic()
        found = searcher.search(pattern, text, limit_s)
        if found is not None:
            _put_back(searcher)
            return found
        searcher.close()
        if clock.monotonic() - began_s >= 0.9 * limit_s:
            raise CheckError(
                f"searching for {pattern!r} takes longer than {limit_s:g} s; "
                "write it so that no part can match in many ways, as (a+)+ can"
            )
    raise CheckError(f"{pattern!r} cannot be searched for: the process that does it ends")


def close_all() -> None:
    """End the idle processes."""
    with _lock:
        searchers = _idle[:]
        _idle.clear()
    for searcher in searchers:
        searcher.close()


class _Searcher:
    """One process. A Ctrl-C of the terminal does not reach it: it is in a session of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and program
            [sys.executable, "-I", "-S", "-c", _CODE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def search(self, pattern: str, text: str, limit_s: float) -> bool | None:
        """Return whether the pattern is found; None when the process ended over it."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Timer(limit_s + _LATE_S, process.kill)
        late.name = "realtime-pattern-limit"
        late.start()
        try:
            process.stdin.write(json.dumps([pattern, text, limit_s]).encode() + b"\n")
            process.stdin.flush()
            return {b"1\n": True, b"0\n": False}.get(process.stdout.readline())
        except OSError:
            return None
        finally:
            late.cancel()
            late.join()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with suppress(OSError):
                stream.close()


def _started() -> _Searcher:
    try:
        return _Searcher()
    except OSError as error:
        raise CheckError(f"a process for regular expressions cannot be started: {error.strerror or error}") from error


def _put_back(searcher: _Searcher) -> None:
    with _lock:
        if len(_idle) < _KEPT:
            _idle.append(searcher)
            return
    searcher.close()


atexit.register(close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # they belong to the parent
