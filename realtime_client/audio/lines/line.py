"""A line to a sound device, kept alive: opened, watched, and reopened on another device when it fails.

A removed or hung device raises nothing: its callbacks merely stop. So a thread watches; no callback for 300 ms, or a
stream that ended by itself, means that the device is lost. Then the best remaining one is opened; one that opens but
does not call back is given up at once for the next. While there is none, all are tried again, at first at once, then
every 0.5 s, with more patience each time: a busy machine is slow, not without sound.

A speaker's device that runs empty while there is sound for it is on a machine that stands still now and then: it is
asked to hold more from then on, in two steps. Answers then begin that much later, so it is not done earlier.

A line that moves by choice, or back to the device that was chosen, opens the new one before it closes the old one.
Calls that may hang are made by `devices.limited()`; while one hangs, no other is begun.

Whatever fails here, or in the callbacks and in who is told of changes, is told once and does not end the watching: it
goes on after 0.5 s.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from realtime_client.audio import devices
from realtime_client.audio.devices import KINDS, Device, DeviceError, Direction
from realtime_client.audio.faults import why
from realtime_client.audio.lines import open_lines
from realtime_client.audio.lines.feed import CALL_LIMIT_S, Callback, Feed
from realtime_client.audio.lines.home import Home
from realtime_client.audio.lines.telling import DeviceChange, Teller
from realtime_client.deadline import SYSTEM_CLOCK, Clock, Deadline

LOST_AFTER_S = 0.3
_LOOK_EVERY_S = 0.1
_LATE_S, _STALL_S = 0.02, 0.15
_RETRY_EVERY_S = 0.5
_ALIVE_LIMIT_S = 0.12
_FIRST_LIMIT_S = 1.0
_ASIDE_LIMIT_S = 1.0
_OVERLAP_S = 0.1  # until the old microphone has given what it heard before the new one began
_BUFFERS_S = (None, 0.1, 0.2)  # what a device is asked to hold: at first, and after it ran empty


class Line:
    """Keeps a stream in one direction open. `open()` first; `close()` at the end.

    callback: moves bytes, `(data, count, time, status)`; never called by two streams at once. prepare: gets the rate of
    a stream before its first callback. on_change: called in the line's own thread, or in that of `open_lines.rescan()`;
    must not call `close()`.
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
        self._home = Home()
        self._teller = Teller(on_change, self._wake.set)
        self.refused = ""

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
        """A token for the running stream: each start of a stream has a new one. Takes no lock."""
        feed = self._feed
        return (0.0, 0) if feed is None else (feed.made_s, feed.starts)

    @property
    def buffer_s(self) -> float:
        """How long sound takes through the device, according to PortAudio; 0 while there is no device."""
        feed = self._feed
        return 0.0 if feed is None else feed.stream.latency_s

    def open(self) -> None:
        """Open the device, or the best other one; `refused` then says why, in one line.

        Errors: DeviceError when none works; nothing runs then.
        """
        reason = self._open_best(lost="", alive_s=_FIRST_LIMIT_S)
        feed, wanted = self._feed, self._wanted
        if feed is None:
            raise DeviceError(reason or f"no {KINDS[self.direction]} works")
        if wanted is not None and feed.device.name != wanted.name:
            self.refused = reason or f"{wanted.name!r} is not there"
        self._thread = threading.Thread(target=self._watch, name=f"realtime-{KINDS[self.direction]}-watch", daemon=True)
        open_lines.add(self)
        self._thread.start()

    def use(self, device: Device) -> None:
        """Move to another device; the line's thread does so at once, or stays where it is and reports why."""
        self._asked = device
        self._wake.set()

    def renew(self, reason: str) -> None:
        """Leave a stream that the sound server moved elsewhere for the best device: the chosen one, if it is there."""
        self._renewal = reason
        self._wake.set()

    def look_again(self, wanted: Device | None = None) -> None:
        """A device was plugged in: try the chosen one if it is not in use, and any if there is none.

        wanted: the chosen device from now on, to move to when it works.
        """
        self._wanted = wanted or self._wanted
        now_s = self._clock.monotonic()
        self._retry_at_s, self._failed = 0.0, 0
        self._home.came(now_s)
        self._wake.set()

    def ran_empty(self) -> None:
        """The device had nothing to play although there was sound: let it hold more. Called from its callback."""
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
        except Exception as error:  # noqa: BLE001  # who plays goes on; the line's thread tells, and finds a device
            failed = self._feed
            self._note(error)
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
        new = self._opened_again(feed)  # opening a device that is gone fails; restarting one hangs
        try:
            self._take_up(new, prepare=new.stream.rate_hz != feed.stream.rate_hz)
        finally:
            feed.close()
        new.start()

    def _deepen(self, feed: Feed) -> None:
        """Go on with a deeper buffer, from the first sample that did not sound."""
        del self._buffers[0]
        new = self._opened_again(feed) if feed.device.shared else None
        feed.close()
        new = new or self._opened_again(feed)
        self._take_up(new)
        new.start()

    def _take_up(self, feed: Feed, *, prepare: bool = True) -> None:
        """Make a stream the line's own. Errors: what `prepare` raises; then it is closed, and there is none."""
        try:
            if prepare:
                self._prepare(feed.stream.rate_hz)
        except Exception:
            self._feed = None
            feed.close()
            raise
        self._feed = feed

    def _opened_again(self, feed: Feed) -> Feed:
        """Open another stream on the device of this one. Errors: DeviceError."""
        new = self._new_feed()
        new.open(feed.device, self._rate_hz, CALL_LIMIT_S, self._wake.set, buffer_s=self._buffers[0])
        return new

    def close(self) -> None:
        """Give the device back; idempotent. A device that hangs is abandoned."""
        self._closing.set()
        self._teller.over = True
        self._wake.set()
        open_lines.discard(self)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=3.0)
        with self._calls_lock:
            self._give_up()

    # The line's thread.

    def _watch(self) -> None:
        while not self._closing.is_set():
            try:
                self._wait_and_look()
            except Exception as error:  # noqa: BLE001  # whatever it is: a line that nobody watches is lost in silence
                self.fault(error)
                self._tell_fault()
                self._closing.wait(_RETRY_EVERY_S)
            else:
                self._tell_fault()

    def _wait_and_look(self) -> None:
        feed, wait_s, began_s = self._feed, self._next_look_s(), self._clock.monotonic()
        self._wake.wait(wait_s)
        self._wake.clear()
        now_s = self._clock.monotonic()
        late_s = now_s - began_s - wait_s
        if feed is not None and late_s > _LATE_S:  # this thread did not run, and maybe the device's did not either
            feed.at_s = now_s if late_s > _STALL_S else min(now_s, feed.at_s + late_s)
        if not self._closing.is_set():
            self._look(self._feed, now_s)

    def fault(self, error: Exception) -> None:
        """Let the line's thread report, once, that something failed on the way of the sound. From any thread."""
        self._teller.fault(error)

    def _note(self, error: Exception) -> None:
        """Report an error that no device caused."""
        if not isinstance(error, DeviceError):
            self.fault(error)

    def _tell_fault(self) -> None:
        self._teller.tell_fault(self.direction, self._name)

    @property
    def _name(self) -> str | None:
        device = self.device
        return None if device is None else device.name

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
            targets = devices.candidates(self._wanted, self.direction)[:4]  # if that fails, it is asked again
            reason, self._renewal = self._renewal, None
            self._go_back(reason, feed, targets)
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
            self._home.lost(self._clock.monotonic())

    def _home_due(self, feed: Feed, now_s: float) -> bool:
        """Tell whether it is time to try the chosen device again."""
        if self._wanted is None or feed.device.name == self._wanted.name or devices.stuck():
            return False
        return self._home.due(now_s, for_ever=self._wanted.host_api == "ALSA")  # elsewhere an index may be another's

    # Moving.

    def _move(self, reason: str, feed: Feed | None, *, lost: str = "") -> None:
        """Leave the device, open the best other one, and report it."""
        with self._calls_lock:
            if self._feed is not feed:
                return  # somebody else was quicker
            self._give_up()
            if feed is None and not self._closing.is_set():
                self._read_list_again()
            if not self._closing.is_set() and not devices.stuck():
                self._open_best(lost=lost, alive_s=_ALIVE_LIMIT_S * 2 ** min(self._failed, 3))
        self._failed = 0 if self._feed is not None else self._failed + 1
        self._retry_at_s = self._clock.monotonic() + (_RETRY_EVERY_S if self._failed > 1 else 0.0)
        self._tell(None if feed is None else feed.device.name, reason)

    def _read_list_again(self) -> None:
        try:
            devices.limited(devices.refresh, open_lines.REFRESH_LIMIT_S)
        except DeviceError as error:
            self.fault(error)

    def _tell(self, before: str | None, reason: str, asked: str | None = None) -> None:
        feed, now = self._feed, self._name
        if now is None and before is None and asked is None:
            return
        gap_s = 0.0 if feed is None else round(max(0.0, feed.began_s - self._heard_s), 3)
        self._teller.tell(
            DeviceChange(direction=self.direction, before=before, now=now, reason=reason, gap_s=gap_s, asked=asked)
        )

    def _go_to(self, device: Device, feed: Feed | None) -> None:
        """Move to the chosen device, or stay and report why. One that opens only once is opened alone."""
        before, self._wanted = self._wanted, device
        try:
            aside = None if feed is None else self._open_aside(device, feed)
        except DeviceError:
            self._go_alone(device, feed, before)
            return
        if feed is None:
            self._go_alone(device, feed, before)
        elif aside is not None:
            self._swap(aside, feed, "chosen", asked=device.name)
        elif self._asked is None and self._failure(feed, self._clock.monotonic()) is None:
            self._wanted = before
            self._tell(feed.device.name, f"{device.name!r} {_MUTE[self.direction]}", device.name)

    def _go_alone(self, device: Device, feed: Feed | None, wanted: Device | None) -> None:
        """Give up the device in use for the one that was asked for; if that does not work, go back, or to any at worst.

        wanted: the chosen device from then on.
        """
        before = None if feed is None else feed.device
        with self._calls_lock:
            if self._feed is not feed or self._closing.is_set():
                return  # somebody else was quicker
            self._give_up()
            reason = self._refusal(device, _FIRST_LIMIT_S)
            if reason is not None:
                self._wanted = wanted
                if before is None or self._refusal(before, _FIRST_LIMIT_S) is not None:
                    self._open_best(lost=device.name, alive_s=_FIRST_LIMIT_S)
        self._tell(None if before is None else before.name, reason or "chosen", device.name)

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

    def _swap(self, aside: Feed, feed: Feed, reason: str, asked: str | None = None) -> None:
        """Replace the stream with one that works; an input hands on all that both have heard."""
        with self._calls_lock:
            if self._feed is not feed or self._closing.is_set():
                aside.close()
                return
            feed.close()
            self._heard_s = feed.at_s
            aside.began_s = self._clock.monotonic()
            self._take_up(aside)
        self._tell(feed.device.name, reason, asked)

    # Opening and closing; the lock is held, or the line's thread does not run yet.

    def _give_up(self) -> None:
        feed, self._feed = self._feed, None
        if feed is not None:
            self._heard_s = feed.at_s
            feed.close()

    def _open_best(self, *, lost: str, alive_s: float) -> str | None:
        """Open the first candidate that calls back; say why there is none. What hangs ends the search."""
        try:
            found = devices.candidates(self._wanted, self.direction, lost=lost)[:8]
        except Exception as error:  # noqa: BLE001  # told by the line's thread, if it runs
            self.fault(error)
            return why(error)
        first = None
        for device in found:
            reason = self._refusal(device, alive_s)
            first = first or reason
            if reason is None or self._closing.is_set() or devices.stuck():
                break
        return first

    def _refusal(self, device: Device, alive_s: float) -> str | None:
        """Open a device; return why it does not work, None if it does."""
        feed = self._new_feed()
        try:
            feed.open(device, self._rate_hz, 2 * alive_s, self._wake.set, buffer_s=self._buffers[0])
            self._take_up(feed)
            feed.start(max(CALL_LIMIT_S, alive_s))
            if feed.alive.wait(alive_s):
                self._teller.worked()
                return None
            reason = f"{device.name!r} {_MUTE[self.direction]}"
        except Exception as error:  # noqa: BLE001  # the next device is tried
            reason = why(error)
            self._note(error)
        self._feed = None
        feed.close()
        return reason

    def _new_feed(self) -> Feed:
        return Feed(self.direction, self._callback, lambda feed: feed is self._feed, self._clock, self.fault)

    # Reading the list again.

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Take the line down for the block; afterwards it is opened on the chosen device, if that is there."""
        before = None
        try:
            with self._calls_lock:
                before = self._name
                self._give_up()
                try:
                    yield
                finally:
                    if not self._closing.is_set() and not devices.stuck():
                        self._open_best(lost="", alive_s=_FIRST_LIMIT_S)
        finally:
            if before != self._name:
                self._tell(before, "the devices have changed")


_MUTE: dict[str, str] = {"input": "is mute", "output": "does not play"}
