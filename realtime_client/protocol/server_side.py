"""The server's end of a conversation, without sockets, threads or clocks.

`ServerConversation` takes decoded client messages (`receive`) and what the engine finds out or produces
(`speech_started`, `heard`, `say`, ...), and returns, in order, server messages to send and `Work` for the engine. It
never raises for anything a client sends: a request that cannot be carried out becomes an `error` message that carries
the client's event_id, and the session goes on. Memory is bounded (`ServerLimits`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, ClassVar

import msgspec

from . import events as ev
from .items import ContentPart, Item
from .server_input import MIN_COMMIT_MS, InputBuffer
from .server_items import Clip, Entry, ItemList, check_item, snapshot, with_audio
from .server_response import ResponseRun
from .server_session import Refusal, default_session, merge_response, merge_session
from .server_usage import Counted, RateMeter, common_prefix, count_item, text_tokens, usage
from .server_work import (
    ContextItem,
    Listen,
    Relisten,
    ResponseBrief,
    StartResponse,
    StopResponse,
    Transcribe,
    Work,
)
from .session import audio_format

Json = dict[str, Any]
Output = list[ev.ServerEvent | Work]


class ServerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one conversation's memory.

    Beyond max_item_audio_bytes the oldest items lose their audio: they are retrieved without it. Beyond max_items or
    max_text_bytes the oldest items leave the conversation silently. max_input_bytes bounds what is appended and not
    committed. max_parallel bounds out-of-band responses at one time.
    """

    max_item_audio_bytes: int = 60 * 2**20
    max_items: int = 2_000
    max_text_bytes: int = 32 * 2**20
    max_input_bytes: int = 64 * 2**20
    max_parallel: int = 16


def random_id(prefix: str) -> str:
    """Return a new id such as `item_5f0c...`."""
    return f"{prefix}_{secrets.token_hex(10)}"


