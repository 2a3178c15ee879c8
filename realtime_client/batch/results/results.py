"""results.jsonl and results.csv: writing and reading what a run leaves behind."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from realtime_client.batch.result import VERSION, CaseResult, CheckResult, RunInfo, is_failure, tool_uses
from realtime_client.errors import RecordingError

_decode = msgspec.json.Decoder(CaseResult).decode
_decode_run = msgspec.json.Decoder(RunInfo).decode
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_COLUMNS = [
    "case",
    "scenario",
    "status",
    "file",
    "row",
    "repeat",
    "tags",
    "attempts",
    "started",
    "duration_s",
    "cost_usd",
    "model",
    "target",
    "recording",
    "worker",
    "checks",
    "failed_checks",
    "fault",
    "tool_calls",
    "tool_failures",
]


class _Version(msgspec.Struct):
    version: int = VERSION


def encode_line(result: CaseResult) -> bytes:
    """Return one line of results.jsonl, with its line end."""
    try:
        return msgspec.json.encode(result) + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair somewhere in foreign text
        return msgspec.json.encode(_encodable(msgspec.to_builtins(result))) + b"\n"


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return "".join("\N{REPLACEMENT CHARACTER}" if "\ud800" <= sign <= "\udfff" else sign for sign in value)
    if isinstance(value, dict):
        return {_encodable(name): _encodable(item) for name, item in value.items()}
    return [_encodable(item) for item in value] if isinstance(value, list) else value


def read_results(path: Path) -> tuple[list[CaseResult], int]:
    """Return the results in results.jsonl, one a case, and how many lines were damaged and left out.

    Of a case the first verdict counts, or, without one, its last error: a resumed run plays those again. A last line
    without its end is torn: the run was killed while it was written. Errors: RecordingError when the file cannot be
    read or was written by a newer version; no file is no results.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    except OSError as error:
        raise RecordingError(f"cannot read {path}: {error.strerror or error}") from error
    *lines, torn = data.split(b"\n")
    results: dict[str, CaseResult] = {}
    damaged = int(bool(torn))
    for line in lines:
        try:
            result = _decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            _refuse_newer(path, line)
            damaged += 1
            continue
        before = results.get(result.case)
        if before is None or before.status == "error":
            results[result.case] = result
    return list(results.values()), damaged


def read_run(path: Path) -> RunInfo | None:
    """Return run.json; None when there is none. Errors: RecordingError when it cannot be read or understood."""
    try:
        data = path.read_bytes()
        return _decode_run(data)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RecordingError(f"cannot read {path}: {error.strerror or error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _refuse_newer(path, data)
        raise RecordingError(f"{path} is damaged: {error}") from None


def _refuse_newer(path: Path, data: bytes) -> None:
    try:
        version = msgspec.json.decode(data, type=_Version).version
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    if version > VERSION:
        raise RecordingError(f"{path} was written by a newer version (format {version}, this one knows {VERSION})")


def failed_checks(result: CaseResult) -> list[CheckResult]:
    """Return the checks that did not hold."""
    return [check for check in result.checks if not check.ok]


def check_line(check: CheckResult) -> str:
    """Return one line that says what is wrong and where."""
    where = f"turn {check.turn}, " if check.turn is not None else ""
    text = f"{where}{check.kind}: {check.message or f'expected {check.expected}, seen {check.seen}'}"
    return f"{text} ({check.place})" if check.place else text


def csv_table(results: Sequence[CaseResult]) -> str:
    """Return a table, a case a row, latencies in ms (the median of the case's values) in columns of their own.

    The columns after those hold this program's own waiting in the same way.
    Text that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    names = sorted({name for result in results for name in result.latencies})
    waits = sorted({name for result in results for name in result.own_waiting})
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow([*_COLUMNS, *(f"{name}_ms" for name in names), *(f"{name}_own_waiting_ms" for name in waits)])
    for result in results:
        row = [_cell(_value(result, column)) for column in _COLUMNS]
        row += [_median(result.latencies.get(name)) for name in names]
        row += [_median(result.own_waiting.get(name)) for name in waits]
        table.writerow(row)
    return out.getvalue()


def _median(values: Sequence[float] | None) -> str:
    return f"{statistics.median(values):g}" if values else ""


def _value(result: CaseResult, column: str) -> object:
    if column == "checks":
        return len(result.checks)
    if column == "failed_checks":
        return "; ".join(map(check_line, failed_checks(result)))
    if column == "tool_calls":
        return len(tool_uses(result))
    if column == "tool_failures":
        return sum(map(is_failure, tool_uses(result)))
    if column == "fault":
        return f"{result.fault.kind}: {result.fault.message}" if result.fault else ""
    value = getattr(result, column)
    return " ".join(value) if isinstance(value, list) else value


def _cell(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        return str(value)
    text = value.encode("utf-8", "replace").decode().replace("\0", "")
    return f"'{text}" if text.startswith(_FORMULA) else text
