"""A lost connection in lines for people. Reasons are a server's words, or the network's: never shown raw."""

from __future__ import annotations

import time
from collections.abc import Callable

from realtime_client import updates as up
from realtime_client.deadline import SYSTEM_CLOCK, Clock
from realtime_client.escape import one_line

EVERY_S = 60.0
"""Least time between two lines about the same loss, where a line cannot be redrawn."""
_SOON_S = 1.0
_MOST_UNKNOWN = 100


def lost_text(update: up.ConnectionLost) -> str:
    """Return what happened, and that the session goes on."""
    return f"[{one_line(update.reason) or 'the connection was lost'}; trying again]"


def trying_text(update: up.Reconnecting, wall_s: float) -> str:
    """Return when a connection is tried, and for how long that goes on. wall_s: the time now, since the epoch."""
    until = f"given up at {_time(wall_s + update.left_s)}"
    if update.attempt <= 1:
        return f"[no connection: trying again; {until}]"
    when = "now" if update.in_s < _SOON_S else f"at {_time(wall_s + update.in_s)}"
    return f"[no connection: try {update.attempt} {when}, {until}; {one_line(update.reason)}]"


def restored_text(update: up.Restored) -> str:
    """Return that the session goes on, and what of it is not as it was; '' where there is nothing to tell.

    Before a session expires it moves to another one, which is nobody's concern as long as nothing comes of it.
    """
    lost_ms = sum(lost.end_ms - lost.start_ms for lost in update.lost_audio)
    parts = [_forgotten(update.left_out)] if update.left_out else []
    if update.refused:
        parts.append(f"the server did not take {_count(update.refused, 'entry', 'entries')} of the conversation")
    if lost_ms:
        parts.append(f"{lost_ms:,} ms of what you said are lost")
    if update.unknown:
        requests = _count(len(update.unknown), "request")
        parts.append(f"whether {requests} {'was' if len(update.unknown) == 1 else 'were'} carried out is not known")
    if update.asked_again:
        parts.append("the answer is asked for again")
    if update.reason == "rollover" and not (update.refused or lost_ms or update.unknown or update.asked_again):
        return ""
    head = "the session goes on over a new connection"
    if update.reason == "lost" or update.away_ms:
        head = f"connected again after {_duration(update.away_ms)}"
    return f"[{'; '.join([head, *parts])}]"


def _forgotten(entries: int) -> str:
    which = "the oldest entry" if entries == 1 else f"the {entries} oldest entries"
    return f"the model no longer knows {which} of the conversation"


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def _duration(ms: int) -> str:
    seconds = ms / 1000
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def _time(wall_s: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(wall_s))


class Outage:
    """Tells of lost connections.

    away: there is none. restored, unknown: how often there was one again, and which acts nobody knows the fate of; for
    a report. tell: takes a line. keep: takes one that stays in sight, in place of the one before; None takes it away.
    """

    def __init__(
        self, tell: Callable[[str], object], keep: Callable[[str | None], object], clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.away = False
        self.restored = 0
        self.unknown: tuple[str, ...] = ()
        self._tell = tell
        self._keep = keep
        self._clock = clock

    def take(self, update: up.Update) -> None:
        """Take an update of the session."""
        match update:
            case up.ConnectionLost(goes_on=True):
                self.away = True
                self._tell(lost_text(update))
            case up.Reconnecting():
                self._keep(trying_text(update, self._clock.wall()))
            case up.ConnectionLost() | up.SessionEnded() | up.SessionChanged():  # changed: text models go on
                self._over()
            case up.Restored():
                self._over()
                self.restored += update.reason == "lost"
                self.unknown = (*self.unknown, *update.unknown)[-_MOST_UNKNOWN:]
                if line := restored_text(update):
                    self._tell(line)
            case _:
                pass

    def _over(self) -> None:
        self.away = False
        self._keep(None)


class NowAndThen:
    """Passes on a line that cannot be redrawn: once a minute, the first one not at all; None begins anew."""

    def __init__(self, tell: Callable[[str], object], clock: Clock = SYSTEM_CLOCK) -> None:
        self._tell = tell
        self._clock = clock
        self._told_s: float | None = None

    def __call__(self, text: str | None) -> None:
        """Take a line, or that there is none any more."""
        now_s, told_s = self._clock.monotonic(), self._told_s
        if text is None:
            self._told_s = None
        elif told_s is None:
            self._told_s = now_s
        elif now_s - told_s >= EVERY_S:
            self._told_s = now_s
            self._tell(text)
