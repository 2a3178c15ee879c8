"""A spoken conversation by an agent session of livekit. Arguments: URL, TOKEN, folder with the questions.

A line is written and four questions are spoken. The second answer calls the agent's function tool; the fourth question
is spoken into the third answer. One JSON object is printed for each fact.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
from livekit import rtc
from livekit.agents import Agent, AgentSession, ConversationItemAddedEvent, function_tool
from livekit.agents.voice.io import AudioInput, AudioOutput, AudioOutputCapabilities
from livekit.plugins.openai.realtime import RealtimeModel
from openai.types.beta.realtime.session import TurnDetection

RATE_HZ = 24_000
FRAME_BYTES = 960


def tell(**fact: Any) -> None:
    print(json.dumps(fact), flush=True)


class Microphone(AudioInput):
    """Gives what is spoken as fast as it is taken, or in real time."""

    def __init__(self) -> None:
        super().__init__(label="questions")
        self._frames: asyncio.Queue[rtc.AudioFrame] = asyncio.Queue()
        self._gap_s = 0.0

    async def __anext__(self) -> rtc.AudioFrame:
        await asyncio.sleep(self._gap_s)
        return await self._frames.get()

    def speak(self, pcm: bytes, *, real_time: bool) -> None:
        self._gap_s = FRAME_BYTES / 2 / RATE_HZ if real_time else 0.0
        for start in range(0, len(pcm) - FRAME_BYTES + 1, FRAME_BYTES):
            frame = rtc.AudioFrame(pcm[start : start + FRAME_BYTES], RATE_HZ, 1, FRAME_BYTES // 2)
            self._frames.put_nowait(frame)


class Speaker(AudioOutput):
    """Takes as long for audio as a real one. played_ms: of all answers."""

    def __init__(self) -> None:
        super().__init__(label="speaker", capabilities=AudioOutputCapabilities(pause=False), sample_rate=RATE_HZ)
        self.played_ms = 0.0
        self._pushed_s = 0.0
        self._began_s = 0.0
        self._cleared = asyncio.Event()
        self._end: asyncio.Task[None] | None = None

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        await super().capture_frame(frame)
        if self._pushed_s == 0.0:
            self._began_s = time.monotonic()
            self._cleared.clear()
            self.on_playback_started(created_at=time.time())
        self._pushed_s += frame.duration

    def flush(self) -> None:
        super().flush()
        if self._pushed_s:
            self._end = asyncio.create_task(self._play_to_the_end())

    def clear_buffer(self) -> None:
        self._cleared.set()

    async def _play_to_the_end(self) -> None:
        try:
            async with asyncio.timeout(self._began_s + self._pushed_s - time.monotonic()):
                await self._cleared.wait()
            played_s = min(time.monotonic() - self._began_s, self._pushed_s)
        except TimeoutError:
            played_s = self._pushed_s
        interrupted, self._pushed_s = self._cleared.is_set(), 0.0
        self.played_ms += played_s * 1_000
        self.on_playback_finished(playback_position=played_s, interrupted=interrupted)


class Demo(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="Be brief.")

    @function_tool
    async def get_weather(self, city: str) -> str:
        """The weather in a city."""
        tell(called={"city": city})
        return "sunny"


class Talk:
    """The user's side: asks, hears answers, and interrupts the third."""

    def __init__(self, microphone: Microphone, speaker: Speaker, folder: str) -> None:
        self.over = asyncio.Event()
        self._microphone = microphone
        self._speaker = speaker
        names = ("count", "weather", "long", "sum")
        self._questions = [(Path(folder) / f"{name}.pcm").read_bytes() for name in names]
        self._heard_ms = 0.0

    def ask(self, *, real_time: bool = False) -> None:
        self._microphone.speak(self._questions.pop(0), real_time=real_time)

    def on_playback_started(self, _event: Any) -> None:
        if len(self._questions) == 1:  # the user does not wait for the end of this answer
            # The session cancels by itself, too, when speech begins; said within an instant, the cancel would find the
            # answer to what was said.
            self.ask(real_time=True)

    def on_conversation_item_added(self, event: ConversationItemAddedEvent) -> None:
        if event.item.type != "message":
            return
        text = event.item.text_content
        audio_ms, self._heard_ms = self._speaker.played_ms - self._heard_ms, self._speaker.played_ms
        if event.item.role == "user":
            if text != "Say hello.":
                tell(heard=text)
        elif event.item.interrupted:
            tell(interrupted=text)
        else:
            tell(answered=text, audio_ms=audio_ms)
            if self._questions:
                self.ask()
            else:
                self.over.set()

    def on_error(self, event: Any) -> None:
        tell(error=str(event.error))


async def main(url: str, token: str, folder: str) -> None:
    microphone, speaker = Microphone(), Speaker()
    talk = Talk(microphone, speaker, folder)
    async with aiohttp.ClientSession() as http:
        model = RealtimeModel(
            base_url=url.removesuffix("/realtime"),
            api_key=token,
            turn_detection=TurnDetection(type="server_vad", interrupt_response=True, create_response=True),
            http_session=http,
        )
        session: AgentSession[None] = AgentSession(llm=model, vad=None, aec_warmup_duration=None)
        session.input.audio, session.output.audio = microphone, speaker
        speaker.on("playback_started", talk.on_playback_started)
        session.on("conversation_item_added", talk.on_conversation_item_added)
        session.on("error", talk.on_error)
        await session.start(Demo(), record=False)
        session.generate_reply(user_input="Say hello.")
        await talk.over.wait()
        await session.aclose()
        await model.aclose()


asyncio.run(main(*sys.argv[1:]))
