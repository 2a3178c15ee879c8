"""What has come of each stream, and the figures of it. Thread-safe: one thread adds while others read."""

from __future__ import annotations

import threading
from collections import deque

from realtime_client.session.stats import StreamStats
from realtime_client.updates import Usage

from .wires import pieces as pc

_RATE_STEP_S = 1.0
_MOST_STEPS = 600


class _Stream:
    __slots__ = ("done_s", "first_s", "last_s", "rates", "source", "started_s", "stats", "text", "timings", "usage")

    def __init__(self, stream: str, source: str, at_s: float) -> None:
        self.stats = StreamStats(stream=stream, source=source)
        self.source = source
        self.started_s = self.last_s = at_s
        self.first_s: float | None = None
        self.done_s: float | None = None
        self.text: list[str] = []
        self.timings: pc.Timings | None = None
        self.usage: Usage | None = None
        self.rates: list[int] = []


class Accumulator:
    """Takes the pieces of all streams of a session.

    keep: figures of so many finished streams are kept; of their text, nothing: the conversation has it. begun,
    finished: how many streams were.
    """

    def __init__(self, keep: int = 256) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, _Stream] = {}
        self._done: deque[StreamStats] = deque(maxlen=keep)
        self.begun = self.finished = 0

    def begin(self, stream: str, source: str, at_s: float) -> None:
        """A stream begins: its request leaves."""
        with self._lock:
            self._running[stream] = _Stream(stream, source, at_s)
            self.begun += 1

    def take(self, pieces: list[pc.Piece]) -> None:
        """Take pieces of one stream."""
        with self._lock:
            found = self._running.get(pieces[0].stream) if pieces else None
            if found is None:
                return
            for piece in pieces:
                found.last_s = piece.at_s
                kind = type(piece)
                if kind is pc.TextPiece:
                    self._text(found, piece)  # type: ignore[arg-type]
                elif kind is pc.UsagePiece:
                    found.usage = piece.usage  # type: ignore[attr-defined]
                elif kind is pc.TimingsPiece:
                    found.timings = piece.timings  # type: ignore[attr-defined]

    @staticmethod
    def _text(found: _Stream, piece: pc.TextPiece) -> None:
        stats = found.stats
        if found.first_s is None:
            found.first_s = piece.at_s
        found.text.append(piece.text)
        stats.pieces += 1
        stats.characters += len(piece.text)
        step = int((piece.at_s - found.first_s) / _RATE_STEP_S)
        if 0 <= step < _MOST_STEPS:
            while len(found.rates) <= step:
                found.rates.append(0)
            found.rates[step] += 1

    def text(self, stream: str) -> str:
        """Return the text so far; '' for a stream that is not running."""
        with self._lock:
            found = self._running.get(stream)
            if found is None:
                return ""
            if len(found.text) > 1:
                found.text = ["".join(found.text)]
            return found.text[0] if found.text else ""

    def running(self) -> dict[str, float]:
        """Return the streams that run, and when each was last heard of."""
        with self._lock:
            return {stream: found.last_s for stream, found in self._running.items()}

    def end(self, stream: str, at_s: float) -> StreamStats | None:
        """A stream is over: its text is forgotten. Returns its figures; None for one that is not running."""
        with self._lock:
            found = self._running.pop(stream, None)
            if found is None:
                return None
            stats = found.stats
            stats.total_s = round(at_s - found.started_s, 6)
            stats.first_s = None if found.first_s is None else round(found.first_s - found.started_s, 6)
            stats.rates = found.rates
            _count(stats, found, at_s)
            self._done.append(stats)
            self.finished += 1
            return stats

    def stats(self) -> list[StreamStats]:
        """Return the figures of the newest finished streams, oldest first."""
        with self._lock:
            return list(self._done)


def _count(stats: StreamStats, found: _Stream, at_s: float) -> None:
    timings = found.timings or pc.Timings()
    stats.load_s, stats.prompt_s = timings.load_s, timings.prompt_s
    stats.estimated = found.usage is None and stats.pieces > 0
    stats.tokens = stats.pieces if found.usage is None else found.usage.output_tokens
    made_s = timings.generate_s or (at_s - found.first_s if found.first_s is not None else 0.0)
    if stats.tokens and made_s > 0:
        stats.tokens_per_s = round(stats.tokens / made_s, 3)
