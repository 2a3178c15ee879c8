"""What the tests of MCP share: servers of ours, contexts of calls, what servers write down."""

from __future__ import annotations

import os
import queue
import select
import shlex
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from realtime_client import updates as up
from realtime_client.tools.mcp.servers import McpServers
from realtime_client.tools.mcp.spec import McpServerSpec
from realtime_client.tools.tool import Tool, ToolContext

WAIT_S = 30.0
HERE = Path(__file__).parent
SDKS = HERE.parent / ".venv" / "sdks"


def by_hand(*ways: str, name: str = "hand", journal: Journal | None = None, **more: Any) -> McpServerSpec:
    """A server of tests/mcp_server.py."""
    told = () if journal is None else ("--journal", str(journal.path))
    command = (sys.executable, "-I", "-S", str(HERE / "mcp_server.py"), *ways, *told)
    return McpServerSpec(name=name, command=command, **more)


def typed(*words: str) -> str:
    """The same as a command line."""
    return shlex.join((*by_hand().command, *words))


def real(name: str) -> tuple[str, ...]:
    """The command of a server of others. Without its environment the test skips."""
    place = SDKS / f"mcp-{name}"
    if not (place / "made-from").exists():
        pytest.skip(f"there is no {place}: scripts/sdk-environments makes it")
    if name == "time":
        return str(place / "bin" / "python"), "-m", "mcp_server_time"
    package = place / "node_modules" / "@modelcontextprotocol" / "server-everything"
    return "node", str(package / "dist" / "index.js")


class Journal:
    """Lines that a server writes down, as they come."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "journal"
        os.mkfifo(self.path)
        self._fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)
        self._lines: list[str] = []
        self._rest = ""

    def wait_for(self, start: str) -> str:
        """Return the next line that begins so."""
        ends = time.monotonic() + WAIT_S
        while True:
            while self._lines:
                if (line := self._lines.pop(0)).startswith(start):
                    return line
            ready, _, _ = select.select([self._fd], [], [], max(0.0, ends - time.monotonic()))
            assert ready, f"the server wrote nothing that begins with {start!r}"
            *lines, self._rest = (self._rest + os.read(self._fd, 65_536).decode()).split("\n")
            self._lines += lines

    def close(self) -> None:
        os.close(self._fd)


class Box:
    """Takes tools as a toolbox does; `changed` waits for them."""

    def __init__(self) -> None:
        self.tools: dict[str, dict[str, Tool]] = {}
        self.times = 0
        self._changed = threading.Condition()

    def set(self, source: str, tools: Sequence[Tool]) -> None:
        with self._changed:
            self.tools[source] = {tool.name: tool for tool in tools}
            self.times += 1
            self._changed.notify_all()

    def wait(self, times: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.times >= times, WAIT_S), f"tools came {self.times} times"

    def run(self, name: str, arguments: str = "{}", context: Call | None = None, *, source: str = "hand") -> str:
        tool = self.tools[source][name]
        return tool.run(tool.check(arguments), context or Call(name))


class Call(ToolContext):
    """The context of a call. told: its progress."""

    def __init__(self, name: str = "tool") -> None:
        self.told: queue.Queue[tuple[str, float | None, float | None]] = queue.Queue()
        super().__init__("call_1", name, facts=up.Facts, report=lambda *told: self.told.put(told))


class Running:
    """A call in a thread of its own."""

    def __init__(self, box: Box, name: str, arguments: str = "{}", *, source: str = "hand") -> None:
        self.context = Call(name)
        self.output = ""
        self.error: Exception | None = None
        self.ended_s = 0.0
        self._work = (box, name, arguments, source)
        self._thread = threading.Thread(target=self._run, name=f"call {name}")
        self._thread.start()

    def _run(self) -> None:
        box, name, arguments, source = self._work
        try:
            self.output = box.run(name, arguments, self.context, source=source)
        except Exception as error:
            self.error = error
        self.ended_s = time.monotonic()

    def wait(self) -> Running:
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive(), "the call does not end"
        return self


def ends(pid: int, within_s: float = 1.0) -> bool:
    """Whether a process has ended, or does so soon: what is killed needs a moment."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], within_s)[0])
    finally:
        os.close(fd)


def servers(box: Box, *specs: McpServerSpec, **more: Any) -> McpServers:
    return McpServers(specs, box.set, **more)
