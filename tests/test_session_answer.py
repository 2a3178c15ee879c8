"""Which of a turn's answers is the one that was asked for, where its connection is lost: updates in, an answer out."""

from __future__ import annotations

from typing import Any

import pytest

from realtime_client import updates as up
from realtime_client.errors import ResponseFailedError
from realtime_client.protocol import translate
from realtime_client.session.answer import TurnFollower

LOST = up.ConnectionLost(code=1006, reason="gone", goes_on=True)
FOLLOWS = up.AnswerFollows(response_id="a", request_id="q2")
BROKEN = up.ResponseDone(response_id="a", status="incomplete", reason=up.CONNECTION_LOST, text="half")


def began(response: str, request: str | None) -> up.ResponseStarted:
    return up.ResponseStarted(response_id=response, request_id=request)


def sound(response: str, audio: bytes) -> up.AudioDelta:
    return up.AudioDelta(response_id=response, item_id=f"i{response}", content_index=0, audio=audio)


def done(response: str, text: str) -> up.ResponseDone:
    return up.ResponseDone(response_id=response, status="completed", text=text)


def back(**more: Any) -> up.Restored:
    return up.Restored(reason="lost", away_ms=10, **more)


def followed(*updates: up.Update, request: str | None = "q1", **more: Any) -> TurnFollower:
    follower = TurnFollower(request, up.Facts().output_format, **more)
    for update in updates:
        assert not follower.complete
        follower.take(update)
    return follower


HALF = (began("a", "q1"), sound("a", b"11"), FOLLOWS, BROKEN, LOST)


@pytest.mark.parametrize("request_id", ["q1", None])
@pytest.mark.parametrize("tools_run", [False, True])
def test_the_answer_asked_for_again_is_the_answer(request_id: str | None, tools_run: bool) -> None:
    follower = followed(
        *HALF, back(asked_again="q2"), began("b", "q2"), sound("b", b"22"), sound("b", b"33"), request=request_id,
        tools_run=tools_run,
    )  # fmt: skip
    assert not follower.complete
    follower.take(done("b", "whole"))
    assert follower.complete
    answer = follower.answer()
    assert (answer.text, answer.audio, answer.status, answer.reason) == ("whole", b"2233", "completed", None)


def test_one_that_breaks_off_twice_is_followed_twice() -> None:
    again = up.AnswerFollows(response_id="b", request_id="q3")
    broken = up.ResponseDone(response_id="b", status="incomplete", reason=up.CONNECTION_LOST)
    follower = followed(*HALF, back(), began("b", "q2"), again, broken, LOST, back(), began("c", "q3"))
    follower.take(done("c", "whole"))
    assert (follower.complete, follower.answer().text) == (True, "whole")


def test_one_that_is_not_asked_for_again_is_incomplete() -> None:
    follower = followed(began("a", "q1"), BROKEN)
    assert (follower.complete, follower.answer().status) == (True, "incomplete")


def test_an_answer_to_results_given_by_hand_is_not_the_one_that_called() -> None:
    follower = followed(began("a", "q1"), FOLLOWS, done("a", "call"))
    assert (follower.complete, follower.answer().text) == (True, "call")


def test_what_an_answer_called_before_it_broke_off_is_kept() -> None:
    call = up.ToolCall(response_id="a", item_id="ia", call_id="c", name="f", arguments="{}")
    result = up.ToolResult(call_id="c", name="f", output="5", item_id="o", response_id="a")
    follower = followed(began("a", "q1"), call, BROKEN, LOST, tools_run=True)
    assert not follower.complete, "its tool works on"
    follower = followed(
        began("a", "q1"), call, BROKEN, LOST, FOLLOWS, result, back(), began("b", "q2"), tools_run=True
    )  # fmt: skip
    follower.take(done("b", "five"))
    assert (follower.complete, follower.answer().text, follower.answer().tool_calls) == (True, "five", (call,))


def test_what_the_server_ran_by_itself_is_over_with_the_connection() -> None:
    called = up.ItemAdded(item_id="m", item_type="mcp_call", role="", local=False)
    follower = followed(began("a", "q1"), called, done("a", "wait"))
    assert not follower.complete
    follower.take(LOST)
    assert follower.complete


def test_a_request_that_is_given_up_is_not_waited_for() -> None:
    follower = followed(began("b", "other"))
    with pytest.raises(ResponseFailedError, match="before the answer came; ask again"):
        follower.take(translate.lost_request("q1"))


@pytest.mark.parametrize("unknown", [(), ("other",), ("q1",)])
def test_a_request_that_is_sent_late_or_again_is_waited_for(unknown: tuple[str, ...]) -> None:
    follower = followed(LOST, back(unknown=unknown), began("a", "q1"), done("a", "whole"))
    assert follower.complete


def test_whether_there_is_a_connection() -> None:
    follower = followed(LOST)
    assert follower.away
    follower.take(back())
    assert not follower.away
