r"""journal.jsonl: every event in both directions, one JSON object a line.

    {"n":7,"t":1.250301,"wall":1763650202.125,"dir":"in","event":{...},"audio":[{"file":...,"offset":...,"length":...}]}

n counts from 1. t: seconds since the start of the recording (monotonic). wall: epoch seconds. dir: `in` from the
server, `out` from the client, `note` from the recorder. event: the frame as it was, byte for byte, with its audio
emptied to "" and, where something was secret, masked. audio: where each emptied audio is, in the order of the frame:
offset and length are bytes of the file's audio data (PCM16, after the header); file null: not kept (late audio of an
answer that was cut off). conversation.wav is stereo: `channel` is `left`, and offset and length count both channels. A
file that became FLAC when it was finished, with the same samples, is told by a note `{"type":"flac","file":...,
"now":...}`: the .wav that the lines name, and the .flac; `recording.audio_path` finds either. A frame that is not a
message is a string, cut to 4,096 characters, with `error` and its `size` in bytes.

Every line is one object of valid JSON in UTF-8, whatever came. A message with bytes that are not UTF-8 or halves of
surrogate pairs in fields that nobody reads has `changed`, which says what was written otherwise. One that cannot be
written as JSON at all (lists nested without end, numbers that no program holds) is the whole frame as a string, with
`error` and its `type`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from realtime_client.deadline import Clock

from .frames import UnfitError, as_text, fit
from .masking import Masker
from .wav import create_private, write_all

FLUSH_S = 0.5
_FLUSH_BYTES = 1 << 16
_LONGEST_BAD_FRAME = 4_096
_AUDIO = {b'"delta":"': "response.output_audio.delta", b'"audio":"': "input_audio_buffer.append"}
_decode = msgspec.json.decode
_encode = msgspec.json.encode

Reference = dict[str, Any]
Keep = Callable[[bytes], Reference | None]
"""Audio as it is on the wire (base64) -> reference to where it was put; None for what is no audio, and stays."""


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
        self,
        direction: str,
        frame: bytes,
        *,
        field: bytes,
        audio_bytes: int,
        place: bytes,
        at_s: float,
    ) -> None:
        r"""Write the line of an audio delta or append: the hot path.

        field: how its audio begins in the frame, `"delta":"` or `"audio":"`. audio_bytes: how long the audio is when
        decoded. place: the reference as JSON.
        """
        tail = b',"audio":[' + place + b"]"
        begin = frame.find(field) + len(field)
        end = frame.find(b'"', begin)
        name = field[1 : field.index(b'"', 1)].decode()
        if begin >= len(field) and end - begin >= audio_bytes:
            rest = frame[:begin] + frame[end:]
            try:
                event, data, changed = fit(rest)
            except UnfitError as error:
                self._write_text(direction, rest, str(error), _AUDIO[field], tail, at_s)
                return
            if data.get(name) == "":
                self._write(direction, self._masker.frame(event), tail + _changed(changed), at_s)
                return
        try:
            _, data, changed = fit(frame)
        except UnfitError as error:
            self._write_text(direction, frame, str(error), _AUDIO[field], tail, at_s)
            return
        data[name] = ""  # the slow way, for frames that are written unlike ours
        self._write(direction, self._masker.frame(_encode(data)), tail + _changed(changed), at_s)

    def frame(self, direction: str, frame: bytes, at_s: float, keep: Keep | None = None, kind: str = "") -> None:
        """Write a frame that was a message. keep: takes audio out of it; None when there is none. kind: its type."""
        try:
            fitted, data, changed = fit(frame)
        except UnfitError as error:
            self._write_text(direction, frame, str(error), kind, b"", at_s)
            return
        tail = _changed(changed)
        if keep is not None:
            references = _take_audio(data, keep)
            if references:
                fitted = _encode(data)
                tail += b',"audio":' + _encode(references)
        self._write(direction, self._masker.frame(fitted), tail, at_s)

    def bad_frame(self, direction: str, frame: bytes, error: str, at_s: float) -> None:
        """Write a frame that is not a message."""
        # Masked first: the cut must not go through the middle of a key.
        begin = as_text(self._masker.frame(bytes(frame[: 8 * _LONGEST_BAD_FRAME])))
        shown = self._masker.text(begin)[:_LONGEST_BAD_FRAME]
        self._write(direction, _encode(shown), self._error(error, "", len(frame)), at_s)

    def text(self, direction: str, frame: bytes, error: str, kind: str, at_s: float) -> None:
        """Write a frame as a string, whatever it is. error: why not as JSON. kind: its type."""
        self._write_text(direction, frame, error, kind, b"", at_s)

    def _write_text(self, direction: str, frame: bytes, error: str, kind: str, tail: bytes, at_s: float) -> None:  # noqa: PLR0917
        """Write the whole frame as a string."""
        shown = self._masker.text(as_text(self._masker.frame(frame)))
        self._write(direction, _encode(shown), self._error(error, kind, len(frame)) + tail, at_s)

    def _error(self, error: str, kind: str, size: int) -> bytes:
        tail = b',"error":' + _encode(self._masker.value(error)) + b',"size":%d' % size
        return tail + (b',"type":' + _encode(self._masker.value(kind)) if kind else b"")

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


def _changed(what: str) -> bytes:
    return b',"changed":' + _encode(what) if what else b""


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
            place = keep(audio.encode("utf-8", "replace"))
            if place is not None:
                node["audio"] = ""
                found.append(place)
    return found
