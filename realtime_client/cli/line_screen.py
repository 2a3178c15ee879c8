"""A chat on a terminal that can move the cursor: a line to type on, the answer growing above it."""

from __future__ import annotations

import math
import os
import re
import sys
import threading
from collections.abc import Callable
from typing import Any

from realtime_client.cli.hangup import hung_up, tell
from realtime_client.cli.pending import Pending
from realtime_client.cli.pins import Pins
from realtime_client.cli.screen import (
    DIM,
    PLAIN,
    Controls,
    GoesOn,
    Interrupts,
    OnInterrupt,
    OnLine,
    OnTyping,
    dim,
)
from realtime_client.cli.status import Fragment, status_row
from realtime_client.cli.talk_key import ASK, DISABLE, ENABLE, KeyReports
from realtime_client.cli.terminal import keyboard, terminal, terminal_settings
from realtime_client.escape import printable

_STATUS_S = 0.1
_LEVELS_EVERY = 2  # looks; redrawing for levels alone costs more than everything else while someone speaks
_COLOURS = {"bar.you": "ansigreen", "bar.assistant": "ansicyan", "state": "bold"}
_PASTE_OFF, _CURSOR_ON = "\x1b[?2004l", "\x1b[?25h"
_DIM_ON, _DIM_OFF = (
    "\x0e",
    "\x0f",
)  # around dim text that waits to be shown: `printable` leaves none of these in any other
_DIM_MARKS = re.compile(f"([{_DIM_ON}{_DIM_OFF}])")
_SEQUENCES = {_DIM_ON: DIM, _DIM_OFF: PLAIN}


