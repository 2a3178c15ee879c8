"""Functions at work: each kind of them, what they tell on the way, how they are cancelled, and what the model gets."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pydantic
import pytest

import realtime_client
from realtime_client import tools
from realtime_client.errors import ToolError, UsageError
from realtime_client.tools import FunctionTool, Progress, Tool, Toolbox, ToolCancelledError, ToolContext, tool
from realtime_client.tools.functions import as_tool, output_text

WAIT_S = 10.0


class Desk:
    """A call's context, what was reported, and a thread that works on the call."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.reported: list[tuple[str, float | None, float | None]] = []
        self.context = ToolContext(
            "call_1", "it", facts=lambda: "the facts", report=lambda *what: self.reported.append(what), loop=loop
        )
        self.output = ""
        self.error: BaseException | None = None

    def work(self, function: Callable[..., Any], arguments: str = "{}") -> None:
        made = as_tool(function)
        try:
            self.output = made.run(made.check(arguments), self.context)
        except BaseException as error:
            self.error = error

    @contextmanager
    def working(self, function: Callable[..., Any]) -> Iterator[None]:
        """Work on it in a thread; at the end wait until it is over."""
        thread = threading.Thread(target=self.work, args=(function,))
        thread.start()
        try:
            yield
        finally:
            thread.join(WAIT_S)
        assert not thread.is_alive()


def run(function: Callable[..., Any], arguments: str = "{}") -> str:
    desk = Desk()
    desk.work(function, arguments)
    if desk.error is not None:
        raise desk.error
    return desk.output


@contextmanager
def event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A program's event loop, in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(WAIT_S)
        loop.close()


# --- the decorator ----------------------------------------------------------------------------------------------------


def test_a_decorated_function_is_a_tool_and_still_the_function():
    @tool
    def double(number: int, times: int = 1) -> int:
        """Double it."""
        return number * 2**times

    assert isinstance(double, Tool)
    assert double(3) == 6
    assert double(3, times=2) == 12
    assert run(double, '{"number": 4}') == "8"
    assert (double.name, double.spec.description) == ("double", "Double it.")
    assert (double.reads, double.allowed, double.timeout_s, double.origin) == (None, True, None, "")
    assert as_tool(double) is double
    assert Toolbox([double]).get("double") is double


def test_options_of_the_decorator():
    @tool(name="twice", description="Twice.", reads=True, allowed=False, timeout_s=5)
    def double(number: int) -> int:
        """Double it."""
        return number * 2

    assert (double.name, double.spec.description) == ("twice", "Twice.")
    assert (double.reads, double.allowed, double.timeout_s) == (True, False, 5.0)
    assert double(2) == 4


@pytest.mark.parametrize("thing", [None, 3, "weather", int])
def test_what_is_no_tool(thing: Any):
    with pytest.raises(UsageError, match="a tool is made of a function"):
        as_tool(thing)


def test_public_names():
    assert all(getattr(tools, name) for name in tools.__all__)
    assert realtime_client.tools is tools
    assert tools.tool is tool, "not the module of that name"


# --- what the model gets ----------------------------------------------------------------------------------------------


class Word(str, enum.Enum):  # noqa: UP042 - not the same
    A = "a"


@dataclasses.dataclass
class Place:
    name: str
    since: date


class Model(pydantic.BaseModel):
    name: str


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is, é", "as it is, é"),
        ("", ""),
        (Word.A, "a"),
        (None, "null"),
        (True, "true"),
        (3, "3"),
        (2.5, "2.5"),
        (2**100, str(2**100)),
        (Decimal("3.50"), '"3.50"'),
        ([1, "a", None], '[1,"a",null]'),
        ((1, 2), "[1,2]"),
        ({3}, "[3]"),
        ({"a": {1: 2}}, '{"a":{"1":2}}'),
        (Place("Rome", date(2026, 11, 26)), '{"name":"Rome","since":"2026-11-26"}'),
        (Model(name="x"), '{"name":"x"}'),
        (np.float32(1.5), "1.5"),
        (np.int64(3), "3"),
        (np.bool_(True), "true"),
        (np.array([[1, 2]]), "[[1,2]]"),
        ({"a": np.float64(0.5)}, '{"a":0.5}'),
        (b"hi", '"aGk="'),
    ],
    ids=repr,
)
def test_outputs(value: Any, text: str):
    def give():
        return value

    assert run(give) == text


