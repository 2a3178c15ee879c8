"""A terminal that is closed while a command runs: how to notice, and how the command still ends well."""

from __future__ import annotations

import contextlib
import errno
import os
import sys

_GONE = {errno.EIO, errno.ENXIO, errno.ENODEV}


def tell(text: str) -> None:
    """Write lines to standard error. If nobody is left to read them they are lost, and nothing fails."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)  # noqa: T201


def hung_up() -> bool:
    """Whether standard input, output or error leads to a terminal that has been closed since."""
    return any(_is_gone(fd) for fd in _descriptors())


def let_go() -> None:
    """Make what is still written to a terminal that is gone go nowhere, so that nothing fails."""
    nothing = os.open(os.devnull, os.O_RDWR)
    try:
        for fd in _descriptors():
            if _is_gone(fd):
                os.dup2(nothing, fd)
    finally:
        os.close(nothing)


def _descriptors() -> set[int]:
    """The process's own three, and those of the streams that stand in their place meanwhile."""
    found = {0, 1, 2}
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            found.add(stream.fileno())
    return found


def _is_gone(fd: int) -> bool:
    """Ask the terminal driver: a terminal that hung up answers every question with an error of its own."""
    try:
        import termios
    except ImportError:  # pragma: no cover - Windows
        return False
    try:
        termios.tcgetattr(fd)
    except termios.error as error:
        return error.args[0] in _GONE
    return False
