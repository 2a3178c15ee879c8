"""One whole answer: which of a turn's answers is the one that was asked for, and what it brought. Pure."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from realtime_client import errors
from realtime_client import updates as up
from realtime_client.errors import RealtimeError, ResponseFailedError

from .stats import TurnStats


class Answer(msgspec.Struct, kw_only=True, frozen=True):
    """One whole answer.

    text: all of it, in order. audio: in audio_format; empty for a text answer. heard: what the server understood of
    the user's audio, when it said so in time. status, reason: as in `updates.ResponseDone`. sources: where another
    model went on with it. unreadable, unreadable_audio: messages that came in the meantime and could not be read, and
    those of them that held sound; their contents are missing.
    """

    text: str
    audio: bytes
    audio_format: up.AudioFormat
    status: str
    reason: str | None = None
    error: str | None = None
    heard: str = ""
    usage: up.Usage | None = None
    tool_calls: tuple[up.ToolCall, ...] = ()
    sources: tuple[up.AnswerSource, ...] = ()
    item_ids: tuple[str, ...] = ()
    timings: TurnStats | None = None
    unreadable: int = 0
    unreadable_audio: int = 0
    alternatives: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether it holds nothing at all: no text, no sound, no call."""
        return not (self.text.strip() or self.audio or self.tool_calls)

    def __repr__(self) -> str:
        calls = ", ".join(call.name for call in self.tool_calls)
        shown = {
            "status": self.status,
            "text": self.text if len(self.text) <= 60 else self.text[:57] + "...",
            "audio": f"<{len(self.audio)} bytes, {self.audio_format.ms(len(self.audio)) / 1000:.1f} s>",
            "reason": self.reason,
            "error": self.error,
            "heard": self.heard,
            "tool_calls": f"<{calls}>" if calls else "",
            "alternatives": f"<{len(self.alternatives)}>" if self.alternatives else "",
        }
        return f"Answer({', '.join(f'{name}={value!r}' for name, value in shown.items() if value)})"


_REMOTE_ENDS = ("response.mcp_call.completed", "response.mcp_call.failed")


