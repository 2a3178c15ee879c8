"""Figures of a run, taken from what the run reports."""

from __future__ import annotations

from realtime_client.batch.result import CaseResult, Fault
from realtime_client.batch.scenario import Case
from realtime_client.telemetry.metrics import Registry

from .listeners import RunListener


class RunMetrics(RunListener):
    """A listener that counts; `render` gives the text. cases: how many there are in all."""

    def __init__(self, cases: int) -> None:
        registry = self._registry = Registry()
        self._running = registry.gauge("realtime_sessions_running", "cases that are played now")
        self._planned = registry.gauge("realtime_run_cases", "cases of the run")
        self._cases = registry.counter("realtime_cases_total", "finished cases, by status", ["status"])
        self._checks = registry.counter("realtime_checks_total", "checks, by outcome", ["outcome"])
        self._again = registry.counter("realtime_retries_total", "cases begun again, by fault", ["fault"])
        self._paused = registry.gauge("realtime_paused_seconds", "length of the newest pause for too many requests")
        self._latency = registry.histogram(
            "realtime_latency_seconds", "latencies of answers, by what was waited for", ["latency"]
        )
        self._own = registry.histogram(
            "realtime_own_waiting_seconds", "how long this program itself made them wait besides", ["latency"]
        )
        self._duration = registry.histogram("realtime_case_seconds", "how long cases took")
        self._bytes = registry.counter("realtime_bytes_total", "bytes on the wire, by direction", ["direction"])
        self._rtt = registry.histogram("realtime_round_trip_seconds", "mean round trip of a session's pings")
        self._dry = registry.counter("realtime_underruns_total", "how often an answer arrived too late to be played")
        self._cost = registry.counter("realtime_cost_dollars_total", "cost of the cases whose price is known")
        self._planned.set(cases)

    def began(self, case: Case, attempt: int) -> None:  # noqa: ARG002
        """A case starts."""
        self._running.add(1)

    def again(self, case: Case, fault: Fault) -> None:  # noqa: ARG002
        """A case has ended without result and is begun again."""
        self._running.add(-1)
        self._again.add(1, fault.kind)

    def dropped(self, case: Case) -> None:  # noqa: ARG002
        """A case has ended without result."""
        self._running.add(-1)

    def paused(self, seconds: float, reason: str) -> None:  # noqa: ARG002
        """Nothing starts for so long."""
        self._paused.set(seconds)

    def finished(self, result: CaseResult) -> None:
        """A case has its result."""
        self._running.add(-1)
        self._cases.add(1, result.status)
        self._duration.observe(result.duration_s)
        for check in result.checks:
            self._checks.add(1, "ok" if check.ok else "failed")
        for name, values in result.latencies.items():
            for value in values:
                self._latency.observe(value / 1000, name)
        for name, values in result.own_waiting.items():
            for value in values:
                self._own.observe(value / 1000, name)
        self._traffic(result.traffic)
        self._cost.add(result.cost_usd or 0.0)

    def _traffic(self, traffic: dict[str, float]) -> None:
        for direction in ("in", "out"):
            self._bytes.add(traffic.get(f"bytes_{direction}", 0), direction)
        if "rtt_ms" in traffic:
            self._rtt.observe(traffic["rtt_ms"] / 1000)
        self._dry.add(traffic.get("underruns", 0))

    def render(self) -> str:
        """Return the figures as they are now."""
        return self._registry.render()
