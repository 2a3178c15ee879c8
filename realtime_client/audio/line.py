"""A line to a sound device that is kept up: opened, watched, and opened anew on another device when it fails.

A removed or hung device raises nothing: its callbacks merely stop. So a thread watches; no callback for 300 ms, or a
stream that ended by itself, means that the device is lost. Then the best remaining one is opened; one that takes sound
but does not call back is left at once for the next. While there is none, all are tried again, at first at once, then
every 0.5 s, with more patience each time: a busy machine is slow, not without sound. Calls that may hang are made by
`devices.limited()`; while one hangs, no other is begun.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import msgspec

from realtime_client.audio import devices
from realtime_client.audio.devices import Device, DeviceError, Direction, Stream
from realtime_client.deadline import SYSTEM_CLOCK, Clock

LOST_AFTER_S = 0.3
_LOOK_EVERY_S = 0.1
_STALL_S = 0.15
_RETRY_EVERY_S = 0.5
_CALL_LIMIT_S = 0.15
_ALIVE_LIMIT_S = 0.12
_FIRST_LIMIT_S = 1.0
_ALIVE_CALLS = {"input": 1, "output": 4}  # for output more than fit into the device's buffer before it plays


class DeviceChange(msgspec.Struct, frozen=True, kw_only=True):
    """A line moved to another device. now: its name, None while there is none. reason: for people, in one line."""

    direction: Direction
    before: str | None
    now: str | None
    reason: str


class _Token:
    """What the callbacks of one stream carry; those of a stream that was given up find that theirs is not current."""

    __slots__ = ("alive", "at_s", "calls", "ended", "wanted_end")

    def __init__(self, at_s: float) -> None:
        self.at_s = at_s
        self.calls = 0
        self.alive = threading.Event()
        self.ended = False
        self.wanted_end = False


class Line:
    """Keeps a stream in one direction open. `open()` first; `close()` at the end.

    callback: moves bytes, `(data, count, time, status)`; never called by two streams at once. prepare: gets the
    rate of a stream before its first callback. on_change: told from the line's own thread; must not call `close()`.
    """

    def __init__(
        self,
        direction: Direction,
        device: Device | None,
        rate_hz: int,
        *,
        callback: Callable[[Any, int, Any, Any], None],
        prepare: Callable[[int], None],
        on_change: Callable[[DeviceChange], None] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._direction = direction
        self._wanted = device
        self._rate_hz = rate_hz
        self._callback = callback
        self._prepare = prepare
        self._on_change = on_change
        self._clock = clock
        self._calls_lock = threading.Lock()  # one call into the device at a time
        self._stream: Stream | None = None
        self._token: _Token | None = None
        self._asked: Device | None = None
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._retry_at_s = 0.0
        self._failed = 0  # times in a row that no device worked
        self._left = False  # a call into the stream hangs: no other may be made; it closes the stream if it comes back

    @property
    def device(self) -> Device | None:
        """The device in use; None while there is none."""
        stream = self._stream
        return None if stream is None else stream.device

    def open(self) -> None:
        """Open the device, or the best other one. Errors: DeviceError when none works; nothing runs then."""
        reason = self._open_best(lost="", alive_s=_FIRST_LIMIT_S)
        if self._stream is None:
            raise DeviceError(reason or f"no {_KINDS[self._direction]} works")
        self._thread = threading.Thread(
            target=self._watch, name=f"realtime-{_KINDS[self._direction]}-watch", daemon=True
        )
        self._thread.start()

    def use(self, device: Device) -> None:
        """Move to another device; the line's thread does it at once."""
        self._asked = self._wanted = device
        self._wake.set()

    def restart(self) -> bool:
        """Throw away what the device holds and go on; False if the device is lost, or does not answer in time."""
        if not self._calls_lock.acquire(timeout=_CALL_LIMIT_S):
            return False
        stream, token = self._stream, self._token
        if stream is None or token is None:
            self._calls_lock.release()
            return False
        try:
            token.wanted_end = True
            devices.limited(stream.abort, _CALL_LIMIT_S, late=lambda _: stream.close())
            token.wanted_end, token.ended, token.at_s = False, False, self._clock.monotonic()
            devices.limited(stream.start, _CALL_LIMIT_S, late=lambda _: stream.close())
            return True
        except DeviceError as error:
            self._left = isinstance(error, devices.StuckError)
            token.wanted_end, token.ended = False, True
            self._wake.set()
            return False
        finally:
            self._calls_lock.release()

    def close(self) -> None:
        """Give the device back; idempotent. A device that hangs is left to itself."""
        self._closing.set()
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=3.0)
        with self._calls_lock:
            self._give_up()

    # The line's thread.

    def _watch(self) -> None:
        while not self._closing.is_set():
            wait_s, began_s = self._next_look_s(), self._clock.monotonic()
            self._wake.wait(wait_s)
            self._wake.clear()
            now_s = self._clock.monotonic()
            stalled = now_s - began_s > wait_s + _STALL_S  # this whole process did not run
            if self._closing.is_set():
                return
            if self._asked is not None:
                self._move("chosen", lost="")
            elif self._stream is None:
                if now_s >= self._retry_at_s and not devices.stuck():
                    self._move("there is a device again", lost="")
            elif reason := self._failure(now_s, stalled=stalled):
                self._move(reason, lost=self._stream.device.name)

    def _next_look_s(self) -> float:
        """Return how long to wait: to the moment at which the device would count as lost, if that comes first."""
        token = self._token
        if token is None:
            return _LOOK_EVERY_S
        return min(_LOOK_EVERY_S, max(0.005, token.at_s + LOST_AFTER_S - self._clock.monotonic()))

    def _failure(self, now_s: float, *, stalled: bool) -> str | None:
        token = self._token
        if token is None:
            return None
        if self._left:
            return "the sound server hangs"
        if token.ended and not token.wanted_end:
            return "the device is gone"
        if now_s - token.at_s > LOST_AFTER_S and not stalled and not token.wanted_end:
            return "the device hangs"
        return None

    def _move(self, reason: str, *, lost: str) -> None:
        """Leave the device, open the best other one, and tell."""
        before = self.device.name if self.device else None
        self._asked = None
        with self._calls_lock:
            self._give_up()
            if not self._closing.is_set() and not devices.stuck():
                if before is None:
                    with contextlib.suppress(DeviceError):
                        devices.refresh()
                self._open_best(lost=lost, alive_s=_ALIVE_LIMIT_S * 2 ** min(self._failed, 3))
        self._failed = 0 if self._stream is not None else self._failed + 1
        self._retry_at_s = self._clock.monotonic() + (_RETRY_EVERY_S if self._failed > 1 else 0.0)
        now = self.device.name if self.device else None
        if self._on_change is not None and not self._closing.is_set() and (now is not None or before is not None):
            self._on_change(DeviceChange(direction=self._direction, before=before, now=now, reason=reason))

    def _give_up(self) -> None:
        stream, self._stream, self._token = self._stream, None, None
        left, self._left = self._left, False
        if stream is not None and not left:
            with contextlib.suppress(DeviceError):
                devices.limited(stream.close, _CALL_LIMIT_S)

    def _open_best(self, *, lost: str, alive_s: float) -> str | None:
        """Open the first candidate that calls back; say why there is none. What hangs ends the search."""
        reason = None
        for device in devices.candidates(self._wanted, self._direction, lost=lost)[:8]:
            try:
                if self._open(device, alive_s):
                    return None
                reason = f"{device.name!r} does not play" if self._direction == "output" else f"{device.name!r} is mute"
            except devices.StuckError as error:
                return str(error)
            except DeviceError as error:
                reason = str(error)
            if self._closing.is_set():
                break
        return reason

    def _open(self, device: Device, alive_s: float) -> bool:
        token = _Token(self._clock.monotonic())
        stream = devices.limited(lambda: self._new_stream(device, token), 2 * alive_s, late=lambda late: late.close())
        self._prepare(stream.rate_hz)
        self._stream, self._token = stream, token
        token.at_s = self._clock.monotonic()
        try:
            devices.limited(stream.start, max(_CALL_LIMIT_S, alive_s), late=lambda _: stream.close())
            if token.alive.wait(alive_s):
                return True
        except DeviceError as error:
            self._left = isinstance(error, devices.StuckError)
            self._give_up()
            raise
        self._give_up()
        return False

    def _new_stream(self, device: Device, token: _Token) -> Stream:
        alive_calls = _ALIVE_CALLS[self._direction]

        def called(data: Any, count: int, time: Any, status: Any) -> None:
            if token is not self._token:
                data[:] = bytes(len(data))
                return
            token.at_s = self._clock.monotonic()
            token.calls += 1
            if token.calls == alive_calls:
                token.alive.set()
            self._callback(data, count, time, status)

        def ended() -> None:
            token.ended = True
            if not token.wanted_end:
                self._wake.set()

        return Stream(device, self._direction, self._rate_hz, called, ended)


_KINDS: dict[str, str] = {"input": "microphone", "output": "speaker"}
