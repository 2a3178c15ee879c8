"""Realtime voice and text conversations with AI models.

    import realtime_client

    with realtime_client.connect(local=True) as session:
        print(session.ask("What can you do?").text)

Names are loaded when they are first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import loader
from .version import __version__

if TYPE_CHECKING:
    from . import aio, errors, models, tools, updates
    from .audio.files import read_audio, write_audio
    from .audio.pcm import pcm16
    from .changes import Changes, ToolSpec
    from .chat.limits import ChatLimits
    from .chat.session import ChatSession
    from .client.client import RealtimeClient
    from .client.endpoint import Endpoint
    from .local import LocalServer
    from .opening import connect, connect_text
    from .protocol.session import RealtimeConfig, TranscriptionConfig
    from .session.answer import Answer
    from .session.limits import Limits, Recovery
    from .session.session import Sent, Session
    from .session.signals import signals
    from .session.stats import Stats
    from .session.subscription import Subscription
    from .settings import Settings, load_settings

_WHERE = {
    "write_audio": "audio.files",
    "read_audio": "audio.files",
    "Session": "session.session",
    "Sent": "session.session",
    "ToolSpec": "changes",
    "Changes": "changes",
    "Answer": "session.answer",
    "ChatLimits": "chat.limits",
    "ChatSession": "chat.session",
    "Endpoint": "client.endpoint",
    "Limits": "session.limits",
    "Recovery": "session.limits",
    "LocalServer": "local",
    "RealtimeClient": "client.client",
    "RealtimeConfig": "protocol.session",
    "Settings": "settings",
    "Stats": "session.stats",
    "Subscription": "session.subscription",
    "TranscriptionConfig": "protocol.session",
    "aio": "aio",
    "connect": "opening",
    "connect_text": "opening",
    "errors": "errors",
    "load_settings": "settings",
    "models": "models",
    "pcm16": "audio.pcm",
    "signals": "session.signals",
    "tools": "tools",
    "updates": "updates",
}

__all__ = [
    "Answer",
    "Changes",
    "ChatLimits",
    "ChatSession",
    "Endpoint",
    "Limits",
    "LocalServer",
    "RealtimeClient",
    "RealtimeConfig",
    "Recovery",
    "Sent",
    "Session",
    "Settings",
    "Stats",
    "Subscription",
    "ToolSpec",
    "TranscriptionConfig",
    "__version__",
    "aio",
    "connect",
    "connect_text",
    "errors",
    "load_settings",
    "models",
    "pcm16",
    "read_audio",
    "signals",
    "tools",
    "updates",
    "write_audio",
]


__getattr__ = loader(__name__, _WHERE)


def __dir__() -> list[str]:
    """The public names."""
    return __all__