class ServerConversation:
    """One session's state machine. Not thread-safe: one owner calls it.

    kind: realtime or transcription. model: its name, '' lets the first session.update choose. expires_at: epoch
    seconds, as session.created states it.
    """

    def __init__(
        self,
        *,
        kind: str = "realtime",
        model: str = "",
        expires_at: int = 0,
        new_id: Callable[[str], str] = random_id,
        limits: ServerLimits | None = None,
    ) -> None:
        limits = limits or ServerLimits()
        self._new_id = new_id
        self._limits = limits
        self._model = model
        self._settings = default_session(kind, session_id=new_id("sess"), model=model, expires_at=expires_at)
        self.conversation_id = new_id("conv")
        self.items = ItemList(
            max_audio_bytes=limits.max_item_audio_bytes,
            max_items=limits.max_items,
            max_text_bytes=limits.max_text_bytes,
        )
        self._input = InputBuffer(audio_format(self._settings, "input"), max_bytes=limits.max_input_bytes)
        self._speech_item: str | None = None
        self._runs: dict[str, ResponseRun] = {}
        self._active: ResponseRun | None = None
        self._rates = RateMeter()
        self._counted: list[Counted] = []
        self._spoke = False
        self._started = False
        self._idle_after_s: float | None = None
        self._idle_at_s: float | None = None
        self._out: Output = []

    # --- what an engine may look at -----------------------------------------------------------------------------------

    @property
    def settings(self) -> Json:
        """The effective session settings, as session.updated states them. Not to be changed."""
        return self._settings

    @property
    def turn_detection(self) -> Json | None:
        """The session's turn_detection object, None when the client commits by itself."""
        found: Json | None = self._settings["audio"]["input"]["turn_detection"]
        return found

    @property
    def active_response(self) -> str | None:
        """The id of the running answer of the default conversation, or None."""
        return self._active.id if self._active else None

    @property
    def input_ms(self) -> int:
        """How much audio was appended this session."""
        return self._input.end_ms

    def running(self, response_id: str) -> bool:
        """True while this answer is not over."""
        return response_id in self._runs

    # --- what comes in ------------------------------------------------------------------------------------------------

    def start(self) -> Output:
        """Greet: session.created."""
        self._emit(ev.SessionCreated(session=self._settings))
        self._relisten()
        return self._take()

    def receive(self, event: ev.ClientEvent | ev.UnknownEvent | ev.MalformedEvent) -> Output:
        """Take one client message."""
        event_id = event.event_id if isinstance(event, ev.ClientEvent) else None
        try:
            if isinstance(event, ev.ClientEvent):
                self._handlers[type(event)](self, event)
            else:
                event_id = _event_id(event)
                raise _not_understood(event)
        except Refusal as refusal:
            self._error(refusal, event_id)
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
        """The engine answers a Transcribe. What the client asked to have transcribed, it is told."""
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
            error = ev.ErrorDetail(type="transcription_error", code="transcription_failed", message=message)
            self._emit(ev.InputTranscriptionFailed(item_id=item_id, content_index=content_index, error=error))
        return self._take()

    def brief(self, response_id: str) -> ResponseBrief | None:
        """Return what an answer is to be made from; None while audio it needs is not transcribed yet."""
        run = self._runs.get(response_id)
        if run is None:
            return None
        context = self._context(run)
        if any(entry.listening for entry in context):
            return None
        return ResponseBrief(
            response_id=response_id,
            settings=run.settings,
            context=tuple(ContextItem(item=snapshot(e.item), said=e.said()) for e in context),
            format=run.format,
            spoken=run.spoken,
        )

    def say(self, response_id: str, text: str = "", audio: bytes = b"") -> Output:
        """The engine produced more of an answer: a piece of text, and in a spoken answer its audio."""
        run = self._runs.get(response_id)
        if run is None:
            return []
        if not run.fits(text, audio):
            run.open_message()
            self._end(run, "incomplete", ev.StatusDetails(type="incomplete", reason="max_output_tokens"))
            return self._take()
        self._spoke = self._spoke or bool(audio)
        run.say(text, audio)
        return self._take()

    def call(self, response_id: str, name: str, arguments: str) -> Output:
        """The model calls a tool. arguments: JSON text."""
        run = self._runs.get(response_id)
        if run is None:
            return []
        run.call(name, arguments)
        return self._take()

    def finish(self, response_id: str) -> Output:
        """The answer is complete."""
        run = self._runs.get(response_id)
        if run is not None:
            self._end(run, "completed", None)
        return self._take()

    def fail(self, response_id: str, message: str, *, code: str = "server_error") -> Output:
        """The engine cannot go on with this answer."""
        run = self._runs.get(response_id)
        if run is not None:
            error = ev.ErrorDetail(type="server_error", code=code, message=message)
            self._end(run, "failed", ev.StatusDetails(type="failed", error=error))
        return self._take()

    def next_tick_s(self) -> float | None:
        """Return the moment at which `tick` has something to do, None for never (as far as is known now)."""
        return self._idle_at_s

    def tick(self, now_s: float) -> Output:
        """Let time pass. Call it after every batch of work, and at `next_tick_s`.

        The idle timeout of server_vad counts from response.done plus the time its audio takes to play.
        """
        if self._idle_after_s is not None:
            self._idle_at_s = now_s + self._idle_after_s
            self._idle_after_s = None
        if self._idle_at_s is None or now_s < self._idle_at_s:
            return []
        self._idle_at_s = None
        if self._active is not None or self._speech_item is not None:
            return []
        self._time_out()
        return self._take()

    # --- client messages ----------------------------------------------------------------------------------------------

    def _on_session_update(self, event: ev.SessionUpdate) -> None:
        update = event.session
        kind = update.get("type")
        if kind is None:
            raise Refusal(
                "Missing required parameter: 'session.type'.", code="missing_required_parameter", param="session.type"
            )
        if kind not in {"realtime", "transcription"}:
            raise Refusal(f"Invalid value: {kind!r}. Expected realtime or transcription.", param="session.type")
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
        self._emit(ev.SessionUpdated(session=merged))
        self._list_remote_tools(before.get("tools") or [], merged.get("tools") or [])

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
            raise _voice_locked("session.audio.output.voice")
        if self._active is not None and new["speed"] != old["speed"]:
            raise Refusal("Speed can only change between responses.", param="session.audio.output.speed")

    def _list_remote_tools(self, before: list[Json], after: list[Json]) -> None:
        """Tell that remote MCP servers cannot be asked: this server calls none."""
        known = {tool["server_label"] for tool in before if tool["type"] == "mcp"}
        for tool in after:
            if tool["type"] != "mcp" or tool["server_label"] in known:
                continue
            entry = Entry(Item(type="mcp_list_tools", id=self._new_id("mcpl"), server_label=tool["server_label"]))
            entry.item.tools = []
            previous = self.items.insert(entry)
            self._emit(ev.ConversationItemAdded(item=snapshot(entry.item), previous_item_id=previous))
            self._emit(ev.McpListToolsInProgress(item_id=entry.id))
            self._emit(ev.McpListToolsFailed(item_id=entry.id))
            self._emit(ev.ConversationItemDone(item=snapshot(entry.item), previous_item_id=previous))

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
        self._add(entry, event.previous_item_id)

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
        if event.audio_end_ms > clip.duration_ms:
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

    # --- the parts of it ----------------------------------------------------------------------------------------------

    def _emit(self, event: ev.ServerEvent) -> None:
        event.event_id = self._new_id("event")
        self._out.append(event)

    def _take(self) -> Output:
        out, self._out = self._out, []
        return out

    def _error(self, refusal: Refusal, event_id: str | None) -> None:
        detail = ev.ErrorDetail(
            type="invalid_request_error",
            code=refusal.code,
            message=str(refusal),
            param=refusal.param,
            event_id=event_id,
        )
        self._emit(ev.Error(error=detail))

    def _relisten(self) -> None:
        self._speech_item = None
        work = Relisten(turn_detection=self.turn_detection, format=self._input.format, at_ms=self._input.end_ms)
        self._out.append(work)

    def _find(self, item_id: str, verb: str) -> Entry:
        entry = self.items.get(item_id)
        if entry is None:
            raise Refusal(
                f"Error: the item with id '{item_id}' does not exist; cannot {verb} it.",
                code=f"item_{verb}_invalid_item_id",
                param="item_id",
            )
        return entry

    def _new_entry(self, item: Item) -> Entry:
        """Check a client's item, give it an id, and set its audio apart."""
        entry = Entry(check_item(msgspec.structs.replace(item)))
        entry.item.id = entry.item.id or self._new_id("item")
        content = entry.item.content
        if content is not None:
            entry.item.content = [msgspec.structs.replace(part) for part in content]
            for index, part in enumerate(entry.item.content):
                if part.audio is not None:
                    entry.clips[index] = Clip(self._input.format, part.audio)
                    if part.transcript is None:
                        entry.heard[index] = None
                    part.audio = None
        return entry

    def _add(self, entry: Entry, previous_item_id: str | None = None) -> None:
        """Put an item into the conversation and tell; its audio goes to the ear."""
        previous = self.items.insert(entry, previous_item_id)
        self._started = True
        self._emit(ev.ConversationItemAdded(item=snapshot(entry.item), previous_item_id=previous))
        self._emit(ev.ConversationItemDone(item=snapshot(entry.item), previous_item_id=previous))
        self._transcribe(entry)

    def _transcribe(self, entry: Entry) -> None:
        settings = self._settings["audio"]["input"]["transcription"]
        for index in entry.heard:
            clip = entry.clips[index]
            entry.announce = settings is not None or self._settings["type"] == "transcription"
            self._out.append(
                Transcribe(
                    item_id=entry.id,
                    content_index=index,
                    audio=bytes(clip.data or b""),
                    format=clip.format,
                    settings=settings,
                )
            )

    def _await_hearing(self, item_id: str, content_index: int, text: str) -> Entry | None:
        """Store a transcript where it is awaited; None when the item is gone or was told already."""
        entry = self.items.get(item_id)
        if entry is None:
            inputs = (e for run in self._runs.values() for e in run.inputs or ())
            entry = next((e for e in inputs if e.id == item_id), None)
        if entry is None or entry.heard.get(content_index, "") is not None:
            return None
        entry.heard[content_index] = text
        return entry

    def _commit(self, audio: bytes) -> None:
        item_id, self._speech_item = self._speech_item or self._new_id("item"), None
        part = ContentPart(type="input_audio", audio=audio)
        entry = self._new_entry(Item(type="message", id=item_id, role="user", content=[part]))
        self._emit(ev.InputAudioBufferCommitted(item_id=item_id, previous_item_id=self.items.last_id))
        self._add(entry)

    def _answer_turn(self) -> None:
        """Answer a turn that the server itself found, when the session wants that."""
        detection = self.turn_detection
        if detection is None or not detection["create_response"] or self._settings["type"] != "realtime":
            return
        try:
            self._respond({})
        except Refusal as refusal:
            self._error(refusal, None)

    def _respond(self, overrides: Json) -> None:
        if self._settings["type"] != "realtime":
            raise Refusal("A transcription session has no responses.", param="type")
        settings = merge_response(self._settings, overrides)
        out_of_band = settings["conversation"] == "none"
        if not out_of_band and self._active is not None:
            raise Refusal(
                f"Conversation already has an active response in progress: {self._active.id}. Wait until the response "
                "is finished before creating a new one.",
                code="conversation_already_has_active_response",
            )
        if len(self._runs) > self._limits.max_parallel:
            raise Refusal("Too many responses at one time.", code="rate_limit_exceeded")
        voice = settings["audio"]["output"]["voice"]
        if self._spoke and not out_of_band and voice != self._settings["audio"]["output"]["voice"]:
            raise _voice_locked("response.audio.output.voice")
        inputs = None if settings["input"] is None else [self._input_entry(raw) for raw in settings["input"]]
        run = ResponseRun(
            self._new_id("resp"),
            settings,
            self.items,
            new_id=self._new_id,
            emit=self._emit,
            conversation_id=None if out_of_band else self.conversation_id,
        )
        run.inputs = inputs
        self._started = True
        self._idle_after_s = self._idle_at_s = None
        self._runs[run.id] = run
        if not out_of_band:
            self._active = run
        run.start()
        for entry in inputs or ():
            if entry.id not in self.items:
                self._transcribe(entry)
                entry.announce = False
        self._out.append(StartResponse(response_id=run.id))

    def _input_entry(self, raw: Any) -> Entry:
        """Read one element of response.input: an item, or a reference to one."""
        if isinstance(raw, dict) and raw.get("type") == "item_reference":
            return self._find(str(raw.get("id")), "retrieve")
        try:
            item = msgspec.convert(raw, Item)
        except (msgspec.ValidationError, ValueError) as error:
            raise Refusal(f"Invalid item in 'response.input': {error}", param="response.input") from None
        entry = self._new_entry(item)
        if entry.id in self.items:
            raise Refusal(f"Item with id '{entry.id}' already exists.", param="response.input")
        return entry

    def _context(self, run: ResponseRun) -> list[Entry]:
        if run.inputs is not None:
            return run.inputs
        own = {entry.id for entry in run.output}
        return [entry for entry in self.items if entry.id not in own]

    def _cancel(self, run: ResponseRun, reason: str) -> None:
        self._end(run, "cancelled", ev.StatusDetails(type="cancelled", reason=reason))

    def _end(self, run: ResponseRun, status: str, details: ev.StatusDetails | None) -> None:
        del self._runs[run.id]
        if run is self._active:
            self._active = None
        setup = text_tokens(run.settings["instructions"]) + sum(
            text_tokens(str(tool)) for tool in run.settings["tools"]
        )
        context: list[Counted] = [("", setup, 0, 0), *(count_item(entry) for entry in self._context(run))]
        spent = usage(context, common_prefix(self._counted, context), run.text_tokens, run.audio_tokens)
        if not run.out_of_band:
            self._counted = context
        run.finish(status, details, spent)
        rates = [msgspec.convert(rate, ev.RateLimit) for rate in self._rates.spend(spent["total_tokens"])]
        self._emit(ev.RateLimitsUpdated(rate_limits=rates))
        if status != "completed":
            self._out.append(StopResponse(response_id=run.id))
        if not run.out_of_band and status == "completed":
            self._arm_idle(run)

    def _arm_idle(self, run: ResponseRun) -> None:
        idle_ms = (self.turn_detection or {}).get("idle_timeout_ms")
        if idle_ms is not None:
            self._idle_after_s = (idle_ms + run.format.ms(run.audio_bytes)) / 1000

    def _time_out(self) -> None:
        """Turn the user's silence into an item, and answer it."""
        start_ms, end_ms = self._input.start_ms, self._input.end_ms
        self._speech_item = self._new_id("item")
        self._emit(
            ev.InputAudioBufferTimeoutTriggered(item_id=self._speech_item, audio_start_ms=start_ms, audio_end_ms=end_ms)
        )
        self._commit(self._input.take())
        self._relisten()
        self._answer_turn()


def _voice_locked(param: str) -> Refusal:
    return Refusal(
        "Cannot update a conversation's voice if assistant audio is present.", code="cannot_update_voice", param=param
    )


def _event_id(event: ev.UnknownEvent | ev.MalformedEvent) -> str | None:
    if isinstance(event, ev.MalformedEvent):
        return None
    found = event.data.get("event_id")
    return found if isinstance(found, str) else None


def _not_understood(event: ev.UnknownEvent | ev.MalformedEvent) -> Refusal:
    if isinstance(event, ev.UnknownEvent):
        return Refusal(f"Invalid value: '{event.type[:80]}'. It is no client event.", param="type")
    missing = event.error.removeprefix("Object missing required field `")
    if missing != event.error and event.type:
        name = missing.partition("`")[0]
        param = name if " - at " not in missing else missing.partition("$.")[2].rstrip("`") + f".{name}"
        return Refusal(f"Missing required parameter: '{param}'.", code="missing_required_parameter", param=param)
    if event.error == "no `type`":
        return Refusal("Missing required parameter: 'type'.", code="missing_required_parameter", param="type")
    return Refusal(f"The message {event.type!r} could not be read: {event.error}", param=event.type or None)
