"""What a session knows of who runs its tools."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from realtime_client import updates as up

NOBODY = "nobody is here who could allow it"
"""Why a call is refused that somebody would have to allow."""


def how_to_allow(name: str) -> str:
    """Return what follows `NOBODY` for people: how the tool is allowed. name: printable."""
    return f"; --approve {shlex.quote(f'{name}=always')} allows it"


class ToolView(NamedTuple):
    """A tool as people see it. origin: where it comes from. verdict: what becomes of a call: ask, always or never."""

    name: str
    origin: str
    verdict: str


class Tooling(Protocol):
    """Runs the tools of one session; see `realtime_client.tools.runner`. Its methods may be called from any thread."""

    def decide(self, request_id: str, *, approve: bool, reason: str | None, remember: bool) -> bool:
        """Allow or refuse a call that waits to be allowed; False if it runs none of that name.

        remember: decide so from now on about this tool.
        """
        ...

    def cancel(self, call_id: str | None = None) -> int:
        """Cancel one call, or all that wait or are worked on; returns how many there were."""
        ...

    def end(self) -> Sequence[up.Update]:
        """The session is over: cancel what waits or is worked on; returns what to tell of it, as the last."""
        ...

    @property
    def busy(self) -> int:
        """How many calls wait, are asked about, or are worked on."""
        ...

    def tools(self) -> list[ToolView]:
        """Return all tools that the model may call now."""
        ...
