"""What the server says in a conversation: its messages in, what they mean out.

The half of the state machine that listens; `Conversation` is the whole of it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from realtime_client import updates as up
from realtime_client.history import Entry, History

from . import events as ev
from . import translate
from .answer_book import AnswerBook
from .answering import Answering
from .answers import HeardMs
from .contents import Contents
from .facts import Standing
from .input_audio import InputAudio
from .items import ContentPart, Item, modernise
from .order import ItemOrder
from .recovering import Recovering
from .requests import Requests
from .session import server_answers, server_interrupts
from .usage import quantity

_MOST_USAGE_KEYS = 32
_CONFIRM_S = 2.0


def random_id(prefix: str) -> str:
    """Return an identifier of the wire's shape, for example `item_9f8e...`."""
    return f"{prefix}_{secrets.token_hex(10)}"


class Listening:
    """State of one conversation, and what its server's messages change of it. For arguments see `Conversation`."""

    def __init__(
        self,
        *,
        new_id: Callable[[str], str] = random_id,
        heard_ms: HeardMs | None = None,
        interrupt_on_speech: bool = True,
        answer_s: float = 30.0,
        refusal_s: float = 2.0,
        now_s: Callable[[], float] = lambda: 0.0,
        history: History | None = None,
        keep_audio_s: float = 0.0,
    ) -> None:
        self.commands: list[ev.ClientEvent] = []
        self.history = History() if history is None else history
        self.items = ItemOrder()
        self.requests = Requests(self.commands, new_id, now_s, answer_s=answer_s, refusal_s=refusal_s)
        self.gate = self.requests.gate
        self.transcription_usage: dict[str, float] = {}
        self.interrupt_on_speech = interrupt_on_speech
        self._new_id = new_id
        self._now_s = now_s
        self._standing = Standing(self.history)
        self._contents = Contents(self.history)
        self._input = InputAudio(keep_audio_s)
        self._recovering = Recovering(self.history, new_id)
        self._own_items: dict[str, None] = {}
        self._answering = Answering(
            self.commands,
            new_id,
            requests=self.requests,
            items=self.items,
            contents=self._contents,
            standing=self._standing,
            heard_ms=heard_ms,
        )
        self.book = self._answering.book

    @property
    def settings(self) -> dict[str, Any]:
        """The session's settings, as the server last stated them."""
        return self._standing.settings

    @property
    def facts(self) -> up.Facts:
        """What the settings say, in neutral words."""
        return self._standing.facts

    @property
    def settled(self) -> bool:
        """Whether the server has confirmed all settings that were sent. One that has not after 2 s never will."""
        return not self._standing.unconfirmed or self._now_s() - self._standing.asked_s >= _CONFIRM_S

    @property
    def session_id(self) -> str:
        """The session's id; '' before the greeting."""
        return self._standing.session_id

    @property
    def usage(self) -> up.Usage:
        """The tokens of all answers."""
        return self._answering.usage

    @property
    def last_request_id(self) -> str | None:
        """The event id of the newest request for an answer."""
        return self.requests.last_id

    def entries(self) -> list[Entry]:
        """What the conversation consists of, in its order. An answer stands there from its end on."""
        return self.history.in_order(self.items)

    # --- the server speaks --------------------------------------------------------------------------------------------

    def receive(self, event: ev.ServerEvent | ev.UnknownEvent | ev.MalformedEvent) -> list[up.Update]:
        """Take one message in; returns what it means, in order. Never raises on account of the message."""
        if type(event) is ev.ResponseOutputAudioDelta:  # of which there is most: the shortest way
            happened = self.book.audio_delta(event)
        else:
            happened = _HANDLERS[type(event)](self, event)
        return [*self._answering.begin_unseen(), *happened] if self.book.unseen else happened

    def take_commands(self) -> list[ev.ClientEvent]:
        """Return the messages to send now, in order, and forget them; while there is no session, none are."""
        commands = [] if self._recovering.away else self.commands[:]
        self.commands.clear()
        return commands

    def _ignore(self, _event: ev.ServerEvent) -> list[up.Update]:
        """Messages that tell nothing an observer needs; they are in the journal."""
        return []

    # items

    def _item_added(self, event: ev.ConversationItemAdded) -> list[up.Update]:
        item = modernise(event.item)
        if not item.id or self._recovering.names.is_told(item.id):
            return []
        self._recovering.confirmed(item.id)
        self.items.place(item.id, self._recovering.names.here(event.previous_item_id))
        self._contents.told(item, final=False)
        self._answering.remote_item(item)
        if item.id in self._own_items:
            return []  # announced when it was sent: the server does not echo typed text
        return [translate.item_added(item, self.items.previous(item.id))]

    def _item_done(self, event: ev.ConversationItemDone) -> list[up.Update]:
        item = modernise(event.item)
        if not item.id or self._recovering.names.is_told(item.id):
            return []
        self._recovering.confirmed(item.id)
        self.items.place(item.id, self._recovering.names.here(event.previous_item_id))
        self._own_items.pop(item.id, None)
        self._contents.told(item, final=True)
        self._answering.remote_item(item)
        return list(translate.item_done(item, self.items.previous(item.id)))

    def _item_deleted(self, event: ev.ConversationItemDeleted) -> list[up.Update]:
        item_id = self._recovering.names.here(event.item_id) or ""
        if self._recovering.names.is_told(event.item_id) and item_id not in self.history:
            return []  # it was gone before the session was told of it, and of its end; or was told anew
        return self._remove(item_id)

    def _remove(self, item_id: str) -> list[up.Update]:
        self.items.remove(item_id)
        self._contents.removed(item_id)
        self._input.known(item_id)
        return [up.ItemDeleted(item_id=item_id)]

    # the user's audio

    def _speech_started(self, event: ev.InputAudioBufferSpeechStarted) -> list[up.Update]:
        self._input.speech_started(event.item_id, event.audio_start_ms)
        started = up.SpeechStarted(item_id=event.item_id, at_ms=self._input.ms(event.audio_start_ms))
        if not self.interrupt_on_speech:
            return [started]
        return [started, *self._answering.interrupt("speech", cancel=not server_interrupts(self.settings))]

    def _speech_stopped(self, event: ev.InputAudioBufferSpeechStopped) -> list[up.Update]:
        self.requests.voice_ended = server_answers(self.settings)
        self._input.speech_stopped(event.item_id, event.audio_end_ms)
        return [up.SpeechStopped(item_id=event.item_id, at_ms=self._input.ms(event.audio_end_ms))]

    def _timed_out(self, event: ev.InputAudioBufferTimeoutTriggered) -> list[up.Update]:
        start_ms, end_ms = self._input.ms(event.audio_start_ms), self._input.ms(event.audio_end_ms)
        return [up.InputTimedOut(item_id=event.item_id, start_ms=start_ms, end_ms=end_ms)]

    def _committed(self, event: ev.InputAudioBufferCommitted) -> list[up.Update]:
        if not self._input.committed(event.item_id):
            self.requests.voice_ended = server_answers(self.settings)
        self.items.place(event.item_id, self._recovering.names.here(event.previous_item_id))
        spoken = [ContentPart(type="input_audio")]  # a connection may be lost before the server says more of it
        self._contents.told(Item(type="message", id=event.item_id, role="user", content=spoken), final=False)
        return [up.InputCommitted(item_id=event.item_id, previous_item_id=self.items.previous(event.item_id))]

    def _transcribed(self, event: Any) -> list[up.Update]:
        """Something about what was said in an item, which may be one that this session was told again."""
        event.item_id = self._recovering.names.here(event.item_id) or ""
        if isinstance(event, ev.InputTranscriptionCompleted):
            return self._transcription_completed(event)
        if isinstance(event, ev.InputTranscriptionDelta):
            return self.book.transcription_delta(event)
        if isinstance(event, ev.InputTranscriptionFailed):
            return self._transcription_failed(event)
        return [translate.STATELESS[type(event)](event)]

    def _transcription_completed(self, event: ev.InputTranscriptionCompleted) -> list[up.Update]:
        for key, value in (event.usage or {}).items():
            known = key in self.transcription_usage or len(self.transcription_usage) < _MOST_USAGE_KEYS
            if known and (amount := quantity(value)) is not None:
                self.transcription_usage[key] = self.transcription_usage.get(key, 0) + amount
        self._contents.transcribed(event.item_id, event.content_index, event.transcript)
        self._input.transcribed(event.item_id, event.transcript)
        return [translate.user_transcript(event)]

    def _transcription_failed(self, event: ev.InputTranscriptionFailed) -> list[up.Update]:
        self._input.transcribed(event.item_id, "")
        return [translate.transcription_failed(event)]

    # the session

    def _session_created(self, event: ev.SessionCreated) -> list[up.Update]:
        self._standing.created(event.session)
        self._configure_input()
        return [up.SessionStarted(session_id=self.session_id, facts=self.facts, settings=event.session)]

    def is_open(self, *, settings_follow: bool) -> bool:
        """Whether the greeting has come and, where settings were sent behind it, their confirmation."""
        return self._standing.greeted and (self._standing.confirmed or not settings_follow)

    def _session_updated(self, event: ev.SessionUpdated) -> list[up.Update]:
        self._standing.updated(event.session)
        self._configure_input()
        return [up.SessionChanged(facts=self.facts, settings=event.session)]

    def _configure_input(self) -> None:
        facts = self.facts
        self._input.configure(facts.input_format, manual=facts.turn_end == "manual", transcribes=facts.transcribes)

    def _error(self, event: ev.Error) -> list[up.Update]:
        if event.error.code == up.NOTHING_TO_COMMIT:
            self._input.refused()
        return self.requests.refused(event.error, cut=self._answering.active_is_cut())


