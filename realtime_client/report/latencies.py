"""What the messages of a session say about its delays. Pure: told what happened and when.

The names and meanings are those of the session's own figures (`session/stats.py`) and of a run's results.
"""

from __future__ import annotations

from typing import Any

from .fields import table, text
from .plots import Series

MEANINGS = {
    "first_audio": ("First audio", "from the request, or the end of the user's speech, to the first sound"),
    "speech_to_audio": (
        "Speech to audio",
        "from the end of the user's speech, as the server saw it, to the sound",
    ),
    "first_text": ("First text", "from the request, or the end of the user's speech, to the first word"),
    "answer": ("Whole answer", "from the request to the end of the answer as it arrived"),
    "interruption": ("Interruption", "from the user's speech, as the server told it, to the cut of the answer"),
    "transcription": ("Transcription", "from the end of the user's turn to its transcript"),
    "reply_gap": ("Reply gap", "silence between the user's last sound and the assistant's first, as it was heard"),
}
_AUDIO = {"response.output_audio.delta", "response.audio.delta"}
_TEXT = {
    "response.output_audio_transcript.delta",
    "response.audio_transcript.delta",
    "response.output_text.delta",
    "response.text.delta",
}
_MOST_OPEN = 64


class Latencies:
    """Collects (seconds, ms) by name."""

    def __init__(self) -> None:
        self.points: dict[str, list[tuple[float, float]]] = {}
        self._asked_s: float | None = None
        self._speech_end_s: float | None = None
        self._cause_s: float | None = None
        self._open: dict[str, dict[str, float | None]] = {}
        self._committed: dict[str, float] = {}

    def take(self, direction: str, kind: str, t: float, event: dict[str, Any]) -> None:
        """Take a message in that is no delta."""
        if direction == "out":
            self._sent(t, kind)
        elif kind == "input_audio_buffer.speech_started":
            self._cause_s = t
        elif kind == "input_audio_buffer.speech_stopped":
            self._asked_s = self._speech_end_s = t
        elif kind == "input_audio_buffer.committed":
            _remember(self._committed, text(event, "item_id"), t)
        elif kind == "conversation.item.input_audio_transcription.completed":
            self._add("transcription", self._committed.pop(text(event, "item_id"), None), t)
        elif kind == "response.created":
            self._cause_s = None
            mark: dict[str, float | None] = {"asked": self._asked_s, "speech": self._speech_end_s}
            _remember(self._open, text(table(event, "response"), "id"), mark)
            self._speech_end_s = None
        elif kind == "response.done":
            self._done(t, text(table(event, "response"), "id"))
        elif kind == "interrupted" and direction == "note":
            self._interrupted(t, text(event, "cause"))

    def piece(self, kind: str, t: float, response_id: str) -> None:
        """Take a delta in."""
        if kind in _AUDIO:
            self._first(t, response_id, "first_audio")
        elif kind in _TEXT:
            self._first(t, response_id, "first_text")

    def series(self) -> list[Series]:
        """Return what there are values of, in the order of `MEANINGS`."""
        found = ((name, self.points.get(name)) for name in MEANINGS)
        return [Series(*MEANINGS[name], points) for name, points in found if points]

    def add(self, name: str, at_s: float, value_ms: float) -> None:
        """Add a value that no message says."""
        self.points.setdefault(name, []).append((round(at_s, 3), round(value_ms, 3)))

    def _sent(self, t: float, kind: str) -> None:
        if kind in {"response.create", "input_audio_buffer.commit"}:
            self._asked_s = t

    def _first(self, t: float, response_id: str, name: str) -> None:
        mark = self._open.get(response_id)
        if mark is None or name in mark:
            return
        mark[name] = t
        self._add(name, mark["asked"], t)
        if name == "first_audio":
            self._add("speech_to_audio", mark["speech"], t)

    def _done(self, t: float, response_id: str) -> None:
        mark = self._open.pop(response_id, None)
        if mark is not None:
            self._add("answer", mark["asked"], t)

    def _interrupted(self, t: float, cause: str) -> None:
        if cause == "speech":  # what is typed cuts at once, and there is nothing to measure
            self._add("interruption", self._cause_s, t)
        self._cause_s = None

    def _add(self, name: str, start_s: float | None, t: float) -> None:
        if start_s is not None and t >= start_s:
            self.add(name, t, (t - start_s) * 1000)


def _remember(marks: dict[str, Any], name: str, mark: Any) -> None:
    """Keep the newest; what never ends must not pile up."""
    marks[name] = mark
    if len(marks) > _MOST_OPEN:
        del marks[next(iter(marks))]
