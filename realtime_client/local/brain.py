"""The brain: what to answer. Another brain plugs in through one method, `Brain.reply`.

A brain that computes its answer is asked in the session's own thread. One that waits, for a network or for a model,
says `blocks = True`: it is asked in a thread of its own, and the session goes on meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import msgspec

from realtime_client.changes import ToolSpec
from realtime_client.updates import Usage


class Utterance(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the conversation so far.

    role: user, assistant, system, call (the model asked for a tool) or output (what the tool gave back). text: what
    was said, of an answer that was cut what was heard of it; of a call its arguments (JSON text), of an output its
    text. name: the tool of a call. call_id: joins a call with its output. images: data URIs, shown by the user with it.
    """

    role: str
    text: str
    name: str = ""
    call_id: str = ""
    images: tuple[str, ...] = ()


class BrainTurn(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer is made from.

    utterances: in order, the one to answer last. tool_choice: auto, none, required, or the name of a tool.
    wall_s: seconds since the epoch, for brains that tell the time. spoken: the answer goes to the voice. max_tokens:
    how long it may be, None for no limit.
    """

    utterances: tuple[Utterance, ...]
    instructions: str = ""
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: str = "auto"
    wall_s: float = 0.0
    spoken: bool = True
    max_tokens: int | None = None


class Say(msgspec.Struct, frozen=True):
    """A piece of the answer, in a spoken one best a sentence. Spaces and punctuation included."""

    text: str


class CallTool(msgspec.Struct, frozen=True):
    """Call a tool: the client runs its own, the server those of MCP servers.

    arguments: JSON text. call_id: '' lets the server choose one.
    """

    name: str
    arguments: str
    call_id: str = ""


class Spent(msgspec.Struct, frozen=True):
    """What the answer took in tokens, where the brain knows it; the server estimates otherwise. The last one counts."""

    usage: Usage


class CutShort(msgspec.Struct, frozen=True):
    """The answer ends here and is not complete. reason: `max_output_tokens` or `content_filter`."""

    reason: str


Said = Say | CallTool | Spent | CutShort


class BrainError(Exception):
    """An answer failed: the message, in one line, is what the client is told. code: of the error."""

    def __init__(self, message: str, code: str = "server_error") -> None:
        super().__init__(message)
        self.code = code


class Brain(Protocol):
    """Decides what to say.

    Two more attributes are optional. blocks: True for a brain that may wait; else the session does nothing else while
    it is asked. close: called at the end of the server that it is a part of.
    """

    def reply(self, turn: BrainTurn) -> Iterator[Said]:
        """Yield the answer piece by piece; closed early when the answer is interrupted.

        An exception ends the response with status `failed`; the client is told the words of a `BrainError` alone. An
        iterator of a brain that `blocks` may have a method `close` that ends it while another thread waits in it: it
        is called at once. A generator is closed at its next piece.
        """
        ...
