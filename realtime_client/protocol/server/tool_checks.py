"""Server side: checks of the tools that a client offers, and of which of them the model is to use."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from realtime_client.loopback import is_loopback

from .checks import Check, Json, Refusal, a_boolean, an_array, an_object, fields, kind_of, missing, one_of, text, texts

_NAME = re.compile(r"[a-zA-Z0-9_-]+")
_NAME_CHARS = 64
MOST_SERVERS = 8
_FUNCTION: dict[str, Check] = {"type": text, "name": text, "description": text, "parameters": an_object}
_WHERE = ("server_url", "connector_id", "tunnel_id")
_FILTER: dict[str, Check] = {"tool_names": texts, "read_only": a_boolean}
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, 5.6.2
_LIST_OR_OBJECT = kind_of((list, dict), "an array or an object")
_WORD_OR_OBJECT = kind_of((str, dict), "a string or an object")


def _chosen(value: Any, param: str) -> None:
    """Some of a server's tools."""
    fields(value, param, _FILTER)


def _allowed_tools(value: Any, param: str) -> None:
    _LIST_OR_OBJECT(value, param)
    (texts if isinstance(value, list) else _chosen)(value, param)


def _require_approval(value: Any, param: str) -> None:
    _WORD_OR_OBJECT(value, param)
    if isinstance(value, str):
        one_of("always", "never")(value, param)
    else:
        fields(value, param, {"always": _chosen, "never": _chosen})


def _sendable(value: Any, param: str) -> None:
    """A text that can stand in a header. It is a secret: no message repeats it."""
    text(value, param)
    if not (value.isascii() and value.isprintable()):
        raise Refusal(f"Invalid '{param}': expected visible ASCII characters.", param=param)


def _headers(value: Any, param: str) -> None:
    an_object(value, param)
    for name, each in value.items():
        if not _HEADER.fullmatch(name):
            raise Refusal(f"Invalid '{param}': there is a name that cannot be a header's.", param=param)
        _sendable(each, f"{param}.{name}")


_MCP: dict[str, Check] = {
    **dict.fromkeys(("type", "server_label", "server_description", *_WHERE), text),
    "authorization": _sendable,
    "headers": _headers,
    "allowed_tools": _allowed_tools,
    "require_approval": _require_approval,
    "defer_loading": a_boolean,
    "allowed_callers": texts,
}
_CHOICE = {"function": ("name",), "mcp": ("server_label", "name")}


def tools(value: Any, param: str) -> None:
    """A list of functions and remote MCP servers, each with a name of its own."""
    an_array(value, param)
    if sum(isinstance(tool, dict) and tool.get("type") == "mcp" for tool in value) > MOST_SERVERS:
        message = f"Invalid '{param}': at most {MOST_SERVERS} MCP servers in one session."
        raise Refusal(message, code="array_above_max_length", param=param)
    seen: set[tuple[str, str]] = set()
    for index, tool in enumerate(value):
        at = f"{param}[{index}]"
        an_object(tool, at)
        if tool.get("type") is None:
            raise missing(f"{at}.type")
        one_of("function", "mcp")(tool["type"], f"{at}.type")
        name = "name" if tool["type"] == "function" else "server_label"
        if not tool.get(name):
            raise missing(f"{at}.{name}")
        if tool["type"] == "function":
            fields(tool, at, _FUNCTION)
        else:
            _mcp(tool, at)
        _tool_name(tool[name], f"{at}.{name}")
        if (tool["type"], tool[name]) in seen:
            raise Refusal(f"Invalid '{at}.{name}': there are two tools named '{tool[name]}'.", param=f"{at}.{name}")
        seen.add((tool["type"], tool[name]))


def _tool_name(name: str, param: str) -> None:
    if not _NAME.fullmatch(name):
        message = f"Invalid '{param}': string does not match pattern. Expected a string that matches the pattern "
        raise Refusal(f"{message}'^{_NAME.pattern}$'.", param=param)
    if len(name) > _NAME_CHARS:
        message = f"Invalid '{param}': string too long. Expected a string with maximum length {_NAME_CHARS}, but got a "
        raise Refusal(f"{message}string with length {len(name)} instead.", code="string_above_max_length", param=param)


def _mcp(tool: Json, at: str) -> None:
    fields(tool, at, _MCP)
    if not any(tool.get(name) for name in _WHERE):
        raise missing(f"{at}.server_url")
    for name in ("connector_id", "tunnel_id"):
        if tool.get(name):
            message = f"Invalid '{at}.{name}': this server reaches MCP servers by their 'server_url' only."
            raise Refusal(message, param=f"{at}.{name}")
    if not _is_safe(tool["server_url"]):
        message = f"Invalid '{at}.server_url': expected an https URL, or an http URL of this machine."
        raise Refusal(message, param=f"{at}.server_url")


def _is_safe(url: str) -> bool:
    """Whether a URL may be asked: what is said on the way to other machines is encrypted."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    if not host or port == 0 or re.search(r"\s", url):
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))


def tool_choice(value: Any, param: str) -> None:
    """auto, none, required, or a tool by name."""
    if not isinstance(value, dict):
        one_of("auto", "none", "required")(value, param)
        return
    if value.get("type") is None:
        raise missing(f"{param}.type")
    one_of(*_CHOICE)(value["type"], f"{param}.type")
    known = _CHOICE[value["type"]]
    fields(value, param, {"type": text, **dict.fromkeys(known, text)}, known[:1])


def check_choice(settings: Json, param: str) -> None:
    """Check that a tool which must be used is offered. Errors: Refusal."""
    choice, offered = settings["tool_choice"], settings["tools"]
    if choice == "required" and not offered:
        raise Refusal(f"Tool choice 'required' must be specified with tools: '{param}' has none to use.", param=param)
    if isinstance(choice, dict):
        kind = choice["type"]
        name = "name" if kind == "function" else "server_label"
        if not any(tool["type"] == kind and tool[name] == choice[name] for tool in offered):
            raise Refusal(f"Tool choice '{choice[name]}' not found in the tools that are offered.", param=param)