def circle() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


class Rude:
    def tolist(self) -> Any:
        raise KeyError("rude")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (object(), r"its output \(object\) cannot be said as JSON: object has no form in it"),
        ({(1, 2): 3}, r"its output \(dict\) cannot be said as JSON"),
        ([object], "the class object has no form"),
        (circle(), "recursion"),
        (Rude(), r"its output \(Rude\)"),
        ("\ud800", "half of a surrogate pair"),
        ({"a": ["\ud800"]}, "half of a surrogate pair"),
        (map(str, [1]), r"its output \(map\)"),
    ],
)
def test_outputs_that_cannot_be_said(value: Any, says: str):
    with pytest.raises(ToolError, match=says) as caught:
        output_text(value)
    assert "\n" not in str(caught.value)


def test_what_is_done_for_its_effect_says_that_it_was_done():
    def switch() -> None: ...
    def find() -> str | None: ...
    async def switch_later() -> None: ...

    assert [run(switch), run(find), run(switch_later)] == ["done", "null", "done"]


def test_errors_of_the_function_reach_whoever_runs_it():
    def fail() -> None:
        raise ValueError("no such city")

    async def fail_later() -> None:
        raise ToolError("no such city")

    def fail_on_the_way() -> Iterator[str]:
        yield "a"
        raise ValueError("no such city")

    for function, kind in ((fail, ValueError), (fail_later, ToolError), (fail_on_the_way, ValueError)):
        with pytest.raises(kind, match=r"^no such city$"):
            run(function)


# --- generators -------------------------------------------------------------------------------------------------------


def test_parts_and_progress_of_a_generator():
    def search(context: ToolContext) -> Iterator[str | Progress]:
        yield Progress("looking", 1, 3)
        yield "one, "
        yield Progress(done=2)
        yield "two"
        assert context.output_so_far == "one, two"

    desk = Desk()
    desk.work(search)
    assert desk.error is None
    assert desk.output == "one, two"
    assert desk.reported == [("looking", 1, 3), ("one, ", None, None), ("", 2, None), ("two", None, None)]


async def parts_later() -> AsyncIterator[str | Progress]:
    yield Progress("looking", 1, 3)
    yield "one, "
    await asyncio.sleep(0)
    yield "two"


def test_parts_and_progress_of_an_asynchronous_generator():
    desk = Desk()
    desk.work(parts_later)
    assert desk.output == "one, two"
    assert desk.reported == [("looking", 1, 3), ("one, ", None, None), ("two", None, None)]


def test_what_a_generator_returns_is_the_output():
    def search():
        yield "thinking"
        return {"found": 2}

    assert run(search) == '{"found":2}'


def test_a_generator_that_yields_no_text_was_done():
    def step() -> Iterator[Progress]:
        yield Progress("working")

    async def step_later() -> AsyncIterator[Progress]:
        yield Progress("working")

    assert [run(step), run(step_later)] == ["done", "done"]


def test_parts_of_a_plain_function():
    def count(context: ToolContext) -> None:
        for number in range(3):
            context.partial(f"{number} ")
            context.progress("counting", number, 3)

    assert run(count) == "0 1 2 "


@pytest.mark.parametrize("piece", [3, None, {"a": 1}, b"a", "\ud800"])
def test_what_a_generator_cannot_yield(piece: Any):
    closed = []

    def odd():
        try:
            yield piece
        finally:
            closed.append(True)

    async def odd_later():
        try:
            yield piece
        finally:
            closed.append(True)

    for function in (odd, odd_later):
        with pytest.raises(ToolError, match=r"it yields \w+: a tool yields text or Progress|half of a surrogate"):
            run(function)
    assert closed == [True, True]


# --- cancelled --------------------------------------------------------------------------------------------------------


def test_a_generator_is_closed_between_two_yields():
    closed, first, go_on = threading.Event(), threading.Event(), threading.Event()

    def endless() -> Iterator[str]:
        try:
            yield "a part"
            first.set()
            go_on.wait(WAIT_S)
            while True:
                yield "more"
        finally:
            closed.set()

    desk = Desk()
    with desk.working(endless):
        assert first.wait(WAIT_S)
        desk.context.cancel()
        go_on.set()
    assert closed.is_set()
    assert isinstance(desk.error, ToolCancelledError)
    assert desk.context.output_so_far.startswith("a part"), "kept for the model"


