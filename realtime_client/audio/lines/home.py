"""When a line tries again the device that the user chose. Pure."""

from __future__ import annotations

_EVERY_S = 5.0
_PLUGGED_S = (0.0, 0.5, 1.5, 3.0)  # after it was plugged in: a device takes a moment to work
_MOST_OFTEN = 4


class Home:
    """The way back to the chosen device: soon after it was plugged in, and later each time it is lost."""

    def __init__(self) -> None:
        self._at_s: list[float] = []
        self._left = 0  # how often it was lost

    def came(self, now_s: float) -> None:
        """A device was plugged in."""
        self._at_s = [now_s + after_s for after_s in _PLUGGED_S]

    def lost(self, now_s: float) -> None:
        """The chosen device failed."""
        self._at_s = [now_s + self._wait_s]
        self._left += 1

    def due(self, now_s: float, *, for_ever: bool) -> bool:
        """Tell whether to try it now, and count that as a try. for_ever: go on after the last time."""
        if not self._at_s or now_s < self._at_s[0]:
            return False
        del self._at_s[0]
        if not self._at_s and for_ever:
            self._at_s = [now_s + self._wait_s]
        return True

    @property
    def _wait_s(self) -> float:
        return float(_EVERY_S * 2 ** min(self._left, _MOST_OFTEN))
