"""Tools in a chat: what is shown of their work, the questions whether a call is allowed, and how to cancel one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from realtime_client import updates as up
from realtime_client.cli.screen import Screen
from realtime_client.cli.tool_lines import call_text, finished_text, how_far, progress_text, question
from realtime_client.deadline import Clock
from realtime_client.errors import UsageError
from realtime_client.escape import one_line
from realtime_client.session.session import Session

HELP = """\
  .tools [cancel [N]]  list the tools and what they work on; or cancel all calls,
                 or number N
"""
_USAGE = ".tools lists the tools; .tools cancel [N] cancels all calls, or number N"
_QUESTION = "question"
_MOST_CALLS = 1_024
_MID_LINE_S = 1.0
_ANSWERS = {  # whether it is allowed, whether that is remembered
    **dict.fromkeys(("y", "yes"), (True, False)),
    **dict.fromkeys(("n", "no"), (False, False)),
    "always": (True, True),
    "never": (False, True),
}


class _Call(NamedTuple):
    """A call that is not over. since_s: when its tool began, None as long as it waits. at: how far it is."""

    number: int
    call: up.ToolCall
    since_s: float | None = None
    at: str = ""


class ChatTools:
    """What a chat has of tools. `shows` is called in the session's audio thread, everything else in the screen's."""

    def __init__(self, session: Session, screen: Screen, clock: Clock) -> None:
        self._session = session
        self._screen = screen
        self._clock = clock
        self._lock = threading.Lock()
        self._count = 0
        self._calls: dict[str, _Call] = {}
        self._questions: dict[str, up.ApprovalRequested] = {}
        self._shown: up.ApprovalRequested | None = None  # the question that is shown; another may have its id
        self._key_s: float | None = None  # when the last key of the present line was pressed
        self._mid_line = False  # somebody was typing when the question came
        self.shows: dict[type[up.Update], Callable[[Any], None]] = {
            up.ToolStarted: self._started,
            up.ToolProgress: self._progress,
            up.ToolFinished: self._finished,
            up.ApprovalRequested: self._requested,
            up.ApprovalDecided: self._decided,
        }

    @property
    def help(self) -> str:
        """The lines that list the command, where tools are run."""
        return "" if self._session.tooling is None else HELP

    @property
    def busy(self) -> bool:
        """Whether a tool has something to do."""
        return self._session.tooling is not None and self._session.tooling.busy > 0

    # What is shown

    def called(self, call: up.ToolCall) -> None:
        """The model calls a tool."""
        self._screen.notice(f"[calls {call_text(call.name, call.arguments)}]")
        if self._session.tooling is None:
            return
        with self._lock:
            self._count += 1
            self._calls[call.call_id] = _Call(self._count, call)
            if len(self._calls) > _MOST_CALLS:
                del self._calls[next(iter(self._calls))]

    def _started(self, update: up.ToolStarted) -> None:
        self._note(update.call_id, since_s=self._clock.monotonic())
        self._screen.pin(update.call_id, f"[{one_line(update.name, 64)} ...]", passing=True)

    def _progress(self, update: up.ToolProgress) -> None:
        if self._note(update.call_id, at=how_far(update)):
            self._screen.pin(update.call_id, progress_text(update), passing=True)

    def _note(self, call_id: str, **more: Any) -> bool:
        with self._lock:
            known = self._calls.get(call_id)
            if known is not None:
                self._calls[call_id] = known._replace(**more)
            return known is not None

    def _finished(self, update: up.ToolFinished) -> None:
        with self._lock:
            call = self._calls.pop(update.call_id, None)
            alike = call is not None and any(other.call.name == update.name for other in self._calls.values())
        self._screen.unpin(update.call_id)
        self._answered(update.call_id)
        line = finished_text(update)
        self._screen.notice(f"{line[:-1]}; call {call.number}]" if call is not None and alike else line)

    def _requested(self, asked: up.ApprovalRequested) -> None:
        with self._lock:
            self._questions[asked.request_id] = asked
        self._show_question()

    def _decided(self, update: up.ApprovalDecided) -> None:
        self._answered(update.request_id)
        with self._lock:
            is_own = update.request_id in self._calls
        if update.approved:
            self._screen.notice(f"[{one_line(update.name, 64)} allowed]")
        elif not is_own:  # the end of the call tells it
            refused = up.ToolFinished(call_id="", name=update.name, status="refused", error=update.reason)
            self._screen.notice(finished_text(refused))

    def _answered(self, request_id: str) -> None:
        with self._lock:
            if self._questions.pop(request_id, None) is None:
                return
        self._show_question()

    def _show_question(self) -> None:
        """Ask about the oldest call that waits."""
        with self._lock:
            first, waiting = next(iter(self._questions.values()), None), len(self._questions)
        if first is None:
            self._screen.unpin(_QUESTION)
        else:
            if first is not self._shown:
                key_s = self._key_s
                self._shown = first
                self._mid_line = key_s is not None and self._clock.monotonic() - key_s < _MID_LINE_S
            self._screen.pin(_QUESTION, question(first, of=waiting))

    # What the person says

    def typed(self) -> None:
        """A key was pressed."""
        self._key_s = self._clock.monotonic()

    def answer(self, text: str) -> bool:
        """Take a line as the answer to the oldest question; False if it is none. Errors: UsageError.

        A line that was being typed when the question came is meant for the model.
        """
        mid_line, self._mid_line, self._key_s = self._mid_line, False, None
        approve, remember = _ANSWERS.get(text.lower(), (None, False))
        with self._lock:
            first = next(iter(self._questions), None)
        if approve is None or first is None or mid_line:
            return False
        self._screen.echo(text)
        self._answered(first)
        self._session.approve(first, approve=approve, remember=remember)
        return True

    def cancel(self) -> bool:
        """Cancel all calls; False if there was none. The end of each is told as it comes."""
        return self._session.tooling is not None and self._session.tooling.cancel() > 0

    def command(self, rest: str) -> None:
        """Do `.tools`. Errors: UsageError."""
        words = rest.split()
        if words[:1] == ["cancel"] and len(words) <= 2:
            self._cancel(words[1] if len(words) > 1 else None)
        elif words:
            raise UsageError(_USAGE)
        else:
            self._list()

    def _cancel(self, number: str | None) -> None:
        if number is None:
            if not self.cancel():
                self._screen.notice("[no tool is at work]")
            return
        with self._lock:
            found = next((key for key, call in self._calls.items() if str(call.number) == number), None)
        if found is None or self._session.tooling is None or not self._session.tooling.cancel(found):
            raise UsageError(f"no call {one_line(number, 20)} is open; .tools lists them")

    def _list(self) -> None:
        tooling = self._session.tooling
        tools = () if tooling is None else tooling.tools()
        width = max((len(tool.name) for tool in tools), default=0)
        rows = [f"  {t.verdict:6}  {one_line(t.name, 64):{width}}  {one_line(t.origin, 64)}".rstrip() for t in tools]
        with self._lock:
            calls = list(self._calls.values())
            asked = set(self._questions)
        rows += [self._row(each, asked=each.call.call_id in asked) for each in calls]
        self._screen.notice("\n".join(rows) if rows else "[there are no tools]")

    def _row(self, each: _Call, *, asked: bool) -> str:
        at = "is asked about" if asked else "waits"
        if each.since_s is not None:
            at = f"{self._clock.monotonic() - each.since_s:.1f} s{', ' if each.at else ''}{each.at}"
        return f"[call {each.number}: {call_text(each.call.name, each.call.arguments)}: {at}]"
