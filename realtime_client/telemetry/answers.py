"""The figures of answers in writing, from a session's updates. Pure: told what happened and when."""

from __future__ import annotations

from dataclasses import dataclass

from realtime_client import updates as up

_MOST_RUNNING = 64
_SHORTEST_S = 0.001


@dataclass(slots=True)
class Writing:
    """An answer that a text model makes. Times in seconds of the session's clock, None for what did not happen.

    model: who makes it now, as `--model` names it; models: how many requests of models made it. asked_s: its first
    request. first_s, last_s: its first and its newest piece, thinking included. pieces: of its text.
    """

    model: str
    asked_s: float
    models: int = 1
    first_s: float | None = None
    last_s: float = 0.0
    pieces: int = 0

    def first_token_s(self) -> float | None:
        """How long the first piece took."""
        return None if self.first_s is None else max(0.0, self.first_s - self.asked_s)

    def tokens_per_s(self, usage: up.Usage | None) -> float | None:
        """How fast it came, from its first piece to its last; None where one piece was all, or nobody counted."""
        took_s = 0.0 if self.first_s is None else self.last_s - self.first_s
        if usage is None or not usage.output_tokens or took_s < _SHORTEST_S:
            return None
        return usage.output_tokens / took_s


class Writings:
    """The answers of one session that are being made; none of a session with sound. model: the session's."""

    def __init__(self) -> None:
        self.model = ""
        self._writes = False
        self._running: dict[str, Writing] = {}

    @property
    def newest(self) -> str | None:
        """The id of the answer that began last and is not over."""
        return next(reversed(self._running), None)

    def take(self, update: up.Update, at_s: float) -> Writing | None:
        """Take one update in; returns the answer that it is about, where it is about one."""
        if isinstance(update, up.SessionStarted):
            self._writes, self.model = update.facts.in_writing, update.facts.model
        elif isinstance(update, up.SessionChanged):
            if update.facts.in_writing and not self._writes:  # text models have taken over
                self._writes, self.model = True, update.facts.model
        elif not self._writes:
            return None
        elif isinstance(update, up.TextDelta | up.ThinkingDelta):
            found = self._running.get(update.response_id)
            if found is not None:
                found.first_s = at_s if found.first_s is None else found.first_s
                found.last_s = at_s
                found.pieces += isinstance(update, up.TextDelta)
            return found
        elif isinstance(update, up.ResponseStarted):
            found = self._running[update.response_id] = Writing(self.model, at_s)
            if len(self._running) > _MOST_RUNNING:
                del self._running[next(iter(self._running))]
            return found
        elif isinstance(update, up.AnswerSource):
            found = self._running.get(update.response_id)
            if found is not None:
                found.model = update.source
                found.models += 1
            return found
        elif isinstance(update, up.ResponseDone):
            return self._running.pop(update.response_id, None)
        return None
