"""What is kept of a conversation in writing: what was said, the turn under way, answers beside each other. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from realtime_client import updates as up
from realtime_client.errors import UsageError
from realtime_client.history import Call, Entry, History, Image, Part, Result, Text

from .answering import Answering
from .limits import ChatLimits
from .wires.faults import Fault

_MOST_BRANCHED = 16
_MOST_GONE = 1024
_PROBE_S = (2.0, 30.0)  # how soon what was kept is tried again, at first and at last


class Branches(msgspec.Struct):
    """The answers that stand beside each other in one place. chosen: the index of the one in the conversation."""

    parts: list[tuple[Part, ...]]
    chosen: int = 0

    @property
    def texts(self) -> tuple[str, ...]:
        """The words of each."""
        return tuple("".join(part.text for part in parts if isinstance(part, Text)) for parts in self.parts)


class Turn(msgspec.Struct):
    """What a failure takes back, and what waits for somebody who can answer it.

    open: the entries of the turn that is under way. before: what stood in its place, and stands there again if it
    fails. kept: those of a turn that nobody could answer yet; probe_s, pause_s: when it is tried again, and how long it
    was waited for. failed: those of one that was refused.
    """

    open: list[str] = []
    before: list[Entry] = []
    kept: list[Entry] = []
    failed: list[Entry] = []
    probe_s: float | None = None
    pause_s: float = 0.0

    def settle(self) -> list[Entry]:
        """Nothing is left to be answered; returns what was."""
        entries = self.kept or self.failed
        self.kept, self.failed, self.probe_s, self.pause_s = [], [], None, 0.0
        return entries


class Kept:
    """What is kept. history: what was said. branches: the places with several answers, newest last.

    turn: the turn that is under way, or that waits. open_calls: the calls of tools that wait for their results. gone:
    the newest entries that were taken back.
    """

    def __init__(self, limits: ChatLimits) -> None:
        self.history = History(most_entries=limits.history_entries, most_bytes=limits.history_bytes)
        self.branches: dict[str, Branches] = {}
        self.turn = Turn()
        self.open_calls: dict[str, tuple[str, str]] = {}  # call -> (answer, tool)
        self.wants_reply: set[str] = set()  # answers that called, and of whose results the model is to speak
        self.gone: deque[str] = deque(maxlen=_MOST_GONE)

    def take_over(self, entries: Iterable[Entry], history: History) -> None:
        """Go on with a conversation that began elsewhere, or that was there meanwhile. history: where its images are.

        Calls of tools that wait for their results do so here.
        """
        for entry in self.history.in_order():
            self.history.remove(entry.id)
        self.turn = Turn()
        self.open_calls.clear()
        self.wants_reply.clear()
        self.gone.clear()
        for entry in entries:
            self.history.put(entry)
            for part in entry.parts:
                if isinstance(part, Call):
                    self.open_calls[part.call_id] = (entry.response_id or entry.id, part.name)
                elif isinstance(part, Result):
                    self.open_calls.pop(part.call_id, None)
                image = history.media(part.media) if isinstance(part, Image) else None
                if image is not None:
                    self.history.keep(image)

    def open_turn(self, entries: Sequence[Entry]) -> None:
        """What was said since the last answer is to be answered here."""
        last = max((n for n, entry in enumerate(entries) if entry.role == "assistant"), default=-1)
        self.turn.open = [entry.id for entry in entries[last + 1 :]]

    def holds_call(self, call_id: str) -> bool:
        """Whether a call is part of the conversation now."""
        entries = reversed(self.history.in_order())
        return any(part.call_id == call_id for entry in entries for _, part in entry.tools if isinstance(part, Call))

    def check_said(self) -> None:
        """Refuse to ask again when nothing was asked. Errors: UsageError."""
        if not (self.turn.kept or self.turn.failed or any(each.role == "user" for each in self.history.in_order())):
            raise UsageError("nothing was said yet")

    def last_turn(self) -> tuple[Entry, list[Entry]]:
        """The last message of the user, and what came after it."""
        entries = self.history.in_order()
        last = max(n for n, entry in enumerate(entries) if entry.role == "user")
        return entries[last], entries[last + 1 :]

    def choose(self, index: int, item_id: str | None = None) -> list[up.Update]:
        """Let another of the answers stand in the conversation. index: from 0; item_id: default the newest such place.

        Errors: UsageError when there is no such answer.
        """
        item_id = item_id or next(reversed(self.branches), "")
        branches, entry = self.branches.get(item_id), self.history.get(item_id)
        if branches is None or entry is None or len(branches.parts) < 2:
            raise UsageError("there are no other answers to choose from")
        if not 0 <= index < len(branches.parts):
            raise UsageError(f"there are answers 1 to {len(branches.parts)}, not {index + 1}")
        branches.chosen = index
        self.history.put(entry.answered_by(branches.parts[index]))
        return [up.Alternatives(item_id=item_id, texts=branches.texts, chosen=index)]

    def branch(self, item_id: str, branches: Branches | None) -> None:
        """Several answers will stand in a place. branches: what stands there already."""
        self.branches[item_id] = branches or Branches(parts=[])
        while len(self.branches) > _MOST_BRANCHED:
            del self.branches[next(iter(self.branches))]

    def take_back(self, ids: Iterable[str]) -> list[up.Update]:
        """These are no part of the conversation any more."""
        happened: list[up.Update] = []
        for entry_id in reversed(list(ids)):
            if entry_id in self.history:
                self.history.remove(entry_id)
                self.gone.append(entry_id)
                happened.append(up.ItemDeleted(item_id=entry_id))
        return happened

    def put_back(self, entries: Sequence[Entry], failed: str) -> list[up.Update]:
        """What stood in the place of a turn that failed stands there again. failed: the item that was to be."""
        branches = self.branches.pop(failed, None)
        happened: list[up.Update] = []
        for entry in entries:
            self.history.put(entry)
            if entry.role == "assistant" and branches is not None and len(branches.parts) > 1:
                self.branches[entry.id] = branches
            where: dict[str, Any] = {"item_id": entry.id, "role": entry.role, "item_type": "message"}
            happened += [up.ItemAdded(text=entry.said, **where), up.ItemDone(text=entry.said, **where)]
        return happened

    def take_up(self, entries: Sequence[Entry]) -> None:
        """A turn that was taken out of the conversation is in it again; what was said then is part of a new one."""
        for entry in entries:
            self.history.put(entry)
        self.turn.open = [entry.id for entry in entries]
        self.turn.before = []
        self.turn.kept = []
        self.turn.probe_s = None

    def others(self, item_id: str) -> tuple[str, ...]:
        """Return the texts of the answers that stand beside the one in this place."""
        branches = self.branches.get(item_id)
        if branches is None:
            return ()
        return tuple(text for n, text in enumerate(branches.texts) if n != branches.chosen)

    def keep(self, answer: Answering, parts: tuple[Part, ...], status: str) -> list[up.Update]:
        """An answer is over: it is part of the conversation, or stands beside one that is."""
        branches = self.branches.get(answer.item_id)
        if branches is not None:
            branches.parts.append(parts)
        if not answer.quiet:
            if branches is not None:
                branches.chosen = len(branches.parts) - 1
            self.history.put(
                Entry(id=answer.item_id, role="assistant", parts=parts, status=status, response_id=answer.response_id)
            )
            self.turn.settle()
            self.turn.open.append(answer.item_id)
            calls = [part for part in parts if isinstance(part, Call)]
            self.open_calls |= {call.call_id: (answer.response_id, call.name) for call in calls}
            if not calls:
                self.turn.open = []
                self.turn.before = []
        entry = self.history.get(answer.item_id)
        if branches is None or entry is None or len(branches.parts) < 2:
            return []
        self.history.put(entry.answered_by(branches.parts[branches.chosen]))
        return [up.Alternatives(item_id=answer.item_id, texts=branches.texts, chosen=branches.chosen)]

    def unanswered(self, answer: Answering, fault: Fault, now_s: float) -> list[up.Update]:
        """Nobody can answer: the turn is taken back, or kept until somebody can."""
        turn = self.turn
        taken = [entry for entry_id in turn.open if (entry := self.history.get(entry_id)) is not None]
        open_ids, turn.open = turn.open, []
        before, turn.before = turn.before, []
        gone = {entry.response_id for entry in taken}
        self.open_calls = {call: of for call, of in self.open_calls.items() if of[0] not in gone}
        if fault.action != "retry" or answer.size or before:
            turn.settle()
            turn.failed = [] if before else taken
            half = [up.ItemDeleted(item_id=answer.item_id)] if answer.size else []
            return [*half, *self.take_back(open_ids), *self.put_back(before, answer.item_id)]
        for entry in taken:
            self.history.remove(entry.id)
        turn.kept = taken
        turn.pause_s = min(max(_PROBE_S[0], 2 * turn.pause_s), _PROBE_S[1])
        turn.probe_s = now_s + turn.pause_s if taken else None
        if not taken:
            return []
        return [up.Notice(message="what you said is kept; it is sent when a model answers again")]
