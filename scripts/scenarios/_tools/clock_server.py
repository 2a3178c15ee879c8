"""A small MCP server over stdio, with one tool, by hand: JSON-RPC, a message a line."""

import json
import sys

TOOL = {
    "name": "tell_time",
    "description": "Tell the time in a city.",
    "inputSchema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def answer(method: str, params: dict) -> dict:
    """Return what a request is answered with."""
    if method == "initialize":
        about = {"name": "clock", "version": "1"}
        return {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": about}
    if method == "tools/list":
        return {"tools": [TOOL]}
    if method == "tools/call":
        return {"content": [{"type": "text", "text": f"It is noon in {params['arguments']['city']}."}]}
    return {}


for line in sys.stdin:
    asked = json.loads(line)
    if "id" in asked and "method" in asked:
        result = answer(asked["method"], asked.get("params") or {})
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
