"""Keeping the assistant's voice from coming back through the microphone. Pure.

Modes:

    headphones   nothing is done; only near speech is looked for
    aec          the echo is cancelled (WebRTC's AEC3 in livekit's AudioProcessingModule, extra `aec`)
    half-duplex  while the assistant is audible, the microphone is replaced by silence
    auto         `choose_mode` picks one of these

In `aec` and `half-duplex` a gate stands behind. Its rule: while the assistant is audible (something above -60 dBFS was
handed to the speaker less than `hold_ms` ago), silence passes unless near speech is clear, which is: frames 6 dB above
the echo to be expected, and above the noise floor as `onset` has it, for some 30 ms. Once open, the gate stays open
until that speech stops. It looks 40 ms ahead, so that the beginning of a word is not lost; that is how much later the
sound is in these modes.

The echo to be expected is the level handed to the speaker, at the loop's delay and with the room's decay, plus the
coupling: what the echo keeps of it. The coupling comes from the loop measurement and is followed while the assistant
speaks alone; without a measurement the gate stays closed until it has heard two seconds of the assistant.
"""

from __future__ import annotations

import enum
import importlib.util
from collections import deque
from collections.abc import Iterator
from typing import Any, Protocol

import msgspec
import numpy as np

from realtime_client.audio.onset import (
    FRAME_MS,
    SILENCE_DBFS,
    OnsetDetector,
    OnsetEvent,
    OnsetSettings,
    Samples,
    SpeechModel,
    frame_levels,
)
from realtime_client.errors import MissingExtraError, UsageError

LOOK_AHEAD_MS = 40
HOLD_MS = 750
_AUDIBLE_DBFS = -60.0
_RING_S = 1.0
_SLIP_FRAMES = 10  # how far both clocks may be apart before they are matched again


class EchoMode(enum.StrEnum):
    """What is done about echo; `auto` is resolved by `choose_mode`."""

    HEADPHONES = "headphones"
    AEC = "aec"
    HALF_DUPLEX = "half-duplex"
    AUTO = "auto"


