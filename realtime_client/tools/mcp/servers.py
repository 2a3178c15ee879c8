"""The MCP servers of a session: one thread with an event loop in which all of them are kept."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Self

from realtime_client import logs
from realtime_client.deadline import NO_DEADLINE, Deadline
from realtime_client.errors import ClosedError, MissingExtraError, ShutdownError, TimeLimitError, UsageError
from realtime_client.escape import one_line

from .content import description
from .spec import McpServerSpec

if TYPE_CHECKING:
    from mcp_types import Tool as Offered

    from realtime_client.tools.tool import Tool

    from .http import Ways
    from .keeper import Keeper, Restarts

CLOSE_S = 5.0
LIST_S = 10.0
_LOAD_S = 60.0  # for the package itself, on a busy machine
_HANDED_ON = ("HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER")
"""Variables that every server is given: those that the `mcp` package takes for harmless."""
_LONGEST_SCHEMA = 65_536
_LONGEST_NAME = 256

log = logs.Log("tools")
Publish = Callable[[str, Sequence["Tool"]], object]


@dataclass(frozen=True)
class Listed:
    """A resource or a prompt of a server, printable. uri: '' for prompts; arguments: the names of a prompt's."""

    server: str
    name: str
    uri: str = ""
    description: str = ""
    mime_type: str = ""
    arguments: tuple[str, ...] = ()


