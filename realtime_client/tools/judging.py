"""What becomes of a call before anything runs: is there such a tool, do the arguments fit, may it run. No I/O."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from realtime_client import updates as up
from realtime_client.session.limits import ToolLimits
from realtime_client.session.tooling import NOBODY

from .approval import Policy
from .telling import words
from .tool import BadArgumentsError, Tool
from .toolbox import Toolbox

NOT_ALLOWED = "this tool is not allowed"


class Judged(NamedTuple):
    """What becomes of a call.

    checked: the arguments, as the tool takes them. why: for the model, where it does not run.
    """

    outcome: Literal["run", "ask", "invalid", "refused"]
    tool: Tool | None = None
    checked: Any = None
    why: str = ""


class Judge:
    """Judges calls. asks: somebody can be asked whether one is allowed."""

    def __init__(self, toolbox: Toolbox, policy: Policy, limits: ToolLimits, *, asks: bool) -> None:
        self._toolbox = toolbox
        self._policy = policy
        self._limits = limits
        self._asks = asks

    def of(self, call: up.ToolCall) -> Judged:
        """Judge a call of a tool of this program."""
        tool = self._toolbox.get(call.name)
        if tool is None:
            there = ", ".join(sorted(self._toolbox.named)[:20]) or "none"
            return Judged("invalid", why=f"there is no tool {call.name[:64]}; there are: {there}")
        try:
            checked = self._checked(tool, call.arguments)
        except BadArgumentsError as error:
            return Judged("invalid", tool, why=words(error))
        except Exception as error:  # noqa: BLE001 - a tool is the user's, or a server's
            why = f"the arguments cannot be judged: {type(error).__name__}: {words(error)}"
            return Judged("invalid", tool, why=why)
        verdict = self._policy.verdict(call.name, tool)
        if verdict == "always":
            return Judged("run", tool, checked)
        if verdict == "never":
            return Judged("refused", tool, why=NOT_ALLOWED)
        return Judged("ask", tool, checked) if self._asks else Judged("refused", tool, why=NOBODY)

    def of_remote(self, asked: up.ApprovalRequested) -> Judged:
        """Judge a call of a tool that the model's server runs."""
        verdict = self._policy.verdict(asked.name, None, origin=asked.origin)
        if verdict == "always":
            return Judged("run")
        if verdict == "never":
            return Judged("refused", why=NOT_ALLOWED)
        return Judged("ask") if self._asks else Judged("refused", why=NOBODY)

    def _checked(self, tool: Tool, arguments: str) -> Any:
        if len(arguments) > self._limits.argument_bytes:
            raise BadArgumentsError(f"the arguments are longer than {self._limits.argument_bytes} bytes")
        return tool.check(arguments)
