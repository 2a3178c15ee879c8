"""A conversation with text models, without servers: what is kept, what is taken back, and who answers."""

from __future__ import annotations

import functools

import pytest
from chat_helpers import Talk, busy, cut, refused

from realtime_client import updates as up
from realtime_client.changes import Changes, ToolSpec
from realtime_client.chat.continuation import INSTRUCTION
from realtime_client.chat.limits import ChatLimits
from realtime_client.chat.orders import Wishes
from realtime_client.chat.pending_calls import HAS_COME, STILL_AT_WORK
from realtime_client.chat.wires import pieces as pc
from realtime_client.chat.wires.faults import Fault, classify, malformed
from realtime_client.errors import UsageError
from realtime_client.history import Call, Result


def too_long() -> Fault:
    said = "request (3031 tokens) exceeds the available context size (1024 tokens)"
    return classify(400, "400 exceed_context_size_error", said)


# --- a turn -----------------------------------------------------------------------------------------------------------


def test_a_turn_tells_what_every_session_tells():
    talk = Talk()
    item_id, request_id, _ = talk.say("Hello?")
    talk.text("Hi")
    talk.text(" there.")
    begin = talk.begun[-1]
    talk.bring(begin, pc.UsagePiece(begin.stream, 0, 1.0, up.Usage(input_tokens=3, output_tokens=4, total_tokens=7)))
    talk.finish("Hi there.")
    kinds = [each.kind for each in talk.told]
    assert kinds == [
        "session_started", "item_added", "item_done", "response_started", "text_delta", "text_delta", "text_done",
        "item_done", "response_done",
    ]  # fmt: skip
    started, done = talk.last(up.ResponseStarted), talk.last(up.ResponseDone)
    assert (started.request_id, started.response_id) == (request_id, done.response_id)
    assert (done.status, done.text, done.usage and done.usage.total_tokens) == ("completed", "Hi there.", 7)
    assert talk.conversation.answers.usage.output_tokens == 4
    assert talk.history == ["user: Hello?", "assistant: Hi there."]
    assert talk.all(up.ItemAdded)[0].item_id == item_id
    assert not talk.conversation.answering


def test_the_second_question_is_asked_with_the_first():
    talk = Talk(wishes=Wishes(instructions="Be brief."))
    talk.say("One?")
    talk.answer("1")
    talk.say("Two?")
    assert talk.asked() == ["user: One?", "assistant: 1", "user: Two?"]
    assert talk.begun[-1].ask.instructions == "Be brief."


def test_a_new_question_cuts_the_answer_before_it():
    talk = Talk()
    talk.say("One?")
    talk.text("It is")
    talk.say("No, two?")
    assert talk.aborted == [talk.begun[0].stream]
    assert talk.last(up.Interrupted).cause == "typed"
    assert [each.status for each in talk.all(up.ResponseDone)] == ["cancelled"]
    assert talk.asked() == ["user: One?", "assistant: It is", "user: No, two?"]
    talk.text(" late", talk.begun[0])
    assert talk.shown == "It is", "what the cut stream still brings is not shown"


def test_requests_wait_for_the_running_answer():
    talk = Talk()
    talk.say("One?")
    first, _ = talk.do(talk.conversation.respond)
    assert len(talk.begun) == 1
    talk.answer("1")
    assert len(talk.begun) == 2
    assert talk.last(up.ResponseStarted).request_id == first


def test_cancel_stops_what_runs_and_what_is_asked_for():
    talk = Talk()
    talk.say("One?")
    waiting, _ = talk.do(talk.conversation.respond)
    assert talk.do(talk.conversation.cancel)[0] is True
    assert talk.aborted == [talk.begun[0].stream]
    dropped = talk.last(up.Failure)
    assert (dropped.code, dropped.event_id) == (up.REQUEST_CANCELLED, waiting)
    assert not talk.conversation.answering
    assert talk.do(talk.conversation.cancel)[0] is False


@pytest.mark.parametrize("by", ["response", "request"])
def test_one_answer_can_be_withdrawn(by: str):
    talk = Talk()
    _, request_id, _ = talk.say("One?")
    second, _ = talk.do(talk.conversation.respond)
    name = request_id if by == "request" else talk.last(up.ResponseStarted).response_id
    assert talk.do(lambda: talk.conversation.withdraw(name))[0] is True
    assert talk.last(up.ResponseStarted).request_id == second, "the other one begins"
    assert talk.do(lambda: talk.conversation.withdraw("nobody"))[0] is False


