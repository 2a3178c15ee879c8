"""The recording that settings ask for, and the one with which a session goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from realtime_client.secret import shown_url, url_secrets
from realtime_client.settings import SPECS, Settings, recordings_folder
from realtime_client.settings.providers import is_text
from realtime_client.settings.target import target

from .carried import Carried, carry
from .recorder import Recorder


def to_go_on(settings: Settings, continue_from: str | Path) -> tuple[Settings, Carried]:
    """Return the settings of a session that goes on with a recorded one, and what was said there.

    The instructions stay what they were, unless there are new ones. Errors: UsageError; see `carry`.
    """
    carried = carry(continue_from, recordings_folder(settings))
    if settings.instructions is None and carried.instructions:
        settings = replace(settings, instructions=carried.instructions)
    return settings, carried


def recorder_as_set(
    settings: Settings, endpoints: Sequence[tuple[str, Mapping[str, str]]], carried: Carried | None
) -> Recorder:
    """Make the session's folder, before anything is sent: a session that cannot be recorded does not begin.

    endpoints: the URL and headers of each server that may be asked, the first one first. carried: what the session goes
    on with. Errors: RecordingError.
    """
    shown = {name: settings.shown(name) for name in SPECS} | {"endpoint": shown_url(endpoints[0][0])}
    shown["local"] = not is_text(settings) and target(settings) == "local"  # also where nobody asked for it
    secrets_used = {
        value.removeprefix("Bearer ").removeprefix("Basic ") for _, headers in endpoints for value in headers.values()
    }
    secrets_used |= {secret for url, _ in endpoints for secret in url_secrets(url)}
    return Recorder.create(
        recordings_folder(settings),
        settings={name: value for name, value in shown.items() if value is not None},
        secrets=sorted(secrets_used | set(settings.secrets())),
        flac=settings.flac,
        continues="" if carried is None else carried.folder.name,
    )
