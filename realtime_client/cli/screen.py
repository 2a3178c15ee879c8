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

from realtime_client.cli.pending import Pending
from realtime_client.cli.status import Fragment, Status, status_row
from realtime_client.cli.talk_key import ASK, DISABLE, ENABLE, KeyReports
from realtime_client.escape import printable

_REDRAW_S = 0.04
_STATUS_S = 0.1
_LEVELS_EVERY = 2  # looks; a redraw for levels alone costs more than all else while someone speaks
_COLOURS = {"bar.you": "ansigreen", "bar.assistant": "ansicyan", "state": "bold"}
_DIM, _PLAIN = "\x1b[2m", "\x1b[22m"

OnLine = Callable[[str], None]
OnInterrupt = Callable[[], None]


class Controls(Protocol):
    """What a screen shows of live sound, and the talk key that it takes; all called in the screen's thread."""

    def status(self) -> Status | None:
        """Return what the row at the bottom shows now; None for no row."""
        ...

    def press(self) -> None:
        """The talk key was pressed."""
        ...

    def release(self) -> None:
        """The talk key was let go."""
        ...


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

    def add_controls(self, controls: Controls) -> None:
        """Show live sound and take the talk key, where the terminal can; before `run`."""
        ...

    def run(self, on_line: OnLine, on_interrupt: OnInterrupt) -> None:
        """Read lines until the end of input or `stop`. Both callbacks run in one thread."""
        ...


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
        self._controls: Controls | None = None
        self._status: list[Fragment] = []
        self._looks = 0
        self._reports = KeyReports()
        self._reports_on = False

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

    def add_controls(self, controls: Controls) -> None:
        """Show a row at the bottom; F2 and Ctrl-Space are the talk key."""
        self._controls = controls

    def run(self, on_line: OnLine, on_interrupt: OnInterrupt) -> None:
        """Read lines until the end of input or `stop`."""
        self._on_line, self._on_interrupt = on_line, on_interrupt
        self._app = self._application()
        try:
            self._app.run(pre_run=self._begin, handle_sigint=False)
        finally:
            self._loop = None
            self._send(DISABLE if self._reports_on else "")
            self._pending.end_line()
            rows, _ = self._pending.take(self._width(), self._cells)
            self._print(rows)

    def _begin(self) -> None:
        import asyncio

        self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._flush)
        if self._stopped:
            self._loop.call_soon(self._exit)
        if self._controls is not None:
            self._send(ASK)
            self._show_status()

    def _show_status(self) -> None:
        """Redraw the row if it has changed, and look again."""
        assert self._controls is not None
        status = self._controls.status()
        shown = [] if status is None else status_row(status, self._width() - 1, cells=self._bar_cells())
        self._looks += 1
        if _words(shown) != _words(self._status) or (shown != self._status and self._looks % _LEVELS_EVERY == 0):
            self._status = shown
            self._app.invalidate()
        self._loop.call_later(_STATUS_S, self._show_status)

    def _bar_cells(self) -> str:
        return "\u25ae\u25af" if self._app.output.encoding().lower() in ("utf-8", "utf8") else "#-"

    def _send(self, sequence: str) -> None:
        if sequence:
            self._app.output.write_raw(sequence)
            self._app.output.flush()

    def _keys_of(self, data: str) -> str:
        """Take out of what the terminal sends what is not for the editor: reports about keys."""
        assert self._controls is not None
        text, releases = self._reports.feed(data)
        if self._reports.answered and not self._reports_on:
            self._reports_on = True
            self._send(ENABLE)
        if releases:
            self._loop.call_soon(self._controls.release)  # after the keys that came before it
        return text

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
        status = Window(FormattedTextControl(self._styled_status), height=1)

        def where(window: Window, is_there: Callable[[], bool]) -> ConditionalContainer:
            return ConditionalContainer(window, Condition(is_there))

        return Application(
            layout=Layout(
                HSplit([where(growing, lambda: bool(self._row)), editor, where(status, lambda: bool(self._status))]),
                focused_element=editor,
            ),
            key_bindings=self._keys(editor),
            erase_when_done=True,
            output=_terminal(),
            input=None if self._controls is None else _keyboard(self._keys_of),
        )

    def _styled_status(self) -> Any:
        plain = bool(os.environ.get("NO_COLOR"))
        return [("" if plain else _COLOURS.get(style, ""), text) for style, text in self._status]

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

        if (controls := self._controls) is not None:

            @keys.add("f2")
            @keys.add("c-space")
            def _talk(_event: Any) -> None:
                controls.press()

        return keys


def _words(status: list[Fragment]) -> list[Fragment]:
    """Return a row without its levels."""
    return [fragment for fragment in status if not fragment[0].startswith("bar")]


def _terminal() -> Any:
    """Return the terminal without cursor position reports: nothing here needs them, and slow lines echo them."""
    if sys.platform == "win32":
        from prompt_toolkit.output import create_output

        return create_output()
    from prompt_toolkit.output.vt100 import Vt100_Output

    output = Vt100_Output.from_pty(sys.stdout, term=os.environ.get("TERM"))
    output.enable_cpr = False
    return output


def _keyboard(sift: Callable[[str], str]) -> Any:
    """Return the terminal's input, each piece of which goes through `sift` before it is taken for keys."""
    from prompt_toolkit.input import create_input

    keyboard: Any = create_input()
    parser = getattr(keyboard, "vt100_parser", None)
    if parser is not None:  # Windows has none, and no such reports either
        feed = parser.feed
        parser.feed = lambda data: feed(sift(data))
    return keyboard


class PlainScreen:
    """Lines in, text out: for a terminal that cannot move the cursor, or standard input and output that are files."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at_start = True
        self._done = threading.Event()
        self._to_terminal = sys.stdout.isatty()
        self._failure: OSError | None = None
        self._listens = False

    def write(self, text: str) -> None:
        """Show more of the running answer. A standard output that is closed or full ends `run` with its OSError."""
        shown = printable(text) if self._to_terminal else text
        if not shown:
            return
        with self._lock:
            self._at_start = shown.endswith("\n")
            try:
                sys.stdout.write(shown)
                sys.stdout.flush()
            except OSError as error:
                self._failure = error
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

    def add_controls(self, controls: Controls) -> None:  # noqa: ARG002  # one shape for all screens
        """Go on when piped input is at its end: there is still speech. No row is redrawn, and there is no key."""
        self._listens = not sys.stdin.isatty()

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
            if not self._listens:
                self._done.set()

        threading.Thread(target=read, name="realtime-stdin", daemon=True).start()
        self._done.wait()
        if self._failure is not None:
            raise self._failure


def dim(text: str) -> str:
    """Return `text` dimmed if stderr is a terminal that shows colours (see no-color.org)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stderr.isatty():
        return text
    return f"{_DIM}{text}{_PLAIN}"


def make_screen() -> Screen:
    """Return the best screen for where standard input and output lead."""
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    able = os.environ.get("TERM", "") not in ("", "dumb") or sys.platform == "win32"
    return LineScreen() if interactive and able else PlainScreen()