def test_what_a_text_model_cannot_change_is_refused():
    talk = Talk()
    talk.do(lambda: talk.conversation.change(Changes(instructions="Be brief.", tools=(ToolSpec(name="clock"),))))
    assert talk.last(up.SessionChanged).facts.tools == ("clock",)
    for change in (
        Changes(voice="cedar"), Changes(modality="audio"), Changes(speed=1.2), Changes(turn_end="server_vad"),
        Changes(transcription="x"),
    ):  # fmt: skip
        with pytest.raises(UsageError):
            talk.conversation.change(change)
    assert talk.conversation.change(Changes(modality="text", turn_end="manual"))


@pytest.mark.parametrize(
    ("reason", "status", "why"),
    [
        ("stop", "completed", None),
        ("length", "incomplete", "max_output_tokens"),
        ("content_filter", "incomplete", "content_filter"),
        ("refusal", "completed", None),
        ("other", "incomplete", "other"),
    ],
)
def test_how_an_answer_ends(reason: pc.Reason, status: str, why: str | None):
    talk = Talk()
    talk.say("One?")
    talk.text("It is")
    talk.finish("It is", reason=reason)
    done = talk.last(up.ResponseDone)
    assert (done.status, done.reason) == (status, why)
    assert talk.history[-1] == "assistant: It is"


def test_an_answer_that_is_too_long_is_cut():
    talk = Talk(limits=ChatLimits(answer_characters=10))
    talk.say("One?")
    talk.text("0123456789ab")
    assert talk.aborted == [talk.begun[0].stream]
    assert talk.last(up.ResponseDone).status == "incomplete"
    assert "longer than 10" in (talk.last(up.ResponseDone).error or "")


def test_a_long_conversation_is_cut_to_what_fits():
    talk = Talk(limits=ChatLimits(context_tokens=600))
    for n in range(20):
        talk.say(f"Question {n} " + "x" * 200)
        talk.answer(f"Answer {n}")
    assert 2 < len(talk.asked()) < 15
    assert talk.asked()[-1].startswith("user: Question 19")


def test_a_question_is_sent_however_long_it_is():
    talk = Talk(limits=ChatLimits(context_tokens=100))
    talk.say("One?")
    talk.answer("1")
    talk.say("x" * 2000)
    assert talk.asked() == ["user: " + "x" * 2000]
    talk.call()
    talk.do(lambda: talk.conversation.tool_result("call_1", "noon", respond=True))
    assert [line.partition(":")[0] for line in talk.asked()] == ["user", "assistant", "tool"]


def test_what_is_too_long_for_a_model_is_sent_once_more_without_its_beginning():
    talk = Talk()
    for n in range(20):
        talk.say(f"Question {n} " + "x" * 200)
        talk.answer(f"Answer {n}")
    talk.say("And now?")
    before = len(talk.asked())
    talk.fail(too_long())
    assert 1 < len(talk.asked()) < before
    talk.fail(too_long())
    failure = talk.last(up.Failure)
    assert "begin a new one" in failure.message
    assert len(talk.begun) == 22


def test_a_question_that_is_too_long_by_itself_is_not_sent_again():
    talk = Talk()
    talk.say("x" * 2000)
    talk.fail(too_long())
    assert "exceeds the available context size" in talk.last(up.Failure).message
    assert len(talk.begun) == 1


# --- tools ------------------------------------------------------------------------------------------------------------


def test_after_the_last_result_the_model_is_asked_again():
    talk = Talk(wishes=Wishes(tools=(ToolSpec(name="clock"),)))
    talk.say("What time is it?")
    talk.call("clock", "call_1")
    call = talk.last(up.ToolCall)
    assert (call.name, call.call_id, call.arguments) == ("clock", "call_1", "{}")
    assert talk.last(up.ResponseDone).status == "completed"
    talk.do(lambda: talk.conversation.tool_result("call_1", "noon", respond=True))
    roles = [entry.role for entry in talk.begun[-1].ask.entries]
    assert roles == ["user", "assistant", "tool"]
    talk.answer("Noon.")
    assert talk.history[-1] == "assistant: Noon."
    with pytest.raises(UsageError, match="made no call"):
        talk.conversation.tool_result("call_1", "noon", respond=True)


