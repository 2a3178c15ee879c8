"""session.json: what a session was, from its first moment on; versioned."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from realtime_client import updates as up
from realtime_client.deadline import Clock

from .folder import SESSION, iso, replace_file
from .masking import Masker

VERSION = 1
EVERY_S = 2.0
_LISTED = 1_000


class Summary:
    """Collects totals and writes session.json. Errors of the writing methods: OSError."""

    def __init__(self, folder: Path, settings: dict[str, Any], masker: Masker, clock: Clock) -> None:
        self.started_s = clock.monotonic()
        self._path = folder / SESSION
        self._masker = masker
        self._clock = clock
        self._written_s = self.started_s
        self._usage = up.Usage()
        self._transcription: dict[str, float] = {}
        self._data: dict[str, Any] = {
            "version": VERSION,
            "state": "running",
            "pid": os.getpid(),
            "folder": folder.name,
            "started": iso(clock.wall()),
            "ended": None,
            "duration_s": 0.0,
            "how_it_ended": None,
            "settings": settings,
            "session_id": None,
            "model": None,
            "session": None,
            "totals": {},
            "responses": {},
            "usage": {},
            "transcription_usage": {},
            "rate_limits": {},
            "errors": 0,
            "last_errors": [],
            "malformed": 0,
            "unknown": 0,
            "gaps": [],
            "stats": {},
        }

    def hear(self, update: up.Update, elapsed_s: float) -> None:
        """Take one update in; the kinds that do not count here are passed over."""
        data = self._data
        if isinstance(update, up.SessionStarted):
            data["session_id"], data["model"], data["session"] = update.session_id, update.model, update.settings
            self._close_gap(elapsed_s)
        elif isinstance(update, up.SessionChanged):
            data["session"] = update.settings
        elif isinstance(update, up.ResponseDone):
            data["responses"][update.status] = data["responses"].get(update.status, 0) + 1
            self._usage += update.usage or up.Usage()
        elif isinstance(update, up.UserTranscript):
            self._add_transcription(update.usage or {})
        elif isinstance(update, up.RateLimits):
            data["rate_limits"] = update.limits
        elif isinstance(update, up.Failure):
            self._failure(update, elapsed_s)
        elif isinstance(update, up.Malformed):
            data["malformed"] += 1
        elif isinstance(update, up.Unknown):
            data["unknown"] += 1
        elif isinstance(update, up.ConnectionLost) and len(data["gaps"]) < _LISTED:
            data["gaps"].append(
                {"from_s": round(elapsed_s, 3), "to_s": None, "code": update.code, "reason": update.reason}
            )

        elif isinstance(update, up.DeviceChanged) and update.gap_ms and len(data["gaps"]) < _LISTED:
            gap = {"from_s": round(elapsed_s - update.gap_ms / 1000, 3), "to_s": round(elapsed_s, 3)}
            data["gaps"].append({**gap, "direction": update.direction, "reason": update.reason})

    def count(self, *, turns: int, user_audio_s: float, assistant_audio_s: float) -> None:
        """Set the totals."""
        self._data["totals"] = {
            "turns": turns,
            "user_audio_s": round(user_audio_s, 3),
            "assistant_audio_s": round(assistant_audio_s, 3),
        }

    def due(self, at_s: float) -> bool:
        """Tell whether it is time to write again."""
        return at_s - self._written_s >= EVERY_S

    def write(self, at_s: float) -> None:
        """Replace session.json in one step."""
        self._written_s = at_s
        data = self._data
        data["duration_s"] = round(at_s - self.started_s, 3)
        data["usage"] = {name: getattr(self._usage, name) for name in up.Usage.__struct_fields__}
        data["transcription_usage"] = self._transcription
        masked = self._masker.value(msgspec.to_builtins(data, str_keys=True))
        replace_file(self._path, msgspec.json.format(msgspec.json.encode(masked), indent=2) + b"\n")

    def end(self, state: str, how: str, stats: dict[str, Any], notes: list[str], at_s: float) -> None:
        """Write it for the last time. state: `ended` or `failed`."""
        self._data.update(state=state, how_it_ended=how, stats=stats, ended=iso(self._clock.wall()))
        if notes:
            self._data["notes"] = notes
        self.write(at_s)

    def _failure(self, update: up.Failure, elapsed_s: float) -> None:
        if update.benign:
            return
        self._data["errors"] += 1
        kept = self._data["last_errors"]
        kept.append({"at_s": round(elapsed_s, 3), "code": update.code, "message": update.message[:500]})
        del kept[:-10]

    def _close_gap(self, elapsed_s: float) -> None:
        for gap in self._data["gaps"]:
            if gap["to_s"] is None:
                gap["to_s"] = round(elapsed_s, 3)

    def _add_transcription(self, usage: dict[str, Any]) -> None:
        for name, value in usage.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and len(self._transcription) < 64:
                self._transcription[name] = self._transcription.get(name, 0) + value
