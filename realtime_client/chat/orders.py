"""What passes between a conversation, the answers that are being made for it, and who does what they want. Pure."""

from __future__ import annotations

from typing import Protocol

import msgspec

from realtime_client import updates as up
from realtime_client.changes import ToolSpec
from realtime_client.history import Part

from .answering import Answering
from .place import Place
from .wires.ask import Ask
from .wires.faults import Fault


class Begin(msgspec.Struct, frozen=True):
    """A request is to leave."""

    stream: str
    place: int
    ask: Ask


class Abort(msgspec.Struct, frozen=True):
    """A stream is not wanted any longer."""

    stream: str


class Consult(msgspec.Struct, frozen=True):
    """The program is to be asked what to do about a fault, with `Answers.judged`; `Answers.decided` does it.

    refused: the fault is about a field, which is left out from now on.
    """

    response_id: str
    fault: Fault
    place: Place
    refused: bool


Command = Begin | Abort | Consult


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """How answers are to be: see `Ask`. streaming: in pieces. fallback: another provider may take over."""

    instructions: str = ""
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: str = "auto"
    max_tokens: int | None = None
    temperature: float | None = None
    think: bool | str | None = None
    streaming: bool = True
    fallback: bool = True


class Book(Protocol):
    """Who keeps the conversation."""

    def keep(self, answer: Answering, parts: tuple[Part, ...], status: str) -> list[up.Update]:
        """An answer is over, or broke off: keep what came of it. status: completed or incomplete."""

    def unanswered(self, answer: Answering, fault: Fault) -> list[up.Update]:
        """Nobody can make an answer."""

    def begin_next(self) -> list[up.Update]:
        """An answer is over: the next one may begin."""
