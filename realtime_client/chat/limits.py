"""Limits of a conversation with a text model, beside those of every session."""

from __future__ import annotations

from typing import Literal

import msgspec

WhenFull = Literal["block", "drop", "fail"]


class ChatLimits(msgspec.Struct, frozen=True, kw_only=True):
    """All in seconds or numbers.

    stream_timeout_s: longest time of one answer, from its first sign on. first_byte_s: until that; a model that is
    being loaded takes minutes. silence_s: longest pause within an answer. grace_s: how long figures that follow the end
    of an answer are waited for. retries: how often a request is sent again to the same server, retry_delay_s: the pause
    before the first of these; it doubles. streams: answers that are made at the same time. history_entries,
    history_bytes: what is kept of the conversation; the oldest is forgotten first. context_tokens: what is sent of it,
    None for what the model is known to take. answer_characters: a longer answer is cut. chunk_buffer: pieces that may
    wait for observers that are behind, and for each hook; when_full: what happens then, see `ChunkBuffer`.
    """

    stream_timeout_s: float = 60.0
    first_byte_s: float = 300.0
    silence_s: float = 60.0
    grace_s: float = 2.0
    retries: int = 3
    retry_delay_s: float = 1.0
    streams: int = 8
    history_entries: int = 1024
    history_bytes: int = 4 * 2**20
    context_tokens: int | None = None
    answer_characters: int = 4_000_000
    chunk_buffer: int = 100
    when_full: WhenFull = "block"
