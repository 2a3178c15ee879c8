"""The client's side of a conversation: events in, updates and commands out.

A pure state machine: no socket, no thread, and no clock but the one it is given. `receive(event)` returns what happened
as updates; requests of the user are methods. Both append the messages to send to `commands`; the caller takes them with
`take_commands()` and sends them in that order. Not thread-safe: the caller holds one lock around every call.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from realtime_client import updates as up
from realtime_client.errors import UsageError

from . import events as ev
from . import translate
from .answer_book import AnswerBook, forget_oldest
from .answers import AnswerState, HeardMs, correction, plan_cuts
from .facts import facts_of
from .gate import ALREADY_ACTIVE, GivenUp, ResponseGate
from .items import Item, assistant_text, function_output, mcp_approval, modernise, user_text
from .order import ItemOrder
from .session import audio_format, server_answers, server_interrupts
from .usage import quantity

MIN_COMMIT_MS = 100
_OWN_TAG = "realtime_client_request"
_FATAL_CODES = {"session_expired", "invalid_api_key", "beta_api_shape_disabled", "invalid_model"}
CANCEL_NOT_ACTIVE = "response_cancel_not_active"
BENIGN_CODES = {CANCEL_NOT_ACTIVE}

_TOO_MANY = "64 requests for an answer wait already: let the running answer end first"
_MOST_CALLS = 256
_MOST_USAGE_KEYS = 32


def random_id(prefix: str) -> str:
    """Return an identifier of the wire's shape, for example `item_9f8e...`."""
    return f"{prefix}_{secrets.token_hex(10)}"


def _nothing_plays(_item_id: str, _content_index: int) -> int | None:
    return None


