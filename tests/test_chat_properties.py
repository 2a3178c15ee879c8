"""Whatever users, servers and clocks do to a conversation with text models, these things hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from chat_helpers import Talk, busy, cut, refused
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime_client import updates as up
from realtime_client.chat.limits import ChatLimits
from realtime_client.chat.wires import pieces as pc
from realtime_client.chat.wires.faults import Fault, malformed
from realtime_client.errors import UsageError
from realtime_client.history import Call, Entry, Result

FAULTS = [
    busy(), busy(retry_after_s=3.0), cut(), refused(), malformed("what is this"),
    Fault(category="application", action="fallback", message="no", status=401),
    Fault(category="application", action="fatal", message="no", status=400, field="stream"),
    Fault(category="application", action="fatal", message="no", status=400, field="stream_options"),
    Fault(category="application", action="fatal", message="too long", status=400, code="context_length_exceeded"),
]  # fmt: skip

USER = [
    "say",
    "say",
    "say2",
    "respond",
    "cancel",
    "interrupt",
    "retry",
    "retry3",
    "edit",
    "choose",
    "result",
    "withdraw",
]
SERVER = ["text", "text", "text", "answer", "finish", "length", "call", *(f"fault{n}" for n in range(len(FAULTS)))]
STEPS = st.lists(st.tuples(st.sampled_from(USER + SERVER * 2 + ["wait"]), st.integers(0, 7)), max_size=60)


class Story:
    """A conversation, and the streams that run in it."""

    def __init__(self, models: int) -> None:
        self.talk = Talk(*(f"m{n}" for n in range(models)), limits=ChatLimits(retries=1, retry_delay_s=1.0))

    def stream(self, n: int) -> Any:
        """One of the streams that are wanted."""
        answers = self.talk.conversation.answers
        open_ = [begin for begin in self.talk.begun if answers.wants(begin.stream)]
        return open_[n % len(open_)] if open_ else None

    def do(self, what: str, n: int) -> None:
        with suppress(UsageError):
            if what in SERVER:
                if (begin := self.stream(n)) is not None:
                    self.serve(what, n, begin)
            else:
                self.use(what, n)

    def use(self, what: str, n: int) -> None:
        talk, conversation = self.talk, self.talk.conversation
        if what == "say":
            talk.say(f"Question {n}?")
        elif what == "say2":
            talk.say(f"Question {n}?", answers=2)
        elif what == "wait":
            talk.wait(n * 1.5)
        elif what == "result":
            calls = [each.call_id for each in talk.all(up.ToolCall)]
            if calls:
                talk.do(lambda: conversation.tool_result(calls[n % len(calls)], "noon", respond=True))
        elif what == "withdraw":
            started = talk.all(up.ResponseStarted)
            if started:
                talk.do(lambda: conversation.withdraw(started[-1].response_id))
        elif what == "choose":
            talk.do(lambda: conversation.kept.choose(n))
        elif what == "edit":
            talk.do(lambda: conversation.edit(f"Other {n}?"))
        elif what == "interrupt":
            talk.do(lambda: conversation.interrupt("typed"))
            talk.do(conversation.begin_next)
        else:
            action = {"respond": conversation.respond, "cancel": conversation.cancel, "retry": conversation.retry}
            talk.do(action.get(what, lambda: conversation.retry(3)))

    def serve(self, what: str, n: int, begin: Any) -> None:
        talk = self.talk
        if what == "text":
            talk.text(f"word{n} ", begin)
        elif what == "answer":
            talk.answer(f"answer{n} ", begin)
        elif what == "finish":
            talk.finish(begin=begin)
        elif what == "length":
            talk.finish("x", begin, reason="length")
        elif what == "call":
            name = f"call_{len(talk.begun)}_{n}"
            call = Call(call_id=name, name="clock", arguments="{}")
            talk.bring(
                begin,
                pc.CallDonePiece(begin.stream, 0, 1.0, name, "clock", "{}"),
                pc.FinishPiece(begin.stream, 1, 1.0, "tool_calls"),
                parts=[call],
            )
        else:
            talk.fail(FAULTS[int(what.removeprefix("fault"))], begin)


@settings(max_examples=200, deadline=None)
@given(STEPS, st.integers(1, 3))
def test_every_answer_that_begins_ends_once_and_is_what_was_shown(steps: list[tuple[str, int]], models: int):
    story = Story(models)
    for what, n in steps:
        story.do(what, n)
    talk = story.talk
    talk.do(talk.conversation.end)

    started = Counter(each.response_id for each in talk.all(up.ResponseStarted))
    ended = Counter(each.response_id for each in talk.all(up.ResponseDone))
    assert started == ended
    assert set(started.values()) <= {1}
    shown: dict[str, str] = {}
    for delta in talk.all(up.TextDelta):
        shown[delta.response_id] = shown.get(delta.response_id, "") + delta.text
    for done in talk.all(up.ResponseDone):
        assert shown.get(done.response_id, "") == done.text
    assert not talk.conversation.answering
    assert not talk.conversation.answers.running
    assert not any(talk.conversation.answers.wants(begin.stream) for begin in talk.begun)
    assert all(breaker.state.probing == 0 for breaker in talk.conversation.answers.breakers), "nobody is locked out"


def assert_in_order(entries: Sequence[Entry]) -> None:
    """Each call is followed by its result before anything else."""
    open_: list[str] = []
    for entry in entries:
        for _, part in entry.tools:
            if isinstance(part, Call):
                open_.append(part.call_id)
            else:
                open_.remove(part.call_id)
        assert entry.role in ("assistant", "tool") or not open_
    assert not open_


@settings(max_examples=200, deadline=None)
@given(STEPS, st.integers(1, 3))
def test_what_is_asked_can_be_sent(steps: list[tuple[str, int]], models: int):
    """Each request ends with what the user, or a tool, said; each call in it has its result; it can be made."""
    story = Story(models)
    for what, n in steps:
        story.do(what, n)
    for begin in story.talk.begun:
        entries = begin.ask.entries
        calls = [part.call_id for entry in entries for part in entry.parts if isinstance(part, Call)]
        results = [part.call_id for entry in entries for part in entry.parts if isinstance(part, Result)]
        assert Counter(calls) == Counter(results)
        assert_in_order(begin.ask.entries)
        assert entries
        assert story.talk.conversation.answers.places[begin.place].wire.request(begin.ask).body


@settings(max_examples=200, deadline=None)
@given(STEPS, st.integers(1, 3))
def test_a_turn_that_is_refused_leaves_no_trace(steps: list[tuple[str, int]], models: int):
    story = Story(models)
    for what, n in steps:
        story.do(what, n)
    talk = story.talk
    talk.do(talk.conversation.cancel)
    talk.conversation.kept.turn.settle()  # what is kept would go with the next question
    before = talk.history
    talk.say("And this?")
    talk.fail(refused())
    assert talk.history == before
