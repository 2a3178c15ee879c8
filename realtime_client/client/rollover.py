"""When a session has to be left, before its server ends it. Pure."""

from __future__ import annotations

import msgspec

_LEAD_S = 120.0  # before the end of a session, its successor is made
_LEAD_SHARE = 0.25  # or so much of its life, where that is shorter
_LAST_SHARE = 0.1  # of that: then it is left even while somebody speaks
_LONGEST_S = 86_400.0  # a server that says more, or less than nothing, has another clock
_AGAIN_S = 5.0  # after an attempt that failed
_SOONEST_S = 0.05


class Leaving(msgspec.Struct):
    """From when on a session is to be left, and by when: seconds of one monotonic clock. from_s None: not at all."""

    from_s: float | None = None
    by_s: float = 0.0

    def failed(self, now_s: float, retry_after_s: float | None) -> None:
        """An attempt failed: once more, as long as there is time. retry_after_s: what the server asks for."""
        wait_s = max(retry_after_s or 0.0, _SOONEST_S, min(_AGAIN_S, (self.by_s - now_s) / 2))
        self.from_s = now_s + wait_s if now_s + wait_s < self.by_s else None


def leaving(*, made_s: float, now_s: float, expires_in_s: float | None, lasts_s: float) -> Leaving:
    """Plan the end of a session.

    made_s: when its connection was begun. expires_in_s: for how long it will last as its server says, None where it
    does not. lasts_s: how long sessions last where that is not known; 0: it is not left in time.
    """
    if lasts_s <= 0:
        return Leaving()
    if expires_in_s is None or not 0 < expires_in_s <= _LONGEST_S:
        expires_in_s = max(0.0, made_s + lasts_s - now_s)
    lead_s = min(_LEAD_S, expires_in_s * _LEAD_SHARE)
    ends_s = now_s + expires_in_s
    return Leaving(ends_s - lead_s, ends_s - lead_s * _LAST_SHARE)
