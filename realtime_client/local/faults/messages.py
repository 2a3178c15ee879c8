"""What becomes of the messages of one side: lost, doubled, swapped, broken, in pieces. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from .fault import Fault

_TEXT_FIELD = re.compile(rb'"(?:delta|transcript|text|message)"\s*:\s*"')
_HALF = rb"\ud83d"


class Typed(msgspec.Struct):
    """What faults have to know of a message."""

    type: str = ""
    event_id: str | None = None


_read_typed = msgspec.json.Decoder(Typed).decode


def typed(frame: bytes) -> Typed:
    """Return type and id of a message; empty for what is none."""
    try:
        return _read_typed(frame)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return Typed()


class Passage:
    """The way of the messages of one side."""

    def __init__(self) -> None:
        self._held: list[bytes] = []

    def pass_on(self, frame: bytes, faults: Sequence[Fault]) -> list[bytes]:
        """Return what goes on in place of a message at which these faults struck, in order."""
        done = {fault.do: fault for fault in faults}
        if "corrupt" in done:
            frame = corrupt(frame, done["corrupt"].how)
        frames = [] if "drop" in done else [frame, frame] if "duplicate" in done else [frame]
        if "reorder" in done:
            self._held += frames
            return []
        if frames and self._held:
            frames += self._held
            self._held = []
        return frames


def corrupt(frame: bytes, how: str) -> bytes:
    """Return a message as it must not be.

    json: it ends too early. utf8: a byte that is no text (RFC 6455, section 8.1). surrogate: half a character, as an
    escape in its first text, as servers send that cut a text anywhere.
    """
    if how == "json":
        return frame[: max(1, len(frame) * 2 // 3)]
    if how == "utf8":
        return frame[:-1] + b"\xff" + frame[-1:]
    found = _TEXT_FIELD.search(frame)
    if found is not None and b'"response.output_audio.delta"' not in frame:
        return frame[: found.end()] + _HALF + frame[found.end() :]
    return frame[:-1] + b',"obfuscation":"' + _HALF + b'"}'


def in_fragments(frame: bytes, size: int) -> bytes:
    """Return a text message as a server's WebSocket frames of at most `size` bytes (RFC 6455, section 5.4)."""
    parts = [frame[at : at + size] for at in range(0, len(frame), size)] or [b""]
    out = bytearray()
    for number, part in enumerate(parts):
        out.append((0x80 if number == len(parts) - 1 else 0) | (0x01 if number == 0 else 0x00))
        if len(part) < 126:
            out.append(len(part))
        elif len(part) < 2**16:
            out += b"\x7e" + len(part).to_bytes(2, "big")
        else:
            out += b"\x7f" + len(part).to_bytes(8, "big")
        out += part
    return bytes(out)
