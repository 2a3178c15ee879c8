"""The user's own folders, where the system keeps them (XDG on Linux)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from realtime_client.version import APP_NAME

NOWHERE = Path("/nonexistent")
"""Stands for the home of a user who has none: HOME is not set, and the system does not know the user."""


def user_folder(kind: Literal["config", "data", "state"]) -> Path:
    """Return our folder for files of this kind, whether it exists or not; inside NOWHERE if the user has no home."""
    import platformdirs

    find = {
        "config": platformdirs.user_config_dir,
        "data": platformdirs.user_data_dir,
        "state": platformdirs.user_state_dir,
    }
    try:
        folder = Path(find[kind](APP_NAME, appauthor=False))
    except RuntimeError:  # as newer versions say it
        return NOWHERE / APP_NAME
    return folder if folder.is_absolute() else NOWHERE / APP_NAME
