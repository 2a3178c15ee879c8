"""Live voice while there is no connection: the session keeps what is said, and hears of it as always."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from realtime_client import updates as up
from realtime_client.audio.echo.control import EchoControl, EchoMode
from realtime_client.session.hub import StopEvent
from realtime_client.talk.turns import TurnMode
from realtime_client.talk.voice import BLOCK_MS, LiveVoice

RATE_HZ = 24_000
LOST = up.ConnectionLost(code=1006, reason="gone", goes_on=True)
TRYING = up.Reconnecting(attempt=1, in_s=0.0, reason="gone", left_s=300.0)
BACK = up.Restored(reason="lost", away_ms=1_000)


class Session:
    """calls: what it was asked for, in order, and how much sound it was given in between, in ms."""

    def __init__(self) -> None:
        self.stop = StopEvent()
        self.input_format = self.output_format = up.AudioFormat("pcm16", RATE_HZ)
        self.calls: list[Any] = []
        self.told: list[up.Update] = []
        self.observer: Any = None

    def observe(self, observer: Any, *, direct: bool) -> Any:
        self.observer = observer
        return lambda: None

    def tell(self, update: up.Update) -> None:
        self.told.append(update)

    def send_audio(self, audio: bytes) -> None:
        before = self.calls.pop() if self.calls and isinstance(self.calls[-1], int) else 0
        self.calls.append(before + len(audio) * 1000 // (2 * RATE_HZ))

    def interrupt(self, cause: str) -> bool:
        self.calls.append(f"interrupt {cause}")
        return False

    def clear_input(self) -> None:
        self.calls.append("clear")

    def commit(self) -> None:
        self.calls.append("commit")

    def respond(self) -> None:
        self.calls.append("respond")

    def see(self, *updates: up.Update) -> None:
        for update in updates:
            self.observer(update, 0.0)


class Speaker:
    idle = True
    underruns = 0
    device = None

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def play(self, part: tuple[str, int], _pcm: bytes, _rate_hz: int, _at_s: float) -> None:
        self.calls.append(("play", part[0]))

    def end(self, part: tuple[str, int]) -> None:
        self.calls.append(("end", part[0]))

    def played(self) -> tuple[()]:
        return ()

    def close(self) -> None: ...


class Scene:
    def __init__(self, mode: TurnMode, echo: EchoMode) -> None:
        self.session, self.speaker, self.voice = Session(), Speaker(), LiveVoice(mode=mode)
        self.voice.start(self.session, self.speaker, EchoControl(RATE_HZ, echo))  # type: ignore[arg-type]
        self._block = 0

    def hear(self, blocks: int) -> None:
        """Let the microphone capture so many blocks, one right after the other."""
        for _ in range(blocks):
            self.voice.on_block(np.zeros(RATE_HZ * BLOCK_MS // 1000, np.int16), self._block * BLOCK_MS / 1000)
            self._block += 1


@pytest.mark.parametrize("echo", [EchoMode.HEADPHONES, EchoMode.HALF_DUPLEX])
def test_the_microphone_goes_on_and_its_time_does(echo: EchoMode) -> None:
    scene = Scene(TurnMode.SERVER_VAD, echo)
    scene.hear(10)
    scene.session.see(LOST, TRYING)
    scene.hear(50)
    scene.session.see(BACK)
    scene.hear(10)
    scene.voice.close()
    assert scene.session.calls == [70 * BLOCK_MS], "each sample once"
    captured = [update for update in scene.session.told if isinstance(update, up.Captured)]
    assert len(captured) == 1, "without a break"
    assert captured[0].at_ms == 0


def test_a_turn_by_key_begins_and_ends_while_there_is_no_connection() -> None:
    scene = Scene(TurnMode.PUSH_TO_TALK, EchoMode.HEADPHONES)
    scene.session.see(LOST, TRYING)
    scene.hear(5)
    scene.voice.key.press()
    scene.hear(20)
    scene.voice.key.release()
    scene.hear(5)
    scene.session.see(BACK)
    scene.hear(5)
    scene.voice.close()
    assert scene.session.calls == ["interrupt speech", "clear", 21 * BLOCK_MS, "commit", "respond"]


def sound(response: str, item: str) -> up.AudioDelta:
    return up.AudioDelta(response_id=response, item_id=item, content_index=0, audio=bytes(480))


def ended(response: str) -> up.ResponseDone:
    return up.ResponseDone(response_id=response, status="incomplete", reason="connection_lost")


def test_what_came_of_an_answer_that_broke_off_is_heard_to_its_last_sample() -> None:
    """The part ends for the speaker although the server never said so; the answer asked for again stands behind it."""
    scene = Scene(TurnMode.SERVER_VAD, EchoMode.HEADPHONES)
    scene.session.see(sound("a", "one"), ended("other"), ended("a"), LOST, TRYING, BACK)
    scene.session.see(sound("b", "two"), up.AudioDone(response_id="b", item_id="two", content_index=0), ended("b"))
    scene.voice.close()
    assert scene.speaker.calls == [("play", "one"), ("end", "one"), ("play", "two"), ("end", "two")]
