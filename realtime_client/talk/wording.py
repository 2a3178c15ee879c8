"""What people are told about devices that changed."""

from __future__ import annotations

from realtime_client.audio import devices
from realtime_client.audio.devices import KINDS, DeviceError, Direction
from realtime_client.audio.lines.telling import DeviceChange


def said(change: DeviceChange) -> str:
    """Return one line about a change. A refused device is named together with those that there are."""
    kind, now, reason = KINDS[change.direction], change.now, change.reason
    if change.fault:
        return f"the {kind}: {reason}"
    if now is None:
        return f"there is no {kind} now ({reason})"
    if change.asked is not None and now != change.asked:
        stays = "stays" if now == change.before else "is now"
        return f"the {kind} {stays} {now}: {reason}{_others(change.direction, change.asked)}"
    return f"the {kind} is {now} again ({reason})" if now == change.before else f"the {kind} is now {now} ({reason})"


def _others(direction: Direction, asked: str) -> str:
    """Name the devices there are besides one that does not work."""
    try:
        others = [device for device in devices.list_devices() if device.serves(direction) and device.name != asked]
    except DeviceError:
        return ""
    return f"; there are: {devices.named(others)}" if others else ""
