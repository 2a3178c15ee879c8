"""Server side: checks of the tools that a client offers, and of which of them the model is to use."""

from __future__ import annotations

import re
from typing import Any

from .checks import Check, Json, Refusal, a_boolean, an_array, an_object, fields, kind_of, missing, one_of, text, texts

_NAME = re.compile(r"[a-zA-Z0-9_-]+")
_NAME_CHARS = 64
_FUNCTION: dict[str, Check] = {"type": text, "name": text, "description": text, "parameters": an_object}
_WHERE = ("server_url", "connector_id", "tunnel_id")
_LIST_OR_FILTER = kind_of((list, dict), "an array or an object")
_WORD_OR_FILTER = kind_of((str, dict), "a string or an object")
_MCP: dict[str, Check] = {
    **dict.fromkeys(("type", "server_label", "server_description", "authorization", *_WHERE), text),
    "headers": an_object,
    "allowed_tools": _LIST_OR_FILTER,
    "require_approval": _WORD_OR_FILTER,
    "defer_loading": a_boolean,
    "allowed_callers": texts,
}
_CHOICE = {"function": ("name",), "mcp": ("server_label", "name")}


def tools(value: Any, param: str) -> None:
    """A list of functions and remote MCP servers, each with a name of its own."""
    an_array(value, param)
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
    url = tool.get("server_url")
    if url and not re.match(r"https?://[^\s/?#]", url):
        raise Refusal(f"Invalid '{at}.server_url': expected an http or https URL.", param=f"{at}.server_url")


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
