"""Sound devices: list them, choose one, remember the choice, open streams. The only module that uses sounddevice.

PortAudio reads the list of devices once; `refresh()` reads it again, which is possible only while no stream is open.
PortAudio and ALSA write their complaints to file descriptor 2; they are kept off the screen where that is possible.
A call into PortAudio may never return when the sound server hangs: `limited()` makes it in a thread that can be
abandoned.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from realtime_client.audio.quiet import quiet_call, silence_alsa
from realtime_client.errors import RealtimeError, UsageError
from realtime_client.home import user_folder

Direction = Literal["input", "output"]
KINDS: dict[Direction, str] = {"input": "microphone", "output": "speaker"}
RATES_HZ = (8_000, 16_000, 24_000, 44_100, 48_000)
BLOCK_MS = 20
_T = TypeVar("_T")
_lock = threading.RLock()  # guards the counts below; never held during a call into PortAudio
_list_lock = threading.Lock()  # guards the list: nobody asks for it while it is being read again, which may hang
# PortAudio keeps its list of open streams without a lock: one is opened, closed, or all torn down, at a time.
_streams_lock = threading.Lock()
_open_streams = 0
_stuck_calls = 0
_lost_calls = 0
_SERVERS = ("default", "pipewire", "pulse", "sysdefault")  # what to try first where ALSA lists dozens
_MOST_LOST = 4
_LIST_LIMIT_S = 1.0


class DeviceError(RealtimeError):
    """A sound device, or PortAudio itself, cannot be used; a text session goes on without."""


class StuckError(DeviceError):
    """A call into PortAudio did not return in time: the sound server hangs."""


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One device as PortAudio lists it.

    index: its place in the list, until the list is read again. inputs, outputs: channels. rate_hz: its default rate.
    """

    index: int
    name: str
    host_api: str
    inputs: int
    outputs: int
    rate_hz: int
    default_input: bool = False
    default_output: bool = False

    def serves(self, direction: Direction) -> bool:
        """Tell whether it has channels in this direction."""
        return (self.inputs if direction == "input" else self.outputs) > 0

    def is_default(self, direction: Direction) -> bool:
        """Tell whether it is the one to use when none is chosen."""
        return self.default_input if direction == "input" else self.default_output

    @property
    def follows(self) -> bool:
        """Whether the sound server decides where its sound goes, and may move it."""
        return self.name in _SERVERS

    @property
    def shared(self) -> bool:
        """Whether it can be reopened quickly, and more than once: a sound server's device, reached through ALSA."""
        return self.host_api == "ALSA" and "hw:" not in self.name


# PortAudio.


def _portaudio() -> Any:
    """Return the sounddevice module. Errors: DeviceError when PortAudio or its Python part is missing."""
    try:
        with quiet_call():
            import sounddevice
    except (OSError, ImportError) as error:
        hint = "brew install portaudio" if sys.platform == "darwin" else "apt-get install libportaudio2"
        raise DeviceError(f"PortAudio is missing, so there is no sound: {hint} ({error})") from error
    except Exception as error:
        raise DeviceError(f"PortAudio does not start, so there is no sound: {error}") from error
    silence_alsa()
    return sounddevice


def _reason(error: Exception | None) -> str:
    """Return what PortAudio says, its number, and what the host says if that is anything.

    sounddevice's exceptions hold (text, number, (host API, host's number, host's text)), of which the last two may be
    missing.
    """
    text, number, host = (*getattr(error, "args", ()), None, None, None)[:3]
    said = str(text or error)
    words = [said.partition(": ")[2] or said]
    words += [] if number is None else [f"(PortAudio {number})"]
    words += [f"{host[2]}"] if isinstance(host, tuple) and len(host) > 2 and host[2] else []
    return " ".join(words)


def unavailable() -> str | None:
    """Return why there is no sound at all (PortAudio is missing), in one line; None if there is PortAudio."""
    try:
        _portaudio()
    except DeviceError as error:
        return str(error)
    return None


def limited(
    call: Callable[[], _T], limit_s: float, *, late: Callable[[_T], None] | None = None, may_be_lost: bool = False
) -> _T:
    """Make a call that may hang, in a thread that is abandoned if it takes longer than `limit_s`.

    late: gets the result of a call that returned after all. may_be_lost: the call can hang for good by itself, which
    says nothing about the next one. Errors: StuckError, and what the call raises.
    """
    done = threading.Event()
    state: dict[str, Any] = {}

    def run() -> None:
        try:
            state["result"] = call()
        except Exception as error:  # noqa: BLE001  # handed to the caller
            state["error"] = error
        with _lock:
            done.set()
            left = state.get("left", False)
        if left:
            with contextlib.suppress(Exception):  # nobody is waiting for it any more
                if late is not None and "result" in state:
                    late(state["result"])
            _hangs(-1, lost=may_be_lost)

    threading.Thread(target=run, name="realtime-audio-call", daemon=True).start()
    if not done.wait(limit_s):
        with _lock:
            if not done.is_set():
                state["left"] = True
                _hangs(1, lost=may_be_lost)
                _leave_at_exit()
                raise StuckError("the sound server does not answer")
    if "error" in state:
        raise state["error"]
    return state["result"]  # type: ignore[no-any-return]


