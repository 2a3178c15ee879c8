"""The client's side of a conversation: events in, updates and commands out.

A pure state machine: no socket, no thread, and no clock but the one it is given. `receive(event)` returns what happened
as updates; requests of the user are methods. Both append the messages to send to `commands`; the caller takes them with
`take_commands()` and sends them in that order. Not thread-safe: the caller holds one lock around every call.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from realtime_client import updates as up
from realtime_client.history import Entry, History, Image, Result

from . import events as ev
from . import translate
from .answers import AnswerState, HeardMs, forget_oldest
from .gate import ALREADY_ACTIVE
from .input_audio import MIN_COMMIT_MS
from .items import Item, assistant_text, function_output, mcp_approval, user_text
from .listening import Listening, random_id
from .requests import BENIGN_CODES
from .restoration import Restoration, told_again

_MOST_OWN_ITEMS = 256


class Conversation(Listening):
    """State of one session as the client knows it.

    heard_ms: where playback stands; without it everything received counts as heard, or seen.
    interrupt_on_speech: whether the user's voice cuts a running answer.
    answer_s, refusal_s: how long a request may stay unanswered; see `ResponseGate`. now_s: the clock of these, in
    seconds. The caller says when a request left (`left`) and comes back at `due_s` (`tick`).
    history: what the conversation consists of; one that began elsewhere continues its own. keep_audio_s: how much of
    the user's sound is kept until it is in an item, for a session that has to be told again; 0: nothing.
    """

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


__all__ = ["ALREADY_ACTIVE", "BENIGN_CODES", "MIN_COMMIT_MS", "Conversation", "HeardMs", "random_id"]
