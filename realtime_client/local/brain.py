"""The brain: what to answer. Another brain plugs in through one method, `Brain.reply`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import msgspec

from realtime_client.changes import ToolSpec


class Utterance(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the conversation so far.

    role: user, assistant, system, call (the model asked for a tool) or output (what the tool gave back). text: what
    was said; of a call its arguments (JSON text), of an output its text. name: the tool of a call. call_id: joins a
    call with its output.
    """

    role: str
    text: str
    name: str = ""
    call_id: str = ""


class BrainTurn(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer is made from.

    utterances: in order, the one to answer last. tool_choice: auto, none, required, or the name of a tool.
    wall_s: seconds since the epoch, for brains that tell the time.
    """

    utterances: tuple[Utterance, ...]
    instructions: str = ""
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: str = "auto"
    wall_s: float = 0.0


class Say(msgspec.Struct, frozen=True):
    """A piece of the answer, best a sentence. Spaces and punctuation included."""

    text: str


class CallTool(msgspec.Struct, frozen=True):
    """Ask the client to run one of its tools. arguments: JSON text."""

    name: str
    arguments: str


class Brain(Protocol):
    """Decides what to say. Must not block for long: the session does nothing else meanwhile."""

    def reply(self, turn: BrainTurn) -> Iterator[Say | CallTool]:
        """Yield the answer piece by piece; closed early when the answer is interrupted.

        An exception ends the response with status `failed`.
        """
        ...
