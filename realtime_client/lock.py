"""A file that one process at a time holds, by the means of the system: flock(2), or a locked byte on Windows."""

from __future__ import annotations

import os
from pathlib import Path


def hold(path: Path) -> int | None:
    """Take the lock on a file, which is made if need be; returns the open file, None when another process has it.

    Closing the file lets go of it, and so does the end of the process. Errors: OSError.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        _lock(file)
    except OSError:
        os.close(file)
        return None
    return file


try:
    import fcntl
except ImportError:

    def _lock(file: int) -> None:
        import msvcrt

        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]  # the byte need not be there

else:

    def _lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
