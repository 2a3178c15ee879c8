"""One end of a WebSocket connection without its socket: bytes in and messages out, messages in and bytes out.

The rules are the library's (its sans-I/O protocol). A Realtime server sends nearly nothing but unmasked, unfragmented
text frames (RFC 6455, section 5.2): while the connection is open and no fragmented message is, `ClientFraming` cuts
those out itself. Every other byte goes to the library.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from websockets.client import ClientProtocol
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import Protocol, State
from websockets.server import ServerProtocol

from .outbox import Ping

_PLAIN = 0x81  # final, no reserved bit, text
_KNOWN = frozenset({0, 1, 2, 8, 9, 10})
_BEGINNINGS = frozenset({Opcode.TEXT, Opcode.BINARY})
_DATA = _BEGINNINGS | {Opcode.CONT}
_ENDLESS = 2**64
_MOST_UNWRITTEN = 64


class Framing:
    """What either side does. `feed` and `feed_end` belong to one thread; all else may be called by any.

    messages, pongs: what came, whole messages and payloads of pongs, for the thread that feeds. outgoing: what is to be
    written, in order; whoever writes takes from its left. last_words: nothing will follow. clogged: the peer is not
    taking it. opening: the HTTP message of the peer's handshake. is_open: whether messages can be sent.
    """

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self.opening: Request | Response | None = None
        self.messages: list[bytes] = []
        self.pongs: list[bytes] = []
        self.outgoing: deque[bytes] = deque()
        self.last_words = False
        self.clogged = False
        self.is_open = False
        self._lock = threading.Lock()
        self._fragments: bytearray | None = None
        self._line_end = b""
        self._early = b""

    @property
    def unwritten(self) -> bool:
        """Whether there is something to write, be it only that nothing follows."""
        return bool(self.outgoing) or self.last_words

    def feed(self, data: bytes) -> None:
        """Take what was read."""
        if data := self._feed_opening(data):
            self._give(data)

    def _feed_opening(self, data: bytes) -> bytes:
        """Give the library the peer's HTTP message up to the empty line; returns what follows if it may be read now."""
        if self.protocol.state is not State.CONNECTING:
            return data
        if not isinstance(self.opening, Request):
            seen = self._line_end + data
            found = seen.find(b"\r\n\r\n")
            rest = len(data) if found < 0 else found + 4 - len(self._line_end)
            self._line_end = seen[-3:] if found < 0 else b""
            self._give(data[:rest])
            data = data[rest:]
        if not isinstance(self.opening, Request):
            return data
        self._early += data  # the library would read frames before the request has its answer
        return b""

    def feed_end(self) -> None:
        """Note that nothing more can be read."""
        with self._lock:
            self.protocol.receive_eof()
            events = self.protocol.events_received()
            self._note()
        self._sort(events)

    def send(self, messages: Sequence[bytes | Ping]) -> None:
        """Make frames of text messages and pings. Errors: InvalidState when the connection is not open."""
        protocol = self.protocol
        with self._lock:
            for message in messages:
                if type(message) is Ping:
                    protocol.send_ping(message.payload)
                else:
                    protocol.send_text(message)  # type: ignore[arg-type]  # mypy does not narrow by `type() is`
            self._note()

    def respond(self, response: Response) -> None:
        """Answer a client's request, for a server."""
        assert isinstance(self.protocol, ServerProtocol)
        with self._lock:
            self.protocol.send_response(response)
            self._note()
        if self.is_open and self._early:
            self._give(self._early)

    def send_close(self, code: int, reason: str) -> None:
        """Say goodbye, unless that was done."""
        with self._lock:
            if self.is_open:
                self.protocol.send_close(code, reason)
                self._note()

    def _note(self) -> None:
        """After each step of the library, under the lock: keep what it wants written, and whether it is open."""
        writes = self.protocol.data_to_send()
        self.is_open = self.protocol.state is State.OPEN
        if b"" in writes:  # the end of writing
            self.last_words = True
        if data := b"".join(writes):
            self.outgoing.append(data)

    def _give(self, data: bytes) -> None:
        """Let the library read."""
        protocol = self.protocol
        with self._lock:
            protocol.receive_data(data)
            events = protocol.events_received()
            if self.clogged and len(self.outgoing) > _MOST_UNWRITTEN and protocol.state is State.OPEN:
                protocol.data_to_send()  # unread pongs: the peer may have the next one (RFC 6455, section 5.5.3)
            else:
                self._note()
        if events:
            self._sort(events)

    def _sort(self, events: Sequence[Frame | Request | Response]) -> None:
        """Keep what the library read. It has checked order and sizes of fragments."""
        for event in events:
            if not isinstance(event, Frame):
                self.opening = event
            elif event.opcode is Opcode.PONG:
                self.pongs.append(bytes(event.data))
            elif event.opcode in _DATA:
                if event.fin and self._fragments is None:
                    self.messages.append(bytes(event.data))
                    continue
                if self._fragments is None:
                    self._fragments = bytearray()
                self._fragments += event.data
                if event.fin:
                    self.messages.append(bytes(self._fragments))
                    self._fragments = None


