"""Figures of a session: per turn, per connection, per queue. Pure: told what happened and when."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from realtime_client import updates as up


class TurnStats(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One answer. Times in milliseconds; None where the thing did not happen.

    Counted from `asked`: the moment the request left this program (typed text, commit, tool result), or, in voice, the
    moment the server reported the end of speech.
    asked_s: that moment, in seconds of the session's clock. first_text_ms, first_audio_ms: to the first delta.
    speech_to_audio_ms: end of speech to first audio. total_ms: to the end of the answer.
    """

    response_id: str
    status: str = "in_progress"
    asked_s: float | None = None
    first_text_ms: float | None = None
    first_audio_ms: float | None = None
    speech_to_audio_ms: float | None = None
    total_ms: float | None = None
    audio_chunks: int = 0
    audio_bytes: int = 0
    text_chunks: int = 0
    interrupted: bool = False

    def latencies(self) -> dict[str, float]:
        """Return its times that there are, in ms, by the names of `LATENCIES`."""
        found = ((name, getattr(self, field)) for name, field in LATENCIES.items())
        return {name: value for name, value in found if value is not None}


LATENCIES = {
    "first_text": "first_text_ms",
    "first_audio": "first_audio_ms",
    "speech_to_audio": "speech_to_audio_ms",
    "answer": "total_ms",
}
"""What the times of `TurnStats` are called in results, metrics and reports."""


class Causes(NamedTuple):
    """What the latencies of an answer count from, in seconds of one clock; None for what did not happen.

    asked_s: the request, or the end of the user's speech. speech_end_s: the server told the end of speech.
    """

    asked_s: float | None = None
    speech_end_s: float | None = None

    def latency_ms(self, name: str, at_s: float | None) -> float | None:
        """Return a latency of `LATENCIES` that ended at a moment; None where there is no such time."""
        return _ms(self.speech_end_s if name == "speech_to_audio" else self.asked_s, at_s)


def _ms(start_s: float | None, end_s: float | None) -> float | None:
    """Milliseconds between two moments, to the microsecond."""
    if start_s is None or end_s is None or end_s < start_s:
        return None
    return round((end_s - start_s) * 1000, 3)


class RoundTrip(msgspec.Struct, kw_only=True):
    """Round-trip times in milliseconds; None before the first pong."""

    pongs: int = 0
    last_ms: float | None = None
    min_ms: float | None = None
    mean_ms: float | None = None
    max_ms: float | None = None

    def add(self, ms: float) -> None:
        """Take one measurement in."""
        self.pongs += 1
        self.last_ms = ms
        self.min_ms = ms if self.min_ms is None else min(self.min_ms, ms)
        self.max_ms = ms if self.max_ms is None else max(self.max_ms, ms)
        self.mean_ms = ms if self.mean_ms is None else self.mean_ms + (ms - self.mean_ms) / self.pongs


class Traffic(msgspec.Struct, kw_only=True):
    """Messages and bytes each way."""

    frames_in: int = 0
    bytes_in: int = 0
    frames_out: int = 0
    bytes_out: int = 0
    malformed: int = 0
    unknown: int = 0
    failures: int = 0


