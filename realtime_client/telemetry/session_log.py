"""What the log says about a session: milestones at level info, every update at debug, trouble at warning."""

from __future__ import annotations

from typing import Any

import msgspec

from realtime_client import updates as up
from realtime_client.logs import Log
from realtime_client.session.session import Session

_LOUD: dict[type[up.Update], str] = {
    up.SessionStarted: "info",
    up.SessionEnded: "info",
    up.Interrupted: "info",
    up.Failure: "warning",
    up.Malformed: "warning",
    up.Notice: "warning",
    up.ConnectionLost: "warning",
    up.Reconnecting: "info",
    up.Restored: "info",
    up.AnswerSource: "info",
    up.BreakerChanged: "info",
}
_OF_CHAT = (up.AnswerSource, up.BreakerChanged)


class SessionLog:
    """An observer that logs. Of what people and models said, it logs sizes, not contents."""

    def __init__(self, session: Session, log: Log | None = None) -> None:
        self._session = session
        self._log = log or Log("session")
        self._chat = log or Log("chat")

    def observe(self, update: up.Update, _at_s: float) -> None:
        """Log an update."""
        if isinstance(update, up.ResponseDone):
            self._log.info(update.kind, **self._turn(update))
            return
        level = _LOUD.get(type(update))
        if isinstance(update, up.Failure) and update.benign:
            level = "info"
        if level is not None:
            getattr(self._chat if isinstance(update, _OF_CHAT) else self._log, level)(update.kind, **_fields(update))
        elif self._log.wants_debug:
            self._log.debug(update.kind, **_fields(update))

    def _turn(self, done: up.ResponseDone) -> dict[str, Any]:
        """The figures of a turn that is over."""
        figures = self._session.timings(done.response_id)
        fields = {"response_id": done.response_id, "status": done.status, "reason": done.reason, "error": done.error}
        if figures is not None:
            fields |= msgspec.to_builtins(figures)
        if done.usage is not None:
            fields["usage"] = msgspec.to_builtins(done.usage)
        return {name: value for name, value in fields.items() if value is not None}


def _fields(update: up.Update) -> dict[str, Any]:
    """The update's fields; long contents by their length, the session's settings left out."""
    fields: dict[str, Any] = {}
    for name in update.__struct_fields__:
        value = getattr(update, name)
        if name in ("settings", "data") or value is None:
            continue
        if isinstance(value, bytes) or (name in ("text", "arguments") and isinstance(value, str)):
            fields[f"{name}_length"] = len(value)
        elif name == "texts":
            fields["lengths"] = [len(text) for text in value]
        elif name in ("sent_late", "unknown"):
            fields[name] = len(value)
        elif isinstance(update, up.Restored) and name == "lost_audio":
            fields["lost_audio_ms"] = update.lost_audio_ms
        else:
            fields[name] = msgspec.to_builtins(value)
    return fields
