"""The settings as keywords of `connect`: all of them, with the types that their parsers take, and mypy sees to it."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from mypy import api as mypy

from realtime_client.chat.limits import ChatLimits
from realtime_client.errors import UsageError
from realtime_client.opening import connect, connect_text
from realtime_client.secret import Secret
from realtime_client.session.limits import Limits, Recovery, ToolLimits
from realtime_client.settings import SPECS, TOOL_LIMITS, Settings, load_settings
from realtime_client.settings.keywords import Keywords

ROOT = Path(__file__).parents[1]
HINTS = get_type_hints(Keywords)
EXAMPLES: dict[Any, Any] = {
    str: "1", int: 2, float: 1.0, bool: True, Path: Path("/x"), Secret: Secret("k" * 20), type(None): None,
}  # fmt: skip


_SHAPED = {"header": "X-Trace=1", "log_level": "chat=debug"}  # texts of a form
_LISTS = {
    "tool_files": {Sequence[str | Path]: ["a.py", Path("/b.py")]},
    "mcp": {Sequence[str]: ["cat"], Mapping[str, Mapping[str, Any]]: {"time": {"command": "cat"}}},
    "server_mcp": {
        Sequence[str]: ["wiki=https://wiki.example/mcp"],
        Mapping[str, str | Mapping[str, Any]]: {"wiki": "https://wiki.example/mcp"},
    },
    "mcp_env": {Sequence[str]: ["HOME"]},
    "approve": {Sequence[str]: ["*=ask"]},
}


def members(hint: Any) -> set[Any]:
    """The types and words that a hint is a union of."""
    if get_origin(hint) in (Union, types.UnionType):
        return set().union(*(members(each) for each in get_args(hint)))
    return set(get_args(hint)) if get_origin(hint) is Literal else {hint}


def test_there_is_a_keyword_for_each_setting_in_the_same_order():
    assert list(HINTS) == list(SPECS)


@pytest.mark.parametrize("name", SPECS)
def test_a_keyword_takes_what_its_setting_takes(name: str):
    taken, spec = members(HINTS[name]), SPECS[name]
    if spec.choices:
        assert taken == {*spec.choices, type(None)}
    for each in taken:
        example = _LISTS.get(name, EXAMPLES).get(each, EXAMPLES.get(each, each))
        if name in _SHAPED and each is not type(None):
            example = each(_SHAPED[name])
        load_settings({name: example}, environ={"REALTIME_CONFIG": "/dev/null"}, folder=Path("/"))
    if name in _LISTS:
        assert taken == {*_LISTS[name], type(None)}
        return
    if spec.is_path or spec.is_secret or spec.is_switch:
        kind = {str, Path} if spec.is_path else {str, Secret} if spec.is_secret else {bool}
        assert taken == {*kind, type(None)}
    if name in TOOL_LIMITS:
        assert get_type_hints(ToolLimits)[TOOL_LIMITS[name]] in taken
        return
    holder = next((each for each in (Limits, Recovery, ChatLimits) if name in each.__struct_fields__), Settings)
    field = get_type_hints(holder)[name]
    assert members(field) - {str} <= taken, "what a setting holds can be given"


MISTAKES = """
import realtime_client
with realtime_client.connect(modell="x") as client:
    client.ask("hello")
realtime_client.connect(local="yes")
realtime_client.connect(modality="video")
realtime_client.connect(model="gpt-realtime-2.1", local=True, record=False, record_dir="x", open_timeout_s=3)
with realtime_client.connect_text(model="ollama/llama3.2") as chat:
    chat.retry(answers=2)
    chat.retry(times=2)
"""


@pytest.mark.slow
def test_mypy_refuses_a_wrong_keyword_and_a_wrong_value(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(ROOT)  # its settings, and what it has read before
    (tmp_path / "program.py").write_text(MISTAKES)
    output, complaint, status = mypy.run(["--no-error-summary", "--hide-error-context", str(tmp_path / "program.py")])
    assert status == 1, complaint
    lines = [line.split(":")[1] for line in output.splitlines() if ": error: " in line]
    assert lines == ["3", "5", "6", "10"], output
    assert '"modell"' in output


def test_a_text_model_is_asked_for_by_its_name():
    with pytest.raises(UsageError, match="gpt-realtime is no text model; their names begin with ollama, "):
        connect_text(model="gpt-realtime", record=False).__enter__()


def test_a_program_that_no_checker_read_is_told_when_it_runs():
    with pytest.raises(UsageError, match="there is no setting 'modell'"):
        connect(modell="x")  # type: ignore[call-arg]
