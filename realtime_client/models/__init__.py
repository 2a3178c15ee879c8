"""Weights of models as data: which there are, where they may come from, and that they are what they should be.

    from realtime_client import models

    folder = models.locate("smollm2-135m-instruct")  # ModelMissingError names the command that gets it
    folder = models.get("smollm2-135m-instruct")  # fetches it if need be

A model is a folder of files that a manifest lists with their SHA-256. Nothing is handed out whose hash differs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtime_client.lazy import loader

if TYPE_CHECKING:
    from .fetch import get
    from .manifest import Manifest, Model, own_manifest, read_manifest
    from .store import check, default_store, is_here, locate, remove

_WHERE = {
    "Manifest": "manifest",
    "Model": "manifest",
    "check": "store",
    "default_store": "store",
    "get": "fetch",
    "is_here": "store",
    "locate": "store",
    "own_manifest": "manifest",
    "read_manifest": "manifest",
    "remove": "store",
}

__all__ = [
    "Manifest",
    "Model",
    "check",
    "default_store",
    "get",
    "is_here",
    "locate",
    "own_manifest",
    "read_manifest",
    "remove",
]


__getattr__ = loader(__name__, _WHERE)


def __dir__() -> list[str]:
    """The public names."""
    return __all__
