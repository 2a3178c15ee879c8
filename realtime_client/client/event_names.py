"""The types of the server's messages, by name alone: for those who only look for one and never read it."""

from __future__ import annotations

from realtime_client.protocol.events import SERVER_EVENTS

SERVER_EVENT_NAMES: tuple[str, ...] = tuple(str(cls.__struct_config__.tag) for cls in SERVER_EVENTS)
"""As `Session.observe_events` tells them."""
