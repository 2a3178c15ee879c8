"""Telling what a model thinks aloud from its answer, where both come as one text: `<think>...</think>` in front."""

from __future__ import annotations

from .reader import Reader

_OPEN, _CLOSE = "<think>", "</think>"


class ThinkTags:
    """Splits the beginning of an answer. looking: whether a tag may still come; afterwards all text is the answer."""

    def __init__(self) -> None:
        self.looking = True
        self._held = ""
        self._state = "before"  # the thought, `inside` of it, or `after` it, where empty lines are dropped

    def feed(self, text: str) -> list[tuple[bool, str]]:
        """Take text; return what is certain of it: (whether it is a thought, text)."""
        self._held += text
        said: list[tuple[bool, str]] = []
        if self._state == "before":
            begins = self._held.lstrip()
            if begins.startswith(_OPEN):
                self._state, self._held = "inside", begins[len(_OPEN) :]
            elif _OPEN.startswith(begins):
                return []
            else:
                return self.end()
        if self._state == "inside":
            thought, found, answer = self._held.partition(_CLOSE)
            if found:
                self._state, self._held = "after", answer
            else:
                kept = _overlap(thought)
                thought, self._held = thought[: len(thought) - kept], thought[len(thought) - kept :]
            if thought:
                said.append((True, thought))
        if self._state == "after":
            self._held = self._held.lstrip("\n")
            if self._held:
                said += self.end()
        return said

    def end(self) -> list[tuple[bool, str]]:
        """Nothing more comes; return what was held."""
        self.looking = False
        rest, self._held = self._held, ""
        return [(self._state == "inside", rest)] if rest else []


def _overlap(text: str) -> int:
    """How much of the end of a text may be the beginning of the closing tag."""
    return next((n for n in range(len(_CLOSE) - 1, 0, -1) if text.endswith(_CLOSE[:n])), 0)


class TaggedReader(Reader):
    """A reader of answers whose text may begin with a thought in tags.

    _plain: the last message was a piece of the answer's text, so most likely the next one is, and can be read as such.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._tags = ThinkTags()
        self._plain = False

    def _content(self, text: str, *, last: bool = False) -> None:
        """More of the text. last: the message ends the answer, so it may bring all of it once more."""
        if self._tags.looking:
            self._split(self._tags.feed(text))
        elif last:
            self._last_text(without_thought(text))
        else:
            self._text(text)

    def _settle(self) -> None:
        if self._tags.looking:
            self._split(self._tags.end())

    def _split(self, told: list[tuple[bool, str]]) -> None:
        for thinking, words in told:
            (self._thinking if thinking else self._text)(words)


def without_thought(text: str) -> str:
    """Return an answer without the thought in front of it."""
    tags = ThinkTags()
    return "".join(words for thinking, words in [*tags.feed(text), *tags.end()] if not thinking)
