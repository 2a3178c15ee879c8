"""A spoken conversation by `openai-agents`. Arguments: URL, TOKEN, folder with the questions.

A line is written and four questions are spoken. The second answer calls the agent's function tool; the fourth question
is spoken into the third answer. One JSON object is printed for each fact.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from agents import function_tool, set_tracing_disabled
from agents.realtime import (
    RealtimeAgent,
    RealtimeModelConfig,
    RealtimePlaybackTracker,
    RealtimeRunner,
    RealtimeSession,
    RealtimeSessionEvent,
)


def tell(**fact: Any) -> None:
    print(json.dumps(fact), flush=True)


@function_tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    tell(called={"city": city})
    return "sunny"


class Talk:
    """The user's side: asks, hears answers, and interrupts the third."""

    def __init__(self, session: RealtimeSession, player: RealtimePlaybackTracker, folder: str) -> None:
        self._session = session
        self._player = player
        names = ("count", "weather", "long", "sum")
        self._questions = [(Path(folder) / f"{name}.pcm").read_bytes() for name in names]
        self._text = ""
        self._audio_bytes = 0

    async def run(self) -> None:
        await self._session.send_message("Say hello.")
        async for event in self._session:
            await self._take(event)
            if event.type == "agent_end" and self._text:
                tell(answered=self._text, audio_ms=self._audio_bytes / 48)
                self._text = ""
                if not self._questions:
                    return
                await self._ask()

    async def _ask(self) -> None:
        await self._session.send_audio(self._questions.pop(0))

    async def _take(self, event: RealtimeSessionEvent) -> None:
        if event.type == "raw_model_event":
            self._take_raw(event.data)
        elif event.type == "audio":
            # A player that needs no time: all that arrived was heard.
            self._player.on_play_bytes(event.item_id, event.content_index, event.audio.data)
            self._audio_bytes += len(event.audio.data)
            if self._audio_bytes == len(event.audio.data) and len(self._questions) == 1:
                await self._ask()  # the user does not wait for the end of this answer
        elif event.type == "audio_interrupted" and self._text:  # without, an answer that is over: nothing sounds
            tell(interrupted=self._text)
            self._text = ""
        elif event.type == "error":
            tell(error=str(event.error))

    def _take_raw(self, event: Any) -> None:
        if event.type == "turn_started":
            self._text, self._audio_bytes = "", 0
        elif event.type == "transcript_delta":
            self._text += event.delta
        elif event.type == "input_audio_transcription_completed":
            tell(heard=event.transcript)
        elif event.type == "raw_server_event" and event.data["type"] == "conversation.item.truncated":
            tell(truncated_ms=event.data["audio_end_ms"])
        elif event.type in {"error", "exception"}:
            tell(error=str(event))


async def main(url: str, token: str, folder: str) -> None:
    set_tracing_disabled(disabled=True)
    player = RealtimePlaybackTracker()
    agent = RealtimeAgent(name="demo", instructions="Be brief.", tools=[get_weather])
    config: RealtimeModelConfig = {
        "url": url,
        "api_key": token,
        "playback_tracker": player,
        "initial_model_settings": {"turn_detection": {"type": "server_vad", "interrupt_response": True}},
    }
    runner = RealtimeRunner(agent, config={"tracing_disabled": True})
    async with await runner.run(model_config=config) as session:
        await Talk(session, player, folder).run()


asyncio.run(main(*sys.argv[1:]))
