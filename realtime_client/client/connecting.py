"""One WebSocket connection: opening it, writing to it, ending it.

This module, `wire` and `diagnosis` are all of the client that knows the websockets library.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from typing import Any

from websockets.exceptions import (
    WebSocketException,
)
from websockets.sync.client import connect
from websockets.uri import parse_uri

from realtime_client import errors
from realtime_client.deadline import Deadline
from realtime_client.session.limits import Limits
from realtime_client.version import __version__

from .diagnosis import RedirectedError, explain, lost
from .endpoint import Endpoint
from .outbox import Ping
from .wire import FrameHandler, Wire

try:
    _proxies: Any = importlib.import_module("websockets.proxy")
except ImportError:  # before websockets 16 it lived with the URLs
    _proxies = importlib.import_module("websockets.uri")


USER_AGENT = f"realtime-client/{__version__}"
_SILENT = logging.getLogger("realtime_client.websocket")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False


class OpenWire:
    """An open WebSocket connection.

    `send`, `ping` and `close` belong to the send thread; `abort` may be called from anywhere.
    """

    def __init__(self, wire: Wire, on_release: Callable[[], None]) -> None:
        self._wire = wire
        self._on_release = on_release

    @property
    def receive_thread(self) -> threading.Thread:
        """The thread that reads and hands frames over."""
        return self._wire.recv_events_thread

    @property
    def receive_error(self) -> BaseException | None:
        """The exception that a FrameHandler raised, if one did."""
        return self._wire.failure

    @property
    def server_date(self) -> str:
        """The Date header of the handshake's answer (RFC 9110, 6.6.1); '' if there was none."""
        response = self._wire.response
        return "" if response is None else response.headers.get("Date", "")

    def send(self, messages: Sequence[bytes | Ping]) -> None:
        """Send text messages and pings, in order and in one write; blocks while the peer does not read.

        Pongs come to `on_pong`. Errors: ConnectionLostError.
        """
        wire = self._wire
        try:
            with wire.send_context():
                for message in messages:
                    if type(message) is Ping:
                        wire.protocol.send_ping(message.payload)
                    else:
                        wire.protocol.send_text(message)  # type: ignore[arg-type]
            wire.write_out()
        except (WebSocketException, OSError) as error:
            raise lost(error) from error

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Send the close frame and wait for the peer's, at most the time limit given at opening."""
        self._wire.finish(code, reason)

    def abort(self) -> None:
        """End the connection at once, without waiting for anybody."""
        self._wire.cut()

    def release(self) -> None:
        """Give the last handle back; a receive thread that has not ended does it when it ends."""
        self._wire.left_alone = True
        if not self._wire.recv_events_thread.is_alive():
            self._wire.release()
            self._on_release()


class Attempt:
    """A connection attempt that another thread may end.

    `run` does the whole of it in the calling thread; `abort` from elsewhere makes it fail soon: at once in TCP, TLS and
    handshake, after the resolver's or the proxy's own time where those are slow.
    """

    def __init__(self, endpoint: Endpoint, limits: Limits, handler: FrameHandler) -> None:
        self._endpoint = endpoint
        self._limits = limits
        self._handler = handler
        self._lock = threading.Lock()
        self._aborted = False
        self.connecting = threading.Event()
        self._socket: socket.socket | None = None
        self._wire: Wire | None = None

    def abort(self) -> None:
        """Make the attempt fail."""
        with self._lock:
            self._aborted = True
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
            if self._wire is not None:
                self._wire.cut()

    def _adopt(self, wire: Wire) -> None:
        with self._lock:
            self._wire = wire
            if self._aborted:
                wire.cut()

    def run(self) -> OpenWire:
        """Connect. Errors: UsageError for a URL that is none; ConnectError and its kinds for all else."""
        endpoint, limits = self._endpoint, self._limits
        _check_headers(endpoint)
        deadline = Deadline(limits.open_timeout_s or None)
        proxy = None
        try:
            uri = parse_uri(endpoint.url)
            context = _tls_context(endpoint) if uri.secure else None
            proxy = _proxies.get_proxy(uri) if endpoint.proxy is True else endpoint.proxy or None
            sock = None if proxy else self._tcp(uri.host, uri.port, deadline)
            wire = connect(
                endpoint.url,
                sock=sock,
                ssl=context,
                proxy=proxy,
                compression=None,
                additional_headers=endpoint.headers,
                user_agent_header=USER_AGENT,
                open_timeout=deadline.remaining_s(),
                ping_interval=None,
                close_timeout=limits.close_timeout_s * 0.5,
                max_size=limits.max_frame_bytes,
                logger=_SILENT,
                create_connection=self._make_wire,  # type: ignore[arg-type]  # any callable of that shape
            )
        except (WebSocketException, OSError, EOFError, ValueError, ImportError, RedirectedError) as error:
            self._release()
            raise explain(error, endpoint, limits, proxy) from error
        wire.__enter__()
        assert isinstance(wire, Wire)
        return OpenWire(wire, self._release)

    def _make_wire(self, *args: Any, **kwargs: Any) -> Wire:
        if self._wire is not None:
            # Some versions of the library follow a redirect; the key belongs to the host it was given for.
            raise RedirectedError
        return Wire(*args, handler=self._handler, adopt=self._adopt, **kwargs)

    def _release(self) -> None:
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None
            if self._wire is not None:
                self._wire.release()

    def _tcp(self, host: str, port: int, deadline: Deadline) -> socket.socket:
        """Open the TCP connection through a socket that `abort` can reach."""
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        error: OSError = OSError(f"no address for {host}")
        for tried, (family, kind, proto, _, address) in enumerate(addresses):
            sock = socket.socket(family, kind, proto)
            self._hold(sock)
            self.connecting.set()
            try:
                left = deadline.remaining_s()
                # One address that swallows everything must not take the time of the others.
                sock.settimeout(None if left is None else max(0.01, left / (len(addresses) - tried)))
                sock.connect(address)
                sock.settimeout(None)
            except OSError as failed:
                error = failed
                sock.close()
            else:
                self._hold(None)  # the library owns it now, and `_adopt` gets a second handle
                return sock
        raise error

    def _hold(self, sock: socket.socket | None) -> None:
        """Let `abort` reach this socket, or none. Errors: ConnectionAbortedError when it came first."""
        with self._lock:
            held, self._socket = self._socket, sock
            if self._aborted:
                for each in (held, sock):
                    if each is not None:
                        each.close()
                raise ConnectionAbortedError("closed while connecting")


def _check_headers(endpoint: Endpoint) -> None:
    """Refuse what would break out of its header line (RFC 9110, section 5.5). Errors: UsageError."""
    for name, value in endpoint.headers.items():
        if not all(text.isascii() and text.isprintable() for text in (name, value)):
            raise errors.UsageError(
                f"the value of the header {name!a} cannot be sent: it holds a line break or a character that is"
                " not ASCII"
            )


def _tls_context(endpoint: Endpoint) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=endpoint.trust)
    except OSError as error:
        raise errors.UsageError(
            f"the file of trusted certificates cannot be used: {endpoint.trust}: {error}"
        ) from error
