"""Server side: when an answer starts and how it ends."""

from __future__ import annotations

from typing import Any

import msgspec

from realtime_client.protocol import events as ev
from realtime_client.protocol.items import GivenItem
from realtime_client.protocol.lenient import without_nulls

from .checks import Refusal, an_object, fields, text
from .item_list import Entry, taken, text_size
from .misread import refusal_of
from .response import ResponseRun
from .settings import merge_response
from .state import Json, ServerState
from .tokens import Counted, common_prefix, count_item, text_tokens, usage
from .work import StartResponse, StopResponse


class ServerReplies(ServerState):
    """Starts and ends answers. `ServerConversation` is what others use."""

    def _respond(self, overrides: Json) -> None:
        if self._settings["type"] != "realtime":
            raise Refusal("A transcription session has no responses.", param="type")
        settings = merge_response(self._settings, overrides)
        self._remote.check_known(settings)
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
            raise voice_locked("response.audio.output.voice")
        given, settings["input"] = settings["input"], None  # of which only the entries are kept
        inputs = None if given is None else self._inputs(given)
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

    def _inputs(self, given: list[Any]) -> list[Entry]:
        """Read response.input. Errors: Refusal, also when the running responses hold too much of it."""
        limits = self._limits
        running = [entry for run in self._runs.values() for entry in run.inputs or ()]
        if len(running) + len(given) > limits.max_items:
            raise _too_much(f"{limits.max_items} items")
        inputs = [self._input_entry(raw, f"response.input[{index}]") for index, raw in enumerate(given)]
        own = [entry for entry in (*running, *inputs) if entry.id not in self.items]
        if sum(text_size(entry.item) for entry in own) > limits.max_text_bytes:
            raise _too_much(f"{limits.max_text_bytes} bytes of text")
        if sum(clip.size for entry in own for clip in entry.clips.values()) > limits.max_item_audio_bytes:
            raise _too_much(f"{limits.max_item_audio_bytes} bytes of audio")
        return inputs

    def _input_entry(self, raw: Any, at: str) -> Entry:
        """Read one element of response.input: an item, or a reference to one."""
        an_object(raw, at)
        if raw.get("type") == "item_reference":
            fields(raw, at, {"type": text, "id": text}, ("id",))
            return self._find(raw["id"], "retrieve", f"{at}.id")
        try:
            item = msgspec.convert(without_nulls(raw), GivenItem)
        except (msgspec.ValidationError, ValueError) as error:
            raise refusal_of(str(error), at) or Refusal(f"Invalid '{at}': {error}.", param=at) from None
        entry = self._new_entry(item, at)
        if entry.id in self.items:
            raise taken(entry.id, f"{at}.id")
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
            text_tokens(msgspec.json.encode(tool)) for tool in run.settings["tools"]
        )
        context: list[Counted] = [("", setup, 0, 0), *(count_item(entry) for entry in self._context(run))]
        spent = usage(context, common_prefix(self._counted, context), run.text_tokens, run.audio_tokens)
        spent = run.stated or spent
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

    def _answer_turn(self) -> None:
        """Answer a turn that the server itself found, when the session wants that."""
        detection = self.turn_detection
        if detection is None or not detection["create_response"] or self._settings["type"] != "realtime":
            return
        try:
            self._respond({})
        except Refusal as refusal:
            self._error(refusal, None)

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


def _too_much(limit: str) -> Refusal:
    """Return the refusal of more input than the running responses may hold together."""
    message = f"Invalid 'response.input': responses that are not finished may hold {limit} of input together."
    return Refusal(message, param="response.input")


def voice_locked(param: str) -> Refusal:
    """Return the refusal of another voice once the model has spoken."""
    return Refusal(
        "Cannot update a conversation's voice if assistant audio is present.", code="cannot_update_voice", param=param
    )
