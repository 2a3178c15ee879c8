"""Realtime voice and text conversations with AI models.

    import realtime_client

    with realtime_client.connect(local=True) as client:
        print(client.ask("What can you do?").text)

Names are loaded when they are first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import loader
from .version import __version__

if TYPE_CHECKING:
    from . import errors, updates
    from .audio.pcm import pcm16
    from .client.answer import Answer
    from .client.client import RealtimeClient
    from .client.endpoint import Endpoint
    from .client.limits import Limits
    from .client.signals import signals
    from .client.stats import Stats
    from .client.subscription import Subscription
    from .local import LocalServer
    from .opening import connect
    from .protocol.session import RealtimeSession, TranscriptionSession
    from .settings import Settings, load_settings

_WHERE = {
    "Answer": "client.answer",
    "Endpoint": "client.endpoint",
    "Limits": "client.limits",
    "LocalServer": "local",
    "RealtimeClient": "client.client",
    "RealtimeSession": "protocol.session",
    "Settings": "settings",
    "Stats": "client.stats",
    "Subscription": "client.subscription",
    "TranscriptionSession": "protocol.session",
    "connect": "opening",
    "errors": "errors",
    "load_settings": "settings",
    "pcm16": "audio.pcm",
    "signals": "client.signals",
    "updates": "updates",
}

__all__ = [
    "Answer",
    "Endpoint",
    "Limits",
    "LocalServer",
    "RealtimeClient",
    "RealtimeSession",
    "Settings",
    "Stats",
    "Subscription",
    "TranscriptionSession",
    "__version__",
    "connect",
    "errors",
    "load_settings",
    "pcm16",
    "signals",
    "updates",
]


__getattr__ = loader(__name__, _WHERE)


def __dir__() -> list[str]:
    """The public names."""
    return __all__
