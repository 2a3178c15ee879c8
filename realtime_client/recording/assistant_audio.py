"""The assistant's sound: one file for each spoken part of an answer, and its place in conversation.wav."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from realtime_client import updates as up
from realtime_client.audio import g711

from .folder import TURNS
from .journal_line import AudioPlace
from .stereo import Note, Stereo
from .turns import Turn
from .wav import HEADER_BYTES, WavWriter, to_flac

Part = tuple[str, int]
_REMEMBERED = 256
_MOST_OPEN = 32  # files: of parts being spoken, and of parts waiting to be heard


@dataclass(slots=True)
class _Open:
    """One part that is being spoken. odd: half a sample that waits for its other half."""

    turn: Turn
    name: str
    wav: WavWriter
    audio: up.AudioFormat
    response_id: str
    in_stereo: bool
    odd: bytes = b""


def new_turn_file(folder: Path, turn: Turn, rate_hz: int) -> tuple[str, WavWriter]:
    """Begin the next file of a turn; its name consists of the turn's number and speaker only. Errors: OSError."""
    part = f"-{len(turn.files) + 1}" if turn.files else ""
    name = f"{TURNS}/{turn.n:04}-{turn.who}{part}.wav"
    wav = WavWriter(folder / name, rate_hz)
    turn.files.append(name)
    return name, wav


class FlacMaker:
    """Turns finished files into FLAC, or leaves them, and notes it in the journal. Errors: OSError."""

    def __init__(self, folder: Path, changed: Callable[[Turn], None], note: Note, *, wanted: bool) -> None:
        self._folder = folder
        self._changed = changed
        self._note = note
        self._wanted = wanted
        self.failed: list[str] = []

    def make(self, name: str, turn: Turn) -> None:
        """Convert one file and set the turn's reference; a file that cannot be converted stays WAV."""
        if not self._wanted:
            return
        import soundfile

        try:
            flac = to_flac(self._folder / name)
        except soundfile.SoundFileError as error:
            if len(self.failed) < 16:
                self.failed.append(f"{name} stays WAV: {error}")
            return
        new = f"{TURNS}/{flac.name}"
        turn.files = [new if file == name else file for file in turn.files]
        self._note({"type": "flac", "file": name, "now": new})
        self._changed(turn)


