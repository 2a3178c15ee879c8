"""A circuit breaker for one model at one provider: one that fails is left alone for a while. Pure; told the time.

The states and their names are Nygard's (Release It!, 2nd ed., section 5.2). It opens by rate, not only by failures in
a row: a server that fails every other request is no better than one that is down.
"""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

State = Literal["closed", "open", "half_open"]


class BreakerPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When it opens, and for how long.

    It opens after in_a_row failures in a row, or when `rate` of at least `least` outcomes of the last window_s seconds
    were failures; for open_s seconds, or as long as the server asked for, up to longest_s. Then `probes` requests at a
    time may try; one of which nothing is heard for lost_s is forgotten: its program may have died.
    """

    in_a_row: int = 5
    rate: float = 0.5
    least: int = 10
    window_s: float = 60.0
    open_s: float = 30.0
    longest_s: float = 3600.0
    lost_s: float = 600.0
    probes: int = 1


class BreakerState(msgspec.Struct, frozen=True, kw_only=True):
    """What a breaker knows.

    outcomes: (when, whether it failed), oldest first. until_s: open until then, or half open and waiting for probes.
    """

    state: State = "closed"
    outcomes: tuple[tuple[float, bool], ...] = ()
    until_s: float = 0.0
    probing: int = 0
    reason: str = ""


class BreakerStore(Protocol):
    """Keeps the states: in memory here, in a shared place where several programs ask the same providers."""

    def load(self, key: str) -> BreakerState:
        """Return the state of a breaker, a new one for a key never seen."""

    def save(self, key: str, state: BreakerState) -> None:
        """Keep it."""


class MemoryStore:
    """Keeps the states in this program."""

    def __init__(self) -> None:
        self._states: dict[str, BreakerState] = {}

    def load(self, key: str) -> BreakerState:
        """Return the state of a breaker, a new one for a key never seen."""
        return self._states.get(key, _NEW)

    def save(self, key: str, state: BreakerState) -> None:
        """Keep it."""
        self._states[key] = state


_NEW = BreakerState()
_MOST_OUTCOMES = 100


class Breaker:
    """The breaker of one key. Its caller holds a lock for the decision, never for the request."""

    def __init__(self, key: str, store: BreakerStore, policy: BreakerPolicy | None = None) -> None:
        self.key = key
        self._store = store
        self._policy = policy or BreakerPolicy()

    @property
    def state(self) -> BreakerState:
        """What it knows now."""
        return self._store.load(self.key)

    def allows(self, now_s: float) -> bool:
        """Whether a request may be tried now; one that is let through counts as a probe until its outcome is told."""
        state = self.state
        if state.state == "closed":
            return True
        if state.state == "open":
            if now_s < state.until_s:
                return False
            state = msgspec.structs.replace(state, state="half_open", probing=0)
        if state.probing >= self._policy.probes:
            if now_s < state.until_s:
                return False
            state = msgspec.structs.replace(state, probing=0)  # nobody told how they went: they are lost
        until_s = now_s + self._policy.lost_s
        self._store.save(self.key, msgspec.structs.replace(state, probing=state.probing + 1, until_s=until_s))
        return True

    def succeeded(self, now_s: float) -> None:
        """A request went well."""
        state = self.state
        if state.state == "half_open":
            self._store.save(self.key, BreakerState(outcomes=((now_s, False),)))
        elif state.state == "closed":
            self._store.save(
                self.key, msgspec.structs.replace(state, outcomes=self._outcomes(state, now_s, failed=False))
            )

    def released(self) -> None:
        """A request was withdrawn, which says nothing about the provider."""
        state = self.state
        if state.probing:
            self._store.save(self.key, msgspec.structs.replace(state, probing=state.probing - 1))

    def failed(self, now_s: float, reason: str, *, retry_after_s: float | None = None) -> None:
        """A request failed in a way that is the provider's fault."""
        state = self.state
        outcomes = self._outcomes(state, now_s, failed=True)
        opens = state.state != "closed" or self._too_many(outcomes)
        if not opens:
            self._store.save(self.key, msgspec.structs.replace(state, outcomes=outcomes))
            return
        asked_s = min(retry_after_s or 0.0, self._policy.longest_s)
        before_s = state.until_s if state.state == "open" else 0.0
        until_s = max(before_s, now_s + max(self._policy.open_s, asked_s))
        self._store.save(self.key, BreakerState(state="open", outcomes=outcomes, until_s=until_s, reason=reason))

    def _outcomes(self, state: BreakerState, now_s: float, *, failed: bool) -> tuple[tuple[float, bool], ...]:
        since_s = now_s - self._policy.window_s
        kept = tuple(each for each in state.outcomes[-_MOST_OUTCOMES + 1 :] if each[0] >= since_s)
        return (*kept, (now_s, failed))

    def _too_many(self, outcomes: tuple[tuple[float, bool], ...]) -> bool:
        policy = self._policy
        newest = outcomes[-policy.in_a_row :]
        if len(newest) >= policy.in_a_row and all(failed for _, failed in newest):
            return True
        failures = sum(failed for _, failed in outcomes)
        return len(outcomes) >= policy.least and failures >= policy.rate * len(outcomes)
