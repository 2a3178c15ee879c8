"""Calls of tools: each is reported and answered once; when all of an answer are over, one new answer is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from realtime_client import updates as up
from realtime_client.errors import UsageError

from . import translate
from .answer_book import AnswerBook
from .answers import AnswerState, forget_oldest
from .items import Item

_MOST_CALLS = 256


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A call that waits for its result. answer: the one that made it."""

    answer: AnswerState
    name: str


class ToolCalls:
    """The calls of one conversation that wait for their results, the newest 256 of them."""

    def __init__(self) -> None:
        self._open: dict[str, OpenCall] = {}

    def __len__(self) -> int:
        return len(self._open)

    @property
    def open(self) -> list[str]:
        """The calls that wait."""
        return list(self._open)

    def clear(self) -> None:
        """No results are awaited any longer."""
        self._open.clear()

    def opened(self, answers: Iterable[tuple[AnswerState, str, str]]) -> None:
        """These wait, and no others: the answer, the call, the tool."""
        self._open.clear()
        for answer, call_id, name in answers:
            answer.calls.add(call_id)
            answer.open_calls.add(call_id)
            self._open[call_id] = OpenCall(answer, name)

    def called(self, answer: AnswerState, item: Item) -> list[up.Update]:
        """An output item is complete. Returns the call, if it is one and was not reported before."""
        call_id = item.call_id or ""
        if not item.is_whole_call or call_id in answer.calls or len(answer.calls) >= _MOST_CALLS:
            return []
        answer.calls.add(call_id)
        answer.open_calls.add(call_id)
        self._open[call_id] = OpenCall(answer, item.name or "")
        forget_oldest(self._open, _MOST_CALLS)  # calls that nobody answered
        return [translate.tool_call(answer, item)]

    def answered(self, call_id: str, *, respond: bool) -> OpenCall:
        """A call gets its result; respond: the model is to speak about it. Errors: UsageError when none waits."""
        call = self._open.pop(call_id, None)
        if call is None:
            raise UsageError(f"no call {call_id[:100]!r} waits for a result: it was not made, or has its result")
        call.answer.open_calls.discard(call_id)
        call.answer.wants_reply |= respond
        return call


def remote_ended(book: AnswerBook, item_id: str) -> list[AnswerState]:
    """A remote tool is done; returns the answers that called it. Of one that was not cut, the model is to speak."""
    callers = [answer for answer in (*book.running.values(), *book.recent) if item_id in answer.open_mcp]
    for answer in callers:
        answer.open_mcp.discard(item_id)
        answer.wants_reply |= not answer.cut
    return callers


def settled(answer: AnswerState) -> bool:
    """Whether it is time to ask for the answer that results call for: once all calls of the calling one are over."""
    if answer.wants_reply and answer.done and not answer.open_calls and not answer.open_mcp:
        answer.wants_reply = False
        return True
    return False
