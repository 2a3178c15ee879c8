"""Who answered, and what went wrong on the way, from a session's updates. Pure: told what happened and when."""

from __future__ import annotations

import math
from dataclasses import dataclass

from realtime_client import updates as up

from .markup import LONGEST_TEXT
from .plots import Series, per_second

_STEP_S = 1.0
_SHORTEST_S = 0.05
_MOST_STRETCHES = 2_000
_MOST_MARKS = 1_000
_MOST_OPEN = 64
_MOST_STEPS = 3_600
_MOST_THOUGHTS = 2_000


TAKEN = {
    up.TextDelta, up.ThinkingDelta, up.SessionStarted, up.SessionChanged, up.ResponseStarted, up.AnswerSource,
    up.ResponseDone, up.Failure, up.BreakerChanged,
}  # fmt: skip


@dataclass(slots=True)
class Stretch:
    """A time in which one model made one answer. first_s: its first words came, None if none did."""

    source: str
    start_s: float
    end_s: float
    first_s: float | None = None


@dataclass(slots=True)
class Mark:
    """Something that happened on the way. kind: `retry`, `restart`, `fallback`, `failure` or `breaker`."""

    at_s: float
    kind: str
    source: str
    what: str
    why: str


class _Answer:
    """An answer that is being made. pieces: how many came in each second after the first one, which begins the time."""

    def __init__(self, stretch: Stretch) -> None:
        self.stretch = stretch
        self.first_s: float | None = None
        self.last_s = 0.0
        self.pieces: list[int] = []

    def piece(self, at_s: float) -> None:
        if self.stretch.first_s is None:
            self.stretch.first_s = at_s
        if self.first_s is None:
            self.first_s = self.last_s = at_s
            return
        self.last_s = max(self.last_s, at_s)
        step = max(0, math.ceil((at_s - self.first_s) / _STEP_S) - 1)
        if step < _MOST_STEPS:
            self.pieces += [0] * (step + 1 - len(self.pieces))
            self.pieces[step] += 1

    def rates(self, tokens: int | None) -> list[tuple[float, float]]:
        """Return (seconds of the session, tokens a second) for each second. tokens: as the server counted them."""
        if self.first_s is None:
            return []
        each = tokens / (1 + sum(self.pieces)) if tokens else 1.0
        found = []
        for step, count in enumerate(self.pieces):
            begin_s = self.first_s + step * _STEP_S
            took_s = min(_STEP_S, self.last_s - begin_s)
            if took_s >= _SHORTEST_S and count:
                found.append((round(begin_s, 3), round(count * each / took_s, 3)))
        return found


class Models:
    """Takes updates in order. writes: no sound is taken and none is made. thoughts: what was thought aloud, by item."""

    def __init__(self) -> None:
        self.writes = False
        self.stretches: list[Stretch] = []
        self.marks: list[Mark] = []
        self.thoughts: dict[str, str] = {}
        self._first = ""
        self._writing = False
        self._running: dict[str, _Answer] = {}
        self._rates: list[tuple[float, float]] = []

    @property
    def known(self) -> bool:
        """Whether there is anything to say."""
        return self.writes or bool(self.marks)

    def rates(self) -> Series | None:
        """Return how fast text came, over the session."""
        meaning = (
            "text as it came, in each second of an answer, by the server's count of tokens or else a piece a token"
        )
        return Series("Tokens a second", meaning, self._rates, per_second) if self._rates else None

    def take(self, update: up.Update, at_s: float) -> None:
        """Take one update in."""
        if isinstance(update, up.TextDelta):
            answer = self._running.get(update.response_id)
            if answer is not None and not update.spoken:
                answer.piece(at_s)
        elif isinstance(update, up.ThinkingDelta):
            before = self.thoughts.get(update.item_id, "")
            if len(before) < LONGEST_TEXT and (before or len(self.thoughts) < _MOST_THOUGHTS):
                self.thoughts[update.item_id] = before + update.text
        elif isinstance(update, up.SessionStarted):
            self._first = self._first or update.facts.model
            self.writes = self._writing = update.facts.in_writing
        elif isinstance(update, up.SessionChanged):
            self._changed(update.facts, at_s)
        elif isinstance(update, up.ResponseStarted):
            self._begin(update.response_id, _Answer(Stretch(self._first, at_s, at_s)))
        elif isinstance(update, up.AnswerSource):
            self._moves(update, at_s)
        elif isinstance(update, up.ResponseDone):
            self._done(update, at_s)
        elif isinstance(update, up.Failure | up.BreakerChanged):
            self._mark(update, at_s)

    def _changed(self, facts: up.Facts, at_s: float) -> None:
        """Text models may have taken over from one that speaks."""
        if facts.in_writing and not self._writing:
            self._writing = True
            self.marks.append(Mark(at_s, "fallback", self._first, "goes on in writing", f"with {facts.model}"))
            self._first = facts.model

    def _begin(self, response_id: str, answer: _Answer) -> None:
        self._running[response_id] = answer
        if len(self._running) > _MOST_OPEN:
            del self._running[next(iter(self._running))]
        if len(self.stretches) < _MOST_STRETCHES:
            self.stretches.append(answer.stretch)

    def _moves(self, update: up.AnswerSource, at_s: float) -> None:
        answer = self._running.get(update.response_id)
        if answer is None:
            return
        if answer.stretch.start_s == at_s:  # it began there
            answer.stretch.source = update.source
            return
        answer.stretch.end_s = at_s
        answer.stretch = Stretch(update.source, at_s, at_s)
        if len(self.stretches) < _MOST_STRETCHES:
            self.stretches.append(answer.stretch)

    def _done(self, update: up.ResponseDone, at_s: float) -> None:
        answer = self._running.pop(update.response_id, None)
        if answer is not None:
            answer.stretch.end_s = at_s
            if not update.out_of_band:
                self._rates += answer.rates(update.usage.output_text if update.usage is not None else None)

    def _mark(self, update: up.Failure | up.BreakerChanged, at_s: float) -> None:
        if isinstance(update, up.BreakerChanged):
            state = update.state.replace("_", " ")
            mark = Mark(at_s, "breaker", update.source, f"circuit breaker {state}", update.reason)
        elif update.source is None:
            return  # of the one server that there is: it stands among the events
        else:
            kind = (update.action or "failure") if update.benign else "failure"
            what = {"retry": "asked again", "restart": "asked again at once", "fallback": "another model goes on"}
            mark = Mark(at_s, kind, update.source, what.get(kind, "no answer"), update.message)
        if len(self.marks) < _MOST_MARKS:
            self.marks.append(mark)