def _alone(tell: Callable[[Any], up.Update]) -> Callable[[Listening, Any], list[up.Update]]:
    """A handler that reports one update."""
    return lambda _listening, event: [tell(event)]


def _of_answers(tell: Callable[[AnswerBook, Any], list[up.Update]]) -> Callable[[Listening, Any], list[up.Update]]:
    """A handler that concerns the answers alone."""
    return lambda listening, event: tell(listening.book, event)


def _answering(tell: Callable[[Answering, Any], list[up.Update]]) -> Callable[[Listening, Any], list[up.Update]]:
    """A handler that may ask for more, or send something."""
    return lambda listening, event: tell(listening._answering, event)


# One table for all sessions: a bound method a message and session would be thousands of objects.
_HANDLERS: dict[type, Callable[[Listening, Any], list[up.Update]]] = {
    **dict.fromkeys(ev.SERVER_EVENTS, Listening._ignore),
    **{kind: _alone(tell) for kind, tell in translate.STATELESS.items()},
    ev.ResponseOutputAudioTranscriptDelta: _of_answers(AnswerBook.spoken_delta),
    ev.ResponseOutputTextDelta: _of_answers(AnswerBook.text_delta),
    ev.ResponseOutputAudioTranscriptDone: _of_answers(AnswerBook.spoken_done),
    ev.ResponseOutputTextDone: _of_answers(AnswerBook.text_done),
    ev.ResponseContentPartDone: _of_answers(AnswerBook.part_done),
    ev.ResponseCreated: _answering(Answering.response_created),
    ev.ResponseOutputItemAdded: _answering(Answering.output_item_added),
    ev.ResponseOutputItemDone: _answering(Answering.output_item_done),
    ev.ResponseDone: _answering(Answering.response_done),
    ev.ConversationItemAdded: Listening._item_added,
    ev.ConversationItemDone: Listening._item_done,
    ev.ConversationItemDeleted: Listening._item_deleted,
    ev.InputAudioBufferSpeechStarted: Listening._speech_started,
    ev.InputAudioBufferSpeechStopped: Listening._speech_stopped,
    ev.InputAudioBufferCommitted: Listening._committed,
    ev.InputAudioBufferTimeoutTriggered: Listening._timed_out,
    ev.ResponseFunctionCallArgumentsDelta: _of_answers(AnswerBook.arguments_delta),
    ev.InputTranscriptionDelta: Listening._transcribed,
    ev.InputTranscriptionCompleted: Listening._transcribed,
    ev.InputTranscriptionFailed: Listening._transcribed,
    ev.InputTranscriptionSegment: Listening._transcribed,
    ev.ResponseMcpCallInProgress: _answering(Answering.mcp_progress),
    ev.ResponseMcpCallCompleted: _answering(Answering.mcp_ended),
    ev.ResponseMcpCallFailed: _answering(Answering.mcp_ended),
    ev.SessionCreated: Listening._session_created,
    ev.SessionUpdated: Listening._session_updated,
    ev.Error: Listening._error,
}
