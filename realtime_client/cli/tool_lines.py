"""Calls of tools in lines for people. Names, arguments and errors are a model's, or a stranger's: never shown raw."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

from realtime_client import updates as up
from realtime_client.deadline import SYSTEM_CLOCK, Clock
from realtime_client.errors import RealtimeError
from realtime_client.escape import one_line
from realtime_client.session.session import Session
from realtime_client.session.tooling import NOBODY, how_to_allow

RARELY_S = 1.0
"""Least time between two lines about the same call, where a line cannot be redrawn."""
_NAME = 64
_SHORT, _LONG = 200, 600
_WORDS = {
    "failed": "failed",
    "timed_out": "timed out",
    "cancelled": "cancelled",
    "refused": "refused",
    "invalid": "not run",
}


def call_text(name: str, arguments: str, limit: int = _SHORT) -> str:
    """Return a call: its arguments in full if they are short, else their beginning and their size."""
    line = one_line(arguments, max(limit, len(arguments)) + 3)
    if len(line) > limit:
        line = f"{line[:limit]}... ({len(arguments):,} characters)"
    return f"{one_line(name, _NAME)}({line})"


def question(asked: up.ApprovalRequested, number: int = 1, of: int = 1) -> str:
    """Return what is asked before a call may run. number, of: its place among all that wait."""
    place = f"{number} of {of}: " if of > 1 else ""
    where = f" from {one_line(asked.origin, _NAME)}" if asked.origin else ""
    run = ", run by the model's server" if asked.remote else ""
    return f"[{place}allow {call_text(asked.name, asked.arguments, _LONG)}{where}{run}? y, n, always, never]"


def progress_text(update: up.ToolProgress) -> str:
    """Return a line on how far a call is."""
    at = how_far(update)
    return f"[{one_line(update.name, _NAME)}: {at}]" if at else f"[{one_line(update.name, _NAME)} ...]"


def how_far(update: up.ToolProgress) -> str:
    """Return what a tool tells of its progress; '' for nothing."""
    return ", ".join(part for part in (one_line(update.text, _SHORT), _share(update.done, update.total)) if part)


def _share(done: float | None, total: float | None) -> str:
    if done is None or not math.isfinite(done):
        return ""
    if total is None or not math.isfinite(total) or total <= 0:
        return f"{done:g}"
    return f"{max(0.0, min(1.0, done / total)):.0%}"


def finished_text(update: up.ToolFinished) -> str:
    """Return how a call ended; where nobody could be asked, how to allow it."""
    name = one_line(update.name, _NAME)
    if update.status == "completed":
        return f"[{name} done{_took(update.duration_ms)}]"
    why = one_line(update.error or "")
    if update.error == NOBODY:
        why += how_to_allow(name)
    return f"[{name} {_WORDS.get(update.status, one_line(update.status, 20))}" + (f": {why}]" if why else "]")


def _took(duration_ms: float | None) -> str:
    if duration_ms is None:
        return ""
    return f" in {duration_ms:.0f} ms" if duration_ms < 100 else f" in {duration_ms / 1000:.1f} s"


class ToolLines:
    """Tells of calls line by line, where nobody can be asked. calls: what came of each, for a report.

    tell: takes a line.
    """

    def __init__(self, session: Session, tell: Callable[[str], object], *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.calls: dict[str, dict[str, Any]] = {}
        self._session = session
        self._tell = tell
        self._clock = clock
        self._told_s: dict[str, float] = {}

    def take(self, update: up.Update) -> None:
        """Take an update of the session."""
        match update:
            case up.ToolCall():
                self._tell(f"[calls {call_text(update.name, update.arguments)}]")
                self.calls[update.call_id] = {
                    "name": update.name,
                    "arguments": update.arguments,
                    "status": None,
                    "duration_ms": None,
                    "error": None,
                }
            case up.ToolStarted():
                self._told_s[update.call_id] = self._clock.monotonic()
            case up.ToolProgress():
                now_s = self._clock.monotonic()
                if now_s - self._told_s.get(update.call_id, 0.0) >= RARELY_S:
                    self._told_s[update.call_id] = now_s
                    self._tell(progress_text(update))
            case up.ToolFinished():
                self._told_s.pop(update.call_id, None)
                self._tell(finished_text(update))
                if (call := self.calls.get(update.call_id)) is not None:
                    call |= {"status": update.status, "duration_ms": update.duration_ms, "error": update.error}
            case up.ApprovalRequested(remote=True) if self._session.tooling is None:
                self._refuse(update)
            case up.ApprovalDecided(approved=False) if update.request_id not in self.calls:
                self._tell_refused(update.name, update.reason)
            case _:
                pass

    def _refuse(self, asked: up.ApprovalRequested) -> None:
        with contextlib.suppress(RealtimeError):  # the session is over
            self._session.approve(asked.request_id, approve=False, reason=NOBODY)
        self._tell_refused(asked.name, NOBODY)

    def _tell_refused(self, name: str, reason: str) -> None:
        self._tell(finished_text(up.ToolFinished(call_id="", name=name, status="refused", error=reason)))
