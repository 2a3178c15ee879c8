"""A chat without a terminal that can move the cursor: lines in, text out."""

from __future__ import annotations

import contextlib
import io
import queue
import sys
import threading
from collections.abc import Callable

from realtime_client.cli.hangup import hung_up, tell
from realtime_client.cli.screen import Controls, GoesOn, Interrupts, OnInterrupt, OnLine, OnTyping, dim
from realtime_client.cli.tool_lines import RARELY_S
from realtime_client.deadline import SYSTEM_CLOCK, Clock
from realtime_client.escape import printable

_LINES_AHEAD = 64
_LOOK_S = 0.1


class PlainScreen:
    """Lines in, text out: for a terminal that cannot move the cursor, or standard input and output that are files."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self.hung_up = False
        self._clock = clock
        self._pinned_s: dict[str, float] = {}
        self._lock = threading.Lock()
        self._at_start = True
        self._done = threading.Event()
        self._to_terminal = sys.stdout.isatty()
        self._error: OSError | None = None
        self._at_end = False  # of input
        self._interrupts = Interrupts()
        self._todo: queue.Queue[Callable[[], None]] = queue.Queue(_LINES_AHEAD)
        self._runs = False

    def write(self, text: str) -> None:
        """Show more of the running answer. If standard output takes no more, `run` ends with the error."""
        shown = printable(text) if self._to_terminal else text
        if not shown:
            return
        with self._lock:
            self._at_start = shown.endswith("\n")
            try:
                sys.stdout.write(shown)
                sys.stdout.flush()
            except OSError as error:
                self._error = error
                self.stop()

    def end_line(self) -> None:
        """Finish the line."""
        if not self._at_start:
            self.write("\n")

    def notice(self, text: str) -> None:
        """Show a line of the program's own, on stderr."""
        self.end_line()
        with self._lock:
            tell(printable(text))

    def aside(self, text: str) -> None:
        """Show a notice, dim."""
        self.end_line()
        with self._lock:
            tell(dim(printable(text)))

    def echo(self, line: str) -> None:
        """Nothing: the terminal has shown it."""

    def pin(self, key: str, text: str, *, passing: bool = False, every_s: float = 0.0) -> None:
        """Show a line; one of those that follow each other quickly now and then."""
        every_s = every_s or (RARELY_S if passing else 0.0)
        if every_s:
            with self._lock:
                now_s = self._clock.monotonic()
                if now_s - self._pinned_s.setdefault(key, now_s) < every_s:
                    return
                self._pinned_s[key] = now_s
        (self.aside if passing else self.notice)(text)

    def unpin(self, key: str) -> None:
        """Nothing is redrawn."""
        with self._lock:
            self._pinned_s.pop(key, None)

    def add_controls(self, controls: Controls) -> None:
        """Nothing: no row is redrawn, and there is no key."""

    def stop(self) -> None:
        """Make `run` return."""
        self._done.set()
        self._do(lambda: None)

    def interrupt(self) -> bool:
        """Take a Ctrl-C that came as a signal. The terminal itself has discarded the half-typed line."""
        return self._runs and self._interrupts.come() and self._do(self._interrupted)

    def abandon(self) -> None:
        """Nothing: the terminal is as it was."""

    def run(
        self,
        on_line: OnLine,
        on_interrupt: OnInterrupt,
        on_typing: OnTyping = lambda: None,  # noqa: ARG002  # nobody tells of it
        goes_on: GoesOn = bool,
    ) -> None:
        """Read lines in a thread of their own: a blocked signal does not interrupt a read."""
        self._on_interrupt = on_interrupt
        self._runs = True
        threading.Thread(target=self._read, args=(on_line,), name="realtime-stdin", daemon=True).start()
        while not self._done.is_set():
            with contextlib.suppress(queue.Empty):
                self._todo.get(timeout=_LOOK_S if self._at_end else None)()
            if self._at_end and not goes_on():
                break
        self._runs = False
        self.hung_up = hung_up()
        if self._error is not None and not self.hung_up:
            raise self._error

    def _interrupted(self) -> None:
        self._interrupts.taken()
        self._on_interrupt()

    def _do(self, action: Callable[[], None]) -> bool:
        """Have the thread of `run` do something; False if it is too busy: it looks for the end after each step."""
        with contextlib.suppress(queue.Full):
            self._todo.put_nowait(action)
            return True
        return False

    def _read(self, on_line: OnLine) -> None:
        with contextlib.suppress(OSError, ValueError):  # the terminal is gone
            if isinstance(sys.stdin, io.TextIOWrapper):
                sys.stdin.reconfigure(errors="surrogateescape")  # `on_line` refuses what cannot be read
            for line in sys.stdin:
                text = line.strip()
                if text and not self._put(lambda text=text: on_line(text)):  # type: ignore[misc]
                    return
        self._put(self._input_ended)

    def _input_ended(self) -> None:
        self._at_end = not sys.stdin.isatty()
        if not self._at_end:  # Ctrl-D
            self._done.set()

    def _put(self, action: Callable[[], None]) -> bool:
        """Queue behind the lines that came before; False at the end."""
        while not self._done.is_set():
            with contextlib.suppress(queue.Full):
                self._todo.put(action, timeout=0.25)
                return True
        return False
