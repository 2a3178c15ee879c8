"""What a conversation tells its observers, in words that no wire protocol owns.

Screen, recorder, batch runs, reports and gateways see these and nothing else, so each of them serves every
kind of session. Identifiers (`item_id`, `response_id`) are opaque strings from the server: never trusted as file
names, never printed unescaped. Times are seconds of the session's monotonic clock, offsets into audio are
milliseconds.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

import msgspec


class AudioFormat(msgspec.Struct, frozen=True):
    """How audio bytes are to be read: mono, little-endian.

    encoding: `pcm16` (2 bytes a sample), `ulaw` or `alaw` (G.711, 1 byte a sample).
    """

    encoding: str = "pcm16"
    rate_hz: int = 24_000

    @property
    def bytes_per_sample(self) -> int:
        """2 for pcm16, 1 for G.711."""
        return 2 if self.encoding == "pcm16" else 1

    @property
    def bytes_per_ms(self) -> int:
        """48 for PCM at 24 kHz, 8 for G.711."""
        return self.rate_hz * self.bytes_per_sample // 1000

    def ms(self, size_bytes: int) -> int:
        """Whole milliseconds of audio in so many bytes, rounded down."""
        return size_bytes * 1000 // (self.rate_hz * self.bytes_per_sample)


PCM16_24K = AudioFormat()


def _kind(name: str) -> str:
    """Return a class's name as its kind: `TextDelta` is `text_delta`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


class Update(msgspec.Struct, kw_only=True, frozen=True, tag_field="kind", tag=_kind):
    """Something happened in the conversation. Subclasses are the complete list.

    As JSON an update is an object with its kind: `{"kind":"text_delta",...}`; so it stands in a journal.
    """

    kind: ClassVar[str] = "update"


class Abilities(msgspec.Struct, frozen=True, kw_only=True):
    """What the other side can do; asking for anything else is a UsageError in the call.

    audio_in, images_in: it takes these besides text. answers: it answers at all, and does not only write down. tools:
    it calls tools. truncation: it can be told how much of an answer was heard.
    """

    audio_in: bool = True
    images_in: bool = True
    answers: bool = True
    tools: bool = True
    truncation: bool = True


class Media(msgspec.Struct, frozen=True, gc=False):
    """Sound that a message carries.

    audio: the sound, in the session's format. who: `user` or `assistant`. item_id: whose sound it is, '' where that is
    not known yet. live: a piece of a stream that goes on; else all the sound of (a part of) an item. start, end: where
    its base64 stands in the frame, between the quotes; 0, 0 where that cannot be found.
    """

    audio: bytes
    who: str
    item_id: str = ""
    live: bool = False
    start: int = 0
    end: int = 0


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is true of a session now, in the words of no wire.

    model, voice: '' where the other side does not say. input_format, output_format: what `send_audio` takes and
    `AudioDelta` carries. modalities: what answers are made of, `audio` (with its text) or `text`. turn_end: who ends a
    spoken turn: `server_vad` (silence), `semantic_vad` (meaning), or `manual` (this program commits).
    ending_silence_ms: how much silence must follow speech for the turn to end, 0 where it never does.
    transcribes: the user's audio comes back as text. tools: the names of what the model may call.
    expires_at: epoch seconds, None for no end. abilities: what the other side can do.
    """

    model: str = ""
    voice: str = ""
    input_format: AudioFormat = PCM16_24K
    output_format: AudioFormat = PCM16_24K
    modalities: tuple[str, ...] = ("audio",)
    turn_end: str = "manual"
    ending_silence_ms: int = 0
    transcribes: bool = False
    tools: tuple[str, ...] = ()
    expires_at: int | None = None
    abilities: Abilities = Abilities()

    @property
    def in_writing(self) -> bool:
        """Whether it has no sound at all, in neither direction: so it is with text models."""
        return "audio" not in self.modalities and not self.abilities.audio_in


OWN_SESSION = "sess_local"
"""How the ids of sessions begin that are with a server of this package."""


class SessionStarted(Update, frozen=True):
    """The server accepted the session.

    settings: all that the server states of it, in its own words: for the record and for people only.
    """

    kind: ClassVar[str] = "session_started"
    session_id: str
    facts: Facts = Facts()
    settings: dict[str, Any] = {}


class SessionChanged(Update, frozen=True):
    """The server confirmed new settings; `facts` and `settings` are the whole of them, as in `SessionStarted`."""

    kind: ClassVar[str] = "session_changed"
    facts: Facts = Facts()
    settings: dict[str, Any] = {}


class SpeechStarted(Update, frozen=True):
    """The server hears the user speak. at_ms: offset in all audio sent this session."""

    kind: ClassVar[str] = "speech_started"
    item_id: str
    at_ms: int


class SpeechStopped(Update, frozen=True):
    """The server hears that the user stopped. at_ms: offset in all audio sent this session."""

    kind: ClassVar[str] = "speech_stopped"
    item_id: str
    at_ms: int


class InputCommitted(Update, frozen=True):
    """The audio since the last commit became the user's item."""

    kind: ClassVar[str] = "input_committed"
    item_id: str
    previous_item_id: str | None = None


