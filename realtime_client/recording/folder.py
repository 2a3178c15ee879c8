"""The folder of one session: its name, its permissions, files that are replaced in one step."""

from __future__ import annotations

import os
import secrets
from datetime import UTC, datetime
from pathlib import Path

from realtime_client.errors import RecordingError

from .wav import create_private, write_all

TURNS = "turns"
RETRIEVED = "retrieved"
CONVERSATION = "conversation.wav"
JOURNAL = "journal.jsonl"
SESSION = "session.json"
TRANSCRIPT = "transcript"
_TRIES = 20


def iso(wall_s: float) -> str:
    """Return epoch seconds as ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def folder_name(wall_s: float) -> str:
    """Return for example `2026-11-20T14-50-02Z-7f3a`; the end is random."""
    return datetime.fromtimestamp(wall_s, UTC).strftime("%Y-%m-%dT%H-%M-%SZ-") + secrets.token_hex(2)


def make_folder(base_dir: Path, wall_s: float) -> Path:
    """Make a new folder of mode 0700 under `base_dir`, never one that exists. Errors: RecordingError."""
    try:
        base_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        for _ in range(_TRIES):
            folder = base_dir / folder_name(wall_s)
            try:
                folder.mkdir(mode=0o700)
            except FileExistsError:
                continue
            (folder / TURNS).mkdir(mode=0o700)
            return folder
    except OSError as error:
        raise RecordingError(
            f"cannot record into {base_dir}: {error.strerror or error} (another place: --record-dir; none: --no-record)"
        ) from error
    raise RecordingError(f"cannot record into {base_dir}: every folder name tried is taken")


def replace_file(path: Path, data: bytes) -> None:
    """Write a file of mode 0600 in one step: readers see the old or the new, never a part. Errors: OSError."""
    part = path.with_name(path.name + ".part")
    try:
        with create_private(part, new=False) as file:
            file.truncate(0)
            write_all(file, data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def audio_path(folder: Path, name: str) -> Path:
    """Return the path of audio that a journal names: the WAV, or the FLAC that replaced it.

    Errors: RecordingError for a name outside of the folder.
    """
    outside = name != CONVERSATION and name.partition("/")[0] not in {TURNS, RETRIEVED}
    if outside or ".." in name or name.count("/") > 1:
        raise RecordingError(f"the journal names an audio file outside of the recording: {name!r}")
    path = folder / name
    flac = path.with_suffix(".flac")
    return flac if not path.exists() and flac.exists() else path


def process_alive(pid: int) -> bool:
    """Tell whether a process of this number runs on this machine; True when that cannot be known."""
    if os.name == "nt" or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Tell whether a process is dead and was never waited for, as in containers whose first process waits for none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()  # proc(5): the state follows the name in brackets
    except OSError:
        return False
    return stat.rpartition(b")")[2].split()[:1] in ([b"Z"], [b"X"])
