"""A connection's bytes on a bad line: late, few at a time, not read, not written, cut off hard."""

from __future__ import annotations

import contextlib
import math
import select
import socket
import struct
import threading
from collections.abc import Callable

from realtime_client.client.stream import NOW, Stream
from realtime_client.deadline import NO_DEADLINE, Clock, Deadline

from .line import Line

LOOK_S = 0.05  # how often a clock is looked at that others may turn
_FULL_S = 0.02  # until the next look whether a full socket has room
_MOST = 2**20  # bytes under way in one direction, beyond which the sender waits
_PIECE = 2**16
_PEER_GONE = getattr(select, "POLLRDHUP", 0)  # where there is none (macOS) it is looked for again and again


class FaultyStream(Stream):
    """A `Stream` that can be spoilt from `begin` on.

    The session's thread writes what is under way when its time has come (`pump`); the receive thread reads. sent,
    received: bytes since `begin`. limit: how many may be sent until `on_limit` is called. into, out: the two lines, for
    who holds `lines`.
    """

    def __init__(self, sock: socket.socket, clock: Clock) -> None:
        super().__init__(sock)
        self.receive = self.read
        self.sent = 0
        self.received = 0
        self.limit = math.inf
        self.lines = threading.Lock()
        self.on_limit: Callable[[], object] = lambda: None
        self.on_bytes: Callable[[], object] = lambda: None
        self._clock = clock
        self._begun = False
        self._rest = memoryview(b"")  # popped and not yet written
        self._at_end = False
        self._mute = False
        self._hard = False
        self._winding_up = False
        self._stalled_until_s = -math.inf
        self._frozen_until_s = -math.inf
        self._ended = threading.Event()

    def begin(self, out: Line, into: Line) -> None:
        """From now on it is a session's."""
        self.out, self.into = out, into
        self._begun = True

    # --- what can be done to it ---------------------------------------------------------------------------------------

    def stall(self, until_s: float) -> None:
        """Read nothing."""
        self._stalled_until_s = until_s

    def freeze(self) -> None:
        """Write nothing, either, as long as nothing is read."""
        self._frozen_until_s = self._stalled_until_s

    @property
    def frozen(self) -> bool:
        """Whether nothing is read and written."""
        return self._clock.monotonic() < self._frozen_until_s

    @property
    def frozen_for_s(self) -> float | None:
        """How long to wait until the next look whether it still is; None for ever."""
        return None if self._frozen_until_s == math.inf else LOOK_S

    def finish(self) -> None:
        """Tell the peer that nothing more comes, in the middle of everything."""
        self._mute = True
        self._stalled_until_s = -math.inf
        super().end_writing()

    def reset(self) -> None:
        """Let the end of the connection be a TCP reset, and let the receive thread end."""
        self._mute = self._hard = True
        self._stalled_until_s = -math.inf
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.cut()

    def cut(self) -> None:
        """End the connection at once. One that is to be reset sends no end before that."""
        if not self._hard:
            super().cut()
        else:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RD)  # says nothing to the peer
        self._ended.set()

    def end_writing(self) -> None:
        """Tell the peer that nothing more comes, unless it was told, or is to hear nothing any more."""
        if not self._mute:
            super().end_writing()

    def wind_up(self) -> None:
        """The session is over: what is under way is written, and one that stood still does so no more, or is cut."""
        self._winding_up = True
        if self.frozen:
            self.cut()
        self._stalled_until_s = -math.inf

    # --- writing ------------------------------------------------------------------------------------------------------

    def write(self, data: memoryview, deadline: Deadline = NO_DEADLINE) -> int | None:
        """How many bytes were taken, be it only on their way; None when there was no room in time."""
        if not self._begun:
            return super().write(data, deadline)
        may_wait = deadline is not NOW  # the receive thread may not, nor let anything strike
        if may_wait and self.sent >= self.limit:
            self.on_limit()
        if self._mute:
            return len(data)
        with self.lines:
            plain = not self._rest and not self.frozen and self.out.is_plain(self._clock.monotonic())
        if plain and self.sent < self.limit:
            taken = super().write(data[: self._within_limit(len(data))], deadline)
            self.sent += taken or 0
            return taken
        if may_wait and not self._has_room(_MOST, deadline):
            return None
        with self.lines:
            self.out.push(data, self._clock.monotonic())
        if not may_wait:
            self.on_bytes()
        elif self._winding_up:
            self._has_room(0, deadline)
        else:
            self.pump()
        return len(data)

    def _within_limit(self, size: int) -> int:
        return size if self.limit == math.inf else min(size, max(0, int(self.limit) - self.sent))

    def _has_room(self, most: int, deadline: Deadline) -> bool:
        """Write until no more than so much is under way; False at the deadline."""
        while self.out.size + len(self._rest) > most and not self._mute and not self.frozen:
            self.pump(deadline)
            if self.out.size + len(self._rest) <= most:
                break
            if deadline.expired:
                return False
            if self._ended.wait(min(LOOK_S, deadline.at_most_s(max(0.0, self.next_s - self._clock.monotonic())))):
                raise ConnectionAbortedError
        return True

    def pump(self, deadline: Deadline = NOW) -> None:
        """Write what has its time. Errors: OSError."""
        while not self._mute and not self.frozen:
            if self.sent >= self.limit:
                self.on_limit()
            if not self._rest:
                with self.lines:
                    now_s = self._clock.monotonic()
                    self._rest = memoryview(self.out.pop(now_s, self._within_limit(_PIECE)))
                if not self._rest:
                    return
            taken = super().write(self._rest, deadline)
            if taken is None:
                return
            self.sent += taken
            with self.lines:
                self._rest = self._rest[taken:]

    @property
    def next_s(self) -> float:
        """When there is something to write; infinite if nothing is under way."""
        if self._mute or self.frozen:
            return math.inf
        with self.lines:
            return self._clock.monotonic() + _FULL_S if self._rest else self.out.next_s

    # --- reading ------------------------------------------------------------------------------------------------------

    def read(self, size: int, deadline: Deadline = NO_DEADLINE) -> bytes | None:
        """At most `size` bytes, at least one; b'' once the peer has ended it; None when nothing came in time."""
        if not self._begun:
            return super().read(size, deadline)
        while True:
            data = self._stand_still(deadline) if self._is_stalled() else self._read_on(size, deadline)
            if data is not None or deadline.expired:
                return data

    def _is_stalled(self) -> bool:
        return self._clock.monotonic() < self._stalled_until_s

    def _stand_still(self, deadline: Deadline) -> bytes | None:
        """Wait a while without reading; b'' when the peer is gone."""
        gone = self._poll(_PEER_GONE, deadline.at_most_s(LOOK_S))
        return b"" if gone and self._is_stalled() else None

    def _read_on(self, size: int, deadline: Deadline) -> bytes | None:
        """Read once, or hand over what has arrived; None if nothing has for now."""
        now_s = self._clock.monotonic()
        with self.lines:
            plain, data = self.into.is_plain(now_s), self.into.pop(now_s, size)
            next_s, most = self.into.next_s, 1 if self.into.limited else _MOST
        if data:
            return data
        if self._at_end and next_s == math.inf:
            return b""
        wait_s = (
            deadline.remaining_s() if next_s == math.inf else deadline.at_most_s(min(LOOK_S, max(0.0, next_s - now_s)))
        )
        if self._at_end or self.into.size >= most:
            self._ended.wait(wait_s)
            return b"" if self._ended.is_set() else None
        if not self._poll(select.POLLIN, wait_s) or self._is_stalled():
            return None
        return self._receive(size, plain=plain)

    def _receive(self, size: int, *, plain: bool) -> bytes | None:
        """Read what is there. Errors: OSError."""
        try:
            data = self._sock.recv(size, self._flags)
        except BlockingIOError:
            return None
        self.received += len(data)
        self.on_bytes()
        if not data:
            self._at_end = True
            return None
        with self.lines:
            now_s = self._clock.monotonic()
            if plain and self.into.is_plain(now_s):
                return data
            self.into.push(data, now_s)
        return None

    def _poll(self, events: int, wait_s: float | None) -> bool:
        """Wait for events of the socket, or for its end."""
        poll = select.poll()
        poll.register(self._sock, events)
        return bool(poll.poll(None if wait_s is None else wait_s * 1000))
