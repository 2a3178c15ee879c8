"""A tool: what the model is told of it, how its arguments are judged, and what it has while it works on a call."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from realtime_client import updates as up
from realtime_client.changes import ToolSpec
from realtime_client.errors import ToolError
from realtime_client.escape import one_line
from realtime_client.logs import Log

_log = Log("tools")


class BadArgumentsError(ToolError):
    """The arguments of a call are not what the tool takes; the message is for the model to read."""


class ToolCancelledError(ToolError):
    """The call is not wanted any longer, or took too long."""


class Tool(ABC):
    """One tool.

    spec: what the model is told of it. origin: where it comes from, for people: `weather.py`, `mcp time`. home: where
    exactly that is, for what is remembered of approvals: the file's path, the server's command or URL. reads: it only
    reads, and changes nothing; None where nobody says so. allowed: the program itself offers it, so that nobody has to
    be asked. timeout_s: longest work on one call; None for the usual limit. instant: its work never waits and
    hardly computes, so that it needs no thread of its own.
    """

    def __init__(
        self,
        spec: ToolSpec,
        *,
        origin: str = "",
        reads: bool | None = None,
        allowed: bool = False,
        timeout_s: float | None = None,
        instant: bool = False,
    ) -> None:
        self.spec = spec
        self.origin = origin
        self.home = ""
        self.reads = reads
        self.allowed = allowed
        self.timeout_s = timeout_s
        self.instant = instant

    @property
    def name(self) -> str:
        """What the model calls it."""
        return self.spec.name

    @abstractmethod
    def check(self, arguments: str) -> Any:
        """Judge the arguments of a call, and return what `run` takes of them. Quick, and without side effects.

        arguments: the model's JSON text. Errors: BadArgumentsError, for the model to read.
        """

    @abstractmethod
    def run(self, checked: Any, context: ToolContext) -> str:
        """Work on a call, in a thread of its own, and return the output for the model.

        Errors: ToolError for the model to read; ToolCancelledError; any other exception is a fault of the tool, which
        the model is told by its kind and message.
        """


Report = Callable[[str, float | None, float | None], None]


class ToolContext:
    """What a tool has while it works on one call. All of it may be used from any thread.

    call_id, name: of the call. loop: the event loop of the program, where it has one; None elsewhere.
    """

    def __init__(
        self,
        call_id: str,
        name: str,
        *,
        facts: Callable[[], up.Facts],
        report: Report,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.call_id = call_id
        self.name = name
        self.loop = loop
        self._facts = facts
        self._report = report
        self._lock = threading.Lock()
        self._cancelled = threading.Event()
        self._hooks: list[Callable[[], object]] = []
        self._partial: list[str] = []
        self._kept = 0

    @property
    def facts(self) -> up.Facts:
        """What is true of the session now."""
        return self._facts()

    @property
    def cancelled(self) -> bool:
        """Whether the call is not wanted any longer: nothing that it returns will be used."""
        return self._cancelled.is_set()

    def check_cancelled(self) -> None:
        """Errors: ToolCancelledError when the call is not wanted any longer."""
        if self._cancelled.is_set():
            raise ToolCancelledError("cancelled")

    def wait(self, seconds: float | None) -> bool:
        """Wait for so long, or until the call is cancelled; True if it was. None waits for the cancel alone."""
        return self._cancelled.wait(seconds)

    def progress(self, text: str = "", done: float | None = None, total: float | None = None) -> None:
        """Tell how far the work is. text: one line; done, total: how much of how much, in any unit."""
        if not self._cancelled.is_set():
            self._report(text, done, total)

    def partial(self, text: str) -> None:
        """Keep a part of the output: shown as progress, and given to the model even if the work is cut off."""
        with self._lock:
            if self._kept < _MOST_PARTIAL:
                self._partial.append(text[: _MOST_PARTIAL - self._kept])
                self._kept += len(text)
        self.progress(text)

    @property
    def output_so_far(self) -> str:
        """The parts of the output that came, joined."""
        with self._lock:
            return "".join(self._partial)

    def on_cancel(self, hook: Callable[[], object]) -> None:
        """Call this when the call is cancelled, in the thread that cancels it; at once if it was. It must be quick."""
        with self._lock:
            if not self._cancelled.is_set():
                self._hooks.append(hook)
                return
        hook()

    def cancel(self) -> None:
        """The call is not wanted any longer. Idempotent."""
        with self._lock:
            self._cancelled.set()
            hooks, self._hooks = self._hooks, []
        for hook in hooks:
            try:
                hook()
            except Exception:  # noqa: BLE001 - the tool's own; whoever cancels has others to tell
                _log.debug("a tool's hook failed", tool=one_line(self.name, 64), exc_info=True)


_MOST_PARTIAL = 1_000_000
