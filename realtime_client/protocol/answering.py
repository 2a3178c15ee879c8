"""The answers of one conversation: how they begin, what they do, how they end and where they are cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from realtime_client import updates as up

from . import events as ev
from . import translate
from .answer_book import AnswerBook
from .answers import AnswerState, HeardMs, correction, plan_cuts
from .approvals import Approvals
from .contents import Contents
from .facts import Standing
from .gate import Lost
from .items import Item, modernise
from .order import ItemOrder
from .requests import OWN_TAG, Requests
from .session import audio_format
from .tools import ToolCalls, remote_ended, settled


def _nothing_plays(_item_id: str, _content_index: int) -> int | None:
    return None


class Answering:
    """Takes what the server says of its answers. What is to be sent is appended to `commands`.

    heard_ms: where playback stands, None where nothing plays. book: the answers. tools: their calls. approvals: of
    remote tools. usage: the tokens of all of them.
    """

    def __init__(
        self,
        commands: list[ev.ClientEvent],
        new_id: Callable[[str], str],
        *,
        requests: Requests,
        items: ItemOrder,
        contents: Contents,
        standing: Standing,
        heard_ms: HeardMs | None,
    ) -> None:
        self.book = AnswerBook(requests)
        self.tools = ToolCalls()
        self.approvals = Approvals()
        self.usage = up.Usage()
        self._gate = requests.gate
        self._requests = requests
        self._items = items
        self._heard_ms = heard_ms
        self._commands = commands
        self._new_id = new_id
        self._contents = contents
        self._standing = standing

    def response_created(self, event: ev.ResponseCreated) -> list[up.Update]:
        """An answer begins."""
        response = event.response
        answer = self.book.begin(response.id, anew=bool(self._gate.on_its_way or self._gate.assumed))
        tag = (response.metadata or {}).get(OWN_TAG)
        answer.out_of_band = self._requests.is_apart(tag)
        output = (response.audio or {}).get("output")
        if isinstance(output, dict) and output.get("format"):
            answer.audio_format = audio_format({"audio": response.audio}, "output")
        if response.output_modalities:
            answer.modalities = tuple(response.output_modalities)
        answer.metadata = {k: v for k, v in (response.metadata or {}).items() if k != OWN_TAG} or None
        if answer.begun:
            return []  # announced late: its first words came before it
        if not answer.out_of_band:
            return self._begin(answer)
        answer.begun = True
        self._requests.begun_apart(tag)
        return [translate.response_started(answer, tag)]

    def output_item_added(self, event: ev.ResponseOutputItemAdded) -> list[up.Update]:
        """An answer gets one more item."""
        item = modernise(event.item)
        answer = self.book.find(event.response_id, item.id or "")
        before = answer.last_item or answer.after
        if not answer.add_item(item.id or ""):
            return []
        assert item.id is not None
        if item.type == "mcp_call":
            answer.open_mcp.add(item.id)
            self.approvals.called(item, answer)
        elif item.type == "mcp_approval_request":
            self.approvals.asked(item.id, answer)
        if answer.out_of_band or item.id in self._items:
            return []
        # For servers that send no conversation.item.added: this is its place, before what was typed since.
        self._items.guess(item.id, before)
        return [translate.item_added(item, self._items.previous(item.id))]

    def output_item_done(self, event: ev.ResponseOutputItemDone) -> list[up.Update]:
        """An item of an answer is complete; calls are reported now."""
        item = modernise(event.item)
        answer = self.book.find(event.response_id, item.id or "")
        answer.add_item(item.id or "")
        happened = self.book.settle_item(answer, event.output_index, item)
        called = self.tools.called(answer, item)
        if called:
            self._contents.called(answer, item)
        return [*happened, *called]

    def response_done(self, event: ev.ResponseDone) -> list[up.Update]:
        """An answer is over."""
        if self.book.is_over(event.response.id):
            return []
        answer, happened = self.book.end(event.response)
        told = translate.response_done(event, answer)
        if told.usage is not None:
            self.usage += told.usage
        if happened and not answer.begun and not answer.out_of_band and not self._requests.any_apart:
            happened = [*self._begin(answer), *happened]
        self._keep(answer, told.status)
        self._requests.ended(answer.id, out_of_band=answer.out_of_band)
        follows = self.reply_if_settled(answer)
        self._requests.let_go()
        return [*happened, *follows, told]

    def running(self) -> AnswerState | None:
        """The answer of the conversation that runs and that nobody has cut."""
        running = (each for each in self.book.running.values() if each.begun and not (each.out_of_band or each.cut))
        return next(running, None)

    def keep_running(self) -> None:
        """Nothing more comes: what has come of answers that still run is kept."""
        for answer in self.book.running.values():
            self._keep(answer, "incomplete")

    def _keep(self, answer: AnswerState, status: str) -> None:
        """Write down what an answer consists of.

        Items that only its own messages named get their place: behind what was there when it began.
        """
        before = answer.after
        texts = (text.item_id for _, text in answer.texts_in_order())
        for item_id in dict.fromkeys((*texts, *answer.item_ids)):
            if item_id and not (answer.out_of_band or self._contents.is_removed(item_id)):
                self._items.guess(item_id, before)
                before = item_id
        self._contents.answered(answer, status)

    def begin_unseen(self) -> list[up.Update]:
        """Report answers whose `response.created` has not come, so that whoever waits for one finds it."""
        unseen, self.book.unseen = self.book.unseen, []
        happened: list[up.Update] = []
        for answer in unseen:
            if answer.begun or answer.done or self._requests.any_apart or self._gate.active_id not in {None, answer.id}:
                continue
            if self._gate.asked:
                happened += self._begin(answer, unseen=True)
            else:  # nobody asked for it: it is shown, but holds back no request
                answer.begun = True
                happened.append(translate.response_started(answer, None))
        return happened

    def _begin(self, answer: AnswerState, *, unseen: bool = False) -> list[up.Update]:
        """An answer of the conversation begins. unseen: nobody said so."""
        for other in self.book.running.values():
            if other.begun and other is not answer:
                self._keep(other, "incomplete")  # its end was lost
        answer.begun, answer.after = True, self._items.last
        happened, request_id, unwanted = self._requests.begun(answer.id, unseen=unseen)
        answer.request_id = request_id
        if unwanted:
            self._cancel(answer)
        return [*happened, translate.response_started(answer, request_id)]

    def active_is_cut(self) -> bool:
        """Whether the answer being waited for was told to stop, or was never seen here."""
        active_id = self._gate.active_id
        if active_id is None:
            return False
        answer = self.book.running.get(active_id)
        return answer is None or answer.cut

    def mcp_ended(self, event: Any) -> list[up.Update]:
        """The model does not speak about a remote tool's result by itself: ask once no call is pending."""
        happened: list[up.Update] = []
        for answer in remote_ended(self.book, event.item_id):
            happened += self.reply_if_settled(answer)
        return [*happened, *self.mcp_progress(event)]

    def mcp_progress(self, event: Any) -> list[up.Update]:
        """A step of a remote tool's work."""
        return [translate.progress(event, self.approvals.name_of(event.item_id))]

    def remote_item(self, item: Item) -> None:
        """An item of a remote tool took its place; it may stand outside of all answers."""
        item_id = item.id or ""
        known = (*self.book.running.values(), *self.book.recent)
        owner = next((answer for answer in known if item_id in answer.item_ids), None)
        if item.type == "mcp_approval_request":
            self.approvals.asked(item_id, owner or self.book.running.get(self._gate.active_id or ""))
        elif item.type == "mcp_call" and owner is None:
            self.approvals.called(item, None)

    def reply_if_settled(self, answer: AnswerState) -> list[up.Update]:
        """Ask for the answer that results call for, if it is time."""
        if not settled(answer):
            return []
        request_id = self._requests.ask_once()
        return [up.AnswerFollows(response_id=each, request_id=request_id) for each in (*answer.goes_on, answer.id)]

    def moved(self) -> list[up.Update]:
        """The session goes on with another server: what runs is over, and no result is waited for."""
        self.keep_running()
        happened: list[up.Update] = []
        for answer in {id(each): each for each in self.book.running.values()}.values():
            done = ev.ResponseDone(response=ev.Response(id=answer.id, status="incomplete"))
            ended, told = self.book.end(done.response)
            happened += [*told, translate.response_done(done, ended)]
        self.book.leave()
        self.tools.clear()
        return happened

    def lost(self, *, unanswered: bool) -> tuple[Lost, list[str], list[up.Update]]:
        """The connection is gone, and another one will come. unanswered: a turn waits for the server's own answer.

        What runs is over, and asked for once more, unless it has called tools: then their results ask. Returns also the
        requests of which nobody knows whether they are billed, and what to tell.
        """
        self.keep_running()
        active = self.running()
        again = active is not None and not (active.calls or active.open_mcp)
        lost, unknown, happened = self._requests.lost(again=again or unanswered)
        for answer in {id(each): each for each in self.book.running.values()}.values():
            details = ev.StatusDetails(reason=up.CONNECTION_LOST)
            done = ev.ResponseDone(response=ev.Response(id=answer.id, status="incomplete", status_details=details))
            answer.open_mcp.clear()
            ended, told = self.book.end(done.response)
            follows = self.reply_if_settled(ended)
            if again and answer is active and lost.again is not None:
                follows = [up.AnswerFollows(response_id=answer.id, request_id=lost.again)]
            happened += [*told, *follows, translate.response_done(done, ended)]
        for answer in self.book.recent:
            answer.open_mcp.clear()
        self.book.leave()
        why = "the connection was lost"
        happened += [
            up.ApprovalDecided(request_id=each, name=self.approvals.name_of(each), approved=False, reason=why)
            for each in self.approvals.lost()
        ]
        return lost, unknown, happened

    @property
    def lingers(self) -> bool:
        """Whether something of an answer that is over has not been heard yet, as far as that is known, or done.

        What the server's own tools do is lost with its session; the calls of ours go along.
        """
        if any(answer.open_mcp for answer in self.book.recent):
            return True
        heard_ms = self._heard_ms
        if heard_ms is None:
            return False
        output = self._standing.facts.output_format
        parts = [(each, part) for each in self.book.recent if not each.cut for part in each.audio_bytes.items()]
        return any(
            (heard := heard_ms(*part)) is not None and heard < (each.audio_format or output).ms(size)
            for each, (part, size) in parts
        )

    # --- interruption -------------------------------------------------------------------------------------------------

    def _cancel(self, answer: AnswerState) -> None:
        answer.cut = answer.cut_running = True
        self._requests.cancelled()
        self._commands.append(ev.ResponseCancel(response_id=answer.id, event_id=self._new_id("event")))

    def interrupt(self, cause: str, *, cancel: bool) -> list[up.Update]:
        """Cut the running answer and the unheard tail of finished ones; returns what was cut."""
        active = self.book.running.get(self._gate.active_id or "")
        happened = self._requests.cancel(unknown=active is None) if cancel else []
        if active is not None and not active.cut:
            if cancel:
                self._cancel(active)
            happened += self._cut(active, cause)
            happened += self._cut_unheard(active, cause)
        for answer in self.book.recent:
            if not answer.cut:
                happened += self._cut(answer, cause)
                self._contents.answered(answer)
        return happened

    def _cut_unheard(self, answer: AnswerState, cause: str) -> list[up.Update]:
        """Report what was cut before any of its sound came; for an answer in writing, or without anything yet, once."""
        plays = self._heard_ms is not None
        silent = answer.silent_parts() if plays else []
        if silent or answer.audio_bytes:
            return [translate.cut_audio(answer, cut, cause) for cut in silent]
        to_be_spoken = answer.to_be_spoken(by_default="audio" in self._standing.facts.modalities)
        spoken = plays and to_be_spoken and not answer.texts
        item_id = answer.last_item or next((text.item_id for text in answer.texts.values()), "")
        return [translate.cut_early(answer, item_id, cause, spoken=spoken)]

    def _cut(self, answer: AnswerState, cause: str) -> list[up.Update]:
        """Correct the server's view of each audio part to what was heard."""
        heard_ms = self._heard_ms or _nothing_plays
        cuts = plan_cuts(answer, heard_ms, self._standing.facts.output_format)
        answer.note_cuts([*cuts, *(answer.silent_parts() if self._heard_ms else ())])
        happened: list[up.Update] = []
        for cut in cuts:
            command = correction(cut, self._new_id("event"))
            if command is not None and not answer.left:
                self._commands.append(command)
            if not answer.done or cut.heard_ms < cut.received_ms:
                happened.append(translate.cut_audio(answer, cut, cause))
        return happened
