"""The JSON schema for editors: up to date, valid, and of one mind with the loader."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml

from realtime_client.batch.loading import schema
from realtime_client.batch.loading.load import load
from realtime_client.batch.scenario import Scenario

SHIPPED = Path(schema.__file__).with_name(schema.FILE_NAME)
VALIDATOR = jsonschema.Draft202012Validator(msgspec.json.decode(SHIPPED.read_bytes()))
TURN = "turns: [{text: hi}]"


class Core(yaml.SafeLoader):
    """YAML as editors read it: by the core schema of YAML 1.2, where `no` is a word."""


Core.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":bool", ":timestamp"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Core.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("true|false"), list("tf"))


def wrong(text: str) -> list[str]:
    return [error.json_path for document in yaml.load_all(text, Core) for error in VALIDATOR.iter_errors(document)]


def test_the_shipped_schema_is_up_to_date():
    hint = "run: realtime check --schema > realtime_client/batch/loading/scenario.schema.json"
    assert SHIPPED.read_text(encoding="utf-8") == schema.schema_text(), hint


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(schema.schema())


def test_every_key_is_described():
    def keys(part: Any, where: str) -> list[str]:
        named = part.get("properties", {})
        own = [f"{where}.{key}" for key, value in named.items() if "description" not in value and "$ref" not in value]
        return own if where != "Prices" else []

    defs = schema.schema()["$defs"]
    assert [key for name, part in defs.items() for key in keys(part, name)] == []
    assert set(defs["Scenario"]["properties"]) == {*Scenario.__struct_fields__, "include"}


def test_the_examples_fit(project):
    files = [path for path in sorted((project / "scripts/scenarios").rglob("*.yaml")) if path.name[0] != "_"]
    assert len(files) >= 20
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert wrong(text) == [], path
        first = text.partition("\n")[0]
        assert first.startswith("# yaml-language-server: $schema="), path
        assert (path.parent / first.partition("=")[2]).resolve() == SHIPPED, path


@pytest.mark.parametrize(
    "text",
    [
        f"name: a\n{TURN}",
        f"name: a\nsession: {{voice: null, speed: 1, max_output_tokens: inf, modality: '${{x}}'}}\nvariables: {{x: text}}\n{TURN}",
        f"scenarios: [{{name: a, {TURN}}}]\ntimeout: 3 s",
        "name: a\nvariables: {x: 1 s, y: true}\nturns: [{text: hi, timeout: '${x}', expect: {interrupted: '${y}'}}]",
        "name: a\nturns: [{text: hi, expect: {language: no, event: [{name: error, within: 1.5 min}], no_event: a.b}}]",
        "name: a\nturns: [{text: hi}, {speak: x, after: {heard: 1 s}, expect: {wer: {max: 1}, judge: {criteria: x}}}]",
        "name: a\nparameters: [{x: 1}]\nturns: [{dtmf: '1*'}, {silence: 1 s}, {pause: 1 ms, name: x}]",
    ],
)
def test_both_take_what_is_right(text):
    assert wrong(text) == []
    Path("s.yaml").write_text(text, encoding="utf-8")
    assert load(["s.yaml"]).problems == ()


@pytest.mark.parametrize(
    "text",
    [
        f"nam: a\n{TURN}",
        f"name: 5\n{TURN}",
        f"name: a\ntimeout: 5\n{TURN}",
        f"name: a\ntimeout: soon\n{TURN}",
        f"name: a\ntags: [1]\n{TURN}",
        f"name: a\nsession: {{voise: x}}\n{TURN}",
        f"name: a\nsession: {{api_key: x}}\n{TURN}",
        f"name: a\nsession: {{modality: video}}\n{TURN}",
        f"name: a\nsession: {{speed: 9}}\n{TURN}",
        f"name: a\ntools: [{{returns: 1}}]\n{TURN}",
        "name: a\nturns: 5",
        "name: a\nturns: [{}]",
        "name: a\nturns: [{text: a, speak: b}]",
        "name: a\nturns: [{text: 5}]",
        "name: a\nturns: [{text: a, answer: yes}]",
        "name: a\nturns: [{dtmf: 12x}]",
        "name: a\nturns: [{include: x.yaml, text: b}]",
        "name: a\nturns: [{text: a}, {text: b, after: {}}]",
        "name: a\nturns: [{text: a}, {text: b, after: {time: 1 s, heard: 1 s}}]",
        "name: a\nturns: [{text: a, expect: {says: b}}]",
        "name: a\nturns: [{text: a, expect: {cost: -1}}]",
        "name: a\nturns: [{text: a, expect: {language: english}}]",
        "name: a\nturns: [{text: a, expect: {status: done}}]",
        "name: a\nturns: [{text: a, expect: {latency: {first: 1 s}}}]",
        "name: a\nturns: [{text: a, expect: {judge: {}}}]",
        "name: a\nturns: [{text: a, expect: {contains: 12}}]",
        "name: a\nturns: [{text: a, expect: {}}]",
        "name: a\nturns: [{text: a, expect: {contains: []}}]",
        "name: a\nturns: [{text: a, expect: {lacks: ''}}]",
        "name: a\nturns: [{text: a, expect: {event: []}}]",
        "name: a\nturns: [{text: a, expect: {latency: {}}}]",
        "name: a\nturns: [{text: a, expect: {no_tool: false}}]",
        "name: a\nturns: [{text: a, expect: }]",
        "name: a\nturns: [{text: a}, {text: b, after: }]",
        f"name: b\nscenarios: [{{name: a, {TURN}}}]",
        "scenarios: []",
        "- text: a",
    ],
)
def test_both_refuse_what_is_wrong(text):
    assert wrong(text) != []
    Path("s.yaml").write_text(text, encoding="utf-8")
    assert load(["s.yaml"]).problems != ()
