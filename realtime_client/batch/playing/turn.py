"""One step of a case while it is played: its answers, and what can be said about them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from realtime_client import updates as up
from realtime_client.batch.result import ToolUse
from realtime_client.batch.scenario import STEP_KINDS, Step
from realtime_client.history import heard_text
from realtime_client.session.stats import Causes


@dataclass(slots=True)
class Reply:
    """One response. Times in seconds of the session's clock.

    waits: how long this program took to see the moment of that name. pieces: its text while it goes on. cut_by_own:
    more words of the same turn cut it; where another answer took its place, it does not count.
    """

    id: str
    began_s: float
    first_text_s: float | None = None
    first_audio_s: float | None = None
    done_s: float | None = None
    waits: dict[str, float | None] = field(default_factory=dict)
    status: str = "in_progress"
    reason: str | None = None
    error: str | None = None
    text: str = ""
    pieces: list[str] = field(default_factory=list)
    characters: int = 0
    parts: dict[tuple[str, int], int] = field(default_factory=dict)
    cut: up.Interrupted | None = None
    cut_by_own: bool = False
    usage: up.Usage | None = None

    @property
    def known_text(self) -> str:
        """Its text, as far as it came."""
        return self.text or "".join(self.pieces)

    @property
    def audio_bytes(self) -> int:
        """How much audio of it arrived."""
        return sum(self.parts.values())


@dataclass(slots=True)
class Call:
    """One call of a tool. called_s: when it came. The rest is as of `ToolUse`, once it is known."""

    name: str
    arguments: str
    called_s: float
    output: str = ""
    status: str = ""
    error: str = ""
    duration_ms: float | None = None

    def use(self, from_s: float) -> ToolUse:
        """Return it as the result has it. from_s: the end of what the user said or wrote."""
        return ToolUse(
            name=self.name,
            arguments=self.arguments,
            output=self.output,
            status=self.status,
            error=self.error,
            at_ms=round((self.called_s - from_s) * 1000, 3),
            duration_ms=self.duration_ms,
        )


@dataclass(slots=True)
class PlayedTurn:
    """One step while it is played, and afterwards.

    sent_s: all of it had been sent. base_s: what latencies count from. left_s: when the request, which was made then,
    left this program; latencies count from there where it is known. voice_s: its own sound began. voice_end_ms:
    where that ends, in all audio sent this session. request: the id of its request for an answer.
    confirms_at: how many changes of settings are confirmed when the server has taken in all that was sent.
    """

    n: int
    step: Step
    began_s: float
    said: str = ""
    sent_s: float | None = None
    base_s: float | None = None
    left_s: float | None = None
    voice_s: float | None = None
    voice_end_ms: int = 0
    spoken: bool = False
    request: str | None = None
    interruption_ms: float | None = None
    interruption_wait_s: float | None = None
    stopped_s: float | None = None
    replies: list[Reply] = field(default_factory=list)
    transcripts: dict[str, str | None] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    events: dict[str, float] = field(default_factory=dict)
    failure: up.Failure | None = None
    confirms_at: int | None = None

    @property
    def kind(self) -> str:
        """text, speak, audio, dtmf, silence or pause."""
        return next(name for name in STEP_KINDS if getattr(self.step, name) is not None)

    @property
    def waits(self) -> bool:
        """Whether it waits for an answer."""
        return self.kind in ("text", "speak", "audio") if self.step.answer is None else self.step.answer

    @property
    def from_s(self) -> float:
        """What the times of its answers and calls count from."""
        known = (self.left_s, self.base_s, self.sent_s, self.began_s)
        return next(moment_s for moment_s in known if moment_s is not None)

    def kept(self) -> list[Reply]:
        """The replies that count: those that the same turn's own words did not replace."""
        last = len(self.replies) - 1
        return [reply for n, reply in enumerate(self.replies) if n == last or not reply.cut_by_own]


def joined(texts: Iterable[str]) -> str:
    """Put texts together, one a line; empty ones are left out."""
    return "\n".join(text for text in texts if text)


def heard_of(reply: Reply) -> str:
    """Estimate the text that was heard of an answer, from how much of its sound was."""
    if reply.cut is None or reply.cut.heard_all:
        return reply.known_text
    return heard_text(reply.known_text, reply.cut.heard_ms, reply.cut.received_ms)


def latencies_of(turn: PlayedTurn, replies: list[Reply]) -> dict[str, float]:
    """Times in ms of all the answers to a turn together, from the request or the end of the user's own sound."""
    causes = Causes(turn.base_s if turn.left_s is None else turn.left_s, turn.stopped_s)
    ends = {name: getattr(reply, moment) for name, moment, reply in _ends(turn, replies)}
    found = {name: causes.latency_ms(name, end_s) for name, end_s in ends.items()}
    found["interruption"] = turn.interruption_ms
    return {name: value for name, value in found.items() if value is not None}


def own_waiting_of(turn: PlayedTurn, replies: list[Reply]) -> dict[str, float]:
    """How long, in ms, the request waited here to leave, and the end of each latency that there is to be seen."""
    left_late_s = 0.0 if turn.left_s is None or turn.base_s is None else turn.left_s - turn.base_s
    waits = {name: reply.waits.get(moment) for name, moment, reply in _ends(turn, replies)}
    found = {
        name: wait_s + (0.0 if name == "speech_to_audio" else left_late_s)
        for name, wait_s in waits.items()
        if wait_s is not None
    }
    if turn.interruption_ms is not None and turn.interruption_wait_s is not None:
        found["interruption"] = turn.interruption_wait_s
    there_are = latencies_of(turn, replies)
    return {name: round(max(0.0, wait_s) * 1000, 3) for name, wait_s in found.items() if name in there_are}


def _ends(turn: PlayedTurn, replies: list[Reply]) -> Iterator[tuple[str, str, Reply]]:
    """Each latency by name, with the moment that ends it and the reply whose moment it is."""
    for name, moment in (
        ("first_text", "first_text_s"),
        ("first_audio", "first_audio_s"),
        ("speech_to_audio", "first_audio_s"),
    ):
        first = next((reply for reply in replies if getattr(reply, moment) is not None), None)
        if first is not None:
            yield name, moment, first
    if replies and turn.waits:
        yield "answer", "done_s", replies[-1]
