"""Parameters: a CSV or JSONL file, or rows in the scenario itself. A case is made of each row."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from .problem import Mark, Problems
from .variables import is_name
from .yaml_tree import MAX_DEPTH, Node, note_zeros, read_text

Row = dict[str, Any]
MAX_ROWS = 100_000


def read_rows(node: Node, folder: Path, problems: Problems) -> list[Row]:
    """Return the rows that `parameters` names or holds; [] with a mistake when there are none.

    folder: what a file's name is relative to. A mistake in a file names the file's own line. Values in CSV are text.
    """
    if isinstance(node.value, list):
        rows = _inline(node, problems)
    elif isinstance(node.value, str):
        rows = _from_file(node, folder, problems)
    else:
        problems.add(node.mark, "`parameters` must be the name of a CSV or JSONL file, or a list of rows")
        return []
    if len(rows) > MAX_ROWS:
        problems.add(node.mark, f"there are {len(rows)} rows; at most {MAX_ROWS} are taken")
        return []
    return rows


def _inline(node: Node, problems: Problems) -> list[Row]:
    for item in node.value:
        if not isinstance(item.value, dict):
            problems.add(item.mark, "a row must hold columns and values, as {city: Paris}")
            continue
        for key in item.value:
            _check_name(key, item.keys[key], problems)
    note_zeros(node, problems)
    if not node.value:
        problems.add(node.mark, "there are no rows", "leave `parameters` out")
    return [item.plain() for item in node.value if isinstance(item.value, dict)]


def _check_name(name: str, mark: Mark, problems: Problems) -> bool:
    if is_name(name):
        return True
    problems.add(mark, f"{name[:80]!r} cannot be the name of a variable", "a letter, then letters, digits, _ . and -")
    return False


def _from_file(node: Node, folder: Path, problems: Problems) -> list[Row]:
    path = folder / node.value
    kind = path.suffix.lower()
    if kind not in (".csv", ".jsonl", ".ndjson"):
        problems.add(node.mark, f"{node.value!r} is neither a CSV nor a JSONL file", "its name ends in .csv or .jsonl")
        return []
    shown = str(path)
    before = len(problems)
    text = read_text(path, shown, problems, at=node.mark)
    if text is None:
        return []
    rows = _read_csv(text, shown, problems) if kind == ".csv" else _read_jsonl(text, shown, problems)
    if not rows and len(problems) == before:
        problems.add(Mark(shown, 1, 1), "there are no rows")
    return rows


def _read_csv(text: str, file: str, problems: Problems) -> list[Row]:
    """Read CSV as RFC 4180 has it: the first line names the columns."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    rows: list[Row] = []
    end = 0
    try:
        for cells in reader:
            line, end = end + 1, reader.line_num
            if not cells:
                continue
            if not header:
                header = [cell.strip() for cell in cells]
                if not _check_header(header, Mark(file, line, 1), problems):
                    return []
            elif len(cells) != len(header):
                what = f"this row has {len(cells)} values, the first line names {len(header)} columns"
                problems.add(Mark(file, line, 1), what, "put a value with a comma in double quotes")
            else:
                rows.append(dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        problems.add(Mark(file, max(1, reader.line_num), 1), f"this is not CSV: {error}")
    return rows


def _check_header(header: list[str], mark: Mark, problems: Problems) -> bool:
    good = all([_check_name(name, mark, problems) for name in header])  # noqa: C419  # every one is looked at
    for name in dict.fromkeys(name for name in header if header.count(name) > 1):
        problems.add(mark, f"the column {name[:80]!r} is here twice")
        good = False
    return good


def _read_jsonl(text: str, file: str, problems: Problems) -> list[Row]:
    """Read JSON Lines: an object a line."""
    rows: list[Row] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_constant=_refuse, parse_float=_finite)
        except json.JSONDecodeError as error:
            problems.add(Mark(file, number, error.colno), f"this is not JSON: {error.msg}")
        except (ValueError, RecursionError) as error:
            problems.add(Mark(file, number, 1), f"this is not JSON: {error}")
        else:
            if _depth(row) > MAX_DEPTH:
                problems.add(Mark(file, number, 1), f"this is nested more than {MAX_DEPTH} deep")
            elif not isinstance(row, dict):
                problems.add(Mark(file, number, 1), 'a line must be a JSON object, as {"city": "Paris"}')
            elif all([_check_name(name, Mark(file, number, 1), problems) for name in row]):  # noqa: C419
                rows.append(row)
    return rows


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:40]} is too great a number")
    return value


def _depth(value: Any) -> int:
    """Return how deep lists and objects are nested; without recursion, because it may be deep."""
    depth, level = 0, [value]
    while level:
        depth += 1
        inside = [list(one.values()) if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [child for children in inside for child in children]
    return depth


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")
