"""What a local server is made of. Each part can be replaced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from realtime_client.audio.speech_model import SpeechModel

from .brain import Brain
from .demo_brain import DemoBrain
from .ear import Ear, default_ear
from .vad import default_model
from .voice import Voice, default_voice


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of a local server; what is not given is the best one that is installed.

    brain: decides what to say. ear: speech to text. voice: text to speech. speech_model: makes a fresh rater of speech
    for each stream (see `vad`). Brain, ear and voice are shared by all sessions and called from several threads. They
    belong to the server, which closes the brain at its end if it has a method `close`.
    """

    brain: Brain = field(default_factory=DemoBrain)
    ear: Ear = field(default_factory=default_ear)
    voice: Voice = field(default_factory=default_voice)
    speech_model: Callable[[], SpeechModel] = default_model
