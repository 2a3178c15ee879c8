"""The threaded shell under the wires: one request, its answer as it comes, and a cancel that the server sees at once.

Closing a response from another thread does not wake a reader that is blocked in it; shutting its socket down does
(httpx2 2.16, measured). So each stream has a connection of its own, whose socket is known.
"""

from __future__ import annotations

import contextlib
import http.cookiejar
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx2

from realtime_client.deadline import Clock
from realtime_client.errors import RealtimeError
from realtime_client.escape import one_line

from .limits import ChatLimits
from .place import Place
from .wires.ask import HttpRequest
from .wires.faults import CUT, MOVED, SLOW, UNTRUSTED, Fault, malformed, network
from .wires.pieces import Piece
from .wires.reader import Reader

CONNECT_S = 5.0
WRITE_S = 10.0
_FIRST_BYTE, _SILENCE, _WHOLE = "--first-byte-timeout", "--silence-timeout", "--stream-timeout"
_KEEP_ALIVE_S = 90.0
_MOST_IDLE = 4
_ENDS_WITHIN_S = 0.5
_RESET = struct.pack("ii", 1, 0)
_GONE = ("peer closed connection", "Server disconnected")  # what httpcore says of an answer that was cut
_ERRNO = re.compile(r"^\[Errno -?\d+\] ")
Take = Callable[[list[Piece]], object]


class Lane:
    """One connection to one server, used by one stream after the other."""

    def __init__(self, place: Place, context: ssl.SSLContext | None) -> None:
        limits = httpx2.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=_KEEP_ALIVE_S)
        given = place.proxy if isinstance(place.proxy, str) else None
        self.client = httpx2.Client(
            verify=context or False,
            limits=limits,
            proxy=given,
            trust_env=place.proxy is True,
            timeout=httpx2.Timeout(None, connect=CONNECT_S, write=WRITE_S, pool=CONNECT_S),
        )
        # A server that sets cookies could make us send more of them than it takes.
        self.client.cookies.jar.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=()))
        self.connections = 0
        self._sockets: list[socket.socket] = []

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """Remember the socket; httpcore calls it."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete", "connect_unix_socket.complete")):
            self.connections += event.endswith("connect_tcp.complete")
            found = info["return_value"].get_extra_info("socket")
            if isinstance(found, socket.socket):
                self._sockets = [found]

    def shut(self) -> None:
        """Shut the connection; whoever reads from it ends at once, and the server sees it.

        A server that is ahead of us waits in a write until there is room, and is not told of the end by a FIN: without
        the reset, which closing sends then, it would wait for a minute.
        """
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                socket.socket.shutdown(each, socket.SHUT_RDWR)  # SSLSocket's own takes the TLS state from the reader

    def close(self) -> None:
        """Let go of the connection; nobody reads from it."""
        self.client.close()


class Lanes:
    """The connections of one session. Thread-safe.

    An answer is known before its HTTP body has ended; the connection is free a moment later. Who wants one then waits
    for that moment, which is shorter than making another one.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._idle: dict[str, list[Lane]] = {}
        self._ending: dict[str, int] = {}
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._closed = False

    def take(self, place: Place) -> Lane:
        """Return a connection that is free, or a new one, which is opened when it is used. Errors: OSError."""
        where = place.base_url
        with self._changed:
            self._changed.wait_for(lambda: self._idle.get(where) or not self._ending.get(where), _ENDS_WITHIN_S)
            if idle := self._idle.get(where):
                return idle.pop()
        return Lane(place, self._context(place))

    def warm(self, place: Place) -> None:
        """Have a connection ready to be opened: what is loaded and made for it takes longer than a request."""
        with contextlib.suppress(OSError):  # told when it is used
            self.give_back(place, Lane(place, self._context(place)), ended=False, good=True)

    def ending(self, place: Place) -> None:
        """The answer on one of the connections is over: it will be given back soon."""
        with self._changed:
            self._ending[place.base_url] = self._ending.get(place.base_url, 0) + 1

    def give_back(self, place: Place, lane: Lane, *, ended: bool, good: bool) -> None:
        """Keep a connection for the next stream. ended: `ending` was told of it. good: it was not shut."""
        where = place.base_url
        with self._changed:
            self._ending[where] = self._ending.get(where, 0) - ended
            idle = self._idle.setdefault(where, [])
            kept = good and not self._closed and len(idle) < _MOST_IDLE
            if kept:
                idle.append(lane)
            self._changed.notify_all()
        if not kept:
            lane.close()

    def close(self) -> None:
        """Let go of all idle connections; others as they come back."""
        with self._changed:
            self._closed = True
            lanes = [lane for idle in self._idle.values() for lane in idle]
            self._idle = {}
        for lane in lanes:
            lane.close()

    def _context(self, place: Place) -> ssl.SSLContext | None:
        if urlsplit(place.base_url).scheme != "https":
            return None  # making a context takes longer than a request on loopback
        trust = place.trust or ""
        with self._changed:
            context = self._contexts.get(trust)
        if context is None:
            context = ssl.create_default_context(cafile=place.trust)
            with self._changed:
                self._contexts[trust] = context
        return context


