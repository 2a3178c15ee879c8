"""One WebSocket connection: the only module of the client that knows the websockets library.

Messages are handed over in the library's own reading thread, which is our receive thread: one thread and one hand-off
less a session than `recv()` in a thread of our own. What one read delivered is handed over at once. The library's
message queue, keep-alive and compression are not used.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any, Protocol

from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
    ProxyError,
    WebSocketException,
)
from websockets.frames import Frame, Opcode
from websockets.sync.client import ClientConnection, connect
from websockets.uri import parse_uri

from realtime_client import errors
from realtime_client.deadline import Deadline
from realtime_client.version import __version__

from .endpoint import Endpoint
from .frames import FrameSplitter, OtherFrame
from .limits import Limits

try:
    _proxies: Any = importlib.import_module("websockets.proxy")
except ImportError:  # before websockets 16 it lived with the URLs
    _proxies = importlib.import_module("websockets.uri")

_DATA = {Opcode.TEXT, Opcode.BINARY, Opcode.CONT}
_LONGEST_HEAD = 2**18
USER_AGENT = f"realtime-client/{__version__}"
_SILENT = logging.getLogger("realtime_client.websocket")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False


class FrameHandler(Protocol):
    """Who gets what arrives. All are called from the receive thread."""

    def on_frames(self, frames: list[bytes]) -> None:
        """Whole messages, in order, that arrived together; may block, which stops reading."""
        ...

    def on_pong(self, payload: bytes) -> None:
        """The answer to `Connection.ping`."""
        ...

    def on_end(self, code: int, reason: str) -> None:
        """The connection is over; called exactly once, last. code 1006: it dropped without a close frame."""
        ...


class _Messages:
    """An event of ours among the library's: text messages that arrived together."""

    __slots__ = ("frames",)

    def __init__(self, first: bytes) -> None:
        self.frames = [first]


