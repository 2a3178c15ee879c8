"""What is judged, what checks need for it, and what one check found. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from realtime_client.batch.result import ToolUse
from realtime_client.batch.scenario import Judge, Prices
from realtime_client.errors import UsageError
from realtime_client.escape import shortened
from realtime_client.updates import Usage


class Verdict(msgspec.Struct, frozen=True):
    """What a judge decided, and why in a few words."""

    ok: bool
    reason: str = ""


class Evidence(msgspec.Struct, kw_only=True):
    """What is judged: one turn's answer, or all of a conversation (turn None).

    said: the user's words, to which `answer` is the reply. spoken: the words that were spoken, '' where they are not
    known. answered: some answer came to an end, however. waited: the turn waited for one. tools: calls in order.
    offered: the names of the tools that could be called; None where they are not known.
    events: name of an event or update -> ms after the turn had sent everything (below 0: before that), the first of
    each. latencies: in ms, by name. audio_ms: length of the answer's speech. heard_ms: where it was cut, None where it
    was not. status: of the last answer. usage: None where the server states none.
    """

    turn: int | None = None
    said: str = ""
    spoken: str = ""
    transcript: str = ""
    answer: str = ""
    answered: bool = False
    waited: bool = True
    tools: list[ToolUse] = []
    offered: frozenset[str] | None = None
    events: dict[str, float] = {}
    latencies: dict[str, list[float]] = {}
    audio_ms: int = 0
    heard_ms: int | None = None
    interrupted: bool = False
    status: str = ""
    usage: Usage | None = None


class Means(msgspec.Struct, kw_only=True):
    """What checks need: prices (None: not known), the model's name, a judge and an ear for languages.

    search: whether a regular expression is found in a text, within a time limit.
    place: path of an expectation (`turns.2.expect.cost`) -> FILE:LINE:COLUMN.
    """

    prices: Prices | None = None
    model: str = ""
    judge: Callable[[Judge, Evidence], Verdict] | None = None
    language: Callable[[str], str | None] | None = None
    search: Callable[[str, str], bool] = lambda regex, text: pattern(regex).search(text) is not None
    place: Callable[[str], str] = lambda _path: ""


class Found(msgspec.Struct):
    """One check before its place is known. index: which entry of a list it is about."""

    ok: bool
    expected: str
    seen: str = ""
    message: str = ""
    score: float | None = None
    index: int | str | None = None


Check = Callable[[Any, Evidence, Means], Iterator[Found]]


def many(value: Any) -> Iterator[tuple[int | None, Any]]:
    """Each entry of a list with its number, or the one value."""
    if isinstance(value, list):
        yield from enumerate(value)
    else:
        yield None, value


def quoted(text: str) -> str:
    """A text in a message."""
    return f'"{shortened(text)}"'


def pattern(text: str) -> re.Pattern[str]:
    """Compile a regular expression. Errors: UsageError when it is invalid."""
    try:
        return re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise UsageError(f"{text!r} is not a regular expression: {error}") from None
