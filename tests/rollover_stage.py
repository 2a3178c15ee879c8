"""Sessions that last a second or so, and somebody who listens: what the tests and the benchmark of rollover stand on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
from sound_card import wait_until

from realtime_client import updates as up
from realtime_client.audio.files import read_audio
from realtime_client.audio.playback.playback import Playback
from realtime_client.client.client import RealtimeClient
from realtime_client.client.endpoint import Endpoint
from realtime_client.local import LocalServer, Parts
from realtime_client.local.brain import BrainTurn
from realtime_client.local.demo_brain import DemoBrain
from realtime_client.session.limits import Limits, Recovery

WAIT_S = 20.0
RATE_HZ = 24_000
BLOCK_S = 0.02
LIMITS = Limits(open_timeout_s=10, close_timeout_s=5)
RECOVERY = Recovery(reconnect_s=30)
SPEECH = Path(__file__).parent.parent / "scripts/scenarios/audio/weather_in_paris.ogg"
SPOKEN = "what is the weather in paris"


class AheadClock:
    """A clock of the user's machine by which the server's sessions, of an hour, end within so many seconds."""

    def __init__(self, lasts_s: float) -> None:
        self._ahead_s = 3600 - lasts_s

    monotonic = staticmethod(time.monotonic)

    def wall(self) -> float:
        return time.time() + self._ahead_s


class Listener:
    """Takes 20 ms of sound whenever so much time has gone by, as a device does.

    gaps_ms: the longest silence within each part, where it should have sounded.
    """

    def __init__(self) -> None:
        self.playback = Playback(RATE_HZ)
        self.gaps_ms: dict[Any, float] = {}
        self._last: dict[Any, int] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="listener")

    def take(self, update: up.Update, at_s: float) -> None:
        """An observer of the session."""
        if isinstance(update, up.AudioDelta):
            samples = np.frombuffer(update.audio, np.int16)
            self.playback.write((update.item_id, update.content_index), samples, at_s)
        elif isinstance(update, up.AudioDone):
            self.playback.end((update.item_id, update.content_index))
        elif isinstance(update, up.Interrupted):
            self.playback.drop(0)

    def heard_ms(self, item_id: str, content_index: int) -> int | None:
        return self.playback.heard_ms((item_id, content_index), 0)

    def _listen(self) -> None:
        out = np.zeros(round(RATE_HZ * BLOCK_S), np.int16)
        due_s = time.monotonic()
        while not self._over.wait(max(0.0, due_s - time.monotonic())):
            begin = self.playback.handed
            self.playback.read(out)
            for part, from_ms, to_ms, position in self.playback.stood(begin, begin + len(out)):
                if from_ms > 0:
                    gap_ms = (position - self._last.get(part, position)) * 1000 / RATE_HZ
                    self.gaps_ms[part] = max(self.gaps_ms.get(part, 0.0), gap_ms)
                self._last[part] = position + round((to_ms - from_ms) * RATE_HZ / 1000)
            due_s += BLOCK_S

    @property
    def idle(self) -> bool:
        return self.playback.idle

    @property
    def longest_gap_ms(self) -> float:
        return max(self.gaps_ms.values(), default=0.0)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(5)


class Rules(DemoBrain):
    """The demo brain. knows: what it was told when it was asked last."""

    def __init__(self) -> None:
        self.knows: list[tuple[str, str]] = []

    def reply(self, turn: BrainTurn) -> Iterator[Any]:
        self.knows = [(each.role, each.text) for each in turn.utterances]
        return super().reply(turn)


class Stage:
    """One session, what happens in it but for its sound, and who listens."""

    def __init__(self, client: RealtimeClient, listener: Listener, brain: Any) -> None:
        self.client, self.listener, self.brain = client, listener, brain
        self.happened: list[up.Update] = []

    def observe(self, update: up.Update, at_s: float) -> None:
        self.listener.take(update, at_s)
        if not isinstance(update, up.AudioDelta):
            self.happened.append(update)

    def all(self, kind: type[up.Update]) -> list[Any]:
        return [update for update in list(self.happened) if isinstance(update, kind)]

    def wait(self, kind: type[up.Update], count: int = 1) -> Any:
        wait_until(lambda: len(self.all(kind)) >= count, WAIT_S, kind.__name__)
        return self.all(kind)[count - 1]

    @property
    def moved(self) -> int:
        """How often it went to another session in time."""
        return sum(each.reason == "rollover" for each in self.all(up.Restored))

    def hears(self) -> None:
        """Wait until all that came was heard."""
        wait_until(lambda: self.listener.idle, WAIT_S, "the end of the answer")

    def speak(self, until_s: float | None = None, *, since_s: float = 0.0, ends: bool = True) -> None:
        """Say the sentence into the microphone, as fast as one speaks, and go on for a second with silence.

        since_s, until_s: only so much of it. ends: with the silence.
        """
        sound = read_audio(SPEECH, self.client.input_format) + bytes(RATE_HZ * 2 if ends else 0)
        size = round(RATE_HZ * BLOCK_S) * 2
        due_s = time.monotonic()
        first, last = round(since_s * RATE_HZ) * 2, len(sound) if until_s is None else round(until_s * RATE_HZ) * 2
        for begin in range(first, last, size):
            assert not self.client.stop.wait(max(0.0, due_s - time.monotonic()))
            self.client.send_audio(sound[begin : begin + size])
            due_s += BLOCK_S


@contextmanager
def stage(lasts_s: float, *, brain: Any = None, server: LocalServer | None = None, **more: Any) -> Iterator[Stage]:
    """A session with a local server. lasts_s: for so long, and up to one less; a server states whole seconds."""
    brain = Rules() if brain is None else brain
    with server or LocalServer(parts=Parts(brain=brain)) as served, Listener() as listener:
        options = {"limits": LIMITS, "recovery": RECOVERY, "clock": AheadClock(lasts_s)} | more
        client = RealtimeClient(Endpoint(url=served.url, proxy=None), heard_ms=listener.heard_ms, **options)
        scene = Stage(client, listener, brain)
        client.observe(scene.observe)
        with client:
            yield scene


def leave_now(client: RealtimeClient) -> None:
    """Let it be time to move to another session."""
    client._leaving.from_s = 0.0
    client._connection.wake.set()


def said(scene: Stage) -> list[tuple[str, str]]:
    """What was said, by this side's account, up to the last question."""
    entries = [(entry.role, entry.as_heard.said) for entry in scene.client._conversation.entries()]
    return entries[: max(n for n, (role, _) in enumerate(entries) if role == "user") + 1]
