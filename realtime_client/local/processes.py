"""Several local servers on one port, a process each: one process is one interpreter, and uses one core.

Linux shares out the clients (SO_REUSEPORT, socket(7)); elsewhere one process would get them all. A server that dies
takes its sessions with it; another takes its place, unless that does not even begin to listen.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from tempfile import TemporaryDirectory
from typing import Any, Self

from realtime_client.cores import usable_cores
from realtime_client.errors import RealtimeError, UsageError
from realtime_client.loopback import is_loopback

from .server_process import ServerProcess
from .shared_ears import shared_ears

CAN_SHARE_PORT = sys.platform == "linux"


class Servers:
    """A context manager of `count` server processes that share a port and ears. url: where they are reached.

    say: told in one line of a server that died, from any thread. on_failure: called when one cannot be replaced, and
    all are to end; the end of the block then raises why. options: of each, as `ServerProcess` takes them.
    """

    def __init__(
        self,
        count: int,
        host: str,
        port: int,
        *,
        say: Callable[[str], object],
        on_failure: Callable[[], object],
        **options: Any,
    ) -> None:
        self.url = ""
        self._error: RealtimeError | None = None
        self._held = ExitStack()
        self._count = count
        self._place = (host, port)
        self._say = say
        self._on_failure = on_failure
        self._options = options
        self._lock = threading.Lock()
        self._closing = False
        self._servers: dict[int, ServerProcess] = {}
        self._watchers: list[threading.Thread] = []

    def __enter__(self) -> Self:
        """Start them. Errors: UsageError where a port cannot be shared, or not this one; RealtimeError."""
        with ExitStack() as held:
            self._reserved = held.enter_context(_reserve(*self._place))
            self._options["ears"] = held.enter_context(shared_ears(usable_cores()))
            self._options["keys_in"] = held.enter_context(TemporaryDirectory(prefix="realtime-keys-"))
            held.callback(self._end)
            for number in range(self._count):
                self._launch(number)
            for number in range(self._count):
                self._servers[number].wait_until_ready()
            self.url = self._servers[0].url
            for number in range(self._count):
                watcher = threading.Thread(target=self._watch, args=(number,), name="realtime-serve-watch", daemon=True)
                self._watchers.append(watcher)
                watcher.start()
            self._held = held.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_exception: object) -> None:
        self._held.close()
        if self._error is not None and kind is None:
            raise self._error

    def _end(self) -> None:
        """End all of them."""
        with self._lock:
            self._closing = True
        servers = list(self._servers.values())
        for server in servers:
            server.ask_to_end()
        for server in servers:
            server.wait_or_kill()
        for watcher in self._watchers:
            watcher.join()
        for server in servers:
            server.close()

    @property
    def loopback(self) -> bool:
        """True when only this machine can reach them."""
        return is_loopback(self._place[0])

    def pids(self) -> list[int]:
        """The processes of the servers."""
        with self._lock:
            return [server.pid for server in self._servers.values()]

    def _launch(self, number: int) -> bool:
        """Begin the start of a server; False when all are to end."""
        host, port = self._place[0], self._reserved.getsockname()[1]
        with self._lock:
            if self._closing:
                return False
            server = ServerProcess(public=True, host=host, port=port, shared_port=True, **self._options)
            self._servers[number] = server
            server.launch()
            return True

    def _watch(self, number: int) -> None:
        """Replace a server that dies: a thread's whole life."""
        while True:
            server = self._servers[number]
            code = server.wait_for_its_end()
            if not self._launch(number):
                return
            ended = f"server process {server.pid} ended (exit code {code}) with its sessions"
            self._say(f"{ended}; another takes its place")
            server.close()
            try:
                self._servers[number].wait_until_ready()
            except RealtimeError as error:
                if not self._closing:
                    self._error = error
                    self._on_failure()
                return


def _reserve(host: str, port: int) -> socket.socket:
    """Take a port that others can share, without listening on it. Errors: UsageError."""
    if not CAN_SHARE_PORT:
        raise UsageError("only Linux shares out the clients of one port among processes: leave out --processes")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        if port:  # other servers that share theirs must not get a part of our clients: alone, for a moment
            socket.create_server((host, port), family=family).close()
        sock = socket.socket(family)
        with ExitStack() as failing:
            failing.callback(sock.close)
            for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):  # the first as `create_server` does: see there
                sock.setsockopt(socket.SOL_SOCKET, option, 1)
            sock.bind((host, port))
            failing.pop_all()
    except (OSError, OverflowError) as error:
        raise UsageError(f"cannot listen on {host} port {port}: {error}") from None
    return sock
