"""One open stream of a line, and what its callbacks leave for the thread that watches it."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from realtime_client.audio import devices
from realtime_client.audio.devices import Device, DeviceError, Direction, SoundStream, StuckError
from realtime_client.deadline import Clock

CALL_LIMIT_S = 0.15
_ALIVE_CALLS = {"input": 1, "output": 4}  # for output, more than fits into the device's buffer before it plays
_SETTLED_CALLS = 10  # what a device says about its buffer before that concerns its start
_HELD_BLOCKS = 100  # 2 s

Callback = Callable[[Any, int, Any, Any], None]


class HeldTimes(msgspec.Struct, frozen=True):
    """The times of a block that is handed on later than it arrived; like PortAudio's, in s."""

    currentTime: float  # noqa: N815  # PortAudio's name
    inputBufferAdcTime: float  # noqa: N815
    outputBufferDacTime: float  # noqa: N815


class Feed:
    """One stream. Its callbacks reach the line's own only while it is the line's current one.

    Before that, an output plays silence; an input keeps what it hears, up to 2 s, and hands it on as soon as it is
    current, so that nothing is missed when a line moves to it. made_s: when it was made. starts: how often it was
    started. began_s, at_s: the first and the last callback. alive: there were callbacks.
    ended: the stream ended by itself. stuck: a call into it hangs, and no other may be made; it closes itself if that
    call returns. on_fault: called when the callback raises; PortAudio would end the stream, here it goes on, an output
    with silence.
    """

    def __init__(
        self,
        direction: Direction,
        callback: Callback,
        is_current: Callable[[Feed], bool],
        clock: Clock,
        on_fault: Callable[[Exception], None],
    ) -> None:
        self.alive = threading.Event()
        self.made_s = self.began_s = self.at_s = clock.monotonic()
        self.starts = 0
        self.ended = False
        self.stuck = False
        self.wanted_end = False
        self._calls = 0
        self._direction = direction
        self._callback = callback
        self._is_current = is_current
        self._on_fault = on_fault
        self._failing = False
        self._clock = clock
        self._held: deque[tuple[float, bytes, int, Any, Any]] = deque(maxlen=_HELD_BLOCKS)
        self._stream: SoundStream | None = None
        self._closed = False

    @property
    def stream(self) -> SoundStream:
        """The stream; there is one as soon as `open` has returned."""
        assert self._stream is not None
        return self._stream

    @property
    def device(self) -> Device:
        """The device it was opened on."""
        return self.stream.device

    @property
    def settled(self) -> bool:
        """It has run for a few blocks."""
        return self._calls >= _SETTLED_CALLS

    # Calls into the device; one at a time.

    def open(
        self, device: Device, rate_hz: int, limit_s: float, on_end: Callable[[], None], *, buffer_s: float | None = None
    ) -> None:
        """Open the device. buffer_s: see `devices.SoundStream`. Errors: DeviceError."""

        def ended() -> None:
            self.ended = True
            if not self.wanted_end:
                on_end()

        self._stream = devices.limited(
            lambda: SoundStream(device, self._direction, rate_hz, self._called, ended, buffer_s=buffer_s),
            limit_s,
            late=lambda late: late.close(),
        )

    def start(self, limit_s: float = CALL_LIMIT_S) -> None:
        """Start the callbacks. Errors: DeviceError; the stream is then closed, or abandoned."""
        self.at_s = self._clock.monotonic()
        self.starts += 1
        stream = self.stream
        try:
            devices.limited(stream.start, limit_s, late=lambda _: stream.close(), may_be_lost=True)
        except DeviceError as error:
            self.stuck = isinstance(error, StuckError)
            self.close()
            self.ended = True
            raise

    def abort(self) -> None:
        """Fall silent at once. Errors: DeviceError."""
        stream, self.wanted_end = self.stream, True
        try:
            devices.limited(stream.abort, CALL_LIMIT_S, late=lambda _: stream.close())
        except StuckError:
            self.stuck = True
            raise

    def again(self) -> None:
        """Start once more after `abort`. Errors: DeviceError."""
        self.wanted_end, self.ended = False, False
        self.start()

    def close(self) -> None:
        """Give the device back, unless a call into it hangs."""
        self.wanted_end = True
        if self._stream is None or self.stuck or self._closed:
            return
        self._closed = True
        with contextlib.suppress(DeviceError):
            devices.limited(self._stream.close, CALL_LIMIT_S)

    # The device's own thread.

    def _called(self, data: Any, count: int, time: Any, status: Any) -> None:
        self.at_s = self._clock.monotonic()
        self._calls += 1
        if self._calls == 1:
            self.began_s = self.at_s
        if self._calls == _ALIVE_CALLS[self._direction]:
            self.alive.set()
        if self._is_current(self):
            self._hand_on(data, count, time, status)
        elif self._direction == "output":
            data[:] = bytes(len(data))
        elif not self.wanted_end:
            times = HeldTimes(time.currentTime, time.inputBufferAdcTime, time.outputBufferDacTime)
            self._held.append((self.at_s, bytes(data), count, times, status))

    def _hand_on(self, data: Any, count: int, time: Any, status: Any) -> None:
        try:
            self._hand_on_held()
            self._callback(data, count, time, status)
        except Exception as error:  # noqa: BLE001  # told by the line's thread
            if self._direction == "output":
                data[:] = bytes(len(data))
            if not self._failing:
                self._on_fault(error)
            self._failing = True
        else:
            self._failing = False

    def _hand_on_held(self) -> None:
        while self._held:
            came_s, data, count, times, status = self._held.popleft()
            age_s = self._clock.monotonic() - came_s
            self._callback(data, count, msgspec.structs.replace(times, currentTime=times.currentTime + age_s), status)
