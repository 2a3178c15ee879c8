"""The session's settings: the whole `session.update` tree, typed.

In an update, an absent field leaves the server's value as it is, so every field starts UNSET; None is the wire's null
and clears. `to_wire()` gives the JSON object to send. Two kinds: `RealtimeConfig` and `TranscriptionConfig`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
from msgspec import UNSET, UnsetType

from realtime_client.updates import AudioFormat


class _Leaf(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Base of all nodes of the tree."""


class PCM(_Leaf, tag_field="type", tag="audio/pcm", omit_defaults=False):
    """16-bit little-endian mono PCM; the service takes 24000 Hz only."""

    rate: int = 24_000


class PCMU(_Leaf, tag_field="type", tag="audio/pcmu"):
    """G.711 mu-law, 8 kHz."""


class PCMA(_Leaf, tag_field="type", tag="audio/pcma"):
    """G.711 A-law, 8 kHz."""


Format = PCM | PCMU | PCMA


class Transcription(_Leaf):
    """How the user's audio is transcribed. delay: minimal, low, medium, high, xhigh (whisper models only)."""

    model: str | UnsetType = UNSET
    language: str | UnsetType = UNSET
    languages: list[str] | UnsetType = UNSET
    keywords: list[str] | UnsetType = UNSET
    prompt: str | UnsetType = UNSET
    delay: str | UnsetType = UNSET


class NoiseReduction(_Leaf):
    """type: near_field or far_field."""

    type: str
    strength: float | UnsetType = UNSET


class ServerVad(_Leaf, tag_field="type", tag="server_vad"):
    """Turns end by silence. threshold 0..1, times in ms; idle_timeout_ms None: never."""

    threshold: float | UnsetType = UNSET
    prefix_padding_ms: int | UnsetType = UNSET
    silence_duration_ms: int | UnsetType = UNSET
    create_response: bool | UnsetType = UNSET
    interrupt_response: bool | UnsetType = UNSET
    idle_timeout_ms: int | UnsetType | None = UNSET


class SemanticVad(_Leaf, tag_field="type", tag="semantic_vad"):
    """Turns end by meaning. eagerness: auto, low, medium, high (waits at most 4/8/4/2 s)."""

    eagerness: str | UnsetType = UNSET
    create_response: bool | UnsetType = UNSET
    interrupt_response: bool | UnsetType = UNSET


TurnDetection = ServerVad | SemanticVad


class AudioInput(_Leaf):
    """What happens to the user's audio. None for turn_detection: the client commits."""

    format: Format | UnsetType = UNSET
    transcription: Transcription | UnsetType | None = UNSET
    noise_reduction: NoiseReduction | UnsetType | None = UNSET
    turn_detection: TurnDetection | UnsetType | None = UNSET


class AudioOutput(_Leaf):
    """How the model sounds. voice: a name or {"id": ...}; speed 0.25..1.5."""

    format: Format | UnsetType = UNSET
    voice: str | dict[str, str] | UnsetType = UNSET
    speed: float | UnsetType = UNSET


class Audio(_Leaf):
    """Both directions of audio."""

    input: AudioInput | UnsetType = UNSET
    output: AudioOutput | UnsetType = UNSET


class FunctionTool(_Leaf, tag_field="type", tag="function"):
    """A tool that this client runs. parameters: JSON schema."""

    name: str
    description: str | UnsetType = UNSET
    parameters: dict[str, Any] | UnsetType = UNSET


class McpTool(_Leaf, tag_field="type", tag="mcp"):
    """Tools that the server calls on a remote MCP server: one of server_url, connector_id, tunnel_id."""

    server_label: str
    server_url: str | UnsetType = UNSET
    connector_id: str | UnsetType = UNSET
    tunnel_id: str | UnsetType = UNSET
    server_description: str | UnsetType = UNSET
    authorization: str | UnsetType = UNSET
    headers: dict[str, str] | UnsetType = UNSET
    allowed_tools: list[str] | dict[str, Any] | UnsetType = UNSET
    require_approval: str | dict[str, Any] | UnsetType = UNSET
    defer_loading: bool | UnsetType = UNSET
    allowed_callers: list[str] | UnsetType = UNSET


Tool = FunctionTool | McpTool


class TokenLimits(_Leaf):
    """Limits of the context after the instructions, in tokens."""

    post_instructions: int | UnsetType = UNSET


class RetentionRatio(_Leaf, tag_field="type", tag="retention_ratio"):
    """On overflow keep this share (0..1) of the context."""

    retention_ratio: float
    token_limits: TokenLimits | UnsetType = UNSET


class Reasoning(_Leaf):
    """effort: minimal, low, medium, high, xhigh."""

    effort: str


class Tracing(_Leaf):
    """What the trace is called."""

    workflow_name: str | UnsetType = UNSET
    group_id: str | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET


class Prompt(_Leaf):
    """A stored prompt."""

    id: str
    version: str | UnsetType = UNSET
    variables: dict[str, Any] | UnsetType = UNSET


