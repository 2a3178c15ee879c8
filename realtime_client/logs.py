"""Logs: structlog to stderr or to a file, for people or as JSON lines, without secrets and without audio.

A module logs with `log = logs.Log("client")` and `log.info("connected", rtt_ms=4.2)`. Nothing is imported but the
standard `logging` until the first line is rendered under `configured`, which the command line uses; a program that uses
this package as a library gets the same events as ordinary records of the logger `realtime_client`.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from realtime_client.errors import UsageError
from realtime_client.escape import printable
from realtime_client.secret import Secrets, names_secret

ROOT = "realtime_client"
LEVELS = ("debug", "info", "warning", "error")
ROOMS = ("audio", "chat", "ear", "recorder", "run", "session", "settings", "sound", "tools")
"""The parts of the package that log, by the names that `Log` is made with."""
_OWN = {"event", "level", "logger", "timestamp", "kind", "type", "status", "role"}
_SECRET_VALUES = re.compile(r"(?i)\b(?:sk|ek|sess_key)[-_][\w-]{8,}|\bbearer\s+\S+|insecure-api-key\.\S+")
_LONG_BASE64 = re.compile(r"[A-Za-z0-9+/=_-]{120,}")
_LONGEST = 2_000
_DEEPEST = 50
logging.getLogger(ROOT).addHandler(logging.NullHandler())  # or else Python itself writes a library's warnings to stderr


class Log:
    """Logger of one part of the package. Fields are keyword arguments; secrets and audio in them are dropped."""

    __slots__ = ("_logger",)

    def __init__(self, part: str) -> None:
        self._logger = logging.getLogger(f"{ROOT}.{part}")

    @property
    def wants_debug(self) -> bool:
        """Whether debug lines are written at all; if not, their fields need not be made."""
        return self._logger.isEnabledFor(logging.DEBUG)

    def debug(self, event: str, **fields: Any) -> None:
        """Log what only a developer wants to know."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Log a step of normal work."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Log what went wrong and was dealt with."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Log what went wrong."""
        self._write(logging.ERROR, event, fields)

    def _write(self, level: int, event: str, fields: dict[str, Any]) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, extra={"fields": fields})


def scrub(value: Any, secrets: tuple[str, ...] = ()) -> Any:
    """Return `value` without keys, audio or long encoded data, at any depth. secrets: values known to be secret.

    Short ones are masked where a secret can stand (see `secret`); names are not masked, nor what the line itself says:
    its event, level, logger and time.
    """
    return _scrub(value, Secrets(secrets), "", 0)


