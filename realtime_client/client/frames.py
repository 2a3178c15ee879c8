"""Finding whole text messages in what the socket delivered (RFC 6455, section 5.2).

A Realtime server sends nearly nothing but unmasked, unfragmented text frames. Those are cut out here, all that one read
delivered at once; every other frame is passed on untouched to the WebSocket library, which knows the whole rules.
"""

from __future__ import annotations

_FINAL_TEXT = 0x81


class OtherFrame(bytes):
    """The bytes of a frame, head included, that is not a whole text message."""

    __slots__ = ()


class FrameSplitter:
    """Turns a byte stream into payloads of text messages (`bytes`) and other frames (`OtherFrame`).

    Keeps at most one incomplete frame. A frame that is masked or longer than max_bytes, which is an error, is passed on
    with everything after it.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._chunks: list[bytes] = []
        self._have = 0
        self._need = 2
        self._give_up = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take what was read; returns what is complete, in order."""
        if self._give_up:
            return [OtherFrame(data)]
        self._have += len(data)
        if self._have < self._need:
            self._chunks.append(data)
            return []
        if self._chunks:
            self._chunks.append(data)
            data = b"".join(self._chunks)
        complete: list[bytes] = []
        position = self._split(data, complete)
        self._chunks = [data[position:]] if position < len(data) else []
        self._have = len(data) - position
        return complete

    def _split(self, data: bytes, complete: list[bytes]) -> int:
        """Append the complete frames; returns where the incomplete rest begins and sets how much it needs."""
        position, end = 0, len(data)
        while True:
            left = end - position
            if left < 2:
                self._need = 2
                return position
            size, head = data[position + 1], 2
            if size == 126:
                head = 4
            elif size == 127:
                head = 10
            if left < head:
                self._need = head
                return position
            if head > 2:
                size_bytes = data[position + 2 : position + head]
                size = int.from_bytes(size_bytes, "big")
            elif size > 127:  # the mask bit
                size = self._max_bytes + 1
            if size > self._max_bytes:
                self._give_up = True
                complete.append(OtherFrame(data[position:]))
                return end
            whole = head + size
            if left < whole:
                self._need = whole
                return position
            if data[position] == _FINAL_TEXT:
                complete.append(data[position + head : position + whole])
            else:
                complete.append(OtherFrame(data[position : position + whole]))
            position += whole
