"""One member out of an archive: its name is looked up, never used as a path. How much is taken, the caller bounds."""

from __future__ import annotations

import io
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO

from realtime_client.errors import ModelError, UsageError

CHUNK_BYTES = 1 << 20
_BROKEN = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, KeyError),
    *(RuntimeError, NotImplementedError, OSError, ValueError),  # encrypted, an unknown method, no gzip, a bad header
)


def member(archive: Path, name: str) -> Iterator[bytes]:
    """Yield the bytes of a member of a zip (.whl) or gzipped tar (.tgz). Errors: ModelError."""
    opened = _in_tar if archive.suffix == ".tgz" else _in_zip
    return _chunks(lambda: opened(archive, name), lambda error: ModelError(f"{archive.name}: {name}: {error}"))


def file(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a file. Errors: UsageError when it cannot be read."""
    return _chunks(lambda: path.open("rb"), lambda error: UsageError(f"{path} cannot be read: {error}"))


def _chunks(
    opened: Callable[[], AbstractContextManager[IO[bytes]]], failure: Callable[[str], Exception]
) -> Iterator[bytes]:
    try:
        with opened() as data:
            while chunk := data.read(CHUNK_BYTES):
                yield chunk
    except _BROKEN as error:
        reason = "is not in it" if isinstance(error, KeyError) else getattr(error, "strerror", None) or str(error)
        raise failure(reason or type(error).__name__) from None


@contextmanager
def _in_zip(archive: Path, name: str) -> Iterator[IO[bytes]]:
    with zipfile.ZipFile(archive) as zipped, zipped.open(name) as data:
        yield data


@contextmanager
def _in_tar(archive: Path, name: str) -> Iterator[IO[bytes]]:
    with tarfile.open(archive, "r:gz") as packed:
        found = packed.getmember(name)
        data = packed.extractfile(found) if found.isreg() else None  # a link would lead to another member
        yield data or io.BytesIO()
