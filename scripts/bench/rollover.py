"""An hour of talk in sessions of five minutes, in a fraction of the time: what is heard of the moves between them.

The local server's sessions are left after LASTS seconds instead of 300; answers come and are heard in real time, one
after the other, and in each session something is said aloud. Silence is counted by what a device would be handed; the
code word was told at the beginning.

    python scripts/bench/rollover.py [SESSIONS] [LASTS]
"""

from __future__ import annotations

import resource
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from rollover_stage import RECOVERY, SPOKEN, WAIT_S, Stage, said, stage
from sound_card import wait_until

from realtime_client import updates as up
from realtime_client.batch.results.summary import spread
from realtime_client.changes import Changes
from realtime_client.history import replay


def resident_mb() -> float:
    """What the process has in memory, the server included."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def say_aloud(scene: Stage) -> None:
    """Say something into the microphone, and hear the answer."""
    spoken, done = len(scene.all(up.UserTranscript)), whole(scene)
    scene.speak()
    heard = scene.wait(up.UserTranscript, spoken + 1).text.lower()
    assert heard == SPOKEN, heard
    wait_until(lambda: whole(scene) > done, WAIT_S, "the answer")
    scene.hears()


def whole(scene: Stage) -> int:
    """How many answers are complete."""
    return sum(each.status == "completed" for each in scene.all(up.ResponseDone))


def main() -> None:
    arguments = [float(each) for each in sys.argv[1:]]
    sessions, lasts_s = (*arguments, *(12.0, 15.0)[len(arguments) :])
    tokens: list[float] = []
    with stage(lasts_s) as scene:
        client = scene.client

        def count(update: up.Update, _at_s: float) -> None:
            if isinstance(update, up.Restored):
                entries = client._conversation.entries()  # noqa: SLF001 - it tells nobody else
                tokens.append(replay(entries, most_tokens=RECOVERY.restore_tokens).tokens)

        client.observe(count)
        client.change(Changes(transcription="gpt-transcribe"))
        client.ask("The code word is banana.", timeout_s=WAIT_S)
        scene.hears()
        say_aloud(scene)  # now the server has its ear in memory, too
        began_s, threads, begin_mb, answers = time.monotonic(), threading.active_count(), resident_mb(), 0
        while scene.moved < sessions:
            answers += 1
            if answers % 4 == 0:
                say_aloud(scene)
                continue
            text = f"Ship {answers} sails at noon."
            answer = client.ask(f"Repeat after me: {text}", timeout_s=WAIT_S)
            assert answer.text == text, answer
            scene.hears()
        known = client.ask("What is the code word?", timeout_s=WAIT_S).text
        same = scene.brain.knows == said(scene)
        took_s, end_mb, left = time.monotonic() - began_s, resident_mb(), threading.active_count() - threads
    told = spread(tokens)
    assert told is not None
    tokens_told = f"told anew: p50 {told.p50:.0f}, at most {told.max:.0f} tokens"
    restored = scene.all(up.Restored)
    lost_ms = sum(lost.end_ms - lost.start_ms for each in restored for lost in each.lost_audio)
    again = sum(each.asked_again is not None for each in restored)
    print(f"{scene.moved} rollovers in {took_s:.0f} s, {answers} answers; {len(scene.all(up.ConnectionLost))} lost")
    print(f"longest gap heard {scene.listener.longest_gap_ms:.0f} ms, {scene.listener.playback.underruns} underruns")
    print(f"{tokens_told}; {again} answers asked again, {lost_ms} ms lost")
    print(f"the server knows what this side does: {same}; the code word: {known}")
    print(f"memory {begin_mb:.0f} MB at first, {end_mb:.0f} MB at last; {left:+d} threads")


if __name__ == "__main__":
    main()
