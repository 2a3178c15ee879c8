"""`realtime devices`: what speakers and microphones there are, whether they work, and which to use from now on."""

from __future__ import annotations

import json
import math
import sys
import threading
from typing import Any

import click
import msgspec

from realtime_client.audio import devices
from realtime_client.audio.devices import Device, DeviceError, Direction
from realtime_client.cli.group import Invocation
from realtime_client.cli.options import SectionedCommand, log_options
from realtime_client.cli.session import logging_as_set, notice
from realtime_client.deadline import Deadline
from realtime_client.errors import UsageError
from realtime_client.escape import one_line
from realtime_client.settings import Settings

_TONE_HZ, _TONE_S, _TONE_PEAK = 440, 0.6, 6_000
_METER_S, _METER_EVERY_S = 3.0, 0.1
_BAR = 40
_QUIETEST_DBFS = -60.0
_LIST_LIMIT_S = 5.0
_COLUMNS = ("", "index", "name", "system", "in", "out", "takes (kHz)")


@click.command("devices", cls=SectionedCommand)
@click.option("--play", metavar="DEVICE", help="play a short tone on this speaker (index or part of the name)")
@click.option("--meter", metavar="DEVICE", help=f"show the level of this microphone for {_METER_S:g} s")
@click.option("--use-speaker", metavar="DEVICE", help="use this speaker from now on; 'default' for the system's")
@click.option("--use-microphone", metavar="DEVICE", help="use this microphone from now on; 'default' for the system's")
@click.option("--json", "as_json", is_flag=True, help="one JSON object")
@log_options
def command(
    *,
    settings: Settings,
    invocation: Invocation,
    play: str | None,
    meter: str | None,
    use_speaker: str | None,
    use_microphone: str | None,
    as_json: bool,
) -> None:
    """List the sound devices with the rates they take; `>` marks the defaults, `*` what was chosen.

    The exit code is 0, 2 for a device that is not there, and 1 if there is no sound at all or a device does not work.
    """
    with logging_as_set(settings):
        listed = devices.limited(devices.list_devices, _LIST_LIMIT_S)
        if not listed:
            raise DeviceError("there is no sound device")
        report: dict[str, Any] = {}
        _use({"output": use_speaker, "input": use_microphone}, listed, invocation)
        if play is not None:
            report["played"] = _play(_named("output", play, listed), invocation)
        if meter is not None:
            report["metered"] = _meter(_named("input", meter, listed), invocation, as_json=as_json)
        if play is None and meter is None:
            report["devices"] = [_row(device) for device in listed]
    _show(report, as_json=as_json)


def _use(wanted: dict[Direction, str | None], listed: list[Device], invocation: Invocation) -> None:
    """Remember what was chosen: all of it or nothing."""
    chosen = {direction: _chosen(direction, name, listed) for direction, name in wanted.items() if name is not None}
    for direction, device in chosen.items():
        devices.remember(direction, None if device is None else device.name)
        if device is not None and not _rates(device, direction):
            notice(invocation, f"{device.name!r} is remembered, but gives no sound now; `realtime devices` lists all")


def _named(direction: Direction, wanted: str, listed: list[Device]) -> Device:
    return _chosen(direction, wanted, listed) or devices.choose(None, direction, listed)


def _chosen(direction: Direction, wanted: str, listed: list[Device]) -> Device | None:
    """Return the device that is meant; None for the system's default."""
    if not wanted.strip():
        raise UsageError(f"name a {devices.KINDS[direction]}: its index or a part of its name")
    if wanted.casefold() == "default" and not any(device.name == "default" for device in listed):
        return None
    return devices.choose(wanted, direction, listed)


def _rates(device: Device, direction: Direction) -> list[int]:
    if device.serves(direction) and not devices.stuck():
        try:
            return devices.supported_rates_hz(device, direction)
        except DeviceError:
            return []  # shown as "none now"
    return []


def _row(device: Device) -> dict[str, Any]:
    """Return what is known of a device. A device that is busy or hangs takes no rate now."""
    row = msgspec.to_builtins(device)
    for direction in devices.KINDS:
        row[f"{direction}_rates_hz"] = _rates(device, direction)
        row[f"chosen_{direction}"] = devices.remembered(direction) == device.name
    return row  # type: ignore[no-any-return]


