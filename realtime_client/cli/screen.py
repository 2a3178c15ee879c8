"""Where a chat is shown: a line to type on, with the answer growing above it.

Two screens with one interface: `LineScreen` for terminals that can move the cursor, `PlainScreen` for everything else.
Everything but `run` may be called from any thread and does not wait for the terminal. Text is made printable here, so
nothing a model says can command the terminal.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any, Protocol

from realtime_client.cli.wrapping import wrap
from realtime_client.escape import printable

_REDRAW_S = 0.04
_MOST_PENDING = 1_000_000
_DIM, _PLAIN = "\x1b[2m", "\x1b[22m"

OnLine = Callable[[str], None]
OnInterrupt = Callable[[], None]


class Screen(Protocol):
    """What a chat needs of its screen."""

    def write(self, text: str) -> None:
        """Show more of the running answer."""
        ...

    def end_line(self) -> None:
        """Start a new line unless one has just begun."""
        ...

    def notice(self, text: str) -> None:
        """Show a line of the program's own, apart from the answer."""
        ...

    def echo(self, line: str) -> None:
        """Show a line that was typed, unless the terminal did so itself."""
        ...

    def stop(self) -> None:
        """Make `run` return soon."""
        ...

    def run(self, on_line: OnLine, on_interrupt: OnInterrupt) -> None:
        """Read lines until the end of input or `stop`. Both callbacks run in one thread."""
        ...


class Pending:
    """Text on its way to the screen: complete lines, and the one still growing. Safe to use from any thread.

    It holds at most a million characters; while it is full (the terminal has been stopped), further text is left
    out of the screen, and a line says so.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._text = ""
        self._left_out = 0

    def add(self, text: str) -> None:
        """Append text."""
        with self._lock:
            if len(self._text) + len(text) > _MOST_PENDING:
                self._left_out += len(text)
            else:
                self._text += text

    def end_line(self) -> None:
        """Append a line end unless the text ends with one."""
        with self._lock:
            if self._text and not self._text.endswith("\n"):
                self._text += "\n"

    def take(self, width: int, cells: Callable[[str], int] = len) -> tuple[list[str], str]:
        """Return the rows that are complete, and the growing one, which stays."""
        with self._lock:
            rows, self._text = wrap(self._text, width, cells)
            if self._left_out:
                rows.append(f"[{self._left_out} characters are not shown]")
                self._left_out = 0
            return rows, self._text


class LineScreen:
    """A line editor at the bottom, the growing row of the answer above it, finished rows in the scrollback."""

    def __init__(self) -> None:
        from prompt_toolkit.utils import get_cwidth

        self._cells = get_cwidth
        self._pending = Pending()
        self._row = ""
        self._stopped = False
        self._flush_is_due = threading.Event()
        self._loop: Any = None
        self._app: Any = None
        self._on_line: OnLine = lambda _text: None
        self._on_interrupt: OnInterrupt = lambda: None

    def write(self, text: str) -> None:
        """Show more of the running answer."""
        self._pending.add(printable(text))
        self._wake()

    def end_line(self) -> None:
        """Finish the growing row."""
        self._pending.end_line()
        self._wake()

    def notice(self, text: str) -> None:
        """Show a line of the program's own; on stderr while the editor does not run."""
        if self._loop is None:
            print(printable(text), file=sys.stderr, flush=True)  # noqa: T201
            return
        self._pending.end_line()
        self._pending.add(printable(text) + "\n")
        self._wake()

    def echo(self, line: str) -> None:
        """Show the line just typed, which the editor has taken off the screen."""
        self.notice("".join(f"> {part}\n" for part in line.splitlines()).rstrip("\n"))

    def stop(self) -> None:
        """Make `run` return soon."""
        self._stopped = True
        self._wake(self._exit)

    def run(self, on_line: OnLine, on_interrupt: OnInterrupt) -> None:
        """Read lines until the end of input or `stop`."""
        self._on_line, self._on_interrupt = on_line, on_interrupt
        self._app = self._application()
        try:
            self._app.run(pre_run=self._begin, handle_sigint=False)
        finally:
            self._loop = None
            self._pending.end_line()
            rows, _ = self._pending.take(self._width(), self._cells)
            self._print(rows)

    def _begin(self) -> None:
        import asyncio

        self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._flush)
        if self._stopped:
            self._loop.call_soon(self._exit)

    def _exit(self) -> None:
        if self._app is not None and self._app.is_running and not self._app.is_done:
            self._app.exit()

    def _wake(self, action: Callable[[], None] | None = None) -> None:
        """Have the editor's thread do `action` now, or redraw within `_REDRAW_S`. From any thread."""
        loop = self._loop
        if loop is None or (action is None and self._flush_is_due.is_set()):
            return
        if action is None:
            self._flush_is_due.set()
        try:
            loop.call_soon_threadsafe(action or self._flush_soon)
        except RuntimeError:  # the loop has just ended; `run` shows what is left
            return

    def _flush_soon(self) -> None:
        self._loop.call_later(_REDRAW_S, self._flush)

    def _flush(self) -> None:
        """Move finished rows into the scrollback and redraw. Runs in the editor's thread."""
        self._flush_is_due.clear()
        rows, self._row = self._pending.take(self._width(), self._cells)
        if rows:
            self._app.renderer.erase()
            self._print(rows)
        self._app.invalidate()

    def _print(self, rows: list[str]) -> None:
        output = self._app.output
        for row in rows:
            output.write(row + "\n")
        output.flush()

    def _width(self) -> int:
        return int(self._app.output.get_size().columns)

    def _accept(self, buffer: Any) -> bool:
        text = buffer.text.strip()
        if text:
            self._on_line(text)
        return False  # the editor empties itself

    def _application(self) -> Any:
        from prompt_toolkit.application import Application
        from prompt_toolkit.filters import Condition
        from prompt_toolkit.layout import ConditionalContainer, FormattedTextControl, HSplit, Layout, Window
        from prompt_toolkit.widgets import TextArea

        editor = TextArea(prompt="> ", multiline=False, accept_handler=self._accept, wrap_lines=True, height=None)
        growing = Window(FormattedTextControl(lambda: self._row), dont_extend_height=True, wrap_lines=True)
        return Application(
            layout=Layout(
                HSplit([ConditionalContainer(growing, Condition(lambda: bool(self._row))), editor]),
                focused_element=editor,
            ),
            key_bindings=self._keys(editor),
            erase_when_done=True,
            output=_terminal(),
        )

    def _keys(self, editor: Any) -> Any:
        from prompt_toolkit.filters import Condition
        from prompt_toolkit.key_binding import KeyBindings

        keys = KeyBindings()

        @keys.add("c-c")
        @keys.add("<sigint>")
        def _interrupt(_event: Any) -> None:
            self._on_interrupt()

        @keys.add("c-d", filter=Condition(lambda: not editor.text))
        def _end(_event: Any) -> None:
            self._exit()

        return keys


