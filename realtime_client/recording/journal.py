r"""journal.jsonl: every event in both directions, one JSON object a line.

    {"n":7,"t":1.250301,"wall":1763650202.125,"dir":"in","event":{...},"audio":[{"file":...,"offset":...,"length":...}]}

n counts from 1. t: seconds since the start of the recording (monotonic). wall: epoch seconds. dir: `in` from the
server, `out` from the client, `note` from the recorder. event: the frame as it was, byte for byte, with its audio
emptied to "" and, where something was secret, masked. audio: where each emptied audio is, in the order of the frame:
offset and length are bytes of the file's audio data (PCM16, after the header); file null: not kept (late audio of an
answer that was cut off). conversation.wav is stereo: `channel` is `left`, and offset and length count both channels. A
file that became FLAC when it was finished, with the same samples, is told by a note `{"type":"flac","file":...,
"now":...}`: the .wav that the lines name, and the .flac; `recording.audio_path` finds either. A frame that is not a
message is a string, cut to 4,096 characters, with `error`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from realtime_client.deadline import Clock

from .masking import Masker
from .wav import create_private, write_all

FLUSH_S = 0.5
_FLUSH_BYTES = 1 << 16
_LONGEST_BAD_FRAME = 4_096
_decode = msgspec.json.decode
_encode = msgspec.json.encode

Reference = dict[str, Any]
Keep = Callable[[bytes], Reference]
"""Audio as it is on the wire (base64) -> reference to where it was put."""


def reference(file: str | None, offset: int, length: int, channel: str | None = None) -> Reference:
    """Return where audio is: a file of the folder, and bytes of its audio data."""
    place: Reference = {"file": file, "offset": offset, "length": length}
    if channel:
        place["channel"] = channel
    return place


class Journal:
    """The writer. Lines wait in memory for at most 0.5 s (judged when the next one comes) or 64 KiB."""

    def __init__(self, path: Path, masker: Masker, clock: Clock, start_s: float) -> None:
        self.lines = 0
        self._masker = masker
        self._wall = clock.wall
        self._start_s = start_s
        self._flushed_s = start_s
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._file = create_private(path)

    def audio_frame(
        self, direction: str, frame: bytes, *, field: bytes, audio_bytes: int, place: bytes, at_s: float
    ) -> None:
        r"""Write the line of an audio delta or append: the hot path.

        field: how its audio begins in the frame, `"delta":"` or `"audio":"`. audio_bytes: how long the audio is when
        decoded. place: the reference as JSON.
        """
        begin = frame.find(field) + len(field)
        end = frame.find(b'"', begin)
        if begin < len(field) or (end - begin) < audio_bytes or b"\n" in frame[:begin]:
            name = field[1 : field.index(b'"', 1)].decode()
            self._write(direction, self._emptied(frame, name), b',"audio":[' + place + b"]", at_s)
            return
        event = self._masker.frame(frame[:begin] + frame[end:])
        self._write(direction, event, b',"audio":[' + place + b"]", at_s)

    def frame(self, direction: str, frame: bytes, at_s: float, keep: Keep | None = None) -> None:
        """Write a frame of valid JSON. keep: takes audio out of it; None when there is none."""
        tail = b""
        if keep is not None:
            data = _decode(frame)
            references = _take_audio(data, keep)
            if references:
                frame = _encode(data)
                tail = b',"audio":' + _encode(references)
        self._write(direction, self._masker.frame(_one_line(frame)), tail, at_s)

    def bad_frame(self, direction: str, frame: bytes, error: str, at_s: float) -> None:
        """Write a frame that is not a message."""
        text = bytes(frame[: 4 * _LONGEST_BAD_FRAME]).decode("utf-8", "replace")
        # Masked first: the cut must not go through the middle of a key.
        shown = self._masker.text(text)[:_LONGEST_BAD_FRAME]
        tail = b',"error":' + _encode(self._masker.text(error)) + b',"size":%d' % len(frame)
        self._write(direction, _encode(shown), tail, at_s)

    def note(self, event: dict[str, Any], at_s: float) -> None:
        """Write something that no frame says."""
        self._write("note", _encode(self._masker.value(event)), b"", at_s)

    def flush(self, at_s: float) -> None:
        """Bring all lines into the file."""
        self._flushed_s = at_s
        if self._pending:
            data = b"".join(self._pending)
            self._pending, self._pending_bytes = [], 0
            write_all(self._file, data)

    def close(self, at_s: float) -> None:
        """Finish the file. Idempotent. Errors: OSError."""
        if self._file.closed:
            return
        try:
            self.flush(at_s)
        finally:
            self._file.close()

    def _write(self, direction: str, event: bytes, tail: bytes, at_s: float) -> None:
        self.lines += 1
        line = b'{"n":%d,"t":%.6f,"wall":%.3f,"dir":"%b","event":%b%b}\n' % (
            self.lines,
            at_s - self._start_s,
            self._wall(),
            direction.encode(),
            event,
            tail,
        )
        self._pending.append(line)
        self._pending_bytes += len(line)
        if at_s - self._flushed_s >= FLUSH_S or self._pending_bytes >= _FLUSH_BYTES:
            self.flush(at_s)

    def _emptied(self, frame: bytes, name: str) -> bytes:
        """The slow way, for frames that are written unlike ours."""
        data = _decode(frame)
        data[name] = ""
        return self._masker.frame(_encode(data))


def _one_line(frame: bytes) -> bytes:
    """A frame that decoded as JSON, fit for one line: line ends can only stand between its tokens."""
    try:
        frame.decode()
    except UnicodeDecodeError:  # fields nobody reads are not checked when decoding
        frame = frame.decode("utf-8", "replace").encode()
    if b"\n" in frame or b"\r" in frame:
        frame = frame.replace(b"\r", b" ").replace(b"\n", b" ")
    return frame


def _take_audio(node: Any, keep: Keep) -> list[Reference]:
    """Empty the `audio` of every content part, anywhere in the message; returns where each went."""
    found: list[Reference] = []
    if isinstance(node, list):
        for entry in node:
            found += _take_audio(entry, keep)
    elif isinstance(node, dict):
        for entry in node.values():
            if isinstance(entry, list | dict):
                found += _take_audio(entry, keep)
        audio = node.get("audio")
        if isinstance(audio, str) and audio and str(node.get("type")).endswith("audio"):
            node["audio"] = ""
            found.append(keep(audio.encode("utf-8", "replace")))
    return found