class ServerFraming(Framing):
    """The server's side: text that is not UTF-8 ends the connection (RFC 6455, section 8.1)."""

    def __init__(self, protocol: ServerProtocol) -> None:
        super().__init__(protocol)
        self._text = False

    def _sort(self, events: Sequence[Frame | Request | Response]) -> None:
        for event in events:
            known = len(self.messages)
            super()._sort((event,))
            if isinstance(event, Frame) and event.opcode in _BEGINNINGS:
                self._text = event.opcode is Opcode.TEXT
            if len(self.messages) > known and self._text and not _is_utf8(self.messages[-1]):
                self.messages.pop()
                with self._lock:
                    self.protocol.fail(CloseCode.INVALID_DATA, "a text message must be UTF-8")
                    self._note()
                return


def _is_utf8(data: bytes) -> bool:
    """Whether bytes are text; what Realtime clients send is ASCII, nearly always."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


class ClientFraming(Framing):
    """The client's side, with a shortcut for plain text messages of up to max_bytes."""

    def __init__(self, protocol: ClientProtocol, max_bytes: int) -> None:
        super().__init__(protocol)
        self._max_bytes = max_bytes
        self._held = bytearray()  # the beginning of a frame, and how much of it is needed to go on
        self._need = 0
        self._owed = 0  # what the library lacks of the frame that it is reading

    def feed(self, data: bytes) -> None:
        """Take what was read."""
        if self.is_open and self._fragments is None and not (self._held or self._owed):
            at = self._cut_plain(data, 0, len(data))
            if at < len(data):
                self._cut(data, at)
        elif data := self._feed_opening(data):
            self._feed_on(data)

    def _feed_on(self, data: bytes) -> None:
        """Go on with what was begun."""
        if not self.is_open:  # whoever changed that, only the library knows what may still be read
            self._give(bytes(self._held) + data)
            self._held.clear()
            return
        at = 0
        while self._held and at < len(data):
            part = data[at : at + self._need - len(self._held)]
            self._held += part
            at += len(part)
            if len(self._held) < self._need:
                return
            whole, self._held = bytes(self._held), bytearray()
            self._cut(whole, 0)
        self._cut(data, at)

    def _cut(self, data: bytes, at: int) -> None:
        """Cut out whole messages; the library gets all other frames as they come."""
        end = len(data)
        while at < end:
            if not self.is_open:  # by what it has just read
                self._give(data[at:])
                return
            if self._owed:
                part = data[at : at + self._owed]
                self._give(part)
                self._owed -= len(part)
                at += len(part)
                continue
            if self._fragments is None:
                at = self._cut_plain(data, at, end)
            if at == end:
                return
            head, size = _measure(data, at, end)
            plain = data[at] == _PLAIN and self._fragments is None and size <= self._max_bytes
            if size < 0 or plain:
                self._held += data[at:]
                self._need = head if size < 0 else head + size
                return
            self._owed = head + size

    def _cut_plain(self, data: bytes, at: int, end: int) -> int:
        """Cut out complete text messages as long as nothing else comes; returns where they end."""
        keep, longest = self.messages.append, self._max_bytes
        while end - at > 1 and data[at] == _PLAIN:
            size, begin = data[at + 1], at + 2
            if size == 126 and end - at > 3:
                size, begin = data[at + 2] << 8 | data[at + 3], at + 4
            elif size > 125:
                head, size = _measure(data, at, end)
                begin = at + head
            stop = begin + size
            if stop > end or not 0 <= size <= longest:
                break
            keep(data[begin:stop])
            at = stop
        return at


def _measure(data: bytes, at: int, end: int) -> tuple[int, int]:
    """(length of a frame's head, of its payload); the latter is -1 while the head is not complete.

    A frame that the library will refuse by its first two bytes has no end.
    """
    if end - at < 2:
        return 2, -1
    size = data[at + 1]
    if size > 127 or data[at] & 0x0F not in _KNOWN:  # masked, or of no kind
        return 2, _ENDLESS
    if size < 126:
        return 2, size
    head = 4 if size == 126 else 10
    return head, int.from_bytes(data[at + 2 : at + head], "big") if end - at >= head else -1
