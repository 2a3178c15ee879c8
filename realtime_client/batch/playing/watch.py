"""What is learnt while a case is played, sorted by the step that it belongs to. Pure: told what happened.

An answer belongs to the step that asked for it; one that the server began by itself, to the step being played then. No
audio is kept, only how much there was.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from realtime_client import updates as up
from realtime_client.batch.judging.evidence import Evidence
from realtime_client.batch.result import StepResult

from .turn import Call, PlayedTurn, Reply, heard_of, joined, latencies_of, own_waiting_of

_TURN_DETECTED = "turn_detected"
_EVENTS_KEPT = 512
_MOST_REPLIES = 2_000
_MOST_CALLS = 2_000
_MOST_MODELS = 64
_MOST_NOTES = 8
_MOST_CHARACTERS = 1_000_000
_FREQUENT = (up.AudioDelta, up.TextDelta, up.UserTranscriptDelta, up.ToolCallDelta, up.ToolProgress)


class Watch:
    """Follows one session. Its methods may be called from any thread; `changed` is called after each event.

    ms: how long so many bytes of the answer's audio last, in ms. flood: what the server sends too much of, '' for
    nothing; it is not kept.
    """

    def __init__(self, ms: Callable[[int], int], changed: Callable[[], object]) -> None:
        self.lock = threading.Lock()
        self.turns: list[PlayedTurn] = []
        self.open_calls: dict[str, Call] = {}  # that have no result yet
        self.speech_open = False
        self._commit_due = False
        self._unanswered_commits = 0
        self.stopped_at_ms = -1
        self.session_events: dict[str, float] = {}
        self.models: set[str] = set()  # that made answers, besides the session's own
        self.notes: dict[str, None] = {}  # what people are told on the way, each line once
        self.confirmed = 0
        self.ended = False
        self.flood = ""
        self._ms = ms
        self._changed = changed
        self._wait_s: float | None = None
        self._replies: dict[str, tuple[PlayedTurn, Reply]] = {}
        self._items: dict[str, PlayedTurn] = {}
        self._calls: dict[str, Call] = {}
        self._handlers: dict[type, Callable[[Any, float], None]] = {
            up.ResponseStarted: self._response_started,
            up.TextDelta: self._text,
            up.AudioDelta: self._audio,
            up.ResponseDone: self._response_done,
            up.Interrupted: self._interrupted,
            up.AnswerSource: self._source,
            up.ToolCall: self._tool_call,
            up.ToolFinished: self._tool_finished,
            up.ToolResult: self._tool_result,
            up.SpeechStarted: self._speech_started,
            up.SpeechStopped: self._speech_stopped,
            up.InputCommitted: self._committed,
            up.UserTranscript: self._transcript,
            up.UserTranscriptFailed: self._transcript,
            up.Failure: self._failed,
            up.Notice: self._noticed,
            up.SessionChanged: self._confirm,
            up.SessionEnded: self._end,
            up.ConnectionLost: self._lost,
        }

    @property
    def turn(self) -> PlayedTurn | None:
        """The step being played."""
        return self.turns[-1] if self.turns else None

    @property
    def owes_answer(self) -> bool:
        """Whether the server found speech that it has not begun to answer: it says so in three events, one by one."""
        return bool(self.speech_open or self._commit_due or self._unanswered_commits)

    def begin(self, turn: PlayedTurn) -> None:
        """A step begins: what comes belongs to it."""
        with self.lock:
            self.turns.append(turn)

    # --- news ---------------------------------------------------------------------------------------------------------

    def event(self, kind: str, at_s: float) -> None:
        """A message of the server came."""
        with self.lock:
            new = self._note(kind, at_s)
        if new:
            self._changed()

    def observe(self, update: up.Update, at_s: float, wait_s: float | None = None) -> None:
        """Take an update in. wait_s: how long its message had waited to be read, or less; None if that is not known."""
        with self.lock:
            self._wait_s = wait_s
            new = self._note(update.kind, at_s)
            handler = self._handlers.get(type(update))
            if handler is not None:
                handler(update, at_s)
        if new or type(update) not in _FREQUENT:
            self._changed()

    def _note(self, kind: str, at_s: float) -> bool:
        """Remember when something of this name came first; True if it is the first of the turn."""
        new = False
        for events in (self.session_events, *(turn.events for turn in self.turns[-1:])):
            if kind not in events and len(events) < _EVENTS_KEPT:
                events[kind] = at_s
                new = True
        return new

    def _found(self, response_id: str) -> tuple[PlayedTurn, Reply] | None:
        return self._replies.get(response_id)

    def _response_started(self, update: up.ResponseStarted, at_s: float) -> None:
        turn = self.turn
        if update.out_of_band or turn is None:
            return
        if len(self._replies) >= _MOST_REPLIES:
            self.flood = f"more than {_MOST_REPLIES} answers"
            return
        self._unanswered_commits, self._commit_due = 0, False
        if update.request_id is not None:
            turn = next((each for each in self.turns if each.request == update.request_id), turn)
        reply = Reply(update.response_id, at_s)
        turn.replies.append(reply)
        self._replies[update.response_id] = (turn, reply)

    def _text(self, update: up.TextDelta, at_s: float) -> None:
        found = self._found(update.response_id)
        if found is None:
            return
        reply = found[1]
        if reply.first_text_s is None:
            reply.first_text_s, reply.waits["first_text_s"] = at_s, self._wait_s
        reply.characters += len(update.text)
        if reply.characters > _MOST_CHARACTERS:
            self.flood = f"an answer of more than {_MOST_CHARACTERS} characters"
        else:
            reply.pieces.append(update.text)

    def _audio(self, update: up.AudioDelta, at_s: float) -> None:
        found = self._found(update.response_id)
        if found is None:
            return
        reply = found[1]
        if reply.first_audio_s is None:
            reply.first_audio_s, reply.waits["first_audio_s"] = at_s, self._wait_s
        part = (update.item_id, update.content_index)
        reply.parts[part] = reply.parts.get(part, 0) + len(update.audio)

    def _response_done(self, update: up.ResponseDone, at_s: float) -> None:
        found = self._found(update.response_id)
        if found is None:
            return
        turn, reply = found
        reply.done_s, reply.status, reply.reason, reply.error = at_s, update.status, update.reason, update.error
        reply.text, reply.usage, reply.waits["done_s"] = update.text, update.usage, self._wait_s
        reply.pieces.clear()
        if len(update.text) > _MOST_CHARACTERS:
            reply.text, self.flood = "", f"an answer of more than {_MOST_CHARACTERS} characters"
        if update.status == "cancelled" and update.reason == _TURN_DETECTED and turn is self.turn:
            reply.cut_by_own = turn.spoken

    def _interrupted(self, update: up.Interrupted, at_s: float) -> None:
        found = self._found(update.response_id or "")
        if found is None:
            return
        turn, reply = found
        current = self.turn
        reply.cut = update
        if turn is current:
            reply.cut_by_own = turn.spoken
        elif current is not None and current.interruption_ms is None:
            own_s = current.voice_s if current.spoken else current.began_s
            if own_s is not None:
                current.interruption_ms = round(max(0.0, at_s - own_s) * 1000, 3)
                current.interruption_wait_s = self._wait_s

    def _source(self, update: up.AnswerSource, _at_s: float) -> None:
        if len(self.models) < _MOST_MODELS:
            self.models.add(update.source)

    @property
    def answered(self) -> bool:
        """Whether anything came of an answer."""
        with self.lock:
            return any(reply.known_text or reply.status == "completed" for _, reply in self._replies.values())

    def _tool_call(self, update: up.ToolCall, at_s: float) -> None:
        found = self._found(update.response_id)
        if len(update.arguments) > _MOST_CHARACTERS or len(self._calls) >= _MOST_CALLS:
            self.flood = "more calls of tools, or longer ones, than any conversation has"
        elif found is not None and update.call_id not in self._calls:
            call = self._calls[update.call_id] = Call(update.name, update.arguments, at_s)
            self.open_calls[update.call_id] = call
            found[0].calls.append(call)

    def _tool_finished(self, update: up.ToolFinished, _at_s: float) -> None:
        call = self._calls.get(update.call_id)
        if call is not None:
            call.status, call.duration_ms, call.error = update.status, update.duration_ms, update.error or ""

    def _tool_result(self, update: up.ToolResult, _at_s: float) -> None:
        call = self.open_calls.pop(update.call_id, None)
        if call is not None:
            call.output = update.output

    def _speech_started(self, _update: up.SpeechStarted, _at_s: float) -> None:
        self.speech_open = True

    def _speech_stopped(self, update: up.SpeechStopped, at_s: float) -> None:
        self.speech_open, self._commit_due = False, True
        self.stopped_at_ms = update.at_ms
        if self.turn is not None:
            self.turn.stopped_s = at_s

    def _committed(self, update: up.InputCommitted, _at_s: float) -> None:
        self.speech_open = self._commit_due = False
        self._unanswered_commits += 1
        if self.turn is not None and len(self._items) < _MOST_REPLIES:
            self.turn.transcripts.setdefault(update.item_id, None)
            self._items[update.item_id] = self.turn

    def _transcript(self, update: up.UserTranscript | up.UserTranscriptFailed, _at_s: float) -> None:
        turn = self._items.get(update.item_id)
        if turn is not None:
            turn.transcripts[update.item_id] = update.text.strip() if isinstance(update, up.UserTranscript) else ""

    def _failed(self, update: up.Failure, _at_s: float) -> None:
        if update.benign:
            return
        self._noticed(update, _at_s)
        if self.turn is not None:
            self.turn.failure = update

    def _noticed(self, update: up.Failure | up.Notice, _at_s: float) -> None:
        if len(self.notes) < _MOST_NOTES:
            self.notes[update.message] = None

    def _confirm(self, update: up.SessionChanged, _at_s: float) -> None:
        self.confirmed += 1
        if update.facts.in_writing and update.facts.model:  # text models may have taken over
            self.models.add(update.facts.model)

    def _end(self, _update: up.SessionEnded, _at_s: float) -> None:
        self.ended = True

    def _lost(self, update: up.ConnectionLost, _at_s: float) -> None:
        self.ended = self.ended or not update.goes_on

    # --- what came of it ----------------------------------------------------------------------------------------------

    def requests_left(self, moments: Mapping[str, float | None]) -> None:
        """Take in when the requests for answers left this program, by the answers' ids."""
        with self.lock:
            for turn in self.turns:
                left_s = moments.get(turn.replies[0].id) if turn.request is not None and turn.replies else None
                if left_s is not None and turn.base_s is not None and turn.base_s <= left_s:
                    turn.left_s = left_s

    def result(self, turn: PlayedTurn, start_s: float) -> StepResult:
        """Return a step as it went. start_s: when the session began."""
        with self.lock:
            replies = turn.kept()
            cut = next((reply.cut for reply in reversed(replies) if reply.cut is not None), None)
            return StepResult(
                n=turn.n,
                kind=turn.kind,
                said=turn.said,
                name=turn.step.name or "",
                at_s=round(turn.began_s - start_s, 3),
                transcript=" ".join(text for text in turn.transcripts.values() if text),
                answer=joined(reply.known_text for reply in replies),
                heard=joined(heard_of(reply) for reply in replies),
                cut_ms=None if cut is None else cut.heard_ms,
                status=replies[-1].status if replies else "",
                audio_ms=sum(self._ms(reply.audio_bytes) for reply in replies),
                tools=[call.use(turn.from_s) for call in turn.calls],
                latencies=latencies_of(turn, replies),
                own_waiting=own_waiting_of(turn, replies),
            )

    def evidence(self, turn: PlayedTurn, result: StepResult, offered: frozenset[str] | None = None) -> Evidence:
        """Return what the checks of a turn judge. offered: the names of the tools, None if they are not known."""
        with self.lock:
            replies = turn.kept()
            sent_s = turn.began_s if turn.sent_s is None else turn.sent_s
            return Evidence(
                turn=turn.n,
                said=result.transcript or result.said,
                spoken=turn.step.speak or "",
                transcript=result.transcript,
                answer=result.answer,
                answered=any(reply.done_s is not None for reply in replies),
                waited=turn.waits,
                tools=result.tools,
                offered=offered,
                events={kind: (at_s - sent_s) * 1000 for kind, at_s in turn.events.items()},
                latencies={name: [value] for name, value in result.latencies.items()},
                audio_ms=result.audio_ms,
                heard_ms=result.cut_ms,
                interrupted=any(reply.cut is not None for reply in replies),
                status=result.status,
                usage=add_usage([reply.usage for reply in turn.replies]),
            )


