"""Where models are kept: a folder for each, which is there as a whole or not at all.

    models/                                   0700
      smollm2-135m-instruct/                  0700, renamed into place when all of its files are right
        SmolLM2-135M-Instruct.Q4_1.gguf       0600
      .smollm2-135m-instruct.lock             held by whoever makes or removes the folder
      .smollm2-135m-instruct~k3x9/            being made, or on its way out

What a kill leaves of the last goes with the next change to that model.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from realtime_client.deadline import Deadline
from realtime_client.errors import ModelError, ModelMissingError, UsageError
from realtime_client.home import NOWHERE, user_folder
from realtime_client.lock import hold

from .manifest import Manifest, Model, own_manifest

VARIABLE = "REALTIME_MODELS_DIR"
_LOOK_EVERY_S, _WAIT_S = 0.2, 3_600.0


def default_store() -> Path:
    """Return the folder of all models: what REALTIME_MODELS_DIR says, or `models` in the user's data folder.

    Errors: UsageError when the user has no home folder.
    """
    named = os.environ.get(VARIABLE)
    if named:
        try:
            return Path(named).expanduser().absolute()
        except (OSError, RuntimeError) as error:
            raise UsageError(f"environment {VARIABLE}: the value {named[:60]!r} leads nowhere ({error})") from None
    place = user_folder("data")
    if NOWHERE in place.parents:
        raise UsageError(f"there is no home folder to keep models in: set HOME, or name one with {VARIABLE}")
    return place / "models"


def locate(name: str, *, store: Path | None = None, manifest: Manifest | None = None) -> Path:
    """Return the folder of a model whose files have all been hashed now: 0.1 s for 100 MB.

    store, manifest: by default the user's and our own. Errors: UsageError for an unknown name; ModelMissingError, which
    names the command that gets it; ModelError when a file is not what the manifest says.
    """
    store = store or default_store()
    differing = check(name, store=store, manifest=manifest)
    if differing:
        raise ModelError(f"{name} is not what it should be ({', '.join(differing)}): realtime models get {name}")
    return store / name


def check(name: str, *, store: Path | None = None, manifest: Manifest | None = None) -> list[str]:
    """Hash the files of a model that is here, and return the names of those that differ or are missing.

    Errors: as those of `locate`; ModelError for a file that cannot be read.
    """
    model = (manifest or own_manifest()).model(name)
    folder = (store or default_store()) / name
    if not os.path.lexists(folder):
        raise ModelMissingError(f"the model {name} is not here: realtime models get {name}")
    return differing_files(model, folder)


def differing_files(model: Model, folder: Path) -> list[str]:
    """Return the names of files in `folder` whose hash is not the manifest's. Errors: ModelError."""
    differing = []
    for file in model.files:
        try:
            with (folder / file.name).open("rb") as data:
                right = hashlib.file_digest(data, "sha256").hexdigest() == file.sha256
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            right = False
        except OSError as error:
            raise ModelError(f"{folder / file.name} cannot be read: {error.strerror or error}") from None
        if not right:
            differing.append(file.name)
    return differing


def is_here(name: str, *, store: Path | None = None, manifest: Manifest | None = None) -> bool:
    """Tell, without hashing anything, whether a model's files are here with their sizes."""
    folder = (store or default_store()) / name
    model = (manifest or own_manifest()).model(name)
    return all(_size(folder / file.name) == file.size_bytes for file in model.files)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def remove(name: str, *, store: Path | None = None, manifest: Manifest | None = None) -> None:
    """Remove a model. Errors: UsageError for an unknown name, one that is not here, a store that cannot be written."""
    (manifest or own_manifest()).model(name)
    store = store or default_store()
    if not os.path.lexists(store / name):
        raise UsageError(f"the model {name} is not here: there is nothing to remove")
    with held(store, name), _writing(store):
        _set_aside(store, name)
        _clear(store, name)


@contextmanager
def held(
    store: Path, name: str, *, on_wait: Callable[[], object] = lambda: None, stop: threading.Event | None = None
) -> Iterator[None]:
    """Be the only one, of all processes, that changes a model while the block runs; the store is made if need be.

    on_wait: called once when somebody else is at it. stop: ends the wait. Errors: ModelError; UsageError when the store
    cannot be written.
    """
    path, deadline, pause = store / f".{name}.lock", Deadline(_WAIT_S), stop or threading.Event()
    with _writing(store):
        store.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = hold(path)
        if lock is None:
            on_wait()
        while lock is None:
            if pause.wait(_LOOK_EVERY_S):
                raise ModelError(f"getting {name} was stopped")
            if deadline.expired:
                raise ModelError(f"another program has held {path} for an hour")
            lock = hold(path)
    try:
        yield
    finally:
        os.close(lock)


@contextmanager
def being_made(store: Path, name: str) -> Iterator[Path]:
    """Give an empty folder that becomes the model's, in one step, when the block ends well.

    To be used while the model is held. Errors: OSError; UsageError when the folder cannot be written.
    """
    with _writing(store):
        _clear(store, name)
        part = Path(tempfile.mkdtemp(prefix=f".{name}~", dir=store))
        try:
            yield part
            _set_aside(store, name)
            part.rename(store / name)
        finally:
            _clear(store, name)


@contextmanager
def _writing(store: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"cannot write models into {store}: {reason} (another place: {VARIABLE})") from error


def _set_aside(store: Path, name: str) -> None:
    """Take a model's folder, if there is one, out of its place in one step."""
    if os.path.lexists(store / name):
        (store / name).rename(Path(tempfile.mkdtemp(prefix=f".{name}~", dir=store)) / "old")


def _clear(store: Path, name: str) -> None:
    for left in store.glob(f".{name}~*"):
        shutil.rmtree(left, ignore_errors=True)
