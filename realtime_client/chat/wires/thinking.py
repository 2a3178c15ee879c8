"""Telling what a model thinks aloud from its answer, where both come as one text: `<think>...</think>` in front."""

from __future__ import annotations

_OPEN, _CLOSE = "<think>", "</think>"


class ThinkTags:
    """Splits the beginning of an answer. looking: whether a tag may still come; afterwards all text is the answer."""

    def __init__(self) -> None:
        self.looking = True
        self._held = ""
        self._inside = False

    def feed(self, text: str) -> list[tuple[bool, str]]:
        """Take text; return what is certain of it: (whether it is a thought, text)."""
        self._held += text
        if not self._inside:
            begins = self._held.lstrip()
            if begins.startswith(_OPEN):
                self._inside, self._held = True, begins[len(_OPEN) :]
            elif _OPEN.startswith(begins):
                return []
            else:
                return self._rest(thinking=False)
        thought, found, answer = self._held.partition(_CLOSE)
        if found:
            self._inside, self._held = False, answer.lstrip("\n")
            said = [(True, thought)] if thought else []
            return said + self._rest(thinking=False)
        kept = _overlap(thought)
        self._held = thought[len(thought) - kept :]
        thought = thought[: len(thought) - kept]
        return [(True, thought)] if thought else []

    def end(self) -> list[tuple[bool, str]]:
        """Nothing more comes; return what was held."""
        return self._rest(thinking=self._inside)

    def _rest(self, *, thinking: bool) -> list[tuple[bool, str]]:
        self.looking = False
        rest, self._held = self._held, ""
        return [(thinking, rest)] if rest else []

    @staticmethod
    def without(text: str) -> str:
        """Return an answer without the thought in front of it."""
        begins = text.lstrip()
        if begins.startswith(_OPEN) and _CLOSE in begins:
            return begins.partition(_CLOSE)[2].lstrip("\n")
        return text


def _overlap(text: str) -> int:
    """How much of the end of a text may be the beginning of the closing tag."""
    return next((n for n in range(len(_CLOSE) - 1, 0, -1) if text.endswith(_CLOSE[:n])), 0)
