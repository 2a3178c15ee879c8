"""The transcript: turns as they happen, in the order of the conversation.

A turn is in the files as soon as it is over; a spoken turn of the user waits at most 15 s for its transcript. The last
24 turns change in the files whenever they change; earlier ones when the session is closed, or together with 256 others.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from realtime_client import updates as up

from .marks import Makers, Marks
from .transcript_files import TranscriptFiles
from .turn_order import place
from .turns import SPEAKERS, Said, Turn

WAIT_S = 15.0
_TAIL = 24
_REMEMBERED = 256
_MOST_LATE = 256
_LONGEST_REASON = 200
_MOST_OUTCOMES = 256
_TURN_KINDS = {"message", "function_call", "function_call_output", "mcp_call"}

Settled = Callable[[Turn], None]


class Transcript:
    """Follows the updates of a session and keeps its turns. Errors of every method: OSError.

    changed: called when a turn begins, is done, or changes after that; for the journal.
    """

    def __init__(self, files: TranscriptFiles, changed: Settled) -> None:
        self.position = 0
        self.begun = self.gone = 0
        self.makers = Makers()
        self.transcribes = False
        self._files = files
        self._tell = changed
        self._turns: list[Turn] = []  # the last ones, in the order of the conversation
        self._kept: OrderedDict[str, Turn] = OrderedDict()  # those before, as far as they are remembered
        self._shown: list[Turn] = []
        self._stale = False
        self._untold: dict[int, Turn] = {}
        self._late: dict[int, Turn] = {}
        self._moved: dict[str, str] = {}
        self._open_kept = False  # one that was kept was not over
        self._apart: set[str] = set()
        self._outcomes: dict[str, tuple[str, float | None]] = {}  # of calls whose results are to come
        self._unheard: dict[str, str] = {}  # answers cut before their first sound, and the item they stand behind
        self._handlers: dict[type, Callable[[up.Update, float], None]] = {
            up.ItemAdded: self._item_added,  # type: ignore[dict-item]
            up.ItemDone: self._item_done,  # type: ignore[dict-item]
            up.ItemDeleted: self._item_deleted,  # type: ignore[dict-item]
            up.TextDelta: self._text_delta,  # type: ignore[dict-item]
            up.TextDone: self._text_done,  # type: ignore[dict-item]
            up.UserTranscriptDelta: self._user_delta,  # type: ignore[dict-item]
            up.UserTranscript: self._user_transcript,  # type: ignore[dict-item]
            up.UserTranscriptFailed: self._user_failed,  # type: ignore[dict-item]
            up.AnswerSource: self._answer_source,  # type: ignore[dict-item]
            up.Alternatives: self._alternatives,  # type: ignore[dict-item]
            up.ToolCall: self._tool_call,  # type: ignore[dict-item]
            up.ToolFinished: self._tool_finished,  # type: ignore[dict-item]
            up.ToolResult: self._tool_result,  # type: ignore[dict-item]
            up.ResponseStarted: self._response_started,  # type: ignore[dict-item]
            up.ResponseDone: self._response_done,  # type: ignore[dict-item]
            up.Interrupted: self._interrupted,  # type: ignore[dict-item]
            up.DeviceChanged: self._device_changed,  # type: ignore[dict-item]
            up.ConnectionLost: self._connection_lost,  # type: ignore[dict-item]
        }

    # --- turns --------------------------------------------------------------------------------------------------------

    def begin(self, who: str, item_id: str = "", after: str | None = None) -> Turn:
        """Begin a turn here and now; it takes the next number."""
        if len(self._turns) >= 4 * _TAIL:
            self._keep(self._turns[:-_TAIL])
        self.begun += 1
        who = who if who in SPEAKERS else "system"
        turn = Turn(self.begun, who, item_id, after=after, start=self.position, end=self.position)
        self._turns.append(turn)
        self._place(turn, after)
        self._tell(turn)
        return turn

    @property
    def count(self) -> int:
        """How many turns there are."""
        return self.begun - self.gone

    def find(self, item_id: str, *, message: bool = False) -> Turn | None:
        """Return the turn of an item, or None when there is none, or one so old that it is forgotten.

        message: not that of a call of a tool, which may belong to the same item.
        """
        if not item_id:
            return None
        for turn in reversed(self._turns):
            if turn.item_id == item_id and not (message and turn.call_id):
                return turn
        return self._kept.get(item_id)

    def turn(self, item_id: str, who: str, response_id: str = "") -> Turn:
        """Return the turn of an item; begin it when there is none."""
        turn = self.find(item_id, message=who == "assistant")
        if turn is None:
            turn = self.begin(who, item_id, self._unheard.get(response_id))
            turn.marks = self.makers.begins() if who == "assistant" else None
        if response_id and not turn.response_id:
            turn.response_id = response_id
            turn.out_of_band = response_id in self._apart
        return turn

    def bind(self, turn: Turn, item_id: str, after: str | None) -> None:
        """Give its item to a turn that was spoken before the server named it."""
        known = self.find(item_id)
        if known is not None and known is not turn and known in self._turns:
            self._turns.remove(known)  # announced in between: one turn, not two
        turn.item_id = item_id
        self._place(turn, after)
        self.changed(turn)

    def changed(self, turn: Turn) -> None:
        """Something about a turn has changed."""
        turn.drawn = None
        self._stale = True
        if turn.kept:
            self._late[turn.n] = turn
        if turn.written:
            self._untold[turn.n] = turn  # reported when it settles: it may change with every word
        else:
            self._tell(turn)

    def again(self, turn: Turn, item_id: str) -> None:
        """A turn that was spoken is another item now, and is not over."""
        turn.done = turn.spoken = turn.transcribed = False
        turn.status, turn.reason, turn.said = "in_progress", "", Said()
        self.bind(turn, item_id, None)

    def note(self, text: str, at_s: float, turn: Turn | None = None) -> Turn:
        """Note something for people. turn: the note that says this from now on, and lasts until now."""
        if turn is None:
            turn = self.begin("note")
        turn.said.replace(text)
        turn.end = max(turn.end, self.position)
        self._done(turn, "completed", at_s)
        self._freshen(turn)
        return turn

    def spoken(self, turn: Turn, at_s: float, status: str = "completed") -> None:
        """The user's spoken turn is over; its transcript may come."""
        turn.spoken = True
        self._done(turn, status, at_s)
        if turn.written:
            self.changed(turn)

    # --- updates ------------------------------------------------------------------------------------------------------

    def hear(self, update: up.Update, at_s: float) -> None:
        """Take one update in."""
        handler = self._handlers.get(type(update))
        if handler is not None:
            handler(update, at_s)

    def _item_added(self, update: up.ItemAdded, at_s: float) -> None:
        if update.item_type not in _TURN_KINDS:
            return
        turn = self.find(update.item_id)
        if turn is None:
            turn = self.begin(update.role, update.item_id, update.previous_item_id)
        else:
            self._place(turn, update.previous_item_id)
        turn.kind = update.item_type
        if update.text and not turn.said and update.item_type != "function_call":
            turn.said.add(update.text)
        turn.spoken = turn.spoken or (update.has_audio and turn.who == "user")
        given = update.local or update.role in {"user", "system"} or update.item_type == "function_call_output"
        if given and not turn.spoken:
            self._done(turn, "completed", at_s)

    def _item_done(self, update: up.ItemDone, at_s: float) -> None:
        if update.item_type not in _TURN_KINDS:
            return
        turn = self.find(update.item_id, message=update.item_type == "message")
        turn = turn or self.begin(update.role, update.item_id, update.previous_item_id)
        turn.kind = update.item_type
        if update.text and not turn.name and (turn.cut_ms is None or not turn.said):
            turn.said.final(update.text)
            turn.transcribed = True
        turn.spoken = turn.spoken or (update.has_audio and turn.who == "user")
        self._done(turn, update.status, at_s)
        self._freshen(turn)

    def _item_deleted(self, update: up.ItemDeleted, _at_s: float) -> None:
        """What is no longer part of the conversation leaves the transcript, unless it was in the room; see `Turn`."""
        for turn in [*self._turns, *self._kept.values()]:
            if turn.item_id != update.item_id or turn.in_room:
                continue
            turn.gone = self._stale = True
            self.gone += 1
            self._untold.pop(turn.n, None)
            if turn.kept:
                self._kept = OrderedDict((key, each) for key, each in self._kept.items() if each is not turn)
                self._late[turn.n] = turn
            else:
                self._turns.remove(turn)
            self._tell(turn)

    def _answer_source(self, update: up.AnswerSource, _at_s: float) -> None:
        turn = self.turn(update.item_id, "assistant", update.response_id)
        turn.marks = turn.marks or Marks()
        turn.marks.source(update, self.makers.model)
        self._freshen(turn)

    def _alternatives(self, update: up.Alternatives, _at_s: float) -> None:
        turn = self.find(update.item_id, message=True)
        if turn is None:
            return
        turn.marks = turn.marks or Marks()
        text = turn.marks.alternatives(update)
        if text is not None and turn.done:
            turn.said.replace(text)
        self.changed(turn)

    def _text_delta(self, update: up.TextDelta, _at_s: float) -> None:
        turn = self.turn(update.item_id, "assistant", update.response_id)
        turn.said.add(update.text, update.content_index)
        self._freshen(turn)

    def _text_done(self, update: up.TextDone, _at_s: float) -> None:
        turn = self.turn(update.item_id, "assistant", update.response_id)
        turn.said.whole(update.text, update.content_index)
        self._freshen(turn)

    def _freshen(self, turn: Turn) -> None:
        """Something that was written already has changed."""
        if turn.written:
            self.changed(turn)

    def _user_delta(self, update: up.UserTranscriptDelta, _at_s: float) -> None:
        turn = self.turn(update.item_id, "user")
        if not turn.transcribed:
            turn.said.add(update.text, update.content_index)

    def _user_transcript(self, update: up.UserTranscript, _at_s: float) -> None:
        turn = self.turn(update.item_id, "user")
        turn.said.whole(update.text, update.content_index)
        turn.transcribed = True
        self.changed(turn)

    def _user_failed(self, update: up.UserTranscriptFailed, _at_s: float) -> None:
        turn = self.turn(update.item_id, "user")
        turn.status = "transcription_failed"
        turn.transcribed = True
        self.changed(turn)

    def _tool_call(self, update: up.ToolCall, at_s: float) -> None:
        turn = self.turn(update.item_id, "tool", update.response_id)
        if turn.call_id not in {"", update.call_id} or (turn.who == "assistant" and turn.said):
            turn = self.begin("tool", update.item_id)  # another call of the same item, or words before it
            turn.response_id = update.response_id
        turn.who, turn.kind, turn.name = "tool", "function_call", update.name
        turn.call_id, turn.tool = update.call_id, update.name
        turn.said.replace(update.arguments)
        self._done(turn, "completed", at_s)

    def _tool_finished(self, update: up.ToolFinished, _at_s: float) -> None:
        self._outcomes[update.call_id] = (update.status, update.duration_ms)
        while len(self._outcomes) > _MOST_OUTCOMES:  # calls that got no result
            del self._outcomes[next(iter(self._outcomes))]

    def _tool_result(self, update: up.ToolResult, at_s: float) -> None:
        turn = self.turn(update.item_id, "tool")
        turn.outcome = self._outcomes.pop(update.call_id, None)
        turn.who, turn.kind = "tool", "function_call_output"
        turn.call_id, turn.tool = update.call_id, update.name
        turn.said.replace(update.output)
        self._done(turn, "completed", at_s)
        self._freshen(turn)

    def _device_changed(self, update: up.DeviceChanged, at_s: float) -> None:
        """Mark where sound is missing, or where another device took over."""
        self.note(f"{update.reason} ({update.gap_ms} ms without sound)" if update.gap_ms else update.reason, at_s)

    def _response_started(self, update: up.ResponseStarted, _at_s: float) -> None:
        if update.out_of_band:
            self._apart.add(update.response_id)

    def _response_done(self, update: up.ResponseDone, at_s: float) -> None:
        self._apart.discard(update.response_id)
        for turn in [*self._turns, *self._kept.values()]:
            if _of(turn, update):
                turn.interrupted = turn.interrupted or (update.status == "cancelled" and turn.who == "assistant")
                self._never_sounded(turn, update.response_id)
                if update.status != "completed":
                    turn.reason = (update.reason or "")[:_LONGEST_REASON]
                status = turn.status if turn.done and update.status == "completed" else update.status
                self._done(turn, status, at_s)
        if update.text:
            self._answered(update, at_s)
        self._unheard.pop(update.response_id, None)

    def _never_sounded(self, turn: Turn, response_id: str) -> None:
        """Of an answer that was cut before its first sound nothing was heard."""
        if turn.who == "assistant" and response_id in self._unheard:
            turn.interrupted, turn.cut_ms = True, 0

    def _answered(self, update: up.ResponseDone, at_s: float) -> None:
        """The text of a whole answer: what nothing else has said of it is said here."""
        mine = [turn for turn in self._turns if turn.who == "assistant" and _of(turn, update)]
        if not mine:
            first = next((item_id for item_id in update.item_ids if not self.find(item_id)), "")
            if update.item_ids and not first:
                return
            mine = [self.turn(first, "assistant", update.response_id)]
            mine[0].out_of_band = update.out_of_band
            self._never_sounded(mine[0], update.response_id)
            self._done(mine[0], update.status, at_s)
        if len(mine) == 1 and mine[0].cut_ms is None:
            mine[0].said.final(update.text)
        elif not any(turn.said for turn in mine):
            mine[-1].said.replace(update.text)
        self._freshen(mine[-1])

    def _interrupted(self, update: up.Interrupted, _at_s: float) -> None:
        turn = self.find(update.item_id, message=True)
        if turn is None:
            if update.response_id and not update.heard_all and len(self._unheard) < _REMEMBERED:
                self._unheard[update.response_id] = self._turns[-1].item_id if self._turns else ""  # words may come yet
            return
        turn.interrupted = True
        turn.received_ms = max(turn.received_ms, update.received_ms)
        if not update.heard_all:
            turn.cut_ms = update.heard_ms
        self.changed(turn)

    def _connection_lost(self, update: up.ConnectionLost, at_s: float) -> None:
        """Nothing more comes of what is in progress, unless the conversation goes on."""
        if not update.goes_on:
            self._break_off("lost", at_s)

    def _break_off(self, reason: str, at_s: float) -> None:
        for turn in [*self._turns, *self._kept.values()]:
            turn.transcribed = turn.transcribed or (turn.spoken and turn.done)
            if not turn.done:
                turn.reason = reason
                if not turn.sounding:  # the user's file is finished by those who write it
                    self._done(turn, "incomplete", at_s)

    # --- order and writing --------------------------------------------------------------------------------------------

    def settle(self, at_s: float, *, everything: bool = False) -> bool:
        """Bring the files up to date. Returns whether a new turn was written."""
        if len(self._turns) > _TAIL:
            self._keep(self._turns[: -_TAIL // 2])
        shown = [turn for turn in self._turns if everything or self._ready(turn, at_s)]
        fresh = [turn for turn in shown if not turn.written]
        for turn in fresh:
            turn.written = True
            self._untold[turn.n] = turn
        told, self._untold = self._untold, {}
        for turn in told.values():
            self._tell(turn)
        if len(self._late) + len(self._moved) > _MOST_LATE:
            self._rewrite()
            self._files.reopen()
            self._stale = True
        if self._stale or shown != self._shown:
            self._stale, self._shown = False, shown
            self._files.show(shown)
        return bool(fresh)

    def close(self, at_s: float) -> None:
        """Write everything that is left, and what has changed since it was written."""
        self._break_off("ended", at_s)
        for turn in self._turns:
            turn.drawn = None
        self._stale = True
        try:
            self.settle(at_s, everything=True)
            if self._late or self._moved or self._open_kept:
                self._rewrite(over=True)
        finally:
            self._files.close()

    def _ready(self, turn: Turn, at_s: float) -> bool:
        if not turn.done or turn.sounding:
            return False
        waits = turn.who == "user" and turn.spoken and self.transcribes and not turn.transcribed
        return not waits or at_s - turn.done_at_s >= WAIT_S

    def _keep(self, turns: list[Turn]) -> None:
        """Let go of the oldest, as they are in the files."""
        del self._turns[: len(turns)]
        for turn in turns:
            if not turn.written:
                self._untold[turn.n] = turn
            turn.written = turn.kept = True
            self._open_kept |= not turn.done
            if turn.item_id:
                key = f"{turn.item_id} {turn.n}" if turn.item_id in self._kept else turn.item_id
                self._kept[key] = turn
        self._files.keep(turns)
        for turn in turns:
            turn.drawn = None
        while len(self._kept) > _REMEMBERED:
            self._kept.popitem(last=False)

    def _rewrite(self, *, over: bool = False) -> None:
        self._files.rewrite(
            {n: None if turn.gone else turn.line() for n, turn in self._late.items()}, self._moved, over=over
        )
        self._late, self._moved = {}, {}

    def _done(self, turn: Turn, status: str, at_s: float) -> None:
        status = "completed" if status == "in_progress" else status  # a server's word for an answer that it ended
        if not turn.done:
            turn.done, turn.done_at_s = True, at_s
        elif turn.status == status:
            return
        if turn.status != "transcription_failed":
            turn.status = status
        self.changed(turn)

    def _place(self, turn: Turn, after: str | None) -> None:
        """Put a turn behind the item it follows, when that is known."""
        turn.after = after or turn.after
        if after and not turn.kept and place(turn, after, self._turns, self._kept, self._moved):
            self._stale = True


def _of(turn: Turn, response: up.ResponseDone) -> bool:
    """Tell whether a turn is part of this answer."""
    return (turn.response_id != "" and turn.response_id == response.response_id) or turn.item_id in response.item_ids
