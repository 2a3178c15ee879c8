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
STEP_KINDS = ("text", "speak", "audio", "dtmf", "silence", "pause")
"""What a step says or does: one of these."""
Texts = str | list[str]
Events = str | list[str]


class Described(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of all parts of a scenario: unknown keys are mistakes."""


class Lengths(Described):
    """The least and the greatest length of time that passes."""

    min: Annotated[Duration | None, Meta(description="the least length of time that passes")] = None
    max: Annotated[Duration | None, Meta(description="the greatest length of time that passes")] = None


class Times(Described):
    """The least and the greatest number of times."""

    min: Annotated[Annotated[int, Meta(ge=0)] | None, Meta(description="at least so often")] = None
    max: Annotated[Annotated[int, Meta(ge=0)] | None, Meta(description="at most so often")] = None


class ValueCheck(Described):
    """What an argument, or a tool's result, is like; all of it must be true.

    equals, contains, lacks, matches: as of an answer; a value that is no text is looked at as its JSON. A number given
    to `equals` must be met within `tolerance`. min, max: it is a number in this range.
    """

    equals: Annotated[str | float | bool | None, Meta(description="it is this; text but for case and spaces")] = None
    tolerance: Annotated[
        Annotated[float, Meta(ge=0)] | None, Meta(description="by how much it may differ from the number in `equals`")
    ] = None
    contains: Annotated[Texts | None, Meta(description="it holds these words (case does not matter)")] = None
    lacks: Annotated[Texts | None, Meta(description="it holds none of these words")] = None
    matches: Annotated[Texts | None, Meta(description="regular expressions found in it")] = None
    min: Annotated[float | None, Meta(description="it is a number, at least this")] = None
    max: Annotated[float | None, Meta(description="it is a number, at most this")] = None


class ToolCall(Described):
    """A call of a tool. arguments: those given must be equal (numbers by value), others may be there too."""

    name: Annotated[str, Meta(description="the tool's name")]
    arguments: Annotated[dict[str, Any], Meta(description="arguments with these values; others may be there too")] = {}


class ToolCheck(ToolCall):
    """A tool is called so, at least once or so often. One call must meet all that is said of it.

    where: what single arguments are like. within: the call comes at the latest so long after the end of what the user
    says or writes. duration: how long the tool works on it.
    """

    where: Annotated[dict[str, ValueCheck], Meta(description="what arguments are like, by name")] = {}
    result: Annotated[ValueCheck | None, Meta(description="what it returns")] = None
    status: Annotated[
        Literal["completed", "failed", "timed_out", "cancelled", "refused", "invalid"] | None,
        Meta(description="how the call ends"),
    ] = None
    within: Annotated[Duration | None, Meta(description="at the latest so long after the user's end")] = None
    duration: Annotated[Lengths | None, Meta(description="how long the tool works on it")] = None
    times: Annotated[int | Times | None, Meta(description="how often it is called so; default: at least once")] = None


Calls = list[str | ToolCall]


class ToolsCheck(Described):
    """All calls together; a call is given by its tool's name, or with arguments.

    order: they come in this order; others may come between them, unless `adjacent`. exactly: these calls come, each as
    often as it stands there, in any order, and no other. only: no other tools are called.
    """

    order: Annotated[Calls | None, Meta(description="these calls come in this order")] = None
    adjacent: Annotated[bool | None, Meta(description="no other call comes between those of `order`")] = None
    exactly: Annotated[Calls | None, Meta(description="these calls come, in any order, and no other")] = None
    only: Annotated[list[str] | None, Meta(description="no other tools than these are called")] = None


class EventCheck(Described):
    """An event of the server, or an update, comes. within: counted from the end of what the turn sends.

    name: a type of the wire (`response.done`, `error`) or a kind of update (`interrupted`).
    """

    name: Annotated[str, Meta(description="type of an event of the server (response.done), or kind of an update")]
    within: Annotated[Duration | None, Meta(description="at the latest so long after what the turn sends")] = None


class ErrorRate(Described):
    """The word error rate of a transcript. max: 0.2 is one word in five.

    reference: the right words; for the user's transcript default the words that were spoken. of: whose transcript.
    """

    max: Annotated[float, Meta(ge=0, description="greatest rate: 0.2 is one word in five")]
    reference: Annotated[str | None, Meta(description="the right words; default: those of `speak`")] = None
    of: Annotated[Literal["user", "answer"], Meta(description="whose transcript")] = "user"


class Judge(Described):
    """A model decides. criteria: what must be true of the answer, in words. model: default the session's."""

    criteria: Annotated[str, Meta(description="what must be true of the answer, in words")]
    model: Annotated[str | None, Meta(description="which model decides; default: the session's")] = None


class Expect(Described):
    """What must be true; every entry is a check of its own, and has a value.

    Of a turn, it is about that turn's answer; of a scenario, about all answers together, in order.
    """

    contains: Annotated[Texts | None, Meta(description="the answer holds these words (case does not matter)")] = None
    lacks: Annotated[Texts | None, Meta(description="the answer holds none of these words")] = None
    matches: Annotated[Texts | None, Meta(description="regular expressions found in the answer, as it came")] = None
    equals: Annotated[str | None, Meta(description="the answer is this, but for case, spaces and punctuation")] = None
    wer: Annotated[ErrorRate | None, Meta(description="word error rate of a transcript")] = None
    tool: Annotated[ToolCheck | list[ToolCheck] | None, Meta(description="a tool is called")] = None
    tools: Annotated[ToolsCheck | None, Meta(description="order of all calls of tools, and which there are")] = None
    no_tool: Annotated[bool | str | None, Meta(description="no tool is called (true), or not this one")] = None
    event: Annotated[EventCheck | list[EventCheck] | None, Meta(description="an event comes, in time")] = None
    no_event: Annotated[Events | None, Meta(description="these events do not come")] = None
    latency: Annotated[
        dict[str, Duration] | None, Meta(description="greatest time by name: first_text, first_audio, answer …")
    ] = None
    audio: Annotated[Lengths | None, Meta(description="length of the answer's speech")] = None
    heard: Annotated[Lengths | None, Meta(description="how much of an interrupted answer was heard")] = None
    cost: Annotated[Annotated[float, Meta(ge=0)] | None, Meta(description="greatest cost in US dollars")] = None
    language: Annotated[str | None, Meta(description="ISO 639-1 code of the answer's language")] = None
    judge: Annotated[Judge | list[Judge] | None, Meta(description="a model decides whether it is true")] = None
    status: Annotated[
        Literal["completed", "cancelled", "incomplete", "failed"] | None, Meta(description="how the answer ended")
    ] = None
    interrupted: Annotated[bool | None, Meta(description="the answer was cut, or was not")] = None


class After(Described):
    """When a step begins that does not wait for the answer before to be over: so it interrupts.

    Exactly one of: event (wire type or update kind, since the step before began), heard (so much of the answer before
    was audible), time (since the step before had sent all it sends). plus: and then so much later.
    """

    event: Annotated[str | None, Meta(description="after this event, since the turn before began")] = None
    heard: Annotated[Duration | None, Meta(description="after so much of the answer before was heard")] = None
    time: Annotated[Duration | None, Meta(description="so long after the turn before had sent all it sends")] = None
    plus: Annotated[Duration | None, Meta(description="and then so much later")] = None


class Step(Described):
    """One step of a conversation: exactly one of text, speak, audio, dtmf, silence and pause.

    text: a message in writing; with `after` it is typed over whatever goes on. speak: words that a local voice says.
    audio: a file with the user's speech. dtmf: keys of a telephone, as tones. silence: so much silence is sent.
    pause: nothing is sent for so long. after: when it begins (default: when the answer before is over and was heard).
    answer: whether an answer is waited for (default: yes, but for silence, dtmf and pause).
    """

    text: Annotated[str | None, Meta(description="a message in writing")] = None
    speak: Annotated[str | None, Meta(description="words that a local voice says")] = None
    voice: Annotated[str | None, Meta(description="the local voice that speaks, as espeak-ng names it")] = None
    audio: Annotated[str | None, Meta(description="WAV, FLAC, OGG or MP3, relative to the scenario's file")] = None
    dtmf: Annotated[
        Annotated[str, Meta(pattern=r"^[0-9A-D*#]+$")] | None, Meta(description="keys of a telephone, sent as tones")
    ] = None
    silence: Annotated[Duration | None, Meta(description="so much silence is sent")] = None
    pause: Annotated[Duration | None, Meta(description="nothing is sent for so long")] = None
    after: Annotated[After | None, Meta(description="begin before the answer before is over: interrupt it")] = None
    answer: Annotated[
        bool | None, Meta(description="an answer is waited for; default: yes, but for silence, dtmf and pause")
    ] = None
    timeout: Annotated[Duration | None, Meta(description="longest wait for the answer")] = None
    name: Annotated[str | None, Meta(description="what reports call this turn")] = None
    expect: Annotated[Expect | None, Meta(description="what must be true of the answer")] = None


class Tool(Described):
    """A function that the model may call, and what it returns here; or `file`: tools of a Python file, which run.

    returns: any value (sent as JSON, text as it is). error: it fails with this message instead. delay: how long it
    takes. only: of a file, the names of those that are offered.
    """

    name: Annotated[str | None, Meta(description="letters, digits, _ and -")] = None
    file: Annotated[str | None, Meta(description="a Python file with tools, relative to this one")] = None
    only: Annotated[list[str] | None, Meta(description="of a file: the tools that are offered; default: all")] = None
    description: Annotated[str, Meta(description="what it does, told to the model")] = ""
    parameters: Annotated[dict[str, Any], Meta(description="JSON schema of its arguments")] = {}
    returns: Annotated[Any, Meta(description="what it returns: any value, sent as JSON, text as it is")] = "done"
    error: Annotated[str | None, Meta(description="it fails with this message instead")] = None
    delay: Annotated[Duration | None, Meta(description="how long it takes")] = None


class McpServer(Described):
    """An MCP server: `command` that is started, or `url`. Its keys are those of `[mcp.NAME]` in the config file."""

    command: Annotated[Texts | None, Meta(description="the program and its arguments")] = None
    args: Annotated[list[str] | None, Meta(description="more arguments")] = None
    url: Annotated[str | None, Meta(description="http or https address of the server")] = None
    env: Annotated[list[str] | None, Meta(description="names of environment variables that it is given")] = None
    headers: Annotated[dict[str, str] | None, Meta(description="sent with every request to `url`")] = None
    cwd: Annotated[str | None, Meta(description="folder that the command starts in, relative to this file")] = None
    timeout: Annotated[Duration | None, Meta(description="longest work on one call")] = None
    start_timeout: Annotated[Duration | None, Meta(description="until it has told its tools")] = None


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
    turn_detection …). tools: what the model may call; the name of a Python file alone is all of its tools. mcp: servers
    whose tools it may call: a command, a URL, a list of these, or servers by name. variables: values for `${name}` in
    any text. parameters: a CSV or JSONL file, or rows; the scenario runs once for each, its columns are variables.
    timeout: longest wait for one answer (default 60 s). prices: for the cost, where the built-in table does not know
    the model.
    """

    name: Annotated[str, Meta(description="unique in a run; reports and comparisons go by it")]
    description: Annotated[str, Meta(description="for people")] = ""
    tags: Annotated[list[str], Meta(description="words to choose scenarios by")] = []
    session: Annotated[dict[str, Any], Meta(description="settings of the session, as `realtime settings` lists")] = {}
    tools: Annotated[list[Tool], Meta(description="functions that the model may call")] = []
    mcp: Annotated[Texts | dict[str, McpServer], Meta(description="MCP servers: commands, URLs, or by name")] = []
    variables: Annotated[dict[str, Any], Meta(description="values for ${name} in any text")] = {}
    parameters: Annotated[
        str | list[dict[str, Any]],
        Meta(description="a CSV or JSONL file, or rows: one run for each, columns are variables"),
    ] = []
    prices: Annotated[Prices | None, Meta(description="US dollars for a million tokens, by kind")] = None
    timeout: Annotated[Duration, Meta(description="longest wait for one answer")] = "60 s"
    turns: Annotated[list[Step], Meta(description="what happens, in order")] = []
    expect: Annotated[Expect | None, Meta(description="what must be true of all answers together")] = None


class Case(msgspec.Struct, kw_only=True, frozen=True):
    """One scenario with its variables filled in: what one session plays. Travels to worker processes and machines.

    id: unique in a run and the same every time: `NAME`, `NAME[ROW]`, and from the second repeat on `NAME#1`,
    `NAME[ROW]#1`, ... It is data, never a path. row: of the parameters, from 1. repeat: from 0. file: where it stands,
    for messages. folder: what relative audio files are relative to. places: path in the scenario, list indices from 0
    (`turns.1.expect.cost`) -> (line, column), both from 1; `place()` reads them. elsewhere: for paths that were
    included: the file where they stand. files: files of sound and of tools by name as the scenario gives it -> content,
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
    elsewhere: dict[str, str] = {}
    files: dict[str, bytes] = {}


def foreign(scenario: Scenario) -> str:
    """Return the path of the first thing that runs code of the scenario's own (a file, an MCP server); '' for none."""
    files = (f"tools.{index}.file" for index, tool in enumerate(scenario.tools) if tool.file is not None)
    return next(files, "mcp" if scenario.mcp else "")


def place(case: Case, path: str) -> str:
    """Return FILE:LINE:COLUMN of a path such as `turns.1.expect.cost`, or of the nearest part around it."""
    while path and path not in case.places:
        path = path.rpartition(".")[0]
    line, column = case.places.get(path, (1, 1))
    return f"{case.elsewhere.get(path, case.file)}:{line}:{column}"


def seconds(duration: str) -> float:
    """Return a Duration in seconds. The loader has checked its form."""
    text = duration.strip()
    for unit, factor in (("ms", 0.001), ("min", 60.0), ("s", 1.0)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    raise ValueError(f"{duration!r} is no length of time")
