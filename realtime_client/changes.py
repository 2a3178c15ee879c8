"""What can be changed in a running session, in the words of no wire."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

TurnEnd = Literal["server_vad", "semantic_vad", "manual"]
"""Who ends a spoken turn: the other side by silence, or by meaning, or this program by `commit`."""
Modality = Literal["audio", "text"]


class ToolSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A tool that the model may call and this program runs. parameters: JSON schema of the arguments, an object."""

    name: str
    description: str = ""
    parameters: dict[str, Any] | None = None


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """Settings to change; None leaves one as it is.

    modality: what answers are made of. transcription: the model that writes down the user's audio, '' for none.
    tools: all that the model may call from now on.
    """

    instructions: str | None = None
    voice: str | None = None
    speed: float | None = None
    modality: Modality | None = None
    turn_end: TurnEnd | None = None
    transcription: str | None = None
    tools: tuple[ToolSpec, ...] | None = None
