"""A line of journal.jsonl: its fields are the journal's schema. See docs/journal.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Union

import msgspec

from realtime_client import updates as up

VERSION = 2

if TYPE_CHECKING:
    AnyUpdate = up.Update
else:

    def _kinds(base: type[up.Update]) -> Iterator[type[up.Update]]:
        for each in base.__subclasses__():
            if each.__module__ == up.__name__:
                yield from _kinds(each) if each.__subclasses__() else (each,)

    AnyUpdate = Union[tuple(_kinds(up.Update))]  # noqa: UP007 - built at run time


class AudioPlace(msgspec.Struct):
    """Where a sound is. offset, length: bytes of the file's audio data (PCM16), after the header.

    file: relative to the folder; null: not kept (late audio of an answer that was cut off). channel: of
    conversation.wav `left`; offset and length then count both channels.
    """

    file: str | None
    offset: int = 0
    length: int = 0
    channel: str | msgspec.UnsetType = msgspec.UNSET


class JournalLine(msgspec.Struct, kw_only=True):
    """One line. n: counts from 1. t: seconds since the recording began (monotonic). wall: epoch seconds.

    dir: `in` from the server, `out` from this program, `note` for what no message told. event: the message as it was,
    with its audio emptied and secrets masked; a string when it is none or cannot stand as JSON, then with `error`, its
    `size` in bytes and, where it can be told, its `type`. Of a note: what the recorder notes, else nothing. updates:
    what it meant, in the words of no wire. audio: where each emptied audio is, in the order of the frame. changed: what
    of the message had to be written otherwise.
    """

    n: int
    t: float
    wall: float = 0.0
    dir: str
    event: msgspec.Raw
    updates: list[AnyUpdate] = []
    audio: list[AudioPlace] = []
    changed: str = ""
    error: str = ""
    size: int = 0
    type: str = ""


def schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a line; docs/journal.schema.json is this."""
    about = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"journal.jsonl, version {VERSION}"}
    whole: dict[str, Any] = about | msgspec.json.schema(JournalLine)
    for each in whole["$defs"].values():
        each.pop("description", None)  # for whoever reads the code, where it stands, too
    return whole
