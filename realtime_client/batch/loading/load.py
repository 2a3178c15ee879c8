"""YAML files -> scenarios -> cases, with every mistake and its place.

    loaded = load(["scripts/scenarios"])
    for problem in loaded.problems: print(problem)      # FILE:LINE:COLUMN: what is wrong; what to do
    for case in cases(loaded, repeat=3): play_case(case, plan)

A file holds one scenario, several YAML documents, or `scenarios: [...]`, whose other keys are defaults for all of them.
Of a directory all *.yaml and *.yml files are taken, those of its folders too, in the order of their names; files and
folders whose names begin with `_` or `.` are left out: they are for others to include. `include.py` explains how
`include` works, `variables.py` `${name}`, `rows.py` rows.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from realtime_client.batch.scenario import Case, Scenario
from realtime_client.errors import UsageError

from .include import Draft, Files, listed
from .problem import BAD, Mark, Problem, Problems
from .rows import Row, read_rows
from .rules import Rules, name_problem
from .shape import Shaper, is_whole
from .variables import UNKNOWN, fill, is_name, resolve
from .yaml_tree import Node, note_zeros, wrap

MAX_AUDIO_BYTES = 200_000_000
_ENDINGS = (".yaml", ".yml")
_UNFILLED = ("name", "variables", "parameters")


@dataclass(frozen=True, slots=True)
class Template:
    """One scenario as it is in a file. cases: one for each row of its parameters, or one; of the first repeat."""

    name: str
    file: str
    cases: tuple[Case, ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was found. A scenario with a mistake is not among the templates.

    notes: what is odd but not a mistake: an audio file that is read differently from what it says.
    """

    templates: tuple[Template, ...]
    problems: tuple[Problem, ...]
    notes: tuple[Problem, ...] = ()


def load(paths: Sequence[str | Path]) -> Loaded:
    """Read scenarios from files and directories. Every mistake becomes a problem; nothing is raised."""
    return _Loading().load(paths)


def cases(loaded: Loaded, repeat: int = 1) -> list[Case]:
    """Return the cases of a run: all of them once, then all again, `repeat` times.

    Errors: UsageError where there are mistakes, or nothing to run.
    """
    if repeat < 1:
        raise UsageError(f"a run plays everything at least once, not {repeat} times")
    if loaded.problems:
        first, count = loaded.problems[0], len(loaded.problems)
        more = f" ({count - 1} more: `realtime check` lists all)" if count > 1 else ""
        raise UsageError(f"{first}{more}")
    once = [case for template in loaded.templates for case in template.cases]
    if not once:
        raise UsageError("there is no scenario to run")
    return [_repeated(case, number) for number in range(repeat) for case in once]


def with_files(case: Case) -> Case:
    """Return the case with its files of sound and of tools in it, to travel to another machine. Errors: UsageError."""
    names = {step.audio for step in case.scenario.turns if step.audio is not None}
    names |= {tool.file for tool in case.scenario.tools if tool.file is not None}
    files: dict[str, bytes] = {}
    for name in sorted(names - case.files.keys()):
        path = Path(case.folder) / name
        try:
            files[name] = path.read_bytes()
        except (OSError, ValueError) as error:
            raise UsageError(f"cannot read the file {path}: {error}") from error
    return msgspec.structs.replace(case, files=case.files | files) if files else case


def _repeated(case: Case, number: int) -> Case:
    return msgspec.structs.replace(case, id=f"{case.id}#{number}", repeat=number) if number else case


