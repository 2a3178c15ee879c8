"""What a scenario is: one conversation, what happens in it, and what is expected of it. Pure data.

`load.py` makes these from YAML; `play.py` plays them; `checks.py` judges. The JSON schema that editors complete from is
made from these classes (`schema.py`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Duration = Annotated[
    str, Meta(pattern=r"^\s*\d+(\.\d+)?\s*(ms|s|min)\s*$", description="a length of time: 300 ms, 1.5 s, 2 min")
]
Texts = str | list[str]
Events = str | list[str]


class Described(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of all parts of a scenario: unknown keys are mistakes."""


class ToolCheck(Described):
    """A tool is called. arguments: those given must be equal (numbers by value), others may be there too."""

    name: str
    arguments: dict[str, Any] = {}
    times: int | None = None


class EventCheck(Described):
    """An event of the server, or an update, comes. within: counted from the end of what the turn sends.

    name: a type of the wire (`response.done`, `error`) or a kind of update (`interrupted`).
    """

    name: str
    within: Duration | None = None


class ErrorRate(Described):
    """The word error rate of a transcript. max: 0.2 is one word in five.

    reference: the right words; for the user's transcript default the words that were spoken. of: whose transcript.
    """

    max: Annotated[float, Meta(ge=0)]
    reference: str | None = None
    of: Literal["user", "answer"] = "user"


class Judge(Described):
    """A model decides. criteria: what must be true of the answer, in words. model: default the session's."""

    criteria: str
    model: str | None = None


class Lengths(Described):
    """The least and the greatest length of time that passes."""

    min: Duration | None = None
    max: Duration | None = None


class Expect(Described):
    """What must be true; every entry is a check of its own.

    Of a turn, it is about that turn's answer; of a scenario, about all answers together, in order.
    """

    contains: Annotated[Texts, Meta(description="the answer holds these words (case does not matter)")] | None = None
    lacks: Annotated[Texts, Meta(description="the answer holds none of these words")] | None = None
    matches: Annotated[Texts, Meta(description="regular expressions found in the answer")] | None = None
    equals: Annotated[str, Meta(description="the answer is this, but for case, spaces and punctuation")] | None = None
    wer: Annotated[ErrorRate, Meta(description="word error rate of a transcript")] | None = None
    tool: Annotated[ToolCheck | list[ToolCheck], Meta(description="a tool is called")] | None = None
    no_tool: Annotated[bool | str, Meta(description="no tool is called, or not this one")] | None = None
    event: Annotated[EventCheck | list[EventCheck], Meta(description="an event comes, in time")] | None = None
    no_event: Annotated[Events, Meta(description="these events do not come")] | None = None
    latency: (
        Annotated[dict[str, Duration], Meta(description="greatest time by name: first_text, first_audio, answer …")]
        | None
    ) = None
    audio: Annotated[Lengths, Meta(description="length of the answer's speech")] | None = None
    heard: Annotated[Lengths, Meta(description="how much of an interrupted answer was heard")] | None = None
    cost: Annotated[float, Meta(ge=0, description="greatest cost in US dollars")] | None = None
    language: Annotated[str, Meta(description="ISO 639-1 code of the answer's language")] | None = None
    judge: Annotated[Judge | list[Judge], Meta(description="a model decides whether it is true")] | None = None
    status: (
        Annotated[Literal["completed", "cancelled", "incomplete", "failed"], Meta(description="how the answer ended")]
        | None
    ) = None
    interrupted: Annotated[bool, Meta(description="the answer was cut, or was not")] | None = None


class After(Described):
    """When a step begins that does not wait for the answer before to be over: so it interrupts.

    Exactly one of: event (wire type or update kind, since the step before began), heard (so much of the answer before
    was audible), time (since the step before had sent all it sends). plus: and then so much later.
    """

    event: str | None = None
    heard: Duration | None = None
    time: Duration | None = None
    plus: Duration | None = None


class Step(Described):
    """One step of a conversation: exactly one of text, speak, audio, dtmf, silence and pause.

    text: a message in writing; with `after` it is typed over whatever goes on. speak: words that a local voice says.
    audio: a file with the user's speech. dtmf: keys of a telephone, as tones. silence: so much silence is sent.
    pause: nothing is sent for so long. after: when it begins (default: when the answer before is over and was heard).
    answer: whether an answer is waited for (default: yes, but for silence, dtmf and pause).
    """

    text: str | None = None
    speak: str | None = None
    voice: Annotated[str, Meta(description="the local voice that speaks, as espeak-ng names it")] | None = None
    audio: Annotated[str, Meta(description="WAV, FLAC, OGG or MP3, relative to the scenario's file")] | None = None
    dtmf: Annotated[str, Meta(pattern=r"^[0-9A-D*#]+$")] | None = None
    silence: Duration | None = None
    pause: Duration | None = None
    after: After | None = None
    answer: bool | None = None
    timeout: Annotated[Duration, Meta(description="longest wait for the answer")] | None = None
    name: str | None = None
    expect: Expect | None = None


class Tool(Described):
    """A function that the model may call, and what it returns here.

    returns: any value (sent as JSON, text as it is). error: it fails with this message instead. delay: how long it
    takes.
    """

    name: str
    description: str = ""
    parameters: Annotated[dict[str, Any], Meta(description="JSON schema of its arguments")] = {}
    returns: Any = "done"
    error: str | None = None
    delay: Duration | None = None


class Prices(Described):
    """US dollars for a million tokens."""

    input_text: float = 0.0
    input_audio: float = 0.0
    input_image: float = 0.0
    cached_text: float = 0.0
    cached_audio: float = 0.0
    cached_image: float = 0.0
    output_text: float = 0.0
    output_audio: float = 0.0


class Scenario(Described):
    """One conversation.

    session: settings of the session by name, as `realtime settings` lists them (model, voice, instructions, modality,
    turn_detection …). tools: what the model may call. variables: values for `${name}` in any text. parameters: a CSV or
    JSONL file, or rows; the scenario runs once for each, its columns are variables. timeout: longest wait for one
    answer (default 60 s). prices: for the cost, where the built-in table does not know the model.
    """

    name: str
    description: str = ""
    tags: list[str] = []
    session: dict[str, Any] = {}
    tools: list[Tool] = []
    variables: dict[str, Any] = {}
    parameters: str | list[dict[str, Any]] = []
    prices: Prices | None = None
    timeout: Duration = "60 s"
    turns: list[Step] = []
    expect: Expect | None = None


class Case(msgspec.Struct, kw_only=True, frozen=True):
    """One scenario with its variables filled in: what one session plays. Travels to worker processes and machines.

    id: unique in a run and the same every time, such as `weather[2]#1` (row 2, second repeat). file: where it stands,
    for messages. folder: what relative audio files are relative to. places: path in the scenario
    (`turns.2.expect.cost`) -> (line, column), both from 1. files: audio files by name as the steps give it -> content,
    where the case travels to another machine (else read from the folder).
    """

    id: str
    scenario: Scenario
    file: str
    folder: str
    row: int | None = None
    repeat: int = 0
    values: dict[str, Any] = {}
    places: dict[str, tuple[int, int]] = {}
    files: dict[str, bytes] = {}


def seconds(duration: str) -> float:
    """Return a Duration in seconds. The loader has checked its form."""
    text = duration.strip()
    for unit, factor in (("ms", 0.001), ("min", 60.0), ("s", 1.0)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    raise ValueError(f"{duration!r} is no length of time")
