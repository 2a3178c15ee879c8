"""The doctor's checks of sound: PortAudio, devices, and how much of the speaker the microphone hears."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import msgspec

from realtime_client.audio import devices
from realtime_client.deadline import SYSTEM_CLOCK, Clock
from realtime_client.doctor.checks import Check, Status
from realtime_client.errors import RealtimeError, UsageError
from realtime_client.talk import echo_memory

_CALL_LIMIT_S = 3.0
_TRIES = 3
_BEYOND_S = 0.2  # recorded longer than played
_LATE_S = 5.0  # a device that takes this much longer than the sound lasts is given up


class EchoOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What the loop test gave: the check to show, and the figures as plain JSON types, None if there are none."""

    check: Check
    figures: dict[str, Any] | None = None


class Pair(msgspec.Struct, frozen=True):
    """The devices that a session would use."""

    output: devices.Device
    input: devices.Device


def check_portaudio(*, required: bool) -> Check:
    """Tell whether there is PortAudio. required: without it the check fails; a text session works without."""
    reason = devices.unavailable()
    if reason is None:
        return Check(name="PortAudio", status="ok", text="there")
    return Check(name="PortAudio", status="fail" if required else "warn", text=reason)


def check_devices(output: str | None, input_: str | None, *, required: bool) -> tuple[Check, Pair | None]:
    """Name the devices that a session would use. A wrong choice is a failure; no device at all is one if `required`."""
    remarks: list[str] = []
    try:
        listed = devices.limited(devices.list_devices, _CALL_LIMIT_S)
        pair = Pair(
            devices.preferred(output, "output", remarks.append, listed),
            devices.preferred(input_, "input", remarks.append, listed),
        )
    except UsageError as error:
        return Check(name="devices", status="fail", text=str(error), hint="`realtime devices` lists them"), None
    except devices.DeviceError as error:
        hint = "text sessions work without; plug one in, or start the sound server"
        return Check(name="devices", status="fail" if required else "warn", text=str(error), hint=hint), None
    text = f"speaker {pair.output.name!r}, microphone {pair.input.name!r}, of {len(listed)} devices"
    return Check(name="devices", status="warn" if remarks else "ok", text=text, hint="; ".join(remarks)), pair


def check_memory(pair: Pair) -> Check:
    """Tell what is remembered about echo on these devices."""
    known = echo_memory.recall(pair.output.name, pair.input.name)
    if known is None:
        text = "not measured on these devices; `auto` goes by what is installed"
        return Check(name="echo", status="ok", text=text, hint="realtime doctor --echo measures it")
    return Check(name="echo", status="ok", text=f"{known.mode} on these devices: {known.reason}")


def examine(output: str | None, input_: str | None, *, echo: bool) -> Iterator[tuple[Check, Pair | None]]:
    """Yield the checks of PortAudio, devices and, unless it is measured anew, what is known of the echo.

    echo: sound is required, because the echo is to be measured. The pair comes with the check of the devices.
    """
    check = check_portaudio(required=echo)
    yield check, None
    if check.status != "ok":
        return
    check, pair = check_devices(output, input_, required=echo)
    yield check, pair
    if pair is not None and not echo:
        yield check_memory(pair), None


def measure_echo(pair: Pair, clock: Clock = SYSTEM_CLOCK) -> EchoOutcome:
    """Play the sweep, measure, and remember what to do about echo on these devices."""
    from realtime_client.audio.echo import loop_test
    from realtime_client.audio.echo.control import EchoMode, aec_available

    try:
        run, recorded = _record(pair, clock)
        result = loop_test.measure(recorded, run.rate_hz, run.played)
        advice = loop_test.advise(result, aec=aec_available())
        figures = _figures(result, advice, run)
        if advice.mode is EchoMode.AUTO:
            hint = "`realtime devices` meters a microphone"
            return EchoOutcome(check=Check(name="echo", status="fail", text=advice.reason, hint=hint), figures=figures)
        echo_memory.remember(pair.output.name, pair.input.name, advice)
    except RealtimeError as error:
        return EchoOutcome(check=Check(name="echo", status="fail", text=str(error)))
    text = f"{advice.mode}: {advice.reason}{_numbers(result)}"
    if run.faults:
        hint = "a device ran empty or overflowed during the measurement (is the machine busy?): measure again"
        return EchoOutcome(check=Check(name="echo", status="warn", text=text, hint=hint), figures=figures)
    status: Status = "warn" if isinstance(result, loop_test.Clipped) else "ok"
    return EchoOutcome(check=Check(name="echo", status=status, text=text), figures=figures)


def _record(pair: Pair, clock: Clock) -> tuple[_LoopRun, Any]:
    """Play and record; repeat it if a device ran empty or over, which shifts the sound."""
    for _ in range(_TRIES - 1):
        run = _LoopRun(pair, clock)
        recorded = run.record()
        if not run.faults:
            return run, recorded
    run = _LoopRun(pair, clock)
    return run, run.record()


def _numbers(result: Any) -> str:
    """Return what was measured, for people."""
    noise = getattr(result, "noise_dbfs", None)
    words = [] if noise is None else [f"noise {noise:.0f} dBFS"]
    if hasattr(result, "delay_ms"):
        words = [f"loop delay {result.delay_ms:.0f} ms", f"return loss {result.return_loss_db:.0f} dB", *words]
    return f" ({', '.join(words)})" if words else ""


