"""Reading token usage as the wire states it."""

from __future__ import annotations

from typing import Any

from realtime_client.updates import Usage

_MOST = 2**53  # larger numbers are not quantities of anything that a session uses


def quantity(value: Any) -> int | float | None:
    """A number that can be added up; None for anything else, and for absurdly large ones."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if -_MOST <= value <= _MOST else None  # false for NaN, too


def _count(node: Any, key: str) -> int:
    """Return a count; anything that is not one is 0."""
    return int(quantity(node.get(key)) or 0) if isinstance(node, dict) else 0


def read_usage(data: dict[str, Any] | None) -> Usage | None:
    """Read `response.done.usage` (or a transcription's token usage); None when the server stated none."""
    if not data:
        return None
    came = data.get("input_token_details") or {}
    cached = came.get("cached_tokens_details") if isinstance(came, dict) else None
    went = data.get("output_token_details") or {}
    return Usage(
        input_tokens=_count(data, "input_tokens"),
        output_tokens=_count(data, "output_tokens"),
        total_tokens=_count(data, "total_tokens"),
        input_text=_count(came, "text_tokens"),
        input_audio=_count(came, "audio_tokens"),
        input_image=_count(came, "image_tokens"),
        cached=_count(came, "cached_tokens"),
        cached_text=_count(cached, "text_tokens"),
        cached_audio=_count(cached, "audio_tokens"),
        cached_image=_count(cached, "image_tokens"),
        output_text=_count(went, "text_tokens"),
        output_audio=_count(went, "audio_tokens"),
    )
