"""The built-in local server, and the interfaces of the parts behind it.

    with LocalServer() as server:
        print(server.url)

Parts are replaced through `Parts(brain=..., ear=..., voice=..., speech_model=...)`.
"""

from realtime_client.audio.speech_model import SpeechModel
from realtime_client.changes import ToolSpec

from .brain import Brain, BrainTurn, CallTool, Say, Utterance
from .ear import Ear
from .parts import Parts
from .server import LocalServer
from .vad import SpeechBegan, SpeechEnded, VoiceDetector
from .voice import Voice

__all__ = [
    "Brain",
    "BrainTurn",
    "CallTool",
    "Ear",
    "LocalServer",
    "Parts",
    "Say",
    "SpeechBegan",
    "SpeechEnded",
    "SpeechModel",
    "ToolSpec",
    "Utterance",
    "Voice",
    "VoiceDetector",
]
