"""The WebSocket side of the local server: the one module of it that knows the websockets library."""

from __future__ import annotations

import logging
import selectors
import socket
from collections.abc import Callable, Sequence
from http import HTTPStatus

from websockets.http11 import Request as Handshake
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from realtime_client.client.framing import Framing, ServerFraming
from realtime_client.client.stream import Stream
from realtime_client.client.wire import Wire
from realtime_client.deadline import Deadline

from .gate import SUBPROTOCOL, Admitted
from .http import Refused, Request
from .inbox import Ended, Inbox

MAX_MESSAGE_BYTES = 64 * 2**20
OPEN_TIMEOUT_S = 5.0  # for a whole request and its answer
CLOSE_TIMEOUT_S = 2.0
_SEND_TIMEOUT_S = 30.0  # then a client that does not read is gone, instead of holding its session for ever

_log = logging.getLogger(__name__)
_log.setLevel(logging.CRITICAL + 1)  # the library reports each port scan and each visit of a browser with a traceback


class Listener:
    """A listening socket. shared: as of `LocalServer`'s port. Errors: OSError when the address cannot be used."""

    def __init__(self, host: str, port: int, *, shared: bool = False) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=512, reuse_port=shared)
        self._socket.setblocking(False)  # a client may be gone before it is accepted
        self._awake, self._waker = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        for sock in (self._socket, self._awake):
            self._selector.register(sock, selectors.EVENT_READ)
        self.port = int(self._socket.getsockname()[1])

    def accept(self) -> socket.socket | None:
        """The next client's socket; None once `close` was called. Errors: OSError, after which the next may come."""
        if any(key.fileobj is self._awake for key, _ in self._selector.select()):
            for each in (self._selector, self._awake, self._socket):
                each.close()
            return None
        sock, _ = self._socket.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def close(self) -> None:
        """Let `accept` end."""
        self._waker.close()


class Connection:
    """A client that was let in. Its messages go into `inbox` from the receive thread.

    session_s: how long its session may last; None for as long as any.
    """

    session_s: float | None = None

    def __init__(self, stream: Stream, framing: Framing, admitted: Admitted, inbox: Inbox | None = None) -> None:
        self.inbox = inbox or Inbox()
        self.admitted = admitted
        self._wire = Wire(
            stream,
            framing,
            self,
            close_timeout_s=CLOSE_TIMEOUT_S,
            write_timeout_s=_SEND_TIMEOUT_S,
            name="realtime-serve-receive",
        )
        self._wire.start()

    def send(self, frame: bytes) -> None:
        """Send a text message. Errors: ConnectionLostError."""
        self._wire.send([frame])

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Say goodbye if nobody has, and end the connection and the receive thread."""
        self.inbox.end(Ended())  # frees a receive thread that waits for room in it
        self._wire.close(code, reason)
        self._wire.receive_thread.join(CLOSE_TIMEOUT_S)
        self._wire.release()

    def on_frames(self, frames: list[bytes]) -> None:
        """Take what arrived."""
        for frame in frames:
            self.inbox.put_frame(frame)

    def on_pong(self, payload: bytes) -> None:
        """Nothing asks for one."""

    def on_unwritten(self) -> None:
        """A pong waits; it goes before what is sent next, or when the client says something more."""

    def on_end(self, code: int, reason: str, *, by_us: bool) -> None:  # noqa: ARG002 - the wire's handler is asked so
        """The inbox learns of the end, behind what it has."""
        self.inbox.end(Ended(), drain=True)


def new_protocol(kind: type[ServerProtocol] = ServerProtocol) -> ServerProtocol:
    """Return the rules of a connection."""
    return kind(select_subprotocol=_select, max_size=MAX_MESSAGE_BYTES, logger=_log)


def shake_hands(
    stream: Stream,
    request: Request,
    admitted: Admitted,
    deadline: Deadline,
    *,
    framing: ServerFraming | None = None,
    connect: Callable[[Stream, Framing, Admitted], Connection] = Connection,
) -> Connection | Refused:
    """Answer a client that was let in, if what it sent is a handshake (RFC 6455, section 4.2). Errors: OSError.

    framing, connect: what the connection is made of, where it is a special one.
    """
    framing = framing or ServerFraming(new_protocol())
    framing.feed(request.raw)
    asked, protocol = framing.opening, framing.protocol
    assert isinstance(protocol, ServerProtocol)
    if not isinstance(asked, Handshake):
        return Refused(status=400, code="bad_request", message="The request cannot be read.")
    response = protocol.accept(asked)
    if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
        message = bytes(response.body or b"").decode().strip()
        headers = tuple((name, value) for name, value in response.headers.raw_items() if name == "Upgrade")
        return Refused(status=response.status_code, code="no_websocket", message=message, headers=headers)
    framing.respond(response)
    while framing.outgoing:
        stream.write_all(framing.outgoing.popleft(), deadline)
    return connect(stream, framing, admitted)


def part(stream: Stream) -> None:
    """End a connection after its answer. Errors: OSError."""
    stream.end_writing()
    deadline = Deadline(CLOSE_TIMEOUT_S)
    while not deadline.expired and stream.read(8192, deadline):
        pass  # a socket that is closed over unread data takes the answer back


def _select(_protocol: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in offered else None
