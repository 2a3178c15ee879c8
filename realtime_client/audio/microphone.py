"""The microphone: blocks of 20 ms at any rate, from a device that may change; gaps are reported.

What was captured before a device was lost waits in a queue and is handed over like the rest. A microphone that the user
leaves for another one is closed once the other one captures; what both captured is taken once.
"""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable
from typing import Any

from realtime_client.audio.devices import Device
from realtime_client.audio.lines.line import Line
from realtime_client.audio.lines.telling import DeviceChange
from realtime_client.audio.resample import Resampler
from realtime_client.deadline import SYSTEM_CLOCK, Clock

BLOCK_MS = 20
_WAITING_BLOCKS = 250  # 5 s
_GAP_S = 0.1
_SEAM_S = 0.005  # two devices that meet this closely are joined without a seam


class Microphone:
    """Gives `on_block(samples, at_s)` 20 ms of int16 mono at `rate_hz`, from the thread `realtime-microphone`.

    at_s: when the first of the samples was captured, on the monotonic clock. on_gap: how many seconds are missing
    before the next block (another device, a hang, a reader that was too slow). What the reader has not taken waits, up
    to 5 s; beyond that the newest is lost and counted in `dropped` (blocks). While muted the blocks are silence.
    on_fault: called with each exception of `on_block` and `on_gap`, in the same thread, which goes on with the next
    block; the last one is kept in `error`. Errors: DeviceError when there is no microphone.
    """

    def __init__(
        self,
        device: Device | None = None,
        *,
        on_block: Callable[[Any, float], None],
        rate_hz: int = 24_000,
        on_gap: Callable[[float], None] | None = None,
        on_change: Callable[[DeviceChange], None] | None = None,
        on_fault: Callable[[Exception], None] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        import numpy as np

        self._numpy: Any = np
        self._clock = clock
        self._on_block = on_block
        self._on_gap = on_gap
        self._on_fault = on_fault
        self._rate_hz = rate_hz
        self._blocker = _Blocker(rate_hz)
        self.muted = False
        self.overflows = 0
        self.dropped = 0
        self.error: Exception | None = None
        self._peak = 0
        self._device_rate_hz = rate_hz
        self._source = 0
        self._waiting: queue.SimpleQueue[tuple[bytes, float, int, int] | None] = queue.SimpleQueue()
        self._line = Line(
            "input", device, rate_hz, callback=self._take, prepare=self._prepare, on_change=on_change, clock=clock
        )
        self._thread = threading.Thread(target=self._run, name="realtime-microphone", daemon=True)
        self._line.open()
        self._thread.start()

    @property
    def device(self) -> Device | None:
        """The device in use; None while there is none."""
        return self._line.device

    @property
    def refused(self) -> str:
        """Why the first device was not the one asked for, in one line; '' if it was."""
        return self._line.refused

    @property
    def level_dbfs(self) -> float:
        """The peak of the last block captured, muted or not; -inf for silence."""
        return 20 * math.log10(self._peak / 32_768) if self._peak > 0 else -math.inf

    def use(self, device: Device) -> None:
        """Move to another device."""
        self._line.use(device)

    def close(self) -> None:
        """Stop capturing, hand over what was captured, give the device back; idempotent."""
        self._line.close()
        self._waiting.put(None)
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout=3.0)

    def _prepare(self, rate_hz: int) -> None:
        self._device_rate_hz = rate_hz
        self._source += 1

    def _take(self, data: Any, count: int, time: Any, status: Any) -> None:
        """Take the device's buffer; called by the device's own thread."""
        if status and status.input_overflow:
            self.overflows += 1
        if self._waiting.qsize() >= _WAITING_BLOCKS:
            self.dropped += 1
            return
        rate_hz = self._device_rate_hz
        least_s = count / rate_hz  # on a busy machine, devices have been seen to report times in the future
        age_s = max(least_s, time.currentTime - time.inputBufferAdcTime) if time.inputBufferAdcTime else least_s
        self._waiting.put((bytes(data), self._clock.monotonic() - age_s, rate_hz, self._source))

    def _run(self) -> None:
        while (captured := self._waiting.get()) is not None:
            try:
                gap_s, blocks = self._blocks(*captured)
            except Exception as error:  # noqa: BLE001  # what follows is heard
                self._blocker = _Blocker(self._rate_hz)
                self._failed(error)
                continue
            if gap_s is not None and self._on_gap is not None:
                self._call(self._on_gap, gap_s)
            for block, at_s in blocks:
                self._call(self._on_block, block, at_s)

    def _blocks(self, pcm: bytes, at_s: float, device_rate_hz: int, source: int) -> tuple[float | None, list[Any]]:
        """Return the gap before what the device gave, if any, and the blocks that it completes."""
        numpy = self._numpy
        samples = numpy.frombuffer(pcm, numpy.int16)
        self._peak = max(int(samples.max()), -int(samples.min()))
        gap_s = self._blocker.put(bytes(len(pcm)) if self.muted else pcm, at_s, device_rate_hz, source)
        return gap_s, [(numpy.frombuffer(block, numpy.int16), at_s) for block, at_s in self._blocker.blocks()]

    def _call(self, call: Callable[..., None], *args: Any) -> None:
        """Hand something over; an exception must not silence everything after it."""
        try:
            call(*args)
        except Exception as error:  # noqa: BLE001  # kept, and told
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self.error = error
        if self._on_fault is not None:
            try:
                self._on_fault(error)
            except Exception as second:  # noqa: BLE001  # nobody is left to tell
                self.error = second


