"""What a stream of an answer is made of, in the words of no wire."""

from __future__ import annotations

from typing import Literal

import msgspec

from realtime_client.updates import Usage

from .faults import Fault

Reason = Literal["stop", "tool_calls", "length", "content_filter", "refusal", "other"]


class Piece(msgspec.Struct, frozen=True, gc=False):
    """One piece. stream: the id of its stream; n: its number there, from 0; at_s: when it arrived, on one clock."""

    stream: str
    n: int
    at_s: float


class TextPiece(Piece, frozen=True, gc=False):
    """More of the answer's text."""

    text: str


class ThinkingPiece(Piece, frozen=True, gc=False):
    """More of what the model thinks aloud: no part of the answer."""

    text: str


class CallPiece(Piece, frozen=True, gc=False):
    """More of a call of a tool that is still being made: to show, never to run. text: more of its arguments."""

    call_id: str
    name: str
    text: str


class CallDonePiece(Piece, frozen=True, gc=False):
    """A whole call of a tool. arguments: an object in JSON, judged strictly."""

    call_id: str
    name: str
    arguments: str


class CallCutPiece(Piece, frozen=True, gc=False):
    """A call whose arguments are not whole: never run, never kept, never mended. To show."""

    call_id: str
    name: str
    arguments: str


class UsagePiece(Piece, frozen=True, gc=False):
    """What the answer took so far, in tokens; the last one counts."""

    usage: Usage


class Timings(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What a server tells of its own work, in seconds; None for what it does not tell.

    load_s: until the model was in memory. prompt_s: reading the prompt. generate_s: making the answer's tokens.
    """

    load_s: float | None = None
    prompt_s: float | None = None
    generate_s: float | None = None


class TimingsPiece(Piece, frozen=True, gc=False):
    """The server's own figures."""

    timings: Timings


class ProgressPiece(Piece, frozen=True, gc=False):
    """What the server does before it answers. stage: `loading`, `prompt` or `generating`. text: more, for people."""

    stage: str
    text: str = ""


class FinishPiece(Piece, frozen=True, gc=False):
    """The answer is over: the server said so. The last piece but for nothing.

    words: the server's own word for the reason, '' where it gave none.
    """

    reason: Reason
    words: str = ""


class ErrorPiece(Piece, frozen=True, gc=False):
    """The stream is over, and not as it should. Always the last piece."""

    fault: Fault
