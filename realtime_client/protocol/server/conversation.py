"""The server's end of a conversation, without sockets, threads or clocks.

`ServerConversation` takes decoded client messages (`receive`) and what the engine finds out or produces
(`speech_started`, `heard`, `say`, ...), and returns, in order, server messages to send and `Work` for the engine. It
never raises for anything a client sends: a request that cannot be carried out becomes an `error` message that carries
the client's event_id, and the session goes on. Memory is bounded (`ServerLimits`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from realtime_client.protocol import events as ev
from realtime_client.protocol.session import audio_format
from realtime_client.updates import Usage

from .checks import Refusal
from .input_buffer import MIN_COMMIT_MS
from .item_list import snapshot, with_audio
from .misread import event_id_of, misread
from .remote import ServerRemote
from .remote_tools import told
from .replies import voice_locked
from .settings import default_session, merge_session, session_kind
from .state import Json, Output, ServerLimits, random_id
from .tokens import stated
from .work import ContextItem, Listen, ResponseBrief


class _TranscriptionError(ev.ErrorDetail, omit_defaults=True):
    """Says no null: here the protocol knows neither event_id nor, to the strictest of clients, a param that is null."""


class ServerConversation(ServerRemote):
    """One session's state machine. Not thread-safe: one owner calls it.

    kind: realtime or transcription. model: its name, '' lets the first session.update choose. start: settings with
    which it begins, as an update that was checked. expires_at: epoch seconds, as session.created states it.
    """

    # --- what comes in ------------------------------------------------------------------------------------------------

    def start(self) -> Output:
        """Greet: session.created."""
        self._emit(ev.SessionCreated(session=told(self._settings)))
        self._relisten()
        self._ask_servers()
        return self._take()

    def receive(self, event: ev.ClientEvent | ev.UnknownEvent | ev.MalformedEvent) -> Output:
        """Take one client message."""
        try:
            if not isinstance(event, ev.ClientEvent):
                raise misread(event)
            self._handlers[type(event)](self, event)
        except Refusal as refusal:
            self._error(refusal, event_id_of(event))
        return self._take()

    def speech_started(self, at_ms: int) -> Output:
        """The engine heard the user begin to speak at this position (prefix padding included)."""
        if self.turn_detection is None or self._speech_item is not None:
            return []
        at_ms = max(self._input.start_ms, min(at_ms, self._input.end_ms))
        self._speech_item = self._new_id("item")
        self._idle_after_s = self._idle_at_s = None
        self._input.drop_before(at_ms)
        self._emit(ev.InputAudioBufferSpeechStarted(item_id=self._speech_item, audio_start_ms=at_ms))
        if self._active is not None and self.turn_detection["interrupt_response"]:
            self._cancel(self._active, "turn_detected")
        return self._take()

    def speech_stopped(self, at_ms: int) -> Output:
        """The engine heard the user stop at this position (the silence included): commits, and may answer."""
        if self.turn_detection is None or self._speech_item is None:
            return []
        at_ms = max(self._input.start_ms, min(at_ms, self._input.end_ms))
        self._emit(ev.InputAudioBufferSpeechStopped(item_id=self._speech_item, audio_end_ms=at_ms))
        self._commit(self._input.take(at_ms))
        self._answer_turn()
        return self._take()

    def heard(self, item_id: str, content_index: int, text: str) -> Output:
        """The engine answers a Transcribe. The client is told, if it asked for a transcript."""
        entry = self._await_hearing(item_id, content_index, text)
        if entry is not None and entry.announce:
            part = (entry.item.content or [])[content_index]
            part.transcript = text
            self.items.resize(entry)
            if text:
                self._emit(ev.InputTranscriptionDelta(item_id=item_id, content_index=content_index, delta=text))
            seconds = entry.clips[content_index].duration_ms / 1000
            self._emit(
                ev.InputTranscriptionCompleted(
                    item_id=item_id,
                    content_index=content_index,
                    transcript=text,
                    usage={"type": "duration", "seconds": seconds},
                )
            )
        return self._take()

    def not_heard(self, item_id: str, content_index: int, message: str) -> Output:
        """The engine could not transcribe this audio."""
        entry = self._await_hearing(item_id, content_index, "")
        if entry is not None and entry.announce:
            error = _TranscriptionError(type="transcription_error", code="transcription_failed", message=message)
            self._emit(ev.InputTranscriptionFailed(item_id=item_id, content_index=content_index, error=error))
        return self._take()

    def brief(self, response_id: str) -> ResponseBrief | None:
        """Return what an answer is to be made from.

        None while audio that it needs is not transcribed yet, or an MCP server that it may use has not told its tools.
        """
        run = self._runs.get(response_id)
        if run is None:
            return None
        context = self._context(run)
        if any(entry.listening for entry in context) or self._remote.waits(run.settings):
            return None
        run.remote = self._remote.offers(run.settings)
        return ResponseBrief(
            response_id=response_id,
            settings=run.settings,
            context=tuple(ContextItem(item=snapshot(e.item), said=e.said()) for e in self._remote.over(context)),
            format=run.format,
            spoken=run.spoken,
            remote=tuple(run.remote.values()),
        )

    def say(self, response_id: str, text: str = "", audio: bytes = b"") -> Output:
        """The engine produced more of an answer: a piece of text, and in a spoken answer its audio."""
        run = self._runs.get(response_id)
        if run is None:
            return []
        if not run.fits(text, audio):
            return self.cut_short(response_id, "max_output_tokens")
        self._spoke = self._spoke or bool(audio)
        run.say(text, audio)
        return self._take()

    def call(self, response_id: str, name: str, arguments: str, *, call_id: str = "") -> Output:
        """The model calls a tool: the client's, or one of those that `brief` names as remote.

        arguments: JSON text. call_id: '' for a new one.
        """
        run = self._runs.get(response_id)
        if run is None:
            return []
        offer = run.remote.get(name)
        if offer is None:
            run.call(name, arguments, call_id)
        else:
            self._call_remote(run, offer, arguments, call_id)
        return self._take()

    def spent(self, response_id: str, spent: Usage) -> None:
        """The model states what the answer takes in tokens: this is told, and no estimate."""
        run = self._runs.get(response_id)
        if run is not None:
            run.stated = stated(spent)

    def cut_short(self, response_id: str, reason: str) -> Output:
        """The answer ends and is not complete. reason: max_output_tokens or content_filter."""
        run = self._runs.get(response_id)
        if run is not None:
            run.open_message()
            self._end(run, "incomplete", ev.StatusDetails(type="incomplete", reason=reason))
        return self._take()

    def finish(self, response_id: str) -> Output:
        """The answer is complete."""
        run = self._runs.get(response_id)
        if run is not None:
            self._end(run, "completed", None)
        return self._take()

    def fail(self, response_id: str, message: str, code: str = "server_error") -> Output:
        """The engine cannot go on with this answer."""
        run = self._runs.get(response_id)
        if run is not None:
            error = ev.ErrorDetail(type="server_error", code=code, message=message)
            self._end(run, "failed", ev.StatusDetails(type="failed", error=error))
        return self._take()

    def next_tick_s(self) -> float | None:
        """Return the moment at which `tick` has something to do, None for never (as far as is known now)."""
        moments = (self._idle_at_s, self._remote.due_s())
        return min((moment for moment in moments if moment is not None), default=None)

    def tick(self, now_s: float) -> Output:
        """Let time pass. Call it after every batch of work, and at `next_tick_s`.

        The idle timeout of server_vad counts from response.done plus the time its audio takes to play. The time
        of a remote tool begins with the first tick after it was called.
        """
        self._end_overdue(now_s)
        if self._idle_after_s is not None:
            self._idle_at_s = now_s + self._idle_after_s
            self._idle_after_s = None
        if self._idle_at_s is not None and now_s >= self._idle_at_s:
            self._idle_at_s = None
            if self._active is None and self._speech_item is None:
                self._time_out()
        return self._take()

    # --- client messages ----------------------------------------------------------------------------------------------

    def _on_session_update(self, event: ev.SessionUpdate) -> None:
        update = event.session
        kind = session_kind(update)
        current = self._settings
        if kind != current["type"]:
            if self._started:
                raise Refusal("The session's type cannot change once it is in use.", param="session.type")
            current = default_session(
                kind, session_id=current["id"], model=self._model, expires_at=current["expires_at"]
            )
        merged = merge_session(current, update)
        self._check_locks(self._settings, merged)
        self._model = merged.get("model", self._model)
        before, self._settings = self._settings, merged
        self._input.change_format(audio_format(merged, "input"))
        old, new = before["audio"]["input"], merged["audio"]["input"]
        if old["format"] != new["format"] or old["turn_detection"] != new["turn_detection"]:
            self._relisten()
        self._emit(ev.SessionUpdated(session=told(merged)))
        self._ask_servers()

    def _on_append(self, event: ev.InputAudioBufferAppend) -> None:
        listening = self.turn_detection is not None
        self._input.append(event.audio, sliding=listening)
        self._started = True
        if listening and event.audio:
            self._out.append(Listen(audio=event.audio))

    def _on_commit(self, event: ev.InputAudioBufferCommit) -> None:  # noqa: ARG002
        if self._input.duration_ms < MIN_COMMIT_MS:
            raise Refusal(
                f"Error committing input audio buffer: buffer too small. Expected at least {MIN_COMMIT_MS}ms of audio, "
                f"but buffer only has {self._input.duration_ms:.2f}ms of audio.",
                code="input_audio_buffer_commit_empty",
            )
        self._commit(self._input.take())
        self._relisten()

    def _on_clear(self, event: ev.InputAudioBufferClear) -> None:  # noqa: ARG002
        self._input.clear()
        self._speech_item = None
        self._emit(ev.InputAudioBufferCleared())
        self._relisten()

    def _on_item_create(self, event: ev.ConversationItemCreate) -> None:
        entry = self._new_entry(event.item)
        if entry.item.type == "function_call_output" and not self.items.find_call(entry.item.call_id):
            raise Refusal(
                f"Tool call ID '{entry.item.call_id}' not found in conversation.",
                code="invalid_tool_call_id",
                param="item.call_id",
            )
        if entry.item.type == "mcp_approval_response":
            self._check_decision(entry.item)
        self._add(entry, event.previous_item_id)
        if entry.item.type == "mcp_approval_response":
            self._decide(entry.item)

    def _on_item_retrieve(self, event: ev.ConversationItemRetrieve) -> None:
        self._emit(ev.ConversationItemRetrieved(item=with_audio(self._find(event.item_id, "retrieve"))))

    def _on_item_truncate(self, event: ev.ConversationItemTruncate) -> None:
        entry = self._find(event.item_id, "truncate")
        clip = entry.clips.get(event.content_index)
        if entry.item.role != "assistant" or clip is None:
            raise Refusal(
                "Only model output audio messages can be truncated",
                code="unsupported_content_type",
                param="content_index" if entry.clips else "item_id",
            )
        if event.audio_end_ms <= 0:
            raise Refusal("Invalid 'audio_end_ms': it must be greater than 0.", param="audio_end_ms")
        if event.audio_end_ms > clip.ceiling_ms:
            raise Refusal(
                f"Audio content of {clip.duration_ms}ms is already shorter than {event.audio_end_ms}ms",
                param="audio_end_ms",
            )
        self.items.truncate(entry, event.content_index, event.audio_end_ms)
        self._emit(
            ev.ConversationItemTruncated(
                item_id=event.item_id, content_index=event.content_index, audio_end_ms=event.audio_end_ms
            )
        )

    def _on_item_delete(self, event: ev.ConversationItemDelete) -> None:
        self._find(event.item_id, "delete")
        self.items.delete(event.item_id)
        self._emit(ev.ConversationItemDeleted(item_id=event.item_id))

    def _on_response_create(self, event: ev.ResponseCreate) -> None:
        self._respond(event.response or {})

    def _on_response_cancel(self, event: ev.ResponseCancel) -> None:
        run = self._active if event.response_id is None else self._runs.get(event.response_id)
        if run is None:
            raise Refusal("Cancellation failed: no active response found", code="response_cancel_not_active")
        self._cancel(run, "client_cancelled")

    def _on_output_clear(self, event: ev.OutputAudioBufferClear) -> None:  # noqa: ARG002
        raise Refusal("output_audio_buffer.clear is for WebRTC and SIP only.", param="type")

    def _check_locks(self, before: Json, after: Json) -> None:
        """Refuse changes of what cannot change any more."""
        if before["type"] != "realtime" or after["type"] != "realtime":
            return
        if self._model and after["model"] != self._model:
            raise Refusal(
                f"The model of a session cannot change (it is '{self._model}').",
                code="cannot_update_model",
                param="session.model",
            )
        if before["tracing"] is not None and after["tracing"] != before["tracing"]:
            raise Refusal("Tracing cannot change once it is on.", code="cannot_update_tracing", param="session.tracing")
        old, new = before["audio"]["output"], after["audio"]["output"]
        if self._spoke and new["voice"] != old["voice"]:
            raise voice_locked("session.audio.output.voice")
        if self._active is not None and new["speed"] != old["speed"]:
            raise Refusal("Speed can only change between responses.", param="session.audio.output.speed")

    _handlers: ClassVar[dict[type[ev.ClientEvent], Callable[[ServerConversation, Any], None]]] = {
        ev.SessionUpdate: _on_session_update,
        ev.InputAudioBufferAppend: _on_append,
        ev.InputAudioBufferCommit: _on_commit,
        ev.InputAudioBufferClear: _on_clear,
        ev.ConversationItemCreate: _on_item_create,
        ev.ConversationItemRetrieve: _on_item_retrieve,
        ev.ConversationItemTruncate: _on_item_truncate,
        ev.ConversationItemDelete: _on_item_delete,
        ev.ResponseCreate: _on_response_create,
        ev.ResponseCancel: _on_response_cancel,
        ev.OutputAudioBufferClear: _on_output_clear,
    }


__all__ = ["Output", "ServerConversation", "ServerLimits", "random_id"]
