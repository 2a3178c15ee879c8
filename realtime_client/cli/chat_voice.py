"""Voice in a chat: the commands and the key that steer it, the row that shows it, and what is said about devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from realtime_client import updates as up
from realtime_client.audio.devices import KINDS, Device, DeviceError, Direction
from realtime_client.cli.screen import Screen
from realtime_client.cli.status import Status
from realtime_client.cli.talk_key import TalkSwitch
from realtime_client.errors import UsageError
from realtime_client.escape import one_line
from realtime_client.talk.assembly import LiveSound
from realtime_client.talk.turns import TurnMode

if TYPE_CHECKING:
    from realtime_client.audio.microphone import Microphone
    from realtime_client.audio.speaker import Speaker

_STEERING_HELP = """\
  .mute .unmute  silence the microphone, or let it be heard again
  .volume [N]    set the volume of the answers, 0 to 1 or in percent; or show it
  .mode [WORD]   choose who ends your turn: vad (silence), semantic (meaning) or
                 ptt (a key); or show it
  .talk          with ptt, begin or end your turn, as F2 and Ctrl-Space do (held
                 down, where the terminal reports that a key is let go)
"""
_DEVICES_HELP = """\
  .devices       list microphones and speakers, those in use marked; where no
                 sound server tells of changes, sound pauses while it looks
  .mic NAME      use another microphone, now and later: its index or a part of
                 its name
  .speaker NAME  use another speaker, likewise"""

_MODES = {
    "vad": TurnMode.SERVER_VAD,
    "server_vad": TurnMode.SERVER_VAD,
    "semantic": TurnMode.SEMANTIC_VAD,
    "semantic_vad": TurnMode.SEMANTIC_VAD,
    "ptt": TurnMode.PUSH_TO_TALK,
}
_MODE_TEXTS = {
    TurnMode.SERVER_VAD: "silence ends your turn",
    TurnMode.SEMANTIC_VAD: "the server judges by what you say when your turn ends",
    TurnMode.PUSH_TO_TALK: "F2 (or Ctrl-Space, or .talk) begins and ends your turn",
}
_LONG_GAP_MS = 500


class ChatVoice:
    """Steers the live sound of one session. answering: whether an answer runs or is asked for.

    away: there is no connection; set by whoever is told so.
    """

    @property
    def help(self) -> str:
        """The lines that list its commands; without any device, those that may get one."""
        silent = self._sound.microphone is None and self._sound.speaker is None
        return _DEVICES_HELP if silent else _STEERING_HELP + _DEVICES_HELP

    @property
    def listens(self) -> bool:
        """Whether there is a microphone to speak into."""
        return self._sound.microphone is not None

    @property
    def commands(self) -> list[str]:
        """The names of its commands."""
        return list(_COMMANDS)

    def __init__(self, sound: LiveSound, screen: Screen, answering: Callable[[], bool]) -> None:
        self._sound = sound
        self._voice = sound.voice
        self._screen = screen
        self._answering = answering
        self.away = False  # there is no connection
        self._switch = TalkSwitch(sound.voice.key)

    # What is shown

    @property
    def playing(self) -> bool:
        """Whether something is still to be heard."""
        return self._sound.speaker is not None and not self._sound.speaker.idle

    def greeting(self) -> str:
        """Return the line that says what one can do."""
        if not self._sound.possible:
            return "type a line to talk, .help for more, .quit to end"
        if self._sound.microphone is None:
            return "no microphone: type a line to talk, .help for more, .quit to end"
        how = "press F2 and speak" if self._voice.mode is TurnMode.PUSH_TO_TALK else "speak"
        return f"{how}, or type a line; .help for more, .quit to end"

    def status(self) -> Status | None:
        """Return what the row at the bottom shows now; None, for no row, while there is no device."""
        voice, speaker, microphone = self._voice, self._sound.speaker, self._sound.microphone
        if _name(speaker) is None and _name(microphone) is None:
            return None
        by_key = voice.mode is TurnMode.PUSH_TO_TALK
        playing = self.playing
        muted = microphone is not None and microphone.muted
        return Status(
            microphone=_name(microphone),
            speaker=_name(speaker),
            microphone_dbfs=-96.0 if microphone is None or muted else microphone.level_dbfs,
            speaker_dbfs=speaker.level_dbfs if speaker is not None and playing else -96.0,
            user_speaks=voice.user_speaking and not muted,
            assistant_speaks=playing,
            thinking=not playing and self._answering(),
            muted=muted,
            push_to_talk=voice.key.pressed if by_key else None,
            away=self.away,
        )

    def device_changed(self, update: up.DeviceChanged) -> None:
        """Show that a device was lost or replaced. A short gap in what it heard is only recorded."""
        reason = one_line(update.reason)
        if update.gap_ms:
            if update.gap_ms >= _LONG_GAP_MS:
                self._screen.notice(f"[{reason}: {update.gap_ms} ms]")
            return
        if update.device is None:
            speaker, microphone = _name(self._sound.speaker), _name(self._sound.microphone)
            rest = "type a line to talk" if update.direction == "input" else "answers are shown, not heard"
            reason += ": the session goes on in text" if speaker is None and microphone is None else f": {rest}"
        self._screen.notice(f"[{reason}]")

    def transcript(self, update: up.UserTranscript) -> None:
        """Show what was said; it may come after the answer has begun."""
        if update.text.strip():
            self._screen.notice(f"> {one_line(update.text.strip(), 2_000)}  (spoken)")

    # What the person wishes

    def take(self, word: str, rest: str) -> bool:
        """Take a command; False if there is none with this name. Errors: UsageError."""
        command = _COMMANDS.get(word)
        if command is None:
            return False
        command(self, rest)
        return True

    def press(self) -> None:
        """The talk key was pressed."""
        if self._ready_to_talk():
            self._switch.press()

    def release(self) -> None:
        """The talk key was released, as far as the terminal can tell."""
        self._switch.release()

    def _ready_to_talk(self) -> bool:
        if self._sound.microphone is None:
            self._screen.notice("[there is no microphone]")
        elif self._voice.mode is not TurnMode.PUSH_TO_TALK:
            self._screen.notice("[push-to-talk is off; .mode ptt turns it on]")
        else:
            return True
        return False

    def talk(self, _rest: str) -> None:
        """Begin or end a turn."""
        self.press()

    def mute(self, _rest: str) -> None:
        """Mute the microphone."""
        self._microphone().muted = True
        self._screen.notice("[the microphone is muted; .unmute ends that]")

    def unmute(self, _rest: str) -> None:
        """Unmute the microphone."""
        self._microphone().muted = False
        self._screen.notice("[the microphone is on]")

    def volume(self, rest: str) -> None:
        """Set or show the volume of the answers."""
        speaker = self._sound.speaker
        if speaker is None:
            raise UsageError("there is no speaker")
        if rest:
            speaker.volume = _gain(rest)
        self._screen.notice(f"[the volume is {speaker.volume:g}]")

    def mode(self, rest: str) -> None:
        """Set or show who ends a turn."""
        if rest:
            mode = _MODES.get(rest.lower())
            if mode is None:
                raise UsageError(f"{rest!r} is no mode; there are vad, semantic and ptt")
            self._voice.set_mode(mode)
        self._screen.notice(f"[{_MODE_TEXTS[self._voice.mode]}]")

    def list_devices(self, _rest: str) -> None:
        """Show the devices, those in use marked."""
        try:
            listed = self._sound.current_devices()
        except DeviceError as error:
            raise UsageError(str(error)) from None
        self._screen.notice("\n".join([*self._rows("input", listed), *self._rows("output", listed)]))

    def _rows(self, direction: Direction, listed: list[Device]) -> list[str]:
        in_use = _name(self._sound.microphone if direction == "input" else self._sound.speaker)
        place = self._sound.place(direction)
        rows = [f"{KINDS[direction]}s:"]
        for device in listed:
            if device.serves(direction):
                mark = "*" if device.name == in_use else " "
                now = f" (now {one_line(place)})" if mark == "*" and place else ""
                rows.append(f" {mark}{device.index:3}  {one_line(device.name)}{now}")
        return rows if len(rows) > 1 else [*rows, "      none"]

    def use_microphone(self, rest: str) -> None:
        """Move to another microphone."""
        self._use("input", rest)

    def use_speaker(self, rest: str) -> None:
        """Move to another speaker."""
        self._use("output", rest)

    def _use(self, direction: Direction, wanted: str) -> None:
        if not wanted:
            raise UsageError(f"name a {KINDS[direction]}: its index or a part of its name; .devices lists them")
        try:
            device = self._sound.use(direction, wanted)
        except DeviceError as error:
            raise UsageError(str(error)) from None
        self._screen.notice(f"[asked for the {KINDS[direction]} {one_line(device.name)}]")

    def _microphone(self) -> Microphone:
        if self._sound.microphone is None:
            raise UsageError("there is no microphone")
        return self._sound.microphone


_COMMANDS: dict[str, Callable[[ChatVoice, str], None]] = {
    ".mute": ChatVoice.mute,
    ".unmute": ChatVoice.unmute,
    ".volume": ChatVoice.volume,
    ".mode": ChatVoice.mode,
    ".talk": ChatVoice.talk,
    ".devices": ChatVoice.list_devices,
    ".mic": ChatVoice.use_microphone,
    ".speaker": ChatVoice.use_speaker,
}


def _name(line: Microphone | Speaker | None) -> str | None:
    device = None if line is None else line.device
    return None if device is None else device.name


def _gain(text: str) -> float:
    """Return a volume from 0 to 1; what is above 1, or ends in %, is percent."""
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = -1.0
    if text.endswith("%") or value > 1:
        value /= 100
    if not 0 <= value <= 1:
        raise UsageError("the volume is a number from 0 to 1, or from 0% to 100%")
    return value
