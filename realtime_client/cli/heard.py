"""What was heard of an answer that was cut, as a line for the screen, where nothing can be taken back. Pure."""

from __future__ import annotations

from collections import OrderedDict

from realtime_client import updates as up
from realtime_client.escape import one_line
from realtime_client.history import heard_text

INTERRUPTED = "[interrupted]"
_ANSWERS = 8
_MOST_CHARACTERS = 200_000  # of one answer; beyond that nobody remembers where it began
_TAIL_WORDS, _TAIL_CHARACTERS = 6, 48
Part = tuple[str, int]


class HeardText:
    """Keeps the text of the last answers, and says where they were cut.

    The estimate is the recording's: the text is cut where the sound was, in proportion, at the end of a word.
    """

    def __init__(self) -> None:
        self._answers: OrderedDict[str, dict[Part, str]] = OrderedDict()
        self._told: OrderedDict[str, None] = OrderedDict()

    def add(self, update: up.TextDelta) -> None:
        """Take more of an answer's text in."""
        parts = self._answers.setdefault(update.response_id, {})
        while len(self._answers) > _ANSWERS:
            self._answers.popitem(last=False)
        if sum(map(len, parts.values())) < _MOST_CHARACTERS:
            part = (update.item_id, update.content_index)
            parts[part] = parts.get(part, "") + update.text

    def cut(self, update: up.Interrupted) -> str | None:
        """Return what to show of a cut: once an answer, None if it was shown or a later part of it is still to come."""
        response_id, part = update.response_id or "", (update.item_id, update.content_index)
        parts = self._answers.get(response_id, {})
        names = list(parts)
        whole = update.heard_all
        if whole and part in parts and part != names[-1]:
            return None
        if not self.told(response_id):
            return None
        if whole:
            return INTERRUPTED
        before = names[: names.index(part)] if part in parts else names
        earlier = " ".join(parts[name] for name in before)
        heard = heard_text(parts.get(part, ""), update.heard_ms, update.received_ms)
        return _line(f"{earlier} {heard}", " ".join(parts.values()), update)

    def told(self, response_id: str | None) -> bool:
        """Note that the screen says that this answer was interrupted; False if it did so before."""
        name = response_id or ""
        if name in self._told:
            return False
        self._told[name] = None
        while len(self._told) > _ANSWERS:
            self._told.popitem(last=False)
        return True


def _line(heard: str, text: str, update: up.Interrupted) -> str:
    words, all_words = heard.split(), text.split()
    if not words and not update.heard_ms:
        return "[interrupted: nothing of it was heard]"
    if not words:  # not a whole one, or its text has not come yet
        return f"[interrupted: heard {update.heard_ms / 1000:.1f} of {update.received_ms / 1000:.1f} s]"
    said, everything = " ".join(words), " ".join(all_words)
    tail = " ".join(words[-_TAIL_WORDS:])[-_TAIL_CHARACTERS:]
    quoted = one_line(tail if tail == said else f"... {tail.lstrip()}")
    if len(all_words) * 15 < len(everything):  # a script without spaces
        return f'[interrupted: heard "{quoted}", {len(said)} of {len(everything)} characters]'
    return f'[interrupted: heard "{quoted}", {len(words)} of {len(all_words)} words]'
