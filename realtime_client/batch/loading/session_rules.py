"""What a scenario may set in its session, and what belongs to the command that runs it. Pure."""

from __future__ import annotations

from typing import Any

from realtime_client.settings import SPECS

from .problem import near

SESSION_SETTINGS = (
    "model",
    "voice",
    "instructions",
    "modality",
    "turn_detection",
    "input_format",
    "output_format",
    "transcription",
    "speed",
    "max_output_tokens",
)
_CONNECTION = (
    *("url", "local", "base_url", "api_key", "token", "organization", "project", "azure_endpoint", "azure_api_key"),
    *("azure_ad_token", "proxy", "ca_file"),
)
_SOUND = ("mic", "speaker", "echo", "volume")


def setting_problem(name: str, value: Any) -> tuple[str, str]:
    """Return what is wrong with one entry of `session`, and a hint; ('', '') for nothing. Never shows a secret."""
    if name not in SPECS:
        return f"there is no setting {name[:80]!r}", near(name, SESSION_SETTINGS)
    if name in _CONNECTION:
        return f"`{name}` says where to connect, which a scenario does not", f"give it to the command{_flag(name)}"
    if name in _SOUND:
        return f"`{name}` is about sound devices, which a run does not use", ""
    if name not in SESSION_SETTINGS:
        return f"`{name}` belongs to the command, not to a scenario", f"give it to the command{_flag(name)}"
    if value is None:
        return "", ""
    try:
        SPECS[name].parse(value)
    except (TypeError, ValueError) as error:
        return f"`{name}`: {str(value)[:60]!r} {error}", ""
    return "", ""


def _flag(name: str) -> str:
    spec = SPECS[name]
    return f" ({spec.flag or spec.env})" if spec.flag or spec.env else ""
