"""The wire, without sockets, threads or clocks: messages, their bytes, and what they mean in order."""
