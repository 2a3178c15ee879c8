"""OpenTelemetry spans of a session: session > answer > tool. They hold times, counts and names, never what was said.

Attributes follow OpenTelemetry's semantic conventions for generative AI where these have a name. Where spans go is
OpenTelemetry's own business: a tracer provider that the program has set, else OTLP over HTTP as the standard `OTEL_*`
variables say.
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

from realtime_client import updates as up
from realtime_client.deadline import SYSTEM_CLOCK, Clock
from realtime_client.errors import MissingExtraError, UsageError
from realtime_client.version import __version__

from .answers import Writing, Writings

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer, TracerProvider

_SCOPE = "realtime_client"
_PROVIDERS = {  # as the conventions name them
    "anthropic": "anthropic", "apim": "azure.ai.openai", "azure": "azure.ai.openai", "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini", "ollama": "ollama", "openai": "openai", "openai-responses": "openai",
}  # fmt: skip
_MOST_OPEN = 64  # answers or calls whose end never came are ended when there are more


class SessionSpans:
    """An observer that makes spans. `close` ends what is open.

    tracer: default that of `tracer()`. attributes: of the session's span.
    """

    def __init__(
        self, tracer: Tracer, attributes: dict[str, Any] | None = None, *, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._tracer = tracer
        self._attributes = attributes or {}
        self._epoch_s = clock.wall() - clock.monotonic()
        self._clock = clock
        self._session: Span | None = None
        self._answers: dict[str, Span] = {}
        self._calls: dict[str, Span] = {}
        self._first: set[str] = set()
        self._writings = Writings()

    def observe(self, update: up.Update, at_s: float) -> None:
        """Take an update in."""
        written = self._writings.take(update, at_s)
        kind = type(update)
        if kind is up.AudioDelta or kind is up.TextDelta:
            self._delta(update, at_s)
        elif isinstance(update, up.SessionStarted):
            self._begin(update, at_s)
        elif self._session is not None:
            self._later(update, at_s, written)

    def _later(self, update: up.Update, at_s: float, written: Writing | None) -> None:
        if isinstance(update, up.ResponseStarted):
            known = {} if written is None else {"gen_ai.operation.name": "chat", **_model(written.model, "request")}
            self._answers[update.response_id] = self._child("answer", self._session, at_s, **known)
            self._bound(self._answers, at_s)
        elif isinstance(update, up.ResponseDone):
            self._answer_done(update, at_s, written)
        elif isinstance(update, up.AnswerSource | up.BreakerChanged):
            self._mark(update, at_s)
        elif isinstance(update, up.ConnectionLost | up.Reconnecting | up.Restored):
            self._mark_connection(update, at_s)
        elif isinstance(update, up.ToolCall):
            parent = self._answers.get(update.response_id, self._session)
            self._calls[update.call_id] = self._child(
                f"execute_tool {update.name}", parent, at_s, **{"gen_ai.tool.name": update.name}
            )
            self._bound(self._calls, at_s)
        elif isinstance(update, up.ToolFinished):
            self._tool_finished(update, at_s)
        elif isinstance(update, up.ToolStarted | up.ApprovalRequested | up.ApprovalDecided):
            self._mark_call(update, at_s)
        elif isinstance(update, up.ToolResult):
            if (call := self._calls.pop(update.call_id, None)) is not None:
                self._end(call, at_s)
        elif isinstance(update, up.Interrupted):
            span = self._answers.get(update.response_id or "", self._session)
            assert span is not None
            span.add_event(
                "interrupted", {"cause": update.cause, "heard_ms": update.heard_ms}, timestamp=self._ns(at_s)
            )
        elif isinstance(update, up.Failure) and not update.benign:
            self._fail(self._session, update.code or update.error_type or "error")
        elif isinstance(update, up.Failure) and update.source is not None:
            span = self._answers.get(self._writings.newest or "", self._session)
            assert span is not None
            told = {"model": update.source, "error.type": update.code or update.error_type or "error"}
            span.add_event(update.action or "failure", told, timestamp=self._ns(at_s))
        elif isinstance(update, up.SessionEnded):
            if update.reason != "closed":
                self._fail(self._session, update.reason)
            self._finish(at_s)

    def close(self) -> None:
        """End every span; idempotent."""
        self._finish(self._clock.monotonic())

    def _begin(self, update: up.SessionStarted, at_s: float) -> None:
        if self._session is None:
            known = {"gen_ai.operation.name": "chat", "gen_ai.conversation.id": update.session_id}
            known |= _model(update.facts.model, "request")
            self._session = self._tracer.start_span(
                "realtime session", attributes=known | self._attributes, start_time=self._ns(at_s)
            )

    def _delta(self, update: Any, at_s: float) -> None:
        """Mark the first piece of an answer."""
        span = self._answers.get(update.response_id)
        name = "first_audio" if type(update) is up.AudioDelta else "first_text"
        if span is not None and f"{name}{update.response_id}" not in self._first:
            self._first.add(f"{name}{update.response_id}")
            span.add_event(name, timestamp=self._ns(at_s))

    def _mark(self, update: up.AnswerSource | up.BreakerChanged, at_s: float) -> None:
        """Who goes on with an answer, or how a circuit breaker stands."""
        assert self._session is not None
        if isinstance(update, up.AnswerSource):
            span = self._answers.get(update.response_id, self._session)
            span.add_event("answer_source", {"model": update.source}, timestamp=self._ns(at_s))
        else:
            told = {"model": update.source, "state": update.state}
            self._session.add_event("breaker", told, timestamp=self._ns(at_s))

    def _mark_connection(self, update: up.ConnectionLost | up.Reconnecting | up.Restored, at_s: float) -> None:
        """How the connection is lost, and comes back."""
        assert self._session is not None
        told: dict[str, Any]
        if isinstance(update, up.ConnectionLost):
            told = {"code": update.code, "goes_on": update.goes_on}
        elif isinstance(update, up.Reconnecting):
            told = {"attempt": update.attempt}
        else:
            counts = ("reason", "away_ms", "told", "left_out", "refused", "audio_ms", "lost_audio_ms")
            told = {name: getattr(update, name) for name in counts}
        self._session.add_event(update.kind, told, timestamp=self._ns(at_s))

    def _mark_call(self, update: up.ToolStarted | up.ApprovalRequested | up.ApprovalDecided, at_s: float) -> None:
        """Where a call stands. A call that the server makes has no span: the session's has it."""
        call_id = update.call_id if isinstance(update, up.ToolStarted) else update.request_id
        span = self._calls.get(call_id, self._session)
        assert span is not None
        told: dict[str, Any] = {"gen_ai.tool.name": update.name}
        if isinstance(update, up.ApprovalDecided):
            told["approved"] = update.approved
        span.add_event(update.kind, told, timestamp=self._ns(at_s))

    def _tool_finished(self, update: up.ToolFinished, at_s: float) -> None:
        """A tool's work is over; its span ends with the result, or, where none follows, with the session."""
        span = self._calls.get(update.call_id)
        if span is not None:
            span.set_attribute("realtime.tool.status", update.status)
            span.add_event(update.kind, {"status": update.status}, timestamp=self._ns(at_s))
            if update.status != "completed":
                self._fail(span, update.status)

    def _answer_done(self, update: up.ResponseDone, at_s: float, written: Writing | None) -> None:
        span = self._answers.pop(update.response_id, None)
        self._first -= {f"{name}{update.response_id}" for name in ("first_audio", "first_text")}
        if span is None:
            return
        span.set_attribute("realtime.status", update.status)
        if update.usage is not None:
            span.set_attribute("gen_ai.usage.input_tokens", update.usage.input_tokens)
            span.set_attribute("gen_ai.usage.output_tokens", update.usage.output_tokens)
        if written is not None:
            _tell_writing(span, written, update.usage)
        if update.status == "failed":
            self._fail(span, update.reason or "failed")
        self._end(span, at_s)

    def _child(self, name: str, parent: Span | None, at_s: float, **attributes: Any) -> Span:
        from opentelemetry.trace import set_span_in_context

        assert parent is not None
        return self._tracer.start_span(
            name, set_span_in_context(parent), attributes=attributes, start_time=self._ns(at_s)
        )

    def _fail(self, span: Span | None, kind: str) -> None:
        from opentelemetry.trace import Status, StatusCode

        assert span is not None
        span.set_attribute("error.type", kind)
        span.set_status(Status(StatusCode.ERROR))

    def _bound(self, spans: dict[str, Span], at_s: float) -> None:
        if len(spans) > _MOST_OPEN:
            self._end(spans.pop(next(iter(spans))), at_s)

    def _finish(self, at_s: float) -> None:
        for span in (*self._calls.values(), *self._answers.values()):
            self._end(span, at_s)
        self._calls, self._answers = {}, {}
        if self._session is not None:
            self._end(self._session, at_s)
        self._session = None

    def _end(self, span: Span, at_s: float) -> None:
        span.end(self._ns(at_s))

    def _ns(self, at_s: float) -> int:
        """Return a moment of the session's clock as nanoseconds since the epoch."""
        return int((self._epoch_s + at_s) * 1e9)