class AssistantAudio:
    """Writes what arrives of the answers. Errors of every method: OSError."""

    def __init__(self, folder: Path, stereo: Stereo, flac: FlacMaker, changed: Callable[[Turn], None]) -> None:
        self.format = up.PCM16_24K
        self.seconds = 0.0
        self._folder = folder
        self._stereo = stereo
        self._flac = flac
        self._changed = changed
        self._open: dict[Part, _Open] = {}
        self._names: OrderedDict[Part, tuple[str, Turn]] = OrderedDict()
        self._waiting: dict[str, _Open] = {}

    def delta(self, update: up.AudioDelta, turn: Turn) -> AudioPlace:
        """Write one piece; returns where it is."""
        part = self._open.get((update.item_id, update.content_index)) or self._begin(update, turn)
        audio = update.audio
        if part.audio.encoding == "pcm16":
            if part.odd or len(audio) & 1:
                audio = part.odd + audio
                audio, part.odd = audio[: len(audio) & ~1], audio[len(audio) & ~1 :]
        else:
            audio = g711.decode(audio, part.audio.encoding)
        place = AudioPlace(part.name, part.wav.data_bytes, len(audio))
        part.wav.write(audio)
        self.seconds += len(audio) / (2 * part.wav.rate_hz)
        if part.in_stereo:
            self._stereo.answer(part.name, part.wav, part.name)
            self._set_span(part.name, part.turn)
        if place.offset == 0:
            self._changed(part.turn)
        return place

    def done(self, item_id: str, content_index: int | None = None) -> None:
        """The last sample of a part (None: of all parts of the item) is in its file."""
        for key in [key for key in self._open if key[0] == item_id and content_index in {None, key[1]}]:
            self._finish(key)

    def response_done(self, response_id: str) -> None:
        """The last sample of every part of this answer is in its file."""
        for key in [key for key, part in self._open.items() if part.response_id == response_id]:
            self._finish(key)

    def cut(self, update: up.Interrupted) -> None:
        """Only some of it was heard."""
        known = self._names.get((update.item_id, update.content_index))
        if known is None or update.heard_ms >= update.received_ms:
            return
        name, turn = known
        self._stereo.cut(name, update.heard_ms)
        span = self._stereo.timeline.span(name)
        if span is not None:
            turn.start = span[0] if len(turn.files) == 1 else min(turn.start, span[0])
        turn.end = span[1] if span else turn.start

    def heard(self, update: up.Audible, at: int) -> None:
        """A stretch of a part was heard at a position of conversation.wav."""
        known = self._names.get((update.item_id, update.content_index))
        if known is None:
            return
        name, turn = known
        begun = self._stereo.timeline.span(name) is not None
        self._stereo.heard(name, update.from_ms, update.to_ms, at)
        self._set_span(name, turn)
        if not begun or not self._stereo.unheard(name):
            self._changed(turn)

    def play_out(self) -> None:
        """Nobody reports any more what is heard: from here on, what was received counts."""
        self._stereo.play_out()
        for name, turn in self._names.values():
            self._set_span(name, turn)

    def let_go(self) -> None:
        """Close the files from which nothing more will be read."""
        for key in self._stereo.finished():
            part = self._waiting.pop(str(key), None)
            if part is not None:
                self._close(part)

    def close(self) -> None:
        """Finish every file that is open; call once before and once after `Stereo.close`."""
        for key in list(self._open):
            self._finish(key)
        self.let_go()

    def abandon(self) -> None:
        """Close every file as it is, after a failure."""
        for part in [*self._open.values(), *self._waiting.values()]:
            part.wav.close()

    def same_sound(self, item_id: str, pcm: bytes) -> str | None:
        """Return the name of the item's file when it holds exactly this sound."""
        known = self._names.get((item_id, 0))
        if known is None:
            return None
        part = self._open.get((item_id, 0)) or self._waiting.get(known[0])
        path = self._folder / known[0]
        if part is not None:
            part.wav.flush()
        same = path.exists() and path.stat().st_size == HEADER_BYTES + len(pcm)
        return known[0] if same and path.read_bytes()[HEADER_BYTES:] == pcm else None

    def _begin(self, update: up.AudioDelta, turn: Turn) -> _Open:
        name, wav = new_turn_file(self._folder, turn, self.format.rate_hz)
        key = (update.item_id, update.content_index)
        part = _Open(turn, name, wav, self.format, update.response_id, not turn.out_of_band)
        if len(self._open) >= _MOST_OPEN:
            self._finish(next(iter(self._open)))
        self._open[key] = part
        self._names[key] = name, turn
        self._names.move_to_end(key)
        if len(self._names) > _REMEMBERED:
            self._names.popitem(last=False)
        return part

    def _finish(self, key: Part) -> None:
        part = self._open.pop(key)
        part.wav.flush()
        part.turn.received_ms = max(part.turn.received_ms, part.wav.frames * 1000 // part.wav.rate_hz)
        if not part.in_stereo:
            self._close(part)
            return
        self._waiting[part.name] = part
        if len(self._waiting) > _MOST_OPEN:
            part.wav.rest()
        self._stereo.answer_complete(part.name)
        self._set_span(part.name, part.turn)

    def _set_span(self, name: str, turn: Turn) -> None:
        """Bring the turn's times up to date. A turn that has not been heard to its end is not over."""
        timeline, left = self._stereo.timeline, self._stereo.unheard(name)
        span = timeline.span(name)
        if span is not None:
            turn.start = span[0] if len(turn.files) == 1 else min(turn.start, span[0])
            turn.end = max(turn.start, span[1])
        if left and not timeline.is_cut(name):
            turn.end = max(turn.end, timeline.now + left)

    def _close(self, part: _Open) -> None:
        part.wav.close()
        self._flac.make(part.name, part.turn)
