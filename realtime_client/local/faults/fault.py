"""What can go wrong on demand, and when: one `Fault` is one line of a specification. Pure."""

from __future__ import annotations

import fnmatch
from typing import Literal

import msgspec

from realtime_client.protocol import events as ev

Side = Literal["", "server", "client"]
Span = tuple[int, int | None]  # first and last, 1-based; None: no last one

CLIENT_TYPES = frozenset(str(kind.__struct_config__.tag) for kind in ev.CLIENT_EVENTS)
SERVER_TYPES = frozenset(str(kind.__struct_config__.tag) for kind in ev.SERVER_EVENTS)

BROKEN = ("json", "utf8", "surrogate")


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of fault.

    value: the field that the short form gives behind the colon, '' for none. needs: whether it must be given. options:
    the fields that it may have besides. of: what it happens to.
    """

    of: Literal["handshake", "connection", "line", "message"]
    value: str = ""
    needs: bool = False
    options: tuple[str, ...] = ()


ACTIONS = {
    "refuse": Action(of="handshake", value="status", options=("headers", "message")),
    "no-answer": Action(of="handshake"),
    "close": Action(of="connection", value="code", options=("reason",)),
    "rst": Action(of="connection"),
    "eof": Action(of="connection"),
    "expire": Action(of="connection"),
    "error": Action(of="connection", value="error", needs=True, options=("message",)),
    "half-open": Action(of="connection", options=("for_s",)),
    "stall-reads": Action(of="connection", options=("for_s",)),
    "no-pongs": Action(of="connection", options=("for_s",)),
    "late-pongs": Action(of="connection", value="delay_s", needs=True, options=("for_s",)),
    "delay": Action(of="line", value="delay_s", needs=True, options=("jitter_s", "for_s")),
    "bandwidth": Action(of="line", value="bytes_per_s", needs=True, options=("for_s",)),
    "drip": Action(of="line", value="size", options=("every_s", "for_s")),
    "drop": Action(of="message", options=("for_s",)),
    "duplicate": Action(of="message", options=("for_s",)),
    "reorder": Action(of="message", options=("for_s",)),
    "split": Action(of="message", value="size", needs=True, options=("for_s",)),
    "corrupt": Action(of="message", value="how", options=("for_s",)),
}


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault. All conditions that are given must hold for it to strike.

    do: one of `ACTIONS`. event: a type of message, with `*` for any text. side: whose messages, or bytes, where it
    happens to the line; '' where it waits for none. nth: which of these messages on their connection. after_s: seconds
    since the handshake. sent, received: bytes since then. probability: for each message, or for each connection where
    it waits for none. connections: which handshakes, in the order in which they came. times: how often at most, on all
    connections together. for_s: how long it lasts. The others are what the action takes.
    """

    do: str
    event: str = ""
    side: Side = ""
    nth: Span = (1, None)
    after_s: float = 0.0
    sent: int = 0
    received: int = 0
    probability: float = 1.0
    connections: Span = (1, None)
    times: int | None = None
    for_s: float | None = None

    status: int = 503
    headers: tuple[tuple[str, str], ...] = ()
    code: int = 1011
    reason: str = ""
    error: str = ""
    message: str = ""
    delay_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: int = 0
    size: int = 1
    every_s: float = 0.01
    how: str = "json"

    @property
    def of(self) -> str:
        """What it happens to."""
        return ACTIONS[self.do].of

    @property
    def by_message(self) -> bool:
        """Whether it strikes at messages, each that fits; otherwise once a connection."""
        return bool(self.event) or (bool(self.side) and self.of != "line")

    @property
    def random(self) -> bool:
        """Whether chance decides something."""
        return self.probability < 1 or self.jitter_s > 0

    @property
    def told(self) -> str:
        """What it does, as the short form says it."""
        value = ACTIONS[self.do].value
        at = f" @{self.event}" if self.event else ""
        return self.do + (f":{getattr(self, value)}" if value else "") + at

    def concerns(self, number: int) -> bool:
        """Whether it is for this connection."""
        return _within(number, self.connections)

    def fits(self, side: Side, kind: str) -> bool:
        """Whether it waits for such a message."""
        return side == self.side and (not self.event or kind == self.event or fnmatch.fnmatchcase(kind, self.event))

    def is_nth(self, count: int) -> bool:
        """Whether it waits for the count-th message."""
        return _within(count, self.nth)


def _within(number: int, span: Span) -> bool:
    return span[0] <= number and (span[1] is None or number <= span[1])
