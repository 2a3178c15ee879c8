"""Finding the recording that is meant among those in a folder: by name, by a part of one, or by its session's id."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from realtime_client.errors import UsageError
from realtime_client.escape import one_line

from .folder import JOURNAL, SESSION, TRANSCRIPT, process_alive

_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ-")
_LARGEST_INFO = 1 << 24
_LISTED = 5


def recordings(base: Path) -> list[Path]:
    """Return the recordings in a folder, the newest first; none where there is no such folder.

    The name says how old one is; those that were renamed follow, by when they were last changed.
    """
    try:
        found = [folder for folder in base.iterdir() if is_recording(folder)]
    except OSError:
        return []
    return sorted(found, key=_age, reverse=True)


def is_recording(folder: Path) -> bool:
    """Whether a folder holds what was said in a session."""
    return any((folder / name).is_file() for name in (JOURNAL, f"{TRANSCRIPT}.jsonl"))


def _age(folder: Path) -> tuple[bool, str, float]:
    named = _STAMP.match(folder.name) is not None
    try:
        changed_s = folder.stat().st_mtime
    except OSError:
        changed_s = 0.0
    return named, folder.name[:20] if named else "", changed_s


def info_of(folder: Path) -> dict[str, Any]:
    """Return what session.json says; {} when that cannot be read."""
    try:
        with (folder / SESSION).open("rb") as file:
            info = msgspec.json.decode(file.read(_LARGEST_INFO))
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    return info if isinstance(info, dict) else {}


def goes_on(folder: Path) -> bool:
    """Whether a session is still being recorded."""
    info = info_of(folder)
    pid = info.get("pid")
    return info.get("state") == "running" and isinstance(pid, int) and pid.bit_length() < 32 and process_alive(pid)


def find(which: str, base: Path) -> Path:
    """Return the one recording that is meant: a folder, a name in `base`, its beginning or end, or a session's id.

    A name wins over a path, the whole of one over its beginning. Errors: UsageError where it is none, or several.
    """
    if not which.strip():
        raise UsageError("go on with which session? Its name is empty")
    known = recordings(base)
    shown = one_line(which, 200)
    for each in known:
        if each.name == which:
            return each
    try:
        folder = Path(which).expanduser()
        if folder.is_dir():
            if is_recording(folder):
                return folder
            raise UsageError(f"{shown} is not a recording: neither {JOURNAL} nor {TRANSCRIPT}.jsonl is in it")
    except (OSError, RuntimeError, ValueError):  # no name of a file, or of a user
        pass
    fits = _fitting(which, known)
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise UsageError(f"{len(fits)} recordings are called {shown}...: {_listed(fits)}")
    there = f"there are {_listed(known)}" if known else "there is none"
    raise UsageError(f"there is no recording {shown} in {base}; {there}")


def _fitting(which: str, known: list[Path]) -> list[Path]:
    """The recordings whose names begin so, or end so after the time; else those of sessions whose ids begin so."""
    fits = [each for each in known if each.name.startswith(which) or each.name.endswith(f"-{which}")]
    return fits or [each for each in known if str(info_of(each).get("session_id") or "").startswith(which)]


def _listed(folders: list[Path]) -> str:
    names = ", ".join(one_line(each.name, 60) for each in folders[:_LISTED])
    more = len(folders) - _LISTED
    return f"{names} and {more} more" if more > 0 else names
