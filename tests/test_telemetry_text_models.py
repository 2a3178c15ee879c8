"""Metrics and spans of sessions with text models."""

from __future__ import annotations

import json

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from test_telemetry_metrics import check_format, free_port, get
from text_server import TextServer, answers, delta, drops, ends, refuses, silent, stream

import realtime_client
from realtime_client import updates as up
from realtime_client.errors import HostUnreachableError, ResponseFailedError
from realtime_client.telemetry.answers import Writings
from realtime_client.telemetry.session_log import _fields
from realtime_client.telemetry.spans import SessionSpans, _model

LIMIT_S = 30.0
BUSY = refuses(503, {"error": {"message": "what was said about Paris", "code": "overloaded"}})
FIRST, SECOND = "openai/first", "openai/second"


def chain(first: TextServer, second: TextServer | None = None, **values: object):
    more = {} if second is None else {"fallback": SECOND, "base_url": second.url, "api_key": "sk-123456789"}
    given = {"model": FIRST, "url": first.url, "token": "sk-123456789", "record": False, "retry_delay_s": 0.01}
    return realtime_client.connect(**given | more | values)


def test_metrics_of_a_session_with_a_chain():
    port = free_port()
    dies = stream(delta("One, "), drops)
    with TextServer(answers("a", "b", "c"), BUSY, dies) as first, TextServer(answers("two."), refuses(400)) as second:
        with chain(first, second, retries=1, metrics_port=port) as session:
            session.ask("Hi", timeout_s=LIMIT_S)
            assert session.ask("Count", timeout_s=LIMIT_S).text == "One, two."
            with pytest.raises(ResponseFailedError):
                session.ask("And?", timeout_s=LIMIT_S)
            samples = check_format(get(f"http://127.0.0.1:{port}/metrics")[2])
    assert samples['realtime_answers_total{status="completed"}'] == "2"
    assert samples['realtime_latency_seconds_count{latency="first_text"}'] == "3"
    assert samples[f'realtime_first_token_seconds_count{{model="{FIRST}"}}'] == "1"
    assert float(samples[f'realtime_first_token_seconds_sum{{model="{FIRST}"}}']) > 0
    assert samples[f'realtime_pieces_total{{model="{FIRST}"}}'] == "3"
    assert samples[f'realtime_request_retries_total{{model="{FIRST}"}}'] == "1"
    assert int(samples[f'realtime_fallbacks_total{{model="{FIRST}"}}']) >= 2
    assert samples['realtime_failures_total{category="application",action="retry"}'] == "1"
    assert int(samples['realtime_failures_total{category="network",action="fallback"}']) >= 1
    assert samples['realtime_failures_total{category="application",action="fatal"}'] == "1"
    assert samples[f'realtime_breaker_state{{model="{SECOND}",state="closed"}}'] == "1"
    assert samples[f'realtime_breaker_state{{model="{SECOND}",state="open"}}'] == "0"
    assert samples['realtime_tokens_total{direction="out"}'] == "6"


def test_the_breaker_that_opens_is_seen():
    port = free_port()
    with TextServer(BUSY) as server:
        with chain(server, retries=5, metrics_port=port) as session:
            with pytest.raises(HostUnreachableError):
                session.ask("Hi", timeout_s=LIMIT_S)
            samples = check_format(get(f"http://127.0.0.1:{port}/metrics")[2])
    assert samples[f'realtime_breaker_state{{model="{FIRST}",state="open"}}'] == "1"
    assert samples[f'realtime_breaker_state{{model="{FIRST}",state="closed"}}'] == "0"


def test_a_session_with_sound_has_none_of_these():
    writings = Writings()
    assert writings.take(up.SessionStarted(session_id="s", facts=up.Facts(model="gpt-realtime")), 0.0) is None
    assert writings.take(up.ResponseStarted(response_id="r"), 1.0) is None
    assert writings.take(up.ResponseDone(response_id="r", status="completed"), 2.0) is None


