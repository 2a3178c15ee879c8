"""A microphone into which a program speaks: blocks of 20 ms, each at its own moment.

Block k leaves at start + k * 20 ms of the monotonic clock. Whoever tends it may be late: what is due then leaves at
once, and the schedule stays where it was, so delays never add up. Silence that has lasted for five seconds goes out
five blocks at a time, when the last of them is due: nobody waits for it any more, and hundreds of sessions do so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from realtime_client.audio.pcm import silence
from realtime_client.deadline import SYSTEM_CLOCK, Clock
from realtime_client.session.utterance import pieces
from realtime_client.updates import AudioFormat

from .sound import StepSound

if TYPE_CHECKING:
    from typing_extensions import Buffer

BLOCK_MS = 20
_GROUP = 5
_LONG_BLOCKS = 250


class ScriptedMicrophone:
    """Sends clips in real time; between them silence where it is `live`. One thread tends it.

    send: takes one block in the input format. captured: called before the first block of an unbroken stretch with how
    much audio was sent before it (ms) and its moment on the schedule. live: silence flows when there is nothing else,
    as from a device that is open. muted: nothing is sent at all.
    """

    def __init__(
        self,
        fmt: AudioFormat,
        send: Callable[[Buffer], object],
        *,
        live: bool,
        captured: Callable[[int, float], object] = lambda _at_ms, _at_s: None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.muted = False
        self.sent_bytes = 0
        self._format = fmt
        self._send = send
        self._captured = captured
        self._broken = True
        self._live = live
        self._clock = clock
        self._size = fmt.bytes_per_ms * BLOCK_MS
        self._silence = silence(BLOCK_MS, fmt)
        self._start_s: float | None = clock.monotonic() if live else None
        self._next = 0
        self._silent = 0  # blocks of silence since the last clip
        self._clip: deque[bytes] = deque()
        self._marks: deque[tuple[int, Callable[[float], None]]] = deque()

    @property
    def sent_ms(self) -> int:
        """How much audio has left in all."""
        return self._format.ms(self.sent_bytes)

    @property
    def speaking(self) -> bool:
        """Whether a clip is on its way."""
        return bool(self._clip)

    def play(self, clip: StepSound, began: Callable[[float], None], ended: Callable[[float], None]) -> None:
        """Begin to send a clip. began, ended: called with the moment when its voice begins and when it has ended."""
        self._silent = 0
        self.tend()  # silence that was due precedes it
        size = self._size
        blocks = [clip.audio[at : at + size] for at in range(0, len(clip.audio), size)]
        if blocks:
            blocks[-1] += self._silence[len(blocks[-1]) :]
        self._clip.extend(blocks)
        last = max(0, len(blocks) - 1)
        self._marks = deque(
            [
                (min(last, clip.voice_start_ms // BLOCK_MS), began),
                (min(last, max(0, clip.voice_end_ms - 1) // BLOCK_MS), ended),
            ]
        )
        self._marks = deque((len(blocks) - number, call) for number, call in self._marks)
        if self._start_s is None:
            self._start_s, self._next = self._clock.monotonic(), 0

    def tend(self) -> None:
        """Send what is due."""
        while self._start_s is not None and self.due_in_s() <= 0:
            due_s, count = self._due_s(), self._group()
            self._next += count
            self._send_blocks(due_s, count)
            if not self._live and not self._clip:  # a key that was released: the next clip has a schedule of its own
                self._start_s, self._broken = None, True

    def _group(self) -> int:
        """How many blocks go out together next."""
        return _GROUP if self._silent >= _LONG_BLOCKS and not self._clip else 1

    def _send_blocks(self, due_s: float, count: int) -> None:
        left = len(self._clip)
        if left:
            block = self._clip.popleft()
        elif self.muted:
            self._broken = True
            return
        else:
            self._silent += count
            block = self._silence * count
        if self._broken:
            self._broken = False
            self._captured(self.sent_ms, due_s)
        self._send(block)
        self.sent_bytes += len(block)
        while self._marks and left and self._marks[0][0] >= left:
            self._marks.popleft()[1](self._clock.monotonic())

    def _due_s(self) -> float:
        assert self._start_s is not None
        return self._start_s + self._next * BLOCK_MS / 1000

    def due_in_s(self) -> float:
        """How long until the next blocks are due; negative when they are late, a long time when none is."""
        if self._start_s is None:
            return 3600.0
        return self._due_s() + (self._group() - 1) * BLOCK_MS / 1000 - self._clock.monotonic()

    def play_fast(
        self, clip: StepSound, silence_ms: int, began: Callable[[float], None], ended: Callable[[float], None]
    ) -> None:
        """Send a whole clip, and silence after it, as fast as it is taken."""
        voice_end = self.sent_bytes + clip.voice_end_ms * self._format.bytes_per_ms
        began(self._clock.monotonic())
        ended_at: float | None = None
        for piece in pieces(clip.audio, self._format, silence_ms):
            self._send(piece)
            self.sent_bytes += len(piece)
            if ended_at is None and self.sent_bytes >= voice_end:
                ended_at = self._clock.monotonic()
        ended(self._clock.monotonic() if ended_at is None else ended_at)