class StreamStats(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The figures of one stream; times in seconds, None for what did not happen.

    first_s: from the request to the first text; total_s: to its end. rates: pieces of text in each second from
    the first one on. tokens_per_s: what the server counted, by its own time where it tells it; None without usage.
    estimated: the tokens are counted here, one a piece: the server stated none. load_s, prompt_s: see `Timings`.
    """

    stream: str
    source: str = ""
    pieces: int = 0
    characters: int = 0
    first_s: float | None = None
    total_s: float | None = None
    tokens: int = 0
    tokens_per_s: float | None = None
    estimated: bool = False
    load_s: float | None = None
    prompt_s: float | None = None
    rates: list[int] = []


class BreakerStats(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Whether a text model is asked. state: `closed` (it is), `open` (left alone) or `half_open` (tried again)."""

    state: str
    reason: str = ""


class TextStats(msgspec.Struct, kw_only=True):
    """The figures of text models.

    requests: streams that were begun. retries: how often the same model was asked again; fallbacks: how often another
    one took over. streams: the newest that are over, oldest first. breakers: by model.
    """

    requests: int = 0
    retries: int = 0
    fallbacks: int = 0
    streams: list[StreamStats] = []
    breakers: dict[str, BreakerStats] = {}


class Stats(msgspec.Struct, kw_only=True):
    """Snapshot of a session's figures.

    queue_high_water: most messages that waited at once, by queue. turns: the newest answers, oldest first. text: where
    text models answer.
    """

    turn_count: int
    turns: list[TurnStats]
    traffic: Traffic
    round_trip: RoundTrip
    queue_high_water: dict[str, int]
    usage: up.Usage
    transcription_usage: dict[str, float]
    connect_ms: float | None = None
    duration_s: float = 0.0
    text: TextStats | msgspec.UnsetType = msgspec.UNSET

    def to_dict(self) -> dict[str, object]:
        """As plain JSON types."""
        plain: dict[str, object] = msgspec.to_builtins(self)
        return plain


Measured = Callable[[str, float, float], None]
"""(name, at_s, ms): a delay that ended now."""
_MOST_OPEN = 64
_T = TypeVar("_T")


class TurnClock:
    """Times each answer from the updates of one session, as they come or out of a journal. Used by one thread.

    measured: told of each delay when it ends: first_text, first_audio, speech_to_audio and answer, which are the
    figures of `TurnStats` (answer: total_ms); interruption, from the user's speech as the server told it to the cut of
    an answer; transcription, from the end of the user's turn to its transcript.
    """

    def __init__(self, keep: int = 256, measured: Measured = lambda _name, _at_s, _ms: None) -> None:
        self.turns: deque[TurnStats] = deque(maxlen=keep)
        self.turn_count = 0
        self._measured = measured
        self._asked_s: float | None = None
        self._speech_end_s: float | None = None
        self._speech_s: float | None = None  # since then the user may cut an answer
        self._committed: dict[str, float] = {}
        self._open: dict[str, tuple[TurnStats, Causes]] = {}

    def asked(self, at_s: float) -> None:
        """A request for an answer left."""
        self._asked_s = at_s

    def take_all(self, updates: Sequence[up.Update], at_s: float) -> None:
        """Take in what happened at one moment. Audio, of which there is most, has the shortest way."""
        running = self._open
        for update in updates:
            kind = type(update)
            if kind is up.AudioDelta:
                entry = running.get(update.response_id)  # type: ignore[attr-defined]
                if entry is not None:
                    turn = entry[0]
                    turn.audio_chunks += 1
                    turn.audio_bytes += len(update.audio)  # type: ignore[attr-defined]
                    if turn.audio_chunks == 1:
                        self._first_audio(entry, at_s)
            elif kind in _COUNTED:
                self.take(update, at_s)

    def take(self, update: up.Update, at_s: float) -> None:
        """Take one update in."""
        if isinstance(update, up.TextDelta):
            self._text(update, at_s)
        elif isinstance(update, up.AudioDelta):
            self.take_all((update,), at_s)
        elif isinstance(update, up.SpeechStarted):
            self._speech_s = at_s
        elif isinstance(update, up.SpeechStopped):
            self._speech_end_s = self._asked_s = at_s
        elif isinstance(update, up.ResponseStarted):
            self._start(update.response_id)
        elif isinstance(update, up.ResponseDone):
            self._done(update, at_s)
        elif isinstance(update, up.Interrupted):
            self._interrupted(update, at_s)
        elif isinstance(update, up.InputCommitted):
            _remember(self._committed, update.item_id, at_s)
        elif isinstance(update, up.UserTranscript):
            self._tell("transcription", _ms(self._committed.pop(update.item_id, None), at_s), at_s)
        elif isinstance(update, up.RequestSent | up.CommitSent):
            self.asked(at_s)

    def _start(self, response_id: str) -> None:
        turn = TurnStats(response_id=response_id, asked_s=self._asked_s)
        _remember(self._open, response_id, (turn, Causes(self._asked_s, self._speech_end_s)))
        self._speech_end_s = self._speech_s = None
        self.turn_count += 1
        self.turns.append(turn)

    def _first_audio(self, entry: tuple[TurnStats, Causes], at_s: float) -> None:
        turn, causes = entry
        turn.first_audio_ms = self._measure("first_audio", causes, at_s)
        turn.speech_to_audio_ms = self._measure("speech_to_audio", causes, at_s)

    def _text(self, update: up.TextDelta, at_s: float) -> None:
        entry = self._open.get(update.response_id)
        if entry is not None:
            turn, causes = entry
            turn.text_chunks += 1
            if turn.text_chunks == 1:
                turn.first_text_ms = self._measure("first_text", causes, at_s)

    def _done(self, update: up.ResponseDone, at_s: float) -> None:
        entry = self._open.pop(update.response_id, None)
        if entry is not None:
            turn, causes = entry
            turn.status, turn.total_ms = update.status, self._measure("answer", causes, at_s)

    def _interrupted(self, update: up.Interrupted, at_s: float) -> None:
        # What is typed, or cut with the very message that tells of the speech, is cut at once: nothing to measure.
        if update.cause == "speech" and at_s != self._speech_s:
            self._tell("interruption", _ms(self._speech_s, at_s), at_s)
        self._speech_s = None
        if update.response_id in self._open:
            self._open[update.response_id][0].interrupted = True

    def _measure(self, name: str, causes: Causes, at_s: float) -> float | None:
        return self._tell(name, causes.latency_ms(name, at_s), at_s)

    def _tell(self, name: str, ms: float | None, at_s: float) -> float | None:
        if ms is not None:
            self._measured(name, at_s, ms)
        return ms


_COUNTED = {
    up.TextDelta, up.SpeechStarted, up.SpeechStopped, up.InputCommitted, up.UserTranscript,
    up.ResponseStarted, up.ResponseDone, up.Interrupted, up.RequestSent, up.CommitSent,
}  # fmt: skip


def _remember(marks: dict[str, _T], name: str, mark: _T) -> None:
    """Keep the newest: answers and turns whose end never comes must not pile up."""
    marks[name] = mark
    if len(marks) > _MOST_OPEN:
        del marks[next(iter(marks))]
