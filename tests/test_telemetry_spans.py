"""OpenTelemetry spans: session > answer > tool, with times and counts and without a word of what was said."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import realtime_client
from realtime_client import updates as up
from realtime_client.protocol.session import FunctionTool
from realtime_client.telemetry.spans import SessionSpans

LIMIT_S = 30.0


class Traced:
    """A tracer whose spans can be read."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.spans = SessionSpans(provider.get_tracer("test"), {"server.address": "here"})

    def finished(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self._exporter.get_finished_spans()}


WEATHER = FunctionTool(
    name="get_weather",
    description="the weather in a city",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)


def test_a_session_with_a_tool():
    traced = Traced()
    with realtime_client.connect(local=True, record=False, turn_detection="none") as client:
        client.observe(traced.spans.observe)
        traced.spans.observe(up.SessionStarted(session_id=client.session_id, facts=up.Facts(model=client.model)), 0.0)
        client.update_session(realtime_client.RealtimeConfig(tools=[WEATHER]))
        answer = client.ask("What is the weather in Paris?")
        (call,) = answer.tool_calls
        client.next_answer(after=lambda: client.send_tool_result(call.call_id, "sunny, 21 degrees"))
    spans = traced.finished()
    session, tool = spans["realtime session"], spans["execute_tool get_weather"]
    answers = [span for span in traced._exporter.get_finished_spans() if span.name == "answer"]
    assert len(answers) == 2
    assert session.parent is None
    for child, parent in ((answers[0], session), (answers[1], session), (tool, answers[0])):
        assert child.parent is not None
        assert child.parent.span_id == parent.context.span_id
        assert (child.end_time or 0) >= (child.start_time or 0) > 10**18
    assert [event.name for event in answers[1].events] == ["first_text", "first_audio"] or [
        event.name for event in answers[1].events
    ] == ["first_audio", "first_text"]
    assert (answers[1].attributes or {})["gen_ai.usage.output_tokens"]
    assert (session.attributes or {})["server.address"] == "here"
    told = "".join(span.to_json() for span in traced._exporter.get_finished_spans())
    assert "Paris" not in told
    assert "sunny" not in told


def test_cuts_failures_and_lost_ends():
    traced = Traced()
    see = traced.spans.observe
    see(up.ResponseStarted(response_id="early"), 0.5)  # before the session: not ours
    see(up.SessionStarted(session_id="s", facts=up.Facts(model="m")), 1.0)
    see(up.ResponseStarted(response_id="r1"), 1.0)
    cut = up.Interrupted(response_id="r1", item_id="i", content_index=0, heard_ms=700, received_ms=900, cause="speech")
    see(cut, 1.5)
    see(up.ResponseDone(response_id="r1", status="failed", reason="server_error"), 2.0)
    see(up.ResponseStarted(response_id="r2"), 2.0)
    see(up.ToolCall(response_id="r2", item_id="i", call_id="c", name="t", arguments="{}"), 2.5)
    see(up.SessionEnded(reason="lost"), 3.0)
    traced.spans.close()
    spans = traced._exporter.get_finished_spans()
    by_name: dict[str, Any] = {}
    for span in spans:
        by_name.setdefault(span.name, []).append(span)
    first, second = by_name["answer"]
    assert (first.attributes["error.type"], first.status.is_ok) == ("server_error", False)
    assert [(event.name, event.attributes["heard_ms"]) for event in first.events] == [("interrupted", 700)]
    assert second.end_time == by_name["execute_tool t"][0].end_time
    assert by_name["realtime session"][0].attributes["error.type"] == "lost"
    assert by_name["realtime session"][0].end_time - by_name["realtime session"][0].start_time == pytest.approx(
        2e9, abs=2
    )


def test_each_result_ends_the_span_of_its_own_call_whatever_the_order():
    traced = Traced()
    see = traced.spans.observe
    see(up.SessionStarted(session_id="s", facts=up.Facts(model="m")), 1.0)
    see(up.ResponseStarted(response_id="r"), 1.0)
    for name in ("slow", "quick"):
        see(up.ToolCall(response_id="r", item_id=name, call_id=name, name=name, arguments="{}"), 1.0)
    for name, at_s in (("quick", 2.0), ("slow", 5.0)):
        see(up.ToolResult(call_id=name, name=name, output="", item_id=f"{name}_result", response_id="r"), at_s)
    spans = traced.finished()
    lengths = [
        (spans[f"execute_tool {name}"].end_time or 0) - (spans[f"execute_tool {name}"].start_time or 0)
        for name in ("quick", "slow")
    ]
    assert lengths == pytest.approx([1e9, 4e9], abs=2)


_PROGRAM = """
import realtime_client
with realtime_client.connect(local=True, record=False, otel=True, modality="text") as client:
    client.ask("What is two plus three?")
"""


def test_spans_go_where_the_standard_variables_say():
    bodies: list[tuple[str, bytes]] = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}"}
        environ["OTEL_SERVICE_NAME"] = "my-service"
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            env=os.environ | environ,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        server.shutdown()
        thread.join(LIMIT_S)
    assert (done.returncode, done.stderr) == (0, "")
    assert {path for path, _ in bodies} == {"/v1/traces"}
    sent = b"".join(body for _, body in bodies)
    assert b"realtime session" in sent
    assert b"my-service" in sent
    assert b"two plus three" not in sent
