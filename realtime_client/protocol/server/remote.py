"""Server side: the tools of MCP servers, which this server calls itself, and those of them that the client allows.

session.update with a server: conversation.item.added (mcp_list_tools), mcp_list_tools.in_progress, then completed or
failed, and conversation.item.done with the tools, or with the error. A call: response.output_item.added (mcp_call),
conversation.item.added, arguments deltas and done, response.mcp_call.in_progress, then completed or failed,
output_item.done and conversation.item.done with output or error; the response may be done before it. A call that has to
be allowed is an mcp_approval_request instead; once the client allows it, the call is an item by itself, in no response.
"""

from __future__ import annotations

from collections.abc import Sequence

from realtime_client.protocol import events as ev
from realtime_client.protocol.items import Item

from .checks import Refusal
from .item_list import Entry, snapshot
from .remote_book import CALL_S, LIST_S, MOST_CALLS, Listing, OpenCall
from .remote_tools import Offer, RemoteServer, RemoteTool, bounded, servers_of
from .replies import ServerReplies
from .response import ResponseRun
from .state import Output
from .work import CallRemote, LeaveRemote, ListRemote, StopRemote

CANCELLED = "the call was cancelled, and whether it had an effect is not known"


class ServerRemote(ServerReplies):
    """Lists and calls remote tools. `ServerConversation` is what others use."""

    def listed(self, item_id: str, tools: Sequence[RemoteTool]) -> Output:
        """The engine answers a ListRemote: what the server offers."""
        listing = self._listing(item_id)
        if listing is not None:
            self._end_listing(listing, bounded(tools))
        return self._take()

    def not_listed(self, item_id: str, message: str) -> Output:
        """The server cannot be used. message: why, in one line."""
        listing = self._listing(item_id)
        if listing is not None:
            self._end_listing(listing, (), message)
        return self._take()

    def returned(self, item_id: str, output: str) -> Output:
        """The engine answers a CallRemote."""
        self._end_call(item_id, output=output)
        return self._take()

    def broke(self, item_id: str, message: str) -> Output:
        """A call failed. message: why, for the model to read."""
        self._end_call(item_id, message=message)
        return self._take()

    # --- servers ------------------------------------------------------------------------------------------------------

    def _ask_servers(self) -> None:
        """Leave the servers that the settings do not name any longer, and ask those that are new, or others now."""
        wanted = servers_of(self._settings)
        for label, listing in list(self._remote.listings.items()):
            if wanted.get(label) != listing.server:
                self._leave(label, listing)
        for label, server in wanted.items():
            if label not in self._remote.listings:
                self._list(server)

    def _list(self, server: RemoteServer) -> None:
        item = Item(type="mcp_list_tools", id=self._new_id("mcpl"), server_label=server.label, tools=[])
        entry = Entry(item)
        previous = self.items.insert(entry)
        self._remote.listings[server.label] = Listing(server, entry)
        self._emit(ev.ConversationItemAdded(item=snapshot(item), previous_item_id=previous))
        self._emit(ev.McpListToolsInProgress(item_id=entry.id))
        self._out.append(ListRemote(item_id=entry.id, server=server))

    def _leave(self, label: str, listing: Listing) -> None:
        why = "the session does not use this server any longer"
        if listing.tools is None:
            self._end_listing(listing, (), why)
        for item_id, call in list(self._remote.calls.items()):
            if call.entry.item.server_label == label:
                self._end_call(item_id, message=f"{why}; whether the call had an effect is not known")
        del self._remote.listings[label]
        self._out.append(LeaveRemote(label=label))

    def _listing(self, item_id: str) -> Listing | None:
        """Return the server that is asked for its tools under this item, None if that is over."""
        found = (each for each in self._remote.listings.values() if each.entry.id == item_id and each.tools is None)
        return next(found, None)

    def _end_listing(self, listing: Listing, tools: tuple[RemoteTool, ...], error: str = "") -> None:
        listing.tools = tools
        entry = listing.entry
        entry.item.tools = [tool.listed() for tool in tools]
        if error:
            entry.item.error = {"type": "server_error", "message": error}
            self._emit(ev.McpListToolsFailed(item_id=entry.id))
        else:
            self._emit(ev.McpListToolsCompleted(item_id=entry.id))
        self._item_done(entry)

    def _item_done(self, entry: Entry) -> None:
        """An item that is in no answer is complete, unless it was deleted meanwhile."""
        self.items.resize(entry)
        if entry.id in self.items:
            previous = self.items.previous_id(entry.id)
            self._emit(ev.ConversationItemDone(item=snapshot(entry.item), previous_item_id=previous))

    # --- calls --------------------------------------------------------------------------------------------------------

    def _call_remote(self, run: ResponseRun, offer: Offer, arguments: str, call_id: str) -> None:
        """The model calls a remote tool: it is called, or the client is asked whether it may be."""
        item = Item(
            type="mcp_approval_request" if offer.asks else "mcp_call",
            id=call_id if call_id and call_id not in self.items else self._new_id("mcpr" if offer.asks else "mcp"),
            server_label=offer.label,
            name=offer.tool.name,
            arguments=arguments,
        )
        if offer.asks:
            self._remote.ask(run.ask(item))
        else:
            entry = run.call_remote(item)
            self._begin_call(OpenCall(entry, run, len(run.output) - 1))

    def _decide(self, response: Item) -> None:
        """The client has allowed a call, or refused it; its answer is in the conversation already."""
        asked = self._remote.asked.pop(response.approval_request_id or "").item
        if not response.approve:
            return
        entry = Entry(
            Item(
                type="mcp_call",
                id=self._new_id("mcp"),
                server_label=asked.server_label,
                name=asked.name,
                arguments=asked.arguments,
                approval_request_id=asked.id,
            )
        )
        previous = self.items.insert(entry)
        self._emit(ev.ConversationItemAdded(item=snapshot(entry.item), previous_item_id=previous))
        self._begin_call(OpenCall(entry, None))

    def _check_decision(self, response: Item) -> None:
        """Refuse the answer to a question that was not asked, or has its answer. Errors: Refusal."""
        if response.approval_request_id not in self._remote.asked:
            raise Refusal(
                f"Approval request with id '{response.approval_request_id}' not found, or answered already.",
                param="item.approval_request_id",
            )

    def _begin_call(self, call: OpenCall) -> None:
        item = call.entry.item
        calls, label = self._remote.calls, item.server_label or ""
        calls[call.entry.id] = call
        self._emit(ev.ResponseMcpCallInProgress(item_id=call.entry.id, output_index=call.output_index))
        if label not in self._remote.listings:
            self._end_call(call.entry.id, message="the session does not use this server any longer")
        elif len(calls) > MOST_CALLS:
            self._end_call(call.entry.id, message=f"too many calls at one time: {MOST_CALLS} are under way")
        else:
            work = CallRemote(item_id=call.entry.id, label=label, name=item.name or "", arguments=item.arguments or "")
            self._out.append(work)

    def _end_call(self, item_id: str, *, output: str | None = None, message: str = "") -> None:
        """A call is over, unless it was before. message: why it brought nothing."""
        call = self._remote.calls.pop(item_id, None)
        if call is None:
            return
        if output is None:
            call.entry.item.error = {"type": "tool_execution_error", "message": message}
            self._emit(ev.ResponseMcpCallFailed(item_id=item_id, output_index=call.output_index))
        else:
            call.entry.item.output = output
            self._emit(ev.ResponseMcpCallCompleted(item_id=item_id, output_index=call.output_index))
        if call.run is not None:
            call.run.end_remote(call.entry)
        else:
            self._item_done(call.entry)

    def _stop_call(self, item_id: str, message: str) -> None:
        self._out.append(StopRemote(item_id=item_id))
        self._end_call(item_id, message=message)

    def _cancel(self, run: ResponseRun, reason: str) -> None:
        for item_id in [item_id for item_id, call in self._remote.calls.items() if call.run is run]:
            self._stop_call(item_id, CANCELLED)
        super()._cancel(run, reason)

    def _end_overdue(self, now_s: float) -> None:
        """Give up the servers and the calls that take too long."""
        late, calls = self._remote.overdue(now_s)
        for listing in late:
            self._end_listing(listing, (), f"the server did not tell its tools within {LIST_S:g} s")
            self._out.append(LeaveRemote(label=listing.server.label))
        for item_id in calls:
            self._stop_call(item_id, f"it took longer than {CALL_S:g} s; whether the call had an effect is not known")
