"""Every message of the Realtime protocol, one struct each.

Names are the wire's types in CamelCase: `response.output_audio.delta` is `ResponseOutputAudioDelta`. `type` is the
wire's tag. A client leaves out optional fields that are unset; a server says every field, null and zero included: for
many clients nullable is not optional. Strings that the wire calls enums are plain `str` here: a value that this version
does not know is kept. Audio is bytes here and base64 on the wire.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, get_args

import msgspec
from msgspec import UNSET

from .items import ContentPart, GivenItem, Item

if TYPE_CHECKING:
    NewItem = Item
else:  # as it is read, by a server
    NewItem = GivenItem

Json = dict[str, Any]
Ms = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
"""Milliseconds; the limit is the largest whole number that JSON keeps exact everywhere (RFC 8259, section 6)."""


class Event(msgspec.Struct, tag_field="type", kw_only=True, omit_defaults=True):
    """Base of all messages. A client's event_id comes back in the error that the event causes."""

    event_id: str | None = None

    @property
    def type(self) -> str:
        """The wire's name of this message."""
        return str(self.__struct_config__.tag)


class ClientEvent(Event, forbid_unknown_fields=True):
    """A message from client to server, which refuses fields that it does not know."""


class ServerEvent(Event, omit_defaults=False):
    """A message from server to client."""


# --- client to server -------------------------------------------------------------------------------------------------


class SessionUpdate(ClientEvent, tag="session.update"):
    session: Json


class InputAudioBufferAppend(ClientEvent, tag="input_audio_buffer.append"):
    audio: bytes


class InputAudioBufferCommit(ClientEvent, tag="input_audio_buffer.commit"):
    pass


class InputAudioBufferClear(ClientEvent, tag="input_audio_buffer.clear"):
    pass


class ConversationItemCreate(ClientEvent, tag="conversation.item.create"):
    item: NewItem
    previous_item_id: str | None = None


class ConversationItemRetrieve(ClientEvent, tag="conversation.item.retrieve"):
    item_id: str


class ConversationItemTruncate(ClientEvent, tag="conversation.item.truncate"):
    item_id: str
    content_index: int
    audio_end_ms: int


class ConversationItemDelete(ClientEvent, tag="conversation.item.delete"):
    item_id: str


class ResponseCreate(ClientEvent, tag="response.create"):
    response: Json | None = None


class ResponseCancel(ClientEvent, tag="response.cancel"):
    response_id: str | None = None


class OutputAudioBufferClear(ClientEvent, tag="output_audio_buffer.clear"):
    pass


AnyClientEvent = (
    SessionUpdate
    | InputAudioBufferAppend
    | InputAudioBufferCommit
    | InputAudioBufferClear
    | ConversationItemCreate
    | ConversationItemRetrieve
    | ConversationItemTruncate
    | ConversationItemDelete
    | ResponseCreate
    | ResponseCancel
    | OutputAudioBufferClear
)


# --- parts of server messages -----------------------------------------------------------------------------------------


class ErrorDetail(msgspec.Struct, kw_only=True):
    """What went wrong. event_id: the client event that caused it, when the server can tell."""

    type: str = "error"
    message: str = ""
    code: str | None = None
    param: str | None = None
    event_id: str | None = None