class Exchange:
    """One request and the reading of its answer.

    `run` blocks until the answer is over; `abort` ends it from any thread. begun_s, heard_s: when bytes came first and
    last, the head included; None before. bytes_in: of the body, so far. asked_about: somebody has asked why nothing
    comes.
    """

    def __init__(
        self, place: Place, request: HttpRequest, reader: Reader, take: Take, *, lanes: Lanes, clock: Clock
    ) -> None:
        self.place = place
        self.reader = reader
        self.started_s = clock.monotonic()
        self.begun_s: float | None = None
        self.heard_s: float | None = None
        self.bytes_in = 0
        self.asked_about = False
        self._request = request
        self._take = take
        self._lanes = lanes
        self._clock = clock
        self._lock = threading.Lock()
        self._lane: Lane | None = None
        self._ended = False
        self._aborted = False
        self._why: Fault | None = None

    def abort(self, why: Fault | None = None) -> None:
        """End it now. why: what its last piece says; None for no last piece, or for an answer that is all there."""
        with self._lock:
            if self._aborted:
                return
            self._aborted, self._why = True, why
            lane = self._lane
        if lane is not None:
            lane.shut()

    def end_if_overdue(self, limits: ChatLimits, now_s: float) -> None:
        """End it when it takes too long. One that is over but for its figures ends when they do not come."""
        begun_s, heard_s, host = self.begun_s, self.heard_s, self.place.host
        if begun_s is None or heard_s is None:
            if now_s - self.started_s > limits.first_byte_s:
                self.abort(network(f"{host} said nothing within {limits.first_byte_s:g} s ({_FIRST_BYTE})"))
        elif self.reader.finished:
            if now_s - heard_s > limits.grace_s or now_s - begun_s > limits.stream_timeout_s:
                self.abort()
        elif now_s - heard_s > limits.silence_s:
            self.abort(network(f"{host} was silent for {limits.silence_s:g} s ({_SILENCE})"))
        elif now_s - begun_s > limits.stream_timeout_s:
            self.abort(_too_long(f"the answer took longer than {limits.stream_timeout_s:g} s ({_WHOLE})"))

    def run(self) -> None:
        """Ask, and give the pieces as they come. Whatever happens is a piece, not an exception."""
        reader = self.reader
        fault = self._read()
        with self._lock:
            aborted, why = self._aborted, self._why
        now = self._clock.monotonic()
        if aborted and not reader.over:
            if why is None and not reader.finished:
                return
            fault = None if reader.finished else why
        last = reader.fail(fault, now) if fault is not None and not reader.finished else reader.end(now)
        if last:
            self._take(last)

    def _read(self) -> Fault | None:
        """Read the answer to its end; returns what went wrong on the way."""
        place, request = self.place, self._request
        try:
            lane = self._lanes.take(place)
        except OSError as error:
            return _fatal(f"{place.trust}: these certificates cannot be used ({error})")
        with self._lock:
            if self._aborted:
                self._lanes.give_back(place, lane, ended=False, good=True)
                return None
            self._lane = lane
        try:
            return self._exchange(lane, request)
        except httpx2.HTTPError as error:
            return fault_of(error, place)
        finally:
            with self._lock:
                self._lane = None
            self._lanes.give_back(place, lane, ended=self._ended, good=not self._aborted)

    def _exchange(self, lane: Lane, request: HttpRequest) -> Fault | None:
        place, reader = self.place, self.reader
        try:
            made = self._made(lane, request)
        except (RealtimeError, httpx2.InvalidURL, ValueError) as error:
            return _fatal(f"the request cannot be sent: {error}")
        with contextlib.closing(lane.client.send(made, stream=True)) as response:
            self.begun_s = self.heard_s = self._clock.monotonic()
            if 300 <= response.status_code < 400:
                where = one_line(response.headers.get("location", "somewhere else"), 100)
                return _fatal(f"{place.host} says that this has moved to {where}: change the base URL", code=MOVED)
            reader.head(response.status_code, {name.lower(): value for name, value in response.headers.items()})
            for data in response.iter_bytes():
                self.heard_s = now = self._clock.monotonic()
                self.bytes_in += len(data)
                pieces = reader.feed(data, now)
                if reader.over and not self._ended:
                    self._ended = True
                    self._lanes.ending(place)
                if pieces:
                    self._take(pieces)
        return None

    def _made(self, lane: Lane, request: HttpRequest) -> httpx2.Request:
        place = self.place
        url = place.url(request)
        headers = {**request.headers, **place.headers}
        if place.sign is not None:
            headers |= place.sign(request.method, url, headers, request.body)
        traced = {"trace": self._traced(lane)}
        return lane.client.build_request(request.method, url, content=request.body, headers=headers, extensions=traced)

    def _traced(self, lane: Lane) -> Callable[[str, dict[str, Any]], None]:
        def trace(event: str, info: dict[str, Any]) -> None:
            lane.trace(event, info)
            if self._aborted:  # it was wanted while the connection was being made
                lane.shut()

        return trace


