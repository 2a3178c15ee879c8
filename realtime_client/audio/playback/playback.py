"""What is to be played, in order, and how much of it was heard.

A `Playback` stands between the thread that receives sound and the callback of a device. One thread at a time writes
(a lock sees to it); the callback reads without any lock, without waiting and without logging: the two share a
`collections.deque`, whose ends are safe to use from two threads, and counters that each have one writer.

How long the first piece waits is `jitter`'s to say; that nothing clicks is `ramp`'s. A device whose clock is ahead of
the server's empties the buffer a little faster than it is filled, and the lateness of pieces may grow: then single
samples are repeated, one in 20 ms at most (0.2 %), until as much waits as should: a long answer stays in step.

Ledger. Every sample handed to the device has a position, counted from 0. The ledger knows which part stood at which
of the last positions, so that `position that is audible now` becomes `so much of this part was heard`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from realtime_client.audio.playback.jitter import Jitter, Part
from realtime_client.audio.playback.ramp import SCRATCH, Ramp

_PARTS = 256
_RUNS = 1024
_TRIES = 100
_EASE = 50  # pieces over which the shortage is averaged, and within which it is made up for
_REPEATED = 5  # samples for one piece at most
_RECENT = 256  # pieces, each at most one block of the device: 5 s, more than any device holds


class Stretch(NamedTuple):
    """So much of a part (`from_ms` to `to_ms`, not rounded) stood at a position and behind it, without a break."""

    part: Part
    from_ms: float
    to_ms: float
    position: int


class _Record:
    """What is known of one part, in samples. `written` belongs to the writer, `taken` to the reader."""

    __slots__ = ("base_ms", "ended", "final_ms", "key", "taken", "written")

    def __init__(self, key: Part) -> None:
        self.key = key
        self.base_ms = 0.0  # played on another device before
        self.written = 0
        self.taken = 0
        self.ended = False
        self.final_ms: int | None = None  # set when the part was dropped


class _Queue:
    """All that is to be played since the last drop. `put` belongs to the writer, `taken` to the reader."""

    __slots__ = ("chunks", "fade", "put", "taken", "waiting_for")

    def __init__(self, *, fade: bool = True) -> None:
        self.chunks: deque[tuple[_Record, Any]] = deque()
        self.put = 0
        self.taken = 0
        self.waiting_for: _Record | None = None  # the part written last: more of it may come unless it has ended
        self.fade = fade


class Playback:
    """Sound on its way to one device: mono int16 at `rate_hz`.

    prebuffer_ms: what is waited for when nothing comes late (40 or more). start_prebuffer_ms: what is waited for at the
    start of a session, when it is not known how late things come. limit_s: how much may wait to be played;
    what is written beyond it is not taken, and counted in `refused` (samples). paused: what waits is not handed over.
    """

    def __init__(
        self, rate_hz: int, *, prebuffer_ms: int = 60, start_prebuffer_ms: int = 0, limit_s: float = 900.0
    ) -> None:
        self.rate_hz = rate_hz
        self.muted = False
        self.paused = False
        self.underruns = 0
        self.refused = 0
        self.handed = 0
        self.sound_end = 0  # the position behind the last sample that carried sound
        self._volume = 1.0
        self._limit = round(limit_s * rate_hz)
        self._jitter = Jitter(prebuffer_ms, start_prebuffer_ms)
        self._lock = threading.Lock()  # between writers; the reader never takes it
        self._records: dict[Part, _Record] = {}
        self._queue = _Queue()
        self._short_ms = 0.0  # how much less waits than should, on average
        self._wanted = 0.0  # samples to repeat, ever
        # The reader's own:
        self._reading = self._queue
        self._ramp = Ramp(rate_hz)
        self._chunk: tuple[_Record, Any] | None = None
        self._offset = 0
        self._playing = False
        self._waited = 0
        self._repeated = 0
        self._starved: _Record | None = None  # the part whose sound ran out before its end
        # [record, position, count, samples of the record before] of what was handed last:
        self._runs: deque[list[Any]] = deque(maxlen=_RUNS)
        # (record, position, samples) of the same, should the device never play them:
        self._recent: deque[tuple[_Record, int, Any]] = deque(maxlen=_RECENT)
        self._version = 0  # odd while the reader changes the ledger

    # The writer's side.

    def write(self, part: Part, samples: Any, at_s: float) -> None:
        """Queue samples (int16, mono, at `rate_hz`; not to be changed afterwards) behind what is there.

        at_s: when they came, on the monotonic clock. A part that was dropped takes no more; what comes is ignored.
        """
        if not len(samples):
            return
        with self._lock:
            record = self._record(part)
            if record.final_ms is not None:
                return
            queue = self._queue
            waiting = queue.put - queue.taken
            self._jitter.arrived(part, len(samples) / self.rate_hz, at_s, first=not waiting)
            self._ease(waiting)
            room = self._limit - (queue.put - queue.taken)
            if len(samples) > room:
                self.refused += len(samples) - max(0, room)
                samples = samples[: max(0, room)]
            if not len(samples):
                return
            record.ended = False
            record.written += len(samples)
            queue.waiting_for = record
            queue.put += len(samples)
            queue.chunks.append((record, samples))

    def _ease(self, waiting: int) -> None:
        """Repeat samples as long as less waits than should. waiting: what was there when a piece came."""
        jitter = self._jitter
        if not (waiting and self._playing and jitter.late):
            self._short_ms = 0.0
            return
        short_ms = jitter.prebuffer_ms - jitter.late_ms - waiting * 1000 / self.rate_hz
        self._short_ms += (short_ms - self._short_ms) / _EASE
        self._wanted = max(self._wanted, self._repeated)
        self._wanted += min(_REPEATED, max(0.0, self._short_ms) * self.rate_hz / 1000 / _EASE)

    def end(self, part: Part) -> None:
        """All of this part has been written: it is played to its end without waiting for more."""
        with self._lock:
            record = self._records.get(part)
            if record is not None:
                record.ended = True

    def drop(self, held: int, *, fade: bool = True) -> dict[Part, int]:
        """Forget everything that is not audible yet.

        held: samples that the device still holds. Returns the ms really heard of each part that was not heard to its
        end or of which more was to come. fade: let what was handed over last die away in 5 ms; False when the device
        throws its buffer away.
        """
        return self.drop_at(self.handed - held, fade=fade)

    def drop_at(self, position: int, *, fade: bool = True) -> dict[Part, int]:
        """Like `drop`, for the position that is audible now."""
        with self._lock:
            heard = {}
            for record in self._records.values():
                if record.final_ms is not None:
                    continue
                heard_ms = self._heard(record, position)
                if record.ended and heard_ms >= self._ms(record, record.written):
                    continue
                heard[record.key] = record.final_ms = heard_ms
            self._queue = _Queue(fade=fade)
            return heard

    def _record(self, part: Part) -> _Record:
        record = self._records.get(part)
        if record is None:
            record = self._records[part] = _Record(part)
            if len(self._records) > _PARTS:
                self._forget()
        return record

    def _forget(self) -> None:
        """Forget the oldest part that was handed over to its end or dropped; else the oldest of all."""
        over = (r for r in self._records.values() if r.final_ms is not None or (r.ended and r.taken == r.written))
        oldest = next(over, None) or next(iter(self._records.values()))
        del self._records[oldest.key]

    # What any thread may read and set.

    @property
    def volume(self) -> float:
        """Gain from 0.0 to 1.0; values beyond are clipped. Muted sound counts as heard."""
        return self._volume

    @volume.setter
    def volume(self, gain: float) -> None:
        self._volume = min(1.0, max(0.0, gain))

    def heard_ms(self, part: Part, held: int) -> int | None:
        """Return how much of a part was heard; None for a part that is not known.

        held: samples that the device still holds. Of a part that was dropped: what was heard until then.
        """
        return self.heard_ms_at(part, self.handed - held)

    def heard_ms_at(self, part: Part, position: int) -> int | None:
        """Like `heard_ms`, for the position that is audible now."""
        record = self._records.get(part)
        if record is None:
            return None
        return record.final_ms if record.final_ms is not None else self._heard(record, position)

    def _heard(self, record: _Record, position: int) -> int:
        """Try until the reader has not changed the ledger in the meantime; its changes take microseconds."""
        heard = 0
        for _ in range(_TRIES):
            version = self._version
            heard = record.taken - _behind(list(self._runs), record, position)
            if not version & 1 and version == self._version:
                break
        return self._ms(record, min(max(0, heard), record.written))

    def _ms(self, record: _Record, samples: int) -> int:
        return int(self._exact_ms(record, samples))

    def _exact_ms(self, record: _Record, samples: int) -> float:
        return record.base_ms + samples * 1000 / self.rate_hz

    def stood(self, begin: int, end: int) -> list[Stretch]:
        """Return what was at the positions from `begin` to before `end`, in order, without what was dropped."""
        found: list[Stretch] = []
        for record, position, count, before in reversed(list(self._runs)):
            if position + count <= begin:
                break
            first, last = max(begin, position), min(end, position + count)
            from_ms = self._exact_ms(record, before + first - position)
            to_ms = self._exact_ms(record, before + last - position)
            if record.final_ms is not None:
                to_ms = min(to_ms, record.final_ms)
            if first < last and from_ms < to_ms:
                follows = found and found[0].part == record.key and found[0].position <= last + 1  # one was repeated
                behind_ms = found.pop(0).to_ms if follows else to_ms
                found.insert(0, Stretch(record.key, from_ms, behind_ms, first))
        return found

    @property
    def backlog_ms(self) -> int:
        """What waits to be handed to the device."""
        queue = self._queue
        return max(0, queue.put - queue.taken) * 1000 // self.rate_hz

    @property
    def prebuffer_ms(self) -> int:
        """How much is waited for before playing starts, by the jitter measured so far."""
        return self._jitter.prebuffer_ms

    @property
    def idle(self) -> bool:
        """Nothing waits to be handed to the device."""
        queue = self._queue
        return queue.put == queue.taken

    def moved_to(self, rate_hz: int, convert: Callable[[Any], Any], sounded: int | None = None) -> Playback:
        """Return a playback for another device that goes on with the first sample that did not sound.

        convert: makes samples at the new rate of samples at this one; it gets one part at a time. sounded: the
        position that was audible last; None for all that was handed over. The reader of this playback must have
        ended. What is known of parts played is kept, and what is playing goes on at once.
        """
        with self._lock:
            back = self._unheard(self.handed if sounded is None else sounded)
            new = Playback(rate_hz, limit_s=self._limit / self.rate_hz)
            new.volume, new.muted, new.underruns, new.refused = self.volume, self.muted, self.underruns, self.refused
            new.paused = self.paused
            new._jitter, new._playing = self._jitter, self._playing  # of the same class
            for part, samples in self._rest(back):
                new._adopt(part, convert(samples))
            for part, record in self._records.items():
                moved = new._record(part)
                again = sum(len(samples) for owner, samples in back if owner is record)
                moved.base_ms = self._exact_ms(record, record.taken - again)
                moved.ended, moved.final_ms = record.ended, record.final_ms
                if record.taken == record.written and not record.ended:
                    new._queue.waiting_for = moved
            return new

    def _unheard(self, sounded: int) -> list[tuple[_Record, Any]]:
        """Return what was handed over and stands behind a position, in order."""
        if self._reading is not self._queue:
            return []
        return [
            (record, samples[max(0, sounded - position) :])
            for record, position, samples in self._recent
            if position + len(samples) > sounded and record.final_ms is None
        ]

    def _rest(self, back: list[tuple[_Record, Any]]) -> list[tuple[Part, Any]]:
        """Return what is to be played again and what was not handed over, one piece for each part, in order."""
        import numpy as np

        pieces: dict[Part, list[Any]] = {}
        for record, samples in back:
            pieces.setdefault(record.key, []).append(samples)
        if self._chunk is not None and self._reading is self._queue:
            pieces.setdefault(self._chunk[0].key, []).append(self._chunk[1][self._offset :])
        for record, samples in list(self._queue.chunks):
            pieces.setdefault(record.key, []).append(samples)
        return [(part, np.concatenate(arrays)) for part, arrays in pieces.items()]

    def _adopt(self, part: Part, samples: Any) -> None:
        record = self._record(part)
        record.written += len(samples)
        self._queue.waiting_for = record
        self._queue.put += len(samples)
        self._queue.chunks.append((record, samples))

    # The reader's side: the device's callback, or nobody.

    def read(self, out: Any) -> int:
        """Fill `out` (int16) with what comes next, zeros beyond; return how many samples carry sound.

        Where sound stops without having ended, the last sample dies away in 5 ms instead of a click; those are
        not counted. Takes no lock and makes no array.
        """
        queue = self._queue
        if queue is not self._reading:
            self._begin(queue)
        self._version += 1
        count = 0
        if (self._playing or self._may_start(queue, len(out))) and not self.paused:
            count = self._take(queue, out)
        if count:
            self.sound_end = self.handed + count
        self._ramp.tail(out[count:])
        self.handed += len(out)
        self._version += 1
        return count

    def _begin(self, queue: _Queue) -> None:
        """Move on to the queue that a drop has left."""
        self._reading = queue
        self._chunk, self._playing, self._waited, self._starved = None, False, 0, None
        self._recent.clear()
        if not queue.fade:
            self._ramp.stop()

    def _may_start(self, queue: _Queue, block: int) -> bool:
        waiting = queue.put - queue.taken
        if not waiting:
            self._waited = 0
            return False
        record, jitter = queue.waiting_for, self._jitter
        self._playing = (
            self._waited >= jitter.wait_ms * self.rate_hz // 1000
            or (not jitter.late and waiting >= jitter.enough_ms * self.rate_hz // 1000)
            or (record is not None and record.ended)
        )
        self._waited = 0 if self._playing else self._waited + block
        return self._playing

    def _take(self, queue: _Queue, out: Any) -> int:
        count = 0
        while count < len(out):
            if self._chunk is None:
                try:
                    self._chunk, self._offset = queue.chunks.popleft(), 0
                except IndexError:
                    self._ran_out(queue)
                    break
            record, samples = self._chunk
            if self._starved is not None:
                self._resume(record)
            repeats = self._wanted - self._repeated >= 1 and len(out) - count > 1
            size = min(len(out) - count - repeats, len(samples) - self._offset, SCRATCH)
            piece = out[count : count + size]
            source = samples[self._offset : self._offset + size]
            piece[:] = source
            self._recent.append((record, self.handed + count, source))
            self._ramp.apply(piece, 0.0 if self.muted else self.volume)
            self._note(record, self.handed + count, size)
            queue.taken += size
            count += size
            self._offset += size
            if repeats and count == len(out) - 1:
                out[count] = out[count - 1]
                self._repeated += 1
                count += 1
            if self._offset == len(samples):
                self._chunk = None
        if self._chunk is None and not queue.chunks and queue.waiting_for is not None and queue.waiting_for.ended:
            self._playing = False  # the last part ended with this block; the next one gets its prebuffer
        return count

    def _ran_out(self, queue: _Queue) -> None:
        """Nothing is left: a pause if the part written last has ended; an underrun only once more of it arrives."""
        record = queue.waiting_for
        self._playing = False
        self._starved = record if record is not None and not record.ended else None

    def _resume(self, record: _Record) -> None:
        if record is self._starved:
            self.underruns += 1
            self._ramp.silence()
        self._starved = None

    def _note(self, record: _Record, position: int, count: int) -> None:
        last = self._runs[-1] if self._runs else None
        if last is not None and last[0] is record and last[1] + last[2] == position:
            last[2] += count
        else:
            self._runs.append([record, position, count, record.taken])
        record.taken += count


def _behind(runs: list[list[Any]], record: _Record, position: int) -> int:
    """How many samples of a part stand at or behind a position."""
    behind = 0
    for owner, start, count, _ in reversed(runs):
        if start + count <= position:
            break
        if owner is record:
            behind += start + count - max(start, position)
    return behind
