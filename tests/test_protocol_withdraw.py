"""Withdrawing one answer: that one and no other, wherever its request stands."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from realtime_client import updates as up
from realtime_client.protocol import events as ev
from realtime_client.protocol.conversation import Conversation


class Play:
    """A conversation with what it sent and told."""

    def __init__(self) -> None:
        numbers = itertools.count(1)
        self.it = Conversation(new_id=lambda prefix: f"{prefix}_{next(numbers)}")
        self.sent: list[str] = []
        self.told: list[up.Update] = []

    def take(self, happened: list[up.Update]) -> None:
        self.told += happened
        self.sent += [type(command).__name__ for command in self.it.take_commands()]

    def ask(self, **response: Any) -> str:
        request = self.it.ask(response or None)
        self.take([])
        return request

    def say(self, text: str) -> str:
        self.take(self.it.say(text)[1])
        assert self.it.last_request_id is not None
        return self.it.last_request_id

    def begins(self, response_id: str) -> None:
        self.take(self.it.receive(ev.ResponseCreated(response=ev.Response(id=response_id))))

    def ends(self, response_id: str, status: str = "completed") -> None:
        self.take(self.it.receive(ev.ResponseDone(response=ev.Response(id=response_id, status=status))))

    def withdraw(self, answer_id: str) -> bool:
        done, happened = self.it.withdraw(answer_id)
        self.take(happened)
        return done

    def cancelled(self) -> list[str | None]:
        return [
            each.event_id for each in self.told if isinstance(each, up.Failure) and each.code == up.REQUEST_CANCELLED
        ]


def test_an_answer_that_nobody_knows_or_that_is_over() -> None:
    play = Play()
    request = play.ask()
    play.begins("resp_1")
    play.ends("resp_1")
    for answer_id in ("unknown", request, "resp_1", ""):
        assert not play.withdraw(answer_id)
    assert play.sent == ["ResponseCreate"]


@pytest.mark.parametrize("by", ["its request", "its id"])
def test_a_running_answer(by: str) -> None:
    """The one that waits behind it is not touched."""
    play = Play()
    request = play.ask()
    play.begins("resp_1")
    play.ask(instructions="later")
    assert play.withdraw(request if by == "its request" else "resp_1")
    assert play.sent == ["ResponseCreate", "ResponseCancel"]
    play.ends("resp_1", "cancelled")
    assert play.sent[2:] == ["ResponseCreate"]
    assert play.cancelled() == []


def test_a_request_on_its_way() -> None:
    """Its answer is stopped when it begins; a request that waits goes on after it."""
    play = Play()
    request, later = play.ask(), play.ask(instructions="later")
    assert play.withdraw(request)
    assert play.cancelled() == [request]
    play.begins("resp_1")
    play.ends("resp_1", "cancelled")
    assert play.sent == ["ResponseCreate", "ResponseCancel", "ResponseCreate"]
    play.begins("resp_2")
    started = [each.request_id for each in play.told if isinstance(each, up.ResponseStarted)]
    assert started[1] == later
    assert not play.withdraw(request)


def test_a_request_that_waits() -> None:
    play = Play()
    play.ask()
    play.begins("resp_1")
    first, second = play.ask(instructions="a"), play.ask(instructions="b")
    assert play.withdraw(second)
    assert play.cancelled() == [second]
    play.ends("resp_1")
    play.begins("resp_2")
    play.ends("resp_2")
    assert play.sent == ["ResponseCreate", "ResponseCreate"]
    assert [each.request_id for each in play.told if isinstance(each, up.ResponseStarted)][1] == first


@pytest.mark.parametrize("left", [False, True], ids=["it waits", "it has left"])
def test_one_that_others_wait_for_too(left: bool) -> None:
    """Two messages, one answer: it goes on until neither is wanted."""
    play = Play()
    play.ask()
    play.begins("resp_1")
    one, other = play.say("One."), play.say("Two.")
    assert one == other
    if left:
        play.ends("resp_1", "cancelled")
    before = len(play.sent)
    assert not play.withdraw(one)
    assert play.cancelled() == []
    assert play.withdraw(one)
    assert play.cancelled() == [one]
    assert len(play.sent) == before
    if not left:
        play.ends("resp_1", "cancelled")
        assert "ResponseCreate" not in play.sent[before:]