class LineScreen:
    """A line editor at the bottom, the growing row of the answer above it, finished rows in the scrollback.

    interval_s: least time between two drawings of what is told; the first piece of an answer is drawn at once.
    """

    def __init__(self, interval_s: float = 0.1) -> None:
        from prompt_toolkit.utils import get_cwidth

        self.hung_up = False
        self._cells = get_cwidth
        self._pending = Pending()
        self._interrupts = Interrupts()
        self._fault: BaseException | None = None
        self._cooked = terminal_settings()
        self._row = ""
        self._pins = Pins()
        self._stopped = False
        self._leaving = False  # the editor is ending: its loop takes nothing more
        self._interval_s = interval_s
        self._flushed_s = -math.inf
        self._fresh = True  # what is written next is the first of an answer, or of its rest
        self._flush_is_due = threading.Event()
        self._loop: Any = None
        self._app: Any = None
        self._on_line: OnLine = lambda _text: None
        self._on_interrupt: OnInterrupt = lambda: None
        self._on_typing: OnTyping = lambda: None
        self._editor: Any = None
        self._controls: Controls | None = None
        self._status: list[Fragment] = []
        self._looks = 0
        self._reports = KeyReports()
        self._reports_on = False

    def write(self, text: str) -> None:
        """Show more of the running answer."""
        self._pending.add(printable(text))
        first, self._fresh = self._fresh, False
        self._wake(self._flush if first else None)

    def end_line(self) -> None:
        """Finish the growing row."""
        self._fresh = True
        self._pending.end_line()
        self._wake()

    def notice(self, text: str) -> None:
        """Show a line of the program's own; on stderr while the editor does not run."""
        if self._loop is None:
            tell(printable(text))
            return
        self._line(printable(text))

    def _line(self, text: str) -> None:
        """Show a line apart from the answer."""
        self._fresh = True
        self._pending.end_line()
        self._pending.add(f"{text}\n")
        self._wake()

    def aside(self, text: str) -> None:
        """Show a notice, dim."""
        if self._loop is None:
            tell(dim(printable(text)))
            return
        self._line(f"{_DIM_ON}{printable(text)}{_DIM_OFF}")

    def echo(self, line: str) -> None:
        """Show the line just typed, which the editor has taken off the screen."""
        self.notice("".join(f"> {part}\n" for part in line.splitlines()).rstrip("\n"))

    def pin(self, key: str, text: str, *, passing: bool = False, every_s: float = 0.0) -> None:  # noqa: ARG002
        """Keep a line above the editor."""
        self._pins.put(key, text, passing=passing)
        self._wake()

    def unpin(self, key: str) -> None:
        """Take the line away."""
        self._pins.drop(key)
        self._wake()

    def stop(self) -> None:
        """Make `run` return soon."""
        self._stopped = True
        self._wake(self._exit)

    def add_controls(self, controls: Controls) -> None:
        """Show a row at the bottom; F2 and Ctrl-Space are the talk key."""
        self._controls = controls

    def interrupt(self) -> bool:
        """Take a Ctrl-C that came as a signal."""
        if self._loop is None or self._leaving:
            return False
        return self._interrupts.come() and self._wake(self._interrupted)

    def abandon(self) -> None:
        """Give the terminal back as it was."""
        if self._loop is None or self._cooked is None:
            return
        import termios

        os.write(
            sys.stdout.fileno(), (_PASTE_OFF + _CURSOR_ON + (DISABLE if self._reports_on else "") + "\r\n").encode()
        )
        termios.tcsetattr(0, termios.TCSANOW, self._cooked)

    def run(
        self,
        on_line: OnLine,
        on_interrupt: OnInterrupt,
        on_typing: OnTyping = lambda: None,
        goes_on: GoesOn = bool,  # noqa: ARG002  # a terminal's input ends when the user says so
    ) -> None:
        """Read lines until the end of input, `stop`, or until the terminal is gone."""
        self._on_line, self._on_interrupt, self._on_typing = on_line, on_interrupt, on_typing
        self._app = self._application()
        try:
            # Its own handler of exceptions shows them and waits for a key.
            self._app.run(pre_run=self._begin, handle_sigint=False, set_exception_handler=False)
        except EOFError:
            self._lost()
        finally:
            self._loop = None
            self._send(DISABLE if self._reports_on else "")
            self._pending.end_line()
            rows, _ = self._pending.take(self._width(), self._cells)
            self._print(rows)
        if self._fault is not None:
            raise self._fault

    def _lost(self) -> None:
        """The terminal is gone: end, as after SIGHUP, which may not come."""
        self.hung_up = True
        self.stop()

    def _failed(self, _loop: Any, context: dict[str, Any]) -> None:
        """Something went wrong in the screen itself: `run` ends with it."""
        self._fault = self._fault or context.get("exception")
        if self._fault is not None:
            self.stop()

    def _begin(self) -> None:
        import asyncio

        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._failed)
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
        """Remove from what the terminal sends what is not for the editor: reports about keys."""
        if not data and hung_up():  # it is always ready, and never says anything
            self._lost()
        if self._controls is None:
            return data
        text, releases = self._reports.feed(data)
        if self._reports.answered and not self._reports_on:
            self._reports_on = True
            self._send(ENABLE)
        if releases:
            self._loop.call_soon(self._controls.release)  # after the keys that came before it
        return text

    def _exit(self) -> None:
        self._leaving = True
        if self._app is not None and self._app.is_running and not self._app.is_done:
            self._app.exit()

    def _wake(self, action: Callable[[], None] | None = None) -> bool:
        """Have the editor's thread do `action` now, or redraw as soon as it may; False if it does not run.

        From any thread.
        """
        loop = self._loop
        if loop is None or (action is None and self._flush_is_due.is_set()):
            return loop is not None
        if action is None:
            self._flush_is_due.set()
        try:
            loop.call_soon_threadsafe(action or self._flush_soon)
        except RuntimeError:  # the loop has just ended; `run` shows what is left
            return False
        return True

    def _flush_soon(self) -> None:
        wait_s = self._flushed_s + self._interval_s - self._loop.time()
        if wait_s > 0:
            self._loop.call_later(wait_s, self._flush)
        else:
            self._flush()

    def _flush(self) -> None:
        """Move finished rows into the scrollback and redraw. Runs in the editor's thread."""
        self._flush_is_due.clear()
        rows, self._row = self._pending.take(self._width(), self._cells)
        if rows:
            self._app.renderer.erase()
            self._print(rows)
        self._app.invalidate()
        self._flushed_s = self._loop.time()

    def _print(self, rows: list[str]) -> None:
        output = self._app.output
        for row in rows:
            for piece in _DIM_MARKS.split(row):
                if piece in _SEQUENCES:
                    output.write_raw("" if os.environ.get("NO_COLOR") else _SEQUENCES[piece])
                else:
                    output.write(piece)
            output.write("\n")
        output.flush()

    def _width(self) -> int:
        return int(self._app.output.get_size().columns)

    def _interrupted(self) -> None:
        self._interrupts.taken()
        if self._editor.text:
            self._editor.buffer.reset()
            self._app.invalidate()
            self._on_typing()
        else:
            self._on_interrupt()

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
        editor.buffer.on_text_changed += lambda _buffer: self._on_typing()
        self._editor = editor
        growing = Window(FormattedTextControl(lambda: self._row), dont_extend_height=True, wrap_lines=True)
        pins = FormattedTextControl(lambda: self._pins.shown(self._width() - 1, self._cells))
        pinned = Window(pins, dont_extend_height=True, wrap_lines=True)
        status = Window(FormattedTextControl(self._styled_status), height=1)

        def where(window: Window, is_there: Callable[[], bool]) -> ConditionalContainer:
            return ConditionalContainer(window, Condition(is_there))

        return Application(
            layout=Layout(
                HSplit(
                    [
                        where(growing, lambda: bool(self._row)),
                        where(pinned, lambda: bool(self._pins)),
                        editor,
                        where(status, lambda: bool(self._status)),
                    ]
                ),
                focused_element=editor,
            ),
            key_bindings=self._keys(editor),
            erase_when_done=True,
            output=terminal(self._lost),
            input=keyboard(self._keys_of),
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
            self._interrupted()

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
