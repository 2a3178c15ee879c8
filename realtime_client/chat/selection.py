"""What of a conversation is told to a model that cannot read all of it: the question always, then the newest. Pure."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import msgspec

from realtime_client.history import Entry, replay

GO_ON = "go_on"
"""Id of the message that asks for the rest of an answer: no question of the user's."""


class Selection(msgspec.Struct, frozen=True):
    """What is sent. tokens: of all of it, estimated. older: how many entries of it came before the question."""

    entries: tuple[Entry, ...]
    tokens: int
    older: int


def select(entries: Sequence[Entry], *, instructions: str, most_tokens: int, most_entries: int) -> Selection:
    """Choose what is sent.

    A question that is longer than all that fits is sent alone: without it, a model would answer something else, and the
    server has words for what is too long.
    """
    newest_first = range(len(entries) - 1, -1, -1)
    questions = (n for n in newest_first if entries[n].role == "user" and entries[n].id != GO_ON)
    begins = next(questions, max(0, len(entries) - 1))
    told = replay(entries, instructions=instructions, most_tokens=most_tokens, most_entries=most_entries)
    ids = [entry.id for entry in told.entries]
    if entries and entries[begins].id not in ids:
        told = replay(entries[begins:], instructions=instructions, most_tokens=sys.maxsize)
        ids = []
    return Selection(told.entries, told.tokens, ids.index(entries[begins].id) if ids else 0)
