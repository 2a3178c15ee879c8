"""Figures of a live session, taken from its updates."""

from __future__ import annotations

from collections.abc import Callable

from realtime_client import updates as up
from realtime_client.session.session import Session

from .metrics import Registry


class SessionMetrics:
    """An observer that counts; `render` gives the text. underruns: how often the speaker ran dry, when there is one."""

    def __init__(self, session: Session, underruns: Callable[[], int] | None = None) -> None:
        self._session = session
        self._underruns = underruns
        registry = self._registry = Registry()
        self._open = registry.gauge("realtime_sessions_running", "sessions that are open")
        self._answers = registry.counter("realtime_answers_total", "answers that ended, by status", ["status"])
        self._latency = registry.histogram(
            "realtime_latency_seconds", "from the request, or the end of speech, by what came", ["latency"]
        )
        self._interruptions = registry.counter("realtime_interruptions_total", "answers that were cut")
        self._tools = registry.counter("realtime_tool_calls_total", "calls of tools")
        self._failures = registry.counter("realtime_failures_total", "errors that the server reported")
        self._tokens = registry.counter("realtime_tokens_total", "tokens, by direction", ["direction"])
        self._bytes = registry.gauge("realtime_bytes", "bytes on the wire, by direction", ["direction"])
        self._rtt = registry.gauge("realtime_round_trip_seconds", "the newest round trip of a ping")
        self._dry = registry.gauge("realtime_underruns", "how often the speaker had nothing to play in an answer")
        self._open.set(1)

    def observe(self, update: up.Update, _at_s: float) -> None:
        """Take an update in."""
        if isinstance(update, up.ResponseDone):
            self._answers.add(1, update.status)
            self._take_turn(update)
        elif isinstance(update, up.Interrupted):
            self._interruptions.add()
        elif isinstance(update, up.ToolCall):
            self._tools.add()
        elif isinstance(update, up.Failure) and not update.benign:
            self._failures.add()
        elif isinstance(update, up.SessionEnded):
            self._open.set(0)

    def _take_turn(self, done: up.ResponseDone) -> None:
        turn = self._session.timings(done.response_id)
        if turn is not None:
            for name, value in turn.latencies().items():
                self._latency.observe(value / 1000, name)
        if done.usage is not None:
            self._tokens.add(done.usage.input_tokens, "in")
            self._tokens.add(done.usage.output_tokens, "out")

    def render(self) -> str:
        """Return the figures as they are now."""
        stats = self._session.stats()
        self._bytes.set(stats.traffic.bytes_in, "in")
        self._bytes.set(stats.traffic.bytes_out, "out")
        if stats.round_trip.last_ms is not None:
            self._rtt.set(stats.round_trip.last_ms / 1000)
        if self._underruns is not None:
            self._dry.set(self._underruns())
        return self._registry.render()