class _Wire(ClientConnection):
    """The library's connection with its reading end replaced by a FrameHandler.

    The library feeds what it read to `protocol.receive_data` and takes events from `protocol.events_received`: both are
    replaced on the protocol object, so that plain text messages pass by the library's parser.
    """

    def __init__(self, *args: Any, handler: FrameHandler, adopt: Callable[[_Wire], None], **kwargs: Any) -> None:
        self._handler = handler
        self._parts: list[bytes] = []
        self._events: list[Any] = []
        self.failure: BaseException | None = None
        sock, protocol = args[:2]
        self.raw_fd = _duplicate(sock)
        self._splitter: FrameSplitter | None = None
        self._response_head = b""
        self._max_bytes = protocol.max_message_size if hasattr(protocol, "max_message_size") else protocol.max_size
        self._parse, self._parsed, self._to_send = (
            protocol.receive_data,
            protocol.events_received,
            protocol.data_to_send,
        )
        protocol.receive_data = self._receive_data
        protocol.events_received = self._take_events
        protocol.data_to_send = self._data_to_send
        super().__init__(*args, **kwargs)
        adopt(self)

    def _receive_data(self, data: bytes) -> None:
        """Sort what was read into messages for us and frames for the library."""
        splitter = self._splitter
        if splitter is None:
            self._receive_response(data)
            return
        events = self._events
        for piece in splitter.feed(data):
            if type(piece) is OtherFrame:
                self._parse(bytes(piece))
                events += self._parsed()
            elif events and type(events[-1]) is _Messages:
                events[-1].frames.append(piece)
            else:
                events.append(_Messages(piece))

    def _receive_response(self, data: bytes) -> None:
        """Give the library its HTTP response; what follows a 101 is frames."""
        self._response_head += data
        head, found, rest = self._response_head.partition(b"\r\n\r\n")
        if not found or head[9:12] != b"101":
            self._parse(data)
            if len(self._response_head) > _LONGEST_HEAD:
                self._response_head = b""
            return
        self._parse(data[: len(data) - len(rest)])
        self._splitter = FrameSplitter(self._max_bytes)
        self._response_head = b""
        if rest:
            self._events += self._parsed()
            self._receive_data(rest)

    def _take_events(self) -> list[Any]:
        """What arrived, in order (the library calls it after each read)."""
        events, self._events = self._events, []
        events += self._parsed()
        return events

    def _data_to_send(self) -> list[bytes]:
        """What to write, in as few writes as possible; an empty string asks for the end of writing."""
        writes: list[bytes] = self._to_send()
        if len(writes) > 1 and b"" not in writes:
            return [b"".join(writes)]
        return writes

    def process_event(self, event: Any) -> None:
        """Hand over what arrived (an override: the library calls it for each event)."""
        if self.response is None:
            super().process_event(event)
            return
        if self.failure is not None:
            return
        try:
            if type(event) is _Messages:
                self._handler.on_frames(event.frames)
            elif event.opcode is Opcode.PONG:
                self._handler.on_pong(bytes(event.data))
            elif event.opcode in _DATA:
                self._assemble(event)
        except BaseException as error:  # noqa: BLE001 - the library would log it and go on
            self.failure = error
            self.cut()

    def _assemble(self, event: Frame) -> None:
        """Put a fragmented (or binary) message together; the library has checked its size and order."""
        self._parts.append(bytes(event.data))
        if event.fin:
            whole, self._parts = b"".join(self._parts), []
            self._handler.on_frames([whole])

    def recv_events(self) -> None:
        """Read until the connection is over (an override: this is the receive thread's whole life)."""
        threading.current_thread().name = "realtime-receive"
        try:
            super().recv_events()
        finally:
            if self.response is not None and self.protocol.handshake_exc is None:
                code, reason = self.close_code, self.close_reason
                self._handler.on_end(1006 if code is None else code, reason or "")

    def cut(self) -> None:
        """End the TCP connection at once. Takes no lock: a send that is stuck holds the library's."""
        if self.raw_fd is not None:
            with contextlib.suppress(OSError):  # it is over already
                self.raw_fd.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Close the duplicate of the socket."""
        if self.raw_fd is not None:
            self.raw_fd.close()


def _duplicate(sock: Any) -> socket.socket | None:
    """A second handle on the TCP connection, beside whatever TLS object wraps it."""
    try:
        return socket.socket(sock.family, sock.type, fileno=socket.dup(sock.fileno()))
    except (OSError, AttributeError):
        return None


class Connection:
    """An open WebSocket connection.

    `send`, `ping` and `close` belong to the send thread; `abort` may be called from anywhere.
    """

    def __init__(self, wire: _Wire, on_release: Callable[[], None]) -> None:
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

    def send(self, frames: list[bytes]) -> None:
        """Send text messages, in one write; blocks while the peer does not read. Errors: ConnectionLostError."""
        try:
            with self._wire.send_context():
                for frame in frames:
                    self._wire.protocol.send_text(frame)
        except (WebSocketException, OSError) as error:
            raise _lost(error) from None

    def ping(self, payload: bytes) -> None:
        """Send a ping; the answer comes to `on_pong`. Errors: ConnectionLostError."""
        try:
            with self._wire.send_context():
                self._wire.protocol.send_ping(payload)
        except (WebSocketException, OSError) as error:
            raise _lost(error) from None

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Send the close frame and wait for the peer's, at most the time limit given at opening."""
        with contextlib.suppress(WebSocketException, OSError):
            self._wire.close(code, reason)

    def abort(self) -> None:
        """End the connection at once, without waiting for anybody."""
        self._wire.cut()

    def release(self) -> None:
        """Give the last handle back, once the receive thread has ended."""
        self._wire.release()
        self._on_release()


def _lost(error: BaseException) -> errors.ConnectionLostError:
    if isinstance(error, ConnectionClosed):
        frame = error.rcvd or error.sent
        if frame is not None:
            return errors.ConnectionLostError(describe_close(frame.code, frame.reason), close_code=frame.code)
    return errors.ConnectionLostError(describe_close(1006, ""))


def describe_close(code: int, reason: str) -> str:
    """One line for people about how a connection ended."""
    meaning = {
        1000: "the server ended the session",
        1001: "the server goes away",
        1006: "the connection dropped",
        1008: "the server refused a message",
        1009: "a message was too long",
        1011: "the server failed",
        1012: "the server restarts",
        1013: "the server is overloaded",
    }.get(code, "the server closed the connection")
    return f"{meaning} (close code {code}{': ' + reason if reason else ''})"


