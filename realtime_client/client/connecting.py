"""A connection attempt: TCP or a proxy, TLS, the WebSocket handshake.

This module, `wire`, `framing`, `proxy` and `diagnosis` are all of the client that knows the websockets library.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading

from websockets.client import ClientProtocol
from websockets.exceptions import WebSocketException
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import WebSocketURI, parse_uri

from realtime_client import errors
from realtime_client.deadline import Deadline
from realtime_client.session.limits import Limits
from realtime_client.version import __version__

from .diagnosis import explain
from .endpoint import Endpoint
from .framing import ClientFraming
from .proxy import connect_through, proxy_for
from .stream import Stream
from .wire import FrameHandler, Wire

USER_AGENT = f"realtime-client/{__version__}"
_SILENT = logging.getLogger("realtime_client.websocket")
_SILENT.setLevel(logging.CRITICAL + 1)  # the library would describe every frame, and fail on invalid text


class Attempt:
    """A connection attempt that another thread may end.

    `run` does the whole of it in the calling thread; `abort` from elsewhere makes it fail soon: at once in TCP, TLS and
    handshake, after the resolver's time, or a SOCKS proxy's, where those are slow.
    """

    def __init__(self, endpoint: Endpoint, limits: Limits, handler: FrameHandler) -> None:
        self._endpoint = endpoint
        self._limits = limits
        self._handler = handler
        self._lock = threading.Lock()
        self._aborted = False
        self._stream: Stream | None = None

    def abort(self) -> None:
        """Make the attempt fail, and cut what it has opened."""
        with self._lock:
            self._aborted = True
            stream = self._stream
        if stream is not None:
            stream.cut()

    def run(self) -> Wire:
        """Connect; the caller starts it. Errors: UsageError for an invalid URL; ConnectError and its kinds else."""
        endpoint, limits = self._endpoint, self._limits
        _check_headers(endpoint)
        deadline = Deadline(limits.open_timeout_s or None)
        proxy = None
        try:
            uri = parse_uri(endpoint.url)
            context = _tls_context(endpoint) if uri.secure else None
            proxy = proxy_for(uri) if endpoint.proxy is True else endpoint.proxy or None
            stream = self._reach(uri, proxy, deadline)
            if context is not None:
                stream.begin_tls(context, uri.host, deadline)
            framing = self._shake_hands(stream, uri, deadline)
        except (WebSocketException, OSError, EOFError, ValueError, ImportError) as error:
            if self._stream is not None:
                self._stream.close()
            raise explain(error, endpoint, limits, proxy) from error
        assert isinstance(framing.opening, Response)
        return Wire(
            stream,
            framing,
            self._handler,
            close_timeout_s=limits.close_timeout_s * 0.5,
            server_date=framing.opening.headers.get("Date", ""),
        )

    def _reach(self, uri: WebSocketURI, proxy: str | None, deadline: Deadline) -> Stream:
        """A stream to the server, itself or through the proxy."""
        if not proxy:
            return self._connect(uri.host, uri.port, deadline)
        stream = connect_through(proxy, uri, deadline, self._connect, USER_AGENT)
        self._hold(stream)
        return stream

    def _connect(self, host: str, port: int, deadline: Deadline) -> Stream:
        """Open a TCP connection through a socket that `abort` can reach."""
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        error: OSError = OSError(f"no address for {host}")
        for tried, (family, kind, proto, _, address) in enumerate(addresses):
            stream = Stream(socket.socket(family, kind, proto))
            self._hold(stream)
            left = deadline.remaining_s()
            try:
                # One address that never answers must not use up the time of the others.
                stream.connect(address, None if left is None else max(0.01, left / (len(addresses) - tried)))
            except OSError as failed:
                error = failed
                stream.close()
            else:
                return stream
        raise error

    def _hold(self, stream: Stream) -> None:
        """Let `abort` reach this stream. Errors: ConnectionAbortedError when it came first."""
        with self._lock:
            self._stream = stream
            if self._aborted:
                raise ConnectionAbortedError("closed while connecting")

    def _shake_hands(self, stream: Stream, uri: WebSocketURI, deadline: Deadline) -> ClientFraming:
        """Ask for a WebSocket connection. Errors: InvalidHandshake; OSError."""
        protocol = ClientProtocol(uri, max_size=self._limits.max_frame_bytes, logger=_SILENT)
        framing = ClientFraming(protocol, self._limits.max_frame_bytes)
        request = protocol.connect()
        request.headers.update(self._endpoint.headers)
        if "User-Agent" not in request.headers:
            request.headers["User-Agent"] = USER_AGENT
        protocol.send_request(request)
        try:
            stream.write_all(b"".join(protocol.data_to_send()), deadline)
            while protocol.state is State.CONNECTING and protocol.handshake_exc is None:
                data = stream.read(65536, deadline)
                if data is None:
                    raise TimeoutError
                if data:
                    framing.feed(data)
                else:
                    framing.feed_end()
        except TimeoutError:
            raise
        except OSError as error:
            raise EOFError("the connection dropped in the handshake") from error
        if protocol.handshake_exc is not None:
            raise protocol.handshake_exc
        return framing


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
