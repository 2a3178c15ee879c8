"""A `sounddevice` whose devices do as the test says: real threads call back every 20 ms, and every fault is exact."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

LIMIT_S = 10.0


class PortAudioError(Exception):
    """What sounddevice raises."""


class FakeStream:
    """One stream. handed: what an output was given, block by block."""

    def __init__(self, portaudio: FakePortAudio, direction: str, **options: Any) -> None:
        portaudio.call("open", portaudio.names[options["device"]])
        self.name = portaudio.names[options["device"]]
        self.direction = direction
        self.handed: list[bytes] = []
        self.failed: Exception | None = None
        self.latency = 0.04
        self._portaudio = portaudio
        self._callback, self._finished = options["callback"], options["finished_callback"]
        self._block = options["blocksize"]
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fake-device", daemon=True)
        portaudio.streams.append(self)

    def start(self) -> None:
        self._portaudio.call("start", self.name)
        self._thread.start()

    def abort(self) -> None:
        self._portaudio.call("abort", self.name)
        self.end()

    def close(self) -> None:
        self._portaudio.call("close", self.name)
        self.end()

    def end(self) -> None:
        """End by itself, as a device does that is pulled out."""
        self._ends.set()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(LIMIT_S)

    def _run(self) -> None:
        while not self._ends.wait(0.02):
            now_s = time.monotonic()
            times = SimpleNamespace(
                currentTime=now_s, inputBufferAdcTime=now_s - 0.02, outputBufferDacTime=now_s + self.latency
            )
            data = memoryview(bytearray(2 * self._block))
            try:
                self._callback(data, self._block, times, 0)
            except Exception as error:  # PortAudio ends such a stream
                self.failed = error
                break
            if self.direction == "output":
                self.handed.append(bytes(data))
        self._finished()


class FakePortAudio:
    """The module. Each name is a device in both directions; a name may say "NAME in" or "NAME out" instead.

    on: what a call does before it is made, by its kind (query, initialize, open, start, abort, close); it gets the
    device's name, and may wait or raise. counts: how often each was made.
    """

    PortAudioError = PortAudioError

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.streams: list[FakeStream] = []
        self.on: dict[str, Callable[[str], object]] = {}
        self.counts: dict[str, int] = {}
        self.default = SimpleNamespace(device=(0, 0))

    def call(self, kind: str, name: str = "") -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.on.get(kind, lambda _name: None)(name)

    def running(self, direction: str) -> FakeStream:
        """The stream that was made last in a direction."""
        return [stream for stream in self.streams if stream.direction == direction][-1]

    def query_devices(self) -> list[dict[str, Any]]:
        self.call("query")
        return [
            {
                "name": name,
                "hostapi": 0,
                "max_input_channels": int(not name.endswith(" out")),
                "max_output_channels": int(not name.endswith(" in")),
                "default_samplerate": 48_000.0,
            }
            for name in self.names
        ]

    def query_hostapis(self) -> list[dict[str, Any]]:
        return [{"name": "ALSA"}]

    def _terminate(self) -> None:
        pass

    def _initialize(self) -> None:
        self.call("initialize")

    def check_input_settings(self, *, device: int, **_options: Any) -> None:
        self.call("open", self.names[device])

    check_output_settings = check_input_settings

    def RawInputStream(self, **options: Any) -> FakeStream:  # noqa: N802  # sounddevice's name
        return FakeStream(self, "input", **options)

    def RawOutputStream(self, **options: Any) -> FakeStream:  # noqa: N802
        return FakeStream(self, "output", **options)


def broken(*names: str) -> Callable[[str], object]:
    """What a device that is listed and cannot be opened does."""

    def refuse(name: str) -> None:
        if name in names:
            raise PortAudioError(f"Error opening {name}: No such device", -9996)

    return refuse


def in_time(call: Callable[[], Any], limit_s: float = LIMIT_S) -> Any:
    """Make a call that must come back; fails the test, and leaves it, if it does not. Errors: those of the call."""
    done: list[Any] = []
    failed: list[Exception] = []

    def run() -> None:
        try:
            done.append(call())
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="in-time", daemon=True)
    thread.start()
    thread.join(limit_s)
    assert not thread.is_alive(), f"not back within {limit_s} s: {call}"
    if failed:
        raise failed[0]
    return done[0]


@contextmanager
def fake_portaudio(monkeypatch: pytest.MonkeyPatch, *names: str) -> Iterator[FakePortAudio]:
    """Put it in the place of sounddevice for the block."""
    from realtime_client.audio import devices

    fake = FakePortAudio(*names)
    with monkeypatch.context() as patch:
        patch.setattr(devices, "_portaudio", lambda: fake)
        yield fake
    for stream in fake.streams:
        stream.end()
    assert not devices._open_streams, "a stream was left open"
