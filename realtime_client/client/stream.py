"""A TCP connection as a stream of bytes, with TLS or without: every wait has a deadline, and any thread can end it.

A TLS socket never blocks here, and only one thread at a time is inside it: OpenSSL's objects are not made for two, and
what one thread wrote while another read the server's session tickets got lost.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from realtime_client.deadline import NO_DEADLINE, Deadline

from . import tcp_info
from .arrival import STAMPS, Stamps, stamping

NOW = Deadline(0)
_AT_ONCE = getattr(socket, "MSG_DONTWAIT", 0)
_UNDERWAY = {errno.EINPROGRESS, errno.EWOULDBLOCK, getattr(errno, "WSAEWOULDBLOCK", errno.EWOULDBLOCK)}
_READ, _WRITE = 1, 4  # POLLIN and POLLOUT, where there is poll()

T = TypeVar("T")


class Stream:
    """One thread may read while another writes. All methods raise OSError; a TLS fault is one.

    receive: `read` without a deadline, on the shortest way.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._gone = False
        self._stamps: Stamps | None = None
        self._take(sock)

    def _take(self, sock: socket.socket) -> None:
        self._sock = sock
        self._tls = isinstance(sock, ssl.SSLSocket)
        self._lock: contextlib.AbstractContextManager[Any] = threading.Lock() if self._tls else contextlib.nullcontext()
        self._flags = 0 if self._tls else _AT_ONCE
        self._blocks = bool(self._flags)
        sock.setblocking(self._blocks)
        self.receive: Callable[[int], bytes | None] = sock.recv if self._blocks else self.read

    def connect(self, address: Any, timeout_s: float | None) -> None:
        """Connect to an address as `getaddrinfo` names it. Errors: also TimeoutError."""
        sock = self._sock
        sock.setblocking(False)
        fault = sock.connect_ex(address)
        if fault in _UNDERWAY:
            if not self._wait(_WRITE, Deadline(timeout_s)):
                raise TimeoutError
            fault = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if fault:
            raise OSError(fault, os.strerror(fault))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if stamping.is_set() and (stamps := Stamps.of(sock)) is not None:
            self._stamps, self.receive = stamps, self.read
        sock.setblocking(self._blocks)

    def begin_tls(self, context: ssl.SSLContext, host: str, deadline: Deadline) -> None:
        """Go on in TLS. Errors: also TimeoutError."""
        sock = context.wrap_socket(self._sock, server_hostname=host, do_handshake_on_connect=False)
        self._take(sock)
        if self._gone:
            self.cut()

        def shake_hands() -> bool:
            sock.do_handshake()
            return True

        if not self._when_ready(shake_hands, _READ, deadline):
            raise TimeoutError

    def read(self, size: int, deadline: Deadline = NO_DEADLINE) -> bytes | None:
        """At most `size` bytes, at least one; b'' once the peer has ended it; None when nothing came in time."""
        stamps = self._stamps
        if stamps is None:
            return self._when_ready(lambda: self._sock.recv(size, self._flags), _READ, deadline)
        stamps.asks()
        if deadline is NO_DEADLINE and self._blocks:
            data: bytes | None = self._receive_stamped(stamps, size, 0)
        else:
            data = self._when_ready(lambda: self._receive_stamped(stamps, size, self._flags), _READ, deadline)
        if data:
            stamps.has_read()
        return data

    def _receive_stamped(self, stamps: Stamps, size: int, flags: int) -> bytes:
        """Receive what is there, with its stamp; TLS shows none, so that what it will read is looked at before."""
        if not self._tls:
            data, ancillary, _, _ = self._sock.recvmsg(size, STAMPS, flags)
            stamps.stamped(ancillary)
            return data
        with contextlib.suppress(OSError):  # nothing new is there, and reading finds out why
            stamps.stamped(socket.socket.recvmsg(self._sock, 1, STAMPS, socket.MSG_PEEK | _AT_ONCE)[1])
        return self._sock.recv(size)

    def write(self, data: memoryview, deadline: Deadline = NO_DEADLINE) -> int | None:
        """How many bytes were taken; None when there was no room in time. The same bytes must then be next."""
        return self._when_ready(lambda: self._sock.send(data, self._flags), _WRITE, deadline)

    def write_all(self, data: bytes, deadline: Deadline) -> None:
        """Write all of it. Errors: also TimeoutError."""
        rest = memoryview(data)
        while rest:
            taken = self.write(rest, deadline)
            if taken is None:
                raise TimeoutError
            rest = rest[taken:]

    def _when_ready(self, call: Callable[[], T], event: int, deadline: Deadline) -> T | None:
        """Call, again and again, until it need not wait; None at the deadline. TLS may read in order to write."""
        while True:
            try:
                with self._lock:
                    return call()
            except BlockingIOError:
                wanted = event
            except ssl.SSLWantReadError:
                wanted = _READ
            except ssl.SSLWantWriteError:
                wanted = _WRITE
            if deadline is NOW or not self._wait(wanted, deadline):
                return None

    def _wait(self, event: int, deadline: Deadline) -> bool:
        """Wait until the socket can be read, or written to, be it only to fail. Errors: OSError."""
        if self._gone:  # it may have been cut before there was a connection
            raise ConnectionAbortedError(errno.ECONNABORTED, os.strerror(errno.ECONNABORTED))
        left = deadline.remaining_s()
        try:
            if hasattr(select, "poll"):
                poll = select.poll()
                poll.register(self._sock, event)
                return bool(poll.poll(None if left is None else left * 1000))
            reading, writing = ([self._sock], []) if event == _READ else ([], [self._sock])
            return any(select.select(reading, writing, [], left))
        except ValueError:
            return True  # closed

    def tcp_info(self) -> tcp_info.TcpInfo | None:
        """What the system knows of the connection, at once and without a lock; None where it does not tell."""
        return tcp_info.read(self._sock)

    def end_writing(self) -> None:
        """Tell the peer that nothing more comes."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._sock, socket.SHUT_WR)

    def cut(self) -> None:
        """End the connection at once, whoever waits on it. Takes no lock and leaves the TLS object alone."""
        self._gone = True
        with contextlib.suppress(OSError):  # it is over already
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the socket back; for when no other thread uses it any more."""
        with self._lock:
            self._sock.close()
