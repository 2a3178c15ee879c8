"""Where each piece of sound goes in conversation.wav: pure, no files, no clock.

Positions are frames at 24 kHz since the start of the recording. The user is on the left, what was heard of the
assistant on the right. The rules:

- The user's audio stands where it came; up to 0.2 s of jitter closes up, a longer wait is a pause. Where it is told
  when it was captured, it stands there, by the rules for `hear` below.
- An answer begins at the latest of: now, the end of the answer before, the end of the user's audio. It then goes on
  without a break, however fast it arrives, and begins anew at `now` when it ran dry.
- Audio of the user that comes faster than real time (from a file) puts the timeline ahead of the wall clock, and such a
  turn begins after all that was answered before: a question stands before its answer, and nothing overlaps. A live
  microphone is never moved.
- A cut takes away what was not heard.
- Where a speaker plays the answers and tells what it has played (`hear`), an answer stands where it was heard instead:
  each stretch at its time. What follows within 4 ms follows on; the clock of the device is not ours, so what is more
  than that beside its time moves there by one frame with each report, and from 10 ms on it begins anew there.

What lies 0.2 s or more before now is settled (`due`), except that a cut may still silence it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass

RATE_HZ = 24_000
JITTER = RATE_HZ // 5
_AHEAD = 2 * JITTER  # further ahead of now than any microphone block: the sound comes from a file
_LIVE_AGAIN = 2 * RATE_HZ
_REMEMBERED = 64
_ROUNDING = 2  # stretches this close to each other are continuous
_NEAR = RATE_HZ // 250
_BREAK = RATE_HZ // 100

Key = Hashable


@dataclass(slots=True)
class AnswerStretch:
    """An unbroken stretch of one answer. start: position; source: offset within the answer's own audio; in frames."""

    key: Key
    start: int
    source: int
    frames: int

    @property
    def end(self) -> int:
        """Position after its last frame."""
        return self.start + self.frames


