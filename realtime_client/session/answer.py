"""One whole answer, put together from updates."""

from __future__ import annotations

import msgspec

from realtime_client import updates as up

from .stats import TurnStats


class Answer(msgspec.Struct, kw_only=True, frozen=True):
    """One whole answer.

    text: all of it, in order. audio: in audio_format; empty for a text answer. heard: what the server understood of
    the user's audio, when it said so in time. status, reason: as in `updates.ResponseDone`. unreadable,
    unreadable_audio: messages that came in the meantime and could not be read, and those of them that held sound; their
    contents are missing.
    """

    text: str
    audio: bytes
    audio_format: up.AudioFormat
    status: str
    reason: str | None = None
    error: str | None = None
    heard: str = ""
    usage: up.Usage | None = None
    tool_calls: tuple[up.ToolCall, ...] = ()
    item_ids: tuple[str, ...] = ()
    timings: TurnStats | None = None
    unreadable: int = 0
    unreadable_audio: int = 0

    @property
    def empty(self) -> bool:
        """Whether it holds nothing at all: no text, no sound, no call."""
        return not (self.text.strip() or self.audio or self.tool_calls)

    def __repr__(self) -> str:
        calls = ", ".join(call.name for call in self.tool_calls)
        shown = {
            "status": self.status,
            "text": self.text if len(self.text) <= 60 else self.text[:57] + "...",
            "audio": f"<{len(self.audio)} bytes, {self.audio_format.ms(len(self.audio)) / 1000:.1f} s>",
            "reason": self.reason,
            "error": self.error,
            "heard": self.heard,
            "tool_calls": f"<{calls}>" if calls else "",
        }
        return f"Answer({', '.join(f'{name}={value!r}' for name, value in shown.items() if value)})"