def _terminal() -> Any:
    """Return the terminal without cursor position reports: nothing here needs them, and slow lines echo them."""
    if sys.platform == "win32":
        from prompt_toolkit.output import create_output

        return create_output()
    from prompt_toolkit.output.vt100 import Vt100_Output

    output = Vt100_Output.from_pty(sys.stdout, term=os.environ.get("TERM"))
    output.enable_cpr = False
    return output


class PlainScreen:
    """Lines in, text out: for a terminal that cannot move the cursor, or a standard output that is a file."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at_start = True
        self._done = threading.Event()
        self._to_terminal = sys.stdout.isatty()
        self._pipe_closed = False

    def write(self, text: str) -> None:
        """Show more of the running answer. A closed standard output ends `run` with BrokenPipeError."""
        shown = printable(text) if self._to_terminal else text
        if not shown:
            return
        with self._lock:
            self._at_start = shown.endswith("\n")
            try:
                sys.stdout.write(shown)
                sys.stdout.flush()
            except BrokenPipeError:
                self._pipe_closed = True
                self._done.set()

    def end_line(self) -> None:
        """Finish the line."""
        if not self._at_start:
            self.write("\n")

    def notice(self, text: str) -> None:
        """Show a line of the program's own, on stderr."""
        self.end_line()
        with self._lock:
            print(printable(text), file=sys.stderr, flush=True)  # noqa: T201

    def echo(self, line: str) -> None:
        """Nothing: the terminal has shown it."""

    def stop(self) -> None:
        """Make `run` return."""
        self._done.set()

    def run(self, on_line: OnLine, on_interrupt: OnInterrupt) -> None:  # noqa: ARG002  # Ctrl-C comes as a signal here
        """Read lines in a thread of their own: a blocked signal does not interrupt a read."""

        def read() -> None:
            for line in sys.stdin:
                if self._done.is_set():
                    return
                if line.strip():
                    on_line(line.strip())
            self._done.set()

        threading.Thread(target=read, name="realtime-stdin", daemon=True).start()
        self._done.wait()
        if self._pipe_closed:
            raise BrokenPipeError


def dim(text: str) -> str:
    """Return `text` dimmed if stderr is a terminal that shows colours (see no-color.org)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stderr.isatty():
        return text
    return f"{_DIM}{text}{_PLAIN}"


def make_screen() -> Screen:
    """Return the best screen for where standard input and output lead."""
    able = sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb")
    return LineScreen() if able or (sys.platform == "win32" and sys.stdout.isatty()) else PlainScreen()
