"""Faults along the path of the sound: put into words, and reported once however often they occur. Pure."""

from __future__ import annotations

from realtime_client.errors import RealtimeError

_LONGEST = 300  # characters
_MOST = 4  # different texts until it is over


def why(error: BaseException) -> str:
    """Return what an exception says, in one line; a bug in this program is called an internal error."""
    text = str(error) if isinstance(error, RealtimeError) else f"internal error: {error!r}"
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"


class Trouble:
    """Something that may fail again and again, perhaps fifty times a second.

    enough: how many successes in a row mean that it is over. With two threads at once, it is reported twice at worst.
    """

    def __init__(self, enough: int = 1) -> None:
        self._enough = enough
        self._good = 0
        self._told: set[str] = set()

    def failed(self, error: BaseException) -> str | None:
        """Note a failure; return what to report, None if that has been reported."""
        self._good = 0
        text = why(error)
        if text in self._told or len(self._told) >= _MOST:
            return None
        self._told.add(text)
        return text

    def worked(self) -> bool:
        """Note a success; True if it ends a trouble that was reported."""
        if not self._told:
            return False
        self._good += 1
        if self._good < self._enough:
            return False
        self._told.clear()
        return True
