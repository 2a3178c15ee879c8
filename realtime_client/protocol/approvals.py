"""Calls of remote tools that wait to be allowed, and what is allowed and not yet called. Pure.

An answer that asked goes on in one that follows: when its calls have ended, or were refused, the model is to speak.
"""

from __future__ import annotations

from realtime_client.errors import UsageError

from .answers import AnswerState, forget_oldest
from .items import Item

_MOST = 256


class Approvals:
    """The questions of one conversation, the newest 256 of them."""

    def __init__(self) -> None:
        self._asked: dict[str, AnswerState | None] = {}
        self._allowed: dict[str, AnswerState | None] = {}
        self._names: dict[str, str] = {}  # of the tools that were called

    def asked(self, request_id: str, answer: AnswerState | None) -> None:
        """A call waits to be allowed. answer: the one that makes it, None where that is not known."""
        if request_id in self._asked:
            return
        self._asked[request_id] = answer
        forget_oldest(self._asked, _MOST)
        if answer is not None:
            answer.open_mcp.add(request_id)

    def decided(self, request_id: str, *, approve: bool) -> AnswerState | None:
        """It is allowed, or refused; returns the answer that is to be spoken about, if all of it is over now.

        Errors: UsageError when no such call waits.
        """
        if request_id not in self._asked:
            raise UsageError(f"no call {request_id[:100]!r} waits to be allowed")
        answer = self._asked.pop(request_id)
        if approve:
            self._allowed[request_id] = answer
            forget_oldest(self._allowed, _MOST)
            return None
        if answer is not None:
            answer.open_mcp.discard(request_id)
            answer.wants_reply |= not answer.cut
        return answer

    def lost(self) -> list[str]:
        """The server that asked is gone; returns the questions that nobody can answer any more."""
        asked = list(self._asked)
        self._asked.clear()
        self._allowed.clear()
        return asked

    def name_of(self, item_id: str) -> str:
        """The tool that a call is of; '' when that is not known."""
        return self._names.get(item_id, "")

    def called(self, item: Item, answer: AnswerState | None) -> None:
        """A remote tool is called. answer: the one that does, None for a call that stands outside of all answers.

        Such a call belongs to the answer that asked: it names its question, or is taken for the oldest one's.
        """
        self._names[item.id or ""] = item.name or ""
        forget_oldest(self._names, _MOST)
        request_id = item.approval_request_id
        if request_id is None and answer is None:
            request_id = next(iter(self._allowed), None)
        asker = self._allowed.pop(request_id or "", None)
        if asker is not None:
            asker.open_mcp.discard(request_id or "")
            if answer is None:
                asker.open_mcp.add(item.id or "")
            elif answer is not asker:
                answer.goes_on = (*answer.goes_on[-_MOST:], asker.id)