def _figures(result: Any, advice: Any, run: _LoopRun) -> dict[str, Any]:
    found = {"heard": hasattr(result, "delay_ms"), **msgspec.to_builtins(result)}
    return {
        "output": run.pair.output.name,
        "input": run.pair.input.name,
        "rate_hz": run.rate_hz,
        "device_latency_ms": round(run.latency_s * 1000, 1),
        "faults": run.faults,
        **found,
        "mode": str(advice.mode),
        "reason": advice.reason,
        "thresholds": {**msgspec.to_builtins(advice.path), **msgspec.to_builtins(advice.onset)},
    }


class _Clocked:
    """When a stream's first sample passed: callbacks come late and never early, so the earliest counts.

    faults: how often the device ran empty or over.
    """

    def __init__(self, rate_hz: int, clock: Clock) -> None:
        self._rate_hz, self._clock = rate_hz, clock
        self.samples = 0
        self.start_s = float("inf")
        self.latencies_s: list[float] = []
        self.faults = 0

    def passed(self, count: int, latency_s: float, status: Any) -> None:
        self.start_s = min(self.start_s, self._clock.monotonic() - self.samples / self._rate_hz)
        self.samples += count
        self.latencies_s.append(latency_s)
        self.faults += bool(status)

    @property
    def latency_s(self) -> float:
        """The median of what the callbacks were given."""
        return sorted(self.latencies_s)[len(self.latencies_s) // 2] if self.latencies_s else 0.0


class _LoopRun:
    """Plays the sweep and records at the same time; the callbacks only move bytes."""

    def __init__(self, pair: Pair, clock: Clock) -> None:
        self.pair = pair
        self._clock = clock
        self._done = threading.Event()
        self._sides: list[devices.SoundStream] = []
        self.rate_hz = self._agree()
        self._begin()

    def _agree(self) -> int:
        """Return a rate that both devices take; opening shows what a device really takes."""
        return next(
            (
                rate_hz
                for rate_hz in (24_000, 48_000, 44_100, 16_000)
                if all(rate_hz in devices.supported_rates_hz(*side) for side in self._ends())
            ),
            24_000,
        )

    def _ends(self) -> tuple[tuple[devices.Device, devices.Direction], tuple[devices.Device, devices.Direction]]:
        return (self.pair.output, "output"), (self.pair.input, "input")

    def _begin(self) -> None:
        from realtime_client.audio.echo.loop_test import sweep

        self.played = sweep(self.rate_hz)
        self._sound = self.played.tobytes()
        self._wanted = len(self._sound) + 2 * round(_BEYOND_S * self.rate_hz)
        self._recorded = bytearray(self._wanted + 2 * self.rate_hz)  # one second more, for the beginning
        self._out, self._in = _Clocked(self.rate_hz, self._clock), _Clocked(self.rate_hz, self._clock)

    def record(self) -> Any:
        """Run it; returns the recording (int16), which begins when the first sample of `played` was handed over.

        Errors: DeviceError when a device does not open, refuses the rate, or stops.
        """
        import numpy as np

        try:
            for (device, direction), callback in zip(self._ends(), (self._play, self._take), strict=True):
                self._open(device, direction, callback)
            if not self._done.wait(len(self._sound) / 2 / self.rate_hz + _LATE_S):
                raise devices.DeviceError("the devices stopped while the sweep was played; try again")
        finally:
            self._close()
        heard = np.frombuffer(bytes(self._recorded), "<i2", self._in.samples)
        first = round((self._out.start_s - self._in.start_s) * self.rate_hz)
        if first < 0:
            return np.concatenate((np.zeros(-first, np.int16), heard))
        return heard[first:]

    def _open(self, device: devices.Device, direction: devices.Direction, callback: Any) -> None:
        def opened() -> devices.SoundStream:
            return devices.SoundStream(device, direction, self.rate_hz, callback, lambda: None)

        stream = devices.limited(opened, _CALL_LIMIT_S, late=devices.SoundStream.close)
        self._sides.append(stream)
        if stream.rate_hz != self.rate_hz:
            raise devices.DeviceError(f"{device.name!r} does not take {self.rate_hz} Hz, as the other device does")
        devices.limited(stream.start, _CALL_LIMIT_S)

    @property
    def latency_s(self) -> float:
        """How much of the loop's delay is the devices' own, according to them."""
        return self._out.latency_s + self._in.latency_s

    @property
    def faults(self) -> int:
        """How often a device ran empty or over; each may have moved the sound."""
        return self._out.faults + self._in.faults

    def _close(self) -> None:
        for stream in self._sides:
            with contextlib.suppress(devices.DeviceError):  # it hangs: what was measured, or went wrong, is told
                devices.limited(stream.close, _CALL_LIMIT_S)

    def _play(self, data: Any, count: int, time: Any, status: Any) -> None:
        at = 2 * self._out.samples
        piece = self._sound[at : at + len(data)]
        data[: len(piece)] = piece
        data[len(piece) :] = bytes(len(data) - len(piece))
        self._out.passed(count, time.outputBufferDacTime - time.currentTime, status)

    def _take(self, data: Any, count: int, time: Any, status: Any) -> None:
        at = 2 * self._in.samples
        if at + len(data) > len(self._recorded):
            self._done.set()
            return
        self._recorded[at : at + len(data)] = data
        self._in.passed(count, time.currentTime - time.inputBufferAdcTime, status)
        if at + len(data) >= self._wanted:
            self._done.set()
