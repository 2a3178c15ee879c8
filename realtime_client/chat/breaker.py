"""A circuit breaker for one model at one provider: one that fails is left alone for a while. Pure; told the time.

The states and their names are Nygard's (Release It!, 2nd ed., section 5.2). It opens by rate, not only by failures in
a row: a server that fails every other request is no better than one that is down.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Literal, Protocol, TypeVar

import msgspec

State = Literal["closed", "open", "half_open"]
Found = TypeVar("Found")


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

    def update(self, key: str, change: Callable[[BreakerState], tuple[BreakerState, Found]]) -> Found:
        """Put what `change` makes of a state in its place, as one step, and return what else it gives.

        Nobody else changes the state meanwhile: of two that see it, only one may let its request through. `change` does
        nothing but compute, so a store may call it again when another program was faster.
        """


class MemoryStore:
    """Keeps the states in this program, where sessions share them."""

    def __init__(self) -> None:
        self._states: dict[str, BreakerState] = {}
        self._lock = threading.Lock()

    def load(self, key: str) -> BreakerState:
        """Return the state of a breaker, a new one for a key never seen."""
        return self._states.get(key, _NEW)

    def update(self, key: str, change: Callable[[BreakerState], tuple[BreakerState, Found]]) -> Found:
        """Put what `change` makes of a state in its place, as one step, and return what else it gives."""
        with self._lock:
            self._states[key], found = change(self.load(key))
        return found


_NEW = BreakerState()
_MOST_OUTCOMES = 100


class Breaker:
    """The breaker of one key. Others of the same key and store, in other threads too, know and decide the same."""

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
        return self._store.update(self.key, lambda state: self._probed(state, now_s))

    def _probed(self, state: BreakerState, now_s: float) -> tuple[BreakerState, bool]:
        if state.state == "closed":
            return state, True
        waits = now_s < state.until_s
        if waits and (state.state == "open" or state.probing >= self._policy.probes):
            return state, False
        lost = state.state == "open" or state.probing >= self._policy.probes  # nobody told how those went, if any
        probing = 1 if lost else state.probing + 1
        until_s = now_s + self._policy.lost_s
        return msgspec.structs.replace(state, state="half_open", probing=probing, until_s=until_s), True

    def succeeded(self, now_s: float) -> None:
        """A request went well."""
        self._change(lambda state: self._succeeded(state, now_s))

    def _succeeded(self, state: BreakerState, now_s: float) -> BreakerState:
        if state.state == "half_open":
            return BreakerState(outcomes=((now_s, False),))
        if state.state == "closed":
            return msgspec.structs.replace(state, outcomes=self._outcomes(state, now_s, failed=False))
        return state

    def released(self) -> None:
        """A request was withdrawn, which says nothing about the provider."""
        self._change(lambda state: msgspec.structs.replace(state, probing=max(0, state.probing - 1)))

    def failed(self, now_s: float, reason: str, *, retry_after_s: float | None = None) -> None:
        """A request failed in a way that is the provider's fault."""
        self._change(lambda state: self._failed(state, now_s, reason, retry_after_s or 0.0))

    def _failed(self, state: BreakerState, now_s: float, reason: str, asked_s: float) -> BreakerState:
        outcomes = self._outcomes(state, now_s, failed=True)
        if state.state == "closed" and not self._too_many(outcomes):
            return msgspec.structs.replace(state, outcomes=outcomes)
        before_s = state.until_s if state.state == "open" else 0.0
        until_s = max(before_s, now_s + max(self._policy.open_s, min(asked_s, self._policy.longest_s)))
        return BreakerState(state="open", outcomes=outcomes, until_s=until_s, reason=reason)

    def _change(self, change: Callable[[BreakerState], BreakerState]) -> None:
        self._store.update(self.key, lambda state: (change(state), None))

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