def _hangs(change: int, *, lost: bool) -> None:
    global _stuck_calls, _lost_calls  # noqa: PLW0603  # one PortAudio in each process
    with _lock:
        if lost:
            _lost_calls += change
        else:
            _stuck_calls += change


def _leave_at_exit() -> None:
    """Keep PortAudio from being shut down when the process ends: with a call that hangs, that would hang as well."""
    tidy = getattr(sys.modules.get("sounddevice"), "_exit_handler", None)
    if tidy is not None:
        atexit.unregister(tidy)


def stuck() -> bool:
    """Tell whether a call into PortAudio hangs in a way that would make another one hang, too."""
    return _stuck_calls > 0 or _lost_calls >= _MOST_LOST


def can_refresh() -> bool:
    """Tell whether the list could be read again if no stream were open: no call hangs."""
    return not (_stuck_calls or _lost_calls)


def refresh() -> bool:
    """Read the list of devices again; False if it cannot be done now: a stream is open, or a call hangs."""
    if not _streams_lock.acquire(blocking=False):
        return False  # a stream is being opened or closed
    try:
        return _read_again()
    finally:
        _streams_lock.release()


def _read_again() -> bool:
    with _lock:
        if _open_streams or not can_refresh():
            return False
    sounddevice = _portaudio()
    with _list_lock:
        with quiet_call(), contextlib.suppress(sounddevice.PortAudioError):
            sounddevice._terminate()  # noqa: SLF001  # there is no public way
        try:
            with quiet_call():
                sounddevice._initialize()  # noqa: SLF001
        except sounddevice.PortAudioError as error:
            raise DeviceError(f"PortAudio does not start, so there is no sound: {error}") from error
    return True


def list_devices() -> list[Device]:
    """Return all devices in PortAudio's order. Errors: DeviceError."""
    sounddevice = _portaudio()
    if not _list_lock.acquire(timeout=_LIST_LIMIT_S):
        raise StuckError("the sound devices cannot be listed: the sound server does not answer")
    try:
        infos, apis = sounddevice.query_devices(), sounddevice.query_hostapis()
        chosen = sounddevice.default.device
    except sounddevice.PortAudioError as error:
        raise DeviceError(f"the sound devices cannot be listed: {_reason(error)}") from error
    finally:
        _list_lock.release()
    default_input, default_output = int(chosen[0]), int(chosen[1])
    return [
        Device(
            index=index,
            name=info["name"],
            host_api=apis[info["hostapi"]]["name"],
            inputs=info["max_input_channels"],
            outputs=info["max_output_channels"],
            rate_hz=round(info["default_samplerate"]),
            default_input=index == default_input,
            default_output=index == default_output,
        )
        for index, info in enumerate(infos)
    ]


def supported_rates_hz(device: Device, direction: Direction) -> list[int]:
    """Return which of the common rates the device takes, mono and 16 bit. Asks the device: it may take a moment."""
    sounddevice = _portaudio()
    check = sounddevice.check_input_settings if direction == "input" else sounddevice.check_output_settings

    def ask() -> list[int]:
        taken = []
        for rate_hz in RATES_HZ:
            with contextlib.suppress(sounddevice.PortAudioError), _streams_lock, quiet_call():
                check(device=device.index, channels=1, dtype="int16", samplerate=rate_hz)
                taken.append(rate_hz)
        return taken

    return limited(ask, 2.0)


# Choice.


def choose(wanted: str | int | None, direction: Direction, devices: list[Device] | None = None) -> Device:
    """Return the device meant by an index or part of a name, ignoring case; None means the default.

    Errors: UsageError, naming the candidates, when none or several match; DeviceError when there is no device at all.
    """
    listed = list_devices() if devices is None else devices
    serving = [device for device in listed if device.serves(direction)]
    kind = KINDS[direction]
    if not serving:
        raise DeviceError(f"there is no {kind}")
    name = "" if wanted is None else str(wanted).strip()
    if not name:
        return next((device for device in serving if device.is_default(direction)), serving[0])
    found = _matching(name, serving)
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"several devices match {wanted!r}: {named(found)}")
    others = _matching(name, listed)
    what = f"{others[0].name!r} is no {kind}" if len(others) == 1 else f"no {kind} matches {wanted!r}"
    raise UsageError(f"{what}; there are: {named(serving)}")


def named(devices: list[Device]) -> str:
    """Return devices as people choose them: index and name of each."""
    return ", ".join(f"{device.index} {device.name!r}" for device in devices)


def _matching(wanted: str, serving: list[Device]) -> list[Device]:
    """By index, else by the whole name, else by a part of it."""
    number = (wanted.lstrip("0") or "0") if wanted.isascii() and wanted.isdecimal() else None
    if number is not None and (by_index := [device for device in serving if str(device.index) == number]):
        return by_index
    low = wanted.casefold()
    exact = [device for device in serving if device.name.casefold() == low]
    return exact or [device for device in serving if low in device.name.casefold()]


