"""A session's folder as bytes: how recordings come back from another machine. What arrives is not trusted."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path, PurePosixPath

from realtime_client.errors import RecordingError

MAX_BYTES = 512 * 2**20
MAX_FILES = 20_000
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,100}")


def pack(folder: Path, limit_bytes: int = MAX_BYTES) -> bytes | None:
    """Return a folder as a compressed tar; None when it holds more than `limit_bytes`. Errors: OSError."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    if len(files) > MAX_FILES or sum(path.stat().st_size for path in files) > limit_bytes:
        return None
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as archive:
        for path in files:
            archive.add(path, path.relative_to(folder).as_posix(), recursive=False)
    return out.getvalue()


def unpack(data: bytes, base: Path, name: str, limit_bytes: int = MAX_BYTES) -> Path:
    """Write a packed folder as `base/name` (another name when that is taken), private to its owner; returns it.

    Only regular files of plain names in plain folders are taken, and no more than `limit_bytes`.
    Errors: RecordingError for anything else, with nothing left behind; OSError.
    """
    if not _plain(PurePosixPath(name)) or "/" in name:
        raise RecordingError(f"{name!r} is not the name of a session's folder")
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = _new_folder(base, name)
    written: list[Path] = []
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
            left = limit_bytes
            for member in archive:
                left -= member.size
                if left < 0 or len(written) >= MAX_FILES:
                    raise RecordingError(f"the recording {name} is larger than {limit_bytes >> 20} MiB")
                written.append(_take(archive, member, folder))
    except (tarfile.TarError, EOFError, OSError, RecordingError) as error:
        _remove(folder)
        if isinstance(error, RecordingError):
            raise
        raise RecordingError(f"the recording {name} came back damaged: {error}") from error
    return folder


def _take(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> Path:
    """Write one file."""
    path = PurePosixPath(member.name)
    if not member.isfile() or not _plain(path):
        raise RecordingError(f"a recording holds {member.name!r}, which is no plain file")
    source = archive.extractfile(member)
    assert source is not None
    target = folder.joinpath(*path.parts)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with target.open("xb") as file:
        target.chmod(0o600)
        while block := source.read(1 << 20):
            file.write(block)
    return target


def _plain(path: PurePosixPath) -> bool:
    return 0 < len(path.parts) <= 4 and all(_NAME.fullmatch(part) for part in path.parts)


def _new_folder(base: Path, name: str) -> Path:
    for number in range(1, 1_000):
        folder = base / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            continue
        return folder
    raise RecordingError(f"every name for the recording {name} is taken")


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