def _model(name: str, of: str) -> dict[str, Any]:
    """A model as the conventions state it: a text model's provider stands apart. of: `request` or `response`."""
    provider, slash, model = name.partition("/")
    if not slash or provider not in _PROVIDERS:
        return {f"gen_ai.{of}.model": name}
    return {f"gen_ai.{of}.model": model, "gen_ai.provider.name": _PROVIDERS[provider]}


def _tell_writing(span: Span, written: Writing, usage: up.Usage | None) -> None:
    """State who made an answer in writing, and how fast."""
    for name, value in _model(written.model, "response").items():
        span.set_attribute(name, value)
    span.set_attribute("realtime.pieces", written.pieces)
    first_s, rate = written.first_token_s(), written.tokens_per_s(usage)
    if first_s is not None:
        span.set_attribute("gen_ai.response.time_to_first_chunk", first_s)
    if rate is not None:
        span.set_attribute("realtime.tokens_per_second", rate)


def tracer() -> Tracer:
    """Return the tracer of this process. Errors: MissingExtraError; UsageError for an exporter that is not known."""
    try:
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider as SdkProvider
    except ImportError:
        raise MissingExtraError("opentelemetry", "otel") from None
    provider = trace.get_tracer_provider()
    if not isinstance(provider, SdkProvider):
        provider = _own_provider()
    return provider.get_tracer(_SCOPE, __version__)


@functools.cache
def _own_provider() -> TracerProvider:
    """Make the provider of a program that has none; it flushes when the program ends."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

    named = "OTEL_SERVICE_NAME" in os.environ or "service.name" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    provider = TracerProvider(resource=Resource.create({} if named else {"service.name": _SCOPE}))
    kind = os.environ.get("OTEL_TRACES_EXPORTER", "otlp")
    exporter: SpanExporter
    if kind == "none":
        return provider
    if kind == "console":
        import sys

        exporter = ConsoleSpanExporter(out=sys.stderr)
    elif kind == "otlp":
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        except ImportError:
            raise MissingExtraError("opentelemetry-exporter-otlp-proto-http", "otel") from None
        exporter = OTLPSpanExporter()
    else:
        raise UsageError(f"OTEL_TRACES_EXPORTER is {kind!r}; it should be otlp, console or none")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider
