"""Following the devices of a machine while a session runs: those that come, and streams that the sound server moves.

With PulseAudio or PipeWire, `audio.lines.pulse_watch` reports at once. Elsewhere PortAudio would have to be asked, and
its answer is only right while no stream is open: so a session without any device looks for one every 3 s. One that was
there and did not open is tried again as often.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import Protocol

from realtime_client.audio.devices import Direction
from realtime_client.audio.lines.open_lines import open_lines
from realtime_client.audio.lines.pulse_watch import PulseWatch
from realtime_client.audio.lines.watch import News

_LOOK_EVERY_S = 3.0
_LEFT_BEHIND_S = 0.4  # servers of today move a stream a moment after the default has changed


class Followed(Protocol):
    """Who is told about devices; see `LiveSound`."""

    def moved(self, direction: Direction, device: str, reason: str) -> None:
        """The sound server put a stream on another device."""
        ...

    def devices_came(self, *, plugged: bool) -> None:
        """There may be a device that was missing. plugged: one has just been plugged in."""
        ...

    @property
    def lacking(self) -> bool:
        """Whether microphone or speaker is missing, though wanted."""
        ...

    def following_failed(self, error: Exception) -> None:
        """A change of devices could not be followed; the next one will be tried. From any thread, must not raise."""
        ...


class Follower:
    """Passes on what changes, from its thread `realtime-follow-devices`. `close()` ends and joins it.

    changed: devices came or went since PortAudio's list was read; whoever reads it sets it back.
    """

    def __init__(self, sound: Followed) -> None:
        self.changed = False
        self._sound = sound
        self._news: queue.Queue[list[News] | None] = queue.Queue(64)
        self._left_behind: News | None = None
        self._missed = False  # a device came and could not be taken up
        self._closing = threading.Event()
        self._watch = PulseWatch(self._heard, sound.following_failed)
        self._thread = threading.Thread(target=self._run, name="realtime-follow-devices", daemon=True)
        self._thread.start()

    @property
    def works(self) -> bool:
        """Whether a sound server tells of changes."""
        return self._watch.works

    def place(self, direction: Direction) -> str | None:
        """Return the name of the device that the sound server plays to, or hears; None if it is not known."""
        snapshot = self._watch.snapshot
        if snapshot is None:
            return None
        side = snapshot.side(direction)
        places = {side.devices.get(name, name) for name in side.streams.values()}
        return places.pop() if len(places) == 1 else None

    def close(self) -> None:
        """End; idempotent."""
        self._closing.set()
        self._watch.close()
        with contextlib.suppress(queue.Full):  # by then it is awake
            self._news.put_nowait(None)
        self._thread.join(timeout=5.0)

    def _heard(self, news: list[News]) -> None:
        with contextlib.suppress(queue.Full):  # dozens of changes a second: the lines report the last
            self._news.put_nowait(news)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                news = self._news.get(timeout=_LOOK_EVERY_S if self._left_behind is None else _LEFT_BEHIND_S)
            except queue.Empty:
                news = []
            if news is not None and not self._closing.is_set():
                self._guarded(news)

    def _guarded(self, news: list[News]) -> None:
        try:
            if news:
                self._follow(news)
                return
            self._fetch_left_behind()
            if self._missed or self._sound.lacking:
                self._take_up(plugged=self._missed)
        except Exception as error:  # noqa: BLE001  # the next change may bring a device that works
            self._sound.following_failed(error)

    def _follow(self, news: list[News]) -> None:
        kinds = {item.kind for item in news}
        self.changed |= bool(kinds & {"came", "went"})
        for item in news:
            if item.kind == "moved":
                self._moved(item)
            elif item.kind == "left_behind":
                self._left_behind = item
        if "came" in kinds:
            self._take_up(plugged=True)

    def _take_up(self, *, plugged: bool) -> None:
        """Have a device taken that was plugged in; if that fails, again with the next look."""
        self._missed = plugged
        self._sound.devices_came(plugged=plugged)
        self._missed = False

    def _fetch_left_behind(self) -> None:
        """Reopen a stream that follows the default and that its server left on the old one."""
        item, self._left_behind = self._left_behind, None
        if item is None or self.place(item.direction) == item.device:
            return
        for line in open_lines(item.direction):
            if line.device is not None and line.device.follows:
                line.renew(item.reason)

    def _moved(self, item: News) -> None:
        """Report it. A device chosen by name is neither left because the default changed, nor kept once it is gone."""
        lines = [line for line in open_lines(item.direction) if line.device is not None]
        if item.anew and any(line.opened_s >= item.since_s for line in lines):
            return  # the line moved by itself, and reported it
        chosen = [line for line in lines if line.device is not None and not line.device.follows]
        if chosen and (item.gone or item.by_default):
            for line in chosen:
                line.renew(item.reason)
        elif lines:
            self._sound.moved(item.direction, item.device, item.reason)