def _show(report: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        json.dump(report, sys.stdout)
        click.echo()
        return
    if rows := report.get("devices"):
        cells = [_COLUMNS, *(_cells(row) for row in rows)]
        widths = [max(len(line[column]) for line in cells) for column in range(len(_COLUMNS))]
        for line in cells:
            click.echo("  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())
    if "played" in report:
        click.echo(one_line(f"played a tone on {report['played']['name']!r}"))
    if "metered" in report:
        peak = report["metered"]["peak_dbfs"]
        level = "heard nothing" if peak is None else f"heard up to {peak:.1f} dBFS"
        click.echo(one_line(f"{level} from {report['metered']['name']!r}"))


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    marks = (">" if row["default_input"] or row["default_output"] else "") + (
        "*" if row["chosen_input"] or row["chosen_output"] else ""
    )
    rates = sorted({*row["input_rates_hz"], *row["output_rates_hz"]})
    taken = " ".join(f"{rate / 1000:g}" for rate in rates) or "none now"
    name = one_line(row["name"], 60)
    return (marks, str(row["index"]), name, row["host_api"], str(row["inputs"]), str(row["outputs"]), taken)


def _play(device: Device, invocation: Invocation) -> dict[str, Any]:
    import numpy as np

    from realtime_client.audio.speaker import Speaker
    from realtime_client.deadline import SYSTEM_CLOCK

    rate_hz = 24_000
    times = np.arange(round(rate_hz * _TONE_S)) / rate_hz
    swell = np.minimum(1.0, np.minimum(times, _TONE_S - times) / 0.02)
    tone = (_TONE_PEAK * swell * np.sin(2 * np.pi * _TONE_HZ * times)).astype("<i2").tobytes()
    notice(invocation, f"playing a tone on {device.name!r}")
    speaker = Speaker(device, rate_hz=rate_hz)
    try:
        if speaker.device is None or speaker.device.name != device.name:
            raise DeviceError(speaker.refused or f"{device.name!r} does not play")
        part = ("tone", 0)
        speaker.play(part, tone, rate_hz, SYSTEM_CLOCK.monotonic())
        speaker.end(part)
        deadline, pause = Deadline(_TONE_S + 3.0), threading.Event()
        while not speaker.idle:
            if deadline.expired or speaker.device is None:
                raise DeviceError(f"{device.name!r} stopped playing")
            pause.wait(0.02)
    finally:
        speaker.close()
    return {"name": device.name, "seconds": _TONE_S}


def _meter(device: Device, invocation: Invocation, *, as_json: bool) -> dict[str, Any]:
    from realtime_client.audio.microphone import Microphone
    from realtime_client.audio.pcm import peak_dbfs

    notice(invocation, f"listening to {device.name!r} for {_METER_S:g} s")
    drawn = sys.stderr.isatty() and not as_json and not invocation.quiet
    peaks: list[float] = [-math.inf]
    microphone = Microphone(device, on_block=lambda block, _at_s: peaks.append(peak_dbfs(block.tobytes())))
    try:
        if microphone.device is None or microphone.device.name != device.name:
            raise DeviceError(microphone.refused or f"{device.name!r} gives no sound")
        deadline, pause = Deadline(_METER_S), threading.Event()
        while not deadline.expired:
            pause.wait(_METER_EVERY_S)
            if drawn:
                print(f"\r{_bar(max(peaks[-5:]))}", end="", file=sys.stderr, flush=True)  # noqa: T201
        if microphone.device is None:
            raise DeviceError(f"{device.name!r} stopped working")
        if microphone.error is not None:
            raise microphone.error
    finally:
        microphone.close()
        if drawn:
            print(file=sys.stderr)  # noqa: T201
    peak = max(peaks)
    return {"name": device.name, "peak_dbfs": None if math.isinf(peak) else round(peak, 1), "seconds": _METER_S}


def _bar(level_dbfs: float) -> str:
    share = 0.0 if math.isinf(level_dbfs) else max(0.0, 1 - level_dbfs / _QUIETEST_DBFS)
    filled = round(share * _BAR)
    shown = "silence" if math.isinf(level_dbfs) else f"{level_dbfs:6.1f} dBFS"
    return f"[{'#' * filled}{' ' * (_BAR - filled)}] {shown:12}"
