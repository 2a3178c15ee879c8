"""The client's side of a conversation: events in, updates and commands out.

A pure state machine: no socket, no thread, and no clock but the one it is given. `receive(event)` returns what happened
as updates; requests of the user are methods. Both append the messages to send to `commands`; the caller takes them with
`take_commands()` and sends them in that order. Not thread-safe: the caller holds one lock around every call.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from realtime_client import updates as up
from realtime_client.history import Entry, History, Image, Result

from . import events as ev
from . import translate
from .answer_book import AnswerBook
from .answering import Answering
from .answers import AnswerState, HeardMs, forget_oldest
from .contents import Contents
from .facts import Standing
from .gate import ALREADY_ACTIVE
from .input_audio import MIN_COMMIT_MS, InputAudio
from .items import ContentPart, Item, assistant_text, function_output, mcp_approval, modernise, user_text
from .order import ItemOrder
from .recovering import Recovering
from .requests import BENIGN_CODES, Requests
from .restoration import Restoration, told_again
from .session import server_answers, server_interrupts
from .usage import quantity

_MOST_USAGE_KEYS = 32
_MOST_OWN_ITEMS = 256
_CONFIRM_S = 2.0


def random_id(prefix: str) -> str:
    """Return an identifier of the wire's shape, for example `item_9f8e...`."""
    return f"{prefix}_{secrets.token_hex(10)}"