def results(talk: Talk) -> list[str]:
    """The conversation as the newest request tells it: roles, and what results say."""
    parts = [(entry.role, part) for entry in talk.begun[-1].ask.entries for part in entry.parts]
    return [part.output if isinstance(part, Result) else role for role, part in parts]


def test_the_talk_goes_on_while_a_tool_works_and_each_result_stands_behind_its_call():
    talk = Talk()
    talk.say("What time is it?")
    talk.call("clock", "call_1")
    talk.say("And my name?")
    assert results(talk) == ["user", "assistant", STILL_AT_WORK, "user"]
    talk.answer("I do not know it.")
    talk.do(lambda: talk.conversation.tool_result("call_1", "noon", respond=True))
    assert results(talk) == ["user", "assistant", "noon", "user", "assistant", "user"]
    assert talk.begun[-1].ask.entries[-1].said == HAS_COME, "some models refuse a request that ends with an answer"
    talk.answer("It is noon.")
    assert talk.history[-1] == "assistant: It is noon."


def test_a_result_that_comes_during_an_answer_is_spoken_about_after_it():
    talk = Talk()
    talk.say("What time is it?")
    talk.call("clock", "call_1")
    talk.say("And my name?")
    talk.text("I do not ")
    talk.do(lambda: talk.conversation.tool_result("call_1", "noon", respond=True))
    talk.finish("I do not know it.")
    assert results(talk) == ["user", "assistant", "noon", "user", "assistant", "user"]


@pytest.mark.parametrize("again", ["retry", "edit"])
def test_a_result_for_a_question_that_was_asked_again_asks_for_nothing(again: str):
    talk = Talk()
    talk.say("What time is it?")
    talk.call("clock", "call_1")
    conversation = talk.conversation
    talk.do(conversation.retry if again == "retry" else lambda: conversation.edit("What day is it?"))
    talk.text("It is ")
    talk.do(lambda: conversation.tool_result("call_1", "noon", respond=True))
    talk.finish("It is Monday.")
    assert len(talk.begun) == 2
    assert not talk.all(up.AnswerFollows)
    assert not conversation.answering


def test_a_retry_that_is_cancelled_leaves_the_call_whose_result_came_meanwhile():
    talk = Talk()
    talk.say("What time is it?")
    talk.call("clock", "call_1")
    talk.do(talk.conversation.retry)
    talk.do(lambda: talk.conversation.tool_result("call_1", "noon", respond=True))
    talk.do(talk.conversation.cancel)
    talk.say("Well?")
    assert results(talk) == ["user", "assistant", "noon", "user"]


def test_a_turn_that_fails_while_a_tool_works_leaves_the_call_open():
    talk = Talk()
    talk.say("What time is it?")
    talk.call("clock", "call_1")
    talk.say("And my name?")
    talk.fail(refused())
    talk.do(lambda: talk.conversation.tool_result("call_1", "noon", respond=True))
    assert results(talk) == ["user", "assistant", "noon"]


def test_of_several_results_one_that_is_to_be_spoken_about_is_enough():
    for respond in ((True, False), (False, True), (False, False)):
        talk = Talk()
        talk.say("What time is it, and where?")
        begin = talk.begun[-1]
        calls = [Call(call_id=f"call_{n}", name="clock", arguments="{}") for n in range(2)]
        done = [pc.CallDonePiece(begin.stream, 0, 1.0, call.call_id, "clock", "{}") for call in calls]
        talk.bring(begin, *done, pc.FinishPiece(begin.stream, 1, 1.0, "tool_calls"), parts=calls)
        for n, each in enumerate(respond):
            talk.do(functools.partial(talk.conversation.tool_result, f"call_{n}", "noon", respond=each))
        assert len(talk.begun) == 1 + any(respond)
        if any(respond):
            follows = talk.last(up.AnswerFollows)
            assert follows.response_id == talk.last(up.ToolCall).response_id
            talk.answer("Noon.")
            assert talk.all(up.ResponseStarted)[-1].request_id == follows.request_id


def test_a_call_that_is_not_whole_is_told_and_not_made():
    talk = Talk()
    talk.say("What time is it?")
    begin = talk.begun[-1]
    talk.bring(begin, pc.CallCutPiece(begin.stream, 0, 1.0, "call_1", "clock", '{"ci'))
    talk.finish("", reason="length")
    assert not talk.all(up.ToolCall)
    assert "not whole" in talk.last(up.Notice).message


# --- faults -----------------------------------------------------------------------------------------------------------


