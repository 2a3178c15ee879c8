"""A server that is a program of ours: started, spoken with over its stdin and stdout, and ended with all it started.

The `mcp` package has such a transport, too. This one bounds what a server can make it keep, hands on what the server
prints on stderr, and ends within the time that there is.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time
from asyncio.subprocess import Process, SubprocessStreamProtocol
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio

from realtime_client import logs
from realtime_client.deadline import NO_DEADLINE, Deadline
from realtime_client.errors import UsageError
from realtime_client.escape import one_line, shortened
from realtime_client.secret import Secrets

from .lines import Lines, Overlong
from .spec import McpServerSpec

if TYPE_CHECKING:
    from mcp.client._transport import TransportStreams

MOST_BYTES = 16 * 1024 * 1024
"""Longest message of a server that is read."""
GRACE_S = 1.0
"""How long a server may take to end after its stdin did, and after SIGTERM."""
_READ_BYTES = 65_536
_LONGEST_SAID = 4_096
_LOGGED_A_SECOND = 20
_EVERY_S = 0.01
_LAST_OUTPUT_S = 0.5  # a child of the server may hold its stdout open
_UNBLOCKED = (  # the signals that this program takes in a thread of its own are blocked here, and a child inherits that
    "import os,signal,sys;signal.pthread_sigmask(signal.SIG_SETMASK,());os.execvp(sys.argv[1],sys.argv[1:])"
)

log = logs.Log("tools")


class Said:
    """What a server printed that is no message: its last lines, and all of it, within reason, in the log.

    secrets: what it was given by name and may print.
    """

    def __init__(self, server: str, secrets: Iterable[str] = ()) -> None:
        self._server = server
        self._secrets = Secrets(secrets)
        self._last: deque[str] = deque(maxlen=3)
        self._second, self._logged = 0, Counter[str]()
        self._noisy = False
        self.exit_code: int | None = None

    @property
    def last(self) -> str:
        """The last lines, for one line of a message; '' for nothing."""
        return shortened(" / ".join(self._last), 400)

    def line(self, line: bytes | Overlong, *, stream: str) -> None:
        """Take a line. stream: where it was printed."""
        printed = (line.head if isinstance(line, Overlong) else line).decode("utf-8", "replace")
        text = one_line(self._secrets.text(printed))
        if not text:
            return
        self._last.append(text)
        if stream == "stdout" and not self._noisy:
            self._noisy = True
            log.warning("no_message", server=self._server, text=text, hint="only messages belong on its stdout")
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._logged = second, Counter[str]()
        self._logged[stream] += 1
        if self._logged[stream] <= _LOGGED_A_SECOND:
            log.info("server_printed", server=self._server, stream=stream, text=text)


class _Protocol(SubprocessStreamProtocol):
    """Tells when the process has ended, even if a child of it holds its pipes open."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=_READ_BYTES, loop=loop)
        self.exited = asyncio.Event()

    def process_exited(self) -> None:
        """Take note."""
        super().process_exited()
        self.exited.set()


@asynccontextmanager
async def stdio(
    spec: McpServerSpec, environ: Mapping[str, str], said: Said, ending: Callable[[], Deadline]
) -> AsyncIterator[TransportStreams]:
    """Start the server, and give its messages. environ: all that it is given. ending: until when it has to be gone.

    Errors: UsageError when it cannot be started.
    """
    program = _Program(*await _started(spec, environ), said)
    try:
        async with anyio.create_task_group() as tasks:
            for task in (program.read, program.write, program.listen):
                tasks.start_soon(task)
            try:
                yield program.incoming, program.outgoing
            finally:
                with anyio.CancelScope(shield=True):
                    program.incoming.close()
                    await program.end(ending)
                tasks.cancel_scope.cancel()
    finally:
        program.let_go()


async def _started(spec: McpServerSpec, environ: Mapping[str, str]) -> tuple[Process, asyncio.Event]:
    command, where = list(spec.command), spec.cwd or "."
    if fault := _fault(command[0], where, environ):
        raise UsageError(f"MCP server {spec.name}: {fault}")
    if signal.pthread_sigmask(signal.SIG_BLOCK, ()):
        command = [sys.executable, "-I", "-S", "-c", _UNBLOCKED, *command]
    loop = asyncio.get_running_loop()
    try:
        transport, protocol = await loop.subprocess_exec(
            lambda: _Protocol(loop), *command, env=dict(environ), cwd=where, start_new_session=True
        )
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"MCP server {spec.name}: {shortened(spec.command[0])} cannot be started: {why}") from None
    return Process(transport, protocol, loop), protocol.exited


