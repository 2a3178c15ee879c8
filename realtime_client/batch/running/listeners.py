"""Who is told how a run goes."""

from __future__ import annotations

from realtime_client.batch.result import CaseResult, Fault
from realtime_client.batch.scenario import Case


class RunListener:
    """Is told how a run goes, in the run's thread; every method may be overridden."""

    def began(self, case: Case, attempt: int) -> None:
        """A case starts. attempt: from 1."""

    def finished(self, result: CaseResult) -> None:
        """A case has its result."""

    def again(self, case: Case, fault: Fault) -> None:
        """A case is going to be begun again because of this fault."""

    def dropped(self, case: Case) -> None:
        """A case has ended without a result and is left for later."""

    def paused(self, seconds: float, reason: str) -> None:
        """No case starts for so long."""

    def gave_up(self, fault: Fault, why: str) -> None:
        """Nothing more is begun, because it would be no use."""

    def tick(self) -> None:
        """Some time has passed; at least every half a second."""


class Listeners(RunListener):
    """Several listeners in one."""

    def __init__(self, *listeners: RunListener) -> None:
        self._listeners = listeners

    def began(self, case: Case, attempt: int) -> None:
        """Pass it on."""
        for one in self._listeners:
            one.began(case, attempt)

    def finished(self, result: CaseResult) -> None:
        """Pass it on."""
        for one in self._listeners:
            one.finished(result)

    def again(self, case: Case, fault: Fault) -> None:
        """Pass it on."""
        for one in self._listeners:
            one.again(case, fault)

    def dropped(self, case: Case) -> None:
        """Pass it on."""
        for one in self._listeners:
            one.dropped(case)

    def paused(self, seconds: float, reason: str) -> None:
        """Pass it on."""
        for one in self._listeners:
            one.paused(seconds, reason)

    def gave_up(self, fault: Fault, why: str) -> None:
        """Pass it on."""
        for one in self._listeners:
            one.gave_up(fault, why)

    def tick(self) -> None:
        """Pass it on."""
        for one in self._listeners:
            one.tick()
