"""One whole answer, put together from updates."""

from __future__ import annotations

import msgspec

from realtime_client import updates as up
from realtime_client.errors import ResponseFailedError

from .stats import TurnStats


class Answer(msgspec.Struct, kw_only=True, frozen=True):
    """One whole answer.

    text: all of it, in order. audio: in audio_format; empty for a text answer. heard: what the server understood of
    the user's audio, when it said so in time. status, reason: as in `updates.ResponseDone`. unreadable: messages that
    came meanwhile and could not be read; what they held is missing.
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
    item_ids: tuple[str, ...] = ()
    timings: TurnStats | None = None
    unreadable: int = 0

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
        }
        return f"Answer({', '.join(f'{name}={value!r}' for name, value in shown.items() if value)})"


class AnswerCollector:
    """Follows one answer. Pure: updates in, the answer out when it is over.

    request: the event id of the request for it; None for the next answer of the conversation, whoever caused it.
    """

    def __init__(self, request: str | None, audio_format: up.AudioFormat) -> None:
        self.response_id: str | None = None
        self._request = request
        self._format = audio_format
        self._audio: list[bytes] = []
        self._heard: list[str] = []
        self._calls: list[up.ToolCall] = []
        self._unreadable = 0

    def take(self, update: up.Update) -> Answer | None:
        """Take one update in. Errors: ResponseFailedError when the request was refused."""
        if isinstance(update, up.ResponseStarted):
            self._start(update)
        elif isinstance(update, up.UserTranscript):
            self._heard.append(update.text)
        elif isinstance(update, up.Failure):
            self._fail(update)
        elif isinstance(update, up.Malformed):
            self._unreadable += 1
        elif getattr(update, "response_id", None) != self.response_id or self.response_id is None:
            return None
        elif isinstance(update, up.AudioDelta):
            self._audio.append(update.audio)
        elif isinstance(update, up.ToolCall):
            self._calls.append(update)
        elif isinstance(update, up.ResponseDone):
            return self._finish(update)
        return None

    def _start(self, update: up.ResponseStarted) -> None:
        """Follow this answer; one that is told to be ours takes the place of one that only seemed to be."""
        ours = self._request is not None and update.request_id == self._request
        if not update.out_of_band and (ours or (self.response_id is None and self._request is None)):
            self.response_id, self._audio, self._calls = update.response_id, [], []

    def _fail(self, update: up.Failure) -> None:
        ours = update.event_id is not None and update.event_id == self._request
        if update.code == up.REQUEST_CANCELLED:
            if ours:
                raise ResponseFailedError(update.message, code=update.code)
        elif update.benign:
            if update.event_id is not None and update.event_id == self._request:
                # What had begun was the server's own answer; ours begins when that one is over.
                self.response_id, self._audio, self._calls = None, [], []
        elif update.fatal or (update.event_id is not None and update.event_id == self._request):
            raise ResponseFailedError(update.message, code=update.code)

    def _finish(self, done: up.ResponseDone) -> Answer:
        return Answer(
            text=done.text,
            audio=b"".join(self._audio),
            audio_format=self._format,
            status=done.status,
            reason=done.reason,
            error=done.error,
            heard=" ".join(self._heard),
            usage=done.usage,
            tool_calls=tuple(self._calls),
            item_ids=done.item_ids,
            unreadable=self._unreadable,
        )