def _fault(program: str, folder: str, environ: Mapping[str, str]) -> str:
    """Say why a program cannot be started; '' if it can."""
    if not os.path.isdir(folder):  # noqa: PTH112
        return f"there is no folder {shortened(folder)} to start it in"
    path = os.path.join(folder, program) if os.path.dirname(program) else program  # noqa: PTH118, PTH120
    if shutil.which(path, path=environ.get("PATH")) is None:
        return f"there is no program {shortened(program)} that could be started"
    return ""


class _Program:
    """A server that runs. incoming, outgoing: its messages, and those for it."""

    def __init__(self, process: Process, exited: asyncio.Event, said: Said) -> None:
        self._process = process
        self._exited = exited
        self._said = said
        self._heard, self.incoming = anyio.create_memory_object_stream[Any](0)
        self.outgoing, self._to_write = anyio.create_memory_object_stream[Any](0)

    async def read(self) -> None:
        """Hand on its messages until it has ended, or closed its stdout."""
        lines = Lines(MOST_BYTES)
        async with self._heard, anyio.create_task_group() as tasks:
            tasks.start_soon(self._stop_at_exit, tasks.cancel_scope)
            while data := await self._stdout.read(_READ_BYTES):
                for line in lines.feed(data):
                    await self._hand_on(line)
            for line in lines.end():
                await self._hand_on(line)
            tasks.cancel_scope.cancel()

    async def _stop_at_exit(self, reading: anyio.CancelScope) -> None:
        await self._exited.wait()
        await asyncio.sleep(_LAST_OUTPUT_S)
        reading.cancel()

    async def _hand_on(self, line: bytes | Overlong) -> None:
        """Hand on a message; once nobody takes it, it is let go, so that the server can go on to its end."""
        message = _message(line)
        if message is None:
            self._said.line(line, stream="stdout")
            return
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await self._heard.send(message)

    async def write(self) -> None:
        """Write messages to it until it takes no more."""
        stdin = self._process.stdin
        assert stdin is not None
        try:
            async for each in self._to_write:
                text: str = each.message.model_dump_json(by_alias=True, exclude_unset=True)
                stdin.write(text.encode("utf-8", "replace") + b"\n")
                await stdin.drain()
        except OSError:
            self._heard.close()  # it may live on, and will not answer

    async def listen(self) -> None:
        """Take what it prints on stderr."""
        stderr, lines = self._process.stderr, Lines(_LONGEST_SAID)
        assert stderr is not None
        while data := await stderr.read(_READ_BYTES):
            for line in lines.feed(data):
                self._said.line(line, stream="stderr")
        for line in lines.end():
            self._said.line(line, stream="stderr")

    async def end(self, ending: Callable[[], Deadline]) -> None:
        """End it and all that it started: its stdin ends, then SIGTERM, then SIGKILL."""
        stdin = self._process.stdin
        assert stdin is not None
        stdin.close()
        await self._gone(ending, whole=False)
        if self._signal(signal.SIGTERM) and not await self._gone(ending, whole=True):
            self._signal(signal.SIGKILL)
            await self._gone(lambda: NO_DEADLINE, whole=False)  # what is killed goes at once
        self._said.exit_code = self._process.returncode

    async def _gone(self, ending: Callable[[], Deadline], *, whole: bool) -> bool:
        """Wait for its end, not longer than for half of the time that is left. whole: for all that it started, too."""
        left_s = ending().remaining_s()
        grace = Deadline(GRACE_S if left_s is None else min(GRACE_S, left_s / 2))
        while self._process.returncode is None or (whole and self._signal(0)):
            if grace.expired or ending().expired:
                return False
            await asyncio.sleep(_EVERY_S)
        return True

    def _signal(self, which: int) -> bool:
        """Send a signal to all of its session; returns whether anybody is there."""
        try:
            os.killpg(self._process.pid, which)
        except ProcessLookupError:
            return False
        except PermissionError:  # macOS, of what has ended and is not collected yet
            return self._process.returncode is None
        return True

    def let_go(self) -> None:
        """Close the pipes, which a child of it may hold open, and the streams."""
        for stream in (self._heard, self.incoming, self.outgoing, self._to_write):
            stream.close()
        self._process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001  # nothing public closes it

    @property
    def _stdout(self) -> asyncio.StreamReader:
        assert self._process.stdout is not None
        return self._process.stdout


def _message(line: bytes | Overlong) -> Any:
    """Return a line as a message of the session; None if it is none."""
    from mcp.shared.message import SessionMessage
    from mcp_types import INTERNAL_ERROR, ErrorData, JSONRPCError, jsonrpc_message_adapter

    if isinstance(line, Overlong):
        if line.answers is None:
            return None
        why = f"the answer is too long: {line.size:,} bytes, and at most {MOST_BYTES:,} are read"
        return SessionMessage(
            JSONRPCError(jsonrpc="2.0", id=line.answers, error=ErrorData(code=INTERNAL_ERROR, message=why))
        )
    if not line.strip():
        return None
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError:
        return None