class Conversation:
    """State of one session as the client knows it.

    heard_ms: where playback stands; without it everything received counts as heard.
    interrupt_on_speech: whether the user's voice cuts a running answer.
    answer_s, refusal_s: how long a request may stay unanswered; see `ResponseGate`. now_s: the clock of these, in
    seconds. The caller says when a request left (`left`) and comes back at `due_s` (`tick`).
    """

    def __init__(
        self,
        *,
        new_id: Callable[[str], str] = random_id,
        heard_ms: HeardMs = _nothing_plays,
        interrupt_on_speech: bool = True,
        answer_s: float = 30.0,
        refusal_s: float = 2.0,
        now_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.commands: list[ev.ClientEvent] = []
        self.settings: dict[str, Any] = {}
        self.session_id = ""
        self.facts = up.Facts()
        self.items = ItemOrder()
        self.gate = ResponseGate(answer_s=answer_s, refusal_s=refusal_s)
        self.usage = up.Usage()
        self.transcription_usage: dict[str, float] = {}
        self.heard_ms = heard_ms
        self.interrupt_on_speech = interrupt_on_speech
        self._answer_s = answer_s
        self._now_s = now_s
        self._new_id = new_id
        self.book = AnswerBook(self.gate)
        self._own_items: dict[str, None] = {}
        self._asked_apart: dict[str, None] = {}
        self._calls: dict[str, AnswerState] = {}
        self._cancel_next = False
        self._cancelled_late = False  # a cancelled request was given up, and its answer may still begin
        self._greeted = self._confirmed = False
        self._own_commits = 0  # asked for, not confirmed
        self._voice_ended = False  # the server may answer by itself
        self._by_voice = False  # the running answer may be one of those
        self.last_request_id: str | None = None
        self._uncommitted_bytes = 0

    # --- the server speaks --------------------------------------------------------------------------------------------

    def receive(self, event: ev.ServerEvent | ev.UnknownEvent | ev.MalformedEvent) -> list[up.Update]:
        """Take one message in; returns what it means, in order. Never raises on account of the message."""
        happened = _HANDLERS[type(event)](self, event)
        return [*self._begin_unseen(), *happened] if self.book.unseen else happened

    def _begin_unseen(self) -> list[up.Update]:
        """Tell of answers whose `response.created` has not come, so that whoever waits for one finds it."""
        unseen, self.book.unseen = self.book.unseen, []
        happened: list[up.Update] = []
        for answer in unseen:
            if answer.begun or answer.done or self._asked_apart or self.gate.active_id not in {None, answer.id}:
                continue
            if self.gate.asked:
                happened += self._begin(answer, unseen=True)
            else:  # nobody asked for it: it is shown, and holds no request back
                answer.begun = True
                happened.append(translate.response_started(answer, None))
        return happened

    def _begin(self, answer: AnswerState, *, unseen: bool = False) -> list[up.Update]:
        """An answer of the conversation begins. unseen: nobody said so."""
        answer.begun = True
        happened: list[up.Update] = [translate.failure(error, None) for error in self.gate.acquitted()]
        request_id = self.gate.created(answer.id, unseen_s=self._now_s() if unseen else None)
        self._by_voice, self._voice_ended = self._voice_ended, False
        if self._cancel_next:
            self._cancel_next = self._cancelled_late = False
            if not self._by_voice:  # that one is the server's own, to something spoken since
                self._cancel(answer)
        return [*happened, translate.response_started(answer, request_id)]

    def take_commands(self) -> list[ev.ClientEvent]:
        """Return the messages to send now, in order, and forget them."""
        commands, self.commands = self.commands, []
        return commands

    def _ignore(self, _event: ev.ServerEvent) -> list[up.Update]:
        """Messages that tell nothing an observer needs; they are in the journal."""
        return []

    # responses

    def _response_created(self, event: ev.ResponseCreated) -> list[up.Update]:
        response = event.response
        answer = self.book.begin(response.id, anew=bool(self.gate.on_its_way or self.gate.assumed))
        tag = (response.metadata or {}).get(_OWN_TAG)
        answer.out_of_band = tag is not None and tag in self._asked_apart
        output = (response.audio or {}).get("output")
        if isinstance(output, dict) and output.get("format"):
            answer.audio_format = audio_format({"audio": response.audio}, "output")
        answer.metadata = {k: v for k, v in (response.metadata or {}).items() if k != _OWN_TAG} or None
        if answer.begun:
            return []  # told late: its first words came before it
        if not answer.out_of_band:
            return self._begin(answer)
        answer.begun = True
        self._asked_apart.pop(str(tag), None)
        return [translate.response_started(answer, tag)]

    def _output_item_added(self, event: ev.ResponseOutputItemAdded) -> list[up.Update]:
        item = modernise(event.item)
        answer = self.book.find(event.response_id, item.id or "")
        if not answer.add_item(item.id or ""):
            return []
        assert item.id is not None
        if item.type == "mcp_call":
            answer.open_mcp.add(item.id)
        if answer.out_of_band or item.id in self.items:
            return []
        # Servers that send no conversation.item.added for it: this is its place.
        self.items.place(item.id, None)
        return [translate.item_added(item, self.items.previous(item.id))]

    def _output_item_done(self, event: ev.ResponseOutputItemDone) -> list[up.Update]:
        item = modernise(event.item)
        answer = self.book.find(event.response_id, item.id or "")
        answer.add_item(item.id or "")
        happened = self.book.settle_item(answer, event.output_index, item)
        return [*happened, *self._called(answer, event)]

    def _called(self, answer: AnswerState, event: ev.ResponseOutputItemDone) -> list[up.Update]:
        """A complete function call is told once."""
        item = event.item
        call_id = item.call_id
        if item.type != "function_call" or not call_id or item.status not in {None, "completed"}:
            return []
        if call_id in answer.calls or len(answer.calls) >= _MOST_CALLS:
            return []
        answer.calls.add(call_id)
        answer.open_calls.add(call_id)
        self._calls[call_id] = answer
        forget_oldest(self._calls, _MOST_CALLS)  # calls that nobody answered
        return [translate.tool_call(answer, event)]

    def _response_done(self, event: ev.ResponseDone) -> list[up.Update]:
        response = event.response
        if self.book.is_over(response.id):
            return []
        answer, happened = self.book.end(response)
        told = translate.response_done(response, answer)
        if told.usage is not None:
            self.usage += told.usage
        if happened and not answer.begun and not answer.out_of_band and not self._asked_apart:
            happened = [*self._begin(answer), *happened]
        if not answer.out_of_band or self.gate.active_id == answer.id:
            self.gate.done(answer.id)
        if not self.gate.on_its_way:
            self._cancel_next = False
        self._reply_if_settled(answer)
        self._let_go()
        return [*happened, told]

    # items

    def _item_added(self, event: ev.ConversationItemAdded) -> list[up.Update]:
        item = modernise(event.item)
        if not item.id:
            return []
        self.items.place(item.id, event.previous_item_id)
        if item.id in self._own_items:
            return []  # announced when it was sent: the server does not echo typed text
        return [translate.item_added(item, self.items.previous(item.id))]

    def _item_done(self, event: ev.ConversationItemDone) -> list[up.Update]:
        item = modernise(event.item)
        if not item.id:
            return []
        self.items.place(item.id, event.previous_item_id)
        self._own_items.pop(item.id, None)
        return list(translate.item_done(item, self.items.previous(item.id)))

    def _item_deleted(self, event: ev.ConversationItemDeleted) -> list[up.Update]:
        self.items.remove(event.item_id)
        return [up.ItemDeleted(item_id=event.item_id)]

    # the user's audio

    def _speech_started(self, event: ev.InputAudioBufferSpeechStarted) -> list[up.Update]:
        started = up.SpeechStarted(item_id=event.item_id, at_ms=event.audio_start_ms)
        if not self.interrupt_on_speech:
            return [started]
        return [started, *self._interrupt("speech", cancel=not server_interrupts(self.settings))]

    def _speech_stopped(self, event: ev.InputAudioBufferSpeechStopped) -> list[up.Update]:
        self._voice_ended = server_answers(self.settings)
        return [up.SpeechStopped(item_id=event.item_id, at_ms=event.audio_end_ms)]

    def _committed(self, event: ev.InputAudioBufferCommitted) -> list[up.Update]:
        if self._own_commits:
            self._own_commits -= 1
        else:
            self._voice_ended = server_answers(self.settings)
        self.items.place(event.item_id, event.previous_item_id)
        return [up.InputCommitted(item_id=event.item_id, previous_item_id=self.items.previous(event.item_id))]

    def _transcription_completed(self, event: ev.InputTranscriptionCompleted) -> list[up.Update]:
        for key, value in (event.usage or {}).items():
            known = key in self.transcription_usage or len(self.transcription_usage) < _MOST_USAGE_KEYS
            if known and (amount := quantity(value)) is not None:
                self.transcription_usage[key] = self.transcription_usage.get(key, 0) + amount
        return [translate.user_transcript(event)]

    # the session

    def _take_settings(self, session: dict[str, Any]) -> None:
        self.settings = session
        self.facts = facts_of(session)

    def _session_created(self, event: ev.SessionCreated) -> list[up.Update]:
        self._take_settings(event.session)
        self._greeted = True
        self.session_id = str(event.session.get("id") or "")
        return [up.SessionStarted(session_id=self.session_id, facts=self.facts, settings=event.session)]

    def is_open(self, *, settings_follow: bool) -> bool:
        """Whether the greeting has come and, where settings were sent behind it, their confirmation."""
        return self._greeted and (self._confirmed or not settings_follow)

    def _session_updated(self, event: ev.SessionUpdated) -> list[up.Update]:
        self._take_settings(event.session)
        self._confirmed = self._greeted
        return [up.SessionChanged(facts=self.facts, settings=event.session)]

    def _error(self, event: ev.Error) -> list[up.Update]:
        error = event.error
        fatal = error.code in _FATAL_CODES
        request = self.gate.on_its_way
        if error.code == CANCEL_NOT_ACTIVE and self._active_is_cut():
            self.gate.not_running()
        expected = self.gate.refused(
            error.event_id, error.code, error.message, by_voice=self._by_voice, now_s=self._now_s()
        )
        freed = request is not None and request != self.gate.on_its_way
        if freed:
            self._cancel_next = expected and self._cancelled_late
        benign = expected or error.code in BENIGN_CODES
        nameless = not (error.event_id or freed or benign or fatal)
        if nameless and self.gate.suspect(error, self._now_s()):
            return []  # told when it is clear what it was about
        if error.event_id:
            self._asked_apart.pop(error.event_id, None)
        self._let_go()
        event_id = error.event_id or (request if freed else None)
        return [translate.failure(error, event_id, benign=benign, fatal=fatal)]

    def _active_is_cut(self) -> bool:
        """Whether the answer that is waited for was told to stop, or was never seen here."""
        active_id = self.gate.active_id
        if active_id is None:
            return False
        answer = self.book.running.get(active_id)
        return answer is None or answer.cut

    # --- what never comes ---------------------------------------------------------------------------------------------

    def left(self, event: ev.ClientEvent) -> None:
        """Take note that a message was sent. Requests for an answer have their time from here."""
        if type(event) is ev.ResponseCreate:
            self.gate.left(event.event_id, self._now_s())

    @property
    def due_s(self) -> float | None:
        """When `tick` should be called, in seconds of the clock; None for never."""
        return self.gate.due_s

    def tick(self) -> list[up.Update]:
        """Give up what has waited too long; returns what to tell."""
        given_up = self.gate.overdue(self._now_s())
        happened = [] if given_up is None else self._tell_of(given_up)
        self._let_go()
        return happened

    def end(self) -> list[up.Update]:
        """The connection is over: tell what was held back. It is what the whole session, not a request, ended of."""
        given_up = self.gate.give_up()
        return [] if given_up is None else [translate.failure(each, None) for each in given_up.suspects]

    def moved(self) -> list[up.Update]:
        """The session goes on with another server, which knows nothing of this conversation: what runs is over."""
        happened = self.end()
        sent, waiting = self.gate.on_its_way, self.gate.drop_waiting()
        for answer in list(self.book.running.values()):
            response = ev.Response(id=answer.id, status="incomplete")
            ended, told = self.book.end(response)
            happened += [*told, translate.response_done(response, ended)]
        if sent is not None and self.gate.active_id is None:
            happened.append(translate.cancelled(sent))
        happened += [translate.cancelled(request) for request in waiting]
        for answer in self.book.recent:
            answer.left = True
        self.gate.not_running()
        self._calls.clear()
        self._asked_apart.clear()
        self._greeted = self._confirmed = self._cancel_next = self._cancelled_late = self._voice_ended = False
        self._uncommitted_bytes = self._own_commits = 0
        return happened

    def _tell_of(self, given_up: GivenUp) -> list[up.Update]:
        """A request that got no answer: with the server's likely words about it, if there are any."""
        self._cancel_next = self._cancelled_late = given_up.abandoned and not given_up.suspects
        if given_up.suspects:
            first, *others = given_up.suspects
            request_id = given_up.event_id
            return [translate.failure(first, request_id), *(translate.failure(each, None) for each in others)]
        if given_up.abandoned:
            return []
        return [translate.no_answer(given_up.event_id, self._answer_s)]

    def _mcp_ended(self, event: Any) -> list[up.Update]:
        """The model does not speak a remote tool's result by itself: ask once no call is pending."""
        for answer in (*self.book.running.values(), *self.book.recent):
            if event.item_id in answer.open_mcp:
                answer.open_mcp.discard(event.item_id)
                answer.wants_reply |= not answer.cut
                self._reply_if_settled(answer)
        return [translate.progress(event)]

    # --- the user speaks ----------------------------------------------------------------------------------------------

    def say(self, text: str, *, respond: bool = True, role: str = "user") -> tuple[str, list[up.Update]]:
        """Add a typed message; with `respond`, cut a running answer and ask for a new one.

        Returns the item's id and what to tell observers: the server does not echo typed text as speech.
        """
        if respond and not self.gate.has_room():
            raise UsageError(_TOO_MANY)  # before anything is decided
        happened = self._interrupt("typed", cancel=True) if respond else []
        item = user_text(text) if role == "user" else assistant_text(text)
        item_id = self._add(item, announced=True)
        happened.append(translate.own_item(item, self.items.previous(item_id)))
        if respond:
            waiting = self.gate.join(plain=True)  # it has not left: it will see this message, too
            self.last_request_id = waiting or self.ask()
        return item_id, happened

    def add_item(self, item: Item) -> str:
        """Send an item of our own; returns its id (made here when it has none)."""
        return self._add(item, announced=False)

    def _add(self, item: Item, *, announced: bool) -> str:
        """Send an item. announced: observers are told now, so the server's echo is no news."""
        item.id = item.id or self._new_id("item")
        self.items.place(item.id, None)
        if announced:
            self._own_items[item.id] = None
            forget_oldest(self._own_items, 256)  # a server that never confirms items
        self.commands.append(ev.ConversationItemCreate(item=item, event_id=self._new_id("event")))
        return item.id

    def ask(self, response: dict[str, Any] | None = None, *, event_id: str | None = None) -> str:
        """Ask for an answer, behind a running one; returns the request's event id.

        A response outside the conversation (`conversation: "none"`) is sent at once and may run beside others.
        Errors: UsageError when 64 requests wait already.
        """
        event_id = event_id or self._new_id("event")
        if response and response.get("conversation") == "none":
            self.last_request_id = event_id
            metadata = {**(response.get("metadata") or {}), _OWN_TAG: event_id}
            self._asked_apart[event_id] = None
            forget_oldest(self._asked_apart, 256)  # requests that a server never took up
            self.commands.append(ev.ResponseCreate(event_id=event_id, response={**response, "metadata": metadata}))
            return event_id
        if not self.gate.submit(ev.ResponseCreate(event_id=event_id, response=response or None)):
            raise UsageError(_TOO_MANY)
        self.last_request_id = event_id
        self._let_go()
        return event_id

    def _ask_once(self) -> None:
        """Ask for an answer unless a request waits that will see the same items."""
        if self.gate.join(plain=False) is None:
            self.ask()

    def _let_go(self) -> None:
        """Send the next request for an answer if it may leave."""
        event = self.gate.next()
        if event is not None:
            self._cancel_next = False  # that was about an earlier one
            self.commands.append(event)

    def cancel(self) -> tuple[bool, list[up.Update]]:
        """Stop the running answer and drop the ones asked for; True if there was one."""
        wanted = self.gate.wanted
        dropped = [translate.cancelled(event_id) for event_id in self.gate.drop_waiting()]
        return wanted, [*self._interrupt("cancel", cancel=True), *dropped]

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
        return True, self._interrupt("cancel", cancel=True)

    def interrupt(self, cause: str) -> tuple[bool, list[up.Update]]:
        """Cut the running answer and the unheard tail of finished ones; True if anything was cut."""
        happened = self._interrupt(cause, cancel=True)
        return bool(happened), happened

    def tool_result(self, call_id: str, output: str, *, respond: bool = True) -> tuple[str, list[up.Update]]:
        """Send a tool's output; when no call of its answer is open any more, ask for ONE new answer."""
        answer = self._calls.pop(call_id, None)
        if answer is None:
            raise UsageError(f"no call {call_id[:100]!r} waits for a result: it was not made, or has its result")
        item = function_output(call_id, output)
        item_id = self._add(item, announced=True)
        added = translate.own_item(item, None)
        answer.open_calls.discard(call_id)
        answer.wants_reply |= respond
        self._reply_if_settled(answer)
        return item_id, [added]

    def _reply_if_settled(self, answer: AnswerState) -> None:
        """Ask for the answer that tools' results call for, once all calls of the calling answer are over."""
        if answer.wants_reply and answer.done and not answer.open_calls and not answer.open_mcp:
            answer.wants_reply = False
            self._ask_once()

    def approve(self, request_id: str, *, approve: bool, reason: str | None = None) -> None:
        """Answer a remote tool's approval request."""
        self.add_item(mcp_approval(request_id, approve=approve, reason=reason, item_id=self._new_id("item")))

    def appended(self, size_bytes: int) -> None:
        """Count audio that was appended to the input buffer."""
        self._uncommitted_bytes += size_bytes

    def commit(self) -> None:
        """Commit the input buffer. Errors: UsageError below 100 ms, which servers refuse."""
        held_ms = self.facts.input_format.ms(self._uncommitted_bytes)
        if held_ms < MIN_COMMIT_MS:
            raise UsageError(f"only {held_ms} ms of audio to commit: at least {MIN_COMMIT_MS} ms are needed")
        self._uncommitted_bytes = 0
        self._own_commits += 1
        self.commands.append(ev.InputAudioBufferCommit(event_id=self._new_id("event")))

    def clear_input(self) -> None:
        """Throw the uncommitted audio away."""
        self._uncommitted_bytes = 0
        self.commands.append(ev.InputAudioBufferClear(event_id=self._new_id("event")))

    def update_session(self, session: dict[str, Any]) -> None:
        """Send new settings (the wire's JSON object)."""
        self.commands.append(ev.SessionUpdate(event_id=self._new_id("event"), session=session))

    def send(self, event: ev.ClientEvent) -> None:
        """Send any message; those with rules go through their rules."""
        if isinstance(event, ev.ResponseCreate):
            self.ask(event.response, event_id=event.event_id)
            return
        if isinstance(event, ev.ConversationItemCreate):
            event.item.id = event.item.id or self._new_id("item")
            self.items.place(event.item.id, event.previous_item_id)
        elif isinstance(event, ev.InputAudioBufferAppend):
            self._uncommitted_bytes += len(event.audio)
        elif isinstance(event, ev.InputAudioBufferCommit | ev.InputAudioBufferClear):
            self._uncommitted_bytes = 0
            self._own_commits += isinstance(event, ev.InputAudioBufferCommit)
        self.commands.append(event)

    # --- interruption -------------------------------------------------------------------------------------------------

    def _cancel(self, answer: AnswerState) -> None:
        answer.cut = True
        self.gate.cancelled(self._now_s())
        self.commands.append(ev.ResponseCancel(response_id=answer.id, event_id=self._new_id("event")))

    def _interrupt(self, cause: str, *, cancel: bool) -> list[up.Update]:
        """Cut the running answer and the unheard tail of finished ones; returns what was cut."""
        happened: list[up.Update] = []
        active = self.book.running.get(self.gate.active_id or "")
        if cancel:
            unanswered = self.gate.abandon(self._now_s())
            if unanswered is not None and self.gate.asked:
                happened.append(translate.cancelled(unanswered))
            if active is None:
                self.gate.cancelled(self._now_s())  # one that was only named
            self._cancel_next = self._cancel_next or self.gate.asked
        if active is not None and not active.cut:
            if cancel:
                self._cancel(active)
            active.cut = True
            happened += self._cut(active, cause)
            if not active.audio_bytes:
                happened.append(translate.cut_text(active, cause))
        for answer in self.book.recent:
            if not answer.cut:
                answer.cut = True
                happened += self._cut(answer, cause)
        return happened

    def _cut(self, answer: AnswerState, cause: str) -> list[up.Update]:
        """Correct the server's view of each audio part to what was heard."""
        happened: list[up.Update] = []
        for cut in plan_cuts(answer, self.heard_ms, self.facts.output_format):
            command = correction(cut, self._new_id("event"))
            if command is not None and not answer.left:
                self.commands.append(command)
            if not answer.done or cut.heard_ms < cut.received_ms:
                happened.append(translate.cut_audio(answer, cut, cause))
        return happened


def _alone(tell: Callable[[Any], up.Update]) -> Callable[[Conversation, Any], list[up.Update]]:
    """A handler that tells one update."""
    return lambda _conversation, event: [tell(event)]


def _of_answers(tell: Callable[[AnswerBook, Any], list[up.Update]]) -> Callable[[Conversation, Any], list[up.Update]]:
    """A handler that is the answers' own affair."""
    return lambda conversation, event: tell(conversation.book, event)


# One table for all sessions: a bound method a message and session would be thousands of objects.
_HANDLERS: dict[type, Callable[[Conversation, Any], list[up.Update]]] = {
    **dict.fromkeys(ev.SERVER_EVENTS, Conversation._ignore),
    **{kind: _alone(tell) for kind, tell in translate.STATELESS.items()},
    ev.ResponseOutputAudioDelta: _of_answers(AnswerBook.audio_delta),
    ev.ResponseOutputAudioTranscriptDelta: _of_answers(AnswerBook.spoken_delta),
    ev.ResponseOutputTextDelta: _of_answers(AnswerBook.text_delta),
    ev.ResponseOutputAudioTranscriptDone: _of_answers(AnswerBook.spoken_done),
    ev.ResponseOutputTextDone: _of_answers(AnswerBook.text_done),
    ev.ResponseContentPartDone: _of_answers(AnswerBook.part_done),
    ev.ResponseCreated: Conversation._response_created,
    ev.ResponseOutputItemAdded: Conversation._output_item_added,
    ev.ResponseOutputItemDone: Conversation._output_item_done,
    ev.ResponseDone: Conversation._response_done,
    ev.ConversationItemAdded: Conversation._item_added,
    ev.ConversationItemDone: Conversation._item_done,
    ev.ConversationItemDeleted: Conversation._item_deleted,
    ev.InputAudioBufferSpeechStarted: Conversation._speech_started,
    ev.InputAudioBufferSpeechStopped: Conversation._speech_stopped,
    ev.InputAudioBufferCommitted: Conversation._committed,
    ev.InputTranscriptionDelta: _of_answers(AnswerBook.transcription_delta),
    ev.ResponseFunctionCallArgumentsDelta: _of_answers(AnswerBook.arguments_delta),
    ev.InputTranscriptionCompleted: Conversation._transcription_completed,
    ev.ResponseMcpCallCompleted: Conversation._mcp_ended,
    ev.ResponseMcpCallFailed: Conversation._mcp_ended,
    ev.SessionCreated: Conversation._session_created,
    ev.SessionUpdated: Conversation._session_updated,
    ev.Error: Conversation._error,
}


__all__ = ["ALREADY_ACTIVE", "BENIGN_CODES", "MIN_COMMIT_MS", "Conversation", "HeardMs", "random_id"]
