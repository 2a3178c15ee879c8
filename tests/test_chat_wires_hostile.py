"""Whatever a server sends, a reader says how it ended, and raises nothing."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import test_chat_wires_ollama as ollama
import test_chat_wires_openai as openai
import test_chat_wires_responses as responses
from wire_helpers import read as summed

from realtime_client.chat.wires.ask import Wire
from realtime_client.chat.wires.ollama import Ollama
from realtime_client.chat.wires.openai_chat import OpenAIChat
from realtime_client.chat.wires.openai_responses import OpenAIResponses
from realtime_client.chat.wires.reader import Reader


def sse(*messages: Any) -> bytes:
    return b"".join(b"data: %b\n\n" % json.dumps(each).encode() for each in messages)


def lines(*messages: Any) -> bytes:
    return b"".join(b"%b\n" % json.dumps(each).encode() for each in messages)


ODD: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    2**70,
    "",
    "x",
    "\ud83d",
    [],
    [None],
    [[]],
    [{}],
    {},
    {"x": None},
    {"error": {}},
]
KINDS: dict[str, tuple[Wire, Callable[..., bytes], list[bytes]]] = {
    "openai": (OpenAIChat(), sse, [row.data for row in openai.ROWS.values()]),
    "ollama": (Ollama(), lines, [row.data for row in ollama.ROWS.values()]),
    "responses": (OpenAIResponses(), sse, [row.data for row in responses.ROWS.values()]),
}


def read(reader: Reader, reads: list[bytes], status: int = 200) -> dict[str, Any]:
    """Read an answer; what there is of it can be written down and sent."""
    told = summed(reader, reads, status)
    msgspec.json.encode((told, reader.parts()))
    return told


def messages_in(data: bytes) -> Iterator[Any]:
    for line in data.decode("utf-8", "replace").splitlines():
        try:
            yield json.loads(line.removeprefix("data: "))
        except ValueError:
            continue


def changed(value: Any, chance: random.Random) -> Any:
    """The same with something odd in the place of one thing in it."""
    places = list(_places(value, ()))
    path = chance.choice(places)
    odd = chance.choice(ODD)
    if not path:
        return odd
    value = copy.deepcopy(value)
    inner = value
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = odd
    return value


def _places(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    yield path
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in steps:
        yield from _places(inner, (*path, step))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_odd_values_raise_nothing(kind: str, seed: int) -> None:
    wire, write, rows = KINDS[kind]
    chance = random.Random(seed)
    for data in rows:
        told = list(messages_in(data))
        for _ in range(20 if told else 0):
            odd = list(told)
            at = chance.randrange(len(odd))
            odd[at] = changed(odd[at], chance)
            read(wire.reader("s"), [write(*odd)])
            body = json.dumps(odd[at]).encode()
            read(wire.reader("s"), [body])
            read(wire.reader("s"), [body], 400)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_broken_bytes_raise_nothing(kind: str, seed: int) -> None:
    wire, _, rows = KINDS[kind]
    chance = random.Random(seed)
    for data in rows:
        for _ in range(20 if data else 0):
            broken = bytearray(data)
            for _ in range(chance.randrange(1, 4)):
                broken[chance.randrange(len(broken))] = chance.randrange(256)
            cut = chance.randrange(len(broken))
            read(wire.reader("s"), [bytes(broken[:cut]), bytes(broken[cut:])], chance.choice([200, 500]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("unit", [b"[", b'{"error":', b'{"message":', b'{"choices":[', b'{"output":['])
def test_deep_nesting_raises_nothing(kind: str, status: int, unit: bytes) -> None:
    for data in (unit * 100_000, b"data: " + unit * 100_000 + b"\n\n", unit * 100_000 + b"\n"):
        assert "error" in read(KINDS[kind][0].reader("s"), [data], status)