@pytest.mark.parametrize(
    ("pieces_s", "tokens", "first_s", "rate"),
    [((), 5, None, None), ((1.5,), 5, 0.5, None), ((1.5, 2.0, 2.5), 10, 0.5, 10.0), ((1.5, 2.5), None, 0.5, None)],
)
def test_how_fast_an_answer_came(pieces_s, tokens, first_s, rate):
    writings = Writings()
    facts = up.Facts(model=FIRST, modalities=("text",), abilities=up.Abilities(audio_in=False))
    writings.take(up.SessionStarted(session_id="s", facts=facts), 0.0)
    writings.take(up.ResponseStarted(response_id="r"), 1.0)
    for at_s in pieces_s:
        writings.take(up.TextDelta(response_id="r", item_id="i", content_index=0, text="x"), at_s)
    done = writings.take(up.ResponseDone(response_id="r", status="completed"), 9.0)
    assert done is not None
    usage = None if tokens is None else up.Usage(output_tokens=tokens)
    assert (done.pieces, done.first_token_s(), done.tokens_per_s(usage)) == (len(pieces_s), first_s, rate)


def test_spans_name_models_and_say_nothing_of_what_was_said():
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    spans = SessionSpans(provider.get_tracer("test"))
    dies = stream(delta("In Paris, "), drops)
    with TextServer(BUSY, dies) as first, TextServer(stream(delta("it is sunny."), ends())) as second:
        with chain(first, second, retries=1) as session:
            spans.observe(up.SessionStarted(session_id=session.session_id, facts=session.facts), 0.0)
            session.observe(spans.observe)
            session.ask("How is Paris?", timeout_s=LIMIT_S)
    spans.close()
    by_name = {span.name: span for span in exporter.get_finished_spans()}
    answer, whole = by_name["answer"], by_name["realtime session"]
    assert (whole.attributes or {})["gen_ai.provider.name"] == "openai"
    attributes = answer.attributes or {}
    assert (attributes["gen_ai.request.model"], attributes["gen_ai.response.model"]) == ("first", "second")
    assert attributes["gen_ai.response.time_to_first_chunk"] > 0
    assert (attributes["realtime.pieces"], attributes["gen_ai.usage.output_tokens"]) == (2, 3)
    told = [(event.name, (event.attributes or {}).get("model")) for event in answer.events]
    assert told == [
        ("retry", FIRST), ("first_text", None), ("fallback", FIRST), ("answer_source", SECOND),
    ]  # fmt: skip
    assert dict(answer.events[0].attributes or {})["error.type"] == "overloaded"
    everything = json.dumps([json.loads(span.to_json()) for span in exporter.get_finished_spans()])
    assert "Paris" not in everything
    assert "sunny" not in everything


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("gpt-realtime", {"gen_ai.request.model": "gpt-realtime"}),
        ("org/own-realtime", {"gen_ai.request.model": "org/own-realtime"}),
        ("ollama/llama3.2", {"gen_ai.request.model": "llama3.2", "gen_ai.provider.name": "ollama"}),
        ("azure/a/b", {"gen_ai.request.model": "a/b", "gen_ai.provider.name": "azure.ai.openai"}),
    ],
)
def test_models_are_named_as_the_conventions_want_it(name, attributes):
    assert _model(name, "request") == attributes


def test_the_log_has_no_answer_that_stands_beside_another():
    fields = _fields(up.Alternatives(item_id="i", texts=("secret", "plan"), chosen=1))
    assert fields == {"item_id": "i", "lengths": [6, 4], "chosen": 1}


def test_an_answer_that_never_ends_has_a_span_that_does():
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    spans = SessionSpans(provider.get_tracer("test"))
    with TextServer(stream(delta("One"), silent)) as server, chain(server) as session:
        spans.observe(up.SessionStarted(session_id=session.session_id, facts=session.facts), 0.0)
        session.observe(spans.observe)
        with session.updates(LIMIT_S) as updates:
            session.send_text("Count")
            next(update for update in updates if isinstance(update, up.TextDelta))
            session.cancel()
            next(update for update in updates if isinstance(update, up.ResponseDone))
    (answer,) = [span for span in exporter.get_finished_spans() if span.name == "answer"]
    assert (answer.attributes or {})["realtime.status"] == "cancelled"
