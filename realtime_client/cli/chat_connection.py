"""The connection of a chat: what is shown while there is none, and how to have another one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from realtime_client import updates as up
from realtime_client.cli.outage import EVERY_S, Outage
from realtime_client.cli.screen import Screen
from realtime_client.deadline import Clock
from realtime_client.errors import UsageError
from realtime_client.escape import one_line
from realtime_client.session.session import Session

HELP = """\
  .reconnect     go on over a new connection; while there is none, try at once
"""
_PIN = "connection"


class ChatConnection:
    """What a chat has of its connection. `take` is called in the session's audio thread, the rest in the screen's."""

    def __init__(self, session: Session, screen: Screen, clock: Clock) -> None:
        self._session = session
        self._screen = screen
        self._outage = Outage(screen.notice, self._keep, clock)
        self._reconnecting: threading.Thread | None = None

    @property
    def away(self) -> bool:
        """Whether there is no connection, and another one is tried."""
        return self._outage.away

    @property
    def help(self) -> str:
        """The lines that list the command, where there is a connection that stays."""
        return HELP if self._reconnect is not None else ""

    @property
    def _reconnect(self) -> Callable[[], object] | None:
        """What reconnects; None for sessions that have nothing of the kind."""
        return getattr(self._session, "reconnect", None)

    # What is shown

    def take(self, update: up.Update) -> None:
        """Show what became of the connection."""
        self._outage.take(update)

    def typed(self) -> None:
        """Something was said in writing."""
        if self.away:
            self._screen.aside("[will be sent once there is a connection]")

    def _keep(self, text: str | None) -> None:
        if text is None:
            self._screen.unpin(_PIN)
        else:
            self._screen.pin(_PIN, text, every_s=EVERY_S)

    # What the person says

    def command(self, _rest: str) -> None:
        """Do `.reconnect`, in a thread of its own: it waits for the network. Errors: UsageError."""
        if self._reconnect is None:
            raise UsageError(f"{self._session.model or 'this model'} is asked over a new connection each time")
        if self._reconnecting is not None and self._reconnecting.is_alive():
            raise UsageError("a new connection is being tried already")
        self._screen.notice("[trying at once]" if self.away else "[a new connection is being made]")
        call: Any = self._reconnect
        self._reconnecting = threading.Thread(target=self._try, args=(call,), name="realtime-again", daemon=True)
        self._reconnecting.start()

    def _try(self, reconnect: Callable[[], object]) -> None:
        try:
            reconnect()
        except Exception as error:  # noqa: BLE001  # shown: where the session cannot go on, its end says so
            self._screen.notice(f"[no new connection: {one_line(str(error))}]")
