"""What a journal tells of the turns of its session, in the recorder's notes: from these a transcript is made again."""

from __future__ import annotations

from typing import Any

from realtime_client import updates as up

from .turns import Said

_LINE = {"n", "who", "item_id", "text", "heard", "cut_ms", "start_s", "end_s", "audio", "interrupted", "status"}
_NOTE = {"done", "after", "received_ms"}
_ODD = (KeyError, TypeError, AttributeError)


class TurnNotes:
    """The newest note of each turn, and what was said in those that have not ended.

    turns: the notes by number of the turn; see docs/journal.md. texts: by item. most, most_bytes: so many turns are
    kept, the newest, and notes of so many bytes together; None for all. dropped: how many were not kept.
    """

    def __init__(self, most: int | None = None, most_bytes: int | None = None) -> None:
        self.turns: dict[int, dict[str, Any]] = {}
        self.texts: dict[str, Said] = {}
        self.dropped = 0
        self._most, self._most_bytes = most, most_bytes
        self._sizes: dict[int, int] = {}
        self._size = 0

    def take_note(self, event: Any, size: int = 0) -> None:
        """Take a note of the recorder, of so many bytes; one of another kind, or none of ours, changes nothing."""
        try:
            self._take(event, size)
        except _ODD:
            return

    def _take(self, event: dict[str, Any], size: int) -> None:
        if event.get("type") != "turn":
            return
        line = event["line"]
        if not (event.keys() >= _NOTE and line.keys() >= _LINE and _is_sound(event, line)):
            return
        number = line["n"]
        if event.get("gone"):
            self._drop(number)
            self.texts.pop(line["item_id"], None)
            return
        self.turns[number] = event
        self._size += size - self._sizes.get(number, 0)
        self._sizes[number] = size
        if event["done"] and line["text"]:
            self.texts.pop(line["item_id"], None)
        while self._is_full():
            self._drop(next(iter(self.turns)))
            self.dropped += 1

    def _is_full(self) -> bool:
        many = self._most is not None and len(self.turns) > self._most
        return many or (self._most_bytes is not None and self._size > self._most_bytes)

    def _drop(self, number: int) -> None:
        self.turns.pop(number, None)
        self._size -= self._sizes.pop(number, 0)

    def take_text(self, update: up.Update) -> None:
        """What was said in a turn that has not ended."""
        if isinstance(update, up.TextDelta | up.UserTranscriptDelta):
            self.texts.setdefault(update.item_id, Said()).add(update.text, update.content_index)
        elif isinstance(update, up.TextDone | up.UserTranscript):
            self.texts.setdefault(update.item_id, Said()).whole(update.text, update.content_index)

    def text_of(self, line: dict[str, Any]) -> str:
        """Return what was said in the turn of a line that says nothing itself; '' when that is not known."""
        return self.texts.get(line["item_id"], Said()).text

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines as they were noted last, in the order of the conversation."""
        lines: list[dict[str, Any]] = []
        known: set[str] = set()
        for _, turn in sorted(self.turns.items()):
            line = dict(turn["line"])
            # Only an item that says so is anywhere else than where it arrived.
            moves = line["item_id"] and turn["after"] in known
            lines.insert(self._behind(lines, _last(lines, turn["after"])) if moves else len(lines), line)
            known.add(line["item_id"])
        return lines

    def _behind(self, lines: list[dict[str, Any]], index: int) -> int:
        """Where an item goes that follows the one at `index`: behind what hangs on that one without a place."""
        index += 1
        while index < len(lines) and not self.turns[lines[index]["n"]]["after"]:
            index += 1
        return index


def _is_sound(event: dict[str, Any], line: dict[str, Any]) -> bool:
    """Whether what turns are told apart and put in order by is of the right kind."""
    names = isinstance(line["item_id"], str) and isinstance(event["after"], str | None)
    return names and type(line["n"]) is int and isinstance(line["text"], str)


def _last(lines: list[dict[str, Any]], item_id: str) -> int:
    """Where the line of an item is; it is nearly always among the last."""
    return next(i for i in range(len(lines) - 1, -1, -1) if lines[i]["item_id"] == item_id)
