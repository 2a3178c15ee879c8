"""The built-in local server in a process of its own, so that it does not take time from the sessions that it serves."""

from __future__ import annotations

import gc
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
from types import TracebackType
from typing import Any, Self

from realtime_client.errors import RealtimeError

START_S = 60.0
SWITCH_S = 0.02  # as in the workers of a run, for the same reason
_END_S = 2.0  # it has nothing to finish, and a busy ear may keep it from noticing that it is to end
_HEAD = "import json, sys; config = json.loads(sys.stdin.readline()); sys.path[:] = config.pop('path')"
_CODE = f"{_HEAD}; from realtime_client.local.server_process import serve; serve(**config)"


class ServerProcess:
    """A `LocalServer` on loopback with a token of its own, in a process that ends with this one, however that ends.

    max_sessions: most sessions at a time. pace: how much faster than real time answers come, 0 for as fast as possible.
    token: default a random one. quiet: what it logs is not shown. A context manager; `url` and `token` are what clients
    need.
    """

    def __init__(
        self, *, max_sessions: int = 1_000, pace: float = 10.0, token: str | None = None, quiet: bool = False
    ) -> None:
        self.token = token or secrets.token_urlsafe(16)
        self.url = ""
        self._config: dict[str, Any] = {"max_sessions": max_sessions, "pace": pace, "token": self.token}
        self._quiet = quiet
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """True while the process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and wait until it listens. Errors: RealtimeError when it does not."""
        # The token goes through the pipe: arguments and environment can be read by others.
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and program
            [sys.executable, "-P", "-c", _CODE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if self._quiet else None,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        timer = threading.Timer(START_S, self._process.kill)
        timer.name = "realtime-server-start"
        timer.start()
        try:
            self._process.stdin.write(json.dumps({"path": sys.path, **self._config}) + "\n")
            self._process.stdin.flush()
            self.url = self._process.stdout.readline().strip()
        except OSError:
            self.url = ""
        finally:
            timer.cancel()
            timer.join()
        if not self.url:
            self.close()
            raise RealtimeError("the built-in local server could not be started in a process of its own")

    def close(self) -> None:
        """End it; idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.close()  # this is how it learns that it is to end
        except OSError:
            process.kill()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def serve(*, token: str, max_sessions: int, pace: float) -> None:
    """Serve until standard input ends; what runs in the server's process."""
    from realtime_client.local import LocalServer

    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)  # the parent decides
    server = LocalServer(token=token, max_sessions=max_sessions, pace=pace)
    server.start()
    sys.setswitchinterval(SWITCH_S)
    gc.freeze()  # a full collection stops all sessions; it need not also look through the modules
    try:
        print(server.url, flush=True)  # noqa: T201 - the parent reads it
        sys.stdin.read()
    except OSError:
        os._exit(1)  # the parent was killed in the meantime
    os._exit(0)  # whoever was connected is gone, or about to go
