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
    from .client.client import RealtimeClient
    from .client.endpoint import Endpoint
    from .local import LocalServer
    from .opening import connect
    from .protocol.session import RealtimeConfig, TranscriptionConfig
    from .session.answer import Answer
    from .session.limits import Limits
    from .session.signals import signals
    from .session.stats import Stats
    from .session.subscription import Subscription
    from .settings import Settings, load_settings

_WHERE = {
    "Answer": "session.answer",
    "Endpoint": "client.endpoint",
    "Limits": "session.limits",
    "LocalServer": "local",
    "RealtimeClient": "client.client",
    "RealtimeConfig": "protocol.session",
    "Settings": "settings",
    "Stats": "session.stats",
    "Subscription": "session.subscription",
    "TranscriptionConfig": "protocol.session",
    "connect": "opening",
    "errors": "errors",
    "load_settings": "settings",
    "pcm16": "audio.pcm",
    "signals": "session.signals",
    "updates": "updates",
}

__all__ = [
    "Answer",
    "Endpoint",
    "Limits",
    "LocalServer",
    "RealtimeClient",
    "RealtimeConfig",
    "Settings",
    "Stats",
    "Subscription",
    "TranscriptionConfig",
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
