"""The live voice of one session.

    microphone thread   block -> echo control -> session.send_audio; local onset of speech cuts the answer at once
    receive thread      AudioDelta -> speaker (a direct observer: no hand-off between the wire and the sound)
    devices thread      what the speaker has played, and changes of device -> session.tell
    device callbacks    only move samples

Interruption. Whoever cuts an answer (the server's speech_started, typed text, the local onset, the push-to-talk key)
goes through the conversation, which asks `heard_ms` where playback stands. The first such question drops what is still
to be played, so the position that it returns is the one that was really heard. It is asked with the session's lock
held: the speaker makes no call into a device there; a thread of its own does that at once.

Whatever fails between the devices and the session (a block that cannot be sent, sound that cannot be played) is told
when it begins and when it is over, and what follows is tried again: nobody goes deaf or mute without a word.
"""

from __future__ import annotations

import contextlib
import math
import queue
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from realtime_client import updates as up
from realtime_client.audio.faults import Trouble
from realtime_client.errors import ClosedError, UsageError
from realtime_client.session.session import Session

from .turns import TalkKey, TurnMode, changes_for

if TYPE_CHECKING:
    from realtime_client.audio.echo.control import EchoControl
    from realtime_client.audio.echo.onset import Samples
    from realtime_client.audio.microphone import Microphone
    from realtime_client.audio.speaker import Played, Speaker

BLOCK_MS = 20
TELL_EVERY_S = 0.1
_CAPTURE_TOLERANCE_S = 0.003
_ENOUGH = 50  # blocks of the microphone, or pieces of an answer, that went well: then a trouble is over


