"""The answers of a conversation: which one a message is about, and what it adds to that one.

Servers name their answers well, badly or not at all, and give a text in pieces, as a whole, or both. Here every message
finds its answer, and is reduced to what is new. Pure.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from realtime_client import updates as up

from . import events as ev
from . import translate
from .answers import AnswerState, forget_oldest, split_half
from .items import Item, modernise
from .lenient import whole_text
from .requests import Requests

_KEPT_ANSWERS = 64


class AnswerBook:
    """Keeps the answers that run, and for a while those that are over: their tails may still be playing.

    running: by id. recent: the last ones with sound or remote tools. unseen: those whose beginning nobody announced.
    requests: knows which one is active, and whose it is.
    """

    def __init__(self, requests: Requests) -> None:
        self.running: dict[str, AnswerState] = {}
        self.recent: deque[AnswerState] = deque(maxlen=4)
        self.unseen: list[AnswerState] = []
        self._over: dict[str, AnswerState] = {}
        self._requests = requests
        self._gate = requests.gate
        self._halves: dict[tuple[str, str, int], str] = {}

    def find(self, response_id: str, item_id: str = "") -> AnswerState:
        """The answer of that id, running or over; one whose start was not seen begins here.

        A server that does not say which answer it means, means that of the item, or else the running one.
        """
        if not response_id:
            response_id = self.name_of(item_id)
        answer = self.running.get(response_id) or self._over.get(response_id)
        if answer is None:
            answer = self.running.get("")  # one whose beginning had no id
        if answer is None and (only := self._only_one()) is not None and only.untouched:
            answer = self.running[response_id] = only
        if answer is None:
            answer = self.running[response_id] = AnswerState(response_id)
            forget_oldest(self.running, _KEPT_ANSWERS)  # answers whose end never came
            self.unseen.append(answer)
        return answer

    def _only_one(self) -> AnswerState | None:
        """The answer that an id without a beginning must mean: the only one that runs, if it answers our request."""
        only = self.running.get(self._gate.active_id or "")
        ours = only is not None and self._gate.on_its_way is not None and not self._requests.any_apart
        return only if ours and all(each is only for each in self.running.values()) else None

    def name_of(self, item_id: str) -> str:
        """The id of the answer that a message without one means: that of the item, or else the running one."""
        known = (*self.running.values(), *self.recent) if item_id else ()
        owner = next((answer.id for answer in known if item_id in answer.item_ids), None)
        return owner or self._gate.active_id or next(reversed(self.running), "")

    def audio_delta(self, event: ev.ResponseOutputAudioDelta) -> list[up.Update]:
        """More sound."""
        answer = self.running.get(event.response_id) or self.find(event.response_id, event.item_id)
        if answer.cut:
            return []  # late audio of an interrupted answer: the server had not heard of the cut yet
        item_id = event.item_id or answer.last_item
        answer.received((item_id, event.content_index), len(event.delta))
        return [
            up.AudioDelta(response_id=answer.id, item_id=item_id, content_index=event.content_index, audio=event.delta)
        ]

    def _any_text_delta(self, event: Any, *, spoken: bool) -> list[up.Update]:
        answer = self.running.get(event.response_id) or self.find(event.response_id, event.item_id)
        if answer.cut:
            return []
        item_id = event.item_id or answer.last_item
        text = answer.text(event.output_index, event.content_index, item_id, spoken=spoken).add(event.delta)
        return [translate.text_delta(answer, item_id, event.content_index, text, spoken=spoken)] if text else []

    def spoken_delta(self, event: ev.ResponseOutputAudioTranscriptDelta) -> list[up.Update]:
        """More of what is spoken, as text."""
        return self._any_text_delta(event, spoken=True)

    def text_delta(self, event: ev.ResponseOutputTextDelta) -> list[up.Update]:
        """More text."""
        return self._any_text_delta(event, spoken=False)

    def _any_text_done(self, event: ev.ResponsePartEvent, text: str, *, spoken: bool) -> list[up.Update]:
        answer = self.find(event.response_id, event.item_id)
        at = (event.output_index, event.content_index)
        happened = self._settle(answer, at, event.item_id, text, spoken=spoken, final=True)
        whole = answer.text(*at, event.item_id, spoken=spoken).whole
        item_id = event.item_id or answer.last_item
        return [*happened, translate.text_done(answer, item_id, event.content_index, whole, spoken=spoken)]

    def spoken_done(self, event: ev.ResponseOutputAudioTranscriptDone) -> list[up.Update]:
        """What one part spoke, complete."""
        return self._any_text_done(event, event.transcript, spoken=True)

    def text_done(self, event: ev.ResponseOutputTextDone) -> list[up.Update]:
        """The text of one part, complete."""
        return self._any_text_done(event, event.text, spoken=False)

    def part_done(self, event: ev.ResponseContentPartDone) -> list[up.Update]:
        """A content part is complete; its text is news only if nothing else brought it."""
        answer = self.find(event.response_id, event.item_id)
        at = (event.output_index, event.content_index)
        return self._settle(answer, at, event.item_id, event.part.said, spoken=event.part.spoken, final=False)

    def _settle(
        self, answer: AnswerState, at: tuple[int, int], item_id: str, text: str, *, spoken: bool, final: bool
    ) -> list[up.Update]:
        """Take in a part's whole text; what the deltas did not bring is reported as one more delta."""
        if not text:
            return []
        item_id = item_id or answer.last_item
        missing = answer.text(*at, item_id, spoken=spoken).settle(whole_text(text), final=final)
        if not missing or answer.cut:
            return []
        return [translate.text_delta(answer, item_id, at[1], missing, spoken=spoken)]

    def settle_item(self, answer: AnswerState, output_index: int, item: Item) -> list[up.Update]:
        """Take in the text of a complete output item, unless it is known from elsewhere."""
        happened: list[up.Update] = []
        if item.type != "message" or self._is_known(answer, item):
            return happened
        for index, part in enumerate(item.content or ()):
            at = (output_index, index)
            happened += self._settle(answer, at, item.id or "", part.said, spoken=part.spoken, final=False)
        return happened

    def _joined(self, kind: str, item_id: str, index: int, delta: str) -> str:
        """A delta in whole characters: half a character waits for the next delta of the same thing."""
        if not delta or (not self._halves and delta.isascii()):
            return delta
        key = (kind, item_id, index)
        half = self._halves.pop(key, "")
        half, text = split_half(half + delta)
        if half:
            self._halves[key] = half
            forget_oldest(self._halves, 64)
        return text

    def transcription_delta(self, event: ev.InputTranscriptionDelta) -> list[up.Update]:
        """More of what the user was heard to say; only shown."""
        text = self._joined("heard", event.item_id, event.content_index, event.delta)
        return [up.UserTranscriptDelta(item_id=event.item_id, content_index=event.content_index, text=text)]

    def arguments_delta(self, event: ev.ResponseFunctionCallArgumentsDelta) -> list[up.Update]:
        """More of a call's arguments; only shown."""
        text = self._joined("arguments", event.item_id, event.output_index, event.delta)
        answer = self.find(event.response_id, event.item_id)
        return [up.ToolCallDelta(response_id=answer.id, item_id=event.item_id, call_id=event.call_id, text=text)]

    @staticmethod
    def _is_known(answer: AnswerState, item: Item) -> bool:
        """Whether an item's text has been reported, under its own name or without one."""
        own = answer.said_by(item.id or "")
        if own:
            return item.said in own
        return any(part.whole == item.said for part in answer.texts.values()) or answer.whole_text() == item.said

    # beginning and end

    def begin(self, response_id: str, *, anew: bool) -> AnswerState:
        """The answer that begins. anew: the id of a finished one may be used again."""
        if anew:
            self._over.pop(response_id, None)
        answer = self.running.get(response_id) or self._over.get(response_id)
        ended_unheard = answer is not None and answer.begun and anew and self._gate.active_id is None
        if answer is None or ended_unheard:
            answer = self.running[response_id] = AnswerState(response_id)
            forget_oldest(self.running, _KEPT_ANSWERS)
        if response_id:
            self.running.pop("", None)  # an older one without an id: from here on, names count
        return answer

    def leave(self) -> None:
        """The server was left: its names mean nothing any more, and its items cannot be corrected."""
        for answer in self.recent:
            answer.left = True
        self._over.clear()

    def is_over(self, response_id: str) -> bool:
        """Whether the end of that answer was reported."""
        return response_id in self._over

    def end(self, response: ev.Response) -> tuple[AnswerState, list[up.Update]]:
        """The answer that is over, and the text that only its end brings."""
        answer = self._ended(response)
        for name in [name for name, each in self.running.items() if each is answer]:
            del self.running[name]
        happened: list[up.Update] = []
        for output_index, item in enumerate(response.output or ()):
            happened += self.settle_item(answer, output_index, modernise(item))
        for (_, content_index), part in answer.texts.items():
            if (rest := part.finish()) and not answer.cut:
                happened.append(translate.text_delta(answer, part.item_id, content_index, rest, spoken=part.spoken))
        answer.done = True
        for name in ({response.id, answer.id} - {""}) if response.id else ():
            self._over[name] = answer
            forget_oldest(self._over, _KEPT_ANSWERS)
        if not answer.out_of_band and (answer.audio_bytes or answer.open_mcp):
            self.recent.append(answer)
        return answer, happened

    def _ended(self, response: ev.Response) -> AnswerState:
        """The answer that this ends: by its id, or by a different one from that of its beginning."""
        answer_id = response.id or self.name_of("")
        answer = self.running.get(answer_id) or self.running.get("")
        if answer is None:
            only = self._only_one()
            items = {item.id for item in response.output or () if item.id}
            if only is not None and not (items and only.item_ids and items.isdisjoint(only.item_ids)):
                answer = only
        return answer or AnswerState(answer_id)
