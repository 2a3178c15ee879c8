"""What tools at work cost the talk beside them.

    python scripts/bench/tool_talk.py [ROUNDS]

answers, barge-ins   two voice sessions with the local server, in one of which a tool works all the time: from what is
                     typed to the first sound, and from the interruption to the end of the answer; in turn
calls                100 calls in one answer, until all are answered and the model speaks about them
cancel               from `cancel` to the moment when the tool knows
"""

from __future__ import annotations

import contextlib
import json
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import realtime_client
from realtime_client import updates as up
from realtime_client.changes import ToolSpec
from realtime_client.local import LocalServer
from realtime_client.local.brain import BrainTurn, CallTool, Say
from realtime_client.local.parts import Parts
from realtime_client.session.limits import ToolLimits
from realtime_client.session.session import Session
from realtime_client.tools.tool import Tool, ToolContext

WAIT_S = 30.0
STORY = "Once upon a time there was a small lighthouse at the end of the world, and its keeper told stories. "


class Wait(Tool):
    """Works until it is cancelled, or not at all."""

    def __init__(self) -> None:
        super().__init__(ToolSpec(name="wait", description="", parameters={"type": "object"}), allowed=True)
        self.timeout_s = 600.0
        self.begun = threading.Semaphore(0)
        self.over = threading.Semaphore(0)
        self.told: list[float] = []

    def check(self, arguments: str) -> Any:
        return json.loads(arguments)

    def run(self, checked: Any, context: ToolContext) -> str:
        if checked:
            self.begun.release()
            context.wait(None)
            self.told.append(time.monotonic())
            self.over.release()
            context.check_cancelled()
        return "done"


class Brain:
    """Tells a story; calls the tool as often as it is told to, for long or not."""

    def reply(self, turn: BrainTurn) -> Iterator[Say | CallTool]:
        last = turn.utterances[-1]
        kind, _, count = last.text.partition(" ")
        if last.role == "user" and kind in ("/long", "/short"):
            for _ in range(int(count)):
                yield CallTool("wait", '{"long": true}' if kind == "/long" else "{}")
        else:
            yield Say(STORY * 3 if last.role == "user" else "Done.")


@contextlib.contextmanager
def talking(server: LocalServer, modality: str) -> Iterator[tuple[Session, Wait]]:
    tool = Wait()
    values: dict[str, Any] = {"url": server.url, "modality": modality, "record": False}
    with realtime_client.connect(tools=[tool], turn_detection="none", **values) as session:
        yield session, tool


def one_round(session: Session) -> tuple[float, float]:
    """Return the ms to the first sound, and from the interruption to the end."""
    with session.updates(timeout_s=WAIT_S) as updates:
        began = time.monotonic()
        session.send_text("A story, please")
        next(each for each in updates if isinstance(each, up.AudioDelta))
        sounded = time.monotonic()
        session.interrupt("speech")
        next(each for each in updates if isinstance(each, up.ResponseDone) and each.status == "cancelled")
        return (sounded - began) * 1000, (time.monotonic() - sounded) * 1000


def spread(values: list[float]) -> str:
    ordered = sorted(values)
    return f"median {statistics.median(values):.2f} ms, p95 {ordered[int(len(ordered) * 0.95)]:.2f}"


def talk(server: LocalServer, rounds: int) -> None:
    with talking(server, "audio") as (busy, tool), talking(server, "audio") as (free, _):
        busy.send_text("/long 1")
        assert tool.begun.acquire(timeout=WAIT_S)
        found: dict[str, tuple[list[float], list[float]]] = {"with a tool at work": ([], []), "without": ([], [])}
        for n in range(rounds + 2):
            for name, session in zip(found, (busy, free), strict=True):
                answer, barge_in = one_round(session)
                if n >= 2:
                    found[name][0].append(answer)
                    found[name][1].append(barge_in)
        for at, what in enumerate(("answer", "barge-in")):
            with_tool, without = (figures[at] for figures in found.values())
            ratio = statistics.median(with_tool) / statistics.median(without)
            print(f"{what:9} with a tool at work: {spread(with_tool)}; without: {spread(without)}; ratio {ratio:.2f}")


def calls(server: LocalServer) -> None:
    with talking(server, "text") as (session, _):
        began = time.monotonic()
        answer = session.ask("/short 100", timeout_s=WAIT_S)
        took = (time.monotonic() - began) * 1000
        print(f"calls     {len(answer.tool_calls)} in one answer, all answered after {took:.0f} ms: {answer.text}")


def cancel(server: LocalServer, times: int) -> None:
    with talking(server, "text") as (session, tool):
        waits: list[float] = []
        for _ in range(times):
            session.send_text("/long 1")
            assert tool.begun.acquire(timeout=WAIT_S)
            with session.updates(timeout_s=WAIT_S) as updates:
                began = time.monotonic()
                assert session.tooling is not None
                session.tooling.cancel()
                next(each for each in updates if isinstance(each, up.ToolResult))
            assert tool.over.acquire(timeout=WAIT_S)
            waits.append((tool.told[-1] - began) * 1000)
        print(f"cancel    {times} times, the tool knows: {spread(waits)}, worst {max(waits):.2f}")


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    print(f"limits    {ToolLimits()}")
    with LocalServer(parts=Parts(brain=Brain())) as server:
        talk(server, rounds)
        calls(server)
        cancel(server, rounds)


if __name__ == "__main__":
    main()