def test_a_failed_turn_leaves_the_conversation_as_it_was():
    talk = Talk()
    talk.say("One?")
    talk.answer("1")
    before = talk.history
    item_id, request_id, _ = talk.say("Two?")
    talk.fail(refused())
    assert talk.history == before
    assert talk.last(up.ItemDeleted).item_id == item_id
    failure, done = talk.last(up.Failure), talk.last(up.ResponseDone)
    assert (failure.message, failure.error_type, failure.action) == ("no such thing", "application", "fatal")
    assert failure.event_id == request_id
    assert (done.status, done.error) == ("failed", "no such thing")


def test_a_failed_turn_takes_its_tools_back_with_it():
    talk = Talk()
    talk.say("What time is it?")
    talk.call()
    talk.do(lambda: talk.conversation.tool_result("call_1", "noon", respond=True))
    talk.fail(refused())
    assert talk.history == []


def test_a_busy_server_is_asked_again_and_then_given_up():
    talk = Talk(limits=ChatLimits(retries=2, retry_delay_s=1.0))
    talk.say("One?")
    talk.fail(busy())
    assert len(talk.begun) == 1
    assert talk.conversation.due_s == talk.now_s + 1.0
    talk.wait(0.99)
    assert len(talk.begun) == 1
    talk.wait(0.02)
    assert len(talk.begun) == 2
    talk.fail(busy(retry_after_s=7.0))
    talk.wait(6.9)
    assert len(talk.begun) == 2
    talk.wait(0.2)
    talk.fail(busy())
    assert talk.last(up.ResponseDone).status == "failed"
    assert ["asking again in 1 s" in talk.all(up.Notice)[0].message, len(talk.begun)] == [True, 3]


def test_what_nobody_answers_is_kept_and_sent_when_somebody_does():
    talk = Talk(limits=ChatLimits(retries=0))
    talk.say("One?")
    talk.fail(busy())
    assert talk.history == []
    assert not talk.all(up.ItemDeleted), "it is not lost"
    assert "kept" in talk.last(up.Notice).message
    talk.wait(2.1)
    assert talk.asked() == ["user: One?"]
    talk.fail(busy())
    talk.wait(2.1)
    assert len(talk.begun) == 2, "less and less often"
    talk.wait(2.0)
    talk.answer("1")
    assert talk.history == ["user: One?", "assistant: 1"]
    assert talk.conversation.due_s is None


def test_what_is_kept_goes_with_the_next_question():
    talk = Talk(limits=ChatLimits(retries=0))
    talk.say("One?")
    talk.fail(busy())
    talk.say("Two?")
    assert talk.asked() == ["user: One?", "user: Two?"]
    talk.fail(busy())
    talk.say("Three?")
    assert talk.asked() == ["user: One?", "user: Two?", "user: Three?"]
    talk.answer("6")
    assert talk.history == ["user: One?", "user: Two?", "user: Three?", "assistant: 6"]


def test_nonsense_before_anything_was_shown_is_asked_for_once_more_then_without_a_stream():
    talk = Talk()
    talk.say("One?")
    talk.fail(malformed("what is this"))
    assert talk.begun[-1].ask.stream is True
    talk.fail(malformed("what is this"))
    assert talk.begun[-1].ask.stream is False
    talk.fail(malformed("what is this"))
    assert talk.last(up.ResponseDone).status == "failed"
    assert len(talk.begun) == 3


def test_a_stream_cut_before_its_first_piece_is_asked_for_without_streaming():
    talk = Talk()
    talk.say("One?")
    talk.fail(cut())
    assert [each.ask.stream for each in talk.begun] == [True, False]


def test_a_field_that_a_server_refuses_is_left_out_from_then_on():
    talk = Talk()
    talk.say("One?")
    talk.fail(Fault(category="application", action="fatal", message="what?", status=400, field="stream_options"))
    assert talk.begun[-1].ask.without == {"stream_options"}
    assert not talk.all(up.Failure)
    talk.answer("1")
    talk.say("Two?")
    assert talk.begun[-1].ask.without == {"stream_options"}
    talk.fail(Fault(category="application", action="fatal", message="what?", status=400, field="stream_options"))
    assert talk.last(up.ResponseDone).status == "failed", "leaving it out did not help"


def test_a_server_that_does_not_stream_is_never_asked_to_again():
    talk = Talk()
    talk.say("One?")
    talk.fail(Fault(category="application", action="fatal", message="stream", status=400, field="stream"))
    talk.answer("1")
    talk.say("Two?")
    assert [each.ask.stream for each in talk.begun] == [True, False, False]


