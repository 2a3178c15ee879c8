"""A session with a Realtime server over a WebSocket: what it can be asked to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from realtime_client import updates as up
from realtime_client.audio.pcm import as_bytes
from realtime_client.changes import Changes
from realtime_client.errors import UsageError
from realtime_client.protocol import codec
from realtime_client.protocol import events as ev
from realtime_client.protocol.facts import config_of
from realtime_client.protocol.items import Item
from realtime_client.session.arguments import (
    check_call,
    check_fields,
    check_json,
    check_kind,
    check_said,
    check_text,
)
from realtime_client.session.observers import EventObserver
from realtime_client.session.session import Sent

from .lasting import LastingSession

if TYPE_CHECKING:
    from typing_extensions import Buffer


class RealtimeClient(LastingSession):
    """A `Session` with a Realtime server, and what only such a server knows: items, its settings, any message.

    What has no description here has that of `Session`, which `help()` shows.

    session: settings to send first. recorder: what keeps the session. heard_ms: where playback stands, when there is
    playback. recovery: what happens when the connection is lost; default: that is the end. told: a conversation that
    was held before, and goes on here.
    """

    def send_text(self, text: str, *, respond: bool = True, images: Sequence[str] = ()) -> Sent:
        check_said(text, images, self.facts)

        def decide() -> tuple[Sent, Sequence[up.Update]]:
            item_id, happened = self._conversation.say(text, respond=respond, images=images)
            return Sent(item_id, self._conversation.last_request_id if respond else None), happened

        return self._act(decide)

    def send_audio(self, audio: Buffer, *, in_step: bool = False) -> None:
        self._check_open()
        data = as_bytes(audio, self.input_format)
        if not data:
            return
        self._append(data, in_step=in_step)

    def commit(self) -> None:
        self._do(self._conversation.commit)

    def clear_input(self) -> None:
        self._do(self._conversation.clear_input)

    def respond(self, **response: Any) -> str:
        """Ask for an answer, queued behind a running one; returns the request's id.

        response: fields of the wire's response.create, for example `conversation="none"`, `metadata={...}`.
        """
        check_json(response, "the response")
        if not isinstance(response.get("metadata") or {}, dict):
            raise UsageError("the metadata of a response must be an object: names and values, all text")
        return self._act(lambda: (self._conversation.ask(response or None), ()))

    def cancel(self) -> bool:
        return self._act(self._conversation.cancel, urgent=True)

    def withdraw(self, answer_id: str) -> bool:
        return self._act(lambda: self._conversation.withdraw(answer_id), urgent=True)

    def interrupt(self, cause: str = "speech") -> bool:
        check_text(cause, "the cause")
        return self._act(lambda: self._conversation.interrupt(cause), urgent=True)

    def send_tool_result(self, call_id: str, output: str, *, respond: bool = True) -> str:
        check_text(call_id, "call_id")
        check_text(output, "the output of a tool")
        return self._act(lambda: self._conversation.tool_result(call_id, output, respond=respond))

    def change(self, changes: Changes) -> None:
        check_fields(changes, Changes, "changes of settings (realtime_client.Changes)")
        self._ask_for(self._wire_of(changes))

    def _wire_of(self, changes: Changes) -> dict[str, Any]:
        settings = config_of(changes).to_wire()
        if changes.tools is not None:  # those that the server calls by itself are none of these
            settings["tools"] += [tool for tool in (self._asked_for or {}).get("tools", ()) if tool["type"] == "mcp"]
        return settings

    def add_item(self, item: Item) -> str:
        """Add an item (history, an image, a system message); returns its id."""
        check_kind(item, Item, "an item")
        _check_event(ev.ConversationItemCreate(item=item), "the item")
        return self._act(lambda: (self._conversation.add_item(item), ()))

    def _approve_remote(self, request_id: str, *, approve: bool, reason: str | None) -> None:
        self._act(lambda: (None, self._conversation.approve(request_id, approve=approve, reason=reason)))

    def send_event(self, event: ev.ClientEvent) -> None:
        """Send any message of the protocol."""
        check_kind(event, ev.ClientEvent, "a message of a client")
        if isinstance(event, ev.InputAudioBufferAppend):
            check_text(event.event_id or "", "event_id")
            event = ev.InputAudioBufferAppend(audio=as_bytes(event.audio, self.input_format), event_id=event.event_id)
        else:
            _check_event(event, "the message")
        self._do(lambda: self._conversation.send(event))

    def observe_events(self, observer: EventObserver) -> None:
        check_call(observer, "an observer")
        with self._life:
            self._event_observers = (*self._event_observers, observer)


def _check_event(event: ev.ClientEvent, what: str) -> None:
    """Refuse a message that no server could read: the wrong kind in a field, or what JSON cannot say.

    Errors: UsageError.
    """
    check_json(event, what)
    read = codec.decode_client(codec.encode(event))
    if isinstance(read, ev.MalformedEvent | ev.UnknownEvent):
        problem = read.error if isinstance(read, ev.MalformedEvent) else "it is no message of the protocol"
        raise UsageError(f"{what} cannot be sent: {problem}")