class InputTimedOut(Update, frozen=True):
    """The user was silent for the whole idle time; the silence became an item."""

    kind: ClassVar[str] = "input_timed_out"
    item_id: str
    start_ms: int
    end_ms: int


class ItemAdded(Update, frozen=True):
    """An item took its place in the conversation.

    role: `user`, `assistant`, `system`, or `tool` for calls and their results.
    text: what is known of it so far. previous_item_id: the item it follows, None for the front or unknown.
    local: True when this client made it (typed text, a tool result).
    """

    kind: ClassVar[str] = "item_added"
    item_id: str
    role: str
    item_type: str
    text: str = ""
    previous_item_id: str | None = None
    has_audio: bool = False
    local: bool = False


class ItemDone(Update, frozen=True):
    """An item is complete; `text` is its final text, `status` is completed or incomplete."""

    kind: ClassVar[str] = "item_done"
    item_id: str
    role: str
    item_type: str
    text: str = ""
    status: str = "completed"
    previous_item_id: str | None = None
    has_audio: bool = False


class ItemDeleted(Update, frozen=True):
    """An item left the conversation."""

    kind: ClassVar[str] = "item_deleted"
    item_id: str


class UserTranscriptDelta(Update, frozen=True):
    """More of what the user's audio was heard to say. May come late; belongs to `item_id`."""

    kind: ClassVar[str] = "user_transcript_delta"
    item_id: str
    content_index: int
    text: str


class UserTranscript(Update, frozen=True):
    """What the user's audio was heard to say, complete. usage: billed apart, as the server states it."""

    kind: ClassVar[str] = "user_transcript"
    item_id: str
    content_index: int
    text: str
    usage: dict[str, Any] | None = None


class UserTranscriptFailed(Update, frozen=True):
    """The user's audio could not be transcribed; the conversation goes on."""

    kind: ClassVar[str] = "user_transcript_failed"
    item_id: str
    content_index: int
    message: str
    code: str | None = None


class TranscriptSegment(Update, frozen=True):
    """One segment of a diarised transcript; start_s and end_s within the item's audio."""

    kind: ClassVar[str] = "transcript_segment"
    item_id: str
    content_index: int
    text: str
    speaker: str
    start_s: float
    end_s: float


class ResponseStarted(Update, frozen=True):
    """The model begins to answer. out_of_band: the answer stays outside the conversation.

    request_id: the request that it answers, as far as that can be told; None when the server began by itself.
    """

    kind: ClassVar[str] = "response_started"
    response_id: str
    out_of_band: bool = False
    metadata: dict[str, str] | None = None
    request_id: str | None = None


class TextDelta(Update, frozen=True):
    """More of an answer's text. spoken: it is the transcript of audio."""

    kind: ClassVar[str] = "text_delta"
    response_id: str
    item_id: str
    content_index: int
    text: str
    spoken: bool = False


class ThinkingDelta(Update, frozen=True):
    """More of what the model thinks aloud before it answers: no part of the answer."""

    kind: ClassVar[str] = "thinking_delta"
    response_id: str
    item_id: str
    text: str


class AnswerSource(Update, frozen=True):
    """Who makes an answer from here on: not the session's model, or another request than the one that began it.

    offset: how many characters of its text had come before. source: the model that goes on, as `--model` names it; the
    same one where it was asked for the rest. reason: why the request before does not, for people, one line.
    """

    kind: ClassVar[str] = "answer_source"
    response_id: str
    item_id: str
    offset: int
    source: str
    reason: str = ""


class Alternatives(Update, frozen=True):
    """Other answers stand beside the one in the conversation. texts: all of them; chosen: the index of that one."""

    kind: ClassVar[str] = "alternatives"
    item_id: str
    texts: tuple[str, ...]
    chosen: int = 0


