"""One open WebSocket connection: its socket, its framing and its receive thread.

Frames are made and read under the framing's lock and written outside of it: two peers that both wait for room would
stand still for good if writing held up reading. A pong that finds no room is left to the send thread.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from typing import Protocol

from websockets.exceptions import WebSocketException
from websockets.protocol import State

from realtime_client.deadline import NO_DEADLINE, Deadline

from .diagnosis import lost
from .framing import Framing
from .outbox import Ping
from .stream import NOW, Stream
from .tcp_info import TcpInfo

_FIRST_READ = 8192  # what every session holds while it waits
_NEXT_READ = 65536
_ONE_DRAIN = 2**18
_FAULTS = {1002, 1007, 1009}  # protocol error, invalid text, message too big: RFC 6455, section 7.4.1


class FrameHandler(Protocol):
    """Who gets what arrives. All are called from the receive thread."""

    def on_frames(self, frames: list[bytes]) -> None:
        """Whole messages, in order, that arrived together; may block, which stops reading."""

    def on_pong(self, payload: bytes) -> None:
        """The answer to a Ping."""

    def on_unwritten(self) -> None:
        """Something (a pong) cannot be written at once: the send thread is to call `write_out`."""

    def on_end(self, code: int, reason: str, *, by_us: bool) -> None:
        """The connection is over; called exactly once, last.

        code 1006: it dropped without a close frame. by_us: the code says what we found wrong with the server.
        """


class Wire:
    """An open WebSocket connection that reads by itself, from `start` on.

    `send`, `write_out` and `close` belong to the send thread; `abort` may be called from anywhere.
    server_date: the Date header of the handshake's answer (RFC 9110, 6.6.1); '' if there was none. receive_error: the
    exception that the handler raised, if it did. close_timeout_s: how long `close` waits; how long a peer that has said
    goodbye may leave the connection open. write_timeout_s: how long `send` waits for the peer to read; None for ever.
    name: the receive thread's.
    """

    def __init__(
        self,
        stream: Stream,
        framing: Framing,
        handler: FrameHandler,
        *,
        close_timeout_s: float,
        write_timeout_s: float | None = None,
        server_date: str = "",
        name: str = "realtime-receive",
    ) -> None:
        self.server_date = server_date
        self.receive_error: BaseException | None = None
        self.receive_thread = threading.Thread(target=self._receive, name=name, daemon=True)
        self._stream = stream
        self._framing = framing
        self._handler = handler
        self._close_timeout_s = close_timeout_s
        self._write_timeout_s = write_timeout_s
        self._writing = threading.Lock()
        self._over = False
        self._released = False

    def start(self) -> None:
        """Read, from now on; what came with the handshake first."""
        self.receive_thread.start()

    # --- writing ------------------------------------------------------------------------------------------------------

    def send(self, messages: Sequence[bytes | Ping]) -> None:
        """Send text messages and pings, in order and in one write; blocks while the peer does not read.

        Pongs come to `on_pong`. Errors: ConnectionLostError.
        """
        try:
            self._framing.send(messages)
            if not self.write_out(Deadline(self._write_timeout_s)):
                raise TimeoutError
        except (WebSocketException, OSError) as error:
            protocol = self._framing.protocol
            raise lost(protocol.close_exc if protocol.state is State.CLOSED else error) from error

    def write_out(self, deadline: Deadline = NO_DEADLINE) -> bool:
        """Write what is kept; blocks while the peer does not read: False at the deadline. Errors: OSError."""
        while self._framing.unwritten:
            with self._writing:
                if not self._write(deadline):
                    return False
        return True

    def _write(self, deadline: Deadline) -> bool:
        """Write what is kept; False when there was no room for all of it in time. The caller holds the lock."""
        framing, outgoing = self._framing, self._framing.outgoing
        while outgoing:
            rest = memoryview(outgoing[0])
            while rest:
                taken = self._stream.write(rest, deadline)
                if taken is None:
                    outgoing[0] = bytes(rest)
                    framing.clogged = True
                    return False
                rest = rest[taken:]
            outgoing.popleft()
        framing.clogged = False
        if framing.last_words:
            framing.last_words = False
            self._stream.end_writing()
        return True

    def _reply(self) -> None:
        """Write what reading called for, or have it written if that means waiting."""
        framing = self._framing
        while framing.unwritten:
            if not self._writing.acquire(blocking=False):
                framing.clogged = True  # or that will soon be noticed
                return  # whoever is writing looks again afterwards
            try:
                written = self._write(NOW)
            except OSError:
                return  # the connection is over, which reading finds out
            finally:
                self._writing.release()
            if not written:
                self._handler.on_unwritten()
                return

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Send the close frame and wait for the peer's, at most the close time limit; then it is over either way."""
        deadline = Deadline(self._close_timeout_s)
        self._framing.send_close(code, reason)
        with contextlib.suppress(OSError):
            self.write_out(deadline)
        self.receive_thread.join(deadline.remaining_s())
        if self.receive_thread.is_alive():
            self.abort()

    # --- reading ------------------------------------------------------------------------------------------------------

    def _receive(self) -> None:
        """Read until the connection is over: the receive thread's whole life."""
        try:
            self._read()
        except BaseException as error:  # noqa: BLE001 - the handler's; kept for whoever ends the session
            self.receive_error = error
        self.abort()
        self._framing.feed_end()
        code, reason, by_us = self._end()
        try:
            self._handler.on_end(code, reason, by_us=by_us)
        except BaseException as error:  # noqa: BLE001 - kept, as any that a handler raises
            self.receive_error = self.receive_error or error
        self._over = True
        if self._released:
            self._stream.close()

    def _read(self) -> None:
        """Hand over what comes, what came with the handshake first. One read is one message, mostly: few calls."""
        framing, receive, feed = self._framing, self._stream.receive, self._framing.feed
        closing: Deadline | None = None
        while True:
            if framing.pongs or framing.outgoing or framing.last_words:
                self._answer()
            if framing.messages:
                messages, framing.messages = framing.messages, []
                self._handler.on_frames(messages)
            try:
                if framing.is_open:
                    data = receive(_FIRST_READ)
                else:  # the peer closes the TCP connection in time; or we do
                    closing = closing or Deadline(self._close_timeout_s)
                    data = None if closing.expired else self._stream.read(_FIRST_READ, closing)
                if not data:
                    return
                feed(data)
                if len(data) == _FIRST_READ:
                    self._drain()
            except OSError:
                return

    def _drain(self) -> None:
        """Take what else is there. Errors: OSError."""
        left = _ONE_DRAIN - _FIRST_READ
        while left > 0 and (data := self._stream.read(_NEXT_READ, NOW)):
            self._framing.feed(data)
            left -= len(data)

    def _answer(self) -> None:
        """See to what came besides messages."""
        self._reply()
        pongs, self._framing.pongs = self._framing.pongs, []
        for payload in pongs:
            self._handler.on_pong(payload)

    def _end(self) -> tuple[int, str, bool]:
        """(code, reason, by us): the server's close frame, or the fault of the server for which we closed, or 1006."""
        end = self._framing.protocol.close_exc
        came, went = end.rcvd, end.sent
        if went is not None and went.code in _FAULTS and not end.rcvd_then_sent:
            return went.code, went.reason, True
        return (1006, "", False) if came is None else (came.code, came.reason, False)

    def tcp_info(self) -> TcpInfo | None:
        """What the system knows of the connection; any thread."""
        return self._stream.tcp_info()

    # --- the end ------------------------------------------------------------------------------------------------------

    def abort(self) -> None:
        """End the connection at once, without waiting for anybody."""
        self._stream.cut()

    def release(self) -> None:
        """Give the socket back; a receive thread that is still running does so when it ends."""
        self._released = True
        if self._over:
            self._stream.close()
