"""The tools of a scenario: each call gets the result that the scenario gives it, when the tool would be done."""

from __future__ import annotations

import heapq
import itertools
import json
from collections.abc import Iterable, Sequence

from realtime_client import updates as up
from realtime_client.batch.scenario import Tool, seconds
from realtime_client.changes import ToolSpec
from realtime_client.deadline import Clock
from realtime_client.session.session import Session

from .turn import PendingCall

_NEVER_S = 3600.0


class ScriptedTools:
    """Answers the calls of one session. The observers are told when a tool begins and when it is done."""

    def __init__(self, session: Session, tools: Sequence[Tool], clock: Clock) -> None:
        self._session = session
        self._tools = {tool.name: tool for tool in tools}
        self._clock = clock
        self._numbers = itertools.count()
        self._due: list[tuple[float, int, PendingCall, float]] = []  # due_s, tie-break, the call, began_s

    @property
    def busy(self) -> bool:
        """Whether a result is still to be sent."""
        return bool(self._due)

    def due_in_s(self) -> float:
        """Return how long until the next result is due."""
        return self._due[0][0] - self._clock.monotonic() if self._due else _NEVER_S

    def begin(self, calls: Iterable[PendingCall]) -> None:
        """Let the tools begin to work on these calls."""
        for call in calls:
            tool = self._tools.get(call.use.name)
            call.use.output = tool_output(tool, call.use.name)
            delay_s = seconds(tool.delay) if tool is not None and tool.delay is not None else 0.0
            began_s = self._clock.monotonic()
            heapq.heappush(self._due, (began_s + delay_s, next(self._numbers), call, began_s))
            self._session.tell(up.ToolStarted(call_id=call.call_id, name=call.use.name))

    def send_due(self) -> None:
        """Send the results that are due. Errors: those of `Session.send_tool_result`."""
        while self._due and self.due_in_s() <= 0:
            _, _, call, began_s = heapq.heappop(self._due)
            tool = self._tools.get(call.use.name)
            error = f"there is no tool {call.use.name}" if tool is None else tool.error
            finished = up.ToolFinished(
                call_id=call.call_id,
                name=call.use.name,
                status="completed" if error is None else "failed",
                duration_ms=round((self._clock.monotonic() - began_s) * 1000, 3),
                error=None if error is None else str(error),
            )
            self._session.tell(finished)
            self._session.send_tool_result(call.call_id, call.use.output or "")


def offered(tools: list[Tool]) -> list[ToolSpec]:
    """Return tools as the session offers them."""
    return [ToolSpec(name=tool.name, description=tool.description or "", parameters=tool.parameters) for tool in tools]


def tool_output(tool: Tool | None, name: str) -> str:
    """Return what a call of a tool gives back: text as it is, everything else as JSON."""
    if tool is None:
        return json.dumps({"error": f"there is no tool {name}"})
    if tool.error is not None:
        return json.dumps({"error": tool.error}, ensure_ascii=False)
    return tool.returns if isinstance(tool.returns, str) else json.dumps(tool.returns, ensure_ascii=False)
