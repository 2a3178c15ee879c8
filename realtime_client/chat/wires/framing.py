"""How a stream of bytes is cut into messages: server-sent events (WHATWG HTML, section 9.2), and JSON by lines.

Lines end in bytes here and are decoded afterwards: a message may be cut anywhere, also inside a UTF-8 character, and
text may hold U+2028 and U+0085, which end lines for `str.splitlines` and for no server.
"""

from __future__ import annotations

import re
from typing import Protocol

from realtime_client.errors import RealtimeError

MOST_BYTES = 16 * 2**20
"""The longest message that is read: an image in base64 fits."""

BOM = b"\xef\xbb\xbf"
_LF, _CR = b"\n\r"  # as numbers, which `in` finds several times faster
_LINE_END = re.compile(rb"\r\n|\n|\r")


class TooLongError(RealtimeError):
    """A server sends what never ends."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        super().__init__(f"the server sends a message of more than {most_bytes // 2**20} MiB")


class Framing(Protocol):
    """Cuts a body into messages: (name, data), name '' where the framing has none."""

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """Take bytes; return the messages that are complete. Errors: TooLongError."""

    def end(self) -> list[tuple[str, bytes]]:
        """The body is over: return what is left and reads as a message."""


class JsonLines:
    """Cuts NDJSON: one message a line. Empty lines mean nothing, nor does a BOM in front."""

    def __init__(self) -> None:
        self._rest = bytearray()  # of a line that has no end yet
        self._began = False

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """Take bytes; return the messages that are complete: ('', line). Errors: TooLongError."""
        if self._began and not self._rest and data[:1] == b"{" and data[-1:] == b"\n":
            line = data[:-1]
            if _LF not in line:  # as they come nearly always: one, and whole
                return [("", line)]
        head, *rest = data.split(b"\n")
        if not rest:
            self._hold(head)
            return []
        if self._rest:
            self._hold(head)
            head = bytes(self._rest)
            self._rest.clear()
        tail = rest.pop()
        lines = self._told([head, *rest])
        self._hold(tail)
        return lines

    def _hold(self, part: bytes) -> None:
        if len(self._rest) + len(part) > MOST_BYTES:
            raise TooLongError
        self._rest += part

    def _told(self, lines: list[bytes]) -> list[tuple[str, bytes]]:
        if not self._began:
            self._began = True
            lines[0] = lines[0].removeprefix(BOM)
        return [("", line) for line in map(bytes.strip, lines) if line]

    def end(self) -> list[tuple[str, bytes]]:
        """Return what came after the last line end."""
        rest = bytes(self._rest)
        self._rest.clear()
        return self._told([rest])


class EventStream:
    """Cuts server-sent events, as a browser does and a little more leniently.

    Lines end with LF, CRLF or CR; comments are skipped; a BOM in front is too; an event whose final blank line never
    comes is still one: servers that die, or forget it, would lose the end of the answer. `id` and `retry` have no use
    here: no model's stream can be taken up again.
    """

    def __init__(self) -> None:
        self._rest = bytearray()  # of a line that has no end yet
        self._name = ""
        self._data: bytes | bytearray | None = None  # of the event that is being read
        self._began = False
        self._after_cr = False
        self._between = False  # two events: nothing is held

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """Take bytes; return the events that are complete: (name, data), name '' where none is given.

        Errors: TooLongError.
        """
        if self._between:
            told = data.removeprefix(b"data: ").removesuffix(b"\n\n")
            if len(told) + 8 == len(data) and _CR not in told:  # as events come nearly always: one line each, none cut
                if _LF not in told:
                    return [("", told)]
                each = told.split(b"\n\ndata: ")
                if told.count(b"\n") == 2 * (len(each) - 1):
                    return [("", data) for data in each]
        events = self._feed(data)
        self._between = self._began and not (self._after_cr or self._rest or self._data is not None or self._name)
        return events

    def _feed(self, data: bytes) -> list[tuple[str, bytes]]:
        if not self._began:
            data = self._without_bom(data)
        if self._after_cr and data:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        if _CR in data:
            self._after_cr = data.endswith(b"\r")
            head, *rest = _LINE_END.split(data)
        else:
            head, *rest = data.split(b"\n")
        if not rest:
            self._hold(head)
            return []
        if self._rest:
            head = bytes(self._rest + head)
            self._rest.clear()
        tail = rest.pop()
        events: list[tuple[str, bytes]] = []
        self._line(head, events)
        for line in rest:
            self._line(line, events)
        self._hold(tail)
        return events

    def _without_bom(self, data: bytes) -> bytes:
        data = bytes(self._rest + data)
        self._rest.clear()
        if len(data) < len(BOM) and BOM.startswith(data):
            self._rest += data
            return b""
        self._began = True
        return data.removeprefix(BOM)

    def _hold(self, part: bytes) -> None:
        if len(self._rest) + len(part) > MOST_BYTES:
            raise TooLongError
        self._rest += part

    def _line(self, line: bytes, events: list[tuple[str, bytes]]) -> None:
        if line.startswith(b"data: "):
            self._add(line[6:])
        elif not line:
            if self._data is not None:
                events.append((self._name, bytes(self._data)))
                self._data = None
            self._name = ""
        else:
            field, _, value = line.partition(b":")
            if field == b"data":
                self._add(value.removeprefix(b" "))
            elif field == b"event":
                self._name = value.removeprefix(b" ").decode("utf-8", "replace")

    def _add(self, value: bytes) -> None:
        if self._data is None:
            self._data = value
            return
        if len(self._data) + len(value) >= MOST_BYTES:
            raise TooLongError
        if not isinstance(self._data, bytearray):
            self._data = bytearray(self._data)
        self._data += b"\n"
        self._data += value

    def end(self) -> list[tuple[str, bytes]]:
        """Return the event that no blank line ended. What it says may be cut."""
        events: list[tuple[str, bytes]] = []
        rest = bytes(self._rest)
        self._rest.clear()
        if rest:
            self._line(rest, events)
        self._line(b"", events)
        return events
