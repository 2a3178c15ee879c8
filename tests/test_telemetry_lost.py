"""A connection that is lost and had again: in metrics, spans and the log."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from test_telemetry_metrics import check_format

from realtime_client import updates as up
from realtime_client.session.stats import RoundTrip, Stats, Traffic
from realtime_client.telemetry.session import SessionMetrics
from realtime_client.telemetry.session_log import SessionLog
from realtime_client.telemetry.spans import SessionSpans

LOST = up.ConnectionLost(code=1006, reason="the cable", goes_on=True)
TRYING = up.Reconnecting(attempt=1, in_s=0.0, reason="the cable", left_s=300.0)
BACK = up.Restored(
    reason="lost",
    away_ms=2300,
    told=12,
    sent_late=("item_1", "item_2"),
    unknown=("req_1",),
    lost_audio=(up.LostAudio(start_ms=0, end_ms=100), up.LostAudio(start_ms=500, end_ms=520)),
)
ROLLED = up.Restored(reason="rollover", told=14)
GONE = up.ConnectionLost(code=1006, reason="tried for 300 s")


def no_stats() -> Stats:
    counts = {"queue_high_water": {}, "usage": up.Usage(), "transcription_usage": {}}
    return Stats(turn_count=0, turns=[], traffic=Traffic(), round_trip=RoundTrip(), **counts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("happened", "counts"),
    [
        ([LOST, TRYING, BACK, ROLLED], {("lost", "restored"): "1", ("rollover", "restored"): "1"}),
        ([LOST, TRYING, GONE], {("lost", "gave_up"): "1"}),
        ([GONE], {}),
        ([LOST, TRYING, BACK, LOST, BACK, GONE], {("lost", "restored"): "2"}),
    ],
)
def test_metrics_count_connections(happened: list[up.Update], counts: dict[tuple[str, str], str]):
    metrics = SessionMetrics(SimpleNamespace(stats=no_stats))  # type: ignore[arg-type]
    for update in happened:
        metrics.observe(update, 1.0)
    samples = check_format(metrics.render())
    found = {name: value for name, value in samples.items() if name.startswith("realtime_reconnects_total{")}
    assert found == {
        f'realtime_reconnects_total{{reason="{reason}",outcome="{outcome}"}}': count
        for (reason, outcome), count in counts.items()
    }
    times = happened.count(BACK)
    assert samples["realtime_away_seconds_count"] == str(times)
    assert float(samples["realtime_away_seconds_sum"]) == pytest.approx(2.3 * times)
    assert float(samples["realtime_lost_audio_seconds_total"]) == pytest.approx(0.12 * times)


def test_spans_hold_counts_and_no_words():
    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    spans = SessionSpans(provider.get_tracer("test"))
    for update in (up.SessionStarted(session_id="s"), LOST, TRYING, BACK, ROLLED):
        spans.observe(update, 1.0)
    spans.close()
    (session,) = memory.get_finished_spans()
    events = [(event.name, dict(event.attributes or {})) for event in session.events]
    assert events[:2] == [("connection_lost", {"code": 1006, "goes_on": True}), ("reconnecting", {"attempt": 1})]
    restored = {"told": 12, "left_out": 0, "refused": 0, "audio_ms": 0}
    assert events[2] == ("restored", restored | {"reason": "lost", "away_ms": 2300, "lost_audio_ms": 120})
    assert events[3][1]["reason"] == "rollover"
    assert session.status.is_unset


class Lines:
    """A log that notes (level, event, fields)."""

    wants_debug = False

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, object]]] = []

    def info(self, event: str, **fields: object) -> None:
        self.lines.append(("info", event, fields))

    def warning(self, event: str, **fields: object) -> None:
        self.lines.append(("warning", event, fields))


def test_the_log_warns_of_a_loss_and_not_of_what_is_as_planned():
    lines = Lines()
    log = SessionLog(SimpleNamespace(), lines)  # type: ignore[arg-type]
    for update in (LOST, TRYING, BACK, ROLLED):
        log.observe(update, 1.0)
    told = [(level, event) for level, event, _ in lines.lines]
    assert told == [
        ("warning", "connection_lost"),
        *[("info", event) for event in ("reconnecting", "restored", "restored")],
    ]
    restored = lines.lines[2][2]
    assert (restored["away_ms"], restored["sent_late"], restored["unknown"]) == (2300, 2, 1)
    assert restored["lost_audio_ms"] == 120
    assert "lost_audio" not in restored
