"""Writing journal.jsonl: every message in both directions and what it meant, one JSON object a line.

docs/journal.md describes the lines; `journal_line.py` has their fields, `journal_reader.py` reads them. Every line is
one object of valid JSON in UTF-8, whatever came: parts of a message that cannot be written as they were are written
differently (`changed`), or the whole message as a string.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from realtime_client import updates as up
from realtime_client.deadline import Clock

from .frames import UnfitError, as_text, fit
from .journal_line import VERSION, AudioPlace
from .masking import Masker
from .wav import create_private, write_all

FLUSH_S = 0.5
_FLUSH_BYTES = 1 << 16
_LONGEST_BAD_FRAME = 4_096
_MOST_FIGURES = 64
_TYPE = re.compile(rb'"type"\s*:\s*"([\w.]{1,100})"')
_KEPT = b'{"type":"kept"}'
_encode = msgspec.json.encode
_replace = msgspec.structs.replace


def _figures(usage: dict[str, Any] | None) -> dict[str, Any] | None:
    """What a server adds to the figures may be nested without end."""
    figures = {name: value for name, value in (usage or {}).items() if isinstance(value, int | float)}
    return dict(list(figures.items())[:_MOST_FIGURES]) if usage else usage


_LEAN: dict[type, Callable[[Any], up.Update]] = {
    up.AudioDelta: lambda u: up.AudioDelta(
        response_id=u.response_id, item_id=u.item_id, content_index=u.content_index, audio=b""
    ),
    up.SessionStarted: lambda u: _replace(u, settings={}),
    up.SessionChanged: lambda u: _replace(u, settings={}),
    up.Unknown: lambda u: _replace(u, data={}),
    up.UserTranscript: lambda u: _replace(u, usage=_figures(u.usage)),
}
"""Without what the line holds anyway: the sound's place, the message itself."""


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
        self._block: tuple[bytes, Sequence[up.Update], bytes] = (b"", [], b"")
        self._part: tuple[tuple[str, str, int], bytes] = (("", "", -1), b"")
        self.note({"type": "journal", "version": VERSION}, start_s)

    def frame(
        self,
        direction: str,
        frame: bytes,
        at_s: float,
        *,
        media: Sequence[up.Media] = (),
        places: Sequence[AudioPlace] = (),
        updates: Sequence[up.Update] = (),
    ) -> None:
        """Write a message: the hot path. places: where the sound of each of `media` is; updates: what it meant."""
        rest = _without(frame, media)
        tail = b',"audio":' + _encode(places) if places else b""
        if updates is self._block[1] and rest == self._block[0]:  # one microphone block is like any other
            self._write_line(direction, self._block[2], tail, at_s)
            return
        try:
            event, changed = fit(rest)
        except UnfitError as error:
            self.text(direction, rest, str(error), at_s, updates=updates, tail=tail)
            return
        if changed:
            tail += b',"changed":' + _encode(changed)
        said = self._said(event, updates)
        if media and type(updates) is tuple and not changed:
            self._block = rest, updates, said
        self._write_line(direction, said, tail, at_s)

    def bad_frame(
        self, direction: str, frame: bytes, bad: up.Malformed, updates: Sequence[up.Update], at_s: float
    ) -> None:
        """Write the beginning of a frame that is no message. bad: the one of the updates that says so."""
        # Masked first: the cut must not split a key.
        begin = as_text(self._masker.frame(bytes(frame[: 8 * _LONGEST_BAD_FRAME])))
        shown = self._masker.text(begin)[:_LONGEST_BAD_FRAME]
        self._write(direction, _encode(shown), updates, self._error(bad.error, bad.event_type, len(frame)), at_s)

    def text(
        self,
        direction: str,
        frame: bytes,
        error: str,
        at_s: float,
        *,
        updates: Sequence[up.Update] = (),
        tail: bytes = b"",
    ) -> None:
        """Write the whole frame as a string, whatever it is. error: why not as JSON."""
        shown = self._masker.text(as_text(self._masker.frame(frame)))
        kind = _TYPE.search(frame)
        tail += self._error(error, kind[1].decode("utf-8", "replace") if kind else "", len(frame))
        self._write(direction, _encode(shown), updates, tail, at_s)

    def _error(self, error: str, kind: str, size: int) -> bytes:
        tail = b',"error":' + _encode(self._masker.value(error)) + b',"size":%d' % size
        return tail + (b',"type":' + _encode(self._masker.value(kind)) if kind else b"")

    def note(self, event: dict[str, Any], at_s: float) -> None:
        """Write something of the recorder's own."""
        self._write_line("note", _encode(self._masker.value(event)), b"", at_s)

    def kept(self, place: AudioPlace, at_s: float) -> None:
        """Write where sound of the user is that no message has brought to a server yet."""
        self._write_line("note", _KEPT, b',"audio":' + _encode((place,)), at_s)

    def noticed(self, update: up.Update, at_s: float) -> None:
        """Write an update that no message brought."""
        self._write("note", b"{}", (update,), b"", at_s)

    def _told(self, updates: Sequence[up.Update]) -> bytes:
        if len(updates) == 1 and type(delta := updates[0]) is up.AudioDelta:
            part = (delta.response_id, delta.item_id, delta.content_index)
            if part != self._part[0]:
                self._part = part, self._encoded(updates)
            return self._part[1]
        return self._encoded(updates)

    def _encoded(self, updates: Sequence[up.Update]) -> bytes:
        lean = [lighter(each) if (lighter := _LEAN.get(type(each))) else each for each in updates]
        try:
            return _encode(lean)
        except UnicodeEncodeError:  # half a character
            return _encode(self._masker.value(msgspec.to_builtins(lean, str_keys=True)))

    def flush(self, at_s: float) -> None:
        """Write all lines to the file."""
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

    def _write(self, direction: str, event: bytes, updates: Sequence[up.Update], tail: bytes, at_s: float) -> None:
        """Write what came from outside. tail: fields of our own."""
        self._write_line(direction, self._said(event, updates), tail, at_s)

    def _said(self, event: bytes, updates: Sequence[up.Update]) -> bytes:
        """An event and its meaning, masked."""
        return self._masker.frame(b'%b,"updates":%b' % (event, self._told(updates) if updates else b"[]"))

    def _write_line(self, direction: str, event: bytes, tail: bytes, at_s: float) -> None:
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


def _without(frame: bytes, media: Sequence[up.Media]) -> bytes:
    """The frame with its sound emptied."""
    if len(media) == 1:
        return frame[: media[0].start] + frame[media[0].end :]
    pieces, at = [], 0
    for each in media:
        pieces.append(frame[at : max(at, each.start)])
        at = max(at, each.end)
    return b"".join([*pieces, frame[at:]]) if pieces else frame