def test_an_empty_answer_is_a_fault():
    talk = Talk()
    talk.say("One?")
    talk.finish()
    talk.finish()
    talk.finish()
    assert "empty" in (talk.last(up.ResponseDone).error or "")


def test_the_program_may_decide_otherwise():
    seen: list[tuple[str, str]] = []

    def decide(fault, place):
        seen.append((fault.message, place.name))
        return "fatal"

    talk = Talk("one", "two", on_error=decide)
    talk.say("One?")
    talk.fail(busy())
    assert seen == [("too busy", "openai/one")]
    assert talk.last(up.ResponseDone).status == "failed"


@pytest.mark.parametrize("decide", [lambda _f, _p: 1 / 0, lambda _f, _p: "perhaps"], ids=["raises", "no action"])
def test_what_cannot_decide_ends_the_answer(decide):
    talk = Talk("one", "two", on_error=decide)
    talk.say("One?")
    talk.fail(busy())
    failure = talk.last(up.Failure)
    assert failure.error_type == "screen"
    assert "what decides about faults" in failure.message
    assert "too busy" in failure.message
    assert talk.last(up.ResponseDone).status == "failed"


# --- fallback ---------------------------------------------------------------------------------------------------------


def test_before_the_first_piece_the_next_provider_takes_over_without_a_trace_in_the_answer():
    talk = Talk("one", "two", limits=ChatLimits(retries=0))
    talk.say("One?")
    talk.fail(busy())
    assert [each.place for each in talk.begun] == [0, 1]
    source = talk.last(up.AnswerSource)
    assert (source.offset, source.source, source.reason) == (0, "openai/two", "too busy")
    talk.answer("1")
    assert talk.last(up.ResponseDone).status == "completed"
    assert talk.conversation.facts.model == "openai/two"
    talk.say("Two?")
    assert talk.begun[-1].place == 0, "the first one is the first one again"


def test_in_mid_answer_the_next_provider_goes_on_and_is_marked():
    talk = Talk("one", "two")
    talk.say("Count.")
    talk.text("One, two, thr")
    talk.fail(cut())
    assert [each.place for each in talk.begun] == [0, 1]
    assert talk.asked() == ["user: Count.", "assistant: One, two, ", f"user: {INSTRUCTION}"]
    talk.text("three, ")
    talk.text("four.")
    talk.finish("three, four.")
    assert talk.shown == "One, two, three, four."
    assert talk.last(up.AnswerSource).offset == len("One, two, thr")
    assert talk.history == ["user: Count.", "assistant: One, two, three, four."]
    assert talk.last(up.ResponseDone).text == "One, two, three, four."


def test_a_model_that_can_goes_on_from_the_text_itself():
    talk = Talk("one", "two", prefills=True)
    talk.say("Count.")
    talk.text("One, two, thr")
    talk.fail(cut())
    assert (talk.begun[-1].ask.prefill, talk.asked()) == ("One, two, thr", ["user: Count."])
    talk.answer("ee.")
    assert talk.shown == "One, two, three."
    assert talk.history[-1] == "assistant: One, two, three."


def test_a_chain_of_one_is_asked_to_go_on_itself():
    talk = Talk()
    talk.say("Count.")
    talk.text("One, two, ")
    talk.fail(cut())
    assert [each.place for each in talk.begun] == [0, 0]
    talk.answer("three.")
    assert talk.shown == "One, two, three."
    source = talk.last(up.AnswerSource)
    assert (source.source, source.offset, source.reason) == ("openai/one", len("One, two, "), "the answer was cut")
    assert "asking again at once" in talk.last(up.Notice).message


def test_each_fault_that_is_mended_is_told_with_its_model_and_what_is_done():
    talk = Talk("one", "two", limits=ChatLimits(retries=1, retry_delay_s=1.0))
    talk.say("Hello?")
    talk.fail(busy())
    talk.wait(2.0)
    talk.fail(busy())
    talk.fail(malformed("what?"))
    talk.answer("Hi.")
    told = talk.all(up.Failure)
    assert [(each.source, each.action, each.error_type) for each in told] == [
        ("openai/one", "retry", "application"),
        ("openai/one", "fallback", "application"),
        ("openai/two", "restart", "protocol"),
    ]
    assert all(each.benign and each.event_id is None for each in told)


