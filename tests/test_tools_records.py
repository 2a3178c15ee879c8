"""What is left of tools in a recording, its report, metrics and spans."""

from __future__ import annotations

import json
import re
from pathlib import Path

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from test_telemetry_metrics import check_format
from tool_helpers import WAIT_S, Own, Scripted, running, until

import realtime_client
from realtime_client import updates as up
from realtime_client.local.brain import CallTool, Say
from realtime_client.report.write import write_report
from realtime_client.telemetry.session import SessionMetrics
from realtime_client.telemetry.spans import SessionSpans

HOSTILE = "<script>alert(1)</script> \x1b[2J"


def late(_arguments: object, context: object) -> str:
    context.wait(WAIT_S)  # type: ignore[attr-defined]
    return ""


def test_a_recording_tells_what_tools_did(tmp_path: Path):
    tools = [Own("weather", lambda _a, _c: HOSTILE), Own("clock", late, timeout_s=0.05)]
    with realtime_client.connect(local=True, modality="text", record_dir=tmp_path, tools=tools) as session:
        session.ask("What is the weather in Rome?", timeout_s=WAIT_S)
        session.ask("What does the clock say?", timeout_s=WAIT_S)
    (folder,) = tmp_path.iterdir()
    lines = [json.loads(line) for line in (folder / "transcript.jsonl").read_text().splitlines()]
    results = [line for line in lines if line.get("type") == "function_call_output"]
    assert [(line["tool"], line["outcome"]) for line in results] == [("weather", "completed"), ("clock", "timed_out")]
    assert all(line["tool_ms"] >= 0 for line in results)
    assert json.loads((folder / "session.json").read_text())["tools"] == {"completed": 1, "timed_out": 1}
    shown = (folder / "transcript.md").read_text()
    assert "*(timed out after 0." in shown
    assert "\x1b" not in shown
    page = write_report(folder).path.read_text()
    assert "2 (1 not completed)" in page
    assert re.search(r"returned after [\d.]+ ms<", page)
    assert "timed out" in page
    assert "<script>alert" not in page
    assert "\x1b" not in page


def test_metrics_and_spans_tell_how_tools_ended():
    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    brain = Scripted([CallTool("weather", "{}"), CallTool("clock", "{}")], [Say("Done.")])
    tools = [Own("weather", lambda _a, _c: "sunny"), Own("clock", late, timeout_s=0.05)]
    with running(brain, *tools) as (session, _, updates):
        metrics, spans = SessionMetrics(session), SessionSpans(provider.get_tracer("test"))
        session.observe(metrics.observe)
        session.observe(spans.observe)
        spans.observe(up.SessionStarted(session_id="s"), 0.0)
        session.ask("Weather and time?", timeout_s=WAIT_S)
        until(updates, up.AnswerFollows)
        spans.close()
        text = check_format(metrics.render())
    assert text['realtime_tool_outcomes_total{status="completed"}'] == "1"
    assert text['realtime_tool_outcomes_total{status="timed_out"}'] == "1"
    assert text["realtime_tool_seconds_count"] == "2"
    calls = {span.name: span for span in memory.get_finished_spans() if span.name.startswith("execute_tool")}
    assert calls["execute_tool weather"].attributes["realtime.tool.status"] == "completed"
    assert calls["execute_tool clock"].status.status_code is StatusCode.ERROR
    assert [event.name for event in calls["execute_tool weather"].events] == ["tool_started", "tool_finished"]
