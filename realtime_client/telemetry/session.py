"""Figures of a live session, taken from its updates."""

from __future__ import annotations

from collections.abc import Callable

from realtime_client import updates as up
from realtime_client.session.session import Session
from realtime_client.session.stats import TextStats

from .answers import Writing, Writings
from .metrics import Registry

_RATES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0)  # tokens a second
_AWAY_S = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0)
_STATES = ("closed", "half_open", "open")


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
        self._outcomes = registry.counter("realtime_tool_outcomes_total", "ends of a tool's work on a call", ["status"])
        self._work = registry.histogram("realtime_tool_seconds", "how long tools worked on a call")
        self._failures = registry.counter(
            "realtime_failures_total",
            "errors of servers, by kind and by what was done about it",
            ["category", "action"],
        )
        self._writings = Writings()
        self._first = registry.histogram(
            "realtime_first_token_seconds", "text models: from the request to the first piece", ["model"]
        )
        self._rate = registry.histogram(
            "realtime_tokens_per_second", "text models: how fast an answer came", ["model"], _RATES
        )
        self._pieces = registry.counter("realtime_pieces_total", "text models: pieces of answers", ["model"])
        self._retries = registry.counter(
            "realtime_request_retries_total", "text models: requests that were sent again", ["model"]
        )
        self._fallbacks = registry.counter(
            "realtime_fallbacks_total", "text models: answers that another model went on with", ["model"]
        )
        self._breakers = registry.gauge(
            "realtime_breaker_state", "text models: 1 for the state of the circuit breaker", ["model", "state"]
        )
        self._tokens = registry.counter("realtime_tokens_total", "tokens, by direction", ["direction"])
        self._bytes = registry.gauge("realtime_bytes", "bytes on the wire, by direction", ["direction"])
        self._rtt = registry.gauge("realtime_round_trip_seconds", "the newest round trip of a ping")
        self._dry = registry.gauge("realtime_underruns", "how often the speaker had nothing to play in an answer")
        self._reconnects = registry.counter(
            "realtime_reconnects_total",
            "connections that took the place of another (why: lost, rollover, asked), or were not to be had",
            ["reason", "outcome"],
        )
        self._away = registry.histogram(
            "realtime_away_seconds", "how long there was no connection, until there was one again", bounds=_AWAY_S
        )
        self._lost_audio = registry.counter(
            "realtime_lost_audio_seconds_total", "sound of the user that was lost with a connection"
        )
        self._trying = False
        self._open.set(1)

    def observe(self, update: up.Update, at_s: float) -> None:
        """Take an update in."""
        written = self._writings.take(update, at_s)
        if isinstance(update, up.ResponseDone):
            self._answers.add(1, update.status)
            self._take_turn(update)
            if written is not None:
                self._take_writing(written, update)
        elif isinstance(update, up.Interrupted):
            self._interruptions.add()
        elif isinstance(update, up.ToolCall):
            self._tools.add()
        elif isinstance(update, up.ToolFinished):
            self._outcomes.add(1, update.status)
            if update.duration_ms is not None:
                self._work.observe(update.duration_ms / 1000)
        elif isinstance(update, up.Failure):
            self._take_failure(update)
        elif isinstance(update, up.BreakerChanged):
            self._set_breaker(update.source, update.state)
        elif isinstance(update, up.ConnectionLost):
            if self._trying and not update.goes_on:
                self._reconnects.add(1, "lost", "gave_up")
            self._trying = update.goes_on
        elif isinstance(update, up.Restored):
            self._take_restored(update)
        elif isinstance(update, up.SessionEnded):
            self._open.set(0)

    def _take_restored(self, restored: up.Restored) -> None:
        """The conversation goes on with another connection."""
        self._trying = False
        self._reconnects.add(1, restored.reason, "restored")
        self._lost_audio.add(restored.lost_audio_ms / 1000)
        if restored.reason == "lost":
            self._away.observe(restored.away_ms / 1000)

    def _take_writing(self, written: Writing, done: up.ResponseDone) -> None:
        """An answer in writing is over. Its speed is a model's only where one request made it."""
        self._pieces.add(written.pieces, written.model)
        first_s = written.first_token_s()
        if first_s is not None:
            self._first.observe(first_s, written.model)
        rate = written.tokens_per_s(done.usage)
        if rate is not None and written.models == 1:
            self._rate.observe(rate, written.model)

    def _take_failure(self, failure: up.Failure) -> None:
        if failure.benign and failure.source is None:
            return  # a known race
        self._failures.add(1, failure.error_type or "", failure.action or "")
        if failure.benign and failure.source is not None:
            counter = self._fallbacks if failure.action == "fallback" else self._retries
            counter.add(1, failure.source)

    def _set_breaker(self, source: str, now: str) -> None:
        for state in _STATES:
            self._breakers.set(float(state == now), source, state)

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
        if isinstance(stats.text, TextStats):
            for source, breaker in stats.text.breakers.items():
                self._set_breaker(source, breaker.state)
        if stats.round_trip.last_ms is not None:
            self._rtt.set(stats.round_trip.last_ms / 1000)
        if self._underruns is not None:
            self._dry.set(self._underruns())
        return self._registry.render()
