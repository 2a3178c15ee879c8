"""A file from the model hub, by the hub's own client in a process of its own, which knows where the hub is."""

from __future__ import annotations

import importlib.util
import sys
import threading
from pathlib import Path

from realtime_client.errors import HostUnreachableError, MissingExtraError, ModelError
from realtime_client.escape import one_line

from . import child
from .manifest import File, HubFile
from .packages import OnProgress

_PROGRAM = Path(__file__).with_name("hub_client.py")
_SPARE_BYTES = 16 << 20
_ENVIRON = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONWARNINGS": "ignore"}


def fetch(wanted: File, place: HubFile, folder: Path, *, on_progress: OnProgress, stop: threading.Event) -> Path:
    """Download a file into an empty folder, and return its path; its hash is not looked at yet.

    Errors: MissingExtraError without the client; HostUnreachableError; ModelError when the hub does not give it.
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        raise MissingExtraError("huggingface_hub", "models")
    what = f"{place.repository} {place.file}"
    code, said = child.run(
        [sys.executable, "-P", str(_PROGRAM), place.repository, place.revision, place.file, str(folder)],
        folder,
        what=what,
        most_bytes=2 * wanted.size_bytes + _SPARE_BYTES,
        on_bytes=lambda written: on_progress(what, min(written, wanted.size_bytes), wanted.size_bytes),
        environ=_ENVIRON,
        stop=stop,
    )
    last = one_line(said.strip().rpartition("\n")[2], 200)
    if code == 3:
        raise HostUnreachableError(f"{what}: the model hub cannot be reached ({last})")
    path = folder / place.file
    if code or not path.is_file():
        raise ModelError(f"{what}: the model hub does not give it ({last})")
    return path