def fault_of(error: httpx2.HTTPError, place: Place) -> Fault:
    """Say what a failed exchange means."""
    says = _ERRNO.sub("", one_line(str(error), 200)) or type(error).__name__
    if isinstance(error, httpx2.ConnectTimeout):
        return network(f"{place.host} does not answer within {CONNECT_S:g} s")
    if isinstance(error, httpx2.ProxyError):
        return network(f"the proxy refuses: {says}")
    if isinstance(error, httpx2.ConnectError):
        if "CERTIFICATE" in says.upper():
            return _fatal(f"{place.host}: its certificate is not trusted ({says})", code=UNTRUSTED)
        if "SSL" in says.upper():
            return _fatal(f"{place.host}: TLS failed: {says} (is it a plain http:// server?)", code=UNTRUSTED)
        nobody = "connection refused" in says.lower()
        return network(f"cannot reach {place.host}: {'nothing listens there' if nobody else says}")
    if isinstance(error, httpx2.DecodingError):
        return malformed(f"the answer cannot be read: {says}")
    if isinstance(error, httpx2.LocalProtocolError):  # its words hold the header, which may be a key
        return _fatal("the request cannot be sent: a header, perhaps the key, holds what no header can")
    if isinstance(error, httpx2.UnsupportedProtocol):
        return _fatal(f"the request cannot be sent: {says}")
    if isinstance(error, httpx2.TimeoutException):
        return network(f"{place.host} takes nothing more: {says}")
    if isinstance(error, httpx2.RemoteProtocolError):
        if not says.startswith(_GONE):
            return malformed(f"{place.host} does not keep to HTTP: {says}")
        says = "the server ended the connection"
    return network(f"the answer was cut: {says}", code=CUT)


def _fatal(message: str, *, code: str = "") -> Fault:
    return Fault(category="network", action="fatal", message=one_line(message, 300), code=code, trips=False)


def _too_long(message: str) -> Fault:
    return Fault(category="network", action="fallback", message=message, code=SLOW)
