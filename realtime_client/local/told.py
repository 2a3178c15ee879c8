"""What a text model is told of a realtime conversation: its entries, with what was heard of each answer."""

from __future__ import annotations

import itertools
import secrets
import threading
from collections.abc import Mapping, Sequence

import msgspec

from realtime_client.chat.pending_calls import HAS_COME
from realtime_client.history import Call, Entry, History, Image, Opaque, Part, Result, Text

from .brain import BrainTurn, Utterance

_MOST_CALLS = 1_024


class Calls:
    """The newest calls of tools, as their providers want them back: some sign them, or the thought before. Thread-safe.

    The items of a realtime conversation have no place for that.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[str, tuple[Call, tuple[Opaque, ...]]] = {}

    def remember(self, call_id: str, parts: Sequence[Part]) -> str:
        """Keep a call; returns the id by which it is known from now on: those of some servers come again.

        parts: the answer that it stands in.
        """
        known = f"call_{secrets.token_hex(10)}"
        call = next((part for part in parts if isinstance(part, Call) and part.call_id == call_id), None)
        opaque = tuple(part for part in parts if isinstance(part, Opaque))
        if call is not None and (opaque or call.provider_state is not None):
            with self._lock:
                self._made[known] = msgspec.structs.replace(call, call_id=known), opaque
                if len(self._made) > _MOST_CALLS:
                    del self._made[next(iter(self._made))]
        return known

    def made(self, said: Utterance) -> tuple[Call, tuple[Opaque, ...]]:
        """Return a call as its provider made it, and what came with it."""
        with self._lock:
            found = self._made.get(said.call_id)
        return found or (Call(call_id=said.call_id, name=said.name, arguments=said.text), ())


def entries_of(turn: BrainTurn, media: History, calls: Calls) -> tuple[Entry, ...]:
    """Return what a model is told. media: keeps the images.

    What one side said in a row of calls is one entry, with the results of its calls right behind it, whatever was said
    in between: most servers want that. See `with_results` for the word at the end of results that came late.
    """
    results = {said.call_id: said.text for said in turn.utterances if said.role == "output"}
    entries: list[Entry] = []
    for side, run in itertools.groupby(turn.utterances, key=_side):
        if side == "assistant":
            entries += _answer(list(run), results, calls, len(entries))
        elif side != "output":
            for said in run:
                images = tuple(Image(media=media.keep(image)) for image in said.images)
                texts = (Text(text=said.text),) if said.text else ()
                entries.append(Entry(id=f"item_{len(entries)}", role=side, parts=(*images, *texts)))
    if entries and entries[-1].role == "assistant" and turn.utterances[-1].role == "output":
        entries.append(Entry(id="results_came", role="user", parts=(Text(text=HAS_COME),)))
    return tuple(entries)


def _side(said: Utterance) -> str:
    return "assistant" if said.role == "call" else said.role


def _answer(run: Sequence[Utterance], results: Mapping[str, str], calls: Calls, number: int) -> list[Entry]:
    parts: list[Part] = []
    before: dict[int, Opaque] = {}
    behind: list[Part] = []
    for said in run:
        if said.role == "assistant":
            again = bool(parts) and isinstance(parts[-1], Text)
            parts += [Text(text=f"\n{said.text}" if again else said.text)] if said.text else []
            continue
        call, opaque = calls.made(said)
        parts.append(call)
        before |= {id(part): part for part in opaque}
        if (output := results.get(call.call_id)) is not None:
            behind.append(Result(call_id=call.call_id, output=output, name=call.name))
    entries = [Entry(id=f"item_{number}", role="assistant", parts=(*before.values(), *parts))]
    if behind:
        entries.append(Entry(id=f"item_{number + 1}", role="tool", parts=tuple(behind)))
    return entries
