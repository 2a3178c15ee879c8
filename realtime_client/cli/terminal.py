"""The terminal as prompt_toolkit is given it: what it shows, its keys, and its settings."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any


def terminal_settings() -> Any:
    """Return the terminal's current settings, None where they cannot be read."""
    with contextlib.suppress(Exception):  # Windows has no such module
        import termios

        return termios.tcgetattr(0)
    return None


def terminal(lost: Callable[[], None]) -> Any:
    """Return the terminal without cursor position reports: nothing here needs them, and slow lines echo them.

    lost: called instead of raising when it takes no more output.
    """
    if sys.platform == "win32":
        from prompt_toolkit.output import create_output

        return create_output()
    from prompt_toolkit.output.vt100 import Vt100_Output

    class Terminal(Vt100_Output):
        def flush(self) -> None:
            try:
                super().flush()
            except OSError:
                lost()

    output = Terminal.from_pty(sys.stdout, term=os.environ.get("TERM"))
    output.enable_cpr = False
    return output


def keyboard(sift: Callable[[str], str]) -> Any:
    """Return the terminal's input, each piece of which goes through `sift` before it is taken for keys."""
    from prompt_toolkit.input import create_input

    keyboard: Any = create_input()
    parser = getattr(keyboard, "vt100_parser", None)
    if parser is not None:  # Windows has none, and no such reports either
        feed = parser.feed
        parser.feed = lambda data: feed(sift(data))
    return keyboard
