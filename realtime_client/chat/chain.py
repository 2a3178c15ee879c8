"""What is done about a fault: try again, go to the next provider, or give up. One machine for both. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from .breaker import Breaker
from .limits import ChatLimits
from .place import Place
from .wires.faults import CUT, Action, Fault

OnError = Callable[[Fault, Place], Action | None]
"""Decides otherwise: (what went wrong, where) -> an action, or None for the one that is planned.

It is called in the thread of the stream, and may call the session, but not wait for an answer. One that fails, or
returns anything else, decides nothing."""

_LONGEST_DELAY_S = 30.0


class Step(msgspec.Struct, frozen=True):
    """What is done next. place: where, None to give up. delay_s: before that. streaming: whether in pieces.

    notice: what people are told of it, '' for nothing.
    """

    place: int | None
    delay_s: float = 0.0
    streaming: bool = True
    notice: str = ""


class Way:
    """The way of one answer through the chain. place: where it is now."""

    def __init__(
        self, places: Sequence[Place], breakers: Sequence[Breaker], limits: ChatLimits, *, fallback: bool
    ) -> None:
        self.place = -1
        self.streaming = True
        self.retries = 0  # in all
        self._places = places
        self._breakers = breakers
        self._limits = limits
        self._fallback = fallback
        self._tries = 0
        self._restarted = False

    def begin(self, now_s: float, *, streaming: bool) -> Step:
        """Return where to ask first: the first of the chain that its breaker lets through."""
        self.streaming = streaming
        return self._next(now_s, "")

    def after(self, fault: Fault, now_s: float, *, shown: bool, refused: bool, action: Action | None = None) -> Step:
        """Return what to do about a fault.

        shown: something of the answer was shown. refused: the server does not take a field of the request, which is
        left out from now on. action: instead of the fault's.
        """
        action = action or fault.action
        if refused:
            return Step(self.place, 0.0, self.streaming)
        if fault.field == "stream" and self.streaming:
            return self._without_stream("")
        if shown:
            return self._go_on(fault, action, now_s)
        place = self._places[self.place]
        if action == "restart" and not self._restarted:
            self._restarted = True
            return self._same(fault, 0.0)
        if self.streaming and (fault.category == "protocol" or fault.code == CUT):
            return self._without_stream(f"{place.name}: {fault.message}; asking without a stream")
        if action == "retry" and self._tries < self._limits.retries and self._worth_it():
            return self._same(fault, self._delay_s(fault))
        if action == "fatal":
            return Step(None)
        return self._other(fault, now_s)

    def _go_on(self, fault: Fault, action: Action, now_s: float) -> Step:
        """A part of the answer was shown: somebody has to make the rest."""
        if action == "fatal":
            return Step(None)
        other = self._other(fault, now_s)
        if other.place is not None or action == "fallback" or self._tries >= self._limits.retries:
            return other
        return self._same(fault, self._delay_s(fault) if self._tries else 0.0)

    def _other(self, fault: Fault, now_s: float) -> Step:
        return self._next(now_s, fault.message) if self._fallback else Step(None)

    def _worth_it(self) -> bool:
        """A place whose breaker has opened is not asked again while there is another one."""
        others = self._fallback and self.place + 1 < len(self._places)
        return not others or self._breakers[self.place].state.state == "closed"

    def _same(self, fault: Fault, delay_s: float) -> Step:
        self._tries += 1
        self.retries += 1
        when = f"in {delay_s:.3g} s" if delay_s >= 0.05 else "at once"
        notice = f"{self._places[self.place].name}: {fault.message}; asking again {when}"
        return Step(self.place, delay_s, self.streaming, notice)

    def _without_stream(self, notice: str) -> Step:
        self.streaming = False
        self.retries += 1
        return Step(self.place, 0.0, streaming=False, notice=notice)

    def _delay_s(self, fault: Fault) -> float:
        if fault.retry_after_s is not None:
            return fault.retry_after_s
        return min(self._limits.retry_delay_s * 2.0**self._tries, _LONGEST_DELAY_S)

    def _next(self, now_s: float, why: str) -> Step:
        """Return the next place that may be asked; None when there is none."""
        before = self._places[self.place].name if self.place >= 0 else ""
        for at in range(self.place + 1, len(self._places)):
            place, breaker = self._places[at], self._breakers[at]
            if breaker.allows(now_s):
                self.place, self._tries, self._restarted = at, 0, False
                notice = f"{before}: {why}; going on with {place.name}" if before else ""
                return Step(at, 0.0, self.streaming, notice)
            before, why = place.name, f"left alone for now ({breaker.state.reason})"
        return Step(None, notice=f"{before}: {why}" if before else "")
