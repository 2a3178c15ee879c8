"""When the next session may start: an even rate, and pauses while the endpoint says that there are too many. Pure."""

from __future__ import annotations

import re

from realtime_client.batch.plan import LONGEST_ASKED_S
from realtime_client.batch.result import CaseResult

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
_LIMITED = re.compile(r"(?i)rate.?limit|too many requests|\b429\b|insufficient_quota")


class StartGate:
    """Says how long the next start has to wait. Times are seconds of one monotonic clock.

    per_minute: most starts a minute, evenly spread; None for no limit. A rate-limited case pauses all starts: for as
    long as the server asks, up to `LONGEST_ASKED_S`, else for a pause that doubles from `FIRST_PAUSE_S` to
    `LONGEST_PAUSE_S` while it goes on. A case that began after the pause and ends well makes the next pause short
    again. pauses: how many there were.
    """

    def __init__(self, per_minute: float | None = None) -> None:
        self._interval_s = 60.0 / per_minute if per_minute else 0.0
        self._next_s = float("-inf")
        self._paused_until_s = float("-inf")
        self._paused_at_s = float("-inf")
        self._pause_s = 0.0
        self.pauses = 0

    def wait_s(self, now_s: float) -> float:
        """Return the seconds until a session may start; 0 for now."""
        return max(0.0, max(self._next_s, self._paused_until_s) - now_s)

    def paused_s(self, now_s: float) -> float:
        """Return how many seconds of a pause are left; 0 when there is none."""
        return max(0.0, self._paused_until_s - now_s)

    def started(self, now_s: float) -> None:
        """Note that a session starts."""
        late = self._next_s >= now_s - self._interval_s  # a start that was a little late does not delay the others
        self._next_s = (self._next_s if late else now_s) + self._interval_s

    def limited(self, began_s: float, now_s: float, asked_s: float = 0.0) -> None:
        """Note that a case that began at `began_s` was refused: too many. asked_s: as of `Fault`.

        The many cases that were under way together and are refused for one reason lengthen the pause only once.
        """
        if began_s >= self._paused_at_s:
            self._pause_s = min(max(FIRST_PAUSE_S, self._pause_s * 2), LONGEST_PAUSE_S)
            self._paused_at_s = now_s
            self.pauses += 1
        until_s = now_s + min(asked_s, LONGEST_ASKED_S) if asked_s else self._paused_at_s + self._pause_s
        self._paused_until_s = max(self._paused_until_s, until_s)

    def went_well(self, began_s: float) -> None:
        """Note that a case that began at `began_s` was not refused."""
        if began_s >= self._paused_until_s:
            self._pause_s = 0.0


def is_rate_limited(result: CaseResult) -> bool:
    """Tell whether a case has no verdict because the endpoint said that there are too many requests."""
    fault = result.fault
    if result.status != "error" or fault is None:
        return False
    return fault.kind == "RateLimitedError" or (fault.infrastructure and bool(_LIMITED.search(fault.message)))
