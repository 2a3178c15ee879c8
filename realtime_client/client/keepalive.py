"""The keep-alive: when to ping, when the answer is overdue, how long a round trip takes.

A server that is busy is not gone: it may have seconds of audio to work through before it comes to a ping. So a pong is
overdue only when nothing else was heard either, and whoever sends much faster than real time stays close to what the
server has read (`Ahead`).
"""

from __future__ import annotations

from collections.abc import Callable

from realtime_client.errors import ConnectionLostError, PongMissedError
from realtime_client.session.stats import RoundTrip


class KeepAlive:
    """Schedule of pings; no thread, no clock of its own. All times are seconds of one monotonic clock.

    interval_s 0 turns pings off; read_timeout_s 0 turns the check for silence off. `pong` and `heard` are called by
    the receive thread, the rest by the keep-alive thread; each field has one writer.
    """

    def __init__(
        self,
        *,
        interval_s: float,
        pong_timeout_s: float,
        read_timeout_s: float,
        now_s: float,
        round_trip: RoundTrip | None = None,
    ) -> None:
        self._interval_s = interval_s
        self._pong_timeout_s = pong_timeout_s
        self._read_timeout_s = read_timeout_s
        self._next_ping_s = now_s + min(interval_s, 1.0)  # an early one, so that the round trip is known soon
        self._sent: tuple[bytes, float] | None = None
        self._answered: bytes | None = None
        self._count = 0
        self.last_heard_s = now_s
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
                moments.append(since + self._pong_timeout_s)
        if self._read_timeout_s > 0:
            moments.append(self.last_heard_s + self._read_timeout_s)
        return max(0.0, min(moments) - now_s) if moments else None

    def step(
        self, now_s: float, send_ping: Callable[[bytes], None], *, stalled_here: bool
    ) -> ConnectionLostError | None:
        """Do what is due; returns the error if the server is gone.

        stalled_here: this program itself keeps the receive thread from reading, so silence proves nothing.
        """
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
        if since is not None and now_s - since >= self._pong_timeout_s:
            return PongMissedError(
                f"keep-alive: no pong within {self._pong_timeout_s:g} s of a ping; the server or the network is gone"
            )
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