class Timeline:
    """Decides positions. Calls come in the order of their moments (`move_to` first)."""

    def __init__(self) -> None:
        self.now = 0
        self.user_end = 0
        self.written = 0
        self.pieces: deque[AnswerStretch] = deque()
        self._skew = 0
        self._from_file = False
        self._turn_over = False
        self._live_since: int | None = None
        self._received: dict[Key, int] = {}
        self._heard: dict[Key, int] = {}  # of what `hear` placed: the end of its source
        self._begins: dict[Key, int] = {}
        self._cut: dict[Key, int] = {}

    @property
    def heard_end(self) -> int:
        """Position after the last frame of any answer."""
        return self.pieces[-1].end if self.pieces else 0

    @property
    def end(self) -> int:
        """Position after everything placed so far."""
        return max(self.user_end, self.heard_end)

    @property
    def due(self) -> int:
        """Everything before this position is settled."""
        return max(self.written, self.now - JITTER)

    def position(self, elapsed_s: float) -> int:
        """The position of a moment, in seconds since the start."""
        return round(elapsed_s * RATE_HZ) + self._skew

    def move_to(self, elapsed_s: float) -> None:
        """So many seconds have passed since the start."""
        self.now = max(self.now, self.position(elapsed_s))

    def pauses(self) -> bool:
        """Tell whether the user's next audio begins anew instead of following the last."""
        return self.now - self.user_end > JITTER

    def slip(self, captured: int) -> int:
        """By how many frames (-1, 0, 1) to lengthen the user's next audio to bring it nearer to its capture."""
        beside = captured - self.user_end
        return 0 if abs(beside) <= _NEAR or beside >= _BREAK else 1 if beside > 0 else -1

    def user(self, frames: int, captured: int | None = None) -> int:
        """Place audio of the user; returns its position. captured: where its first frame was captured, if known.

        Only then may it go into what is written already: it was long on its way.
        """
        if captured is not None:
            start = self.user_end if captured - self.user_end < _BREAK else captured
            self._turn_over = False
            self.user_end = start + frames
            return start
        live = not self._from_file and frames <= _AHEAD
        fresh = self._turn_over or self.pauses()
        if fresh and not live:
            start = max(self.now, self.user_end, self.heard_end)
        else:
            start = self.now if self.pauses() else self.user_end
        self._turn_over = False
        self.user_end = start + frames
        self._judge_pace(start)
        return start

    def user_tail(self, frames: int) -> int:
        """Place the very end of what the user said before a pause; returns its position, also in what is written."""
        start = self.user_end if self.written - self.user_end < 2 * JITTER else self.written
        self.user_end = start + frames
        return start

    def user_turn_over(self) -> None:
        """The user's turn has ended: the next audio may belong after the answer."""
        self._turn_over = True

    def answer(self, key: Key, frames: int) -> AnswerStretch | None:
        """Place more of an answer; returns its piece when a new one began, None when it continues one or is cut."""
        if key in self._cut:
            return None
        source = self._received.get(key, 0)
        self._received[key] = source + frames
        last = self.pieces[-1] if self.pieces else None
        if last is not None and last.key == key and last.end >= self.now - JITTER:
            last.frames += frames
            return None
        start = max(self.now, self.heard_end)
        if source == 0:
            start = max(start, self.user_end)
            _forget_old(self._received)
        piece = AnswerStretch(key, start, source, frames)
        self._add(piece)
        return piece

    def hear(self, key: Key, source: int, frames: int, at: int) -> AnswerStretch | None:
        """Place what was heard of an answer: so many frames from `source` on, the first at a position.

        What was reported before, or lies behind a cut, is not placed again. Returns what is new. It continues the piece
        before, and is part of it, unless `pieces` has grown.
        """
        known = self._heard.get(key, 0)
        skip = known - source if abs(source - known) <= _ROUNDING else max(0, known - source)
        source, frames, at = source + skip, frames - skip, min(at + skip, self.now + RATE_HZ)
        frames = min(frames, self._cut.get(key, source + frames) - source)
        if frames <= 0:
            return None
        self._heard[key] = source + frames
        _forget_old(self._heard)
        last = self.pieces[-1] if self.pieces else None
        if last is not None and last.key == key and source == known and at - last.end < _BREAK:
            beside = at - last.end
            if abs(beside) <= _NEAR or frames == 1:
                last.frames += frames
                return AnswerStretch(key, last.end - frames, source, frames)
            slip = 1 if beside > 0 else -1
            at, source, frames = last.end, source - slip, frames + slip
        piece = AnswerStretch(key, max(at, self.heard_end), source, frames)
        self._add(piece)
        return piece

    def heard_to(self, key: Key) -> int:
        """How much of an answer was reported to `hear`: the end of the last stretch, in frames of its source."""
        return self._heard.get(key, 0)

    def cut(self, key: Key, keep: int) -> list[tuple[int, int]]:
        """Only the first `keep` frames of an answer were heard; returns the written stretches to silence."""
        self._cut[key] = min(keep, self._cut.get(key, keep))
        _forget_old(self._cut)
        silenced: list[tuple[int, int]] = []
        for piece in self.pieces:
            if piece.key != key:
                continue
            kept = min(piece.frames, max(0, keep - piece.source))
            if piece.start + kept < min(piece.end, self.written):
                silenced.append((piece.start + kept, min(piece.end, self.written)))
            piece.frames = kept
        self.pieces = deque(piece for piece in self.pieces if piece.frames)
        return silenced

    def is_cut(self, key: Key) -> bool:
        """Tell whether an answer was cut lately."""
        return key in self._cut

    def run_ahead(self) -> None:
        """All that was received counts as heard: time moves behind it."""
        self._skew += max(0, self.heard_end - self.now)
        self.now = max(self.now, self.heard_end)

    def span(self, key: Key) -> tuple[int, int] | None:
        """Return where an answer begins and ends, or None when nothing of it is (or is remembered)."""
        last = next((piece for piece in reversed(self.pieces) if piece.key == key), None)
        return None if last is None else (self._begins.get(key, last.start), last.end)

    def waits(self, key: Key) -> bool:
        """Tell whether frames of this answer have yet to be written."""
        return any(piece.key == key and piece.end > self.written for piece in self.pieces)

    def take(self, until: int) -> list[AnswerStretch]:
        """Return the stretches of answers between `written` and `until`, and move `written` there."""
        taken = []
        for piece in self.pieces:
            begin, end = max(piece.start, self.written), min(piece.end, until)
            if begin < end:
                taken.append(AnswerStretch(piece.key, begin, piece.source + begin - piece.start, end - begin))
        self.written = max(self.written, until)
        while len(self.pieces) > _REMEMBERED and self.pieces[0].end <= self.written:
            self.pieces.popleft()
        return taken

    def _add(self, piece: AnswerStretch) -> None:
        self.pieces.append(piece)
        self._begins.setdefault(piece.key, piece.start)
        _forget_old(self._begins)

    def _judge_pace(self, start: int) -> None:
        """Tell a file from a microphone by how far its sound runs ahead of time."""
        if self.user_end - self.now > _AHEAD:
            self._from_file = True
            self._live_since = None
            self._skew += self.user_end - self.now
            self.now = self.user_end
        elif self._from_file:
            if self._live_since is None or start - self._live_since < 0:
                self._live_since = self.now
            elif self.now - self._live_since > _LIVE_AGAIN:
                self._from_file = False


def _forget_old(table: dict[Key, int]) -> None:
    """Keep the last few hundred."""
    while len(table) > 4 * _REMEMBERED:
        del table[next(iter(table))]