def _scrub(value: Any, secrets: Secrets, name: str, depth: int) -> Any:
    if isinstance(value, str):
        return _scrub_text(value, secrets, name)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, Mapping | list | tuple | set | frozenset) and depth >= _DEEPEST:
        return "<nested too deeply>"
    if isinstance(value, Mapping):
        return {
            str(key): "***" if names_secret(str(key)) and item else _scrub(item, secrets, str(key), depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_scrub(item, secrets, name, depth + 1) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return _scrub_text(str(value), secrets, name)


def _scrub_text(text: str, secrets: Secrets, name: str) -> str:
    text = secrets.structure(text) if name in _OWN or name.endswith("_id") else secrets.text(text)
    text = _SECRET_VALUES.sub("***", text)
    text = _LONG_BASE64.sub(lambda found: f"<{len(found[0])} characters>", text)
    text = printable(text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}<{len(text) - _LONGEST} more>"


def levels(text: str) -> tuple[str, dict[str, str]]:
    """Read levels: LEVEL or ROOM=LEVEL, several with commas; returns the level of all other rooms, then those by room.

    Errors: ValueError with the end of a sentence: "the value X ...".
    """
    least, rooms = "", dict[str, str]()
    for entry in text.split(","):
        room, equals, level = (part.strip() for part in entry.rpartition("="))
        if level not in LEVELS:
            raise ValueError(f"must be LEVEL or ROOM=LEVEL, several with commas; a level is {', '.join(LEVELS)}")
        if equals and room not in ROOMS:
            raise ValueError(f"names a room that does not log; those that do are {', '.join(ROOMS)}")
        if room in rooms or (not equals and least):
            raise ValueError(f"gives {room or 'all rooms'} two levels")
        if equals:
            rooms[room] = level
        else:
            least = level
    return least or "warning", rooms


def tells_steps(text: str) -> bool:
    """Whether levels (see `levels`) let anything through that is less than a warning."""
    least, rooms = levels(text)
    return any(level in ("debug", "info") for level in (least, *rooms.values()))


@contextmanager
def configured(
    level: str = "warning",
    *,
    file: Path | None = None,
    as_json: bool = False,
    secrets: tuple[str, ...] = (),
    write: Callable[[str], None] | None = None,
    told: Collection[str] = (),
) -> Iterator[None]:
    """Log to stderr, or to `file` (made with mode 0600, appended to), while the block runs.

    level: debug, info, warning or error, or levels by room (see `levels`). secrets: values to blank out wherever they
    turn up. write: takes each line in place of stderr, from any thread. told: events that people learn of in a better
    way; they go only to a file, and to those who asked for more than warnings.
    Errors: UsageError when the file cannot be written.
    """
    logger = logging.getLogger(ROOT)
    least, rooms = levels(level)
    loggers = {logger: least} | {logging.getLogger(f"{ROOT}.{room}"): of_room for room, of_room in rooms.items()}
    handler = _Handler(file, as_json=as_json, secrets=secrets, write=write)
    if file is None and rooms.get("session", least) in ("warning", "error"):
        handler.addFilter(lambda record: record.msg not in told)
    before = {each: each.level for each in loggers}
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        for each, of_each in loggers.items():
            each.setLevel(of_each.upper())
        yield
    finally:
        logger.removeHandler(handler)
        for each, was in before.items():
            each.setLevel(was)
        logger.propagate = propagates
        handler.close()


class _Handler(logging.Handler):
    """Renders by structlog, which is imported with the first record: most sessions log nothing."""

    def __init__(
        self,
        file: Path | None,
        *,
        as_json: bool,
        secrets: tuple[str, ...],
        write: Callable[[str], None] | None,
    ) -> None:
        super().__init__()
        self._file = None if file is None else _open_private(file)
        self._as_json = as_json
        self._secrets = Secrets(secrets)
        self._write = self._to_file if self._file else write or _to_stderr
        self._colors = write is None and self._file is None and sys.stderr.isatty() and not os.environ.get("NO_COLOR")
        self._render: Callable[[logging.LogRecord], str] | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line. A full disk must not end the session: it is reported once; the rest of the log is lost."""
        try:
            if self._render is None:
                self._render = self._renderer()
            self._write(self._render(record))
        except OSError as error:
            self._lose(error)
        except Exception:  # noqa: BLE001  # the contract of logging handlers
            self.handleError(record)

    def _lose(self, error: OSError) -> None:
        self._write = lambda _line: None
        if self._file is not None:
            with suppress(OSError):
                _to_stderr(f"realtime: the log cannot be written from here on: {error.strerror or error}")

    def _to_file(self, line: str) -> None:
        if self._file is not None:
            self._file.write(line + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            with suppress(OSError):  # what could not be written was reported
                self._file.close()
            self._file = None
        super().close()

    def _renderer(self) -> Callable[[logging.LogRecord], str]:
        import structlog

        final: Any = (
            structlog.processors.JSONRenderer() if self._as_json else structlog.dev.ConsoleRenderer(colors=self._colors)
        )

        def drop_secrets(_logger: Any, _method: str, event: Any) -> Any:
            return _scrub(dict(event), self._secrets, "", 0)

        formatter = structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                _fields_of_record,
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
            ],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, drop_secrets, final],
        )
        return formatter.format


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201


def _fields_of_record(_logger: Any, _method: str, event: Any) -> Any:
    event.update(getattr(event["_record"], "fields", {}))
    return event


def _open_private(path: Path) -> Any:
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot log to {path}: {error.strerror}; name another file with --log-file") from None
