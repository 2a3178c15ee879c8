"""The WebSocket library's connection with its reading end replaced.

Messages are handed over in the library's own reading thread, which is our receive thread: one thread and one hand-off
less a session than `recv()` in a thread of our own. What one read delivered is handed over at once. The library's
message queue, keep-alive and compression are not used.

The library writes to the socket while it holds the lock that its reading needs, too: two peers that both wait for room
would stand still for good. Here the lock is held to make frames, and they are written after it is released.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.sync.client import ClientConnection

from .frames import FrameSplitter, OtherFrame

_DATA = {Opcode.TEXT, Opcode.BINARY, Opcode.CONT}
_LONGEST_HEAD = 2**18
_LONGEST_WAIT_S = 10.0
_MOST_UNWRITTEN = 64
_FAULTS = {1002, 1007, 1009}  # protocol error, text that is none, message too big: RFC 6455, section 7.4.1


class FrameHandler(Protocol):
    """Who gets what arrives. All are called from the receive thread."""

    def on_frames(self, frames: list[bytes]) -> None:
        """Whole messages, in order, that arrived together; may block, which stops reading."""
        ...

    def on_pong(self, payload: bytes) -> None:
        """The answer to `Connection.ping`."""
        ...

    def on_unwritten(self) -> None:
        """Something is to be written (a pong) and cannot be at once: the send thread is to call `write_out`."""
        ...

    def on_end(self, code: int, reason: str, *, by_us: bool) -> None:
        """The connection is over; called exactly once, last.

        code 1006: it dropped without a close frame. by_us: the code says what we found wrong with the server.
        """
        ...


class _Messages:
    """An event of ours among the library's: text messages that arrived together."""

    __slots__ = ("frames",)

    def __init__(self, first: bytes) -> None:
        self.frames = [first]


class Wire(ClientConnection):
    """The library's connection with its reading end replaced by a FrameHandler.

    The library feeds what it read to `protocol.receive_data` and takes events from `protocol.events_received`: both are
    replaced on the protocol object, so that plain text messages pass by the library's parser.
    """

    def __init__(self, *args: Any, handler: FrameHandler, adopt: Callable[[Wire], None], **kwargs: Any) -> None:
        self._handler = handler
        self._parts: list[bytes] = []
        self._events: list[Any] = []
        self.failure: BaseException | None = None
        self._unwritten: deque[bytes] = deque()
        self._writing = threading.Lock()
        self._asked = threading.Event()  # our part of the handshake is written
        self.left_alone = False  # nobody waits for the receive thread any more
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

    # writing

    def send_data(self) -> None:
        """Keep what the library wants written (an override; the library calls it under its lock).

        `write_out` writes it. What the receive thread itself has to say it writes here if that takes no waiting.
        """
        if self.response is None:
            try:
                super().send_data()
            finally:
                self._asked.set()
            return
        data = self.protocol.data_to_send()
        if len(self._unwritten) > _MOST_UNWRITTEN and self.protocol.state is State.OPEN and self._reads_here():
            return  # pongs to a peer that does not read: it may have the next one (RFC 6455, section 5.5.3)
        self._unwritten += data
        if self._reads_here() and self._unwritten and not self._write_at_once():
            self._handler.on_unwritten()

    def _reads_here(self) -> bool:
        return threading.current_thread() is self.recv_events_thread

    def write_out(self) -> None:
        """Write what is kept; blocks while the peer does not read. Errors: OSError."""
        while self._unwritten:
            with self._writing:
                self._write()

    def _write(self) -> None:
        while self._unwritten:
            data = self._unwritten.popleft()
            if data:
                self.socket.sendall(data)
            else:
                with contextlib.suppress(OSError):  # it is over already
                    self.socket.shutdown(socket.SHUT_WR)

    def _write_at_once(self) -> bool:
        """Write what is kept unless that means waiting; True if somebody has written it or is about to."""
        if not self._writing.acquire(blocking=False):
            return True  # whoever writes looks again afterwards
        try:
            if not self._writable():
                return False
            with contextlib.suppress(OSError):  # the connection is over, which reading finds out
                self._write()
            return True
        finally:
            self._writing.release()

    def _writable(self) -> bool:
        """Whether the socket takes a short message now."""
        with selectors.DefaultSelector() as selector:
            try:
                selector.register(self.socket, selectors.EVENT_WRITE)
            except (OSError, ValueError):
                return True  # closed: writing fails at once
            return bool(selector.select(0))

    def finish(self, code: int, reason: str) -> None:
        """Send the close frame, then wait for the peer's; at most the close time limit each."""
        with self.protocol_mutex:
            if self.protocol.state is State.OPEN:
                self.protocol.send_close(code, reason)
                self.send_data()
        with contextlib.suppress(OSError):
            self.write_out()
        self.recv_events_thread.join(self.close_timeout)
        if self.recv_events_thread.is_alive():
            self.cut()

    # reading

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
        # A TLS server sends its session tickets first of all. OpenSSL takes them for a part of the TLS handshake, and
        # what another thread writes at that moment may be lost: so nothing is read before our request is written.
        self._asked.wait(_LONGEST_WAIT_S)
        try:
            super().recv_events()
        finally:
            if self.response is not None and self.protocol.handshake_exc is None:
                self.cut()  # the newest versions of the library close their handle of the socket and no more
                code, reason, by_us = self._end()
                try:
                    self._handler.on_end(code, reason, by_us=by_us)
                except BaseException as error:  # noqa: BLE001 - kept, as any that a handler raises
                    self.failure = self.failure or error
            if self.left_alone:
                self.release()

    def _end(self) -> tuple[int, str, bool]:
        """(code, reason, by us): the server's close frame, or the fault of the server for which we closed, or 1006."""
        protocol = self.protocol
        came, went = protocol.close_rcvd, protocol.close_sent
        if went is not None and went.code in _FAULTS and not protocol.close_rcvd_then_sent:
            return went.code, went.reason, True
        return (1006, "", False) if came is None else (came.code, came.reason, False)

    def cut(self) -> None:
        """End the TCP connection at once. Takes no lock: a send that is stuck holds the library's."""
        self._asked.set()
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
