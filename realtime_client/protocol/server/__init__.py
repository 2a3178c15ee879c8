"""The server's side of the protocol: the mirror of the client's conversation, on the same messages."""
