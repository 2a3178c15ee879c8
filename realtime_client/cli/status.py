"""The row at the bottom of a chat with sound: levels, who speaks, and what is going on. Pure."""

from __future__ import annotations

import msgspec

from realtime_client.escape import one_line

_BAR_CELLS = 5
_LEAST_DBFS, _STEP_DB = -50.0, 10.0
_NAME_CELLS = 16

Fragment = tuple[str, str]
"""A style name (`''`, `bar.you`, `bar.assistant`, `state`) and a text."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What the row shows.

    microphone, speaker: name of the device, None if there is none. microphone_dbfs, speaker_dbfs: peaks, -inf for
    silence. push_to_talk: None when the server ends turns, else whether the key is on. thinking: an answer is asked for
    and nothing of it is heard yet. away: there is no connection; what is said is kept until there is one.
    """

    microphone: str | None = None
    speaker: str | None = None
    microphone_dbfs: float = -96.0
    speaker_dbfs: float = -96.0
    user_speaks: bool = False
    assistant_speaks: bool = False
    thinking: bool = False
    muted: bool = False
    push_to_talk: bool | None = None
    away: bool = False


def bar(level_dbfs: float, *, cells: str = "#-") -> str:
    """Return a level as five cells: one for each 10 dB above -50 dBFS. cells: the full one and the empty one."""
    full = max(0, min(_BAR_CELLS, int((level_dbfs - _LEAST_DBFS) // _STEP_DB) + 1)) if level_dbfs > _LEAST_DBFS else 0
    return cells[0] * full + cells[1] * (_BAR_CELLS - full)


def who(status: Status) -> str:
    """Return who is speaking."""
    if status.user_speaks and status.assistant_speaks:
        return "both speak"
    if status.user_speaks:
        return "you speak"
    return "assistant speaks" if status.assistant_speaks else "nobody speaks"


def state(status: Status) -> str:
    """Return what the program does with the microphone, or that it waits for an answer, or for a connection."""
    if status.away:
        return _away(status)
    if status.microphone is None:
        return "thinking" if status.thinking else "no microphone"
    if status.muted:
        return "muted"
    if status.push_to_talk:
        return "talk, F2 ends"
    if status.thinking:
        return "thinking"
    return "listening" if status.push_to_talk is None else "F2 to talk"


def _away(status: Status) -> str:
    if status.microphone is None:
        return "no connection"
    if status.muted:
        return "no connection, muted"
    if status.push_to_talk is None:
        return "no connection, listening: words are kept"
    return f"no connection, {'talk, F2 ends: words are kept' if status.push_to_talk else 'F2 to talk'}"


def status_row(status: Status, columns: int, *, cells: str = "#-") -> list[Fragment]:
    """Return the row for so many columns; what matters less is left out of a narrow one."""
    for names, bars, speaking in ((True, True, True), (False, True, True), (False, True, False), (False, False, False)):
        fragments = _fragments(status, names=names, bars=bars, speaking=speaking, cells=cells)
        if sum(len(text) for _, text in fragments) <= columns:
            return fragments
    return [("state", state(status)[:columns])]


def _fragments(status: Status, *, names: bool, bars: bool, speaking: bool, cells: str) -> list[Fragment]:
    fragments: list[Fragment] = [("state", state(status))]
    if speaking:
        fragments += [("", " | "), ("", who(status))]
    if not bars:
        return fragments
    if status.microphone is not None:
        fragments += [("", " | mic "), ("bar.you", bar(status.microphone_dbfs, cells=cells))]
        fragments += [("", f" {_short(status.microphone)}")] if names else []
    if status.speaker is not None:
        fragments += [("", " | speaker "), ("bar.assistant", bar(status.speaker_dbfs, cells=cells))]
        fragments += [("", f" {_short(status.speaker)}")] if names else []
    elif names:
        fragments += [("", " | no speaker")]
    return fragments


def _short(name: str) -> str:
    """Return a device's name in at most 16 characters, of those that take one cell."""
    shown = "".join(c if c.isascii() else "?" for c in one_line(name))
    return shown if len(shown) <= _NAME_CELLS else shown[: _NAME_CELLS - 2].rstrip() + ".."
