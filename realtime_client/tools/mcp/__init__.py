"""Tools of MCP servers (modelcontextprotocol.io), over stdio and HTTP. Needs the extra `mcp`.

`McpServerSpec`    what a server is: a command or a URL, and what it is given            spec
`McpServers`       the servers of a session, in one thread with an event loop            servers
`Keeper`           keeps one server up: connects, and again when it dies                 keeper
`Link`             one connection to it, until it is lost                                link
`Stdio`, `http`    the transports under a link                                           stdio, lines, http
`McpTool`          a tool of a server, as every other tool                               tool, arguments, content
"""
