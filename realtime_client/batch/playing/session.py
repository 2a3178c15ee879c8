"""The session of a scenario: its settings between the command line and the environment, and its tools."""

from __future__ import annotations

import dataclasses
from typing import Any

from realtime_client.batch.loading.session_rules import SESSION_SETTINGS
from realtime_client.batch.scenario import Scenario
from realtime_client.errors import UsageError
from realtime_client.settings import ENVIRONMENT, FLAG, SPECS, Settings
from realtime_client.settings.providers import is_text

from .sound import AUDIBLE


def scenario_settings(settings: Settings, scenario: Scenario) -> Settings:
    """Return the settings of a scenario's session: a flag beats the scenario, which beats everything else.

    Errors: UsageError for a name that is not a setting of a session, or a value that it does not take.
    """
    values: dict[str, Any] = {}
    sources = dict(settings.sources)
    for name, raw in scenario.session.items():
        if name not in SESSION_SETTINGS:
            raise UsageError(f"session: {name!r} is not one of {', '.join(SESSION_SETTINGS)}")
        if settings.rank(name) == FLAG or raw is None:
            continue
        try:
            values[name] = SPECS[name].parse(raw)
        except (TypeError, ValueError) as error:
            raise UsageError(f"session: {name}: the value {str(raw)[:60]!r} {error}") from None
        sources[name] = (ENVIRONMENT, "scenario")
    return dataclasses.replace(settings, **values, sources=sources)


def check_played_in_writing(settings: Settings, scenario: Scenario, *, local: bool) -> None:
    """Refuse what a text model cannot take, before anything is sent. local: the run has a built-in server.

    Errors: UsageError that names the turn; none where the model is not a text model.
    """
    if not is_text(settings):
        return
    if local:
        raise UsageError(f"{settings.model} is not at the built-in server: give the run this model (--model)")
    for n, step in enumerate(scenario.turns, 1):
        kind = next((kind for kind in AUDIBLE if getattr(step, kind) is not None), None)
        if kind is not None:
            raise UsageError(f"turn {n}: `{kind}` is sound, and {settings.model} takes text only: write `text`")
        if step.after is not None and step.after.heard is not None:
            raise UsageError(f"turn {n}: `after: heard` waits for sound, and {settings.model} makes none")
