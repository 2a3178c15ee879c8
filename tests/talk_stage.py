"""A person, a sound card that is not there, and a session: what the tests and benchmarks of live voice stand on."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sound_card import RATE_HZ, SoundCard, Tape, wait_until

from realtime_client import updates as up
from realtime_client.audio import devices
from realtime_client.audio.echo.control import EchoControl, EchoMode
from realtime_client.audio.files import read_audio
from realtime_client.audio.microphone import Microphone
from realtime_client.audio.speaker import Speaker
from realtime_client.client.client import RealtimeClient
from realtime_client.client.endpoint import Endpoint
from realtime_client.local import LocalServer
from realtime_client.protocol.session import Audio, AudioInput, RealtimeConfig, Transcription
from realtime_client.session.limits import Recovery
from realtime_client.talk.turns import TurnMode
from realtime_client.talk.voice import LiveVoice
from realtime_client.updates import AudioFormat

LOUD = 400


def speech(text: str, rate_hz: int = RATE_HZ, voice: str = "slt") -> bytes:
    """The user's voice: 16-bit mono PCM of a sentence, without the silence around it."""
    assert shutil.which("flite"), "flite is not installed"
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "said.wav"
        subprocess.run(["flite", "-voice", voice, "-t", text, "-o", str(wav)], check=True, timeout=20)
        pcm = np.frombuffer(read_audio(wav, AudioFormat("pcm16", rate_hz)), np.int16)
    loud = np.nonzero(np.abs(pcm.astype(np.int32)) > LOUD)[0]
    return pcm[loud[0] : loud[-1] + 1].tobytes()


class Stage:
    """One open session with live voice, and everything that happens in it."""

    def __init__(self, client: RealtimeClient, voice: LiveVoice, speaker: Speaker, card: SoundCard) -> None:
        self.client, self.voice, self.speaker, self.card = client, voice, speaker, card
        self.happened: list[tuple[up.Update, float]] = []
        self.audio: dict[tuple[str, int], bytearray] = {}
        client.observe(self._note, direct=True)

    def _note(self, update: up.Update, at_s: float) -> None:
        if type(update) is up.AudioDelta:
            self.audio.setdefault((update.item_id, update.content_index), bytearray()).extend(update.audio)
        self.happened.append((update, at_s))

    def wait(self, kind: type[up.Update], count: int = 1, limit_s: float = 15.0) -> tuple[Any, float]:
        """The count-th update of a kind, and when it came."""

        def found() -> Any:
            return [entry for entry in list(self.happened) if type(entry[0]) is kind][count - 1 : count]

        return wait_until(found, limit_s, kind.__name__)[0]

    def forget(self) -> None:
        """Begin a new scene."""
        self.happened.clear()
        self.audio.clear()

    def tell_a_story(self) -> None:
        """Have the assistant speak for a minute, and wait until it is heard."""
        self.client.send_text("Tell me a long story.")

        def heard() -> bool:
            return any((self.speaker.heard_ms(*part) or 0) > 500 for part in list(self.audio))

        wait_until(heard, 10, "the story to be heard")


@contextlib.contextmanager
def stage(
    card: SoundCard,
    *,
    mode: TurnMode = TurnMode.SERVER_VAD,
    echo: EchoMode = EchoMode.HEADPHONES,
    local_onset: bool = True,
    recorder: Any = None,
    pace: float = 10.0,
    url: str = "",
) -> Iterator[Stage]:
    """Open a session with the local server (or the one at `url`) and both devices of the sound card."""
    voice = LiveVoice(mode=mode, local_onset=local_onset)
    with contextlib.ExitStack() as stack:
        where = url or stack.enter_context(LocalServer(pace=pace)).url
        session = RealtimeConfig(audio=Audio(input=AudioInput(transcription=Transcription(model="gpt-transcribe"))))
        place = Endpoint(url=where, proxy=None)
        more = {"recorder": recorder, "recovery": Recovery()}
        client = RealtimeClient(place, session=session, heard_ms=voice.heard_ms, **more)
        with client:
            control = EchoControl(client.input_format.rate_hz, echo)
            speaker = Speaker(devices.choose("card1", "output"), on_far=control.far)
            voice.start(client, speaker, control)
            microphone = Microphone(devices.choose("card1", "input"), on_block=voice.on_block)
            voice.use_microphone(microphone)
            voice.set_mode(mode)
            try:
                yield Stage(client, voice, speaker, card)
            finally:
                voice.close()


def last_loud_s(tape: Tape, after_s: float, before_s: float, level: int = LOUD) -> float:
    """When the last audible sample between two moments was recorded."""
    first, last = max(0, tape.index(after_s)), tape.index(before_s)
    loud = np.nonzero(np.abs(tape.samples[first:last].astype(np.int32)) > level)[0]
    assert len(loud), "nothing was audible"
    return tape.at_s(first + int(loud[-1]))


def first_loud_s(tape: Tape, after_s: float, level: int = LOUD) -> float:
    """When the first audible sample after a moment was recorded."""
    first = max(0, tape.index(after_s))
    loud = np.nonzero(np.abs(tape.samples[first:].astype(np.int32)) > level)[0]
    assert len(loud), "nothing was audible"
    return tape.at_s(first + int(loud[0]))