class LiveVoice:
    """Microphone, speaker, echo control and turn mode around one session.

    Make it first and hand `heard_ms` to the session; `start` when the session is open. Either device may be None: what
    is missing is left out, and the rest works.
    """

    def __init__(self, *, mode: TurnMode = TurnMode.SERVER_VAD, local_onset: bool = True) -> None:
        self.mode = mode
        self.key = TalkKey()
        self.user_speaking = False
        self.interruptions = 0
        self._sent_s = 0.0
        self._captured_s = (
            math.inf
        )  # when the first of all that was sent would have been captured, had there been no gaps
        self._local_onset = local_onset
        self._session: Session | None = None
        self._speaker: Speaker | None = None
        self._microphone: Microphone | None = None
        self._echo: EchoControl | None = None
        self._cut: dict[tuple[str, int], None] = {}
        self._coming: tuple[str, tuple[str, int]] | None = None  # an answer, and the part of it that has not ended
        self._removers: list[Callable[[], None]] = []
        self._news: queue.Queue[up.Update | None] = queue.Queue(64)
        self._hearing, self._playing, self._passing = Trouble(_ENOUGH), Trouble(_ENOUGH), Trouble(_ENOUGH)
        self._telling = threading.Lock()  # two threads may report, but in order
        self._teller = threading.Thread(target=self._tell, name="realtime-devices", daemon=True)

    # --- life ---------------------------------------------------------------------------------------------------------

    def start(self, session: Session, speaker: Speaker | None, echo: EchoControl) -> None:
        """Begin, once the session is open; the microphone then calls `on_block`."""
        self._session, self._speaker, self._echo = session, speaker, echo
        if speaker is not None:
            session.tell(up.SpeakerAttached(attached=True))
        self._removers.append(session.observe(self._listen, direct=True))
        self._teller.start()

    def use_speaker(self, speaker: Speaker | None, echo: EchoControl) -> None:
        """Go on with another speaker, or another echo control for its new rate."""
        before = self._speaker
        self._speaker, self._echo = speaker, echo
        if (before is None) != (speaker is None):
            self._put_news(up.SpeakerAttached(attached=speaker is not None))

    def use_microphone(self, microphone: Microphone | None) -> None:
        """Name the microphone that calls `on_block`, for levels, mute and `close`."""
        self._microphone = microphone

    def close(self) -> None:
        """Close the devices and end the thread. Idempotent."""
        for remove in self._removers:
            remove()
        self.tell_played()
        self._session = None
        with contextlib.ExitStack() as stack:  # each is closed, whatever the others do
            if self._teller.ident:
                stack.callback(self._teller.join, 5)
                stack.callback(self._put_news, None)
            for device in (self._speaker, self._microphone):
                if device is not None:
                    stack.callback(device.close)

    @property
    def underruns(self) -> int:
        """How often the speaker had nothing to play in the middle of an answer; 0 without a speaker."""
        return 0 if self._speaker is None else self._speaker.underruns

    # --- microphone thread --------------------------------------------------------------------------------------------

    def on_block(self, samples: Samples, at_s: float) -> None:
        """Take 20 ms of the microphone: int16, mono, at the session's input rate."""
        session = self._session
        if session is None or session.stop.is_set():  # the session is over; `session.error` says why
            return
        try:
            self._hear(session, samples, at_s)
        except Exception as error:  # noqa: BLE001  # told; the next block may pass
            self.hearing_failed(error)
        else:
            if self._hearing.worked():
                self.device_changed("input", _name(self._microphone), "the microphone is heard again", 0)

    def hearing_failed(self, error: Exception) -> None:
        """Report, once, that what the microphone captures does not reach the session. For the microphone's thread."""
        self._failed("input", self._hearing, "the microphone is not heard", error)

    def _hear(self, session: Session, samples: Samples, at_s: float) -> None:
        echo = self._echo
        assert echo is not None
        before = self.user_speaking
        sound = echo.near(samples, at_s)
        at_s -= echo.delay_ms / 1000
        self.user_speaking = echo.speech
        if self.user_speaking and not before and self._local_onset and self._may_interrupt():
            self.interruptions += session.interrupt("speech")
        if self.mode is TurnMode.PUSH_TO_TALK:
            self._push_to_talk(session, sound, at_s)
        elif sound.size:
            self._send(session, sound, at_s)

    def _may_interrupt(self) -> bool:
        """Whether speech now speaks over an answer."""
        return self.mode is not TurnMode.PUSH_TO_TALK and self._speaker is not None and not self._speaker.idle

    def _send(self, session: Session, sound: Samples, at_s: float) -> None:
        """Send what was captured at `at_s`, and report that time if it does not continue what was sent before."""
        captured_s = at_s - self._sent_s
        if abs(captured_s - self._captured_s) > _CAPTURE_TOLERANCE_S:
            self._captured_s = captured_s
            self._pass_on(session, up.Captured(at_ms=self._sent_s * 1000, at_s=at_s))
        session.send_audio(self._encode(session, sound))
        self._sent_s += sound.size / session.input_format.rate_hz

    def _push_to_talk(self, session: Session, sound: Samples, at_s: float) -> None:
        begins, sends, ends = self.key.step()
        if begins:
            session.interrupt("speech")
            session.clear_input()
        if sends and sound.size:
            self._send(session, sound, at_s)
        if ends:
            try:
                session.commit()
            except UsageError:  # a tap: less than servers take
                session.clear_input()
            else:
                session.respond()

    @staticmethod
    def _encode(session: Session, sound: Samples) -> bytes:
        """Samples as the session's input format wants them."""
        if session.input_format.encoding == "pcm16":
            return bytes(sound.tobytes())
        from realtime_client.audio.g711 import encode

        return encode(sound.tobytes(), session.input_format.encoding)

    # --- receive thread -----------------------------------------------------------------------------------------------

    def _listen(self, update: up.Update, at_s: float) -> None:
        """Hand audio to the speaker (a direct observer)."""
        speaker = self._speaker
        if speaker is None:
            return
        try:
            if type(update) is up.AudioDelta:
                part = (update.item_id, update.content_index)
                self._coming = (update.response_id, part)
                if part not in self._cut:
                    speaker.play(part, self._decode(update.audio), self._output_rate_hz(), at_s)
                if self._playing.worked():
                    self.device_changed("output", _name(speaker), "answers are heard again", 0)
            elif isinstance(update, up.AudioDone):
                self._ended(speaker, (update.item_id, update.content_index))
            elif isinstance(update, up.ResponseDone) and self._coming and self._coming[0] == update.response_id:
                self._ended(speaker, self._coming[1])  # it broke off
        except Exception as error:  # noqa: BLE001  # told; the answer is shown all the same
            self._failed("output", self._playing, "the answer is not heard", error)

    def _ended(self, speaker: Speaker, part: tuple[str, int]) -> None:
        """No more of a part comes: it is heard to its last sample."""
        if self._coming is not None and self._coming[1] == part:
            self._coming = None
        speaker.end(part)

    def _failed(self, direction: str, trouble: Trouble, what: str, error: Exception) -> None:
        """Report a trouble, once, unless it is that the session is over."""
        session = self._session
        if session is None or session.stop.is_set() or isinstance(error, ClosedError):
            return
        text = trouble.failed(error)
        if text is not None:
            line = self._microphone if direction == "input" else self._speaker
            self.device_changed(direction, _name(line), f"{what}: {text}", 0)

    def _decode(self, audio: bytes) -> bytes:
        """PCM of what came."""
        session = self._session
        if session is None or session.output_format.encoding == "pcm16":
            return audio
        from realtime_client.audio.g711 import decode

        return decode(audio, session.output_format.encoding)

    def _output_rate_hz(self) -> int:
        session = self._session
        return 24_000 if session is None else session.output_format.rate_hz

    def heard_ms(self, item_id: str, content_index: int) -> int | None:
        """How much of a part was heard, now that it is cut; the session asks.

        The first question of an interruption drops what the device holds. None when nothing plays here.
        """
        speaker = self._speaker
        if speaker is None:
            return None
        self._cut[item_id, content_index] = None
        while len(self._cut) > 64:
            del self._cut[next(iter(self._cut))]
        try:
            if not speaker.idle:
                speaker.cut()
            return speaker.heard_ms(item_id, content_index)
        except Exception as error:  # noqa: BLE001  # whoever interrupts goes on
            self._failed("output", self._playing, "what was heard of the answer is not known", error)
            return None

    # --- the user's wishes --------------------------------------------------------------------------------------------

    def set_mode(self, mode: TurnMode) -> None:
        """Change who ends a turn, in the running session."""
        session = self._session
        self.key.release()
        self.mode = mode
        if session is not None:
            session.change(changes_for(mode))
            session.clear_input()

    # --- devices ------------------------------------------------------------------------------------------------------

    def device_changed(self, direction: str, device: str | None, reason: str, gap_ms: int) -> None:
        """Tell the session that a device was lost or replaced; from any thread, does not wait."""
        self._put_news(up.DeviceChanged(direction=direction, device=device, reason=reason, gap_ms=gap_ms))

    def _put_news(self, update: up.Update | None) -> None:
        while True:
            try:
                self._news.put_nowait(update)
            except queue.Full:  # dozens of changes a second: the last one counts
                with contextlib.suppress(queue.Empty):
                    self._news.get_nowait()
            else:
                return

    def tell_played(self) -> None:
        """Tell the session what was heard since the last time; that happens by itself ten times a second.

        For the end of a session; never from a callback of a device.
        """
        speaker, session = self._speaker, self._session
        if speaker is None or session is None:
            return
        with self._telling:
            for (item_id, content_index), from_ms, to_ms, at_s in self._played(speaker):
                self._pass_on(
                    session,
                    up.Audible(item_id=item_id, content_index=content_index, from_ms=from_ms, to_ms=to_ms, at_s=at_s),
                )

    def _played(self, speaker: Speaker) -> Sequence[Played]:
        try:
            return speaker.played()
        except Exception as error:  # noqa: BLE001  # told; the session goes on
            self._failed("output", self._passing, "what was heard is not recorded", error)
            return ()

    def _pass_on(self, session: Session, update: up.Update) -> None:
        """Tell the session. A direct observer may raise after others were told."""
        try:
            session.tell(update)
        except Exception as error:  # noqa: BLE001  # told; what follows is passed on
            self._failed("output", self._passing, "not everybody was told of the sound", error)
        else:
            self._passing.worked()

    def _tell(self) -> None:
        """Pass on news in a thread for which no device waits."""
        while True:
            try:
                update = self._news.get(timeout=TELL_EVERY_S)
            except queue.Empty:
                self.tell_played()
                continue
            if update is None:
                return
            self.tell_played()
            session = self._session
            if session is not None and not session.stop.is_set():
                self._pass_on(session, update)


def _name(line: Microphone | Speaker | None) -> str | None:
    """Return the name of the device that a microphone or speaker uses; None if it uses none."""
    device = None if line is None else line.device
    return None if device is None else device.name
