"""The settings of tools that are lists or tables: how they are read, shown, and which secrets they hold. Pure.

Each reader takes what a flag that may be repeated gives, a list of the config file, and a text of the environment, and
raises ValueError or TypeError with the end of a sentence, as in `values`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from realtime_client.errors import UsageError
from realtime_client.secret import Secret, names_secret, shown_url, url_secrets
from realtime_client.settings import values as read

NONE = "none"
"""In place of a list: nothing, whatever weaker sources say."""
_MOST = 256
_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,200}")

Servers = list[str] | dict[str, dict[str, Any]]


def files(raw: Any) -> tuple[Path, ...]:
    """Read names of files; in one text they are separated as in PATH."""
    return tuple(read.path(each) for each in _several(raw, rf"[\n{os.pathsep}]"))


def names(raw: Any) -> tuple[str, ...]:
    """Read names of environment variables, separated by commas."""
    found = tuple(name for each in _several(raw, "[,\n]") for name in each.split(","))
    for name in found:
        if not _VARIABLE.fullmatch(name):
            raise ValueError("must be names of environment variables")
    return found


def rules(raw: Any) -> tuple[str, ...]:
    """Read rules of approval, separated by commas."""
    from realtime_client.tools.approval import rule

    try:
        found = [rule(part) for each in _several(raw, "[,\n]") for part in each.split(",")]
    except UsageError as error:
        raise ValueError(f"holds {error}") from None
    return tuple("=".join(each) for each in found)


def servers(raw: Any) -> Secret:
    """Read MCP servers: commands and URLs, one a line; or a table for each server. Keys may stand in all of these."""
    if isinstance(raw, Secret):
        raw = json.loads(raw.reveal())
    if isinstance(raw, Mapping):
        for name, table in raw.items():
            if not _NAME.fullmatch(name):
                raise ValueError("names a server otherwise than by letters, digits, _ and -, at most 40")
            if not isinstance(table, Mapping):
                raise ValueError(f"must hold a section for each server, such as [mcp.{name}]")
        return Secret(_as_json(raw))
    return Secret(_as_json([read.word(each) for each in _several(raw, "\n")]))


def server_list(value: Secret | None) -> Servers:
    """Return servers as `servers` read them: commands and URLs, or a table for each."""
    return [] if value is None else cast("Servers", json.loads(value.reveal()))


def _several(raw: Any, separators: str) -> list[Any]:
    """Take a list, or a text that holds one."""
    if isinstance(raw, str):
        raw = [part.strip() for part in re.split(separators, raw)]
        raw = [part for part in raw if part]
    if isinstance(raw, Path):
        raw = [raw]
    if not isinstance(raw, Sequence):
        raise TypeError("must be a list, or text in quotes")
    if len(raw) > _MOST:
        raise ValueError(f"holds more than {_MOST} entries")
    found = [each.strip() if isinstance(each, str) else each for each in raw]
    if found == [NONE]:
        return []
    if not all(isinstance(each, str | Path) and each != "" for each in found):
        raise TypeError("must be a list of texts")
    return found


def _as_json(raw: Any) -> str:
    try:
        return json.dumps(raw)
    except (TypeError, ValueError):
        raise ValueError("holds something else than texts, numbers, lists and tables") from None


# --- what is shown ----------------------------------------------------------------------------------------------------


def shown_servers(value: Secret) -> list[str]:
    """Return one line for each server: where it is, without what may be secret in that."""
    found = server_list(value)
    if isinstance(found, list):
        return [_shown_place(each) for each in found]
    return [f"{name}: {_shown_place(_place(table))}" for name, table in found.items()]


def _place(table: Mapping[str, Any]) -> str:
    return str(table.get("url") or table.get("command") or "")


def _shown_place(text: str) -> str:
    """A URL without its keys; of a command only the program, since any argument may be a key."""
    if "://" in text:
        return shown_url(text)
    program, *more = text.split()[:2] or [""]
    return f"{program} ..." if more else program


def server_secrets(value: Secret | None, variables: Sequence[str], environ: Mapping[str, str]) -> Iterator[str]:
    """Yield what must not be shown of servers: headers, keys in URLs, and variables by whose name they are secrets."""
    found = server_list(value)
    tables = found.values() if isinstance(found, dict) else [{"url": each} for each in found]
    for table in tables:
        yield from url_secrets(_place(table))
        yield from _values(table.get("headers"))
        for name, text in _pairs(table.get("env")):
            if names_secret(name):
                yield text
    for name in variables:
        if names_secret(name) and environ.get(name):
            yield environ[name]


def _pairs(table: Any) -> Iterator[tuple[str, str]]:
    for name, text in table.items() if isinstance(table, dict) else ():
        if isinstance(text, str):
            yield name, text


def _values(table: Any) -> Iterator[str]:
    for _, text in _pairs(table):
        yield text.removeprefix("Bearer ").removeprefix("Basic ")
