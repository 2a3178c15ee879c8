"""When to try again after a connection was lost, and whether it is worth it. Pure."""

from __future__ import annotations

import random

from realtime_client import errors

_AT_MOST_S = 0.8  # between two tries in the first minute
_FIRST_S = 60.0
_LATER_S = 15.0
_LEAST_SHARE = 0.25

FATAL = (errors.AuthenticationError, errors.SessionRefusedError, errors.UsageError, errors.SessionEndedError)
"""What another try would meet again: a refused key, model, session or setting."""


def is_fatal(error: BaseException) -> bool:
    """Whether an attempt failed for a reason that the next one would meet, too."""
    if isinstance(error, errors.SessionRefusedError) and error.code == "session_expired":
        return False  # the next session is another one
    return isinstance(error, FATAL) or (isinstance(error, errors.RateLimitedError) and error.is_quota)


class Backoff:
    """The schedule of one outage: the first try at once, then at most 0.8 s apart for a minute, then up to 15 s.

    Each wait is drawn at random, so that all who lost the same server do not come back to it together. All times are
    seconds of one monotonic clock; lost_s: when the connection was lost; most_s: for how long to try.
    """

    def __init__(self, lost_s: float, most_s: float, chance: random.Random) -> None:
        self.attempt = 0
        self._lost_s = lost_s
        self._until_s = lost_s + most_s
        self._chance = chance
        self._longest_s = _AT_MOST_S

    def left_s(self, now_s: float) -> float:
        """For how long it will still be tried."""
        return max(0.0, self._until_s - now_s)

    def next(self, now_s: float, *, retry_after_s: float | None = None) -> float | None:
        """How long to wait before the next try; None when it is given up.

        retry_after_s: how long the server wants to be left alone.
        """
        self.attempt += 1
        if self.attempt == 1:
            return 0.0
        if now_s - self._lost_s >= _FIRST_S:
            self._longest_s = min(_LATER_S, 2 * self._longest_s)
        wait_s = self._chance.uniform(_LEAST_SHARE, 1.0) * self._longest_s
        if retry_after_s is not None:
            wait_s = max(wait_s, retry_after_s)
        return wait_s if now_s + wait_s <= self._until_s else None
