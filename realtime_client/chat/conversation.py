"""The conversation with a text model: what is said, who answers, and what is done when that fails. Pure.

It is told what the user does and what the streams bring, and says what that means (updates) and what is to be done
(commands: begin or abort a stream). The session holds its lock around each call.
"""

from __future__ import annotations

import itertools
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import msgspec

from realtime_client import updates as up
from realtime_client.changes import Changes, ToolSpec
from realtime_client.errors import UsageError
from realtime_client.history import Call, Entry, History, Image, Part, Result, Text, replay

from .answering import Answering
from .breaker import Breaker
from .chain import OnError, Step, Way
from .continuation import INSTRUCTION
from .hints import hint
from .limits import ChatLimits
from .place import Place
from .wires import pieces as pc
from .wires.ask import Ask
from .wires.faults import Fault

_CONTEXT_TOKENS = 100_000  # what nearly every model of a provider takes
_REPLY_TOKENS = 1_024  # room for the answer
_MOST_QUEUED = 64
_MOST_BRANCHED = 16
_PROBE_S = (2.0, 30.0)  # how soon what was kept is tried again, at first and at last


class Begin(msgspec.Struct, frozen=True):
    """A request is to leave."""

    stream: str
    place: int
    ask: Ask


class Abort(msgspec.Struct, frozen=True):
    """A stream is not wanted any longer."""

    stream: str


Command = Begin | Abort


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """How answers are to be: see `Ask`. streaming: in pieces. fallback: another provider may take over."""

    instructions: str = ""
    tools: tuple[ToolSpec, ...] = ()
    max_tokens: int | None = None
    temperature: float | None = None
    think: bool | str | None = None
    streaming: bool = True
    fallback: bool = True


class Branches(msgspec.Struct):
    """The answers that stand beside each other in one place. chosen: the index of the one in the conversation."""

    parts: list[tuple[Part, ...]]
    chosen: int = 0


class _Request(msgspec.Struct):
    """An answer that is asked for and not begun. answers: how many alternatives; turn: whether the turn is its own."""

    request_id: str
    answers: int = 1
    branches: Branches | None = None


