"""conversation.wav: both sides on one clock, written as time comes to them.

What is settled (see timeline.py) is written; what is not yet due of an answer is read back from the answer's own file
when its time has come, so memory does not grow with it. The user's sound is nowhere else, so it goes into the file at
once, and is written again when the other side is known. While a speaker tells what it has played (`told`), only that is
placed, and where it is told late it goes into what is written already.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from realtime_client.audio.pcm import interleave
from realtime_client.audio.resample import Resampler

from .timeline import JITTER, RATE_HZ, AnswerStretch, Key, Timeline
from .wav import WavWriter

_STEP = RATE_HZ // 10  # written in steps of 100 ms or more
_BLOCK = RATE_HZ
_HELD_BACK_S = 0.1  # more than a resampler of any rate keeps to itself
_LONGEST_DRAFT = 2 * RATE_HZ
_KEPT = 64  # frames behind the last that were read; a slip of the timeline goes one back
_HELD_S = 0.05  # what comes is behind by the time in which it settles already
_HEARD_WHOLE = RATE_HZ // 1000
_MOST_UNHEARD = 64

Note = Callable[[dict[str, Any]], None]


class Source:
    """The audio of one answer, read at 24 kHz from front to back out of its file (mono, any rate)."""

    def __init__(self, wav: WavWriter) -> None:
        self.wav = wav
        self.complete = False
        self.told = False
        self.placed = 0
        self._resampler = None if wav.rate_hz == RATE_HZ else Resampler(wav.rate_hz, RATE_HZ)
        self._read = 0
        self._ready = b""
        self._ready_at = 0

    def available(self) -> int:
        """Frames at 24 kHz that can be read."""
        if self._resampler is None:
            return self.wav.frames
        held = 0 if self.complete else int(_HELD_BACK_S * self.wav.rate_hz)
        frames = max(0, self.wav.frames - held)
        return (2 * frames * RATE_HZ + self.wav.rate_hz) // (2 * self.wav.rate_hz)

    def read(self, at: int, frames: int) -> bytes:
        """Return PCM at 24 kHz; what is more than 64 frames before `at` is never asked for again."""
        if self._resampler is None:
            return self.wav.read(at * 2, frames * 2)
        while self._ready_at + len(self._ready) // 2 < at + frames and self._more():
            pass
        past = max(0, at - _KEPT - self._ready_at)
        self._ready, self._ready_at = self._ready[past * 2 :], self._ready_at + past
        begin = max(0, at - self._ready_at) * 2
        return self._ready[begin : begin + frames * 2]

    def _more(self) -> bool:
        assert self._resampler is not None
        block = self.wav.read(self._read, 2 * self.wav.rate_hz // 5)
        self._read += len(block)
        fresh = self._resampler.process(block) if block else self._resampler.flush() if self.complete else b""
        self._ready += fresh
        return bool(block or fresh)


class Stereo:
    """The writer of conversation.wav. Errors of every method: OSError."""

    def __init__(self, path: Path, note: Note) -> None:
        self.timeline = Timeline()
        self.told = False  # answers that begin from here on stand where `heard` says
        self._wav = WavWriter(path, RATE_HZ, 2, held_s=_HELD_S, later=True)  # a session in writing has none
        self._note = note
        self._left: deque[tuple[int, bytes]] = deque()
        self._sources: dict[Key, Source] = {}
        self._names: dict[Key, str] = {}

    @property
    def frames(self) -> int:
        """Frames written so far."""
        return self._wav.frames

    def spoken(self, name: str, source: int, frame: int) -> None:
        """Note where a turn of the user stands, for recovery: from a frame (at 24 kHz) of its file on, here."""
        self._note({"type": "placed", "file": name, "source": source, "frame": frame, "channel": "left"})

    def write_due(self) -> None:
        """Write what is settled."""
        if self.timeline.due - self.timeline.written >= _STEP:
            self._write(self.timeline.due)

    def user(self, pcm: bytes, captured: int | None = None) -> int:
        """Place audio of the user (PCM16 at 24 kHz); returns its position in frames. captured: see `Timeline.user`."""
        if captured is not None and pcm:
            slip = self.timeline.slip(captured)
            pcm = pcm[:2] + pcm if slip > 0 else pcm[2:] if slip < 0 else pcm
        start = self.timeline.user(len(pcm) // 2, captured)
        self._put_left(start, pcm)
        self._catch_up()
        self._draft()
        return start

    def user_tail(self, pcm: bytes) -> None:
        """Place the very end of what the user said before a pause."""
        self._put_left(self.timeline.user_tail(len(pcm) // 2), pcm)

    def _draft(self) -> None:
        """Write the user's sound before its time has come: a kill must not lose it."""
        begin, end = self._wav.frames, self.timeline.user_end
        if not _STEP <= end - begin <= _LONGEST_DRAFT:
            return
        left = bytearray()
        for start, pcm in self._left:
            skip = max(0, begin - start) * 2
            if skip < len(pcm):
                left += bytes(max(0, start - begin) * 2 - len(left)) + pcm[skip:]
        self._wav.write(interleave(bytes(left), b""))

    def _put_left(self, start: int, pcm: bytes) -> None:
        """Keep it until its time has come; what stands in what is written already goes there."""
        self._wav.begin()
        late = min(max(0, self.timeline.written - start), len(pcm) // 2)
        self._overwrite(start, pcm[: late * 2], left=True)
        if late * 2 < len(pcm):
            self._left.append((start + late, pcm[late * 2 :]))

    def answer(self, key: Key, wav: WavWriter, name: str) -> None:
        """More of an answer is in its file. name: that file, as the journal calls it."""
        source = self._sources.get(key)
        if source is None:
            self._wav.begin()
            source = self._sources[key] = Source(wav)
            self._names[key] = name
            source.told = self.told
        if source.told:
            return
        fresh = source.available() - source.placed
        if fresh <= 0:
            return
        source.placed += fresh
        piece = self.timeline.answer(key, fresh)
        if piece is not None:
            self._note({"type": "placed", "file": name, "source": piece.source, "frame": piece.start})

    def answer_complete(self, key: Key) -> None:
        """The answer's file has its last sample."""
        source = self._sources.get(key)
        if source is not None and not source.complete:
            source.complete = True
            self.answer(key, source.wav, self._names[key])

    def heard(self, key: Key, from_ms: float, to_ms: float, at: int) -> None:
        """A stretch of an answer was heard, the first frame at a position. Nothing happens if it is not told of."""
        source = self._sources.get(key)
        if source is None or not source.told:
            return
        first, last = (round(max(0.0, ms) * RATE_HZ / 1000) for ms in (from_ms, to_ms))
        self._hear(key, first, min(last, source.available()) - first, at)

    def _hear(self, key: Key, source: int, frames: int, at: int) -> None:
        timeline = self.timeline
        count = len(timeline.pieces)
        piece = timeline.hear(key, source, frames, at)
        if piece is None:
            return
        if len(timeline.pieces) != count:
            note = {"type": "placed", "file": self._names[key], "source": piece.source, "frame": piece.start}
            self._note({**note, "heard": True})
        self._write_late(piece)

    def unheard(self, key: Key) -> int:
        """Frames of an answer that were not told as heard; 0 of one that nobody tells of."""
        source = self._sources.get(key)
        if source is None or not source.told:
            return 0
        left = source.available() - self.timeline.heard_to(key)
        return left if left > (_HEARD_WHOLE if source.complete else 0) else 0

    def _hear_rest(self, key: Key, until: int, *, ends_now: bool) -> None:
        """What was not told of an answer was heard up to a position of its own: until now, or from now on."""
        timeline, source = self.timeline, self._sources[key]
        begin = timeline.heard_to(key)
        frames = min(until, source.available()) - begin
        at = timeline.now - frames if ends_now else timeline.now
        last = timeline.pieces[-1] if timeline.pieces else None
        if last is not None and last.key == key and abs(at - last.end) < JITTER:
            at = last.end
        self._hear(key, begin, frames, at)

    def play_out(self) -> None:
        """Nobody will tell any more what is heard: what was received is played to its end."""
        self.told = False
        for key, source in self._sources.items():
            if source.told:
                self._hear_rest(key, source.available(), ends_now=False)

    def cut(self, key: Key, heard_ms: int) -> None:
        """Nothing of the answer was heard after so many ms."""
        keep = max(0, heard_ms) * RATE_HZ // 1000
        if key in self._sources and self._sources[key].told:
            self._hear_rest(key, keep, ends_now=True)
        for begin, end in self.timeline.cut(key, keep):
            self._silence_right(begin, end)
        if key in self._names:
            self._note({"type": "cut", "file": self._names[key], "keep": keep})

    def run_ahead(self) -> None:
        """All that was received counts as heard, unless it is told what was: time moves behind it."""
        if self.told:
            return
        self.timeline.run_ahead()
        self._catch_up()

    def finished(self) -> list[Key]:
        """Return the answers that are complete and written, and let go of their files.

        Of those that were not heard to their end only the last 64 are kept.
        """
        complete = [key for key, source in self._sources.items() if source.complete and not self.timeline.waits(key)]
        unheard = [key for key in complete if self.unheard(key) and not self.timeline.is_cut(key)]
        kept = set() if self._wav.closed else set(unheard[-_MOST_UNHEARD:])
        done = [key for key in complete if key not in kept]
        for key in done:
            del self._sources[key]
            del self._names[key]
        return done

    def close(self) -> None:
        """Write all that is left; idempotent."""
        if self._wav.closed:
            return
        try:
            for key in list(self._sources):
                self.answer_complete(key)
            self._write(max(self.timeline.end, self.timeline.written))
        finally:
            self._wav.close()

    def _catch_up(self) -> None:
        if self.timeline.due - self.timeline.written > _BLOCK:
            self._write(self.timeline.due)

    def _write(self, until: int) -> None:
        begin = self.timeline.written
        pieces = self.timeline.take(until)
        assert self._wav.frames >= begin
        while begin < until:
            edge = min([until, begin + _BLOCK])
            left, right = self._take_left(begin, edge), self._take_right(pieces, begin, edge)
            if left or right:
                stereo = interleave(left, right)
                self._write_at(begin, stereo.ljust((edge - begin) * 4, b"\0"))
            else:
                edge = self._next_sound(pieces, edge, until)
                self._silence(begin, edge)
            begin = edge

    def _write_at(self, frame: int, stereo: bytes) -> None:
        """Write what comes next, over what is a draft of it."""
        there = max(0, self._wav.frames - frame) * 4
        if there:
            self._wav.overwrite(frame * 4, stereo[:there])
        if there < len(stereo):
            self._wav.write(stereo[there:])

    def _silence(self, begin: int, end: int) -> None:
        drafted = min(end, max(begin, self._wav.frames))
        if drafted > begin:
            self._write_at(begin, bytes((drafted - begin) * 4))
        if end - drafted < _BLOCK and self._wav.begun:
            self._write_at(drafted, bytes((end - drafted) * 4))
        else:
            self._wav.write_silence(end - drafted)

    def _next_sound(self, pieces: list[AnswerStretch], at: int, until: int) -> int:
        """Where silence ends."""
        starts = [piece.start for piece in pieces if piece.end > at] + [start for start, _ in self._left]
        return max(at, min([until, *starts]))

    def _take_left(self, begin: int, end: int) -> bytes:
        """The user's audio between two positions; removes it."""
        out = bytearray()
        while self._left and self._left[0][0] < end:
            start, pcm = self._left.popleft()
            out += bytes((start - begin) * 2 - len(out))
            room = (end - start) * 2
            out += pcm[:room]
            if len(pcm) > room:
                self._left.appendleft((end, pcm[room:]))
        return bytes(out)

    def _take_right(self, pieces: list[AnswerStretch], begin: int, end: int) -> bytes:
        """The answers' audio between two positions."""
        out = bytearray()
        for piece in pieces:
            first, last = max(begin, piece.start), min(end, piece.end)
            if first < last:
                out += bytes((first - begin) * 2 - len(out))
                out += self._sources[piece.key].read(piece.source + first - piece.start, last - first)
        return bytes(out)

    def _write_late(self, piece: AnswerStretch) -> None:
        """Put what stands in what is written already into its right channel."""
        end = min(piece.end, self.timeline.written)
        for at in range(piece.start, end, _BLOCK):
            frames = min(end, at + _BLOCK) - at
            pcm = self._sources[piece.key].read(piece.source + at - piece.start, frames)
            self._overwrite(at, pcm.ljust(frames * 2, b"\0"), left=False)

    def _overwrite(self, at: int, pcm: bytes, *, left: bool) -> None:
        """Replace one channel of what is written already."""
        if not pcm:
            return
        first = 0 if left else 2
        stereo = bytearray(self._wav.read(at * 4, len(pcm) * 2))
        stereo[first::4], stereo[first + 1 :: 4] = pcm[0::2], pcm[1::2]
        self._wav.overwrite(at * 4, bytes(stereo))

    def _silence_right(self, begin: int, end: int) -> None:
        """Take the right channel out of what is written already."""
        for at in range(begin, end, _BLOCK):
            self._overwrite(at, bytes((min(end, at + _BLOCK) - at) * 2), left=False)
