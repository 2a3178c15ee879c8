"""Servers of others that speak the wires of text models: each in a process of its own, from its own environment.

scripts/sdk-environments makes the environments; tests/sdks/NAME holds the program that starts the server. It says its
URL in one line on stdout and ends when its stdin does.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

ROOT = Path(__file__).parent.parent
STARTS_WITHIN_S = 60.0
ENDS_WITHIN_S = 10.0


@contextmanager
def foreign_server(name: str, program: str, *args: str) -> Iterator[str]:
    """Run a server of tests/sdks/NAME; gives its URL. Without its environment the test skips."""
    place, source = ROOT / ".venv" / "sdks" / name, ROOT / "tests" / "sdks" / name / program
    if not (place / "made-from").exists():
        pytest.skip(f"there is no {place}: scripts/sdk-environments makes it")
    command = [str(place / "bin" / "python"), str(source), *args]
    if source.suffix == ".mjs":  # which finds its packages from the folder that it is read in
        if shutil.which("node") is None:
            pytest.skip("there is no node")
        command = ["node", "--input-type=module", "--eval", source.read_text(encoding="utf-8"), "--", *args]
    foreign = {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE"}  # the environments are kept: so is what is compiled in them
    environ = {key: value for key, value in os.environ.items() if key not in foreign}
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, cwd=place, env=environ
        )
        try:
            yield _url(process, said)
        finally:
            _end(process)


def _url(process: subprocess.Popen[bytes], said: IO[bytes]) -> str:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], STARTS_WITHIN_S)
    line = process.stdout.readline().decode().strip() if ready else ""
    if not line.startswith("http"):
        said.seek(0)
        pytest.fail(f"it did not start: {line!r}\n{said.read().decode(errors='replace')[-2000:]}")
    return line


def _end(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        stream.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(ENDS_WITHIN_S)
    process.kill()
    process.wait(ENDS_WITHIN_S)


def fetched(url: str) -> bytes:
    """Read something from a server."""
    with urllib.request.urlopen(url, timeout=STARTS_WITHIN_S) as answer:
        return bytes(answer.read())