def whole(evidence: list[Evidence], events: dict[str, float], start_s: float) -> Evidence:
    """Return what the checks of a scenario judge: all turns together. events: of the whole session."""
    latencies: dict[str, list[float]] = {}
    for each in evidence:
        for name, values in each.latencies.items():
            latencies.setdefault(name, []).extend(values)
    cuts = [each.heard_ms for each in evidence if each.heard_ms is not None]
    return Evidence(
        said="\n".join(each.said for each in evidence if each.said),
        spoken=" ".join(each.spoken for each in evidence if each.spoken),
        transcript=" ".join(each.transcript for each in evidence if each.transcript),
        answer=joined(each.answer for each in evidence),
        answered=any(each.answered for each in evidence) and all(e.answered for e in evidence if e.waited),
        waited=any(each.waited for each in evidence),
        tools=[use for each in evidence for use in each.tools],
        offered=next((each.offered for each in evidence), None),
        events={kind: (at_s - start_s) * 1000 for kind, at_s in events.items()},
        latencies=latencies,
        audio_ms=sum(each.audio_ms for each in evidence),
        heard_ms=sum(cuts) if cuts else None,
        interrupted=any(each.interrupted for each in evidence),
        status=next((each.status for each in reversed(evidence) if each.status), ""),
        usage=add_usage([each.usage for each in evidence if each.answered]),
    )


def add_usage(parts: list[up.Usage | None]) -> up.Usage | None:
    """Add up usages; None where one is not stated, or there is none at all."""
    total = up.Usage()
    for usage in parts:
        if usage is None:
            return None
        total += usage
    return total if parts else None
