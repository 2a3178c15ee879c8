"""Putting live voice together from settings: which devices, microphone, speaker, echo control; and taking it apart.

Devices are chosen before the session opens, so that a name that fits none is reported at once, and opened once it is
open. The microphone ends before the connection, the speaker after it. A device that does not work is reported in one
line, and the session goes on without, until there is one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from realtime_client.audio import devices
from realtime_client.audio.devices import KINDS, Device, DeviceError, Direction
from realtime_client.audio.faults import Trouble, why
from realtime_client.audio.lines.open_lines import open_lines, rescan
from realtime_client.audio.lines.telling import DeviceChange
from realtime_client.changes import Changes
from realtime_client.deadline import Deadline
from realtime_client.errors import MissingExtraError, RealtimeError, UsageError
from realtime_client.session.session import Session
from realtime_client.settings import FLAG, Settings
from realtime_client.talk.following import Follower
from realtime_client.talk.turns import TurnMode
from realtime_client.talk.voice import LiveVoice
from realtime_client.talk.wording import said

if TYPE_CHECKING:
    from realtime_client.audio.echo.control import EchoControl
    from realtime_client.audio.echo.onset import Samples
    from realtime_client.audio.microphone import Microphone
    from realtime_client.audio.speaker import Speaker

_LIST_LIMIT_S = 5.0
_LOOK_EVERY_S = 0.02
_GAP_S = 0.1
Warn = Callable[[str], None]


def turn_mode(settings: Settings) -> TurnMode:
    """Return who ends a spoken turn; without turn detection it can only be the key."""
    word = settings.turn_detection
    return TurnMode.PUSH_TO_TALK if word == "none" else TurnMode(word)


class LiveSound:
    """Microphone, speaker and echo control of one session, chosen when it is made, opened by `attached`.

    warn: called with one line about a device that is not there. Errors: UsageError for a flag that names no device;
    MissingExtraError for an echo mode that is not installed.
    """

    def __init__(self, settings: Settings, warn: Warn) -> None:
        self.voice = LiveVoice(mode=turn_mode(settings))
        self.microphone: Microphone | None = None
        self.speaker: Speaker | None = None
        self._settings = settings
        self._warn = warn
        self._session: Session | None = None
        self._echo: EchoControl | None = None
        self._far_block = 0
        self._dropped = threading.Event()
        self._lock = threading.Lock()  # of choosing another device; device threads do not wait for it
        self._follower: Follower | None = None
        self._wishes: dict[Direction, str | None] = {"input": None, "output": None}  # as named; None: any
        self._to_remember: dict[Direction, str | None] = {"input": None, "output": None}  # once it works
        self._following = Trouble()
        self._check_echo()
        self._chosen = self._choose_both()

    # Choice.

    @property
    def possible(self) -> bool:
        """Whether there was any device to use."""
        return any(self._chosen.values())

    def _check_echo(self) -> None:
        if self._settings.echo != "aec":
            return
        from realtime_client.audio.echo.control import aec_available

        if not aec_available():
            raise MissingExtraError("echo cancellation", "aec")

    def _choose_both(self) -> dict[Direction, Device | None]:
        chosen: dict[Direction, Device | None] = {"input": None, "output": None}
        try:
            listed = devices.limited(devices.list_devices, _LIST_LIMIT_S)
        except DeviceError as error:
            self._warn(f"no sound: {error}")
            return chosen
        for direction in self._directions:
            try:
                chosen[direction] = self._choose(direction, listed)
            except DeviceError as error:
                self._warn(str(error))
        return chosen

    @property
    def _directions(self) -> list[Direction]:
        return ["input"] if self._settings.modality == "text" else ["input", "output"]

    def _choose(self, direction: Direction, listed: list[Device]) -> Device:
        """Take the device that a flag names, or fail; else what another source names, or the default with a warning."""
        name = _SETTINGS[direction]
        wanted = self._settings.value(name)
        self._wishes[direction] = devices.remembered(direction) if wanted is None else wanted
        if wanted is None:
            return devices.preferred(None, direction, self._warn, listed)
        try:
            device = devices.choose(wanted, direction, listed)
        except UsageError as error:
            source = self._settings.source(name)
            if self._settings.rank(name) == FLAG:
                raise UsageError(f"{source}: {error}") from None
            self._warn(f"{source}: {error}; using the default")
            return devices.choose(None, direction, listed)
        if self._settings.rank(name) == FLAG:
            self._to_remember[direction] = device.name
        return device

    def _works(self, direction: Direction, name: str) -> None:
        """A device was opened: remember it if it is the one that was asked for."""
        if name != self._to_remember[direction]:
            return
        self._to_remember[direction] = None
        try:
            devices.remember(direction, name)
        except DeviceError as error:
            self._warn(str(error))

    # Life.

    @contextmanager
    def attached(self, session: Session) -> Iterator[None]:
        """Open the devices around an open session; at the end the microphone is closed, and what sounds is cut.

        After a lost connection what has arrived is still played, up to the limit for closing. `close` is left to do.
        """
        self._session = session
        try:
            if self._chosen["output"] is not None:
                self._open_speaker(self._chosen["output"], self._warn)
            self._echo = self._echo_control(self._chosen["input"])
            self.voice.start(session, self.speaker, self._echo)
            if self._chosen["input"] is not None:
                self._open_microphone(self._chosen["input"], self._warn)
            self._follower = Follower(self)
            yield
        finally:
            if self._follower is not None:
                self._follower.close()
            self._silence(session)

    def close(self) -> None:
        """Give the devices back; idempotent."""
        self.voice.close()

    def drop(self) -> None:
        """Close without waiting for what is still to be heard; from any thread."""
        self._dropped.set()

    def _silence(self, session: Session) -> None:
        if self.microphone is not None:
            self.microphone.close()
        if self.speaker is None or self.speaker.idle:
            self.voice.tell_played()
            return
        if session.error is None:
            try:
                session.interrupt("cancel")  # the record then says what was heard of it
            except RealtimeError:
                return
        else:
            deadline = Deadline(self._settings.limits.close_timeout_s)
            while self._is_heard and not (deadline.expired or self._dropped.is_set()):
                self._dropped.wait(deadline.at_most_s(_LOOK_EVERY_S))

    @property
    def _is_heard(self) -> bool:
        """Whether a device still plays what arrived."""
        return self.speaker is not None and self.speaker.device is not None and not self.speaker.idle

    def _open_speaker(self, device: Device, warn: Warn) -> None:
        from realtime_client.audio.speaker import Speaker

        assert self._session is not None
        try:
            speaker = Speaker(
                device, rate_hz=self._session.output_format.rate_hz, on_change=self._changed, on_far=self._far
            )
        except DeviceError as error:
            warn(f"no speaker: {error}")
            return
        speaker.volume = self._settings.volume
        self.speaker = speaker
        self._opened("output", speaker, device, warn)

    def _open_microphone(self, device: Device, warn: Warn) -> None:
        from realtime_client.audio.microphone import Microphone

        assert self._session is not None
        try:
            self.microphone = Microphone(
                device,
                on_block=self.voice.on_block,
                rate_hz=self._session.input_format.rate_hz,
                on_gap=self._gap,
                on_change=self._changed,
                on_fault=self.voice.hearing_failed,
            )
        except DeviceError as error:
            warn(f"no microphone: {error}")
            return
        self.voice.use_microphone(self.microphone)
        self._opened("input", self.microphone, device, warn)

    def _opened(self, direction: Direction, line: Microphone | Speaker, asked: Device, warn: Warn) -> None:
        """Report it if another device than the one asked for was opened."""
        now = line.device
        if now is None:
            return
        if line.refused:
            warn(f"{line.refused}; the {KINDS[direction]} is {now.name}")
        if now.name == asked.name:
            self._works(direction, now.name)

    # Echo.

    def _echo_control(self, microphone: Device | None) -> EchoControl:
        """Make an echo control for the devices in use, with what was measured for them."""
        from realtime_client.audio.echo.control import UNKNOWN_PATH, EchoControl, EchoMode, choose_mode
        from realtime_client.talk import echo_memory

        assert self._session is not None
        near_hz = self._session.input_format.rate_hz
        speaker = None if self.speaker is None else self.speaker.device  # once: it may be lost meanwhile
        if self.speaker is None or speaker is None or microphone is None:
            return EchoControl(near_hz, EchoMode.HEADPHONES)
        advice = echo_memory.recall(speaker.name, microphone.name)
        mode = choose_mode(self._settings.echo, None if advice is None else advice.mode)
        far_hz = self.speaker.rate_hz
        self._far_block = far_hz * devices.BLOCK_MS // 1000
        return EchoControl(
            near_hz,
            mode,
            far_hz=far_hz,
            path=UNKNOWN_PATH if advice is None else advice.path,
            onset=None if advice is None else advice.onset,
        )

    @property
    def echo_mode(self) -> str:
        """What is being done about echo."""
        return "" if self._echo is None else str(self._echo.mode)

    def _far(self, samples: Samples, at_s: float) -> None:
        """Pass on what sounds; for a moment after a change of device its rate may be one the echo does not know."""
        echo = self._echo
        if echo is not None and samples.size == self._far_block:
            echo.far(samples, at_s)

    def _renew_echo(self) -> None:
        """Start over with other devices: neither their rate nor what was measured before holds for them."""
        microphone = None if self.microphone is None else self.microphone.device
        self._echo = self._echo_control(microphone)
        self.voice.use_speaker(self.speaker, self._echo)

    # Changes.

    def _changed(self, change: DeviceChange) -> None:
        now = change.now
        self.voice.device_changed(change.direction, now, said(change), 0)
        if change.fault:
            return
        if change.asked is not None:
            if now == change.asked:
                self._wishes[change.direction] = now
                self._works(change.direction, now)
            self._to_remember[change.direction] = None
        if now is not None:
            self._try_renew_echo()
        if change.direction == "output" and change.gap_s > _GAP_S and now is not None and not self._speaker_idle():
            self.voice.device_changed("output", now, "a gap in what was played", round(change.gap_s * 1000))

    def _try_renew_echo(self) -> None:
        try:
            self._renew_echo()
        except Exception as error:  # noqa: BLE001  # from a thread of the line; what there is goes on
            device = None if self.microphone is None else self.microphone.device
            name = None if device is None else device.name
            self.voice.device_changed("input", name, f"echo control stays as for the devices before: {why(error)}", 0)

    def _speaker_idle(self) -> bool:
        return self.speaker is None or self.speaker.idle

    def _gap(self, duration_s: float) -> None:
        device = None if self.microphone is None else self.microphone.device
        gap_ms = round(duration_s * 1000)
        self.voice.device_changed("input", None if device is None else device.name, "a gap in what was heard", gap_ms)

    def moved(self, direction: Direction, device: str, reason: str) -> None:
        """The sound server put a stream on another device (see `Followed`)."""
        self.voice.device_changed(direction, device, f"the {KINDS[direction]} is now {device} ({reason})", 0)
        self._try_renew_echo()

    def following_failed(self, error: Exception) -> None:
        """Report, once, that a change of devices could not be followed (see `Followed`)."""
        text = self._following.failed(error)
        if text is not None:
            device = None if self.speaker is None else self.speaker.device
            name = None if device is None else device.name
            self.voice.device_changed("output", name, f"devices that come and go: {text}", 0)

    @property
    def silent(self) -> bool:
        """Whether neither microphone nor speaker is open (see `Followed`)."""
        return self.microphone is None and self.speaker is None

    def place(self, direction: Direction) -> str | None:
        """Return the device behind one that merely leads to the sound server's choice; None if it is not known."""
        current = self._current(direction)
        device = None if current is None else current.device
        if self._follower is None or device is None or not device.follows:
            return None
        return self._follower.place(direction)

    @property
    def lacking(self) -> bool:
        """Whether microphone or speaker is missing, though wanted (see `Followed`)."""
        return any(self._current(direction) is None for direction in self._directions)

    def devices_came(self, *, plugged: bool) -> None:
        """Open what is missing, and go back to what was chosen, as far as it is there (see `Followed`).

        plugged: a device has just been plugged in, so reading the list is worth a pause of what is open. Errors:
        DeviceError.
        """
        with self._lock:
            listed = self._listed(again=self.silent)
            if (
                plugged
                and not self.silent
                and any(self._is_missing(direction, listed) for direction in self._directions)
            ):
                listed = self._listed(again=True)
            for direction in self._directions:
                wish, current = self._wished(direction, listed), self._current(direction)
                if current is None:
                    self._pick_up(direction, wish, listed)
                for line in open_lines(direction) if plugged else ():
                    line.look_again(wish)

    def _current(self, direction: Direction) -> Microphone | Speaker | None:
        return self.microphone if direction == "input" else self.speaker

    def _is_missing(self, direction: Direction, listed: list[Device]) -> bool:
        """Tell whether the list lacks what is wanted, which may have been plugged in since it was read."""
        if self._wishes[direction] is None:
            return self._current(direction) is None and not any(device.serves(direction) for device in listed)
        return self._wished(direction, listed) is None

    def _wished(self, direction: Direction, listed: list[Device]) -> Device | None:
        """Return the device that was asked for, if it is there."""
        wish = self._wishes[direction]
        if wish is None:
            return None
        try:
            return devices.choose(wish, direction, listed)
        except RealtimeError:
            return None

    def _pick_up(self, direction: Direction, wish: Device | None, listed: list[Device]) -> None:
        """Begin to use a device that was not there at the start; nothing is said if there is none yet."""
        try:
            device = wish or devices.choose(None, direction, listed)
        except DeviceError:
            return
        self._open(direction, device, lambda _text: None)
        current = self._current(direction)
        if current is not None and current.device is not None:
            name = current.device.name
            self.voice.device_changed(direction, name, f"the {KINDS[direction]} is now {name} (it has come)", 0)

    def _open(self, direction: Direction, device: Device, warn: Warn) -> None:
        if direction == "input":
            self._open_microphone(device, warn)
        else:
            self._open_speaker(device, warn)
            self._ask_for_sound()
        self._renew_echo()

    def _ask_for_sound(self) -> None:
        """A session that began without a speaker may have asked for text only."""
        if self.speaker is not None and self._session is not None and "audio" not in self._session.facts.modalities:
            self._session.change(Changes(modality="audio"))

    def current_devices(self) -> list[Device]:
        """Return the current devices; the sound pauses for a moment if they may have changed. Errors: DeviceError."""
        with self._lock:
            return self._listed(again=self._may_have_changed)

    @property
    def _may_have_changed(self) -> bool:
        return self._follower is None or self._follower.changed or not self._follower.works

    def _listed(self, *, again: bool) -> list[Device]:
        if again and rescan() and self._follower is not None:
            self._follower.changed = False
        return devices.limited(devices.list_devices, _LIST_LIMIT_S)

    def use(self, direction: Direction, wanted: str) -> Device:
        """Move to another device, and remember it once it works. If it does not, that is reported, and nothing changes.

        Errors: UsageError for a name that fits none or several, with the names that there are; DeviceError.
        """
        with self._lock:
            listed = self._listed(again=self.silent or (self._follower is not None and self._follower.changed))
            device = devices.choose(wanted, direction, listed)
            self._to_remember[direction] = device.name
            current = self._current(direction)
            if current is not None:
                current.use(device)
            else:
                self._open(direction, device, self._warn)
                current = self._current(direction)
                if current is not None and current.device is not None and current.device.name == device.name:
                    self._wishes[direction] = device.name
            return device


_SETTINGS: dict[Direction, str] = {"input": "mic", "output": "speaker"}
