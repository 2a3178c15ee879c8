"""The built-in local server in a process of its own, so that it does not take time from the sessions that it serves."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from realtime_client.errors import RealtimeError
from realtime_client.secret import Secret
from realtime_client.settings import Settings
from realtime_client.settings.providers import brains

if TYPE_CHECKING:
    from .parts import Parts

START_S = 60.0
SWITCH_S = 0.02  # as in the workers of a run, for the same reason
_END_S = 2.0  # it has nothing to finish, and a busy ear may keep it from noticing that it is to end
_POLITE_END_S = 8.0  # beyond what `LocalServer.close` takes
_HEAD = "import json, sys; config = json.loads(sys.stdin.readline()); sys.path[:] = config.pop('path')"
_CODE = f"{_HEAD}; from realtime_client.local.server_process import serve; serve(**config)"


class ServerProcess:
    """A `LocalServer` in a process that ends with this one, however that ends; on loopback unless told otherwise.

    token: default a random one. quiet: what it logs is not shown. public: it is one that other programs use, so the
    token is theirs to give, and at the end the sessions get a close frame. options: `max_sessions`, `pace`, and what
    else `serve` takes. A context manager; `url` and `token` are what clients need.
    """

    def __init__(self, *, token: str | None = None, quiet: bool = False, public: bool = False, **options: Any) -> None:
        self.token = token or ("" if public else secrets.token_urlsafe(16))
        self.url = ""
        self._config: dict[str, Any] = {**options, "token": self.token or None, "polite": public}
        self._end_s = _POLITE_END_S if public else _END_S
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
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """Start it, without waiting: the caller has other things to do until it listens."""
        self._process = process = subprocess.Popen(  # noqa: S603 - our own interpreter and program
            [sys.executable, "-P", "-c", _CODE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if self._quiet else None,
            text=True,
        )
        assert process.stdin is not None
        # The token goes through the pipe: arguments and environment can be read by others.
        with contextlib.suppress(OSError):  # then it says no URL, either
            process.stdin.write(json.dumps({"path": sys.path, **self._config}) + "\n")
            process.stdin.flush()

    def wait_until_ready(self) -> None:
        """Wait until it listens. Errors: RealtimeError when it does not."""
        process = self._process
        assert process is not None
        assert process.stdout is not None
        timer = threading.Timer(START_S, process.kill)
        timer.name = "realtime-server-start"
        timer.start()
        self.url = process.stdout.readline().strip()
        timer.cancel()
        timer.join()
        if not self.url:
            self.close()
            raise RealtimeError("the built-in local server could not be started in a process of its own")

    def wait_for_its_end(self) -> int:
        """Wait until the process is over; returns its exit code. For a thread that has nothing else to do."""
        process = self._process
        assert process is not None
        return process.wait()

    def ask_to_end(self) -> None:
        """Tell it to end, without waiting."""
        process = self._process
        if process is not None and process.stdin is not None:
            try:
                process.stdin.close()  # this is how it learns of it
            except OSError:
                process.kill()

    def wait_or_kill(self) -> None:
        """Wait until it has ended as asked; kill it when it does not."""
        process = self._process
        if process is not None:
            try:
                process.wait(self._end_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def close(self) -> None:
        """End it; idempotent."""
        self.ask_to_end()
        self.wait_or_kill()
        process, self._process = self._process, None
        if process is not None:
            assert process.stdout is not None
            process.stdout.close()


def serve(
    *,
    polite: bool = False,
    ears: str = "",
    brain: dict[str, Any] | None = None,
    log: dict[str, Any] | None = None,
    **options: Any,
) -> None:
    """Serve until standard input ends; what runs in the server's process.

    polite: sessions get a close frame at the end. ears: where ears that several servers share are reached. brain: the
    settings of a text model, as `brain_values` gives them. log: as of `logs.configured`; None for Python's own.
    options: those of `LocalServer`.
    """
    from realtime_client import logs
    from realtime_client.local import LocalServer

    for name in ("SIGINT", "SIGHUP", *(["SIGTERM"] if polite else [])):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)  # the parent decides
    with ExitStack() as stack:
        if log is not None:
            token = options.get("token")
            file = Path(log["file"]) if log["file"] else None
            stack.enter_context(logs.configured(**{**log, "file": file}, secrets=(token,) if token else ()))
        server = LocalServer(**options, parts=_parts(ears, brain))
        server.start()
        sys.setswitchinterval(SWITCH_S)
        gc.freeze()  # a full collection stops all sessions; it need not also look through the modules
        try:
            print(server.url, flush=True)  # noqa: T201 - the parent reads it
            sys.stdin.read()
            if polite:
                server.close()
        except (OSError, RealtimeError):
            os._exit(1)  # the parent was killed in the meantime, or a session does not end
        os._exit(0)  # whoever was connected is gone, or about to go


def brain_values(settings: Settings) -> dict[str, Any] | None:
    """Return what another process needs to make the same text model of; None where there is none.

    Errors: UsageError for one that cannot be asked, before a process is started for it.
    """
    if not brains(settings):
        return None
    return {name: _plain(settings.value(name)) for name in settings.sources}


def _plain(value: Any) -> Any:
    if isinstance(value, Secret):
        return value.reveal()
    return value if isinstance(value, bool | int | float) else str(value)


def _parts(ears: str, brain: dict[str, Any] | None) -> Parts:
    from .parts import Parts

    given: dict[str, Any] = {}
    if ears:
        from .shared_ears import SharedEar

        given["ear"] = SharedEar(ears)
    if brain is not None:
        from .text_brain import TextBrain

        given["brain"] = TextBrain.of(**brain)
    return Parts(**given)
