"""Settings: what is in force, where each value came from, and which server that means."""

from .load import (
    DEFAULT,
    DOTENV,
    ENVIRONMENT,
    FLAG,
    SPECS,
    URLS,
    Settings,
    Spec,
    config_path,
    load_settings,
    recordings_folder,
)

__all__ = [
    "DEFAULT",
    "DOTENV",
    "ENVIRONMENT",
    "FLAG",
    "SPECS",
    "URLS",
    "Settings",
    "Spec",
    "config_path",
    "load_settings",
    "recordings_folder",
]
