"""A device that was lost in the session is marked in its recording."""

from __future__ import annotations

import json
from pathlib import Path

from realtime_client import updates as up
from realtime_client.deadline import SYSTEM_CLOCK
from realtime_client.recording.recorder import Recorder


def test_a_gap_is_marked_in_summary_and_transcript(tmp_path: Path) -> None:
    recorder = Recorder.create(tmp_path, settings={})
    now = SYSTEM_CLOCK.monotonic()
    recorder.noticed(up.ItemAdded(item_id="a", role="user", item_type="message", text="before", local=True), now)
    recorder.noticed(
        up.DeviceChanged(direction="input", device="card2", reason="card1 is gone: now card2", gap_ms=420), now + 1
    )
    recorder.noticed(up.ItemAdded(item_id="b", role="user", item_type="message", text="after", local=True), now + 2)
    recorder.close(ended="closed", stats={})
    gaps = json.loads((recorder.folder / "session.json").read_text())["gaps"]
    assert len(gaps) == 1
    assert gaps[0]["direction"] == "input"
    assert round(gaps[0]["to_s"] - gaps[0]["from_s"], 3) == 0.42
    lines = [json.loads(line) for line in (recorder.folder / "transcript.jsonl").read_text().splitlines()]
    assert [line["who"] for line in lines] == ["user", "note", "user"]
    assert "420 ms without sound" in lines[1]["text"]
    assert "**Note**" in (recorder.folder / "transcript.md").read_text()
    assert "card1" not in (recorder.folder / "transcript.vtt").read_text()
