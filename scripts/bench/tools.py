"""What functions as tools cost: making one, judging a call's arguments, cancelling what is asynchronous.

    python scripts/bench/tools.py [ROUNDS]

make     from the function to the schema
check    from the model's argument text to what the function takes; loose: a number in quotes, which is read in a second
         try, and has no goal; pydantic's TypeAdapter for the same function (without its limits) beside it, in turn, if
         it is installed
cancel   from the cancel until the coroutine has ended, in the program's event loop and in one of its own
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from msgspec import Meta

from realtime_client import updates as up
from realtime_client.tools import FunctionTool, ToolCancelledError, ToolContext

MOST_US = 50.0
MOST_MS = 50.0
CALLS = 5_000


@dataclass
class Place:
    name: str
    latitude: float
    longitude: float


def small(city: str, days: int = 3) -> None:
    """Tell the weather.

    city: where. days: how many.
    """


def large(  # noqa: PLR0917
    query: str,
    places: list[Place],
    days: Annotated[int, Meta(ge=1, le=14)],
    unit: Literal["C", "F"] = "C",
    tags: list[str] | None = None,
    limits: dict[str, float] | None = None,
) -> None:
    """Tell the weather of some places.

    Args:
        query: what to look for
        places: where
        days: how many
    """


MANY = {
    "query": "where does it rain",
    "places": [{"name": f"place {n}", "latitude": 41.9, "longitude": 12.5 + n} for n in range(8)],
    "days": 3,
    "tags": [f"tag {n}" for n in range(8)],
    "limits": {f"limit {n}": n / 7 for n in range(8)},
}
ARGUMENTS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "small": (small, {"city": "Rome", "days": 3}),
    "large": (large, MANY),
    "small, loose": (small, {"city": "Rome", "days": "3"}),
    "large, loose": (large, MANY | {"days": "3"}),
}


def each_us(work: Callable[..., object], times: int, *given: object) -> float:
    begun = time.perf_counter()
    for _ in range(times):
        work(*given)
    return (time.perf_counter() - begun) / times * 1e6


def theirs(function: Callable[..., Any]) -> Callable[[str], object] | None:
    """Pydantic's judge of the same function, which calls it, too: it does nothing."""
    with contextlib.suppress(ImportError):
        from pydantic import TypeAdapter

        adapter = TypeAdapter(function)
        return adapter.validator.validate_json
    return None


def check(rounds: int) -> bool:
    fine = True
    for name, (function, arguments) in ARGUMENTS.items():
        text = json.dumps(arguments)
        tool, judge = FunctionTool(function), theirs(function)
        own, other = [], []
        for _ in range(rounds):
            own.append(each_us(tool.check, CALLS, text))
            if judge is not None:
                other.append(each_us(judge, CALLS, text))
        us = statistics.median(own)
        beside = (
            f"pydantic {statistics.median(other):6.1f} us, ratio {us / statistics.median(other):.2f}" if other else ""
        )
        print(f"check   {name:13} {len(text):5} bytes {us:6.1f} us (worst round {max(own):6.1f})  {beside}")
        fine &= "loose" in name or us < MOST_US
    return fine


def make() -> None:
    for function in (small, large):
        FunctionTool(function)  # the docstring's parser is loaded
        us = each_us(FunctionTool, 100, function)
        print(f"make    {function.__name__:13} {us / 1000:6.2f} ms")


@contextlib.contextmanager
def event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def cancel_ms(loop: asyncio.AbstractEventLoop | None) -> float:
    started = threading.Event()
    ended = 0.0

    async def wait() -> None:
        nonlocal ended
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended = time.perf_counter()

    tool = FunctionTool(wait)
    context = ToolContext("call_1", "wait", facts=up.Facts, report=lambda *_: None, loop=loop)

    def work() -> None:
        with contextlib.suppress(ToolCancelledError):
            tool.run({}, context)

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    begun = time.perf_counter()
    context.cancel()
    thread.join()
    return (ended - begun) * 1000


def cancel() -> bool:
    worst = 0.0
    with event_loop() as loop:
        for name, where in (("program's loop", loop), ("its own loop", None)):
            took = sorted(cancel_ms(where) for _ in range(200))
            worst = max(worst, took[-1])
            print(f"cancel  {name:14} median {took[100]:6.2f} ms, longest of 200 {took[-1]:6.2f} ms")
    return worst < MOST_MS


def main() -> int:
    make()
    fine = check(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
    fine &= cancel()
    print("as it must be" if fine else f"not under {MOST_US:g} us a check and {MOST_MS:g} ms a cancel")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
