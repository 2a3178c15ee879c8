"""Server side: tools of MCP servers: where the servers are, what they offer, and what of it a model may call."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from realtime_client.secret import Secret

Json = dict[str, Any]

MOST_TOOLS = 128
MOST_BYTES = 2**20
_SECRET = ("authorization", "headers")
_UNFIT = re.compile(r"[^A-Za-z0-9_-]+")


class RemoteServer(msgspec.Struct, frozen=True, kw_only=True):
    """Where an MCP server is. headers: sent with every request to it, the client's authorization among them."""

    label: str
    url: str
    headers: dict[str, Secret] = {}


class RemoteTool(msgspec.Struct, frozen=True, kw_only=True):
    """A tool as its server lists it. reads: it only reads, by the server's own word."""

    name: str
    description: str = ""
    input_schema: Json = {}
    reads: bool = False

    def listed(self) -> Json:
        """Return it as an item of the protocol names it."""
        hints = {"readOnlyHint": True} if self.reads else None
        return {
            "name": self.name,
            "description": self.description,
            "input_schema": self.input_schema,
            "annotations": hints,
        }


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A remote tool as one answer may call it. name: what the model calls it. asks: a call waits to be allowed."""

    name: str
    label: str
    tool: RemoteTool
    asks: bool


def offers(settings: Json, listed: Mapping[str, Collection[RemoteTool]]) -> dict[str, Offer]:
    """Return what the model may call, by names that are unlike each other and unlike those of functions.

    listed: what each server offers, by label. A tool keeps its name if it can; else its label comes before it, or a
    number behind it.
    """
    taken = {tool["name"] for tool in settings["tools"] if tool["type"] == "function"}
    found: dict[str, Offer] = {}
    for given in settings["tools"]:
        label = given["server_label"] if given["type"] == "mcp" else ""
        for tool in _allowed(given, listed.get(label, ())):
            name = next((each for each in _names(label, tool.name) if each not in taken), None)
            if name is not None and len(taken) < MOST_TOOLS:
                taken.add(name)
                found[name] = Offer(name=name, label=label, tool=tool, asks=_asks(given.get("require_approval"), tool))
    return found


def told(settings: Json) -> Json:
    """Return the settings as a client may be told them: what it gave for its MCP servers alone is not said again."""
    if not any(tool["type"] == "mcp" for tool in settings.get("tools") or ()):
        return settings
    tools = [{name: value for name, value in tool.items() if name not in _SECRET} for tool in settings["tools"]]
    return settings | {"tools": tools}


def servers_of(settings: Json) -> dict[str, RemoteServer]:
    """Return the MCP servers of a session's settings, by label."""
    found = {}
    for tool in settings.get("tools") or ():
        if tool["type"] == "mcp":
            headers = {name: Secret(value) for name, value in (tool.get("headers") or {}).items()}
            if tool.get("authorization"):
                headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
                headers["Authorization"] = Secret(f"Bearer {tool['authorization']}")
            label = tool["server_label"]
            found[label] = RemoteServer(label=label, url=tool["server_url"], headers=headers)
    return found


def bounded(tools: Iterable[RemoteTool]) -> tuple[RemoteTool, ...]:
    """Return the first tools of a server: as many as a model takes, and as a message carries."""
    kept: list[RemoteTool] = []
    left = MOST_BYTES
    for tool in tools:
        left -= len(msgspec.json.encode(tool.listed()))
        if left < 0 or len(kept) == MOST_TOOLS:
            break
        kept.append(tool)
    return tuple(kept)


def _allowed(given: Json, tools: Iterable[RemoteTool]) -> Iterator[RemoteTool]:
    """Leave out what `allowed_tools` does not name."""
    wanted = given.get("allowed_tools")
    chosen = {"tool_names": wanted} if isinstance(wanted, list) else wanted
    return (tool for tool in tools if chosen is None or _fits(chosen, tool))


def _fits(chosen: Json, tool: RemoteTool) -> bool:
    """Whether a tool is one of those that a filter names. An empty filter names all."""
    names, read_only = chosen.get("tool_names"), chosen.get("read_only")
    return (names is None or tool.name in names) and (read_only is None or tool.reads is read_only)


def _asks(required: str | Json | None, tool: RemoteTool) -> bool:
    """Whether a call has to be allowed by the client: always, where nothing else is said, or where both are."""
    if not isinstance(required, dict):
        return required != "never"
    always, never = required.get("always"), required.get("never")
    return (always is not None and _fits(always, tool)) or never is None or not _fits(never, tool)


def _names(label: str, name: str) -> Iterator[str]:
    plain = _UNFIT.sub("_", name)[:64] or "tool"
    yield from (plain, f"{label[:30]}_{plain}"[:64])
    yield from (f"{plain[:60]}_{number}" for number in range(2, MOST_TOOLS))
