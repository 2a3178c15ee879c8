"""Who listens to a session, and what they are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from realtime_client import updates as up
from realtime_client.protocol import events as ev

AnyEvent = ev.Event | ev.UnknownEvent | ev.MalformedEvent
Observer = Callable[[up.Update, float], None]
"""(update, at_s): what happened and when, in seconds of the session's monotonic clock."""
EventObserver = Callable[[str, float], None]
"""(type, at_s): a message of the server, by its type on the wire."""


class RecorderProtocol(Protocol):
    """What keeps a session. All calls come from the audio thread, in order; `close` is the last."""

    def received(self, event: AnyEvent, frame: bytes, updates: Sequence[up.Update], at_s: float) -> None:
        """A frame came; `updates` is what it meant."""
        ...

    def sent(self, event: ev.ClientEvent, frame: bytes, at_s: float) -> None:
        """A frame left."""
        ...

    def noticed(self, update: up.Update, at_s: float) -> None:
        """Something happened that no frame told."""
        ...

    def close(self, *, ended: str, stats: dict[str, Any]) -> None:
        """Finish every file. Idempotent."""
        ...
