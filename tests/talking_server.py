"""A Realtime server that says what the test tells it to, word by word, when the test lets it."""

from __future__ import annotations

import queue
from typing import Any

from scripted_server import SESSION, Peer, ScriptedServer

END = object()


class TalkingServer(ScriptedServer):
    """Answers each response.create with the words that come out of `words`, until END; `seen` holds what came in.

    With `words` empty it waits for the test; response.cancel ends the answer. fail: the status that answers end with.
    """

    def __init__(self, *words: str, status: str = "completed", **options: Any) -> None:
        super().__init__(self._talk, **options)
        self.words: queue.Queue[Any] = queue.Queue()
        self.seen: queue.Queue[dict[str, Any]] = queue.Queue()
        self._status = status
        if words:
            self.say(*words)

    def say(self, *words: str) -> None:
        """Let one answer be these words."""
        for word in (*words, END):
            self.words.put(word)

    def _talk(self, peer: Peer) -> None:
        peer.greet()
        count = 0
        while True:
            event = peer.receive(limit_s=60.0)  # people, and tests of what they do, take their time
            self.seen.put(event)
            if event["type"] == "session.update":
                peer.send(type="session.updated", event_id="e", session=SESSION | event["session"])
            elif event["type"] == "conversation.item.create":
                peer.send(type="conversation.item.added", event_id="e", item=event["item"])
                peer.send(type="conversation.item.done", event_id="e", item=event["item"])
            elif event["type"] == "response.create":
                count += 1
                self._answer(peer, f"resp_{count}")

    def _answer(self, peer: Peer, name: str) -> None:
        item = {"id": f"item_{name}", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
        part = {"response_id": name, "item_id": item["id"], "output_index": 0, "content_index": 0}
        peer.send(type="response.created", event_id="e", response={"id": name, "status": "in_progress"})
        peer.send(type="response.output_item.added", event_id="e", response_id=name, output_index=0, item=item)
        peer.send(type="conversation.item.added", event_id="e", item=item)
        status, text = self._status, ""
        while True:
            try:
                event = peer.websocket.recv(timeout=0.01)
            except TimeoutError:
                event = ""
            if "response.cancel" in str(event):
                status = "cancelled"
                break
            try:
                word = self.words.get_nowait()
            except queue.Empty:
                continue
            if word is END:
                break
            text += word
            peer.send(type="response.output_text.delta", event_id="e", delta=word, **part)
        peer.send(type="response.output_text.done", event_id="e", text=text, **part)
        usage = {"total_tokens": 12, "input_tokens": 5, "output_tokens": 7}
        response = {"id": name, "status": status, "output": [], "usage": usage}
        if status == "failed":
            response["status_details"] = {"type": "failed", "error": {"code": "server_error", "message": "no model"}}
        peer.send(type="response.done", event_id="e", response=response)
