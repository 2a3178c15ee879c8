"""A Python file of the user's, run for what it defines."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import UsageError
from .escape import one_line


def run_file(path: Path) -> ModuleType:
    """Run a Python file, and return its module.

    What it prints, then and in calls of its functions, goes to stderr: stdout is for results. Errors: UsageError with
    file and line when it cannot be run.
    """
    # Under a name of its own among the modules: dataclasses look there for what their annotations mean.
    name = f"{path.stem}_{zlib.crc32(str(path.absolute()).encode(errors='surrogateescape')):08x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if not path.is_file():
        raise UsageError(f"{path}: {'this is a folder' if path.is_dir() else 'there is no such file'}")
    if spec is None or spec.loader is None:
        raise UsageError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    module.__dict__["print"] = _print
    sys.modules[name] = module
    try:
        with contextlib.redirect_stdout(sys.stderr):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        said = str(error) if isinstance(error, UsageError) else f"cannot be run: {type(error).__name__}: {error}"
        raise UsageError(f"{path}{_line(error, spec.origin)}: {one_line(said, 300)}") from error
    return module


def _print(*values: object, **options: Any) -> None:
    options.setdefault("file", sys.stderr)
    print(*values, **options)  # noqa: T201 - in place of the file's own


def _line(error: BaseException, file: str | None) -> str:
    """Where in the file it failed, as `:12`; '' if not in it."""
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == file else None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    return "" if line is None else f":{line}"
