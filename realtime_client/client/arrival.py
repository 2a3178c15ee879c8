"""When what was read had arrived: the kernel's time stamp, as against the moment when this program came to read it.

Between the two lies the waiting of this program itself: for a core, and for Python's interpreter, which all of its
threads share. A figure of a server must not contain it.

Linux stamps TCP as it does datagrams (SO_TIMESTAMPNS; from 4.14 on). Of segments that lie in the socket together, only
the newest one's stamp is known. Whoever waits in `recv` has its bytes from the moment they come, even if it gets the
interpreter later: then the stamp is exact. What was there before it asked has come since it last had something; that is
the most that it can have waited. Other systems stamp no TCP: there the waiting is not known.
"""

from __future__ import annotations

import socket
import struct
import sys
import threading
import time
from typing import NamedTuple

stamping = threading.Event()
"""Set in a process whose connections are to be stamped from their beginning: each reading then costs a little more."""
STAMPS = 64
"""Room for the ancillary data of `recvmsg`."""
_SO_TIMESTAMPNS = 35  # asm-generic/socket.h; the `socket` module does not name it
_TIMESPEC = struct.Struct("@ll")


class Lateness(NamedTuple):
    """How long what a thread read last had been there, in seconds: the newest of it, and the oldest at most."""

    least_s: float
    most_s: float


class _Mine(threading.local):
    lateness: Lateness | None = None


_mine = _Mine()


def lateness() -> Lateness | None:
    """Return it for what this thread has read last; None where it is not known.

    Whoever is told of a message by the thread that received it learns so how late that is.
    """
    return _mine.lateness


class Stamps:
    """The stamps of one socket, for the thread that reads it."""

    def __init__(self) -> None:
        self._asked_s = self._had_s = time.monotonic()
        self._arrived_s = 0.0

    @classmethod
    def of(cls, sock: socket.socket) -> Stamps | None:
        """Have the kernel stamp what arrives; None where it does not."""
        if sys.platform != "linux":
            return None
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        except OSError:
            return None
        return cls()

    def asks(self) -> None:
        """The thread is about to read."""
        self._asked_s = time.monotonic()

    def stamped(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        """Take the stamp from what `recvmsg` returned; the first packets after stamps were asked for have none."""
        self._arrived_s = 0.0
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(data) >= _TIMESPEC.size:
                seconds, nanoseconds = _TIMESPEC.unpack_from(data)
                self._arrived_s = seconds + nanoseconds / 1e9

    def has_read(self) -> None:
        """The thread has what it read."""
        now_s = time.monotonic()
        _mine.lateness = None
        if self._arrived_s:
            least_s = max(0.0, time.time() - self._arrived_s)
            was_there = least_s > now_s - self._asked_s
            _mine.lateness = Lateness(least_s, max(least_s, now_s - self._had_s) if was_there else least_s)
        self._had_s = now_s
