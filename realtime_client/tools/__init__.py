"""Tools: what the model may call and this program runs, beside the talk.

function, MCP server   -> `Tool`: one name, one schema, judged arguments, an output in text
`Toolbox`              all tools of a session, by name; a server's may change
`ToolRunner`           takes the calls of a session, asks for approval, runs them in workers, sends the results
"""