class StatusDetails(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Why a response did not complete. message: where some servers put the error's words."""

    type: str | None = None
    reason: str | None = None
    error: ErrorDetail | None = None
    message: Any = None


class Response(msgspec.Struct, kw_only=True):
    """An answer as the server states it; usage only when it is over, never with audio bytes.

    error: not of the protocol; where some servers put what belongs in status_details, in any shape.
    """

    id: str = ""
    object: str | None = None
    status: str | None = None
    status_details: StatusDetails | None = None
    output: list[Item] | None = None
    conversation_id: str | None = None
    output_modalities: list[str] | None = None
    audio: Json | None = None
    max_output_tokens: int | str | None = None
    usage: Json | None = None
    metadata: dict[str, str] | None = None
    error: Any = UNSET


class RateLimit(msgspec.Struct, kw_only=True):
    """One limit; reset_seconds until `remaining` is `limit` again."""

    name: str = ""
    limit: int = 0
    remaining: int = 0
    reset_seconds: float = 0.0


# --- server to client -------------------------------------------------------------------------------------------------


class SessionCreated(ServerEvent, tag="session.created"):
    session: Json


class SessionUpdated(ServerEvent, tag="session.updated"):
    session: Json


class Error(ServerEvent, tag="error"):
    error: ErrorDetail


class ConversationCreated(ServerEvent, tag="conversation.created"):
    conversation: Json


class ConversationItemAdded(ServerEvent, tag="conversation.item.added"):
    item: Item
    previous_item_id: str | None = None


class ConversationItemDone(ServerEvent, tag="conversation.item.done"):
    item: Item
    previous_item_id: str | None = None


class ConversationItemRetrieved(ServerEvent, tag="conversation.item.retrieved"):
    item: Item


class ConversationItemTruncated(ServerEvent, tag="conversation.item.truncated"):
    item_id: str
    content_index: int
    audio_end_ms: Ms


class ConversationItemDeleted(ServerEvent, tag="conversation.item.deleted"):
    item_id: str


class InputTranscriptionDelta(ServerEvent, tag="conversation.item.input_audio_transcription.delta"):
    item_id: str
    content_index: int = 0
    delta: str = ""
    logprobs: list[Json] | None = None


class InputTranscriptionCompleted(ServerEvent, tag="conversation.item.input_audio_transcription.completed"):
    item_id: str
    content_index: int
    transcript: str
    usage: Json | None = None
    logprobs: list[Json] | None = None
    languages: list[Any] | None = None


class InputTranscriptionFailed(ServerEvent, tag="conversation.item.input_audio_transcription.failed"):
    item_id: str
    content_index: int
    error: ErrorDetail


class InputTranscriptionSegment(ServerEvent, tag="conversation.item.input_audio_transcription.segment"):
    id: str
    item_id: str
    content_index: int
    text: str
    speaker: str
    start: float
    end: float


class InputAudioBufferSpeechStarted(ServerEvent, tag="input_audio_buffer.speech_started"):
    item_id: str
    audio_start_ms: Ms


class InputAudioBufferSpeechStopped(ServerEvent, tag="input_audio_buffer.speech_stopped"):
    item_id: str
    audio_end_ms: Ms


class InputAudioBufferCommitted(ServerEvent, tag="input_audio_buffer.committed"):
    item_id: str
    previous_item_id: str | None = None


class InputAudioBufferCleared(ServerEvent, tag="input_audio_buffer.cleared"):
    pass


class InputAudioBufferTimeoutTriggered(ServerEvent, tag="input_audio_buffer.timeout_triggered"):
    item_id: str
    audio_start_ms: Ms
    audio_end_ms: Ms


class InputAudioBufferDtmfEventReceived(ServerEvent, tag="input_audio_buffer.dtmf_event_received"):
    event: str
    received_at: int


class OutputAudioBufferStarted(ServerEvent, tag="output_audio_buffer.started"):
    response_id: str


class OutputAudioBufferStopped(ServerEvent, tag="output_audio_buffer.stopped"):
    response_id: str


class OutputAudioBufferCleared(ServerEvent, tag="output_audio_buffer.cleared"):
    response_id: str


class ResponseCreated(ServerEvent, tag="response.created"):
    response: Response


class ResponseDone(ServerEvent, tag="response.done"):
    response: Response
    error: Any = UNSET


class ResponseOutputItemAdded(ServerEvent, tag="response.output_item.added"):
    response_id: str
    output_index: int
    item: Item


class ResponseOutputItemDone(ServerEvent, tag="response.output_item.done"):
    response_id: str
    output_index: int
    item: Item


class ResponsePartEvent(ServerEvent):
    """Base of the messages about one content part of one output item."""

    response_id: str
    item_id: str
    output_index: int
    content_index: int


class ResponseContentPartAdded(ResponsePartEvent, tag="response.content_part.added"):
    part: ContentPart


class ResponseContentPartDone(ResponsePartEvent, tag="response.content_part.done"):
    part: ContentPart


class ResponseOutputTextDelta(ResponsePartEvent, tag="response.output_text.delta", gc=False):
    delta: str


class ResponseOutputTextDone(ResponsePartEvent, tag="response.output_text.done"):
    text: str


class ResponseOutputAudioTranscriptDelta(ResponsePartEvent, tag="response.output_audio_transcript.delta", gc=False):
    delta: str


class ResponseOutputAudioTranscriptDone(ResponsePartEvent, tag="response.output_audio_transcript.done"):
    transcript: str


class ResponseOutputAudioDelta(ResponsePartEvent, tag="response.output_audio.delta", gc=False):
    delta: bytes


class ResponseOutputAudioDone(ResponsePartEvent, tag="response.output_audio.done"):
    pass


class ResponseFunctionCallArgumentsDelta(ServerEvent, tag="response.function_call_arguments.delta", gc=False):
    response_id: str
    item_id: str
    output_index: int
    call_id: str
    delta: str


class ResponseFunctionCallArgumentsDone(ServerEvent, tag="response.function_call_arguments.done"):
    response_id: str
    item_id: str
    output_index: int
    call_id: str
    arguments: str
    name: str | None = None


class ResponseMcpCallArgumentsDelta(ServerEvent, tag="response.mcp_call_arguments.delta"):
    response_id: str
    item_id: str
    output_index: int
    delta: str
    obfuscation: str | None = None


class ResponseMcpCallArgumentsDone(ServerEvent, tag="response.mcp_call_arguments.done"):
    response_id: str
    item_id: str
    output_index: int
    arguments: str


class ResponseMcpCallInProgress(ServerEvent, tag="response.mcp_call.in_progress"):
    item_id: str
    output_index: int


class ResponseMcpCallCompleted(ServerEvent, tag="response.mcp_call.completed"):
    item_id: str
    output_index: int


class ResponseMcpCallFailed(ServerEvent, tag="response.mcp_call.failed"):
    item_id: str
    output_index: int


class McpListToolsInProgress(ServerEvent, tag="mcp_list_tools.in_progress"):
    item_id: str


class McpListToolsCompleted(ServerEvent, tag="mcp_list_tools.completed"):
    item_id: str


class McpListToolsFailed(ServerEvent, tag="mcp_list_tools.failed"):
    item_id: str


class RateLimitsUpdated(ServerEvent, tag="rate_limits.updated"):
    rate_limits: list[RateLimit]


AnyServerEvent = (
    SessionCreated
    | SessionUpdated
    | Error
    | ConversationCreated
    | ConversationItemAdded
    | ConversationItemDone
    | ConversationItemRetrieved
    | ConversationItemTruncated
    | ConversationItemDeleted
    | InputTranscriptionDelta
    | InputTranscriptionCompleted
    | InputTranscriptionFailed
    | InputTranscriptionSegment
    | InputAudioBufferSpeechStarted
    | InputAudioBufferSpeechStopped
    | InputAudioBufferCommitted
    | InputAudioBufferCleared
    | InputAudioBufferTimeoutTriggered
    | InputAudioBufferDtmfEventReceived
    | OutputAudioBufferStarted
    | OutputAudioBufferStopped
    | OutputAudioBufferCleared
    | ResponseCreated
    | ResponseDone
    | ResponseOutputItemAdded
    | ResponseOutputItemDone
    | ResponseContentPartAdded
    | ResponseContentPartDone
    | ResponseOutputTextDelta
    | ResponseOutputTextDone
    | ResponseOutputAudioTranscriptDelta
    | ResponseOutputAudioTranscriptDone
    | ResponseOutputAudioDelta
    | ResponseOutputAudioDone
    | ResponseFunctionCallArgumentsDelta
    | ResponseFunctionCallArgumentsDone
    | ResponseMcpCallArgumentsDelta
    | ResponseMcpCallArgumentsDone
    | ResponseMcpCallInProgress
    | ResponseMcpCallCompleted
    | ResponseMcpCallFailed
    | McpListToolsInProgress
    | McpListToolsCompleted
    | McpListToolsFailed
    | RateLimitsUpdated
)

CLIENT_EVENTS: tuple[type[ClientEvent], ...] = get_args(AnyClientEvent)
SERVER_EVENTS: tuple[type[ServerEvent], ...] = get_args(AnyServerEvent)

# Names that the beta protocol used, accepted on input.
BETA_ALIASES = {
    "conversation.item.created": "conversation.item.added",
    "response.audio.delta": "response.output_audio.delta",
    "response.audio.done": "response.output_audio.done",
    "response.audio_transcript.delta": "response.output_audio_transcript.delta",
    "response.audio_transcript.done": "response.output_audio_transcript.done",
    "response.text.delta": "response.output_text.delta",
    "response.text.done": "response.output_text.done",
    "transcription_session.update": "session.update",
    "transcription_session.updated": "session.updated",
}


# --- translation sessions (their own path and message set) ------------------------------------------------------------


class TranslationAudioAppend(ClientEvent, tag="session.input_audio_buffer.append"):
    audio: bytes


class TranslationClose(ClientEvent, tag="session.close"):
    pass


class TranslationClosed(ServerEvent, tag="session.closed"):
    pass


class TranslationInputTranscriptDelta(ServerEvent, tag="session.input_transcript.delta"):
    delta: str
    elapsed_ms: float | None = None


class TranslationOutputTranscriptDelta(ServerEvent, tag="session.output_transcript.delta"):
    delta: str
    elapsed_ms: float | None = None


class TranslationOutputAudioDelta(ServerEvent, tag="session.output_audio.delta"):
    delta: bytes
    sample_rate: int | None = None
    channels: int | None = None
    format: str | None = None
    elapsed_ms: float | None = None


AnyTranslationClientEvent = SessionUpdate | TranslationAudioAppend | TranslationClose
AnyTranslationServerEvent = (
    SessionCreated
    | SessionUpdated
    | Error
    | TranslationClosed
    | TranslationInputTranscriptDelta
    | TranslationOutputTranscriptDelta
    | TranslationOutputAudioDelta
)


# --- what is not a message of the list --------------------------------------------------------------------------------


class UnknownEvent(msgspec.Struct, kw_only=True):
    """A well-formed message of a type that this version does not know; `data` is all of it."""

    type: str
    data: Json


class MalformedEvent(msgspec.Struct, kw_only=True):
    """A frame that is not a message: an error as a value.

    type: as far as it could be read, else ''. event_id: of a frame that is JSON nevertheless, and carries one.
    """

    type: str
    error: str
    event_id: str | None = None
