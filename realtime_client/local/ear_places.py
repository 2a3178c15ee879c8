"""How many utterances are transcribed at a time on this machine: bounded over all programs of a user.

Each takes a core, and more of them at a time than there are cores to spare only make all of them late, and the sessions
with them. The places are files in the user's runtime folder, held by flock(2): the kernel lets go of them however a
process ends, so none is ever left taken.

    turn       whoever wants a place waits here; the kernel lets them in in the order in which they came
    0, 1, ...  the places; whoever has the turn waits for the first that is free, and then passes the turn on
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from realtime_client.cores import usable_cores
from realtime_client.logs import Log
from realtime_client.version import APP_NAME

try:
    import fcntl
except ImportError:  # Windows: every program for itself
    fcntl = None  # type: ignore[assignment]

_log = Log("ear")
_LOOK_S = 0.01


def ears_for(cores: int) -> int:
    """Return how many ears one program has for so many cores: half of them, for its sessions need the others."""
    return max(1, cores // 2)


@contextlib.contextmanager
def a_place() -> Iterator[None]:
    """Wait for a place, and hold it. Where there can be no such files, nobody waits."""
    with contextlib.ExitStack() as held:
        if fcntl is not None:
            try:
                _take(_folder(), usable_cores(), held)
            except OSError as error:
                _log.debug("programs of this user cannot take turns at listening", error=str(error))
        yield


def _take(folder: Path, count: int, held: contextlib.ExitStack) -> None:
    """Take one of the places, until `held` lets go of it. Errors: OSError."""
    with _file(folder / "turn") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        while True:
            for number in range(count):
                with contextlib.ExitStack() as tried:
                    place = tried.enter_context(_file(folder / str(number)))
                    with contextlib.suppress(BlockingIOError):
                        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        held.push(tried.pop_all())
                        return
            time.sleep(_LOOK_S)


@contextlib.contextmanager
def _file(path: Path) -> Iterator[int]:
    """Open a file for its lock, and let go of that at the end, also where a fork has a copy of it. Errors: OSError."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        yield file
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)
        os.close(file)


def _folder() -> Path:
    """Return the private folder that all programs of this user find, whatever their environment. Errors: OSError."""
    user = os.getuid()
    given = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    usual = Path(f"/run/user/{user}")
    if given.is_absolute():
        folder = given / APP_NAME
    else:
        folder = usual / APP_NAME if usual.is_dir() else Path(tempfile.gettempdir()) / f"{APP_NAME}-{user}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != user or found.st_mode & 0o022:
        raise PermissionError(f"{folder} is not this user's alone")
    return folder
