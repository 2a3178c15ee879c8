"""The built-in local server, and the interfaces of the parts behind it.

    with LocalServer() as server:
        print(server.url)

Parts are replaced through `Parts(brain=..., ear=..., voice=..., speech_model=...)`.
"""

from .brain import Brain, BrainTurn, CallTool, Say, ToolSpec, Utterance
from .ear import Ear
from .parts import Parts
from .server import LocalServer
from .vad import SpeechModel, SpeechStarted, SpeechStopped, VoiceDetector
from .voice import Voice

__all__ = [
    "Brain",
    "BrainTurn",
    "CallTool",
    "Ear",
    "LocalServer",
    "Parts",
    "Say",
    "SpeechModel",
    "SpeechStarted",
    "SpeechStopped",
    "ToolSpec",
    "Utterance",
    "Voice",
    "VoiceDetector",
]
