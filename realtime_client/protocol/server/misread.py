"""Server side: what is said about a frame that is no client message. Pure."""

from __future__ import annotations

import re

from realtime_client.protocol import events as ev

from .checks import Refusal, missing, unknown

_MISSING = re.compile(r"^Object missing required field `(\w+)`")
_UNKNOWN = re.compile(r"^Object contains unknown field `(.+?)`")
_PATH = re.compile(r" - at `\$\.?(.*)`$", re.DOTALL)
_KINDS = re.compile(r"^Expected `(.+?)`, got `(.+?)`")
_NAMES = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "a boolean",
    "object": "an object",
    "array": "an array",
    "null": "null",
}


def event_id_of(event: ev.ClientEvent | ev.UnknownEvent | ev.MalformedEvent) -> str | None:
    """The id that a client gave to what it sent, as far as it could be read."""
    if not isinstance(event, ev.UnknownEvent):
        return event.event_id
    found = event.data.get("event_id")
    return found if isinstance(found, str) else None


def misread(event: ev.UnknownEvent | ev.MalformedEvent) -> Refusal:
    """Return the refusal, whose param is the field at fault; None when it was no JSON, or no object."""
    if isinstance(event, ev.UnknownEvent):
        return Refusal(f"Invalid value: '{event.type[:80]}'. It is no client event.", param="type")
    if event.error == "no `type`":
        return missing("type")
    which = f"The message {event.type!r}" if event.type else "The message"
    return refusal_of(event.error) or Refusal(f"{which} could not be read: {event.error}")


def refusal_of(error: str, at: str = "") -> Refusal | None:
    """Return the refusal of what msgspec could not read; None when its words name no field.

    at: where what was read stands in the message, '' for all of it.
    """
    found = _PATH.search(error)
    path = ".".join(filter(None, (at, found[1] if found else "")))
    prefix = f"{path}." if path else ""
    if lacks := _MISSING.search(error):
        return missing(prefix + lacks[1])
    if stranger := _UNKNOWN.search(error):
        return unknown(prefix + stranger[1])
    if path and (kinds := _KINDS.search(error)):
        wanted, got = (" or ".join(_NAMES.get(kind, kind) for kind in told.split(" | ")) for told in kinds.groups())
        message = f"Invalid type for '{path}': expected {wanted}, but got {got} instead."
        return Refusal(message, code="invalid_type", param=path)
    if path:
        return Refusal(f"Invalid '{path}': {error[: found.start() if found else None]}.", param=path)
    return None