def candidates(
    first: Device | None, direction: Direction, *, lost: str = "", devices: list[Device] | None = None
) -> list[Device]:
    """Return the devices to try, the best first: the wanted one, the default, the sound servers' own, the others.

    lost: the name of one that has just failed; it comes last.
    """
    serving = [d for d in (list_devices() if devices is None else devices) if d.serves(direction)]

    def rank(device: Device) -> tuple[bool, bool, bool, bool, int]:
        return (
            device.name == lost,
            first is None or device.name != first.name,
            not device.is_default(direction),
            device.name not in _SERVERS,
            device.index,
        )

    return sorted(serving, key=rank)


def _choice_path() -> Path:
    return user_folder("state") / "devices.json"


def remember(direction: Direction, name: str | None) -> None:
    """Keep the name of the device to use from now on; None: the default again. Errors: DeviceError."""
    path = _choice_path()
    kept = _remembered() | {direction: name}
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".devices-")  # mkstemp's mode is 0600
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({key: value for key, value in kept.items() if value is not None}, file)
        Path(temporary).replace(path)
    except OSError as error:
        raise DeviceError(f"the choice of device cannot be kept in {path}: {error.strerror}") from error


def remembered(direction: Direction) -> str | None:
    """Return the name of the device that was chosen last, or None."""
    return _remembered().get(direction)


def _remembered() -> dict[str, str | None]:
    """Return what was remembered; nothing if the file is missing or damaged: a choice is easily made again."""
    try:
        kept = json.loads(_choice_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(kept, dict):
        return {}
    return {key: value for key, value in kept.items() if key in ("input", "output") and isinstance(value, str)}


def preferred(
    wanted: str | int | None, direction: Direction, warn: Callable[[str], None], devices: list[Device] | None = None
) -> Device:
    """Return the device asked for, else the remembered one, else the default.

    warn: called with one line when the remembered device is not there. Errors: as `choose`.
    """
    if wanted is not None and wanted != "":
        return choose(wanted, direction, devices)
    name = remembered(direction)
    if name is not None:
        listed = list_devices() if devices is None else devices
        same = [device for device in listed if device.name == name and device.serves(direction)]
        if same:
            return same[0]
        default = choose(None, direction, listed)
        warn(f"{name!r}, chosen before, is not there; using {default.name!r}")
        return default
    return choose(None, direction, devices)


# Streams.


class SoundStream:
    """One open callback stream, mono, 16 bit, in blocks of 20 ms. Not started yet.

    callback: `(data, count, time, status)` with the device's own buffer, time with currentTime, inputBufferAdcTime and
    outputBufferDacTime. buffer_s: how much sound the device is asked to hold, None for as little as works. Every method
    may hang with the sound server: call it through `limited()`. Errors: DeviceError.
    """

    def __init__(
        self,
        device: Device,
        direction: Direction,
        rate_hz: int,
        callback: Callable[[Any, int, Any, Any], None],
        finished: Callable[[], None],
        *,
        buffer_s: float | None = None,
    ) -> None:
        global _open_streams  # noqa: PLW0603
        self.device = device
        self.direction = direction
        sounddevice = _portaudio()
        kind = sounddevice.RawInputStream if direction == "input" else sounddevice.RawOutputStream
        last: Exception | None = None
        for self.rate_hz in dict.fromkeys((rate_hz, device.rate_hz, 48_000, 44_100)):
            try:
                with _streams_lock, quiet_call():
                    self._stream = kind(
                        samplerate=self.rate_hz,
                        blocksize=self.rate_hz * BLOCK_MS // 1000,
                        device=device.index,
                        channels=1,
                        dtype="int16",
                        latency="low" if buffer_s is None else buffer_s,
                        callback=callback,
                        finished_callback=finished,
                    )
                    with _lock:
                        _open_streams += 1
            except (sounddevice.PortAudioError, ValueError) as error:
                last = error
                continue
            self.latency_s = float(self._stream.latency)
            return
        raise DeviceError(f"{device.name!r} cannot be opened: {_reason(last)}") from last

    def start(self) -> None:
        """Let the callbacks begin. In PortAudio for ALSA it hangs for good if the device went after it was opened.

        Its callback thread then ends while holding the lock that the starting thread waits for (`CallbackThreadFunc` in
        pa_linux_alsa.c); that stream is lost; others are not affected.
        """
        sounddevice = _portaudio()
        try:
            self._stream.start()
        except sounddevice.PortAudioError as error:
            raise DeviceError(f"{self.device.name!r} cannot be started: {_reason(error)}") from error

    def abort(self) -> None:
        """End at once; what the device still holds is thrown away."""
        self._stream.abort()

    def close(self) -> None:
        """End at once, and give the device back."""
        global _open_streams  # noqa: PLW0603
        try:
            self._stream.abort()
        finally:
            with _streams_lock:
                self._stream.close()
                with _lock:
                    _open_streams -= 1
