"""Server side: the MCP servers of one session, and the calls of their tools that are under way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from .checks import Json, Refusal
from .item_list import Entry
from .remote_tools import Offer, RemoteServer, RemoteTool, offers
from .response import ResponseRun

LIST_S = 15.0
CALL_S = 60.0
MOST_CALLS = 16
_MOST_ASKED = 256


@dataclass(slots=True)
class Listing:
    """A server of the session. tools: None while it is asked. due_s: when it is given up, None before the next tick."""

    server: RemoteServer
    entry: Entry
    tools: tuple[RemoteTool, ...] | None = None
    due_s: float | None = None


@dataclass(slots=True)
class OpenCall:
    """A call under way. run: the answer that made it, None for one that was allowed later. due_s: as of `Listing`."""

    entry: Entry
    run: ResponseRun | None
    output_index: int = 0
    due_s: float | None = None


@dataclass(slots=True)
class RemoteBook:
    """All of it. listings: by label. calls: by the ids of their items. asked: calls that wait to be allowed, too."""

    listings: dict[str, Listing] = field(default_factory=dict)
    calls: dict[str, OpenCall] = field(default_factory=dict)
    asked: dict[str, Entry] = field(default_factory=dict)

    def ask(self, entry: Entry) -> None:
        """A call waits to be allowed; of very many, the oldest are forgotten."""
        self.asked[entry.id] = entry
        if len(self.asked) > _MOST_ASKED:
            del self.asked[next(iter(self.asked))]

    def waits(self, settings: Json) -> bool:
        """Whether a server that these settings offer has not told its tools yet."""
        if settings["tool_choice"] == "none":
            return False
        labels = (tool["server_label"] for tool in settings["tools"] if tool["type"] == "mcp")
        return any(label in self.listings and self.listings[label].tools is None for label in labels)

    def offers(self, settings: Json) -> dict[str, Offer]:
        """Return what an answer with these settings may call, by what the model calls it."""
        return offers(settings, {label: each.tools or () for label, each in self.listings.items()})

    def check_known(self, settings: Json) -> None:
        """Refuse MCP servers that only a response names: they are asked when the session begins to use them.

        Errors: Refusal.
        """
        for index, tool in enumerate(settings["tools"]):
            listing = self.listings.get(tool.get("server_label"))
            if tool["type"] == "mcp" and (listing is None or listing.server.url != tool["server_url"]):
                raise Refusal(
                    f"MCP server '{tool['server_label']}' is not among the session's tools: a response can use those "
                    "servers that session.update has named.",
                    param=f"response.tools[{index}].server_label",
                )

    def over(self, context: Iterable[Entry]) -> Iterator[Entry]:
        """Leave out calls that are under way: there is nothing to tell a model of them yet."""
        return (entry for entry in context if entry.id not in self.calls)

    def due_s(self) -> float | None:
        """When the first time limit is over; at once for one that has not begun yet, None for never."""
        dues = [each.due_s for each in self.listings.values() if each.tools is None]
        dues += [call.due_s for call in self.calls.values()]
        return min((due_s or 0.0 for due_s in dues), default=None)

    def overdue(self, now_s: float) -> tuple[list[Listing], list[str]]:
        """Return the servers, and the items of calls, whose time is over. Those without a limit get theirs."""
        late: list[Listing] = []
        for listing in self.listings.values():
            listing.due_s = now_s + LIST_S if listing.due_s is None else listing.due_s
            if listing.tools is None and listing.due_s <= now_s:
                late.append(listing)
        calls: list[str] = []
        for item_id, call in self.calls.items():
            call.due_s = now_s + CALL_S if call.due_s is None else call.due_s
            if call.due_s <= now_s:
                calls.append(item_id)
        return late, calls
