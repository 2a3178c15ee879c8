#!/usr/bin/env python3
"""What recording costs: CPU for each audio delta and each microphone block, with and without a recorder.

Both ways in one run, in turns, because machines differ more than programs do: read the ratio. Deltas hold 100 ms,
microphone blocks 20 ms; time is moved by hand, once at the pace of the sound and once in a burst.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from pathlib import Path

from realtime_client.protocol import codec
from realtime_client.protocol import events as ev
from realtime_client.protocol.conversation import Conversation
from realtime_client.protocol.media import meaning_of, media_of
from realtime_client.recording import Recorder

DELTAS = 1_000
BLOCKS = 2_000
ROUNDS = 7
PART = {"response_id": "resp_1", "item_id": "item_1", "output_index": 0, "content_index": 0}


class HandClock:
    """A clock that the program moves."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1.79e9 + self.now


def receive(recorder: Recorder | None, step_s: float) -> float:
    """CPU in us for each delta: decoding, conversation, and the recorder if there is one."""
    frame = codec.encode(ev.ResponseOutputAudioDelta(event_id="event_123", **PART, delta=bytes(range(240)) * 20))
    talk, at_s = Conversation(), 0.0
    begin = time.process_time()
    for _ in range(DELTAS):
        at_s += step_s
        event = codec.decode_server(frame)
        updates = talk.receive(event)
        if recorder is not None:
            recorder.received(frame, media_of(event, frame), updates, at_s)
    return (time.process_time() - begin) / DELTAS * 1e6


def send(recorder: Recorder | None) -> float:
    """CPU in us for each microphone block: encoding, and the recorder if there is one."""
    audio, at_s = bytes(range(240)) * 4, 0.0
    begin = time.process_time()
    for _ in range(BLOCKS):
        at_s += 0.02
        event = ev.InputAudioBufferAppend(audio=audio)
        frame = codec.encode(event)
        if recorder is not None:
            recorder.sent(frame, media_of(event, frame), meaning_of(event), at_s)
    return (time.process_time() - begin) / BLOCKS * 1e6


def measured(base: Path, measure: object) -> tuple[float, float]:
    """Return the medians without and with a recorder."""
    bare, recorded = [], []
    for _ in range(ROUNDS):
        bare.append(measure(None))  # type: ignore[operator]
        recorder = Recorder.create(base, settings={}, secrets=["sk-not-a-key-at-all"], clock=HandClock())
        recorded.append(measure(recorder))  # type: ignore[operator]
        recorder.close(ended="closed", stats={})
        shutil.rmtree(recorder.folder)
    return statistics.median(bare), statistics.median(recorded)


def main() -> None:
    cases = (
        ("audio delta, 100 ms, at its own pace", lambda recorder: receive(recorder, 0.1)),
        ("audio delta, 100 ms, in a burst", lambda recorder: receive(recorder, 0.0005)),
        ("microphone block, 20 ms", send),
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, measure in cases:
            bare, recorded = measured(Path(folder), measure)
            share = (recorded - bare) / (100_000 if "100 ms" in name else 20_000) * 100
            print(
                f"{name:40} {bare:6.1f} us without, {recorded:6.1f} us with recording"
                f" (x{recorded / bare:.1f}; {share:.3f} % of a core at real time)"
            )


if __name__ == "__main__":
    main()