class Conversation:
    """State of one session as the client knows it.

    heard_ms: where playback stands; without it everything received counts as heard, or seen.
    interrupt_on_speech: whether the user's voice cuts a running answer.
    answer_s, refusal_s: how long a request may stay unanswered; see `ResponseGate`. now_s: the clock of these, in
    seconds. The caller says when a request left (`left`) and comes back at `due_s` (`tick`).
    history: what the conversation consists of; one that began elsewhere continues its own. keep_audio_s: how much of
    the user's sound is kept until it is in an item, for a session that has to be told again; 0: nothing.
    """

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

    # --- what never comes ---------------------------------------------------------------------------------------------

    def left(self, event: ev.ClientEvent) -> None:
        """Note that a message was sent. The time of a request for an answer counts from here."""
        self.requests.left(event)

    @property
    def due_s(self) -> float | None:
        """When `tick` should be called, in seconds of the clock; None for never."""
        return self.gate.due_s

    def tick(self) -> list[up.Update]:
        """Give up what has waited too long; returns what to tell."""
        return self.requests.tick()

    def end(self) -> list[up.Update]:
        """The connection is over: tell what was held back, and keep what has come of answers that still ran."""
        self._answering.keep_running()
        return self.requests.end()

    @property
    def running_answer(self) -> AnswerState | None:
        """The answer that runs and that nobody has cut."""
        return self._answering.running()

    def moved(self) -> list[up.Update]:
        """Others go on, of another kind: what runs is over, and nothing is sent until the session comes back."""
        happened = [*self._answering.moved(), *self.requests.moved()]
        self._standing.moved()
        self._input.dropped()
        self._recovering.moved()
        return happened

    def follow(self, gone: Iterable[str], entries: Sequence[Entry], elsewhere: History) -> None:
        """Take in what became of the conversation while others went on. elsewhere: where they keep images.

        gone: entries that were taken back. What they ask for is not asked for here.
        """
        for item_id in gone:
            self.items.remove(item_id)
            self._contents.removed(item_id)
        for entry in entries:
            self.history.put(entry)
            self.items.place(entry.id, None)
            for part in entry.parts:
                image = elsewhere.media(part.media) if isinstance(part, Image) else None
                if image is not None:
                    self.history.keep(image)

    def follow_calls(self, calls: Mapping[str, tuple[str, str]], wants_reply: Collection[str]) -> None:
        """Take over the calls that wait for their results: each with its answer and its tool.

        wants_reply: answers of whose results the model is to speak.
        """
        answers = {of: AnswerState(of, wants_reply=of in wants_reply, done=True) for of, _ in calls.values()}
        self._answering.tools.opened((answers[of], call_id, name) for call_id, (of, name) in calls.items())

    # --- another session goes on --------------------------------------------------------------------------------------

    @property
    def away(self) -> bool:
        """Whether there is no session: what is decided meanwhile is told to the next one."""
        return self._recovering.away

    @property
    def quiet(self) -> bool:
        """Whether nobody speaks, as far as that is known, and nothing is asked for, under way or still to be heard."""
        asked = self.gate.wanted or self.requests.voice_ended or self.requests.any_apart
        return not (asked or self.book.running or self._answering.lingers or self._input.busy)

    def lost(self, *, silent_s: float = 0.0) -> list[up.Update]:
        """The session is over, and another one will go on; silent_s: for how long the server had said nothing.

        What ran is over, and what was asked for is asked again, once; calls of tools stay open.
        """
        unanswered = self.requests.voice_ended and not self._input.begun
        self._input.lost_before(silent_s)
        lost, unknown, happened = self._answering.lost(unanswered=unanswered)
        self._recovering.lost(lost, unknown)
        return happened

    def restoration(self, settings: dict[str, Any] | None, *, most_tokens: int) -> Restoration:
        """What tells a new session the settings and what was said until now."""
        entries = self.entries()
        open_calls = self._answering.tools.open
        told = self._recovering.chosen(entries, self._input, most_tokens=most_tokens, open_calls=open_calls)
        return Restoration(
            settings,
            told.entries,
            known={entry.id: entry.as_heard.said for entry in entries},
            left_out=told.left_out,
            new_id=self._new_id,
            kept=lambda reference: self._recovering.media(self._input, reference),
            now_s=self._now_s,
        )

    def restored(self, by: Restoration, *, reason: str, away_ms: int, where: str) -> list[up.Update]:
        """The new session takes the place of the old one. Returns what to tell; `Restored` is the last of it."""
        happened = [told for item_id in self._input.begun for told in self._remove(item_id)]
        facts = self.facts
        self._standing.restored(by.session, by.session_id)
        self._configure_input()
        if msgspec.structs.replace(self.facts, expires_at=facts.expires_at) != facts:
            happened.append(up.SessionChanged(facts=self.facts, settings=self.settings))
        told = self._recovering.restored(by.names, by.known, self.entries(), self._input)
        happened += self._confirm(told.sent_late)
        happened += [each for event in by.heard for each in self._transcribed(event)]
        self.commands[:] = told.commands
        self.requests.restored()
        restored = up.Restored(
            reason=reason,
            away_ms=away_ms,
            told=len(by.entries) + told.late,
            left_out=by.left_out,
            refused=by.refused,
            sent_late=told.sent_late,
            unknown=told.unknown,
            asked_again=told.asked_again,
            audio_ms=self.facts.input_format.ms(told.audio_bytes),
            lost_audio=told.lost_audio,
            where=where,
            session_id=by.session_id,
        )
        return [*happened, restored]

    def _confirm(self, own: Sequence[str]) -> list[up.Update]:
        """Items that the old session had not confirmed are told with the rest: they are complete."""
        done: list[up.Update] = []
        for item_id in own:
            entry = self.history.get(item_id)
            if entry is not None and self._own_items.pop(item_id, item_id) is None:
                kind = "function_call_output" if entry.role == "tool" else "message"
                text = entry.said or "".join(part.output for part in entry.parts if isinstance(part, Result))
                done.append(up.ItemDone(item_id=item_id, role=entry.role, item_type=kind, text=text))
        return done

    def begin_with(self, entries: Sequence[Entry], *, most_tokens: int) -> None:
        """Go on with a conversation that was held before: tell the session of it."""
        for entry in entries:
            self.history.put(entry)
            self.items.place(entry.id, None)
        told = self._recovering.chosen(self.entries(), self._input, most_tokens=most_tokens)
        self.commands += told_again(told.entries, self._recovering.names, self._new_id, self.history.media)

    # --- the user speaks ----------------------------------------------------------------------------------------------

    def say(
        self, text: str, *, respond: bool = True, role: str = "user", images: Sequence[str] = ()
    ) -> tuple[str, list[up.Update]]:
        """Add a typed message; with `respond`, cut a running answer and ask for a new one.

        images: of a user, data URIs that go before the text, which may be empty.

        Returns the item's id and what to tell observers: the server does not echo typed text as speech.
        Errors: UsageError when 64 requests wait already.
        """
        if respond:
            self.requests.require_room()  # before anything is decided
        happened = self._answering.interrupt("typed", cancel=True) if respond else []
        item = user_text(text, images=images) if role == "user" else assistant_text(text)
        item_id = self._add(item, announced=True)
        happened.append(translate.own_item(item, self.items.previous(item_id)))
        if respond:
            self.requests.ask_for_new_items()
        return item_id, happened

    def add_item(self, item: Item) -> str:
        """Send an item of our own; returns its id (made here when it has none)."""
        return self._add(item, announced=False)

    def _add(self, item: Item, *, announced: bool) -> str:
        """Send an item. announced: observers are told now, so the server's echo is no news."""
        item_id = self._take_own(item, None)
        if announced:
            self._own_items[item_id] = None
            forget_oldest(self._own_items, _MOST_OWN_ITEMS)  # a server that never confirms items
        self.commands.append(ev.ConversationItemCreate(item=item, event_id=self._new_id("event")))
        return item_id

    def _take_own(self, item: Item, previous_item_id: str | None) -> str:
        """Give an item that is sent its id, its place and its entry; returns the id."""
        item.id = item.id or self._new_id("item")
        self.items.place(item.id, previous_item_id)
        self._contents.own(item)
        self._recovering.own(item)
        return item.id

    def ask(self, response: dict[str, Any] | None = None, *, event_id: str | None = None) -> str:
        """Ask for an answer; see `Requests.ask`."""
        return self.requests.ask(response, event_id=event_id)

    def cancel(self) -> tuple[bool, list[up.Update]]:
        """Stop the running answer and drop the ones asked for; True if there was one."""
        wanted = self.gate.wanted
        dropped = [translate.cancelled(event_id) for event_id in self.gate.drop_waiting()]
        return wanted, [*self._answering.interrupt("cancel", cancel=True), *dropped]

    def withdraw(self, answer_id: str) -> tuple[bool, list[up.Update]]:
        """Stop one answer and no other: a running one, or one that is asked for; True if that is done.

        answer_id: its id, or its request's. One that others asked for, too, goes on.
        """
        on_its_way, active_id = self.gate.on_its_way, self.gate.active_id
        if answer_id != active_id:
            if not self.gate.withdraw(answer_id):
                return False, []
            if answer_id != on_its_way:
                return True, [translate.cancelled(answer_id)]
        return True, self._answering.interrupt("cancel", cancel=True)

    def interrupt(self, cause: str) -> tuple[bool, list[up.Update]]:
        """Cut the running answer and the unheard tail of finished ones; True if anything was cut."""
        happened = self._answering.interrupt(cause, cancel=True)
        return bool(happened), happened

    def tool_result(self, call_id: str, output: str, *, respond: bool = True) -> tuple[str, list[up.Update]]:
        """Send a tool's output; when no call of its answer is open any more, ask for ONE new answer.

        Errors: UsageError when no such call waits for a result.
        """
        call = self._answering.tools.answered(call_id, respond=respond)
        item = function_output(call_id, output)
        item_id = self._add(item, announced=True)
        self._contents.result(item_id, call_id, call.name, output)
        told = translate.tool_result(call_id, call.name, output, item_id, call.answer.id)
        follows = self._answering.reply_if_settled(call.answer)
        return item_id, [translate.own_item(item, None), *follows, told]

    def approve(self, request_id: str, *, approve: bool, reason: str | None = None) -> list[up.Update]:
        """Answer a remote tool's approval request. Errors: UsageError when it made none that waits."""
        asker = self._answering.approvals.decided(request_id, approve=approve)
        self.add_item(mcp_approval(request_id, approve=approve, reason=reason, item_id=self._new_id("item")))
        return [] if asker is None else self._answering.reply_if_settled(asker)

    def appended(self, size_bytes: int) -> None:
        """Count audio that was appended to the input buffer; less than 0 for some that was not, after all."""
        if size_bytes < 0:
            self._input.take_back(-size_bytes)
        else:
            self._input.appended(size_bytes)

    def keep(self, audio: bytes) -> None:
        """Keep audio that was appended, or will be, until it is in an item."""
        self._input.keep(audio)

    def commit(self) -> None:
        """Commit the input buffer. Errors: UsageError below 100 ms, which servers refuse."""
        self._input.require_enough(self.facts.input_format)
        self.send(ev.InputAudioBufferCommit(event_id=self._new_id("event")))

    def clear_input(self) -> None:
        """Throw the uncommitted audio away."""
        self.send(ev.InputAudioBufferClear(event_id=self._new_id("event")))

    def update_session(self, session: dict[str, Any]) -> None:
        """Send new settings (the wire's JSON object)."""
        self._standing.unconfirmed += 1
        self._standing.asked_s = self._now_s()
        self.commands.append(ev.SessionUpdate(event_id=self._new_id("event"), session=session))

    def send(self, event: ev.ClientEvent) -> None:
        """Send any message; those with rules go through their rules."""
        if isinstance(event, ev.ResponseCreate):
            self.ask(event.response, event_id=event.event_id)
            return
        if isinstance(event, ev.ConversationItemCreate):
            self._take_own(event.item, event.previous_item_id)
        self._input.sent(event)
        if self.away and isinstance(event, ev.ConversationItemDelete):
            self.items.remove(event.item_id)  # nobody will confirm it
            self._contents.removed(event.item_id)
        self.commands.append(self._recovering.renamed(event))


