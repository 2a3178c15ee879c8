"""Tools and brains for tests of tools."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import realtime_client
from realtime_client import updates as up
from realtime_client.changes import ToolSpec
from realtime_client.client.client import RealtimeClient
from realtime_client.client.endpoint import Endpoint
from realtime_client.local import LocalServer
from realtime_client.local.brain import BrainTurn, CallTool, Say
from realtime_client.local.parts import Parts
from realtime_client.protocol.facts import function_tool
from realtime_client.session.session import Session
from realtime_client.tools.approval import Policy
from realtime_client.tools.runner import ToolRunner
from realtime_client.tools.tool import BadArgumentsError, Tool, ToolContext
from realtime_client.tools.toolbox import Toolbox

WAIT_S = 20.0


class Own(Tool):
    """A tool made of a function that takes its arguments, an object, and its context."""

    def __init__(self, name: str, work: Callable[[Any, ToolContext], Any], **options: Any) -> None:
        parameters = {"type": "object", "properties": {}}
        super().__init__(ToolSpec(name=name, description=name, parameters=parameters), **{"allowed": True, **options})
        self._work = work

    def check(self, arguments: str) -> Any:
        try:
            return json.loads(arguments)
        except ValueError as error:
            raise BadArgumentsError(f"the arguments are no JSON: {error}") from None

    def run(self, checked: Any, context: ToolContext) -> str:
        return self._work(checked, context)


class Scripted:
    """A brain whose answers are lists of pieces, one after the other; `turns` holds what it was asked."""

    def __init__(self, *answers: list[Say | CallTool]) -> None:
        self._answers = iter(answers)
        self.turns: queue.Queue[BrainTurn] = queue.Queue()

    def reply(self, turn: BrainTurn) -> Iterator[Say | CallTool]:
        self.turns.put(turn)
        yield from next(self._answers, [Say("Nothing more.")])


@contextlib.contextmanager
def running(
    brain: Any, *tools: Tool, policy: Policy | None = None, modality: str = "text", pace: float = 0.0, **options: Any
) -> Iterator[tuple[Session, ToolRunner, realtime_client.Subscription]]:
    """A session with the local server, its tools, and all its updates from the start."""
    with LocalServer(parts=Parts(brain=brain), pace=pace) as server:
        toolbox = Toolbox(tools)
        offered = [function_tool(spec) for spec in toolbox.specs]
        config = realtime_client.RealtimeConfig(output_modalities=[modality], tools=offered)
        client = RealtimeClient(Endpoint(url=server.url), session=config)
        runner = ToolRunner(client, toolbox, policy, **options)
        with contextlib.closing(client.updates(timeout_s=WAIT_S)) as updates:
            runner.start()
            with client:
                try:
                    yield client, runner, updates
                finally:
                    runner.close()


def until(updates: Iterator[up.Update], kind: type[Any], **wanted: Any) -> Any:
    """The next update of a kind, with these values."""
    for update in updates:
        if isinstance(update, kind) and all(getattr(update, name) == value for name, value in wanted.items()):
            return update
    raise AssertionError(f"{kind.__name__} never came")


class Gate:
    """A tool that begins, and goes on when the test says so."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()
        self.cancelled = threading.Event()

    def __call__(self, arguments: Any, context: ToolContext) -> str:
        context.on_cancel(self.cancelled.set)
        context.on_cancel(self.go.set)
        self.begun.set()
        assert self.go.wait(WAIT_S)
        context.check_cancelled()
        return f"done with {json.dumps(arguments)}"
