"""What the lines of version 1 of the journal meant: they hold the messages of the wire, and no updates.

This is the one place outside `protocol` that knows names of the wire. It reads as much as recovery and reports need,
message by message, and invents nothing that only the whole conversation would show. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from realtime_client import updates as up


class _ResponseV1(msgspec.Struct):
    id: str = ""
    status: str | None = None


class _ErrorV1(msgspec.Struct):
    message: str = ""
    code: str | None = None


class _EventV1(msgspec.Struct):
    """All that is read of a message or a note."""

    type: str = ""
    event_id: str | None = None
    response_id: str | None = None
    item_id: str | None = None
    content_index: int = 0
    delta: str = ""
    text: str = ""
    transcript: str = ""
    audio_start_ms: int = 0
    audio_end_ms: int = 0
    response: _ResponseV1 | None = None
    error: _ErrorV1 | None = None


_decode = msgspec.json.Decoder(_EventV1).decode
_NOTES: dict[str, type[up.Update]] = {
    "interrupted": up.Interrupted,
    "connection_lost": up.ConnectionLost,
    "session_ended": up.SessionEnded,
}


def meaning_v1(direction: str, event: msgspec.Raw) -> list[up.Update]:
    """Return what a line of version 1 meant; nothing where that is not certain."""
    try:
        read = _decode(event)
        if direction == "note":
            kind = _NOTES.get(read.type)
            return [] if kind is None else [msgspec.json.decode(event, type=kind)]
        tell = (_IN if direction == "in" else _OUT).get(read.type)
        return [] if tell is None else [tell(read)]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return []


def _of_part(event: _EventV1) -> dict[str, Any]:
    answer = event.response_id or ""
    return {"response_id": answer, "item_id": event.item_id or "", "content_index": event.content_index}


def _spoken(event: _EventV1) -> up.Update:
    return up.TextDelta(**_of_part(event), text=event.delta, spoken=True)


def _written(event: _EventV1) -> up.Update:
    return up.TextDelta(**_of_part(event), text=event.delta)


def _audio(event: _EventV1) -> up.Update:
    return up.AudioDelta(**_of_part(event), audio=b"")


def _done(event: _EventV1) -> up.Update:
    response = event.response or _ResponseV1()
    return up.ResponseDone(response_id=response.id, status=response.status or "completed")


def _failure(event: _EventV1) -> up.Update:
    error = event.error or _ErrorV1()
    return up.Failure(message=error.message, code=error.code)


def _heard(event: _EventV1) -> up.Update:
    return up.UserTranscript(item_id=event.item_id or "", content_index=event.content_index, text=event.transcript)


def _heard_more(event: _EventV1) -> up.Update:
    return up.UserTranscriptDelta(item_id=event.item_id or "", content_index=event.content_index, text=event.delta)


_Tell = Callable[[_EventV1], up.Update]
_IN: dict[str, _Tell] = {
    "response.output_audio.delta": _audio,
    "response.audio.delta": _audio,
    "response.output_audio_transcript.delta": _spoken,
    "response.audio_transcript.delta": _spoken,
    "response.output_text.delta": _written,
    "response.text.delta": _written,
    "response.output_audio_transcript.done": lambda e: up.TextDone(**_of_part(e), text=e.transcript, spoken=True),
    "response.audio_transcript.done": lambda e: up.TextDone(**_of_part(e), text=e.transcript, spoken=True),
    "response.output_text.done": lambda e: up.TextDone(**_of_part(e), text=e.text),
    "response.text.done": lambda e: up.TextDone(**_of_part(e), text=e.text),
    "response.created": lambda e: up.ResponseStarted(response_id=(e.response or _ResponseV1()).id),
    "response.done": _done,
    "conversation.item.input_audio_transcription.delta": _heard_more,
    "conversation.item.input_audio_transcription.completed": _heard,
    "input_audio_buffer.speech_started": lambda e: up.SpeechStarted(item_id=e.item_id or "", at_ms=e.audio_start_ms),
    "input_audio_buffer.speech_stopped": lambda e: up.SpeechStopped(item_id=e.item_id or "", at_ms=e.audio_end_ms),
    "input_audio_buffer.committed": lambda e: up.InputCommitted(item_id=e.item_id or ""),
    "error": _failure,
}
_OUT: dict[str, _Tell] = {
    "input_audio_buffer.append": lambda _: up.InputSent(),
    "input_audio_buffer.commit": lambda _: up.CommitSent(),
    "input_audio_buffer.clear": lambda _: up.InputCleared(),
    "response.create": lambda e: up.RequestSent(request_id=e.event_id),
}
