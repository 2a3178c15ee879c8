"""Keeping the assistant's voice from coming back through the microphone. Pure.

Modes:

    headphones   nothing is done; only near speech is looked for
    aec          the echo is cancelled (WebRTC's AEC3 in livekit's AudioProcessingModule, extra `aec`)
    half-duplex  while the assistant is audible, the microphone is replaced by silence
    auto         `choose_mode` picks one of these

In `aec` and `half-duplex` a gate stands behind. Its rule: while the assistant is audible (something above -60 dBFS was
handed to the speaker less than `hold_ms` ago), silence passes unless near speech is clear, for some 30 ms. Once open,
the gate stays open until that speech stops. It looks 40 ms ahead, so that the beginning of a word is not lost; that is
how much later the sound is in these modes.

What is clear near speech: `far_line` brings both sides together, `bands` tells how much of a frame no echo
explains, and until it has heard the assistant for 1.5 s the gate stays closed. In `aec` what the canceller leaves
counts instead: a frame 4 dB above the level that it usually leaves of the assistant, if the bands give at least a hint.
But only while the canceller can be trusted: it took 10 dB away, and nothing jumped since.

Speech that is quieter than the echo in every band, by some 10 dB in all, cannot be told from it in `half-duplex`.
"""

from __future__ import annotations

import enum
import importlib.util
from typing import Any, Protocol

import msgspec
import numpy as np

from realtime_client.audio.echo.bands import EchoBands
from realtime_client.audio.echo.far_line import RESERVE_MS, FarLine
from realtime_client.audio.echo.level import CancellerTrust, EchoLevel, EchoPath
from realtime_client.audio.echo.onset import (
    FRAME_MS,
    SILENCE_DBFS,
    OnsetDetector,
    OnsetEvent,
    OnsetSettings,
    Samples,
    frame_levels,
)
from realtime_client.audio.speech_model import SpeechModel
from realtime_client.errors import MissingExtraError, UsageError

LOOK_AHEAD_MS = 40
_TRUSTED_ERLE_DB = -15.0
_HINT_DB = 0.3  # less excess in what the microphone gave is echo, whatever the canceller leaves of it
_NEITHER_DB = 3.0  # so far below the threshold, a frame decides nothing
_OVER_DB, _FAR_BELOW_DB = 4.0, 12.0  # how much louder than the echo a frame is for each dB of excess; for none


