"""A program that fetches something into a folder, watched by what it has written so far."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from realtime_client.deadline import Deadline
from realtime_client.errors import HostUnreachableError, ModelError

SILENCE_S = 300.0
_LOOK_EVERY_S = 0.1
_SAID_BYTES = 65_536

OnBytes = Callable[[int], object]


def run(
    command: Sequence[str],
    folder: Path,
    *,
    what: str,
    most_bytes: int,
    on_bytes: OnBytes,
    environ: Mapping[str, str],
    stop: threading.Event,
    silence_s: float = SILENCE_S,
) -> tuple[int, str]:
    """Run a program to its end; returns its exit code and the end of what it said.

    folder: where it writes, its temporary files, too. what: for messages. most_bytes: it is ended when it has written
    more. on_bytes: told how many there are, again and again. silence_s: it is ended when it writes nothing for so long.
    Errors: ModelError when it was ended; HostUnreachableError for its silence; OSError.
    """
    said = folder / "said"
    with (
        said.open("wb") as output,
        subprocess.Popen(  # noqa: S603  # our own words; names are bound by the manifest's patterns
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"TMPDIR": str(folder), **environ},
        ) as process,
    ):
        try:
            _watch(process, folder, what=what, most_bytes=most_bytes, on_bytes=on_bytes, stop=stop, silence_s=silence_s)
        finally:
            process.kill()  # does nothing to one that has ended
    with said.open("rb") as told:
        told.seek(max(0, told.seek(0, os.SEEK_END) - _SAID_BYTES))
        text = told.read().decode("utf-8", "replace")
    full = os.strerror(errno.ENOSPC) in text
    if not full and process.returncode:  # what it said of that may have found no room either
        full = shutil.disk_usage(folder).free < _SAID_BYTES
    if full:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    return process.returncode, text


def _watch(
    process: subprocess.Popen[bytes],
    folder: Path,
    *,
    what: str,
    most_bytes: int,
    on_bytes: OnBytes,
    stop: threading.Event,
    silence_s: float,
) -> None:
    """Wait for the end of the program."""
    seen, silence = -1, Deadline(silence_s)
    while process.poll() is None:
        if stop.wait(_LOOK_EVERY_S):
            raise ModelError(f"getting {what} was stopped")
        written = _bytes_in(folder)
        if written != seen:
            seen, silence = written, Deadline(silence_s)
            on_bytes(written)
        if written > most_bytes:
            raise ModelError(f"{what} is larger than the manifest says")
        if silence.expired:
            raise HostUnreachableError(f"{what}: nothing came for {silence_s:g} s")


def _bytes_in(folder: Path) -> int:
    """Return what the files of a folder take that others write, move and remove meanwhile."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118
            except OSError:
                continue
    return total