class BreakerChanged(Update, frozen=True):
    """A model is left alone for a while because it fails (`open`), tried again (`half_open`), or fine (`closed`)."""

    kind: ClassVar[str] = "breaker_changed"
    source: str
    state: str
    reason: str = ""


class TextDone(Update, frozen=True):
    """One content part's text, complete (as far as it was generated)."""

    kind: ClassVar[str] = "text_done"
    response_id: str
    item_id: str
    content_index: int
    text: str
    spoken: bool = False


class AudioDelta(Update, frozen=True, gc=False):
    """More of an answer's audio, in the session's output format."""

    kind: ClassVar[str] = "audio_delta"
    response_id: str
    item_id: str
    content_index: int
    audio: bytes


class AudioDone(Update, frozen=True):
    """The last sample of this content part has been delivered before this update."""

    kind: ClassVar[str] = "audio_done"
    response_id: str
    item_id: str
    content_index: int


class ToolCallDelta(Update, frozen=True):
    """More of a tool call's arguments; show, do not run."""

    kind: ClassVar[str] = "tool_call_delta"
    response_id: str
    item_id: str
    call_id: str
    text: str


class ToolCall(Update, frozen=True):
    """The model calls a tool; the call is complete. arguments: the model's JSON text, possibly invalid."""

    kind: ClassVar[str] = "tool_call"
    response_id: str
    item_id: str
    call_id: str
    name: str
    arguments: str


class ToolStarted(Update, frozen=True):
    """A tool of this program begins to work on a call."""

    kind: ClassVar[str] = "tool_started"
    call_id: str
    name: str


class ToolProgress(Update, frozen=True):
    """A tool of this program tells how far it is.

    text: one line, or a part of its output. done, total: how much of how much, in a unit of its own; None if not known.
    """

    kind: ClassVar[str] = "tool_progress"
    call_id: str
    name: str
    text: str = ""
    done: float | None = None
    total: float | None = None


class ToolFinished(Update, frozen=True):
    """A tool of this program is done with a call.

    status: completed, failed, timed_out, cancelled, refused (it was not allowed to run) or invalid (its arguments are
    not what the tool takes; or there is no such tool). duration_ms: of its work, None when it did not begin.
    """

    kind: ClassVar[str] = "tool_finished"
    call_id: str
    name: str
    status: str = "completed"
    duration_ms: float | None = None
    error: str | None = None


class ToolResult(Update, frozen=True):
    """What a tool returned was sent to the model. response_id: the answer that called it; item_id: the result's."""

    kind: ClassVar[str] = "tool_result"
    call_id: str
    name: str
    output: str
    item_id: str
    response_id: str


class ApprovalRequested(Update, frozen=True):
    """A call of a tool waits to be allowed: see `Session.approve`.

    request_id: what to approve; of a tool of this program it is the call. origin: where the tool comes from. remote:
    the model's server runs the tool.
    """

    kind: ClassVar[str] = "approval_requested"
    request_id: str
    name: str
    arguments: str
    origin: str = ""
    remote: bool = False


class ApprovalDecided(Update, frozen=True):
    """A call that waited was allowed, or not. reason: for people, why, where that was no answer to the question."""

    kind: ClassVar[str] = "approval_decided"
    request_id: str
    name: str
    approved: bool
    reason: str = ""


class AnswerFollows(Update, frozen=True):
    """All calls of an answer have their results, and an answer to these was asked for.

    It comes before what completes them: the last result, or the end of the answer that called.
    response_id: the answer that called. request_id: the request for the one that follows.
    """

    kind: ClassVar[str] = "answer_follows"
    response_id: str
    request_id: str


class Progress(Update, frozen=True):
    """A step of work the server does by itself (remote tools). what: the step; item_id: whose; text: more of it."""

    kind: ClassVar[str] = "progress"
    what: str
    item_id: str
    text: str = ""


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens by modality. `cached_*` are subsets of the `input_*` of the same modality, never added to them."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    input_text: int = 0
    input_audio: int = 0
    input_image: int = 0
    cached: int = 0
    cached_text: int = 0
    cached_audio: int = 0
    cached_image: int = 0
    output_text: int = 0
    output_audio: int = 0

    def __add__(self, other: Usage) -> Usage:
        """Sum, field by field."""
        return Usage(*(getattr(self, f) + getattr(other, f) for f in self.__struct_fields__))


