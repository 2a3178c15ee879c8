"""session.json: what a session was, from its first moment on; versioned."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from realtime_client import updates as up
from realtime_client.deadline import Clock

from .folder import SESSION, iso, replace_file
from .losses import Connections
from .masking import Masker

VERSION = 2  # of the folder: with 2 came the words of updates in the journal
EVERY_S = 2.0
_LISTED = 1_000
_NAMES = 64
_LONGEST_NAME = 100
_LONGEST = 500
_NO_COUNT = 1e15  # seconds and tokens are fewer


class SessionSummary:
    """Collects totals and writes session.json. Errors of the writing methods: OSError."""

    def __init__(
        self, folder: Path, settings: dict[str, Any], masker: Masker, clock: Clock, continues: str = ""
    ) -> None:
        self.started_s = clock.monotonic()
        self._path = folder / SESSION
        self._masker = masker
        self._clock = clock
        self._written_s = self.started_s
        self.degraded = 0
        self.changed = False  # by what has to be written soon, though no turn is over
        self._connections = Connections(_LISTED)
        self._writes = False
        self._notes: list[str] = []
        self._usage = up.Usage()
        self._transcription: dict[str, float] = {}
        self._data: dict[str, Any] = {
            "version": VERSION,
            "state": "running",
            "pid": os.getpid(),
            "folder": folder.name,
            "continues": continues or None,
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
            "retries": {},
            "fallbacks": {},
            "breakers": {},
            "tools": {},
            "usage": {},
            "transcription_usage": {},
            "rate_limits": {},
            "errors": 0,
            "last_errors": [],
            "malformed": 0,
            "unknown": 0,
            "gaps": self._connections.gaps,
            "stats": {},
        }

    def hear(self, update: up.Update, elapsed_s: float) -> None:
        """Take one update in; the kinds that do not count here are passed over."""
        data = self._data
        if isinstance(update, up.SessionStarted):
            data["session_id"], data["model"] = update.session_id, update.facts.model
            data["session"] = self._masker.value(update.settings)
            self._writes = update.facts.in_writing
            self._connections.session_starts(elapsed_s)
        elif isinstance(update, up.SessionChanged):
            data["session"] = self._masker.value(update.settings)
            if update.facts.in_writing and not self._writes:  # text models go on with it
                self._writes = True
                _count(data["fallbacks"], data["model"] or "", 1)
        elif isinstance(update, up.ResponseDone):
            _count(data["responses"], update.status, 1)
            self._add_usage(update.usage or up.Usage())
        elif isinstance(update, up.UserTranscript):
            self._add_transcription(update.usage or {})
        elif isinstance(update, up.RateLimits):
            data["rate_limits"] = dict(list(update.limits.items())[:_NAMES])
        elif isinstance(update, up.Failure):
            self._failure(update, elapsed_s)
        elif isinstance(update, up.ToolFinished):
            _count(data["tools"], update.status, 1)
        elif isinstance(update, up.BreakerChanged):
            _set(data["breakers"], update.source, update.state)
        elif isinstance(update, up.Malformed):
            data["malformed"] += 1
        elif isinstance(update, up.Unknown):
            data["unknown"] += 1
        elif self._connections.take(update, elapsed_s):
            self.changed = True
        elif isinstance(update, up.DeviceChanged) and update.gap_ms and len(data["gaps"]) < _LISTED:
            gap = {"from_s": round(elapsed_s - update.gap_ms / 1000, 3), "to_s": round(elapsed_s, 3)}
            data["gaps"].append({**gap, "direction": update.direction, "reason": update.reason})

    def count(self, *, turns: int, user_audio_s: float, assistant_audio_s: float) -> None:
        """Set the totals."""
        self._data["totals"] = {
            "turns": turns,
            "user_audio_s": round(user_audio_s, 3),
            "assistant_audio_s": round(assistant_audio_s, 3),
            **self._connections.totals,
        }

    def due(self, at_s: float) -> bool:
        """Tell whether it is time to write again."""
        return at_s - self._written_s >= EVERY_S

    def write(self, at_s: float) -> None:
        """Replace session.json in one step."""
        self._written_s, self.changed = at_s, False
        data = self._data
        data["duration_s"] = round(at_s - self.started_s, 3)
        data["usage"] = {name: getattr(self._usage, name) for name in up.Usage.__struct_fields__}
        data["transcription_usage"] = self._transcription
        if self._notes:
            data["notes"] = self._notes
        if self.degraded:
            data["degraded"] = self.degraded
        masked = self._masker.value(msgspec.to_builtins(data, str_keys=True))
        replace_file(self._path, msgspec.json.format(msgspec.json.encode(masked), indent=2) + b"\n")

    def end(self, state: str, how: str, stats: dict[str, Any], notes: list[str], at_s: float) -> None:
        """Write it for the last time. state: `ended` or `failed`."""
        self._data.update(state=state, how_it_ended=how, stats=stats, ended=iso(self._clock.wall()))
        self._take_figures(stats)
        self._notes += notes
        self.write(at_s)

    def note(self, sentence: str) -> None:
        """Add what whoever looks at the recording should know."""
        self._notes.append(sentence)

    def _take_figures(self, stats: dict[str, Any]) -> None:
        """What the session itself has counted: also what answers took that were never shown."""
        usage = stats.get("usage")
        if isinstance(usage, dict) and usage.get("total_tokens", 0) > self._usage.total_tokens:
            self._usage = msgspec.convert(usage, up.Usage)
        for source, breaker in stats.get("text", {}).get("breakers", {}).items():
            _set(self._data["breakers"], source, breaker["state"])

    def _failure(self, update: up.Failure, elapsed_s: float) -> None:
        if update.benign:
            if update.source and update.action:
                counts = self._data["fallbacks" if update.action == "fallback" else "retries"]
                _count(counts, update.source, 1)
            return
        self._data["errors"] += 1
        kept = self._data["last_errors"]
        code = update.code and update.code[:_LONGEST]
        kept.append({"at_s": round(elapsed_s, 3), "code": code, "message": update.message[:_LONGEST]})
        del kept[:-10]

    def _add_usage(self, usage: up.Usage) -> None:
        if all(abs(getattr(usage, name)) < _NO_COUNT for name in usage.__struct_fields__):
            self._usage += usage

    def _add_transcription(self, usage: dict[str, Any]) -> None:
        for name, value in usage.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _NO_COUNT:
                _count(self._transcription, name, value)


def _set(table: dict[str, Any], name: str, value: str) -> None:
    """Set what is told of a name that comes from elsewhere, within the same bounds."""
    name = name[:_LONGEST_NAME]
    if name in table or len(table) < _NAMES:
        table[name] = value


def _count(counts: dict[str, Any], name: str, value: float) -> None:
    """Add to a figure that a server names: not to ever more of them, nor by names of any length."""
    name = name[:_LONGEST_NAME]
    if name in counts or len(counts) < _NAMES:
        counts[name] = counts.get(name, 0) + value
