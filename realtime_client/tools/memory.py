"""What people decided about tools and wanted remembered: a file in the user's config folder, shared by all commands."""

from __future__ import annotations

import json
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from realtime_client.deadline import Deadline
from realtime_client.home import user_folder
from realtime_client.lock import hold
from realtime_client.logs import Log

_log = Log("tools")
_VERSION = 1
_MOST = 1_000
_LONGEST_KEY = 512
_MOST_BYTES = 2 * _MOST * _LONGEST_KEY
_WAIT_S = 1.0
_LOOK_EVERY_S = 0.01


class Remembered(NamedTuple):
    """One decision. origin: where the tool is from. key: as `approval.key_of` makes it."""

    name: str
    origin: str
    approve: bool
    key: str


class UnreadableError(Exception):
    """The file is there, and is not what is written here; the message says why, on one line."""


class FileMemory:
    """Decisions in a file, newest last; see `approval.Memory`.

    At most 1,000 are kept, the oldest go first. A file that cannot be read is left as it is: a line says so once, and
    nothing is remembered. May be used from any thread, and by several programs at a time.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or user_folder("config") / "approvals.json"
        self._warned = False

    def get(self, key: str) -> bool | None:
        """What was decided about a tool; None for nothing."""
        try:
            return _read(self.path).get(key)
        except UnreadableError as error:
            self._warn(str(error))
            return None

    def put(self, key: str, *, approve: bool) -> None:
        """Remember a decision. A line says so if that cannot be."""

        def add(kept: dict[str, bool]) -> None:
            kept.pop(key, None)
            kept[key] = approve

        if len(key) > _LONGEST_KEY:
            _log.warning("a decision is not remembered: the tool's name is too long")
            return
        try:
            self._change(add)
        except UnreadableError as error:
            self._warn(str(error))
        except OSError as error:
            _log.warning(f"a decision is not remembered: {self.path} cannot be written ({error.strerror})")

    def all(self) -> list[Remembered]:
        """All decisions, the oldest first. Errors: UnreadableError."""
        return [_decision(key, approve) for key, approve in _read(self.path).items()]

    def forget(self, wanted: Callable[[Remembered], bool]) -> list[Remembered]:
        """Forget the decisions that are wanted so, and return them. Errors: UnreadableError; OSError."""
        gone: list[Remembered] = []

        def remove(kept: dict[str, bool]) -> None:
            gone.extend(each for key, approve in kept.items() if wanted(each := _decision(key, approve)))
            for each in gone:
                del kept[each.key]

        if self.all():
            self._change(remove)
        return gone

    def _change(self, how: Callable[[dict[str, bool]], None]) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _held(self.path.with_name(f".{self.path.name}.lock")):
            kept = _read(self.path)
            how(kept)
            while len(kept) > _MOST:
                del kept[next(iter(kept))]
            _write(self.path, {"version": _VERSION, "approvals": kept})

    def _warn(self, why: str) -> None:
        if not self._warned:
            self._warned = True
            _log.warning(f"{why}: nothing is remembered of what tools may do; correct or remove it")


def _decision(key: str, approve: bool) -> Remembered:  # noqa: FBT001  # as the file has it
    origin, name, _ = key.rsplit(" ", 2)
    return Remembered(name, origin, approve, key)


def _read(path: Path) -> dict[str, bool]:
    """Return what the file says; nothing where there is none. Errors: UnreadableError."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:  # of a pipe, at once
            is_file = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            data = file.read(_MOST_BYTES + 1) if is_file else b""
        found: Any = json.loads(data) if len(data) <= _MOST_BYTES else None
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        found = None
    kept = found.get("approvals") if isinstance(found, dict) and found.get("version") == _VERSION else None
    if not isinstance(kept, dict) or not all(_is_entry(key, approve) for key, approve in kept.items()):
        raise UnreadableError(f"{path} is not what this program writes there")
    return kept


def _is_entry(key: str, approve: object) -> bool:
    return isinstance(approve, bool) and key.count(" ") >= 2 and len(key) <= _LONGEST_KEY


def _write(path: Path, content: dict[str, Any]) -> None:
    """Write it in one step, for this user alone. Errors: OSError."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # its mode is 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
        Path(temporary).replace(path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108
        raise


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Be the only one who changes the file. Errors: OSError, also when another program holds it for long."""
    deadline = Deadline(_WAIT_S)
    while (lock := hold(path)) is None:
        if deadline.expired:
            raise OSError(None, "another program holds it")
        time.sleep(_LOOK_EVERY_S)
    try:
        yield
    finally:
        os.close(lock)
