"""What a program that uses `openai` does with a spoken conversation, whether it is sync or async.

It writes a line and speaks four questions. The second makes the model call a tool, the fourth is spoken into the answer
to the third. One JSON object is printed for each fact.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from openai.types.realtime import RealtimeResponse, RealtimeServerEvent

SESSION: dict[str, Any] = {
    "type": "realtime",
    "instructions": "Be brief.",
    "audio": {
        "input": {"transcription": {"model": "gpt-4o-mini-transcribe"}, "turn_detection": {"type": "server_vad"}},
        "output": {"voice": "marin"},
    },
    "tools": [
        {
            "type": "function",
            "name": "get_weather",
            "description": "The weather in a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        }
    ],
}


def tell(**fact: Any) -> None:
    print(json.dumps(fact), flush=True)


class Talk:
    """Takes the server's messages one by one, and says what to send."""

    def __init__(self, folder: str) -> None:
        names = ("count", "weather", "long", "sum")
        self._questions = [(Path(folder) / f"{name}.pcm").read_bytes() for name in names]
        self.over = False
        self._text = ""
        self._audio_ms = 0.0
        self._began_s = 0.0
        self._sounding: tuple[str, int] | None = None  # item and content index

    def take(self, event: RealtimeServerEvent) -> Iterator[dict[str, Any]]:
        if event.type == "session.created":
            yield {"type": "session.update", "session": SESSION}
        elif event.type == "session.updated":
            content = [{"type": "input_text", "text": "Say hello."}]
            item = {"type": "message", "role": "user", "content": content}
            yield {"type": "conversation.item.create", "item": item}
            yield {"type": "response.create"}
        elif event.type == "input_audio_buffer.speech_started":
            yield from self._fall_silent()
        elif event.type == "conversation.item.input_audio_transcription.completed":
            tell(heard=event.transcript)
        elif event.type == "response.created":
            self._text, self._audio_ms, self._sounding = "", 0.0, None
        elif event.type == "response.output_audio_transcript.delta":
            self._text += event.delta
        elif event.type == "response.output_audio.delta":
            if self._sounding is None:
                self._sounding, self._began_s = (event.item_id, event.content_index), time.monotonic()
                if len(self._questions) == 1:
                    yield from self._ask()  # the user does not wait for the end of this answer
            self._audio_ms += len(base64.b64decode(event.delta)) / 48
        elif event.type == "conversation.item.truncated":
            tell(truncated_ms=event.audio_end_ms)
        elif event.type == "response.done":
            yield from self._done(event.response)
        elif event.type == "error":
            tell(error=event.error.message)

    def _ask(self) -> Iterator[dict[str, Any]]:
        pcm = self._questions.pop(0)
        for start in range(0, len(pcm), 4_800):
            chunk = base64.b64encode(pcm[start : start + 4_800]).decode()
            yield {"type": "input_audio_buffer.append", "audio": chunk}

    def _fall_silent(self) -> Iterator[dict[str, Any]]:
        if self._sounding is None:
            return
        item_id, content_index = self._sounding
        played_ms = int(min((time.monotonic() - self._began_s) * 1_000, self._audio_ms))
        yield {
            "type": "conversation.item.truncate",
            "item_id": item_id,
            "content_index": content_index,
            "audio_end_ms": played_ms,
        }

    def _done(self, response: RealtimeResponse) -> Iterator[dict[str, Any]]:
        self._sounding = None  # it is heard to its end before the next question
        calls = [item for item in response.output or [] if item.type == "function_call"]
        for call in calls:
            tell(called=json.loads(call.arguments))
            output = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
            yield {"type": "conversation.item.create", "item": output}
        if calls:
            yield {"type": "response.create"}
        elif response.status == "cancelled":
            tell(interrupted=self._text)
        else:
            tell(answered=self._text, audio_ms=self._audio_ms)
            self.over = not self._questions
            if self._questions:
                yield from self._ask()
