"""What the log tells of a session."""

from __future__ import annotations

import json

from realtime_client import logs
from realtime_client import updates as up
from realtime_client.session.stats import TurnStats
from realtime_client.telemetry.session_log import SessionLog


class FakeSession:
    """A session with the figures of one turn."""

    def timings(self, response_id: str | None) -> TurnStats | None:
        turn = TurnStats(response_id="r", status="completed", first_text_ms=12.5)
        return turn if response_id == turn.response_id else None


def logged(tmp_path, level, *updates):
    path = tmp_path / "log"
    with logs.configured(level, file=path, as_json=True):
        log = SessionLog(FakeSession())  # type: ignore[arg-type]
        for update in updates:
            log.observe(update, 0.0)
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_milestones_at_info_with_figures_and_usage(tmp_path):
    lines = logged(
        tmp_path,
        "info",
        up.SessionStarted(session_id="s", facts=up.Facts(model="m"), settings={"instructions": "secret plan"}),
        up.TextDelta(response_id="r", item_id="i", content_index=0, text="unseen"),
        up.ResponseDone(response_id="r", status="completed", text="unseen", usage=up.Usage(total_tokens=3)),
        up.Failure(message="oh", code="c"),
        up.Failure(message="no matter", benign=True),
    )
    assert [line["event"] for line in lines] == ["session_started", "response_done", "failure", "failure"]
    assert [line["level"] for line in lines] == ["info", "info", "warning", "info"]
    assert lines[1]["first_text_ms"] == 12.5
    assert lines[1]["usage"] == {"total_tokens": 3}
    assert "unseen" not in str(lines)
    assert "secret plan" not in str(lines)


def test_debug_tells_sizes_but_no_contents(tmp_path):
    lines = logged(
        tmp_path,
        "debug",
        up.TextDelta(response_id="r", item_id="i", content_index=0, text="unseen"),
        up.AudioDelta(response_id="r", item_id="i", content_index=0, audio=b"\0" * 480),
    )
    assert (lines[0]["text_length"], lines[1]["audio_length"]) == (6, 480)
    assert "unseen" not in str(lines)


def test_lines_can_go_elsewhere_than_stderr(capsys):
    lines: list[str] = []
    with logs.configured("info", write=lines.append):
        logs.Log("test").info("seen")
    assert len(lines) == 1
    assert "seen" in lines[0]
    assert capsys.readouterr().err == ""
