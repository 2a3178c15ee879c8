"""What stands between the server's door and its faults: numbers connections, refuses them, makes the faulty ones."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Mapping
from functools import partial
from typing import Any

from realtime_client.client.stream import Stream
from realtime_client.deadline import Clock, Deadline
from realtime_client.local import wire
from realtime_client.local.gate import Admitted
from realtime_client.local.http import Refused, Request

from .connection import FaultyConnection, FaultyFraming
from .fault import Fault
from .plan import FaultBook, Plan
from .spec import Faults, checked, parse_faults
from .stream import FaultyStream

_log = logging.getLogger(__name__)
_CODES = {401: "invalid_api_key", 403: "invalid_api_key", 429: "rate_limit_exceeded"}


class FaultyDoor:
    """The faults of one server. faults: also as `parse_faults` takes them. Thread-safe."""

    def __init__(self, faults: Faults | str | Mapping[str, Any], clock: Clock) -> None:
        faults = checked(faults if isinstance(faults, Faults) else parse_faults(faults))
        self.book = FaultBook(faults.seeded())
        self._clock = clock
        self._lock = threading.Lock()
        self._ignored: set[Stream] = set()
        self._closing = False
        if faults.random:
            _log.info("faults by chance, with seed=%d", self.book.faults.seed)

    def stream(self, sock: socket.socket) -> Stream:
        """Return the stream of a client."""
        return FaultyStream(sock, self._clock)

    def admit(self, request: Request) -> Plan | None:
        """Return the plan of a handshake; None for another request."""
        asks = any(value.lower() == "websocket" for value in request.all("Upgrade"))
        return self.book.admit() if asks else None

    def refuse(self, stream: Stream, plan: Plan) -> Refused | bool:
        """Return the answer that a client gets in place of a session; False if it gets one. Errors: OSError.

        True once the client is gone whose handshake was to get no answer.
        """
        fault = plan.at_handshake()
        if fault is None:
            return False
        _log.info("connection %d: %s", plan.number, fault.told)
        if fault.do == "refuse":
            return _refusal(fault)
        with self._lock:
            if self._closing:
                return True
            self._ignored.add(stream)
        try:
            while stream.read(8192):
                pass
        finally:
            with self._lock:
                self._ignored.discard(stream)
        return True

    def shake_hands(
        self, stream: Stream, request: Request, admitted: Admitted, deadline: Deadline, plan: Plan
    ) -> wire.Connection | Refused:
        """As `wire.shake_hands`."""
        connect = partial(FaultyConnection, plan=plan, clock=self._clock)
        return wire.shake_hands(stream, request, admitted, deadline, framing=FaultyFraming(), connect=connect)

    def close(self) -> None:
        """Let those go that wait for nothing."""
        with self._lock:
            self._closing = True
            ignored = list(self._ignored)
        for stream in ignored:
            stream.cut()


def _refusal(fault: Fault) -> Refused:
    code = _CODES.get(fault.status, "server_error")
    message = fault.message or "Refused on demand."
    return Refused(status=fault.status, code=code, message=message, headers=fault.headers)
