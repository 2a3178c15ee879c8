"""The setting of MCP servers that the model's server asks: how it is read, shown, and what is sent of it. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from msgspec import UNSET

from realtime_client.errors import UsageError
from realtime_client.escape import one_line, shortened
from realtime_client.protocol.session import McpTool
from realtime_client.secret import Secret, shown_url, url_secrets
from realtime_client.settings import values as read
from realtime_client.settings.tool_settings import as_json, several

_KEYS = ("url", "authorization_env", "allowed_tools", "require_approval")
_LABEL = re.compile(r"[A-Za-z0-9_-]{1,64}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,200}")
_WORDS = ("always", "never")
_FORM = "a server is given as LABEL=URL, with a label of letters, digits, _ and -, at most 64"


@dataclass(frozen=True, kw_only=True)
class RemoteSpec:
    """One server. authorization_env: the variable with the token that it is shown. The rest: as the protocol has it."""

    label: str
    url: str = field(repr=False)
    authorization_env: str = ""
    allowed_tools: list[str] | dict[str, Any] | None = None
    require_approval: str | dict[str, Any] = "always"


def remote_servers(raw: Any) -> Secret:
    """Read servers: LABEL=URL, one a line; or by label, a URL or a table each. Keys may stand in the URLs.

    Errors: ValueError, TypeError, as all readers of settings.
    """
    if isinstance(raw, Secret):
        raw = json.loads(raw.reveal())
    if isinstance(raw, Mapping):
        found = dict(raw)
    else:
        pairs = [read.word(each).partition("=") for each in several(raw, "\n")]
        if not all(equals for _, equals, _ in pairs):
            raise ValueError(f"cannot be used: {_FORM}")
        found = {label: url for label, _, url in pairs}
        if len(found) < len(pairs):
            raise ValueError("holds two servers of one label")
    value = Secret(as_json(found))
    try:
        remote_specs(value)
    except UsageError as error:
        raise ValueError(f"cannot be used: {error}") from None
    return value


def remote_specs(value: Secret | None) -> tuple[RemoteSpec, ...]:
    """Return the servers that `remote_servers` read. Errors: UsageError."""
    found = {} if value is None else json.loads(value.reveal())
    return tuple(_spec(label, content) for label, content in found.items())


def shown_remote(value: Secret) -> list[str]:
    """Return one line for each server, without what is secret."""
    return [f"{each.label}={one_line(shown_url(each.url), 200)}" for each in remote_specs(value)]


def remote_secrets(value: Secret | None, environ: Mapping[str, str]) -> list[str]:
    """Return what must not be shown of servers: their tokens, and keys in their URLs."""
    found = remote_specs(value)
    tokens = [environ.get(each.authorization_env, "") for each in found if each.authorization_env]
    return [secret for each in found for secret in url_secrets(each.url)] + [token for token in tokens if token]


def remote_tools(value: Secret | None, environ: Mapping[str, str]) -> list[McpTool]:
    """Return the servers as a session's tools. Errors: UsageError for a variable that is not set."""
    return [_tool(each, environ) for each in remote_specs(value)]


def _tool(spec: RemoteSpec, environ: Mapping[str, str]) -> McpTool:
    token = environ.get(spec.authorization_env, "").strip() if spec.authorization_env else ""
    if spec.authorization_env and not token:
        raise UsageError(f"server_mcp {spec.label}: the variable {spec.authorization_env}, its token, is not set")
    return McpTool(
        server_label=spec.label,
        server_url=spec.url,
        authorization=token or UNSET,
        allowed_tools=UNSET if spec.allowed_tools is None else spec.allowed_tools,
        require_approval=spec.require_approval,
    )


def _spec(label: str, content: Any) -> RemoteSpec:
    if not _LABEL.fullmatch(label):
        raise UsageError(_FORM)
    where = f"[server_mcp.{label}]"
    if isinstance(content, str):
        content = {"url": content}
    if not isinstance(content, Mapping):
        raise UsageError(f"{where}: a server is a section with a url")
    unknown = [key for key in content if key not in _KEYS]
    if unknown:
        raise UsageError(f"{where}: there is no key {shortened(unknown[0], 40)!r}; the keys are {', '.join(_KEYS)}")
    variable = content.get("authorization_env", "")
    if variable and not (isinstance(variable, str) and _VARIABLE.fullmatch(variable)):
        raise UsageError(f"{where} authorization_env: it is the name of a variable that holds the token")
    return RemoteSpec(
        label=label,
        url=_url(content.get("url"), where),
        authorization_env=variable,
        allowed_tools=_allowed(content.get("allowed_tools"), f"{where} allowed_tools"),
        require_approval=_approval(content.get("require_approval", "always"), f"{where} require_approval"),
    )


def _url(value: Any, where: str) -> str:
    try:
        parts = urlsplit(value) if isinstance(value, str) else None
        good = parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or re.search(r"[\s\0]", value):
        raise UsageError(f"{where}: it needs the URL of a server: https://HOST, or http://HOST")
    return str(value)


def _allowed(value: Any, where: str) -> list[str] | dict[str, Any] | None:
    if value is None or _are_texts(value):
        return None if value is None else list(value)
    return _filter(value, where)


def _approval(value: Any, where: str) -> str | dict[str, Any]:
    if value in _WORDS:
        return str(value)
    if isinstance(value, Mapping) and value and set(value) <= set(_WORDS):
        return {word: _filter(each, f"{where}.{word}") for word, each in value.items()}
    raise UsageError(f"{where}: it is always, never, or a table of these two with tool_names, or read_only, in them")


def _filter(value: Any, where: str) -> dict[str, Any]:
    if isinstance(value, Mapping) and set(value) <= {"tool_names", "read_only"}:
        good_names = _are_texts(value.get("tool_names", []))
        if good_names and isinstance(value.get("read_only", True), bool):
            return dict(value)
    raise UsageError(f"{where}: it is a table with tool_names, a list, or read_only, true or false")


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) and each for each in value)
