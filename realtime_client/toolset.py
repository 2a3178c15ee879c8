"""The tools of a session, from its settings: files, servers, the rules about them, and what runs their calls."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from realtime_client.session.session import Session
from realtime_client.settings import FLAG, Settings
from realtime_client.settings.tool_settings import server_specs

if TYPE_CHECKING:
    import asyncio

    from realtime_client.tools.approval import Policy
    from realtime_client.tools.mcp.spec import McpServerSpec
    from realtime_client.tools.tool import Tool
    from realtime_client.tools.toolbox import Toolbox

    Offered = Tool | Callable[..., object]
    """What a program may give as a tool."""

_SLOW_S = 1.0
_END_S = 1.0
"""What a tool that works on a call may take to end when the session does; then it is left behind."""


def toolbox_of(
    settings: Settings,
    tools: Sequence[Offered],
    stack: ExitStack,
    *,
    tell: Callable[[str], object],
    starting: Callable[[Callable[[], object]], object],
) -> Toolbox | None:
    """Return the tools that the model may call; None if there are none. Servers run until the stack is closed.

    tell: takes a line about servers that take their time, and about rules that fit no tool. starting: gets what closes
    the servers, before they start.
    Errors: UsageError; MissingExtraError; ConnectError and its kinds for a server.
    """
    servers = server_specs(settings.mcp, settings.mcp_env)
    if not (tools or settings.tool_files or servers):
        return None
    from realtime_client.tools.files import load_tools
    from realtime_client.tools.functions import as_tool
    from realtime_client.tools.toolbox import Toolbox

    own = [as_tool(each) for each in tools]
    toolbox = Toolbox((*own, *(tool for path in settings.tool_files for tool in load_tools(path))))
    if servers:
        _start(servers, toolbox, stack, tell, starting)
    # A config file may have rules for what is not there today, and what the model's server calls is not known here.
    if settings.rank("approve") == FLAG and not settings.server_mcp:
        for text in _unused(settings.approve, toolbox):
            tell(f"no tool fits --approve {text}")
    return toolbox


def _unused(rules: Sequence[str], toolbox: Toolbox) -> list[str]:
    """Return the rules that are about none of the tools: a mistyped one protects from nothing."""
    from realtime_client.tools.approval import fits, rule

    named = toolbox.named.items()
    return [text for text in rules if not any(fits(rule(text).pattern, name, tool.origin) for name, tool in named)]


def _start(
    servers: Sequence[McpServerSpec],
    toolbox: Toolbox,
    stack: ExitStack,
    tell: Callable[[str], object],
    starting: Callable[[Callable[[], object]], object],
) -> None:
    from realtime_client.tools.mcp.servers import McpServers

    running = stack.enter_context(closing(McpServers(servers, toolbox.set)))
    starting(running.close)
    names = ", ".join(each.name for each in servers)
    slow = threading.Timer(_SLOW_S, tell, [f"waiting for the MCP server{'s' if len(servers) > 1 else ''} {names}"])
    slow.name, slow.daemon = "realtime-slow", True
    slow.start()
    try:
        running.start()
    finally:
        slow.cancel()


def no_tools() -> Toolbox:
    """Return tools that are none: calls of the model's server are decided about all the same."""
    from realtime_client.tools.toolbox import Toolbox

    return Toolbox()


def tool_policy(settings: Settings) -> Policy:
    """Return what decides which tools may run: the rules of the settings, then what the user had remembered."""
    from realtime_client.tools.approval import Policy, Rule, rule
    from realtime_client.tools.memory import FileMemory

    servers = server_specs(settings.mcp)
    of_servers = [Rule(f"{each.name}/*", each.approve) for each in servers if each.approve is not None]
    return Policy([*map(rule, settings.approve), *of_servers], FileMemory())


def run_tools(
    settings: Settings,
    session: Session,
    toolbox: Toolbox | None,
    policy: Policy | None = None,
    *,
    asks: bool,
    loop: asyncio.AbstractEventLoop | None,
) -> Callable[[], object]:
    """Run the calls of a session's tools; returns what ends that. policy: default, as the settings say."""
    if toolbox is None:
        return bool
    from realtime_client.tools.runner import ToolRunner

    policy = policy or tool_policy(settings)
    runner = ToolRunner(session, toolbox, policy, asks=asks, limits=settings.tool_limits, loop=loop)
    runner.start()
    return lambda: runner.close(_END_S)
