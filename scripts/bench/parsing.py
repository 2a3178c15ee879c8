"""CPU from bytes to typed pieces: the answers of chat completions and Ollama, one message a read and four.

Alone, and over the same httpx2 response that the official `openai` SDK streams from, in one run and in turn.

    python scripts/bench/parsing.py [ROUNDS]
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import httpx2

from realtime_client.chat.wires.ask import Wire
from realtime_client.chat.wires.ollama import Ollama
from realtime_client.chat.wires.openai_chat import OpenAIChat
from realtime_client.chat.wires.pieces import FinishPiece, TextPiece

COUNT = 20_000
SDK_COUNT = 2_000  # it is slow enough for fewer


def chunks(count: int) -> list[bytes]:
    """As OpenAI sends them, with the padding of each."""
    common = {
        "id": "chatcmpl-CfA2Qx8JmN5vB3kLpR7tYwZ1",
        "object": "chat.completion.chunk",
        "created": 1764158400,
        "model": "gpt-4.1-mini-2025-04-14",
        "service_tier": "default",
        "system_fingerprint": "fp_44709d6fcb",
    }
    choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": None}
    told = [
        common | {"choices": [choice | {"delta": {"content": f" word{n % 997}"}}], "obfuscation": "x" * (n % 9)}
        for n in range(count)
    ]
    told.append(common | {"choices": [choice | {"delta": {}, "finish_reason": "stop"}]})
    return [f"data: {json.dumps(each, separators=(',', ':'))}\n\n".encode() for each in told] + [b"data: [DONE]\n\n"]


def lines(count: int) -> list[bytes]:
    """As Ollama sends them."""
    common = {"model": "llama3.2", "created_at": "2026-11-26T12:00:00.123456789Z"}
    told: list[dict[str, Any]] = [
        common | {"message": {"role": "assistant", "content": f" word{n % 997}"}, "done": False} for n in range(count)
    ]
    told.append(common | {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"})
    return [f"{json.dumps(each, separators=(',', ':'))}\n".encode() for each in told]


def joined(messages: list[bytes], each: int) -> list[bytes]:
    return [b"".join(messages[n : n + each]) for n in range(0, len(messages), each)]


def alone(wire: Wire, reads: Iterable[bytes]) -> int:
    """Read an answer; returns how many pieces of text it had."""
    reader = wire.reader("stream")
    reader.head(200, {})
    texts = 0
    for data in reads:
        for piece in reader.feed(data, 0.0):
            if type(piece) is TextPiece:
                texts += 1
    assert reader.finished or isinstance(reader.end(0.0)[-1], FinishPiece)
    return texts


class Body(httpx2.SyncByteStream):
    def __init__(self, reads: list[bytes]) -> None:
        self.reads = reads

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.reads)


class Peer:
    """Gives the same bytes to whoever asks, by way of httpx2 and without a socket."""

    def __init__(self) -> None:
        from openai import OpenAI

        self.reads: list[bytes] = []
        self.http = httpx2.Client(transport=httpx2.MockTransport(self.answer))
        self.sdk = OpenAI(api_key="none", http_client=self.http)

    def answer(self, _request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Body(self.reads))

    def ours(self, reads: list[bytes]) -> int:
        self.reads = reads
        with self.http.stream("POST", "http://localhost") as response:
            return alone(OpenAIChat(), response.iter_raw())

    def openai_sdk(self, reads: list[bytes]) -> int:
        self.reads = reads
        texts = 0
        for chunk in self.sdk.chat.completions.create(model="m", messages=[], stream=True):
            if chunk.choices and chunk.choices[0].delta.content:
                texts += 1
        return texts


def us(way: Callable[[list[bytes]], int], reads: list[bytes], count: int) -> float:
    """Microseconds of CPU a message."""
    begin = time.process_time()
    texts = way(reads)
    spent = time.process_time() - begin
    assert texts == count, texts
    return spent / count * 1e6


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    many, few, ndjson = chunks(COUNT), chunks(SDK_COUNT), lines(COUNT)
    chat, ollama, peer = OpenAIChat(), Ollama(), Peer()
    ways: dict[str, Callable[[], float]] = {
        "chat, one a read": lambda: us(lambda reads: alone(chat, reads), many, COUNT),
        "chat, four a read": lambda: us(lambda reads: alone(chat, reads), joined(many, 4), COUNT),
        "ollama, one a read": lambda: us(lambda reads: alone(ollama, reads), ndjson, COUNT),
        "ollama, four a read": lambda: us(lambda reads: alone(ollama, reads), joined(ndjson, 4), COUNT),
        "httpx2 and ours": lambda: us(peer.ours, few, SDK_COUNT),
        "httpx2 and ours, four": lambda: us(peer.ours, joined(few, 4), SDK_COUNT),
        "openai SDK": lambda: us(peer.openai_sdk, few, SDK_COUNT),
        "openai SDK, four": lambda: us(peer.openai_sdk, joined(few, 4), SDK_COUNT),
    }
    for way in ways.values():
        way()
    figures: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            figures[name].append(way())
    for name, series in figures.items():
        print(f"{name:22} {statistics.median(series):7.2f} us CPU a message (best {min(series):.2f})")
    for four in ("", ", four"):
        ratios = [b / a for a, b in zip(figures[f"httpx2 and ours{four}"], figures[f"openai SDK{four}"], strict=True)]
        print(f"openai SDK / ours{four:6} {statistics.median(ratios):6.1f}   (goal: at least 5)")


if __name__ == "__main__":
    main()
