"""Connections that are no sessions yet: bounded, so that those which say nothing cannot shut the server to others."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from realtime_client.client.stream import Stream


class Lobby:
    """At most `most` connections. For one more, the oldest whose request has not come is dropped.

    One that has made its request is never dropped for another; if all have, the new one is turned away.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._spoken: dict[Stream, bool] = {}  # in the order in which they came

    def enter(self, stream: Stream) -> bool:
        """Let a connection in; False when there is no room."""
        oldest = None
        with self._lock:
            if len(self._spoken) >= self._most:
                oldest = next((each for each, spoke in self._spoken.items() if not spoke), None)
                if oldest is None:
                    return False
                del self._spoken[oldest]
            self._spoken[stream] = False
        if oldest is not None:
            oldest.cut()  # its thread notices
        return True

    def heard(self, stream: Stream) -> None:
        """Its request has come."""
        self._mark(stream, spoken=True)

    def answered(self, stream: Stream) -> None:
        """It has its answer, and only has to go."""
        self._mark(stream, spoken=False)

    def _mark(self, stream: Stream, *, spoken: bool) -> None:
        with self._lock:
            if stream in self._spoken:
                self._spoken[stream] = spoken

    def leave(self, stream: Stream) -> None:
        """It is a session now, or gone."""
        with self._lock:
            self._spoken.pop(stream, None)
