"""A written and a spoken question in the beta shape, by an old `openai`. Arguments: URL, TOKEN, folder with questions."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import openai
from openai.resources.beta.realtime.realtime import RealtimeConnection


def tell(**fact: Any) -> None:
    print(json.dumps(fact), flush=True)


def hear(connection: RealtimeConnection) -> None:
    """Read on to the end of an answer."""
    text, audio_ms = "", 0.0
    for event in connection:
        if event.type == "conversation.item.input_audio_transcription.completed":
            tell(heard=event.transcript)
        elif event.type == "response.audio_transcript.delta":
            text += event.delta
        elif event.type == "response.audio.delta":
            audio_ms += len(base64.b64decode(event.delta)) / 48
        elif event.type == "response.done":
            tell(answered=text, audio_ms=audio_ms)
            return
        elif event.type == "error":
            tell(error=event.error.message)


def main(url: str, token: str, folder: str) -> None:
    client = openai.OpenAI(api_key=token, websocket_base_url=url.removesuffix("/realtime"))
    with client, client.beta.realtime.connect(model="gpt-4o-realtime-preview") as connection:
        connection.session.update(
            session={
                "modalities": ["text", "audio"],
                "voice": "alloy",
                "input_audio_format": "pcm16",
                "input_audio_transcription": {"model": "whisper-1"},
                "turn_detection": {"type": "server_vad"},
            }
        )
        content: Any = [{"type": "input_text", "text": "count to three"}]
        connection.conversation.item.create(item={"type": "message", "role": "user", "content": content})
        connection.response.create()
        hear(connection)
        pcm = (Path(folder) / "sum.pcm").read_bytes()
        for start in range(0, len(pcm), 4_800):
            connection.input_audio_buffer.append(audio=base64.b64encode(pcm[start : start + 4_800]).decode())
        hear(connection)


main(*sys.argv[1:])
