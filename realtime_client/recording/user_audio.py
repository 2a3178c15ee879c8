"""The user's sound: one file for each spoken turn, and its place in conversation.wav.

With voice detection the server says afterwards where a turn began, so what was sent waits in a ring on disk (10
minutes) until that is known. Without it, everything sent since the last commit is the turn, and goes to its file as it
comes.

A server may be lost before it has made an item of what it heard. Another one gets that sound again and finds the turn
anew, under a name of its own: it is one turn then, with one file.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path

from realtime_client import updates as up
from realtime_client.audio import g711
from realtime_client.audio.resample import resample

from .assistant_audio import FlacMaker, new_turn_file
from .folder import CONVERSATION
from .journal_line import AudioPlace
from .look_back import LookBack
from .speaking import Speaking
from .stereo import Stereo
from .timeline import RATE_HZ
from .transcripts import Transcript
from .turns import Turn
from .user_places import UserPlaces

LOOK_BACK_S = 600
_AHEAD_S = 30.0  # at most this much of what a server heard may still be on its way here
_MOST_ENDING = 8


class UserAudio:
    """Writes what the user sends. Errors of every method: OSError.

    What the server says about a sound may arrive before the sound itself: each comes from a thread of its own.
    """

    def __init__(self, folder: Path, stereo: Stereo, transcript: Transcript, flac: FlacMaker) -> None:
        self.format = up.PCM16_24K
        self.manual = False
        self.seconds = 0.0
        self._folder = folder
        self._stereo = stereo
        self._transcript = transcript
        self._flac = flac
        self._look_back = LookBack(folder, LOOK_BACK_S * RATE_HZ * 2)
        self._places = UserPlaces(stereo)
        self.captured = self._places.captured
        self.pause = self._places.pause
        self._odd = b""
        self._begun = False
        self._origin = 0  # input position where the present format began
        self._origin_ms = 0.0
        self._claimed = 0  # everything before belongs to a turn
        self._commit_at: deque[int] = deque(maxlen=64)
        self._speaking: Speaking | None = None
        self._ending: list[Speaking] = []  # their end is known, their last sound is not here yet
        self._sealed: deque[Speaking] = deque()  # committed, not yet confirmed
        self._early: deque[up.InputCommitted] = deque(maxlen=64)
        self._refused = 0
        self._heard: Speaking | None = None  # by voice detection, to its end; not yet an item
        self._forgotten: Speaking | None = None  # its server was lost before it was an item
        self._restored_at = 0

    # --- settings -----------------------------------------------------------------------------------------------------

    def session_begins(self, at_s: float) -> None:
        """A session of the server begins (the first, or one after a loss): it counts from here."""
        first, self._begun = not self._begun, True
        if first:
            return  # what is sent before the greeting counts, too
        self._end_speaking(at_s, "incomplete")
        self._end_all(at_s)
        while self._sealed:
            self._finish(self._sealed.popleft(), at_s, "incomplete")
        self._origin = self._claimed = self._look_back.end
        self._origin_ms = 0.0
        self._forgotten = self._heard = None
        self._early.clear()
        self._commit_at.clear()
        self._refused = 0

    def configure(self, audio: up.AudioFormat, *, manual: bool, at_s: float) -> None:
        """Take the session's settings: the input format, and whether the client commits by itself."""
        if audio != self.format:
            self._end_speaking(at_s)
            self._end_all(at_s)
            self._forgotten = self._heard = None
            self._places.flush()
            self._origin_ms += (self._look_back.end - self._origin) / (2 * self.format.rate_hz) * 1000
            self._origin = self._claimed = self._look_back.end
            self.format, self._odd, self._places.rate_hz = audio, b"", audio.rate_hz
        if manual != self.manual:
            self._early.clear()
            self._refused = 0
        self.manual = manual

    def _at_ms(self, ms: float) -> int:
        """Input position of an offset that the server states in ms; impossible ones are clipped."""
        sent_s = (self._look_back.end - self._origin) / (2 * self.format.rate_hz)
        stated_ms = min(max(ms, 0), self._origin_ms + (sent_s + _AHEAD_S) * 1000)
        samples = round((stated_ms - self._origin_ms) * self.format.rate_hz / 1000)
        return self._origin + 2 * max(0, samples)

    # --- sound --------------------------------------------------------------------------------------------------------

    def append(self, audio: bytes, at_s: float) -> AudioPlace:
        """Take sound that was sent; returns where it is in conversation.wav."""
        pcm = self._decode(audio)
        begin = self._look_back.end
        self.seconds += len(pcm) / (2 * self.format.rate_hz)
        self._look_back.write(pcm)
        start, frames, broken_at = self._places.put(pcm, begin)
        speaking = self._speaking
        if speaking is not None:
            if broken_at is not None and broken_at > speaking.first:
                self._note_place(speaking, broken_at, start)
            if speaking.filled == begin:
                speaking.wav.write(pcm)
                speaking.filled += len(pcm)
            else:
                speaking.fill(self._look_back)
            speaking.turn.end = start + frames
        elif self.manual and pcm:
            self._begin_manual(begin)
        if self._ending:
            self._end_filled(at_s)
        return AudioPlace(CONVERSATION, start * 4, frames * 4, "left")

    def _decode(self, audio: bytes) -> bytes:
        if self.format.encoding != "pcm16":
            return g711.decode(audio, self.format.encoding)
        if self._odd or len(audio) & 1:
            audio = self._odd + audio
            audio, self._odd = audio[: len(audio) & ~1], audio[len(audio) & ~1 :]
        return audio

    def _note_places(self, speaking: Speaking) -> None:
        for begin, frame in self._places.stretches(speaking.first, speaking.last):
            self._note_place(speaking, begin, frame)

    def _note_place(self, speaking: Speaking, begin: int, frame: int) -> None:
        """From this input position on, the turn's sound is there."""
        self._stereo.spoken(speaking.name, self._places.frames(begin - speaking.first), frame)

    # --- turns --------------------------------------------------------------------------------------------------------

    def speech_started(self, update: up.SpeechStarted, at_s: float) -> None:
        """The server hears the user speak."""
        if self.manual:
            return
        first = self._at_ms(update.at_ms)
        if self._is_heard_again(first, at_s):
            self._go_on(update.item_id, first, at_s)
            return
        self._end_speaking(at_s)
        claimed = min(self._claimed, self._look_back.end)  # it cannot mean more: this turn comes after it
        self._begin(self._transcript.turn(update.item_id, "user"), max(first, claimed))

    def speech_stopped(self, update: up.SpeechStopped, at_s: float) -> None:
        """The server hears that the user stopped."""
        if not self.manual:
            self._end_speaking(at_s, last=self._at_ms(update.at_ms))

    def commit_sent(self, at_s: float) -> None:
        """The client commits: what comes from now on belongs to the next turn."""
        if not self.manual:
            self._commit_at.append(self._look_back.end)
            return
        if self._refused:
            self._refused -= 1
            return
        self._stereo.timeline.user_turn_over()
        self._claimed = self._look_back.end
        if self._speaking is None:
            return
        speaking, self._speaking = self._speaking, None
        speaking.last = self._claimed
        if speaking.confirmed:
            self._finish(speaking, at_s)
        else:
            speaking.wav.flush()
            self._sealed.append(speaking)

    def commit_refused(self) -> None:
        """The server refused a commit: the sound stays in its buffer and belongs to the next turn."""
        if self._commit_at:
            self._commit_at.popleft()
        if self.manual and not self._sealed:
            self._refused += 1
        elif self._sealed and self._speaking is None:
            self._speaking = self._sealed.pop()
            self._speaking.last = None

    def clear_sent(self, at_s: float) -> None:
        """The client throws away what it has not committed."""
        self._end_speaking(at_s, "cleared")
        self._give_up(at_s, "cleared")
        self._claimed = self._look_back.end

    def committed(self, update: up.InputCommitted, at_s: float) -> None:
        """The server made the sound an item."""
        self.confirmed(update.item_id)
        if self._sealed:
            speaking = self._sealed.popleft()
            self._transcript.bind(speaking.turn, update.item_id, update.previous_item_id)
            self._finish(speaking, at_s)
            return
        if self.manual:
            if self._speaking is None or self._speaking.confirmed:
                self._early.append(update)
            else:
                self._speaking.confirmed = True
                self._transcript.bind(self._speaking.turn, update.item_id, update.previous_item_id)
            return
        commit_at = self._commit_at.popleft() if self._commit_at else self._look_back.end
        turn = self._transcript.find(update.item_id)
        if turn is None and self._forgotten is not None:  # without a word on where it begins
            self._go_on(update.item_id, self._forgotten.first, at_s)
        if self._speaking is not None:
            self._end_speaking(at_s, last=commit_at)
        elif turn is None or not turn.files:
            self._whole(self._transcript.turn(update.item_id, "user"), self._claimed, commit_at, at_s)

    # --- a turn whose server was lost ---------------------------------------------------------------------------------

    def confirmed(self, item_id: str) -> None:
        """What was heard is an item."""
        if self._heard is not None and self._heard.turn.item_id == item_id:
            self._heard = None

    def forgotten(self, item_id: str, at_s: float) -> None:
        """The server that heard a turn is lost, and had not made an item of it: it goes on until it is heard again."""
        heard = [each for each in (self._speaking, self._heard) if each is not None and each.turn.item_id == item_id]
        if not heard or self.manual:
            return
        if heard[0] is not self._forgotten:
            self._give_up(at_s)
        self._forgotten, self._heard = heard[0], None
        if self._forgotten is not self._speaking:
            self._claimed = self._forgotten.after
        self._restored_at = self._look_back.end

    def restored(self) -> None:
        """Another server gets all sound so far that is in no item."""
        self._restored_at = self._look_back.end

    def _is_heard_again(self, first: int, at_s: float) -> bool:
        """Whether speech that begins there is the turn that the server before had heard; else that one is not found."""
        known = self._forgotten
        if known is not None and first >= (self._restored_at if known.last is None else known.last):
            self._give_up(at_s)
        return self._forgotten is not None

    def _give_up(self, at_s: float, status: str = "incomplete") -> None:
        """Nobody hears it again: it stays as it is known."""
        known, self._forgotten = self._forgotten, None
        if known is None:
            return
        known.turn.reason = "lost"
        if known is self._speaking:
            self._end_speaking(at_s, status, last=self._restored_at)
        else:
            self._claimed = max(self._claimed, known.last or 0)
            self._transcript.spoken(known.turn, at_s, status)

    def _go_on(self, item_id: str, first: int, at_s: float) -> None:
        """It is heard again, as another item, and holds what either server heard of it."""
        known, self._forgotten = self._forgotten, None
        assert known is not None
        first = max(min(first, known.first), min(self._claimed, known.first), self._look_back.begin)
        if known is self._speaking and first >= known.first:
            self._transcript.again(known.turn, item_id)
            return
        if known is self._speaking:
            self._speaking = None
        self._end_speaking(at_s)
        self._ending = [each for each in self._ending if each is not known]
        known.discard(self._folder)
        self._transcript.again(known.turn, item_id)
        self._begin(known.turn, first)

    # --- turns known as a whole ---------------------------------------------------------------------------------------

    def timed_out(self, update: up.InputTimedOut, at_s: float) -> None:
        """The user's silence became an item."""
        turn = self._transcript.turn(update.item_id, "user")
        self._whole(turn, self._at_ms(update.start_ms), self._at_ms(update.end_ms), at_s)

    def item(self, audio: bytes, item_id: str, at_s: float) -> AudioPlace:
        """Take sound that was sent as an item of its own: a turn at once."""
        pcm = audio[: len(audio) & ~1]
        if self.format.encoding != "pcm16":
            pcm = g711.decode(audio, self.format.encoding)
        turn = self._transcript.turn(item_id, "user")
        name, wav = new_turn_file(self._folder, turn, self.format.rate_hz)
        wav.write(pcm)
        self.seconds += len(pcm) / (2 * self.format.rate_hz)
        self._stereo.timeline.user_turn_over()
        turn.start = self._stereo.user(resample(pcm, self.format.rate_hz, RATE_HZ))
        turn.end = self._stereo.timeline.user_end
        self._stereo.timeline.user_turn_over()
        wav.close()
        self._flac.make(name, turn)
        self._transcript.spoken(turn, at_s)
        return AudioPlace(name, 0, len(pcm))

    def close(self, at_s: float) -> None:
        """Finish every file."""
        self._end_all(at_s)
        self._end_speaking(at_s, "incomplete")
        self._give_up(at_s)
        while self._sealed:
            self._finish(self._sealed.popleft(), at_s)
        self._places.flush()
        self._look_back.close()

    def abandon(self) -> None:
        """Close every file as it is, after a failure."""
        for speaking in [*self._sealed, *self._ending, *([self._speaking] if self._speaking else [])]:
            speaking.wav.close()
        self._look_back.close()

    def _begin_manual(self, first: int) -> None:
        early = self._early.popleft() if self._early else None
        self._begin(self._transcript.turn(early.item_id if early else "", "user"), first)
        if early and self._speaking:
            self._speaking.confirmed = True

    def _begin(self, turn: Turn, first: int) -> None:
        name, wav = new_turn_file(self._folder, turn, self.format.rate_hz)
        turn.sounding = True
        first = max(first, self._look_back.begin)
        self._speaking = Speaking(turn, name, wav, first, first, after=min(self._claimed, first))
        self._speaking.fill(self._look_back)
        turn.start = turn.end = self._places.beginning(first)
        self._note_places(self._speaking)
        self._transcript.changed(turn)

    def _whole(self, turn: Turn, first: int, last: int, at_s: float) -> None:
        """A turn that is known only when it is over."""
        if turn.files:
            return
        name, wav = new_turn_file(self._folder, turn, self.format.rate_hz)
        turn.sounding = True
        first = min(max(first, self._look_back.begin), last)
        speaking = Speaking(turn, name, wav, first, first, last)
        turn.start = self._places.beginning(first)
        self._note_places(speaking)
        self._claimed = max(self._claimed, last)
        self._wait_for_end(speaking, at_s)

    def _end_speaking(self, at_s: float, status: str = "completed", last: int | None = None) -> None:
        """The turn that is being spoken ends. last: where; None for here."""
        if self._speaking is None:
            return
        speaking, self._speaking = self._speaking, None
        speaking.last = max(speaking.first, self._look_back.end if last is None else last)
        self._claimed = speaking.last
        self._stereo.timeline.user_turn_over()
        if status != "completed":
            self._finish(speaking, at_s, status)
            return
        self._heard = None if self.manual else speaking
        self._wait_for_end(speaking, at_s)

    def _wait_for_end(self, speaking: Speaking, at_s: float) -> None:
        self._ending.append(speaking)
        self._end_filled(at_s)
        while len(self._ending) > _MOST_ENDING:
            self._finish(self._ending.pop(0), at_s)

    def _end_filled(self, at_s: float) -> None:
        """Finish the turns whose last sound has arrived."""
        for speaking in list(self._ending):
            speaking.fill(self._look_back)
            if self._look_back.end >= (speaking.last or 0):
                self._ending.remove(speaking)
                self._finish(speaking, at_s)

    def _end_all(self, at_s: float) -> None:
        """Finish the turns whose last sound will not come any more."""
        while self._ending:
            self._finish(self._ending.pop(0), at_s)

    def _finish(self, speaking: Speaking, at_s: float, status: str = "completed") -> None:
        """Close the file of a turn and hand the turn over."""
        last = speaking.filled if speaking.last is None else min(speaking.last, speaking.filled)
        speaking.wav.truncate(max(0, last - speaking.first))
        speaking.wav.close()
        speaking.turn.sounding = False
        speaking.turn.end = max(speaking.turn.start, self._places.position(last))
        self._flac.make(speaking.name, speaking.turn)
        self._transcript.spoken(speaking.turn, at_s, status)
