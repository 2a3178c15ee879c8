"""The answers that are being made: what leaves, what comes of it, and what is done when it fails. Pure.

What the conversation keeps of an answer, and what becomes of a question that nobody answers, its `Book` decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import get_args

import msgspec

from realtime_client import updates as up
from realtime_client.history import Entry, Part, Text
from realtime_client.history import History as Media

from .answering import Answering
from .breaker import Breaker
from .chain import OnError, Step, Way
from .continuation import INSTRUCTION
from .hints import hint
from .limits import ChatLimits
from .meanings import ENDS, empty, hook_failed, nobody, shown
from .orders import Abort, Begin, Book, Command, Consult, Wishes
from .place import Place
from .raising import raises
from .selection import GO_ON, select
from .wires import pieces as pc
from .wires.ask import Ask
from .wires.faults import Action, Fault

_CONTEXT_TOKENS = 100_000  # what nearly every model of a provider takes
_REPLY_TOKENS = 1_024  # room for the answer
_LEAST_ROOM = 256
_SHORTENED = "the conversation is longer than the model can read: its beginning is left out from now on"
_SHORTER = 0.5  # of what was too long: estimates of tokens are rough
GENERATING = "generating"
CANCELLED = "client_cancelled"


class Learnt:
    """What servers have shown of what they take, by the number of their place.

    without: fields of requests that were refused. unstreamed: they do not stream. room: tokens that they can read.
    """

    def __init__(self) -> None:
        self.without: dict[int, frozenset[str]] = {}
        self.unstreamed: set[int] = set()
        self.room: dict[int, int] = {}


class Answers:
    """The answers of one conversation. What is to be done is appended to `commands`.

    wishes: may be changed at any time. learnt: may be that of others who ask the same servers. usage: what all answers
    took. last_place: who made the newest. retries: how often the same model was asked again; fallbacks: how often
    another one took over.
    """

    def __init__(
        self,
        places: Sequence[Place],
        breakers: Sequence[Breaker],
        *,
        book: Book,
        wishes: Wishes,
        limits: ChatLimits,
        names: Callable[[str], str],
        media: Media,
        now_s: Callable[[], float],
        on_error: OnError | None,
        learnt: Learnt | None = None,
    ) -> None:
        self.places = tuple(places)
        self.breakers = tuple(breakers)
        self.wishes = wishes
        self.commands: list[Command] = []
        self.usage = up.Usage()
        self.last_place = 0
        self.retries = self.fallbacks = 0
        self.running: dict[str, Answering] = {}  # by response
        self._book = book
        self._limits = limits
        self._name = names
        self._media = media
        self._now_s = now_s
        self.on_error = on_error
        self._streams: dict[str, Answering] = {}
        self.learnt = learnt or Learnt()
        self._told_states = [breaker.state.state for breaker in self.breakers]

    @property
    def answering(self) -> bool:
        """Whether an answer of the conversation itself runs."""
        return any(not each.quiet for each in self.running.values())

    @property
    def due_s(self) -> float | None:
        """When `tick` has something to do, None for never."""
        return min((each.due_s for each in self.running.values() if each.due_s is not None), default=None)

    def wants(self, stream: str) -> bool:
        """Whether a stream that is to begin is still wanted."""
        return stream in self._streams

    # --- the way of an answer -----------------------------------------------------------------------------------------

    def begin(self, request_id: str, item_id: str, entries: tuple[Entry, ...], *, quiet: bool) -> list[up.Update]:
        """Begin an answer to a conversation."""
        way = Way(self.places, self.breakers, self._limits, fallback=self.wishes.fallback)
        answer = Answering(self._name("resp"), item_id, request_id, entries, way, quiet=quiet)
        self.running[answer.response_id] = answer
        return self._step(answer, way.begin(self._now_s(), streaming=self.wishes.streaming), None)

    def resume(
        self, response_id: str, item_id: str, request_id: str, entries: tuple[Entry, ...], *, said: str, fault: Fault
    ) -> list[up.Update]:
        """Go on with an answer that broke off elsewhere. said: what has come of it; fault: why it broke off."""
        way = Way(self.places, self.breakers, self._limits, fallback=self.wishes.fallback)
        answer = Answering(response_id, item_id, request_id, entries, way, quiet=False)
        answer.began = True
        answer.add(said)
        self.running[response_id] = answer
        return self._step(answer, way.begin(self._now_s(), streaming=self.wishes.streaming), fault)

    def tick(self) -> list[up.Update]:
        """Let leave what is due now."""
        now = self._now_s()
        due = [each for each in self.running.values() if each.due_s is not None and each.due_s <= now]
        return [update for answer in due for update in self._leave(answer)]

    def stop(self, answer: Answering, reason: str = CANCELLED) -> list[up.Update]:
        """An answer is not wanted any longer, or for another reason. What was seen of it stays in the conversation."""
        if answer.stream is not None and answer.place >= 0:
            self.breakers[answer.place].released()
        self._drop_stream(answer, abort=True)
        happened = self._rest(answer, broke=True)
        if answer.text and not answer.quiet:
            happened += self._book.keep(answer, (Text(text=answer.text),), "incomplete")
        return happened + self.done(answer, "cancelled" if reason == CANCELLED else "incomplete", reason=reason)

    def _step(self, answer: Answering, step: Step, fault: Fault | None) -> list[up.Update]:
        """Do what was decided for an answer."""
        happened: list[up.Update] = []
        if step.place is None:
            return self._give_up(answer, fault or nobody(step.notice))
        if step.notice and not answer.quiet:
            happened.append(up.Notice(message=step.notice))
        first = answer.place < 0
        moved = step.place != max(0, answer.place)
        answer.place = step.place
        self.fallbacks += moved and not first
        self.retries += not (moved or first)
        source: list[up.Update] = []
        if (moved or answer.size) and not answer.quiet:
            source.append(
                up.AnswerSource(
                    response_id=answer.response_id,
                    item_id=answer.item_id,
                    offset=answer.size,
                    source=self.places[step.place].name,
                    reason=step.notice if fault is None else fault.message,
                )
            )
        if step.delay_s > 0:
            answer.due_s = self._now_s() + step.delay_s
            return happened + source
        begun = self._leave(answer)
        return happened + (begun + source if first else source + begun)

    def _leave(self, answer: Answering) -> list[up.Update]:
        """The request for (the rest of) an answer leaves."""
        at, place = answer.place, self.places[answer.place]
        answer.due_s = None
        stream = answer.stream = self._name("stream")
        self._streams[stream] = answer
        self.commands.append(Begin(stream, at, self._ask(at, place, answer)))
        news = self._news_of(at)
        if answer.quiet:
            return news
        self.last_place = at
        if answer.began:
            return news
        answer.began = True
        return [*news, up.ResponseStarted(response_id=answer.response_id, request_id=answer.request_id)]

    def _ask(self, at: int, place: Place, answer: Answering) -> Ask:
        wishes, entries, prefill = self.wishes, answer.entries, ""
        without = self.learnt.without.get(at, frozenset())
        prefilled = place.wire.prefills and "prefill" not in without
        continuation = answer.goes_on(prefilled=prefilled)
        if continuation is not None and prefilled:
            prefill = continuation.sent
        elif continuation is not None and continuation.sent:
            said = Entry(id="partial", role="assistant", parts=(Text(text=continuation.sent),))
            entries = (*entries, said, Entry(id=GO_ON, role="user", parts=(Text(text=INSTRUCTION),)))
        room = place.context or self._limits.context_tokens or _CONTEXT_TOKENS
        room = min(room, self.learnt.room.get(at, room))
        chosen = select(
            entries,
            instructions=wishes.instructions,
            most_tokens=room - (wishes.max_tokens or min(_REPLY_TOKENS, room // 2)),
            most_entries=self._limits.history_entries,
        )
        answer.tokens, answer.older = chosen.tokens, chosen.older
        return Ask(
            model=place.model,
            entries=chosen.entries,
            instructions=wishes.instructions,
            tools=wishes.tools,
            tool_choice=wishes.tool_choice,
            max_tokens=wishes.max_tokens,
            temperature=wishes.temperature,
            stream=answer.way.streaming and at not in self.learnt.unstreamed,
            prefill=prefill,
            context=place.context,
            think=wishes.think,
            without=without,
            media=self._media.media,
        )

    # --- what the streams bring ---------------------------------------------------------------------------------------

    def take(
        self,
        stream: str,
        pieces: Sequence[pc.Piece],
        parts: Callable[[], tuple[Part, ...]],
        *,
        altered: bool = False,
    ) -> list[up.Update]:
        """Take pieces of a stream. parts: gives what the conversation keeps of it, when it is over.

        altered: the text is not what the model said, so that this is kept, and not its parts.
        """
        answer = self._streams.get(stream)
        happened: list[up.Update] = []
        for piece in pieces if answer is not None else ():
            assert answer is not None
            if answer.waits:
                happened += self.progress(stream, GENERATING)
            if isinstance(piece, pc.TextPiece):
                happened += self._said(answer, answer.add(piece.text))
                if answer.size > self._limits.answer_characters:
                    return happened + self._cut_short(answer)
            elif isinstance(piece, pc.FinishPiece):
                answer.altered = answer.altered or altered
                return happened + self._finished(answer, piece, parts())
            elif isinstance(piece, pc.ErrorPiece):
                return happened + self._failed(answer, piece.fault)
            elif isinstance(piece, pc.UsagePiece):
                answer.usage = piece.usage
            elif isinstance(piece, pc.CallDonePiece):
                answer.calls.append(piece)
            elif not answer.quiet:
                happened += shown(answer, piece)
        return happened

    def progress(self, stream: str, stage: str) -> list[up.Update]:
        """What a server does that has said nothing yet, `loading` or `prompt`; `generating` once it says something."""
        answer = self._streams.get(stream)
        if answer is None or answer.quiet or answer.size:
            return []
        answer.waits = stage != GENERATING
        return [up.Progress(what=stage, item_id=answer.item_id, text=self.places[answer.place].model)]

    def _said(self, answer: Answering, text: str) -> list[up.Update]:
        if not text or answer.quiet:
            return []
        return [up.TextDelta(response_id=answer.response_id, item_id=answer.item_id, content_index=0, text=text)]

    def _rest(self, answer: Answering, *, broke: bool = False) -> list[up.Update]:
        return self._said(answer, answer.rest(broke=broke))

    def _drop_stream(self, answer: Answering, *, abort: bool = False) -> None:
        if answer.stream is not None:
            if abort:
                self.commands.append(Abort(answer.stream))
            self._streams.pop(answer.stream, None)
            answer.stream = None

    def _cut_short(self, answer: Answering) -> list[up.Update]:
        """An answer goes too far: it ends here, and what came of it stays."""
        self._drop_stream(answer, abort=True)
        self.breakers[answer.place].released()
        kept = self._book.keep(answer, (Text(text=answer.text),), "incomplete")
        message = f"the answer is longer than {self._limits.answer_characters} characters"
        done = self.done(answer, "incomplete", reason="max_output_tokens", error=message)
        return [*done, *kept, *self._book.begin_next()]

    def _finished(self, answer: Answering, finish: pc.FinishPiece, read: tuple[Part, ...]) -> list[up.Update]:
        """The server says that the answer is over."""
        happened = self._rest(answer)
        parts = answer.parts(read)
        if not parts and finish.reason == "stop":
            return happened + self._failed(answer, empty())
        self._drop_stream(answer)
        happened += self._told_breaker(answer.place, None)
        status, reason = ENDS.get(finish.reason, ("incomplete", finish.words or finish.reason))
        kept = self._book.keep(answer, parts, status) if parts else []
        calls: list[up.Update] = []
        if not answer.quiet:
            calls = [
                up.ToolCall(
                    response_id=answer.response_id,
                    item_id=answer.item_id,
                    call_id=call.call_id,
                    name=call.name,
                    arguments=call.arguments,
                )
                for call in answer.calls
            ]
        done = self.done(answer, status, reason=reason)
        return [*happened, *calls, *done, *kept, *self._book.begin_next()]

    def done(
        self, answer: Answering, status: str, *, reason: str | None = None, error: str | None = None
    ) -> list[up.Update]:
        """Tell that an answer is over, one way or the other."""
        self.running.pop(answer.response_id, None)
        usage = answer.spent()
        if usage is not None:
            self.usage += usage
        if answer.quiet or not answer.began:
            return []
        text, item_id, response_id = answer.text, answer.item_id, answer.response_id
        happened: list[up.Update] = []
        if text:
            whole = "completed" if status == "completed" else "incomplete"
            happened = [
                up.TextDone(response_id=response_id, item_id=item_id, content_index=0, text=text),
                up.ItemDone(item_id=item_id, role="assistant", item_type="message", text=text, status=whole),
            ]
        over = up.ResponseDone(
            response_id=response_id,
            status=status,
            reason=reason,
            error=error,
            text=text,
            item_ids=(item_id,) if text else (),
            usage=usage,
        )
        return [*happened, over]

    # --- faults -------------------------------------------------------------------------------------------------------

    def _failed(self, answer: Answering, fault: Fault) -> list[up.Update]:
        """A stream failed: decide what becomes of the answer."""
        self._drop_stream(answer)
        at, place = answer.place, self.places[answer.place]
        says = hint(fault, place.provider, place.model)
        if says and not fault.hint:
            fault = msgspec.structs.replace(fault, hint=says)
        happened = self._rest(answer, broke=True)
        known = self.learnt.without.get(at, frozenset())
        refused = bool(fault.field) and fault.field != "stream" and fault.field not in known
        if refused:
            self.learnt.without[at] = known | {fault.field}
        elif fault.field == "stream":
            self.learnt.unstreamed.add(at)
        elif fault.too_long and answer.older and not answer.shortened:
            answer.shortened = refused = True
            self.learnt.room[at] = max(_LEAST_ROOM, int(answer.tokens * _SHORTER))
            happened.append(up.Notice(message=f"{place.name}: {_SHORTENED}"))
        else:
            happened += self._told_breaker(at, fault)
        consult = Consult(answer.response_id, fault, place, refused)
        if self.on_error is None:
            return happened + self.decided(consult, None, fault)
        self.commands.append(consult)
        return happened

    def decided(self, consult: Consult, action: Action | None, fault: Fault) -> list[up.Update]:
        """Do what was decided about a fault. action: None for the one that is planned."""
        answer = self.running.get(consult.response_id)
        if answer is None:
            return []  # it was cancelled meanwhile
        at, shown = answer.place, bool(answer.size)
        step = answer.way.after(fault, self._now_s(), shown=shown, refused=consult.refused, action=action)
        happened: list[up.Update] = []
        if step.place is not None and not fault.field:
            again = "restart" if fault.action == "restart" and not answer.size else "retry"
            done = again if step.place == at else "fallback"
            happened.append(self._failure(fault, answer, action=done, benign=True))
        return happened + self._step(answer, step, fault)

    def judged(self, consult: Consult) -> tuple[Action | None, Fault]:
        """Ask the program what to do, while nothing is decided: it may call. One that cannot say ends the answer."""
        fault = consult.fault
        if self.on_error is None:
            return None, fault
        try:
            action = self.on_error(fault, consult.place)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - it is the user's
            return "fatal", hook_failed(f"what decides about faults failed: {type(error).__name__}: {error}", fault)
        if action not in (None, *get_args(Action)):
            return "fatal", hook_failed(f"what decides about faults said {action!r}: no action", fault)
        return action, fault

    def _failure(self, fault: Fault, answer: Answering, *, action: str, benign: bool) -> up.Failure:
        """Say what went wrong. benign: another request makes the answer."""
        return up.Failure(
            message=fault.line,
            code=fault.code or (str(fault.status) if fault.status else None),
            error_type=fault.category,
            event_id=None if benign else answer.request_id,
            benign=benign,
            action=action,
            source=self.places[answer.place].name if answer.place >= 0 else None,
            raises=None if benign else raises(fault, shown=bool(answer.size)),
            retry_after_s=fault.retry_after_s,
        )

    def _told_breaker(self, at: int, fault: Fault | None) -> list[up.Update]:
        """Tell a breaker how a request went; returns the change of its state, if there was one."""
        breaker, now = self.breakers[at], self._now_s()
        if fault is None:
            breaker.succeeded(now)
        elif fault.trips:
            breaker.failed(now, fault.message, retry_after_s=fault.retry_after_s)
        else:
            breaker.released()
        return self._news_of(at)

    def _news_of(self, at: int) -> list[up.Update]:
        """Tell the state of a breaker if it is not the one that was told."""
        state = self.breakers[at].state
        if state.state == self._told_states[at]:
            return []
        self._told_states[at] = state.state
        return [up.BreakerChanged(source=self.places[at].name, state=state.state, reason=state.reason)]

    def _give_up(self, answer: Answering, fault: Fault) -> list[up.Update]:
        """Nobody can make this answer."""
        happened = self._rest(answer)
        if answer.quiet:
            return happened + self.done(answer, "failed")
        if not answer.began:
            answer.began = True
            happened.append(up.ResponseStarted(response_id=answer.response_id, request_id=answer.request_id))
        failure = self._failure(fault, answer, action=fault.action, benign=False)
        reason = failure.code or fault.message
        done = self.done(answer, "failed", reason=reason, error=fault.line)
        return [*happened, failure, *done, *self._book.unanswered(answer, fault), *self._book.begin_next()]
