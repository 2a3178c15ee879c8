"""A session at work: one thread that takes the client's messages and produces answers between them.

The protocol's rules live in `ServerConversation`; this is its thin shell. Between two pieces of an answer (about 100 ms
of audio) it looks into the inbox, so cancel, interruption and new audio take effect at once. With nothing to do it
blocks on the inbox. A brain that waits has a thread of its own for each answer, and its words come through the inbox.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

from realtime_client.deadline import Clock
from realtime_client.protocol import events as ev
from realtime_client.protocol.codec import decode_client
from realtime_client.protocol.server.conversation import ServerConversation
from realtime_client.protocol.server.work import (
    Listen,
    Relisten,
    RemoteWork,
    StartResponse,
    StopResponse,
    Transcribe,
    Work,
)

from .answer import AnswerPiece, Piece, produce, turn_of
from .brain import BrainError, CallTool, CutShort, Said, Spent
from .ear_pool import EarPool
from .helpers import Helpers
from .inbox import Ended, Inbox, Result, Thought, ToolReturned, ToolsListed, Transcribed
from .parts import Parts
from .vad import SpeechBegan, TurnDetector, VoiceDetector
from .words import Nothing, think

if TYPE_CHECKING:
    from .remote import McpSession

_log = logging.getLogger(__name__)
_LEAD_S = 2.0
_LISTEN_MS = 500
_LONG = 2**20
_MOST_NODES = 200_000
_LISTS_END = (ev.McpListToolsCompleted, ev.McpListToolsFailed)
TOO_MANY = ev.MalformedEvent(type="", error=f"it has more than {_MOST_NODES} objects and arrays")
_EXPIRY = "Your session hit the maximum duration of 60 minutes."
EXPIRED = ev.Error(
    event_id="event_expired",
    error=ev.ErrorDetail(type="invalid_request_error", code="session_expired", message=_EXPIRY),
)
AFTER_EXPIRY = Ended(code=1001, reason=_EXPIRY)


def _has_too_many(frame: bytes) -> bool:
    """Whether a message has so many parts that reading it would hold up all other sessions for long."""
    return len(frame) > _LONG and frame.count(b"[") + frame.count(b"{") > _MOST_NODES


class _Running:
    """An answer that the brain works on. due_s: when its next piece may go out. waits: the brain has not said it."""

    def __init__(self, pieces: Generator[Piece, None, None], started_s: float) -> None:
        self.pieces = pieces
        self.due_s = started_s
        self.waits = False
        self._started_s = started_s
        self._said_s = 0.0

    def went_out(self, duration_s: float, pace: float) -> None:
        """A piece went out: the next one is due when the client has played so much that it is about to need it."""
        self._said_s += duration_s
        if pace > 0:
            self.due_s = self._started_s + max(0.0, self._said_s - _LEAD_S) / pace

    def goes_on(self, now_s: float) -> None:
        """The brain has said more. What it was waited for is not made up by haste."""
        self.waits = False
        late_s = max(0.0, now_s - self.due_s)
        self._started_s += late_s
        self.due_s += late_s


class Engine:
    """Runs one conversation until its inbox ends.

    send: takes each server message; may block, and raises when the connection is lost. pace: how much faster than real
    time an answer comes after its first two seconds; 0 for as fast as possible. helpers: threads for brains that wait
    and for remote tools. remote_tools: whether MCP servers are asked. expires_at_s: monotonic moment at which the
    session is over.
    """

    def __init__(
        self,
        conversation: ServerConversation,
        inbox: Inbox,
        send: Callable[[ev.ServerEvent], None],
        *,
        parts: Parts,
        ears: EarPool,
        helpers: Helpers,
        remote_tools: bool,
        clock: Clock,
        pace: float,
        expires_at_s: float,
        translate: Callable[[Any], Any] | None = None,
    ) -> None:
        self._conversation = conversation
        self._inbox = inbox
        self._send = send
        self._parts = parts
        self._ears = ears
        self._helpers = helpers
        self._remote_tools = remote_tools
        self._mcp: McpSession | None = None
        self._clock = clock
        self._pace = pace
        self._expires_at_s = expires_at_s
        self._translate = translate
        self._running: dict[str, _Running] = {}
        self._waiting: list[str] = []
        self._relisten: Relisten | None = None
        self._detector: VoiceDetector | None = None
        self._audio: deque[bytes] = deque()

    def run(self) -> Ended:
        """Hold the conversation; return how to close it."""
        try:
            self._carry_out(self._conversation.start())
            return self._loop()
        finally:
            for response_id in list(self._running):
                self._stop(response_id)
            if self._mcp is not None:
                self._mcp.end()

    def _loop(self) -> Ended:
        while True:
            message = None
            if self._audio:
                self._listen(self._audio.popleft())
            else:
                message = self._inbox.get(self._wait_s())
            if isinstance(message, Ended):
                return message
            if isinstance(message, bytes):
                self._receive(message)
            elif message is not None:
                self._take_result(message)
            now_s = self._clock.monotonic()
            if now_s >= self._expires_at_s:
                return self._expire()
            self._carry_out(self._conversation.tick(now_s))
            for response_id in list(self._running):
                self._continue(response_id, now_s)

    def _wait_s(self) -> float | None:
        """Return for how long there is nothing to do but wait for the inbox."""
        moments = [running.due_s for running in self._running.values() if not running.waits]
        moments.append(self._expires_at_s)
        tick_s = self._conversation.next_tick_s()
        if tick_s is not None:
            moments.append(tick_s)
        return max(0.0, min(moments) - self._clock.monotonic())

    def _receive(self, frame: bytes) -> None:
        event = TOO_MANY if _has_too_many(frame) else decode_client(frame)
        if self._translate is not None:
            event = self._translate(event)
        if isinstance(event, ev.InputAudioBufferAppend):
            self._ears.warm_up()
        self._carry_out(self._conversation.receive(event))

    def _take_result(self, result: Result) -> None:
        if isinstance(result, Transcribed):
            self._take_heard(result)
        elif isinstance(result, ToolsListed):
            self._take_tools(result)
        elif isinstance(result, ToolReturned):
            self._take_returned(result)
        elif result.response_id in self._running:
            self._running[result.response_id].goes_on(self._clock.monotonic())

    def _take_tools(self, listed: ToolsListed) -> None:
        if listed.tools is None:
            _log.info("%s", listed.message)
            out = self._conversation.not_listed(listed.item_id, listed.message)
        else:
            out = self._conversation.listed(listed.item_id, listed.tools)
        self._carry_out(out)

    def _take_returned(self, returned: ToolReturned) -> None:
        if returned.output is None:
            out = self._conversation.broke(returned.item_id, returned.message)
        else:
            out = self._conversation.returned(returned.item_id, returned.output)
        self._carry_out(out)

    def _take_heard(self, heard: Transcribed) -> None:
        if heard.text is None:
            out = self._conversation.not_heard(heard.item_id, heard.content_index, heard.message)
        else:
            out = self._conversation.heard(heard.item_id, heard.content_index, heard.text)
        self._carry_out(out)
        self._begin_waiting()

    def _begin_waiting(self) -> None:
        """Start the answers that waited for what is known now; those that wait for more go on waiting."""
        waiting, self._waiting = self._waiting, []
        for response_id in waiting:
            self._begin(response_id)

    def _expire(self) -> Ended:
        self._send(EXPIRED)
        return AFTER_EXPIRY

    # --- what the conversation asks for -------------------------------------------------------------------------------

    def _carry_out(self, out: list[ev.ServerEvent | Work]) -> None:
        for step in out:
            if isinstance(step, ev.ServerEvent):
                self._send(step)
            elif isinstance(step, Listen):
                self._queue_audio(step.audio)
            elif isinstance(step, Relisten):
                self._relisten, self._detector = step, None
                self._audio.clear()
            elif isinstance(step, Transcribe):
                self._transcribe(step)
            elif isinstance(step, StartResponse):
                self._begin(step.response_id)
            elif isinstance(step, StopResponse):
                self._stop(step.response_id)
            elif isinstance(step, RemoteWork):
                self._ask_mcp(step)
        if any(isinstance(step, _LISTS_END) for step in out):
            self._begin_waiting()

    def _ask_mcp(self, work: RemoteWork) -> None:
        if self._mcp is None:
            from .remote import McpSession  # most sessions have no remote tools

            self._mcp = McpSession(self._helpers, self._inbox.put_result, allowed=self._remote_tools)
        self._mcp.take(work)

    def _queue_audio(self, audio: bytes) -> None:
        """Cut incoming audio into pieces, so that a big append does not hold up the answer."""
        assert self._relisten is not None
        size = _LISTEN_MS * self._relisten.format.bytes_per_ms
        self._audio.extend(audio[start : start + size] for start in range(0, len(audio), size))

    def _listen(self, audio: bytes) -> None:
        asked = self._relisten
        if asked is None or asked.turn_detection is None:
            return
        if self._detector is None:
            model = self._parts.speech_model()
            self._detector = TurnDetector(asked.turn_detection, asked.format, asked.at_ms, model)
        for found in self._detector.feed(audio):
            if isinstance(found, SpeechBegan):
                self._carry_out(self._conversation.speech_started(found.at_ms))
            else:
                self._carry_out(self._conversation.speech_stopped(found.at_ms))

    def _transcribe(self, work: Transcribe) -> None:
        def answer(text: str | None, message: str) -> None:
            heard = Transcribed(item_id=work.item_id, content_index=work.content_index, text=text, message=message)
            self._inbox.put_result(heard)

        if work.audio:
            self._ears.submit(work.audio, work.format, answer)
        else:
            answer("", "")

    # --- answers ------------------------------------------------------------------------------------------------------

    def _begin(self, response_id: str) -> None:
        """Start an answer, or let it wait for the transcript of what it answers, or for a list of tools."""
        brief = self._conversation.brief(response_id)
        if brief is not None:
            turn, brain = turn_of(brief, self._clock.wall()), self._parts.brain

            def begin() -> Iterator[Said | Nothing]:
                if not getattr(brain, "blocks", False):
                    return brain.reply(turn)
                thought = Thought(response_id=response_id)
                return think(self._helpers, lambda: brain.reply(turn), lambda: self._inbox.put_result(thought))

            pieces = produce(brief, begin, self._parts)
            self._running[response_id] = _Running(pieces, self._clock.monotonic())
        elif self._conversation.running(response_id):
            self._waiting.append(response_id)

    def _stop(self, response_id: str) -> None:
        running = self._running.pop(response_id, None)
        if running is not None:
            running.pieces.close()

    def _continue(self, response_id: str, now_s: float) -> None:
        """Send the next piece of an answer, if its time has come."""
        running = self._running.get(response_id)
        if running is None or running.waits or running.due_s > now_s:
            return
        try:
            piece = next(running.pieces, None)
        except Exception as error:  # noqa: BLE001 - a foreign brain or voice may raise anything
            self._running.pop(response_id, None)
            self._carry_out(self._conversation.fail(response_id, *_told(error)))
            return
        if piece is None:
            self._running.pop(response_id, None)
            self._carry_out(self._conversation.finish(response_id))
        elif isinstance(piece, Nothing):
            running.waits = True
        else:
            self._send_piece(response_id, running, piece)

    def _send_piece(
        self, response_id: str, running: _Running, piece: AnswerPiece | CallTool | Spent | CutShort
    ) -> None:
        conversation = self._conversation
        if isinstance(piece, CallTool):
            self._carry_out(conversation.call(response_id, piece.name, piece.arguments, call_id=piece.call_id))
        elif isinstance(piece, Spent):
            conversation.spent(response_id, piece.usage)
        elif isinstance(piece, CutShort):
            self._carry_out(conversation.cut_short(response_id, piece.reason))
        else:
            running.went_out(piece.duration_s, self._pace)
            self._carry_out(conversation.say(response_id, piece.text, piece.audio))


def _told(error: Exception) -> tuple[str, str]:
    """What the client is told of a failure, and its code; what it is not told is logged."""
    if isinstance(error, BrainError):
        return str(error), error.code
    _log.warning("the brain or the voice failed: %s: %s", type(error).__name__, error)
    _log.debug("where it failed", exc_info=error)
    return f"The answer failed: {type(error).__name__}.", "server_error"
