"""Pieces of text that wait because the observers are behind: bounded, and what happens when it is full is a setting.

`block` holds nothing: the stream waits, and with it the server. `drop` forgets the oldest pieces, and counts them;
`fail` ends the answer. Nothing is lost for good in any case: the end of an answer tells its whole text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from realtime_client.errors import QueueFullError
from realtime_client.updates import TextDelta, ThinkingDelta, ToolCallDelta, Update

from .limits import WhenFull

_PIECES = (TextDelta, ThinkingDelta, ToolCallDelta)


class ChunkBuffer:
    """Holds at most `size` updates. dropped: how many were forgotten. Its caller holds the lock of decisions."""

    def __init__(self, size: int, when_full: WhenFull) -> None:
        self.dropped = 0
        self._size = size
        self._when_full = when_full
        self._held: deque[Update] = deque()

    def pass_on(self, happened: Sequence[Update], *, crowded: bool) -> Sequence[Update]:
        """Return what is to be told now: all that waits and all of this, unless it can wait.

        crowded: whether the observers are behind. Errors: QueueFullError.
        """
        if not self._held and (not crowded or self._when_full == "block"):
            return happened
        if not crowded or not all(isinstance(update, _PIECES) for update in happened):
            told = [*self._held, *happened]
            self._held.clear()
            return told
        self._held.extend(happened)
        while len(self._held) > self._size:
            if self._when_full == "fail":
                self._held.clear()
                raise QueueFullError(f"{self._size} pieces of the answer wait, and nobody takes them")
            self._held.popleft()
            self.dropped += 1
        return ()
