"""Where a conversation stood that a chat goes on with."""

from __future__ import annotations

from collections.abc import Sequence

from realtime_client.escape import shortened
from realtime_client.history import Entry

EXCHANGES = 2
_LONGEST = 300
_LINES = 8


def last_words(entries: Sequence[Entry]) -> list[str]:
    """Return the last two exchanges for the screen, a line for each thing said; at most eight lines."""
    said = [entry for entry in entries if entry.role in {"user", "assistant"} and entry.said.strip()]
    asked = [n for n, entry in enumerate(said) if entry.role == "user"]
    first = asked[-EXCHANGES] if len(asked) >= EXCHANGES else 0
    lines = [("> " if entry.role == "user" else "") + shortened(entry.said, _LONGEST) for entry in said[first:]]
    return lines[-_LINES:]