class EchoPath(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the way from the speaker to the microphone.

    delay_ms: from handing over a sample to its echo, None if unknown. return_loss_db: how much quieter the echo is than
    what was handed over, None if unknown. hold_ms: how long after the last audible sample echo may still come.
    """

    delay_ms: float | None = None
    return_loss_db: float | None = None
    hold_ms: float = HOLD_MS


UNKNOWN_PATH = EchoPath()


def aec_available() -> bool:
    """Tell whether the extra `aec` is installed."""
    return importlib.util.find_spec("livekit") is not None and importlib.util.find_spec("livekit.rtc") is not None


def choose_mode(asked: EchoMode | str, remembered: EchoMode | str | None = None) -> EchoMode:
    """Return the mode to use, never `auto`.

    For `auto` it is the one remembered for these devices, else aec if it is installed, else half-duplex.
    Errors: ValueError for a word that is no mode.
    """
    mode = EchoMode(asked)
    if mode is not EchoMode.AUTO:
        return mode
    best = EchoMode.AEC if aec_available() else EchoMode.HALF_DUPLEX
    known = best if remembered is None else EchoMode(remembered)
    return best if known in (EchoMode.AUTO, EchoMode.AEC) else known


class SampleRing:
    """Samples on their way from one thread to another; neither waits. When full, the oldest are lost and counted."""

    def __init__(self, capacity: int) -> None:
        self._samples = np.zeros(capacity, np.int16)
        self._written = 0
        self._read = 0
        self.lost = 0

    def write(self, samples: Samples) -> None:
        """Add samples (one thread only); of more than fit, the last ones."""
        capacity = self._samples.size
        kept = samples[-capacity:]
        at = (self._written + samples.size - kept.size) % capacity
        first = min(kept.size, capacity - at)
        self._samples[at : at + first] = kept[:first]
        self._samples[: kept.size - first] = kept[first:]
        self._written += samples.size

    def read(self, multiple: int) -> Samples:
        """Take what is there, in whole multiples (one thread only). Half of the ring at most: the writer may go on."""
        capacity = self._samples.size
        behind = self._written - self._read
        if behind > capacity // 2:
            skipped = behind - capacity // 2
            self._read, self.lost, behind = self._read + skipped, self.lost + skipped, capacity // 2
        count = behind - behind % multiple
        at = self._read % capacity
        first = min(count, capacity - at)
        self._read += count
        return np.concatenate((self._samples[at : at + first], self._samples[: count - first]))


class Canceller(Protocol):
    """Takes the echo out of frames of 10 ms."""

    def far(self, frame: Samples) -> None:
        """Take what goes to the speaker."""
        ...

    def near(self, frame: Samples) -> Samples:
        """Return a frame of the microphone without the echo."""
        ...


class WebRtcCanceller:
    """livekit's AudioProcessingModule with its echo canceller (AEC3) and high-pass filter.

    far_hz, near_hz: multiples of 100. delay_ms: expected between `far` and the same sound in `near`; the canceller
    finds the delay by itself, so 0 is no harm. Errors: MissingExtraError without the extra `aec`.
    """

    def __init__(self, far_hz: int, near_hz: int, delay_ms: int = 0) -> None:
        if not aec_available():
            raise MissingExtraError("echo cancellation", "aec")
        from livekit import rtc

        self._frame: Any = rtc.AudioFrame
        self._far_hz, self._near_hz, self._delay_ms = far_hz, near_hz, max(0, min(500, delay_ms))
        self._module = rtc.AudioProcessingModule(echo_cancellation=True, high_pass_filter=True)

    def far(self, frame: Samples) -> None:
        """Take 10 ms of what goes to the speaker."""
        self._module.process_reverse_stream(self._frame(bytearray(frame), self._far_hz, 1, frame.size))

    def near(self, frame: Samples) -> Samples:
        """Return 10 ms of the microphone without the echo."""
        audio = self._frame(bytearray(frame), self._near_hz, 1, frame.size)
        self._module.set_stream_delay_ms(self._delay_ms)
        self._module.process_stream(audio)
        return np.frombuffer(audio.data, np.int16)


class EchoLevel:
    """How loud the echo may be now, from what was handed to the speaker.

    path: what is known. residual_db: how much of the echo a canceller is trusted to take away from the start.
    """

    _SPREAD_FRAMES = 5
    _UNKNOWN_FRAMES = 50  # without a measured delay the echo may come within so many frames
    _DECAY_DB = 0.6  # a frame; 60 dB in a second, a reverberant room
    _LOUD_DBFS = -45.0  # quieter sound says nothing sure about the coupling
    _WINDOW_FRAMES, _WINDOWS = 50, 20  # the greatest coupling of the last 10 s of loud assistant
    _LEARN_FRAMES = 200
    _UNSURE_DB = 3.0  # more margin without a measurement
    _COUPLING_DB = (-60.0, 20.0)
    _RISE_DB = 4.0  # speech that was not recognised as such may not raise a measured coupling by more
    _NOISE_DB = 10.0

    def __init__(self, path: EchoPath, residual_db: float = 0.0) -> None:
        delay = None if path.delay_ms is None else round(path.delay_ms / FRAME_MS)
        self._from = 0 if delay is None else max(0, delay - self._SPREAD_FRAMES)
        self._to = self._UNKNOWN_FRAMES if delay is None else delay + self._SPREAD_FRAMES
        self._hold = max(self._to, round(path.hold_ms / FRAME_MS))
        self._levels = deque([SILENCE_DBFS] * (self._to + 1), self._to + 1)  # newest first
        self._since_audible = self._hold + 1
        self._far_dbfs = SILENCE_DBFS
        self._measured = None if path.return_loss_db is None else residual_db - path.return_loss_db
        self._maxima: deque[float] = deque(maxlen=self._WINDOWS)
        self._pending: deque[float] = deque(maxlen=_SLIP_FRAMES)
        self._window = SILENCE_DBFS
        self._learnt = 0

    @property
    def audible(self) -> bool:
        """True while the assistant, or what the room keeps of it, may be heard."""
        return self._since_audible <= self._hold

    @property
    def known(self) -> bool:
        """True once there is a coupling to go by."""
        return self._measured is not None or self._learnt >= self._LEARN_FRAMES

    @property
    def coupling_db(self) -> float:
        """The echo's level less the level handed to the speaker: as measured, and followed within bounds.

        Without a measurement it is the middle one of the latest maxima: near speech that was not recognised as such is
        in some of them.
        """
        least, most = self._COUPLING_DB
        if self._measured is None:
            maxima = sorted(self._maxima)
            return max(least, min(most, maxima[len(maxima) // 2])) if maxima else most
        least = self._measured if self._learnt < self._LEARN_FRAMES else least
        most = self._measured + self._RISE_DB
        heard = max((*self._maxima, self._window))
        return max(least, min(most, heard))

    @property
    def dbfs(self) -> float:
        """The echo's level to be expected now; -96 for none, 0 (nothing is louder) while the coupling is not known."""
        if not self.audible:
            return SILENCE_DBFS
        if not self.known:
            return 0.0
        unsure_db = self._UNSURE_DB if self._measured is None else 0.0
        return max(SILENCE_DBFS, self._far_dbfs + self.coupling_db + unsure_db)

    def handed(self, level_dbfs: float) -> None:
        """Take the level of the next frame that goes to the speaker."""
        self._levels.appendleft(level_dbfs)
        self._since_audible = 0 if level_dbfs > _AUDIBLE_DBFS else self._since_audible + 1

    def advance(self, frames: int) -> None:
        """Let time go on by so many frames of the microphone."""
        loudest = max(list(self._levels)[self._from :])
        self._far_dbfs = max(loudest, self._far_dbfs - self._DECAY_DB * frames, SILENCE_DBFS)

    def heard(self, level_dbfs: float, noise_dbfs: float) -> None:
        """Take the level of a frame in which nobody near was found to speak."""
        if self._far_dbfs < self._LOUD_DBFS:
            return
        is_noise = level_dbfs < noise_dbfs + self._NOISE_DB
        self._pending.append(self._COUPLING_DB[0] if is_noise else level_dbfs - self._far_dbfs)
        if len(self._pending) < _SLIP_FRAMES:
            return
        self._window = max(self._window, self._pending.popleft())
        self._learnt += 1
        if self._learnt % self._WINDOW_FRAMES == 0:
            self._maxima.append(self._window)
            self._window = SILENCE_DBFS

    def forget_last(self) -> None:
        """Near speech began: the last frames were not echo alone."""
        self._pending.clear()


class EchoControl:
    """Everything between microphone and server that concerns echo.

    near_hz: rate of the microphone's sound, far_hz: of the speaker's (default the same); multiples of 100.
    Other devices need a new one.
    `far` and `near` may be called from two threads; `far` never waits and belongs in the speaker's callback, with every
    block that is handed over, silence included. Errors: UsageError for a rate; MissingExtraError for `aec` without it.

    speech: someone near is speaking. event: what the last block showed. passes_speech: the gate is open. speech_at_s:
    at_s of the block in which speech last started.
    """

    def __init__(
        self,
        near_hz: int,
        mode: EchoMode | str = EchoMode.AUTO,
        *,
        far_hz: int | None = None,
        path: EchoPath = UNKNOWN_PATH,
        onset: OnsetSettings | None = None,
        model: SpeechModel | None = None,
        canceller: Canceller | None = None,
    ) -> None:
        self.mode = choose_mode(mode)
        self.event: OnsetEvent | None = None
        self.passes_speech = True
        self.speech_at_s: float | None = None
        self._detector = OnsetDetector(near_hz, settings=onset, model=model)
        self._near_frame = self._detector.frame_samples
        far_hz = far_hz or near_hz
        if far_hz <= 0 or far_hz % 100:
            raise UsageError(f"a rate of {far_hz} Hz has no whole number of samples in 10 ms")
        self._far_frame = far_hz // 100
        self._ring = SampleRing(int(far_hz * _RING_S))
        self._canceller = canceller
        if self.mode is EchoMode.AEC and canceller is None:
            self._canceller = WebRtcCanceller(far_hz, near_hz, round(path.delay_ms or 0))
        self._echo = EchoLevel(path, _TRUSTED_ERLE_DB if self.mode is EchoMode.AEC else 0.0)
        self._rest = np.zeros(0, np.int16)
        self._ahead = np.zeros(self._near_frame * (LOOK_AHEAD_MS // FRAME_MS), np.int16)
        self._ahead_frames = 0
        self._silence = np.zeros(self._far_frame, np.int16)

    @property
    def speech(self) -> bool:
        """True while someone near speaks."""
        return self._detector.speaking

    @property
    def noise_dbfs(self) -> float:
        """The noise floor of the microphone."""
        return self._detector.noise_dbfs

    @property
    def echo_dbfs(self) -> float:
        """The echo expected now in what `near` goes by."""
        return self._echo.dbfs

    @property
    def delay_ms(self) -> int:
        """How much later `near` gives the sound back than it took it."""
        return 0 if self.mode is EchoMode.HEADPHONES else LOOK_AHEAD_MS

    def far(self, samples: Samples, at_s: float) -> None:  # noqa: ARG002  # one shape for both directions
        """Take a block that is handed to the speaker. Copies; does not wait, lock or allocate."""
        if self.mode is not EchoMode.HEADPHONES:
            self._ring.write(samples)

    def near(self, samples: Samples, at_s: float) -> Samples:
        """Take a block of the microphone, return what may go to the server: whole frames of 10 ms, the rest later."""
        block = self._whole_frames(samples)
        if self.mode is EchoMode.HEADPHONES:
            self._note(self._detector.feed(block), at_s)
            return block
        frames = block.size // self._near_frame
        for far in self._far_frames(frames):
            self._take_far(far)
        self._echo.advance(frames)
        if self._canceller is not None and frames:
            block = np.concatenate([self._canceller.near(one) for one in block.reshape(frames, -1)])
        self._note(self._detector.feed(block, self._echo.dbfs), at_s)
        if not self.speech:
            for level in frame_levels(block, self._near_frame):
                self._echo.heard(level, self.noise_dbfs)
        return self._gated(block)

    def _whole_frames(self, samples: Samples) -> Samples:
        if self._rest.size:
            samples = np.concatenate((self._rest, samples))
        whole = samples.size - samples.size % self._near_frame
        self._rest = samples[whole:].copy()
        return samples[:whole]

    def _far_frames(self, frames: int) -> Iterator[Samples]:
        """Yield what was handed over meanwhile, and silence for what is missing: a stopped speaker hands over none."""
        there = self._ring.read(self._far_frame).reshape(-1, self._far_frame)
        yield from there
        self._ahead_frames = min(_SLIP_FRAMES, self._ahead_frames + len(there) - frames)
        while self._ahead_frames < -_SLIP_FRAMES:
            self._ahead_frames += 1
            yield self._silence

    def _take_far(self, frame: Samples) -> None:
        if self._canceller is not None:
            self._canceller.far(frame)
        self._echo.handed(frame_levels(frame, self._far_frame)[0])

    def _note(self, event: OnsetEvent | None, at_s: float) -> None:
        self.event = event
        if event is OnsetEvent.STARTED:
            self.speech_at_s = at_s
            self._echo.forget_last()

    def _gated(self, block: Samples) -> Samples:
        self.passes_speech = not self._echo.audible or self.speech
        joined = np.concatenate((self._ahead, block))
        self._ahead = joined[block.size :]
        return joined[: block.size] if self.passes_speech else np.zeros(block.size, np.int16)


_TRUSTED_ERLE_DB = -15.0
