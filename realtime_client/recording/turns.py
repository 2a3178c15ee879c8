"""The turns of a conversation: what one of them is, and what was heard of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .timeline import RATE_HZ

SPEAKERS = {"user", "assistant", "system", "tool", "note"}


@dataclass(slots=True)
class Turn:
    """One turn. start, end: frames at 24 kHz in conversation.wav. texts: by content part, in pieces.

    cut_ms: how much of its audio was heard, None for all. received_ms: how much of it arrived. files: its audio,
    relative to the folder. done: it is over; sounding: the user's
    sound is still coming; written: it stands in the transcript. noted: what the journal knows of it.
    """

    n: int
    who: str
    item_id: str = ""
    kind: str = "message"
    name: str = ""
    after: str | None = None
    response_id: str = ""
    start: int = 0
    end: int = 0
    texts: dict[int, list[str]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    cut_ms: int | None = None
    received_ms: int = 0
    interrupted: bool = False
    out_of_band: bool = False
    status: str = "in_progress"
    done: bool = False
    spoken: bool = False
    transcribed: bool = False
    done_at_s: float = 0.0
    sounding: bool = False
    written: bool = False
    noted: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        """All its text, as far as it is known."""
        said = "".join("".join(pieces) for _, pieces in sorted(self.texts.items()))
        return f"{self.name}({said})" if self.name else said

    def set_text(self, text: str, part: int = 0) -> None:
        """Replace the text of one part."""
        self.texts[part] = [text]

    def line(self) -> dict[str, Any]:
        """Return its line of transcript.jsonl."""
        text = self.text
        line: dict[str, Any] = {
            "n": self.n,
            "who": self.who,
            "item_id": self.item_id,
            "text": text,
            "heard": text if self.cut_ms is None else heard_text(text, self.cut_ms, self.received_ms),
            "cut_ms": self.cut_ms,
            "start_s": round(self.start / RATE_HZ, 3),
            "end_s": round(max(self.start, self.end) / RATE_HZ, 3),
            "audio": self.files[0] if self.files else None,
            "interrupted": self.interrupted,
            "status": self.status,
        }
        if len(self.files) > 1:
            line["more_audio"] = self.files[1:]
        if self.who == "tool":
            line["type"] = self.kind
        if self.out_of_band:
            line["out_of_band"] = True
        return line


def heard_text(text: str, heard_ms: int, received_ms: int) -> str:
    """Estimate which part of a spoken text was heard, from how much of its audio was.

    An estimate: it takes speech to be of even speed, cuts the text in the proportion heard_ms / received_ms and goes
    back to the last whole word. Nobody states where each word is in the audio.
    """
    heard_ms = max(0, heard_ms)
    if heard_ms >= received_ms:
        return text
    limit = len(text) * heard_ms // received_ms
    if limit >= len(text) or text[limit : limit + 1].isspace():
        return text[:limit].rstrip()
    words = text[:limit].rsplit(maxsplit=1)
    if not text[:limit] or text[limit - 1].isspace():
        return text[:limit].rstrip()
    return words[0].rstrip() if len(words) > 1 else ""
