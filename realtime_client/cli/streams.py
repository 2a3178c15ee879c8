"""Standard input, output and error as they may be: closed, full, or with nobody at the other end.

Output is the result: where it cannot be written, the command fails and says so. Errors are only messages: what cannot
be written there is dropped, and the command goes on.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Output(io.FileIO):
    """Standard output. fault: why it could not be written, to tell such an error from those of other files."""

    fault: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int | None:  # type: ignore[override]
        """Write, and keep the error if there is one."""
        try:
            return super().write(data)
        except OSError as error:
            self.fault = error
            raise


class _Error(io.FileIO):
    """Standard error: accepts everything, whether it can be written or not."""

    def write(self, data: ReadableBuffer, /) -> int:
        """Write what can be written, and claim all of it."""
        try:
            super().write(data)
        except OSError:
            return len(memoryview(data))
        return len(memoryview(data))


def prepare() -> bool:
    """Make the streams fit for use; returns False if standard output is closed.

    A closed stream is opened on nothing: otherwise the next file would take its number, and get what others write
    there. Streams that somebody put in place of the process's own stay.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: PTH123, SIM115  # the process's own
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        sys.stderr = _text(_Error(2, "wb", closefd=False), cast("io.TextIOWrapper | None", sys.stderr))
    is_open = sys.stdout is not None
    if sys.stdout is None or sys.stdout is sys.__stdout__:
        sys.stdout = _text(_Output(1, "wb", closefd=False), cast("io.TextIOWrapper | None", sys.stdout))
    return is_open


def output(number: int, like: io.TextIOWrapper) -> io.TextIOWrapper:
    """Return a stream that is standard output by another descriptor; that stays open when the stream is gone."""
    return _text(_Output(number, "wb", closefd=False), like)


def take_over(own: io.TextIOWrapper, other: io.TextIOWrapper) -> None:
    """End a stream that `output` made; a fault that it met is standard output's, found when the command ends."""
    with contextlib.suppress(OSError):
        other.close()
    raw, met = (getattr(each.buffer, "raw", None) for each in (own, other))
    if isinstance(raw, _Output) and isinstance(met, _Output):
        raw.fault = raw.fault or met.fault


def _text(file: io.FileIO, like: io.TextIOWrapper | None) -> io.TextIOWrapper:
    """Return a text stream into a file. like: the stream that it replaces."""
    buffer = io.BufferedWriter(file)
    if like is None:
        return io.TextIOWrapper(buffer, "utf-8", "replace")
    return io.TextIOWrapper(
        buffer, like.encoding, like.errors, line_buffering=like.line_buffering, write_through=like.write_through
    )


def stdout_fault() -> OSError | None:
    """Return why standard output cannot be written, None if it can."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return error
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.fault if isinstance(raw, _Output) else None


def silence_stdout() -> None:
    """Point stdout nowhere, so that the interpreter's last flush does not complain."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)


def not_text(args: Sequence[str]) -> str | None:
    """Return the first argument that is not text in UTF-8 as it may be shown, None if all are.

    Python turns such bytes into surrogates (PEP 383), which no message and no file of a recording can hold.
    """
    for arg in args:
        try:
            arg.encode()
        except UnicodeEncodeError:
            return arg.encode("utf-8", "backslashreplace").decode().replace("\\udc", "\\x")
    return None