class McpServers:
    """Keeps servers up while a session runs. All methods may be called from any thread.

    publish: called with a server's name and its tools when it is up and when they have changed, in the servers' thread:
    `Toolbox.set`. It must be quick. environ: where the variables come from that servers are given. ways: how those
    over HTTP are reached. restarts: of each server.
    """

    def __init__(
        self,
        specs: Iterable[McpServerSpec],
        publish: Publish,
        *,
        environ: Mapping[str, str] | None = None,
        ways: Ways | None = None,
        restarts: Restarts | None = None,
    ) -> None:
        self.specs = tuple(specs)
        self._publish = publish
        self._environ = os.environ if environ is None else environ
        self._ways = ways
        self._restarts = restarts
        self._lock = threading.Lock()
        self._closed = False
        self._ending = NO_DEADLINE
        self._open: set[Future[Any]] = set()
        self._started: Future[None] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._keepers: tuple[Keeper, ...] = ()
        self._environs: list[dict[str, str]] = []
        self._thread = threading.Thread(target=self._run, name="realtime-mcp", daemon=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def start(self) -> None:
        """Start all servers, side by side, and wait until each has told its tools, or one cannot be used.

        Errors: MissingExtraError; UsageError for a command or a variable that is not there; ConnectError and its kinds.
        Whatever it is, `close` is still due.
        """
        _require_mcp()
        environs = [_environ_of(spec, self._environ) for spec in self.specs]
        with self._lock:
            if self._closed:
                raise ClosedError("the MCP servers are closed")
            self._environs = environs
            self._thread.start()
        longest_s = max((spec.start_timeout_s for spec in self.specs), default=0.0) + CLOSE_S + _LOAD_S
        try:
            self._started.result(longest_s)
        except CancelledError:
            raise ClosedError("the MCP servers were closed while they started") from None
        except TimeoutError:
            raise TimeLimitError(f"the MCP servers did not start within {longest_s:g} s") from None

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """End all servers and the thread. Idempotent; a later call with less time hurries.

        Calls that are under way are cancelled. Errors: ShutdownError if the thread does not end in time.
        """
        with self._lock:
            self._closed = True
            self._ending = Deadline(timeout_s * 0.8)  # a server that is not gone by then is killed
            loop, main, started = self._loop, self._main, self._thread.ident is not None
            calls = tuple(self._open)
        for call in calls:
            call.cancel()
        if loop is not None and main is not None:
            with suppress(RuntimeError):  # its loop has ended
                loop.call_soon_threadsafe(main.cancel)
        if started and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                raise ShutdownError("the thread of the MCP servers did not end", threads=(self._thread.name,))
        self._started.cancel()

    def resources(self, timeout_s: float = LIST_S) -> tuple[Listed, ...]:
        """Ask all servers for their resources, templates of resources included. Errors: ToolError; TimeLimitError."""
        found = self._listed("resources", timeout_s) + self._listed("resource_templates", timeout_s)
        return tuple(_resource(server, each) for server, each in found)

    def prompts(self, timeout_s: float = LIST_S) -> tuple[Listed, ...]:
        """Ask all servers for their prompts. Errors: as for `resources`."""
        return tuple(_prompt(server, each) for server, each in self._listed("prompts", timeout_s))

    def _listed(self, kind: Any, timeout_s: float) -> list[tuple[str, Any]]:
        deadline = Deadline(timeout_s)
        futures = [(keeper.spec.name, self.submit(keeper.listed(kind))) for keeper in self._keepers]
        try:
            return [(name, each) for name, future in futures for each in future.result(deadline.remaining_s())]
        except TimeoutError:
            raise TimeLimitError(f"the MCP servers did not list their {kind} within {timeout_s:g} s") from None
        except CancelledError:
            raise ClosedError("the MCP servers are closed") from None
        finally:
            for _, future in futures:
                future.cancel()

    def submit(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Run a coroutine in the servers' event loop. Errors: ClosedError."""
        with self._lock:
            if self._closed or self._loop is None:
                work.close()
                raise ClosedError("the MCP servers are closed")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
            self._open.add(future)
        future.add_done_callback(self._done)
        return future

    def _done(self, future: Future[Any]) -> None:
        with self._lock:
            self._open.discard(future)

    def _run(self) -> None:
        from .faults import leaf

        try:
            asyncio.run(self._keep_all())
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001 - raised by start(), or told
            if self._started.done():
                log.warning("servers_failed", why=f"{type(error).__name__}: {one_line(str(error))}")
            else:
                self._started.set_exception(leaf(error))
        finally:
            self._started.cancel()

    async def _keep_all(self) -> None:
        import mcp  # noqa: F401 - takes a second or two, which are no server's

        from .http import Ways
        from .keeper import Keeper, Restarts

        with self._lock:
            self._loop, self._main = asyncio.get_running_loop(), asyncio.current_task()
            if self._closed:
                return
        self._keepers = tuple(
            Keeper(
                spec,
                environ,
                self._ways or Ways(),
                restarts=replace(self._restarts or Restarts()),
                on_tools=partial(self._tools_of, spec.name),
                ending=lambda: self._ending,
            )
            for spec, environ in zip(self.specs, self._environs, strict=True)
        )
        async with asyncio.TaskGroup() as tasks:
            for keeper in self._keepers:
                tasks.create_task(keeper.keep(), name=f"mcp {keeper.spec.name}")
            try:
                await asyncio.gather(*(keeper.started for keeper in self._keepers))
            except Exception:
                self._ending = Deadline(CLOSE_S)  # the others go
                raise
            self._started.set_result(None)
            await asyncio.Event().wait()

    def _tools_of(self, server: str, offered: Sequence[Offered]) -> None:
        """Publish the tools of a server."""
        from .tool import McpTool

        keeper = next(each for each in self._keepers if each.spec.name == server)
        fit = {each.name: each for each in reversed(offered) if _fits(server, each)}
        try:
            self._publish(server, [McpTool(each, keeper, self.submit) for each in reversed(fit.values())])
        except Exception as error:  # noqa: BLE001 - it must not take the server down
            log.warning("tools_not_taken", server=server, why=f"{type(error).__name__}: {one_line(str(error))}")


def _require_mcp() -> None:
    if find_spec("mcp") is None:
        raise MissingExtraError("mcp", "mcp")
    for name in ("mcp", "client"):  # or else Python itself writes its warnings to stderr, as the server worded them
        logging.getLogger(name).addHandler(logging.NullHandler())


def _environ_of(spec: McpServerSpec, environ: Mapping[str, str]) -> dict[str, str]:
    """Return what a server is given of the environment. Errors: UsageError."""
    missing = [name for name in spec.env if name not in environ]
    if missing:
        raise UsageError(f"MCP server {spec.name}: the variable {missing[0]}, which it is to be given, is not set")
    return {name: environ[name] for name in (*_HANDED_ON, *spec.env) if name in environ}


def _fits(server: str, offered: Offered) -> bool:
    """Whether a tool can be offered to a model at all."""
    import msgspec

    if not 0 < len(offered.name) <= _LONGEST_NAME:
        why = "its name is empty or too long"
    elif len(msgspec.json.encode(offered.input_schema)) > _LONGEST_SCHEMA:
        why = f"its schema is longer than {_LONGEST_SCHEMA:,} bytes"
    else:
        return True
    log.warning("tool_left_out", server=server, tool=one_line(offered.name, 80), why=why)
    return False


def _resource(server: str, each: Any) -> Listed:
    return Listed(
        server=server,
        name=one_line(each.name, 128),
        uri=one_line(getattr(each, "uri", "") or each.uri_template, 500),
        description=description(each.description or each.title, 500),
        mime_type=one_line(each.mime_type or "", 80),
    )


def _prompt(server: str, each: Any) -> Listed:
    return Listed(
        server=server,
        name=one_line(each.name, 128),
        description=description(each.description or each.title, 500),
        arguments=tuple(one_line(argument.name, 80) for argument in (each.arguments or ())[:50]),
    )
