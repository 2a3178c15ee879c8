"""Server side: tokens, estimated the way the service counts them, by modality.

A token of text is about four characters; a token of audio is 100 ms heard or 50 ms spoken. The counts are estimates:
right in shape and magnitude, not the service's exact values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from realtime_client.updates import Usage

from .item_list import Entry

Json = dict[str, Any]
Counted = tuple[str, int, int, int]  # item id, tokens of text, audio, image

_IMAGE_TOKENS = 85
_TOKENS_PER_WINDOW = 40_000


def text_tokens(text: str | bytes) -> int:
    """Return the tokens of a text."""
    return -(-len(text) // 4)


def audio_tokens(duration_ms: int, *, generated: bool) -> int:
    """Return the tokens of audio of this length."""
    return -(-duration_ms // (50 if generated else 100))


def count_item(entry: Entry) -> Counted:
    """Count one item of the context."""
    item = entry.item
    text = text_tokens((item.name or "") + item.said)
    generated = item.role == "assistant"
    audio = sum(audio_tokens(clip.duration_ms, generated=generated) for clip in entry.clips.values())
    images = sum(_IMAGE_TOKENS for part in item.content or () if part.type == "input_image")
    return (entry.id, text, audio, images)


def usage(context: Sequence[Counted], cached: Sequence[Counted], output_text: int, output_audio: int) -> Json:
    """Return the usage object of response.done.

    cached: the part of `context` that the previous response had read too; a subset of it, never added to it.
    """
    text, audio, image = _add_up(context)
    c_text, c_audio, c_image = _add_up(cached)
    total_in, total_out = text + audio + image, output_text + output_audio
    return {
        "total_tokens": total_in + total_out,
        "input_tokens": total_in,
        "output_tokens": total_out,
        "input_token_details": {
            "text_tokens": text,
            "audio_tokens": audio,
            "image_tokens": image,
            "cached_tokens": c_text + c_audio + c_image,
            "cached_tokens_details": {"text_tokens": c_text, "audio_tokens": c_audio, "image_tokens": c_image},
        },
        "output_token_details": {"text_tokens": output_text, "audio_tokens": output_audio},
    }


def stated(spent: Usage) -> Json:
    """Return the usage object for what a text model states: all of it is text."""
    taken, made = spent.input_tokens, spent.output_tokens
    cached = min(spent.cached, taken)
    return {
        "total_tokens": taken + made,
        "input_tokens": taken,
        "output_tokens": made,
        "input_token_details": {
            "text_tokens": taken,
            "audio_tokens": 0,
            "image_tokens": 0,
            "cached_tokens": cached,
            "cached_tokens_details": {"text_tokens": cached, "audio_tokens": 0, "image_tokens": 0},
        },
        "output_token_details": {"text_tokens": made, "audio_tokens": 0},
    }


def _add_up(rows: Sequence[Counted]) -> tuple[int, int, int]:
    return sum(row[1] for row in rows), sum(row[2] for row in rows), sum(row[3] for row in rows)


def common_prefix(before: Sequence[Counted], now: Sequence[Counted]) -> Sequence[Counted]:
    """Return the rows at the front that did not change: what a prompt cache holds."""
    size = 0
    for old, new in zip(before, now, strict=False):
        if old != new:
            break
        size += 1
    return now[:size]


class RateMeter:
    """The limits that rate_limits.updated states. They inform; the local server enforces none."""

    def __init__(self) -> None:
        self._requests = 0
        self._tokens = 0

    def spend(self, tokens: int) -> list[Json]:
        """Count one response; return name, limit, remaining, reset_seconds of each limit."""
        self._requests += 1
        self._tokens += tokens
        return [
            _limit("requests", 5_000, self._requests),
            _limit("tokens", _TOKENS_PER_WINDOW, self._tokens),
        ]


def _limit(name: str, limit: int, used: int) -> Json:
    remaining = max(0, limit - used)
    return {
        "name": name,
        "limit": limit,
        "remaining": remaining,
        "reset_seconds": round((limit - remaining) * 60 / limit, 3),
    }
