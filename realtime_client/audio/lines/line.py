"""A line to a sound device that is kept up: opened, watched, and opened anew on another device when it fails.

A removed or hung device raises nothing: its callbacks merely stop. So a thread watches; no callback for 300 ms, or a
stream that ended by itself, means that the device is lost. Then the best remaining one is opened; one that takes sound
but does not call back is left at once for the next. While there is none, all are tried again, at first at once, then
every 0.5 s, with more patience each time: a busy machine is slow, not without sound.

A speaker's device that runs empty while there is sound for it is on a machine that stands still now and then: it is
asked to hold more from then on, in two steps. That makes answers begin so much later, so it is not done before.

A line that moves by choice, or back to the device that was chosen, opens the new one before it closes the old one.
Calls that may hang are made by `devices.limited()`; while one hangs, no other is begun.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

import msgspec

from realtime_client.audio import devices
from realtime_client.audio.devices import Device, DeviceError, Direction
from realtime_client.audio.lines import open_lines
from realtime_client.audio.lines.feed import CALL_LIMIT_S, Callback, Feed
from realtime_client.deadline import SYSTEM_CLOCK, Clock, Deadline

LOST_AFTER_S = 0.3
_LOOK_EVERY_S = 0.1
_LATE_S, _STALL_S = 0.02, 0.15
_RETRY_EVERY_S = 0.5
_ALIVE_LIMIT_S = 0.12
_FIRST_LIMIT_S = 1.0
_ASIDE_LIMIT_S = 1.0
_OVERLAP_S = 0.1  # until the old microphone has given what it heard before the new one began
_HOME_EVERY_S = 5.0
_HOME_AT_S = (0.0, 0.5, 1.5, 3.0)  # after it was plugged in: a device takes a moment to work
_BUFFERS_S = (None, 0.1, 0.2)  # what a device is asked to hold: at first, and after it ran empty


class DeviceChange(msgspec.Struct, frozen=True, kw_only=True):
    """A line moved to another device, or was opened anew on the same.

    now: its name, None while there is none. reason: for people, in one line. gap_s: how long no callback came.
    """

    direction: Direction
    before: str | None
    now: str | None
    reason: str
    gap_s: float = 0.0


class Line:
    """Keeps a stream in one direction open. `open()` first; `close()` at the end.

    callback: moves bytes, `(data, count, time, status)`; never called by two streams at once. prepare: gets the
    rate of a stream before its first callback. on_change: told from the line's own thread, or that of
    `open_lines.rescan()`; must not call `close()`.
    """

    def __init__(
        self,
        direction: Direction,
        device: Device | None,
        rate_hz: int,
        *,
        callback: Callback,
        prepare: Callable[[int], None],
        on_change: Callable[[DeviceChange], None] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.direction = direction
        self._wanted = device
        self._rate_hz = rate_hz
        self._callback = callback
        self._prepare = prepare
        self._on_change = on_change
        self._clock = clock
        self._calls_lock = threading.Lock()  # one call into the device at a time
        self._feed: Feed | None = None
        self._asked: Device | None = None
        self._renewal: str | None = None
        self._buffers = list(_BUFFERS_S)  # the first is in use
        self._empty_feed: Feed | None = None  # the stream that ran empty
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._heard_s = clock.monotonic()  # the last callback of the stream before
        self._retry_at_s = 0.0
        self._failed = 0  # times in a row that no device worked
        self._home_at_s: list[float] = []  # when to try the device that was chosen again
        self._left_home = 0  # how often it was lost

    @property
    def device(self) -> Device | None:
        """The device in use; None while there is none."""
        feed = self._feed
        return None if feed is None else feed.device

    @property
    def wanted(self) -> Device | None:
        """The device that was chosen."""
        return self._wanted

    @property
    def opened_s(self) -> float:
        """When the stream in use was opened, on the monotonic clock; 0 while there is none."""
        feed = self._feed
        return 0.0 if feed is None else feed.made_s

    @property
    def stream(self) -> tuple[float, int]:
        """Something that is another for each start of a stream. Takes no lock."""
        feed = self._feed
        return (0.0, 0) if feed is None else (feed.made_s, feed.starts)

    @property
    def buffer_s(self) -> float:
        """How long sound takes through the device, as PortAudio tells it; 0 while there is none."""
        feed = self._feed
        return 0.0 if feed is None else feed.stream.latency_s

    def open(self) -> None:
        """Open the device, or the best other one. Errors: DeviceError when none works; nothing runs then."""
        reason = self._open_best(lost="", alive_s=_FIRST_LIMIT_S)
        if self._feed is None:
            raise DeviceError(reason or f"no {_KINDS[self.direction]} works")
        self._thread = threading.Thread(
            target=self._watch, name=f"realtime-{_KINDS[self.direction]}-watch", daemon=True
        )
        open_lines.add(self)
        self._thread.start()

    def use(self, device: Device) -> None:
        """Move to another device; the line's thread does it at once, and stays where it is if that one is mute."""
        self._asked = device
        self._wake.set()

    def renew(self, reason: str) -> None:
        """Leave a stream that the sound server moved elsewhere, for the best device; the chosen one if it is there."""
        self._renewal = reason
        self._wake.set()

    def look_again(self, wanted: Device | None = None) -> None:
        """A device has come: try the chosen one, if it is not in use, and any if there is none.

        wanted: the one that is the chosen one from now on; it is moved to when it works.
        """
        self._wanted = wanted or self._wanted
        now_s = self._clock.monotonic()
        self._retry_at_s, self._failed = 0.0, 0
        self._home_at_s = [now_s + after_s for after_s in _HOME_AT_S]
        self._wake.set()

    def ran_empty(self) -> None:
        """The device had nothing to play though there was sound: let it hold more. From its callback, and rarely."""
        feed = self._feed
        if feed is not None and feed.settled and len(self._buffers) > 1:
            self._empty_feed = feed
            self._wake.set()

    def restart(self) -> bool:
        """Throw away what the device holds and go on; False if the device is lost, or does not answer in time."""
        return self._with_feed(self._begin_anew)

    def _with_feed(self, call: Callable[[Feed], None]) -> bool:
        """Make calls into the device in use; False if it is lost by that, or does not answer in time."""
        if not self._calls_lock.acquire(timeout=CALL_LIMIT_S):
            return False
        try:
            feed = self._feed
            if feed is None or feed.ended or feed.stuck:
                return False
            call(feed)
            return True
        except DeviceError:
            failed = self._feed
            if failed is not None:
                failed.wanted_end, failed.ended = False, failed.ended or not failed.stuck
            self._wake.set()
            return False
        finally:
            self._calls_lock.release()

    def _begin_anew(self, feed: Feed) -> None:
        feed.abort()
        if not feed.device.shared:
            feed.again()
            return
        new = self._opened_again(feed)  # opening one that is gone fails, starting one again hangs
        if new.stream.rate_hz != feed.stream.rate_hz:
            self._prepare(new.stream.rate_hz)
        self._feed = new
        feed.close()
        new.start()

    def _deepen(self, feed: Feed) -> None:
        """Go on with a deeper buffer, with the first sample that did not sound."""
        del self._buffers[0]
        new = self._opened_again(feed) if feed.device.shared else None
        feed.close()
        new = new or self._opened_again(feed)
        self._prepare(new.stream.rate_hz)
        self._feed = new
        new.start()

    def _opened_again(self, feed: Feed) -> Feed:
        """Open another stream on the device of this one. Errors: DeviceError."""
        new = self._new_feed()
        new.open(feed.device, self._rate_hz, CALL_LIMIT_S, self._wake.set, buffer_s=self._buffers[0])
        return new

    def close(self) -> None:
        """Give the device back; idempotent. A device that hangs is left to itself."""
        self._closing.set()
        self._wake.set()
        open_lines.discard(self)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=3.0)
        with self._calls_lock:
            self._give_up()

    # The line's thread.

    def _watch(self) -> None:
        while not self._closing.is_set():
            feed, wait_s, began_s = self._feed, self._next_look_s(), self._clock.monotonic()
            self._wake.wait(wait_s)
            self._wake.clear()
            now_s = self._clock.monotonic()
            late_s = now_s - began_s - wait_s
            if feed is not None and late_s > _LATE_S:  # this thread did not run: nor did the device's, it may be
                feed.at_s = now_s if late_s > _STALL_S else min(now_s, feed.at_s + late_s)
            if not self._closing.is_set():
                self._look(self._feed, now_s)

    def _next_look_s(self) -> float:
        """Return how long to wait: to the moment at which the device would count as lost, if that comes first."""
        feed = self._feed
        if feed is None:
            return _LOOK_EVERY_S
        return min(_LOOK_EVERY_S, max(0.005, feed.at_s + LOST_AFTER_S - self._clock.monotonic()))

    def _look(self, feed: Feed | None, now_s: float) -> None:
        asked, self._asked = self._asked, None
        ran_empty, self._empty_feed = self._empty_feed, None
        if asked is not None:
            self._go_to(asked, feed)
        elif feed is None:
            if now_s >= self._retry_at_s and not devices.stuck():
                self._move("there is a device again", feed)
        elif reason := self._failure(feed, now_s):
            self._lost_home(feed)
            self._move(reason, feed, lost=feed.device.name)
        elif ran_empty is feed:
            self._with_feed(self._deepen)
        elif self._renewal is not None:
            reason, self._renewal = self._renewal, None
            self._go_back(reason, feed, devices.candidates(self._wanted, self.direction)[:4])
        elif self._home_due(feed, now_s):
            self._go_back("it is there now", feed, devices.candidates(self._wanted, self.direction)[:1])

    def _failure(self, feed: Feed, now_s: float) -> str | None:
        if feed.ended and not feed.wanted_end:
            return "the device is gone"
        if feed.stuck:
            return "the sound server hangs"
        if now_s - feed.at_s > LOST_AFTER_S and not feed.wanted_end:
            return "the device hangs"
        return None

    def _lost_home(self, feed: Feed) -> None:
        """The chosen device failed: come back to it, later each time."""
        if self._wanted is not None and feed.device.name == self._wanted.name:
            wait_s = _HOME_EVERY_S * 2 ** min(self._left_home, 4)
            self._left_home += 1
            self._home_at_s = [self._clock.monotonic() + wait_s]

    def _home_due(self, feed: Feed, now_s: float) -> bool:
        """Tell whether it is time to try the chosen device again."""
        if self._wanted is None or feed.device.name == self._wanted.name or devices.stuck():
            return False
        if not self._home_at_s or now_s < self._home_at_s[0]:
            return False
        del self._home_at_s[0]
        if not self._home_at_s and self._wanted.host_api == "ALSA":  # elsewhere an old index may be another device's
            self._home_at_s = [now_s + _HOME_EVERY_S * 2 ** min(self._left_home, 4)]
        return True

    # Moving.

    def _move(self, reason: str, feed: Feed | None, *, lost: str = "") -> None:
        """Leave the device, open the best other one, and tell."""
        with self._calls_lock:
            if self._feed is not feed:
                return  # somebody else was quicker
            self._give_up()
            if not self._closing.is_set() and not devices.stuck():
                if feed is None:
                    with contextlib.suppress(DeviceError):
                        devices.refresh()
                self._open_best(lost=lost, alive_s=_ALIVE_LIMIT_S * 2 ** min(self._failed, 3))
        self._failed = 0 if self._feed is not None else self._failed + 1
        self._retry_at_s = self._clock.monotonic() + (_RETRY_EVERY_S if self._failed > 1 else 0.0)
        self._tell(None if feed is None else feed.device.name, reason)

    def _tell(self, before: str | None, reason: str) -> None:
        feed = self._feed
        now = None if feed is None else feed.device.name
        if self._on_change is None or self._closing.is_set() or (now is None and before is None):
            return
        gap_s = 0.0 if feed is None else max(0.0, feed.began_s - self._heard_s)
        self._on_change(
            DeviceChange(direction=self.direction, before=before, now=now, reason=reason, gap_s=round(gap_s, 3))
        )

    def _go_to(self, device: Device, feed: Feed | None) -> None:
        """Move as chosen. One that is mute is not taken; one that cannot be had twice at once is opened alone."""
        before, self._wanted = self._wanted, device
        if feed is None:
            self._move("chosen", feed)
            return
        try:
            aside = self._open_aside(device, feed)
        except DeviceError:
            self._move("chosen", feed)
            return
        if aside is not None:
            self._swap(aside, feed, "chosen")
        elif self._asked is None and self._failure(feed, self._clock.monotonic()) is None:
            self._wanted = before
            self._tell(feed.device.name, f"{device.name!r} {_MUTE[self.direction]}")

    def _go_back(self, reason: str, feed: Feed, targets: list[Device]) -> None:
        """Move to the first of these that works; stay, and say nothing, if none does."""
        for device in targets:
            with contextlib.suppress(DeviceError):
                aside = self._open_aside(device, feed)
                if aside is not None:
                    self._swap(aside, feed, reason)
                    return
            if self._closing.is_set() or self._asked is not None:
                return

    def _open_aside(self, device: Device, feed: Feed) -> Feed | None:
        """Open a stream beside the one in use; None if it does not call back. Errors: DeviceError."""
        with self._calls_lock:
            if self._closing.is_set() or devices.stuck():
                return None
            aside = self._new_feed()
            aside.open(device, self._rate_hz, 2 * CALL_LIMIT_S, self._wake.set, buffer_s=self._buffers[0])
            aside.start()
        deadline = Deadline(_ASIDE_LIMIT_S, self._clock)
        while not aside.alive.wait(0.01):
            failed = self._failure(feed, self._clock.monotonic()) is not None
            if failed or deadline.expired or aside.ended or self._asked is not None or self._closing.is_set():
                with self._calls_lock:
                    aside.close()
                return None
        if self.direction == "input":
            self._closing.wait(_OVERLAP_S)
        return aside

    def _swap(self, aside: Feed, feed: Feed, reason: str) -> None:
        """Put a stream that works in the place of the other; an input hands on all that both have heard."""
        with self._calls_lock:
            if self._feed is not feed or self._closing.is_set():
                aside.close()
                return
            feed.close()
            self._heard_s = feed.at_s
            self._prepare(aside.stream.rate_hz)
            aside.began_s = self._clock.monotonic()
            self._feed = aside
        self._tell(feed.device.name, reason)

    # Opening and closing; the lock is held, or the line's thread does not run yet.

    def _give_up(self) -> None:
        feed, self._feed = self._feed, None
        if feed is not None:
            self._heard_s = feed.at_s
            feed.close()

    def _open_best(self, *, lost: str, alive_s: float) -> str | None:
        """Open the first candidate that calls back; say why there is none. What hangs ends the search."""
        reason = None
        for device in devices.candidates(self._wanted, self.direction, lost=lost)[:8]:
            try:
                if self._open(device, alive_s):
                    return None
                reason = f"{device.name!r} {_MUTE[self.direction]}"
            except DeviceError as error:
                reason = str(error)
            if self._closing.is_set() or devices.stuck():
                break
        return reason

    def _open(self, device: Device, alive_s: float) -> bool:
        feed = self._new_feed()
        feed.open(device, self._rate_hz, 2 * alive_s, self._wake.set, buffer_s=self._buffers[0])
        self._prepare(feed.stream.rate_hz)
        self._feed = feed
        try:
            feed.start(max(CALL_LIMIT_S, alive_s))
        except DeviceError:
            self._feed = None
            raise
        if feed.alive.wait(alive_s):
            return True
        self._feed = None
        feed.close()
        return False

    def _new_feed(self) -> Feed:
        return Feed(self.direction, self._callback, lambda feed: feed is self._feed, self._clock)

    # Reading the list again.

    def pause(self) -> Feed | None:
        """Take the line down; `resume` must follow, from the same thread. Returns what was in use."""
        self._calls_lock.acquire()  # released by resume
        feed = self._feed
        self._give_up()
        return feed

    def resume(self, before: Feed | None) -> None:
        """Open it again after `pause`, on the device that was chosen if it is there. before: what `pause` returned."""
        try:
            if not self._closing.is_set() and not devices.stuck():
                self._open_best(lost="", alive_s=_FIRST_LIMIT_S)
        finally:
            self._calls_lock.release()
        name = None if before is None else before.device.name
        now = self.device
        if name != (None if now is None else now.name):
            self._tell(name, "the devices have changed")


_KINDS: dict[str, str] = {"input": "microphone", "output": "speaker"}
_MUTE: dict[str, str] = {"input": "is mute", "output": "does not play"}
