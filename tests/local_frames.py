"""Every kind of message that the local server can send, as raw JSON objects: for judges of their shape."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

from realtime_client.protocol import events as ev
from realtime_client.protocol.codec import decode_client, encode
from realtime_client.protocol.server.conversation import ServerConversation
from realtime_client.protocol.server.remote_tools import RemoteTool
from realtime_client.protocol.server.work import CallRemote, ListRemote, StartResponse, Transcribe

Json = dict[str, Any]

SECOND = bytes(48_000)
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(16)).decode()
TOOLS: list[Json] = [
    {"type": "function", "name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}},
    {
        "type": "mcp",
        "server_label": "shop",
        "server_url": "https://example.org/mcp",
        "require_approval": {"never": {"read_only": True}},
    },
    {"type": "mcp", "server_label": "gone", "server_url": "https://example.com/mcp"},
]


def server_frames() -> list[Json]:
    """All messages of a few sessions that together make the server say everything that it can say."""
    sessions = (_written(), _spoken(), _tools(), _mistakes(), _endings(), _transcription())
    return [json.loads(frame) for session in sessions for frame in session]


class _Session:
    """A conversation in memory: what goes in returns the frames that come out, and the engine's part is played."""

    def __init__(self, **options: Any) -> None:
        self.server = ServerConversation(model="gpt-realtime", expires_at=2_000_000_000, **options)
        self.frames = self._taken(self.server.start())
        self.asked: list[str] = []
        self.listings: list[str] = []
        self.calls: list[str] = []
        self.heard: list[Transcribe] = []

    def send(self, kind: str, **fields: Any) -> list[Json]:
        return self.take(self.server.receive(decode_client(json.dumps({"type": kind, **fields}))))

    def take(self, out: list[Any]) -> list[Json]:
        self.asked += [step.response_id for step in out if isinstance(step, StartResponse)]
        self.listings += [step.item_id for step in out if isinstance(step, ListRemote)]
        self.calls += [step.item_id for step in out if isinstance(step, CallRemote)]
        self.heard += [step for step in out if isinstance(step, Transcribe)]
        frames = self._taken(out)
        self.frames += frames
        return [json.loads(frame) for frame in frames]

    @property
    def requests(self) -> list[str]:
        """The ids of calls that wait to be allowed."""
        said = [json.loads(frame) for frame in self.frames]
        done = [frame["item"] for frame in said if frame["type"] == "conversation.item.done"]
        return [item["id"] for item in done if item["type"] == "mcp_approval_request"]

    def _taken(self, out: list[Any]) -> list[bytes]:
        return [encode(step) for step in out if isinstance(step, ev.ServerEvent)]

    def set(self, **session: Any) -> None:
        self.send("session.update", session={"type": "realtime", **session})

    def item(self, **item: Any) -> str:
        return str(self.send("conversation.item.create", item=item)[0]["item"]["id"])

    def say(self, text: str, audio: bytes = b"") -> str:
        """Begin an answer and say something; the id of its message."""
        self.send("response.create")
        out = self.take(self.server.say(self.asked[-1], text, audio))
        return str(out[0]["item"]["id"])

    def finish(self) -> None:
        self.take(self.server.finish(self.asked[-1]))

    def hear(self, text: str | None) -> None:
        """The ear answers, or fails."""
        work = self.heard.pop()
        if text is None:
            self.take(self.server.not_heard(work.item_id, work.content_index, "It was too noisy."))
        else:
            self.take(self.server.heard(work.item_id, work.content_index, text))


def _message(role: str, kind: str, **part: Any) -> Json:
    return {"type": "message", "role": role, "content": [{"type": kind, **part}]}


def _written() -> Iterator[bytes]:
    """Text in and out, every item that a client may create, and what can be done with items."""
    it = _Session()
    it.set(output_modalities=["text"], instructions="Be brief.", max_output_tokens=4096)
    first = it.item(**_message("user", "input_text", text="hello"))
    it.item(**_message("system", "input_text", text="be kind"))
    it.item(**_message("assistant", "output_text", text="I am"))
    it.item(**_message("user", "input_image", image_url=f"data:image/png;base64,{PIXEL}", detail="low"))
    it.item(**_message("user", "input_audio", audio=base64.b64encode(SECOND).decode()))
    it.hear("a word")
    it.item(type="function_call", name="add", arguments="{}", call_id="call_1")
    it.item(type="function_call_output", call_id="call_1", output="2")
    it.send("conversation.item.create", item=_message("user", "input_text", text="!"), previous_item_id="root")
    it.say("Hello ")
    it.take(it.server.say(it.asked[-1], "you."))
    it.finish()
    it.send("response.create", response={"conversation": "none", "metadata": {"a": "b"}, "input": []})
    it.finish()
    it.send("conversation.item.retrieve", item_id=first)
    it.send("conversation.item.delete", item_id=first)
    yield from it.frames


