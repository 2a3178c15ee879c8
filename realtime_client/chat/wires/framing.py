"""How a stream of bytes is cut into messages: server-sent events (WHATWG HTML, section 9.2), and JSON by lines.

Lines end in bytes here and are decoded afterwards: a message may be cut anywhere, also inside a UTF-8 character, and
text may hold U+2028 and U+0085, which end lines for `str.splitlines` and for no server.
"""

from __future__ import annotations

import re

from realtime_client.errors import RealtimeError

MOST_BYTES = 16 * 2**20
"""The longest message that is read: an image in base64 fits."""

_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\n|\r")


class TooLongError(RealtimeError):
    """A server sends a message that never ends."""

    def __init__(self) -> None:
        super().__init__(f"the server sends a message of more than {MOST_BYTES // 2**20} MiB")


class JsonLines:
    """Cuts NDJSON: one message a line. Empty lines mean nothing."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """Take bytes; return the messages that are complete: ('', line). Errors: TooLongError."""
        head, *rest = data.split(b"\n")
        if not rest:
            self._hold(head)
            return []
        lines = [b"".join((*self._parts, head)), *rest[:-1]]
        self._parts, self._size = [], 0
        self._hold(rest[-1])
        return [("", line) for line in map(bytes.strip, lines) if line]

    def _hold(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > MOST_BYTES:
            raise TooLongError
        if part:
            self._parts.append(part)

    def end(self) -> list[tuple[str, bytes]]:
        """Return what came after the last line end."""
        rest, self._parts = b"".join(self._parts).strip(), []
        return [("", rest)] if rest else []


class EventStream:
    """Cuts server-sent events, as a browser does and a little more leniently.

    Lines end with LF, CRLF or CR; comments are skipped; a BOM in front is too; an event whose final blank line never
    comes is still one: servers that die, or forget it, would lose the end of the answer. `id` and `retry` have no use
    here: no model's stream can be taken up again.
    """

    def __init__(self) -> None:
        self._rest: list[bytes] = []  # of a line that has no end yet
        self._size = 0
        self._name = ""
        self._data: list[bytes] = []
        self._began = False
        self._after_cr = False
        self._plain = False  # nothing is held

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """Take bytes; return the events that are complete: (name, data), name '' where none is given.

        Errors: TooLongError.
        """
        if self._plain and b"\r" not in data:
            line_end = data.find(b"\n")
            if line_end == len(data) - 2 and data.startswith(b"data: ") and data.endswith(b"\n"):
                return [("", data[6:-2])]  # one whole event, as they come nearly always
        events = self._feed(data)
        self._plain = self._began and not (self._after_cr or self._rest or self._data or self._name)
        return events

    def _feed(self, data: bytes) -> list[tuple[str, bytes]]:
        if not self._began:
            data = self._without_bom(data)
        if self._after_cr and data:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" in data:
            self._after_cr = data.endswith(b"\r")
            head, *rest = _LINE_END.split(data)
        else:
            head, *rest = data.split(b"\n")
        if not rest:
            self._hold(head)
            return []
        if self._rest:
            head = b"".join((*self._rest, head))
            self._rest = []
        self._size = sum(map(len, self._data)) if self._data else 0
        events: list[tuple[str, bytes]] = []
        tail = rest.pop()
        self._line(head, events)
        for line in rest:
            self._line(line, events)
        self._hold(tail)
        return events

    def _without_bom(self, data: bytes) -> bytes:
        data = b"".join((*self._rest, data))
        self._rest, self._size = [], 0
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._hold(data)
            return b""
        self._began = True
        return data.removeprefix(_BOM)

    def _hold(self, part: bytes) -> None:
        if part:
            self._size += len(part)
            if self._size > MOST_BYTES:
                raise TooLongError
            self._rest.append(part)

    def _line(self, line: bytes, events: list[tuple[str, bytes]]) -> None:
        if line.startswith(b"data: "):
            self._data.append(line[6:])
        elif not line:
            if self._data:
                data = self._data
                events.append((self._name, data[0] if len(data) == 1 else b"\n".join(data)))
                self._data = []
            self._name = ""
        elif line.startswith(b"data"):
            name, _, value = line.partition(b":")
            if name == b"data":
                self._data.append(value.removeprefix(b" "))
        elif line.startswith(b"event:"):
            self._name = line[6:].removeprefix(b" ").decode("utf-8", "replace")

    def end(self) -> list[tuple[str, bytes]]:
        """Return the event that no blank line ended, if its last line is whole or reads as if it were."""
        events: list[tuple[str, bytes]] = []
        rest, self._rest = b"".join(self._rest), []
        if rest:
            self._line(rest, events)
        self._line(b"", events)
        return events