class ResponseDone(Update, frozen=True):
    """The answer is over.

    status: completed, cancelled, failed or incomplete. reason: why not completed (turn_detected,
    client_cancelled, max_output_tokens, content_filter, or an error code). text: all its text, in order.
    """

    kind: ClassVar[str] = "response_done"
    response_id: str
    status: str
    reason: str | None = None
    error: str | None = None
    text: str = ""
    item_ids: tuple[str, ...] = ()
    usage: Usage | None = None
    out_of_band: bool = False
    metadata: dict[str, str] | None = None


CONNECTION_LOST = "connection_lost"
"""The reason of an answer that broke off with its connection."""


class Interrupted(Update, frozen=True):
    """An answer was cut. cause: `speech`, `typed`, `cancel`.

    heard_ms: what the user heard of this item's audio; received_ms: what had arrived of it. spoken: False for an answer
    in writing, or where nothing plays: all that came was seen.
    """

    kind: ClassVar[str] = "interrupted"
    response_id: str | None
    item_id: str
    content_index: int
    heard_ms: int
    received_ms: int
    cause: str
    spoken: bool = True

    @property
    def heard_all(self) -> bool:
        """Whether the user knows all that had arrived; of speech without any sound yet, nothing."""
        return self.heard_ms >= self.received_ms and (self.received_ms > 0 or not self.spoken)


class RateLimits(Update, frozen=True):
    """What is left of each limit: name -> (limit, remaining, seconds to reset)."""

    kind: ClassVar[str] = "rate_limits"
    limits: dict[str, tuple[int, int, float]]


REQUEST_CANCELLED = "request_cancelled"
"""Code of a Failure that did not come from the server: the request was cancelled here before its answer began."""

REQUEST_UNANSWERED = "request_unanswered"
"""Code of another: the server has said nothing to a request for so long that it was given up."""

REQUEST_LOST = "request_lost"
"""Code of another: the connection was lost before its answer came, and it is not sent again."""


NOTHING_TO_COMMIT = "input_audio_buffer_commit_empty"
"""Code of a Failure: a commit was refused, because too little audio had come; it stays for the next one."""


class Failure(Update, frozen=True):
    """The server reports an error; the session goes on unless `fatal`.

    event_id: the request that caused it, when it says so. benign: for information only: a known race, or a fault after
    which another request makes the answer. action: what is done about it where this program decides that (`retry`,
    `restart`, `fallback`); where nothing more is done, what would be. source: the model that failed, as `--model` names
    it, where there may be several. raises: the class of `realtime_client.errors` that it is to whoever waits for the
    answer, where that is known; `ResponseDone` follows. retry_after_s: how long the server wants to be left alone.
    """

    kind: ClassVar[str] = "failure"
    message: str
    code: str | None = None
    error_type: str | None = None
    param: str | None = None
    event_id: str | None = None
    benign: bool = False
    fatal: bool = False
    action: str | None = None
    source: str | None = None
    raises: str | None = None
    retry_after_s: float | None = None

    @property
    def of_this_side(self) -> bool:
        """True for what no server said: see `REQUEST_CANCELLED`, `REQUEST_UNANSWERED` and `REQUEST_LOST`."""
        return self.code in {REQUEST_CANCELLED, REQUEST_UNANSWERED, REQUEST_LOST}


class Notice(Update, frozen=True):
    """Something that people should know and that the server did not say; the session goes on. message: one line."""

    kind: ClassVar[str] = "notice"
    message: str


class Malformed(Update, frozen=True):
    """A message that could not be understood. event_type: if it could be read, else ''. audio: it held sound."""

    kind: ClassVar[str] = "malformed"
    event_type: str
    error: str
    audio: bool = False


class Unknown(Update, frozen=True):
    """A message of a type this version does not know, passed on as it came."""

    kind: ClassVar[str] = "unknown"
    event_type: str
    data: dict[str, Any]


class DeviceChanged(Update, frozen=True):
    """A microphone or speaker was lost, replaced or chosen.

    direction: `input` or `output`. device: the name of the one in use now, None when there is none left. gap_ms: how
    long there was no sound in that direction. reason: for people, one line.
    """

    kind: ClassVar[str] = "device_changed"
    direction: str
    device: str | None
    reason: str
    gap_ms: int = 0


class Captured(Update, frozen=True):
    """When the user's audio was captured: from this offset on, at_ms of all audio sent this session, at `at_s`.

    What follows was captured without a break, until the next of these. Comes before that audio is sent.
    """

    kind: ClassVar[str] = "captured"
    at_ms: float
    at_s: float


