"""A spoken conversation by a pipecat pipeline. Arguments: URL, TOKEN, folder with the questions.

A line is written and four questions are spoken. The second answer calls a function of the context; the fourth question
is spoken into the third answer. One JSON object is printed for each fact.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from pipecat.frames.frames import EndFrame, ErrorFrame, InputAudioRawFrame, LLMRunFrame, OutputAudioRawFrame, StartFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.services.llm_service import FunctionCallParams
from pipecat.services.openai.realtime.events import (
    AudioConfiguration,
    AudioInput,
    InputAudioTranscription,
    SessionProperties,
)
from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService
from pipecat.transports.base_input import BaseInputTransport
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams
from pipecat.workers.runner import WorkerRunner

RATE_HZ = 24_000


def tell(**fact: Any) -> None:
    print(json.dumps(fact), flush=True)


class Microphone(BaseInputTransport):
    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def speak(self, pcm: bytes) -> None:
        for start in range(0, len(pcm), 960):
            chunk = pcm[start : start + 960]
            await self.push_audio_frame(InputAudioRawFrame(audio=chunk, sample_rate=RATE_HZ, num_channels=1))


class Speaker(BaseOutputTransport):
    """Takes as long for audio as a real one. began: set when something begins to sound."""

    def __init__(self, params: TransportParams) -> None:
        super().__init__(params)
        self.began = asyncio.Event()
        self.audio_ms = 0.0
        self._free_s = 0.0

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        self.began.set()
        duration_s = frame.num_frames / frame.sample_rate
        self.audio_ms += duration_s * 1_000
        self._free_s = max(self._free_s, time.monotonic()) + duration_s
        await asyncio.sleep(self._free_s - time.monotonic())
        return True


async def get_weather(params: FunctionCallParams, city: str) -> None:
    """The weather in a city.

    Args:
        city: The city's name.
    """
    tell(called={"city": city})
    await params.result_callback("sunny")


class Talk:
    """The user's side: asks, hears answers, and interrupts the third."""

    def __init__(self, microphone: Microphone, speaker: Speaker, worker: PipelineWorker, folder: str) -> None:
        self._microphone = microphone
        self._speaker = speaker
        self._worker = worker
        names = ("count", "weather", "long", "sum")
        self._questions = [(Path(folder) / f"{name}.pcm").read_bytes() for name in names]
        self._heard_ms = 0.0

    async def on_user_turn_message_added(self, _aggregator: Any, message: Any) -> None:
        if message.content != "Say hello.":
            tell(heard=message.content)

    async def on_assistant_turn_stopped(self, _aggregator: Any, message: Any) -> None:
        audio_ms, self._heard_ms = self._speaker.audio_ms - self._heard_ms, self._speaker.audio_ms
        if message.interrupted:
            tell(interrupted=message.content)
        elif message.content:
            tell(answered=message.content, audio_ms=audio_ms)
            await self._go_on()

    async def on_pipeline_error(self, _worker: PipelineWorker, frame: ErrorFrame) -> None:
        tell(error=frame.error)

    async def _go_on(self) -> None:
        if not self._questions:
            await self._worker.queue_frame(EndFrame())
            return
        self._speaker.began.clear()
        await self._microphone.speak(self._questions.pop(0))
        if len(self._questions) == 1:
            await self._speaker.began.wait()  # the user does not wait for the end of this answer
            await self._microphone.speak(self._questions.pop(0))


async def main(url: str, token: str, folder: str) -> None:
    heard = AudioInput(transcription=InputAudioTranscription())
    properties = SessionProperties(instructions="Be brief.", audio=AudioConfiguration(input=heard))
    llm = OpenAIRealtimeLLMService(
        api_key=token,
        base_url=url,
        settings=OpenAIRealtimeLLMService.Settings(session_properties=properties),
    )
    context = LLMContext([{"role": "user", "content": "Say hello."}], tools=[get_weather])
    user, assistant = LLMContextAggregatorPair(context)
    microphone = Microphone(TransportParams(audio_in_enabled=True))
    speaker = Speaker(TransportParams(audio_out_enabled=True, audio_out_end_silence_secs=0))
    worker = PipelineWorker(
        Pipeline([microphone, user, llm, speaker, assistant]),
        params=PipelineParams(audio_in_sample_rate=RATE_HZ, audio_out_sample_rate=RATE_HZ),
    )
    talk = Talk(microphone, speaker, worker, folder)
    user.add_event_handler("on_user_turn_message_added", talk.on_user_turn_message_added)
    assistant.add_event_handler("on_assistant_turn_stopped", talk.on_assistant_turn_stopped)
    worker.add_event_handler("on_pipeline_error", talk.on_pipeline_error)
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await worker.queue_frame(LLMRunFrame())
    await runner.run()


asyncio.run(main(*sys.argv[1:]))