class _Loading:
    """One call of `load`."""

    def __init__(self) -> None:
        self._problems = Problems()
        self._files = Files(self._problems)
        self._names: dict[str, Mark] = {}
        self._notes = Problems()
        self._audio: dict[Path, tuple[str, tuple[str, ...]]] = {}

    def load(self, paths: Sequence[str | Path]) -> Loaded:
        templates = [
            template
            for path in self._all_files(paths)
            for draft in self._files.drafts(path)
            if (template := self._template(draft)) is not None
        ]
        return Loaded(tuple(templates), tuple(self._problems.all()), tuple(self._notes.all()))

    def _all_files(self, paths: Sequence[str | Path]) -> list[Path]:
        """Return the files, none twice."""
        found: dict[str, Path] = {}
        for path in map(Path, paths):
            try:
                files = list(_files_of(path)) if path.is_dir() else [path]
            except OSError as error:
                self._problems.add(Mark(str(path)), f"this directory cannot be read: {error.strerror or error}")
                continue
            if not files:
                self._problems.add(Mark(str(path)), "there is no .yaml file in this directory")
            for file in files:
                found.setdefault(os.path.realpath(file), file)
        return list(found.values())

    def _template(self, draft: Draft) -> Template | None:
        """Return a scenario with a case for each row; None where there is a mistake."""
        self._problems.row = 0
        before = len(self._problems)
        name = self._name(draft.node)
        self._check_variables(draft.node.value.get("variables"))
        parameters = draft.node.value.get("parameters")
        rows: list[Row] = []
        read_from = len(self._problems)
        if parameters is not None and parameters.value is not None:
            rows = read_rows(parameters, Path(parameters.mark.file).parent, self._problems)
        found = []
        for number, row in enumerate(rows, 1):
            self._problems.row = number
            found.append(self._case(draft, name, row, number))
        if not rows:
            unread = parameters is not None and len(self._problems) > read_from
            found.append(self._case(draft, name, {UNKNOWN: BAD} if unread else {}, None))
        self._problems.row = 0
        made = tuple(case for case in found if case is not None)
        return Template(name, draft.file, made) if len(self._problems) == before else None

    def _name(self, node: Node) -> str:
        """Return the scenario's name, '' where it cannot be one."""
        name = node.value.get("name")
        if name is None or not isinstance(name.value, str):
            return ""  # its shape says so
        if "${" in name.value:
            self._problems.add(name.mark, "a name is the same for all rows, so it holds no ${...}")
            return ""
        wrong = name_problem(name.value)
        if wrong:
            self._problems.add(name.mark, f"{name.value[:80]!r} cannot be a name: {wrong}")
            return ""
        other = self._names.setdefault(name.value, name.mark)
        if other != name.mark:
            self._problems.add(name.mark, f"the name {name.value!r} is taken: {other}", "names are unique in a run")
        return name.value

    def _check_variables(self, variables: Node | None) -> None:
        if variables is None or not isinstance(variables.value, dict):
            return
        for key in variables.value:
            if not is_name(key):
                hint = "a letter, then letters, digits, _ . and -"
                self._problems.add(variables.keys[key], f"{key[:80]!r} cannot be the name of a variable", hint)
        note_zeros(variables, self._problems)

    def _case(self, draft: Draft, name: str, row: Row, number: int | None) -> Case | None:
        """Return the case of one row; None where there is a mistake."""
        before = len(self._problems)
        node = draft.node
        values = resolve(node.value.get("variables"), row, self._problems)
        filled = {k: v if k in _UNFILLED else fill(v, values, self._problems) for k, v in node.value.items()}
        if isinstance(filled.get("variables", wrap(0, node.mark)).value, dict):
            filled["variables"] = wrap(values, filled["variables"].mark)
        if "tools" in filled:
            filled["tools"] = listed(filled["tools"])
        shaper = Shaper(self._problems)
        shaped = shaper.shape(replace(node, value=filled), Scenario)
        Rules(self._problems, shaper.values, lambda file, path: self._sound(file, shaper.values[path])).check(shaped)
        if not name or len(self._problems) > before or not is_whole(shaped):
            return None
        shaped.pop("parameters", None)
        _move_files(shaped, shaper, draft.folder)
        return Case(
            id=name if number is None else f"{name}[{number}]",
            scenario=msgspec.convert(shaped, Scenario),
            file=draft.file,
            folder=os.path.abspath(draft.folder),  # noqa: PTH100  # no link is followed
            row=number,
            values=row,
            places={path: (mark.line, mark.column) for path, mark in shaper.places.items()},
            elsewhere={path: mark.file for path, mark in shaper.places.items() if mark.file != draft.file},
        )

    def _sound(self, name: str, mark: Mark) -> str:
        """Return what is wrong with an audio file, '' for nothing; each file is examined once."""
        path = Path(mark.file).parent / name
        if path not in self._audio:
            self._audio[path] = _looked_at(path)
        problem, notes = self._audio[path]
        for note in notes:
            self._notes.add(mark, note)
        return problem


def _files_of(folder: Path) -> Iterator[Path]:
    """Yield the scenario files of a directory, in the order of their names."""
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.startswith(("_", ".")):
            continue
        if entry.is_dir() and not entry.is_symlink():
            yield from _files_of(entry)
        elif entry.suffix.lower() in _ENDINGS:
            yield entry


def _looked_at(path: Path) -> tuple[str, tuple[str, ...]]:
    """Return what is wrong with an audio file, '' for nothing, and what is odd about it."""
    from realtime_client.audio.files import read_sound
    from realtime_client.updates import PCM16_24K

    try:
        if path.is_file() and path.stat().st_size > MAX_AUDIO_BYTES:
            return f"the audio file {path} is too big; at most {MAX_AUDIO_BYTES // 1_000_000} MB are taken", ()
        return "", read_sound(path, PCM16_24K).notes
    except (UsageError, OSError, ValueError) as error:
        return str(error), ()


def _move_files(shaped: dict[str, Any], shaper: Shaper, folder: Path) -> None:
    """Name the files of sound and of tools that are included relative to the scenario's own folder."""
    for part, key in (("turns", "audio"), ("tools", "file")):
        for index, entry in enumerate(shaped.get(part, [])):
            place = shaper.values.get(f"{part}.{index}.{key}")
            if entry.get(key) and place is not None and Path(place.file).parent != folder:
                entry[key] = os.path.relpath(Path(place.file).parent / entry[key], folder)


__all__ = ["Loaded", "Problem", "Template", "cases", "load", "with_files"]
