"""`realtime settings`: what is in force and where each value came from."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from realtime_client.chat.place import Place
from realtime_client.cli.options import SectionedCommand, talk_options
from realtime_client.errors import UsageError
from realtime_client.escape import one_line
from realtime_client.secret import shown_url
from realtime_client.settings import SPECS, Settings, config_path, providers, recordings_folder
from realtime_client.settings.target import endpoint, key_setting, target


@click.command("settings", cls=SectionedCommand)
@click.option("--json", "as_json", is_flag=True, help="one JSON object")
@talk_options
def command(*, settings: Settings, as_json: bool, **_: Any) -> None:
    """Show what is in force and where each value came from; secrets are masked.

    A value is taken from the first of: flag, environment, .env in the current folder, config file, default.
    """
    if as_json:
        json.dump(_report(settings), sys.stdout, indent=2)
        click.echo()
        return
    for line in _lines(settings):
        click.echo(line)


def _report(settings: Settings) -> dict[str, Any]:
    return {
        "endpoint": _endpoint_report(settings),
        "recordings": str(recordings_folder(settings)) if settings.record else None,
        "config_file": str(config_path()),
        "settings": {name: {"value": settings.shown(name), "source": settings.source(name)} for name in SPECS},
    }


def _endpoint_report(settings: Settings) -> dict[str, Any]:
    if providers.is_text(settings):
        return _text_report(settings)
    place, key = endpoint(settings), key_setting(settings)
    report: dict[str, Any] = {
        "kind": target(settings),
        "name": place.name,
        "url": shown_url(place.url) if place.url else None,
        "headers": sorted(place.headers),
        "key": settings.source(key) if key else None,
    }
    try:
        return report | {"then": _standing_in(providers.chain(settings))}
    except UsageError as error:
        return report | {"error": str(error)}


def _standing_in(places: list[Place]) -> list[str]:
    return [f"{place.name} at {place.host}" for place in places]


def _text_report(settings: Settings) -> dict[str, Any]:
    """Whom a text model is asked of. A key that is missing is told, and hides nothing else."""
    report: dict[str, Any] = {"kind": providers.provider_of(settings.model), "name": settings.model}
    key = providers.key_setting(settings, settings.model)
    try:
        places = providers.chain(settings)
    except UsageError as error:
        return report | {"url": None, "headers": [], "key": settings.source(key) if key else None, "error": str(error)}
    first = places[0]
    return report | {
        "url": shown_url(first.base_url),
        "headers": sorted(first.headers),
        "key": settings.source(key) if key else None,
        "then": _standing_in(places[1:]),
    }


def _lines(settings: Settings) -> list[str]:
    report = _report(settings)
    place = report["endpoint"]
    headers = f" (with {', '.join(place['headers'])})" if place["headers"] else ""
    if "error" in place:
        headers = f"{headers}: {place['error']}"
    lines = [
        f"talks to     {place['url'] or place['name']}{headers}",
        *(f"then to      {other}" for other in place.get("then", ())),
        f"key          {place['key'] or '-'}",
        f"records in   {report['recordings'] or 'nothing is recorded'}",
        f"config file  {report['config_file']}",
        "",
    ]
    rows = [(name, _word(entry["value"]), entry["source"]) for name, entry in report["settings"].items()]
    widths = [min(40, max(len(row[column]) for row in rows)) for column in range(2)]
    lines += [f"{name:{widths[0]}}  {value:{widths[1]}}  {source}" for name, value, source in rows]
    return [one_line(line) if line else "" for line in lines]


def _word(value: Any) -> str:
    if value is None or value == []:
        return "-"
    if isinstance(value, list):
        return ", ".join(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
