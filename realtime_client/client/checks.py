"""Judging messages of the protocol that callers hand in, in the call."""

from __future__ import annotations

from realtime_client.errors import UsageError
from realtime_client.protocol.codec import decode_client, encode
from realtime_client.protocol.events import ClientEvent, MalformedEvent, UnknownEvent
from realtime_client.session.arguments import check_json


def check_event(event: ClientEvent, what: str) -> None:
    """Refuse a message that no server could read: the wrong kind in a field, or what JSON cannot say.

    Errors: UsageError.
    """
    check_json(event, what)
    read = decode_client(encode(event))
    if isinstance(read, MalformedEvent | UnknownEvent):
        problem = read.error if isinstance(read, MalformedEvent) else "it is no message of the protocol"
        raise UsageError(f"{what} cannot be sent: {problem}")
