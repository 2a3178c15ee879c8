"""The conversation with text models: what was said, what is asked for, and what is kept of it. Pure.

The session holds its lock around each call. What a call means is returned (updates); what is to be done about it stands
in `answers.commands`.
"""

from __future__ import annotations

import itertools
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import msgspec

from realtime_client import updates as up
from realtime_client.changes import Changes
from realtime_client.errors import UsageError
from realtime_client.history import Entry, Image, Part, Result, Text

from .answering import Answering
from .answers import CANCELLED, Answers
from .breaker import Breaker
from .chain import OnError
from .kept import Branches, Kept
from .limits import ChatLimits
from .orders import Wishes
from .pending_calls import with_results
from .place import Place
from .wires.faults import Fault

_MOST_QUEUED = 64


class _Request(msgspec.Struct):
    """An answer that is asked for and not begun.

    answers: how many at once; branches: what stands there already. about_results: tools have brought something.
    """

    request_id: str
    answers: int = 1
    branches: Branches | None = None
    about_results: bool = False


class Conversation:
    """One conversation with the models of a chain. now_s: gives seconds of the session's clock.

    kept: what is kept of it; history: what was said. answers: those on their way.
    """

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
        self.session_id = f"chat_{secrets.token_hex(8)}"
        self.kept = Kept(limits)
        self.history = self.kept.history
        self.answers = Answers(
            places,
            breakers,
            book=self,
            wishes=wishes,
            limits=limits,
            names=self._name,
            media=self.history,
            now_s=now_s,
            on_error=on_error,
        )
        self._limits = limits
        self._now_s = now_s
        self._numbers = itertools.count(1)
        self._asked: deque[_Request] = deque()
        self._abilities: dict[int, tuple[str, ...]] = {}

    def _name(self, kind: str) -> str:
        return f"{kind}_{self.session_id[5:13]}_{next(self._numbers)}"

    # --- facts --------------------------------------------------------------------------------------------------------

    @property
    def facts(self) -> up.Facts:
        """What is true of the session now."""
        at = self.answers.last_place
        place, abilities = self.answers.places[at], self._abilities.get(at)
        images = place.wire.images and (not abilities or "vision" in abilities)  # old servers do not tell
        return up.Facts(
            model=place.name,
            modalities=("text",),
            tools=tuple(tool.name for tool in self.answers.wishes.tools),
            abilities=up.Abilities(audio_in=False, images_in=images, truncation=False),
        )

    @property
    def settings(self) -> dict[str, object]:
        """All that people may want to know of it."""
        wishes = self.answers.wishes
        return {
            "models": [place.name for place in self.answers.places],
            "instructions": wishes.instructions,
            "tools": [tool.name for tool in wishes.tools],
            "max_tokens": wishes.max_tokens,
            "temperature": wishes.temperature,
            "context": self.answers.places[0].context,
            "context_of_model": self.answers.learnt.room.get(0),
        }

    @property
    def answering(self) -> bool:
        """Whether an answer runs or is asked for."""
        return bool(self._asked) or self.answers.answering

    @property
    def due_s(self) -> float | None:
        """When `tick` has something to do, None for never."""
        due = [self.answers.due_s, None if self.answering else self.kept.turn.probe_s]
        return min((each for each in due if each is not None), default=None)

    # --- what the user does -------------------------------------------------------------------------------------------

    def start(self) -> list[up.Update]:
        """The session begins."""
        return [up.SessionStarted(session_id=self.session_id, facts=self.facts, settings=self.settings)]

    def learnt(self, at: int, context: int | None, abilities: tuple[str, ...]) -> list[up.Update]:
        """A local server has told how many tokens the model at a place can read, and what it can do."""
        if context is not None:
            self.answers.learnt.room[at] = context
        self._abilities[at] = abilities
        return [up.SessionChanged(facts=self.facts, settings=self.settings)]

    def change(self, changes: Changes) -> list[up.Update]:
        """Change settings. Errors: UsageError for what text models have not."""
        if changes.modality == "audio":
            raise UsageError("this model answers in writing: it has no voice")
        if changes.voice is not None or changes.speed is not None:
            raise UsageError("this model answers in writing: it has no voice to change")
        if changes.turn_end not in (None, "manual") or changes.transcription:
            raise UsageError("this model takes no sound")
        replaced = {name: value for name in ("instructions", "tools") if (value := getattr(changes, name)) is not None}
        self.answers.wishes = msgspec.structs.replace(self.answers.wishes, **replaced)
        return [up.SessionChanged(facts=self.facts, settings=self.settings)]

    def say(
        self, text: str, images: Sequence[Image] = (), *, respond: bool, answers: int = 1
    ) -> tuple[str, str | None, list[up.Update]]:
        """Say something; returns its id, the request for an answer, and what happened.

        Errors: UsageError for more answers than can be made at once.
        """
        if respond:
            self._check_room(answers)
        happened = self.interrupt("typed")[1] if respond else []
        entry = Entry(id=self._name("item"), role="user", parts=(*images, *((Text(text=text),) if text else ())))
        if respond:
            self.kept.take_up(self.kept.turn.kept)
            self.kept.turn.failed = []
            self.kept.turn.open.append(entry.id)
        self.history.put(entry)
        happened += [
            up.ItemAdded(item_id=entry.id, role="user", item_type="message", text=text, local=True),
            up.ItemDone(item_id=entry.id, role="user", item_type="message", text=text),
        ]
        if not respond:
            return entry.id, None, happened
        request_id, more = self.respond(answers)
        return entry.id, request_id, happened + more

    def respond(
        self,
        answers: int = 1,
        branches: Branches | None = None,
        *,
        request_id: str | None = None,
        about_results: bool = False,
    ) -> tuple[str, list[up.Update]]:
        """Ask for an answer, queued behind a running one; returns the request's id.

        request_id: of a request that was made elsewhere and is answered here. about_results: it is about what tools
        brought.
        Errors: UsageError when nothing was said yet, or more is asked for than can be.
        """
        self._check_room(answers)
        if not len(self.history):
            raise UsageError("there is nothing to answer yet: say something first")
        request = _Request(request_id or self._name("req"), answers, branches, about_results)
        self._asked.append(request)
        return request.request_id, self.begin_next()

    def _check_room(self, answers: int) -> None:
        if not 1 <= answers <= self._limits.streams:
            raise UsageError(f"1 to {self._limits.streams} answers can be made at once, not {answers}")
        if len(self._asked) >= _MOST_QUEUED:
            raise UsageError(f"{_MOST_QUEUED} answers are asked for already and have not begun")

    def tool_result(self, call_id: str, output: str, *, respond: bool) -> tuple[str, list[up.Update]]:
        """Take what a tool returned; after the last one of an answer, the next answer is asked for."""
        if respond:
            self._check_room(1)  # before anything is decided
        call = self.kept.open_calls.pop(call_id, None)
        if call is None:
            raise UsageError(f"the model made no call {call_id!r} that waits for a result")
        response_id, name = call
        entry = Entry(id=self._name("item"), role="tool", parts=(Result(call_id=call_id, output=output, name=name),))
        self.history.put(entry)
        is_said = self.kept.holds_call(call_id)  # else it was taken back: asked again, or in other words
        if is_said:
            self.kept.turn.open.append(entry.id)
        told = up.ToolResult(call_id=call_id, name=name, output=output, item_id=entry.id, response_id=response_id)
        if respond:
            self.kept.wants_reply.add(response_id)
        is_last = not any(answer == response_id for answer, _ in self.kept.open_calls.values())
        if not is_last or response_id not in self.kept.wants_reply:
            return entry.id, [told]
        self.kept.wants_reply.discard(response_id)
        if not is_said:
            return entry.id, [told]
        request_id, happened = self.respond(about_results=True)
        return entry.id, [up.AnswerFollows(response_id=response_id, request_id=request_id), told, *happened]

    def cancel(self) -> tuple[bool, list[up.Update]]:
        """Stop the running answers, and those that are asked for."""
        happened = self._drop_asked(self._asked)
        for answer in list(self.answers.running.values()):
            happened += self._stop(answer)
        return bool(happened), happened

    def withdraw(self, answer_id: str) -> tuple[bool, list[up.Update]]:
        """Stop one answer, by its id or that of its request."""
        happened = self._drop_asked([each for each in self._asked if each.request_id == answer_id])
        for answer in list(self.answers.running.values()):
            if answer_id in (answer.response_id, answer.request_id):
                happened += self._stop(answer)
        return bool(happened), happened + self.begin_next()

    def interrupt(self, cause: str) -> tuple[bool, list[up.Update]]:
        """Cut the running answer where it is; what is asked for stays asked for, and begins with `begin_next`."""
        happened: list[up.Update] = []
        for answer in list(self.answers.running.values()):
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
            happened += self._stop(answer)
        return bool(happened), happened

    def _stop(self, answer: Answering, reason: str = CANCELLED) -> list[up.Update]:
        """Stop an answer. When it was to stand in another one's place and nothing came of it, that one stays."""
        happened = self.answers.stop(answer, reason)
        turn = self.kept.turn
        if turn.before and not (turn.open or answer.quiet or answer.size):
            before, turn.before = turn.before, []
            happened += self.kept.put_back(before, answer.item_id)
        return happened

    def _drop_asked(
        self, requests: Iterable[_Request], message: str = "the request was cancelled before its answer began"
    ) -> list[up.Update]:
        dropped = list(requests)
        self._asked = deque(each for each in self._asked if each not in dropped)
        return [
            up.Failure(message=message, code=up.REQUEST_CANCELLED, event_id=each.request_id, benign=True)
            for each in dropped
        ]

    def tick(self) -> list[up.Update]:
        """Do what is due now."""
        happened = self.answers.tick()
        probe_s = self.kept.turn.probe_s
        if probe_s is not None and probe_s <= self._now_s() and not self.answering:
            self.kept.take_up(self.kept.turn.kept)
            happened += self.respond()[1]
        return happened

    def end(self) -> list[up.Update]:
        """The session ends: what runs is cut."""
        return self.cancel()[1]

    def hand_back(self, new_id: Callable[[], str]) -> tuple[list[str], list[up.Update]]:
        """A model of another kind goes on: what runs is cut, and asked of that one; so is what waits to be answered.

        new_id: names a request. Returns the requests in their order, and what to tell.
        """
        waiting, self._asked = [each.request_id for each in self._asked], deque()
        requests: list[str] = []
        happened: list[up.Update] = []
        for answer in list(self.answers.running.values()):
            if not answer.quiet:
                requests.append(new_id())
                happened.append(up.AnswerFollows(response_id=answer.response_id, request_id=requests[-1]))
            happened += self._stop(answer, up.CONNECTION_LOST)
        if self.kept.turn.kept:  # nobody could answer it so far
            self.kept.take_up(self.kept.turn.kept)
            requests.append(new_id())
        return [*requests, *waiting], happened

    # --- again --------------------------------------------------------------------------------------------------------

    def retry(self, answers: int = 1) -> tuple[str, list[up.Update]]:
        """Ask again for the last answer, or for the one that failed. What it was stays beside it.

        Errors: UsageError when nothing was asked yet.
        """
        self._check_room(answers)
        self.kept.check_said()
        happened = self.interrupt("typed")[1]
        waiting = self.kept.turn.settle()
        branches = None
        if waiting:
            self.kept.take_up(waiting)
        else:
            _, after = self.kept.last_turn()
            if len(after) == 1 and after[0].role == "assistant":
                branches = self.kept.branches.pop(after[0].id, None) or Branches(parts=[after[0].parts])
            happened += self.kept.take_back([entry.id for entry in after])
            self.kept.turn.open = []
            self.kept.turn.before = after
        request_id, more = self.respond(answers, branches)
        return request_id, happened + more

    def edit(self, text: str) -> tuple[str, str | None, list[up.Update]]:
        """Say the last message of the user in other words, and ask again. Errors: UsageError when there is none."""
        self.kept.check_said()
        happened = self.interrupt("typed")[1]
        waiting = self.kept.turn.settle()
        after: list[Entry] = []
        if waiting:
            question = waiting[0]
        else:
            question, after = self.kept.last_turn()
            happened += self.kept.take_back([question.id, *(entry.id for entry in after)])
        images = [part for part in question.parts if isinstance(part, Image)]
        item_id, request_id, more = self.say(text, images, respond=True)
        self.kept.turn.before = [] if waiting else [question, *after]
        return item_id, request_id, happened + more

    def makes(self, item_id: str) -> bool:
        """Whether an answer is being made that belongs to this place."""
        return any(answer.item_id == item_id for answer in self.answers.running.values())

    # --- answers ------------------------------------------------------------------------------------------------------

    def begin_next(self) -> list[up.Update]:
        """Begin the next answer that is asked for, if none runs."""
        if not self._asked or self.answers.answering:
            return []
        if not len(self.history):  # what was to be answered was taken back
            return self._drop_asked(self._asked, "what was to be answered is no longer part of the conversation")
        request = self._asked.popleft()
        entries = with_results(self.history.in_order(), self.kept.open_calls, about_results=request.about_results)
        item_id = self._name("item")
        if request.answers > 1 or request.branches is not None:
            self.kept.branch(item_id, request.branches)
        happened: list[up.Update] = []
        for n in range(request.answers):
            happened += self.answers.begin(request.request_id, item_id, entries, quiet=n > 0)
        return happened

    def resume(self, response_id: str, item_id: str, request_id: str | None, fault: Fault) -> list[up.Update]:
        """Go on with an answer that broke off elsewhere, and of which the conversation has the beginning.

        fault: why it broke off.
        """
        partial = self.history.get(item_id)
        self.history.remove(item_id)  # it stands there again when it is whole
        entries = self.history.in_order()
        self.kept.open_turn(entries)
        told = with_results(entries, self.kept.open_calls)
        said = "" if partial is None else partial.said
        return self.answers.resume(response_id, item_id, request_id or "", told, said=said, fault=fault)

    def keep(self, answer: Answering, parts: tuple[Part, ...], status: str) -> list[up.Update]:
        """An answer is over: it is part of the conversation, or stands beside one that is."""
        return self.kept.keep(answer, parts, status)

    def unanswered(self, answer: Answering, fault: Fault) -> list[up.Update]:
        """Nobody can answer: the turn is taken back, or kept until somebody can."""
        return self.kept.unanswered(answer, fault, self._now_s())
