"""The user's audio on its way into the conversation, as far as the client can tell.

A server keeps what is appended in a buffer, and makes items of it: all of it at a commit, or what its voice detection
takes for a turn. Until then the sound is in no item, and is gone with the connection; so it is kept here, and told
again to the session that takes the place of the old one. What is kept of an item is its sound, until it is known what
was said in it: a client cannot ask a server for the sound of a session that is over.

Places are bytes of all the user's sound since the beginning, whichever session it was sent to.
"""

from __future__ import annotations

from collections import deque

from realtime_client.errors import UsageError
from realtime_client.updates import AudioFormat, LostAudio

from . import events as ev
from .look_back import LookBack

MIN_COMMIT_MS = 100
UNHEARD_S = 25.0
"""How much of the silence between turns is kept: a connection may be dead for so long before that is noticed."""
_MARGIN_S = 2.0  # more than the prefix of a turn, and the time that finding its beginning takes
_PIECE_MS = 500
_MOST_ENDS = 64
_ITEM_SHARE = 2  # as much again may be kept of the sound of items


class InputAudio:
    """How much was appended since the last commit, whose commits are on their way, and what is in no item yet.

    keep_s: how much is kept at most; 0: nothing. manual: this client ends the turns.
    """

    def __init__(self, keep_s: float = 0.0) -> None:
        self.format = AudioFormat()
        self.manual = False
        self._keep_s = keep_s
        self._held_bytes = 0
        self._commits: deque[int] = deque()  # asked for, not confirmed: up to where
        self._kept = LookBack(0)
        self._base = 0  # where the present session of the server begins to count
        self._claimed = 0  # everything before belongs to an item, or to none
        self._speech: tuple[str, int] | None = None  # an item that is being spoken, and where it begins
        self._ends: dict[str, tuple[int, int]] = {}  # items whose end is known and whose commit is not
        self._items: dict[str, bytes] = {}
        self._items_bytes = 0
        self._unread: dict[str, None] = {}  # items whose transcript is on its way
        self.configure(self.format, manual=False)

    def configure(self, audio: AudioFormat, *, manual: bool, transcribes: bool = False) -> None:
        """Take the session's settings. What was kept in another format is of no use any more."""
        self.manual = manual
        self._transcribes = transcribes
        if audio == self.format and self._kept.end:
            return
        end = self._kept.end
        self.format = audio
        self._kept = LookBack(int(self._keep_s * 1000) * audio.bytes_per_ms)
        self._kept.begin = self._kept.end = end
        self._kept.forget_before(end)
        self._claimed = self._base = end

    @property
    def keeps(self) -> bool:
        """Whether sound is kept at all."""
        return self._keep_s > 0

    # --- what is sent -------------------------------------------------------------------------------------------------

    def appended(self, size_bytes: int) -> None:
        """Count audio that was appended."""
        self._held_bytes += size_bytes

    def keep(self, audio: bytes) -> None:
        """Keep audio that was appended, or is to be."""
        self._kept.append(audio)
        if not (self.manual or self._speech or self._ends or self._commits):
            self._kept.forget_before(self._kept.end - int(UNHEARD_S * 1000) * self.format.bytes_per_ms)

    def take_back(self, size_bytes: int) -> None:
        """It was not sent after all."""
        self._held_bytes -= size_bytes
        self._kept.take_back(size_bytes)

    def require_enough(self, audio: AudioFormat) -> None:
        """Errors: UsageError below 100 ms, which servers refuse to commit."""
        held_ms = audio.ms(self._held_bytes)
        if held_ms < MIN_COMMIT_MS:
            raise UsageError(f"only {held_ms} ms of audio to commit: at least {MIN_COMMIT_MS} ms are needed")

    def sent(self, event: ev.ClientEvent) -> None:
        """Take note of a message about the buffer."""
        if isinstance(event, ev.InputAudioBufferAppend):
            self._held_bytes += len(event.audio)
            self.keep(event.audio)
        elif isinstance(event, ev.InputAudioBufferCommit | ev.InputAudioBufferClear):
            self._held_bytes = 0
            if isinstance(event, ev.InputAudioBufferCommit):
                self._commits.append(self._kept.end)
            else:
                self._claim(self._kept.end)

    # --- what the server says -----------------------------------------------------------------------------------------

    def _at(self, ms: int) -> int:
        """The place of an offset that the server states; impossible ones are clipped."""
        return min(max(self._base + max(ms, 0) * self.format.bytes_per_ms, self._claimed), self._kept.end)

    def ms(self, at_ms: int) -> int:
        """An offset that the server states, in all the user's sound."""
        return at_ms + self.format.ms(self._base)

    def speech_started(self, item_id: str, at_ms: int) -> None:
        """The server hears the user speak."""
        self._speech = (item_id, self._at(at_ms))

    def speech_stopped(self, item_id: str, at_ms: int) -> None:
        """The server hears that the user stopped."""
        if self._speech is None:
            return
        first, self._speech = self._speech[1], None
        self._ends[item_id] = (first, max(first, self._at(at_ms)))
        if len(self._ends) > _MOST_ENDS:
            del self._ends[next(iter(self._ends))]

    def committed(self, item_id: str) -> bool:
        """The server has made an item of it; returns whether this client asked for that."""
        own = bool(self._commits)
        if own:
            first, last = self._claimed, self._commits.popleft()
        elif item_id in self._ends:
            first, last = self._ends[item_id]
        elif self._speech is not None:
            (_, first), last = self._speech, self._kept.end
        else:
            return False
        self._ends.pop(item_id, None)
        if self._speech is not None and self._speech[0] == item_id:
            self._speech = None
        if self.keeps:
            self._keep_item(item_id, self._kept.cut(first, last))
        if self._transcribes:
            self._unread[item_id] = None
            if len(self._unread) > _MOST_ENDS:
                del self._unread[next(iter(self._unread))]
        self._claim(last)
        return own

    def refused(self) -> None:
        """The server has refused a commit: the sound stays where it is."""
        if self._commits:
            self._commits.popleft()

    def _claim(self, position: int) -> None:
        self._claimed = max(self._claimed, position)
        self._kept.forget_before(self._claimed)

    # --- the sound of items -------------------------------------------------------------------------------------------

    def _keep_item(self, item_id: str, audio: bytes) -> None:
        self.known(item_id)
        self._items[item_id] = audio
        self._items_bytes += len(audio)
        most = int(self._keep_s * 1000) * self.format.bytes_per_ms // _ITEM_SHARE
        while self._items_bytes > most and self._items:
            self.known(next(iter(self._items)))

    def transcribed(self, item_id: str, text: str) -> None:
        """This is what was heard in an item; '' when nothing was, or nobody could tell."""
        self._unread.pop(item_id, None)
        if text.strip():
            self.known(item_id)

    def known(self, item_id: str) -> None:
        """What was said in an item is known, or it is gone: its sound is needed no longer."""
        self._unread.pop(item_id, None)
        self._items_bytes -= len(self._items.pop(item_id, b""))

    def of_item(self, item_id: str) -> bytes:
        """The sound of an item of which nobody knows what was said in it; b'' when it is not kept."""
        return self._items.get(item_id, b"")

    def dropped(self) -> None:
        """Nobody listens any more: what is in no item is lost, and what comes will be counted from here."""
        self._kept.forget_before(self._kept.end)
        self._claimed = self._base = self._kept.end
        self._held_bytes = self._items_bytes = 0
        self._speech = None
        for kept in (self._ends, self._items, self._unread, self._commits):
            kept.clear()

    # --- a new session takes the place of the old one -----------------------------------------------------------------

    @property
    def quiet(self) -> bool:
        """Whether no turn is being spoken, as far as that is known."""
        return not (self._speech or self._ends or self._commits or (self.manual and self._held_bytes))

    @property
    def busy(self) -> bool:
        """Whether a turn is being spoken, or written down."""
        return not self.quiet or bool(self._unread)

    @property
    def begun(self) -> list[str]:
        """The items that have been named and that no commit has confirmed."""
        return [*self._ends, *(() if self._speech is None else (self._speech[0],))]

    def _wanted_from(self) -> int:
        """From where on it belongs to turns that are not over, or may."""
        starts = [first for first, _ in self._ends.values()]
        if self._speech is not None:
            starts.append(self._speech[1])
        if starts:
            return min(starts)
        return self._claimed if self.manual or self._commits else self._kept.begin

    def lost_before(self, silent_s: float) -> None:
        """The connection is over; silent_s: for how long the server had said nothing. What it has heard is silence."""
        if self.quiet and not self.manual:
            heard_s = min(UNHEARD_S, silent_s + _MARGIN_S)
            self._kept.forget_before(self._kept.end - int(heard_s * 1000) * self.format.bytes_per_ms)

    def again(self) -> tuple[list[bytes | None], list[LostAudio]]:
        """What to send to a new session: pieces of sound in order, None for a commit; and what is lost.

        From here on, the server counts from the first of them.
        """
        wanted = self._wanted_from()
        first = max(wanted, self._kept.begin)
        lost = [LostAudio(self.format.ms(wanted), self.format.ms(first))] if first > wanted else []
        whole, size = self._kept.cut(first, self._kept.end), _PIECE_MS * self.format.bytes_per_ms
        pieces: list[bytes | None] = []
        at = first
        for end in (*self._commits, self._kept.end):
            pieces += [whole[begin - first : min(begin + size, end) - first] for begin in range(at, end, size)]
            at = max(at, end)
            pieces.append(None)
        pieces.pop()  # behind the rest there is no commit
        self._base = self._claimed = first
        self._kept.forget_before(first)
        self._speech = None
        self._ends.clear()
        self._unread.clear()
        return pieces, lost