class Opening:
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
        self._wire: _Wire | None = None

    def abort(self) -> None:
        """Make the attempt fail."""
        with self._lock:
            self._aborted = True
            for handle in (self._socket, self._wire.raw_fd if self._wire else None):
                if handle is not None:
                    with contextlib.suppress(OSError):
                        handle.shutdown(socket.SHUT_RDWR)

    def _adopt(self, wire: _Wire) -> None:
        with self._lock:
            self._wire = wire
            if self._aborted:
                wire.cut()

    def run(self) -> Connection:
        """Connect. Errors: UsageError for a URL that is none; ConnectError and its kinds for all else."""
        endpoint, limits = self._endpoint, self._limits
        deadline = Deadline(limits.open_timeout_s or None)
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
        except (WebSocketException, OSError, EOFError, ValueError) as error:
            self._release()
            raise explain(error, endpoint, limits) from None
        wire.__enter__()
        assert isinstance(wire, _Wire)
        return Connection(wire, self._release)

    def _make_wire(self, *args: Any, **kwargs: Any) -> _Wire:
        return _Wire(*args, handler=self._handler, adopt=self._adopt, **kwargs)

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


def _tls_context(endpoint: Endpoint) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=endpoint.trust)
    except OSError as error:
        raise errors.UsageError(f"the file of trusted certificates cannot be used: {endpoint.trust}: {error}") from None


def explain(error: Exception, endpoint: Endpoint, limits: Limits) -> errors.RealtimeError:
    """Turn what a connection attempt raised into one clear error."""
    where = endpoint.label
    if isinstance(error, InvalidStatus):
        return _explain_status(error, where)
    if isinstance(error, InvalidURI):
        return errors.UsageError(
            f"not a WebSocket URL: {endpoint.url.partition('?')[0]} (it begins with ws:// or wss://)"
        )
    if isinstance(error, ProxyError | InvalidProxy):
        return errors.HostUnreachableError(f"{where}: the proxy refused or failed: {error}")
    if isinstance(error, InvalidHandshake | WebSocketException | EOFError):
        return errors.NotRealtimeError(f"{where} does not answer as a WebSocket server: check the URL")
    if isinstance(error, ssl.SSLCertVerificationError):
        return errors.TLSError(f"{where}: its certificate is not trusted: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        return errors.TLSError(f"{where}: TLS failed: {error.reason or error} (is it a plain ws:// server?)")
    if isinstance(error, socket.gaierror):
        return errors.HostUnreachableError(f"{where}: no such host")
    if isinstance(error, TimeoutError):
        return errors.HostUnreachableError(f"{where} did not answer within {limits.open_timeout_s:g} s")
    if isinstance(error, ConnectionRefusedError):
        return errors.HostUnreachableError(f"{where}: connection refused: nothing listens there")
    if isinstance(error, OSError):
        return errors.HostUnreachableError(f"{where}: {error.strerror or error}")
    return errors.UsageError(f"{where}: {error}")


def _explain_status(error: InvalidStatus, where: str) -> errors.ConnectError:
    """HTTP answered the handshake with something other than 101."""
    status = error.response.status_code
    code, message = _body_error(error.response.body)
    says = f": {message}" if message else ""
    if status in {401, 403}:
        return errors.AuthenticationError(f"{where} refused the key (HTTP {status}){says}")
    if status == 429:
        return errors.RateLimitedError(
            f"{where}: too many requests, or the quota is used up (HTTP 429){says}",
            retry_after_s=_seconds(error.response.headers.get("Retry-After")),
        )
    if code is not None and status < 500:
        return errors.SessionRefusedError(f"{where} refused the session (HTTP {status}){says}", code=code)
    if status >= 500:
        return errors.HostUnreachableError(f"{where} is out of order (HTTP {status}){says}")
    return errors.NotRealtimeError(f"{where} is not a Realtime endpoint (HTTP {status}): check the URL")


def _seconds(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _body_error(body: bytes | bytearray | memoryview | None) -> tuple[str | None, str | None]:
    """(code, message) of an error in OpenAI's JSON shape; Nones when it is none."""
    try:
        error = json.loads(bytes(body or b"")[:65536]).get("error")
        message = str(error.get("message") or "")[:300]
        return str(error.get("code") or error.get("type")), "".join(c for c in message if c.isprintable()) or None
    except (ValueError, AttributeError):
        return None, None