class Conversation:
    """One conversation with the models of a chain. now_s: gives seconds of the session's clock."""

    def __init__(
        self,
        places: Sequence[Place],
        breakers: Sequence[Breaker],
        *,
        wishes: Wishes,
        limits: ChatLimits,
        now_s: Callable[[], float],
        on_error: OnError | None = None,
    ) -> None:
        self.places = tuple(places)
        self.breakers = tuple(breakers)
        self.limits = limits
        self.wishes = wishes
        self.session_id = f"chat_{secrets.token_hex(8)}"
        self.history = History(most_entries=limits.history_entries, most_bytes=limits.history_bytes)
        self.commands: list[Command] = []
        self.usage = up.Usage()
        self.branches: dict[str, Branches] = {}
        self._now_s = now_s
        self._on_error = on_error
        self._names = itertools.count(1)
        self._asked: deque[_Request] = deque()
        self._running: dict[str, Answering] = {}  # by response
        self._streams: dict[str, Answering] = {}
        self._turn: list[str] = []  # entries that a failure takes back
        self._kept: list[Entry] = []  # of a turn that nobody could answer yet
        self._probe_s: tuple[float, float] | None = None  # when that is tried again, and how long it was waited for
        self._failed: list[Entry] = []
        self._open_calls: dict[str, tuple[str, str]] = {}  # call -> (answer, tool)
        self._without: dict[int, frozenset[str]] = {}
        self._unstreamed: set[int] = set()
        self._last_place = 0

    def _name(self, kind: str) -> str:
        return f"{kind}_{self.session_id[5:13]}_{next(self._names)}"

    # --- facts --------------------------------------------------------------------------------------------------------

    @property
    def facts(self) -> up.Facts:
        """What is true of the session now."""
        place = self.places[self._last_place]
        return up.Facts(
            model=place.name,
            modalities=("text",),
            tools=tuple(tool.name for tool in self.wishes.tools),
            abilities=up.Abilities(audio_in=False, images_in=place.wire.images, truncation=False),
        )

    @property
    def settings(self) -> dict[str, object]:
        """All that people may want to know of it."""
        wishes = self.wishes
        return {
            "models": [place.name for place in self.places],
            "instructions": wishes.instructions,
            "tools": [tool.name for tool in wishes.tools],
            "max_tokens": wishes.max_tokens,
            "temperature": wishes.temperature,
            "context": self.places[0].context,
        }

    @property
    def answering(self) -> bool:
        """Whether an answer runs or is asked for."""
        return bool(self._asked) or any(not each.quiet for each in self._running.values())

    @property
    def last_request_id(self) -> str | None:
        """The newest request that is waiting or running."""
        if self._asked:
            return self._asked[-1].request_id
        return next((each.request_id for each in reversed(self._running.values()) if not each.quiet), None)

    @property
    def due_s(self) -> float | None:
        """When `tick` has something to do, None for never."""
        due = [each.due_s for each in self._running.values() if each.due_s is not None]
        if self._probe_s is not None and not self.answering:
            due.append(self._probe_s[0])
        return min(due, default=None)

    # --- what the user does -------------------------------------------------------------------------------------------

    def start(self) -> list[up.Update]:
        """The session begins."""
        return [up.SessionStarted(session_id=self.session_id, facts=self.facts, settings=self.settings)]

    def change(self, changes: Changes) -> list[up.Update]:
        """Change settings. Errors: UsageError for what text models have not."""
        if changes.modality == "audio":
            raise UsageError("this model answers in writing: it has no voice")
        if changes.voice is not None or changes.speed is not None:
            raise UsageError("this model answers in writing: it has no voice to change")
        if changes.turn_end not in (None, "manual") or changes.transcription:
            raise UsageError("this model takes no sound")
        replaced = {name: value for name in ("instructions", "tools") if (value := getattr(changes, name)) is not None}
        self.wishes = msgspec.structs.replace(self.wishes, **replaced)
        return [up.SessionChanged(facts=self.facts, settings=self.settings)]

    def add(self, role: str, parts: Iterable[Part], *, local: bool = True) -> tuple[str, list[up.Update]]:
        """Put something into the conversation, without an answer; returns its id."""
        entry = Entry(id=self._name("item"), role=role, parts=tuple(parts))
        self.history.put(entry)
        return entry.id, _told(entry, local=local)

    def say(
        self, text: str, images: Sequence[Image] = (), *, respond: bool, answers: int = 1
    ) -> tuple[str, str | None, list[up.Update]]:
        """Say something; returns its id, the request for an answer, and what happened."""
        if respond:
            self._check_room(answers)
        happened = self.interrupt("typed")[1] if respond else []
        parts: tuple[Part, ...] = (*images, Text(text=text)) if text else tuple(images)
        if respond and self._kept:
            for entry in self._kept:
                self.history.put(entry)
            self._turn = [entry.id for entry in self._kept]
            self._kept, self._probe_s = [], None
        elif respond:
            self._turn = []
        item_id, told = self.add("user", parts)
        happened += told
        if not respond:
            return item_id, None, happened
        self._turn.append(item_id)
        request_id, more = self.respond(answers)
        return item_id, request_id, happened + more

    def respond(self, answers: int = 1, branches: Branches | None = None) -> tuple[str, list[up.Update]]:
        """Ask for an answer, queued behind a running one; returns the request's id."""
        self._check_room(answers)
        request = _Request(self._name("req"), answers, branches)
        self._asked.append(request)
        return request.request_id, self._next()

    def _check_room(self, answers: int) -> None:
        if not 1 <= answers <= self.limits.streams:
            raise UsageError(f"an answer can have 1 to {self.limits.streams} alternatives, not {answers}")
        if len(self._asked) >= _MOST_QUEUED:
            raise UsageError(f"{_MOST_QUEUED} answers are asked for already and have not begun")

    def tool_result(self, call_id: str, output: str, *, respond: bool) -> tuple[str, list[up.Update]]:
        """Take what a tool returned; after the last one of an answer, the next answer is asked for."""
        call = self._open_calls.pop(call_id, None)
        if call is None:
            raise UsageError(f"the model made no call {call_id!r} that waits for a result")
        response_id, name = call
        entry = Entry(id=self._name("item"), role="tool", parts=(Result(call_id=call_id, output=output, name=name),))
        self.history.put(entry)
        self._turn.append(entry.id)
        happened: list[up.Update] = [
            up.ToolResult(call_id=call_id, name=name, output=output, item_id=entry.id, response_id=response_id)
        ]
        if respond and not any(answer == response_id for answer, _ in self._open_calls.values()):
            happened += self.respond()[1]
        return entry.id, happened

    def cancel(self) -> tuple[bool, list[up.Update]]:
        """Stop the running answers, and those that are asked for."""
        happened = self._drop_asked(self._asked)
        for answer in list(self._running.values()):
            happened += self._stop(answer, "client_cancelled")
        return bool(happened), happened + self._next()

    def withdraw(self, answer_id: str) -> tuple[bool, list[up.Update]]:
        """Stop one answer, by its id or that of its request."""
        happened = self._drop_asked([each for each in self._asked if each.request_id == answer_id])
        for answer in list(self._running.values()):
            if answer_id in (answer.response_id, answer.request_id):
                happened += self._stop(answer, "client_cancelled")
        return bool(happened), happened + self._next()

    def interrupt(self, cause: str) -> tuple[bool, list[up.Update]]:
        """Cut the running answer where it is; what is asked for stays asked for."""
        happened: list[up.Update] = []
        for answer in list(self._running.values()):
            if not answer.quiet and answer.began:
                happened.append(
                    up.Interrupted(
                        response_id=answer.response_id,
                        item_id=answer.item_id,
                        content_index=0,
                        heard_ms=0,
                        received_ms=0,
                        cause=cause,
                        spoken=False,
                    )
                )
            happened += self._stop(answer, "client_cancelled")
        return bool(happened), happened

    def _drop_asked(self, requests: Iterable[_Request]) -> list[up.Update]:
        dropped = list(requests)
        self._asked = deque(each for each in self._asked if each not in dropped)
        message = "the request was cancelled before its answer began"
        return [
            up.Failure(message=message, code=up.REQUEST_CANCELLED, event_id=each.request_id, benign=True)
            for each in dropped
        ]

    def _stop(self, answer: Answering, reason: str) -> list[up.Update]:
        """An answer is not wanted any longer. What was seen of it stays in the conversation."""
        if answer.stream is not None:
            self.commands.append(Abort(answer.stream))
            self._streams.pop(answer.stream, None)
            if answer.place >= 0:
                self.breakers[answer.place].released()
        happened = self._rest(answer)
        text = answer.text
        if text and not answer.quiet:
            self._keep(answer, (Text(text=text),), status="incomplete")
        return happened + self._done(answer, "cancelled", reason=reason)

    # --- again --------------------------------------------------------------------------------------------------------

    def retry(self, answers: int = 1) -> tuple[str, list[up.Update]]:
        """Ask again for the last answer, or for the one that failed. What it was stays beside it.

        Errors: UsageError when nothing was asked yet.
        """
        self._check_room(answers)
        happened = self.interrupt("typed")[1]
        failed = self._kept or self._failed
        if failed:
            for entry in failed:
                self.history.put(entry)
            self._turn = [entry.id for entry in failed]
            self._kept, self._failed, self._probe_s = [], [], None
            request_id, more = self.respond(answers)
            return request_id, happened + more
        entries = self.history.in_order()
        last = next((n for n in range(len(entries) - 1, -1, -1) if entries[n].role == "user"), None)
        if last is None:
            raise UsageError("there is no question to ask again")
        branches = None
        after = entries[last + 1 :]
        if len(after) == 1 and after[0].role == "assistant":
            branches = self.branches.pop(after[0].id, None) or Branches(parts=[after[0].parts])
        happened += self._take_back([entry.id for entry in after])
        self._turn = [entries[last].id]
        request_id, more = self.respond(answers, branches)
        return request_id, happened + more

    def edit(self, text: str) -> tuple[str, str | None, list[up.Update]]:
        """Say the last message of the user in other words, and ask again. Errors: UsageError when there is none."""
        happened = self.interrupt("typed")[1]
        failed = self._kept or self._failed
        images: list[Image] = []
        if failed:
            images = [part for part in failed[0].parts if isinstance(part, Image)]
        else:
            entries = self.history.in_order()
            last = next((n for n in range(len(entries) - 1, -1, -1) if entries[n].role == "user"), None)
            if last is None:
                raise UsageError("there is no message to change")
            images = [part for part in entries[last].parts if isinstance(part, Image)]
            happened += self._take_back([entry.id for entry in entries[last:]])
        self._kept, self._failed, self._probe_s = [], [], None
        item_id, request_id, more = self.say(text, images, respond=True)
        return item_id, request_id, happened + more

    def choose(self, index: int, item_id: str | None = None) -> list[up.Update]:
        """Let another of the answers stand in the conversation. index: from 0; item_id: default the newest such place.

        Errors: UsageError when there is no such answer.
        """
        item_id = item_id or next(reversed(self.branches), "")
        branches, entry = self.branches.get(item_id), self.history.get(item_id)
        if branches is None or entry is None:
            raise UsageError("there are no other answers to choose from")
        if not 0 <= index < len(branches.parts):
            raise UsageError(f"there are answers 1 to {len(branches.parts)}, not {index + 1}")
        branches.chosen = index
        self.history.put(entry.answered_by(branches.parts[index]))
        return [self._alternatives(item_id)]

    def _alternatives(self, item_id: str) -> up.Alternatives:
        branches = self.branches[item_id]
        texts = tuple("".join(part.text for part in parts if isinstance(part, Text)) for parts in branches.parts)
        return up.Alternatives(item_id=item_id, texts=texts, chosen=branches.chosen)

    def _take_back(self, ids: Iterable[str]) -> list[up.Update]:
        happened: list[up.Update] = []
        for entry_id in reversed(list(ids)):
            if entry_id in self.history:
                self.history.remove(entry_id)
                happened.append(up.ItemDeleted(item_id=entry_id))
        return happened

    # --- answers begin ------------------------------------------------------------------------------------------------

    def _next(self) -> list[up.Update]:
        """Begin the next answer that is asked for, if none runs."""
        if not self._asked or any(not each.quiet for each in self._running.values()):
            return []
        request = self._asked.popleft()
        entries = tuple(self.history.in_order())
        happened: list[up.Update] = []
        item_id = self._name("item")
        branches = request.branches
        if request.answers > 1 and branches is None:
            branches = Branches(parts=[])
        if branches is not None:
            self.branches[item_id] = branches
            branches.chosen = len(branches.parts)
            while len(self.branches) > _MOST_BRANCHED:
                del self.branches[next(iter(self.branches))]
        for n in range(request.answers):
            way = Way(self.places, self.breakers, self.limits, fallback=self.wishes.fallback)
            answer = Answering(self._name("resp"), item_id, request.request_id, entries, way, quiet=n > 0)
            self._running[answer.response_id] = answer
            happened += self._step(answer, way.begin(self._now_s(), streaming=self.wishes.streaming), None)
        return happened

    def _step(self, answer: Answering, step: Step, fault: Fault | None) -> list[up.Update]:
        """Do what was decided for an answer."""
        happened: list[up.Update] = []
        if step.notice and not answer.quiet:
            happened.append(up.Notice(message=step.notice))
        if step.place is None:
            return happened + self._give_up(answer, fault or _nobody(step.notice))
        now = self._now_s()
        moved = step.place != answer.place
        if moved and answer.place >= 0 and not answer.quiet:
            reason = "" if fault is None else fault.message
            source = self.places[step.place].name
            happened.append(
                up.AnswerSource(
                    response_id=answer.response_id,
                    item_id=answer.item_id,
                    offset=answer.size,
                    source=source,
                    reason=reason,
                )
            )
        answer.place = step.place
        if step.delay_s > 0:
            answer.due_s = now + step.delay_s
            return happened
        return happened + self._leave(answer)

    def _leave(self, answer: Answering) -> list[up.Update]:
        """The request for (the rest of) an answer leaves."""
        at, place = answer.place, self.places[answer.place]
        if not answer.quiet:
            self._last_place = at
        answer.due_s = None
        stream = answer.stream = self._name("stream")
        self._streams[stream] = answer
        without = self._without.get(at, frozenset())
        prefilled = place.wire.prefills and "prefill" not in without
        continuation = answer.goes_on(prefilled=prefilled)
        entries = answer.entries
        if continuation is not None and continuation.sent and not prefilled:
            said = Entry(id="partial", role="assistant", parts=(Text(text=continuation.sent),))
            entries = (*entries, said, Entry(id="go_on", role="user", parts=(Text(text=INSTRUCTION),)))
        self.commands.append(
            Begin(
                stream, at, self._ask(place, entries, answer, continuation.sent if continuation and prefilled else "")
            )
        )
        if answer.began or answer.quiet:
            return []
        answer.began = True
        return [up.ResponseStarted(response_id=answer.response_id, request_id=answer.request_id)]

    def _ask(self, place: Place, entries: Sequence[Entry], answer: Answering, prefill: str) -> Ask:
        wishes = self.wishes
        room = place.context or self.limits.context_tokens or _CONTEXT_TOKENS
        chosen = replay(
            entries,
            instructions=wishes.instructions,
            most_tokens=room - (wishes.max_tokens or min(_REPLY_TOKENS, room // 2)),
            most_entries=self.limits.history_entries,
        )
        media = self.history.media
        return Ask(
            model=place.model,
            entries=chosen.entries,
            instructions=wishes.instructions,
            tools=wishes.tools,
            max_tokens=wishes.max_tokens,
            temperature=wishes.temperature,
            stream=answer.way.streaming and answer.place not in self._unstreamed,
            prefill=prefill,
            context=place.context,
            think=wishes.think,
            without=self._without.get(answer.place, frozenset()),
            media=media,
        )

    def tick(self) -> list[up.Update]:
        """Do what is due now."""
        now = self._now_s()
        happened: list[up.Update] = []
        for answer in list(self._running.values()):
            if answer.due_s is not None and answer.due_s <= now:
                happened += self._leave(answer)
        if self._probe_s is not None and self._probe_s[0] <= now and not self.answering:
            for entry in self._kept:
                self.history.put(entry)
            self._turn = [entry.id for entry in self._kept]
            self._kept = []
            happened += self.respond()[1]
        return happened

    def wants(self, stream: str) -> bool:
        """Whether a stream that is to begin is still wanted."""
        return stream in self._streams

    def begin_next(self) -> list[up.Update]:
        """Begin the next answer that is asked for, if none runs."""
        return self._next()

    # --- what the streams bring ---------------------------------------------------------------------------------------

    def take(self, stream: str, pieces: Sequence[pc.Piece], parts: Callable[[], tuple[Part, ...]]) -> list[up.Update]:
        """Take pieces of a stream. parts: gives what the conversation keeps of it, when it is over."""
        answer = self._streams.get(stream)
        if answer is None:
            return []
        happened: list[up.Update] = []
        for piece in pieces:
            kind = type(piece)
            if kind is pc.TextPiece:
                text = answer.add(piece.text)  # type: ignore[attr-defined]
                if text and not answer.quiet:
                    happened.append(
                        up.TextDelta(response_id=answer.response_id, item_id=answer.item_id, content_index=0, text=text)
                    )
                if answer.size > self.limits.answer_characters:
                    most = self.limits.answer_characters
                    return happened + self._cut(answer, f"the answer is longer than {most} characters")
            elif kind is pc.UsagePiece:
                answer.usage = piece.usage  # type: ignore[attr-defined]
            elif kind is pc.CallDonePiece:
                answer.called(piece)  # type: ignore[arg-type]
            elif kind is pc.FinishPiece:
                return happened + self._finished(answer, piece, parts())  # type: ignore[arg-type]
            elif kind is pc.ErrorPiece:
                return happened + self._failed_by(answer, piece.fault)  # type: ignore[attr-defined]
            elif not answer.quiet:
                happened += _shown(answer, piece)
        return happened

    def _rest(self, answer: Answering) -> list[up.Update]:
        text = answer.rest()
        if not text or answer.quiet:
            return []
        return [up.TextDelta(response_id=answer.response_id, item_id=answer.item_id, content_index=0, text=text)]

    def _cut(self, answer: Answering, message: str) -> list[up.Update]:
        """An answer goes too far: it ends here, and what came of it stays."""
        if answer.stream is not None:
            self.commands.append(Abort(answer.stream))
            self._streams.pop(answer.stream, None)
        if not answer.quiet:
            self._keep(answer, (Text(text=answer.text),), status="incomplete")
        done = self._done(answer, "incomplete", reason="max_output_tokens", error=message)
        return [*done, *self._next()]

    def _finished(self, answer: Answering, finish: pc.FinishPiece, read: tuple[Part, ...]) -> list[up.Update]:
        """The server says that the answer is over."""
        assert answer.stream is not None
        self._streams.pop(answer.stream, None)
        happened = self._rest(answer)
        happened += self._told_breaker(answer.place, None)
        parts = answer.parts(read)
        if not parts and finish.reason == "stop":
            return happened + self._failed_by(answer, _empty(self.places[answer.place]))
        status, reason = _ENDS.get(finish.reason, ("incomplete", finish.words or finish.reason))
        if answer.quiet:
            return happened + self._done(answer, status, reason=reason, parts=parts)
        self._kept, self._failed, self._probe_s = [], [], None
        if parts:
            self._keep(answer, parts, status="completed" if status == "completed" else "incomplete")
            self._turn.append(answer.item_id)
        for call in answer.calls:
            self._open_calls[call.call_id] = (answer.response_id, call.name)
            happened.append(
                up.ToolCall(
                    response_id=answer.response_id,
                    item_id=answer.item_id,
                    call_id=call.call_id,
                    name=call.name,
                    arguments=call.arguments,
                )
            )
        happened += self._done(answer, status, reason=reason, parts=parts)
        return happened + self._next()

    def _keep(self, answer: Answering, parts: tuple[Part, ...], *, status: str) -> None:
        branches = self.branches.get(answer.item_id)
        others = tuple(branches.parts) if branches is not None else ()
        self.history.put(
            Entry(
                id=answer.item_id,
                role="assistant",
                parts=parts,
                status=status,
                response_id=answer.response_id,
                alternatives=others,
            )
        )

    def _done(
        self,
        answer: Answering,
        status: str,
        *,
        reason: str | None = None,
        error: str | None = None,
        parts: tuple[Part, ...] | None = None,
    ) -> list[up.Update]:
        """An answer is over, one way or the other."""
        self._running.pop(answer.response_id, None)
        usage = answer.spent()
        if usage is not None:
            self.usage += usage
        branches = self.branches.get(answer.item_id)
        told: list[up.Update] = []
        if branches is not None and parts:
            if not answer.quiet:
                branches.chosen = len(branches.parts)
            branches.parts.append(parts)
            if len(branches.parts) > 1:
                told.append(self._alternatives(answer.item_id))
        if answer.quiet:
            return told
        text = answer.text
        happened: list[up.Update] = []
        if answer.began:
            if text:
                done = "completed" if status == "completed" else "incomplete"
                happened = [
                    up.TextDone(response_id=answer.response_id, item_id=answer.item_id, content_index=0, text=text),
                    up.ItemDone(item_id=answer.item_id, role="assistant", item_type="message", text=text, status=done),
                ]
            items = (answer.item_id,) if text or parts else ()
            happened.append(
                up.ResponseDone(
                    response_id=answer.response_id,
                    status=status,
                    reason=reason,
                    error=error,
                    text=text,
                    item_ids=items,
                    usage=usage,
                )
            )
        return happened + told

    # --- faults -------------------------------------------------------------------------------------------------------

    def _failed_by(self, answer: Answering, fault: Fault) -> list[up.Update]:
        """A stream failed: decide what becomes of the answer."""
        if answer.stream is not None:
            self._streams.pop(answer.stream, None)
            answer.stream = None
        at, place = answer.place, self.places[answer.place]
        says = hint(fault, place.provider, place.model)
        if says and not fault.hint:
            fault = msgspec.structs.replace(fault, hint=says)
        happened = self._rest(answer)
        field = fault.field
        refused = bool(field) and field != "stream" and field not in self._without.get(at, frozenset())
        if refused:
            self._without[at] = self._without.get(at, frozenset()) | {field}
        elif field == "stream":
            self._unstreamed.add(at)
        else:
            happened += self._told_breaker(at, fault)
        action = self._on_error(fault, place) if self._on_error is not None else None
        step = answer.way.after(fault, self._now_s(), shown=bool(answer.size), refused=refused, action=action)
        return happened + self._step(answer, step, fault)

    def _told_breaker(self, at: int, fault: Fault | None) -> list[up.Update]:
        """Tell a breaker how a request went; returns the change of its state, if there was one."""
        breaker, now = self.breakers[at], self._now_s()
        before = breaker.state.state
        if fault is None:
            breaker.succeeded(now)
        elif fault.trips:
            breaker.failed(now, fault.message, retry_after_s=fault.retry_after_s)
        else:
            breaker.released()
        state = breaker.state
        if state.state == before:
            return []
        return [up.BreakerChanged(source=self.places[at].name, state=state.state, reason=state.reason)]

    def _give_up(self, answer: Answering, fault: Fault) -> list[up.Update]:
        """Nobody can make this answer: the turn is taken back, or kept until somebody can."""
        happened = self._rest(answer)
        if answer.quiet:
            return happened + self._done(answer, "failed")
        waits = fault.action == "retry" and not answer.size
        taken = [entry for entry_id in self._turn if (entry := self.history.get(entry_id)) is not None]
        back: list[up.Update] = []
        if waits:
            for entry in taken:
                self.history.remove(entry.id)
            self._kept = taken
            pause_s = _PROBE_S[0] if self._probe_s is None else min(2 * self._probe_s[1], _PROBE_S[1])
            self._probe_s = (self._now_s() + pause_s, pause_s)
            if taken:
                back.append(up.Notice(message="what you said is kept; it is sent when a model answers again"))
        else:
            self._failed, self._kept, self._probe_s = taken, [], None
            back += self._take_back(self._turn)
        self._turn = []
        self._open_calls = {}
        failure = up.Failure(
            message=fault.line,
            code=fault.code or (str(fault.status) if fault.status else None),
            error_type=fault.category,
            event_id=answer.request_id,
            action=fault.action,
        )
        if not answer.began:
            answer.began = True
            happened.append(up.ResponseStarted(response_id=answer.response_id, request_id=answer.request_id))
        reason = fault.code or fault.category
        done = self._done(answer, "failed", reason=reason, error=fault.line)
        return [*happened, failure, *done, *back, *self._next()]

    def end(self) -> list[up.Update]:
        """The session ends: what runs is cut."""
        happened = self._drop_asked(self._asked)
        for answer in list(self._running.values()):
            happened += self._stop(answer, "client_cancelled")
        return happened


_ENDS: dict[str, tuple[str, str | None]] = {
    "stop": ("completed", None),
    "tool_calls": ("completed", None),
    "refusal": ("completed", None),
    "length": ("incomplete", "max_output_tokens"),
    "content_filter": ("incomplete", "content_filter"),
}


def _told(entry: Entry, *, local: bool) -> list[up.Update]:
    return [
        up.ItemAdded(item_id=entry.id, role=entry.role, item_type="message", text=entry.said, local=local),
        up.ItemDone(item_id=entry.id, role=entry.role, item_type="message", text=entry.said),
    ]


def _shown(answer: Answering, piece: pc.Piece) -> list[up.Update]:
    """What a piece that is no text means to those who watch."""
    where = {"response_id": answer.response_id, "item_id": answer.item_id}
    if isinstance(piece, pc.ThinkingPiece):
        return [up.ThinkingDelta(text=piece.text, **where)]
    if isinstance(piece, pc.CallPiece):
        return [up.ToolCallDelta(call_id=piece.call_id, text=piece.text, **where)] if piece.text else []
    if isinstance(piece, pc.CallCutPiece):
        return [up.Notice(message=f"the model's call of {piece.name or 'a tool'} is not whole: it is not run")]
    if isinstance(piece, pc.ProgressPiece):
        return [up.Progress(what=piece.stage, item_id=answer.item_id, text=piece.text)]
    return []


def _nobody(notice: str) -> Fault:
    message = f"no model can be asked now ({notice})" if notice else "no model can be asked now"
    return Fault(category="network", action="retry", message=message, trips=False)


def _empty(place: Place) -> Fault:
    return Fault(category="protocol", action="restart", message=f"the answer of {place.name} is empty")


__all__ = ["Abort", "Begin", "Branches", "Call", "Command", "Conversation", "Wishes"]
