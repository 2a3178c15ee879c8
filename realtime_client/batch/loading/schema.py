"""The JSON schema of scenario files (draft 2020-12), made from the structs. Pure.

Shipped beside this module as `scenario.schema.json`, for editors:

    # yaml-language-server: $schema=path/to/scenario.schema.json

`realtime check` finds more than the schema can: references to other things, contents of files.
"""

from __future__ import annotations

import inspect
import json
from typing import Any

import msgspec

from realtime_client.batch.scenario import STEP_KINDS, Scenario
from realtime_client.settings import SPECS

from .languages import LANGUAGE_CODES
from .rules import LATENCIES, event_names
from .session_rules import SESSION_SETTINGS

FILE_NAME = "scenario.schema.json"
_Part = dict[str, Any]
_FILLED: _Part = {"$ref": "#/$defs/Filled"}
_INCLUDE: _Part = {
    "description": "a file with shared defaults, relative to this one, or several; own values win",
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
}


def schema() -> _Part:
    """Return the schema of a file: a scenario, or `scenarios` with defaults."""
    _, parts = msgspec.json.schema_components([Scenario])
    defs: dict[str, _Part] = {name: _filled(_described(part)) for name, part in sorted(parts.items())}
    _name_choices(defs)
    _never_empty(defs)
    _one_of(defs["Step"], STEP_KINDS)
    _one_of(defs["After"], ("event", "heard", "time"))
    _one_of(defs["Tool"], ("name", "file"))
    _one_of(defs["McpServer"], ("command", "url"))
    scenario = defs["Scenario"]
    turn = {"if": {"required": ["include"]}, "then": {"$ref": "#/$defs/Include"}, "else": {"$ref": "#/$defs/Step"}}
    scenario["properties"]["turns"]["items"] = turn
    scenario["properties"]["include"] = _INCLUDE
    tools = scenario["properties"]["tools"]
    about = tools.pop("description")
    scenario["properties"]["tools"] = {"description": about, "anyOf": [{"type": "string", "minLength": 1}, tools]}
    defs["Include"] = {
        "description": "The turns of another file, in this place.",
        "type": "object",
        "properties": {"include": _INCLUDE | {"description": "a file with turns, relative to this one"}},
        "required": ["include"],
        "additionalProperties": False,
    }
    defs["File"] = _file(scenario)
    defs["Filled"] = {"description": "a text with ${name}", "type": "string", "pattern": r"\$\{"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Scenarios of realtime_client",
        "if": {"required": ["scenarios"]},
        "then": {"$ref": "#/$defs/File"},
        "else": {"$ref": "#/$defs/Scenario"},
        "$defs": dict(sorted(defs.items())),
    }


def schema_text() -> str:
    """Return the schema as the file that is shipped."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _described(part: _Part) -> _Part:
    if "description" in part:
        part["description"] = inspect.cleandoc(part["description"])
    return part


def _filled(part: Any) -> Any:
    """Allow a text with ${...} wherever a text of a certain form, a number or a switch is required."""
    if isinstance(part, list):
        return [_filled(item) for item in part]
    if not isinstance(part, dict):
        return part
    if part.get("type") in ("number", "integer", "boolean") or "enum" in part or "pattern" in part:
        outer = {key: part[key] for key in ("description", "default") if key in part}
        inner = {key: value for key, value in part.items() if key not in outer}
        return outer | {"anyOf": [inner, _FILLED]}
    return {key: _filled(value) for key, value in part.items() if not (key == "default" and value is None)}


def _name_choices(defs: dict[str, _Part]) -> None:
    """Fill in the known names, so that editors complete them."""
    expect, scenario = defs["Expect"]["properties"], defs["Scenario"]["properties"]
    event, none = {"$ref": "#/$defs/Event"}, {"type": "null"}
    defs["Event"] = {"anyOf": [{"enum": list(event_names())}, {"type": "string"}]}
    name, after = defs["EventCheck"]["properties"]["name"], defs["After"]["properties"]["event"]
    defs["EventCheck"]["properties"]["name"] = {"description": name["description"], "anyOf": [event]}
    after["anyOf"] = [event, none]
    expect["no_event"]["anyOf"] = [event, {"type": "array", "items": event}, none]
    for option in expect["latency"]["anyOf"]:
        if option.get("type") == "object":
            option["properties"] = dict.fromkeys(LATENCIES, option["additionalProperties"])
            option["additionalProperties"] = False
    expect["language"]["anyOf"] = [{"enum": sorted(LANGUAGE_CODES)}, _FILLED, {"type": "null"}]
    scenario["session"] = {
        "description": scenario["session"]["description"],
        "type": "object",
        "properties": {name: _setting(name) for name in SESSION_SETTINGS},
        "additionalProperties": False,
    }


def _never_empty(defs: dict[str, _Part]) -> None:
    """Refuse checks without a value, which would pass whatever came; null removes what an included file asks."""
    defs["Expect"]["minProperties"] = 1
    for part in defs["Expect"]["properties"].values():
        for option in part.get("anyOf", ()):
            if option.get("type") == "array":
                option["minItems"] = 1
            elif option.get("type") == "object":
                option["minProperties"] = 1
            for text in (option, option.get("items", {})):
                if text.get("type") == "string":
                    text["minLength"] = 1
    defs["Expect"]["properties"]["no_tool"]["anyOf"][0] = {"const": True}
    for part in defs["Step"]["properties"].values():
        part["anyOf"] = [option for option in part["anyOf"] if option != {"type": "null"}]


def _setting(name: str) -> _Part:
    spec = SPECS[name]
    kinds: list[_Part] = [{"type": "string"}]
    if spec.choices:
        kinds = [{"enum": list(spec.choices)}, _FILLED]
    elif name == "speed":
        kinds = [{"type": "number", "minimum": 0.25, "maximum": 1.5}, _FILLED]
    elif name == "max_output_tokens":
        kinds = [{"type": "integer", "minimum": 1}, {"const": "inf"}, _FILLED]
    return {"description": spec.help, "anyOf": [*kinds, {"type": "null"}]}


def _one_of(part: _Part, keys: tuple[str, ...]) -> None:
    part["oneOf"] = [{"required": [key]} for key in keys]


def _file(scenario: _Part) -> _Part:
    """Return the form with several scenarios: all keys of one but its name, as defaults."""
    defaults = {key: part for key, part in scenario["properties"].items() if key != "name"}
    scenarios = {
        "description": "the scenarios; the other keys beside this one are defaults for all of them",
        "type": "array",
        "minItems": 1,
        "items": {"$ref": "#/$defs/Scenario"},
    }
    return {
        "title": "Scenarios",
        "description": "Several scenarios with what they share.",
        "type": "object",
        "properties": {"scenarios": scenarios} | defaults,
        "required": ["scenarios"],
        "additionalProperties": False,
    }
