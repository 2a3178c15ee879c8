"""What a server says, as text: results for the model, descriptions for model and people. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from realtime_client.escape import one_line, printable

if TYPE_CHECKING:
    from mcp_types import CallToolResult

MOST_CHARACTERS = 1_000_000
"""Longest output that is handed on; what the model gets of it is bounded by `ToolLimits.result_characters`."""
LONGEST_DESCRIPTION = 4_096
_SHOWN = 200


def description(text: str | None, limit: int = LONGEST_DESCRIPTION) -> str:
    """Return a server's description without control characters, at most so long."""
    clean = printable((text or "")[: 2 * limit]).strip()
    return clean if len(clean) <= limit else clean[: limit - 1].rstrip() + "…"


def output_of(result: CallToolResult) -> str:
    """Return a result as text: its texts, a line for all that is none, its structure where it has no text."""
    parts = list(_bounded(_part(block) for block in result.content))
    if not any(block.type == "text" and block.text for block in result.content):
        structured = result.structured_content
        if structured is not None:
            parts.insert(0, json.dumps(structured, ensure_ascii=False)[:MOST_CHARACTERS])
    return "\n".join(parts)[:MOST_CHARACTERS]


def _bounded(parts: Iterable[str]) -> Iterator[str]:
    left = MOST_CHARACTERS
    for part in parts:
        if left <= 0:
            return
        yield part[:left]
        left -= len(part) + 1


def _part(block: Any) -> str:
    """Return a block as text; what it holds in base64 is told, never shown."""
    match block.type:
        case "text":
            return str(block.text)
        case "image" | "audio":
            return _line(block.type, block.mime_type, _bytes(block.data))
        case "resource_link":
            size = "" if block.size is None else f"{block.size:,} bytes"
            about = one_line(block.description or block.title or block.name or "", _SHOWN)
            return _line("resource", block.mime_type, size, block.uri, about)
        case "resource":
            held = block.resource
            if (text := getattr(held, "text", None)) is not None:
                return f"{_line('resource', held.mime_type, held.uri)}\n{text}"
            return _line("resource", held.mime_type, _bytes(held.blob), held.uri)
    return _line(str(block.type))


def _line(*parts: str | None) -> str:
    return "[" + ", ".join(one_line(part, _SHOWN) for part in parts if part) + "]"


def _bytes(encoded: str) -> str:
    return f"{len(encoded) * 3 // 4 - encoded[-2:].count('='):,} bytes"