class SpeakerAttached(Update, frozen=True):
    """Whether a speaker plays the answers that begin from here on.

    attached: if True, `Audible` tells what is heard of them, and when; if False, nobody does, as before the first of
    these.
    """

    kind: ClassVar[str] = "speaker_attached"
    attached: bool


class Audible(Update, frozen=True, gc=False):
    """A stretch of an answer's audio was heard.

    from_ms, to_ms: which, within the part's audio (not rounded). at_s: when its first sample sounded; the others
    followed without a break. Comes some tenths of a second afterwards, part by part, in the order of what was heard.
    """

    kind: ClassVar[str] = "audible"
    item_id: str
    content_index: int
    from_ms: float
    to_ms: float
    at_s: float


class ConnectionLost(Update, frozen=True):
    """The connection was lost. code: the WebSocket close code.

    goes_on: another one is tried: `Reconnecting` follows, then `Restored`, or the session's end. The answers that ran
    have their `ResponseDone` before it.
    """

    kind: ClassVar[str] = "connection_lost"
    code: int
    reason: str
    goes_on: bool = False


class Reconnecting(Update, frozen=True):
    """A connection is about to be tried.

    attempt: which one since the loss, from 1. in_s: when, from now. reason: for people, why there is none: of the first
    attempt how the connection was lost, of others why the one before failed. left_s: for how long it will go on trying.
    """

    kind: ClassVar[str] = "reconnecting"
    attempt: int
    in_s: float
    reason: str
    left_s: float


class LostAudio(msgspec.Struct, frozen=True):
    """A stretch of the user's sound that is in no item of the conversation: offsets in ms in all audio sent."""

    start_ms: int
    end_ms: int


class Restored(Update, frozen=True):
    """The conversation goes on, in a new session of the server that was told what was said.

    reason: `lost`, `rollover` (the old session was about to expire) or `asked` (by `reconnect`). away_ms: how long
    there was none, 0 where the new one was ready before the old one was left. told: how many entries of the
    conversation the new session knows; left_out: how many did not fit the budget; refused: how many it did not take.
    sent_late: what was said meanwhile and is sent now, and what was under way when the connection was lost (ids of
    items). unknown: acts with effects outside of which nobody knows whether they happened: requests for an answer (that
    may be billed) and approvals; they are not sent again. asked_again: the request that asks again for the answer that
    was under way. audio_ms: sound of the user that is sent again, or late. lost_audio: what could not be kept of it.
    where: the server. session_id: its name of the new session.
    """

    kind: ClassVar[str] = "restored"
    reason: str
    away_ms: int = 0
    told: int = 0
    left_out: int = 0
    refused: int = 0
    sent_late: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    asked_again: str | None = None
    audio_ms: int = 0
    lost_audio: tuple[LostAudio, ...] = ()
    where: str = ""
    session_id: str = ""

    @property
    def lost_audio_ms(self) -> int:
        """How much of the user's sound could not be kept."""
        return sum(max(0, each.end_ms - each.start_ms) for each in self.lost_audio)


class SessionEnded(Update, frozen=True):
    """The last update of a session.

    reason: `closed` when this program ended it, else, for people, how the server ended it or what failed.
    """

    kind: ClassVar[str] = "session_ended"
    reason: str


class SentMessage(Update, frozen=True):
    """What a message of this program means. The recorder is told, and the journal tells it; observers are not."""

    kind: ClassVar[str] = "sent_message"


class InputSent(SentMessage, frozen=True):
    """More of the user's audio was sent."""

    kind: ClassVar[str] = "input_sent"


class InputCleared(SentMessage, frozen=True):
    """The audio since the last commit was thrown away."""

    kind: ClassVar[str] = "input_cleared"


class SentAgain(SentMessage, frozen=True):
    """A message tells a new session what the one before it knew: all in it has happened, and is recorded, already."""

    kind: ClassVar[str] = "sent_again"


class CommitSent(SentMessage, frozen=True):
    """The audio since the last commit was committed; `InputCommitted` confirms it."""

    kind: ClassVar[str] = "commit_sent"


class RequestSent(SentMessage, frozen=True):
    """An answer was asked for. request_id: as `ResponseStarted` has it, None where the request has no id."""

    kind: ClassVar[str] = "request_sent"
    request_id: str | None = None