def _alone(tell: Callable[[Any], up.Update]) -> Callable[[Conversation, Any], list[up.Update]]:
    """A handler that reports one update."""
    return lambda _conversation, event: [tell(event)]


def _of_answers(tell: Callable[[AnswerBook, Any], list[up.Update]]) -> Callable[[Conversation, Any], list[up.Update]]:
    """A handler that concerns the answers alone."""
    return lambda conversation, event: tell(conversation.book, event)


def _answering(tell: Callable[[Answering, Any], list[up.Update]]) -> Callable[[Conversation, Any], list[up.Update]]:
    """A handler that may ask for more, or send something."""
    return lambda conversation, event: tell(conversation._answering, event)


# One table for all sessions: a bound method a message and session would be thousands of objects.
_HANDLERS: dict[type, Callable[[Conversation, Any], list[up.Update]]] = {
    **dict.fromkeys(ev.SERVER_EVENTS, Conversation._ignore),
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
    ev.ConversationItemAdded: Conversation._item_added,
    ev.ConversationItemDone: Conversation._item_done,
    ev.ConversationItemDeleted: Conversation._item_deleted,
    ev.InputAudioBufferSpeechStarted: Conversation._speech_started,
    ev.InputAudioBufferSpeechStopped: Conversation._speech_stopped,
    ev.InputAudioBufferCommitted: Conversation._committed,
    ev.InputAudioBufferTimeoutTriggered: Conversation._timed_out,
    ev.ResponseFunctionCallArgumentsDelta: _of_answers(AnswerBook.arguments_delta),
    ev.InputTranscriptionDelta: Conversation._transcribed,
    ev.InputTranscriptionCompleted: Conversation._transcribed,
    ev.InputTranscriptionFailed: Conversation._transcribed,
    ev.InputTranscriptionSegment: Conversation._transcribed,
    ev.ResponseMcpCallInProgress: _answering(Answering.mcp_progress),
    ev.ResponseMcpCallCompleted: _answering(Answering.mcp_ended),
    ev.ResponseMcpCallFailed: _answering(Answering.mcp_ended),
    ev.SessionCreated: Conversation._session_created,
    ev.SessionUpdated: Conversation._session_updated,
    ev.Error: Conversation._error,
}


__all__ = ["ALREADY_ACTIVE", "BENIGN_CODES", "MIN_COMMIT_MS", "Conversation", "HeardMs", "random_id"]
