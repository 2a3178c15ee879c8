"""The built-in server that a worker process has for itself: a server is one process and uses one core, as a worker."""

from __future__ import annotations

import atexit
import dataclasses
import threading
from typing import Any

from realtime_client.local.server_process import ServerProcess
from realtime_client.secret import Secret
from realtime_client.settings import FLAG, URLS, Settings


class OwnServer:
    """A built-in server that is there when it is needed, and again when it has died. It ends with this process.

    fast: answers come as fast as possible. ears: as of `local.shared_ears`.
    """

    def __init__(self, *, fast: bool, ears: str = "") -> None:
        self._server = ServerProcess(pace=0 if fast else 10, ears=ears)
        self._lock = threading.Lock()
        self._launched = self._ready = False

    @property
    def token(self) -> str:
        """What the server asks for."""
        return self._server.token

    def launch(self) -> None:
        """Begin its start, so that it is soon there."""
        if not self._launched:
            self._launched = True
            atexit.register(self._server.close)
        self._ready = False
        self._server.launch()

    def url(self) -> str:
        """Return where it is, once it is there. Errors: RealtimeError when it cannot be started."""
        with self._lock:
            if not self._server.running:
                self._server.close()
                self.launch()
            if not self._ready:
                self._server.wait_until_ready()
                self._ready = True
            return self._server.url


def at_server(settings: Settings, url: str, token: str) -> Settings:
    """Return the settings for a built-in server at `url`: no proxy, and no key but its token."""
    sources = {**settings.sources, "url": (FLAG, "built-in server")}
    own = without_keys(settings)
    return dataclasses.replace(own, url=url, token=Secret(token), local=False, proxy="none", sources=sources)


def without_keys(settings: Settings) -> Settings:
    """Return the settings without any key, for whoever needs none, and without URLs: a password may stand in them."""
    elsewhere: dict[str, Any] = dict.fromkeys(URLS)
    return dataclasses.replace(
        settings,
        token=None,
        api_key=None,
        azure_api_key=None,
        azure_ad_token=None,
        organization=None,
        project=None,
        **elsewhere,
    )
