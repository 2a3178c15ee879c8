"""The built-in local server, and the interfaces of the parts behind it.

    with LocalServer() as server:
        print(server.url)

Parts are replaced through `Parts(brain=..., ear=..., voice=..., speech_model=...)`. Names are loaded when they are
first used: who only starts a server in a process of its own does without the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtime_client.lazy import loader

if TYPE_CHECKING:
    from realtime_client.audio.speech_model import SpeechModel
    from realtime_client.changes import ToolSpec

    from .brain import Brain, BrainError, BrainTurn, CallTool, CutShort, Say, Spent, Utterance
    from .ear import Ear
    from .faults.fault import Fault
    from .faults.spec import Faults, faults_of_file, parse_faults
    from .parts import Parts
    from .server import LocalServer
    from .text_brain import TextBrain
    from .vad import SpeechBegan, SpeechEnded, VoiceDetector
    from .voice import Voice

_WHERE = {
    "Brain": "brain",
    "BrainError": "brain",
    "BrainTurn": "brain",
    "CallTool": "brain",
    "CutShort": "brain",
    "Ear": "ear",
    "Fault": "faults.fault",
    "Faults": "faults.spec",
    "LocalServer": "server",
    "Parts": "parts",
    "Say": "brain",
    "SpeechBegan": "vad",
    "SpeechEnded": "vad",
    "SpeechModel": "vad",
    "Spent": "brain",
    "TextBrain": "text_brain",
    "ToolSpec": "brain",
    "Utterance": "brain",
    "Voice": "voice",
    "VoiceDetector": "vad",
    "faults_of_file": "faults.spec",
    "parse_faults": "faults.spec",
}

__all__ = [
    "Brain",
    "BrainError",
    "BrainTurn",
    "CallTool",
    "CutShort",
    "Ear",
    "Fault",
    "Faults",
    "LocalServer",
    "Parts",
    "Say",
    "SpeechBegan",
    "SpeechEnded",
    "SpeechModel",
    "Spent",
    "TextBrain",
    "ToolSpec",
    "Utterance",
    "Voice",
    "VoiceDetector",
    "faults_of_file",
    "parse_faults",
]


__getattr__ = loader(__name__, _WHERE)


def __dir__() -> list[str]:
    """The public names."""
    return __all__
