"""When which fault strikes: the decisions, for a server and for each of its connections. Pure.

Chance is drawn for each fault and connection from a stream of its own, so that the same messages meet the same fate
with the same seed, whatever else happens meanwhile.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable

from .fault import Fault, Side
from .spec import Faults


class FaultBook:
    """What a server keeps of its faults: how many connections it has had, and how often each fault has struck.

    faults: with a seed. Thread-safe.
    """

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self._lock = threading.Lock()
        self._connections = 0
        self._struck = [0] * len(faults.faults)

    @property
    def struck(self) -> tuple[int, ...]:
        """How often each fault has struck, in their order."""
        with self._lock:
            return tuple(self._struck)

    def admit(self) -> Plan:
        """Return the plan of the next connection."""
        with self._lock:
            self._connections += 1
            number = self._connections
        return Plan(number, self.faults, self._take)

    def _take(self, index: int) -> bool:
        """Count a strike; False when the fault has struck often enough."""
        times = self.faults.faults[index].times
        with self._lock:
            if times is not None and self._struck[index] >= times:
                return False
            self._struck[index] += 1
            return True


class _Waiting:
    """A fault of this connection that may yet strike."""

    def __init__(self, index: int, fault: Fault, chance: random.Random) -> None:
        self.index = index
        self.fault = fault
        self.count = 0  # messages that fitted
        self.over = False
        self.began_s: float | None = None
        self.chance = chance


class Plan:
    """What happens to one connection. now_s: seconds since its handshake. number: which of the server's it is.

    take: asked before a fault strikes, with its index: whether it may. For one thread at a time.
    """

    def __init__(self, number: int, faults: Faults, take: Callable[[int], bool]) -> None:
        self.number = number
        self._take = take
        mine = [(index, fault) for index, fault in enumerate(faults.faults) if fault.concerns(number)]
        waiting = [_Waiting(index, fault, random.Random(f"{faults.seed}/{number}/{index}")) for index, fault in mine]  # noqa: S311
        self._at_handshake = [each for each in waiting if each.fault.of == "handshake"]
        self._by_message = [each for each in waiting if each.fault.by_message]
        self._by_itself = [each for each in waiting if not each.fault.by_message and each.fault.of != "handshake"]
        self.chance = random.Random(f"{faults.seed}/{number}/line")  # noqa: S311

    def at_handshake(self) -> Fault | None:
        """Return what the client meets in place of a session, if anything."""
        for each in self._at_handshake:
            if self._strikes(each):
                return each.fault
        return None

    def expires_s(self) -> float | None:
        """Take out the faults that only say how long the session may last; returns it. To be asked first, once."""
        limits = [each for each in self._by_itself if _is_limit(each.fault)]
        self._by_itself = [each for each in self._by_itself if not _is_limit(each.fault)]
        return min((each.fault.after_s for each in limits if self._strikes(each)), default=None)

    def at_message(self, side: Side, kind: str, now_s: float, sent: int, received: int) -> list[Fault]:
        """Return what strikes at a message. sent, received: bytes before it."""
        return [
            each.fault
            for each in self._by_message
            if each.fault.fits(side, kind)
            and self._counts(each)
            and _is_time(each, now_s)
            and _is_due(each.fault, now_s, sent, received)
            and self._strikes(each)
        ]

    def by_itself(self, now_s: float, sent: int, received: int) -> list[Fault]:
        """Return what strikes now, without a message; each does so once."""
        struck = []
        for each in self._by_itself:
            if not each.over and _is_due(each.fault, now_s, sent, received):
                each.over = True
                if self._strikes(each):
                    struck.append(each.fault)
        self._by_itself = [each for each in self._by_itself if not each.over]
        return struck

    def next_s(self, now_s: float) -> float:
        """Return when something may strike by the time alone; infinite if nothing does."""
        moments = [each.fault.after_s for each in self._by_itself if each.fault.after_s > now_s]
        return min(moments, default=math.inf)

    def next_sent(self, now_s: float) -> float:
        """Return after how many bytes sent something strikes now; infinite if nothing does."""
        faults = [each.fault for each in self._by_itself if not each.fault.received]
        return min((each.sent for each in faults if each.sent and each.after_s <= now_s), default=math.inf)

    def _counts(self, each: _Waiting) -> bool:
        """Count a message that fits; whether it is one that is waited for."""
        each.count += 1
        return each.fault.is_nth(each.count)

    def _strikes(self, each: _Waiting) -> bool:
        """Whether chance and the limit let it strike; counts it."""
        likely = each.fault.probability >= 1 or each.chance.random() < each.fault.probability
        return likely and self._take(each.index)


def _is_limit(fault: Fault) -> bool:
    return fault.do == "expire" and not (fault.sent or fault.received)


def _is_due(fault: Fault, now_s: float, sent: int, received: int) -> bool:
    return now_s >= fault.after_s and sent >= fault.sent and received >= fault.received


def _is_time(each: _Waiting, now_s: float) -> bool:
    """Whether a fault of single messages that lasts for some time still does."""
    if each.fault.of != "message" or each.fault.for_s is None:
        return True
    if each.began_s is None:
        each.began_s = max(now_s, each.fault.after_s) if now_s >= each.fault.after_s else None
    return each.began_s is None or now_s < each.began_s + each.fault.for_s
