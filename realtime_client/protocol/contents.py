"""What the items of a conversation consist of: the wire's items, its texts and its cuts as neutral entries.

Texts are taken when they are final, from the answers that have put them together: nothing here happens at a delta.
"""

from __future__ import annotations

import msgspec

from realtime_client.history import Call, Entry, Heard, History, Image, Part, Result, Text, heard_text

from .answers import AnswerState, PartText, forget_oldest
from .items import ContentPart, Item

_MOST_PARTS = 64
_MOST_REMOVED = 256


class Contents:
    """Writes one conversation's entries into its history, which may hold some already: those stay as they are."""

    def __init__(self, history: History) -> None:
        self.history = history
        self._removed: dict[str, None] = {}  # what the server still says about these is not written down again

    def own(self, item: Item) -> None:
        """This client sends an item."""
        self._removed.pop(item.id or "", None)
        if item.id and item.id not in self.history:
            self._put(item.id, _role_of(item), self._parts_of(item))

    def told(self, item: Item, *, final: bool) -> None:
        """The server reports an item. final: all of it. What is known already is not taken from an echo."""
        if not item.id or (not final and item.role == "assistant"):
            return
        known = self.history.get(item.id)
        parts = self._parts_of(item)
        if known is None or not known.parts:
            if parts:
                self._put(item.id, _role_of(item), parts, status=item.status)
        elif not known.said and len(known.parts) == len(parts):
            self._put(item.id, known.role, tuple(map(_filled, known.parts, parts)))

    def transcribed(self, item_id: str, content_index: int, text: str) -> None:
        """What a part of the user's audio was heard to say."""
        known = self.history.get(item_id)
        parts = list(known.parts) if known is not None else []
        at = content_index if 0 <= content_index < len(parts) else len(parts)
        if at >= _MOST_PARTS or not item_id:
            return
        before = parts[at] if at < len(parts) else None
        media = before.media if isinstance(before, Text) else ""
        parts[at : at + 1] = [Text(text=text, spoken=True, media=media)]
        self._put(item_id, "user" if known is None else known.role, tuple(parts))

    def called(self, answer: AnswerState, item: Item) -> None:
        """A call is complete."""
        if item.id and not answer.out_of_band:
            self._put(item.id, "assistant", self._parts_of(item), response_id=answer.id)

    def result(self, item_id: str, call_id: str, name: str, output: str) -> None:
        """A tool's result is sent."""
        self._put(item_id, "tool", (Result(call_id=call_id, output=output, name=name),))

    def answered(self, answer: AnswerState, status: str | None = None) -> None:
        """An answer is over, or was cut after that: its texts are final. status None: as it was."""
        if answer.out_of_band:
            return
        items: dict[str, list[Part]] = {}
        for (_, content_index), text in answer.texts_in_order():
            name = text.item_id or answer.last_item or answer.id
            items.setdefault(name, []).append(_text_of(answer, content_index, text))
        for name, parts in items.items():
            if name:
                self._put(name, "assistant", tuple(parts), status=status, response_id=answer.id)

    def is_removed(self, item_id: str) -> bool:
        """Whether an item was there and left the conversation."""
        return item_id in self._removed

    def removed(self, item_id: str) -> None:
        """An item left the conversation."""
        self.history.remove(item_id)
        self._removed[item_id] = None
        forget_oldest(self._removed, _MOST_REMOVED)

    def _put(
        self, item_id: str, role: str, parts: tuple[Part, ...], *, status: str | None = None, response_id: str = ""
    ) -> None:
        if item_id in self._removed:
            return
        known = self.history.get(item_id)
        if known is None:
            status = "incomplete" if status in {"incomplete", "cancelled", "failed"} else "completed"
            entry = Entry(id=item_id, role=role, parts=parts, status=status, response_id=response_id)
        else:
            status = known.status if status is None else "completed" if status == "completed" else "incomplete"
            entry = msgspec.structs.replace(known, parts=parts, status=status)
        if entry != known:
            self.history.put(entry)

    def _parts_of(self, item: Item) -> tuple[Part, ...]:
        """An item's parts; none for kinds without content: lists of tools, approvals, incomplete items."""
        if item.type == "message":
            return tuple(self._content(part) for part in (item.content or ())[:_MOST_PARTS])
        if item.is_whole_call:
            return (Call(call_id=item.call_id or "", name=item.name or "", arguments=item.arguments or "{}"),)
        if item.type == "function_call_output" and item.call_id:
            return (Result(call_id=item.call_id, output=item.output or ""),)
        if item.type == "mcp_call" and item.id and (item.output or item.error):  # it is over
            call = Call(call_id=item.id, name=item.name or "", arguments=item.arguments or "{}")
            return (call, Result(call_id=item.id, output=item.said, name=item.name or ""))
        return ()

    def _content(self, part: ContentPart) -> Part:
        if part.image_url:
            return Image(media=self.history.keep(part.image_url), detail=part.detail)
        media = self.history.keep(part.audio) if part.audio else ""
        return Text(text=part.said, spoken=part.spoken, media=media)


def _role_of(item: Item) -> str:
    return "assistant" if item.type in {"function_call", "mcp_call"} else item.speaker


def _filled(known: Part, told: Part) -> Part:
    """A part with the words that it lacked."""
    if isinstance(known, Text) and isinstance(told, Text) and told.text:
        return msgspec.structs.replace(known, text=told.text)
    return known


def _text_of(answer: AnswerState, content_index: int, text: PartText) -> Text:
    """One part of an answer, cut where the answer was."""
    return Text(text=text.whole, spoken=text.spoken, heard=_heard(answer, content_index, text))


def _heard(answer: AnswerState, content_index: int, text: PartText) -> Heard | None:
    """What was heard of a part, None for all of it. Of writing, what had come when the answer was cut."""
    if not answer.cut:
        return None
    if not text.spoken:
        return Heard(text.at_cut) if answer.cut_running else None
    cut = answer.cut_of(text.item_id, content_index)
    if cut is None:  # nothing plays
        return Heard(text.at_cut) if answer.cut_running else None
    if cut.heard_ms >= cut.received_ms and not answer.cut_running:
        return None
    return Heard(heard_text(text.at_cut or text.whole, cut.heard_ms, cut.received_ms), cut.heard_ms, cut.received_ms)
