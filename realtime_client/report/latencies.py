"""The delays of a session, from its journal. Pure: told what happened and when.

What they are is decided where a session measures itself (`session.stats.TurnClock`); here they become points of a plot.
"""

from __future__ import annotations

from realtime_client.session.stats import TurnClock

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


_WRITTEN = {"first_text": ("First text", "from the request to the first word")}


class Latencies:
    """Collects (seconds, ms) by name."""

    def __init__(self) -> None:
        self.points: dict[str, list[tuple[float, float]]] = {}
        clock = TurnClock(keep=1, measured=self.add)
        self.take, self.take_all, self.asked = clock.take, clock.take_all, clock.asked

    def add(self, name: str, at_s: float, value_ms: float) -> None:
        """Add a value, unless a journal out of order made it negative."""
        if value_ms >= 0:
            self.points.setdefault(name, []).append((round(at_s, 3), round(value_ms, 3)))

    def series(self, *, written: bool = False) -> list[Series]:
        """Return the series that have values, in the order of `MEANINGS`. written: nobody speaks in this session."""
        meanings = MEANINGS | _WRITTEN if written else MEANINGS
        found = ((name, self.points.get(name)) for name in MEANINGS)
        return [Series(*meanings[name], points) for name, points in found if points]
