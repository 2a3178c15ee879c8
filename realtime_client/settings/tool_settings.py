"""The settings of tools that are lists or tables: how they are read, shown, and which secrets they hold. Pure.

Each reader takes what a flag that may be repeated gives, a list of the config file, and a text of the environment, and
raises ValueError or TypeError with the end of a sentence, as in `values`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realtime_client.errors import UsageError
from realtime_client.secret import Secret, names_secret
from realtime_client.settings import values as read

if TYPE_CHECKING:
    from realtime_client.tools.mcp.spec import McpServerSpec

NONE = "none"
"""In place of a list: nothing, whatever weaker sources say."""
_MOST = 256
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,200}")


def files(raw: Any) -> tuple[Path, ...]:
    """Read names of files; in one text they are separated as in PATH."""
    return tuple(read.path(each) for each in several(raw, rf"[\n{os.pathsep}]"))


def names(raw: Any) -> tuple[str, ...]:
    """Read names of environment variables, separated by commas."""
    found = tuple(name for each in several(raw, "[,\n]") for name in each.split(","))
    for name in found:
        if not _VARIABLE.fullmatch(name):
            raise ValueError("must be names of environment variables, without values")
    return found


def rules(raw: Any) -> tuple[str, ...]:
    """Read rules of approval, separated by commas."""
    from realtime_client.tools.approval import rule

    try:
        found = [rule(part) for each in several(raw, "[,\n]") for part in each.split(",")]
    except UsageError as error:
        raise ValueError(f"cannot be used: {error}") from None
    return tuple("=".join(each) for each in found)


def servers(raw: Any) -> Secret:
    """Read MCP servers: commands and URLs, one a line; or a table for each server. Keys may stand in all of these."""
    if isinstance(raw, Secret):
        raw = json.loads(raw.reveal())
    found = Secret(as_json(raw if isinstance(raw, Mapping) else [read.word(each) for each in several(raw, "\n")]))
    try:
        server_specs(found)
    except UsageError as error:
        raise ValueError(f"cannot be used: {error}") from None
    return found


def server_specs(value: Secret | None, variables: Sequence[str] = ()) -> tuple[McpServerSpec, ...]:
    """Return the servers that `servers` read. variables: which of the environment those are given that have no table.

    Errors: UsageError.
    """
    if value is None:
        return ()
    from realtime_client.tools.mcp import spec

    found = json.loads(value.reveal())
    if isinstance(found, dict):
        return spec.server_specs(sections=found)
    return tuple(dataclasses.replace(each, env=tuple(variables)) for each in spec.server_specs(found))


def shown_servers(value: Secret) -> list[str]:
    """Return one line for each server, without what is secret."""
    return [f"{each.name}: {each.shown}" for each in server_specs(value)]


def server_secrets(value: Secret | None, variables: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """Return what must not be shown of servers: their headers and keys, and the variables that they are given."""
    found = server_specs(value, variables)
    given = {name for each in found for name in each.env if names_secret(name)}
    return [*(secret for each in found for secret in each.secrets), *(environ[n] for n in given if environ.get(n))]


def several(raw: Any, separators: str) -> list[Any]:
    """Take a list, or a text that holds one. Errors: ValueError, TypeError."""
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
        raise TypeError("must be a list of texts that are not empty")
    return found


def as_json(raw: Any) -> str:
    """Return what a table or a list is in JSON. Errors: ValueError."""
    try:
        return json.dumps(raw)
    except (TypeError, ValueError):
        raise ValueError("holds something else than texts, numbers, lists and tables") from None