def _spoken() -> Iterator[bytes]:
    """A turn that the server finds, its transcript, an interruption, a cut, a turn by hand, and silence."""
    it = _Session()
    detection = {"type": "server_vad", "idle_timeout_ms": 5_000}
    it.set(audio={"input": {"transcription": {"model": "whisper-1"}, "turn_detection": detection}})
    for text in ("what can you do", None):
        it.send("input_audio_buffer.append", audio=base64.b64encode(SECOND).decode())
        it.take(it.server.speech_started(0))
        it.take(it.server.speech_stopped(it.server.input_ms))
        user = it.heard[-1].item_id
        it.hear(text)
        it.take(it.server.say(it.asked[-1], "Much. ", SECOND))
        it.send("conversation.item.retrieve", item_id=user)
    it.send("input_audio_buffer.append", audio=base64.b64encode(SECOND).decode())
    it.take(it.server.speech_started(it.server.input_ms - 900))
    cut = next(json.loads(f) for f in reversed(it.frames) if b'"response.done"' in f)["response"]["output"][0]["id"]
    it.send("conversation.item.truncate", item_id=cut, content_index=0, audio_end_ms=300)
    it.send("conversation.item.retrieve", item_id=cut)
    it.send("input_audio_buffer.clear")
    it.say("Go on. ", SECOND)
    it.finish()
    it.send("input_audio_buffer.append", audio=base64.b64encode(SECOND).decode())
    it.take(it.server.tick(0))
    it.take(it.server.tick(60))
    it.finish()
    it.set(audio={"input": {"turn_detection": None, "format": {"type": "audio/pcmu"}}})
    it.send("input_audio_buffer.append", audio=base64.b64encode(bytes(8_000)).decode())
    it.send("input_audio_buffer.commit")
    yield from it.frames


def _tools() -> Iterator[bytes]:
    """A function call; two remote servers, of which one cannot be used; and calls of the other's tools."""
    it = _Session()
    it.set(tools=TOOLS)
    shop, gone = it.listings
    it.take(it.server.listed(shop, [RemoteTool(name="buy"), RemoteTool(name="look", reads=True)]))
    it.take(it.server.not_listed(gone, "cannot be reached"))
    it.say("One moment. ", SECOND)
    it.server.brief(it.asked[-1])
    it.take(it.server.call(it.asked[-1], "add", '{"a": 1, "b": 2, "c": 3, "d": 4}'))
    for _ in range(2):
        it.take(it.server.call(it.asked[-1], "look", '{"at": "the newest things that there are"}'))
        it.take(it.server.call(it.asked[-1], "buy", '{"what": "tea"}'))
    it.take(it.server.returned(it.calls[0], "tea"))
    it.finish()
    it.take(it.server.broke(it.calls[1], "it is closed"))
    for number, request_id in enumerate(it.requests):
        it.item(type="mcp_approval_response", approval_request_id=request_id, approve=bool(number))
    it.take(it.server.returned(it.calls[2], "bought"))
    yield from it.frames


def _mistakes() -> Iterator[bytes]:
    """Errors of several kinds."""
    it = _Session()
    it.send("make.coffee", event_id="e1")
    it.send("response.cancel")
    it.send("conversation.item.delete", item_id="nowhere", event_id="e2")
    it.send("conversation.item.create", item=5, event_id="e3")
    it.take(it.server.receive(decode_client(b"\xff")))
    yield from it.frames


def _endings() -> Iterator[bytes]:
    """Answers that are cancelled, fail, or grow too long; then limits are used up."""
    it = _Session()
    it.send("response.create")
    it.send("response.cancel")
    it.say("I think ", SECOND)
    it.take(it.server.fail(it.asked[-1], "The answer failed."))
    it.set(max_output_tokens=1)
    it.send("response.create")
    it.take(it.server.say(it.asked[-1], "far too long for that", SECOND))
    it.item(**_message("user", "input_text", text="x" * 200_000))
    it.set(max_output_tokens="inf")
    it.say("Yes. ", SECOND)
    it.finish()
    yield from it.frames


def _transcription() -> Iterator[bytes]:
    """A session that only listens."""
    it = _Session(kind="transcription")
    detection = {"input": {"turn_detection": None, "transcription": {"model": "whisper-1"}}}
    it.send("session.update", session={"type": "transcription", "audio": detection})
    it.send("input_audio_buffer.append", audio=base64.b64encode(SECOND).decode())
    it.send("input_audio_buffer.commit")
    it.hear("")
    yield from it.frames
