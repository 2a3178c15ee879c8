"""The WebSocket below a session: its connection and threads, and the client that joins both."""