class EchoMode(enum.StrEnum):
    """What is done about echo; `auto` is resolved by `choose_mode`."""

    HEADPHONES = "headphones"
    AEC = "aec"
    HALF_DUPLEX = "half-duplex"
    AUTO = "auto"


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
    finds the delay by itself, so 0 does no harm. Errors: MissingExtraError without the extra `aec`.
    """

    def __init__(self, far_hz: int, near_hz: int, delay_ms: int = 0) -> None:
        if not aec_available():
            raise MissingExtraError("echo cancellation", "aec")
        from livekit import rtc

        self._frame: Any = rtc.AudioFrame
        self._far_hz, self._near_hz = far_hz, near_hz
        self._module = rtc.AudioProcessingModule(echo_cancellation=True, high_pass_filter=True)
        self._module.set_stream_delay_ms(max(0, min(500, delay_ms)))

    def far(self, frame: Samples) -> None:
        """Take 10 ms of what goes to the speaker."""
        self._module.process_reverse_stream(self._frame(bytearray(frame), self._far_hz, 1, frame.size))

    def near(self, frame: Samples) -> Samples:
        """Return 10 ms of the microphone without the echo."""
        audio = self._frame(bytearray(frame), self._near_hz, 1, frame.size)
        self._module.process_stream(audio)
        return np.frombuffer(audio.data, np.int16)


class EchoControl:
    """All that is done about echo between microphone and server.

    near_hz: rate of the microphone's sound, far_hz: of the speaker's (default the same); multiples of 100.
    Other devices need a new one.
    `far` and `near` may be called from two threads; `far` never waits and belongs in the speaker's callback, with every
    block that is handed over, silence included. Errors: UsageError for a rate; MissingExtraError for `aec` without it.

    speech: someone near is speaking. event: what the last block showed. passes_speech: the gate is open.
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
        self._detector = OnsetDetector(near_hz, settings=onset, model=model)
        self._near_frame = self._detector.frame_samples
        far_hz = far_hz or near_hz
        if far_hz <= 0 or far_hz % 100:
            raise UsageError(f"a rate of {far_hz} Hz has no whole number of samples in 10 ms")
        self._far_frame = far_hz // 100
        self._line = FarLine(far_hz, near_hz)
        self._canceller = canceller
        if self.mode is EchoMode.AEC and canceller is None:
            self._canceller = WebRtcCanceller(far_hz, near_hz, round(path.delay_ms or 0))
        self._trust = CancellerTrust()
        fed_ms = None if path.delay_ms is None else max(0.0, path.delay_ms - RESERVE_MS)
        residual_db = _TRUSTED_ERLE_DB if self.mode is EchoMode.AEC else 0.0
        self._level = EchoLevel(msgspec.structs.replace(path, delay_ms=fed_ms), residual_db)
        delay = None if fed_ms is None else round(fed_ms / FRAME_MS)
        self._bands = EchoBands(far_hz, near_hz, delay, None if path.return_loss_db is None else -path.return_loss_db)
        self._rest = np.zeros(0, np.int16)
        self._ahead = np.zeros(self._near_frame * (LOOK_AHEAD_MS // FRAME_MS), np.int16)

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
        """The echo expected now in what `near` judges."""
        return self._level.dbfs

    @property
    def delay_ms(self) -> int:
        """By how much `near` delays the sound."""
        return 0 if self.mode is EchoMode.HEADPHONES else LOOK_AHEAD_MS

    def far(self, samples: Samples, at_s: float) -> None:
        """Take a block that is handed to the speaker, and when it will sound (s). Copies; does not wait or lock."""
        if self.mode is not EchoMode.HEADPHONES:
            self._line.write(samples, at_s)

    def near(self, samples: Samples, at_s: float) -> Samples:
        """Take a block of the microphone; return what may go to the server: whole frames of 10 ms, the rest later."""
        rest_s = self._rest.size / self._near_frame / 100
        block = self._whole_frames(samples)
        if self.mode is EchoMode.HEADPHONES:
            self._note(self._detector.feed(block))
            return block
        frames = block.size // self._near_frame
        if not frames:
            self._note(None)
            return block
        fars = self._line.frames(frames, at_s - rest_s)
        taken = [self._take(far, near) for far, near in zip(fars, block.reshape(frames, -1), strict=True)]
        if self._canceller is not None:
            block = np.concatenate([clean for clean, _, _ in taken])
        _, levels_dbfs, bars_dbfs = zip(*taken, strict=True)
        self._note(self._detector.feed(block, bars_dbfs, levels_dbfs))
        return self._gated(block)

    def _take(self, far: Samples, near: Samples) -> tuple[Samples, float, float]:
        """Take 10 ms of both sides; return the near one, cleaned, its level, and the level of echo to expect in it."""
        far_dbfs = frame_levels(far, self._far_frame)[0]
        self._bands.step(far, near, steady=self._line.steady)
        self._level.handed(far_dbfs)
        self._level.advance(1)
        clean = near
        if self._canceller is not None:
            self._canceller.far(far)
            clean = self._canceller.near(near)
            if not self._line.steady and self._trust.given:
                self._level.restart()
            self._trust.note(near, clean, steady=self._line.steady, alone=self._bands.loud and not self.speech)
        clean_dbfs = frame_levels(clean, self._near_frame)[0]
        if self._trust.given and self._level.known and not self.speech:
            hint = self._bands.excess_db >= _HINT_DB
            over_db = clean_dbfs - max(self._level.dbfs, self.noise_dbfs + self._detector.settings.margin_db)
            if self._trust.doubt(over_db, hint=hint):
                self._level.restart()
        bar_dbfs = self._bar_dbfs(clean_dbfs)
        if not self.speech:
            self._bands.learn()
            if self._trust.given:
                self._level.heard(clean_dbfs, self.noise_dbfs)
        return clean, clean_dbfs, bar_dbfs

    def _bar_dbfs(self, level_dbfs: float) -> float:
        """The level of echo to expect: by the level of what a trusted canceller leaves, else by bands."""
        if not self._level.audible:
            return SILENCE_DBFS
        if self._trust.given and self._level.known:
            if self._bands.excess_db >= _HINT_DB:
                return self._level.dbfs
            return max(self._level.dbfs, level_dbfs - self._detector.settings.echo_margin_db + _NEITHER_DB)
        if not self._bands.known:
            return 0.0
        excess_db, threshold_db = self._bands.excess_db, self._bands.threshold_db
        over_db = _OVER_DB * (excess_db - threshold_db) if excess_db > threshold_db / 2 else -_FAR_BELOW_DB
        return level_dbfs - self._detector.settings.echo_margin_db - over_db

    def _whole_frames(self, samples: Samples) -> Samples:
        if self._rest.size:
            samples = np.concatenate((self._rest, samples))
        whole = samples.size - samples.size % self._near_frame
        self._rest = samples[whole:].copy()
        return samples[:whole]

    def _note(self, event: OnsetEvent | None) -> None:
        self.event = event
        if event is OnsetEvent.STARTED:
            self._bands.forget_last()
            self._level.forget_last()

    def _gated(self, block: Samples) -> Samples:
        self.passes_speech = not self._level.audible or self.speech
        joined = np.concatenate((self._ahead, block))
        self._ahead = joined[block.size :]
        return joined[: block.size] if self.passes_speech else np.zeros(block.size, np.int16)
