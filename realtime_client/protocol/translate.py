"""Messages in the words of updates, as far as that takes no knowledge of the conversation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from realtime_client import updates as up
from realtime_client.escape import one_line

from . import events as ev
from .answers import AnswerState, Cut
from .items import Item, modernise
from .lenient import error_object
from .usage import read_usage

_AUDIO_DELTAS = ("response.output_audio.delta", "response.audio.delta")


def _audio_done(event: ev.ResponseOutputAudioDone) -> up.Update:
    return up.AudioDone(response_id=event.response_id, item_id=event.item_id, content_index=event.content_index)


def transcription_failed(event: ev.InputTranscriptionFailed) -> up.Update:
    """Nobody can tell what was said."""
    error = event.error
    return up.UserTranscriptFailed(
        item_id=event.item_id, content_index=event.content_index, message=error.message, code=error.code
    )


def _transcription_segment(event: ev.InputTranscriptionSegment) -> up.Update:
    return up.TranscriptSegment(
        item_id=event.item_id,
        content_index=event.content_index,
        text=event.text,
        speaker=event.speaker,
        start_s=event.start,
        end_s=event.end,
    )


def _rate_limits(event: ev.RateLimitsUpdated) -> up.Update:
    return up.RateLimits(limits={r.name: (r.limit, r.remaining, r.reset_seconds) for r in event.rate_limits})


def _unknown(event: ev.UnknownEvent) -> up.Update:
    return up.Unknown(event_type=event.type, data=event.data)


def _malformed(event: ev.MalformedEvent) -> up.Update:
    return up.Malformed(event_type=event.type, error=event.error, audio=event.type in _AUDIO_DELTAS)


def progress(event: Any, tool: str = "") -> up.Update:
    """A step of a remote tool's work. tool: its name, as far as it is known."""
    return up.Progress(what=event.type, item_id=event.item_id, text=tool)


STATELESS: dict[type, Callable[[Any], up.Update]] = {
    ev.ResponseOutputAudioDone: _audio_done,
    ev.InputTranscriptionSegment: _transcription_segment,
    ev.McpListToolsInProgress: progress,
    ev.McpListToolsCompleted: progress,
    ev.McpListToolsFailed: progress,
    ev.RateLimitsUpdated: _rate_limits,
    ev.UnknownEvent: _unknown,
    ev.MalformedEvent: _malformed,
}
"""One message, one update."""


def text_delta(answer: AnswerState, item_id: str, content_index: int, text: str, *, spoken: bool) -> up.TextDelta:
    """More text of an answer."""
    return up.TextDelta(response_id=answer.id, item_id=item_id, content_index=content_index, text=text, spoken=spoken)


def text_done(answer: AnswerState, item_id: str, content_index: int, text: str, *, spoken: bool) -> up.TextDone:
    """One part's whole text."""
    return up.TextDone(response_id=answer.id, item_id=item_id, content_index=content_index, text=text, spoken=spoken)


def user_transcript(event: ev.InputTranscriptionCompleted) -> up.UserTranscript:
    """What the user was heard to say."""
    return up.UserTranscript(
        item_id=event.item_id, content_index=event.content_index, text=event.transcript, usage=event.usage
    )


def response_started(answer: AnswerState, request_id: str | None) -> up.ResponseStarted:
    """An answer begins."""
    return up.ResponseStarted(
        response_id=answer.id, out_of_band=answer.out_of_band, metadata=answer.metadata, request_id=request_id
    )


def own_item(item: Item, previous: str | None) -> up.ItemAdded:
    """An item that this client sent, told before the server confirms it."""
    return up.ItemAdded(
        item_id=item.id or "",
        role=item.speaker,
        item_type=item.type,
        text=item.said,
        previous_item_id=previous,
        local=True,
    )


def item_added(item: Item, previous: str | None) -> up.ItemAdded:
    """An item took its place behind `previous`."""
    return up.ItemAdded(
        item_id=item.id or "",
        role=item.speaker,
        item_type=item.type,
        text=item.said,
        previous_item_id=previous,
        has_audio=item.has_audio,
    )