class TurnFollower:
    """Takes the updates of one turn in order; they alone decide what became of it.

    request: the request for an answer; None follows whatever begins. cause: a request whose refusal ends the wait for
    whatever begins. With voice, several answers may begin where the speaker paused and went on: the last one counts.
    show: takes the answer's text as it comes. tell: takes a line for people about what is no part of the answer.
    tools_run: the calls of an answer get their results elsewhere; the answer to these is the one that counts, as it is
    after tools that the model's server runs. An answer that breaks off with its connection and is asked for again is
    followed to the new one: nothing of the broken one is part of the answer, but what it called, and what `show` got.
    away: there is no connection, and another one is tried.
    error: what the answer failed with, where that is more than its status says.
    """

    def __init__(
        self,
        request: str | None,
        audio_format: up.AudioFormat,
        *,
        show: Callable[[str], object] = bool,
        tell: Callable[[str], object] = bool,
        tools_run: bool = False,
    ) -> None:
        self.request = request
        self.cause: str | None = None
        self.response_id: str | None = None  # the answer that is followed
        self.heard_speech = False
        self.away = False
        self.error: RealtimeError | None = None
        self.complaint: up.Failure | None = None  # what the server said that concerns no request of ours
        self._format = audio_format
        self._show = show
        self._tell = tell
        self._open: set[str] = set()  # answers that run
        self._speaking = False
        self._transcripts: dict[str, str | None] = {}  # of the user's items; None while it is awaited
        self._audio: list[bytes] = []
        self._calls: list[up.ToolCall] = []
        self._tools_run = tools_run
        self._awaited: set[str] = set()  # calls without a result, of answers that are followed
        self._remote = False  # the server runs tools for the answer
        self._goes_on = False  # an answer to results, or the same again, was asked for and has not begun
        self._next: tuple[str, str] | None = None  # an answer, and the request for one that follows it
        self._sources: list[up.AnswerSource] = []
        self._part: tuple[str, int] | None = None
        self._unreadable = self._unreadable_audio = 0
        self._done: up.ResponseDone | None = None

    @property
    def begun(self) -> bool:
        """Whether an answer has begun, or was complete."""
        return bool(self._open) or self._done is not None

    @property
    def complete(self) -> bool:
        """Whether the answer is there and nothing is going on that would change it."""
        return self._done is not None and not (self._speaking or self._open or self._awaited or self._goes_on)

    @property
    def awaits_transcript(self) -> bool:
        """Whether the user's words are still to come as text."""
        return None in self._transcripts.values()

    def asked(self, request: str) -> None:
        """The request is only known now. Errors: ResponseFailedError when it has been refused already."""
        self.request = request
        if self.complaint is not None:
            self._failed(self.complaint)

    def answer(self, timings: TurnStats | None = None) -> Answer:
        """Return the answer as it is, with these figures of it; `complete` says whether it is whole."""
        done = self._done or up.ResponseDone(response_id=self.response_id or "", status="incomplete")
        return Answer(
            text=done.text,
            audio=b"".join(self._audio),
            audio_format=self._format,
            status=done.status,
            reason=done.reason,
            error=done.error,
            heard=" ".join(text for text in self._transcripts.values() if text),
            usage=done.usage,
            tool_calls=tuple(self._calls),
            sources=tuple(self._sources),
            item_ids=done.item_ids,
            timings=timings,
            unreadable=self._unreadable,
            unreadable_audio=self._unreadable_audio,
        )

    def take(self, update: up.Update) -> None:
        """Take one update in. Errors: ResponseFailedError when the request is refused."""
        match update:
            case up.TextDelta() if update.response_id == self.response_id:
                part = (update.item_id, update.content_index)
                self._show(update.text if self._part in (None, part) else "\n" + update.text)
                self._part = part
            case up.AudioDelta() if update.response_id == self.response_id:
                self._audio.append(update.audio)
            case up.ToolCall() if update.response_id == self.response_id:
                self._calls.append(update)
                if self._tools_run:
                    self._awaited.add(update.call_id)
            case up.ToolResult():
                self._awaited.discard(update.call_id)
            case up.AnswerFollows() if update.response_id == self.response_id:
                self._next = (update.response_id, update.request_id)
                if self._tools_run or self._remote:
                    self._follow(update.request_id)
                    self._awaited.clear()
            case up.ItemAdded(item_type="mcp_call") if self.response_id in self._open:
                self._remote = True
                self._awaited.add(update.item_id)
            case up.ApprovalRequested(remote=True) if self.response_id in self._open and self._tools_run:
                self._awaited.add(update.request_id)
            case up.Progress() if update.what in _REMOTE_ENDS:
                self._awaited.discard(update.item_id)
            case up.AnswerSource() if update.response_id == self.response_id:
                self._sources.append(update)
            case up.ResponseStarted(out_of_band=False):
                self._begin(update)
            case up.ResponseDone(out_of_band=False):
                self._ended(update)
            case up.Failure():
                self._failed(update)
            case up.Malformed():
                self._unreadable += 1
                self._unreadable_audio += update.audio
            case up.Notice():
                self._tell(update.message)
            case up.ConnectionLost():
                self.away = update.goes_on
                self._awaited &= {call.call_id for call in self._calls}  # what the server ran is over
            case up.Restored():
                self.away = False
            case _:
                self._hear(update)

    def _follow(self, request_id: str) -> None:
        """The answer to this request is the one that counts."""
        self.request, self._goes_on = request_id, True

    def _ended(self, done: up.ResponseDone) -> None:
        self._open.discard(done.response_id)
        if done.response_id != self.response_id:
            return
        self._done = done
        if done.reason == up.CONNECTION_LOST and self._next is not None and self._next[0] == done.response_id:
            self._follow(self._next[1])

    def _hear(self, update: up.Update) -> None:
        """What the server made of the user's audio."""
        match update:
            case up.SpeechStarted():
                self._speaking = self.heard_speech = True
            case up.SpeechStopped():
                self._speaking, self._done = False, None
            case up.InputCommitted():
                self._speaking, self.heard_speech, self._done = False, True, None
                self._transcripts.setdefault(update.item_id, None)
            case up.UserTranscript():
                self._transcripts[update.item_id] = update.text.strip()
            case up.UserTranscriptFailed():
                self._transcripts[update.item_id] = ""
            case _:
                pass

    def _begin(self, started: up.ResponseStarted) -> None:
        if self.request is not None and started.request_id != self.request:
            return  # somebody else's answer
        if self.request is not None and self.response_id is not None:
            self._open.discard(self.response_id)  # it only seemed to be ours
        self._open.add(started.response_id)
        self.response_id, self._done = started.response_id, None
        self._audio, self._sources = [], []
        if not self._goes_on:
            self._calls = []
            self._awaited.clear()
        self._goes_on = False

    def _failed(self, failure: up.Failure) -> None:
        ours = failure.event_id is not None and failure.event_id in {self.request, self.cause}
        if failure.code == up.REQUEST_CANCELLED:
            if ours:
                raise ResponseFailedError(failure.message, code=failure.code)
        elif failure.benign:
            if ours and self.response_id is not None:  # what began was the server's own answer: ours is still to come
                self._open.discard(self.response_id)
                self.response_id = self._done = None
        elif ours and failure.raises and self.response_id is not None:
            self.error = error_of(failure)  # the end of the answer follows
        elif ours:
            raise ResponseFailedError(failure.message or failure.code or "the request was refused", code=failure.code)
        elif failure is not self.complaint:
            self.complaint = failure
            words = failure.message or failure.code or ""
            self._tell(words if failure.of_this_side else f"the server reports: {words}")


def error_of(failure: up.Failure) -> RealtimeError:
    """Return the error that a failure is to whoever waits for the answer."""
    message = failure.message or failure.code or "the request was refused"
    if failure.source and failure.source not in message:
        message = f"{failure.source}: {message}"
    kind: type[RealtimeError] = getattr(errors, failure.raises or "", ResponseFailedError)
    error = kind(message)
    if isinstance(error, errors.HostUnreachableError | errors.RateLimitedError):
        error.retry_after_s = failure.retry_after_s
    elif isinstance(error, ResponseFailedError | errors.SessionRefusedError):
        error.code = failure.code
    return error
