"""The command `realtime`: entry point and exit codes.

Only this module knows exit codes:

    0    done
    1    a check failed, or the answer did
    2    usage: a wrong flag, setting or file; a recording, a file or standard output cannot be written
    3    cannot connect: no such host, refused, session refused
    4    the connection was lost and not restored
    5    the key was refused
    6    TLS: the certificate or the handshake
    7    rate limited (HTTP 429)
    8    the URL is not a Realtime endpoint, or not that of a text model
    70   a fault in this program
    130  ended by Ctrl-C
    129  the terminal was closed
    141  standard output was closed while it was written
    143  ended by SIGTERM

It imports almost nothing at the top, so that `realtime --version` answers at once.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Sequence

from realtime_client.cli import streams
from realtime_client.version import __version__

_EXIT_CODES = {
    "UsageError": 2,
    "RecordingError": 2,
    "AuthenticationError": 5,
    "TLSError": 6,
    "RateLimitedError": 7,
    "NotRealtimeError": 8,
    "ConnectError": 3,
    "ConnectionLostError": 4,
    "RealtimeError": 1,
}
_USAGE, _FAULT, _INTERRUPTED, _PIPE_CLOSED = 2, 70, 130, 141
_COMPLETE = "_REALTIME_COMPLETE"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
_LONGEST_LINE = 1_000


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code, with which the caller has only to exit.

    argv: the arguments without the program's name; default: the process's.
    """
    _keep_numpy_single_threaded()
    args = list(sys.argv[1:] if argv is None else argv)
    if not streams.prepare():
        _complain("standard output is closed; if the result is not wanted: >/dev/null")
        return _USAGE
    try:
        code = _print_version() if args in (["--version"], ["-V"]) else _run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except OSError as error:  # of standard output: all others end in _run
        return _without_stdout(error)
    return code


def _keep_numpy_single_threaded() -> None:
    """Let the libraries that numpy computes with start no threads: nothing here is large enough to need them.

    They would start before the command takes its signals, with SIGTERM unblocked, and the system gives a signal to any
    thread that takes it: the process would end at once, with its files unfinished.
    """
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")


def _without_stdout(error: OSError) -> int:
    """Say that standard output cannot be written, unless its reader is gone."""
    streams.silence_stdout()
    if isinstance(error, BrokenPipeError):
        return _PIPE_CLOSED
    _complain(f"standard output cannot be written: {error.strerror or error}")
    return _USAGE


def _print_version() -> int:
    print(f"realtime {__version__}")  # noqa: T201
    return 0


def _run(args: list[str]) -> int:
    """Run a command; every error becomes one line on stderr and a code."""
    import click

    from realtime_client.cli.group import Invocation, complete, realtime
    from realtime_client.cli.interruption import SignalledError

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an answer may hold characters that the user's encoding lacks
    invocation = Invocation()
    instruction = os.environ.get(_COMPLETE)
    try:
        if instruction:
            return complete(instruction, _COMPLETE)
        _check_text(args)
        with realtime.make_context("realtime", args, obj=invocation) as context:
            realtime.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    except SignalledError as end:
        return 128 + end.which
    except click.ClickException as error:
        _complain(_click_message(error))
        return 2
    except Exception as error:  # noqa: BLE001  # the last line of defence: no traceback at users
        return _failed(error, verbose=invocation.verbose)
    return 0


def _check_text(args: Sequence[str]) -> None:
    """Errors: UsageError for an argument that is not text in UTF-8."""
    from realtime_client.errors import UsageError

    shown = streams.not_text(args)
    if shown is not None:
        raise UsageError(f"the argument {shown} is not text in UTF-8")


def _failed(error: Exception, *, verbose: int) -> int:
    """Report an error, and return the code.

    If standard output cannot be written, that is the reason, whatever it led to in threads: OSError, for `main`.
    """
    fault = streams.stdout_fault()
    if fault is not None:
        raise fault
    if verbose > 1:
        import traceback

        traceback.print_exception(error)
    code = exit_code(error)
    if code != _FAULT:
        _complain(f"{error}{_advice(error)}")
        return code
    if isinstance(error, OSError) and (error.filename is not None or error.errno in _NO_ROOM):
        where = f"{error.filename}: " if error.filename is not None else ""
        _complain(f"{where}{error.strerror}")
        return _USAGE
    hint = "" if verbose > 1 else "; run it again with -vv to see where"
    _complain(f"unexpected {type(error).__name__}: {error}{hint}")
    return _FAULT


def exit_code(error: BaseException) -> int:
    """Return the exit code of a command that this error ended."""
    for kind in type(error).__mro__:
        if kind.__module__ == "realtime_client.errors" and kind.__name__ in _EXIT_CODES:
            return _EXIT_CODES[kind.__name__]
    return _FAULT


def _advice(error: Exception) -> str:
    wait_s = getattr(error, "retry_after_s", None)
    return "" if wait_s is None else f"; the server asks to wait {wait_s:g} s"


def _click_message(error: object) -> str:
    context = getattr(error, "ctx", None)
    hint = f" (see `{context.command_path} --help`)" if context is not None else ""
    if type(error).__name__ == "NoSuchOption" and context is not None and context.parent is None:
        hint = f"; options stand behind a command{hint}"
    return f"{error.format_message().removesuffix('.')}{hint}"  # type: ignore[attr-defined]


def _complain(message: str) -> None:
    from realtime_client.escape import one_line
    from realtime_client.secret import shown_text

    line = one_line(shown_text(message), 1_000_000)
    if len(line) > _LONGEST_LINE:  # a name may have any length, and what is wrong with it comes after
        line = f"{line[: _LONGEST_LINE // 2]} ... {line[-_LONGEST_LINE // 3 :]}"
    print(f"realtime: {line}", file=sys.stderr, flush=True)  # noqa: T201
