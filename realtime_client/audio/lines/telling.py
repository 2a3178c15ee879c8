"""What a line reports: devices that changed, and what failed along the path of the sound."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from realtime_client.audio.devices import DeviceError, Direction
from realtime_client.audio.faults import Trouble
from realtime_client.logs import Log


class DeviceChange(msgspec.Struct, frozen=True, kw_only=True):
    """A line moved to another device, or was opened anew on the same.

    now: its name, None while there is none. reason: for people, in one line. gap_s: how long no callback came.
    asked: the name of the device that `Line.use` asked for, if this answers it; if it is not `now`, it was refused, and
    `reason` says why. fault: nothing moved; something failed, and `reason` says what.
    """

    direction: Direction
    before: str | None
    now: str | None
    reason: str
    gap_s: float = 0.0
    asked: str | None = None
    fault: bool = False


class Teller:
    """Calls `on_change`, whose own exceptions are faults, too.

    wake: wakes the line's thread, which reports faults. over: the line is closed; nothing is reported any more.
    """

    def __init__(self, on_change: Callable[[DeviceChange], None] | None, wake: Callable[[], None]) -> None:
        self.over = False
        self._on_change = on_change
        self._wake = wake
        self._fault: Exception | None = None
        self._of_devices, self._own = Trouble(), Trouble()

    def fault(self, error: Exception) -> None:
        """Let the line's thread report, once, that something failed. From any thread; takes no lock."""
        self._fault = error
        self._wake()

    def worked(self) -> None:
        """A device works: faults of devices are reported again from now on."""
        self._of_devices.worked()

    def tell(self, change: DeviceChange) -> None:
        """Report a change."""
        if self._on_change is None or self.over:
            return
        try:
            self._on_change(change)
        except Exception as error:  # noqa: BLE001  # told by the line's thread
            self.fault(error)

    def tell_fault(self, direction: Direction, name: str | None) -> None:
        """Report the last fault, unless that was done. name: the device in use. For the line's thread."""
        error, self._fault = self._fault, None
        if error is None or self.over:
            return
        text = (self._of_devices if isinstance(error, DeviceError) else self._own).failed(error)
        if text is not None:
            _LOG.debug("fault", direction=direction, device=name, error=text)
            self.tell(DeviceChange(direction=direction, before=name, now=name, reason=text, fault=True))


_LOG = Log("sound")
