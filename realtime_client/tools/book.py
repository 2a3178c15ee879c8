"""The calls of one session: where each one stands, and what is due. Pure: told what happened and what time it is.

    called -> asked about (perhaps) -> waiting for a worker -> running -> over

A call is over once, whoever says so first: the tool, its time limit, a cancel, a refusal, or the end of the session.
Only who ended it sends its result.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from realtime_client import updates as up
from realtime_client.session.limits import ToolLimits

from .tool import Tool, ToolContext

Stage = Literal["called", "asked", "waiting", "running", "over"]


class Work:
    """One call.

    tool: None as long as nobody has looked for it. checked: its arguments as the tool takes them. context: while a
    tool works on it. due_s: when its time is over, None for never. silent: the model is not asked to speak about it.
    """

    __slots__ = ("began_s", "call", "checked", "context", "due_s", "silent", "stage", "tool")

    def __init__(self, call: up.ToolCall) -> None:
        self.call = call
        self.tool: Tool | None = None
        self.checked: Any = None
        self.context: ToolContext | None = None
        self.stage: Stage = "called"
        self.began_s: float | None = None
        self.due_s: float | None = None
        self.silent = False


class CallBook:
    """The calls that are not over. Not safe under threads: whoever shares it holds a lock."""

    def __init__(self, limits: ToolLimits) -> None:
        self._limits = limits
        self._works: dict[str, Work] = {}
        self._cut: dict[str, None] = {}  # answers that were interrupted

    def __len__(self) -> int:
        return len(self._works)

    def called(self, call: up.ToolCall) -> Work | None:
        """The model calls a tool; None when that is not news, or when too many calls are open."""
        if call.call_id in self._works or len(self._works) >= self._limits.open_calls:
            return None
        work = self._works[call.call_id] = Work(call)
        work.silent = call.response_id in self._cut
        return work

    def get(self, call_id: str) -> Work | None:
        """A call that is not over."""
        return self._works.get(call_id)

    def all(self) -> list[Work]:
        """All that are not over, the oldest first."""
        return list(self._works.values())

    def asked(self, work: Work, now_s: float) -> None:
        """The user is asked whether it is allowed."""
        work.stage, work.due_s = "asked", now_s + self._limits.approval_s

    def allowed(self, work: Work) -> None:
        """It may run as soon as there is a worker for it."""
        work.stage, work.due_s = "waiting", None

    def begin(self, now_s: float) -> Iterator[Work]:
        """Those that are to be worked on from now on, as many as there are workers for."""
        running = sum(work.stage == "running" for work in self._works.values())
        for work in list(self._works.values()):
            if running >= self._limits.at_once:
                return
            if work.stage == "waiting":
                limit_s = work.tool.timeout_s if work.tool is not None else None
                work.stage, work.began_s = "running", now_s
                work.due_s = now_s + (self._limits.timeout_s if limit_s is None else limit_s)
                running += 1
                yield work

    def end(self, work: Work) -> bool:
        """It is over; False if it was before."""
        if self._works.get(work.call.call_id) is not work:
            return False
        del self._works[work.call.call_id]
        work.stage = "over"
        return True

    def interrupted(self, response_id: str | None) -> None:
        """An answer was cut: what its calls bring is kept for the next turn, and not spoken about by itself."""
        if response_id is None:
            return
        self._cut[response_id] = None
        while len(self._cut) > _MOST_CUT:
            del self._cut[next(iter(self._cut))]
        for work in self._works.values():
            work.silent |= work.call.response_id == response_id

    def due_s(self) -> float | None:
        """When the first time limit is over, None for never."""
        return min((work.due_s for work in self._works.values() if work.due_s is not None), default=None)

    def overdue(self, now_s: float) -> list[Work]:
        """Those whose time is over."""
        return [work for work in self._works.values() if work.due_s is not None and work.due_s <= now_s]


_MOST_CUT = 64
