"""A program that records a talk, 20 times as fast as one, to be killed. Tells in one line of JSON after each turn.

Usage: recording_victim.py FOLDER
"""

import json
import sys
import threading
from pathlib import Path

from recording_helpers import Stage, sound

from realtime_client.deadline import SYSTEM_CLOCK
from realtime_client.protocol import events as ev

SPEED = 20


def tell(**what) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main() -> None:
    begin = SYSTEM_CLOCK.monotonic()
    stage = Stage(Path(sys.argv[1]), now=0.0)
    tell(folder=str(stage.folder))
    never, sent = threading.Event(), 0
    for i in range(10_000):
        previous = f"a{i - 1}" if i else None
        first = sent
        for block in range(75):
            ahead_s = (sent + 1) * 0.02 - (SYSTEM_CLOCK.monotonic() - begin) * SPEED
            if ahead_s > 0:
                never.wait(ahead_s / SPEED)
            stage.clock.now = max(stage.clock.now, (SYSTEM_CLOCK.monotonic() - begin) * SPEED)
            stage.say(ev.InputAudioBufferAppend(audio=sound(0.02, 1 + block)))
            sent += 1
            if block == 25:
                stage.hear(ev.InputAudioBufferSpeechStarted(item_id=f"u{i}", audio_start_ms=first * 20 + 100))
            if block == 50:
                stage.hear(ev.InputAudioBufferSpeechStopped(item_id=f"u{i}", audio_end_ms=first * 20 + 900))
                stage.committed(f"u{i}", previous, f"said {i}")
                stage.answer_begins(f"a{i}", f"r{i}", f"u{i}")
                stage.answer_text(f"a{i}", f"r{i}", f"answer {i}")
            if block > 50:
                delta = ev.ResponseOutputAudioDelta(**stage.part(f"a{i}", f"r{i}"), delta=sound(0.1, 5000))
                stage.hear(delta)
        stage.answer_ends(f"a{i}", f"r{i}", f"answer {i}", f"u{i}")
        tell(turns=i + 1, sent_s=sent * 0.02)


if __name__ == "__main__":
    main()
