"""Who listens to a session, and what they are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from realtime_client import updates as up

Observer = Callable[[up.Update, float], None]
"""(update, at_s): what happened and when, in seconds of the session's monotonic clock."""
EventObserver = Callable[[str, float], None]
"""(type, at_s): a message of the server, by its type on the wire."""


class RecorderProtocol(Protocol):
    """What keeps a session. All calls come from the audio thread, in order; `close` is the last."""

    def received(self, frame: bytes, media: Sequence[up.Media], updates: Sequence[up.Update], at_s: float) -> None:
        """A frame came. media: the sound it holds; updates: what it meant."""

    def sent(self, frame: bytes, media: Sequence[up.Media], updates: Sequence[up.Update], at_s: float) -> None:
        """A frame left; as above, of what it means only what the observers are not told (`updates.SentMessage`)."""

    def noticed(self, update: up.Update, at_s: float) -> None:
        """Something happened that no frame told."""

    def kept(self, audio: bytes, at_s: float) -> None:
        """Sound of the user came while there is no connection: it will be sent later, as a `SentAgain`."""

    def close(self, *, ended: str, stats: dict[str, Any]) -> None:
        """Finish every file. Idempotent."""
