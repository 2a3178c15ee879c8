"""The keep-alive: when to ping, when the answer is overdue, how long a round trip takes, when the network is gone.

A server that is busy is not gone: it may have seconds of audio to work through before it comes to a ping. So a pong is
overdue only when nothing else was heard either; whoever sends much faster than real time stays close to what the server
has read (`Ahead`); and where the server's system goes on acknowledging what it is sent, its program has much longer.
"""

from __future__ import annotations

from collections.abc import Callable

from realtime_client.errors import ConnectionLostError, NetworkGoneError, PongMissedError
from realtime_client.session.stats import RoundTrip

from .tcp_info import TcpInfo

LOOK_S = 0.5
"""How often is looked whether what was written is acknowledged, while anything is written."""
IN_VAIN = 2
"""One segment sent in vain is a lost one, and on a slow line its repetition is on its way for seconds."""

Look = Callable[[], TcpInfo | None]


class Acknowledgements:
    """Whether what is written is acknowledged. A connection on which nothing is written is not looked at.

    `wrote` is called by the send thread, the rest by the keep-alive thread. timeout_s 0 turns it off, and so does a
    system that tells nothing.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._rests = timeout_s > 0
        self._written = False
        self._looked_s = float("-inf")
        self._waiting_since_s: float | None = None

    def wrote(self) -> bool:
        """Note that something was written; returns whether the keep-alive thread must be woken for it."""
        self._written = True
        return self._rests

    @property
    def next_look_s(self) -> float | None:
        """When to look next; None while nothing is written."""
        return None if self._rests or not self.timeout_s else self._looked_s + LOOK_S

    def are_missing(self, now_s: float, look: Look) -> bool:
        """Look, if it is time: whether something has waited for too long without a sign of the other end's system.

        A system that has no room for more answers when it is asked for some, more and more seldom: it is there.
        """
        if not self.timeout_s:
            return False
        if self._written:
            self._rests = False
        if self._rests or now_s < self._looked_s + LOOK_S:
            return False
        written, self._written = self._written, False
        self._rests = not written  # before the look: what is written after it wakes this thread
        info, self._looked_s = look(), now_s
        if info is None:
            self.timeout_s, self._rests = 0.0, False
            return False
        if not info.waiting:
            self._waiting_since_s = None
            return False
        self._rests = False
        if self._waiting_since_s is None:
            self._waiting_since_s = now_s
        silent_s = now_s - max(self._waiting_since_s, now_s - info.heard_s)
        return silent_s >= self.timeout_s and info.in_vain >= IN_VAIN


class KeepAlive:
    """Schedule of pings; no thread, no clock of its own. All times are seconds of one monotonic clock.

    interval_s 0 turns pings off; read_timeout_s 0 turns the check for silence off. ack_timeout_s: see
    `Acknowledgements`; 0 leaves all to pongs. busy_timeout_s: how long a pong may take while the server's system is
    known to be there; 0 for no limit. `pong` and `heard` are called by the receive thread, the rest by the keep-alive
    thread; each field has one writer.
    """

    def __init__(
        self,
        *,
        interval_s: float,
        pong_timeout_s: float,
        read_timeout_s: float,
        now_s: float,
        ack_timeout_s: float = 0.0,
        busy_timeout_s: float = 0.0,
        round_trip: RoundTrip | None = None,
    ) -> None:
        self._interval_s = interval_s
        self._pong_timeout_s = pong_timeout_s
        self._read_timeout_s = read_timeout_s
        self._longest_s = max(busy_timeout_s, pong_timeout_s) if busy_timeout_s else float("inf")
        self._next_ping_s = now_s + min(interval_s, 1.0)  # an early one, so that the round trip is known soon
        self._sent: tuple[bytes, float] | None = None
        self._answered: bytes | None = None
        self._count = 0
        self._busy_s = float("-inf")  # when the server was last found to be busy
        self.last_heard_s = now_s
        self.acknowledgements = Acknowledgements(ack_timeout_s)
        self.round_trip = round_trip or RoundTrip()

    def pong(self, payload: bytes, now_s: float) -> None:
        """Note a pong."""
        self.last_heard_s = now_s
        sent = self._sent
        if sent is not None and payload == sent[0] and self._answered != payload:
            self.round_trip.add((now_s - sent[1]) * 1000)
            self._answered = payload

    def heard(self, now_s: float) -> None:
        """Note a pong to somebody else's ping. A server may leave ours unanswered because of it."""
        self.last_heard_s = now_s
        if self._sent is not None:
            self._answered = self._sent[0]

    @property
    def _waiting_since(self) -> float | None:
        """The last sign of life since the unanswered ping was queued; None when all are answered."""
        sent = self._sent
        return max(sent[1], self.last_heard_s) if sent is not None and self._answered != sent[0] else None

    def next_step_s(self, now_s: float) -> float | None:
        """Seconds until there is something to do; None for never."""
        moments = []
        if self._interval_s > 0:
            since = self._waiting_since
            moments.append(self._next_ping_s)
            if since is not None:
                moments.append(self._overdue_s(since))
        if self._read_timeout_s > 0:
            moments.append(self.last_heard_s + self._read_timeout_s)
        if (look_s := self.acknowledgements.next_look_s) is not None:
            moments.append(look_s)
        return max(0.0, min(moments) - now_s) if moments else None

    def _overdue_s(self, since_s: float) -> float:
        """When to ask, or to ask again, what it means that there is no pong."""
        due_s = max(since_s, self._busy_s) + self._pong_timeout_s
        return min(due_s, since_s + self._longest_s) if self._busy_s > since_s else due_s

    def step(
        self, now_s: float, send_ping: Callable[[bytes], None], look: Look, *, stalled_here: bool
    ) -> ConnectionLostError | None:
        """Do what is due; returns the error if the server, or the network, is gone.

        stalled_here: this program itself keeps the receive thread from reading, so silence proves nothing. The system
        notes acknowledgements all the same.
        """
        if self.acknowledgements.are_missing(now_s, look):
            waited = f"{self.acknowledgements.timeout_s:g} s"
            return NetworkGoneError(f"the network is gone: nothing that was sent was acknowledged for {waited}")
        if stalled_here:
            self._next_ping_s = now_s + self._interval_s
            self._sent = None
            self.last_heard_s = now_s
            return None
        if self._read_timeout_s > 0 and now_s - self.last_heard_s >= self._read_timeout_s:
            return ConnectionLostError(f"the server was silent for {self._read_timeout_s:g} s (read timeout)")
        if self._interval_s <= 0:
            return None
        since = self._waiting_since
        if since is not None and now_s >= self._overdue_s(since):
            missed = self._missed(now_s, since, look)
            if missed is not None:
                return missed
        if now_s < self._next_ping_s:
            return None
        self._next_ping_s = now_s + self._interval_s
        if since is None:
            self._count += 1
            payload = self._count.to_bytes(4, "big")
            # Timed from here, not from the socket: a send thread that is stuck is a missed pong, too.
            self._sent = (payload, now_s)
            send_ping(payload)
        return None

    def _missed(self, now_s: float, since_s: float, look: Look) -> PongMissedError | None:
        """There is no pong: None if the server is only busy, for which its system vouches."""
        info = look() if self.acknowledgements.timeout_s else None
        if info is None or info.in_vain >= IN_VAIN:
            return PongMissedError(
                f"keep-alive: no pong within {self._pong_timeout_s:g} s of a ping; the server or the network is gone"
            )
        if now_s - since_s >= self._longest_s:
            return PongMissedError(
                f"keep-alive: no pong within {now_s - since_s:.0f} s of a ping; the network is there, and the server"
                " does not answer"
            )
        self._busy_s = now_s
        return None
