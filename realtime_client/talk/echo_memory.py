"""What was measured and chosen for each pair of devices, kept in one small file of the user's state folder (0600)."""

from __future__ import annotations

from pathlib import Path

import msgspec

from realtime_client.audio.echo.loop_test import Advice
from realtime_client.errors import UsageError
from realtime_client.home import user_folder
from realtime_client.recording.folder import replace_file

_MOST_PAIRS = 100
_FILE = "echo.json"


class _Remembered(msgspec.Struct):
    """The file. Newest last; the oldest are forgotten when there are too many."""

    version: int = 1
    pairs: dict[str, Advice] = {}


def memory_path() -> Path:
    """Return where the file is, whether it exists or not."""
    return user_folder("state") / _FILE


def pair_name(output: str, input_: str) -> str:
    """Return the name under which a pair of devices is remembered."""
    return f"{output} > {input_}"


def recall(output: str, input_: str, path: Path | None = None) -> Advice | None:
    """Return what was chosen for this pair of devices; None if nothing was, or the file cannot be read."""
    return _load(path or memory_path()).pairs.get(pair_name(output, input_))


def remember(output: str, input_: str, advice: Advice, path: Path | None = None) -> Path:
    """Keep a choice; returns the file. Errors: UsageError when it cannot be written."""
    path = path or memory_path()
    known = _load(path)
    name = pair_name(output, input_)
    known.pairs.pop(name, None)
    known.pairs[name] = advice
    for old in list(known.pairs)[:-_MOST_PAIRS]:
        del known.pairs[old]
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(path, msgspec.json.format(msgspec.json.encode(known)) + b"\n")
    except OSError as error:
        raise UsageError(f"cannot remember the choice in {path}: {error.strerror or error}") from None
    return path


def _load(path: Path) -> _Remembered:
    """Read the file. A broken one counts as empty: it only holds what can be measured again."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Remembered)
    except (OSError, msgspec.MsgspecError, ValueError):
        return _Remembered()
