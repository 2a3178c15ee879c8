"""Joining an answer that broke off with what another request makes of the rest. Pure.

A model that is asked to go on often says the last words once more, or all of it. What comes is held back until it is
certain which of these it is: a repetition is left out, so that nothing is said twice.
"""

from __future__ import annotations

INSTRUCTION = (
    "Your last answer was cut off by a fault of the network. Go on with it exactly where it ends: repeat nothing of "
    "it, do not apologise and do not comment."
)
"""What a model is told that cannot go on from the beginning of an answer by itself."""

_LONGEST_WORD = 40
_LONGEST_OVERLAP = 2_000
_SHORTEST_OVERLAP = 4
"""Shorter ones are chance: many texts end as others begin."""
_SHORTEST_WHOLE = 12
"""What a model says that goes on by letters may repeat a short text on purpose: ha ha."""


class Continuation:
    """What comes after `partial`. `feed` gives what is new of it.

    prefilled: the model goes on from the text itself, letter by letter, and not because it was told to. sent: what is
    to be sent to it of the text. Whether the last word was whole when the text broke off nobody knows: a model that is
    told to go on is sent the text without it, and makes it again.
    """

    def __init__(self, partial: str, *, prefilled: bool) -> None:
        self.sent = partial.rstrip() if prefilled else _without_last_word(partial)
        self._partial = partial
        self._again = partial[len(self.sent) :] if not prefilled else ""
        self._prefilled = prefilled
        self._held = ""
        self._decided = not partial

    def feed(self, text: str) -> str:
        """Take more of the continuation; return what can be shown of it."""
        if self._decided:
            return text
        self._held += text
        if self._undecided():
            return ""
        return self._decide()

    def end(self, *, broke: bool = False) -> str:
        """Nothing more comes; return what was held.

        broke: it broke off, too. What was held is forgotten then: so far, it says what was said before.
        """
        if broke and not self._decided:
            self._decided, self._held = True, ""
        return "" if self._decided else self._decide()

    def _undecided(self) -> bool:
        """Whether more of it is needed to see if it repeats what came before."""
        held, partial = self._held.lstrip(), self._partial.lstrip()
        if not held or partial.startswith(held):
            return True  # so far it says everything again
        if self._prefilled or len(held) >= min(len(partial), _LONGEST_OVERLAP):
            return False
        return self._again.lstrip().startswith(held) or held in partial[-_LONGEST_OVERLAP:]

    def _decide(self) -> str:
        self._decided = True
        held, self._held = self._held, ""
        begins, partial, again = held.lstrip(), self._partial, self._again.strip()
        whole = partial.strip()
        if whole and begins.startswith(whole) and (len(whole) >= _SHORTEST_WHOLE or not self._prefilled):
            return self._after(begins[len(whole) :])
        if len(begins) >= _SHORTEST_WHOLE and whole.startswith(begins.rstrip()):
            return ""  # it says everything again, and came no further
        if self._prefilled:
            return held
        for size in range(min(len(begins), len(whole), _LONGEST_OVERLAP), _SHORTEST_OVERLAP - 1, -1):
            if whole.endswith(begins[:size]):
                return self._after(begins[size:])
        if again and begins.startswith(again):
            return self._after(begins[len(again) :])
        apart = bool(held) and not held[0].isspace() and bool(partial) and not partial[-1].isspace()
        return f" {held}" if apart and held[0].isalnum() else held

    def _after(self, rest: str) -> str:
        """What follows a repetition, without the space that had come before."""
        space = self._partial[len(self._partial.rstrip()) :]
        while space and rest.startswith(space[0]):
            space, rest = space[1:], rest[1:]
        return rest


def _without_last_word(text: str) -> str:
    """Cut the last word off, as long as there is another one before it."""
    if not text or text[-1].isspace():
        return text
    words = text.rsplit(maxsplit=1)
    if len(words) < 2 or len(words[1]) > _LONGEST_WORD:
        return text
    return text[: len(text) - len(words[1])]
