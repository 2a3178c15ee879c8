"""Where the user's sound is in conversation.wav."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from realtime_client.audio.resample import Resampler

from .stereo import Stereo
from .timeline import JITTER, RATE_HZ

_RUNS = 512
_PLAUSIBLE = 10 * RATE_HZ
_PREFIX_S = 1.0  # more than the sound that servers put before the speech they find
_ROUNDING_S = 0.0005


class UserPlaces:
    """Puts what is sent on the left channel, and remembers where each stretch of it went.

    Input positions are bytes of all PCM16 that was sent. rate_hz: of what comes now. Errors of every method: OSError.
    """

    def __init__(self, stereo: Stereo) -> None:
        self.rate_hz = RATE_HZ
        self._stereo = stereo
        self._resampler: Resampler | None = None
        self._resampled_from = 0
        self._held = 0.0  # frames at 24 kHz that the resampler keeps
        self._sent_s = 0.0
        self._sent_at = 0  # what time it was then
        self._captured: deque[tuple[float, float]] = deque(maxlen=_RUNS)  # (of all that was sent, when), both in s
        self._runs: deque[tuple[int, int]] = deque(maxlen=_RUNS)  # (input position, frame) of unbroken stretches

    def captured(self, at_ms: float, elapsed_s: float) -> None:
        """From this offset on (ms of all sound sent) it was captured at this time (s since the start)."""
        self._captured.append((at_ms / 1000, elapsed_s))

    def put(self, pcm: bytes, begin: int) -> tuple[int, int, int | None]:
        """Place sound that was sent.

        begin: its input position. Returns position and length in frames, and, where it does not continue the sound
        before, the input position of what is there.
        """
        captured = self._capture_position()
        self._sent_s += len(pcm) / (2 * self.rate_hz)
        self._sent_at = self._stereo.timeline.now
        if self.rate_hz != RATE_HZ:
            if self._resampler is None:
                self._resampler = Resampler(self.rate_hz, RATE_HZ)
                self._resampled_from, self._held = begin, 0.0
            arrived, pcm = len(pcm), self._resampler.process(pcm)
            captured = None if captured is None else captured - round(self._held)
            self._held += arrived / 2 * RATE_HZ / self.rate_hz - len(pcm) / 2
            begin, self._resampled_from = self._resampled_from, begin
        expected = self._stereo.timeline.user_end
        if not pcm:
            return expected, 0, None
        start = self._stereo.user(pcm, captured)
        frames = self._stereo.timeline.user_end - start
        if start == expected and frames == len(pcm) // 2 and self._runs:
            return start, frames, None
        self._runs.append((begin, start))
        return start, frames, begin

    def _capture_position(self) -> int | None:
        """Where the sound that comes now was captured, as far as that is known and possible."""
        while len(self._captured) > 1 and self._captured[1][0] <= self._sent_s + _ROUNDING_S:
            self._captured.popleft()
        if not self._captured or self._captured[0][0] > self._sent_s + _ROUNDING_S:
            return None
        sent_s, elapsed_s = self._captured[0]
        timeline = self._stereo.timeline
        position = timeline.position(elapsed_s + self._sent_s - sent_s)
        return position if abs(position - timeline.now) < _PLAUSIBLE else None

    def pause(self) -> None:
        """Called at each moment: what the resampler kept belongs to the end of what was said, not to what follows."""
        if self._resampler is not None and self._stereo.timeline.now - self._sent_at > JITTER:
            self.flush()

    def flush(self) -> None:
        """Place what the resampler kept."""
        if self._resampler is None:
            return
        rest = self._resampler.flush()
        if rest:
            self._stereo.user_tail(rest)
        self._resampler = None

    def frames(self, size_bytes: int) -> int:
        """How many frames of conversation.wav so much input becomes."""
        return size_bytes // 2 * RATE_HZ // self.rate_hz

    def position(self, at: int) -> int:
        """Frame of conversation.wav where an input position is."""
        for begin, start in reversed(self._runs):
            if begin <= at:
                return start + self.frames(at - begin)
        return self._runs[0][1] if self._runs else self._stereo.timeline.now

    def beginning(self, first: int) -> int:
        """Frame where a turn begins. What the server puts before the speech may stem from before a pause."""
        start = self.position(first)
        prefix = 2 * round(_PREFIX_S * self.rate_hz)
        for begin, place in self._runs:
            if first < begin <= first + prefix:
                moved = place - self.frames(begin - first)
                start = moved if moved - start > JITTER else start
        return start

    def stretches(self, first: int, last: int | None) -> Iterator[tuple[int, int]]:
        """Yield (input position, frame) of each unbroken stretch of a turn. last: its end, None while it goes on."""
        yield first, self.position(first)
        for begin, start in self._runs:
            if begin > first and (last is None or begin < last):
                yield begin, start
