"""Running the tools that a model calls, beside the talk.

    who brings an update   tells of calls, interruptions and the end   -> the book, under a lock
    `realtime-tools`       judges calls, asks whether they are allowed, watches the time limits
    `realtime-tool-N`      one call each: the tool's own work, then its result

A tool's thread cannot be stopped from outside. When its time is over it is told (`ToolContext.cancel`), its call gets
an error as its result, and the thread is left to end by itself; what it returns then is thrown away.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections import deque
from collections.abc import Callable

from realtime_client import updates as up
from realtime_client.changes import Changes
from realtime_client.deadline import SYSTEM_CLOCK, Clock, Deadline
from realtime_client.errors import RealtimeError, ToolError
from realtime_client.escape import one_line
from realtime_client.logs import Log
from realtime_client.session.limits import ToolLimits
from realtime_client.session.session import Session
from realtime_client.session.threads import Worker, join_all
from realtime_client.session.tooling import ToolView

from .approval import Policy
from .book import CallBook, Work
from .judging import Judge
from .telling import Reporter, Teller, words
from .tool import ToolCancelledError, ToolContext
from .toolbox import Toolbox

_log = Log("tools")
_MOST_LEFT = 64
"""Threads of tools that go on though their call is over; beyond that no call is begun."""
_MOST_REFUSED = 1_024
_ALIKE = "a call of the model's server that waits to be allowed has its id"
"""Who allows the one must not allow the other with it."""
_AGAIN_S = 0.05


class ToolRunner:
    """Runs the tools of one session, which knows it as `Session.tooling`.

    asks: somebody can be asked whether a call is allowed (`ApprovalRequested`, `Session.approve`); else what would be
    asked about is refused. loop: the program's event loop, for tools that are coroutines. left: how many threads of
    tools go on though their call is over.
    """

    def __init__(
        self,
        session: Session,
        toolbox: Toolbox,
        policy: Policy | None = None,
        *,
        asks: bool = False,
        limits: ToolLimits | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._session = session
        self._toolbox = toolbox
        self._policy = policy or Policy()
        self._limits = limits or ToolLimits()
        self._judges = Judge(toolbox, self._policy, self._limits, asks=asks)
        self._teller = Teller(session, self._limits, clock)
        self._loop = loop
        self._clock = clock
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self._book = CallBook(self._limits)
        self._todo: deque[Callable[[], object]] = deque()
        self._remote: dict[str, up.ApprovalRequested] = {}
        self._closing = False
        self._threads: dict[threading.Thread, Work] = {}
        self._keeper = Worker("realtime-tools", self._keep, self._failed)
        self._remove: Callable[[], object] = bool

    # --- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Take the session's calls from now on. Without tools, the keeper's thread begins with the first call."""
        self._session.tooling = self
        self._remove = self._session.observe(self.observe, direct=True)
        self._toolbox.on_change = self._tools_changed
        if len(self._toolbox):
            self._do(bool)

    def close(self, timeout_s: float = 5.0) -> None:
        """Cancel what runs, and join the threads. A tool that does not end by then is left behind, and named."""
        deadline = Deadline(timeout_s, self._clock)
        self._remove()
        self._toolbox.on_change = bool
        for finished in self.end():
            self._teller.tell(finished)
        if self._keeper.thread.ident is not None:
            join_all([self._keeper.thread], deadline)
        with self._changed:
            threads = dict(self._threads)
        join_all(list(threads), deadline)
        for thread, work in threads.items():
            if thread.is_alive():
                _log.warning("a tool does not end: it is left behind", tool=one_line(work.call.name, 64))
        if self._keeper.error is not None:
            raise self._keeper.error

    def end(self) -> list[up.ToolFinished]:
        """See `Tooling`: what is cancelled here needs no result."""
        with self._changed:
            self._closing = True
            works = [(work, work.context) for work in self._book.all() if self._book.end(work)]
            self._changed.notify_all()
        for _, context in works:
            if context is not None:
                context.cancel()
        return [self._teller.finished(work, "cancelled", "") for work, _ in works]

    def _failed(self, error: BaseException) -> None:
        _log.error("running tools failed", error=one_line(repr(error), 300))
        self._session.stop.set()

    # --- what happens in the session ----------------------------------------------------------------------------------

    def observe(self, update: up.Update, _at_s: float) -> None:
        """Take an update of the session; quick, and never waits."""
        match update:
            case up.ToolCall():
                self._called(update)
            case up.Interrupted():
                with self._changed:
                    self._book.interrupted(update.response_id)
            case up.ApprovalRequested(remote=True):
                with self._changed:  # now: who is told of it may decide at once
                    self._remote[update.request_id] = update
                    while len(self._remote) > self._limits.open_calls:
                        del self._remote[next(iter(self._remote))]
                self._do(lambda: self._judge_remote(update), may_drop=True)
            case _:
                pass

    def _called(self, call: up.ToolCall) -> None:
        with self._changed:
            if self._closing or self._book.get(call.call_id) is not None:
                return
            work = self._book.called(call)
        if work is not None:
            self._do(lambda: self._judge(work))
            return
        refused, why = Work(call), f"more than {self._limits.open_calls} calls are open"
        self._do(lambda: self._send(refused, self._teller.over(refused, "refused", why)), may_drop=True)

    def _do(self, what: Callable[[], object], *, may_drop: bool = False) -> None:
        """Let the keeper do something. may_drop: the other side says how often; else there is a bound."""
        with self._changed:
            if not (self._closing or (may_drop and len(self._todo) >= _MOST_REFUSED)):
                if self._keeper.thread.ident is None:
                    self._keeper.start()
                self._todo.append(what)
                self._changed.notify_all()

    def _tools_changed(self) -> None:
        """A source has other tools now: the model is told."""

        def tell() -> None:
            with contextlib.suppress(RealtimeError):  # the session is over
                self._session.change(Changes(tools=self._toolbox.specs))

        self._do(tell)

    # --- the keeper ---------------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        while True:
            with self._changed:
                while not (self._closing or self._todo or self._is_due()):
                    self._changed.wait(self._wait_s())
                if self._closing:
                    return
                todo = list(self._todo)
                self._todo.clear()
                overdue = self._book.overdue(self._clock.monotonic())
            for step in todo:
                step()
            for work in overdue:
                self._time_is_over(work)
            self._begin_some()

    def _is_due(self) -> bool:
        wait_s = self._wait_s()
        return wait_s is not None and wait_s <= 0

    def _wait_s(self) -> float | None:
        due_s = self._book.due_s()
        return None if due_s is None else due_s - self._clock.monotonic()

    def _judge(self, work: Work) -> None:
        """Decide what becomes of a call."""
        if work.stage == "over":
            return
        call = work.call
        judged = self._judges.of(call)
        work.tool, work.checked = judged.tool, judged.checked
        if judged.outcome == "run":
            with self._changed:
                self._book.allowed(work)
        elif judged.outcome == "ask":
            self._ask(work, "" if judged.tool is None else judged.tool.origin)
        else:
            self._cut_off(work, judged.outcome, judged.why)

    def _ask(self, work: Work, origin: str) -> None:
        """Ask whether a call is allowed."""
        call = work.call
        with self._changed:
            alike = call.call_id in self._remote
            if not alike:
                self._book.asked(work, self._clock.monotonic())
        if alike:
            self._cut_off(work, "refused", _ALIKE)
            return
        asked = up.ApprovalRequested(request_id=call.call_id, name=call.name, arguments=call.arguments, origin=origin)
        self._teller.tell(asked)

    def _judge_remote(self, asked: up.ApprovalRequested) -> None:
        """Decide about a call that the model's server makes."""
        alike = self._book.get(asked.request_id)
        if alike is not None and alike.stage == "asked":
            self._cut_off(alike, "refused", _ALIKE)
        judged = self._judges.of_remote(asked)
        if judged.outcome == "ask":
            return
        with self._changed:
            if self._remote.pop(asked.request_id, None) is None:
                return  # somebody has decided
        with contextlib.suppress(RealtimeError):  # the session is over
            self._session.approve(asked.request_id, approve=not judged.why, reason=judged.why or None)
        self._teller.decided(asked.request_id, asked.name, approved=not judged.why, reason=judged.why)

    def _time_is_over(self, work: Work) -> None:
        if work.stage == "asked":
            reason = f"nobody has answered within {self._limits.approval_s:g} s whether it is allowed"
            self._teller.decided(work.call.call_id, work.call.name, approved=False, reason=reason)
            self._cut_off(work, "refused", reason)
        else:
            seconds = (work.due_s or 0.0) - (work.began_s or 0.0)
            self._cut_off(work, "timed_out", f"it took longer than {seconds:g} s")

    def _begin_some(self) -> None:
        """Give workers to calls that wait for one."""
        with self._changed:
            if self._closing:
                return
            waits = len(self._threads) - sum(each.stage == "running" for each in self._threads.values()) >= _MOST_LEFT
            begun = list(self._book.begin(self._clock.monotonic()))
            refused, begun = (begun, []) if waits else ([], begun)
            for work in begun:
                work.context = ToolContext(
                    work.call.call_id,
                    work.call.name,
                    facts=lambda: self._session.facts,
                    report=Reporter(work.call, self._teller.tell, self._clock),
                    loop=self._loop,
                )
                if work.tool is None or not work.tool.instant:
                    worker = Worker(f"realtime-tool-{next(self._numbers)}", self._task(work), self._failed)
                    self._threads[worker.thread] = work
                    worker.start()
        for work in refused:
            self._cut_off(work, "failed", f"{_MOST_LEFT} tools go on though their calls are over: none is begun")
            self._do(bool)  # the next one
        for work in begun:
            if work.tool is not None and work.tool.instant:
                self._work(work)
                self._do(bool)  # another call may begin

    # --- a worker -----------------------------------------------------------------------------------------------------

    def _task(self, work: Work) -> Callable[[], None]:
        def run() -> None:
            try:
                self._work(work)
            finally:
                with self._changed:
                    del self._threads[threading.current_thread()]
                self._do(bool)  # another call may begin

        return run

    def _work(self, work: Work) -> None:
        self._teller.tell(up.ToolStarted(call_id=work.call.call_id, name=work.call.name))
        tool, context = work.tool, work.context
        assert tool is not None
        assert context is not None
        try:
            output = tool.run(work.checked, context)
            if not isinstance(output, str):
                raise ToolError(f"it returned {type(output).__name__}, not text")
            output.encode()
        except ToolCancelledError as error:
            self._over(work, "cancelled", words(error))
        except ToolError as error:
            self._over(work, "failed", words(error))
        except BaseException as error:  # noqa: BLE001 - a tool is the user's, or a server's
            _log.debug("a tool failed", tool=one_line(work.call.name, 64), exc_info=True)
            self._over(work, "failed", f"{type(error).__name__}: {words(error)}")
        else:
            self._over(work, "completed", output)

    # --- the end of a call --------------------------------------------------------------------------------------------

    def _cut_off(self, work: Work, status: str, message: str) -> None:
        """End a call from outside. message: for the model.

        The keeper sends it: who cancels waits for no network, and the next tool is told at once.
        """
        context = work.context
        if not self._claim(work):
            return
        if context is not None:
            context.cancel()
        output = self._teller.over(work, status, message)
        self._do(lambda: self._send(work, output))

    def _over(self, work: Work, status: str, text: str) -> None:
        """End a call from its worker."""
        if self._claim(work):
            self._send(work, self._teller.over(work, status, text))

    def _claim(self, work: Work) -> bool:
        with self._changed:
            return self._book.end(work)

    def _send(self, work: Work, output: str) -> None:
        """Send a result. When the network stands still, or another connection comes, it is sent later."""
        if not self._teller.send(work, output) and not self._session.stop.wait(_AGAIN_S):
            self._do(lambda: self._send(work, output))

    # --- what the user wants ------------------------------------------------------------------------------------------

    @property
    def busy(self) -> int:
        """How many calls wait, are asked about, or are worked on."""
        with self._changed:
            return len(self._book)

    def tools(self) -> list[ToolView]:
        """See `Tooling`."""
        named = sorted(self._toolbox.named.items())
        return [ToolView(name, tool.origin, self._policy.verdict(name, tool)) for name, tool in named]

    @property
    def left(self) -> int:
        """How many threads of tools go on though their call is over."""
        with self._changed:
            return sum(work.stage == "over" for work in self._threads.values())

    def decide(self, request_id: str, *, approve: bool, reason: str | None, remember: bool) -> bool:
        """Allow or refuse a call; see `Tooling`."""
        with self._changed:
            remote = self._remote.pop(request_id, None)
            work = self._book.get(request_id)
            if work is not None and (remote is not None or work.stage != "asked"):
                work = None
            if work is not None and approve:
                self._book.allowed(work)
        name, tool, origin = "", None, ""
        if work is not None and work.tool is not None:
            name, tool, origin = work.call.name, work.tool, work.tool.origin
        elif remote is not None:
            name, origin = remote.name, remote.origin
        else:
            return False
        if remember:
            self._policy.remember(name, tool, origin=origin, approve=approve)
        self._teller.decided(request_id, name, approved=approve, reason=reason or "")
        if work is None:
            return False  # the session sends it
        if approve:
            self._do(bool)
        else:
            self._cut_off(work, "refused", reason or "the user did not allow it")
        return True

    def cancel(self, call_id: str | None = None) -> int:
        """Cancel one call, or all that wait or are worked on; returns how many there were."""
        with self._changed:
            works = [work for work in self._book.all() if call_id in (None, work.call.call_id)]
            for work in works:
                work.silent = True
        for work in works:
            self._cut_off(work, "cancelled", "the user cancelled it")
        return len(works)
