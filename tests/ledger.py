"""Both sides keep a ledger: every message, every item, and every 20 ms of sound have numbers that can be compared.

Each sample of a block of sound holds the block's number: above zero where somebody speaks, below it where nobody does.
So whoever has some of it, a server's item, a file of the recording, can tell which samples these are. The server's ear
writes down the blocks that it heard ("mic 10-24 30/240": block 30 only in part), so that its numbers survive where the
sound does not. The voice numbers what it says in the same way, on through all sessions of the server.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from realtime_client.local.brain import BrainTurn, CallTool, Say
from realtime_client.local.engine import Engine
from realtime_client.local.parts import Parts
from realtime_client.local.server import LocalServer
from realtime_client.protocol import events as ev
from realtime_client.protocol.server.conversation import ServerConversation
from realtime_client.updates import AudioFormat

BLOCK_MS = 20
BLOCK_SAMPLES = 480  # of 24 kHz
_RUN = re.compile(r"(\d+)(?:-(\d+)|/(\d+))?")
LONG_S, SHORT_S = 6.0, 0.1
SPEAKS_FAST = 4.0
TOOL = "ledger"


# --- numbered sound ---------------------------------------------------------------------------------------------------


def block(number: int, *, speech: bool = True) -> bytes:
    """20 ms of sound: its number, from 1, in each sample."""
    return array("h", [number if speech else -number] * BLOCK_SAMPLES).tobytes()


def samples_of(pcm16: bytes) -> Counter[int]:
    """How many samples of each block of speech are in it."""
    return Counter(each for each in array("h", pcm16) if each > 0)


def order_of(pcm16: bytes) -> list[int]:
    """The numbers of the blocks of speech in it, as they follow each other."""
    return [number for number, _ in itertools.groupby(array("h", pcm16)) if number > 0]


def written(samples: Counter[int]) -> str:
    """Tell them in words."""
    whole = sorted(number for number, count in samples.items() if count == BLOCK_SAMPLES)
    runs = []
    for _, run in itertools.groupby(enumerate(whole), lambda each: each[1] - each[0]):
        numbers = [number for _, number in run]
        runs.append(str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}")
    parts = [f"{number}/{count}" for number, count in sorted(samples.items()) if count != BLOCK_SAMPLES]
    return " ".join(["mic", *runs, *parts])


def read(text: str) -> Counter[int]:
    """What such words tell; nothing for any others."""
    samples: Counter[int] = Counter()
    if text.startswith("mic"):
        for first, last, count in _RUN.findall(text):
            for number in range(int(first), int(last or first) + 1):
                samples[number] += int(count or BLOCK_SAMPLES)
    return samples


def within(spans_ms: Iterable[tuple[int, int]], blocks: dict[int, int]) -> Counter[int]:
    """How many samples of which blocks lie in these stretches. blocks: their numbers, and where they begin (ms)."""
    samples: Counter[int] = Counter()
    for start_ms, end_ms in spans_ms:
        for number, at_ms in blocks.items():
            common_ms = min(end_ms, at_ms + BLOCK_MS) - max(start_ms, at_ms)
            if common_ms > 0:
                samples[number] += common_ms * BLOCK_SAMPLES // BLOCK_MS
    return samples


# --- the server's parts -----------------------------------------------------------------------------------------------


class LedgerModel:
    """Speech is what is above zero."""

    frame_samples = 512

    def rate(self, frame: bytes) -> float:
        samples = array("h", frame)
        return float(sum(each > 0 for each in samples) * 2 > len(samples))


class LedgerEars:
    """Hears numbers, at once, and exactly: there is no resampling on the way."""

    def warm_up(self) -> None:
        pass

    def submit(self, audio: bytes, _format: AudioFormat, answer: Callable[[str | None, str], None]) -> None:
        answer(written(samples_of(audio)), "")


class LedgerVoice:
    """Says numbered blocks: some seconds the first time that a text begins with `long`, 0.1 s for anything else."""

    rate_hz = 24_000

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._said: set[str] = set()
        self._lock = threading.Lock()

    def speak(self, text: str, **_options: Any) -> Iterator[bytes]:
        with self._lock:
            takes_s = LONG_S if text.startswith("long") and text not in self._said else SHORT_S
            self._said.add(text)
            numbers = [next(self._numbers) for _ in range(int(takes_s * 1000) // BLOCK_MS)]
        yield b"".join(block(number) for number in numbers)


class LedgerBrain:
    """Answers with what it was told: `long` texts at length, those that begin with `use` by its tool."""

    def reply(self, turn: BrainTurn) -> Iterator[Say | CallTool]:
        last = turn.utterances[-1]
        if last.role == "output":
            yield Say(f"done {last.text}")
            return
        asked = next((each.text for each in reversed(turn.utterances) if each.role == "user"), "nothing")
        if asked.startswith("use") and turn.tools:
            yield CallTool(TOOL, json.dumps({"for": asked}))
        else:
            yield Say(f"{'long' if asked.startswith('long') else 'ok'} {asked}")


# --- the server -------------------------------------------------------------------------------------------------------


class Book:
    """What one session of the server was sent, and what its conversation holds."""

    def __init__(self, conversation: ServerConversation) -> None:
        self.conversation = conversation
        self.taken: list[ev.ClientEvent] = []
        receive = conversation.receive

        def noted(event: Any) -> Any:
            self.taken.append(event)
            return receive(event)

        conversation.receive = noted  # type: ignore[method-assign]

    @property
    def messages(self) -> Counter[str]:
        """How often each message came, by its id."""
        return Counter(each.event_id for each in self.taken if getattr(each, "event_id", None))

    @property
    def history(self) -> list[tuple[str, str]]:
        """Who, and what: the items in their order."""
        return [_told(entry) for entry in list(self.conversation.items)]

    @property
    def heard(self) -> Counter[int]:
        """Which samples of the user are in its items."""
        return sum((read(text) for role, text in self.history if role == "user"), Counter())


def _told(entry: Any) -> tuple[str, str]:
    item = entry.item
    if item.type == "function_call":
        return "call", f"{item.call_id} {item.arguments}"
    if item.type == "function_call_output":
        return "output", f"{item.call_id} {item.output}"
    return str(item.role), entry.said()


class LedgerServer(LocalServer):
    """The local server, with parts that number what they say and hear. books: one for each session, in order."""

    def __init__(self, **options: Any) -> None:
        parts = Parts(brain=LedgerBrain(), ear=None, voice=LedgerVoice(), speech_model=LedgerModel)  # type: ignore[arg-type]
        super().__init__(parts=parts, pace=SPEAKS_FAST, **options)
        self.books: list[Book] = []

    def _engine(self, connection: Any) -> Engine:
        engine = super()._engine(connection)
        engine._ears = LedgerEars()  # type: ignore[assignment]
        self.books.append(Book(engine._conversation))
        return engine
