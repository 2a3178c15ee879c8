"""What official SDKs do when their connection is lost, beside this client: the same server, the same faults.

Each client says "hello" and gets an answer. Then a microphone speaks for 1 s in real time, while nothing else happens
or while a long answer is on its way, and in the middle of it the fault strikes. The turn is ended, and an answer is
asked for, all as if nothing had happened; calls that fail are not repeated. Told is how soon the program was told of
the loss, whether a new session was opened, whether it knew of "hello" within 5 s, and how much of the turn's 1,000 ms.

    python scripts/bench/sdk_reconnect.py
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from ledger import BLOCK_MS, BLOCK_SAMPLES, LedgerServer, block

from realtime_client import updates as up
from realtime_client.client.client import RealtimeClient
from realtime_client.client.endpoint import Endpoint
from realtime_client.errors import RealtimeError
from realtime_client.protocol import events as ev
from realtime_client.protocol import session as wire
from realtime_client.session.limits import Recovery

BLOCKS = 50
ANSWER_S, AFTER_S = 20.0, 5.0
MARK = "@conversation.item.retrieve@connections=1"
FAULTS = {
    "close 1001": f"close:1001{MARK}",
    "close 1011": f"close:1011{MARK}",
    "close 1012": f"close:1012{MARK}",
    "reset": f"rst{MARK}",
    "end without close": f"eof{MARK}",
    "session expired": f"expire{MARK}",
    "reset, HTTP 503 twice": f"rst{MARK}; refuse:503@connections=2-3",
    "close 4000": f"close:4000{MARK}",
}
TURNS: dict[str, Any] = {
    "type": "realtime",
    "audio": {"input": {"turn_detection": None, "transcription": {"model": "whisper-1"}}},
}


class Seen:
    """What a program was told, and when. answered: how many answers are over."""

    def __init__(self) -> None:
        self.lost_s: float | None = None
        self.began = threading.Event()
        self.answered = threading.Semaphore(0)
        self.hello = ""

    def lost(self, *_: object) -> None:
        self.lost_s = self.lost_s or time.monotonic()

    def event(self, event: Any) -> None:
        if event.type == "conversation.item.added" and not self.hello:
            self.hello = event.item.id
        elif event.type == "response.done":
            self.answered.release()
        elif event.type == "response.output_audio.delta":
            self.began.set()


Send = Callable[[dict[str, Any]], None]


def talk(seen: Seen, send: Send, *, streaming: bool) -> float:
    """Say all of it; returns when the fault was asked for."""

    def say(text: str) -> None:
        content = [{"type": "input_text", "text": text}]
        send({"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": content}})
        send({"type": "response.create"})

    send({"type": "session.update", "session": TURNS})
    say("hello")
    assert seen.answered.acquire(timeout=ANSWER_S)
    seen.began.clear()
    if streaming:
        say("long story")
        assert seen.began.wait(ANSWER_S)
    asked_s = 0.0
    for number in range(1, BLOCKS + 1):
        if number == BLOCKS // 2:
            asked_s = time.monotonic()
            send({"type": "conversation.item.retrieve", "item_id": seen.hello})
        with contextlib.suppress(Exception):
            send({"type": "input_audio_buffer.append", "audio": base64.b64encode(block(number)).decode()})
        time.sleep(BLOCK_MS / 1000)
    for kind in ("input_audio_buffer.commit", "response.create"):
        with contextlib.suppress(Exception):
            send({"type": kind})
    time.sleep(AFTER_S)
    return asked_s


def openai_sdk(url: str, *, streaming: bool, reconnects: bool) -> tuple[Seen, float]:
    """The synchronous client of `openai`; reconnects: with its `on_reconnecting`."""
    import openai

    seen = Seen()
    client = openai.OpenAI(api_key="none", websocket_base_url=url.removesuffix("/realtime"))
    more: dict[str, Any] = {"on_reconnecting": seen.lost} if reconnects else {}
    with client, client.realtime.connect(model="gpt-realtime", **more) as connection:

        def read() -> None:
            try:
                for event in connection:
                    seen.event(event)
            except Exception:  # noqa: BLE001 - whatever it raises tells the program
                pass
            seen.lost()

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        asked_s = talk(seen, connection.send, streaming=streaming)
    reader.join(ANSWER_S)
    return seen, asked_s


def agents_sdk(url: str, *, streaming: bool) -> tuple[Seen, float]:
    """The model of `openai-agents`."""
    from agents.realtime.model_inputs import RealtimeModelRawClientMessage, RealtimeModelSendRawMessage
    from agents.realtime.openai_realtime import OpenAIRealtimeWebSocketModel
    from openai.types.realtime import RealtimeServerEvent
    from pydantic import TypeAdapter

    seen, read = Seen(), TypeAdapter[Any](RealtimeServerEvent)

    class Listener:
        async def on_event(self, event: Any) -> None:
            if event.type == "raw_server_event":
                with contextlib.suppress(ValueError):
                    seen.event(read.validate_python(event.data))
            elif event.type == "exception" or (event.type == "connection_status" and event.status == "disconnected"):
                seen.lost()

    async def run() -> float:
        model, loop = OpenAIRealtimeWebSocketModel(), asyncio.get_running_loop()
        model.add_listener(Listener())
        await model.connect({"api_key": "none", "url": url, "initial_model_settings": {}})

        def send(message: dict[str, Any]) -> None:
            rest = {key: value for key, value in message.items() if key != "type"}
            raw = RealtimeModelRawClientMessage(type=message["type"], other_data=rest)
            sent = model.send_event(RealtimeModelSendRawMessage(message=raw))
            asyncio.run_coroutine_threadsafe(sent, loop).result(ANSWER_S)

        try:
            return await asyncio.to_thread(talk, seen, send, streaming=streaming)
        finally:
            await model.close()

    return seen, asyncio.run(run())


def ours(url: str, *, streaming: bool) -> tuple[Seen, float]:
    """This client."""
    seen = Seen()
    config = wire.session_from_wire(TURNS)
    with contextlib.suppress(RealtimeError):  # how the session ended
        client = RealtimeClient(Endpoint(url=url, proxy=None), session=config, recovery=Recovery(reconnect_s=30))

        def take(update: up.Update, _at_s: float) -> None:
            if isinstance(update, up.ConnectionLost):
                seen.lost()
            elif isinstance(update, up.ResponseDone):
                seen.answered.release()
            elif isinstance(update, up.AudioDelta):
                seen.began.set()
            elif isinstance(update, up.ItemAdded):
                seen.hello = seen.hello or update.item_id

        client.observe(take)

        def send(message: dict[str, Any]) -> None:
            if message["type"] == "input_audio_buffer.append":
                client.send_audio(base64.b64decode(message["audio"]))
            elif message["type"] == "input_audio_buffer.commit":
                client.commit()
            elif message["type"] == "response.create":
                client.respond()
            elif message["type"] == "conversation.item.retrieve":
                client.send_event(ev.ConversationItemRetrieve(item_id=message["item_id"]))
            elif message["type"] == "conversation.item.create":
                client.send_text(message["item"]["content"][0]["text"], respond=False)

        with client:
            return seen, talk(seen, send, streaming=streaming)
    return seen, 0.0


CLIENTS: dict[str, Callable[..., tuple[Seen, float]]] = {
    "this client": ours,
    "openai": lambda url, streaming: openai_sdk(url, streaming=streaming, reconnects=False),
    "openai, on_reconnecting": lambda url, streaming: openai_sdk(url, streaming=streaming, reconnects=True),
    "openai-agents": agents_sdk,
}


def one(name: str, spec: str, *, streaming: bool) -> str:
    """Return a line of the table."""
    with LedgerServer(faults=spec) as server:
        seen, asked_s = CLIENTS[name](server.url, streaming=streaming)
        books = server.books
    last = books[-1]
    told = "-" if seen.lost_s is None or not asked_s else f"{seen.lost_s - asked_s:.2f} s"
    known = ("user", "hello") in last.history
    kept = sum(min(count, BLOCK_SAMPLES) for count in last.heard.values()) * BLOCK_MS // BLOCK_SAMPLES
    new = len(books) > 1
    return f"{told:<9} {'yes' if new else 'no':<11} {'yes' if new and known else 'no':<13} {kept if new else 0:>4} ms"


def main() -> None:
    print(
        f"{'fault':<22} {'moment':<9} {'client':<24} told      new session history known kept of {BLOCKS * BLOCK_MS} ms"
    )
    for fault, spec in FAULTS.items():
        for moment in ("idle", "streaming"):
            with ThreadPoolExecutor() as pool:
                lines = pool.map(lambda name: one(name, spec, streaming=moment == "streaming"), CLIENTS)  # noqa: B023
                for name, line in zip(CLIENTS, lines, strict=True):
                    print(f"{fault:<22} {moment:<9} {name:<24} {line}", flush=True)


if __name__ == "__main__":
    main()
