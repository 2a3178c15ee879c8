"""How far what was sent is ahead of what the server has read.

A file can be sent a hundred times faster than a server hears it. What lies between fills the sockets, and then nothing
gets through in time: no ping, no cancel. Pongs come in the order of what they follow (RFC 6455, section 5.5.3: an
endpoint answers a ping as soon as it has read it), so a ping behind the audio tells how far the server has come.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from realtime_client.deadline import Clock, Deadline
from realtime_client.errors import ClosedError, QueueFullError

_MARK = b"read"
MARK_MS = 500
AHEAD_MS = 5_000


class Ahead:
    """Counts milliseconds of audio that were sent and that the server has read. Thread-safe.

    `sent` and `wait` belong to whoever sends, `read` to the receive thread. on_room: tells those who wait in another
    way; see `Session.on_room`.
    """

    def __init__(self, clock: Clock, on_room: Callable[[], object] = bool) -> None:
        self._clock = clock
        self._on_room = on_room
        self._changed = threading.Condition()
        self._sent_ms = 0.0
        self._marked_ms = self._read_ms = 0
        self._over = False

    def sent(self, ms: float) -> bytes | None:
        """Count audio that was queued; returns the payload of a ping to queue behind it, every half second."""
        with self._changed:
            self._sent_ms += ms
            if self._sent_ms - self._marked_ms < MARK_MS:
                return None
            self._marked_ms = int(self._sent_ms)
            return _MARK + self._marked_ms.to_bytes(6, "big")

    def read(self, payload: bytes) -> bool:
        """Take a pong in; False for one that is no mark.

        It also answers the marks before it: a server need answer the newest ping only (RFC 6455, section 5.5.3).
        """
        if not payload.startswith(_MARK):
            return False
        with self._changed:
            self._read_ms = max(self._read_ms, min(int.from_bytes(payload.removeprefix(_MARK), "big"), self._marked_ms))
            self._let_go()
        return True

    def end(self) -> None:
        """The connection is over: nobody waits any longer."""
        with self._changed:
            self._over = True
            self._let_go()

    def _let_go(self) -> None:
        self._changed.notify_all()
        self._on_room()

    @property
    def in_step(self) -> bool:
        """Whether the server has read all but the last five seconds; True at the end."""
        return self._over or self._marked_ms - self._read_ms <= AHEAD_MS

    def wait(self, patience_s: float) -> None:
        """Wait until the server has read all but the last five seconds.

        Errors: ClosedError when the connection ends; QueueFullError when the server read nothing for patience_s.
        """
        with self._changed:
            while self._marked_ms - self._read_ms > AHEAD_MS:
                if self._over:
                    raise ClosedError("the session is closed")
                before, deadline = self._read_ms, Deadline(patience_s, self._clock)
                while self._read_ms == before and not self._over:
                    if not self._changed.wait(deadline.remaining_s()) and deadline.expired:
                        raise QueueFullError(f"the server has read nothing of the audio for {patience_s:g} s")
