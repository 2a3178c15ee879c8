"""The speaker: plays sound of any rate on a device that may change, and knows to a few milliseconds what was heard."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from realtime_client.audio.devices import Device
from realtime_client.audio.lines.line import Line
from realtime_client.audio.lines.stream_clock import StreamClock
from realtime_client.audio.lines.telling import DeviceChange
from realtime_client.audio.playback.jitter import START_MS, Part
from realtime_client.audio.playback.playback import Playback
from realtime_client.audio.playback.sounding import Sounding
from realtime_client.audio.resample import Resampler, resample
from realtime_client.deadline import SYSTEM_CLOCK, Clock

_UNTOLD = 1024


class Played(NamedTuple):
    """This much of a part sounded without a break, its first sample at `at_s` on the monotonic clock."""

    part: Part
    from_ms: float
    to_ms: float
    at_s: float


class Speaker:
    """Plays parts of answers in order. Opens the device at once; `close()` gives it back.

    device: the one to use (default: the default one). rate_hz: the rate to ask for; a device that refuses it gets its
    own, and the sound is resampled. on_change: called in a thread of the line when the device changes; must not close
    the speaker. on_far: called by the device's thread with each block that is handed over, silence
    included, at the device's rate, and when it will sound; must only copy. While there is no device, what arrives
    waits, up to 15 minutes of it. Errors: DeviceError.

    A cut takes two steps: the position at which the sound is cut, which no device is asked about, and throwing away
    what the device holds, which may take half a second and is left to the thread `realtime-speaker-cut`.
    """

    def __init__(
        self,
        device: Device | None = None,
        *,
        rate_hz: int = 24_000,
        prebuffer_ms: int = 60,
        start_prebuffer_ms: int = START_MS,
        on_change: Callable[[DeviceChange], None] | None = None,
        on_far: Callable[[Any, float], None] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        import numpy as np

        self._numpy: Any = np
        self._clock = clock
        self._on_far = on_far
        self.playback = Playback(rate_hz, prebuffer_ms=prebuffer_ms, start_prebuffer_ms=start_prebuffer_ms)
        self._peak = 0
        self._mark = (0, 0.0)  # this position in what was handed over is audible at this time
        self._sounding = Sounding(rate_hz)
        self._stream_clock, self._stream = StreamClock(rate_hz), (0.0, 0)
        self._told = 0  # `played` has reported what is before this position
        self._untold: deque[Played] = deque(maxlen=_UNTOLD)  # of devices that are gone
        self._played_lock = threading.Lock()
        self._resampler: tuple[Part, Resampler] | None = None
        self.device_underflows = 0
        self._line = Line(
            "output", device, rate_hz, callback=self._fill, prepare=self._prepare, on_change=on_change, clock=clock
        )
        self._write_lock = threading.RLock()
        self._closing = threading.Event()
        self._cuts = threading.Event()  # there is something to throw away; set and cleared with the write lock held
        self._cutter = threading.Thread(target=self._throw_away, name="realtime-speaker-cut", daemon=True)
        self._line.open()
        self._cutter.start()

    # From the session.

    def play(self, part: Part, pcm16: bytes, rate_hz: int, at_s: float) -> None:
        """Queue mono PCM16 behind what waits. at_s: when it arrived, on the monotonic clock."""
        with self._write_lock:
            self._write(part, self._converted(part, pcm16, rate_hz), at_s)

    def end(self, part: Part) -> None:
        """All of this part was given to `play`."""
        with self._write_lock:
            self._flush()
            self.playback.end(part)

    def cut(self) -> dict[Part, int]:
        """Fall silent at once; return how many ms were really heard of each part that was not heard to its end.

        Makes no call into the device and does not wait for it: a thread makes it throw its buffer away, so the sound
        stops abruptly, where a fade would cost the whole buffer. What is played in the meantime waits until the device
        is empty, so that none of it is thrown away.
        """
        with self._write_lock:
            self._resampler = None
            heard = self.playback.drop_at(self._audible(), fade=False)
            if not self.playback.paused:  # since then the device got only silence
                self.playback.paused = True
                self._cuts.set()
        return heard

    def heard_ms(self, item_id: str, content_index: int) -> int | None:
        """Return how much of a part was heard until now; None if it was never played here."""
        return self.playback.heard_ms_at((item_id, content_index), self._audible())

    def played(self) -> list[Played]:
        """Return what has sounded since the last call, in order, as far as it is certain.

        From any thread, and often: what nobody collects is forgotten after some 20 s.
        """
        with self._played_lock:
            self._collect()
            played = list(self._untold)
            self._untold.clear()
            return played

    def use(self, device: Device) -> None:
        """Move to another device, in the middle of the sound."""
        self._line.use(device)

    def close(self) -> None:
        """Fall silent and give the device back; idempotent, and done within a few seconds even if the device hangs."""
        self._closing.set()
        self._cuts.set()
        self._line.close()
        if self._cutter is not threading.current_thread():
            self._cutter.join(timeout=3.0)

    # What is the state.

    @property
    def device(self) -> Device | None:
        """The device in use; None while there is none."""
        return self._line.device

    @property
    def refused(self) -> str:
        """Why the first device was not the one asked for, in one line; '' if it was."""
        return self._line.refused

    @property
    def idle(self) -> bool:
        """All that was written has been heard."""
        return self.playback.idle and self._audible() >= self.playback.sound_end

    @property
    def level_dbfs(self) -> float:
        """The peak of the last block played; -inf for silence."""
        return 20 * math.log10(self._peak / 32_768) if self._peak > 0 else -math.inf

    @property
    def rate_hz(self) -> int:
        """The device's rate, which is that of what `on_far` gets."""
        return self.playback.rate_hz

    @property
    def underruns(self) -> int:
        """How often sound ran out before its part ended."""
        return self.playback.underruns

    @property
    def buffer_ms(self) -> int:
        """How long sound takes through the device: more after it ran empty; 0 while there is no device."""
        return round(1000 * self._line.buffer_s)

    @property
    def backlog_ms(self) -> int:
        """What waits to be handed to the device."""
        return self.playback.backlog_ms

    @property
    def volume(self) -> float:
        """Gain from 0.0 to 1.0."""
        return self.playback.volume

    @volume.setter
    def volume(self, gain: float) -> None:
        self.playback.volume = gain

    @property
    def muted(self) -> bool:
        """Whether it plays silence; positions go on."""
        return self.playback.muted

    @muted.setter
    def muted(self, muted: bool) -> None:
        self.playback.muted = muted

    # Inside.

    def _throw_away(self) -> None:
        """Empty the device after each cut, then give it what has come since."""
        while True:
            self._cuts.wait()
            if self._closing.is_set():
                return
            self._cuts.clear()
            try:
                self._line.restart()
            except Exception as error:  # noqa: BLE001  # without this thread nothing would be heard after a cut
                self._line.fault(error)
            with self._write_lock:
                self.playback.paused = False

    def _collect(self) -> None:
        """Note what has sounded on this device since the last time."""
        sounded = self._sounding.sounded
        for span in self._sounding.spans(self._told, sounded):
            for part, from_ms, to_ms, position in self.playback.stood(span.begin, span.end):
                at_s = span.at_s + (position - span.begin) / self.playback.rate_hz
                self._untold.append(Played(part, from_ms, to_ms, at_s))
        self._told = max(self._told, sounded)

    def _audible(self) -> int:
        """Return the position in all that was handed over that is audible now."""
        if self._line.device is None:  # what it still held was not heard
            with self._played_lock:
                return self._sounding.sounded
        position, at_s = self._mark
        passed = round((self._clock.monotonic() - at_s) * self.playback.rate_hz)
        return max(0, min(self.playback.handed, position + passed))

    def _fill(self, data: Any, count: int, time: Any, status: Any) -> None:
        """Fill the device's buffer; called by the device's own thread."""
        playback, stream = self.playback, self._line.stream
        ran_empty = bool(status) and status.output_underflow
        if ran_empty:
            self.device_underflows += 1
            if not playback.idle:
                self._line.ran_empty()
        now_s = self._clock.monotonic()
        told_s = now_s + max(0.0, time.outputBufferDacTime - time.currentTime)
        anew = ran_empty or stream != self._stream
        self._stream = stream
        self._mark = (playback.handed, self._stream_clock.at_s(playback.handed, told_s, now_s, anew=anew))
        self._sounding.mark(*self._mark, now_s)
        out = self._numpy.frombuffer(data, self._numpy.int16)
        playback.read(out)
        self._peak = max(int(out.max()), -int(out.min())) if count else 0
        if self._on_far is not None:
            try:
                self._on_far(out, self._mark[1])
            except Exception as error:  # noqa: BLE001  # the sound itself is not lost
                self._line.fault(error)

    def _prepare(self, rate_hz: int) -> None:
        """Prepare for another device what waits, and what the last one held and did not play; no callback runs."""
        old = self.playback
        if rate_hz == old.rate_hz and not old.handed:
            return
        with self._write_lock, self._played_lock:
            self._flush()
            self._collect()
            numpy = self._numpy

            def convert(samples: Any) -> Any:
                if rate_hz == old.rate_hz:
                    return samples
                return numpy.frombuffer(resample(samples.tobytes(), old.rate_hz, rate_hz), numpy.int16)

            self.playback = old.moved_to(rate_hz, convert, self._told)
            self._sounding, self._told = Sounding(rate_hz), 0
            self._stream_clock = StreamClock(rate_hz)
            self._mark = (0, self._clock.monotonic())

    def _converted(self, part: Part, pcm16: bytes, rate_hz: int) -> bytes:
        if rate_hz == self.playback.rate_hz:
            return pcm16
        if self._resampler is None or self._resampler[0] != part or self._resampler[1].from_hz != rate_hz:
            self._flush()
            self._resampler = (part, Resampler(rate_hz, self.playback.rate_hz))
        return self._resampler[1].process(pcm16)

    def _flush(self) -> None:
        """Write what the resampler still holds."""
        if self._resampler is not None:
            part, stream = self._resampler
            self._resampler = None
            self._write(part, stream.flush(), self._clock.monotonic())

    def _write(self, part: Part, pcm16: bytes, at_s: float) -> None:
        if len(pcm16) > 1:
            self.playback.write(part, self._numpy.frombuffer(pcm16, self._numpy.int16, len(pcm16) // 2), at_s)
