"""The sound that messages carry, and what sent messages mean, in neutral words: for whoever records a session. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pybase64

from realtime_client.updates import CommitSent, InputCleared, InputSent, Media, RequestSent, SentAgain, SentMessage

from . import events as ev
from .restoration import is_again

_TOKENS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\],]', re.DOTALL)
_AGAIN = (SentAgain(),)
_MEANINGS: dict[type, tuple[SentMessage, ...]] = {
    ev.InputAudioBufferAppend: (InputSent(),),
    ev.InputAudioBufferCommit: (CommitSent(),),
    ev.InputAudioBufferClear: (InputCleared(),),
}


def meaning_of(event: ev.ClientEvent) -> Sequence[SentMessage]:
    """Return what a sent message means beyond what observers are told of it."""
    if is_again(event):
        return _AGAIN
    if type(event) is ev.ResponseCreate:
        return (RequestSent(request_id=event.event_id),)
    return _MEANINGS.get(type(event), ())


def media_of(event: ev.Event | ev.UnknownEvent | ev.MalformedEvent, frame: bytes) -> Sequence[Media]:
    """Return the sound that a message carries, in the order of its frame; nothing of one that is malformed."""
    kind = type(event)
    if kind is ev.ResponseOutputAudioDelta:
        return (_live(frame, b'"delta":"', event.delta, "assistant", event.item_id),)  # type: ignore[union-attr]
    if kind is ev.InputAudioBufferAppend:
        return (_live(frame, b'"audio":"', event.audio, "user"),)  # type: ignore[union-attr]
    if b'"audio"' not in frame or kind is ev.MalformedEvent:
        return ()
    return _of_parts(event, frame)


def _live(frame: bytes, field: bytes, audio: bytes, who: str, item_id: str = "") -> Media:
    """A piece of a stream. field: how its member of the message begins."""
    start = frame.find(field) + len(field)
    end = frame.find(b'"', start)
    # Written in the usual way, and the only one: nothing need be parsed.
    usual = start >= len(field) and end - start == (len(audio) + 2) // 3 * 4 and frame.find(field, end) < 0
    if not usual:
        name = field[1:-3]
        known = (strings[name] for depth, strings in _objects(frame) if depth == 1 and name in strings)
        start, end = next(known, (0, 0))
    return Media(audio, who, item_id, True, start, end)


def _of_parts(event: Any, frame: bytes) -> list[Media]:
    """The sound of content parts, wherever they are in the message."""
    item = getattr(event, "item", None)
    item_id = (item.id if item is not None else getattr(event, "item_id", "")) or ""
    who = "user" if item is not None and item.role == "user" else "assistant"
    found = []
    for _, strings in _objects(frame):
        start, end = strings.get(b"audio", (0, 0))
        first, last = strings.get(b"type", (0, 0))
        if start < end and frame[first:last].endswith(b"audio"):
            audio = _decoded(frame[start - 1 : end + 1])
            if audio is not None:
                found.append(Media(audio, who, item_id, start=start, end=end))
    return sorted(found, key=lambda media: media.start)


def _decoded(token: bytes) -> bytes | None:
    """Return what a string of base64 holds, None if it is not base64."""
    try:
        text = token[1:-1] if b"\\" not in token else msgspec.json.decode(token, type=str).encode()
        return pybase64.b64decode(text, validate=True)
    except (ValueError, msgspec.MsgspecError):
        return None


def _objects(frame: bytes) -> Iterator[tuple[int, dict[bytes, tuple[int, int]]]]:
    """Yield each object of a message where it ends: how deep it lies (1: the message), where its strings stand."""
    around: list[dict[bytes, tuple[int, int]] | None] = []  # None for a list
    name = b""
    name_next = False
    for found in _TOKENS.finditer(frame):
        token = found[0]
        if token in {b"{", b"["}:
            name_next = token == b"{"
            around.append({} if name_next else None)
        elif token == b",":
            name_next = bool(around) and around[-1] is not None
        elif token in {b"}", b"]"}:
            strings = around.pop() if around else None
            if strings is not None:
                yield len(around) + 1, strings
            name_next = False
        elif name_next:
            name, name_next = _name(token), False
        elif around and (strings := around[-1]) is not None:
            strings[name] = found.start() + 1, found.end() - 1


def _name(token: bytes) -> bytes:
    if b"\\" not in token:
        return token[1:-1]
    try:
        return msgspec.json.decode(token, type=str).encode("utf-8", "replace")
    except (ValueError, msgspec.MsgspecError):
        return token[1:-1]
