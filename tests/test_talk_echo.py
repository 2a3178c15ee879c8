"""Echo control in whole sessions: the microphone hears the speaker, its reflections and noise."""

from __future__ import annotations

import shutil

import pytest
from echo_stage import BargeIn, active_dbfs, listening, room, sentence
from sound_card import SoundCard, again_after_a_stall, wait_until

from realtime_client import updates as up

pytest_plugins = ["sound_card_fixture"]
pytestmark = pytest.mark.skipif(shutil.which("flite") is None, reason="flite, the voice of the user, is not installed")


@pytest.mark.parametrize("mode", ["aec", "half-duplex"])
def test_an_answer_does_not_interrupt_itself_and_a_person_does(sound_card: SoundCard, mode: str) -> None:
    """The echo at the microphone is 3 dB quieter than the person."""

    @again_after_a_stall
    def scene(sound_card: SoundCard) -> None:
        with room(sound_card, 12), listening(sound_card, mode) as listener, sound_card.hear_mic() as mic:
            listener.ask("Say: one, two, three. Four, five, six, seven.")
            listener.wait_silent(20)
            assert active_dbfs(mic.samples) > -45, "the echo was there"
            if not listener.stumbles:  # a device that ran empty moves the echo; tests of the parts have that
                assert listener.onsets_s == []
                assert listener.of(up.SpeechStarted) == []
            made = [BargeIn(listener, mic, sentence("Stop, that is wrong.", -26), wait_s=1.0) for _ in range(2)]
            assert any(one.cut_s is not None and one.server_s is not None for one in made)

    scene(sound_card)


def test_the_ear_of_the_built_in_server_does_not_make_the_sound_stumble(sound_card: SoundCard) -> None:
    """It holds the interpreter's lock for half a second when it is loaded, and again after each sentence."""

    @again_after_a_stall
    def scene(sound_card: SoundCard) -> None:
        with listening(sound_card, "headphones") as listener:
            wait_until(lambda: listener.sound.microphone is not None, 10)
            sound_card.speak(sentence("What is two plus three?", -26))
            wait_until(lambda: listener.of(up.UserTranscript), 15, "what was said")
            assert listener.of(up.DeviceChanged) == []
            assert listener.stumbles == 0

    scene(sound_card)
