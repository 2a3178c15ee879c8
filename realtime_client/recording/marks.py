"""Who made which part of an answer, and what other answers stand beside it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from realtime_client import updates as up

_MOST_SOURCES = 64
_MOST_TEXTS = 64
_LONGEST_TEXT = 200_000
_LONGEST_REASON = 200


@dataclass(slots=True)
class Marks:
    """What is told of one answer beside its text.

    sources: (characters before it, the model, why the one before does not go on), where one model did not make all of
    it. texts: the answers that stand beside each other; chosen: the index of the one in the conversation. own: the
    index of the one that was shown as it came, to which the sources belong.
    """

    sources: list[tuple[int, str, str]] = field(default_factory=list)
    texts: tuple[str, ...] = ()
    chosen: int = 0
    own: int = 0

    @property
    def own_chosen(self) -> bool:
        """Whether the answer that was shown as it came is the one in the conversation."""
        return self.chosen == self.own

    def source(self, update: up.AnswerSource, first: str) -> None:
        """Another request makes the answer from here on. first: the session's model, which made what came before."""
        if not self.sources and update.offset:
            self.sources.append((0, first, ""))
        if self.sources and self.sources[-1][0] == update.offset:
            self.sources.pop()
        if len(self.sources) < _MOST_SOURCES:
            self.sources.append((update.offset, update.source, update.reason[:_LONGEST_REASON]))

    def alternatives(self, update: up.Alternatives) -> str | None:
        """Answers stand beside each other; returns the text of the chosen one, None where there is no such answer."""
        texts = tuple(text[:_LONGEST_TEXT] for text in update.texts[:_MOST_TEXTS])
        if not 0 <= update.chosen < len(texts):
            return None
        if not self.texts:
            self.own = update.chosen
        self.texts, self.chosen = texts, update.chosen
        return texts[update.chosen]

    def fields(self) -> dict[str, Any]:
        """Return what a line of the transcript says of it."""
        found: dict[str, Any] = {}
        if self.sources and self.own_chosen:
            found["sources"] = [
                {"offset": offset, "source": source} | ({"reason": reason} if reason else {})
                for offset, source, reason in self.sources
            ]
        if self.texts:
            found["alternatives"], found["chosen"] = list(self.texts), self.chosen
        return found


class Makers:
    """Knows who makes the answers of a session. model: whoever does, where nothing else is told."""

    def __init__(self) -> None:
        self.model = ""
        self._writes = False
        self._took_over = False

    def configure(self, facts: up.Facts, *, started: bool) -> None:
        """Take the session's facts. Text models may take over from one that speaks."""
        takes_over = facts.in_writing and not self._writes and not started
        if started or takes_over:
            self.model = facts.model
        self._took_over = takes_over or (self._took_over and not started)
        self._writes = facts.in_writing

    def begins(self) -> Marks | None:
        """Return the marks of an answer that begins: None where the session's own model makes it."""
        return Marks(sources=[(0, self.model, "the conversation goes on in writing")]) if self._took_over else None
