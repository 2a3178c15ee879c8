"""Server side: one response from response.created to response.done, in the documented order of messages.

response.created, then per message: output_item.added, conversation.item.added, content_part.added, deltas,
output_audio.done and transcript.done (or output_text.done), content_part.done, output_item.done,
conversation.item.done; per function call: output_item.added, conversation.item.added, arguments deltas and done,
output_item.done, conversation.item.done; then response.done and rate_limits.updated. An interrupted response closes
what is open in the same order, with status incomplete.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from realtime_client.protocol import events as ev
from realtime_client.protocol.items import ContentPart, Item
from realtime_client.protocol.session import audio_format
from realtime_client.updates import AudioFormat

from .item_list import Entry, ItemList, snapshot
from .remote_tools import Offer
from .tokens import audio_tokens, text_tokens

if TYPE_CHECKING:
    Emit = Callable[[ev.ServerEvent], None]

Json = dict[str, Any]


class ResponseRun:
    """An answer on its way. Emits its messages through `emit`; touches `items` unless it is out of band."""

    def __init__(
        self,
        response_id: str,
        settings: Json,
        items: ItemList,
        *,
        new_id: Callable[[str], str],
        emit: Emit,
        conversation_id: str | None,
    ) -> None:
        self.id = response_id
        self.settings = settings
        self.conversation_id = conversation_id
        self.inputs: list[Entry] | None = None
        self.output: list[Entry] = []
        self.format: AudioFormat = audio_format(settings, "output")
        self.spoken = settings["output_modalities"] == ["audio"]
        self.text_tokens = 0
        self.audio_bytes = 0
        self.done = False
        self.stated: Json | None = None  # the usage that the model itself states
        self._items = items
        self._new_id = new_id
        self._emit = emit
        self.remote: dict[str, Offer] = {}  # tools of MCP servers, by what the model calls them
        self._open: Entry | None = None

    # --- what the engine produces -------------------------------------------------------------------------------------

    @property
    def out_of_band(self) -> bool:
        """True when the answer stays outside the conversation."""
        return self.conversation_id is None

    @property
    def audio_tokens(self) -> int:
        """Audio tokens generated so far."""
        return audio_tokens(self.format.ms(self.audio_bytes), generated=True)

    def fits(self, text: str, audio: bytes) -> bool:
        """Return whether so much more output stays within max_output_tokens."""
        limit = self.settings["max_output_tokens"]
        if not isinstance(limit, int):
            return True
        more_audio = audio_tokens(self.format.ms(self.audio_bytes + len(audio)), generated=True)
        return self.text_tokens + text_tokens(text) + more_audio <= limit

    def start(self) -> None:
        """Emit response.created."""
        self._emit(ev.ResponseCreated(response=self.state("in_progress", output=[])))

    def say(self, text: str, audio: bytes) -> None:
        """Add text, and its audio when the response is spoken, to the open message."""
        entry = self.open_message()
        self.text_tokens += text_tokens(text)
        part = (entry.item.content or [])[0]
        if not self.spoken:
            part.text = (part.text or "") + text
            if text:
                self._emit(ev.ResponseOutputTextDelta(**self._at(entry), delta=text))
            return
        if text:
            if not entry.frozen:
                part.transcript = (part.transcript or "") + text
            self._emit(ev.ResponseOutputAudioTranscriptDelta(**self._at(entry), delta=text))
        if audio:
            self.audio_bytes += len(audio)
            self._items.add_audio(entry, 0, audio, self.format)
            self._emit(ev.ResponseOutputAudioDelta(**self._at(entry), delta=audio))

    def open_message(self) -> Entry:
        """Return the open message; begins one when none is open."""
        if self._open is not None:
            return self._open
        kind = "output_audio" if self.spoken else "output_text"
        entry = self._add(Item(type="message", role="assistant", content=[]))
        entry.item.content = [ContentPart(type=kind, transcript="") if self.spoken else ContentPart(type=kind, text="")]
        self._emit(ev.ResponseContentPartAdded(**self._at(entry), part=self._part(entry)))
        self._open = entry
        return entry

    def call(self, name: str, arguments: str, call_id: str = "", *, piece_chars: int = 24) -> None:
        """Add a function call; closes the open message first. call_id: '' for a new one."""
        self.close_message("completed")
        item = Item(type="function_call", name=name, arguments="", call_id=call_id or self._new_id("call"))
        entry = self._add(item)
        at: Json = {
            "response_id": self.id,
            "item_id": entry.id,
            "output_index": len(self.output) - 1,
            "call_id": item.call_id,
        }
        for start in range(0, len(arguments), piece_chars):
            delta = arguments[start : start + piece_chars]
            self._emit(ev.ResponseFunctionCallArgumentsDelta(**at, delta=delta))
        self._emit(ev.ResponseFunctionCallArgumentsDone(**at, arguments=arguments, name=name))
        item.arguments = arguments
        self.text_tokens += text_tokens(name + arguments)
        self._finish_item(entry, "completed")

    def call_remote(self, item: Item, *, piece_chars: int = 24) -> Entry:
        """Add a call of a remote tool (an mcp_call), which goes on until `end_remote`."""
        arguments, item.arguments = item.arguments or "", ""
        entry = self._add_remote(item)
        at: Json = {"response_id": self.id, "item_id": entry.id, "output_index": len(self.output) - 1}
        for start in range(0, len(arguments), piece_chars):
            delta = arguments[start : start + piece_chars]
            self._emit(ev.ResponseMcpCallArgumentsDelta(**at, delta=delta, obfuscation=""))
        self._emit(ev.ResponseMcpCallArgumentsDone(**at, arguments=arguments))
        item.arguments = arguments
        self.text_tokens += text_tokens((item.name or "") + arguments)
        return entry

    def ask(self, item: Item) -> Entry:
        """Add the question whether a remote tool may be called (an mcp_approval_request)."""
        entry = self._add_remote(item)
        self.text_tokens += text_tokens((item.name or "") + (item.arguments or ""))
        self._finish_item(entry, None)
        return entry

    def end_remote(self, entry: Entry) -> None:
        """A call of a remote tool is over; the response may be, too."""
        self._finish_item(entry, None)

    def close_message(self, status: str) -> None:
        """End the open message, if there is one. status: completed or incomplete."""
        entry, self._open = self._open, None
        if entry is None:
            return
        part = (entry.item.content or [])[0]
        at = self._at(entry)
        if self.spoken:
            self._emit(ev.ResponseOutputAudioDone(**at))
            self._emit(ev.ResponseOutputAudioTranscriptDone(**at, transcript=part.transcript or ""))
        else:
            self._emit(ev.ResponseOutputTextDone(**at, text=part.text or ""))
        self._emit(ev.ResponseContentPartDone(**at, part=self._part(entry)))
        self._finish_item(entry, status)

    def finish(self, status: str, details: ev.StatusDetails | None, usage: Json) -> None:
        """End the response: closes what is open, then response.done."""
        self.close_message("completed" if status == "completed" else "incomplete")
        self.done = True
        output = [snapshot(entry.item) for entry in self.output]
        self._emit(ev.ResponseDone(response=self.state(status, output=output, details=details, usage=usage)))

    # --- how it goes over the wire ------------------------------------------------------------------------------------

    def state(
        self, status: str, *, output: list[Item], details: ev.StatusDetails | None = None, usage: Json | None = None
    ) -> ev.Response:
        """Return the response object."""
        node = self.settings["audio"]["output"]
        return ev.Response(
            id=self.id,
            object="realtime.response",
            status=status,
            status_details=details,
            output=output,
            conversation_id=self.conversation_id,
            output_modalities=self.settings["output_modalities"],
            audio={"output": {"format": node["format"], "voice": node["voice"]}},
            max_output_tokens=self.settings["max_output_tokens"],
            usage=usage,
            metadata=self.settings["metadata"],
        )

    def _at(self, entry: Entry) -> Json:
        return {
            "response_id": self.id,
            "item_id": entry.id,
            "output_index": len(self.output) - 1,
            "content_index": 0,
        }

    def _part(self, entry: Entry) -> ContentPart:
        """Return the part as response.content_part.* names it: text or audio."""
        part = (entry.item.content or [])[0]
        if self.spoken:
            return ContentPart(type="audio", transcript=part.transcript or "")
        return ContentPart(type="text", text=part.text or "")

    def _add(self, item: Item) -> Entry:
        item.id = self._new_id("item")
        item.object = "realtime.item"
        item.status = "in_progress"
        return self._announce(item)

    def _add_remote(self, item: Item) -> Entry:
        """Begin an item of a remote tool; such items have no status. Closes the open message first."""
        self.close_message("completed")
        return self._announce(item)

    def _announce(self, item: Item) -> Entry:
        entry = Entry(item)
        self.output.append(entry)
        index = len(self.output) - 1
        self._emit(ev.ResponseOutputItemAdded(response_id=self.id, output_index=index, item=snapshot(item)))
        if not self.out_of_band:
            previous = self._items.insert(entry)
            self._emit(ev.ConversationItemAdded(item=snapshot(item), previous_item_id=previous))
        return entry

    def _finish_item(self, entry: Entry, status: str | None) -> None:
        entry.item.status = status
        self._items.resize(entry)
        index = self.output.index(entry)
        self._emit(ev.ResponseOutputItemDone(response_id=self.id, output_index=index, item=snapshot(entry.item)))
        if not self.out_of_band and entry.id in self._items:
            previous = self._items.previous_id(entry.id)
            self._emit(ev.ConversationItemDone(item=snapshot(entry.item), previous_item_id=previous))
