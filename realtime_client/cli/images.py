"""Image files that are shown to a model: judged by what is in them, not by their names."""

from __future__ import annotations

import base64
import os
from pathlib import Path

from realtime_client.errors import UsageError
from realtime_client.escape import one_line

MOST_BYTES = 5 * 2**20
"""What every provider takes; Anthropic's limit, the smallest of theirs."""


def read_image(path: Path) -> str:
    """Return an image file as a data URI. Errors: UsageError for what is none, cannot be read or is too large."""
    shown = one_line(str(path), 200)
    try:
        with open(path.expanduser(), "rb", opener=_open) as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"cannot read {shown}: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MOST_BYTES:
        raise UsageError(f"{shown} is larger than {MOST_BYTES // 2**20} MiB: make the image smaller")
    kind = _kind(data)
    if kind is None:
        raise UsageError(f"{shown} is not an image: it must be PNG, JPEG, GIF or WebP")
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _open(path: str, flags: int) -> int:
    """Open without waiting for whoever may write into a named pipe: without a writer, it is empty."""
    if not hasattr(os, "O_NONBLOCK"):
        return os.open(path, flags)
    found = os.open(path, flags | os.O_NONBLOCK)
    os.set_blocking(found, True)
    return found


def _kind(data: bytes) -> str | None:
    """The subtype of its media type, by the signature of the format."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    return "webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None
