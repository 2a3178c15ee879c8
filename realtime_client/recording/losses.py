"""Lost connections: the gaps of session.json, the transcript's notes, and the words for people. Pure."""

from __future__ import annotations

from typing import Any

from realtime_client import updates as up

from .transcripts import Transcript
from .turns import Turn

_LONGEST = 500

Gap = dict[str, Any]
"""A gap of session.json; docs/recording.md describes its fields."""


def gap_of(lost: up.ConnectionLost, at_s: float) -> Gap:
    """Return the gap that begins with a loss, at_s after the start."""
    gap = {"from_s": round(at_s, 3), "to_s": None, "code": lost.code, "reason": lost.reason[:_LONGEST]}
    return gap | {"attempts": 0} if lost.goes_on else gap


def close_gap(gap: Gap, back: up.Restored, at_s: float) -> None:
    """The conversation goes on, at_s after the start."""
    gap |= {
        "to_s": round(at_s, 3),
        "away_ms": back.away_ms,
        "restored": {
            "told": back.told,
            "left_out": back.left_out,
            "refused": back.refused,
            "sent_late": len(back.sent_late),
            "unknown": len(back.unknown),
            "asked_again": back.asked_again is not None,
            "audio_ms": back.audio_ms,
        },
        "lost_audio_ms": back.lost_audio_ms,
    }


def give_up_gap(gap: Gap, lost: up.ConnectionLost) -> None:
    """No other connection was to be had."""
    gap["gave_up"] = lost.reason[:_LONGEST]


def words(gap: Gap) -> str:
    """Return what a gap of the connection was, on one line."""
    restored, why = gap.get("restored"), gap["reason"]
    if restored is None:
        gave_up = gap.get("gave_up")
        more = f"; it did not come back: {gave_up}" if gave_up and gave_up != why else ""
        return f"the connection was lost: {why}{more}"
    away_ms = gap["away_ms"]
    took = f"{away_ms / 1000:.1f} s" if away_ms >= 1_000 else f"{away_ms} ms"
    told = [f"the connection was lost for {took}: {why}", f"restored: {_entries(restored)}"]
    counts = ("sent_late", "sent late"), ("unknown", "with unknown fate")
    told += [f"{restored[name]} {what}" for name, what in counts if restored[name]]
    if restored["asked_again"]:
        told.append("the answer asked for again")
    if gap["lost_audio_ms"]:
        told.append(f"{gap['lost_audio_ms']} ms of sound lost")
    return "; ".join(told)


def _entries(restored: dict[str, int]) -> str:
    """How much of the conversation the new session knows."""
    told = f"{restored['told']} {'entry' if restored['told'] == 1 else 'entries'}"
    missing = [f"{restored[name]} {name.replace('_', ' ')}" for name in ("left_out", "refused") if restored[name]]
    return f"{told} ({', '.join(missing)})" if missing else told


class Connections:
    """Follows a session's connections. gaps: when there was none. totals: what session.json counts of it."""

    def __init__(self, most_gaps: int) -> None:
        self.gaps: list[Gap] = []
        self.totals: dict[str, int] = {}
        self._most = most_gaps
        self._open: Gap | None = None

    def take(self, update: up.Update, at_s: float) -> bool:
        """Take one update in, at_s after the start; returns whether it says something here."""
        if isinstance(update, up.ConnectionLost):
            self._lost(update, at_s)
        elif isinstance(update, up.Reconnecting):
            if self._open is not None:
                self._open["attempts"] = update.attempt
        elif isinstance(update, up.Restored):
            self._restored(update, at_s)
        else:
            return False
        return True

    def session_starts(self, at_s: float) -> None:
        """A session that knows nothing of the one before takes its place: its gaps are over."""
        self._open = None
        for gap in self.gaps:
            gap["to_s"] = round(at_s, 3) if gap["to_s"] is None else gap["to_s"]

    def _lost(self, update: up.ConnectionLost, at_s: float) -> None:
        if self._open is not None:
            if not update.goes_on:
                give_up_gap(self._open, update)
                self._open = None
            return
        gap = gap_of(update, at_s)
        self._open = gap if update.goes_on else None
        if len(self.gaps) < self._most:
            self.gaps.append(gap)

    def _restored(self, update: up.Restored, at_s: float) -> None:
        if self._open is not None:
            close_gap(self._open, update, at_s)
            self._open = None
        self._count("rollovers" if update.reason == "rollover" else "reconnects", 1)
        self._count("away_ms", update.away_ms)
        self._count("lost_audio_ms", update.lost_audio_ms)

    def _count(self, name: str, value: int) -> None:
        self.totals[name] = self.totals.get(name, 0) + value


class LossNotes:
    """Puts notes into a transcript: each stands where the connection was lost, and tells in the end what came of it."""

    def __init__(self, transcript: Transcript) -> None:
        self._transcript = transcript
        self._open: tuple[Gap, Turn] | None = None

    def lost(self, update: up.ConnectionLost, at_s: float) -> None:
        """The connection is lost, and another one is tried; or none was to be had."""
        if self._open is None and update.goes_on:
            gap = gap_of(update, at_s)
            self._open = gap, self._transcript.note(words(gap), at_s)
        elif self._open is not None and not update.goes_on:
            give_up_gap(self._open[0], update)
            self._tell(at_s)

    def restored(self, update: up.Restored, at_s: float) -> None:
        """The conversation goes on."""
        if self._open is not None:
            close_gap(self._open[0], update, at_s)
            self._tell(at_s)

    def _tell(self, at_s: float) -> None:
        assert self._open is not None
        (gap, turn), self._open = self._open, None
        self._transcript.note(words(gap), at_s, turn)