class _Blocker:
    """Turns what a device gives into blocks of 20 ms at one rate, and finds the gaps."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._size = rate_hz * BLOCK_MS // 1000 * 2
        self._resampler: Resampler | None = None
        self._from_hz = 0
        self._source = 0
        self._ready = bytearray()
        self._next_s: float | None = None  # when the first sample of `_ready` was captured
        self._due_s = 0.0  # when the device's next block should begin

    def put(self, pcm: bytes, at_s: float, from_hz: int, source: int = 0) -> float | None:
        """Take a block of the device that began at `at_s`; return the gap before it in seconds, if there is one.

        source: the stream that it comes from. What a new one captured before the last one ended is left out.
        """
        gap_s = None
        if self._next_s is None:
            self._begin(at_s, from_hz)
        elif source != self._source:
            skipped = 2 * max(0, round((self._due_s - at_s) * from_hz))
            pcm, at_s = pcm[skipped:], at_s + min(skipped, len(pcm)) / 2 / from_hz
            if not pcm:
                return None
            gap_s = self._join(at_s, from_hz)
        elif at_s - self._due_s > _GAP_S:
            gap_s = at_s - self._due_s
            self._begin(at_s, from_hz)
        self._source = source
        # The device's clock is not ours: follow it slowly, so that the jitter of callbacks does not show.
        drift_s = (at_s - self._due_s) * 0.02
        self._due_s += len(pcm) / 2 / from_hz + drift_s
        assert self._next_s is not None
        self._next_s += drift_s
        self._ready += pcm if self._resampler is None else self._resampler.process(pcm)
        return gap_s

    def _join(self, at_s: float, from_hz: int) -> float | None:
        """Go on with another stream; return the gap before it, if there is one."""
        missing_s = at_s - self._due_s
        if missing_s > _SEAM_S:
            self._begin(at_s, from_hz)
            return missing_s if missing_s > _GAP_S else None
        if from_hz != self._from_hz:
            self._resample(from_hz)
        return None

    def _begin(self, at_s: float, from_hz: int) -> None:
        """Begin anew after a gap."""
        self._resample(from_hz)
        if self._ready and self._next_s is not None:
            self._ready += bytes(-len(self._ready) % self._size)  # the last block before a gap is filled up
            self._next_s = at_s - len(self._ready) / 2 / self._rate_hz
        else:
            self._next_s = at_s
        self._due_s = at_s

    def _resample(self, from_hz: int) -> None:
        """Drain the resampler, and make one for this rate if one is needed."""
        if self._resampler is not None:
            self._ready += self._resampler.flush()
        self._from_hz = from_hz
        self._resampler = None if from_hz == self._rate_hz else Resampler(from_hz, self._rate_hz)

    def blocks(self) -> list[tuple[bytes, float]]:
        """Return the blocks that are complete, with the time of their first sample."""
        found: list[tuple[bytes, float]] = []
        if self._next_s is None:
            return found
        while len(self._ready) >= self._size:
            found.append((bytes(self._ready[: self._size]), self._next_s))
            del self._ready[: self._size]
            self._next_s += BLOCK_MS / 1000
        return found
