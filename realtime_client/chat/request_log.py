"""What log and journal keep of requests to text models: whom and how much, never what."""

from __future__ import annotations

from typing import Any

import msgspec

from realtime_client import updates as up
from realtime_client.session.observers import RecorderProtocol

from .orders import Begin
from .place import Place
from .wires.ask import HttpRequest
from .wires.faults import Fault


def request_fields(command: Begin, place: Place, request: HttpRequest) -> dict[str, Any]:
    """Return what the log says of a request."""
    ask = command.ask
    told = {"stream": command.stream, "source": place.name, "host": place.host, "path": request.path.partition("?")[0]}
    return told | {"streaming": ask.stream, "entries": len(ask.entries), "bytes": len(request.body)}


def fault_fields(fault: Fault) -> dict[str, Any]:
    """All but its words, which may repeat what was said."""
    fields: dict[str, Any] = msgspec.to_builtins(fault)
    return {name: value for name, value in fields.items() if name not in ("message", "hint") and value is not None}


def record_sent(summary: bytes, recorder: RecorderProtocol, at_s: float) -> None:
    """Give the recorder what the journal keeps of a request."""
    recorder.sent(summary, (), (up.RequestSent(),), at_s)


def summary(command: Begin, place: Place, request: HttpRequest) -> bytes:
    """Return what the journal keeps of a request. Each repeats the whole conversation, which stands there already."""
    ask = command.ask
    return msgspec.json.encode(
        {
            "type": "request",
            "model": place.name,
            "path": request.path,
            "entries": len(ask.entries),
            "bytes": len(request.body),
            "stream": ask.stream,
            "without": sorted(ask.without),
        }
    )