def test_a_plain_function_may_look():
    def patient(context: ToolContext) -> str:
        started.set()
        return "cancelled" if context.wait(WAIT_S) and context.cancelled else "not cancelled"

    started = threading.Event()
    desk = Desk()
    with desk.working(patient):
        assert started.wait(WAIT_S)
        desk.context.cancel()
    assert desk.output == "cancelled"


class Sleeper:
    """A coroutine and an asynchronous generator that wait for ever."""

    def __init__(self) -> None:
        self.started, self.ended = threading.Event(), threading.Event()

    async def sleep(self) -> str:
        try:
            self.started.set()
            await asyncio.Event().wait()
        finally:
            self.ended.set()
        return "never"

    async def sleep_in_parts(self) -> AsyncIterator[str]:
        try:
            yield "a part"
            self.started.set()
            await asyncio.Event().wait()
        finally:
            self.ended.set()


@pytest.mark.parametrize("kind", ["sleep", "sleep_in_parts"])
@pytest.mark.parametrize("with_loop", [False, True])
def test_what_is_asynchronous_is_cancelled_where_it_waits(kind: str, with_loop: bool):
    with event_loop() as loop:
        sleeper, desk = Sleeper(), Desk(loop if with_loop else None)
        with desk.working(getattr(sleeper, kind)):
            assert sleeper.started.wait(WAIT_S)
            desk.context.cancel()
            assert sleeper.ended.wait(WAIT_S)
    assert isinstance(desk.error, ToolCancelledError)


@pytest.mark.parametrize("with_loop", [False, True])
def test_cancelled_before_it_began(with_loop: bool):
    async def quick() -> str:
        await asyncio.sleep(0)
        return "ran"

    with event_loop() as loop:
        desk = Desk(loop if with_loop else None)
        desk.context.cancel()
        desk.work(quick)
    assert isinstance(desk.error, ToolCancelledError)


def test_it_runs_in_the_programs_event_loop_or_in_its_own():
    loops = []

    async def where() -> str:
        loops.append(asyncio.get_running_loop())
        return "here"

    with event_loop() as loop:
        for each in (loop, None):
            desk = Desk(each)
            desk.work(where)
            assert desk.output == "here"
        assert loops[0] is loop
        assert loops[1] is not loop


@pytest.mark.parametrize("with_loop", [False, True])
def test_a_cancel_after_its_end_does_nothing(with_loop: bool):
    with event_loop() as loop:
        desk = Desk(loop if with_loop else None)
        desk.work(parts_later)
        desk.context.cancel()
    assert desk.output == "one, two"


@pytest.mark.parametrize("with_loop", [False, True])
def test_a_tool_that_cancels_itself_or_asks_to_exit_has_failed(with_loop: bool):
    async def give_up() -> None:
        raise asyncio.CancelledError

    async def leave() -> None:
        raise SystemExit(3)

    with event_loop() as loop:
        for function, says in ((give_up, "it cancelled itself"), (leave, "it asked to end the program: 3")):
            desk = Desk(loop if with_loop else None)
            desk.work(function)
            assert type(desk.error) is ToolError
            assert str(desk.error) == says
        assert loop.is_running(), "the program goes on"


def test_the_programs_event_loop_is_closed():
    loop = asyncio.new_event_loop()
    loop.close()

    async def quick() -> str:
        return "ran"

    desk = Desk(loop)
    desk.work(quick)
    assert type(desk.error) is ToolError
    assert "event loop" in str(desk.error)


def test_facts_and_context_variables():
    def ask(context: ToolContext) -> str:
        return str(context.facts)

    assert run(ask) == "the facts"


def test_a_method_runs_on_its_object():
    class Counter:
        count = 0

        def add(self, number: int) -> int:
            self.count += number
            return self.count

    counter = Counter()
    made = FunctionTool(counter.add)
    assert [run(made, '{"number": 2}'), run(made, '{"number": 3}')] == ["2", "5"]
