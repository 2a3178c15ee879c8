"""Text from a model or a server, made safe for a terminal.

Terminals obey control characters: they can move the cursor, rewrite what was shown, set titles, fill the clipboard;
bidirectional controls can make text read as another text (Unicode TR36). None of them is needed in an answer.
"""

from __future__ import annotations

# C0 without line feed, DEL, C1 (ECMA-48); bidirectional marks, embeddings, overrides and isolates (Unicode TR9).
_DROPPED = [*range(0x0A), *range(0x0B, 0x20), *range(0x7F, 0xA0), 0x061C, 0x200E, 0x200F]
_DROPPED += [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_TABLE: dict[int, str | None] = dict.fromkeys(_DROPPED)
_TABLE |= {0x09: "    ", 0x85: "\n", 0x2028: "\n", 0x2029: "\n"}
_TABLE |= dict.fromkeys(range(0xD800, 0xE000), "\N{REPLACEMENT CHARACTER}")  # half a surrogate pair cannot be encoded
_ONE_LINE = _TABLE | {0x0A: " ", 0x85: " ", 0x2028: " ", 0x2029: " "}


def printable(text: str) -> str:
    """Return `text` without control characters; line ends stay, a tab becomes four spaces."""
    return text.translate(_TABLE)


def one_line(text: str, limit: int = 500) -> str:
    """Return `text` printable and on one line of at most `limit` characters."""
    line = text.translate(_ONE_LINE).strip()
    return line if len(line) <= limit else line[: limit - 3] + "..."


def shortened(text: str, limit: int = 80) -> str:
    """Return `text` for one line of a message, printable, what is space in it as one space."""
    line = " ".join(printable(text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"
