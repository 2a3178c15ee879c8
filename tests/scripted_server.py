"""A WebSocket server for tests that need an exact fault: each connection runs one script."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from typing import Any, Self

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

SESSION = {
    "id": "sess_test",
    "object": "realtime.session",
    "type": "realtime",
    "model": "test-model",
    "audio": {"input": {"format": {"type": "audio/pcm", "rate": 24000}, "turn_detection": None}},
}
Script = Callable[["Peer"], None]


class Peer:
    """The server's end of one connection, with the few verbs a script needs."""

    def __init__(self, websocket: ServerConnection, let_go: threading.Event) -> None:
        self.websocket = websocket
        self.let_go = let_go

    def send(self, **event: Any) -> None:
        self.websocket.send(json.dumps(event))

    def raw(self, text: str | bytes) -> None:
        self.websocket.send(text)

    def greet(self) -> None:
        self.send(type="session.created", event_id="event_0", session=SESSION)

    def receive(self, kind: str | None = None, limit_s: float = 10.0) -> dict[str, Any]:
        """The next event (of that kind)."""
        while True:
            event = json.loads(self.websocket.recv(timeout=limit_s))
            if kind is None or event["type"] == kind:
                return event

    def read_all(self) -> None:
        """Take everything until the client closes."""
        with contextlib.suppress(ConnectionClosed):
            for _ in self.websocket:
                pass

    def drop(self) -> None:
        """End the TCP connection without a close frame; the client may have ended it first."""
        with contextlib.suppress(OSError):
            self.websocket.socket.shutdown(socket.SHUT_RDWR)

    def freeze(self) -> None:
        """Neither read nor write nor answer pings, until the test is over."""
        with self.websocket.protocol_mutex:
            assert self.let_go.wait(20)

    def answer(self, text: str = "Hello.", response_id: str = "resp_1", status: str = "completed") -> None:
        """A whole text answer."""
        item = {
            "id": "item_" + response_id,
            "type": "message",
            "role": "assistant",
            "status": "in_progress",
            "content": [],
        }
        part = {"response_id": response_id, "item_id": item["id"], "output_index": 0, "content_index": 0}
        self.send(type="response.created", event_id="e", response={"id": response_id, "status": "in_progress"})
        self.send(type="response.output_item.added", event_id="e", response_id=response_id, output_index=0, item=item)
        self.send(type="conversation.item.added", event_id="e", item=item)
        self.send(type="response.output_text.delta", event_id="e", delta=text, **part)
        self.send(type="response.output_text.done", event_id="e", text=text, **part)
        self.send(type="response.done", event_id="e", response={"id": response_id, "status": status, "output": []})


class ScriptedServer:
    """Serves every connection with `script` on a loopback port of its own."""

    def __init__(self, script: Script, **options: Any) -> None:
        self.failures: list[BaseException] = []
        self.let_go = threading.Event()
        self._script = script
        self._peers: list[ServerConnection] = []
        self._handlers: list[threading.Thread] = []
        self._server = serve(
            self._handle, "127.0.0.1", 0, compression=None, ping_interval=None, max_size=None, **options
        )
        self._thread = threading.Thread(target=self._server.serve_forever, name="scripted-server")
        port = self._server.socket.getsockname()[1]
        self.url = f"ws://127.0.0.1:{port}/v1/realtime?model=test-model"

    def _handle(self, websocket: ServerConnection) -> None:
        self._handlers.append(threading.current_thread())
        self._peers.append(websocket)
        try:
            self._script(Peer(websocket, self.let_go))
        except ConnectionClosed:
            pass
        except BaseException as error:
            self.failures.append(error)
            raise

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go.set()
        for peer in self._peers:
            with contextlib.suppress(OSError):
                peer.socket.shutdown(socket.SHUT_RDWR)
        self._server.shutdown()
        self._thread.join(10)
        for peer in self._peers:
            peer.recv_events_thread.join(10)
        for handler in self._handlers:
            handler.join(10)
        assert not self.failures, self.failures
