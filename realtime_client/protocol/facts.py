"""A session's settings on the wire, said in neutral words, and neutral changes said in the wire's. Pure."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from realtime_client.changes import Changes, ToolSpec, TurnEnd
from realtime_client.history import History
from realtime_client.updates import Abilities, Facts

from .session import (
    Audio,
    AudioInput,
    AudioOutput,
    FunctionTool,
    RealtimeConfig,
    SemanticVad,
    ServerVad,
    Transcription,
    audio_format,
    trailing_silence_ms,
    turn_detection,
)
from .usage import quantity

_MOST_TOOLS = 256
_CONVERSATION = Abilities()
_TRANSCRIPTION = Abilities(images_in=False, answers=False, tools=False, truncation=False)
_NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}}


def facts_of(session: dict[str, Any]) -> Facts:
    """Return what an effective session (GA or beta shape) says; what it leaves open is the protocol's default."""
    expires = quantity(session.get("expires_at"))
    voice = _member(session, "audio", "output", "voice") or session.get("voice") or ""
    return Facts(
        model=str(session.get("model") or ""),
        voice=str(voice.get("id", "") if isinstance(voice, dict) else voice),
        input_format=audio_format(session, "input"),
        output_format=audio_format(session, "output"),
        modalities=_modalities(session),
        turn_end=_turn_end(session),
        ending_silence_ms=trailing_silence_ms(session),
        transcribes=bool(
            _member(session, "audio", "input", "transcription") or session.get("input_audio_transcription")
        ),
        tools=_tool_names(session.get("tools")),
        expires_at=None if expires is None else int(expires),
        abilities=_TRANSCRIPTION if session.get("type") == "transcription" else _CONVERSATION,
    )


def config_of(changes: Changes) -> RealtimeConfig:
    """Return the session.update that changes what `changes` names and nothing else."""
    config = RealtimeConfig()
    if changes.instructions is not None:
        config.instructions = changes.instructions
    if changes.modality is not None:
        config.output_modalities = [changes.modality]
    if changes.tools is not None:
        config.tools = [function_tool(tool) for tool in changes.tools]
    output = AudioOutput(
        voice=UNSET if changes.voice is None else changes.voice,
        speed=UNSET if changes.speed is None else changes.speed,
    )
    heard = AudioInput()
    if changes.turn_end is not None:
        heard.turn_detection = _DETECTIONS[changes.turn_end]
    if changes.transcription is not None:
        heard.transcription = Transcription(model=changes.transcription) if changes.transcription else None
    audio = Audio(input=heard if heard != AudioInput() else UNSET, output=output if output != AudioOutput() else UNSET)
    if audio != Audio():
        config.audio = audio
    return config


def function_tool(tool: ToolSpec) -> FunctionTool:
    """Return a tool as the wire offers it to the model."""
    return FunctionTool(
        name=tool.name, description=tool.description or UNSET, parameters=tool.parameters or _NO_ARGUMENTS
    )


class Standing:
    """What the server has said of the session: its settings in its own words and in neutral ones, and how far it is.

    history: where the instructions are kept. unconfirmed: changes that were sent and that the server has not confirmed;
    asked_s: when the last one was sent.
    """

    def __init__(self, history: History) -> None:
        self.settings: dict[str, Any] = {}
        self.facts = Facts()
        self.session_id = ""
        self.greeted = self.confirmed = False
        self.unconfirmed = 0
        self.asked_s = 0.0
        self._history = history

    def created(self, session: dict[str, Any]) -> None:
        """The server greets."""
        self._take(session)
        self.greeted = True
        self.session_id = str(session.get("id") or "")

    def updated(self, session: dict[str, Any]) -> None:
        """The server confirms settings."""
        self._take(session)
        self.confirmed = self.greeted
        self.unconfirmed = max(0, self.unconfirmed - 1)

    def restored(self, session: dict[str, Any], session_id: str) -> None:
        """A new session goes on, which has greeted and has its settings."""
        self._take(session)
        self.greeted = self.confirmed = True
        self.session_id = session_id
        self.unconfirmed = 0

    def moved(self) -> None:
        """Another server is to greet."""
        self.greeted = self.confirmed = False
        self.unconfirmed = 0

    def _take(self, session: dict[str, Any]) -> None:
        self.settings = session
        self.facts = facts_of(session)
        instructions = session.get("instructions")
        if isinstance(instructions, str):
            self._history.instructions = instructions


_DETECTIONS: dict[TurnEnd, ServerVad | SemanticVad | None] = {
    "server_vad": ServerVad(create_response=True, interrupt_response=True),
    "semantic_vad": SemanticVad(create_response=True, interrupt_response=True),
    "manual": None,
}


def _member(node: Any, *keys: str) -> Any:
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    return node


def _modalities(session: dict[str, Any]) -> tuple[str, ...]:
    named = session.get("output_modalities", session.get("modalities"))
    words = tuple(word for word in named if word in {"audio", "text"}) if isinstance(named, list) else ()
    return words or ("audio",)


def _turn_end(session: dict[str, Any]) -> str:
    """Say who ends a turn. A server that does not say is taken to listen itself, the protocol's default."""
    node = turn_detection(session)
    if node is not None:
        return "semantic_vad" if node.get("type") == "semantic_vad" else "server_vad"
    heard = _member(session, "audio", "input")
    told = heard if isinstance(heard, dict) else session
    return "manual" if "turn_detection" in told else "server_vad"


def _tool_names(tools: Any) -> tuple[str, ...]:
    if not isinstance(tools, list):
        return ()
    names = (tool.get("name") or tool.get("server_label") for tool in tools[:_MOST_TOOLS] if isinstance(tool, dict))
    return tuple(name for name in names if isinstance(name, str))
