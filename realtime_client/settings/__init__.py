"""Settings: what is in force, where each value came from, and which server that means."""

from .layers import config_path, load_settings, recordings_folder
from .settings import DEFAULT, DOTENV, ENVIRONMENT, FLAG, SPECS, TOOL_LIMITS, URLS, Settings, Spec

__all__ = [
    "DEFAULT",
    "DOTENV",
    "ENVIRONMENT",
    "FLAG",
    "SPECS",
    "TOOL_LIMITS",
    "URLS",
    "Settings",
    "Spec",
    "config_path",
    "load_settings",
    "recordings_folder",
]
