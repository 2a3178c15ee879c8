"""Shared by the tests of the server side: strict validation, a driver in memory, spoken questions, a raw client."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest

from realtime_client.protocol import events as ev
from realtime_client.protocol.codec import decode_client, encode
from realtime_client.protocol.server.conversation import ServerConversation

WAIT_S = 20.0


@functools.cache
def _adapters() -> tuple[Any, Any]:
    import pydantic
    from agents.realtime.openai_realtime import get_server_event_type_adapter
    from openai.types.realtime import RealtimeServerEvent

    return pydantic.TypeAdapter(RealtimeServerEvent), get_server_event_type_adapter()


def check_strictly(frame: bytes) -> dict[str, Any]:
    """Validate a server frame against the official types, as both SDKs do, and return it."""
    data: dict[str, Any] = json.loads(frame)
    assert isinstance(data["event_id"], str)
    official, agents = _adapters()
    parsed = official.validate_json(frame)
    assert parsed.type == data["type"], "another class of the union took it"
    assert agents.validate_python(data).type == data["type"]
    return data


class Drive:
    """A ServerConversation in memory. Everything it says is validated; `work` collects what it asks for."""

    def __init__(self, **options: Any) -> None:
        numbers = itertools.count(1)
        self.conversation = ServerConversation(
            **{"model": "demo", "new_id": lambda prefix: f"{prefix}_{next(numbers)}", **options}
        )
        self.work: list[Any] = []
        self.all: list[dict[str, Any]] = []
        self.take(self.conversation.start())

    def take(self, out: list[Any]) -> list[dict[str, Any]]:
        events = []
        for step in out:
            if isinstance(step, ev.ServerEvent):
                events.append(check_strictly(encode(step)))
            else:
                self.work.append(step)
        self.all += events
        return events

    def send(self, kind: str, **fields: Any) -> list[dict[str, Any]]:
        frame = json.dumps({"type": kind, **fields})
        return self.take(self.conversation.receive(decode_client(frame)))

    def frame(self, frame: bytes | str) -> list[dict[str, Any]]:
        return self.take(self.conversation.receive(decode_client(frame)))

    def append(self, ms: int) -> list[dict[str, Any]]:
        return self.take(self.conversation.receive(ev.InputAudioBufferAppend(audio=bytes(48 * ms))))

    def text(self, text: str, **fields: Any) -> str:
        part = {"type": "input_text", "text": text}
        events = self.send(
            "conversation.item.create", item={"type": "message", "role": "user", "content": [part]}, **fields
        )
        return str(events[0]["item"]["id"])

    def respond(self, **fields: Any) -> str:
        events = self.send("response.create", **fields)
        assert events[0]["type"] == "response.created", events
        return str(events[0]["response"]["id"])

    def error(self, kind: str, **fields: Any) -> dict[str, Any]:
        events = self.send(kind, **fields)
        assert [e["type"] for e in events] == ["error"], events
        found: dict[str, Any] = events[0]["error"]
        return found

    def answer(self, text: str = "hello", audio_ms: int = 1_000) -> tuple[str, str]:
        """Run one whole answer; return response id and item id."""
        response_id = self.respond()
        self.take(self.conversation.say(response_id, text, bytes(48 * audio_ms)))
        done = self.take(self.conversation.finish(response_id))
        (response,) = [e["response"] for e in done if e["type"] == "response.done"]
        return response_id, response["output"][0]["id"]


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


def flite(text: str, rate_hz: int = 24_000, voice: str = "slt") -> bytes:
    """Speak with Debian's flite (a voice made from recordings); PCM16. Skips where flite is missing."""
    if shutil.which("flite") is None:
        pytest.skip("flite is not installed (apt-get install flite)")
    return _flite(text, rate_hz, voice)


@functools.cache
def _flite(text: str, rate_hz: int, voice: str) -> bytes:
    import soundfile

    from realtime_client.audio.resample import resample

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "said.wav"
        subprocess.run(["flite", "-voice", voice, "-t", text, str(path)], check=True, timeout=WAIT_S)
        samples, from_hz = soundfile.read(path, dtype="int16")
    return resample(samples.tobytes(), from_hz, rate_hz)


def espeak(text: str, rate_hz: int = 24_000) -> bytes:
    """Speak with espeak-ng; PCM16. Skips where espeakng_loader is missing."""
    pytest.importorskip("espeakng_loader")
    from realtime_client.audio.resample import resample
    from realtime_client.local.voice import EspeakVoice

    voice = EspeakVoice()
    return resample(b"".join(voice.speak(text)), voice.rate_hz, rate_hz)


class Raw:
    """A bare WebSocket client of the local server; every frame that it gets is validated strictly."""

    def __init__(self, connection: Any, *, strict: bool = True) -> None:
        self.connection = connection
        self.seen: list[dict[str, Any]] = []
        self._strict = strict

    def send(self, kind: str, **fields: Any) -> None:
        self.connection.send(json.dumps({"type": kind, **fields}))

    def append(self, pcm: bytes, chunk_ms: int = 100) -> None:
        for start in range(0, len(pcm), 48 * chunk_ms):
            event = ev.InputAudioBufferAppend(audio=pcm[start : start + 48 * chunk_ms])
            self.connection.send(encode(event), text=True)

    def next(self) -> dict[str, Any]:
        frame = self.connection.recv(timeout=WAIT_S)
        event = check_strictly(frame.encode()) if self._strict else msgspec.json.decode(frame)
        self.seen.append(event)
        return event

    def until(self, kind: str) -> dict[str, Any]:
        while True:
            event = self.next()
            assert kind == "error" or event["type"] != "error", event
            if event["type"] == kind:
                return event

    def say(self, text: str) -> None:
        content = [{"type": "input_text", "text": text}]
        self.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})


@contextlib.contextmanager
def raw(url: str, *, strict: bool = True, **options: Any) -> Any:
    from websockets.sync.client import connect

    with connect(url, compression=None, max_size=None, open_timeout=WAIT_S, close_timeout=2, **options) as connection:
        yield Raw(connection, strict=strict)