def test_an_answer_that_begins_at_another_model_says_so_behind_its_beginning():
    talk = Talk("one", "two")
    breaker = talk.conversation.answers.breakers[0]
    for _ in range(5):
        breaker.failed(talk.now_s, "down")
    talk.say("Hello?")
    talk.answer("Hi.")
    kinds = [each.kind for each in talk.told]
    assert kinds.index("response_started") < kinds.index("answer_source") < kinds.index("text_delta")
    source = talk.last(up.AnswerSource)
    assert (source.source, source.offset) == ("openai/two", 0)
    assert "left alone for now (down)" in source.reason


def test_usage_of_all_requests_is_added_up():
    talk = Talk("one", "two")
    talk.say("Count.")
    for n, text in enumerate(("One, ", "two.")):
        begin = talk.begun[-1]
        talk.text(text)
        talk.bring(begin, pc.UsagePiece(begin.stream, 0, 1.0, up.Usage(output_tokens=3 + n)))
        talk.fail(cut()) if n == 0 else talk.finish(text)
    usage = talk.last(up.ResponseDone).usage
    assert usage is not None
    assert usage.output_tokens == 7


def test_when_nobody_can_go_on_what_was_shown_is_taken_back():
    talk = Talk("one", "two", limits=ChatLimits(retries=0))
    talk.say("Count.")
    talk.text("One, ")
    talk.fail(cut())
    talk.text("two, ")
    talk.fail(cut())
    assert talk.last(up.ResponseDone).status == "failed"
    done = talk.last(up.ResponseDone)
    assert done.text == "One, two, "
    assert talk.history == []
    assert done.item_ids[0] in {each.item_id for each in talk.all(up.ItemDeleted)}


def test_without_fallback_nobody_stands_in():
    talk = Talk("one", "two", limits=ChatLimits(retries=0), wishes=Wishes(fallback=False))
    talk.say("One?")
    talk.fail(busy())
    assert len(talk.begun) == 1
    assert talk.last(up.ResponseDone).status == "failed"


def test_a_provider_that_fails_is_left_alone_and_then_tried_again():
    talk = Talk("one", "two", limits=ChatLimits(retries=0))
    for n in range(5):
        talk.say(f"{n}?")
        talk.fail(busy())
        talk.answer("yes")
    assert [each.state for each in talk.all(up.BreakerChanged)] == ["open"]
    talk.say("Again?")
    assert talk.begun[-1].place == 1, "nobody is asked that is known to fail"
    talk.answer("yes")
    talk.wait(31)
    talk.say("And now?")
    assert talk.begun[-1].place == 0
    talk.answer("yes")
    assert [each.state for each in talk.all(up.BreakerChanged)] == ["open", "half_open", "closed"]


def test_a_cancelled_request_says_nothing_about_the_provider():
    talk = Talk(limits=ChatLimits(retries=0))
    for n in range(8):
        talk.say(f"{n}?")
        talk.do(talk.conversation.cancel)
    assert not talk.all(up.BreakerChanged)


def test_a_question_that_the_provider_refuses_says_nothing_about_it():
    talk = Talk()
    for n in range(8):
        talk.say(f"{n}?")
        talk.fail(refused())
    assert not talk.all(up.BreakerChanged)


# --- again ------------------------------------------------------------------------------------------------------------


def test_retry_asks_again_and_keeps_what_was_said_before():
    talk = Talk()
    talk.say("A colour?")
    talk.answer("Red.")
    old = talk.last(up.ResponseDone).item_ids[0]
    talk.do(talk.conversation.retry)
    assert talk.asked() == ["user: A colour?"]
    assert talk.last(up.ItemDeleted).item_id == old
    talk.answer("Blue.")
    offered = talk.last(up.Alternatives)
    assert (offered.texts, offered.chosen) == (("Red.", "Blue."), 1)
    assert talk.history == ["user: A colour?", "assistant: Blue."]
    talk.do(lambda: talk.conversation.kept.choose(0))
    assert talk.history[-1] == "assistant: Red."
    assert talk.last(up.Alternatives).chosen == 0
    talk.say("And why?")
    assert talk.asked() == ["user: A colour?", "assistant: Red.", "user: And why?"]


