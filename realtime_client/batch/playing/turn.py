"""One step of a case while it is played: its answers, and what can be said about them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from realtime_client import updates as up
from realtime_client.batch.result import ToolUse
from realtime_client.batch.scenario import STEP_KINDS, Step
from realtime_client.history import heard_text
from realtime_client.session.stats import Causes


@dataclass(slots=True)
class Reply:
    """One response. Times in seconds of the session's clock.

    pieces: its text while it goes on. cut_by_own: more words of the same turn cut it; where another answer took its
    place, it does not count.
    """

    id: str
    began_s: float
    first_text_s: float | None = None
    first_audio_s: float | None = None
    done_s: float | None = None
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
class PlayedTurn:
    """One step while it is played, and afterwards.

    sent_s: all of it had been sent. base_s: what latencies count from. voice_s: its own sound began. voice_end_ms:
    where that ends, in all audio sent this session. request: the id of its request for an answer.
    confirms_at: how many changes of settings are confirmed when the server has taken in all that was sent.
    """

    n: int
    step: Step
    began_s: float
    said: str = ""
    sent_s: float | None = None
    base_s: float | None = None
    voice_s: float | None = None
    voice_end_ms: int = 0
    spoken: bool = False
    request: str | None = None
    interruption_ms: float | None = None
    stopped_s: float | None = None
    replies: list[Reply] = field(default_factory=list)
    transcripts: dict[str, str | None] = field(default_factory=dict)
    tools: list[ToolUse] = field(default_factory=list)
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

    def kept(self) -> list[Reply]:
        """The replies that count: those that the same turn's own words did not replace."""
        last = len(self.replies) - 1
        return [reply for n, reply in enumerate(self.replies) if n == last or not reply.cut_by_own]


@dataclass(frozen=True, slots=True)
class PendingCall:
    """A call of a tool that waits for its result."""

    turn: PlayedTurn
    use: ToolUse
    call_id: str


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
    causes = Causes(turn.base_s, turn.stopped_s)
    first_audio_s = next((reply.first_audio_s for reply in replies if reply.first_audio_s is not None), None)
    ends = {
        "first_text": next((reply.first_text_s for reply in replies if reply.first_text_s is not None), None),
        "first_audio": first_audio_s,
        "speech_to_audio": first_audio_s,
        "answer": replies[-1].done_s if replies and turn.waits else None,
    }
    found = {name: causes.latency_ms(name, end_s) for name, end_s in ends.items()}
    found["interruption"] = turn.interruption_ms
    return {name: value for name, value in found.items() if value is not None}
