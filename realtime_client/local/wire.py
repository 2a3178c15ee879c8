"""The WebSocket side of the local server: the one module of it that imports websockets."""

from __future__ import annotations

import logging
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve
from websockets.typing import Subprotocol

from .gate import SUBPROTOCOL, Admitted, Refused
from .inbox import Ended, Inbox

MAX_MESSAGE_BYTES = 64 * 2**20
_SEND_TIMEOUT_S = 30
_DATA = frozenset({Opcode.CONT, Opcode.TEXT, Opcode.BINARY})

log = logging.getLogger(__name__)
log.addHandler(logging.NullHandler())
log.propagate = False  # the library reports every port scan and browser visit with a traceback


class Connection(ServerConnection):
    """A connection whose messages go straight into a session's inbox, from the library's receiving thread.

    That saves a thread for each session: the session's own thread waits on the inbox alone.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.inbox = Inbox()
        self.admitted: Admitted | None = None
        self._fragments = bytearray()
        super().__init__(*args, **kwargs)  # starts the receiving thread
        self.recv_events_thread.name = "realtime-serve-receive"

    def process_event(self, event: Any) -> None:
        """Take one event from the wire."""
        if not isinstance(event, Frame) or event.opcode not in _DATA:
            super().process_event(event)
        elif event.fin and not self._fragments:
            self.inbox.put_frame(bytes(event.data))
        else:
            self._fragments += event.data
            if event.fin:
                frame = bytes(self._fragments)
                self._fragments.clear()
                self.inbox.put_frame(frame)

    def recv_events(self) -> None:
        """Read until the connection is gone; the inbox learns of it."""
        try:
            super().recv_events()
        finally:
            self.inbox.end(Ended(), drain=True)

    def close_socket(self) -> None:
        """Close at once; frees a receiving thread that waits for room in the inbox."""
        self.inbox.end(Ended())
        super().close_socket()


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Errors: OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=512)


def make_server(
    sock: socket.socket,
    check: Callable[[str, Callable[[str], list[str]]], Admitted | Refused],
    handle: Callable[[Connection], None],
    *,
    open_timeout_s: float,
    close_timeout_s: float,
) -> Server:
    """Return a server that asks `check` at each handshake and runs `handle` in a thread for each connection."""

    def admit(connection: ServerConnection, request: Request) -> Response | None:
        assert isinstance(connection, Connection)
        verdict = check(request.path, request.headers.get_all)
        if isinstance(verdict, Refused):
            return _refusal(verdict)
        connection.admitted = verdict
        return None

    def select(_connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
        return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in offered else None

    def handler(connection: ServerConnection) -> None:
        assert isinstance(connection, Connection)
        handle(connection)

    return serve(
        handler,
        sock=sock,
        process_request=admit,
        select_subprotocol=select,
        compression=None,
        max_size=MAX_MESSAGE_BYTES,
        ping_interval=None,
        open_timeout=open_timeout_s,
        close_timeout=close_timeout_s,
        create_connection=Connection,
        logger=log,
    )


def _refusal(refused: Refused) -> Response:
    body = refused.body().encode()
    headers = Headers(
        [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("Connection", "close")]
    )
    return Response(refused.status, refused.code, headers, body)


def bound_sends(sock: socket.socket) -> None:
    """Let a send to a client that does not read fail after half a minute, instead of holding its thread for ever."""
    if sys.platform == "win32":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SEND_TIMEOUT_S * 1000)
    else:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _SEND_TIMEOUT_S, 0))


def abort(sock: socket.socket) -> None:
    """End a connection at once, whoever waits on it."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        log.debug("already closed")


__all__ = ["Connection", "ConnectionClosed", "Server", "abort", "bound_sends", "listen", "make_server"]