def item_done(item: Item, previous: str | None) -> list[up.Update]:
    """An item is complete; that a remote tool waits for approval is reported, too, as what it asks."""
    done = up.ItemDone(
        item_id=item.id or "",
        role=item.speaker,
        item_type=item.type,
        text=item.said,
        status=item.status or "completed",
        previous_item_id=previous,
        has_audio=item.has_audio,
    )
    if item.type == "mcp_list_tools" and item.error:
        why = one_line(str(item.error.get("message")), 500)
        return [done, up.Notice(message=f"no tools of {one_line(item.server_label or '', 64)}: {why}")]
    if item.type != "mcp_approval_request":
        return [done]
    asked = up.ApprovalRequested(
        request_id=done.item_id,
        name=item.name or "",
        arguments=item.arguments or "",
        origin=f"mcp {item.server_label}" if item.server_label else "",
        remote=True,
    )
    return [done, asked]


def tool_result(call_id: str, name: str, output: str, item_id: str, response_id: str) -> up.ToolResult:
    """A tool's result was sent."""
    return up.ToolResult(call_id=call_id, name=name, output=output, item_id=item_id, response_id=response_id)


def tool_call(answer: AnswerState, item: Item) -> up.ToolCall:
    """A complete function call."""
    return up.ToolCall(
        response_id=answer.id,
        item_id=item.id or "",
        call_id=item.call_id or "",
        name=item.name or "",
        arguments=item.arguments or "",
    )


def response_done(event: ev.ResponseDone, answer: AnswerState) -> up.ResponseDone:
    """The end of an answer: what the server states, and what was received where it states nothing."""
    response = event.response
    details = response.status_details or ev.StatusDetails()
    error = details.error or _error_beside(event)
    output = [modernise(item) for item in response.output or ()]
    return up.ResponseDone(
        response_id=answer.id,
        status=response.status or ("failed" if error else "completed"),
        reason=details.reason or (error.code or error.type if error else None),
        error=error.message if error else None,
        text=answer.whole_text() or "\n".join(item.said for item in output if item.type == "message"),
        item_ids=tuple(item.id for item in output if item.id) or tuple(answer.item_ids),
        usage=read_usage(response.usage),
        out_of_band=answer.out_of_band,
        metadata=answer.metadata,
    )


def _error_beside(event: ev.ResponseDone) -> ev.ErrorDetail | None:
    """Why an answer failed, for servers that put that anywhere but in `status_details.error`."""
    details = event.response.status_details
    for told in (event.response.error, details and details.message, event.error):
        if told:
            return msgspec.convert({"type": "error", **error_object(told)}, ev.ErrorDetail)
    return None


def cancelled(request_id: str) -> up.Failure:
    """A request that was cancelled before its answer began: for whoever waits for that answer."""
    return up.Failure(
        message="the request was cancelled before its answer began",
        code=up.REQUEST_CANCELLED,
        event_id=request_id,
        benign=True,
    )


def lost_request(request_id: str) -> up.Failure:
    """A request that was under way when the connection was lost, and is not sent again."""
    return up.Failure(
        message="the connection was lost before the answer came; ask again",
        code=up.REQUEST_LOST,
        event_id=request_id,
        raises="ConnectionLostError",
    )


def no_answer(request_id: str, after_s: float) -> up.Failure:
    """A request to which the server said nothing at all."""
    return up.Failure(
        message=f"the server has not answered for {after_s:g} s; the request is given up",
        code=up.REQUEST_UNANSWERED,
        event_id=request_id,
    )


def failure(error: ev.ErrorDetail, event_id: str | None, *, benign: bool = False, fatal: bool = False) -> up.Failure:
    """An error message. event_id: what caused it, also where the message does not say so."""
    return up.Failure(
        message=error.message,
        code=error.code,
        error_type=error.type,
        param=error.param,
        event_id=event_id,
        benign=benign,
        fatal=fatal,
    )


def cut_audio(answer: AnswerState, cut: Cut, cause: str) -> up.Interrupted:
    """One part of a spoken answer was cut."""
    return up.Interrupted(
        response_id=answer.id,
        item_id=cut.item_id,
        content_index=cut.content_index,
        heard_ms=cut.heard_ms,
        received_ms=cut.received_ms,
        cause=cause,
    )


def cut_early(answer: AnswerState, item_id: str, cause: str, *, spoken: bool) -> up.Interrupted:
    """An answer in writing was cut, or one of which nothing had come. spoken: it was to be heard."""
    return up.Interrupted(
        response_id=answer.id,
        item_id=item_id,
        content_index=0,
        heard_ms=0,
        received_ms=0,
        cause=cause,
        spoken=spoken,
    )