def test_several_answers_are_made_at_once():
    talk = Talk()
    talk.say("A colour?", answers=3)
    first, second, third = talk.begun
    talk.text("Re", first)
    talk.answer("Blue.", second)
    talk.text("d.", first)
    talk.finish("Red.", first)
    talk.answer("Green.", third)
    assert talk.shown == "Red.", "the others are not mixed in"
    assert len(talk.all(up.ResponseDone)) == 1
    offered = talk.last(up.Alternatives)
    assert set(offered.texts) == {"Red.", "Blue.", "Green."}
    assert offered.texts[offered.chosen] == "Red."
    assert talk.history == ["user: A colour?", "assistant: Red."]
    with pytest.raises(UsageError, match="answers 1 to 3, not 4"):
        talk.conversation.kept.choose(3)


def test_an_alternative_that_fails_is_no_alternative():
    talk = Talk()
    talk.say("A colour?", answers=2)
    talk.fail(refused(), talk.begun[1])
    talk.answer("Red.", talk.begun[0])
    assert talk.last(up.ResponseDone).status == "completed"
    assert not talk.all(up.Alternatives)
    with pytest.raises(UsageError, match="no other answers"):
        talk.conversation.kept.choose(0)


@pytest.mark.parametrize("answers", [0, -1, 9])
def test_how_many_answers_can_be_made_at_once(answers: int):
    talk = Talk()
    with pytest.raises(UsageError, match="1 to 8 answers"):
        talk.say("A colour?", answers=answers)
    assert talk.history == [], "nothing was said"


def test_retry_after_a_failure_asks_the_same_again():
    talk = Talk()
    talk.say("One?")
    talk.fail(refused())
    talk.do(talk.conversation.retry)
    assert talk.asked() == ["user: One?"]
    talk.answer("1")
    assert talk.history == ["user: One?", "assistant: 1"]


@pytest.mark.parametrize("fault", [refused(), busy()], ids=["refused", "busy"])
@pytest.mark.parametrize("again", ["retry", "edit"])
def test_what_is_asked_again_in_vain_leaves_all_as_it_was(again: str, fault: Fault):
    talk = Talk(limits=ChatLimits(retries=0))
    talk.say("A colour?")
    talk.answer("Red.")
    talk.do(talk.conversation.retry)
    talk.answer("Blue.")
    before = talk.history
    talk.do(talk.conversation.retry if again == "retry" else lambda: talk.conversation.edit("A shape?"))
    talk.fail(fault)
    assert talk.history == before == ["user: A colour?", "assistant: Blue."]
    assert talk.conversation.due_s is None
    talk.say("Sure?")
    assert talk.asked() == [*before, "user: Sure?"]
    talk.do(lambda: talk.conversation.kept.choose(0)) if again == "retry" else None


def test_a_retry_that_is_cancelled_before_anything_came_leaves_the_answer():
    talk = Talk()
    talk.say("A colour?")
    talk.answer("Red.")
    talk.do(talk.conversation.retry)
    talk.do(talk.conversation.cancel)
    assert talk.history == ["user: A colour?", "assistant: Red."]
    talk.do(talk.conversation.retry)
    talk.text("Bl")
    talk.say("Sure?")
    assert talk.asked() == ["user: A colour?", "assistant: Bl", "user: Sure?"]


def test_retry_without_a_question_is_refused():
    with pytest.raises(UsageError, match="nothing was said"):
        Talk().conversation.retry()


def test_edit_says_the_last_message_in_other_words():
    talk = Talk()
    talk.say("One?")
    talk.answer("1")
    talk.say("Tow?")
    talk.answer("Tow?")
    talk.do(lambda: talk.conversation.edit("Two?"))
    assert talk.asked() == ["user: One?", "assistant: 1", "user: Two?"]
    talk.answer("2")
    assert talk.history == ["user: One?", "assistant: 1", "user: Two?", "assistant: 2"]


def test_edit_while_an_answer_runs_and_after_one_that_failed():
    talk = Talk()
    talk.say("Tow?")
    talk.text("What is")
    talk.do(lambda: talk.conversation.edit("Two?"))
    assert talk.asked() == ["user: Two?"]
    talk.fail(refused())
    talk.do(lambda: talk.conversation.edit("Three?"))
    assert talk.asked() == ["user: Three?"]


def test_the_end_cuts_everything():
    talk = Talk()
    talk.say("One?", answers=2)
    talk.do(talk.conversation.respond)
    talk.do(talk.conversation.end)
    assert len(talk.aborted) == 2
    assert not talk.conversation.answering
    assert talk.conversation.due_s is None
