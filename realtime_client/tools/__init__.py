"""Tools: what the model may call and this program runs, beside the talk.

function, MCP server   -> `Tool`: one name, one schema, judged arguments, an output in text
`Toolbox`              all tools of a session, by name; a server's may change
`ToolRunner`           takes the calls of a session, asks for approval, runs them in workers, sends the results

The names here are not loaded lazily as elsewhere: `tool` would then be the module of that name.
"""

from __future__ import annotations

from realtime_client.errors import ToolError

from .files import load_tools
from .functions import FunctionTool, Progress, tool
from .tool import BadArgumentsError, Tool, ToolCancelledError, ToolContext
from .toolbox import Toolbox

__all__ = [
    "BadArgumentsError",
    "FunctionTool",
    "Progress",
    "Tool",
    "ToolCancelledError",
    "ToolContext",
    "ToolError",
    "Toolbox",
    "load_tools",
    "tool",
]
