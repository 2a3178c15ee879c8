"""The threads around a conversation: connection, keep-alive, signals, and the client that owns them."""