class _Session(_Leaf):
    """What both kinds of session share."""

    wire_type: ClassVar[str]

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON object of a session.update."""
        wire: dict[str, Any] = {"type": self.wire_type}
        wire.update(msgspec.to_builtins(self))
        return wire


class RealtimeConfig(_Session):
    """A conversation. output_modalities: ["audio"] (with transcript) or ["text"], never both."""

    wire_type: ClassVar[str] = "realtime"
    model: str | UnsetType = UNSET
    instructions: str | UnsetType = UNSET
    prompt: Prompt | UnsetType | None = UNSET
    output_modalities: list[str] | UnsetType = UNSET
    audio: Audio | UnsetType = UNSET
    tools: list[Tool] | UnsetType = UNSET
    tool_choice: str | dict[str, str] | UnsetType = UNSET
    parallel_tool_calls: bool | UnsetType = UNSET
    reasoning: Reasoning | UnsetType = UNSET
    max_output_tokens: int | str | UnsetType = UNSET
    truncation: str | RetentionRatio | UnsetType = UNSET
    tracing: str | Tracing | UnsetType | None = UNSET
    include: list[str] | UnsetType = UNSET


class TranscriptionConfig(_Session):
    """Transcription without answers: only `audio.input` and `include` count."""

    wire_type: ClassVar[str] = "transcription"
    audio: Audio | UnsetType = UNSET
    include: list[str] | UnsetType = UNSET


SessionConfig = RealtimeConfig | TranscriptionConfig


def session_from_wire(data: dict[str, Any]) -> SessionConfig:
    """Read a session object into its type; unknown fields are left out.

    Errors: msgspec.ValidationError names the field that does not fit.
    """
    if data.get("type") == "transcription":
        return msgspec.convert(data, TranscriptionConfig)
    return msgspec.convert(data, RealtimeConfig)


_BETA_FORMATS = {
    "pcm16": AudioFormat("pcm16", 24_000),
    "g711_ulaw": AudioFormat("ulaw", 8_000),
    "g711_alaw": AudioFormat("alaw", 8_000),
}


def audio_format(session: dict[str, Any], direction: str) -> AudioFormat:
    """Read the audio format from an effective session, GA or beta shape. direction: `input` or `output`.

    What cannot be read is the protocol's default, PCM at 24 kHz.
    """
    beta = session.get(f"{direction}_audio_format")
    if isinstance(beta, str):
        return _BETA_FORMATS.get(beta, AudioFormat())
    node: Any = session.get("audio")
    for key in (direction, "format"):
        node = node.get(key) if isinstance(node, dict) else None
    if not isinstance(node, dict):
        return AudioFormat()
    if node.get("type") == "audio/pcmu":
        return AudioFormat("ulaw", 8_000)
    if node.get("type") == "audio/pcma":
        return AudioFormat("alaw", 8_000)
    rate = node.get("rate")
    if isinstance(rate, int) and not isinstance(rate, bool) and 1000 <= rate <= 192_000:
        return AudioFormat("pcm16", rate)
    return AudioFormat()


def wire_format(audio: AudioFormat) -> Format:
    """Return the wire's name of a format."""
    if audio.encoding == "ulaw":
        return PCMU()
    return PCMA() if audio.encoding == "alaw" else PCM(rate=audio.rate_hz)


def turn_detection(session: dict[str, Any]) -> dict[str, Any] | None:
    """The turn detection of an effective session, GA or beta shape; None when it is off."""
    node: Any = session
    for key in ("audio", "input", "turn_detection"):
        node = node.get(key) if isinstance(node, dict) else None
    node = node or session.get("turn_detection")
    return node if isinstance(node, dict) else None


def server_interrupts(session: dict[str, Any]) -> bool:
    """Whether the server cancels a running answer by itself when it hears speech."""
    detection = turn_detection(session)
    return detection is not None and detection.get("interrupt_response") is not False


def server_answers(session: dict[str, Any]) -> bool:
    """Whether the server may begin an answer by itself when a spoken turn ends: yes, unless its settings deny it."""
    return (turn_detection(session) or {}).get("create_response") is not False


_LONGEST_SILENCE_MS = 60_000
_EAGERNESS_WAIT_MS = {"low": 8000, "medium": 4000, "auto": 4000, "high": 2000}


def trailing_silence_ms(session: dict[str, Any]) -> int:
    """Return how much silence must follow speech for the session's turn detection to end the turn; 0 for none.

    Silence duration (or the longest wait of the eagerness, as the service documents it) and 400 ms to spare.
    """
    node = turn_detection(session)
    if node is None:
        return 0
    if node.get("type") == "semantic_vad":
        return _EAGERNESS_WAIT_MS.get(str(node.get("eagerness")), 4000) + 400
    wait = node.get("silence_duration_ms")
    if isinstance(wait, bool) or not isinstance(wait, int) or not 0 <= wait <= _LONGEST_SILENCE_MS:
        wait = 500
    return wait + 400


def with_changes(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return settings with changes: objects member by member, but what has a type of its own (a format) as a whole."""
    merged = dict(settings)
    for name, value in changes.items():
        before = merged.get(name)
        if isinstance(before, dict) and isinstance(value, dict) and "type" not in value:
            value = with_changes(before, value)  # noqa: PLW2901
        merged[name] = value
    return merged
