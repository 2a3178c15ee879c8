"""What conversation.wav says was heard, against the monitors of the sound card: under jitter, at a cut, on two devices."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from jittery import FRAME_S, VOICE_HZ, JitteryServer, arrivals, gaps_ms, lags_ms, noise, recorded, started_s
from sound_card import RATE_HZ, SoundCard, StallWatch, Tape, again_after_a_stall, wait_until
from talk_stage import Stage, last_loud_s, stage

from realtime_client import updates as up
from realtime_client.recording.recorder import Recorder

pytest_plugins = ["sound_card_fixture"]
NEAR_MS = 20.0  # what is promised


def lags(folder: Path, tape: Tape, after_s: float = 0.0, before_s: float = 1e9, side: int = 1) -> np.ndarray:
    """Lags in ms of the windows with sound between two seconds; there must be some, and few that are unlike."""
    all_rows = lags_ms(recorded(folder, side), started_s(folder, time.time() - time.monotonic()), tape)
    rows = np.array([row for row in all_rows if after_s <= row[0] < before_s])
    assert len(rows) >= 3
    sure = rows[rows[:, 2] > 0.8]
    assert len(sure) >= 0.9 * len(rows)
    return sure[:, 1]


def heard(scene: Stage, at_least_ms: int) -> None:
    wait_until(
        lambda: any((scene.speaker.heard_ms(*part) or 0) > at_least_ms for part in list(scene.audio)), 10, "sound"
    )


@again_after_a_stall
def test_frames_that_jitter_play_without_a_gap_and_stand_where_they_were_heard(
    sound_card: SoundCard, tmp_path: Path
) -> None:
    sound, early = noise(8.0), np.arange(40) * FRAME_S / 10
    recorder = Recorder.create(tmp_path / str(time.monotonic()), settings={})
    with (
        JitteryServer(sound, [arrivals(4.0, 0.25), early]) as server,
        sound_card.hear() as tape,
        StallWatch() as stalls,
    ):
        with stage(sound_card, recorder=recorder, url=server.url) as scene:
            scene.client.respond()
            scene.wait(up.ResponseDone)
            wait_until(lambda: scene.speaker.idle, 10, "the end of the first answer")
            quiet_s = time.monotonic()
            assert scene.speaker.underruns == 0
            scene.forget()
            scene.client.respond()
            scene.wait(up.ResponseDone)
            heard(scene, 1000)
            scene.client.interrupt("cancel")
            cut, cut_s = scene.wait(up.Interrupted)
            assert 0 < cut.heard_ms < cut.received_ms == 4000
            wait_until(lambda: time.monotonic() > cut_s + 0.3, 5)
        silences = gaps_ms(tape.samples[: tape.index(quiet_s)], RATE_HZ)
        assert silences.max() - gaps_ms(sound, VOICE_HZ).max() <= NEAR_MS + stalls.worst_s * 1000
        assert abs(last_loud_s(tape, quiet_s, time.monotonic()) - last_loud_recorded_s(recorder.folder)) < 0.05
    found = lags(recorder.folder, tape)
    assert np.abs(found - np.median(found)).max() <= NEAR_MS
    assert abs(np.median(found)) <= NEAR_MS
    first, second = turns(recorder.folder)
    assert abs(first["end_s"] - first["start_s"] - 4.0) < 0.02
    assert second["cut_ms"] == cut.heard_ms
    assert abs((second["end_s"] - second["start_s"]) * 1000 - cut.heard_ms) < NEAR_MS


def last_loud_recorded_s(folder: Path) -> float:
    """When the last sound of the assistant was, by the recording, on the monotonic clock."""
    loud = np.flatnonzero(np.abs(recorded(folder)) > 400)
    return started_s(folder, time.time() - time.monotonic()) + float(loud[-1]) / RATE_HZ


def turns(folder: Path) -> list[dict]:
    import json

    return [json.loads(line) for line in (folder / "transcript.jsonl").read_text().splitlines()]


@again_after_a_stall
def test_what_a_lost_speaker_held_is_heard_on_the_next(sound_card: SoundCard, tmp_path: Path) -> None:
    sound = noise(4.0)
    recorder = Recorder.create(tmp_path / str(time.monotonic()), settings={})
    with (
        JitteryServer(sound, [np.arange(30) * FRAME_S / 10]) as server,
        sound_card.hear(1) as first,
        sound_card.hear(2) as second,
    ):
        with stage(sound_card, recorder=recorder, url=server.url) as scene:
            scene.client.respond()
            heard(scene, 1000)
            sound_card.suspend(1)
            wait_until(lambda: scene.speaker.device and scene.speaker.device.name != "card1", 8, "another device")
            wait_until(lambda: scene.speaker.idle, 10, "the end of the answer")
            wait_until(lambda: np.mean(np.abs(second.samples[-2400:])) < 60, 5, "silence")
        loud = [tape.loud(60) for tape in (first, second)]
        played_s = [float(at[-1] - at[0] + 1) / RATE_HZ for at in loud]
        # Nothing is missing. The last block before a loss may come twice, also that of a device that was tried in vain.
        assert 3.0 - 0.03 < sum(played_s) < 3.0 + 0.3
        right = recorded(recorder.folder)
        sounds = np.flatnonzero(np.abs(right) >= 60)
        longest = int(np.argmax(np.diff(sounds)))
        gap_s, on_s = sounds[longest] / RATE_HZ, sounds[longest + 1] / RATE_HZ
        assert on_s - gap_s > 0.2  # the gap is in the recording as well
        on_first = lags(recorder.folder, first, before_s=gap_s - 0.2)
        on_second = lags(recorder.folder, second, after_s=on_s)
        assert max(np.abs(on_first).max(), np.abs(on_second).max()) <= NEAR_MS


@again_after_a_stall
def test_the_user_stands_where_it_was_captured(sound_card: SoundCard, tmp_path: Path) -> None:
    recorder = Recorder.create(tmp_path / str(time.monotonic()), settings={})
    with JitteryServer(noise(1.0), []) as server, sound_card.hear_mic() as tape:
        with stage(sound_card, recorder=recorder, url=server.url, local_onset=False) as scene:
            sent = scene.client.stats().traffic.bytes_out
            sound_card.speak(noise(2.0, seed=7).tobytes(), rate_hz=VOICE_HZ)
            wait_until(lambda: scene.client.stats().traffic.bytes_out > sent + 120_000, 10, "the last of it to be sent")
    found = lags(recorder.folder, tape, side=0)
    assert np.abs(found).max() <= NEAR_MS
