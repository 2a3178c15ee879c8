"""Live voice: a person speaks to a microphone, listens to a speaker, and interrupts. Real sound, a real session."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from sound_card import SoundCard, again_after_a_stall, wait_until
from talk_stage import first_loud_s, last_loud_s, speech, stage

from realtime_client import updates as up
from realtime_client.audio.echo.control import EchoMode
from realtime_client.recording.recorder import Recorder
from realtime_client.talk.turns import TalkKey, TurnMode

pytest_plugins = ["sound_card_fixture"]
pytestmark = pytest.mark.skipif(shutil.which("flite") is None, reason="flite, the voice of the user, is not installed")


@again_after_a_stall
def test_a_question_is_heard_and_the_answer_is_audible(sound_card: SoundCard, tmp_path: Path) -> None:
    recorder = Recorder.create(tmp_path, settings={})
    with stage(sound_card, recorder=recorder) as scene, sound_card.hear(1) as tape:
        began = time.monotonic()
        sound_card.speak(speech("What time is it?"))
        heard, _ = scene.wait(up.UserTranscript)
        assert heard.text.lower().rstrip("?") == "what time is it"
        done, _ = scene.wait(up.ResponseDone)
        assert done.status == "completed"
        wait_until(lambda: scene.speaker.idle, 15, "the end of the answer")
        first_loud_s(tape, began)
        assert scene.speaker.underruns == 0
    assert [p.name for p in sorted((recorder.folder / "turns").iterdir())] == ["0001-user.wav", "0002-assistant.wav"]


@again_after_a_stall
def test_speech_cuts_the_answer_where_it_was_heard(sound_card: SoundCard) -> None:
    with stage(sound_card) as scene, sound_card.hear(1) as tape, sound_card.hear_mic(1) as mic:
        scene.tell_a_story()
        began = time.monotonic()
        sound_card.speak(speech("Stop it now please."))
        cut, cut_s = scene.wait(up.Interrupted)
        assert cut.cause == "speech"
        assert 0 < cut.heard_ms < cut.received_ms
        scene.wait(up.SpeechStarted)
        story, _ = scene.wait(up.ResponseDone)
        assert story.status == "cancelled"
        onset_s = first_loud_s(mic, began)
        assert last_loud_s(tape, began - 1, cut_s + 0.25) < onset_s + 0.5
        assert scene.voice.interruptions == 1


@again_after_a_stall
def test_typing_cuts_the_answer_too(sound_card: SoundCard) -> None:
    with stage(sound_card) as scene:
        scene.tell_a_story()
        scene.client.send_text("What time is it?")
        cut, _ = scene.wait(up.Interrupted)
        assert cut.cause == "typed"
        assert 0 < cut.heard_ms < cut.received_ms
        done, _ = scene.wait(up.ResponseDone, 2)
        assert "clock" in done.text


@again_after_a_stall
def test_the_unheard_tail_of_a_finished_answer_is_corrected(sound_card: SoundCard) -> None:
    with stage(sound_card, pace=0) as scene:
        scene.tell_a_story()
        done, _ = scene.wait(up.ResponseDone)
        assert done.status == "completed"
        sound_card.speak(speech("Stop it now please."))
        cut, _ = scene.wait(up.Interrupted)
        assert 0 < cut.heard_ms < cut.received_ms
        scene.wait(up.ResponseDone, 2)  # the reply to the sentence: the server has answered the truncation by now
        assert not [u for u, _ in scene.happened if isinstance(u, up.Failure) and not u.benign]


@again_after_a_stall
def test_half_duplex_does_not_interrupt_itself(sound_card: SoundCard) -> None:
    sound_card.echo()
    with stage(sound_card, echo=EchoMode.HALF_DUPLEX) as scene, sound_card.hear_mic(1) as mic:
        began = time.monotonic()
        scene.client.send_text("Count to five.")
        done, _ = scene.wait(up.ResponseDone)
        wait_until(lambda: scene.speaker.idle, 30, "the end of the answer")
        first_loud_s(mic, began)  # the echo was there
        assert done.status == "completed"
        kinds = {type(u) for u, _ in scene.happened}
        assert up.SpeechStarted not in kinds
        assert up.Interrupted not in kinds


@again_after_a_stall
def test_push_to_talk(sound_card: SoundCard) -> None:
    with stage(sound_card, mode=TurnMode.PUSH_TO_TALK) as scene:
        sent = scene.client.stats().traffic.bytes_out
        sound_card.speak(speech("What time is it?"))
        assert scene.client.stats().traffic.bytes_out - sent < 2000, "nothing is sent before the key is pressed"
        scene.voice.key.press()
        sound_card.speak(speech("What can you do?") + bytes(20_000))
        scene.voice.key.release()
        heard, _ = scene.wait(up.UserTranscript)
        assert "what can you do" in heard.text.lower()
        done, _ = scene.wait(up.ResponseDone)
        assert done.status == "completed"
        assert up.SpeechStarted not in {type(u) for u, _ in scene.happened}


@again_after_a_stall
def test_an_unplugged_microphone_does_not_end_the_session(sound_card: SoundCard) -> None:
    with stage(sound_card) as scene:
        sound_card.speak(speech("What time is it?"))
        scene.wait(up.ResponseDone)
        wait_until(lambda: scene.speaker.idle, 15, "the end of the answer")
        sound_card.unplug(1)
        scene.client.send_text("What can you do?")
        done, _ = scene.wait(up.ResponseDone, 2)
        assert done.status == "completed"
        assert scene.client.error is None


def test_the_key_sends_what_was_said_until_its_release() -> None:
    key = TalkKey()
    assert key.step() == (False, False, False)
    key.press()
    assert key.step() == (True, True, False)
    assert key.step() == (False, True, False)
    key.release()
    assert key.step() == (False, True, True)
    assert key.step() == (False, False, False)


@again_after_a_stall
def test_a_story_has_no_gap_at_the_speaker(sound_card: SoundCard) -> None:
    with stage(sound_card) as scene, sound_card.hear(1) as tape:
        began = time.monotonic()
        scene.client.send_text("Count to five.")
        scene.wait(up.ResponseDone)
        wait_until(lambda: scene.speaker.idle, 30, "the end of the answer")
        first, last = tape.index(first_loud_s(tape, began)), tape.index(last_loud_s(tape, began, time.monotonic()))
        source = np.frombuffer(bytes(next(iter(scene.audio.values()))), np.int16).astype(np.int32)
        loud = np.nonzero(np.abs(source) > 400)[0]
        said_s = (loud[-1] - loud[0]) / 24_000
        assert (last - first) / 48_000 == pytest.approx(said_s, abs=0.05)
        assert scene.speaker.underruns == 0


@again_after_a_stall
def test_a_move_to_another_session_is_not_heard(sound_card: SoundCard) -> None:
    """Twice within an answer that came faster than it is heard."""
    with stage(sound_card, pace=0) as scene, sound_card.hear(1) as tape:
        began = time.monotonic()
        scene.client.send_text("Count to five.")
        scene.wait(up.ResponseDone)
        for moves in (1, 2):
            part = next(iter(scene.audio))
            wait_until(
                lambda part=part, moves=moves: (scene.speaker.heard_ms(*part) or 0) > 500 * moves, 10, "the count"
            )
            scene.client._leaving.by_s = 0.0  # it is high time
            scene.client._leaving.from_s = 0.0
            scene.client._connection.wake.set()
            assert scene.wait(up.Restored, moves)[0].reason == "rollover"
            assert not scene.speaker.idle
        wait_until(lambda: scene.speaker.idle, 30, "the end of the answer")
        first, last = tape.index(first_loud_s(tape, began)), tape.index(last_loud_s(tape, began, time.monotonic()))
        source = np.frombuffer(bytes(next(iter(scene.audio.values()))), np.int16).astype(np.int32)
        loud = np.nonzero(np.abs(source) > 400)[0]
        said_s = (loud[-1] - loud[0]) / 24_000
        assert (last - first) / 48_000 == pytest.approx(said_s, abs=0.02)
        assert scene.speaker.underruns == 0
        assert not [u for u, _ in scene.happened if isinstance(u, up.ConnectionLost | up.Interrupted)]
